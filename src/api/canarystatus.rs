//! The status of a CanaryRollout: what people read, and what the operator remembers.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The canary's weight.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Weight {
    /// What was decided, in percent.
    pub asked: i32,
    /// What stands in the route, in percent; without a route, the canary's share of the Ready pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed: Option<i32>,
    /// Whether the share is only as close as numbers of pods allow.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub approximate: bool,
}

/// The evidence of one metric. Rates are in percent of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetricStatus {
    /// The metric: `error-rate`, `client-errors`, `latency`, or a custom one's name.
    pub name: String,
    /// Pass, Fail, Insufficient or ProviderDown.
    pub verdict: String,
    /// Why.
    pub message: String,
    /// Requests that the canary answered in this step.
    pub canary_requests: i64,
    /// Requests that stable answered in this step.
    pub stable_requests: i64,
    /// The increase over stable in this step, and the interval around it, in percentage points.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub increase: Option<String>,
    /// Evidence that the canary is worse, of how much is needed.
    pub evidence: String,
    /// Requests of both that a verdict still needs, if what was seen goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub needed_requests: Option<i64>,
    /// When they will have come at the rate of this step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub needed_until: Option<Time>,
}

/// How the errors of the revision that serves scatter, as one metric shows them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Scatter {
    /// The metric.
    #[schemars(length(max = 253))]
    pub metric: String,
    /// What was measured.
    #[schemars(length(max = 1024))]
    pub state: String,
}

/// A rollout that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Past {
    /// The release.
    pub release: String,
    /// Hash of the revision.
    pub revision: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Why.
    #[schemars(length(max = 512))]
    pub message: String,
    /// When the template changed.
    pub started_at: Time,
    /// When it ended.
    pub ended_at: Time,
}

/// How a rollout ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Outcome {
    /// The revision serves.
    Promoted,
    /// It was taken back by the evidence, its health or the policy.
    RolledBack,
    /// A person took it back.
    Aborted,
    /// Another template came before the end, or stable's own.
    Superseded,
}

/// What the operator must remember of a CanaryRollout. Decisions are made from it and from what is seen, so
/// it says all that cannot be seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// UID of the FinService that all this is about: one that was made again under its name is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub service: Option<String>,
    /// Number of the last attempt; each start of a rollout is one, also of the same template.
    #[serde(default)]
    pub attempt: i64,
    /// The rollout that is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// The old revision that is kept warm after a promotion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warm: Option<Warm>,
    /// Revisions that failed, the newest first: they are not tried again without a command.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub failed: Vec<Failed>,
    /// Actions that were carried out and may not say so themselves yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub heard: Vec<String>,
    /// When an abort was answered with a warning that nobody would answer afterwards: the next one is carried out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warned_at: Option<Time>,
    /// Whether the legacy backend has given up everything.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub legacy_done: bool,
}

/// Steps that were chosen when a rollout began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ladder {
    /// The weights, in percent.
    #[schemars(length(max = 8))]
    pub weights: Vec<i32>,
    /// Requests a minute that stable answered then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_a_minute: Option<i64>,
    /// How many of a million of them were bad.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bad_of_a_million: Option<i64>,
    /// How long a release that is as good as stable takes with them, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<i64>,
}

/// A rollout that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// Hash of the revision that is on its way in.
    pub canary: String,
    /// Hash of the revision that serves; none while the legacy backend does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stable: Option<String>,
    /// The release.
    #[schemars(length(max = 512))]
    pub release: String,
    /// When the template changed.
    pub started_at: Time,
    /// The weight that it has, in percent.
    #[serde(default)]
    pub weight: i32,
    /// Since when it has that weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entered_at: Option<Time>,
    /// The steps that were chosen for it, where the policy leaves them out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ladder: Option<Ladder>,
    /// The weight at which the evidence last said Pass.
    #[serde(default)]
    pub passed: i32,
    /// The weight that this Pass lets it go on to: a Pass before a smaller one has refuted less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passed_for: Option<i32>,
    /// Since when the source of the evidence has been silent at this weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silent_since: Option<Time>,
    /// How long it was silent at this weight before that, in seconds.
    #[serde(default)]
    pub silent_seconds: i64,
    /// The weight for which pods are being made.
    #[serde(default)]
    pub preparing: i32,
    /// Since when pods are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unready_since: Option<Time>,
    /// Since when what follows the route has read that it names the canary, be it at zero; kept before the first weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routed_since: Option<Time>,
    /// Since when the preview stands, with blueGreen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previewed_since: Option<Time>,
    /// Who paused it, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub paused: Option<String>,
    /// Whether a person said to go to the end at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub promote: bool,
    /// The weight whose hold and verdict a person said to skip.
    #[serde(default)]
    pub skip: i32,
    /// Whether a person said not to wait for other clusters.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skip_after: bool,
    /// Who asked for the revision, as admission wrote it into the FinService when the rollout began.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub made_by: Option<String>,
    /// Why nobody is on record for the revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub unsigned: Option<String>,
    /// The gates of the policy as they were last seen, by what they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub gates_seen: Vec<String>,
    /// Who changed them under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub gates_by: Option<String>,
    /// The weights before which a person's approval was asked for under way. These stand, whatever becomes of the policy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub approvals: Vec<i32>,
    /// How often no pod of it was Ready while it had weight, and stable's were.
    #[serde(default)]
    pub lost: i32,
    /// The revision that was kept warm when this rollout began, and until when it would have been: to go back there takes
    /// no steps while it has pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub was_warm: Option<String>,
    /// Until when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub was_warm_until: Option<Time>,
    /// Gates that have been reached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub gates: Vec<GateMemory>,
    /// Restarts of the canary's and of stable's containers before the rollout.
    #[serde(default)]
    pub restarts_before: RestartCounts,
    /// The weight that it had when nobody answered in stable any more and it took everything: it goes back there when
    /// somebody does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alone_from: Option<i32>,
    /// The step that was taken back since stable failed as well under it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stepped_back: Option<SteppedBack>,
    /// The wait that was announced last, so that it is announced once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub announced: Option<Announced>,
}

