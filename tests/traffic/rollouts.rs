//! Rollouts as an operator carries them out, with real requests.

use std::time::{Duration, Instant};

use banyan::api::{Action, CanaryRollout};
use banyan::sandbox::install;
use banyan::sandbox::process::Signal;
use banyan::sandbox::traffic::{Behaviour, Load, Tally};
use kube::Api;
use serde_json::{Value, json};

use crate::runner::{Scenario, scenarios};
use crate::world::{Space, World, until};

/// All of this file.
pub fn scenarios() -> Vec<Scenario> {
    scenarios![
        shifts_cost_no_request_through_promotion_rollback_abort_and_kill,
        a_bad_canary_is_found_by_what_the_gateway_counts,
        a_bad_canary_is_found_by_what_its_pods_count,
        a_bad_canary_is_found_by_prometheus,
        a_bad_canary_of_grpc_is_found_behind_the_status_200,
        an_outage_that_both_share_is_held_and_goes_on_afterwards,
        pods_that_fail_while_they_warm_up_are_not_counted,
        a_blip_of_one_pod_does_not_roll_back,
    ]
}

/// Where a scenario's evidence comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Gateway,
    Pods,
    Prometheus,
}

/// A space with a FinService under a CanaryRollout, its operator and its load.
struct Stage<'a> {
    space: Space<'a>,
    operator: Option<banyan::sandbox::operators::Operator>,
    args: Vec<String>,
    protocol: &'static str,
}

impl<'a> Stage<'a> {
    /// Version 1 serves with four pods. `policy` is laid over one that is fast.
    async fn start(world: &'a World, name: &str, source: Source, policy: Value) -> Self {
        Self::speaking("HTTP", world, name, source, policy).await
    }

    /// The same with another protocol.
    async fn speaking(
        protocol: &'static str,
        world: &'a World,
        name: &str,
        source: Source,
        policy: Value,
    ) -> Self {
        let args = match source {
            Source::Gateway => vec!["--gateway-metrics".to_owned(), world.gateway.stats_url()],
            Source::Pods | Source::Prometheus => Vec::new(),
        };
        let space = world.space(name).await;
        let mut spec = json!({
            "service": "app",
            "strategy": {"canary": {
                "steps": [{"weight": 10}, {"weight": 50}, {"weight": 100}], "minHold": "3s", "maxHold": "5m",
            }},
            "rollbackWindow": {"for": "5s"},
            "analysis": {"interval": "1s", "warmup": "1s", "errorRate": {"maxIncrease": "2"}},
        });
        if source == Source::Prometheus {
            let url = world.prometheus.as_ref().expect("a Prometheus").url();
            spec["analysis"]["source"] = json!({"prometheus": {"url": url}});
        }
        merge(&mut spec, policy);
        let rollout = json!({
            "apiVersion": "banyan.dev/v1alpha1", "kind": "CanaryRollout",
            "metadata": {"name": "app", "namespace": space.namespace}, "spec": spec,
        });
        install::apply(&world.client, &[rollout]).await.expect("a CanaryRollout");
        let mut stage = Self { space, operator: None, args, protocol };
        stage.begin().await;
        stage.release("app:1").await;
        stage.space.hears_of("app:1").await;
        stage.phase("it is settled", &["Settled"]).await;
        stage
    }

    /// Applies the FinService with a release and four pods.
    async fn release(&self, release: &str) {
        self.space.finservice_speaking(release, 4, self.protocol).await;
    }

    /// Starts an operator.
    async fn begin(&mut self) {
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        self.operator = Some(self.space.world.operator(&args).await);
    }

    /// Ends the operator as a crash would.
    async fn kill(&mut self) {
        let operator = self.operator.take().expect("an operator");
        operator.signal(Signal::Kill).expect("a kill");
        operator.stop().await.expect("an end");
    }

    async fn end(mut self) {
        self.space.world.calm();
        let operator = self.operator.take().expect("an operator");
        operator.check().expect("an operator that runs");
        operator.stop().await.expect("an end");
    }

    fn rollouts(&self) -> Api<CanaryRollout> {
        Api::namespaced(self.space.world.client.clone(), &self.space.namespace)
    }

    async fn rollout(&self) -> CanaryRollout {
        self.rollouts().get("app").await.expect("a CanaryRollout")
    }

