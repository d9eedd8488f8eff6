//! What a move remembers of itself: the part of its status that decisions are made of. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::api::FailoverStatus;
use crate::api::action::FenceEvidence;
use crate::api::failover::{FenceLevel, MoveAction, NodesRecord, Phase};
use crate::api::step::Step;

/// What is remembered of one store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct StoreJournal {
    /// How it is known that the source accepts no writes.
    pub level: Option<FenceLevel>,
    /// Whether what was closed at the source was a primary, so that it is known up to where it wrote.
    pub sealed: bool,
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
    /// Whether the move goes on without it.
    pub skipped: bool,
}

impl StoreJournal {
    /// Whether the store of the source was closed.
    pub fn is_closed(&self) -> bool {
        self.level.is_some_and(FenceLevel::is_closed)
    }
}

/// What is remembered of the nodes of the source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NodesJournal {
    /// Whether some are to be set to zero: all have been noted with their sizes, and it was waited for long enough.
    pub due: bool,
    /// Whether they could not be scaled when that was tried last, and have not been looked at since.
    pub failed: bool,
    /// Whether this order began to scale them to zero.
    pub ordered: bool,
}

impl NodesJournal {
    fn of(record: &NodesRecord) -> Self {
        Self {
            due: record.due == Some(true) && record.pools.iter().any(|pool| !pool.at_zero),
            failed: record.error.is_some(),
            ordered: record.ordered_at.is_some(),
        }
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
    /// What its cloud says of the nodes of the source, where it was asked.
    pub nodes: NodesJournal,
    /// Whether a person says that the source is fenced, and has said so after the claim.
    pub asserted: bool,
    /// Whether they say so because all nodes there are stopped: then no operator runs there either.
    pub stopped: bool,
    /// Whether a person accepted that writes are lost.
    pub accepts_loss: bool,
    /// Hooks that are over: done, or gone on without.
    pub hooked: BTreeSet<String>,
    /// Steps that are skipped.
    pub skipped: BTreeSet<Step>,
    /// How many people have approved it.
    pub approvals: usize,
    /// Whether a rehearsal has this site at full size; false once that was given back.
    pub grown: Option<bool>,
    /// Whether requests through the own gateway were good.
    pub tried: bool,
    /// Whether it was said, and noted, that this site serves.
    pub served: bool,
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
                sealed: store.sealed.is_some(),
                frozen: store.frozen.is_some(),
                complete: store.complete,
                lag_allowed: within,
                replayed: store.replayed_millis.is_some(),
                promoted: is(store.promoted),
                opened: is(store.opened),
                skipped: is(store.skipped),
            };
            (store.name.clone(), journal)
        });
        let over = status.hooks.iter().filter(|hook| hook.ended_at.is_some());
        Self {
            action: status.action(ordered),
            over: status.phase.filter(|phase| phase.is_over()),
            abort: is(status.aborted),
            committed: status.committed_at.is_some(),
            paused: is(status.paused),
            claim: status.ballot.zip(status.follows),
            stores: stores.collect(),
            nodes: status.nodes.as_ref().map(NodesJournal::of).unwrap_or_default(),
            asserted: status.assertion.is_some(),
            stopped: status
                .assertion
                .as_ref()
                .is_some_and(|said| FenceEvidence::NodesStopped.begins(&said.words)),
            accepts_loss: status.accepted_loss.is_some(),
            hooked: over.map(|hook| hook.name.clone()).collect(),
            skipped: status.skipped.iter().filter_map(|name| Step::named(name)).collect(),
            approvals: status.approvals.len(),
            grown: status.grown,
            tried: is(status.tried),
            served: status.took.is_some(),
        }
    }

    /// The same for a process that leads since then: what a person asserted before does not count for what may have happened
    /// meanwhile.
    pub fn asserted_since(self, status: &FailoverStatus, began: Timestamp) -> Self {
        let asserted = status.assertion.as_ref().is_some_and(|assertion| assertion.at.0 >= began);
        Self { asserted, stopped: asserted && self.stopped, ..self }
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
