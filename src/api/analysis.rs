//! What a canary is judged by.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::patterns;
use super::units::{DURATION_PATTERN, PERCENT_PATTERN};

/// What a canary is judged by. Each metric is compared with the revision beside it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.custom) || (has(self.source) && has(self.source.prometheus))")
    .message("analysis.custom needs analysis.source.prometheus, which answers the queries"))]
#[x_kube(validation = Rule::new("!has(self.errorRate) || !has(self.errorRate.enabled) || self.errorRate.enabled || has(self.latency) || has(self.custom)")
    .message("analysis.errorRate.enabled is false, so nothing would be judged: set latency or custom, or leave the error rate on"))]
pub struct Analysis {
    /// Where the counts come from. Defaults to the built-in source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// How long a pod must have been Ready before its requests count, at every scale-up. Defaults to 60s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = DURATION_PATTERN))]
    pub warmup: Option<String>,
    /// Time between two looks, 250ms to 15s; with Prometheus not less than the time between two scrapes. Defaults to 5s,
    /// with Prometheus to 15s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = DURATION_PATTERN))]
    pub interval: Option<String>,
    /// What the canary is compared with. Defaults to Stable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Baseline>,
    /// Requests that fail. In force with its defaults where it is left out, whatever else is set; but not with
    /// `via: FeatureFlag`, which cannot tell them apart, nor where `traffic: Pulled` has metrics of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_rate: Option<ErrorRate>,
    /// Requests that are refused with 4xx. In force with its defaults where it is left out, as `errorRate` is. More of them
    /// may be what the release is for, so an increase takes nothing back: the rollout waits for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_errors: Option<ClientErrors>,
    /// Requests that are slow. Defaults to what the FinService's `slo.latency` promises.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<LatencyShare>,
    /// Metrics of the service's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub custom: Option<Vec<CustomMetric>>,
    /// Chance, over the whole rollout however often it looks and over all metrics together, that a canary
    /// as good as stable is rolled back. Defaults to 0.01.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = patterns::PROBABILITY))]
    #[x_kube(validation = Rule::new("double(self) >= 0.000001 && double(self) <= 0.5")
        .message("falseAlarm must lie between 0.000001 and 0.5; 0.01 is usual"))]
    pub false_alarm: Option<String>,
    /// What happens at `maxHold` while the evidence is neither for nor against. Defaults to Hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_insufficient: Option<OnInsufficient>,
}

/// Where the counts come from; exactly one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.builtIn) != has(self.prometheus)")
    .message("set exactly one of builtIn, prometheus"))]
pub struct Source {
    /// The proxies, or the pods themselves, are asked. Needs nothing installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub built_in: Option<BuiltIn>,
    /// Prometheus, or what speaks its API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<Prometheus>,
}

/// The built-in source has no settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BuiltIn {}

/// Prometheus, or what speaks its API: Thanos, VictoriaMetrics, Mimir.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Prometheus {
    /// Its address, such as `http://prometheus.monitoring:9090`: a Service of this namespace, or what the operator's chart
    /// lists in `evidence.allow`.
    #[schemars(length(min = 1, max = 1024), regex(pattern = patterns::URL))]
    pub url: String,
    /// How its certificate is checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// What is presented to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
}

/// How a certificate is checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// The authority that is trusted, as PEM. Defaults to the system's.
    pub ca: KeyOfSecret,
}

/// What is presented to a server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// A bearer token.
    pub bearer: KeyOfSecret,
}

/// A key of a Secret in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyOfSecret {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::OBJECT_NAME))]
    pub secret: String,
    /// The key.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::KEY))]
    pub key: String,
}

/// What the canary is compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Baseline {
    /// Stable as it runs.
    #[default]
    Stable,
    /// A new copy of stable, of the canary's size and age, so that warm caches do not count.
    Fresh,
}

