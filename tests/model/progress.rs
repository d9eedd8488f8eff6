//! Progress: once the faults have ended, and people do what they are asked, some site serves again.
//!
//! A search backward from the worlds in which one serves, over all that can happen in a calm world. `eventually` of
//! stateright is right on paths without circles only.

use std::collections::{HashMap, VecDeque};

use banyan::api::failover::MoveAction;

use super::carry::{begin, carry};
use super::checker::Sites;
use super::operator::Ask;
use super::world::{Left, Peer, Site, World};

/// A world out of which nothing leads.
pub struct Stuck {
    pub rule: &'static str,
    pub world: World,
    /// What happens in it for a while.
    pub after: Vec<String>,
}

/// What holds once the faults have ended: nothing heals, nobody returns, nobody who was paused wakes up.
fn calm(world: &World) -> World {
    let mut next = World { calm: true, left: Left::default(), ..*world };
    next.witness = next.witness.map(|_| [true, true]);
    for site in &mut next.sites {
        site.late = None;
    }
    next
}

/// A world out of which nothing leads, if there is one.
pub fn stuck(sites: &Sites, seen: &[World]) -> Option<Stuck> {
    let lives = |world: &&World| world.sites.iter().any(|site| site.alive);
    let all: Vec<World> = seen.iter().filter(lives).map(calm).collect();
    if let Some((world, after)) = search(sites, &all, true) {
        return Some(Stuck { rule: "P1 some site serves again", world, after });
    }
    let both = |world: &&World| world.link && world.sites.iter().all(|site| site.alive);
    let removed = |world: &World| world.left.removals < sites.scenario.left.removals;
    let over = |world: &World| !world.sites.iter().any(|site| site.is_moving());
    let given_up = |world: &&World| world.was_given_up() || removed(world) && over(world);
    // An order that is lost after its commit must be given anew.
    let settled =
        |world: &&World| !world.sites.iter().enumerate().any(|(site, here)| here.is_committed(site));
    let all: Vec<World> = seen.iter().filter(both).filter(given_up).filter(settled).map(calm).collect();
    let (world, after) = search(sites, &all, false)?;
    Some(Stuck { rule: "P2 what was given up needs no further order", world, after })
}

/// Whether a site serves; or waits for the other one as its group asks, since nothing was moved yet.
fn serves(world: &World) -> bool {
    let waits = |site: usize| {
        let server = world.sites[site].server;
        let asked =
            World { sites: world.sites.map(|site| Site { alive: true, ..site }), link: true, ..*world };
        server.sync && server.opened_at == 0 && world.sites[site].alive && asked.serves(site)
    };
    (0..2).any(|site| world.serves(site) || waits(site))
}

/// One from which no world is reached in which a site serves.
fn search(sites: &Sites, begin: &[World], people: bool) -> Option<(World, Vec<String>)> {
    let mut before: HashMap<World, Vec<World>> = HashMap::new();
    let mut open: VecDeque<World> = VecDeque::new();
    let mut good: VecDeque<World> = VecDeque::new();
    for world in begin {
        if !before.contains_key(world) {
            before.insert(*world, Vec::new());
            open.push_back(*world);
        }
    }
    while let Some(world) = open.pop_front() {
        if serves(&world) {
            good.push_back(world);
            continue;
        }
        for (_, next) in goes_on(sites, &world, people) {
            let known = before.contains_key(&next);
            before.entry(next).or_default().push(world);
            if !known {
                open.push_back(next);
            }
        }
    }
    let mut well: std::collections::HashSet<World> = good.iter().copied().collect();
    while let Some(world) = good.pop_front() {
        for earlier in &before[&world] {
            if well.insert(*earlier) {
                good.push_back(*earlier);
            }
        }
    }
    let stuck = begin.iter().find(|world| !well.contains(*world))?;
    let (mut now, mut words) = (*stuck, Vec::new());
    for _ in 0..40 {
        let Some((what, next)) = goes_on(sites, &now, people).into_iter().next() else { break };
        words.push(what);
        now = next;
    }
    words.push(format!("and so on: {now:#?}"));
    Some((*stuck, words))
}

