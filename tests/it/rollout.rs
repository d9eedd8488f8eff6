//! Rollouts on a real API server, with a real operator: pods are played, and so is the Prometheus that counts.

use banyan::actions::hear;
use banyan::signals::{Answer, Arm, Counted, Prometheus, Subject, What};

use std::time::Duration;

use banyan::api::canarystatus::Outcome;
use banyan::api::{CanaryRollout, FinService};
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

use crate::in_sync::{differences, is_in_sync};
use crate::played_prometheus::{Flow, Mood, Played};
use crate::stage::{Stage, policy, service, staying};
use crate::world::{aws, condition, until};

/// The played Prometheus must answer as a real one does, or what is shown with it is not shown.
#[tokio::test]
async fn the_played_prometheus_understands_what_it_is_asked() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let played = Played::start().await;
    let prometheus = Prometheus::new(&played.url(), None, None).unwrap();
    let arm = |hash: &str| Arm {
        namespace: "pay".into(),
        service: format!("tx-{hash}"),
        port: 80,
        revision: hash.into(),
        pods: Vec::new(),
    };
    let named = |name: &str, what| Counted { name: name.into(), what };
    let own = What::Custom { bad: "own_bad".into(), total: "own_total".into() };
    let subject = Subject {
        namespace: "pay".into(),
        service: "tx".into(),
        arms: [arm("old"), arm("new")],
        metrics: vec![
            named("error-rate", What::Errors),
            named("latency", What::Slower(0.2)),
            named("own", own),
        ],
        ..Subject::default()
    };
    let ask = async || prometheus.ask(std::slice::from_ref(&subject)).await.remove(0);
    assert!(matches!(ask().await, Answer::Nothing(_)), "nobody counts yet");
    played.flow("pay", "tx", "old", Flow { requests: 1e6, failing: 10.0, slow: 20.0 });
    played.flow("pay", "tx", "new", Flow { requests: 1e6, failing: 50.0, slow: 0.0 });
    played.flow("other", "tx", "old", Flow { requests: 1e9, failing: 0.0, slow: 0.0 });
    played.answer("own_bad", &[(&[("revision", "new")], 3.0)]);
    played.answer("own_total", &[(&[("revision", "new")], 30.0), (&[("revision", "old")], 40.0)]);
    let before = played.asked();
    let answer = ask().await;
    let Answer::Readings { readings, comparable, .. } = answer else { panic!("{answer:?}") };
    assert_eq!(
        played.asked() - before,
        2,
        "one question for the built-in metrics, one for the service's own"
    );
    assert!(comparable);
    for (metric, arm, share) in [(0, 0, 0.1), (0, 1, 0.5), (1, 0, 0.2), (1, 1, 0.0)] {
        let reading = readings.iter().find(|r| (r.metric, r.arm) == (metric, arm)).unwrap();
        assert!(reading.requests > 0.0 && reading.requests < 1e8, "{reading:?}");
        assert!((reading.bad / reading.requests - share).abs() < 0.01, "{reading:?}");
    }
    let own: Vec<_> = readings.iter().filter(|r| r.metric == 2).map(|r| (r.arm, r.requests, r.bad)).collect();
    assert_eq!(own, [(0, 40.0, 0.0), (1, 30.0, 3.0)]);

    for mood in [Mood::Status(500), Mood::Empty, Mood::NaN, Mood::Twice, Mood::CutOff, Mood::Warning] {
        played.mood(mood.clone());
        let answer = ask().await;
        assert!(matches!(answer, Answer::Nothing(_)), "{mood:?}: {answer:?}");
    }
    // When a sum that the service itself asks for was sampled, Prometheus does not say.
    played.mood(Mood::Stale(120.0));
    let answer = ask().await;
    let Answer::Readings { readings, missing, .. } = &answer else { panic!("{answer:?}") };
    assert!(readings.iter().all(|reading| reading.metric == 2), "{answer:?}");
    assert_eq!(missing.iter().map(|(metric, _)| *metric).collect::<Vec<_>>(), [0, 1], "{answer:?}");
    played.mood(Mood::Well);
    let requests = async || {
        let Answer::Readings { readings, .. } = ask().await else { panic!("no answer") };
        readings[0].requests
    };
    played.flow("pay", "tx", "old", Flow::default());
    let whole = requests().await;
    assert!(whole > 0.0, "what was counted stays");
    played.reset("pay");
    assert_eq!(requests().await, 0.0);
}