/// Requests that fail.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.enabled) || self.enabled || !(has(self.maxIncrease) || has(self.limit))")
    .message("errorRate.enabled is false, so maxIncrease and limit would do nothing: remove them, or set enabled to true"))]
pub struct ErrorRate {
    /// Whether it is judged. Defaults to true. With false a release that fails every request is let pass, so long as
    /// latency and custom metrics are well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Percentage points over the concurrent stable that are let pass. Defaults to 0.5.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = PERCENT_PATTERN))]
    #[x_kube(validation = Rule::new("double(self) > 0.0")
        .message("maxIncrease must be over 0: no number of requests shows that nothing at all is worse"))]
    pub max_increase: Option<String>,
    /// Share of failed requests, in percent, over which the canary fails without comparison, unless
    /// stable is over it too. Defaults to the rate at which the FinService's `slo.availability` pages
    /// (14.4 times its error budget), if that is at most a half of all requests; else none while stable runs beside it,
    /// and stable's own rate with a margin where nothing does.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = PERCENT_PATTERN))]
    #[x_kube(validation = Rule::new("double(self) > 0.0 && double(self) < 100.0").message("limit must be over 0 and under 100"))]
    pub limit: Option<String>,
}

/// Requests that are refused with 4xx; of gRPC, with a status that is the caller's fault.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.enabled) || self.enabled || !has(self.maxIncrease)")
    .message("clientErrors.enabled is false, so maxIncrease would do nothing: remove it, or set enabled to true"))]
pub struct ClientErrors {
    /// Whether it is looked at. Defaults to true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Percentage points over the concurrent stable that are let pass. Defaults to 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = PERCENT_PATTERN))]
    #[x_kube(validation = Rule::new("double(self) > 0.0")
        .message("maxIncrease must be over 0: no number of requests shows that nothing at all is worse"))]
    pub max_increase: Option<String>,
}

/// Requests that are slow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LatencyShare {
    /// What is slow, such as `200ms`. Must be a bound of the histogram's buckets.
    #[schemars(length(max = 32), regex(pattern = DURATION_PATTERN))]
    pub threshold: String,
    /// Percentage points over the concurrent stable that are let pass. Defaults to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = PERCENT_PATTERN))]
    #[x_kube(validation = Rule::new("double(self) > 0.0")
        .message("maxIncrease must be over 0: no number of requests shows that nothing at all is worse"))]
    pub max_increase: Option<String>,
    /// Share of slow requests, in percent, over which the canary fails without comparison, unless stable
    /// is over it too. None unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = PERCENT_PATTERN))]
    #[x_kube(validation = Rule::new("double(self) > 0.0 && double(self) < 100.0").message("limit must be over 0 and under 100"))]
    pub limit: Option<String>,
}

/// A metric of the service's own, as two counters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CustomMetric {
    /// Its name.
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::METRIC))]
    pub name: String,
    /// Query for the counter of what is bad, told apart by the label `revision`; for a feature flag by the label `variant`.
    /// Best with a series for each pod, such as `sum by (revision, pod) (declined_total)`: a sum over pods falls when one
    /// of them goes, and what falls is not counted.
    #[schemars(length(min = 1, max = 4096))]
    pub bad: String,
    /// Query for the counter of everything, told apart in the same way.
    #[schemars(length(min = 1, max = 4096))]
    pub total: String,
    /// Percentage points over the concurrent stable that are let pass. Defaults to 0.5.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = PERCENT_PATTERN))]
    #[x_kube(validation = Rule::new("double(self) > 0.0")
        .message("maxIncrease must be over 0: no number of requests shows that nothing at all is worse"))]
    pub max_increase: Option<String>,
}

/// What happens while the evidence is neither for nor against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnInsufficient {
    /// The rollout waits for a person, or for more requests.
    #[default]
    Hold,
    /// More weight, if nothing speaks against the canary; never while the source gives no answer.
    Advance,
    /// Back to stable.
    Rollback,
}
