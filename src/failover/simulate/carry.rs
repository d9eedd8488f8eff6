//! Carries out one act of a move, on the sites of a story.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::server::Server;
use super::time::{SILENCE, TICKS, at};
use super::world::{NO_ANSWER, Ordered, World, called};
use crate::api::FailoverStatus;
use crate::api::authority::{AuthoritySpec, Claim, ClaimState};
use crate::api::failover::FenceLevel;
use crate::api::hook::HookPoint;
use crate::api::step::Step;
use crate::authority::claims::{self, Refused, greater, slot};
use crate::authority::known::{Decided, Knowledge};
use crate::clouds::nodes::{Nodes, Other, Pool};
use crate::failover::decide::holders;
use crate::failover::hooks::{self, Reply};
use crate::failover::nodes;
use crate::failover::outcome::{self, Closed, Done, Found, Of};
use crate::failover::source::source_of;
use crate::failover::status;
use crate::failover::view::{ASSERT, Act, command, untold_words};
use crate::runtime::remote::{DEADLINE, RemoteError};
use crate::stores::{CaughtUp, Fence, Promotion, StoreError};

/// How long it is waited at once for what is under way between the servers, in ticks.
const CATCHES_UP: u64 = 10 * TICKS;

/// How many nodes a site has, and how long they take to leave, in ticks.
const NODES: u32 = 3;
const LEAVES: u64 = 30 * TICKS;

/// One act.
pub(super) struct Hand<'a> {
    pub(super) world: &'a mut World,
    pub(super) site: usize,
    pub(super) order: &'a mut Ordered,
    pub(super) known: &'a Knowledge,
    pub(super) planned: bool,
}

fn no_answer() -> StoreError {
    StoreError::Remote(RemoteError::NoAnswer(DEADLINE))
}

