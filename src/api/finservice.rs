//! FinService: a service with its mesh policy, scaling, access, observability, SLO and residency.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::conditions::Problem;
use super::mounts::{Files, Volume};
use super::network::{Access, Ingress, Legacy, Mesh, MeshProvider, ServiceSettings};
use super::operations::{Data, Observability, Placement, SiteOverride, Slo};
use super::patterns;
use super::probes::Probes;
use super::workload::{
    EnvFrom, EnvVar, Identity, InitContainer, Port, PreStop, Resources, Scale, Scheduling, Security,
};

/// A service of the platform: what runs, who may call it, what it promises, and where it may be.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "banyan.dev",
    version = "v1alpha1",
    kind = "FinService",
    plural = "finservices",
    shortname = "fsvc",
    category = "banyan",
    namespaced,
    status = "FinServiceStatus",
    doc = "A service of the platform: what runs, who may call it, what it promises, and where it may be.",
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].reason"}"#,
    printcolumn = r#"{"name":"Release","type":"string","jsonPath":".status.release"}"#,
    printcolumn = r#"{"name":"Revision","type":"string","jsonPath":".status.revisions.stable"}"#,
    printcolumn = r#"{"name":"Pods","type":"string","jsonPath":".status.replicas.summary"}"#,
    printcolumn = r#"{"name":"Problem","type":"string","jsonPath":".status.problems[0].message"}"#,
    printcolumn = r#"{"name":"Owner","type":"string","priority":1,"jsonPath":".spec.owner"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$')")
        .message("metadata.name must be a DNS label of at most 40 characters that begins with a letter: it is the name of Services"),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.observability) || !has(self.observability.metrics) || has(self.ports) && self.ports.exists(p, p.name == self.observability.metrics.port)")
    .message("observability.metrics.port must be the name of one of spec.ports"))]
#[x_kube(validation = Rule::new("!has(self.ingress) || !has(self.ingress.port) || has(self.ports) && self.ports.exists(p, p.name == self.ingress.port)")
    .message("ingress.port must be the name of one of spec.ports"))]
#[x_kube(validation = Rule::new("!has(self.ingress) || (has(self.mesh) && has(self.mesh.provider) && self.mesh.provider != 'None')")
    .message("ingress needs mesh.provider Istio or GatewayAPI: without one there is no route to write"))]
#[x_kube(validation = Rule::new("!has(self.ingress) || (has(self.ports) && self.ports.size() > 0)")
    .message("ingress needs at least one of spec.ports"))]
#[x_kube(validation = Rule::new("!has(self.ingress) || !has(self.ports) || self.ports.size() == 0 || (has(self.ingress.port) ? !self.ports.exists(p, p.name == self.ingress.port && has(p.protocol) && p.protocol == 'TCP') : !(has(self.ports[0].protocol) && self.ports[0].protocol == 'TCP'))")
    .message("ingress.port must name a port with protocol HTTP, HTTP2 or GRPC (the first of spec.ports where it is left out): a route moves requests, and TCP has none"))]
#[x_kube(validation = Rule::new("!has(self.legacy) || (has(self.mesh) && has(self.mesh.provider) && self.mesh.provider != 'None')")
    .message("legacy needs mesh.provider Istio or GatewayAPI: only a route can share traffic with the old backend"))]
#[x_kube(validation = Rule::new("!has(self.legacy) || has(self.ingress)")
    .message("legacy needs ingress: it says which hosts the old backend serves"))]
#[x_kube(validation = Rule::new("!(has(self.legacy) && has(self.mesh) && has(self.mesh.mtls) && self.mesh.mtls == 'Strict')")
    .message("mesh.mtls must not be Strict while legacy is set: the old backend has no certificate of the mesh"))]
#[x_kube(validation = Rule::new("!has(self.traffic) || self.traffic != 'Pulled' || (!has(self.ingress) && !has(self.legacy))")
    .message("traffic Pulled takes no ingress and no legacy: such a service fetches its work and is sent no requests"))]
#[x_kube(validation = Rule::new("!has(self.standby) || (has(self.traffic) && self.traffic == 'Pulled')")
    .message("standby is for traffic Pulled: a service that is sent requests keeps the pods that placement[].capacityPercent asks for"))]
