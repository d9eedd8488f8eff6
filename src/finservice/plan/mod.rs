//! What is to be done about a FinService, and why: [`Plan`], the one thing that [`decide`] returns, and what it is made
//! of. Pure.
//!
//! | file | what it decides |
//! |---|---|
//! | [`mod@decide`] | the whole, in its order |
//! | [`asked_for`] | which revision the spec asks for, and what that waits for |
//! | [`planning`] | what one plan is made from, worked out once |
//! | [`placement`] | whether the service runs here, and what is different here |
//! | [`revision`] | what the spec asks for, as the input of a revision and its hash |
//! | [`revisions`] | which revisions there are, which one serves, and how many pods each is to have |
//! | [`rollout_inputs`] | what a decision about its rollout is made from |
//! | [`traffic_split`] | who gets which share of the requests |
//! | [`way_back`] | what is still done while all else is stopped |
//! | [`what_to_measure`] | what is counted for its rollout |
//! | [`growth`] | the writes that a site which takes over begins with |
//! | [`stages`] | the writes, in their order |
//! | [`compare`] | what is wanted against what is there |
//! | [`secrets`] | digests of the Secrets that pods have read |
//! | [`child_digests`] | what stands on record of children that a start need not read |
//! | [`warnings`] | what is dangerous, or does less than it seems |
//! | [`claim_problems`], [`gateway_problems`], [`pod_problems`], [`topic_problems`] | what owners of hosts, gateways, pods and owners of topics have against it |

pub(crate) mod asked_for;
pub(crate) mod child_digests;
pub(crate) mod claim_problems;
pub(crate) mod compare;
pub mod decide;
pub(crate) mod gateway_problems;
pub(crate) mod growth;
pub(crate) mod old_backend;
pub(crate) mod placement;
pub(crate) mod planning;
pub(crate) mod pod_problems;
pub(crate) mod revision;
pub(crate) mod revisions;
pub(crate) mod rollout_inputs;
pub(crate) mod secrets;
pub(crate) mod stages;
pub(crate) mod topic_problems;
pub(crate) mod traffic_split;
pub(crate) mod warnings;
mod way_back;
pub(crate) mod what_to_measure;

use crate::api::notice::Notice;
use jiff::Timestamp;

use super::children::{Child, Kind};
use super::index::uid::Uid;
use crate::api::Problem;
use crate::canary::facts::Decision;
use crate::finservice::plan::rollout_inputs::Gathered;
use crate::judge::hub::Follow;

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Apply an object.
    Apply {
        /// The object.
        child: Child,
        /// Digest of it.
        digest: u64,
        /// What stands there now.
        over: Over,
    },
    /// Make a copy of a ConfigMap for a revision, from what its ControllerRevision has kept.
    CopyConfigMap {
        /// The copy, without its contents.
        child: Child,
        /// Hash of the revision.
        revision: String,
        /// Name of the ConfigMap that it is a copy of.
        of: String,
        /// Digest of the copy without its contents, which nobody can change.
        digest: u64,
        /// What stands there now.
        over: Over,
    },
    /// Make a ControllerRevision, with the contents of the ConfigMaps that it reads.
    Record {
        /// The object, without these contents.
        child: Child,
        /// Digests of the contents that were decided upon, by name.
        config_maps: Vec<(String, String)>,
    },
    /// Note on a ControllerRevision its place in the order of use, and since when it is retired.
    Mark {
        /// Name of the ControllerRevision.
        name: String,
        /// Its number.
        number: i64,
        /// Since when it has no traffic.
        retired_at: Option<Timestamp>,
    },
    /// Scale a Deployment.
    Scale {
        /// Name of the Deployment.
        name: String,
        /// Pods.
        replicas: i32,
    },
    /// Note on a handed-over Deployment that its traffic has gone, and later scale it to zero.
    HandOver {
        /// Name of the Deployment.
        name: String,
        /// Since when it has no traffic.
        retired_at: Timestamp,
        /// Whether it is to be scaled to zero now.
        to_zero: bool,
    },
    /// Delete a child of ours.
    Delete {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: String,
        /// Its UID: another object of that name is left alone.
        uid: Uid,
    },
}