impl Hand<'_> {
    pub(super) fn carry(&mut self, act: &Act) -> Done {
        let ballot = self.claim().0;
        let name = self.name();
        match act {
            Act::Claim { ballot, follows, fence, by_witness } => {
                let claim = Claim {
                    site: name,
                    ballot: *ballot,
                    follows: *follows,
                    fence: fence.then_some(true),
                    state: ClaimState::Open,
                    failover: self.order.failover.metadata.uid.clone(),
                    by_witness: by_witness.then_some(true),
                };
                self.put(claims::open(&self.own(), claim), format!("this site claims epoch {ballot}"))
            }
            Act::Tell(peer) => self.tell(peer),
            Act::Press => self.put(
                claims::press(&self.own(), &name, ballot),
                "the source is told to close its stores".to_owned(),
            ),
            Act::Fence(stores) => self.fence(stores),
            Act::Confirm { peer, stores } => {
                let next = Some(command(ASSERT, &called(&self.order.failover)));
                self.instead(Done::not_yet("ClaimNotTold", untold_words(peer, stores), next))
            }
            Act::Stop => self.stop(),
            Act::CatchUp(stores) => self.catch_up(stores),
            Act::Freeze(stores) => self.freeze(stores),
            Act::Call(hook) => self.call(hook),
            Act::Try => self.requests(),
            Act::Mark => self.confirmed().unwrap_or_else(|| {
                self.put(claims::mark(&self.own(), &name, ballot), "the witness is to decide".to_owned())
            }),
            Act::Decide => self.decide(),
            Act::Commit => self.confirmed().unwrap_or_else(|| {
                let change = claims::commit(&self.own(), &name, ballot, self.holding(), self.since());
                self.put(
                    change.map(|next| claims::opened_if_empty(next, self.known)),
                    format!("this site has authority in epoch {ballot}"),
                )
            }),
            Act::Promote(stores) => self.promote(stores),
            Act::Open(stores) => {
                let found = self.each(stores, |server| server.open(ballot).map(|()| true));
                self.taken("", |of, status| outcome::opened(of, found, status))
            }
            Act::Serve => self.serve(),
            Act::Withdraw => self.withdraw(),
            Act::Lift(stores) => self.lift(stores),
            Act::Grow | Act::Replay(_) | Act::Shrink => Done::Again,
        }
    }

    fn claim(&self) -> (i64, i64) {
        self.order.status.ballot.zip(self.order.status.follows).unwrap_or_default()
    }

    fn name(&self) -> String {
        self.world.sites[self.site].name.clone()
    }

    fn own(&self) -> AuthoritySpec {
        self.world.sites[self.site].held.authority.clone().unwrap_or_default()
    }

    fn since(&self) -> Time {
        Time(at(self.world.now))
    }

    fn holding(&self) -> Vec<String> {
        holders(&self.own(), &self.name(), self.world.spec.is_active_everywhere(), self.planned)
    }

    /// The place of the site from which it moves.
    fn source(&self) -> usize {
        let source = source_of(&self.name(), self.known.own.as_ref(), &self.world.spec);
        source.map_or(self.site, |name| self.world.place(&name))
    }

    /// What came of an act is taken in by `with`; `source` is the site that it concerns.
    fn taken<T>(&mut self, source: &str, with: impl FnOnce(&Of<'_>, &mut FailoverStatus) -> T) -> T {
        let name = called(&self.order.failover);
        let group = &self.world.story.group;
        let required = group.stores.iter().filter(|_| group.synchronous).map(String::as_str);
        let required: Vec<&str> = required.collect();
        let optional: Vec<&str> = group.optional.iter().map(String::as_str).collect();
        let of = Of {
            site: &self.world.sites[self.site].name,
            source,
            name: &name,
            planned: self.planned,
            ballot: self.claim().0,
            known: self.known,
            required: &required,
            optional: &optional,
        };
        with(&of, &mut self.order.status)
    }

    /// Writes what the Authority allows. What it refuses is decided anew.
    fn put(&mut self, change: Result<AuthoritySpec, Refused>, words: impl Into<String>) -> Done {
        match change {
            Ok(next) => {
                self.world.sites[self.site].held.authority = Some(next);
                Done::Yes(words.into())
            }
            Err(_) => Done::Again,
        }
    }

    fn withdraw(&mut self) -> Done {
        let ballot = self.claim().0;
        self.put(
            claims::withdraw(&self.own(), &self.name(), ballot),
            format!("the claim {ballot} is given up"),
        )
    }

    /// A call that nobody answers takes its time.
    fn waited(&mut self, place: usize) {
        let now = self.world.now;
        let mind = &mut self.world.sites[self.site].mind;
        mind.busy = now + SILENCE;
        mind.silent.insert(place, now);
    }

    fn tell(&mut self, peer: &str) -> Done {
        let place = self.world.place(peer);
        if !self.world.asks(self.site, place) {
            self.waited(place);
            return Done::Again;
        }
        let Some(there) = self.world.sites[place].held.authority.clone() else { return Done::Again };
        let own = self.own();
        let Some(claim) = slot(&own, &self.name()).cloned() else { return Done::Again };
        match claims::receive(&there, &claim) {
            Ok(next) => {
                self.world.sites[place].held.authority = Some(next);
                Done::Yes(format!("{peer} has taken the claim"))
            }
            // It knows better.
            Err(_) => self.withdraw(),
        }
    }

    /// Does something with the servers of this site.
    fn each<'s, T>(
        &mut self,
        stores: &'s [String],
        mut with: impl FnMut(&mut Server) -> Result<T, StoreError>,
    ) -> Found<'s, T> {
        self.each_at(self.site, stores, &mut with)
    }

    /// The same at a site, whose databases must answer.
    fn each_at<'s, T>(
        &mut self,
        place: usize,
        stores: &'s [String],
        with: &mut impl FnMut(&mut Server) -> Result<T, StoreError>,
    ) -> Found<'s, T> {
        let answers = self.world.wires(self.site, place);
        if !answers && !stores.is_empty() {
            self.world.sites[self.site].mind.busy = self.world.now + SILENCE;
        }
        let mut found = Vec::new();
        for name in stores {
            let store = self.world.store(name);
            let done = match answers {
                true => with(&mut self.world.sites[place].servers[store]),
                false => Err(no_answer()),
            };
            found.push((name.as_str(), done));
        }
        found
    }

    fn fence(&mut self, stores: &[String]) -> Done {
        let ((ballot, follows), source) = (self.claim(), self.source());
        let mut found = self.each_at(source, stores, &mut |server| {
            let fenced = server.fence(Fence { ballot, follows })?;
            Ok(Closed { level: FenceLevel::StoreAcknowledged, fenced, here: None })
        });
        for (name, closed) in &mut found {
            let here = &self.world.sites[self.site].servers[self.world.store(name)];
            if let Ok(closed) = closed {
                closed.here = here.row.filter(|_| here.primary);
            }
        }
        let name = self.world.sites[source].name.clone();
        let fenced = self.taken(&name, |of, status| outcome::fenced(of, found, status));
        if fenced.silent {
            self.world.sites[self.site].mind.silent.insert(source, self.world.now);
        }
        // A store that knows of a later order ends this one.
        match fenced.done {
            Some(done) => self.instead(done),
            None => self.withdraw(),
        }
    }

    /// What the cloud of the source says of its nodes.
    fn nodes(&mut self) -> Result<Nodes, Other> {
        let source = self.source();
        let site = &self.world.sites[source];
        if !site.up {
            self.world.sites[self.site].mind.busy = self.world.now + SILENCE;
            return Err(Other::new(
                format!("the cloud of {}: {NO_ANSWER}", self.world.sites[source].name),
                "wait",
            ));
        }
        let (nodes, left) = match (site.stopped, site.stops) {
            (true, _) => (0, 0),
            (false, Some(_)) => (0, NODES),
            (false, None) => (NODES, NODES),
        };
        let restore = format!("scale the nodes of {} to {NODES}", site.name);
        let pool = Pool { name: "general".to_owned(), nodes, most: NODES, restore, ..Pool::default() };
        let cluster = format!("cluster {}", site.name);
        Ok(Nodes { cluster, called: "node pools", pools: vec![pool], left, others: Vec::new() })
    }

    /// Where stores could not be closed over their own wire, the cloud is asked, if the group says so.
    fn instead(&mut self, done: Done) -> Done {
        let Some(fence) = self.world.spec.fence.clone().filter(|_| !self.planned) else { return done };
        let Done::NotYet(wait) = done else { return done };
        let (asked, name) = (self.nodes(), self.world.sites[self.source()].name.clone());
        let (mode, now) = (fence.node_pools(), at(self.world.now));
        self.taken(&name, |of, status| nodes::looked(of, (mode, wait), asked, status, now))
    }

    fn stop(&mut self) -> Done {
        let (source, asked) = (self.source(), self.nodes());
        let wanted = asked.and_then(|asked| nodes::to_stop(&asked, &self.order.status));
        if wanted.as_ref().is_ok_and(|wanted| !wanted.is_empty()) {
            self.world.sites[source].stops = Some(self.world.now + LEAVES);
        }
        let done = wanted.map(|wanted| wanted.into_iter().map(|pool| (pool.name, Ok(()))).collect());
        let name = self.world.sites[source].name.clone();
        self.taken(&name, |of, status| nodes::stopped(of, done, status))
    }

    /// Whether all nodes of the source are gone still, where it rests on that.
    fn still_gone(&mut self) -> Option<Done> {
        if !nodes::rests_on_it(&self.order.status) || self.order.status.assertion.is_some() {
            return None;
        }
        let (asked, name) = (self.nodes(), self.world.sites[self.source()].name.clone());
        self.taken(&name, |of, status| nodes::still_gone(of, asked, status))
    }

    fn catch_up(&mut self, stores: &[String]) -> Done {
        let ballot = self.claim().0;
        let begun = self.order.status.steps.iter().find(|step| step.name == Step::CatchUp.as_str());
        let begun = begun.map_or_else(|| at(self.world.now), |step| step.started_at.0);
        let found = self.each(stores, |server| match server.caught_up(ballot)? {
            CaughtUp::Yes => Ok(None),
            CaughtUp::No { replayed } => Ok(Some(replayed)),
        });
        let behind = found.iter().any(|(_, done)| matches!(done, Ok(Some(_))));
        if behind && at(self.world.now.saturating_sub(CATCHES_UP)) < begun {
            return Done::Again;
        }
        match self.taken("", |of, status| outcome::caught_up(of, found, status)) {
            Ok(done) => done,
            Err(behind) => {
                let behind: Vec<String> = behind.into_iter().map(str::to_owned).collect();
                self.freeze(&behind)
            }
        }
    }

    fn freeze(&mut self, stores: &[String]) -> Done {
        let (ballot, now) = (self.claim().0, at(self.world.now));
        let found = self.each(stores, |server| {
            let position = server.freeze(ballot)?;
            Ok((Some(position), Some(now.duration_since(at(server.beat)))))
        });
        self.taken("", |of, status| outcome::frozen(of, found, status))
    }

    fn call(&mut self, name: &str) -> Done {
        let Some(hook) = self.world.spec.hooks().iter().find(|hook| hook.name == name).cloned() else {
            return Done::Again;
        };
        let reply = match self.world.failing_hooks.contains(name) {
            true => Reply::Failed(format!("{} does not answer", hook.webhook.url)),
            false => Reply::Done("status 200 (OK)".to_owned()),
        };
        let order = called(&self.order.failover);
        hooks::answered(&hook, reply, &mut self.order.status, &order, at(self.world.now))
    }

    fn requests(&mut self) -> Done {
        let here = &self.world.sites[self.site];
        let url = format!("http://gateway.{}/", here.name);
        let done = match here.application {
            true => Done::Yes(format!("{url} answers well")),
            false => self.taken("", |of, _| outcome::fails(of, &url, "it answers with 500")),
        };
        self.order.status.tried = matches!(done, Done::Yes(_)).then_some(true);
        done
    }

    /// Reads everything that speaks for and against a commit once more. `None` if it may be made.
    fn confirmed(&mut self) -> Option<Done> {
        let peers: Vec<usize> = (0..self.world.sites.len()).filter(|place| *place != self.site).collect();
        for place in peers {
            if self.planned && !self.world.asks(self.site, place) {
                self.waited(place);
                let peer = self.world.sites[place].name.clone();
                return Some(self.taken(&peer, |of, _| outcome::silent_at_commit(of, NO_ANSWER)));
            }
        }
        let closed: Vec<String> = outcome::closed(&self.order.status).map(str::to_owned).collect();
        let source = self.source();
        let found = self.each_at(source, &closed, &mut |server| Ok(server.row));
        let name = self.world.sites[source].name.clone();
        let open = self.taken(&name, |of, status| outcome::still_closed(of, found, status));
        open.or_else(|| self.still_gone())
    }

    fn decide(&mut self) -> Done {
        if !self.world.witness {
            self.world.sites[self.site].mind.busy = self.world.now + SILENCE;
            return outcome::undecided(NO_ANSWER);
        }
        let ((ballot, follows), own) = (self.claim(), self.own());
        let wanted = Decided { after: follows, epoch: ballot, holders: self.holding() };
        let stands = self.world.create(wanted);
        if stands.epoch == ballot {
            let next = claims::decided(&own, ballot, stands.holders, self.since());
            let next = claims::opened_if_empty(next, self.known);
            return self.put(Ok(next), format!("this site has authority in epoch {ballot}"));
        }
        let next = claims::lose(&own, &self.name(), ballot);
        self.put(Ok(next), "the witness has decided for another order")
    }

    fn promote(&mut self, stores: &[String]) -> Done {
        let ((ballot, follows), own) = (self.claim(), self.own());
        if own.epoch != ballot || greater(&own, &self.name(), own.epoch).is_some() {
            return Done::Again;
        }
        let closed =
            self.world.story.group.stores.len() > 1 || self.world.spec.has_hooks(HookPoint::BeforeOpen);
        let found = self.each(stores, |server| {
            let row = server.row.map(|row| row.ballot);
            server.promote(Promotion { ballot, row })?;
            if closed && row != Some(ballot) {
                // Its roles were never closed, and it must not be written to yet.
                server.fence(Fence { ballot, follows })?;
            }
            Ok(())
        });
        self.taken("", |of, status| outcome::promoted(of, found, status))
    }

    fn serve(&mut self) -> Done {
        let next = claims::promoted(&self.own(), self.claim().0);
        let done = self.put(Ok(next), "all stores are open here, and traffic comes here");
        let ordered = self.order.failover.metadata.creation_timestamp.as_ref().map(|time| time.0);
        status::opened(&mut self.order.status, ordered, self.planned, at(self.world.now));
        done
    }

    fn lift(&mut self, stores: &[String]) -> Done {
        let (ballot, source) = (self.claim().0, self.source());
        let _ = self.each(stores, |server| {
            server.frozen = false;
            Ok(())
        });
        let found = self.each_at(source, stores, &mut |server| server.lift(ballot));
        let name = self.world.sites[source].name.clone();
        self.taken(&name, |of, status| outcome::lifted(of, found, status))
    }
}
