//! Failover: the order that this site is to take over a FailoverGroup, and the journal of how it fares.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::conditions::Problem;
use super::failovergroup::MovePlan;
use super::patterns;
use super::record::{LastServed, RecordStatus, WaitRecord};

/// The order that the site where it is applied is to take over a FailoverGroup. It names no direction, so no wrong one can
/// be typed. It cannot be changed: what is to be said in mid-course is an Action.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "banyan.dev",
    version = "v1alpha1",
    kind = "Failover",
    plural = "failovers",
    shortname = "fo",
    category = "banyan",
    namespaced,
    status = "FailoverStatus",
    doc = "The order that the site where it is applied is to take over a FailoverGroup, and the journal of how it fares.",
    printcolumn = r#"{"name":"Group","type":"string","jsonPath":".spec.group"}"#,
    printcolumn = r#"{"name":"Action","type":"string","jsonPath":".spec.action"}"#,
    printcolumn = r#"{"name":"Phase","type":"string","jsonPath":".status.phase"}"#,
    printcolumn = r#"{"name":"Step","type":"string","jsonPath":".status.step"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.reason"}"#,
    printcolumn = r#"{"name":"Says","type":"string","jsonPath":".status.message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self == oldSelf")
    .message("a Failover cannot be changed: say what you want in mid-course by an Action, or delete it and create another"))]
pub struct FailoverSpec {
    /// The FailoverGroup that moves here.
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::LABEL))]
    pub group: String,
    /// What is ordered.
    pub action: MoveAction,
    /// Why, in a few words; it goes into the record.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.trim().size() > 0").message("reason must say why: it goes into the record"))]
    pub reason: String,
    /// The number of the ticket or incident.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub ticket: Option<String>,
}

/// What is ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum MoveAction {
    /// A planned move. Both sites answer; nothing that was acknowledged is lost, and nothing is fenced before all stands.
    #[default]
    Switchover,
    /// An unplanned move. The source is gone, or cannot be trusted.
    Failover,
    /// Says what a move would do, how long each step took last, and what would hold it. Changes nothing.
    Plan,
    /// Brings this site to full size, waits until what is written at the source is here, and tries the application through
    /// this site's own gateway; then all is as before. Nothing is claimed, closed or promoted, and no consumer is started.
    Rehearsal,
}

impl MoveAction {
    /// The word in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Switchover => "Switchover",
            Self::Failover => "Failover",
            Self::Plan => "Plan",
            Self::Rehearsal => "Rehearsal",
        }
    }

    /// Whether the group is to move.
    pub fn moves(self) -> bool {
        matches!(self, Self::Switchover | Self::Failover)
    }
}

/// How the order fares. It is the journal as well: whoever goes on reads it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailoverStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready (it is done), Reconciling and Stalled (a person must act), by the kstatus rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// What is wrong, worst first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub problems: Vec<Problem>,
    /// How far it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// The step that is being taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub step: Option<String>,
    /// What is being done, or waited for, in one sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// The command to type next; absent where nothing is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub next: Option<String>,
    /// What it waits for, in one word: the name of its page in `docs/runbooks`. Absent where it does not wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub reason: Option<String>,
    /// Whether a Switchover was turned into a Failover.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forced: Option<bool>,
    /// Whether a person has stopped it before its next step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// Whether it is to be given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aborted: Option<bool>,
    /// Who ordered it, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub by: Option<String>,
    /// The site that it moves to: the one where it was applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub to: Option<String>,
    /// The sites that had authority when it began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 63)))]
    pub from: Vec<String>,
    /// Digest of the group's spec when it began: a change holds it before the commit, and changes nothing after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub digest: Option<String>,
    /// The ballot of its claim. Once it is committed, it is the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub ballot: Option<i64>,
    /// The epoch that it follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub follows: Option<i64>,
    /// Its steps, in the order in which they were begun.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub steps: Vec<StepRecord>,
    /// How far each store is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub stores: Vec<StoreRecord>,
    /// The hooks of the group that it has called.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub hooks: Vec<HookRecord>,
    /// What the cloud says of the nodes of the source, where `spec.fence` of the group has it asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodesRecord>,
    /// Since when there is no way back but another order at the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub committed_at: Option<Time>,
    /// Who said that the source is fenced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assertion: Option<Statement>,
    /// Who accepted that writes are lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted_loss: Option<Statement>,
    /// Steps that a person has skipped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 63)))]
    pub skipped: Vec<String>,
    /// Who has approved it, beside whoever ordered it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub approvals: Vec<Statement>,
    /// From when on it is late: the order's time and the group's deadline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late_at: Option<Time>,
    /// Whether a Rehearsal has this site at full size; false once it was given back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grown: Option<bool>,
    /// What a Plan found: the steps of a move to this site, and what would hold them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<MovePlan>,
    /// Whether requests through this site's own gateway were good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tried: Option<bool>,
    /// Actions that were carried out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 253)))]
    pub heard: Vec<String>,
    /// What it took, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took: Option<Took>,
    /// What it has waited for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 48), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["reason"]))]
    pub waits: Vec<WaitRecord>,
    /// When the source was last known to serve: as it was known when this began, and of a Failover until the commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_served: Option<LastServed>,
    /// What of this move has gone into the record of its group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<RecordStatus>,
}

impl FailoverStatus {
    /// What is carried out of what was ordered: a Switchover that was forced is a Failover.
    pub fn action(&self, ordered: MoveAction) -> MoveAction {
        if self.forced == Some(true) { MoveAction::Failover } else { ordered }
    }
}

