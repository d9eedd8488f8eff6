//! How the service is reached and what it may reach. In force at once, without a new revision.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::patterns;

/// How the outside reaches the service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ingress {
    /// Host names. No two FinServices may claim the same host and path at one gateway.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[x_kube(validation = Rule::new("self.all(h, h.matches('^([*][.])?[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$'))")
        .message("each host must be a lower-case DNS name, such as api.finflow.example"))]
    pub hosts: Vec<String>,
    /// Path prefixes. Defaults to all paths.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 512)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[x_kube(validation = Rule::new("self.all(p, p.matches('^/([-A-Za-z0-9/._~!$&()*+,;=:@]|%[0-9a-fA-F]{2})*$') && !p.contains('//') && !p.contains('/./') && !p.contains('/../'))")
        .message("each path must begin with a slash and hold no query, fragment, space or empty segment, such as /transactions"))]
    pub paths: Option<Vec<String>>,
    /// The gateway, `namespace/name` or `name` in the service's own namespace.
    #[schemars(length(min = 1, max = 317), regex(pattern = patterns::GATEWAY))]
    pub gateway: String,
    /// Name of the port that requests go to. Defaults to the first port.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 15))]
    pub port: Option<String>,
}

impl Ingress {
    /// Namespace and name of the gateway; `own` is the namespace of the service.
    pub fn gateway_in<'a>(&'a self, own: &'a str) -> (&'a str, &'a str) {
        self.gateway.split_once('/').unwrap_or((own, &self.gateway))
    }
}

/// The policy of the mesh for this service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.mtls) || (has(self.provider) && self.provider == 'Istio')")
    .message("mtls needs provider Istio: nothing else here checks certificates"))]
#[x_kube(validation = Rule::new("!has(self.circuitBreaker) || (has(self.provider) && self.provider == 'Istio')")
    .message("circuitBreaker needs provider Istio: nothing else here ejects pods"))]
#[x_kube(validation = Rule::new("!has(self.timeout) || (has(self.provider) && self.provider != 'None')")
    .message("timeout needs provider Istio or GatewayAPI: plain Services have none"))]
#[x_kube(validation = Rule::new("!has(self.retries) || self.retries.attempts == 0 || (has(self.provider) && self.provider == 'Istio')")
    .message("retries need provider Istio: nothing else here repeats requests"))]
pub struct Mesh {
    /// Who carries traffic. Defaults to None: plain Services, where weights are shares of pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<MeshProvider>,
    /// Whether callers must present a certificate of the mesh. Defaults to Strict, and to
    /// Permissive while `legacy` is set, since the monolith is not in the mesh.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtls: Option<Mtls>,
    /// How long a request may take, such as `2s`. No limit unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = patterns::POSITIVE_DURATION))]
    pub timeout: Option<String>,
    /// Retries. None unless asked: a retried payment is a double payment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<Retries>,
    /// When to stop sending requests to a pod, or to wait for connections. Each proxy counts by itself: each caller's, and
    /// that of each pod as well, for what comes in; so `maxConnections` is not a bound for the whole service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub circuit_breaker: Option<CircuitBreaker>,
}

/// Who carries traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MeshProvider {
    /// Istio's VirtualServices and policies.
    Istio,
    /// Gateway API's HTTPRoutes.
    GatewayAPI,
    /// Plain Services.
    #[default]
    None,
}

/// Whether callers must present a certificate of the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mtls {
    /// They must.
    Strict,
    /// They may.
    Permissive,
}

/// Retries of a failed request by the mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retries {
    /// How many times. Zero unless asked.
    #[schemars(range(min = 0, max = 10))]
    pub attempts: i32,
    /// How long each try may take, such as `500ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = patterns::POSITIVE_DURATION))]
    pub per_try_timeout: Option<String>,
    /// What is retried, in Envoy's words. Defaults to `connect-failure,refused-stream`, which are
    /// failures before the request reached the service.
    // Not `on`: kubectl and Helm read that, unquoted, as the boolean true.
    #[serde(rename = "retryOn", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = patterns::RETRY_ON))]
    pub on: Option<String>,
    /// Says that requests may be repeated without harm; silences the warning about retries on a
    /// path that takes writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotent: Option<bool>,
}

/// When to stop sending requests to a pod, or to wait for connections; each proxy counts by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CircuitBreaker {
    /// Connections at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000000))]
    pub max_connections: Option<i32>,
    /// Requests that may wait for a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000000))]
    pub max_pending_requests: Option<i32>,
    /// Answers of 5xx in a row after which a pod is ejected.
    #[serde(skip_serializing_if = "Option::is_none", rename = "consecutive5xx")]
    #[schemars(range(min = 1, max = 10000))]
    pub consecutive_5xx: Option<i32>,
    /// How long a pod is ejected, at the least. Defaults to `30s`, Envoy's own default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = patterns::POSITIVE_DURATION))]
    pub ejection_time: Option<String>,
    /// Share of pods, in percent, that may be ejected at once. Defaults to 10, Envoy's own default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub max_ejection_percent: Option<i32>,
}

