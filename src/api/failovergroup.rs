//! FailoverGroup: what moves together between sites, and whether it could move now.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::conditions::{Problem, Severity};
use super::hook::{Hook, HookPoint};
use super::operations::Residency;
use super::patterns;
use super::shown::Shown;
use super::store::Store;
use super::traffic::Traffic;
use super::units;
use super::witness::WitnessSpec;

/// How long a move may take where its group does not say: all traffic on the surviving site within a quarter of an hour.
const DEADLINE: Duration = Duration::from_secs(15 * 60);

/// What moves together between sites: services, their stores and their traffic. The same object lies in every cluster.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "banyan.dev",
    version = "v1alpha1",
    kind = "FailoverGroup",
    plural = "failovergroups",
    shortname = "fog",
    category = "banyan",
    namespaced,
    status = "FailoverGroupStatus",
    doc = "What moves together between sites: services, their stores and their traffic. The same object lies in every cluster.",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Protected","type":"string","jsonPath":".status.conditions[?(@.type==\"Protected\")].status"}"#,
    printcolumn = r#"{"name":"Here","type":"string","jsonPath":".status.authority.state"}"#,
    printcolumn = r#"{"name":"Holders","type":"string","jsonPath":".status.authority.holders"}"#,
    printcolumn = r#"{"name":"Epoch","type":"integer","jsonPath":".status.authority.epoch"}"#,
    printcolumn = r#"{"name":"Why","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].message"}"#,
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$')")
        .message("metadata.name must be a DNS label of at most 40 characters: it is part of other names"),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("oldSelf.sites.size() <= self.sites.size() && oldSelf.sites.all(s, self.sites.indexOf(s) == oldSelf.sites.indexOf(s))")
    .message("sites can only be added to, at the end: the place of a site makes the numbers of its claims. To leave one out, create a new group"))]
#[x_kube(validation = Rule::new("!has(self.initialSite) || self.initialSite in self.sites")
    .message("initialSite must be one of sites"))]
#[x_kube(validation = Rule::new("!has(self.active) || self.active != 'All' || !has(self.initialSite)")
    .message("active: All takes no initialSite: every site serves"))]
#[x_kube(validation = Rule::new("!has(self.active) || self.active != 'All' || !has(self.stores) || self.stores.size() == 0 || self.stores.all(s, has(s.kafkaMirror))")
    .message("active: All takes no store with a single writer: remove stores[].postgres and stores[].cloudnativepg, or set active: One"))]
#[x_kube(validation = Rule::new("!has(self.hooks) || self.hooks.all(h, h.at != 'BeforeOpen') || (has(self.stores) && self.stores.exists(s, !has(s.kafkaMirror)))")
    .message("hooks[].at: BeforeOpen needs a store with a single writer: without one nothing is opened. Set at: AfterTraffic, or add stores[].postgres or stores[].cloudnativepg"))]
#[x_kube(validation = Rule::new("!has(self.fence) || (has(self.stores) && self.stores.exists(s, !has(s.kafkaMirror)))")
    .message("fence needs a store with a single writer: it says how else it is known that nobody writes there. Add stores[].postgres or stores[].cloudnativepg, or remove fence"))]
pub struct FailoverGroupSpec {
    /// The sites, by the names of their CloudClusters, without roles: who is active is what the Authority says.
    #[schemars(length(min = 2, max = 16), inner(length(min = 1, max = 63), regex(pattern = patterns::LABEL)))]
    #[x_kube(validation = Rule::new("self.all(s, self.exists_one(o, o == s))").message("sites must not name a site twice"))]
    pub sites: Vec<String>,
    /// The site that takes authority once, as long as nobody ever had it: when every site and the witness were read and
    /// know of none. Without it nobody takes it by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::LABEL))]
    pub initial_site: Option<String>,
    /// Whether one site serves or all. Defaults to One.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<Active>,
    /// The FinServices that move.
    pub services: Services,
    /// Where the data must stay. A site that may not hold it cannot be one of `sites`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub residency: Option<Residency>,
    /// The databases that move.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub stores: Option<Vec<Store>>,
    /// How else a Failover may know that its source accepts no writes, where a database there cannot be closed. Without it
    /// no cloud is asked, and a person has to say so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fence: Option<FenceSpec>,
    /// How users reach the sites.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
    /// Where it is decided who was first, on ground that is none of the sites'.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub witness: Option<WitnessSpec>,
    /// How much must stand at the site that takes over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
    /// What else must be reachable from the site that takes over.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub checks: Option<Vec<OwnCheck>>,
    /// Web servers that a move calls on its way, and waits for: those of one point in this order. A rehearsal calls none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub hooks: Option<Vec<Hook>>,
    /// Who has to agree to a move, beside whoever orders it. Nobody where left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// Groups that move first when several move.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 63), regex(pattern = patterns::LABEL)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub after: Option<Vec<String>>,
    /// How long a move may take before it is called late. Defaults to 15m.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = patterns::POSITIVE_DURATION))]
    pub deadline: Option<String>,
}

