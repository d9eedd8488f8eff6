//! CanaryRollout: the standing policy by which new revisions of one FinService take over.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::analysis::{Analysis, Auth, KeyOfSecret};
use super::canarystatus::{Memory, MetricStatus, Past, Scatter, Weight};
use super::conditions::Problem;
use super::patterns;
use super::units::DURATION_PATTERN;

/// How new revisions of one FinService take over, and the state of the rollout that is under way. A
/// changed pod template starts a rollout; nobody scripts it.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "banyan.dev",
    version = "v1alpha1",
    kind = "CanaryRollout",
    plural = "canaryrollouts",
    shortname = "canary",
    category = "banyan",
    namespaced,
    status = "CanaryRolloutStatus",
    printcolumn = r#"{"name":"Service","type":"string","jsonPath":".spec.service"}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Step","type":"string","jsonPath":".status.step"}"#,
    printcolumn = r#"{"name":"Weight","type":"integer","jsonPath":".status.weight.asked"}"#,
    printcolumn = r#"{"name":"Verdict","type":"string","jsonPath":".status.verdict"}"#,
    printcolumn = r#"{"name":"Release","type":"string","jsonPath":".status.release"}"#,
    printcolumn = r#"{"name":"Why","type":"string","jsonPath":".status.message"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.gates) || !has(self.strategy.canary) || !has(self.strategy.canary.steps) || self.gates.all(g, self.strategy.canary.steps.exists(s, s.weight == g.at))")
    .message("each gates[].at must be the weight of one of strategy.canary.steps: the gate stands before that step"))]
#[x_kube(validation = Rule::new("!has(self.gates) || !has(self.strategy.blueGreen) || self.gates.all(g, g.at == 100)")
    .message("gates[].at must be 100 with strategy.blueGreen: it has only one step"))]
#[x_kube(validation = Rule::new("!has(self.gates) || self.gates.all(g, !has(g.promql)) || (has(self.analysis) && has(self.analysis.source) && has(self.analysis.source.prometheus))")
    .message("gates[].promql needs analysis.source.prometheus, which answers the query"))]
#[x_kube(validation = Rule::new("(has(self.via) && self.via == 'FeatureFlag') == has(self.featureFlag)")
    .message("set featureFlag together with via: FeatureFlag, and only then"))]
#[x_kube(validation = Rule::new("!has(self.featureFlag) || has(self.strategy.canary)")
    .message("via: FeatureFlag needs strategy.canary: a percentage follows its steps"))]
#[x_kube(validation = Rule::new("!has(self.featureFlag) || (has(self.analysis) && has(self.analysis.custom))")
    .message("via: FeatureFlag needs analysis.custom: requests of both variants reach the same pods, so only the service's own metrics can tell them apart"))]
#[x_kube(validation = Rule::new("!has(self.featureFlag) || !has(self.from) || self.from != 'Legacy'")
    .message("set via: FeatureFlag or from: Legacy, not both"))]
#[x_kube(validation = Rule::new("!has(self.featureFlag) || (!has(self.matches) && !has(self.mirrorPercent) && !has(self.sessionAffinity))")
    .message("matches, mirrorPercent and sessionAffinity are for routes; with via: FeatureFlag the flag's own targeting does that"))]
#[x_kube(validation = Rule::new("!has(self.from) || self.from != 'Legacy' || has(self.strategy.canary)")
    .message("from: Legacy needs strategy.canary: the old backend gives up its traffic step by step"))]
#[x_kube(validation = Rule::new("!has(self.from) || self.from != 'Legacy' || !has(self.analysis) || !has(self.analysis.baseline) || self.analysis.baseline != 'Fresh'")
    .message("analysis.baseline must not be Fresh with from: Legacy: the old backend cannot be copied"))]
#[x_kube(validation = Rule::new("!has(self.strategy.blueGreen) || (!has(self.mirrorPercent) && !has(self.sessionAffinity))")
    .message("mirrorPercent and sessionAffinity need strategy.canary: blueGreen shares no traffic"))]
#[x_kube(validation = Rule::new("!has(self.strategy.blueGreen) || !has(self.strategy.blueGreen.scaleDownDelay) || !has(self.rollbackWindow) || !has(self.rollbackWindow.for)")
    .message("set strategy.blueGreen.scaleDownDelay or rollbackWindow.for, not both: they say the same"))]
