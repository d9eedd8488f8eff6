//! What happens to the sites of a story.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::report::Line;
use super::story::{Event, Health, Order, Saying};
use super::time::{at, clock};
use super::world::{Mind, Ordered, Site, World, called};
use crate::api::action::{ActionSpec, Target, TargetKind, Verb};
use crate::api::failover::Phase;
use crate::api::failovergroup::Approval;
use crate::api::labels::SAID_BY_ANNOTATION;
use crate::api::{Action, Failover, FailoverSpec, FailoverStatus};
use crate::failover::hear::{Stands, hear, loses};

impl World {
    pub(super) fn place(&self, name: &str) -> usize {
        self.sites.iter().position(|site| site.name == name).unwrap_or_default()
    }

    fn tell(&mut self, words: String) {
        self.lines.push(Line::Story { at: clock(self.now), words });
    }

    /// One event of the story.
    pub(super) fn happen(&mut self, event: &Event) {
        self.faults(event);
        self.objects(event);
        self.findings(event);
        if let Some(order) = &event.order {
            self.order(order);
        }
        if let Some(said) = &event.say {
            self.say(said);
        }
        for site in &mut self.sites {
            site.mind.rests = 0;
        }
    }

    fn faults(&mut self, event: &Event) {
        for (site, up) in [(&event.gone, false), (&event.back, true)] {
            let Some(name) = site else { continue };
            let place = self.place(name);
            self.sites[place].up = up;
            self.sites[place].mind = Mind { since: self.now, ..Mind::default() };
            self.tell(if up { format!("{name} is back") } else { format!("{name} is gone") });
        }
        self.health(&event.api, "the API server", |site, up| site.api = up);
        self.health(&event.databases, "the database", |site, up| site.databases = up);
        self.health(&event.application, "the application", |site, up| site.application = up);
        for (name, health) in event.promotes.iter().flatten() {
            let store = self.store(name);
            self.sites.iter_mut().for_each(|site| site.servers[store].promotes = health.is_up());
            self.tell(format!("promotions of {name} are {}", health.words()));
        }
        for (name, health) in event.hooks.iter().flatten() {
            match health.is_up() {
                true => self.failing_hooks.remove(name),
                false => self.failing_hooks.insert(name.clone()),
            };
            self.tell(format!("the hook {name} is {}", health.words()));
        }
        let now = self.now;
        self.health(&event.operator, "the operator", |site, up| {
            site.operator = up;
            site.mind = Mind { since: now, ..Mind::default() };
        });
        for (name, stopped) in event.nodes_stopped.iter().flatten() {
            let place = self.place(name);
            self.stop_nodes(place, *stopped);
            self.tell(format!("the nodes of {name} are {}", if *stopped { "stopped" } else { "back" }));
        }
        let all = [
            (event.network, "the network between the sites is"),
            (event.witness, "the witness is"),
            (event.replication, "replication is"),
        ];
        for (health, words) in all {
            if let Some(health) = health {
                self.tell(format!("{words} {}", health.words()));
            }
        }
        self.network = event.network.map_or(self.network, Health::is_up);
        self.witness = event.witness.map_or(self.witness, Health::is_up);
        self.replication = event.replication.map_or(self.replication, Health::is_up);
    }

    fn health(
        &mut self,
        sites: &Option<BTreeMap<String, Health>>,
        what: &str,
        set: impl Fn(&mut Site, bool),
    ) {
        for (name, health) in sites.iter().flatten() {
            let place = self.place(name);
            set(&mut self.sites[place], health.is_up());
            self.tell(format!("{what} of {name} is {}", health.words()));
        }
    }

    fn objects(&mut self, event: &Event) {
        if let Some(name) = &event.delete {
            let place = self.place(name);
            if let Some(order) = &mut self.sites[place].order {
                order.deleted = true;
                let words = format!("{} at {name} is deleted", called(&order.failover));
                self.tell(words);
            }
        }
        if let Some(name) = &event.authority_deleted {
            let place = self.place(name);
            self.sites[place].held.authority = None;
            self.tell(format!("the Authority of {name} is deleted"));
        }
        if let Some(name) = &event.backup {
            let place = self.place(name);
            self.sites[place].backup = Some(self.sites[place].held.clone());
            self.tell(format!("a backup is made of the API server of {name}"));
        }
        if let Some(name) = &event.restore {
            let place = self.place(name);
            let site = &mut self.sites[place];
            if let Some(backup) = site.backup.clone() {
                (site.held, site.order) = (backup, None);
                site.mind = Mind { since: self.now, ..Mind::default() };
            }
            self.tell(format!("the API server of {name} is restored from its backup"));
        }
        if event.group_changes {
            self.changes += 1;
            self.tell("the FailoverGroup is changed".to_owned());
        }
    }

