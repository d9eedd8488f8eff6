//! Who asked for what, and whose words on objects are believed.

use serde_json::{Value, json};

use crate::api::canarystatus::Rollout;
use crate::api::labels::CHANGED_BY_ANNOTATION;
use crate::finservice::children::Kind;
use crate::finservice::index::child::Facts;
use crate::finservice::testing::fake::Fake;
use crate::runtime::key::Key;

fn spec() -> Value {
    json!({
        "owner": "team", "access": {"outbound": {}}, "image": "registry.example/app:1", "version": "1",
        "ports": [{"name": "http", "port": 8080}], "scale": {"replicas": 2}, "mesh": {"provider": "Istio"},
        "envFrom": [{"configMapRef": {"name": "fees"}}],
    })
}

fn ready(fake: &mut Fake) {
    for _ in 0..2 {
        fake.pods_become_ready();
        fake.pass(2);
        fake.settle();
    }
}

/// Version 1 serves; a gate before the first step waits for a person.
fn serving() -> Fake {
    let mut fake = Fake::new(spec());
    fake.everything_is_there();
    let steps = json!([{"weight": 50}, {"weight": 100}]);
    let gates = json!([{"at": 50, "approval": {}}]);
    let policy = json!({"service": "app", "strategy": {"canary": {"steps": steps}}, "gates": gates});
    fake.rollout("a CanaryRollout", Some(policy));
    fake.settle();
    ready(&mut fake);
    fake
}

fn asks(fake: &mut Fake, who: &str, version: &str) {
    fake.change("who asks", |service| {
        let annotations = service.metadata.annotations.get_or_insert_default();
        annotations.insert(CHANGED_BY_ANNOTATION.to_owned(), who.to_owned());
    });
    fake.spec("another version", "/version", json!(version));
    fake.settle();
}

fn rollout(fake: &Fake) -> Rollout {
    fake.rollout_status().memory.and_then(|memory| memory.rollout).expect("a rollout")
}

#[test]
fn who_asked_for_a_revision_stays_on_record_whoever_changes_something_else() {
    let mut fake = serving();
    asks(&mut fake, "ann", "2");
    assert_eq!(rollout(&fake).made_by.as_deref(), Some("ann"));
    fake.change("a robot scales it", |service| {
        let annotations = service.metadata.annotations.get_or_insert_default();
        annotations.insert(CHANGED_BY_ANNOTATION.to_owned(), "robot".to_owned());
    });
    fake.spec("another number of pods", "/scale", json!({"replicas": 3}));
    fake.settle();
    assert_eq!(rollout(&fake).made_by.as_deref(), Some("ann"));
}

#[test]
fn a_revision_that_only_reads_something_else_has_nobody_on_record() {
    let mut fake = serving();
    asks(&mut fake, "ann", "2");
    fake.event("ConfigMap fees is changed", |index| {
        index.config_map(&Key::new("pay", "fees"), Some("other contents".into()));
    });
    fake.settle();
    let unsigned = rollout(&fake).unsigned.expect("nobody is on record");
    assert!(unsigned.starts_with("nobody is on record for the change of ConfigMap fees"), "{unsigned}");
    ready(&mut fake);
    let message = fake.rollout_status().message.expect("it is gated");
    assert!(message.contains("stays closed") && message.contains("ConfigMap fees"), "{message}");
    asks(&mut fake, "ben", "3");
    assert_eq!((rollout(&fake).made_by.as_deref(), rollout(&fake).unsigned), (Some("ben"), None));
}

#[test]
fn a_mark_that_somebody_else_wrote_is_not_believed() {
    let mut fake = serving();
    asks(&mut fake, "ann", "2");
    ready(&mut fake);
    let hashes = fake.hashes();
    let attempt = fake.rollout_status().memory.expect("it is remembered").attempt;
    fake.touch("somebody forges a mark", Kind::VirtualService, "app", |state| {
        state.digest = Some(1);
        if let Facts::Route(route) = &mut state.facts {
            route.mark = Some(format!("{} {} {} 100 settled", attempt + 1, hashes[1], hashes[1]).into());
        }
    });
    let plan = fake.settle();
    assert_eq!(plan.stable.as_deref(), Some(hashes[0].as_str()), "{}", fake.log);
    assert_eq!(rollout(&fake).weight, 0);
}

#[test]
fn a_service_that_was_made_again_is_another_one() {
    let mut fake = serving();
    asks(&mut fake, "ann", "2");
    let attempt = fake.rollout_status().memory.expect("it is remembered").attempt;
    for child in fake.seen().children {
        fake.event("its children go", |index| {
            index.child_gone(&Key::new("pay", "app"), child.kind, &child.name, None);
        });
    }
    fake.change("it is deleted and made again", |service| service.metadata.uid = Some("u-2".to_owned()));
    fake.settle();
    ready(&mut fake);
    let memory = fake.rollout_status().memory.expect("it is remembered");
    assert_eq!((memory.rollout, memory.service.as_deref()), (None, Some("u-2")), "{}", fake.log);
    assert!(memory.attempt >= attempt);
    let status = fake.rollout_status();
    assert_eq!((status.phase.as_deref(), status.history.len()), (Some("Settled"), 1), "{:?}", status.history);
}
