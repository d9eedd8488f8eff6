//! What the operator of a site decides, by the product's own functions; and the twins that leave a rule out of how these
//! are asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use banyan::api::authority::{AuthoritySpec, Claim};
use banyan::authority::claims::{is_withdrawn, orphan, slot, withdraw};
use banyan::authority::decide::{Decision, decide as decide_authority};
use banyan::authority::duty::{Duty, duties};
use banyan::authority::known::{Knowledge, Known, StoreShows};
use banyan::failover::decide::decide as decide_move;
use banyan::failover::view::{Act, Next, View, Wait};
use jiff::Timestamp;

use super::shown::{GROUP, Sight};
use super::world::{Auth, Ballot, Deed, Peer, Place, SITES, World};

/// The rules of the protocol that a twin leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// A claim is told to the other site before a fence over the wire counts.
    pub told: bool,
    /// An Authority is written over the version that was read.
    pub versions: bool,
    /// The API server refuses what the rules of the kind refuse.
    pub api_rules: bool,
    /// A promotion goes over a session that was opened before the Authority was read, and that a fence ends.
    pub sessions: bool,
    /// A store refuses an older ballot.
    pub rows: bool,
    /// What closed a store is opened on a record that it is over, not because nobody shows it.
    pub positive: bool,
    /// An assertion counts if it was made after the claim, and since the process began.
    pub after_claim: bool,
    /// After an absence nothing is promoted before the other site was read.
    pub reads_peer: bool,
    /// A claim without an order is given up.
    pub orphans: bool,
    /// Right before the commit, the other site and what was closed are read once more.
    pub reread: bool,
    /// A promoted store waits for nobody.
    pub drops_sync: bool,
    /// A holder closes its own stores for a claim that presses.
    pub closes_self: bool,
    /// Of two primaries all is here only if the row that was found there, closed, is the one that stands here.
    pub same_row: bool,
    /// That commits wait for this site is believed only while nobody has opened the source since.
    pub looks_at_sync: bool,
    /// A claim that may have been committed is no orphan, and no store is opened while the other one serves.
    pub doubts: bool,
    /// What the witness alone decides is committed by nobody without it.
    pub witness_alone: bool,
    /// Whoever was away opens nothing before the other site was read.
    pub opens_read: bool,
}

impl Rules {
    /// All of them.
    pub const ALL: Self = Self {
        told: true,
        versions: true,
        api_rules: true,
        sessions: true,
        rows: true,
        positive: true,
        after_claim: true,
        reads_peer: true,
        orphans: true,
        reread: true,
        drops_sync: true,
        closes_self: true,
        same_row: true,
        looks_at_sync: true,
        doubts: true,
        witness_alone: true,
        opens_read: true,
    };
}

/// What a person is asked to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    Abort,
    Force,
    AssertFenced,
    AcceptLoss,
}

impl Ask {
    /// By the command that is named.
    fn of(wait: &Wait) -> Option<Self> {
        Self::named(wait.next.as_deref()?.split(' ').nth(3)?)
    }

    fn named(verb: &str) -> Option<Self> {
        match verb {
            "abort" => Some(Self::Abort),
            "force" => Some(Self::Force),
            "assert-fenced" => Some(Self::AssertFenced),
            "accept-data-loss" => Some(Self::AcceptLoss),
            _ => None,
        }
    }
}

/// What an operator would do now.
#[derive(Clone, Debug, Default)]
pub struct Intents {
    pub deeds: Vec<Deed>,
    /// What its order waits for a person to say.
    pub ask: Option<Ask>,
}

/// All operators: they differ by what they see alone, so that each sight is thought about once.
pub struct Operators {
    pub rules: Rules,
    /// Whether the store is `synchronous: Required`.
    pub required: bool,
    thought: Mutex<HashMap<Sight, Arc<Intents>>>,
}

impl Operators {
    pub fn new(rules: Rules, required: bool) -> Self {
        Self { rules, required, thought: Mutex::default() }
    }

