//! Rollouts in hard times: nobody answers in stable, or the canary leaves requests unanswered.

use std::time::{Duration, Instant};

use banyan::sandbox::traffic::{Behaviour, Load};
use serde_json::json;

use crate::runner::{Scenario, scenarios};
use crate::stage::{Source, Stage, lost, words};
use crate::world::{World, until};

/// All of this file.
pub fn scenarios() -> Vec<Scenario> {
    scenarios![Gateway:
        stable_that_is_gone_in_mid_rollout_leaves_all_to_a_good_canary,
        a_bad_canary_keeps_what_nobody_else_answers,
        a_fix_gets_out_while_stable_is_down,
        a_canary_that_hangs_is_found_by_what_the_gateway_counts,
    ]
}

/// All pods of stable lose their readiness, once they have it.
async fn stable_is_gone(stage: &Stage<'_>) {
    let pods = until("stable has all its pods", async || {
        let pods = stage.space.pods("app:1");
        (pods.len() == 4).then_some(pods)
    })
    .await;
    let api = stage.space.api("v1", "Pod");
    for pod in pods {
        until("the pod is Ready", async || {
            let read = api.get(&pod.name).await.ok()?;
            let conditions = read.data["status"]["conditions"].as_array()?;
            conditions
                .iter()
                .find(|condition| condition["type"] == "Ready" && condition["status"] == "True")
                .map(drop)
        })
        .await;
        stage.space.world.pods.set_ready(&pod.key(), false).await.expect("a pod");
    }
}

/// Readiness and message of the FinService.
async fn of_service(stage: &Stage<'_>) -> Option<(String, String)> {
    let service = stage.space.api("banyan.dev/v1alpha1", "FinService").get("app").await.ok()?;
    let conditions = service.data["status"]["conditions"].as_array()?;
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready")?;
    Some((ready["status"].as_str()?.to_owned(), ready["message"].as_str()?.to_owned()))
}

/// Waits until nothing fails any more; when the last request failed, as far as is seen.
async fn healed(load: &Load, quiet: Duration) -> Instant {
    let mut last = (load.tally().failed(), Instant::now());
    until("requests fail no more", async || {
        let failed = load.tally().failed();
        if failed > last.0 {
            last = (failed, Instant::now());
        }
        (last.1.elapsed() > quiet).then_some(last.1)
    })
    .await
}

const QUIET: Duration = Duration::from_secs(2);

async fn stable_that_is_gone_in_mid_rollout_leaves_all_to_a_good_canary(world: &World) {
    let stage = Stage::start(world, "stable-gone", Source::BuiltIn, json!({})).await;
    let load = Load::start(stage.space.load().at(200.0)).expect("a load");
    stage.release("app:2").await;
    stage.weight("app:2", 10).await;
    let before = load.tally();
    assert_eq!(before.failed(), 0, "{before}");
    let began = Instant::now();
    stable_is_gone(&stage).await;
    let said = until("it says that nobody answers in stable", async || {
        let said = words(&stage.rollout().await.status?);
        said.contains("no pod of revision").then_some(said)
    })
    .await;
    let lasted = healed(&load, QUIET).await - began;
    stage.alone("app:2").await;
    let tally = load.stop().await.expect("answers");
    println!(
        "stable gone: {} of {} requests lost within {:.1} s: {said}",
        tally.failed(),
        tally.sent,
        lasted.as_secs_f64()
    );
    assert_eq!(tally.of(&stage.space.release("app:2")).failed(), 0, "{tally}");
    stage.phase_of("app:2", "it is stable", &["Warm", "Settled"]).await;
}

