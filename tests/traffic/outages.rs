//! Rollouts while something beside them fails: the gateway's controller, stable's pods.

use std::time::Duration;

use banyan::sandbox::process::Signal;
use banyan::sandbox::traffic::gateway::Program;
use banyan::sandbox::traffic::{Behaviour, Load};
use serde_json::json;

use crate::runner::{Scenario, scenarios};
use crate::stage::{Source, Stage, lost};
use crate::world::{World, until};

/// All of this file.
pub fn scenarios() -> Vec<Scenario> {
    scenarios![a_gateway_whose_controller_is_dead_is_not_gone_on_from]
}

/// Weights are written and not followed: forwards, nothing is gone on from; backwards, what was taken back keeps its pods.
async fn a_gateway_whose_controller_is_dead_is_not_gone_on_from(world: &World) {
    let policy = json!({"rollbackWindow": {"for": "1m"}});
    let stage = Stage::start(world, "dead-controller", Source::Gateway, policy).await;
    let load = Load::start(stage.space.load().at(400.0)).expect("a load");
    let contour = |signal| world.gateway.signal(Program::Contour, signal).expect("a signal");

    stage.release("app:2").await;
    stage.weight("app:2", 10).await;
    contour(Signal::Stop);
    let status = stage.stalled("WeightNotFollowed").await;
    let weight = status.weight.clone().expect("a weight");
    let observed = weight.observed.expect("it is counted");
    assert!(weight.asked == 50 && (5..=20).contains(&observed), "{status:#?}");
    println!("{}", status.problems.first().map(|problem| problem.message.clone()).unwrap_or_default());
    contour(Signal::Cont);
    stage.phase_of("app:2", "it goes on by itself", &["Warm"]).await;
    stage.alone("app:2").await;

    let bad = stage.space.release("app:3");
    stage.release("app:3").await;
    stage.weight("app:3", 10).await;
    until("requests go to it", async || (load.tally().of(&bad).total() > 50).then_some(())).await;
    contour(Signal::Stop);
    world.pods.behave(&bad, Some(Behaviour::failing(20.0)));
    stage.phase_of("app:3", "it is rolled back", &["RolledBack"]).await;
    // Longer than pods without requests are kept.
    let reached = load.tally().of(&bad).total();
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert!(load.tally().of(&bad).total() > reached + 200, "requests still come, and are answered");
    contour(Signal::Cont);
    stage.alone("app:2").await;
    until("its pods go once nobody asks them", async || stage.space.pods("app:3").is_empty().then_some(()))
        .await;
    let tally = load.stop().await.expect("answers");
    println!("{tally}");
    assert_eq!(lost(&tally, &stage.space, &["app:3"]), 0, "{tally}");
    stage.end().await;
}
