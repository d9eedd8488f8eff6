//! The kinds of children, and the optional APIs that some of them belong to.

use crate::finservice::settings::Settings;

/// An API that a cluster may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Api {
    /// Istio's routes and policies.
    Istio,
    /// Gateway API's routes.
    GatewayApi,
    /// The Prometheus operator's monitors and rules.
    PrometheusOperator,
    /// Strimzi's topics and users.
    Strimzi,
}

impl Api {
    /// Its name, for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Istio => "Istio",
            Self::GatewayApi => "Gateway API",
            Self::PrometheusOperator => "Prometheus operator",
            Self::Strimzi => "Strimzi",
        }
    }
}

/// A kind of child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs)] // They are Kubernetes' own kinds.
pub enum Kind {
    ServiceAccount,
    ControllerRevision,
    ConfigMap,
    Deployment,
    Service,
    HorizontalPodAutoscaler,
    PodDisruptionBudget,
    NetworkPolicy,
    DestinationRule,
    VirtualService,
    PeerAuthentication,
    AuthorizationPolicy,
    RequestAuthentication,
    ServiceEntry,
    Sidecar,
    HTTPRoute,
    ServiceMonitor,
    PrometheusRule,
    KafkaTopic,
    KafkaUser,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 20] = [
        Self::ServiceAccount,
        Self::ControllerRevision,
        Self::ConfigMap,
        Self::Deployment,
        Self::Service,
        Self::HorizontalPodAutoscaler,
        Self::PodDisruptionBudget,
        Self::NetworkPolicy,
        Self::DestinationRule,
        Self::VirtualService,
        Self::PeerAuthentication,
        Self::AuthorizationPolicy,
        Self::RequestAuthentication,
        Self::ServiceEntry,
        Self::Sidecar,
        Self::HTTPRoute,
        Self::ServiceMonitor,
        Self::PrometheusRule,
        Self::KafkaTopic,
        Self::KafkaUser,
    ];

    /// All kinds in the order in which they are read. Passive ones wait for the FinServices. Of others, and of those,
    /// the longest lists come first, so that none runs alone after all others: custom resources, each of which the API
    /// server copies before it writes it out, and of them the rules, which are the largest.
    pub fn reading_order() -> [Self; 20] {
        let mut kinds = Self::ALL;
        kinds.sort_by_key(|kind| (kind.is_passive(), *kind != Self::PrometheusRule, kind.api().is_none()));
        kinds
    }

    /// API group, version, kind and plural.
    pub fn resource(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Self::ServiceAccount => ("", "v1", "ServiceAccount", "serviceaccounts"),
            Self::ControllerRevision => ("apps", "v1", "ControllerRevision", "controllerrevisions"),
            Self::ConfigMap => ("", "v1", "ConfigMap", "configmaps"),
            Self::Deployment => ("apps", "v1", "Deployment", "deployments"),
            Self::Service => ("", "v1", "Service", "services"),
            Self::HorizontalPodAutoscaler => {
                ("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
            }
            Self::PodDisruptionBudget => ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
            Self::NetworkPolicy => ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
            Self::DestinationRule => ("networking.istio.io", "v1", "DestinationRule", "destinationrules"),
            Self::VirtualService => ("networking.istio.io", "v1", "VirtualService", "virtualservices"),
            Self::PeerAuthentication => {
                ("security.istio.io", "v1", "PeerAuthentication", "peerauthentications")
            }
            Self::AuthorizationPolicy => {
                ("security.istio.io", "v1", "AuthorizationPolicy", "authorizationpolicies")
            }
            Self::RequestAuthentication => {
                ("security.istio.io", "v1", "RequestAuthentication", "requestauthentications")
            }
            Self::ServiceEntry => ("networking.istio.io", "v1", "ServiceEntry", "serviceentries"),
            Self::Sidecar => ("networking.istio.io", "v1", "Sidecar", "sidecars"),
            Self::HTTPRoute => ("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes"),
            Self::ServiceMonitor => ("monitoring.coreos.com", "v1", "ServiceMonitor", "servicemonitors"),
            Self::PrometheusRule => ("monitoring.coreos.com", "v1", "PrometheusRule", "prometheusrules"),
            Self::KafkaTopic => ("kafka.strimzi.io", "v1beta2", "KafkaTopic", "kafkatopics"),
            Self::KafkaUser => ("kafka.strimzi.io", "v1beta2", "KafkaUser", "kafkausers"),
        }
    }

    /// The kind, for people and in `kind:`.
    pub fn name(self) -> &'static str {
        self.resource().2
    }

    /// The version of its objects in this cluster.
    pub fn version(self, settings: &Settings) -> &'static str {
        if self.api() == Some(Api::Strimzi) { settings.strimzi } else { self.resource().1 }
    }

    /// `apiVersion` of its objects in this cluster.
    pub fn api_version_in(self, settings: &Settings) -> String {
        let (group, version) = (self.resource().0, self.version(settings));
        if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
    }

    /// `apiVersion` of its objects where nothing else is known.
    pub fn api_version(self) -> String {
        self.api_version_in(&Settings::default())
    }

    /// The optional API that it belongs to, if it is not Kubernetes' own.
    pub fn api(self) -> Option<Api> {
        match self {
            Self::DestinationRule
            | Self::VirtualService
            | Self::PeerAuthentication
            | Self::AuthorizationPolicy
            | Self::RequestAuthentication
            | Self::ServiceEntry
            | Self::Sidecar => Some(Api::Istio),
            Self::HTTPRoute => Some(Api::GatewayApi),
            Self::ServiceMonitor | Self::PrometheusRule => Some(Api::PrometheusOperator),
            Self::KafkaTopic | Self::KafkaUser => Some(Api::Strimzi),
            _ => None,
        }
    }

    /// Whether nothing of its objects matters but that they are as they were written: no decision asks what they say.
    /// Only custom resources are, since others have no generation, or are small.
    pub fn is_passive(self) -> bool {
        !matches!(self, Self::VirtualService | Self::HTTPRoute) && self.api().is_some()
    }

    /// Name of its CustomResourceDefinition, if it has one.
    pub fn crd(self) -> Option<String> {
        self.api().map(|_| format!("{}.{}", self.resource().3, self.resource().0))
    }
}
