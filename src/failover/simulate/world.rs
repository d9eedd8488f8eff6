//! The sites, what lies between them, users who write, and the course of time.

use std::collections::{BTreeMap, BTreeSet};

use super::report::{Ended, Line, Report, Writes};
use super::server::{Log, Server};
use super::story::Story;
use super::time::{TICKS, clock, ticks};
use crate::api::authority::{AuthoritySpec, AuthorityStatus, next_ballot};
use crate::api::{Failover, FailoverGroupSpec, FailoverStatus};
use crate::authority::abandoned::Watched;
use crate::authority::answer::{Answer, Asked, answer};
use crate::authority::known::Decided;
use crate::failover::status;

/// The name of the group.
pub(super) const GROUP: &str = "group";
/// A standby of which nothing was heard for longer is none, in ticks.
const STREAMS: u64 = 10 * TICKS;

/// What is said of who does not answer.
pub(super) const NO_ANSWER: &str = "no answer within 5 s";

/// What the operator of a site knows since it was started.
#[derive(Clone, Debug, Default)]
pub(super) struct Mind {
    /// Since when it runs.
    pub(super) since: u64,
    /// What it has read of other sites, by their places.
    pub(super) read: BTreeMap<usize, Option<AuthoritySpec>>,
    /// Sites that did not answer, and until when they are not asked again.
    pub(super) silent: BTreeMap<usize, u64>,
    /// What it has seen of claims that close this site.
    pub(super) watched: Watched,
    /// Until when it waits for an answer.
    pub(super) busy: u64,
    /// Until when its order rests, unless something happens.
    pub(super) rests: u64,
}

/// An order, as it lies in the cluster.
#[derive(Clone, Debug)]
pub(super) struct Ordered {
    pub(super) failover: Failover,
    pub(super) status: FailoverStatus,
    pub(super) deleted: bool,
}

impl Site {
    /// Whether there is anything that its pods could run on.
    pub(super) fn runs(&self) -> bool {
        self.up && !self.stopped
    }
}

/// What an API server holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    pub(super) authority: Option<AuthoritySpec>,
    /// What the operator said of it last.
    pub(super) stands: Option<AuthorityStatus>,
    /// What the operator said in the status of the group: epoch and holders.
    pub(super) remembered: Option<(i64, Vec<String>)>,
}

/// One site.
#[derive(Clone, Debug)]
pub(super) struct Site {
    pub(super) name: String,
    pub(super) up: bool,
    pub(super) api: bool,
    pub(super) operator: bool,
    pub(super) databases: bool,
    /// Whether all its nodes are gone, and when those will be that are being stopped.
    pub(super) stopped: bool,
    pub(super) stops: Option<u64>,
    pub(super) application: bool,
    pub(super) held: Held,
    pub(super) backup: Option<Held>,
    /// What `banyan authority` has read last.
    pub(super) answers: Held,
    pub(super) servers: Vec<Server>,
    pub(super) order: Option<Ordered>,
    pub(super) capacity: Option<String>,
    pub(super) readiness: Option<String>,
    pub(super) residency: Option<String>,
    pub(super) mind: Mind,
}

/// Everything.
pub(super) struct World {
    pub(super) story: Story,
    pub(super) spec: FailoverGroupSpec,
    pub(super) sites: Vec<Site>,
    pub(super) network: bool,
    pub(super) witness: bool,
    pub(super) replication: bool,
    /// Hooks that do not answer.
    pub(super) failing_hooks: BTreeSet<String>,
    /// What the witness has decided.
    pub(super) chain: Vec<Decided>,
    /// How often the FailoverGroup was changed.
    pub(super) changes: u32,
    pub(super) orders: u32,
    pub(super) said: u32,
    pub(super) now: u64,
    pub(super) lines: Vec<Line>,
    shown: BTreeMap<String, String>,
    users: Users,
}

/// Users who write, ten times a second.
#[derive(Default)]
struct Users {
    written: u64,
    acked: Log,
    /// Since when none of their writes was acknowledged.
    since: Option<u64>,
    without: u64,
    longest: u64,
    both: u64,
}

/// Tells a story to its end.
pub fn run(story: Story) -> Report {
    tell(story, |_| ()).end()
}

