//! Has stateright explore all that can happen, and says what it found.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use banyan::api::failover::MoveAction;
use stateright::{Checker, HasDiscoveries, Model, Property};

use super::chances::{Bounds, Chance, Chances};
use super::operator::{Operators, Rules};
use super::progress::{self, Stuck};
use super::world::{Auth, Left, Peer, Place, Server, Site, World};

/// Both kinds of order, at both sites.
pub const BOTH: &[MoveAction] = &[MoveAction::Switchover, MoveAction::Failover];
/// Both sites.
pub const EVERYWHERE: &[Place] = &[0, 1];

/// What is explored.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub name: &'static str,
    pub left: Left,
    pub kinds: &'static [MoveAction],
    pub at: &'static [Place],
    pub rules: Rules,
    pub witness: bool,
    /// Whether each commit at the first site waits for the second.
    pub synchronous: bool,
    /// Whether nobody has authority yet.
    pub unclaimed: bool,
    /// Whether from each world that can be reached a site can serve again, with people who do what they are asked.
    pub progress: bool,
    /// The greatest ballot that is claimed.
    pub greatest: u8,
}

impl Scenario {
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            left: Left {
                cuts: 0,
                witness_cuts: 0,
                deaths: 0,
                orders: 0,
                aborts: 0,
                forces: 0,
                assertions: 0,
                false_assertions: 0,
                kept: 0,
                pauses: 0,
                crashes: 0,
                restores: 0,
                deletions: 0,
                removals: 0,
                writes: 0,
            },
            kinds: BOTH,
            at: EVERYWHERE,
            rules: Rules::ALL,
            witness: false,
            synchronous: false,
            unclaimed: false,
            progress: false,
            greatest: 16 * 6 + 1,
        }
    }

    fn start(&self) -> World {
        let epoch = if self.unclaimed { 0 } else { 16 };
        let auth = |promoted| Auth { epoch, promoted, ..Auth::default() };
        // The first claim orders no store: there is no row.
        let server = |primary: bool| Server {
            primary,
            follows: !primary,
            frozen: false,
            sync: self.synchronous,
            ballot: 0,
            opened_at: 0,
            open: true,
            lifted: 0,
            log: 0,
        };
        let site = |primary: bool| Site {
            alive: true,
            auth: (!self.unclaimed).then(|| auth(if primary { epoch } else { 0 })),
            peer: Peer::Followed,
            looked: true,
            came: 0,
            server: server(primary),
            kept_still: false,
            order: None,
            doing: None,
            late: None,
        };
        let mut chain = [None; 8];
        if self.witness && !self.unclaimed {
            chain[0] = Some((0, epoch, 0));
        }
        World {
            sites: [site(true), site(false)],
            link: true,
            witness: self.witness.then_some([true, true]),
            chain,
            acked: 0,
            written: 0,
            ordered: 0,
            left: self.left,
            broken: None,
            calm: false,
        }
    }
}

/// The model that is explored.
pub struct Sites {
    pub scenario: Scenario,
    pub operators: Operators,
    pub bounds: Bounds,
    /// Each world that was looked at, where progress is asked for.
    pub seen: Mutex<Vec<World>>,
}

impl Sites {
    fn new(scenario: Scenario) -> Self {
        let pauses = scenario.left.pauses + scenario.left.crashes > 0;
        let Scenario { kinds, at, greatest, .. } = scenario;
        let bounds = Bounds { kinds, at, pauses, greatest };
        let operators = Operators::new(scenario.rules, scenario.synchronous);
        Self { scenario, operators, bounds, seen: Mutex::default() }
    }
}

fn one_store_acknowledges(_: &Sites, world: &World) -> bool {
    !(world.acknowledges(0) && world.acknowledges(1))
}

fn nothing_is_lost(_: &Sites, world: &World) -> bool {
    world.broken != Some("S2")
}

fn epochs_stay(_: &Sites, world: &World) -> bool {
    world.broken != Some("S3")
}

fn who_serves_goes_on(sites: &Sites, world: &World) -> bool {
    sites.scenario.left.orders > 0 || !world.sites[0].alive || world.acknowledges(0)
}

impl Model for Sites {
    type State = World;
    type Action = (Chance, Box<World>);

    fn init_states(&self) -> Vec<World> {
        vec![self.scenario.start()]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Self::Action>) {
        if self.scenario.progress {
            self.seen.lock().expect("nobody panics with it").push(*world);
        }
        let chances = Chances { operators: &self.operators, bounds: &self.bounds, world, found: Vec::new() };
        actions.extend(chances.all().into_iter().map(|(chance, next)| (chance, Box::new(next))));
    }

    fn next_state(&self, _: &World, (_, next): Self::Action) -> Option<World> {
        Some(*next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("S1 never two stores that both acknowledge writes", one_store_acknowledges),
            Property::always("S2 no acknowledged write is lost unless a person accepts it", nothing_is_lost),
            Property::always("S3 no epoch falls, and each keeps its holders", epochs_stay),
            Property::always("S4 who serves goes on while nobody orders anything", who_serves_goes_on),
        ]
    }
}

/// What was found.
pub struct Found {
    pub states: usize,
    pub took: Duration,
    /// The rule that was broken, and how it came to it, the shortest way.
    pub broken: Option<(String, Vec<String>, World)>,
}

impl Found {
    /// For a report.
    pub fn print(&self, name: &str) {
        println!("{name}: {} states, {:.1} s", self.states, self.took.as_secs_f64());
        if let Some((rule, steps, world)) = &self.broken {
            println!("  broken: {rule}");
            for (number, step) in steps.iter().enumerate() {
                println!("  {:2} {step}", number + 1);
            }
            println!("  {world:#?}");
        }
    }
}

/// Explores a scenario until it is exhausted, or a rule is broken.
pub fn explore(scenario: Scenario) -> Found {
    let began = Instant::now();
    let sites = Sites::new(scenario);
    let checker = sites.checker().finish_when(HasDiscoveries::Any).spawn_bfs().join();
    let states = checker.unique_state_count();
    let first = checker.discoveries().into_iter().next();
    let mut broken = first.map(|(rule, path)| {
        let last = *path.last_state();
        let steps = path.into_actions().into_iter().map(|(chance, _)| chance.to_string()).collect();
        (rule.to_owned(), steps, last)
    });
    if broken.is_none() && scenario.progress {
        let seen = std::mem::take(&mut *checker.model().seen.lock().expect("nobody panics with it"));
        if let Some(Stuck { rule, world, after }) = progress::stuck(checker.model(), &seen) {
            broken = Some((rule.to_owned(), after, world));
        }
    }
    Found { states, took: began.elapsed(), broken }
}
