//! Rollouts as an operator carries them out, with real requests.

use std::time::{Duration, Instant};

use banyan::sandbox::traffic::{Behaviour, Load};
use serde_json::json;

use crate::runner::{Scenario, scenarios};
use crate::stage::{Source, Stage, lost};
use crate::world::{World, until};

/// All of this file.
pub fn scenarios() -> Vec<Scenario> {
    let mut scenarios = scenarios![Gateway:
        shifts_cost_no_request_through_promotion_rollback_abort_and_kill,
        an_outage_that_both_share_is_held_and_goes_on_afterwards,
        pods_that_fail_while_they_warm_up_are_not_counted,
        a_bad_canary_is_found_by_what_the_gateway_counts,
        a_bad_canary_of_grpc_is_found_by_what_the_gateway_counts,
    ];
    scenarios.extend(scenarios![Pods:
        a_blip_of_one_pod_does_not_roll_back,
        a_bad_canary_is_found_by_what_its_pods_count,
        a_bad_canary_of_grpc_is_found_by_what_its_pods_count,
        a_bad_canary_is_found_by_prometheus,
    ]);
    scenarios
}

async fn shifts_cost_no_request_through_promotion_rollback_abort_and_kill(world: &World) {
    let stage = Stage::start(world, "shifts", Source::BuiltIn, json!({})).await;
    let load = Load::start(stage.space.load().at(250.0)).expect("a load");

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
        world.kill().await;
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
}

async fn a_bad_canary_is_found_by_what_the_gateway_counts(world: &World) {
    found(world, "by-gateway", Source::BuiltIn, "HTTP").await;
}

async fn a_bad_canary_is_found_by_what_its_pods_count(world: &World) {
    found(world, "by-pods", Source::BuiltIn, "HTTP").await;
}

async fn a_bad_canary_is_found_by_prometheus(world: &World) {
    if world.prometheus_or_skip().is_none() {
        return;
    }
    found(world, "by-prometheus", Source::Prometheus, "HTTP").await;
}

/// Behind the status 200.
async fn a_bad_canary_of_grpc_is_found_by_what_the_gateway_counts(world: &World) {
    found(world, "grpc-by-gateway", Source::BuiltIn, "GRPC").await;
}

async fn a_bad_canary_of_grpc_is_found_by_what_its_pods_count(world: &World) {
    found(world, "grpc-by-pods", Source::BuiltIn, "GRPC").await;
}

async fn an_outage_that_both_share_is_held_and_goes_on_afterwards(world: &World) {
    let stage = Stage::start(world, "outage", Source::BuiltIn, json!({})).await;
    let load = Load::start(stage.space.load().at(200.0)).expect("a load");
    stage.release("app:2").await;
    stage.weight("app:2", 10).await;
    // Stable is known to be well before anything breaks. A machine that stood still for a moment looks like a step that harms
    // stable, which is taken back once: the canary must have its share again.
    tokio::time::sleep(Duration::from_secs(4)).await;
    stage.weight("app:2", 10).await;
    let both = |behaviour: Option<Behaviour>| {
        for release in ["app:1", "app:2"] {
            world.pods.behave(&stage.space.release(release), behaviour);
        }
    };
    both(Some(Behaviour::failing(30.0)));
    let (began, mut worst) = (Instant::now(), String::new());
    while began.elapsed() < Duration::from_secs(12) {
        let status = stage.rollout().await.status.unwrap_or_default();
        assert_ne!(status.phase.as_deref(), Some("RolledBack"), "{status:#?}");
        worst = status.message.unwrap_or(worst);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    both(None);
    println!("in the outage: {worst}");
    stage.phase_of("app:2", "it is promoted after the outage", &["Warm", "Settled"]).await;
    let tally = load.stop().await.expect("answers");
    let failed = tally.of(&stage.space.release("app:2")).failed();
    assert!(failed > 0, "the canary failed as well, as a fixed threshold would see it: {tally}");
}

async fn pods_that_fail_while_they_warm_up_are_not_counted(world: &World) {
    let policy = json!({"analysis": {"warmup": "12s"}});
    let stage = Stage::start(world, "warm-up", Source::BuiltIn, policy).await;
    let load = Load::start(stage.space.load().at(200.0)).expect("a load");
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
}

async fn a_blip_of_one_pod_does_not_roll_back(world: &World) {
    let stage = Stage::start(world, "blip", Source::BuiltIn, json!({})).await;
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
}
