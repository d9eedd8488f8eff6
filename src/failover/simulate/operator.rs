//! One turn of the operator of a site: what it reads, believes, owes and orders.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::carry::Hand;
use super::time::{SILENCE, TICKS, at};
use super::world::{NO_ANSWER, Ordered, Site, World};
use crate::api::authority::{AuthoritySpec, AuthorityState, AuthorityStatus};
use crate::api::failover::{MoveAction, Phase};
use crate::api::failovergroup::FenceSpec;
use crate::api::step::Step;
use crate::api::units::duration;
use crate::authority::abandoned::ABANDONED_AFTER;
use crate::authority::claims::{orphan, withdraw};
use crate::authority::decide::{Decision, decide as decide_authority};
use crate::authority::duty::{Duty, duties};
use crate::authority::known::{Decided, Knowledge, Known, StoreShows};
use crate::failover::decide::decide;
use crate::failover::hear::with_position;
use crate::failover::journal::Journal;
use crate::failover::outcome::Done;
use crate::failover::status;
use crate::failover::view::{Held, Next, View, Wait};
use crate::stores::Fence;

/// How soon an order that waits is looked at again, in ticks.
const LOOK_AGAIN: u64 = 2 * TICKS;

impl World {
    /// One turn of the operator of a site.
    pub(super) fn turn(&mut self, site: usize) {
        if !self.acts(site) || self.sites[site].mind.busy > self.now {
            return;
        }
        let before = self.sites[site].mind.read.clone();
        self.read(site);
        let Site { name, held, mind, .. } = &mut self.sites[site];
        mind.watched.look(name, held.authority.as_ref(), at(self.now));
        let known = self.knowledge(site);
        let decision = decide_authority(&self.sites[site].name, &self.spec, &known, at(self.now));
        if let Some(asked) = &decision.ask_witness {
            if self.witness {
                self.create(asked.clone());
            }
        } else if let Some(next) = &decision.write {
            self.sites[site].held.authority = Some(next.clone());
        }
        if decision.write.is_some() || before != self.sites[site].mind.read {
            self.sites[site].mind.rests = 0;
        }
        self.stand(site, &decision);
        self.owed(site, decision.state);
        self.give_up(site);
        if self.sites[site].mind.rests <= self.now {
            self.go(site);
        }
    }

    fn read(&mut self, site: usize) {
        for other in (0..self.sites.len()).filter(|other| *other != site) {
            let answers = self.asks(site, other);
            let shows = self.sites[other].held.authority.clone();
            let now = self.now;
            let mind = &mut self.sites[site].mind;
            if answers {
                mind.read.insert(other, shows);
                mind.silent.remove(&other);
            } else {
                mind.silent.entry(other).or_insert(now + SILENCE);
            }
        }
    }

    /// The claim that closes a site and whose own site is gone.
    fn abandoned(&self, site: usize) -> Option<i64> {
        let mind = &self.sites[site].mind;
        let silent = |name: &str| mind.silent.get(&self.place(name)).map(|known| at(known - SILENCE));
        mind.watched.abandoned(silent, ABANDONED_AFTER, at(self.now))
    }

    /// All that the operator of a site knows.
    pub(super) fn knowledge(&self, site: usize) -> Knowledge {
        let here = &self.sites[site];
        let not_read = || Known::NotYet("it has not been read since this operator started".to_owned());
        let peers = self.sites.iter().enumerate().filter(|(other, _)| *other != site);
        let peers = peers.map(|(other, peer)| {
            let shown = here.mind.read.get(&other).map_or_else(not_read, |read| Known::Read(read.clone()));
            (peer.name.clone(), shown)
        });
        let stores = self.story.group.stores.iter().enumerate().map(|(store, name)| {
            let shown = match self.wires(site, site) {
                true => Known::Read(here.servers[store].shows()),
                false => Known::NotYet(NO_ANSWER.to_owned()),
            };
            (name.clone(), shown)
        });
        let witness = self.story.group.witness.then(|| match self.witness {
            true => Known::Read(self.chain.clone()),
            false => Known::NotYet(NO_ANSWER.to_owned()),
        });
        Knowledge {
            own: here.held.authority.clone(),
            peers: peers.collect(),
            witness,
            stores: stores.collect(),
            record: None,
            remembered: here.held.remembered.clone(),
            differs: None,
            abandoned: self.abandoned(site),
            ordered: here.order.as_ref().is_some_and(|order| !order.status.phase.is_some_and(Phase::is_over)),
        }
    }

