//! CloudCluster: a site, which is a cluster in a cloud.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::conditions::Problem;
use super::operations::Residency;
use super::patterns;

/// A site. The object that bears the name of the operator's own `--site` says what this cluster may
/// hold; the others are its peers.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "banyan.dev",
    version = "v1alpha1",
    kind = "CloudCluster",
    plural = "cloudclusters",
    shortname = "ccl",
    category = "banyan",
    namespaced,
    status = "CloudClusterStatus",
    doc = "A site, which is a cluster in a cloud.",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].reason"}"#,
    printcolumn = r#"{"name":"Version","type":"string","jsonPath":".status.version"}"#,
    printcolumn = r#"{"name":"Residency","type":"string","jsonPath":".spec.residency"}"#,
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$')")
        .message("metadata.name must be a DNS label of at most 63 characters: it is the name of the site"),
    validation = Rule::new("!has(self.spec) || !has(self.spec.kubeconfig) || !has(self.spec.access)")
        .message("spec.kubeconfig is the older form of spec.access[].kubeconfig: set spec.access alone"),
)]
#[serde(rename_all = "camelCase")]
pub struct CloudClusterSpec {
    /// Jurisdictions whose data may be kept here. None where left out: a service that asks for one
    /// is then not placed here.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub residency: Option<Vec<Residency>>,
    /// How the operators of other sites reach its API server: ways that are tried in this order. Put the one that
    /// needs no cloud first: a kubeconfig with a token of a service account works while the cloud's own identity
    /// service is down. Not needed for the operator's own site.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4))]
    pub access: Option<Vec<Access>>,
    /// The gateway of the site, to which other sites forward what still arrives there after traffic has moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<SiteGateway>,
    /// Addresses from which the site's pods call others, as ranges. Partners must have them on their lists: this is
    /// checked, not made.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(max = 64)))]
    #[x_kube(validation = Rule::new("self.all(c, isCIDR(c))").message("each must be a range of addresses, such as 52.1.2.0/24"))]
    pub egress: Option<Vec<String>>,
    /// The older form of `access[].kubeconfig`; it is read for one version more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<KubeconfigSource>,
}

/// A way to an API server; exactly one of kubeconfig, eks and gke.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.kubeconfig), has(self.eks), has(self.gke)].filter(x, x).size() == 1")
    .message("set exactly one of kubeconfig, eks, gke"))]
#[x_kube(validation = Rule::new("!has(self.kubeconfig) || (!has(self.endpointOverride) && !has(self.caBundle))")
    .message("endpointOverride and caBundle are for eks and gke: a kubeconfig names its server and certificate itself"))]
pub struct Access {
    /// By a kubeconfig: best one with a bound token of a service account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<KubeconfigSource>,
    /// Found through Amazon EKS, with a token from its STS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eks: Option<EksAccess>,
    /// Found through Google Kubernetes Engine, with an access token of Google's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gke: Option<GkeAccess>,
    /// Another address of the API server than the one that the cloud tells, such as that of a private link.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = patterns::HTTPS_URL))]
    pub endpoint_override: Option<String>,
    /// Certificates, in PEM, that vouch for the API server instead of those that the cloud tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536), regex(pattern = patterns::CERTIFICATES))]
    pub ca_bundle: Option<String>,
}

/// A cluster of Amazon EKS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EksAccess {
    /// Name of the cluster.
    #[schemars(length(min = 1, max = 100), regex(pattern = patterns::EKS_NAME))]
    pub name: String,
    /// Its region.
    #[schemars(length(max = 32), regex(pattern = patterns::AWS_REGION))]
    pub region: String,
    /// The role that is assumed before anything is asked. Without it: the credentials as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), regex(pattern = patterns::AWS_ROLE))]
    pub role_arn: Option<String>,
    /// Credentials from a Secret. Without it: those of the operator's own Pod (EKS Pod Identity, a web identity).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<EksCredentials>,
}

/// Where credentials of AWS are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EksCredentials {
    /// The Secret that holds them, in the operator's own namespace, under the keys `AWS_ACCESS_KEY_ID`,
    /// `AWS_SECRET_ACCESS_KEY` and, for those that end, `AWS_SESSION_TOKEN`.
    pub secret_ref: SecretName,
}

/// The name of a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretName {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::OBJECT_NAME))]
    pub name: String,
}