async fn a_bad_canary_keeps_what_nobody_else_answers(world: &World) {
    let policy = json!({
        "strategy": {"canary": {"steps": [{"weight": 10}, {"weight": 100, "minHold": "2m"}]}},
        "analysis": {"errorRate": {"limit": "5"}},
    });
    let stage = Stage::start(world, "no-way-back", Source::BuiltIn, policy).await;
    let load = Load::start(stage.space.load().at(200.0)).expect("a load");
    stage.release("app:2").await;
    stage.weight("app:2", 10).await;
    stable_is_gone(&stage).await;
    let bad = stage.space.release("app:2");
    healed(&load, QUIET).await;
    world.pods.behave(&bad, Some(Behaviour::failing(20.0)));
    let said = words(&stage.stalled("NoWayBack").await);
    let before = load.tally();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let held = load.tally().since(&before);
    assert_eq!(
        lost(&held, &stage.space, &["app:2"]),
        0,
        "what is not failed by the canary is answered: {held}"
    );
    assert_eq!(stage.space.pods("app:2").len(), 4, "it keeps its pods");
    for pod in stage.space.pods("app:1") {
        world.pods.set_ready(&pod.key(), true).await.expect("a pod");
    }
    stage.phase_of("app:2", "it goes back once somebody answers there", &["RolledBack"]).await;
    stage.alone("app:1").await;
    let tally = load.stop().await.expect("answers");
    println!(
        "no way back: {} of {} requests lost beside {} that the canary failed: {said}",
        lost(&tally, &stage.space, &["app:2"]),
        tally.sent,
        tally.of(&bad).failed()
    );
}

async fn a_fix_gets_out_while_stable_is_down(world: &World) {
    let stage = Stage::start(world, "fix", Source::BuiltIn, json!({})).await;
    let load = Load::start(stage.space.load().at(200.0)).expect("a load");
    stable_is_gone(&stage).await;
    until("nobody answers", async || (load.tally().failed() > 20).then_some(())).await;
    until("it is not Ready", async || of_service(&stage).await.filter(|(ready, _)| ready == "False")).await;
    let (before, deployed) = (load.tally(), Instant::now());
    stage.release("app:2").await;
    let new = stage.space.release("app:2");
    let mut said = (String::new(), String::new());
    until("the fix answers", async || {
        let (ready, message) = of_service(&stage).await?;
        let status = stage.rollout().await.status?;
        if status.phase.as_deref() == Some("Preparing") {
            assert_eq!(ready, "False", "{message}");
            said = (words(&status), message);
        }
        (load.tally().of(&new).total() > 0).then_some(())
    })
    .await;
    let first = deployed.elapsed();
    let all = healed(&load, QUIET).await - deployed;
    stage.alone("app:2").await;
    stage.phase_of("app:2", "it is stable", &["Warm", "Settled"]).await;
    until("it is Ready", async || of_service(&stage).await.filter(|(ready, _)| ready == "True")).await;
    let tally = load.stop().await.expect("answers").since(&before);
    println!(
        "fix: {} of {} requests lost after it was deployed, the first answer after {:.1} s, the last failure after {:.1} s: \
         {}; the FinService: {}",
        tally.failed(),
        tally.sent,
        first.as_secs_f64(),
        all.as_secs_f64(),
        said.0,
        said.1
    );
    assert_eq!(tally.of(&new).failed(), 0, "{tally}");
}

/// A fifth of the requests that reach it are not answered, and who asks gives up after two seconds. No answer tells of
/// that, neither by its status nor by how long it took.
async fn a_canary_that_hangs_is_found_by_what_the_gateway_counts(world: &World) {
    let stage = Stage::start(world, "hangs", Source::BuiltIn, json!({})).await;
    let mut options = stage.space.load().at(300.0);
    options.timeout = Duration::from_secs(2);
    let load = Load::start(options).expect("a load");
    let bad = stage.space.release("app:2");
    let hanging = Behaviour { slow: 20.0, slow_latency: Duration::from_secs(60), ..Behaviour::default() };
    world.pods.behave(&bad, Some(hanging));
    stage.release("app:2").await;
    until("a user gives up", async || (load.tally().failed() > 0).then_some(())).await;
    let first = Instant::now();
    let rollout = stage.phase_of("app:2", "it is over", &["RolledBack", "Warm", "Settled"]).await;
    let took = first.elapsed();
    let tally = load.stop().await.expect("answers");
    let status = rollout.status.expect("a status");
    println!(
        "hangs: {} of {} requests lost, {} {:.1} s after the first: {}",
        tally.failed(),
        tally.sent,
        status.phase.clone().unwrap_or_default(),
        took.as_secs_f64(),
        words(&status)
    );
    assert_eq!(status.phase.as_deref(), Some("RolledBack"), "{status:#?}");
    world.pods.behave(&bad, None);
}
