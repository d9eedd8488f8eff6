//! A FinService with all that is around it in memory, for scenarios and property tests of decisions.

use super::in_memory::InMemory;
use crate::finservice::worker::Worker;
use futures::executor::block_on;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::actions::Said;
use crate::api::action::Verb;
use crate::api::operations::Residency;
use crate::api::{CanaryRollout, CanaryRolloutStatus, FinService};
use crate::evidence::{Judgement, Numbers, Reason, Share, Tally, Verdict};
use crate::finservice::children::Kind;
use crate::finservice::index::child::{ChildState, Facts};
use crate::finservice::index::pod::PodState;
use crate::finservice::index::{Index, Observed, Parsed};
use crate::finservice::plan::decide::{decide, weights};
use crate::finservice::plan::{Op, Plan};
use crate::finservice::rendered;
use crate::judge::Evidence;
use crate::runtime::key::Key;

/// One FinService, `pay/app` unless another is given, and everything around it.
pub struct Fake {
    /// The index that the operator would have.
    pub index: Index,
    /// The time.
    pub now: Timestamp,
    /// What has happened, in words.
    pub log: String,
    /// What the evidence says.
    pub evidence: Option<Evidence>,
    /// What people said.
    pub said: Vec<Said>,
    /// The FinService's key.
    pub key: Key,
    pub(super) service: FinService,
    pub(super) rollout: Option<CanaryRollout>,
    broken: Option<(String, Value)>,
    broken_service: Option<(String, Value)>,
    pub(super) version: u64,
}

impl Fake {
    /// A cluster with a FinService of that spec.
    pub fn new(spec: Value) -> Self {
        let service = json!({
            "apiVersion": "banyan.dev/v1alpha1", "kind": "FinService",
            "metadata": {"name": "app", "namespace": "pay"}, "spec": spec,
        });
        Self::of(serde_json::from_value(service).expect("a FinService"), "here")
    }