    /// Waits until the rollout of a release is in one of these phases.
    async fn phase_of(&self, release: &str, what: &str, phases: &[&str]) -> CanaryRollout {
        let named = format!("{}/{release}", self.space.namespace);
        let began = Instant::now();
        loop {
            let rollout = self.rollout().await;
            let status = rollout.status.clone().unwrap_or_default();
            let phase = status.phase.clone().unwrap_or_default();
            let of_release = release.is_empty() || status.release.as_deref() == Some(named.as_str());
            if of_release && phases.contains(&phase.as_str()) {
                return rollout;
            }
            assert!(began.elapsed() < Duration::from_secs(150), "waited in vain until {what}: {status:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn phase(&self, what: &str, phases: &[&str]) -> CanaryRollout {
        self.phase_of("", what, phases).await
    }

    /// Waits until a release has a weight.
    async fn weight(&self, release: &str, weight: i32) {
        until(&format!("{release} has {weight} %"), async || {
            let status = self.rollout().await.status?;
            let named = format!("{}/{release}", self.space.namespace);
            let of_release = status.release.as_deref() == Some(named.as_str());
            (of_release && status.weight?.observed == Some(weight)).then_some(())
        })
        .await;
    }

    /// Says something about a release.
    async fn say(&self, verb: &str, release: &str) {
        let action = json!({
            "apiVersion": "banyan.dev/v1alpha1", "kind": "Action",
            "metadata": {"name": format!("{verb}-{}", release.replace(':', "-")), "namespace": self.space.namespace},
            "spec": {
                "target": {"kind": "CanaryRollout", "name": "app"}, "verb": verb,
                "release": format!("{}/{release}", self.space.namespace),
            },
        });
        let action: Action = serde_json::from_value(action).expect("an Action");
        let api: Api<Action> = Api::namespaced(self.space.world.client.clone(), &self.space.namespace);
        api.create(&Default::default(), &action).await.expect("an Action");
    }

    /// Waits until requests go to this release alone.
    async fn alone(&self, release: &str) {
        until(&format!("all requests go to {release}"), async || {
            let tally = Load::exactly(self.space.load().at(2000.0), 200).await.expect("a load");
            (tally.of(&self.space.release(release)).total() == 200).then_some(())
        })
        .await;
    }
}

fn merge(into: &mut Value, over: Value) {
    match (into, over) {
        (Value::Object(into), Value::Object(over)) => {
            for (key, value) in over {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, over) => *into = over,
    }
}

/// Requests that neither a pod of one of these releases failed nor anybody answered.
fn lost(tally: &Tally, space: &Space<'_>, bad: &[&str]) -> u64 {
    let of_bad: u64 = bad.iter().map(|release| tally.of(&space.release(release)).failed()).sum();
    tally.failed() - of_bad
}

async fn shifts_cost_no_request_through_promotion_rollback_abort_and_kill(world: &World) {
    let mut stage = Stage::start(world, "shifts", Source::Gateway, json!({})).await;
    let load = Load::start(stage.space.load().at(400.0)).expect("a load");

    stage.release("app:2").await;
    stage.phase_of("app:2", "the good one is promoted", &["Warm", "Settled"]).await;
    stage.alone("app:2").await;

    world.pods.behave(&stage.space.release("app:3"), Some(Behaviour::failing(20.0)));
    stage.release("app:3").await;
    let rollout = stage.phase_of("app:3", "the bad one is rolled back", &["RolledBack"]).await;
    stage.alone("app:2").await;
    let status = rollout.status.expect("a status");
    assert_eq!(status.verdict.as_deref(), Some("Fail"), "{status:#?}");

    stage.release("app:4").await;
    stage.weight("app:4", 10).await;
    stage.say("abort", "app:4").await;
    stage.phase_of("app:4", "the aborted one has nothing", &["RolledBack"]).await;
    stage.alone("app:2").await;

    stage.release("app:5").await;
    for weight in [10, 50] {
        stage.weight("app:5", weight).await;
        stage.kill().await;
        stage.begin().await;
    }
    stage.phase_of("app:5", "the last one is promoted", &["Warm", "Settled"]).await;
    stage.alone("app:5").await;
    let sent = load.tally().sent;
    until("enough requests are sent", async || (load.tally().sent >= (sent + 400).max(20_000)).then_some(()))
        .await;
    let tally = load.stop().await.expect("answers");
    println!("{tally}");
    assert!(tally.sent >= 20_000, "{tally}");
    assert_eq!(lost(&tally, &stage.space, &["app:3"]), 0, "{tally}");
    assert_eq!(tally.of(&stage.space.release("app:2")).failed(), 0, "{tally}");
    stage.end().await;
}

/// A canary at 10 % of 200 requests a second turns bad, 20 % of its answers fail: how many do users see?
async fn found(world: &World, name: &str, source: Source, protocol: &'static str) {
    let stage = Stage::speaking(protocol, world, name, source, json!({})).await;
    let load = Load::start(stage.space.load_speaking(protocol).at(200.0)).expect("a load");
    until("requests are answered", async || (load.tally().answered() > 400).then_some(())).await;
    let bad = stage.space.release("app:2");
    world.pods.behave(&bad, Some(Behaviour::failing(20.0)));
    stage.release("app:2").await;
    until("a user sees the first failure", async || (load.tally().of(&bad).failed() > 0).then_some(())).await;
    let first = Instant::now();
    stage.phase_of("app:2", "it is rolled back", &["RolledBack"]).await;
    let took = first.elapsed();
    stage.alone("app:1").await;
    let tally = load.stop().await.expect("answers");
    let (failed, seen) = (tally.of(&bad).failed(), tally.of(&bad).total());
    println!(
        "{name}: {failed} of {} requests failed ({seen} reached the canary), rolled back {:.1} s after the first",
        tally.sent,
        took.as_secs_f64()
    );
    assert_eq!(lost(&tally, &stage.space, &["app:2"]), 0, "{tally}");
    assert!(failed > 0 && seen < tally.sent / 2, "{tally}");
    stage.end().await;
}

async fn a_bad_canary_is_found_by_what_the_gateway_counts(world: &World) {
    found(world, "by-gateway", Source::Gateway, "HTTP").await;
}

async fn a_bad_canary_is_found_by_what_its_pods_count(world: &World) {
    found(world, "by-pods", Source::Pods, "HTTP").await;
}

async fn a_bad_canary_is_found_by_prometheus(world: &World) {
    if world.prometheus_or_skip().is_none() {
        return;
    }
    found(world, "by-prometheus", Source::Prometheus, "HTTP").await;
}

async fn a_bad_canary_of_grpc_is_found_behind_the_status_200(world: &World) {
    found(world, "grpc-by-gateway", Source::Gateway, "GRPC").await;
    found(world, "grpc-by-pods", Source::Pods, "GRPC").await;
}

async fn an_outage_that_both_share_is_held_and_goes_on_afterwards(world: &World) {
    let stage = Stage::start(world, "outage", Source::Gateway, json!({})).await;
    let load = Load::start(stage.space.load().at(300.0)).expect("a load");
    stage.release("app:2").await;
    stage.weight("app:2", 10).await;
    // Stable is known to be well before anything breaks.
    tokio::time::sleep(Duration::from_secs(4)).await;
    world.pods.outage(Some(Behaviour::failing(30.0)));
    let (began, mut worst) = (Instant::now(), String::new());
    while began.elapsed() < Duration::from_secs(12) {
        let status = stage.rollout().await.status.unwrap_or_default();
        assert_ne!(status.phase.as_deref(), Some("RolledBack"), "{status:#?}");
        worst = status.message.unwrap_or(worst);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    world.pods.outage(None);
    println!("in the outage: {worst}");
    stage.phase_of("app:2", "it is promoted after the outage", &["Warm", "Settled"]).await;
    let tally = load.stop().await.expect("answers");
    let failed = tally.of(&stage.space.release("app:2")).failed();
    assert!(failed > 0, "the canary failed as well, as a fixed threshold would see it: {tally}");
    stage.end().await;
}

async fn pods_that_fail_while_they_warm_up_are_not_counted(world: &World) {
    let policy = json!({"analysis": {"warmup": "12s"}});
    let stage = Stage::start(world, "warm-up", Source::Gateway, policy).await;
    let load = Load::start(stage.space.load().at(300.0)).expect("a load");
    let new = stage.space.release("app:2");
    world.pods.behave(&new, Some(Behaviour::failing(10.0)));
    stage.release("app:2").await;
    stage.weight("app:2", 10).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    world.pods.behave(&new, None);
    let failed = load.tally().of(&new).failed();
    assert!(failed > 0, "it failed while it warmed up");
    stage.phase_of("app:2", "it is promoted", &["Promoting", "Warm", "Settled"]).await;
    load.stop().await.expect("answers");
    stage.end().await;
}

async fn a_blip_of_one_pod_does_not_roll_back(world: &World) {
    let stage = Stage::start(world, "blip", Source::Pods, json!({})).await;
    let load = Load::start(stage.space.load().at(900.0)).expect("a load");
    stage.release("app:2").await;
    stage.weight("app:2", 10).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let blip = async |release: &str, seconds: u64| {
        let pod = stage.space.pods(release).first().map(|pod| format!("{}/{}", pod.namespace, pod.name));
        let pod = pod.expect("a pod");
        world.pods.blip(&pod, Some(Behaviour::failing(30.0)));
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        world.pods.blip(&pod, None);
        tokio::time::sleep(Duration::from_secs(2)).await;
    };
    // Stable's pods have such moments, and so may the canary's.
    blip("app:1", 5).await;
    blip("app:1", 5).await;
    blip("app:2", 1).await;
    let rollout =
        stage.phase_of("app:2", "it is promoted", &["Promoting", "Warm", "Settled", "RolledBack"]).await;
    let status = rollout.status.expect("a status");
    assert_ne!(status.phase.as_deref(), Some("RolledBack"), "{status:#?}");
    let tally = load.stop().await.expect("answers");
    assert!(tally.of(&stage.space.release("app:2")).failed() > 0, "{tally}");
    stage.end().await;
}