    fn findings(&mut self, event: &Event) {
        let words = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let all =
            [(&event.capacity, "size"), (&event.readiness, "readiness"), (&event.residency, "residency")];
        for (sites, what) in all {
            for (name, text) in sites.iter().flatten() {
                let place = self.place(name);
                let site = &mut self.sites[place];
                *match what {
                    "size" => &mut site.capacity,
                    "readiness" => &mut site.readiness,
                    _ => &mut site.residency,
                } = words(text);
                let now = if text.is_empty() { "well again" } else { text };
                self.tell(format!("the {what} of {name}: {now}"));
            }
        }
    }

    fn order(&mut self, order: &Order) {
        self.orders += 1;
        let place = self.place(&order.to);
        let spec = FailoverSpec {
            group: super::world::GROUP.to_owned(),
            action: order.action,
            reason: "a story".to_owned(),
            ticket: None,
        };
        let mut failover = Failover::new(&format!("move-{}", self.orders), spec);
        failover.metadata.uid = Some(format!("uid-{}", self.orders));
        failover.metadata.creation_timestamp = Some(Time(at(self.now)));
        failover.metadata.annotations = Some([(SAID_BY_ANNOTATION.to_owned(), order.by.clone())].into());
        let words =
            format!("{} orders a {} to {}: {}", order.by, order.action.as_str(), order.to, called(&failover));
        self.tell(words);
        let running = self.sites[place].order.as_ref();
        let running = running.filter(|order| !order.status.phase.is_some_and(Phase::is_over));
        if let Some(other) = running.map(|order| called(&order.failover)) {
            self.tell(format!("refused: {other} moves the same group"));
            return;
        }
        self.sites[place].order =
            Some(Ordered { failover, status: FailoverStatus::default(), deleted: false });
    }

    fn say(&mut self, said: &Saying) {
        self.said += 1;
        let place = self.place(&said.to);
        let words = format!("{} says {} to {}", said.by, said.verb.as_str(), said.to);
        let stands = self.stands(place);
        let now = at(self.now);
        let Some(order) = &mut self.sites[place].order else {
            self.tell(format!("{words}: there is no order"));
            return;
        };
        let position = (said.verb == Verb::AcceptDataLoss)
            .then(|| said.position.clone().unwrap_or_else(|| loses(&order.status)));
        let spec = ActionSpec {
            target: Target {
                kind: TargetKind::Failover,
                name: called(&order.failover),
                uid: order.failover.metadata.uid.clone(),
            },
            release: None,
            verb: said.verb,
            gate: None,
            step: said.step,
            store: said.store.clone(),
            evidence: said.evidence,
            position,
            words: Some("in a story".to_owned()),
        };
        let mut action = Action::new(&format!("said-{}", self.said), spec);
        action.metadata.annotations = Some([(SAID_BY_ANNOTATION.to_owned(), said.by.clone())].into());
        let answer = match hear(&order.failover, &mut order.status, &action, &stands, now) {
            Ok(answer) => format!("{words}: {answer}"),
            Err(why) => format!("{words}, and is refused: {why}"),
        };
        self.tell(answer);
    }

    /// What the group shows of the order of a site.
    fn stands(&self, place: usize) -> Stands {
        let site = &self.sites[place];
        let ballot = site.order.as_ref().and_then(|order| order.status.ballot);
        let group = Stands {
            stores: self.story.group.stores.clone(),
            optional: self.story.group.optional.clone(),
            people: self.spec.approval.as_ref().map(Approval::people),
            ..Stands::default()
        };
        group.claimed(site.held.authority.as_ref(), &site.name, ballot)
    }
}
