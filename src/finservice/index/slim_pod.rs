//! The part of a Pod that is read.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

/// The part of a Pod that is read. A cluster has many of them, and most of each is of no concern here.
#[derive(Clone, Debug, Deserialize)]
pub struct SlimPod {
    /// Its metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// Its spec.
    #[serde(default)]
    pub spec: SlimSpec,
    /// Its status.
    #[serde(default)]
    pub status: SlimStatus,
}

/// The part of a Pod's spec that is read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlimSpec {
    /// Whether it is on the network of its node. None of a FinService's is.
    #[serde(default)]
    pub host_network: bool,
}

/// The part of a Pod's status that is read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlimStatus {
    /// Its address.
    #[serde(rename = "podIP")]
    pub pod_ip: Option<String>,
    /// Whether it has failed as a whole.
    pub phase: Option<String>,
    /// Why it has, in one word.
    pub reason: Option<String>,
    /// Why it has, in a sentence.
    pub message: Option<String>,
    /// Its conditions.
    #[serde(default)]
    pub conditions: Vec<SlimCondition>,
    /// Its containers.
    #[serde(default)]
    pub container_statuses: Vec<SlimContainer>,
    /// The containers that run first.
    #[serde(default)]
    pub init_container_statuses: Vec<SlimContainer>,
}

/// Why something is as it is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlimReason {
    /// In one word.
    pub reason: Option<String>,
    /// In a sentence.
    pub message: Option<String>,
    /// With which code a container ended.
    pub exit_code: Option<i32>,
}

/// The part of a condition that is read.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlimCondition {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its status.
    pub status: String,
    /// Since when.
    pub last_transition_time: Option<Timestamp>,
    /// Why, in one word.
    pub reason: Option<String>,
    /// Why, in a sentence.
    pub message: Option<String>,
}

/// The part of a container's status that is read.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlimContainer {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// How often it has restarted.
    #[serde(default)]
    pub restart_count: u32,
    /// What it does.
    #[serde(default)]
    pub state: SlimState,
    /// What it did before it was started again.
    #[serde(default)]
    pub last_state: SlimState,
}

/// The part of a container's state that is read.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct SlimState {
    /// Why it waits.
    pub waiting: Option<SlimReason>,
    /// How it ended.
    pub terminated: Option<SlimReason>,
}

impl kube::Resource for SlimPod {
    type DynamicType = ();
    type Scope = k8s_openapi::NamespaceResourceScope;

    fn kind((): &()) -> std::borrow::Cow<'_, str> {
        "Pod".into()
    }

    fn group((): &()) -> std::borrow::Cow<'_, str> {
        "".into()
    }

    fn version((): &()) -> std::borrow::Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> std::borrow::Cow<'_, str> {
        "pods".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