#[tokio::test]
async fn a_good_release_is_promoted_step_by_step_and_leaves_nothing_to_do() {
    let stage = Stage::new("good", policy).await;
    let mut spec = service("Istio");
    (spec["version"], spec["image"]) = (json!("2"), json!("registry.example/app:2"));
    stage.world.apply("app", spec.clone()).await.expect("a change that is valid");
    let new = stage.begins("2", 0.1).await;
    stage.phase("Warm").await;
    let settled = stage.phase("Settled").await;
    let names = [(stage.first.as_str(), "R1"), (new.as_str(), "R2")];
    let past = settled.history.first().expect("a past");
    assert_eq!(
        (past.release.as_str(), past.revision.as_str(), past.outcome),
        ("2", &*new, Outcome::Promoted)
    );
    assert_eq!((settled.history.len(), settled.stable.as_deref()), (1, Some(&*new)));
    stage
        .events_are(
            &names,
            &[
                ("RolloutStarted", "2 (revision R2) begins to take over from 1"),
                ("WeightShifted", "2 goes from 0 % to 10 %"),
                ("WeightShifted", "2 goes from 10 % to 50 %"),
                ("WeightShifted", "2 goes from 50 % to 100 %"),
                ("RevisionPromoted", "2 (revision R2) has all traffic and is stable now"),
                ("WindowClosed", "the rollback window of 2 is over; R1 is not kept warm any more"),
            ],
        )
        .await;
    // The old one loses its pods after the grace, and then its name in the route.
    until("the old revision has no pods", async || (stage.pods(&stage.first).await? == 0).then_some(()))
        .await;
    until("the route names the new one alone", async || {
        (stage.shares(&names).last()? == "R2 100").then_some(())
    })
    .await;
    assert_eq!(
        stage.shares(&names),
        ["R1 100", "R1 100, R2 0", "R1 90, R2 10", "R1 50, R2 50", "R1 0, R2 100", "R2 100"]
    );
    assert_eq!(stage.selected().await.as_deref(), Some(&*new));
    stage.world.ready("app").await;
    git_and_the_cluster_say_the_same(&stage, spec).await;

    // At rest it costs nothing: no request about it to the API server, and no question to Prometheus.
    tokio::time::sleep(Duration::from_secs(3)).await; // the last Events are on their way
    let (mark, asked) = (aws().await.audit_mark(), stage.played.asked());
    tokio::time::sleep(Duration::from_secs(15)).await;
    let audit = aws().await.audit_since(mark).expect("an audit log");
    let own: Vec<_> =
        audit.not_idle().into_iter().filter(|request| request.namespace == stage.world.namespace).collect();
    assert!(own.is_empty(), "{own:?}");
    assert_eq!(stage.played.asked(), asked);
}

/// After a whole rollout nothing is OutOfSync, though admission has written a name that git does not have.
async fn git_and_the_cluster_say_the_same(stage: &Stage, spec: Value) {
    let (client, service) = (&stage.world.client, stage.manifest("FinService", spec));
    let live = stage.world.api::<FinService>().get("app").await.expect("a FinService");
    assert!(hear::changed_by(live.annotations()).is_some(), "{:?}", live.metadata);
    for git in [&service, &stage.manifest("CanaryRollout", policy(&stage.played))] {
        is_in_sync(client, "team", git).await;
    }
    // Each of the ways finds what does differ.
    let mut other = service.clone();
    other["spec"]["owner"] = json!("another-team");
    other["spec"].as_object_mut().expect("a spec").remove("version");
    let found = differences(client, "team", &other).await;
    let has = |words: &str| found.iter().any(|found| found.contains(words));
    assert!(has(".spec.owner: git has") && has("applied again") && has("f:version is owned"), "{found:#?}");
}