/// Tells a story to its end, and shows each order and what is said of each site's authority, at every moment.
pub fn run_with(story: Story, mut order: impl FnMut(&Failover), mut authority: impl FnMut(&AuthorityStatus)) {
    tell(story, |world| {
        for site in &world.sites {
            site.order.iter().for_each(|ordered| order(&ordered.failover));
            site.held.stands.iter().for_each(&mut authority);
        }
    });
}

fn tell(story: Story, mut watch: impl FnMut(&World)) -> World {
    let mut world = World::new(story);
    let last = ticks(&world.story.lasts);
    let mut next = 0;
    for now in 0..=last {
        world.now = now;
        while let Some(event) = world.story.events.get(next).filter(|event| ticks(&event.at) <= now).cloned()
        {
            world.happen(&event);
            next += 1;
        }
        world.leave();
        world.replicate();
        for site in 0..world.sites.len() {
            world.turn(site);
        }
        world.answer();
        world.write();
        world.look();
        watch(&world);
    }
    world
}

impl World {
    fn new(story: Story) -> Self {
        let group = &story.group;
        let spec = FailoverGroupSpec {
            sites: group.sites.clone(),
            active: group.everywhere.then_some(crate::api::failovergroup::Active::All),
            approval: group.approval.clone(),
            hooks: Some(group.hooks.clone()),
            deadline: group.deadline.clone(),
            fence: group.fence.clone(),
            ..FailoverGroupSpec::default()
        };
        let epoch = next_ballot(0, 0);
        let holders = if group.everywhere { group.sites.clone() } else { group.sites[..1].to_vec() };
        let promoted = |place: usize| (place == 0 || group.everywhere).then_some(epoch);
        let sites = group.sites.iter().enumerate().map(|(place, name)| {
            let authority = AuthoritySpec {
                epoch,
                holders: holders.clone(),
                promoted: promoted(place),
                ..AuthoritySpec::default()
            };
            let held = Held { authority: Some(authority), stands: None, remembered: None };
            Site {
                name: name.clone(),
                up: true,
                api: true,
                operator: true,
                databases: true,
                stopped: false,
                stops: None,
                application: true,
                answers: held.clone(),
                held,
                backup: None,
                servers: group.stores.iter().map(|_| Server::new(place == 0, group.synchronous)).collect(),
                order: None,
                capacity: None,
                readiness: None,
                residency: None,
                mind: Mind::default(),
            }
        });
        Self {
            sites: sites.collect(),
            chain: match group.witness {
                true => vec![Decided { after: 0, epoch, holders }],
                false => Vec::new(),
            },
            spec,
            network: true,
            witness: true,
            replication: true,
            failing_hooks: BTreeSet::new(),
            changes: 0,
            orders: 0,
            said: 0,
            now: 0,
            lines: Vec::new(),
            shown: BTreeMap::new(),
            users: Users::default(),
            story,
        }
    }

    /// Whether two sites reach each other.
    pub(super) fn reach(&self, one: usize, other: usize) -> bool {
        one == other || self.network && self.sites[one].up && self.sites[other].up
    }

    /// Whether the API server of a site can be asked from another one.
    pub(super) fn asks(&self, from: usize, to: usize) -> bool {
        self.reach(from, to) && self.sites[to].up && self.sites[to].api
    }

    /// Whether the databases of a site can be asked from another one.
    pub(super) fn wires(&self, from: usize, to: usize) -> bool {
        self.reach(from, to) && self.sites[to].runs() && self.sites[to].databases
    }

    /// The nodes of a site are gone from now on, or back; whatever runs on them begins anew then.
    pub(super) fn stop_nodes(&mut self, place: usize, stopped: bool) {
        let site = &mut self.sites[place];
        (site.stopped, site.stops) = (stopped, None);
        site.mind = Mind { since: self.now, ..Mind::default() };
    }

    /// The nodes that have been stopped for long enough are gone.
    fn leave(&mut self) {
        for place in 0..self.sites.len() {
            if self.sites[place].stops.is_some_and(|at| at <= self.now) {
                self.stop_nodes(place, true);
            }
        }
    }

    /// Whether a server follows another one, and hears of it.
    pub(super) fn streams(&self, from: usize, to: usize, store: usize) -> bool {
        let server = &self.sites[to].servers[store];
        let there = self.replication && self.wires(from, to) && self.wires(from, from);
        there && from != to && !server.primary && !server.frozen && server.follows == from
    }

