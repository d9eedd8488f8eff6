//! All that can happen next: what operators do, what people say, what breaks.

use banyan::api::authority::ClaimState;
use banyan::api::failover::{FenceLevel, MoveAction, Phase};

use super::carry::{begin, carry};
use super::operator::{Ask, Operators, Rules};
use super::world::{Auth, Deed, Doing, Left, Move, Peer, Place, SITES, World};

/// What happened, for a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chance {
    pub words: &'static str,
    pub site: Option<Place>,
    pub deed: Option<Deed>,
}

impl std::fmt::Display for Chance {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let site = self.site.map(|site| SITES[site]).unwrap_or_default();
        write!(to, "{site} {}", self.words)?;
        match self.deed {
            Some(Deed::Write { next, .. }) => write!(to, ": writes {}", words(&next)),
            Some(Deed::Mark { .. }) => write!(to, ": Mark"),
            Some(Deed::Commit { .. }) => write!(to, ": Commit"),
            Some(deed) => write!(to, ": {deed:?}"),
            None => Ok(()),
        }
    }
}

/// An Authority in a few words.
fn words(auth: &Auth) -> String {
    let claims = auth.claims.iter().enumerate().filter_map(|(site, claim)| {
        let claim = claim.as_ref()?;
        let fence = if claim.fence { "!" } else { "" };
        Some(format!(" {}:{}{fence} {:?}", SITES[site], claim.ballot, claim.state))
    });
    let holder = SITES[usize::from(auth.holder)];
    format!("epoch {} of {holder}, promoted {},{}", auth.epoch, auth.promoted, claims.collect::<String>())
}

/// Whether a deed is the business of an order, which is worked on by one task.
fn of_order(deed: &Deed) -> bool {
    !matches!(
        deed,
        Deed::Write { .. }
            | Deed::Record { .. }
            | Deed::Close { .. }
            | Deed::Reopen { .. }
            | Deed::OpenHeld { .. }
            | Deed::ThawOwn
            | Deed::Follow { .. }
    )
}

fn is_first_claim(deed: &Deed) -> bool {
    matches!(deed, Deed::Write { first: true, .. } | Deed::Record { after: 0, .. })
}

/// What is explored, beside the rules.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// What is ordered.
    pub kinds: &'static [MoveAction],
    /// Where.
    pub at: &'static [Place],
    /// Whether an operator may be paused, or crash, between a decision and what follows from it. Otherwise what one does
    /// for a group is one step, and only what it does for an order is two.
    pub pauses: bool,
    /// No claim beyond this ballot is made.
    pub greatest: u8,
}

/// Gathers what can happen from one world on.
pub struct Chances<'a> {
    pub operators: &'a Operators,
    pub bounds: &'a Bounds,
    pub world: &'a World,
    pub found: Vec<(Chance, World)>,
}

