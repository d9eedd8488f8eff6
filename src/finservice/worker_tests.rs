use std::sync::Arc;

use futures::executor::block_on;
use kube::core::Status;
use serde_json::{Value, json};

use super::*;
use crate::api::authority::AuthorityState;
use crate::api::conditions::State;
use crate::api::failovergroup::Services;
use crate::authority::view::{Authorities, GroupView};
use crate::finservice::testing::fake::Fake;
use crate::finservice::testing::in_memory::InMemory;

/// A cluster in memory that notes what is done to it, and may refuse.
struct Noted<'a> {
    cluster: InMemory<'a>,
    calls: Mutex<Vec<String>>,
    seen: Mutex<Option<Seen>>,
    refuses_writes: bool,
    refuses_flags: bool,
}

impl<'a> Noted<'a> {
    fn of(fake: &'a mut Fake) -> Self {
        Self {
            cluster: InMemory(Mutex::new(fake)),
            calls: Mutex::default(),
            seen: Mutex::default(),
            refuses_writes: false,
            refuses_flags: false,
        }
    }

    fn note(&self, call: impl Into<String>) {
        lock(&self.calls).push(call.into());
    }

    /// What was done since this was asked last.
    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.calls))
    }
}

impl Effects for Noted<'_> {
    async fn observe(&self, key: &Key) -> Result<Seen, Failed> {
        let other = lock(&self.seen).take();
        match other {
            Some(seen) => Ok(seen),
            None => self.cluster.observe(key).await,
        }
    }

    async fn write(&self, key: &Key, stages: &[&[Op]], urgent: bool, now: Timestamp) -> Result<(), ActError> {
        let ops = stages.iter().map(|stage| stage.len()).sum::<usize>();
        let kind = if urgent { "urgent" } else { "ordinary" };
        self.note(format!("write {} {kind}", if ops == 0 { "nothing" } else { "something" }));
        if self.refuses_writes && ops > 0 {
            let status = Status { code: 422, message: "no".into(), ..Status::failure("no", "Invalid") };
            return Err(ActError::answered("make Service app", kube::Error::Api(Box::new(status))));
        }
        self.cluster.write(key, stages, urgent, now).await
    }

    async fn set_flag(
        &self,
        _: &Key,
        _: &Observed,
        _: &Plan,
        turn: FlagTurn,
        now: Timestamp,
    ) -> Result<(), NotSet> {
        self.note(format!("flag {turn:?}"));
        if !self.refuses_flags {
            return Ok(());
        }
        let problem = Problem::error("spec.featureFlag.launchDarkly", "no answer", "look at it");
        Err(NotSet { problem, again_at: now.saturating_add(SignedDuration::from_secs(3)).expect("in range") })
    }

    fn announce(&self, _: &Observed, plan: &Plan) {
        let notices = plan.rollout.as_ref().map_or(0, |planned| planned.decision.notices.len());
        self.note(format!("announce {}", plan.notices.len() + notices));
    }

    fn measure(&self, _: &Key, _: &Observed, plan: Option<&Plan>) {
        let followed = plan.and_then(|plan| plan.rollout.as_ref()?.follow.as_ref());
        self.note(format!("measure {}", if followed.is_some() { "on" } else { "nothing" }));
    }

    fn renew(&self, seen: &mut Observed) -> bool {
        self.cluster.renew(seen)
    }

    async fn write_rollout(
        &self,
        key: &Key,
        seen: &Observed,
        rollout: &ObservedRollout,
        plan: &Plan,
        failed: Option<Problem>,
        now: Timestamp,
    ) -> Result<(), Failed> {
        self.note("status of the rollout");
        self.cluster.write_rollout(key, seen, rollout, plan, failed, now).await
    }

    async fn write_idle(&self, _: &Key, exists: bool, _: Timestamp) -> Result<(), Failed> {
        self.note(format!("others, {}", if exists { "it exists" } else { "it is gone" }));
        Ok(())
    }

    async fn write_status(
        &self,
        key: &Key,
        seen: &Observed,
        plan: &Plan,
        failed: Option<Problem>,
        now: Timestamp,
    ) -> Result<(), Failed> {
        self.note("status");
        self.cluster.write_status(key, seen, plan, failed, now).await
    }

    async fn write_unreadable(&self, _: &Key, _: &Unreadable, _: Timestamp) -> Result<(), Failed> {
        self.note("that it cannot be read");
        Ok(())
    }
}

