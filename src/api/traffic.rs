//! How requests of a FailoverGroup find the site that has authority: `spec.traffic`.
//!
//! Nothing here names which site that is. Each site answers on `/authority/<group>`, and the provider's own checks send
//! requests to the one that answers well.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::patterns;

/// How requests find the site that has authority; exactly one provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.cloudflare), has(self.route53), has(self.external)].filter(x, x).size() == 1")
    .message("set exactly one of traffic.cloudflare, traffic.route53, traffic.external"))]
#[x_kube(validation = Rule::new("!has(self.route53) || self.route53.records.all(r, r.name in self.hosts)")
    .message("each route53.records[].name must be one of traffic.hosts: add it there"))]
#[x_kube(validation = Rule::new("!has(self.route53) || self.hosts.all(h, self.route53.records.exists(r, r.name == h))")
    .message("each of traffic.hosts needs a record: add {name: <host>, type: A} to route53.records"))]
pub struct Traffic {
    /// Host names under which users reach the group.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 253), regex(pattern = patterns::OBJECT_NAME)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub hosts: Vec<String>,
    /// A load balancer of Cloudflare.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cloudflare: Option<CloudflareTraffic>,
    /// Records of Amazon Route 53.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route53: Option<Route53Traffic>,
    /// Whatever else asks `/authority/<group>` and sends requests to the site that answers 200.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalTraffic>,
    /// The requests by which a site is tried before it gets traffic. None where left out: then only
    /// `/authority/<group>` is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
    /// What the old site does with requests that still arrive there. Defaults to Forward.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub residual: Option<Residual>,
}

/// What the old site does with requests that still arrive after a move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Residual {
    /// Hands them to the gateway of the new site.
    #[default]
    Forward,
    /// Answers 503 and closes the connection.
    Refuse,
}

/// Whatever else asks `/authority/<group>`: k8gb, F5, Azure Front Door. Nothing is read or written there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExternalTraffic {}

/// The requests by which a site is tried before it gets traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// The path of a request that only reads, such as `/healthz`.
    #[schemars(length(min = 1, max = 512), regex(pattern = patterns::REQUEST_PATH))]
    pub path: String,
    /// The host that it asks for. Defaults to the first of `hosts`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::OBJECT_NAME))]
    pub host: Option<String>,
    /// A request that writes, sent once the stores are open and before the site gets traffic; with an empty body, and more than
    /// once if it must. None where left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write: Option<ProbeWrite>,
}

impl Probe {
    /// The host that is asked for, in a group with these hosts; `None` if it has none.
    pub fn host<'a>(&'a self, hosts: &'a [String]) -> Option<&'a str> {
        self.host.as_ref().or(hosts.first()).map(String::as_str)
    }
}

/// A request that writes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProbeWrite {
    /// Its path, such as `/canary`.
    #[schemars(length(min = 1, max = 512), regex(pattern = patterns::REQUEST_PATH))]
    pub path: String,
    /// Its method. Defaults to POST.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<WriteMethod>,
}

/// The method of a request that writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum WriteMethod {
    /// POST.
    #[default]
    Post,
    /// PUT.
    Put,
    /// PATCH.
    Patch,
}

/// A load balancer of Cloudflare with one pool for each site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CloudflareTraffic {
    /// Id of the account that pools and monitors belong to.
    #[schemars(length(min = 32, max = 32), regex(pattern = patterns::CLOUDFLARE_ID))]
    pub account: String,
    /// Id of the zone of the load balancer.
    #[schemars(length(min = 32, max = 32), regex(pattern = patterns::CLOUDFLARE_ID))]
    pub zone: String,
    /// Id of the load balancer. Where left out, it is the one whose name is the first of `hosts`, and it is made if
    /// there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 32, max = 32), regex(pattern = patterns::CLOUDFLARE_ID))]
    pub load_balancer: Option<String>,
    /// The API token.
    pub token: TokenSource,
    /// Id of the pool of each site, by the site's name. The pool of a site that is left out is the one with the name
    /// `banyan-<group>-<site>`, and it is made if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 16))]
    #[x_kube(validation = Rule::new("self.all(s, self[s].matches('^[0-9a-f]{32}$'))")
        .message("each of cloudflare.pools must be the id of a pool: 32 lower-case hexadecimal digits"))]
    #[x_kube(validation = Rule::new("self.all(a, self.exists_one(b, self[a] == self[b]))")
        .message("each site needs a pool of its own: two of cloudflare.pools have the same id"))]
    pub pools: Option<BTreeMap<String, String>>,
    /// Who answers while no site does. Where left out, that is the fallback pool that the load balancer has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<CloudflareFallback>,
}