impl Chances<'_> {
    fn add(&mut self, words: &'static str, site: Option<Place>, next: World) {
        self.deed(words, site, None, next);
    }

    fn deed(&mut self, words: &'static str, site: Option<Place>, deed: Option<Deed>, mut next: World) {
        next.watch(self.world);
        if next != *self.world {
            self.found.push((Chance { words, site, deed }, next));
        }
    }

    /// Something that may happen a number of times only.
    fn spend(
        &mut self,
        words: &'static str,
        site: Option<Place>,
        of: fn(&mut Left) -> &mut u8,
        change: impl FnOnce(&mut World),
    ) {
        let mut next = *self.world;
        let left = of(&mut next.left);
        if *left > 0 {
            *left -= 1;
            change(&mut next);
            self.add(words, site, next);
        }
    }

    /// All.
    pub fn all(mut self) -> Vec<(Chance, World)> {
        for site in 0..2 {
            if self.world.sites[site].alive {
                self.operator(site);
                self.people(site);
            }
            self.faults(site);
        }
        if self.world.left.cuts > 0 {
            let words = if self.world.link { "the sites are cut off" } else { "the sites reach each other" };
            self.spend(words, None, |left| &mut left.cuts, |next| next.link = !next.link);
        }
        self.found
    }

    /// Whether the bounds let it be done.
    fn is_within(&self, deed: &Deed) -> bool {
        !matches!(deed, Deed::Claim { ballot, .. } if *ballot > self.bounds.greatest)
    }

    fn operator(&mut self, site: Place) {
        let here = self.world.sites[site];
        self.looks(site);
        match here.doing {
            None => {
                for deed in self.operators.intents(self.world, site).deeds.clone() {
                    if !self.is_within(&deed) {
                        continue;
                    }
                    let next = begin(self.world, site, deed);
                    let whole = !self.bounds.pauses && !of_order(&deed) && !is_first_claim(&deed);
                    match next.sites[site].doing.filter(|_| whole) {
                        Some(doing) => {
                            let next = carry(self.operators, &next, site, doing, true).world;
                            self.deed("does at once", Some(site), Some(deed), next);
                        }
                        None => self.deed("decides", Some(site), Some(deed), next),
                    }
                }
            }
            Some(doing) => self.carries(site, doing),
        }
        if let Some(late) = here.late {
            let mut world = *self.world;
            world.sites[site].late = None;
            let next = carry(self.operators, &world, site, late, false).world;
            self.deed("wakes up and does", Some(site), Some(late.deed), next);
        }
        if let Some(next) = self.world.replicated(site) {
            self.add("replicates", Some(site), next);
        }
    }

    fn carries(&mut self, site: Place, doing: Doing) {
        let next = carry(self.operators, self.world, site, doing, true).world;
        self.deed("does", Some(site), Some(doing.deed), next);
        let deed = Some(doing.deed);
        if self.world.left.crashes > 0 {
            let mut next = *self.world;
            next.left.crashes -= 1;
            next.sites[site].restart();
            self.deed("crashes before", Some(site), deed, next);
            // It is done, and what came of it is not written down.
            let mut next = carry(self.operators, self.world, site, doing, false).world;
            next.left.crashes -= 1;
            (next.sites[site].late, next.sites[site].doing) = (self.world.sites[site].late, None);
            next.sites[site].restart();
            self.deed("crashes after", Some(site), deed, next);
        }
        if self.world.left.pauses > 0 && self.world.sites[site].late.is_none() {
            let mut next = *self.world;
            next.left.pauses -= 1;
            next.sites[site].restart();
            next.sites[site].late = Some(doing);
            self.deed("has a new leader, and the old one is paused before", Some(site), deed, next);
            if !of_order(&doing.deed) {
                // Groups and orders are worked on by two tasks of one process.
                let mut next = *self.world;
                next.left.pauses -= 1;
                (next.sites[site].late, next.sites[site].doing) = (Some(doing), None);
                self.deed("is slow to do", Some(site), deed, next);
            }
        }
    }

    /// What an operator reads.
    fn looks(&mut self, site: Place) {
        let here = self.world.sites[site];
        if !here.looked {
            let mut next = *self.world;
            next.sites[site].looked = true;
            self.add("looks at its own store", Some(site), next);
        }
        if here.peer != Peer::Followed && self.world.reach() {
            let mut next = *self.world;
            next.sites[site].peer = Peer::Followed;
            self.add("reads the other site", Some(site), next);
        }
        if let Some(next) = self.world.let_go(site, &self.operators.rules) {
            self.add("has read the other site, and nobody needs to keep it still", Some(site), next);
        }
    }

    fn people(&mut self, site: Place) {
        let (here, there) = (&self.world.sites[site], &self.world.sites[1 - site]);
        let known = here.auth.is_some_and(|auth| auth.epoch > 0);
        // What people say is heard between two acts.
        if here.doing.is_some_and(|doing| of_order(&doing.deed)) {
            return;
        }
        let Some(order) = here.moving() else {
            if known && self.bounds.at.contains(&site) && !self.world.serves(site) {
                for kind in self.bounds.kinds {
                    let words = match kind {
                        MoveAction::Switchover => "gets the order of a Switchover",
                        MoveAction::Failover => "gets the order of a Failover",
                        MoveAction::Plan | MoveAction::Rehearsal => continue,
                    };
                    let kind = *kind;
                    self.spend(words, Some(site), |left| &mut left.orders, |next| next.order(site, kind));
                }
            }
            return;
        };
        let order = *order;
        let early = !self.operators.rules.after_claim;
        let may_assert = order.action == MoveAction::Failover && (self.world.presses(site) || early);
        if may_assert && order.asserted != Some(true) {
            if !there.alive {
                let words = "hears that the other site is fenced";
                self.spend(words, Some(site), |left| &mut left.assertions, |next| next.assert_fenced(site));
            } else {
                let words = "hears that the other site is kept still";
                let change = |next: &mut World| {
                    next.assert_fenced(site);
                    if let Some(order) = &mut next.sites[site].order {
                        order.stopped = false;
                    }
                };
                self.spend(words, Some(site), |left| &mut left.kept, change);
                let words = "hears that the other site is fenced, which is FALSE";
                let change = |next: &mut World| {
                    next.assert_fenced(site);
                    next.sites[1 - site].kept_still = false;
                };
                self.spend(words, Some(site), |left| &mut left.false_assertions, change);
            }
        }
        let say = |change: fn(&mut Move)| {
            move |next: &mut World| {
                if let Some(order) = &mut next.sites[site].order {
                    change(order);
                }
            }
        };
        if order.action == MoveAction::Switchover {
            let force = say(|order| order.action = MoveAction::Failover);
            self.spend("hears: force", Some(site), |left| &mut left.forces, force);
        }
        if !order.abort && !order.committed {
            let abort = say(|order| order.abort = true);
            self.spend("hears: abort", Some(site), |left| &mut left.aborts, abort);
        }
        if self.operators.intents(self.world, site).ask == Some(Ask::AcceptLoss) {
            let mut next = *self.world;
            say(|order| order.accepts_loss = true)(&mut next);
            self.add("hears: accept-data-loss", Some(site), next);
        }
    }

    fn faults(&mut self, site: Place) {
        let here = &self.world.sites[site];
        let at = Some(site);
        if !here.alive {
            let mut next = *self.world;
            (next.sites[site].alive, next.sites[site].came) = (true, 0);
            next.sites[site].restart();
            self.add("returns", at, next);
            return;
        }
        self.spend("dies", at, |left| &mut left.deaths, |next| next.dies(site));
        let restored = |epoch: Option<Auth>| {
            move |next: &mut World| {
                let here = &mut next.sites[site];
                (here.auth, here.order, here.came) = (epoch, None, 0);
                here.restart();
            }
        };
        let first = Auth { epoch: 16, promoted: if site == 0 { 16 } else { 0 }, ..Auth::default() };
        let words = "is restored from a backup of epoch 16";
        self.spend(words, at, |left| &mut left.restores, restored(Some(first)));
        let words = "is restored from a backup of before the group";
        self.spend(words, at, |left| &mut left.deletions, restored(None));
        if here.is_moving() {
            let remove = |next: &mut World| {
                (next.sites[site].order, next.sites[site].doing) = (None, None);
            };
            self.spend("loses its order, finalizer and all", at, |left| &mut left.removals, remove);
        }
        if self.world.acknowledges(site) {
            let write = |next: &mut World| {
                let one = 1 << next.written;
                next.written += 1;
                next.acked |= one;
                next.sites[site].server.log |= one;
                if next.sites[site].server.sync {
                    next.sites[1 - site].server.log |= one;
                }
            };
            self.spend("acknowledges a write", at, |left| &mut left.writes, write);
        }
        if self.world.witness.is_some() {
            let turn = |next: &mut World| {
                if let Some(reaches) = &mut next.witness {
                    reaches[site] = !reaches[site];
                }
            };
            self.spend("loses the witness, or has it back", at, |left| &mut left.witness_cuts, turn);
        }
    }
}

