//! Other ways for a new revision to take over: all at once after a preview, without a verdict, from an old backend.

use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::played_prometheus::{Flow, Mood, Played};
use crate::stage::{MANY, Stage, policy, service};
use crate::world::until;

/// A FinService behind the ingress gateway, under a host of its own namespace.
fn behind_a_gateway(host: &str) -> Value {
    let mut spec = service("Istio");
    spec["ingress"] = json!({"hosts": [host], "paths": ["/pay", "/"], "gateway": "istio-system/public"});
    spec
}

/// The hosts of a VirtualService, and the Services that its last rule leads to; `None` if it is not there.
async fn leads(stage: &Stage, name: &str) -> Option<(Value, Vec<String>)> {
    let api = stage.world.dynamic("networking.istio.io/v1", "VirtualService");
    let route = api.get_opt(name).await.ok()??.data;
    let rules = route.pointer("/spec/http").and_then(Value::as_array)?.last()?["route"].clone();
    let hosts = rules.as_array()?.iter().filter_map(|to| to.pointer("/destination/host")?.as_str());
    let services = hosts.map(|host| host.split('.').next().unwrap_or_default().to_owned());
    Some((route["spec"]["hosts"].clone(), services.collect()))
}

#[tokio::test]
async fn blue_green_is_shown_under_its_own_host_and_switches_at_once_and_back() {
    let host = "blue.example";
    let stage = Stage::with("bluegreen", behind_a_gateway(host), |played: &Played| {
        let mut policy = policy(played);
        policy.as_object_mut().expect("a map").remove("rollbackWindow");
        policy["strategy"] = json!({"blueGreen": {
            "previewHost": "green.example", "previewFor": "3s", "scaleDownDelay": "20m",
        }});
        policy
    })
    .await;
    let new = stage.deploy("2", 0.1).await;
    let direct = format!("app-{new}-direct");
    let status = stage
        .status("the preview stands", |status| {
            status.message.as_ref().is_some_and(|message| message.contains("the preview stands for 3s"))
        })
        .await;
    assert_eq!(status.phase.as_deref(), Some("Preparing"));
    let (hosts, services) =
        until("the preview has its route", async || leads(&stage, "app.preview").await).await;
    assert_eq!((hosts, services), (json!(["green.example"]), vec![direct.clone()]));
    assert_eq!(stage.pods(&new).await, Some(2), "all pods stand before the switch");
    stage.phase("Warm").await;
    assert_eq!(stage.weights(&new), [0, 100], "at once");
    until("the preview is gone", async || leads(&stage, "app.preview").await.is_none().then_some(())).await;
    assert_eq!(stage.selected().await.as_deref(), Some(&*new));
    assert_eq!(stage.pods(&stage.first).await, Some(2), "the way back is open");

    // The way back is one write.
    stage.say("abort", "2", "a customer called").await;
    stage.phase("RolledBack").await;
    assert_eq!(stage.weights(&new), [0, 100, 0]);
    assert_eq!(stage.selected().await.as_deref(), Some(&*stage.first));

    // A host that another service serves is shown to nobody, and nothing moves.
    let mut other = behind_a_gateway("other.example");
    other["ingress"]["hosts"] = json!(["green.example"]);
    stage.world.apply("other", other).await.expect("a FinService");
    stage.world.ready("other").await;
    let third = stage.deploy("3", 0.1).await;
    let status = stage.phase("Blocked").await;
    let problem = &status.problems[0];
    assert_eq!(problem.source, "spec.strategy.blueGreen.previewHost");
    assert!(problem.message.starts_with("green.example/"), "{problem:?}");
    assert!(problem.message.contains("belongs to FinService"), "{problem:?}");
    assert!(leads(&stage, "app.preview").await.is_none());
    let services = stage.world.api::<banyan::api::FinService>();
    services.delete("other", &DeleteParams::default()).await.expect("deleted");
    stage.phase("Warm").await;
    assert_eq!(stage.weights(&third), [0, 100]);
}

/// Steps of three seconds at the most, and a few requests a second: no verdict comes in time.
fn impatient(played: &Played, then: &str) -> Value {
    let mut policy = policy(played);
    policy["strategy"]["canary"]["maxHold"] = json!("3s");
    policy["analysis"]["onInsufficient"] = json!(then);
    policy
}