/// Who answers while no site does; exactly one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.pool) != has(self.address)")
    .message("set exactly one of cloudflare.fallback.pool, cloudflare.fallback.address"))]
pub struct CloudflareFallback {
    /// Id of a pool whose origin gives a fixed answer, such as a page that says 503.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 32, max = 32), regex(pattern = patterns::CLOUDFLARE_ID))]
    pub pool: Option<String>,
    /// Host that gives a fixed answer; the pool `banyan-<group>-fallback` is made for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::OBJECT_NAME))]
    pub address: Option<String>,
}

/// Where an API token is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenSource {
    /// The Secret that holds it, in the operator's own namespace.
    pub secret_ref: TokenSecret,
}

/// The key of a Secret under which a token is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenSecret {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::OBJECT_NAME))]
    pub name: String,
    /// The key. Defaults to `token`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::KEY))]
    pub key: Option<String>,
}

impl TokenSecret {
    /// The key that is meant.
    pub fn key(&self) -> &str {
        self.key.as_deref().unwrap_or("token")
    }
}

/// Weighted records of Amazon Route 53, one of each for each site, each with a health check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.records.all(r, self.targets.all(s, r.type == 'A' ? has(self.targets[s].a) || has(self.targets[s].alias) : r.type == 'AAAA' ? has(self.targets[s].aaaa) || has(self.targets[s].alias) : has(self.targets[s].cname)))")
    .message("each site of route53.targets needs a target of each record's type: a or alias for A, aaaa or alias for AAAA, cname for CNAME"))]
#[x_kube(validation = Rule::new("!has(self.fallback) || self.records.all(r, r.type == 'A' ? has(self.fallback.a) || has(self.fallback.alias) : r.type == 'AAAA' ? has(self.fallback.aaaa) || has(self.fallback.alias) : has(self.fallback.cname))")
    .message("route53.fallback needs a target of each record's type: a or alias for A, aaaa or alias for AAAA, cname for CNAME"))]
#[x_kube(validation = Rule::new("!has(self.healthChecks) || self.healthChecks.all(s, s in self.targets)")
    .message("each site of route53.healthChecks needs an entry in route53.targets"))]
pub struct Route53Traffic {
    /// Id of the hosted zone.
    #[schemars(length(min = 1, max = 32), regex(pattern = patterns::ROUTE53_ID))]
    pub zone_id: String,
    /// The records.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(validation = Rule::new("self.all(r, self.exists_one(o, o.name == r.name && o.type == r.type))")
        .message("two of route53.records have the same name and type: remove one"))]
    #[x_kube(validation = Rule::new("self.all(r, r.type != 'CNAME' || self.exists_one(o, o.name == r.name))")
        .message("a name with a CNAME has no other record: remove the others of that name from route53.records"))]
    pub records: Vec<Route53Record>,
    /// Where requests go at each site, by the site's name.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 16))]
    pub targets: BTreeMap<String, Route53Target>,
    /// Id of the health check of each site, by the site's name. One that is left out is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 16))]
    #[x_kube(validation = Rule::new("self.all(s, self[s].matches('^[0-9a-z][-0-9a-z]{0,63}$'))")
        .message("each of route53.healthChecks must be the id of a health check, such as 1a2b3c4d-0000-1111-2222-333344445555"))]
    #[x_kube(validation = Rule::new("self.all(a, self.exists_one(b, self[a] == self[b]))")
        .message("each site needs a health check of its own: two of route53.healthChecks have the same id"))]
    pub health_checks: Option<BTreeMap<String, String>>,
    /// Who answers while no site does: a target that gives a fixed answer. Where left out, Route 53 then names all
    /// sites alike.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Route53Target>,
    /// Access keys. Where left out, those of the operator's own pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<AwsCredentials>,
}