impl World {
    /// An order is given.
    pub fn order(&mut self, site: Place, kind: MoveAction) {
        self.ordered += 1;
        self.sites[site].order = Some(Move::new(self.ordered, kind));
    }

    /// Whether the claim of the order stands, and has the source close its stores: only then an assertion is heard.
    pub fn presses(&self, site: Place) -> bool {
        let here = &self.sites[site];
        let claim = here.auth.and_then(|auth| auth.claims[site]);
        let ballot = here.moving().and_then(|order| order.claim).map(|(ballot, _)| ballot);
        claim.is_some_and(|claim| {
            Some(claim.ballot) == ballot && claim.fence && claim.state != ClaimState::Withdrawn
        })
    }

    /// A person says that the other site is fenced, and keeps it so.
    pub fn assert_fenced(&mut self, site: Place) {
        self.sites[1 - site].kept_still = true;
        if let Some(order) = &mut self.sites[site].order {
            (order.asserted, order.stopped) = (Some(true), true);
            order.level = order.level.or(Some(FenceLevel::Asserted));
        }
    }

    /// A site is gone.
    pub fn dies(&mut self, site: Place) {
        let here = &mut self.sites[site];
        (here.alive, here.doing, here.late) = (false, None, None);
    }

    /// Ends what a person has promised, where the operator has read the other site and owes nothing to a claim.
    pub fn let_go(&self, site: Place, rules: &Rules) -> Option<World> {
        let (here, there) = (&self.sites[site], &self.sites[1 - site]);
        if !here.kept_still || here.peer != Peer::Followed || !self.reach() {
            return None;
        }
        let (own, theirs) = (here.auth.unwrap_or_default(), there.auth.unwrap_or_default());
        let claim = theirs.claims[1 - site].filter(|claim| claim.ballot > own.epoch && claim.fence);
        let presses = claim.is_some_and(|claim| ClaimState::Withdrawn != claim.state);
        let serves_on = usize::from(own.holder) == site || !here.server.primary;
        if rules.closes_self && presses || theirs.epoch > own.epoch || !serves_on {
            return None;
        }
        let mut next = *self;
        next.sites[site].kept_still = false;
        Some(next)
    }