fn spec() -> Value {
    json!({
        "owner": "team", "image": "registry.example/app:1", "version": "1",
        "ports": [{"name": "http", "port": 8080}], "scale": {"replicas": 4}, "mesh": {"provider": "Istio"},
    })
}

/// Version 2 has 10 % of the requests.
fn at_ten_percent() -> Fake {
    let mut fake = Fake::new(spec());
    let steps = json!([{"weight": 10}, {"weight": 100}]);
    fake.rollout(
        "a CanaryRollout",
        Some(json!({"service": "app", "strategy": {"canary": {"steps": steps}}})),
    );
    for version in ["1", "2"] {
        fake.spec("a version", "/version", json!(version));
        fake.spec("its image", "/image", json!(format!("registry.example/app:{version}")));
        fake.settle();
        fake.pods_become_ready();
        fake.pass(2);
        fake.settle();
    }
    assert_eq!(fake.rollout_status().weight.map(|weight| weight.asked), Some(10), "{}", fake.log);
    fake
}

#[test]
fn what_is_done_comes_in_this_order() {
    let mut fake = Fake::new(spec());
    let (key, now) = (fake.key.clone(), fake.now);
    let worker = Worker::new(Noted::of(&mut fake));
    let (outcome, again_at) = block_on(worker.reconcile(&key, || now)).expect("nothing refuses");
    assert_eq!(outcome, Outcome::Changed);
    assert!(again_at.is_none_or(|at| at > now));
    assert_eq!(
        worker.effects().calls(),
        [
            "flag Before",
            "write something ordinary",
            "flag After",
            "announce 0",
            "measure nothing",
            "others, it exists",
            "status"
        ]
    );
    let (outcome, _) = block_on(worker.reconcile(&key, || now)).expect("nothing refuses");
    assert_eq!(outcome, Outcome::Unchanged);
    assert_eq!(worker.effects().calls()[1], "write nothing ordinary");
}

#[test]
fn weights_that_are_taken_away_go_alone_and_the_rest_follows_from_the_same_snapshot() {
    let mut fake = at_ten_percent();
    fake.fails(10);
    let (key, now) = (fake.key.clone(), fake.now);
    let worker = Worker::new(Noted::of(&mut fake));
    let (outcome, again_at) = block_on(worker.reconcile(&key, || now)).expect("nothing refuses");
    assert_eq!((outcome, again_at), (Outcome::Changed, now.saturating_add(REST_AFTER).ok()));
    assert_eq!(worker.effects().calls(), ["write something urgent"]);
    let later = now.saturating_add(REST_AFTER).expect("in range");
    block_on(worker.reconcile(&key, || later)).expect("nothing refuses");
    let calls = worker.effects().calls();
    let expected = ["flag Before", "write something ordinary", "flag After", "announce 1", "measure on"];
    assert_eq!(calls[..5], expected, "the Event, and the status, are of that decision");
    assert_eq!(calls[5], "status of the rollout");
    let fake = lock(&worker.effects().cluster.0);
    let status = fake.rollout_status();
    assert_eq!(
        (status.phase.as_deref(), status.weight.map(|weight| weight.asked)),
        (Some("RolledBack"), Some(0))
    );
}

/// A standby with half of its pods, whose site claims the group.
fn claimed(scale: Value) -> Fake {
    let mut spec = spec();
    spec["scale"] = scale;
    let mut fake = Fake::new(spec);
    let site = fake.seen().site.to_string();
    fake.spec("a placement", "/placement", json!([{"cluster": site, "capacityPercent": 50}]));
    let standing = |claimed: bool| {
        Authorities::new(vec![GroupView {
            name: "payments".to_owned(),
            services: Services { namespaces: vec!["pay".to_owned()], selector: None },
            state: AuthorityState::Standby,
            holders: vec!["there".to_owned()],
            epoch: 16,
            claimed,
            moves_to: None,
            hosts: Arc::default(),
            refuses: false,
        }])
    };
    fake.index.set_authorities(standing(false));
    fake.settle();
    fake.pods_become_ready();
    fake.settle();
    fake.index.set_authorities(standing(true));
    fake
}

