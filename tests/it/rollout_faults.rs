//! What must not hurt a rollout: a source that is away or wrong, somebody else who writes, an operator that is killed.

use std::time::Duration;

use banyan::api::CanaryRolloutStatus;
use banyan::sandbox::install;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::played_prometheus::Mood;
use crate::stage::{Stage, policy, service, staying};
use crate::successors::Successors;
use crate::world::{alone, aws, optional_definitions, until};

#[tokio::test]
async fn a_source_that_is_away_or_wrong_holds_and_is_explained_and_nothing_is_lost() {
    let stage = Stage::new("source", staying).await;
    let new = stage.deploy("2", 0.1).await;
    stage.at(10).await;
    let passes = async || stage.status("it passes", |s| s.verdict.as_deref() == Some("Pass")).await;
    passes().await;
    for (mood, words) in [
        (Mood::Silent, "no answer within 5s"),
        (Mood::Slow(Duration::from_secs(30)), "no answer within 5s"),
        (Mood::Status(500), "status 500"),
        (Mood::Status(429), "status 429"),
        (Mood::Empty, "Prometheus has no series of it"),
        (Mood::NaN, "NaN"),
        (Mood::Twice, "the same series more than once"),
        (Mood::Stale(120.0), "Prometheus has no series of it"),
        (Mood::CutOff, "Prometheus does not answer"),
        (Mood::Warning, "the answer is not whole: the server warns"),
    ] {
        stage.played.mood(mood.clone());
        let status = stage
            .status(&format!("{mood:?} is explained by {words}"), |status| {
                status.verdict.as_deref() == Some("ProviderDown")
                    && status.problems.iter().any(|problem| problem.message.contains(words))
            })
            .await;
        let problem = status.problems.iter().find(|p| p.message.contains(words)).expect("it was looked for");
        assert_eq!(problem.source, "spec.analysis.source.prometheus");
        assert!(problem.message.starts_with("the source of the evidence gives no answer"), "{problem:?}");
        stage.played.mood(Mood::Well);
        passes().await;
        assert_eq!(stage.weights(&new), [0, 10], "{mood:?}");
    }
    // Counters that begin anew are no failure and no success.
    stage.played.reset(&stage.world.namespace);
    let asked = stage.played.asked();
    until("it has been asked on", async || (stage.played.asked() > asked + 3).then_some(())).await;
    passes().await;
    // A failure is found after a silence as before it.
    stage.played.mood(Mood::Silent);
    stage.status("it holds", |s| s.verdict.as_deref() == Some("ProviderDown")).await;
    stage.flow(&new, 20.0);
    stage.played.mood(Mood::Well);
    stage.phase("RolledBack").await;
    assert_eq!(stage.weights(&new), [0, 10, 0]);
}

#[tokio::test]
async fn while_it_holds_one_question_a_tick_is_asked_and_nothing_is_written() {
    let stage = Stage::new("holding", staying).await;
    stage.deploy("2", 0.1).await;
    stage.at(10).await;
    stage.status("it passes", |s| s.verdict.as_deref() == Some("Pass")).await;
    tokio::time::sleep(Duration::from_secs(3)).await; // the last Events are on their way
    let (mark, asked) = (aws().await.audit_mark(), stage.played.asked());
    tokio::time::sleep(Duration::from_secs(15)).await;
    let audit = aws().await.audit_since(mark).expect("an audit log");
    let asked = stage.played.asked() - asked;
    let own: Vec<_> =
        audit.not_idle().into_iter().filter(|request| request.namespace == stage.world.namespace).collect();
    assert!(own.len() <= 1, "the numbers once a minute, and nothing else: {own:?}");
    assert!(own.iter().all(|request| request.resource == "canaryrollouts/status"), "{own:?}");
    assert!((8..=17).contains(&asked), "{asked} questions in 15 s at an interval of 1 s");
}

