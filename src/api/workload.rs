//! What runs: containers, their environment, size and place. All of it is part of a revision.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::patterns;
use super::probes::{Exec, Probes};

/// A port that the service listens on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// Name of the port, a DNS label of at most 15 characters; routes and monitors refer to it.
    #[schemars(length(min = 1, max = 15), regex(pattern = patterns::PORT_NAME))]
    pub name: String,
    /// Number of the port, 1 to 65535.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// What is spoken there. Defaults to HTTP. TCP connections are not moved by weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Number of the port of the Service that callers use, where it is another than `port`: with `port: 8080` and
    /// `servicePort: 80`, callers need not name one. In force at once, without a new revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub service_port: Option<u16>,
    /// Number of the port at each node, with `service.type` NodePort or LoadBalancer. Kubernetes chooses one where left
    /// out. In force at once, without a new revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub node_port: Option<u16>,
}

impl Port {
    /// The protocol, HTTP where none is given.
    pub fn protocol(&self) -> Protocol {
        self.protocol.unwrap_or_default()
    }

    /// Number of the port of the Service that callers use.
    pub fn service_port(&self) -> u16 {
        self.service_port.unwrap_or(self.port)
    }
}

/// An application protocol.
#[allow(clippy::upper_case_acronyms)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    HTTP,
    /// HTTP/2 without TLS.
    HTTP2,
    /// gRPC.
    GRPC,
    /// Any other stream.
    TCP,
}

/// An environment variable, as in a Pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.value) && has(self.valueFrom))")
    .message("set either value or valueFrom, not both"))]
pub struct EnvVar {
    /// Name of the variable.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::ENV_NAME))]
    pub name: String,
    /// Its value.
    #[schemars(length(max = 32768))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Where its value comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_from: Option<EnvSource>,
}

/// Where the value of an environment variable comes from; exactly one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.configMapKeyRef), has(self.secretKeyRef), has(self.fieldRef), has(self.resourceFieldRef)].filter(x, x).size() == 1")
    .message("set exactly one of configMapKeyRef, secretKeyRef, fieldRef, resourceFieldRef"))]
pub struct EnvSource {
    /// A key of a ConfigMap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeyRef>,
    /// A key of a Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<KeyRef>,
    /// A field of the pod, such as `status.podIP`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field_ref: Option<FieldRef>,
    /// A resource of the container, such as `limits.memory`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_field_ref: Option<ResourceFieldRef>,
}

/// A key of a ConfigMap or Secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyRef {
    /// Name of the ConfigMap or Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::OBJECT_NAME))]
    pub name: String,
    /// The key.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::KEY))]
    pub key: String,
    /// Whether the pod may start without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// A field of the pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldRef {
    /// Path of the field.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::FIELD_PATH))]
    pub field_path: String,
}

/// A resource of the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceFieldRef {
    /// Name of the resource, such as `limits.cpu`.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::CONTAINER_RESOURCE))]
    pub resource: String,
}

/// All keys of a ConfigMap or of a Secret as environment variables; exactly one of both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.configMapRef) != has(self.secretRef)")
    .message("set exactly one of configMapRef, secretRef"))]
pub struct EnvFrom {
    /// Put before each name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = patterns::ENV_NAME))]
    pub prefix: Option<String>,
    /// The ConfigMap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<ObjectName>,
    /// The Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<ObjectName>,
}

/// The name of an object in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectName {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::OBJECT_NAME))]
    pub name: String,
    /// Whether the pod may start without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// A container that runs to its end before the service starts, or with `restartPolicy: Always` beside it, as a sidecar does.
/// It sees the same files and volumes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.probes) || (has(self.restartPolicy) && self.restartPolicy == 'Always')")
    .message("probes need restartPolicy: Always: a container that runs to its end has none"))]