/// How far an order is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// It looks whether all stands, and prepares this site.
    Preparing,
    /// The source is being closed. Until the commit, `abort` opens it again.
    Fencing,
    /// It is committed: this site has authority, and its stores are being opened.
    Opening,
    /// It is given up, and what it had closed is being opened again.
    Undoing,
    /// This site serves. The other one is being made its standby.
    Reprotecting,
    /// It waits for a person.
    Waiting,
    /// It is done.
    Done,
    /// It was given up, and what it had closed is open again.
    Aborted,
    /// Another order was faster.
    Superseded,
    /// It was refused.
    Refused,
}

impl Phase {
    /// The word in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preparing => "Preparing",
            Self::Fencing => "Fencing",
            Self::Opening => "Opening",
            Self::Undoing => "Undoing",
            Self::Reprotecting => "Reprotecting",
            Self::Waiting => "Waiting",
            Self::Done => "Done",
            Self::Aborted => "Aborted",
            Self::Superseded => "Superseded",
            Self::Refused => "Refused",
        }
    }

    /// Whether nothing more is done.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Aborted | Self::Superseded | Self::Refused)
    }
}

/// One step, as it was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepRecord {
    /// What it is called.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// What came of it, or what it waits for.
    #[schemars(length(max = 1024))]
    pub message: String,
    /// When it was begun.
    pub started_at: Time,
    /// When it was done; absent while it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Time>,
    /// How long it took, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub millis: Option<i64>,
}

/// How far one store is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoreRecord {
    /// The store.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// How it is known that the source accepts no writes; absent while it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<FenceLevel>,
    /// What speaks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub evidence: Option<String>,
    /// Where the source's log ended when it was closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub sealed: Option<String>,
    /// The demotion token that a Cluster of CloudNativePG left when it was closed: this site's is promoted with it, once all that
    /// was written before is here.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub token: Option<String>,
    /// Where this site's log ended when it took in no more; `unknown` where the store does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub frozen: Option<String>,
    /// Whether this site has all that the source acknowledged; absent while that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub complete: Option<bool>,
    /// How old the newest of what is here may be, in milliseconds, where it is not complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub lag_millis: Option<i64>,
    /// How long it took in a Rehearsal until what had been written at the source was here, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub replayed_millis: Option<i64>,
    /// Whether it was promoted here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub promoted: Option<bool>,
    /// Whether a write was made and read back here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<bool>,
    /// Whether it was opened here for applications.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opened: Option<bool>,
    /// Whether a person has had the move go on without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<bool>,
    /// The last error.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub error: Option<String>,
}

/// A hook, as it was called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HookRecord {
    /// The hook.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// When it was called first.
    pub started_at: Time,
    /// Since when the move waits for it no longer; absent while it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Time>,
    /// Whether it was not done within its deadline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<bool>,
    /// What it answered last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}

/// What the cloud says of the nodes of the source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodesRecord {
    /// The site.
    #[schemars(length(max = 63))]
    pub site: String,
    /// Its cluster, in the words of its cloud.
    #[schemars(length(max = 512))]
    pub cluster: String,
    /// Its node groups or node pools, each as it was found first: before this order changed anything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub pools: Vec<PoolRecord>,
    /// What came of asking last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// Whether they are to be scaled to zero: for half a minute the databases could not be closed otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due: Option<bool>,
    /// When this order began to scale them to zero; absent where it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ordered_at: Option<Time>,
    /// Why they could not be scaled last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub error: Option<String>,
}

/// A node group or node pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolRecord {
    /// Its name.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// How many nodes it was to have, when it was found first.
    #[schemars(range(min = 0))]
    pub nodes: i64,
    /// The least that it was to have.
    #[schemars(range(min = 0))]
    pub least: i64,
    /// The most that it was to have.
    #[schemars(range(min = 0))]
    pub most: i64,
    /// Whether its cloud scaled it by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scales: Option<bool>,
    /// Whether it was set to zero, and to stay there, when it was looked at last.
    pub at_zero: bool,
    /// The command that gives it back the size that it had; absent where that was zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub restore: Option<String>,
}

/// How it is known that the source accepts no writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum FenceLevel {
    /// Its cloud confirms that no node of its cluster is left, and that none comes back by itself.
    Stopped,
    /// It was closed over its own wire, and that was read back.
    StoreAcknowledged,
    /// The operator of the source closed it on reading the claim.
    Acknowledged,
    /// No commit is acknowledged there that is not here.
    Synchronous,
    /// A person says so.
    Asserted,
}

impl FenceLevel {
    /// The word in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "Stopped",
            Self::StoreAcknowledged => "StoreAcknowledged",
            Self::Acknowledged => "Acknowledged",
            Self::Synchronous => "Synchronous",
            Self::Asserted => "Asserted",
        }
    }

    /// Whether the store itself was closed, by whomever: only then is it known what it had acknowledged.
    pub fn is_closed(self) -> bool {
        matches!(self, Self::StoreAcknowledged | Self::Acknowledged)
    }
}

/// What a person has stated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Statement {
    /// Who.
    #[schemars(length(max = 253))]
    pub by: String,
    /// What.
    #[schemars(length(max = 1024))]
    pub words: String,
    /// When.
    pub at: Time,
}

/// What a move took, in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Took {
    /// From the order until all stores were open here: the recovery time, the time of deciding included.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub until_open: Option<i64>,
    /// From the first store that was closed until all were open here.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub without_writes: Option<i64>,
    /// From when the source was last known to serve until all stores were open here. Absent for a Switchover, whose source
    /// serves until it is closed, and where nothing was known of the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub since_outage: Option<i64>,
    /// Of the time since the order, how long it waited for a person; to the second.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub waited_for_people: Option<i64>,
}
