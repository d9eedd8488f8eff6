//! Rollouts of all kinds on a real API server: by pods, with an autoscaler, with gates, with requests that are chosen.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use k8s_openapi::api::core::v1::Service;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::actions::person;
use crate::stage::{Stage, policy, service, staying};
use crate::world::{aws, until};

#[tokio::test]
async fn without_a_mesh_the_pods_are_the_weight() {
    for traffic in ["Served", "Pulled"] {
        let mut spec = service("None");
        spec["scale"] = json!({"replicas": 4});
        if traffic == "Pulled" {
            spec["traffic"] = json!("Pulled");
        }
        let stage = Stage::with("pods", spec, |played| {
            let mut policy = policy(played);
            policy["strategy"]["canary"]["steps"] =
                json!([{"weight": 25, "minHold": "20m"}, {"weight": 50, "minHold": "20m"}, {"weight": 100}]);
            policy
        })
        .await;
        let selects = async |wanted: Option<&str>| {
            if traffic == "Pulled" {
                return;
            }
            let what = format!("the plain Service selects {wanted:?}");
            until(&what, async || (stage.selected().await.as_deref() == wanted).then_some(())).await;
        };
        let have = async |old: i32, new: (&str, i32)| {
            until(&format!("{old} pods of the old one, {} of the new one", new.1), async || {
                let now = (stage.pods(&stage.first).await?, stage.pods(new.0).await?);
                (now == (old, new.1)).then_some(())
            })
            .await;
        };
        selects(Some(&stage.first)).await;
        let new = stage.deploy("2", 0.1).await;
        let status = stage.at(25).await;
        assert!(status.weight.expect("a weight").approximate);
        have(3, (&new, 1)).await;
        selects(None).await;
        stage.say("skip-step", "2", "go").await;
        stage.at(50).await;
        have(2, (&new, 2)).await;
        // What fails has no pods any more, and stable has all of its own.
        stage.flow(&new, 30.0);
        stage.phase("RolledBack").await;
        have(4, (&new, 0)).await;
        selects(Some(&stage.first)).await;

        let third = stage.deploy("3", 0.1).await;
        stage.at(25).await;
        stage.say("promote", "3", "go").await;
        stage.phase("Settled").await;
        have(0, (&third, 4)).await;
        selects(Some(&third)).await;
    }
}

#[tokio::test]
async fn scale_and_image_may_change_at_once_and_autoscalers_take_part() {
    let mut spec = service("Istio");
    spec["scale"] = json!({"min": 2, "max": 20});
    let stage = Stage::with("scales", spec, staying).await;
    let new = {
        let change = json!({"scale": {"min": 10}, "version": "2", "image": "registry.example/app:2"});
        stage.change(change).await;
        let begun = stage.status("2 begins", |s| s.release.as_deref() == Some("2") && s.canary.is_some());
        begun.await.canary.expect("it was looked for")
    };
    stage.flow(&new, 0.1);
    stage.at(10).await;
    let hpas = stage.world.dynamic("autoscaling/v2", "HorizontalPodAutoscaler");
    let least = async |hash: &str| {
        let hpa = hpas.get_opt(&format!("app-{hash}")).await.ok()??;
        hpa.data.pointer("/spec/minReplicas").and_then(Value::as_i64)
    };
    until("stable has room for everything", async || {
        (stage.pods(&stage.first).await? >= 10 && least(&stage.first).await? >= 10).then_some(())
    })
    .await;
    assert!(stage.pods(&new).await.expect("a Deployment") < 10, "the canary has its share");
    stage.say("promote", "2", "go").await;
    stage.phase("Settled").await;
    assert!(stage.pods(&new).await.expect("a Deployment") >= 10);
    assert_eq!(least(&new).await, Some(10), "the spec's own bound");
    until("the old one is at zero, and nothing would scale it up", async || {
        (stage.pods(&stage.first).await? == 0 && least(&stage.first).await.is_none()).then_some(())
    })
    .await;
    assert_eq!(stage.weights(&new), [0, 10, 100]);
}