pub struct InitContainer {
    /// Name of the container, a DNS label.
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::LABEL))]
    pub name: String,
    /// Its image.
    #[schemars(length(min = 1, max = 512), regex(pattern = patterns::IMAGE))]
    pub image: String,
    /// Entry point.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub command: Option<Vec<String>>,
    /// Arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub args: Option<Vec<String>>,
    /// Its own variables, beside none of the service's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Option<Vec<EnvVar>>,
    /// ConfigMaps and Secrets as its variables.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub env_from: Option<Vec<EnvFrom>>,
    /// `Always` makes it a sidecar: it starts before the service, is started again whenever it ends, and stops after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<RestartPolicy>,
    /// When a sidecar has started, and when it is to be restarted. The pod is Ready only while it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probes: Option<Probes>,
    /// Requests and limits; the service's where left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}

/// When a container is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RestartPolicy {
    /// Whenever it ends.
    Always,
}

/// Who the processes of a pod are. What is left out here is as the `restricted` Pod Security Standard wants it, and can be no
/// other: no root, no privileges, no capabilities.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Security {
    /// User id of all containers. Defaults to that of the image, which must be a number other than 0: where an image names
    /// its user by a word, or none, the kubelet refuses to start it until this is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2147483647))]
    pub run_as_user: Option<i64>,
    /// Group id of all containers. Defaults to that of the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2147483647))]
    pub run_as_group: Option<i64>,
    /// Group that owns the volumes. Defaults to 65532 where there is a PersistentVolumeClaim.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2147483647))]
    pub fs_group: Option<i64>,
    /// Whether the root file system cannot be written to. Defaults to true; `/tmp` can be written to either way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only_root_filesystem: Option<bool>,
    /// Capabilities that are kept. The standard allows one: `NET_BIND_SERVICE`, to listen on ports below 1024.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1))]
    pub capabilities: Option<Vec<Capability>>,
}

/// A capability of Linux that a container may keep.
#[allow(non_camel_case_types, clippy::upper_case_acronyms)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Capability {
    /// To listen on ports below 1024.
    NET_BIND_SERVICE,
}

/// Requests and limits of a container, as in a Pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.requests) || !has(self.limits) || self.requests.all(k, !(k in self.limits) || !isQuantity(string(self.requests[k])) || !isQuantity(string(self.limits[k])) || quantity(string(self.requests[k])).compareTo(quantity(string(self.limits[k]))) <= 0)")
    .message("requests must not be greater than limits: lower the one or raise the other"))]
pub struct Resources {
    /// What the scheduler sets aside.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 16))]
    #[x_kube(validation = Rule::new("self.all(k, isQuantity(string(self[k])) && quantity(string(self[k])).compareTo(quantity('0')) >= 0)")
        .message("each value must be a quantity that is not negative, such as 500m or 1Gi"))]
    #[x_kube(validation = Rule::new("self.all(k, k in ['cpu', 'memory', 'ephemeral-storage'] || k.startsWith('hugepages-') || k.contains('/'))")
        .message("each name must be cpu, memory, ephemeral-storage, hugepages-<size>, or a resource with a domain such as nvidia.com/gpu"))]
    pub requests: Option<BTreeMap<String, Quantity>>,
    /// What the container may not pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 16))]
    #[x_kube(validation = Rule::new("self.all(k, isQuantity(string(self[k])) && quantity(string(self[k])).compareTo(quantity('0')) >= 0)")
        .message("each value must be a quantity that is not negative, such as 500m or 1Gi"))]
    #[x_kube(validation = Rule::new("self.all(k, k in ['cpu', 'memory', 'ephemeral-storage'] || k.startsWith('hugepages-') || k.contains('/'))")
        .message("each name must be cpu, memory, ephemeral-storage, hugepages-<size>, or a resource with a domain such as nvidia.com/gpu"))]
    pub limits: Option<BTreeMap<String, Quantity>>,
}

/// What runs before a pod is told to stop.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.exec) != has(self.sleep)").message("set exactly one of exec, sleep"))]
pub struct PreStop {
    /// A command in the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec: Option<Exec>,
    /// A pause, so that routes forget the pod first, such as `5s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = patterns::DURATION))]
    pub sleep: Option<String>,
}