    /// A cluster of that site with that FinService.
    pub fn of(mut service: FinService, site: &str) -> Self {
        let metadata = &mut service.metadata;
        (metadata.uid, metadata.generation) = (Some("u-1".to_owned()), Some(1));
        let created = "2026-01-01T00:00:00Z".parse().expect("a time");
        metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(created));
        let mut index = Index::new(site);
        index.set_sites(super::sites(Some(&[Residency::US]), &[]));
        for kind in Kind::ALL {
            index.kind(kind, true);
        }
        let mut fake = Self {
            index,
            now: "2026-01-01T00:00:00Z".parse().expect("a time"),
            log: String::new(),
            evidence: None,
            said: Vec::new(),
            rollout: None,
            broken: None,
            broken_service: None,
            key: Key::new(
                service.metadata.namespace.as_deref().unwrap_or_default(),
                service.metadata.name.as_deref().unwrap_or_default(),
            ),
            service,
            version: 1,
        };
        fake.put();
        fake
    }

    pub(super) fn put(&mut self) {
        self.version += 1;
        let parsed = match &self.broken_service {
            Some((field, value)) => {
                let mut object = serde_json::to_value(&self.service).expect("JSON");
                object["spec"][field] = value.clone();
                crate::finservice::watch::parse(serde_json::from_value(object).expect("an object"))
            }
            None => Parsed::Good(std::sync::Arc::new(self.service.clone())),
        };
        self.index.service(&self.key, self.version, Some(parsed));
    }

    /// Changes the FinService.
    pub fn change(&mut self, what: &str, change: impl FnOnce(&mut FinService)) {
        let _ = writeln!(self.log, "* {what}");
        change(&mut self.service);
        self.service.metadata.generation = self.service.metadata.generation.map(|number| number + 1);
        self.put();
    }

    /// Changes the spec, as JSON.
    pub fn spec(&mut self, what: &str, pointer: &str, value: Value) {
        self.change(what, |service| {
            let mut spec = serde_json::to_value(&service.spec).expect("JSON");
            let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
            let parent = spec.pointer_mut(parent).and_then(Value::as_object_mut).expect("a parent");
            if value.is_null() {
                parent.remove(key);
            } else {
                parent.insert(key.to_owned(), value);
            }
            service.spec = serde_json::from_value(spec).expect("a spec");
        });
    }

    /// Something else happens.
    pub fn event(&mut self, what: &str, event: impl FnOnce(&mut Index)) {
        let _ = writeln!(self.log, "* {what}");
        event(&mut self.index);
    }

    /// Time passes.
    pub fn pass(&mut self, seconds: i64) {
        let _ = writeln!(self.log, "* {seconds} s later");
        self.now = self.now.saturating_add(SignedDuration::from_secs(seconds)).expect("in range");
    }

    /// The evidence is against the canary, which has that weight.
    pub fn fails(&mut self, weight: i32) {
        let numbers = Numbers {
            step: Tally::default(),
            estimate: None,
            interval: (0.0, 0.0),
            recent_estimate: None,
            recent: (Tally::default(), 0.0),
            absolute: None,
            evidence: 1000.0,
            limit: 100.0,
            quiet: 0.0,
            dispersion: 1.0,
            needed: None,
        };
        let judgement = Judgement { verdict: Verdict::Fail, reason: Reason::Worse, numbers };
        let judgements = vec![("error-rate".to_owned(), judgement)];
        let attempt = self.rollout_status().memory.expect("it is remembered").attempt;
        let (doubts, share) = (Vec::new(), Share::Unknown);
        self.evidence = Some(Evidence { attempt, weight, next: 100, judgements, doubts, share });
    }

    /// Creates, changes or (with `None`) deletes its CanaryRollout.
    pub fn rollout(&mut self, what: &str, spec: Option<Value>) {
        let _ = writeln!(self.log, "* {what}");
        let status = self.rollout.take().and_then(|rollout| rollout.status);
        self.broken = None;
        self.rollout = spec.map(|spec| {
            let object = json!({
                "apiVersion": "banyan.dev/v1alpha1", "kind": "CanaryRollout",
                "metadata": {"name": "app", "namespace": "pay", "uid": "c-1", "generation": 1}, "spec": spec,
            });
            let mut rollout: CanaryRollout = serde_json::from_value(object).expect("a CanaryRollout");
            rollout.status = status;
            rollout
        });
        self.put_rollout();
    }

    /// A field of the CanaryRollout's spec becomes one that cannot be read; `null` puts it right again.
    pub fn unreadable(&mut self, what: &str, field: &str, value: Value) {
        let _ = writeln!(self.log, "* {what}");
        self.broken = (!value.is_null()).then(|| (field.to_owned(), value));
        self.put_rollout();
    }

    /// A field of the FinService's spec becomes one that cannot be read; `null` puts it right again.
    pub fn unreadable_service(&mut self, what: &str, field: &str, value: Value) {
        self.broken_service = (!value.is_null()).then(|| (field.to_owned(), value));
        self.change(what, |_| {});
    }

    /// Anna says something of the release that the FinService asks for.
    pub fn say(&mut self, verb: Verb) {
        let _ = writeln!(self.log, "* anna says {}", verb.as_str());
        self.said.push(Said {
            id: format!("action-{}", self.said.len()),
            who: "anna".to_owned(),
            by: Some("anna".to_owned()),
            verb,
            release: Some(self.service.spec.release().to_owned()),
            gate: None,
            words: None,
            at: self.now,
        });
    }

    /// The FinService's status.
    pub fn status(&self) -> crate::api::FinServiceStatus {
        self.service.status.clone().unwrap_or_default()
    }

    /// The CanaryRollout's status.
    pub fn rollout_status(&self) -> CanaryRolloutStatus {
        self.rollout.as_ref().and_then(|rollout| rollout.status.clone()).unwrap_or_default()
    }

    /// The operator dies before the status is written: what it remembered of this step is lost.
    pub fn forget_status(&mut self, status: CanaryRolloutStatus) {
        let _ = writeln!(self.log, "* the operator died before it wrote the status");
        if let Some(rollout) = &mut self.rollout {
            rollout.status = Some(status);
        }
        self.put_rollout();
    }

    pub(super) fn put_rollout(&mut self) {
        self.version += 1;
        let key = self.key.clone();
        match &self.rollout {
            Some(rollout) => {
                let mut object = serde_json::to_value(rollout).expect("JSON");
                if let Some((field, value)) = &self.broken {
                    object["spec"][field] = value.clone();
                }
                object["metadata"]["resourceVersion"] = json!(self.version.to_string());
                let policy = crate::finservice::watch::unreadable::read(
                    serde_json::from_value(object).expect("an object"),
                );
                self.index.canary(&key, policy);
            }
            None => {
                self.index.canary_gone(&key);
            }
        }
    }

    /// What is seen now.
    pub fn seen(&self) -> Observed {
        let seen = self.index.observe(&self.key).or_else(|| self.index.observe_unreadable(&self.key));
        let mut seen = seen.expect("a FinService of which something can be read");
        if let Some(rollout) = &mut seen.rollout {
            rollout.evidence = self.evidence.clone();
            rollout.actions = self.said.clone();
        }
        seen
    }

    /// Decides and carries the plan out, until nothing is left to be written. Returns the last plan.
    pub fn settle(&mut self) -> Plan {
        for _ in 0..10 {
            let plan = self.step();
            if plan.is_empty() {
                return plan;
            }
        }
        panic!("still writing after ten rounds:\n{}", self.log);
    }

    /// Decides once, writes it into the log, and has a worker carry it out as the operator would.
    pub fn step(&mut self) -> Plan {
        let seen = self.seen();
        let plan = decide(&seen, self.now);
        self.hurry(&seen, &plan);
        self.tell(&plan);
        self.work();
        plan
    }

    /// Has a worker decide once, and carry that out.
    pub fn work(&mut self) {
        let (key, now) = (self.key.clone(), self.now);
        let worker = Worker::new(InMemory(Mutex::new(self)));
        let done = block_on(async {
            worker.attempt(&key, now).await?;
            worker.finish_half_done(&key).await
        });
        done.expect("a cluster in memory refuses nothing");
    }

    /// Whatever is decided, its weights are the same if they alone are asked for.
    fn hurry(&self, seen: &Observed, plan: &Plan) {
        let hurried = weights(seen, self.now);
        let is_route = |op: &Op| matches!(op, Op::Apply { child, .. } if matches!(child.kind, Kind::VirtualService | Kind::HTTPRoute));
        let by_route = plan.weights.iter().any(is_route);
        assert!(!hurried.weights.is_empty() || !by_route, "no weights in a hurry, but {:?}", plan.weights);
        if !hurried.weights.is_empty() {
            assert!(hurried.stages.is_empty());
            assert_eq!(hurried.weights, plan.weights);
            let decision = |plan: &Plan| plan.rollout.as_ref().map(|planned| planned.decision.clone());
            assert_eq!(decision(&hurried), decision(plan));
        }
    }

    fn tell(&mut self, plan: &Plan) {
        let log = &mut self.log;
        let _ = write!(log, "  {:?}", plan.phase);
        for (what, hash) in [("stable", &plan.stable), ("next", &plan.next)] {
            if let Some(hash) = hash {
                let _ = write!(log, " {what}={hash}");
            }
        }
        if let Some((desired, ready)) = plan.pods {
            let _ = write!(log, " pods={ready}/{desired}");
        }
        log.push('\n');
        if let Some(planned) = &plan.rollout {
            let decision = &planned.decision;
            let _ = writeln!(log, "    rollout {} {} %", decision.phase.as_str(), decision.weight);
            for notice in &decision.notices {
                let _ = writeln!(log, "    rollout event {}: {}", notice.reason.as_str(), notice.note);
            }
        }
        for stage in plan.in_order() {
            let mut words: Vec<String> = stage.iter().map(Op::words).collect();
            words.sort();
            for words in words {
                let _ = writeln!(log, "    - {words}");
            }
            log.push_str("    --\n");
        }
        for notice in &plan.notices {
            let _ = writeln!(log, "    event {}: {}", notice.reason.as_str(), notice.note);
        }
        for reason in &plan.reasons {
            let _ = writeln!(log, "    because {reason}");
        }
        for problem in &plan.problems {
            let _ = writeln!(log, "    {:?} {}: {}", problem.severity, problem.source, problem.message);
            let _ = writeln!(log, "      remedy: {}", problem.remedy);
        }
        if let Some(at) = plan.again_at {
            let _ = writeln!(log, "    again in {} s", at.duration_since(self.now).as_secs());
        }
    }

    /// The state of a child.
    pub fn child(&self, kind: Kind, name: &str) -> Option<ChildState> {
        self.seen().children.into_iter().find(|child| child.kind == kind && &*child.name == name)
    }

    /// Changes what is known of a child.
    pub fn touch(&mut self, what: &str, kind: Kind, name: &str, change: impl FnOnce(&mut ChildState)) {
        let _ = writeln!(self.log, "* {what}");
        let mut state = self.child(kind, name).expect("it exists");
        self.version += 1;
        state.version = self.version;
        change(&mut state);
        let written = state.written();
        self.index.child(&self.key.clone(), state);
        debug_assert!(written == self.child(kind, name).expect("it exists").written());
    }

    /// All ConfigMaps and Secrets that the FinService refers to are there, and its data may be here.
    pub fn everything_is_there(&mut self) {
        rendered::everything_is_there(&mut self.index, &self.key.namespace, &self.service.spec);
    }

    /// All Deployments get the pods that they ask for.
    pub fn pods_become_ready(&mut self) {
        let _ = writeln!(self.log, "* pods become Ready");
        for mut state in self.seen().children {
            if let Facts::Deployment(facts) = &mut state.facts {
                facts.ready = facts.replicas;
                facts.updated_and_available = facts.replicas;
                facts.observed = true;
                self.version += 1;
                state.version = self.version;
                self.index.child(&self.key.clone(), state);
            }
        }
        self.follow_replicas();
        let key = self.key.clone();
        for pod in self.index.rollouts.pods_of(&key).to_vec() {
            let ready_since = pod.ready_since.or(Some(self.now));
            self.index.rollouts.pod(&key, PodState { ready_since, ..pod });
        }
    }

    /// A revision loses all its pods' readiness.
    pub fn pods_fail(&mut self, revision: &str) {
        let name = format!("app-{revision}");
        self.touch("its pods are not Ready any more", Kind::Deployment, &name, |state| {
            if let Facts::Deployment(facts) = &mut state.facts {
                (facts.ready, facts.updated_and_available) = (0, 0);
            }
        });
        let key = self.key.clone();
        for pod in self.index.rollouts.pods_of(&key).to_vec() {
            if *pod.revision == *revision {
                self.index.rollouts.pod(&key, PodState { ready_since: None, ..pod });
            }
        }
    }

    /// Hashes of the revisions, oldest first.
    pub fn hashes(&self) -> Vec<String> {
        let numbered: BTreeMap<i64, String> = self
            .seen()
            .children
            .iter()
            .filter_map(ChildState::revision)
            .map(|facts| (facts.number, facts.hash.to_string()))
            .collect();
        numbered.into_values().collect()
    }

    /// The log, with hashes by their order of appearance: `R1`, `R2`.
    pub fn story(&self) -> String {
        let mut story = self.log.clone();
        for (place, hash) in self.hashes().iter().enumerate() {
            story = story.replace(hash, &format!("R{}", place + 1));
        }
        story
    }
}
