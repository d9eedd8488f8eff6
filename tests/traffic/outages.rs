//! Rollouts while something beside them fails: the gateway's controller.

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
    scenarios![Alone: a_gateway_whose_controller_is_dead_is_not_gone_on_from]
}

/// Weights are written and not followed: forwards, nothing is gone on from; backwards, what was taken back keeps its pods.
async fn a_gateway_whose_controller_is_dead_is_not_gone_on_from(world: &World) {
    let (forwards, backwards) = tokio::join!(
        Stage::start(world, "forwards", Source::BuiltIn, json!({})),
        Stage::start(world, "backwards", Source::BuiltIn, json!({})),
    );
    let stages = [&forwards, &backwards];
    let loads = stages.map(|stage| Load::start(stage.space.load().at(200.0)).expect("a load"));
    let contour = |signal| world.gateway.signal(Program::Contour, signal).expect("a signal");

    for stage in stages {
        stage.release("app:2").await;
    }
    for (stage, load) in stages.into_iter().zip(&loads) {
        stage.weight("app:2", 10).await;
        let new = stage.space.release("app:2");
        until("requests go to it", async || (load.tally().of(&new).total() > 20).then_some(())).await;
    }
    contour(Signal::Stop);
    let bad = backwards.space.release("app:2");
    world.pods.behave(&bad, Some(Behaviour::failing(20.0)));
    backwards.phase_of("app:2", "it is rolled back", &["RolledBack"]).await;
    let reached = loads[1].tally().of(&bad).total();
    // Longer than pods without requests are kept.
    let kept = tokio::time::sleep(Duration::from_secs(35));
    let status = forwards.stalled("WeightNotFollowed").await;
    let weight = status.weight.clone().expect("a weight");
    let observed = weight.observed.expect("it is counted");
    assert!(weight.asked == 50 && (5..=20).contains(&observed), "{status:#?}");
    println!("{}", status.problems.first().map(|problem| problem.message.clone()).unwrap_or_default());
    kept.await;
    assert!(loads[1].tally().of(&bad).total() > reached + 200, "requests still come, and are answered");

    contour(Signal::Cont);
    backwards.alone("app:1").await;
    until("its pods go once no request comes", async || {
        backwards.space.pods("app:2").is_empty().then_some(())
    })
    .await;
    forwards.phase_of("app:2", "it goes on by itself", &["Warm", "Settled"]).await;
    forwards.alone("app:2").await;
    for ((load, stage), bad) in loads.into_iter().zip(stages).zip([&[][..], &["app:2"]]) {
        let tally = load.stop().await.expect("answers");
        println!("{tally}");
        assert_eq!(lost(&tally, &stage.space, bad), 0, "{tally}");
    }
}