#[x_kube(validation = Rule::new("(has(self.traffic) && self.traffic == 'Pulled') || (has(self.ports) && self.ports.size() > 0)")
    .message("ports must not be empty unless traffic is Pulled"))]
#[x_kube(validation = Rule::new("!has(self.sites) || !has(self.placement) || self.sites.all(s, self.placement.exists(p, p.cluster == s))")
    .message("sites may only name clusters that placement names"))]
#[x_kube(validation = Rule::new("!has(self.access) || !has(self.access.jwt) || (has(self.mesh) && has(self.mesh.provider) && self.mesh.provider == 'Istio')")
    .message("access.jwt needs mesh.provider Istio: nothing else here checks tokens"))]
#[x_kube(validation = Rule::new("!has(self.probes) || !has(self.probes.readiness) || ((!has(self.probes.readiness.httpGet) || string(self.probes.readiness.httpGet.port).matches('^[0-9]+$') || (has(self.ports) && self.ports.exists(p, p.name == self.probes.readiness.httpGet.port))) && (!has(self.probes.readiness.tcpSocket) || string(self.probes.readiness.tcpSocket.port).matches('^[0-9]+$') || (has(self.ports) && self.ports.exists(p, p.name == self.probes.readiness.tcpSocket.port))))")
    .message("the port of probes.readiness must be the name of one of spec.ports, or a number"))]
#[x_kube(validation = Rule::new("!has(self.probes) || !has(self.probes.liveness) || ((!has(self.probes.liveness.httpGet) || string(self.probes.liveness.httpGet.port).matches('^[0-9]+$') || (has(self.ports) && self.ports.exists(p, p.name == self.probes.liveness.httpGet.port))) && (!has(self.probes.liveness.tcpSocket) || string(self.probes.liveness.tcpSocket.port).matches('^[0-9]+$') || (has(self.ports) && self.ports.exists(p, p.name == self.probes.liveness.tcpSocket.port))))")
    .message("the port of probes.liveness must be the name of one of spec.ports, or a number"))]
#[x_kube(validation = Rule::new("!has(self.probes) || !has(self.probes.startup) || ((!has(self.probes.startup.httpGet) || string(self.probes.startup.httpGet.port).matches('^[0-9]+$') || (has(self.ports) && self.ports.exists(p, p.name == self.probes.startup.httpGet.port))) && (!has(self.probes.startup.tcpSocket) || string(self.probes.startup.tcpSocket.port).matches('^[0-9]+$') || (has(self.ports) && self.ports.exists(p, p.name == self.probes.startup.tcpSocket.port))))")
    .message("the port of probes.startup must be the name of one of spec.ports, or a number"))]
#[x_kube(validation = Rule::new("!has(self.files) || !has(self.volumes) || self.files.all(f, self.volumes.all(v, v.mountPath != f.mountPath))")
    .message("files and volumes must not share a mountPath"))]
#[x_kube(validation = Rule::new("!has(self.legacy) || !has(self.mesh) || !has(self.mesh.provider) || self.mesh.provider != 'GatewayAPI' || self.legacy.host.matches('^[a-z]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?[.]svc([.]cluster[.]local)?)?$')")
    .message("legacy.host must be a Service, as name.namespace.svc.cluster.local, when mesh.provider is GatewayAPI: its routes lead to Services only"))]
#[x_kube(validation = Rule::new("!has(self.legacy) || !has(self.legacy.paths) || !has(self.ingress) || !has(self.ingress.paths) || self.legacy.paths.all(l, self.ingress.paths.exists(p, l.startsWith(p)))")
    .message("each of legacy.paths must lie under one of ingress.paths: other paths do not come this way"))]
#[x_kube(validation = Rule::new("!has(self.slo) || !has(self.slo.latency) || (has(self.observability) && has(self.observability.metrics)) || (has(self.mesh) && has(self.mesh.provider) && self.mesh.provider == 'Istio')")
    .message("slo.latency needs observability.metrics or mesh.provider Istio: without either it is not measured"))]