pub struct CanaryRolloutSpec {
    /// Name of the FinService, in the same namespace. One FinService has at most one CanaryRollout.
    #[schemars(length(min = 1, max = 40))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("service cannot be changed: delete this CanaryRollout and create another"))]
    pub service: String,
    /// How traffic moves.
    pub strategy: Strategy,
    /// What carries the shares. Defaults to Mesh: the routes (or, without a mesh, the pods).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<Via>,
    /// The flag whose percentage follows the steps; with `via: FeatureFlag`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature_flag: Option<FeatureFlag>,
    /// Who has the traffic before. Defaults to Stable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<From>,
    /// How the way back is kept open after a promotion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback_window: Option<RollbackWindow>,
    /// How long the pods of a step may take to become Ready before the rollout is called stalled. It
    /// goes on by itself when they do. Defaults to 10m.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = DURATION_PATTERN))]
    pub progress_deadline: Option<String>,
    /// Requests that see the canary whatever its weight is, while it has any or is being prepared.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8))]
    pub matches: Option<Vec<Match>>,
    /// Share of stable's requests, in percent, that is also sent to the canary, whose answers are thrown
    /// away. A mirrored payment is a second payment: only for services whose requests change nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub mirror_percent: Option<i32>,
    /// Keeps a client on the revision that it met first, for both revisions alike.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_affinity: Option<SessionAffinity>,
    /// What the canary is judged by. Defaults to the error rate as the built-in source sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub analysis: Option<Analysis>,
    /// What else must be so before a step begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub gates: Option<Vec<Gate>>,
    /// Clusters that must have promoted the same release first, and stayed well.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["cluster".into()]))]
    pub after: Option<Vec<After>>,
}

/// How traffic moves; exactly one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.canary) != has(self.blueGreen)")
    .message("set exactly one of strategy.canary, strategy.blueGreen"))]
pub struct Strategy {
    /// Step by step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryStrategy>,
    /// All at once, after a look at a preview.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blue_green: Option<BlueGreen>,
}

/// Step by step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.steps) || !has(self.pace)")
    .message("set steps or pace, not both: with pace the steps are chosen when a rollout begins"))]
pub struct CanaryStrategy {
    /// The steps, of rising weight; the last has weight 100, and at least one has less. Left out, they are chosen when a
    /// rollout begins, by what stable answers then: see `pace`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 2, max = 32))]
    #[x_kube(validation = Rule::new("self.map(s, s.weight).isSorted() && self.all(s, self.exists_one(o, o.weight == s.weight))")
        .message("the weights of steps must rise: each must be larger than the one before"))]
    #[x_kube(validation = Rule::new("self.exists(s, s.weight == 100)")
        .message("the last of steps must have weight 100: add {weight: 100}"))]
    pub steps: Vec<Step>,
    /// How long a release that is as good as stable may take, where steps are left out: they are the least harmful ones that
    /// are as fast, or the fastest. Defaults to 20m.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = DURATION_PATTERN))]
    pub pace: Option<String>,
    /// How long each step lasts at the least, however good the evidence is. Defaults to 1m.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = DURATION_PATTERN))]
    pub min_hold: Option<String>,
    /// How long a step waits for a verdict before `analysis.onInsufficient` says what then. Defaults to
    /// 30m; where the steps are chosen, to twice the time that they take, if that is more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = DURATION_PATTERN))]
    pub max_hold: Option<String>,
}

/// A step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// The canary's share of the requests, in percent.
    #[schemars(range(min = 1, max = 100))]
    pub weight: i32,
    /// Instead of the strategy's `minHold`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = DURATION_PATTERN))]
    pub min_hold: Option<String>,
    /// Instead of the strategy's `maxHold`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = DURATION_PATTERN))]
    pub max_hold: Option<String>,
}

/// All at once, after a look at a preview.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlueGreen {
    /// Host name under which the new revision can be seen before the switch.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::OBJECT_NAME))]
    pub preview_host: Option<String>,
    /// How long the new revision stands ready before the switch, at the least. Defaults to 0s; a gate
    /// `{at: 100, approval: {}}` makes it wait for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = DURATION_PATTERN))]
    pub preview_for: Option<String>,
    /// How long the old revision keeps its pods after the switch. Defaults to the rollback window's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = DURATION_PATTERN))]
    pub scale_down_delay: Option<String>,
}

/// What carries the shares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Via {
    /// The routes of the mesh or gateway; without one, numbers of pods.
    #[default]
    Mesh,
    /// The percentage of a feature flag, once the new revision is out.
    FeatureFlag,
}

/// A feature flag.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FeatureFlag {
    /// A flag of LaunchDarkly.
    pub launch_darkly: LaunchDarkly,
}