#[tokio::test]
async fn gates_wait_for_a_second_person_a_query_and_a_web_server() {
    let answer = Arc::new(AtomicU16::new(403));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/ok", listener.local_addr().unwrap());
    let told = Arc::clone(&answer);
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let router = Router::new().route(
        "/ok",
        post(async move |body: String| {
            log.lock().unwrap().push(body);
            StatusCode::from_u16(told.load(Ordering::Relaxed)).unwrap()
        }),
    );
    let server = tokio::spawn(async move { axum::serve(listener, router).await });

    let stage = Stage::new("gates", |played| {
        let mut policy = policy(played);
        policy["gates"] = json!([
            {"at": 10, "approval": {}},
            {"at": 50, "promql": {"query": "sum(mismatch) == 0", "for": "2s"}},
            {"at": 100, "webhook": {"url": url}},
        ]);
        policy
    })
    .await;
    let new = stage.deploy("2", 0.1).await;
    let gated = async |words: &str| {
        stage
            .status(&format!("a gate says {words}"), |status| {
                status.phase.as_deref() == Some("Gated")
                    && status.message.as_ref().is_some_and(|message| message.contains(words))
            })
            .await
    };
    gated("the gate before 10 % waits for a person: run `kubectl banyan canary approve app -n ").await;
    let (state, words) = stage.say("approve", "2", "I like it").await;
    assert_eq!(state, "Refused");
    assert!(words.starts_with("approve needs a second person:"), "{words}");
    let ann = person(aws().await, &stage.world.namespace, "ann", &["banyan:approvers"]).await;
    let approved = stage.say_as(ann, "approve", "2", "I like it as well").await;
    assert_eq!(approved, ("Done".into(), "the gate before 10 % is open".into()));

    gated("sum(mismatch) == 0 is not true: the query gives no series").await;
    assert_eq!(stage.weights(&new), [0, 10]);
    stage.played.answer("sum(mismatch) == 0", &[(&[], 0.0)]);
    gated("/ok says status 403 (Forbidden)").await;
    assert_eq!(stage.weights(&new), [0, 10, 50]);
    answer.store(204, Ordering::Relaxed);
    stage.status("the new one serves", |status| status.stable.as_deref() == Some(&*new)).await;
    assert_eq!(stage.weights(&new), [0, 10, 50, 100]);
    let told: Value = serde_json::from_str(&asked.lock().unwrap()[0]).unwrap();
    assert_eq!(
        [&told["service"], &told["release"], &told["revision"], &told["site"]],
        [&json!("app"), &json!("2"), &json!(new), &json!("aws-us-east-1")]
    );
    stage.phase("Settled").await;
    let log_length = || asked.lock().unwrap().len();
    let (asked, questions) = (log_length(), stage.played.asked());
    tokio::time::sleep(std::time::Duration::from_secs(12)).await;
    assert_eq!(log_length(), asked, "nobody is asked when all is over");
    assert_eq!(stage.played.asked(), questions);
    server.abort();
}

#[tokio::test]
async fn requests_that_are_chosen_kept_and_mirrored_are_so_only_while_it_rolls_out() {
    let stage = Stage::new("chosen", |played| {
        let mut policy = staying(played);
        policy["matches"] = json!([{"header": {"name": "x-tester", "value": "yes"}}]);
        policy["mirrorPercent"] = json!(5);
        policy["sessionAffinity"] = json!({"cookieName": "kept-on"});
        policy
    })
    .await;
    let before = stage.route().await.to_string();
    let new = stage.deploy("2", 0.1).await;
    stage.at(10).await;
    let route = until("the route has all of it", async || {
        let route = stage.route().await;
        let text = route.to_string();
        ["x-tester", "kept-on", "mirrorPercentage"].iter().all(|word| text.contains(word)).then_some(route)
    })
    .await;
    let first = &route["spec"]["http"][0];
    assert_eq!(first["match"][0]["headers"]["x-tester"], json!({"exact": "yes"}));
    let direct = format!("app-{new}-direct");
    let host = first["route"][0]["destination"]["host"].as_str().unwrap();
    assert!(host.starts_with(&direct), "{host}");
    let services = stage.world.api::<Service>();
    services.get(&direct).await.expect("a Service of its own");

    stage.say("abort", "2", "no").await;
    stage.phase("RolledBack").await;
    let text = until("nothing of it is left", async || {
        let text = stage.route().await.to_string();
        ["x-tester", "kept-on", "mirrorPercentage", "direct"]
            .iter()
            .all(|word| !text.contains(word))
            .then_some(text)
    })
    .await;
    assert!(!before.contains("x-tester") && !text.is_empty());
    until("its Service is gone", async || services.get_opt(&direct).await.ok()?.is_none().then_some(()))
        .await;
    assert_eq!(stage.weights(&new), [0, 10, 0]);
}

#[tokio::test]
async fn of_two_policies_the_older_holds_and_one_for_nobody_says_so() {
    let stage = Stage::new("two", staying).await;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await; // creation times are whole seconds
    stage.put_policy("younger", policy(&stage.played)).await;
    let status = stage
        .status_of("younger", "it does not hold", |status| status.phase.as_deref() == Some("Ignored"))
        .await;
    let problem = &status.problems[0];
    assert_eq!(problem.source, "spec.service");
    assert_eq!(problem.message, "FinService app has a CanaryRollout already, app, which is older and counts");
    let stalled = status.conditions.iter().find(|c| c.type_ == "Stalled").expect("a condition");
    assert_eq!((&*stalled.status, &*stalled.reason), ("True", "Ignored"));
    let new = stage.deploy("2", 0.1).await;
    stage.at(10).await;

    let mut other = policy(&stage.played);
    other["service"] = json!("nobody");
    stage.put_policy("other", other).await;
    let status = stage
        .status_of("other", "it names nobody", |status| status.phase.as_deref() == Some("Ignored"))
        .await;
    assert_eq!(
        status.message.as_deref(),
        Some(&*format!(
            "there is no FinService nobody in namespace {} that can be read",
            stage.world.namespace
        ))
    );

    // The younger one holds as soon as the older is gone; what was aborted with that is tried again only on command.
    let api = stage.world.api::<banyan::api::CanaryRollout>();
    api.delete("app", &DeleteParams::default()).await.unwrap();
    let status =
        stage.status_of("younger", "it holds", |status| status.phase.as_deref() != Some("Ignored")).await;
    assert!(status.problems.iter().all(|problem| problem.source != "spec.service"), "{status:?}");
    assert!(stage.weights(&new).iter().all(|weight| *weight <= 10), "{:?}", stage.weights(&new));
}