impl Rollout {
    /// One that has just begun, without weight, of which nothing has happened yet.
    pub fn begun(canary: String, stable: Option<String>, release: String, started_at: Time) -> Self {
        Self {
            canary,
            stable,
            release,
            started_at,
            weight: 0,
            entered_at: None,
            ladder: None,
            passed: 0,
            passed_for: None,
            silent_since: None,
            silent_seconds: 0,
            preparing: 0,
            unready_since: None,
            routed_since: None,
            previewed_since: None,
            paused: None,
            promote: false,
            skip: 0,
            skip_after: false,
            made_by: None,
            unsigned: None,
            gates_seen: Vec::new(),
            gates_by: None,
            approvals: Vec::new(),
            lost: 0,
            was_warm: None,
            was_warm_until: None,
            gates: Vec::new(),
            restarts_before: RestartCounts::default(),
            alone_from: None,
            stepped_back: None,
            announced: None,
        }
    }
}

/// A step that was taken back, since stable began to fail as well under it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SteppedBack {
    /// The weight that the canary had, in percent.
    pub from: i32,
    /// When it was taken back.
    pub at: Time,
    /// When stable was seen not to fail any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Time>,
    /// How often that has happened in this rollout.
    pub times: i32,
    /// Whether a person is to say how it goes on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asks: bool,
    /// Whether it stands still: stable has only just begun to fail, which may be a moment.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspected: bool,
}

/// A wait that was announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Announced {
    /// What is waited for.
    pub r#for: Wait,
    /// At which weight; at a gate, the one that it stands before.
    pub weight: i32,
}

/// What a rollout waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Wait {
    /// Evidence, or pods.
    Hold,
    /// A gate.
    Gate,
    /// Clusters that go first.
    OtherClusters,
    /// A person, since a cluster that goes first took the release back.
    TakenBackElsewhere,
}

/// Restarts of containers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestartCounts {
    /// The canary's.
    pub canary: i64,
    /// Stable's.
    pub stable: i64,
}

/// A gate that has been reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GateMemory {
    /// What it is: its kind, the weight that it stands before, and what it asks. Its place in the list may change.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub what: String,
    /// When it was reached.
    pub reached_at: Time,
    /// Since when its query has been true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub true_since: Option<Time>,
    /// Since when nobody answers; that time does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unanswered_since: Option<Time>,
    /// Whether a person opened it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub open: bool,
}

/// The old revision that is kept warm after a promotion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Warm {
    /// Hash of the old revision.
    pub old: String,
    /// Hash of the one that was promoted.
    pub new: String,
    /// Release of the one that was promoted.
    #[schemars(length(max = 512))]
    pub release: String,
    /// When its rollout began.
    pub started_at: Time,
    /// When it was promoted.
    pub promoted_at: Time,
    /// Until when the old one keeps its pods.
    pub until: Time,
    /// Restarts of containers at the promotion.
    #[serde(default)]
    pub restarts_before: RestartCounts,
}

/// A revision that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Failed {
    /// Its hash.
    pub revision: String,
    /// Its release.
    #[schemars(length(max = 512))]
    pub release: String,
    /// The attempt in which it failed.
    #[serde(default)]
    pub attempt: i64,
    /// The weight that it had.
    pub weight: i32,
    /// Why.
    #[schemars(length(max = 512))]
    pub message: String,
    /// Whether a person took it back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub aborted: bool,
    /// Who asked for it, as when it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub made_by: Option<String>,
    /// Why nobody is on record for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub unsigned: Option<String>,
    /// When.
    pub at: Time,
}
