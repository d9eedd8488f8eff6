//! Rollouts while something beside them fails: the gateway's controller.

use std::time::Duration;

use banyan::sandbox::process::Signal;
use banyan::sandbox::traffic::gateway::Program;
use banyan::sandbox::traffic::{Behaviour, Load};
use serde_json::json;

use crate::runner::{Scenario, scenarios};
use crate::stage::{Source, Stage, lost, words};
use crate::world::{World, until};

/// All of this file.
pub fn scenarios() -> Vec<Scenario> {
    scenarios![Alone: a_gateway_whose_controller_is_dead_is_not_gone_on_from]
}

/// Weights are written and not followed. Forwards, at each step, nothing is gone on from and no pod of stable goes; backwards,
/// what was taken back keeps its pods.
async fn a_gateway_whose_controller_is_dead_is_not_gone_on_from(world: &World) {
    // Long enough that none has gone on by itself before all are where they should be, however slow the machine is.
    let (held, steps) = ("8s", |steps| json!({"strategy": {"canary": {"steps": steps}}}));
    let middle = steps(json!([{"weight": 10, "minHold": held}, {"weight": 50}, {"weight": 100}]));
    let last = steps(json!([{"weight": 50, "minHold": held}, {"weight": 100, "minHold": held}]));
    let (first, middle, last, backwards) = tokio::join!(
        Stage::start(world, "first-step", Source::BuiltIn, json!({})),
        Stage::start(world, "forwards", Source::BuiltIn, middle),
        Stage::start(world, "last-step", Source::BuiltIn, last),
        Stage::start(world, "backwards", Source::BuiltIn, json!({})),
    );
    let stages = [&first, &middle, &last, &backwards];
    let loads = stages.map(|stage| Load::start(stage.space.load().at(200.0)).expect("a load"));
    let contour = |signal| world.gateway.signal(Program::Contour, signal).expect("a signal");

    // The first of them begins only when nobody hears of it any more.
    let begun = [(&middle, &loads[1], 10), (&last, &loads[2], 50), (&backwards, &loads[3], 10)];
    futures::future::join_all(begun.map(async |(stage, load, weight)| {
        stage.release("app:2").await;
        stage.weight("app:2", weight).await;
        let new = stage.space.release("app:2");
        until("requests go to it", async || (load.tally().of(&new).total() > 20).then_some(())).await;
    }))
    .await;
    contour(Signal::Stop);
    first.release("app:2").await;
    let bad = backwards.space.release("app:2");
    world.pods.behave(&bad, Some(Behaviour::failing(20.0)));
    backwards.phase_of("app:2", "it is rolled back", &["RolledBack"]).await;
    let reached = loads[3].tally().of(&bad).total();
    // Longer than pods without requests are kept.
    let kept = tokio::time::sleep(Duration::from_secs(35));
    let mut said = Vec::new();
    let reads_nothing = async || {
        let said = words(&first.rollout().await.status?);
        said.contains("the gateway has not read the route").then_some(said)
    };
    said.push(until("no step begins that the gateway does not know of", reads_nothing).await);
    for (stage, asked, observed) in [(&middle, 50, 5..=20), (&last, 100, 40..=60)] {
        let status = stage.stalled("WeightNotFollowed").await;
        let weight = status.weight.clone().expect("a weight");
        let counted = weight.observed.is_some_and(|counted| observed.contains(&counted));
        assert!(weight.asked == asked && counted, "{status:#?}");
        said.push(words(&status));
    }
    kept.await;
    for stage in [&first, &middle, &last] {
        assert_eq!(stage.space.pods("app:1").len(), 4, "stable keeps its pods");
    }
    assert_eq!(loads[0].tally().of(&first.space.release("app:2")).total(), 0);
    assert!(loads[3].tally().of(&bad).total() > reached + 200, "requests still come, and are answered");

    contour(Signal::Cont);
    backwards.alone("app:1").await;
    until("its pods go once no request comes", async || {
        backwards.space.pods("app:2").is_empty().then_some(())
    })
    .await;
    said.push(words(&backwards.rollout().await.status.expect("a status")));
    for stage in [&first, &middle, &last] {
        stage.phase_of("app:2", "it goes on by itself", &["Warm", "Settled"]).await;
        stage.alone("app:2").await;
    }
    for (((load, stage), said), bad) in
        loads.into_iter().zip(stages).zip(said).zip([&[][..], &[], &[], &["app:2"]])
    {
        let tally = load.stop().await.expect("answers");
        let lost = lost(&tally, &stage.space, bad);
        println!("{}: {} requests, {lost} lost: {said}", stage.space.namespace, tally.sent);
        assert_eq!(lost, 0, "{tally}");
    }
}
