//! Action: what a person says in mid-course.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::patterns;
use super::step::Step;

/// What a person says in mid-course: an object that never changes, so that git sees no drift, rights can
/// be given for it, and what was said stays on record.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "banyan.dev",
    version = "v1alpha1",
    kind = "Action",
    plural = "actions",
    shortname = "act",
    category = "banyan",
    namespaced,
    status = "ActionStatus",
    printcolumn = r#"{"name":"Verb","type":"string","jsonPath":".spec.verb"}"#,
    printcolumn = r#"{"name":"Target","type":"string","jsonPath":".spec.target.name"}"#,
    printcolumn = r#"{"name":"Release","type":"string","jsonPath":".spec.release"}"#,
    printcolumn = r#"{"name":"State","type":"string","jsonPath":".status.state"}"#,
    printcolumn = r#"{"name":"Why","type":"string","jsonPath":".status.message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self == oldSelf").message("an Action cannot be changed: create another"))]
#[x_kube(validation = Rule::new("!(self.verb in ['promote', 'retry', 'skip-step', 'skip-after']) || self.target.kind == 'CanaryRollout'")
    .message("promote, retry, skip-step and skip-after need target.kind CanaryRollout"))]
#[x_kube(validation = Rule::new("!(self.verb in ['force', 'skip', 'assert-fenced', 'accept-data-loss']) || self.target.kind == 'Failover'")
    .message("force, skip, assert-fenced and accept-data-loss need target.kind Failover"))]
#[x_kube(validation = Rule::new("self.target.kind != 'CanaryRollout' || self.verb == 'abort' || has(self.release)")
    .message("release is needed: what is meant for one release must not be carried out on another; only abort goes without"))]
#[x_kube(validation = Rule::new("self.target.kind != 'CanaryRollout' || !has(self.target.uid)").message("target.uid is for target.kind Failover"))]
#[x_kube(validation = Rule::new("self.target.kind != 'Failover' || (has(self.target.uid) && !has(self.release))")
    .message("target.kind Failover needs target.uid, so that what is meant for one order is not carried out on another, and takes no release"))]
#[x_kube(validation = Rule::new("(has(self.step) != has(self.store)) == (self.verb == 'skip') && !(has(self.step) && has(self.store))")
    .message("verb skip needs either step or store, and no other verb takes one"))]
#[x_kube(validation = Rule::new("has(self.evidence) == (self.verb == 'assert-fenced')")
    .message("verb assert-fenced needs evidence, and no other verb takes it"))]
#[x_kube(validation = Rule::new("has(self.position) == (self.verb == 'accept-data-loss')")
    .message("verb accept-data-loss needs position, as status.stores of the Failover shows it, and no other verb takes one"))]
#[x_kube(validation = Rule::new("!has(self.gate) || (self.verb == 'approve' && self.target.kind == 'CanaryRollout')")
    .message("gate is only for verb approve of a CanaryRollout"))]
#[x_kube(validation = Rule::new("!(self.verb in ['assert-fenced', 'accept-data-loss']) || has(self.words)")
    .message("words are needed: say how you know"))]
pub struct ActionSpec {
    /// What it is said to, in the same namespace.
    pub target: Target,
    /// The release that is meant, as in `status.release` of the CanaryRollout.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub release: Option<String>,
    /// What to do.
    pub verb: Verb,
    /// The gate that is approved, by the weight that it stands before. Defaults to the one that is
    /// waited at.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub gate: Option<i32>,
    /// The step of a Failover that is skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<SkippedStep>,
    /// The store that a Failover goes on without, once it cannot be promoted or opened: one with `required: false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub store: Option<String>,
    /// How a person knows that the source of a Failover writes nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<FenceEvidence>,
    /// The position behind which all is thrown away, as `status.stores[].frozen` of the Failover shows it; of several
    /// stores, with commas between them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub position: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub words: Option<String>,
}

/// A step of a Failover that may be skipped: never a fence, the catch-up or the commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum SkippedStep {
    /// What standing readiness checks.
    Preflight,
    /// The groups that move first.
    Turn,
    /// The size of this site.
    Capacity,
    /// Hooks before anything is closed.
    BeforeFence,
    /// Requests through this site's own gateway.
    Try,
    /// Hooks before applications may write.
    BeforeOpen,
    /// Hooks once this site serves.
    AfterTraffic,
    /// The other site as standby.
    Reprotect,
}

