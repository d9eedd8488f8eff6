//! What a move remembers of itself: the part of its status that decisions are made of. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::FailoverStatus;
use crate::api::failover::{FenceLevel, MoveAction, Phase};

/// A step of a move, in the order in which they are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Looks at all that standing readiness checks.
    Preflight,
    /// Waits until the groups have moved that move first.
    Turn,
    /// Claims authority, which is a licence to fence.
    Claim,
    /// Brings this site to full size.
    Capacity,
    /// Waits until enough people have approved.
    Approval,
    /// Closes the stores of the source.
    Fence,
    /// Waits until all that was acknowledged is here, or knows what is not.
    CatchUp,
    /// Sends requests through this site's own gateway.
    Try,
    /// Commits: the only point of no return.
    Commit,
    /// Promotes the stores here.
    Promote,
    /// Verifies them by a write, and opens them.
    Open,
    /// Makes the other site the standby.
    Reprotect,
    /// Opens again what was closed, after the claim was given up.
    Undo,
    /// Gives back the size that a rehearsal has asked for.
    Shrink,
}

impl Step {
    /// What it is called.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preflight => "preflight",
            Self::Turn => "turn",
            Self::Claim => "claim",
            Self::Capacity => "capacity",
            Self::Approval => "approval",
            Self::Fence => "fence",
            Self::CatchUp => "catch-up",
            Self::Try => "try",
            Self::Commit => "commit",
            Self::Promote => "promote",
            Self::Open => "open",
            Self::Reprotect => "reprotect",
            Self::Undo => "undo",
            Self::Shrink => "shrink",
        }
    }

    /// What is done in it, until something has come of it.
    pub fn doing(self) -> &'static str {
        match self {
            Self::Preflight => "looks at all that standing readiness checks",
            Self::Turn => "waits for the groups that move first",
            Self::Claim => "claims authority here and at the other sites",
            Self::Capacity => "brings the services of this site to full size",
            Self::Approval => "waits for people to agree",
            Self::Fence => "closes the stores of the source",
            Self::CatchUp => "waits until all that was written at the source is here",
            Self::Try => "sends requests through the gateway of this site",
            Self::Commit => "commits: from then on this site has authority",
            Self::Promote => "promotes the stores here",
            Self::Open => "verifies the stores by a write, and opens them",
            Self::Reprotect => "makes the other site the standby",
            Self::Undo => "opens again what was closed",
            Self::Shrink => "gives back the size of this site",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        let all = [
            Self::Preflight,
            Self::Turn,
            Self::Claim,
            Self::Capacity,
            Self::Approval,
            Self::Fence,
            Self::CatchUp,
            Self::Try,
            Self::Commit,
            Self::Promote,
            Self::Open,
            Self::Reprotect,
            Self::Undo,
            Self::Shrink,
        ];
        all.into_iter().find(|step| step.as_str() == name)
    }
}

/// What is remembered of one store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct StoreJournal {
    /// How it is known that the source accepts no writes.
    pub level: Option<FenceLevel>,
    /// Whether the standby here takes in no more.
    pub frozen: bool,
    /// Whether all that the source acknowledged is here; `None` while that is not known.
    pub complete: Option<bool>,
    /// Whether what is missing is within what the group allows.
    pub lag_allowed: bool,
    /// Whether a rehearsal saw here what had been written at the source.
    pub replayed: bool,
    /// Whether it was promoted here.
    pub promoted: bool,
    /// Whether it was verified and opened here.
    pub opened: bool,
}

impl StoreJournal {
    /// Whether the store of the source was closed.
    pub fn is_closed(&self) -> bool {
        self.level.is_some_and(FenceLevel::is_closed)
    }
}

/// What is remembered of a move.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Journal {
    /// What was ordered, `force` included.
    pub action: MoveAction,
    /// How it ended.
    pub over: Option<Phase>,
    /// Whether it is to be given up.
    pub abort: bool,
    /// Whether this site had authority by it, though perhaps no longer.
    pub committed: bool,
    /// Whether a person has stopped it.
    pub paused: bool,
    /// The ballot of its claim, and the epoch that it follows.
    pub claim: Option<(i64, i64)>,
    /// Its stores.
    pub stores: BTreeMap<String, StoreJournal>,
    /// Whether a person says that the source is fenced, and has said so after the claim.
    pub asserted: bool,
    /// Whether a person accepted that writes are lost.
    pub accepts_loss: bool,
    /// Steps that are skipped.
    pub skipped: BTreeSet<Step>,
    /// How many people have approved it.
    pub approvals: usize,
    /// Whether a rehearsal has this site at full size; false once that was given back.
    pub grown: Option<bool>,
    /// Whether requests through the own gateway were good.
    pub tried: bool,
}

impl Journal {
    /// Of a status. `lag_allowed` tells how old the newest of a store may be, in milliseconds, where the group says so.
    pub fn of(
        ordered: MoveAction,
        status: &FailoverStatus,
        lag_allowed: impl Fn(&str) -> Option<i64>,
    ) -> Self {
        let is = |flag: Option<bool>| flag == Some(true);
        let stores = status.stores.iter().map(|store| {
            let within =
                store.lag_millis.zip(lag_allowed(&store.name)).is_some_and(|(lag, most)| lag <= most);
            let journal = StoreJournal {
                level: store.level,
                frozen: store.frozen.is_some(),
                complete: store.complete,
                lag_allowed: within,
                replayed: store.replayed_millis.is_some(),
                promoted: is(store.promoted),
                opened: is(store.verified) && is(store.opened),
            };
            (store.name.clone(), journal)
        });
        Self {
            action: status.action(ordered),
            over: status.phase.filter(|phase| phase.is_over()),
            abort: is(status.aborted),
            committed: status.committed_at.is_some(),
            paused: is(status.paused),
            claim: status.ballot.zip(status.follows),
            stores: stores.collect(),
            asserted: status.assertion.is_some(),
            accepts_loss: status.accepted_loss.is_some(),
            skipped: status.skipped.iter().filter_map(|name| Step::named(name)).collect(),
            approvals: status.approvals.len(),
            grown: status.grown,
            tried: is(status.tried),
        }
    }

    /// Whether both sites are to answer, and nothing is to be lost.
    pub fn is_planned(&self) -> bool {
        self.action == MoveAction::Switchover
    }

    /// What is remembered of a store.
    pub fn store(&self, name: &str) -> StoreJournal {
        self.stores.get(name).copied().unwrap_or_default()
    }
}
