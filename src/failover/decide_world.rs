//! Two sites of which one is to take over, for scenarios of what a move does next.

use std::fmt::Write;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::super::super::journal::{NodesJournal, StoreJournal};
use super::super::super::view::Held;
use super::super::*;
use crate::api::authority::Claim;
use crate::api::failover::MoveAction;
use crate::api::failovergroup::{Approval, NodePools};
use crate::api::hook::Hook;
use crate::authority::claims;
use crate::authority::known::{Decided, Knowledge};

/// Two sites, of which `b` is to take over; acts are carried out on it at once.
#[derive(Clone)]
pub struct World {
    pub known: Knowledge,
    pub silent: Vec<String>,
    pub changed: bool,
    pub preflight: Vec<Held>,
    pub capacity: Vec<Held>,
    pub turn: Option<Held>,
    pub approval: Option<Approval>,
    pub hooks: Vec<Hook>,
    pub forbidden: Option<Held>,
    pub protected: bool,
    pub node_pools: Option<NodePools>,
    pub journal: Journal,
    pub fences: bool,
    /// Whether the other server is the primary.
    pub leads_there: bool,
    pub catches_up: bool,
}

pub fn held(by: &str, epoch: i64) -> AuthoritySpec {
    AuthoritySpec { epoch, holders: vec![by.to_owned()], promoted: Some(epoch), ..AuthoritySpec::default() }
}

impl World {
    pub fn new(action: MoveAction) -> Self {
        let row = Some(16);
        let standby = StoreShows { open: true, opened_at: row, ballot: row, ..StoreShows::default() };
        Self {
            known: Knowledge {
                own: Some(AuthoritySpec { promoted: None, ..held("a", 16) }),
                peers: vec![("a".to_owned(), Known::Read(Some(held("a", 16))))],
                witness: None,
                stores: vec![("db".to_owned(), Known::Read(standby))],
                ..Knowledge::default()
            },
            silent: Vec::new(),
            changed: false,
            preflight: Vec::new(),
            capacity: Vec::new(),
            turn: None,
            approval: None,
            hooks: Vec::new(),
            forbidden: None,
            protected: true,
            node_pools: None,
            journal: Journal { action, ..Journal::default() },
            fences: true,
            leads_there: true,
            catches_up: true,
        }
    }

    pub fn next(&self) -> Next {
        let view = View {
            silent: &self.silent,
            changed: self.changed,
            preflight: &self.preflight,
            capacity: &self.capacity,
            turn: self.turn.as_ref(),
            approval: self.approval.as_ref(),
            hooks: &self.hooks,
            forbidden: self.forbidden.as_ref(),
            protected: self.protected,
            node_pools: self.node_pools,
            ..View::clear("b", 1, "move", &self.known)
        };
        decide(&view, &self.journal)
    }

    pub fn own(&self) -> AuthoritySpec {
        self.known.own.clone().unwrap()
    }

    pub fn there(&mut self) -> &mut AuthoritySpec {
        match &mut self.known.peers[0].1 {
            Known::Read(Some(spec)) => spec,
            _ => panic!("the peer is not read"),
        }
    }

    pub fn store(&mut self) -> &mut StoreJournal {
        self.journal.stores.entry("db".to_owned()).or_default()
    }

    /// Carries an act out; `false` if it does not succeed.
    pub fn act(&mut self, act: &Act) -> bool {
        let (n, own) = (self.journal.claim.map_or(0, |claim| claim.0), self.own());
        let since = || Time(jiff::Timestamp::UNIX_EPOCH);
        match act {
            Act::Claim { ballot, follows, fence, by_witness } => {
                if self.journal.claim.is_some() {
                    *self.store() = StoreJournal::default();
                    (self.journal.asserted, self.journal.stopped) = (false, false);
                }
                self.journal.claim = Some((*ballot, *follows));
                let claim = Claim {
                    site: "b".to_owned(),
                    ballot: *ballot,
                    follows: *follows,
                    fence: fence.then_some(true),
                    by_witness: by_witness.then_some(true),
                    ..Claim::default()
                };
                self.known.own = Some(claims::open(&own, claim).unwrap());
            }
            Act::Tell(_) => {
                let claim = slot(&own, "b").unwrap().clone();
                let there = claims::receive(self.there(), &claim).unwrap();
                *self.there() = there;
            }
            Act::Press => self.known.own = Some(claims::press(&own, "b", n).unwrap()),
            Act::Fence(_) if !self.fences => return false,
            Act::Fence(_) => {
                let (leads_there, leads) = (self.leads_there, is_primary_here(&self.known, "db"));
                let store = self.store();
                (store.level, store.sealed) = (Some(FenceLevel::StoreAcknowledged), leads_there);
                if !leads_there && leads {
                    store.complete = Some(true);
                }
            }
            // What the cloud says is set by whoever tells the story.
            Act::Confirm { .. } => return false,
            Act::Stop => {
                self.journal.nodes = NodesJournal { ordered: true, ..NodesJournal::default() };
                return false;
            }
            Act::CatchUp(_) if self.catches_up => self.store().complete = Some(true),
            Act::CatchUp(_) | Act::Freeze(_) => self.store().frozen = true,
            Act::Call(hook) if hook == "fails" => return false,
            Act::Call(hook) => drop(self.journal.hooked.insert(hook.clone())),
            Act::Try => self.journal.tried = true,
            Act::Mark => self.known.own = Some(claims::mark(&own, "b", n).unwrap()),
            Act::Decide => {
                let Some(Known::Read(chain)) = &mut self.known.witness else { return false };
                chain.push(Decided { after: 16, epoch: n, holders: vec!["b".to_owned()] });
                self.known.own = Some(claims::decided(&own, n, vec!["b".to_owned()], since()));
            }
            Act::Commit => {
                self.known.own = Some(claims::commit(&own, "b", n, vec!["b".to_owned()], since()).unwrap());
            }
            Act::Promote(_) => self.store().promoted = true,
            Act::Open(_) => self.store().opened = true,
            Act::Serve => {
                self.known.own = Some(claims::promoted(&own, n));
                self.journal.served = true;
            }
            Act::Withdraw => self.known.own = Some(claims::withdraw(&own, "b", n).unwrap()),
            Act::Lift(_) => *self.store() = StoreJournal::default(),
            Act::Grow | Act::Replay(_) | Act::Shrink => panic!("it is no rehearsal"),
        }
        true
    }

    /// Goes on until it waits or is over, and says what it did.
    pub fn goes(&mut self) -> String {
        let mut said = String::new();
        for _ in 0..50 {
            match self.next() {
                Next::Do(step, act) => {
                    let done = self.act(&act);
                    let name = format!("{act:?}");
                    let name = name.split([' ', '(', '{']).next().unwrap_or_default();
                    writeln!(said, "{} {name}{}", step.as_str(), if done { "" } else { ": not done" })
                        .unwrap();
                    if !done {
                        return said;
                    }
                }
                Next::Wait(step, wait) => {
                    let next = wait.next.map(|next| format!(" -> {next}")).unwrap_or_default();
                    writeln!(said, "{} waits: {}{next}", step.as_str(), wait.reason).unwrap();
                    return said;
                }
                Next::End(phase, _) => {
                    writeln!(said, "{}", phase.as_str()).unwrap();
                    return said;
                }
            }
        }
        panic!("it does not end: {said}");
    }
}