    /// Has the witness decide; what stands there afterwards.
    pub(super) fn create(&mut self, wanted: Decided) -> Decided {
        if let Some(stands) = self.chain.iter().find(|one| one.after == wanted.after) {
            return stands.clone();
        }
        self.chain.push(wanted.clone());
        wanted
    }

    fn stand(&mut self, site: usize, decision: &Decision) {
        let held = &mut self.sites[site].held;
        held.stands = Some(AuthorityStatus {
            state: Some(decision.state),
            message: Some(decision.message.clone()),
            stores_open: decision.stores_open,
            ..AuthorityStatus::default()
        });
        if let Some(own) = held.authority.as_ref().filter(|own| own.epoch > 0) {
            held.remembered = Some((own.epoch, own.holders.clone()));
        }
    }

    /// What a site owes its own stores.
    fn owed(&mut self, site: usize, state: AuthorityState) {
        let known = self.knowledge(site);
        let Some(own) = known.own.clone() else { return };
        let there = |store: &str, name: &str| self.shows(site, store, name);
        let all = duties(&self.sites[site].name, site, &own, state, &known, there);
        for duty in all {
            self.carry_duty(site, duty);
        }
        self.protect(site, &own);
    }

    /// What a store shows at another site, as it is read from this one.
    fn shows(&self, site: usize, store: &str, name: &str) -> Option<StoreShows> {
        let (other, store) = (self.place(name), self.store(store));
        self.wires(site, other).then(|| self.sites[other].servers[store].shows())
    }

    /// The place of a store.
    pub(super) fn store(&self, name: &str) -> usize {
        self.story.group.stores.iter().position(|store| store == name).unwrap_or_default()
    }

    /// One that is refused is owed still, and tried again.
    fn carry_duty(&mut self, site: usize, duty: Duty) {
        match duty {
            Duty::Close { store, ballot, follows } => {
                let store = self.store(&store);
                let _ = self.sites[site].servers[store].fence(Fence { ballot, follows });
            }
            Duty::Lift { store, ballot } => {
                let store = self.store(&store);
                let _ = self.sites[site].servers[store].lift(ballot);
            }
            Duty::Open { store, epoch } => {
                let store = self.store(&store);
                let _ = self.sites[site].servers[store].open(epoch);
            }
            Duty::Thaw { store } => {
                let store = self.store(&store);
                self.sites[site].servers[store].frozen = false;
            }
            Duty::Follow { store, site: leads, epoch, .. } => {
                let (store, other) = (self.store(&store), self.place(&leads));
                let there = self.sites[other].servers[store].clone();
                let _ = self.sites[site].servers[store].follow(other, &there, epoch);
            }
        }
    }

    /// Whoever has authority has commits wait again, once another site follows.
    fn protect(&mut self, site: usize, own: &AuthoritySpec) {
        let serves = own.is_held_by(&self.sites[site].name) && own.promoted == Some(own.epoch);
        if !self.story.group.synchronous || !serves {
            return;
        }
        for store in 0..self.story.group.stores.len() {
            let mut others = (0..self.sites.len()).filter(|other| self.follows(site, *other, store));
            let followed = others.next().is_some();
            let server = &mut self.sites[site].servers[store];
            server.waits |= followed && server.primary && server.is_open();
        }
    }

    /// A claim that is nobody's is given up.
    fn give_up(&mut self, site: usize) {
        let known = self.knowledge(site);
        let here = &self.sites[site];
        let orders = here.order.iter().filter(|order| !order.status.phase.is_some_and(Phase::is_over));
        let at_work: BTreeSet<String> =
            orders.filter_map(|order| order.failover.metadata.uid.clone()).collect();
        let Some(claim) = orphan(&known, &here.name, &at_work) else { return };
        let Some(own) = &known.own else { return };
        if let Ok(next) = withdraw(own, &here.name, claim.ballot) {
            self.sites[site].held.authority = Some(next);
        }
    }