/// What the Service that callers use is, beside its ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(!has(self.loadBalancerClass) && !has(self.loadBalancerSourceRanges)) || (has(self.type) && self.type == 'LoadBalancer')")
    .message("loadBalancerClass and loadBalancerSourceRanges need type LoadBalancer"))]
#[x_kube(validation = Rule::new("!has(self.externalTrafficPolicy) || (has(self.type) && self.type != 'ClusterIP')")
    .message("externalTrafficPolicy needs type NodePort or LoadBalancer: nothing else is reached from outside"))]
pub struct ServiceSettings {
    /// ClusterIP, NodePort or LoadBalancer. Where it is left out, a new Service is a ClusterIP, and one that was handed over
    /// stays what it is. Who calls from outside must be named in `access.inbound` too, by `cidr`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<ServiceType>,
    /// Annotations of the Service, such as those that tell a cloud what load balancer to make.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 32))]
    #[x_kube(validation = Rule::new(patterns::ANNOTATIONS_RULE)
        .message("each must be an annotation: a key such as networking.gke.io/load-balancer-type, and a value of at most 8192 characters"))]
    #[x_kube(validation = Rule::new("self.all(k, !k.startsWith('banyan.dev/'))")
        .message("banyan.dev/... is written by the operator: leave it out"))]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Who makes the load balancer. Defaults to the cloud's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 317))]
    pub load_balancer_class: Option<String>,
    /// Addresses that the load balancer lets in. All where left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 64)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[x_kube(validation = Rule::new("self.all(c, isCIDR(c))").message("each must be a range of addresses, such as 203.0.113.0/24"))]
    pub load_balancer_source_ranges: Option<Vec<String>>,
    /// Whether requests from outside may go on to another node, which hides who calls. Defaults to Cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<ExternalTrafficPolicy>,
}

/// The type of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    /// An address inside of the cluster.
    ClusterIP,
    /// And a port at each node.
    NodePort,
    /// And a load balancer of the cloud.
    LoadBalancer,
}

/// Whether requests from outside may go on to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExternalTrafficPolicy {
    /// They may; the caller's address is lost.
    Cluster,
    /// They stay at the node that they came to.
    Local,
}

/// Who may call, and who may be called. What is not named is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Access {
    /// Callers. An empty or absent list lets nobody in but the ingress gateway and the scrapers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub inbound: Option<Vec<Peer>>,
    /// What the service calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outbound: Option<Outbound>,
    /// Tokens that every request through the mesh must carry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt: Option<Jwt>,
}

// `namespace` is a reserved word of CEL, which rules write as `__namespace__`.
/// A caller: a FinService, pods with labels, a whole namespace, a service account, or an address range.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.cidr) ? !has(self.service) && !has(self.__namespace__) && !has(self.serviceAccount) : has(self.service) || has(self.__namespace__)")
    .message("set service (with namespace if it is another), or namespace (with serviceAccount), or cidr alone"))]
#[x_kube(validation = Rule::new("!(has(self.service) && has(self.serviceAccount))")
    .message("set service or serviceAccount, not both"))]
#[x_kube(validation = Rule::new("!has(self.podLabels) || (has(self.__namespace__) && !has(self.service) && !has(self.serviceAccount))")
    .message("podLabels needs namespace beside it, and neither service nor serviceAccount"))]
pub struct Peer {
    /// Name of a FinService.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::LABEL))]
    pub service: Option<String>,
    /// Its namespace; alone, everything in that namespace. Defaults to the service's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::LABEL))]
    pub namespace: Option<String>,
    /// Labels of the pods in `namespace` that may call, where they are no FinService. A mesh lets in the namespace: it knows
    /// no labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minProperties" = 1, "maxProperties" = 8))]
    #[x_kube(validation = Rule::new(patterns::LABELS_RULE)
        .message("each must be a label of pods: a key such as app, and a value of at most 63 letters, digits, dashes, underscores and dots"))]
    pub pod_labels: Option<BTreeMap<String, String>>,
    /// A service account in `namespace`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::OBJECT_NAME))]
    pub service_account: Option<String>,
    /// A range of addresses, such as `10.0.0.0/8`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new("isCIDR(self)").message("cidr must be a range of addresses, such as 10.0.0.0/8"))]
    pub cidr: Option<String>,
}