impl FailoverGroupSpec {
    /// Whether every site serves.
    pub fn is_active_everywhere(&self) -> bool {
        self.active == Some(Active::All)
    }

    /// Its stores.
    pub fn stores(&self) -> &[Store] {
        self.stores.as_deref().unwrap_or_default()
    }

    /// What a move calls on its way.
    pub fn hooks(&self) -> &[Hook] {
        self.hooks.as_deref().unwrap_or_default()
    }

    /// Whether a move calls anything there.
    pub fn has_hooks(&self, at: HookPoint) -> bool {
        self.hooks().iter().any(|hook| hook.at == at)
    }

    /// How long a move may take before it is called late.
    pub fn deadline(&self) -> Duration {
        self.deadline.as_deref().and_then(units::duration).unwrap_or(DEADLINE)
    }

    /// The place of a site among its sites, which makes the numbers of that site's claims.
    pub fn place(&self, site: &str) -> Option<usize> {
        self.sites.iter().position(|named| named == site)
    }

    /// The other sites than this one.
    pub fn peers<'a>(&'a self, site: &'a str) -> impl Iterator<Item = &'a str> {
        self.sites.iter().map(String::as_str).filter(move |peer| *peer != site)
    }
}

/// How else a Failover may know that its source accepts no writes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FenceSpec {
    /// What is asked of the cloud of the source's cluster about its nodes: EKS' managed node groups, GKE's node pools.
    /// Who sets this says that every database of the group runs on the nodes of these clusters, at each site: where no
    /// node is left, none accepts a write. Defaults to Confirm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_pools: Option<NodePools>,
}

impl FenceSpec {
    /// What is asked of the cloud.
    pub fn node_pools(&self) -> NodePools {
        self.node_pools.unwrap_or_default()
    }
}

/// What is asked of a cloud about the nodes of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NodePools {
    /// Whether all of them are gone, and kept away. Somebody else stops them.
    #[default]
    Confirm,
    /// A Failover also scales them to zero itself, once its claim stands and a database could not be closed; never a
    /// Switchover. **All that runs in that cluster is stopped**, other groups too; a person scales it up again.
    Stop,
}

/// Whether one site serves or all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Active {
    /// One.
    #[default]
    One,
    /// All.
    All,
}

/// The FinServices that move.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Services {
    /// Their namespaces.
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 63), regex(pattern = patterns::LABEL)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub namespaces: Vec<String>,
    /// Only those with these labels. All in the namespaces where left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
}

impl Services {
    /// Whether a FinService with these labels, in that namespace, is one of them.
    pub fn contains(&self, namespace: &str, labels: Option<&BTreeMap<String, String>>) -> bool {
        let wanted = self.selector.iter().flat_map(|selector| &selector.match_labels);
        let has = |(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value);
        self.namespaces.iter().any(|named| named == namespace) && wanted.into_iter().all(has)
    }
}

/// Labels that must be there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Selector {
    /// Each of these, with that value.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 16))]
    pub match_labels: BTreeMap<String, String>,
}

/// How much must stand at the site that takes over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Capacity {
    /// Share of the peak of the last 24 hours, in percent, with which an unplanned failover goes on. Defaults to 80.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub minimum_percent: Option<i32>,
}

/// Who has to agree to a move, beside whoever orders it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// What a Failover waits with until enough have approved. A Switchover waits before the fence whatever stands here: in
    /// the seconds without writes nobody is waited for. Defaults to Fence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<ApprovedStep>,
    /// How many people, beside whoever ordered it. Defaults to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 5))]
    pub people: Option<i32>,
}

impl Approval {
    /// How many people.
    pub fn people(&self) -> usize {
        self.people.and_then(|people| usize::try_from(people).ok()).unwrap_or(1)
    }
}

/// What waits for an approval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ApprovedStep {
    /// The source is not closed before.
    #[default]
    Fence,
    /// The source is closed at once, and nothing is committed before.
    Commit,
}