#[tokio::test]
async fn weights_of_somebody_else_are_put_right_a_war_is_not_fought_and_a_fail_gets_through() {
    let stage = Stage::new("foreign", staying).await;
    let new = stage.deploy("2", 0.1).await;
    stage.at(10).await;
    let routes = stage.world.dynamic("networking.istio.io/v1", "VirtualService");
    let rival = PatchParams { field_manager: Some("rival".into()), ..PatchParams::default() };
    let theirs = async || {
        let mut http = stage.route().await["spec"]["http"].clone();
        for to in http[0]["route"].as_array_mut().expect("a route") {
            let host = to["destination"]["host"].as_str().unwrap_or_default();
            to["weight"] = json!(if host.starts_with(&format!("app-{new}.")) { 40 } else { 60 });
        }
        let patch = json!({"spec": {"http": http}});
        routes.patch("app", &rival, &Patch::Merge(&patch)).await.expect("a route");
    };
    theirs().await;
    until("it is put right", async || (stage.weights(&new) == [0, 10, 40, 10]).then_some(())).await;
    let mut writes = 1;
    let service = loop {
        let service = stage.world.api::<banyan::api::FinService>().get("app").await.unwrap();
        let problems = &service.status.as_ref().unwrap().problems;
        if problems.iter().any(|problem| problem.message.contains("rival keeps changing")) {
            break service;
        }
        assert!(writes < 10, "{:?}", stage.weights(&new));
        if stage.weights(&new).last() == Some(&10) {
            theirs().await;
            writes += 1;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let problem = &service.status.as_ref().unwrap().problems[0];
    assert!(problem.message.contains("VirtualService app"), "{problem:?}");
    let status = stage
        .status("what stands is told beside what was asked for", |status| {
            // What is counted since the step began has less, while it counts that, by as much as was asked for first.
            let weight = status.weight.as_ref();
            weight.is_some_and(|w| w.asked == 10 && w.observed.is_some_and(|seen| (20..=40).contains(&seen)))
        })
        .await;
    assert_eq!(status.phase.as_deref(), Some("Analysing"));
    // To take weight away from what fails is no repair: it is written in spite of the truce.
    stage.flow(&new, 20.0);
    stage.phase("RolledBack").await;
    until("it has no weight", async || (stage.weights(&new).last() == Some(&0)).then_some(())).await;
}

#[tokio::test]
async fn killed_at_every_step_it_comes_to_the_same_end_and_no_weight_jumps_back() {
    let alone = alone("killed").await.end_operator().await;
    let cloud = &alone.cloud;
    let client = cloud.client_admin().expect("a client");
    install::definitions(&client, &optional_definitions().await).await.expect("definitions are taken");
    let mut operators = Successors::start(cloud).await;
    let slow = |played: &crate::played_prometheus::Played| {
        let mut slow = policy(played);
        slow["strategy"]["canary"]["minHold"] = json!("4s");
        slow["rollbackWindow"]["for"] = json!("30s");
        slow
    };
    let stage = Stage::on(cloud, "killed", service("Istio"), slow).await;
    let new = stage.deploy("2", 0.1).await;
    for moment in [0, 10, 50, 100] {
        until(&format!("it has {moment} %"), async || (stage.weights(&new).last()? >= &moment).then_some(()))
            .await;
        operators.kill();
    }
    stage.status("the new one serves", |status| status.stable.as_deref() == Some(&*new)).await;
    assert_eq!(stage.weights(&new), [0, 10, 50, 100]);
    let known = |status: &CanaryRolloutStatus| {
        status.scatter.iter().any(|scatter| scatter.metric == "error-rate" && !scatter.state.is_empty())
    };
    stage.status("what is known of stable is written down", known).await;

    // What failed stays failed: killed in the moment in which the weight is gone.
    let third = stage.deploy("3", 20.0).await;
    until("it has lost its weight", async || (stage.weights(&third) == [0, 10, 0]).then_some(())).await;
    operators.kill();
    stage.phase("RolledBack").await;
    operators.now.ready().await.expect("an operator that is ready");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(stage.weights(&third), [0, 10, 0]);

    // One that cannot be read, as a newer operator's might be, says so and moves nothing.
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let whole = crds.get("canaryrollouts.banyan.dev").await.unwrap();
    let mut versions = serde_json::to_value(&whole.spec.versions).unwrap();
    versions[0]["schema"]["openAPIV3Schema"]["properties"]["spec"] =
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    versions[0]["schema"]["openAPIV3Schema"]["x-kubernetes-validations"] = Value::Null;
    let lax = Patch::Merge(json!({"spec": {"versions": versions}}));
    crds.patch("canaryrollouts.banyan.dev", &PatchParams::default(), &lax).await.unwrap();
    let api: Api<kube::api::DynamicObject> = stage.world.dynamic("banyan.dev/v1alpha1", "CanaryRollout");
    let bad = Patch::Merge(json!({"spec": {"strategy": {"canary": {"steps": "many"}}}}));
    until("what cannot be read is taken", async || {
        api.patch("app", &PatchParams::default(), &bad).await.ok()
    })
    .await;
    let status = until("it says so", async || {
        let object = api.get("app").await.ok()?;
        let status = object.data["status"].clone();
        status["problems"][0]["message"].as_str()?.contains("the spec cannot be read").then_some(status)
    })
    .await;
    let stalled = status["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "Stalled").unwrap();
    assert_eq!(
        (&stalled["status"], &stalled["reason"]),
        (&json!("True"), &json!("RolledBack")),
        "it stays so"
    );
    assert_eq!(status["problems"][0]["source"], "spec.strategy.canary.steps");
    assert_eq!(status["memory"]["attempt"], 2, "what is remembered is kept");
    stage.change(json!({"version": "4", "image": "registry.example/app:4"})).await;
    let service = stage
        .world
        .status("app", "it says why nothing takes over", |service| {
            let problems = &service.status.as_ref().expect("it was looked for").problems;
            problems.iter().any(|problem| problem.message.contains("CanaryRollout app cannot be read"))
        })
        .await;
    let revisions = service.status.expect("it was looked for").revisions.expect("revisions");
    assert_eq!(revisions.stable.as_deref(), Some(&*new));
    assert_eq!(stage.weights(&third), [0, 10, 0]);
    operators.now.stop().await.expect("an end");
    drop(stage);
    alone.stop().await;
}