    /// What is written goes to those who follow.
    fn replicate(&mut self) {
        for store in 0..self.story.group.stores.len() {
            for from in 0..self.sites.len() {
                if self.wires(from, from) && self.sites[from].servers[store].primary {
                    let held = self.sites[from].held.authority.as_ref();
                    // The operator of the site that has authority says what time it is.
                    if held.is_some_and(|own| own.is_held_by(&self.sites[from].name)) && self.acts(from) {
                        self.sites[from].servers[store].beat = self.now;
                    }
                    let server = self.sites[from].servers[store].clone();
                    for to in 0..self.sites.len() {
                        if self.streams(from, to, store) {
                            self.sites[to].servers[store].replay(&server);
                        }
                    }
                }
            }
        }
    }

    /// Whether the operator of a site can work at all.
    pub(super) fn acts(&self, site: usize) -> bool {
        let site = &self.sites[site];
        site.runs() && site.api && site.operator
    }

    /// What `banyan authority` reads.
    fn answer(&mut self) {
        for site in &mut self.sites {
            if site.up && site.api {
                site.answers.clone_from(&site.held);
            }
        }
    }

    /// Whether a site says that users are to come.
    pub(super) fn is_active(&self, place: usize) -> bool {
        let site = &self.sites[place];
        let Some(spec) = site.answers.authority.as_ref().filter(|_| site.runs()) else { return false };
        let peers = self.sites.iter().enumerate().filter(|(other, _)| *other != place);
        let peers = peers.filter(|(other, peer)| self.reach(place, *other) && peer.runs());
        let peers = peers.filter_map(|(_, peer)| {
            let spec = peer.answers.authority.as_ref()?;
            Some(Answer {
                group: GROUP.to_owned(),
                site: peer.name.clone(),
                active: false,
                epoch: spec.epoch,
                holders: spec.holders.clone(),
                why: String::new(),
            })
        });
        let peers: Vec<Answer> = peers.collect();
        let application = match site.application {
            true => Ok(()),
            false => Err("it answers with 500".to_owned()),
        };
        let asked = Asked {
            site: &site.name,
            group: GROUP,
            spec,
            status: site.answers.stands.as_ref(),
            peers: &peers,
            application: Some(&application),
        };
        answer(&asked).active
    }

    /// Whether the databases of a site take a write, and acknowledge it.
    fn takes_writes(&self, place: usize) -> bool {
        let all = |store: usize| {
            let server = &self.sites[place].servers[store];
            let open = self.wires(place, place) && server.primary && server.is_open();
            let mut others = (0..self.sites.len()).filter(|to| self.streams(place, *to, store));
            open && (!server.waits || others.next().is_some())
        };
        self.needed().all(all)
    }

    /// The stores that a move does not go on without.
    pub(super) fn needed(&self) -> impl Iterator<Item = usize> {
        let group = &self.story.group;
        let needed = group.stores.iter().enumerate().filter(|(_, name)| !group.optional.contains(name));
        needed.map(|(store, _)| store)
    }

    /// Users write where they are sent.
    fn write(&mut self) {
        let write = self.users.written;
        self.users.written += 1;
        let taken: Vec<usize> = (0..self.sites.len())
            .filter(|place| self.is_active(*place) && self.takes_writes(*place))
            .collect();
        for place in &taken {
            for store in self.needed().collect::<Vec<_>>() {
                self.sites[*place].servers[store].log.push(write);
                // What is waited for is there at once.
                let server = self.sites[*place].servers[store].clone();
                for to in 0..self.sites.len() {
                    if server.waits && self.streams(*place, to, store) {
                        self.sites[to].servers[store].replay(&server);
                    }
                }
            }
        }
        let users = &mut self.users;
        // Where nothing is kept, nothing is torn apart.
        users.both += u64::from(taken.len() > 1 && !self.story.group.stores.is_empty());
        if taken.is_empty() {
            let since = *users.since.get_or_insert(self.now);
            users.without += 1;
            users.longest = users.longest.max(self.now + 1 - since);
        } else {
            users.since = None;
            users.acked.push(write);
        }
    }

    /// Notes what changed, under a name.
    pub(super) fn show(&mut self, of: &str, words: String) {
        if self.shown.get(of) != Some(&words) {
            self.lines.push(Line::Change { at: clock(self.now), of: of.to_owned(), words: words.clone() });
            self.shown.insert(of.to_owned(), words);
        }
    }