/// What the pod is to the cloud it runs in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// IAM role for the service account (EKS, IRSA).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = patterns::AWS_ROLE))]
    pub aws_role_arn: Option<String>,
    /// Google service account (GKE, Workload Identity).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = patterns::GCP_ACCOUNT))]
    pub gcp_service_account: Option<String>,
}

/// How many pods: `replicas`, or `min` to `max` by what they use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.replicas) ? !has(self.min) && !has(self.max) && !has(self.cpuPercent) : has(self.min) && has(self.max)")
    .message("set replicas, or min and max (and cpuPercent with them), not both"))]
#[x_kube(validation = Rule::new("(!has(self.memoryPercent) && !has(self.external)) || has(self.max)")
    .message("memoryPercent and external need min and max: a fixed number of pods follows nothing"))]
#[x_kube(validation = Rule::new("!has(self.min) || !has(self.max) || self.min <= self.max")
    .message("min must not be greater than max"))]
pub struct Scale {
    /// A fixed number of pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10000))]
    pub replicas: Option<i32>,
    /// The least number of pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub min: Option<i32>,
    /// The greatest number of pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub max: Option<i32>,
    /// Average CPU, in percent of the request, that the autoscaler aims at. Defaults to 70, unless memoryPercent or external
    /// says what is aimed at.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub cpu_percent: Option<i32>,
    /// Average memory, in percent of the request, that the autoscaler aims at.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub memory_percent: Option<i32>,
    /// Metrics of the cluster's external metrics API, such as the length of a queue, that the autoscaler follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub external: Option<Vec<ExternalMetric>>,
}

/// A metric that is not measured at the pods, such as the length of a queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.value) != has(self.averageValue)")
    .message("set exactly one of value, averageValue"))]
pub struct ExternalMetric {
    /// Its name at the external metrics API.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Labels that tell it from others of that name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 16))]
    #[x_kube(validation = Rule::new(patterns::LABELS_RULE)
        .message("each must be a label: a key such as queue, and a value of at most 63 letters, digits, dashes, underscores and dots"))]
    pub labels: Option<BTreeMap<String, String>>,
    /// What it is to be, whatever the number of pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("isQuantity(string(self)) && quantity(string(self)).compareTo(quantity('0')) > 0")
        .message("must be a quantity greater than zero, such as 30"))]
    pub value: Option<Quantity>,
    /// What it is to be for each pod: the number of pods is the metric through this.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("isQuantity(string(self)) && quantity(string(self)).compareTo(quantity('0')) > 0")
        .message("must be a quantity greater than zero, such as 30"))]
    pub average_value: Option<Quantity>,
}

/// Where pods may run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Scheduling {
    /// Labels that a node must have.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 16))]
    #[x_kube(validation = Rule::new(patterns::LABELS_RULE)
        .message("each must be a label of a node: a key such as topology.kubernetes.io/zone, and a value of at most 63 letters, digits, dashes, underscores and dots"))]
    pub node_selector: Option<BTreeMap<String, String>>,
    /// Taints of nodes that are tolerated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub tolerations: Option<Vec<Toleration>>,
    /// How strictly pods are spread over zones and nodes. Defaults to Preferred.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spread: Option<Spread>,
}

/// How strictly pods are spread over zones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Spread {
    /// Evenly where it can be had.
    #[default]
    Preferred,
    /// Rather not at all than unevenly.
    Required,
    /// No wish.
    None,
}

/// A taint that is tolerated, as in a Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.operator) && self.operator == 'Exists' && has(self.value))")
    .message("value must be left out when operator is Exists"))]
#[x_kube(validation = Rule::new("has(self.key) || (has(self.operator) && self.operator == 'Exists')")
    .message("without a key, operator must be Exists: that tolerates every taint"))]
pub struct Toleration {
    /// Key of the taint.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 316))]
    pub key: Option<String>,
    /// Exists or Equal. Defaults to Equal.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["Exists", "Equal"]))]
    pub operator: Option<String>,
    /// Value of the taint.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub value: Option<String>,
    /// NoSchedule, PreferNoSchedule or NoExecute; all where left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["NoSchedule", "PreferNoSchedule", "NoExecute"]))]
    pub effect: Option<String>,
}