#[x_kube(validation = Rule::new("!has(self.ports) || !self.ports.exists(p, has(p.nodePort)) || (has(self.service) && has(self.service.type) && self.service.type != 'ClusterIP')")
    .message("ports[].nodePort needs service.type NodePort or LoadBalancer: no other Service has a port at each node"))]
pub struct FinServiceSpec {
    /// The team that answers for the service.
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::OWNER))]
    pub owner: String,
    /// Container image.
    #[schemars(length(min = 1, max = 512), regex(pattern = patterns::IMAGE))]
    pub image: String,
    /// Ports that the service listens on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[x_kube(validation = Rule::new("self.all(a, self.exists_one(b, b.port == a.port))")
        .message("each port number may stand only once in ports"))]
    #[x_kube(validation = Rule::new("self.all(a, self.exists_one(b, (has(b.servicePort) ? b.servicePort : b.port) == (has(a.servicePort) ? a.servicePort : a.port)))")
        .message("each port of the Service may stand only once in ports: servicePort, and port where that is left out"))]
    pub ports: Vec<Port>,
    /// Names the release, the same in every cluster. Defaults to the image reference without its
    /// registry.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub version: Option<String>,
    /// Environment variables.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Option<Vec<EnvVar>>,
    /// ConfigMaps and Secrets as environment variables.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub env_from: Option<Vec<EnvFrom>>,
    /// ConfigMaps and Secrets as files.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["mountPath".into()]))]
    pub files: Option<Vec<Files>>,
    /// Entry point instead of the image's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub command: Option<Vec<String>>,
    /// Arguments instead of the image's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub args: Option<Vec<String>>,
    /// Volumes and where they are mounted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[x_kube(validation = Rule::new("self.all(a, self.exists_one(b, b.mountPath == a.mountPath))")
        .message("each mountPath may stand only once in volumes"))]
    pub volumes: Option<Vec<Volume>>,
    /// Containers that run to their end first, in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub init_containers: Option<Vec<InitContainer>>,
    /// What runs before a pod is told to stop. Defaults to a pause of 5 s, in which routes forget
    /// the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pre_stop: Option<PreStop>,
    /// How long a pod may take to stop. Defaults to `30s`, Kubernetes' own default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = patterns::DURATION))]
    pub termination_grace_period: Option<String>,
    /// Secrets with credentials of registries.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 253), regex(pattern = patterns::OBJECT_NAME)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub image_pull_secrets: Option<Vec<String>>,
    /// Who the processes of a pod are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security: Option<Security>,
    /// Labels of the pods beside Banyan's own, such as a cost centre.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 32))]
    #[x_kube(validation = Rule::new(patterns::LABELS_RULE)
        .message("each must be a label: a key such as finflow.example/cost-centre, and a value of at most 63 letters, digits, dashes, underscores and dots"))]
    #[x_kube(validation = Rule::new("self.all(k, !k.startsWith('banyan.dev/') && !(k in ['app.kubernetes.io/name', 'app.kubernetes.io/version', 'pod-template-hash']))")
        .message("banyan.dev/..., app.kubernetes.io/name, app.kubernetes.io/version and pod-template-hash are written by the operator: leave them out"))]
    pub pod_labels: Option<BTreeMap<String, String>>,
    /// Annotations of the pods, such as those that tell an injector what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 32))]
    #[x_kube(validation = Rule::new(patterns::ANNOTATIONS_RULE)
        .message("each must be an annotation: a key such as vault.hashicorp.com/role, and a value of at most 8192 characters"))]
    #[x_kube(validation = Rule::new("self.all(k, !k.startsWith('banyan.dev/'))")
        .message("banyan.dev/... is written by the operator: leave it out"))]
    pub pod_annotations: Option<BTreeMap<String, String>>,
    /// What the Service that callers use is, beside its ports. In force at once, without a new revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceSettings>,
    /// What the pods are to the cloud that they run in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// What a changed Secret does. Defaults to Restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_secret_change: Option<OnSecretChange>,
    /// Who is preempted first when a failover needs room. Defaults to Standard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<Tier>,
    /// How work reaches the service. Defaults to Requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
    /// What a service with `traffic: Pulled` does at a site without authority over its FailoverGroup. Defaults to Cold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standby: Option<Standby>,
    /// Requests and limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// When a pod may serve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probes: Option<Probes>,
    /// How many pods. Defaults to two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<Scale>,
    /// Where pods may run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduling: Option<Scheduling>,
    /// How the outside reaches the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Ingress>,
    /// The mesh's policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mesh: Option<Mesh>,
    /// Who may call, and who may be called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// Metrics, traces and logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observability: Option<Observability>,
    /// What the service promises.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slo: Option<Slo>,
    /// What data it keeps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Data>,
    /// Sites that it runs on. Everywhere where left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["cluster".into()]))]
    pub placement: Option<Vec<Placement>>,
    /// What is different at one site, by its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 16))]
    pub sites: Option<BTreeMap<String, SiteOverride>>,
    /// What served these paths before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub legacy: Option<Legacy>,
}