/// A cluster of Google Kubernetes Engine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GkeAccess {
    /// ID of the project.
    #[schemars(length(min = 2, max = 128), regex(pattern = patterns::GCP_PROJECT))]
    pub project: String,
    /// Region or zone of the cluster.
    #[schemars(length(max = 64), regex(pattern = patterns::GCP_LOCATION))]
    pub location: String,
    /// Name of the cluster.
    #[schemars(length(min = 1, max = 40), regex(pattern = patterns::GKE_NAME))]
    pub name: String,
    /// Credentials from a Secret. Without it: those of the operator's own Pod (Workload Identity, by the metadata
    /// server).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<GkeCredentials>,
}

/// Where credentials of Google are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GkeCredentials {
    /// The Secret that holds them, in the operator's own namespace: the JSON of a service account or of an external
    /// account. One that runs a program (`executable`) is refused.
    pub secret_ref: GkeSecret,
}

/// The key of a Secret under which credentials of Google are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GkeSecret {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::OBJECT_NAME))]
    pub name: String,
    /// The key. Defaults to `credentials.json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::KEY))]
    pub key: Option<String>,
}

impl GkeSecret {
    /// The key that is meant.
    pub fn key(&self) -> &str {
        self.key.as_deref().unwrap_or("credentials.json")
    }
}

/// The gateway of a site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SiteGateway {
    /// Its address, under which it answers for the hosts of all services of the site. TLS, except to this machine itself.
    #[schemars(length(max = 253), regex(pattern = patterns::GATEWAY_URL))]
    pub address: String,
}

/// Where a kubeconfig is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubeconfigSource {
    /// The Secret that holds it, in the operator's own namespace. All that it needs must lie in the
    /// kubeconfig itself: programs (`exec`, `auth-provider`) and paths of files are refused.
    pub secret_ref: KubeconfigSecret,
}

/// The key of a Secret under which a kubeconfig is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubeconfigSecret {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::OBJECT_NAME))]
    pub name: String,
    /// The key. Defaults to `kubeconfig`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::KEY))]
    pub key: Option<String>,
}

impl KubeconfigSecret {
    /// The key that is meant.
    pub fn key(&self) -> &str {
        self.key.as_deref().unwrap_or("kubeconfig")
    }
}

/// What the operator knows of the site.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CloudClusterStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Reconciling and Stalled, by the kstatus rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// What is wrong, worst first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub problems: Vec<Problem>,
    /// Version of its API server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How each way of `spec.access` fares, in its order. Empty for the operator's own site.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub ways: Vec<WayStatus>,
    /// What the site's nodes have, and what its pods ask of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodesStatus>,
}

/// How a way to an API server fares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WayStatus {
    /// What kind of way it is.
    pub kind: WayKind,
    /// Whether the API server answers to requests by this way: no longer once it has not for 30 s, again once it has
    /// for 10 s.
    pub reachable: bool,
    /// Since when `reachable` is as it is.
    pub since: Time,
    /// Why, in one word.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// Why, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}

/// What kind of way it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum WayKind {
    /// By a kubeconfig.
    Kubeconfig,
    /// Through Amazon EKS.
    Eks,
    /// Through Google Kubernetes Engine.
    Gke,
}

impl WayKind {
    /// The field of [`Access`] that says it.
    pub fn field(self) -> &'static str {
        match self {
            Self::Kubeconfig => "kubeconfig",
            Self::Eks => "eks",
            Self::Gke => "gke",
        }
    }
}

impl Access {
    /// What kind of way it is; `None` where none of the fields that this version knows is set.
    pub fn kind(&self) -> Option<WayKind> {
        if self.kubeconfig.is_some() {
            return Some(WayKind::Kubeconfig);
        }
        if self.eks.is_some() {
            return Some(WayKind::Eks);
        }
        self.gke.is_some().then_some(WayKind::Gke)
    }
}

/// The nodes of a site. The amounts are rounded, and follow only what moves by more than a tenth of what was said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodesStatus {
    /// Nodes that are Ready and take pods.
    #[schemars(range(min = 0))]
    pub ready: i32,
    /// All nodes.
    #[schemars(range(min = 0))]
    pub total: i32,
    /// What the ready ones have for pods.
    pub allocatable: Amounts,
    /// What the pods that are placed ask for. Not said where it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested: Option<Amounts>,
}

/// Amounts of compute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Amounts {
    /// Cores, as a quantity such as `12` or `500m`.
    #[schemars(length(max = 32))]
    pub cpu: String,
    /// Memory, as a quantity such as `48Gi`.
    #[schemars(length(max = 32))]
    pub memory: String,
}