/// A flag of LaunchDarkly.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LaunchDarkly {
    /// Key of the project.
    #[schemars(length(min = 1, max = 100), regex(pattern = patterns::FLAG_KEY))]
    pub project: String,
    /// Key of the environment.
    #[schemars(length(min = 1, max = 100), regex(pattern = patterns::FLAG_KEY))]
    pub environment: String,
    /// Key of the flag.
    #[schemars(length(min = 1, max = 256), regex(pattern = patterns::FLAG_KEY))]
    pub flag: String,
    /// Index of the variation that is new; the share of the others is taken from `fallback`.
    #[schemars(range(min = 0, max = 99))]
    pub variation: i32,
    /// Index of the variation that is old.
    #[schemars(range(min = 0, max = 99))]
    pub fallback: i32,
    /// The access token.
    pub token: KeyOfSecret,
}

/// Who has the traffic before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum From {
    /// The revision that serves.
    #[default]
    Stable,
    /// The FinService's `legacy` backend, until it has given up everything; after that, Stable.
    Legacy,
}

/// How the way back is kept open after a promotion.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RollbackWindow {
    /// How long the old revision keeps its pods. Defaults to 15m.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = DURATION_PATTERN))]
    pub r#for: Option<String>,
    /// How many, in percent of the pods that serve. Defaults to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub capacity_percent: Option<i32>,
}

/// Requests that always see the canary; exactly one of header and cookie.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.header) != has(self.cookie)").message("set exactly one of header, cookie"))]
pub struct Match {
    /// Requests with this header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<NameAndValue>,
    /// Requests with this cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<NameAndValue>,
}

/// A header or cookie and its exact value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NameAndValue {
    /// Its name.
    #[schemars(length(min = 1, max = 128), regex(pattern = patterns::TOKEN))]
    pub name: String,
    /// Its value, exactly.
    #[schemars(length(min = 1, max = 256), regex(pattern = patterns::TOKEN_VALUE))]
    pub value: String,
}

/// Keeps a client on the revision that it met first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionAffinity {
    /// Name of the cookie. Defaults to `banyan-revision`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = patterns::TOKEN))]
    pub cookie_name: Option<String>,
    /// How long a client is kept. Defaults to 1h.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = DURATION_PATTERN))]
    pub max_age: Option<String>,
}

/// What else must be so before a step begins; exactly one of approval, promql and webhook.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.approval), has(self.promql), has(self.webhook)].filter(x, x).size() == 1")
    .message("set exactly one of approval, promql, webhook"))]
pub struct Gate {
    /// Weight of the step that it stands before.
    #[schemars(range(min = 1, max = 100))]
    pub at: i32,
    /// How long the rollout waits here before it is called stalled. Defaults to 7d, for promql on top of
    /// its `for`; at most 90d, so that no gate is without end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = DURATION_PATTERN))]
    pub timeout: Option<String>,
    /// A person says so, by an Action.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// A query of Prometheus is true, without a break.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub promql: Option<PromqlGate>,
    /// A web server says so, by an answer of 2xx.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookGate>,
}

/// A person says so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Approval {}

/// A query of Prometheus is true, without a break.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PromqlGate {
    /// The query. A comparison that filters, such as `sum(mismatch) == 0`: true is any sample, false an empty answer.
    #[schemars(length(min = 1, max = 4096))]
    pub query: String,
    /// How long it must have been true. Defaults to 0s. No answer neither counts nor breaks the time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = DURATION_PATTERN))]
    pub r#for: Option<String>,
}

/// A web server says so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookGate {
    /// Where a POST is sent with the rollout as JSON. 2xx opens the gate, anything else does not. It is a Service of this
    /// namespace, or what the operator's chart lists in `evidence.allow`.
    #[schemars(length(min = 1, max = 2048), regex(pattern = patterns::URL))]
    pub url: String,
    /// What is presented to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
}

/// A cluster that goes first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct After {
    /// Name of its CloudCluster.
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::LABEL))]
    pub cluster: String,
    /// How long it must have stayed well with the release since its promotion. Defaults to 0s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = DURATION_PATTERN))]
    pub bake: Option<String>,
}

/// What the operator of this cluster last saw and decided.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CanaryRolloutStatus {
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
    /// Where it stands, in one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub phase: Option<String>,
    /// What it waits for, in one sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// Step that has been reached, of how many: `2/4`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub step: Option<String>,
    /// The canary's weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<Weight>,
    /// What the evidence says: Pass, Fail, Insufficient or ProviderDown.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub verdict: Option<String>,
    /// The release that is rolling out, or that serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub release: Option<String>,
    /// Hash of the revision that serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub stable: Option<String>,
    /// Hash of the revision that is on its way in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub canary: Option<String>,
    /// The evidence, by metric: written when something changes, and at most once a minute otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub metrics: Vec<MetricStatus>,
    /// How stable's errors scatter, kept from one rollout to the next; written with the evidence, and not for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub scatter: Vec<Scatter>,
    /// The last ten rollouts, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub history: Vec<Past>,
    /// What the operator must remember; not for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
}
