//! An operator that is killed while a rollout stands still: paused, at a gate, unreadable, or kept warm.

use banyan::sandbox::install;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::actions::person;
use crate::played_prometheus::Played;
use crate::stage::{Stage, policy, service};
use crate::successors::Successors;
use crate::world::{alone, optional_definitions, until};

/// Lets the API server take any spec of a CanaryRollout, as the definition of another version might.
async fn loosen(stage: &Stage) {
    let crds: Api<CustomResourceDefinition> = Api::all(stage.world.client.clone());
    let whole = crds.get("canaryrollouts.banyan.dev").await.unwrap();
    let mut versions = serde_json::to_value(&whole.spec.versions).unwrap();
    versions[0]["schema"]["openAPIV3Schema"]["properties"]["spec"] =
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    versions[0]["schema"]["openAPIV3Schema"]["x-kubernetes-validations"] = Value::Null;
    let lax = Patch::Merge(json!({"spec": {"versions": versions}}));
    crds.patch("canaryrollouts.banyan.dev", &PatchParams::default(), &lax).await.unwrap();
}

#[tokio::test]
async fn killed_while_it_stands_still_it_stands_on_and_goes_on_when_it_may() {
    let alone = alone("stands").await.end_operator().await;
    let cloud = &alone.cloud;
    install::definitions(&cloud.client_admin().unwrap(), &optional_definitions().await)
        .await
        .expect("definitions are taken");
    let mut operators = Successors::start(cloud).await;
    let stage = Stage::on(cloud, "stands", service("Istio"), |played: &Played| {
        let mut policy = policy(played);
        policy["gates"] = json!([{"at": 50, "approval": {}}]);
        policy["rollbackWindow"]["for"] = json!("20m");
        policy
    })
    .await;
    let second = person(cloud, &stage.world.namespace, "ann", &["banyan:approvers"]).await;

    // Paused.
    let new = stage.deploy("2", 0.1).await;
    stage.at(10).await;
    assert_eq!(stage.say("pause", "2", "wait").await.0, "Done");
    stage.phase("Paused").await;
    operators.kill_and_wait().await;
    // Said to the new one, which remembers who paused it.
    let (state, words) = stage.say("pause", "2", "wait").await;
    assert_eq!((&*state, &*words), ("Refused", "it is paused already"));
    let status = stage.phase("Paused").await;
    assert!(status.message.is_some_and(|message| message.starts_with("paused at 10 % by ")));
    stage.say("resume", "2", "go").await;

    // At a gate.
    stage.phase("Gated").await;
    operators.kill_and_wait().await;
    assert_eq!(stage.weights(&new), [0, 10]);
    // Said while nobody leads: the next one hears it.
    assert_eq!(stage.say_as(second.clone(), "approve", "2", "go").await.0, "Done");
    stage.phase("Warm").await;
    assert_eq!(stage.weights(&new), [0, 10, 50, 100]);

    // While the old revision is kept warm: it stays so, and has everything back in one write.
    operators.kill_and_wait().await;
    stage.status("it stays warm", |s| s.phase.as_deref() == Some("Warm")).await;
    assert_eq!(stage.pods(&stage.first).await, Some(2));
    assert_eq!(stage.say("abort", "2", "a customer called").await.0, "Done");
    stage.phase("RolledBack").await;
    assert_eq!(stage.weights(&new), [0, 10, 50, 100, 0]);
    assert_eq!(stage.selected().await.as_deref(), Some(&*stage.first));

    // In mid-course its CanaryRollout becomes one that cannot be read: it holds, also over a kill.
    let third = stage.deploy("3", 0.1).await;
    stage.phase("Gated").await;
    loosen(&stage).await;
    let api: Api<kube::api::DynamicObject> = stage.world.dynamic("banyan.dev/v1alpha1", "CanaryRollout");
    let put = async |steps: Value| {
        let patch = Patch::Merge(json!({"spec": {"strategy": {"canary": {"steps": steps}}}}));
        until("the steps are taken", async || api.patch("app", &PatchParams::default(), &patch).await.ok())
            .await
    };
    put(json!([{"weight": 10}, {"weight": "half"}, {"weight": 100}])).await;
    let unreadable = async || {
        let status = until("it says so", async || {
            let object = api.get("app").await.ok()?;
            let status = object.data["status"].clone();
            (status["observedGeneration"].as_i64() == object.metadata.generation).then_some(status)
        })
        .await;
        assert_eq!(status["phase"], "Unreadable", "{status}");
        assert_eq!(status["problems"][0]["source"], "spec.strategy.canary.steps[1].weight");
        let stalled =
            status["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "Stalled").unwrap();
        assert_eq!((&stalled["status"], &stalled["reason"]), (&json!("True"), &json!("Unreadable")));
        assert_eq!((&status["weight"]["asked"], &status["weight"]["observed"]), (&json!(10), &json!(10)));
    };
    unreadable().await;
    operators.kill_and_wait().await;
    unreadable().await;
    let said = stage.say_as(second.clone(), "approve", "3", "go").await;
    assert_eq!(said.0, "Done");
    let service = stage
        .world
        .status("app", "it says why it stays", |service| {
            let problems = &service.status.as_ref().expect("it was looked for").problems;
            problems.iter().any(|problem| problem.message.contains("cannot be read, so 3 stays at 10 %"))
        })
        .await;
    assert_eq!(service.status.unwrap().revisions.unwrap().stable.as_deref(), Some(&*stage.first));
    assert_eq!(stage.weights(&third), [0, 10]);
    assert_eq!(stage.pods(&third).await, Some(1));
    put(json!([{"weight": 10}, {"weight": 50}, {"weight": 100}])).await;
    stage.phase("Warm").await;
    assert_eq!(stage.weights(&third), [0, 10, 50, 100], "mended, it goes on from where it was");
    operators.now.stop().await.expect("an end");
    drop(stage);
    alone.stop().await;
}