impl SkippedStep {
    /// The word in the API, which is that of the step.
    pub fn as_str(self) -> &'static str {
        let step = match self {
            Self::Preflight => Step::Preflight,
            Self::Turn => Step::Turn,
            Self::Capacity => Step::Capacity,
            Self::BeforeFence => Step::BeforeFence,
            Self::Try => Step::Try,
            Self::BeforeOpen => Step::BeforeOpen,
            Self::AfterTraffic => Step::AfterTraffic,
            Self::Reprotect => Step::Reprotect,
        };
        step.as_str()
    }
}

/// How a person knows that a site writes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum FenceEvidence {
    /// Its nodes are stopped, and stay so.
    NodesStopped,
    /// Its network is cut from everything that writes.
    NetworkCut,
    /// Its database is stopped, and stays so.
    DatabaseStopped,
    /// Something else, which `words` say.
    Other,
}

impl FenceEvidence {
    /// Whether a statement begins with it, as [`crate::api::failover::Statement::words`] of an assertion does.
    pub fn begins(self, words: &str) -> bool {
        words.split(':').next() == Some(self.as_str())
    }

    /// The word in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NodesStopped => "NodesStopped",
            Self::NetworkCut => "NetworkCut",
            Self::DatabaseStopped => "DatabaseStopped",
            Self::Other => "Other",
        }
    }
}

/// What an Action is said to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Its kind.
    pub kind: TargetKind,
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::OBJECT_NAME))]
    pub name: String,
    /// Its UID, of a Failover: an order of the same name that comes later is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub uid: Option<String>,
}

/// The kind of what an Action is said to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum TargetKind {
    /// A CanaryRollout.
    CanaryRollout,
    /// A Failover.
    Failover,
}

/// The command that creates such an Action, as it is typed: remedies name it.
pub fn command(verb: Verb, namespace: &str, rollout: &str) -> String {
    format!("kubectl banyan canary {} {rollout} -n {namespace}", verb.as_str())
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// Skip what is left of holds, verdicts and gates; never a gate that waits for a person, missing pods, other clusters, or a
    /// Fail.
    Promote,
    /// Back to stable at once. Wins over every other Action.
    Abort,
    /// Stay at this weight. A Fail still goes back to stable.
    Pause,
    /// Go on.
    Resume,
    /// Try the failed revision again.
    Retry,
    /// Do not wait any longer at this step; gates stand.
    SkipStep,
    /// Do not wait for other clusters.
    SkipAfter,
    /// Open a gate that waits for a person; agree to a move.
    Approve,
    /// Turn a Switchover into a Failover: go on without the source.
    Force,
    /// Leave out a step of a Failover.
    Skip,
    /// A person has made sure that the other site writes nothing.
    AssertFenced,
    /// A person accepts that what was not replicated is lost.
    AcceptDataLoss,
}

impl Verb {
    /// Each of them.
    pub const ALL: [Self; 12] = [
        Self::Promote,
        Self::Abort,
        Self::Pause,
        Self::Resume,
        Self::Retry,
        Self::SkipStep,
        Self::SkipAfter,
        Self::Approve,
        Self::Force,
        Self::Skip,
        Self::AssertFenced,
        Self::AcceptDataLoss,
    ];

    /// The word in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Promote => "promote",
            Self::Abort => "abort",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Retry => "retry",
            Self::SkipStep => "skip-step",
            Self::SkipAfter => "skip-after",
            Self::Approve => "approve",
            Self::Force => "force",
            Self::Skip => "skip",
            Self::AssertFenced => "assert-fenced",
            Self::AcceptDataLoss => "accept-data-loss",
        }
    }
}

/// What became of an Action.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActionStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Reconciling and Stalled, by the kstatus rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// What became of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<ActionState>,
    /// Why, in one sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}

/// What became of an Action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ActionState {
    /// It is being carried out.
    Accepted,
    /// It is not carried out.
    Refused,
    /// It has been carried out.
    Done,
}