    /// What the operator of a site sees.
    pub fn sight(&self, world: &World, site: Place) -> Sight {
        let (here, there) = (&world.sites[site], &world.sites[1 - site]);
        let reach = world.reach();
        Sight {
            site,
            own: here.auth,
            peer: match here.peer {
                Peer::NotRead => None,
                Peer::Followed => Some(there.auth),
                Peer::Last(auth) => Some(auth),
            },
            witness: world.witness.map(|reaches| reaches[site].then_some(world.chain)),
            server: here.looked.then_some(here.server),
            // Of the other server only who leads matters here, not what was written to it.
            server_there: reach.then_some(there.server),
            silent: !reach,
            came: here.came,
            order: here.moving().copied(),
        }
    }

    /// What it would do.
    pub fn intents(&self, world: &World, site: Place) -> Arc<Intents> {
        let mut sight = self.sight(world, site);
        for server in [&mut sight.server, &mut sight.server_there].into_iter().flatten() {
            (server.log, server.sync, server.lifted) = (0, false, 0);
        }
        let mut thought = self.thought.lock().expect("nobody panics with it");
        let think = || Arc::new(think(&self.rules, &sight));
        Arc::clone(thought.entry(sight).or_insert_with(think))
    }
}

/// What the site is to believe.
pub fn believes(sight: &Sight, known: &Knowledge) -> Decision {
    decide_authority(SITES[sight.site], &GROUP, known, Timestamp::UNIX_EPOCH)
}

fn ballot(ballot: i64) -> Ballot {
    Ballot::try_from(ballot).expect("bounds keep ballots small")
}

/// As a deed, what the witness is to be asked.
pub fn record(decision: &Decision) -> Option<Deed> {
    let asked = decision.ask_witness.as_ref()?;
    let holder = SITES.iter().position(|name| asked.holders.first().is_some_and(|first| first == name))?;
    Some(Deed::Record { after: ballot(asked.after), epoch: ballot(asked.epoch), holder: holder as u8 })
}

fn think(rules: &Rules, sight: &Sight) -> Intents {
    let known = sight.knowledge();
    let decision = believes(sight, &known);
    let write =
        decision.write.as_ref().map(|next| Deed::Write { next: Auth::of(next), first: decision.first_claim });
    let mut intents = Intents::default();
    match record(&decision) {
        Some(asked) => intents.deeds.push(asked),
        None => intents.deeds.extend(write),
    }
    let own = decision.write.as_ref().or(known.own.as_ref());
    intents.deeds.extend(own.map(|own| owed(rules, sight, own, &decision, &known)).unwrap_or_default());
    intents.deeds.extend(give_up(rules, sight, &known).filter(|_| rules.orphans));
    let Some(order) = &sight.order else { return intents };
    if let Some(write) = write.filter(|_| !decision.first_claim) {
        // What others know better is copied before anything is decided on it.
        if !intents.deeds.contains(&write) {
            intents.deeds.push(write);
        }
        return intents;
    }
    match next(rules, sight, &known, order) {
        Next::Do(_, act) => intents.deeds.push(deed(&act, sight)),
        Next::Wait(_, wait) => intents.ask = Ask::of(&wait),
        Next::End(phase, _) => intents.deeds.push(Deed::End(phase)),
    }
    intents
}

fn owed(
    rules: &Rules,
    sight: &Sight,
    own: &AuthoritySpec,
    decision: &Decision,
    known: &Knowledge,
) -> Vec<Deed> {
    let doubts = |shown: &StoreShows| rules.doubts || !own.is_held_by(SITES[sight.site]) || !shown.open;
    let there = |_: &str, _: &str| sight.server_there.map(|server| server.shows()).filter(doubts);
    let mut own = own.clone();
    if !rules.positive
        && let Some(row) = sight.server.map(|server| i64::from(server.ballot))
    {
        let peers = known.peers.iter().filter_map(|(_, shown)| shown.read()?.as_ref());
        let shown = peers.flat_map(|peer| &peer.claims).any(|claim| claim.ballot == row);
        if !shown && !is_withdrawn([&own], row) {
            own.withdrawn.push(row);
        }
    }
    let mut known = known.clone();
    for (_, shown) in known.peers.iter_mut().filter(|(_, shown)| shown.read().is_none() && !rules.opens_read)
    {
        *shown = Known::Read(None);
    }
    let all = duties(SITES[sight.site], sight.site, &own, decision.state, &known, there);
    let deeds = all.into_iter().map(|duty| match duty {
        Duty::Close { ballot: by, follows, .. } => {
            Deed::Close { ballot: ballot(by), follows: ballot(follows) }
        }
        Duty::Lift { ballot: by, .. } => Deed::Reopen { ballot: ballot(by) },
        Duty::Open { epoch, .. } => Deed::OpenHeld { epoch: ballot(epoch) },
        Duty::Thaw { .. } => Deed::ThawOwn,
        Duty::Follow { epoch, .. } => Deed::Follow { epoch: ballot(epoch) },
    });
    let pressed = |deed: &Deed| matches!(deed, Deed::Close { ballot, .. } if i64::from(*ballot) > own.epoch);
    deeds.filter(|deed| rules.closes_self || !pressed(deed)).collect()
}