    /// Notes what is worth a line of what stands now.
    fn look(&mut self) {
        for place in 0..self.sites.len() {
            let site = &self.sites[place];
            let name = site.name.clone();
            if let Some(words) = site.held.stands.as_ref().filter(|_| self.acts(place)).map(stands) {
                self.show(&name, words);
            }
            let stores = self.story.group.stores.clone();
            for (store, called) in stores.iter().enumerate() {
                let server = &self.sites[place].servers[store];
                let words = match (self.wires(place, place), server.primary, server.is_open()) {
                    (false, ..) => "away".to_owned(),
                    (_, true, true) => "an open primary".to_owned(),
                    (_, true, false) => "a closed primary".to_owned(),
                    (_, false, _) if server.frozen => "a standby that takes in nothing".to_owned(),
                    (_, false, _) => format!("a standby of {}", self.sites[server.follows].name),
                };
                self.show(&format!("{called} at {name}"), words);
            }
            if let Some(order) = &self.sites[place].order {
                let (of, words) = (format!("{} at {name}", called(&order.failover)), said(&order.status));
                self.show(&of, words);
            }
        }
        let active: Vec<&str> = (0..self.sites.len())
            .filter(|place| self.is_active(*place))
            .map(|place| self.sites[place].name.as_str())
            .collect();
        let words = if active.is_empty() { "nowhere".to_owned() } else { active.join(" and ") };
        self.show("users", format!("are sent to {words}"));
    }

    /// Whether a server at a site follows that of the other one, and was heard of lately.
    pub(super) fn follows(&self, from: usize, to: usize, store: usize) -> bool {
        let server = &self.sites[to].servers[store];
        self.streams(from, to, store) && server.beat + STREAMS >= self.now
    }

    fn end(self) -> Report {
        let stores: Vec<usize> = self.needed().collect();
        let best =
            self.sites.iter().filter_map(|site| site.held.authority.as_ref()).max_by_key(|own| own.epoch);
        let (epoch, holders) = best.map(|own| (own.epoch, own.holders.clone())).unwrap_or_default();
        let holder = self.sites.iter().find(|site| holders.contains(&site.name));
        let lacks = |write: &u64| {
            let has = |store: usize| holder.is_some_and(|site| site.servers[store].log.has(*write));
            self.users.acked.has(*write) && !stores.iter().copied().all(has)
        };
        let lost = (0..self.users.written).filter(lacks).count() as u64;
        let seconds = |ticks: u64| ticks as f64 / TICKS as f64;
        let orders = self.sites.iter().filter_map(|site| {
            let order = site.order.as_ref()?;
            Some(Ended {
                name: called(&order.failover),
                site: site.name.clone(),
                says: said(&order.status),
                next: order.status.next.clone(),
            })
        });
        Report {
            about: self.story.about.clone(),
            orders: orders.collect(),
            epoch,
            holders,
            writes: Writes {
                acknowledged: self.users.acked.len(),
                lost,
                without_seconds: seconds(self.users.without),
                longest_seconds: seconds(self.users.longest),
                both_seconds: seconds(self.users.both),
            },
            lines: self.lines,
        }
    }
}

/// The name of an order.
pub(super) fn called(failover: &Failover) -> String {
    failover.metadata.name.clone().unwrap_or_default()
}

/// How a site stands.
fn stands(status: &AuthorityStatus) -> String {
    let state = status.state.map_or("", |state| state.as_str());
    format!("{state}: {}", status.message.as_deref().unwrap_or_default())
}

/// What an order says of itself.
fn said(status: &FailoverStatus) -> String {
    let phase = status.phase.map_or("ordered", |phase| phase.as_str());
    let step = status.step.iter().map(|step| format!(" at {step}"));
    let reason = status.reason.iter().map(|reason| format!(", {reason}"));
    let message = status.message.iter().map(|message| format!(": {message}"));
    let late = status::lateness(Some(status)).into_iter().map(|late| format!("\n            {late}"));
    let next = status.next.iter().map(|next| format!("\n            type `{next}`"));
    step.chain(reason)
        .chain(message)
        .chain(late)
        .chain(next)
        .fold(phase.to_owned(), |said, more| said + &more)
}