/// Something of the outside that must be reachable: a partner whose firewall may know only one site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.http) != has(self.tcp)").message("set exactly one of checks[].http, checks[].tcp"))]
pub struct OwnCheck {
    /// What it is called.
    #[schemars(length(min = 1, max = 40), regex(pattern = patterns::LABEL))]
    pub name: String,
    /// A URL that must answer with a status below 400.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpCheck>,
    /// A port that must take a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpCheck>,
    /// From where. Defaults to Standby: a site without authority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<CheckFrom>,
    /// Time between two. Defaults to 5m; 30s at the least.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = patterns::POSITIVE_DURATION))]
    pub every: Option<String>,
}

impl OwnCheck {
    /// How often it is made. Defaults to five minutes; no check is a load test of a partner, so half a minute is the least.
    pub fn every(&self) -> Duration {
        let every = self.every.as_deref().and_then(units::duration);
        every.unwrap_or(Duration::from_secs(300)).max(Duration::from_secs(30))
    }
}

/// A URL that must answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpCheck {
    /// The URL.
    #[schemars(length(min = 1, max = 512), regex(pattern = patterns::URL))]
    pub url: String,
}

/// A port that must take a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TcpCheck {
    /// Name or address of the host.
    #[schemars(length(min = 1, max = 253))]
    pub host: String,
    /// The port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

/// From where a check is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CheckFrom {
    /// A site without authority.
    #[default]
    Standby,
    /// Every site.
    Everywhere,
}

/// What the operator of this site says of the group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailoverGroupStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready (it could fail over now), Protected (a standby follows), Reconciling and Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// What is wrong, worst first: the checks that fail, with their remedies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub problems: Vec<Problem>,
    /// A copy of the Authority, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<AuthorityCopy>,
    /// Digest of the spec, by which sites see that they have the same one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub digest: Option<String>,
    /// What is checked all the time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub checks: Vec<Check>,
    /// What a failover to this site would do now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<MovePlan>,
    /// Numbers of pods of the services with authority, at their peak of the last 24 hours. Kept here, so that it is
    /// known when the other site is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak: Option<Peak>,
    /// What this site has read of the other ones, of the stores and of the witness.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shown: Option<Shown>,
}

/// A copy of the Authority, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthorityCopy {
    /// How this site stands.
    #[schemars(length(max = 32))]
    pub state: String,
    /// The sites that may write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 63)))]
    pub holders: Vec<String>,
    /// The epoch.
    pub epoch: i64,
}

/// One thing that is checked all the time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// What is checked, such as `peer gcp-us-central1` or `lag reports-db`.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// How it stands.
    pub state: CheckState,
    /// What was found.
    #[schemars(length(max = 1024))]
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub remedy: Option<String>,
    /// Since when it stands so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
}

/// How a check stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum CheckState {
    /// A failover would not succeed.
    Failed,
    /// Nobody knows, which is not good.
    Unknown,
    /// A failover would succeed, but something is dangerous.
    Warning,
    /// All is well.
    Passed,
}

impl CheckState {
    /// The word in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "Failed",
            Self::Unknown => "Unknown",
            Self::Warning => "Warning",
            Self::Passed => "Passed",
        }
    }

    /// How bad it is, as a problem; `None` if it is fine.
    pub fn severity(self) -> Option<Severity> {
        match self {
            Self::Failed | Self::Unknown => Some(Severity::Error),
            Self::Warning => Some(Severity::Warning),
            Self::Passed => None,
        }
    }
}

/// What a failover to this site would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MovePlan {
    /// The steps in their order.
    #[schemars(length(max = 16))]
    pub steps: Vec<PlannedStep>,
    /// How long all of them took together when they were measured last, in milliseconds, without what was waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub total_millis: Option<i64>,
    /// The Failover by which that was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub measured_by: Option<String>,
}

/// A step of a move.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedStep {
    /// What it is called.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// What it does, in one sentence.
    #[schemars(length(max = 1024))]
    pub does: String,
    /// How long it took when it was measured last, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub expected_millis: Option<i64>,
    /// What would hold it now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 1024)))]
    pub would_hold: Vec<String>,
}

/// The peak of the last 24 hours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Peak {
    /// The greatest number of Ready pods of each service in each hour that is kept, the newest last.
    #[schemars(length(max = 25))]
    pub hours: Vec<PeakHour>,
}

/// The peak of one hour.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PeakHour {
    /// Hours since 1970.
    pub hour: i64,
    /// CPU that Ready pods of the group requested, in thousandths of a core.
    pub cpu_millis: i64,
    /// Their memory, in MiB.
    pub memory_mib: i64,
    /// How many they were.
    pub pods: i64,
}
