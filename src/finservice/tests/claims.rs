//! Scenarios: what two FinServices claim, of which only one can have it.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::api::Severity;
use crate::finservice::children::Kind;
use crate::finservice::index::Parsed;
use crate::finservice::plan::{Op, Plan};
use crate::finservice::testing::fake::Fake;
use crate::runtime::key::Key;

/// Another FinService, `pay/other`, that is older by a day; with `null` it is gone.
fn other(fake: &mut Fake, what: &str, spec: Value) {
    let service = (!spec.is_null()).then(|| {
        let object = json!({
            "apiVersion": "banyan.dev/v1alpha1", "kind": "FinService",
            "metadata": {"name": "other", "namespace": "pay", "uid": "u-0", "creationTimestamp": "2025-12-31T00:00:00Z"},
            "spec": spec,
        });
        Parsed::Good(Arc::new(serde_json::from_value(object).expect("a FinService")))
    });
    fake.event(what, |index| drop(index.service(&Key::new("pay", "other"), 0, service)));
}

fn spec(owner: &str, more: Value) -> Value {
    let mut spec = json!({"owner": owner, "image": "registry.example/app:1", "version": "1",
        "ports": [{"name": "http", "port": 8080}], "mesh": {"provider": "Istio"}, "scale": {"replicas": 2}});
    spec.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
    spec
}

fn hosts(host: &str) -> Value {
    json!({"ingress": {"hosts": [host], "paths": ["/pay"], "gateway": "edge/public"}})
}

fn ready(fake: &mut Fake) {
    fake.pods_become_ready();
    fake.pass(2);
    fake.settle();
}

/// Row 8.4: what the older one of two is asked would go to it, also where it is the other's.
#[test]
fn faults_8_4_a_path_goes_to_the_longer_prefix_whoever_is_older() {
    let mut fake = Fake::new(spec("team", hosts("app.example")));
    fake.settle();
    ready(&mut fake);
    let mut below = hosts("app.example");
    below["ingress"]["paths"] = json!(["/pay/refunds"]);
    let rule = |plan: &Plan| {
        let mut ops = plan.ops().filter_map(|op| match op {
            Op::Apply { child, .. } if child.name == "app.ingress" => {
                Some(child.body["spec"]["http"].to_string())
            }
            _ => None,
        });
        ops.next()
    };
    other(&mut fake, "another has a path below", spec("others", below));
    let written = rule(&fake.step()).expect("its route is written");
    assert!(written.contains("regex") && !written.contains("prefix"), "{written}");
    fake.settle();
    other(&mut fake, "it is gone", Value::Null);
    let written = rule(&fake.step()).expect("its route is written");
    assert!(!written.contains("regex") && written.contains("prefix"), "{written}");
}

#[test]
fn no_preview_is_made_under_a_host_of_another_and_nothing_moves_until_it_is_another() {
    let mut fake = Fake::new(spec("team", hosts("app.example")));
    other(&mut fake, "another serves the host", spec("others", hosts("preview.example")));
    let policy = |host: &str| {
        json!({"service": "app", "strategy": {"blueGreen": {"previewHost": host}},
            "gates": [{"at": 100, "approval": {}}]})
    };
    fake.rollout("a CanaryRollout", Some(policy("preview.example")));
    fake.settle();
    ready(&mut fake);
    fake.spec("version 2", "/version", json!("2"));
    fake.settle();
    ready(&mut fake);
    let status = fake.rollout_status();
    let problem = status.problems.first().expect("a problem");
    assert_eq!(
        (&*problem.source, problem.severity),
        ("spec.strategy.blueGreen.previewHost", Severity::Error)
    );
    assert_eq!(
        problem.message,
        "preview.example/pay at gateway edge/public belongs to FinService pay/other: no preview is made there"
    );
    assert_eq!(status.phase.as_deref(), Some("Blocked"));
    let shown = |fake: &Fake| fake.child(Kind::VirtualService, "app.preview").is_some();
    assert!(!shown(&fake), "{}", fake.log);

    // Either of both ways out.
    other(&mut fake, "the other gives it up", Value::Null);
    fake.settle();
    ready(&mut fake);
    assert!(shown(&fake), "{}", fake.log);
    assert_eq!(fake.rollout_status().phase.as_deref(), Some("Gated"));
    other(&mut fake, "it wants it back", spec("others", hosts("preview.example")));
    fake.settle();
    assert!(!shown(&fake), "{}", fake.log);
    fake.rollout("another host", Some(policy("green.example")));
    fake.settle();
    ready(&mut fake);
    assert!(shown(&fake), "{}", fake.log);
}

#[test]
fn a_topic_is_made_by_the_older_of_two_and_the_younger_is_warned_if_it_is_anothers() {
    let topics = |on_delete: &str| json!({"data": {"topics": [{"name": "postings", "onDelete": on_delete}]}});
    let mut fake = Fake::new(spec("team", topics("Delete")));
    fake.settle();
    let made = |fake: &Fake| fake.child(Kind::KafkaTopic, "postings").is_some();
    assert!(made(&fake));
    for (owner, severity, words) in [
        (
            "others",
            Severity::Warning,
            "owned by FinService pay/other of others too, which is older; that one makes it",
        ),
        (
            "team",
            Severity::Info,
            "made by FinService pay/other, which is older: what is said of it here is not followed",
        ),
    ] {
        other(&mut fake, "an older one names its topic", spec(owner, topics("Retain")));
        let plan = fake.settle();
        let problem =
            plan.problems.iter().find(|problem| problem.source == "spec.data.topics").expect("a problem");
        assert!(problem.severity == severity && problem.message.contains(words), "{problem:?}");
        assert!(made(&fake), "what it once made is not deleted: {}", fake.log);
    }
    // The other one has taken it over: it is nothing of ours, also once we do not name it any more.
    let topic = fake.child(Kind::KafkaTopic, "postings").expect("it is there");
    fake.event("the other one makes it", |index| {
        assert!(index.child(&Key::new("pay", "other"), topic));
    });
    assert!(!made(&fake));
    fake.spec("it is not named any more", "/data", Value::Null);
    let plan = fake.step();
    assert!(!fake.log.contains("delete KafkaTopic"), "{}", fake.log);
    assert!(plan.problems.iter().all(|problem| problem.source != "spec.data.topics"), "{:?}", plan.problems);
}