/// A record that users ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Route53Record {
    /// Its name; one of `hosts`.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::OBJECT_NAME))]
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: RecordType,
    /// How many seconds resolvers may keep it. Defaults to 30. An alias has the one of its target.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400))]
    pub ttl: Option<i32>,
}

impl Route53Record {
    /// How many seconds resolvers may keep it.
    pub fn ttl(&self) -> i32 {
        self.ttl.unwrap_or(30)
    }
}

/// The type of a record.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum RecordType {
    /// IPv4 addresses.
    #[default]
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Another name.
    Cname,
}

impl RecordType {
    /// Its name in DNS.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Cname => "CNAME",
        }
    }
}

/// Where requests go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.a) || has(self.aaaa) || has(self.cname) || has(self.alias)")
    .message("set a, aaaa, cname or alias"))]
#[x_kube(validation = Rule::new("!has(self.alias) || (!has(self.a) && !has(self.aaaa))")
    .message("set alias, or a and aaaa, not both: an alias stands in for the addresses"))]
pub struct Route53Target {
    /// IPv4 addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8), inner(length(min = 7, max = 15), regex(pattern = patterns::IPV4)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub a: Option<Vec<String>>,
    /// IPv6 addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8), inner(length(min = 2, max = 45), regex(pattern = patterns::IPV6)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub aaaa: Option<Vec<String>>,
    /// A host name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::OBJECT_NAME))]
    pub cname: Option<String>,
    /// A load balancer of AWS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias: Option<Route53Alias>,
}

/// A load balancer of AWS, as an alias names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Route53Alias {
    /// Id of the hosted zone of the load balancer itself, which AWS shows beside its name.
    #[schemars(length(min = 1, max = 32), regex(pattern = patterns::ROUTE53_ID))]
    pub zone_id: String,
    /// Its DNS name.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::OBJECT_NAME))]
    pub name: String,
}

/// Where access keys of AWS are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AwsCredentials {
    /// The Secret that holds them, in the operator's own namespace, under the keys `accessKeyId`, `secretAccessKey` and,
    /// where there is one, `sessionToken`.
    pub secret_ref: NamedSecret,
}

/// A Secret as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamedSecret {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::OBJECT_NAME))]
    pub name: String,
}

#[cfg(test)]
mod tests {
    use kube::{CustomResource, CustomResourceExt};

    use super::*;

    #[derive(CustomResource, Clone, Debug, Default, Serialize, Deserialize, KubeSchema)]
    #[kube(group = "banyan.dev", version = "v1alpha1", kind = "TrafficTrial", namespaced)]
    struct TrafficTrialSpec {
        traffic: Traffic,
    }

    #[test]
    fn its_schema_can_be_made_and_each_pattern_explains_itself() {
        let crd = crate::api::schema::bounded(TrafficTrial::crd());
        let text = serde_json::to_string(&crd).expect("JSON");
        assert!(!text.contains("\"pattern\""), "{text}");
        assert!(!text.contains("\"nullable\""), "{text}");
    }

    fn read(text: &str) -> Traffic {
        serde_norway::from_str(text).expect("YAML of this type")
    }

    /// The rules of the schema itself are tried on an API server, with the FailoverGroup. This is what code relies on.
    #[test]
    fn what_is_left_out_has_its_default() {
        let cloudflare = read(
            "hosts: [api.finflow.example]
cloudflare: {account: 0123456789abcdef0123456789abcdef, zone: 0123456789abcdef0123456789abcdef, token: {secretRef: {name: cf}}}
residual: Refuse",
        );
        assert_eq!(cloudflare.cloudflare.expect("cloudflare").token.secret_ref.key(), "token");
        assert_eq!(cloudflare.residual, Some(Residual::Refuse));
        let route53 = read(
            "hosts: [api.finflow.example]
route53:
  zoneId: Z0123
  records: [{name: api.finflow.example, type: AAAA}, {name: api.finflow.example, type: A, ttl: 60}]
  targets: {aws: {alias: {zoneId: Z9, name: lb.example}}}",
        );
        let records = route53.route53.expect("route53").records;
        assert_eq!(records.iter().map(Route53Record::ttl).collect::<Vec<_>>(), [30, 60]);
        assert_eq!(records[0].kind.as_str(), "AAAA");
        assert_eq!(read("hosts: [a.b]\nexternal: {}").external, Some(ExternalTraffic {}));
    }
}
