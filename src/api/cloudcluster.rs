//! CloudCluster: a site, which is a cluster in a cloud.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
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
)]
#[serde(rename_all = "camelCase")]
pub struct CloudClusterSpec {
    /// Jurisdictions whose data may be kept here. None where left out: a service that asks for one
    /// is then not placed here.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub residency: Option<Vec<Residency>>,
    /// How the operators of other sites reach its API server. Not needed for the operator's own site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<KubeconfigSource>,
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
}
