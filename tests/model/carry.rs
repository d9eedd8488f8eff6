//! Carries out what was decided, as src/failover/act and src/failovergroup/act do it.

use banyan::api::authority::{AuthoritySpec, ClaimState};
use banyan::api::failover::{FenceLevel, MoveAction};
use banyan::authority::claims::{self, Refused, greater};
use banyan::failover::source::commits_wait_for;

use super::operator::{Ask, Operators, believes, record};
use super::server::{Refusal, Wire};
use super::shown::new_claim;
use super::world::{Auth, Ballot, Deed, Doing, Move, Peer, Place, SITES, World};

/// What came of it.
pub struct Done {
    pub world: World,
    /// What a person is asked, if it was not done.
    pub ask: Option<Ask>,
}

/// Whether the API server takes this Authority in place of that one: the rules of the kind.
fn api_takes(old: &Auth, new: &Auth) -> bool {
    let kept = |place: usize| match (old.claims[place], new.claims[place]) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(was), Some(is)) if was.ballot == is.ballot => {
            (was.by_witness || !is.by_witness)
                && match was.state {
                    ClaimState::Open => true,
                    ClaimState::Committing => is.state != ClaimState::Open,
                    ClaimState::Withdrawn => is.state == ClaimState::Withdrawn,
                }
        }
        (Some(was), Some(is)) => is.ballot > was.ballot,
    };
    let ended = (0..32).filter(|at| old.withdrawn & 1 << at != 0);
    let mut ended = ended.filter(|at| super::world::of_bit(*at) >= i64::from(new.epoch));
    let same = new.holder == old.holder && new.follows == old.follows;
    new.epoch >= old.epoch
        && (new.epoch != old.epoch || same)
        && (new.follows < new.epoch || new.epoch == 0)
        && new.promoted <= new.epoch
        && new.promoted >= old.promoted
        && (0..2).all(kept)
        && ended.all(|at| new.withdrawn & 1 << at != 0)
}

/// Begins what was decided: what is written down before it is done.
pub fn begin(world: &World, site: Place, deed: Deed) -> World {
    let mut next = *world;
    let here = &mut next.sites[site];
    if let (Some(order), Deed::Claim { ballot, follows, .. }) = (&mut here.order, deed) {
        if order.claim.is_some_and(|(former, _)| former != ballot) {
            // What is known of the source was made sure of with the former claim.
            (order.level, order.sealed, order.frozen, order.complete) = (None, false, false, None);
            order.asserted = None;
        }
        order.claim = Some((ballot, follows));
    }
    if let (Some(order), Deed::End(phase)) = (&mut here.order, deed) {
        order.over = Some(phase);
        return next;
    }
    let order = here.order;
    here.doing = Some(Doing {
        deed,
        over: here.auth,
        claim: order.and_then(|order| order.claim).unwrap_or_default(),
        planned: order.is_some_and(|order| order.action == MoveAction::Switchover),
        order: order.map_or(0, |order| order.order),
        ended: false,
    });
    next
}

/// Carries a deed out. A former leader (`journals` is false) cannot write down what came of it.
pub fn carry(operators: &Operators, world: &World, site: Place, doing: Doing, journals: bool) -> Done {
    let order = world.sites[site].order.unwrap_or_else(|| Move::new(0, MoveAction::Failover));
    let mut hand = Hand { operators, world: *world, site, doing, order, then: None, ask: None };
    hand.go();
    let Hand { world: mut after, order, then, ask, .. } = hand;
    for place in 0..2 {
        let presses = after.sites[place].presses(place);
        // Only a witness gives authority back.
        if world.witness.is_some() && presses != world.sites[place].presses(place) {
            after.sites[place].came = if after.sites[place].alive { presses } else { 0 };
        }
    }
    let mut world = after;
    let here = &mut world.sites[site];
    if journals && here.order.is_some() {
        here.order = Some(order);
    }
    match journals {
        true => here.doing = then,
        false => here.late = then,
    }
    Done { world, ask }
}

struct Hand<'a> {
    operators: &'a Operators,
    world: World,
    site: Place,
    doing: Doing,
    /// The journal, as it will be written down.
    order: Move,
    /// What is left to do.
    then: Option<Doing>,
    ask: Option<Ask>,
}