impl FinServiceSpec {
    /// Who carries traffic.
    pub fn provider(&self) -> MeshProvider {
        self.mesh.as_ref().and_then(|mesh| mesh.provider).unwrap_or_default()
    }

    /// How work reaches the service.
    pub fn traffic(&self) -> Traffic {
        self.traffic.unwrap_or_default()
    }

    /// The release: `version`, else the image reference without its registry.
    pub fn release(&self) -> &str {
        match &self.version {
            Some(version) => version,
            None => image_without_registry(&self.image),
        }
    }
}

/// An image reference without its registry. The first part names a registry if it has a dot or a
/// colon or is `localhost`, as in the distribution project's reference grammar.
pub fn image_without_registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => rest,
        _ => image,
    }
}

/// What a changed Secret does to pods that use it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnSecretChange {
    /// Pods are replaced in place, a few at a time, in the same revision.
    #[default]
    Restart,
    /// A new revision begins.
    Rollout,
    /// Nothing: pods read it when they next start.
    Ignore,
}

/// Who is preempted first when room is short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Tier {
    /// Last.
    Critical,
    /// In between.
    #[default]
    Standard,
    /// First.
    Batch,
}

/// How work reaches the service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Traffic {
    /// Requests are sent to it; a weight is a share of requests.
    #[default]
    Requests,
    /// It fetches its work, as a Kafka consumer does; a weight is a share of pods, and zero is no
    /// pods.
    Pulled,
}

/// What a service that fetches its work does at a site without authority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Standby {
    /// It has no pods: MirrorMaker writes no offsets into a group that has members.
    #[default]
    Cold,
    /// Its pods stay. They must not consume by themselves.
    Warm,
}

/// The bound of `status.record`. What does not fit is left out of it, and read when an operator starts: sixty-four
/// topics with the longest names, beside all else, are more than this.
pub const LONGEST_RECORD: usize = 16 * 1024;

/// What the operator of this cluster last saw and did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FinServiceStatus {
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
    /// The release that has the traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// The revisions in play.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revisions: Option<Revisions>,
    /// Pods of the stable revision, or of the first one while it starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<Replicas>,
    /// The site of the operator that wrote this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// For the operator alone: what it last saw of children that it need not read when it starts. Each is told by kind
    /// (and name, where it is not that of the FinService), digest of its contents, and a seal of its UID and generation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = LONGEST_RECORD))]
    pub record: Option<String>,
}

/// The revisions in play, by hash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Revisions {
    /// The one that serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stable: Option<String>,
    /// The one that is on its way in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Pods asked for and Ready.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Replicas {
    /// Asked for.
    pub desired: i32,
    /// Ready.
    pub ready: i32,
    /// Both, for people: `3/3`.
    pub summary: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_no_part_of_a_release() {
        assert_eq!(image_without_registry("registry.example/pay/transaction:1.4.2"), "pay/transaction:1.4.2");
        assert_eq!(image_without_registry("localhost/transaction:1"), "transaction:1");
        assert_eq!(image_without_registry("registry:5000/transaction:1"), "transaction:1");
        assert_eq!(image_without_registry("pay/transaction:1"), "pay/transaction:1");
        assert_eq!(image_without_registry("transaction"), "transaction");
    }
}