#[tokio::test]
async fn a_bad_release_is_rolled_back_and_everybody_says_so() {
    let stage = Stage::new("bad", policy).await;
    let new = stage.deploy("2", 20.0).await;
    let status = stage.phase("RolledBack").await;
    let names = [(stage.first.as_str(), "R1"), (new.as_str(), "R2")];
    let stalled = status.conditions.iter().find(|c| c.type_ == "Stalled").expect("a condition");
    assert_eq!((&*stalled.status, &*stalled.reason), ("True", "RolledBack"));
    assert!(
        stalled.message.contains("error-rate")
            && stalled.message.contains("kubectl banyan canary retry app -n "),
        "{stalled:?}"
    );
    assert_eq!(status.history[0].outcome, Outcome::RolledBack);
    assert_eq!(status.stable.as_deref(), Some(&*stage.first));
    let shares = stage.shares(&names);
    assert_eq!(shares, ["R1 100", "R1 100, R2 0", "R1 90, R2 10", "R1 100, R2 0"]);
    assert_eq!(stage.selected().await.as_deref(), Some(&*stage.first));
    let service = stage
        .world
        .status("app", "it says that what is asked for does not serve", |service| {
            condition(service, "Stalled") == Some("True")
        })
        .await;
    let problem = &service.status.unwrap().problems[0];
    assert!(problem.message.contains("2 was rolled back at 10 %"), "{problem:?}");
    let events = stage.events().await;
    let back: Vec<_> = events.iter().filter(|(reason, _)| reason == "RolledBack").collect();
    assert!(back.len() == 1 && back[0].1.starts_with("2 goes from 10 % to 0 %: error-rate"), "{events:?}");

    // The same again is not tried by itself; another template is.
    stage.change(json!({"version": "1", "image": "registry.example/app:1"})).await;
    stage.phase("Settled").await;
    stage.change(json!({"version": "2", "image": "registry.example/app:2"})).await;
    stage.phase("RolledBack").await;
    assert_eq!(stage.weights(&new), [0, 10, 0]);
    let third = stage.deploy("3", 0.1).await;
    stage.status("the third is promoted", |s| s.stable.as_deref() == Some(&*third)).await;
    assert_eq!(stage.weights(&third), [0, 10, 50, 100]);
}

#[tokio::test]
async fn people_abort_retry_and_promote() {
    let stage = Stage::new("people", staying).await;
    let new = stage.deploy("2", 0.1).await;
    stage.at(10).await;
    let done = |words: &str| ("Done".to_owned(), words.to_owned());
    let (state, words) = stage.say("promote", "7", "wrong one").await;
    assert_eq!((&*state, &*words), ("Refused", "it is meant for 7, and this is 2"));
    assert_eq!(stage.say("abort", "2", "a customer called").await, done("2 has no weight any more"));
    let status = stage.phase("RolledBack").await;
    assert_eq!(status.history[0].outcome, Outcome::Aborted);
    let (state, words) = stage.say("promote", "2", "again").await;
    let retry = format!(
        "2 was rolled back; run `kubectl banyan canary retry app -n {}` first",
        stage.world.namespace
    );
    assert_eq!((&*state, &*words), ("Refused", &*retry));
    assert_eq!(
        stage.say("retry", "2", "it was the database").await,
        done("starts over from zero weight with fresh evidence")
    );
    stage.at(10).await;
    assert_eq!(
        stage.say("promote", "2", "we know it").await,
        done("what is left of holds, verdicts and gates is skipped")
    );
    stage.phase("Settled").await;
    assert_eq!(stage.weights(&new), [0, 10, 0, 10, 100], "what is left is skipped");
    let who = stage.who().await;
    stage
        .events_are(
            &[(&stage.first, "R1"), (&new, "R2"), (&who, "ann"), (&stage.world.namespace, "NS")],
            &[
                ("RolloutStarted", "2 (revision R2) begins to take over from 1"),
                ("WeightShifted", "2 goes from 0 % to 10 %"),
                ("ActionRefused", "promote by ann is refused: it is meant for 7, and this is 2"),
                ("RolledBack", "2 goes from 10 % to 0 %: aborted by ann: a customer called"),
                ("ActionRefused", "promote by ann is refused: 2 was rolled back; run `kubectl banyan canary retry app -n NS` first"),
                (
                    "RolloutStarted",
                    "2 (revision R2) begins again to take over from 1, as attempt 2: retry by ann: it was the database",
                ),
                ("WeightShifted", "2 goes from 0 % to 10 %"),
                ("WeightShifted", "2 goes from 10 % to 100 %"),
                ("RevisionPromoted", "2 (revision R2) has all traffic and is stable now"),
                ("WindowClosed", "the rollback window of 2 is over; R1 is not kept warm any more"),
            ],
        )
        .await;
}