/// What can happen in a calm world: operators first, and people once all operators rest.
fn goes_on(sites: &Sites, world: &World, people: bool) -> Vec<(String, World)> {
    let mut found = Vec::new();
    for site in 0..2 {
        let here = &world.sites[site];
        if !here.alive {
            continue;
        }
        if let Some(doing) = here.doing {
            let next = carry(&sites.operators, world, site, doing, true).world;
            return vec![(format!("{site} does {:?}", doing.deed), next)];
        }
        if !here.looked || here.peer != Peer::Followed && world.reach() {
            let mut next = *world;
            next.sites[site].looked = true;
            if world.reach() {
                next.sites[site].peer = Peer::Followed;
            }
            return vec![(format!("{site} looks"), next)];
        }
        if let Some(next) = world.let_go(site, &sites.operators.rules) {
            return vec![(format!("{site} is not kept still"), next)];
        }
    }
    for site in (0..2).filter(|site| world.sites[*site].alive) {
        for deed in &sites.operators.intents(world, site).deeds {
            if matches!(deed, super::world::Deed::Claim { ballot, .. } if *ballot > sites.bounds.greatest + 64)
            {
                continue;
            }
            let next = begin(world, site, *deed);
            let next = match next.sites[site].doing {
                Some(doing) => finish(sites, &next, site, doing),
                None => next,
            };
            if next != *world {
                found.push((format!("{site} {deed:?}"), next));
            }
        }
        if let Some(next) = world.replicated(site) {
            found.push((format!("{site} replicates"), next));
        }
    }
    if found.is_empty() && people {
        found = people_say(sites, world);
    }
    found
}

/// Carries a deed out to its end.
fn finish(sites: &Sites, world: &World, site: usize, doing: super::world::Doing) -> World {
    let mut next = carry(&sites.operators, world, site, doing, true).world;
    while let Some(doing) = next.sites[site].doing {
        next = carry(&sites.operators, &next, site, doing, true).world;
    }
    next
}

/// What an order waits for a person to say, by its decision or by what could not be done.
fn asked(sites: &Sites, world: &World, site: usize) -> Option<Ask> {
    let intents = sites.operators.intents(world, site);
    if intents.ask.is_some() {
        return intents.ask;
    }
    let asks = intents.deeds.iter().filter_map(|deed| {
        let mut next = begin(world, site, *deed);
        while let Some(doing) = next.sites[site].doing {
            let done = carry(&sites.operators, &next, site, doing, true);
            if done.ask.is_some() {
                return done.ask;
            }
            next = done.world;
        }
        None
    });
    asks.into_iter().next()
}

fn people_say(sites: &Sites, world: &World) -> Vec<(String, World)> {
    let mut found = Vec::new();
    for site in (0..2).filter(|site| world.sites[*site].alive) {
        let here = &world.sites[site];
        let mut next = *world;
        let Some(order) = &mut next.sites[site].order.filter(|order| order.over.is_none()) else {
            if here.auth.is_some_and(|auth| auth.epoch > 0) {
                // Of all orders there may be at once, none has the same number.
                let used: Vec<u8> = world.sites.iter().flat_map(|site| site.numbers()).collect();
                next.ordered = (100..).find(|number| !used.contains(number)).unwrap_or(100) - 1;
                next.order(site, MoveAction::Failover);
                next.ordered = 0;
                found.push((format!("{site} gets the order of a Failover"), next));
            }
            continue;
        };
        let Some(ask) = asked(sites, world, site) else { continue };
        match ask {
            Ask::Abort => order.abort = true,
            Ask::Force => order.action = MoveAction::Failover,
            Ask::AcceptLoss => order.accepts_loss = true,
            Ask::AssertFenced if world.sites[1 - site].alive => {
                // What is asserted is made true first.
                next.dies(1 - site);
                if next.sites[site].peer == Peer::Followed {
                    next.sites[site].peer = Peer::Last(world.sites[1 - site].auth);
                }
                found.push((format!("{site}: a person stops the other site"), next));
                continue;
            }
            Ask::AssertFenced if !world.presses(site) => continue,
            Ask::AssertFenced => {
                next.assert_fenced(site);
                found.push((format!("{site} hears: assert-fenced"), next));
                continue;
            }
        }
        next.sites[site].order = Some(*order);
        found.push((format!("{site} hears: {ask:?}"), next));
    }
    found.retain(|(_, next)| next != world);
    found
}