#[tokio::test]
async fn without_a_verdict_the_policy_says_whether_it_goes_on_or_back() {
    let few = |stage: &Stage, hash: &str| {
        stage.played.flow(&stage.world.namespace, "app", hash, Flow::of(3.0, 0.0));
    };
    let advancing = async {
        let stage = Stage::new("advance", |played| impatient(played, "Advance")).await;
        few(&stage, &stage.first);
        let new = stage.deploy("2", 0.0).await;
        few(&stage, &new);
        stage.phase("Settled").await;
        assert_eq!(stage.weights(&new), [0, 10, 50, 100], "nothing speaks against it");
        // Silence is not good evidence.
        stage.played.mood(Mood::Empty);
        let third = stage.deploy("3", 0.0).await;
        few(&stage, &third);
        let status = stage.phase("Inconclusive").await;
        let stalled = status.conditions.iter().find(|c| c.type_ == "Stalled").expect("a condition");
        assert_eq!((&*stalled.status, &*stalled.reason), ("True", "Inconclusive"));
        assert_eq!(stage.weights(&third), [0, 10]);
        stage.played.mood(Mood::Well);
        stage.phase("Settled").await;
        assert_eq!(stage.weights(&third), [0, 10, 50, 100], "it goes on by itself");
    };
    let going_back = async {
        let stage = Stage::new("back", |played| impatient(played, "Rollback")).await;
        few(&stage, &stage.first);
        let new = stage.deploy("2", 0.0).await;
        few(&stage, &new);
        let status = stage.phase("RolledBack").await;
        assert_eq!(stage.weights(&new), [0, 10, 0]);
        let message = &status.history[0].message;
        assert!(message.contains("maxHold 3s"), "{message}");
        // No answer at all goes back too.
        stage.played.mood(Mood::Empty);
        let third = stage.deploy("3", 0.0).await;
        stage.status("it is back", |status| status.history.len() == 2).await;
        assert_eq!(stage.weights(&third), [0, 10, 0]);
    };
    tokio::join!(advancing, going_back);
}

/// The shares of the old backend on its own paths, in order, as the ingress route ever had them.
async fn share_of_old(stage: &Stage) -> Option<i64> {
    let api = stage.world.dynamic("networking.istio.io/v1", "VirtualService");
    let route = api.get_opt("app.ingress").await.ok()??.data;
    let rules = route.pointer("/spec/http")?.as_array()?.clone();
    let of = |rule: &&Value| rule["match"].to_string().contains("/pay");
    let to = rules.iter().find(of)?["route"].as_array()?.clone();
    let old = to
        .iter()
        .find(|to| to["destination"]["host"].as_str().is_some_and(|h| h.starts_with("old-monolith")));
    Some(old.map_or(0, |to| to["weight"].as_i64().unwrap_or(100)))
}

#[tokio::test]
async fn a_strangler_fig_takes_the_paths_of_the_monolith_and_gives_them_back() {
    let mut spec = behind_a_gateway("bank.example");
    spec["legacy"] = json!({"host": "old-monolith", "port": 80, "paths": ["/pay"]});
    // It takes nothing before somebody looks.
    let stage = Stage::fresh("fig", spec, |played: &Played| {
        let mut policy = policy(played);
        policy["from"] = json!("Legacy");
        policy["gates"] = json!([{"at": 10, "approval": {}}]);
        policy
    })
    .await;
    stage.played.flow(&stage.world.namespace, "old", "monolith", Flow::of(MANY, 0.1));
    let approve = async |release: &str| {
        let second = crate::actions::person(
            crate::world::aws().await,
            &stage.world.namespace,
            "ann",
            &["banyan:approvers"],
        )
        .await;
        stage.phase("Gated").await;
        assert_eq!(stage.say_as(second, "approve", release, "go").await.0, "Done");
    };
    let has = async |share: i64| {
        until(&format!("the monolith has {share} % of its paths"), async || {
            (share_of_old(&stage).await? == share).then_some(())
        })
        .await;
    };
    stage.phase("Gated").await;
    has(100).await;
    // On other paths nobody else has ever answered.
    assert_eq!(leads(&stage, "app.ingress").await.expect("a route").1, [format!("app-{}", stage.first)]);

    // What fails gives everything back.
    stage.flow(&stage.first, 20.0);
    approve("1").await;
    stage.phase("RolledBack").await;
    has(100).await;
    let status = stage.now().await;
    assert!(status.history[0].message.contains("error-rate"), "{:?}", status.history);

    // What is well takes all of it, step by step, and keeps it.
    let new = stage.deploy("2", 0.1).await;
    approve("2").await;
    has(90).await;
    has(50).await;
    stage.phase("Settled").await;
    has(0).await;
    assert_eq!(stage.selected().await.as_deref(), Some(&*new));

    // From here on releases roll out beside each other.
    let third = stage.deploy("3", 20.0).await;
    approve("3").await;
    stage.phase("RolledBack").await;
    assert_eq!(stage.weights(&third).last(), Some(&0));
    assert_eq!(share_of_old(&stage).await, Some(0), "the way back leads to the release before");
}