impl Hand<'_> {
    fn go(&mut self) {
        let (ballot, follows) = self.doing.claim;
        let site = SITES[self.site];
        match self.doing.deed {
            Deed::Write { next, first: false } => drop(self.put(next)),
            Deed::Write { next, first: true } => {
                let again = self.looks_again();
                if again.write.as_ref().map(Auth::of) == Some(next) {
                    self.then(Deed::Write { next, first: false });
                }
            }
            Deed::Record { after, epoch, holder } => {
                let still = record(&self.looks_again()) == Some(self.doing.deed);
                if still && self.world.reaches_witness(self.site) {
                    self.create(after, epoch, holder);
                }
            }
            Deed::Close { ballot, follows } => drop(self.here().fence(ballot, follows)),
            Deed::Reopen { ballot } => {
                if self.here().lift(ballot).is_ok() {
                    // What was written elsewhere in the meantime, after an Authority was restored, nobody has promised.
                    self.world.settle_loss(self.site, false);
                }
            }
            Deed::OpenHeld { epoch } => {
                if self.here().open(epoch).is_ok() {
                    self.world.settle_loss(self.site, true);
                }
            }
            Deed::ThawOwn => self.here().thaw(),
            Deed::Follow { epoch } => drop(self.here().follow(epoch)),
            Deed::Claim { ballot, follows, fence, by_witness } => {
                let claim = new_claim(self.site, (ballot, follows), (fence, by_witness), self.doing.order);
                let _ = self.change(|own| claims::open(own, claim));
            }
            Deed::Tell => self.tell(),
            Deed::Press => drop(self.change(|own| claims::press(own, site, ballot.into()))),
            Deed::Withdraw => self.withdraw(),
            Deed::Fence => self.fence(ballot, follows),
            Deed::CatchUp => match self.here().caught_up(ballot) {
                Ok(true) => self.order.complete = Some(true),
                Ok(false) if !self.doing.planned => self.freeze(ballot),
                _ => self.ask = Some(Ask::Abort),
            },
            Deed::Freeze => self.freeze(ballot),
            Deed::Mark { seen } => {
                if self.confirmed(seen) {
                    self.then(Deed::MarkRead);
                }
            }
            Deed::MarkRead => drop(self.change(|own| claims::mark(own, site, ballot.into()))),
            Deed::Decide => {
                if self.world.reaches_witness(self.site) {
                    let epoch = self.create(follows, ballot, self.site as u8);
                    if epoch == ballot {
                        self.world.settle_loss(self.site, self.order.promises_all());
                    }
                    self.then(Deed::Decided { epoch });
                }
            }
            Deed::Decided { epoch } => self.decided(epoch),
            Deed::Commit { seen } => {
                if self.confirmed(seen) {
                    self.then(Deed::CommitRead);
                }
            }
            Deed::CommitRead => self.commit(ballot),
            Deed::Promote => {
                let row = self.world.sites[self.site].server.ballot;
                self.then(Deed::PromoteSession { row });
            }
            Deed::PromoteSession { row } => {
                let own = self.world.sites[self.site].auth.unwrap_or_default().spec();
                if own.epoch == i64::from(ballot) && greater(&own, site, own.epoch).is_none() {
                    self.then(Deed::PromoteRead { row });
                }
            }
            Deed::PromoteRead { row } => {
                let ended = self.doing.ended;
                if self.here().promote(ballot, row, ended).is_ok() {
                    self.order.promoted = true;
                    if self.world.sites[self.site].server.open {
                        self.world.settle_loss(self.site, self.order.promises_all());
                    }
                }
            }
            Deed::Open => {
                if self.here().open(ballot).is_ok() {
                    self.order.opened = true;
                    self.world.settle_loss(self.site, self.order.promises_all());
                }
            }
            Deed::Serve => drop(self.change(|own| Ok(claims::promoted(own, ballot.into())))),
            Deed::Lift => self.lift(ballot),
            Deed::End(_) => {}
        }
    }

    fn then(&mut self, deed: Deed) {
        self.then = Some(Doing { deed, ..self.doing });
    }

    fn here(&mut self) -> Wire<'_> {
        Wire { world: &mut self.world, rules: &self.operators.rules, site: self.site }
    }

    fn there(&mut self) -> Wire<'_> {
        Wire { world: &mut self.world, rules: &self.operators.rules, site: 1 - self.site }
    }

    /// The Authority as it was seen when this was decided.
    fn own(&self) -> AuthoritySpec {
        self.doing.over.unwrap_or_default().spec()
    }

    /// Writes the Authority over the version that was seen.
    fn put(&mut self, next: Auth) -> bool {
        let rules = &self.operators.rules;
        let here = &mut self.world.sites[self.site];
        let refused = rules.versions && here.auth != self.doing.over
            || rules.api_rules && here.auth.is_some_and(|old| !api_takes(&old, &next));
        if !refused {
            here.auth = Some(next);
        }
        !refused
    }

    /// Makes one change of the Authority that was seen, and writes it.
    fn change(&mut self, change: impl FnOnce(&AuthoritySpec) -> Result<AuthoritySpec, Refused>) -> bool {
        match change(&self.own()) {
            Ok(next) => self.put(Auth::of(&next)),
            Err(_) => false,
        }
    }

    fn withdraw(&mut self) {
        let (site, ballot) = (SITES[self.site], self.doing.claim.0.into());
        self.change(|own| claims::withdraw(own, site, ballot));
    }

    /// What a first claim, or a record of a commit, is decided on once more: the other site as it is now.
    fn looks_again(&self) -> banyan::authority::decide::Decision {
        let mut sight = self.operators.sight(&self.world, self.site);
        let there = self.world.sites[1 - self.site].auth;
        sight.peer = self.world.reach().then_some(there);
        sight.own = self.doing.over;
        believes(&sight, &sight.knowledge())
    }

    /// Has the witness decide; what stands there afterwards.
    fn create(&mut self, after: Ballot, epoch: Ballot, holder: u8) -> Ballot {
        let chain = &mut self.world.chain;
        if let Some((_, stands, _)) = chain.iter().flatten().find(|(follows, ..)| *follows == after) {
            return *stands;
        }
        let free = chain.iter_mut().find(|one| one.is_none()).expect("bounds keep decisions few");
        *free = Some((after, epoch, holder));
        chain.sort_by_key(|one| one.map_or((1, 0), |(after, ..)| (0, after)));
        epoch
    }

    fn tell(&mut self) {
        let Some(there) = self.world.sites[1 - self.site].auth.filter(|_| self.world.reach()) else { return };
        let own = self.own();
        let Some(claim) = claims::slot(&own, SITES[self.site]) else { return };
        self.world.sites[self.site].peer = Peer::Followed;
        match claims::receive(&there.spec(), claim) {
            Ok(next) => {
                let next = Auth::of(&next);
                if !self.operators.rules.api_rules || api_takes(&there, &next) {
                    self.world.sites[1 - self.site].auth = Some(next);
                }
            }
            // It knows better.
            Err(_) => self.withdraw(),
        }
    }

    fn fence(&mut self, ballot: Ballot, follows: Ballot) {
        if !self.world.reach() {
            let sight = self.operators.sight(&self.world, self.site);
            let waits = commits_wait_for(&sight.knowledge(), SITES[self.site], super::shown::STORE);
            let waits = waits || !self.operators.rules.looks_at_sync;
            if self.operators.required && waits && !self.doing.planned {
                self.order.level = Some(FenceLevel::Synchronous);
                return;
            }
            self.ask = Some(if self.doing.planned { Ask::Abort } else { Ask::AssertFenced });
            return;
        }
        let [here, there] = [self.site, 1 - self.site].map(|site| self.world.sites[site].server);
        let same = !here.open && !there.open && here.ballot == there.ballot || !self.operators.rules.same_row;
        match self.there().fence(ballot, follows) {
            Ok(primary) => {
                (self.order.level, self.order.sealed) = (Some(FenceLevel::StoreAcknowledged), primary);
                let leads = self.world.sites[self.site].server.primary;
                if leads && (!primary && self.world.sites[self.site].looked || primary && same) {
                    self.order.complete = Some(true);
                }
            }
            Err(Refusal::Superseded) => self.withdraw(),
            Err(Refusal::OtherRole) => {}
        }
    }

    fn freeze(&mut self, ballot: Ballot) {
        match self.here().freeze(ballot) {
            Ok(()) => self.order.frozen = true,
            Err(Refusal::OtherRole) => self.order.complete = Some(true),
            Err(Refusal::Superseded) => self.ask = Some(Ask::Abort),
        }
    }

    /// Reads everything that speaks for and against a commit once more.
    fn confirmed(&mut self, seen: Option<Option<Auth>>) -> bool {
        if !self.operators.rules.reread {
            return true;
        }
        if self.world.reach() {
            let there = self.world.sites[1 - self.site].auth;
            if there.is_some() {
                self.world.sites[self.site].peer = Peer::Followed;
            }
            if there.is_some() && seen != Some(there) {
                return false;
            }
        } else if self.doing.planned {
            self.ask = Some(Ask::Abort);
            return false;
        }
        let wire = matches!(self.order.level, Some(FenceLevel::StoreAcknowledged | FenceLevel::Acknowledged));
        if !wire || !self.order.sealed {
            return true;
        }
        let server = self.world.sites[1 - self.site].server;
        let closed = match self.world.reach() {
            true => server.ballot == self.doing.claim.0 && !server.open,
            false => self.order.asserted.is_some(),
        };
        if !closed {
            self.ask = Some(if self.doing.planned { Ask::Abort } else { Ask::AssertFenced });
        }
        closed
    }

    fn commit(&mut self, ballot: Ballot) {
        let site = SITES[self.site];
        let holders = vec![site.to_owned()];
        let since = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH);
        let alone = self.operators.rules.witness_alone;
        let committed = self.change(|own| {
            let mut free = own.clone();
            free.claims.iter_mut().filter(|_| !alone).for_each(|claim| claim.by_witness = None);
            let next = claims::commit(&free, site, ballot.into(), holders, since)?;
            Ok(AuthoritySpec { claims: own.claims.clone(), ..next })
        });
        self.order.committed |= committed;
        if committed {
            self.world.settle_loss(self.site, self.order.promises_all());
        }
    }

    fn decided(&mut self, epoch: Ballot) {
        let (site, ballot) = (SITES[self.site], self.doing.claim.0);
        let since = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH);
        let own = self.own();
        let next = match epoch == ballot {
            true => claims::decided(&own, ballot.into(), vec![site.to_owned()], since),
            false => claims::lose(&own, site, ballot.into()),
        };
        let put = self.put(Auth::of(&next));
        self.order.committed |= put && epoch == ballot;
    }

    fn lift(&mut self, ballot: Ballot) {
        self.here().thaw();
        // Where the source is gone, its operator opens it once it has read that the claim was given up.
        if self.world.reach() {
            let _ = self.there().lift(ballot);
        }
        (self.order.level, self.order.frozen, self.order.complete) = (None, false, None);
    }
}