    /// Keeps what was read last of a site that cannot be followed any more; and notes an epoch that has gone back.
    pub fn watch(&mut self, before: &World) {
        for site in 0..2 {
            if before.sites[site].peer == Peer::Followed && before.reach() && !self.reach() {
                let there = before.sites[1 - site].auth;
                if self.sites[site].peer == Peer::Followed {
                    self.sites[site].peer = Peer::Last(there);
                }
            }
        }
        let restored =
            self.left.restores < before.left.restores || self.left.deletions < before.left.deletions;
        for site in 0..2 {
            let (was, is) =
                (before.sites[site].auth.unwrap_or_default(), self.sites[site].auth.unwrap_or_default());
            let same = was.epoch != is.epoch || (was.holder, was.follows) == (is.holder, is.follows);
            if !restored && (is.epoch < was.epoch || !same) {
                self.broken = Some("S3");
            }
        }
        let [one, other] = self.sites.map(|site| site.auth.unwrap_or_default());
        if one.epoch == other.epoch && one.holder != other.holder {
            self.broken = Some("S3");
        }
    }

    /// Whether an order was given up, or lost, and none is under way.
    pub fn was_given_up(&self) -> bool {
        let given_up = |order: &Option<Move>| order.is_some_and(|order| order.over == Some(Phase::Aborted));
        self.sites.iter().any(|site| given_up(&site.order)) && !self.sites.iter().any(|site| site.is_moving())
    }
}