#[test]
fn a_site_that_takes_over_asks_for_pods_before_it_says_anything() {
    for (scale, grown) in [(json!({"replicas": 4}), Some(4)), (json!({"min": 4, "max": 9}), None)] {
        let mut fake = claimed(scale);
        let (key, now) = (fake.key.clone(), fake.now);
        let worker = Worker::new(Noted::of(&mut fake));
        let (outcome, again_at) = block_on(worker.reconcile(&key, || now)).expect("nothing refuses");
        assert_eq!((outcome, again_at), (Outcome::Changed, Some(now)));
        assert_eq!(worker.effects().calls(), ["write something urgent"]);
        let seen = lock(&worker.effects().cluster.0).seen();
        let pods = seen.children.iter().find_map(|child| child.deployment()).map(|facts| facts.replicas);
        assert!(grown.is_none() || pods == grown, "{pods:?}");
        // The rest says so, and asks for nothing once more.
        block_on(worker.reconcile(&key, || now)).expect("nothing refuses");
        let calls = worker.effects().calls();
        assert_eq!(calls.last().map(String::as_str), Some("status"), "{calls:?}");
    }
}

#[test]
fn pods_that_are_refused_to_a_site_that_takes_over_are_a_problem_in_status() {
    let mut fake = claimed(json!({"replicas": 4}));
    let (key, now) = (fake.key.clone(), fake.now);
    let worker = Worker::new(Noted { refuses_writes: true, ..Noted::of(&mut fake) });
    block_on(worker.reconcile(&key, || now)).expect_err("it refuses");
    let calls = worker.effects().calls();
    let writes: Vec<&String> = calls.iter().filter(|call| call.starts_with("write something")).collect();
    assert_eq!(writes, ["write something urgent", "write something ordinary"], "{calls:?}");
    assert_eq!(calls.last().map(String::as_str), Some("status"));
}

#[test]
fn the_more_are_half_done_the_later_comes_the_rest() {
    let mut fake = at_ten_percent();
    fake.fails(10);
    let (seen, now) = (fake.seen(), fake.now);
    let worker = Worker::new(Noted::of(&mut fake));
    for (name, wait) in [("one", REST_AFTER), ("two", REST_AFTER + REST_EACH)] {
        *lock(&worker.effects().seen) = Some(Seen::Whole(Box::new(seen.clone())));
        let (_, again_at) = block_on(worker.attempt(&Key::new("pay", name), now)).expect("nothing refuses");
        assert_eq!(again_at.map(|at| at.duration_since(now)), Some(wait), "{name}");
    }
}

#[test]
fn what_the_api_server_refuses_is_said_and_tried_again() {
    let mut fake = Fake::new(spec());
    let (key, now) = (fake.key.clone(), fake.now);
    let worker = Worker::new(Noted { refuses_writes: true, ..Noted::of(&mut fake) });
    let error = block_on(worker.reconcile(&key, || now)).expect_err("it refuses");
    assert!(error.to_string().contains("cannot make Service app"), "{error}");
    assert_eq!(worker.effects().calls().last().map(String::as_str), Some("status"));
    let status = lock(&worker.effects().cluster.0).status();
    assert_eq!(status.conditions[0].status, State::False.as_str());
    assert!(status.problems[0].message.contains("cannot make Service app"), "{:?}", status.problems);
}

#[test]
fn a_flag_that_is_not_set_is_a_problem_of_the_rollout_and_is_tried_when_it_says() {
    let mut fake = at_ten_percent();
    let (key, now) = (fake.key.clone(), fake.now);
    let worker = Worker::new(Noted { refuses_flags: true, ..Noted::of(&mut fake) });
    let (_, again_at) = block_on(worker.reconcile(&key, || now)).expect("a flag alone fails nothing");
    assert_eq!(again_at.map(|at| at.duration_since(now)), Some(SignedDuration::from_secs(3)));
    assert_eq!(worker.effects().calls()[..2], ["flag Before", "write nothing ordinary"], "the rest goes on");
    let status = lock(&worker.effects().cluster.0).rollout_status();
    assert!(status.problems.iter().any(|problem| problem.message == "no answer"), "{:?}", status.problems);
}

#[test]
fn what_is_gone_or_cannot_be_read_is_left_as_it_is() {
    let mut fake = Fake::new(spec());
    let (key, now) = (fake.key.clone(), fake.now);
    let worker = Worker::new(Noted::of(&mut fake));
    *lock(&worker.effects().seen) = Some(Seen::Gone);
    block_on(worker.reconcile(&key, || now)).expect("nothing refuses");
    assert_eq!(worker.effects().calls(), ["others, it is gone"]);
    let unreadable =
        Unreadable { why: "spec.image: a number".into(), generation: Some(2), ..Default::default() };
    *lock(&worker.effects().seen) = Some(Seen::Unreadable(Arc::new(unreadable), None));
    block_on(worker.reconcile(&key, || now)).expect("nothing refuses");
    assert_eq!(worker.effects().calls(), ["that it cannot be read"]);
}