    /// One decision about the order of a site, and what follows from it.
    fn go(&mut self, site: usize) {
        let over = |order: &&Ordered| order.status.phase.is_some_and(Phase::is_over);
        let Some(mut order) = self.sites[site].order.clone().filter(|order| !over(&order)) else { return };
        let now = at(self.now);
        let known = self.knowledge(site);
        status::commits(&mut order.status, known.own.as_ref(), now);
        if order.deleted && order.status.committed_at.is_none() {
            order.status.aborted = Some(true);
        }
        if order.status.digest.is_none() {
            let name = self.sites[site].name.clone();
            status::begun(&mut order.status, &order.failover, (&name, &self.spec), known.own.as_ref());
            order.status.digest = Some(self.changes.to_string());
        }
        self.decided(site, &mut order, &known, now);
        order.status = status::concluded(&order.failover, order.status, now);
        order.failover.status = Some(order.status.clone());
        self.sites[site].order = Some(order);
    }

    fn decided(&mut self, site: usize, order: &mut Ordered, known: &Knowledge, now: Timestamp) {
        let journal = self.journal(site, order);
        let silent = self.silent(site);
        match self.next(site, order, known, &journal, &silent) {
            Next::End(phase, words) => status::over(&mut order.status, phase, &words, now),
            Next::Wait(step, wait) => {
                let wait = with_position(wait, &order.status);
                self.waits(site, order, step, &wait, now);
            }
            Next::Do(step, act) => {
                status::begins(&mut order.status, step, &act, now);
                let planned = journal.is_planned();
                let mut hand = Hand { world: self, site, order, known, planned };
                match hand.carry(&act) {
                    Done::Yes(words) => {
                        status::did(&mut order.status, step, words, Duration::ZERO, now);
                    }
                    Done::Again => {}
                    Done::NotYet(wait) => self.waits(site, order, step, &wait, now),
                }
            }
        }
    }

    fn waits(&mut self, site: usize, order: &mut Ordered, step: Step, wait: &Wait, now: Timestamp) {
        status::waits(&mut order.status, step, wait, now);
        let mind = &mut self.sites[site].mind;
        mind.rests = mind.busy.max(self.now) + LOOK_AGAIN;
    }

    fn journal(&self, site: usize, order: &Ordered) -> Journal {
        let most = self.story.group.max_lag.as_deref().and_then(duration);
        let most = most.and_then(|most| i64::try_from(most.as_millis()).ok());
        Journal::of(order.failover.spec.action, &order.status, |_| most)
            .asserted_since(&order.status, at(self.sites[site].mind.since))
    }

    /// The sites of which it is known that they do not answer.
    fn silent(&self, site: usize) -> Vec<String> {
        let known = self.sites[site].mind.silent.iter().filter(|(_, since)| **since <= self.now);
        known.map(|(other, _)| self.sites[*other].name.clone()).collect()
    }

    fn next(
        &self,
        site: usize,
        order: &Ordered,
        known: &Knowledge,
        journal: &Journal,
        silent: &[String],
    ) -> Next {
        let here = &self.sites[site];
        let held = |words: &Option<String>, remedy: &str| -> Vec<Held> {
            let held = |message: &String| Held { message: message.clone(), remedy: remedy.to_owned() };
            words.iter().map(held).collect()
        };
        let preflight = held(&here.readiness, "see the readiness of the FailoverGroup");
        let capacity = held(&here.capacity, "see the FinServices of this site");
        let forbidden = held(&here.residency, "choose another site");
        let name = super::world::called(&order.failover);
        let changed = order.status.digest.as_deref() != Some(&*self.changes.to_string());
        let view = View {
            silent,
            changed,
            preflight: &preflight,
            capacity: &capacity,
            forbidden: forbidden.first(),
            approval: self.spec.approval.as_ref(),
            hooks: self.spec.hooks(),
            node_pools: self.spec.fence.as_ref().map(FenceSpec::node_pools),
            protected: self.is_protected(site),
            ..View::clear(&here.name, site, &name, known)
        };
        match order.failover.spec.action {
            MoveAction::Switchover | MoveAction::Failover => decide(&view, journal),
            MoveAction::Plan | MoveAction::Rehearsal => {
                Next::End(Phase::Refused, "it is not simulated".to_owned())
            }
        }
    }

    /// Whether each store of a site is followed.
    fn is_protected(&self, site: usize) -> bool {
        let followed = |store: usize| (0..self.sites.len()).any(|other| self.follows(site, other, store));
        self.needed().all(followed)
    }
}