/// The task of the controller of Failovers that gives up claims that are nobody's.
fn give_up(rules: &Rules, sight: &Sight, known: &Knowledge) -> Option<Deed> {
    let at_work = sight.order.iter().map(|order| order.order.to_string()).collect();
    let stores = if rules.doubts { known.stores.clone() } else { Vec::new() };
    let known = &Knowledge { stores, ..known.clone() };
    let claim = orphan(known, SITES[sight.site], &at_work)?;
    let next = withdraw(known.own.as_ref()?, SITES[sight.site], claim.ballot).ok()?;
    Some(Deed::Write { next: Auth::of(&next), first: false })
}

/// What the order does next.
fn next(rules: &Rules, sight: &Sight, known: &Knowledge, order: &super::world::Move) -> Next {
    let mut known = known.clone();
    let own = known.own.clone().unwrap_or_default();
    let mine = slot(&own, SITES[sight.site]).cloned();
    for (_, shown) in &mut known.peers {
        match shown {
            Known::NotYet(_) if !rules.reads_peer => *shown = Known::Read(None),
            Known::Read(Some(there)) if !rules.told => {
                there.claims.retain(|claim| claim.site != SITES[sight.site]);
                there.claims.extend(mine.clone());
            }
            _ => {}
        }
    }
    if let Some(mine) = own_claim(&mut known, sight.site).filter(|_| !rules.witness_alone) {
        mine.by_witness = None;
    }
    let silent: Vec<String> = sight.silent.then(|| SITES[1 - sight.site].to_owned()).into_iter().collect();
    // Whether the other site follows again ends an order, and decides nothing.
    let view = View { silent: &silent, ..View::clear(SITES[sight.site], sight.site, "move", &known) };
    decide_move(&view, &order.journal())
}

fn own_claim(known: &mut Knowledge, site: Place) -> Option<&mut Claim> {
    known.own.as_mut()?.claims.iter_mut().find(|claim| claim.site == SITES[site])
}

fn deed(act: &Act, sight: &Sight) -> Deed {
    match act {
        Act::Claim { ballot: by, follows, fence, by_witness } => Deed::Claim {
            ballot: ballot(*by),
            follows: ballot(*follows),
            fence: *fence,
            by_witness: *by_witness,
        },
        Act::Tell(_) => Deed::Tell,
        Act::Press => Deed::Press,
        Act::Fence(_) => Deed::Fence,
        Act::Confirm { .. } | Act::Stop => unreachable!("no cloud is asked"),
        Act::CatchUp(_) => Deed::CatchUp,
        Act::Freeze(_) => Deed::Freeze,
        Act::Try => unreachable!("it was tried"),
        Act::Call(_) => unreachable!("the group has no hooks"),
        Act::Mark => Deed::Mark { seen: sight.peer },
        Act::Decide => Deed::Decide,
        Act::Commit => Deed::Commit { seen: sight.peer },
        Act::Promote(_) => Deed::Promote,
        Act::Open(_) => Deed::Open,
        Act::Serve => Deed::Serve,
        Act::Withdraw => Deed::Withdraw,
        Act::Lift(_) => Deed::Lift,
        Act::Grow | Act::Replay(_) | Act::Shrink => unreachable!("nothing is rehearsed"),
    }
}