/// What stands where an object is to be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Nothing, as far as is known. Applied without force: what appeared meanwhile is not taken.
    Nothing,
    /// An older state of ours.
    Ours,
    /// Ours, but changed by somebody else: a repair.
    Drifted,
    /// An object that its owner handed over.
    HandedOver,
}

impl Over {
    /// What applying is called, for people.
    fn verb(self) -> &'static str {
        match self {
            Self::Nothing => "make",
            Self::Ours => "change",
            Self::Drifted => "restore",
            Self::HandedOver => "take over",
        }
    }
}

impl Op {
    /// The write, for people.
    pub fn words(&self) -> String {
        match self {
            Self::Apply { child, over, .. } => {
                format!("{} {} {}", over.verb(), child.kind.name(), child.name)
            }
            Self::CopyConfigMap { child, of, over, .. } => {
                format!("{} ConfigMap {}, a copy of {of}", over.verb(), child.name)
            }
            Self::Record { child, .. } => format!("make {} {}", child.kind.name(), child.name),
            Self::Mark { name, number, retired_at: None } => format!("mark {name} as number {number}"),
            Self::Mark { name, .. } => format!("mark {name} as retired"),
            Self::Scale { name, replicas } => format!("scale Deployment {name} to {replicas}"),
            Self::HandOver { name, to_zero: true, .. } => format!("scale Deployment {name} to 0"),
            Self::HandOver { name, .. } => format!("note that Deployment {name} has no traffic any more"),
            Self::Delete { kind, name, .. } => format!("delete {} {name}", kind.name()),
        }
    }
}

/// Where the FinService stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Writes are stopped by an annotation.
    Paused,
    /// It is not to run on this site.
    NotPlaced,
    /// It must not run on this site, or cannot begin, until a person acts.
    Blocked,
    /// Its first revision starts.
    #[default]
    Starting,
    /// A new revision gets ready.
    RollingOut,
    /// It serves as asked.
    Serving,
    /// It serves, but with fewer pods than asked.
    Degraded,
}

/// Writes that may go at once; the next stage begins when all have succeeded.
pub type Stage = Vec<Op>;

/// What is to be done about a FinService, and why.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Writes of weights: they go before everything else, and wait for nothing.
    pub weights: Stage,
    /// All other writes, in order.
    pub stages: Vec<Stage>,
    /// What is wrong, worst first.
    pub problems: Vec<Problem>,
    /// What it waits for, and why things are done.
    pub reasons: Vec<String>,
    /// What is worth an Event.
    pub notices: Vec<Notice>,
    /// When to look again although nothing has changed.
    pub again_at: Option<Timestamp>,
    /// Where it stands.
    pub phase: Phase,
    /// Hash of the revision that serves.
    pub stable: Option<String>,
    /// Hash of the revision that is on its way in.
    pub next: Option<String>,
    /// The release that has the traffic.
    pub release: Option<String>,
    /// Pods asked for and Ready.
    pub pods: Option<(i32, i32)>,
    /// Its rollout, if it has a CanaryRollout.
    pub rollout: Option<Box<PlannedRollout>>,
}

/// A rollout in a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedRollout {
    /// What was decided.
    pub decision: Decision,
    /// What it was decided from.
    pub gathered: Gathered,
    /// What is to be counted, and who is to be asked.
    pub follow: Option<Follow>,
}

impl Plan {
    /// All writes, in order.
    pub fn ops(&self) -> impl Iterator<Item = &Op> {
        self.in_order().flatten()
    }

    /// All stages in the order in which they go, the weights first.
    pub fn in_order(&self) -> impl Iterator<Item = &Stage> {
        std::iter::once(&self.weights).chain(&self.stages).filter(|stage| !stage.is_empty())
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.ops().next().is_none()
    }

    /// Looks again at that time, or earlier if it has been asked for.
    pub fn look_again(&mut self, at: Timestamp) {
        self.again_at = Some(self.again_at.map_or(at, |before| before.min(at)));
    }
}