#[tokio::test]
async fn a_paused_rollout_stays_until_it_is_resumed_but_a_fail_still_goes_back() {
    let stage = Stage::new("pause", policy).await;
    // Too little is known for a verdict, so that it stands still at its first weight.
    stage.played.mood(Mood::Empty);
    let new = stage.deploy("2", 0.1).await;
    stage.at(10).await;
    assert_eq!(stage.say("pause", "2", "wait").await, ("Done".into(), "paused at 10 %".into()));
    stage.phase("Paused").await;
    let again = stage.say("pause", "2", "wait").await;
    assert_eq!(again, ("Refused".into(), "it is paused already".into()));
    stage.played.mood(Mood::Well);
    stage.status("it passes", |s| s.verdict.as_deref() == Some("Pass")).await;
    // While it is paused the number of pods may change: nothing else does.
    stage.change(json!({"scale": {"replicas": 20}})).await;
    until("pods are made", async || (stage.pods(&new).await? == 2).then_some(())).await;
    until("stable has all", async || (stage.pods(&stage.first).await? == 20).then_some(())).await;
    assert_eq!(stage.weights(&new), [0, 10]);
    assert_eq!(stage.say("resume", "2", "go").await, ("Done".into(), "goes on from 10 %".into()));
    stage.status("it goes on", |s| s.weight.as_ref().is_some_and(|w| w.asked >= 50)).await;
    stage.phase("Settled").await;
    assert_eq!(stage.weights(&new), [0, 10, 50, 100]);

    stage.played.mood(Mood::Empty);
    let third = stage.deploy("3", 20.0).await;
    stage.at(10).await;
    stage.say("pause", "3", "wait").await;
    stage.phase("Paused").await;
    stage.played.mood(Mood::Well);
    stage.phase("RolledBack").await;
    assert_eq!(stage.weights(&third), [0, 10, 0]);
}

#[tokio::test]
async fn another_template_starts_over_and_that_of_stable_cancels() {
    let stage = Stage::new("again", staying).await;
    let second = stage.deploy("2", 0.1).await;
    stage.at(10).await;
    let third = stage.deploy("3", 0.1).await;
    assert_ne!(second, third);
    stage.at(10).await;
    let attempt = stage.now().await.memory.expect("a memory").attempt;
    assert_eq!(attempt, 2, "each start is an attempt of its own");
    stage.change(json!({"version": "1", "image": "registry.example/app:1"})).await;
    let status = stage.phase("Settled").await;
    let outcomes: Vec<_> = status.history.iter().map(|past| (&*past.release, past.outcome)).collect();
    assert_eq!(outcomes, [("3", Outcome::Superseded), ("2", Outcome::Superseded)]);
    assert_eq!((stage.weights(&second), stage.weights(&third)), (vec![0, 10, 0], vec![0, 10, 0]));
    let names = [(stage.first.as_str(), "R1"), (second.as_str(), "R2"), (third.as_str(), "R3")];
    stage
        .events_are(
            &names,
            &[
                ("RolloutStarted", "2 (revision R2) begins to take over from 1"),
                ("WeightShifted", "2 goes from 0 % to 10 %"),
                (
                    "RolloutCancelled",
                    "2 gives way at 10 %: the template changed again to 3, which starts over from zero weight",
                ),
                ("RolloutStarted", "3 (revision R3) begins to take over from 1"),
                ("WeightShifted", "3 goes from 0 % to 10 %"),
                ("RolloutCancelled", "3 is given up at 10 %: the FinService asks for what is stable"),
            ],
        )
        .await;
}

#[tokio::test]
async fn a_canary_rollout_that_is_deleted_leaves_all_to_stable_and_a_service_leaves_nothing() {
    let stage = Stage::new("deleted", staying).await;
    let new = stage.deploy("2", 0.1).await;
    stage.at(10).await;
    let api = stage.world.api::<CanaryRollout>();
    api.delete("app", &DeleteParams::default()).await.unwrap();
    until("stable has all", async || (stage.weights(&new) == [0, 10, 0]).then_some(())).await;
    let service = stage
        .world
        .status("app", "it says why", |service| condition(service, "Stalled") == Some("True"))
        .await;
    let problem = &service.status.unwrap().problems[0];
    assert!(problem.message.contains("its CanaryRollout was deleted while it had 10 %"), "{problem:?}");
    assert_eq!(stage.selected().await.as_deref(), Some(&*stage.first));

    // With a policy again, and in mid-course, the FinService itself goes.
    stage.put_policy("app", staying(&stage.played)).await;
    stage.phase("RolledBack").await;
    stage.deploy("3", 0.1).await;
    stage.at(10).await;
    stage.world.api::<FinService>().delete("app", &DeleteParams::default()).await.unwrap();
    until("no Service is left", async || {
        let left = stage.world.api::<Service>().list(&ListParams::default()).await.ok()?;
        let routes = stage.world.dynamic("networking.istio.io/v1", "VirtualService");
        let routes = routes.list(&ListParams::default()).await.ok()?;
        let pods = stage.world.api::<k8s_openapi::api::apps::v1::Deployment>();
        let pods = pods.list(&ListParams::default()).await.ok()?;
        (left.items.is_empty() && routes.items.is_empty() && pods.items.is_empty()).then_some(())
    })
    .await;
    let status = stage.phase("Ignored").await;
    assert!(status.problems[0].message.contains("there is no FinService app"), "{:?}", status.problems);
    let asked = stage.played.asked();
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(stage.played.asked(), asked, "nobody is asked about what is gone");
}