/// What the service calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Outbound {
    /// FinServices.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub services: Option<Vec<ServiceRef>>,
    /// Pods that are no FinService, such as a database next door.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub pods: Option<Vec<PodPeer>>,
    /// Hosts outside of the mesh, called with TLS on port 443. Istio holds to them where it is
    /// there; a NetworkPolicy knows no names, and a problem in status says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[x_kube(validation = Rule::new("self.all(h, h.matches('^([*][.])?[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)+$'))")
        .message("each host must be a DNS name without scheme, port or path, such as api.stripe.com"))]
    pub hosts: Option<Vec<String>>,
    /// Ranges of addresses, such as those of a database, at all their ports. Where the ports are known, name them in
    /// `addresses`: a mesh knows no ranges without ports, so that its proxies hold the pods to nothing then, and the
    /// NetworkPolicy alone does.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 64)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[x_kube(validation = Rule::new("self.all(c, isCIDR(c))").message("each must be a range of addresses, such as 10.0.0.0/8"))]
    pub cidrs: Option<Vec<String>>,
    /// Ranges of addresses at some of their ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub addresses: Option<Vec<AddressPeer>>,
}

/// A range of addresses, and ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddressPeer {
    /// The range, such as `10.3.0.0/16`.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new("isCIDR(self)").message("cidr must be a range of addresses, such as 10.3.0.0/16"))]
    pub cidr: String,
    /// The ports there.
    #[schemars(length(min = 1, max = 16), inner(range(min = 1, max = 65535)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub ports: Vec<u16>,
}

/// Pods that are no FinService.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodPeer {
    /// Their namespace. Defaults to the service's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::LABEL))]
    pub namespace: Option<String>,
    /// Their labels. All pods of the namespace where left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 8))]
    #[x_kube(validation = Rule::new(patterns::LABELS_RULE)
        .message("each must be a label of pods: a key such as app, and a value of at most 63 letters, digits, dashes, underscores and dots"))]
    pub labels: Option<BTreeMap<String, String>>,
    /// Ports at the pods. All where left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), inner(range(min = 1, max = 65535)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub ports: Option<Vec<u16>>,
}

/// A FinService.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRef {
    /// Its name.
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::LABEL))]
    pub service: String,
    /// Its namespace. Defaults to the service's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::LABEL))]
    pub namespace: Option<String>,
}

/// Tokens that every request must carry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Jwt {
    /// Who issues them.
    #[schemars(length(min = 1, max = 512))]
    pub issuer: String,
    /// Where the issuer's keys are.
    #[schemars(length(min = 1, max = 1024), regex(pattern = patterns::URL))]
    pub jwks_uri: String,
    /// Whom they are for; any where left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub audiences: Option<Vec<String>>,
}

/// What served these paths before: one more destination of the routes, from which a CanaryRollout
/// with `from: Legacy` takes traffic step by step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Legacy {
    /// Host of the old backend; `name.namespace.svc.cluster.local` for one in the cluster. With Istio, a Service of another
    /// namespace must have the annotation `banyan.dev/legacy-for` with the namespace of this FinService.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')")
        .message("must be a DNS name without scheme, port or path, such as monolith.legacy.svc.cluster.local"))]
    pub host: String,
    /// Its port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// Whether it is called with TLS, where it is outside of the cluster; its certificate must be for `host`. Defaults to true at
    /// port 443.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<bool>,
    /// Path prefixes that it still serves. Defaults to the ingress paths.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 512)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[x_kube(validation = Rule::new("self.all(p, p.matches('^/([-A-Za-z0-9/._~!$&()*+,;=:@]|%[0-9a-fA-F]{2})*$') && !p.contains('//') && !p.contains('/./') && !p.contains('/../'))")
        .message("each path must begin with a slash and hold no query, fragment, space or empty segment, such as /transactions"))]
    pub paths: Option<Vec<String>>,
}

#[cfg(test)]
mod tests {
    /// What users read: the description in the definition, from which the reference is made as well.
    #[test]
    fn faults_8_7_who_counts_for_a_circuit_breaker_is_said() {
        let mut definitions = crate::api::crds().into_iter();
        let definition = definitions.find(|definition| definition.spec.names.kind == "FinService");
        let schema = serde_json::to_value(definition.expect("a definition").spec).expect("JSON");
        let breaker = schema
            .pointer("/versions/0/schema/openAPIV3Schema/properties/spec/properties/mesh/properties/circuitBreaker")
            .expect("the field");
        let said = breaker["description"].as_str().unwrap_or_default().replace('\n', " ");
        assert!(
            said.contains("Each proxy counts by itself: each caller's, and that of each pod as well"),
            "{said}"
        );
    }
}
