//! A FinService beside what stands there already: what it waits for, and what it does not begin.

use serde_json::{Value, json};

use crate::finservice::children::Kind;
use crate::finservice::index::child::Facts;
use crate::finservice::index::stranger::Stranger;
use crate::finservice::plan::{Op, Plan};
use crate::finservice::testing::fake::Fake;
use crate::finservice::testing::sites;
use crate::runtime::key::Key;

fn spec() -> Value {
    json!({"owner": "team", "image": "registry.example/app:1", "version": "1", "access": {"outbound": {}},
        "ports": [{"name": "http", "port": 8080}], "scale": {"replicas": 2}})
}

fn app() -> Key {
    Key::new("pay", "app")
}

fn stranger(fake: &mut Fake, kind: Kind, adopt: Option<&str>) {
    let theirs = Stranger { whose: "helm".into(), adopt: adopt.map(Into::into), ..Stranger::default() };
    fake.event("somebody's object", |index| {
        index.stranger(kind, &app(), Some(theirs));
    });
}

fn errors(plan: &Plan) -> Vec<&str> {
    let errors = plan.problems.iter().filter(|problem| problem.severity == crate::api::Severity::Error);
    errors.map(|problem| problem.message.as_str()).collect()
}

#[test]
fn faults_6_10_what_comes_with_it_is_waited_for_and_no_pod_starts_twice() {
    let mut spec = spec();
    spec["env"] = json!([{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "a"}}}]);
    let mut fake = Fake::new(spec);
    let plan = fake.settle();
    assert_eq!((errors(&plan), fake.hashes().len()), (vec![], 0), "{}", fake.log);
    assert!(plan.reasons.iter().any(|why| why.contains("waiting for Secret keys")), "{:?}", plan.reasons);
    fake.pass(4);
    fake.event("the Secret comes", |index| {
        let keys = Key::new("pay", "keys");
        index.secret(&keys, Some("1".into()));
        index.secret_read(&keys, "1", "aaaaaa");
    });
    fake.settle();
    fake.pods_become_ready();
    let plan = fake.settle();
    assert_eq!((errors(&plan), fake.hashes().len()), (vec![], 1), "{}", fake.log);
    let written = fake.log.matches("put Deployment").count() + fake.log.matches("change Deployment").count();
    assert_eq!((fake.log.matches("make Deployment").count(), written), (1, 0), "{}", fake.log);
}

#[test]
fn faults_6_10_what_does_not_come_is_an_error_and_still_nothing_starts_twice() {
    let mut spec = spec();
    spec["env"] = json!([{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "a"}}}]);
    let mut fake = Fake::new(spec);
    fake.settle();
    fake.pass(10);
    let plan = fake.settle();
    assert_eq!(errors(&plan), ["Secret keys does not exist, so no new revision can begin"]);
    assert!(fake.hashes().is_empty(), "{}", fake.log);
}

#[test]
fn faults_4_9_no_pod_runs_as_a_service_account_that_nobody_hands_over() {
    let mut fake = Fake::new(spec());
    stranger(&mut fake, Kind::ServiceAccount, None);
    let plan = fake.settle();
    assert!(fake.hashes().is_empty(), "{}", fake.log);
    assert!(errors(&plan)[0].starts_with("ServiceAccount pay/app exists already"), "{:?}", plan.problems);
    assert!(
        plan.reasons.iter().any(|why| why.contains("would run as ServiceAccount app")),
        "{:?}",
        plan.reasons
    );
    stranger(&mut fake, Kind::ServiceAccount, Some("app"));
    fake.settle();
    assert_eq!(fake.hashes().len(), 1, "{}", fake.log);
}

#[test]
fn faults_6_11_a_consumer_does_not_start_beside_another_of_its_name() {
    let mut spec = spec();
    spec["traffic"] = json!("Pulled");
    let mut fake = Fake::new(spec);
    stranger(&mut fake, Kind::Deployment, None);
    let plan = fake.settle();
    assert!(fake.hashes().is_empty(), "{}", fake.log);
    assert!(errors(&plan)[0].contains("may fetch the same work"), "{:?}", plan.problems);
    // Handed over, it ends first: no work is done twice.
    stranger(&mut fake, Kind::Deployment, Some("app"));
    let plan = fake.step();
    assert!(plan.ops().any(|op| matches!(op, Op::HandOver { to_zero: true, .. })), "{}", fake.log);
    fake.settle();
    fake.pass(29);
    fake.settle();
    assert!(fake.hashes().is_empty(), "its pods may take half a minute: {}", fake.log);
    fake.pass(1);
    let plan = fake.settle();
    assert_eq!((fake.hashes().len(), errors(&plan)), (1, vec![]), "{}", fake.log);
}

#[test]
fn faults_6_11_every_object_of_somebody_else_is_named() {
    let mut fake = Fake::new(spec());
    for kind in [Kind::Service, Kind::ServiceAccount, Kind::NetworkPolicy] {
        stranger(&mut fake, kind, None);
    }
    let plan = fake.settle();
    let all = errors(&plan).join("\n");
    for kind in ["Service pay/app", "ServiceAccount pay/app", "NetworkPolicy pay/app"] {
        assert!(all.contains(kind), "{all}");
    }
}

#[test]
fn faults_6_13_topics_are_written_in_the_version_that_is_served() {
    let mut spec = spec();
    spec["data"] = json!({"topics": [{"name": "fees"}]});
    let mut fake = Fake::new(spec);
    fake.everything_is_there();
    let versions = |plan: &Plan| {
        let all = plan.ops().filter_map(|op| match op {
            Op::Apply { child, .. } if matches!(child.kind, Kind::KafkaTopic | Kind::KafkaUser) => {
                child.body["apiVersion"].as_str().map(str::to_owned)
            }
            _ => None,
        });
        all.collect::<Vec<_>>()
    };
    assert_eq!(versions(&fake.step()), ["kafka.strimzi.io/v1beta2"; 2], "{}", fake.log);
    fake.settle();
    fake.event("Strimzi 1.0 comes", |index| assert_eq!(index.set_strimzi("v1").len(), 1));
    assert_eq!(versions(&fake.step()), [""; 0], "what stands says the same in both");
    fake.spec(
        "its topics change",
        "/data/topics",
        json!([{"name": "fees", "partitions": 6}, {"name": "audit"}]),
    );
    assert_eq!(versions(&fake.step()), ["kafka.strimzi.io/v1"; 3], "{}", fake.log);
}

fn from(plan: &Plan, source: &str) -> Vec<(String, String)> {
    let found = plan.problems.iter().filter(|problem| problem.source == source);
    found.map(|problem| (problem.message.clone(), problem.remedy.clone())).collect()
}

#[test]
fn faults_5_7_callers_whom_the_weights_do_not_reach_are_told() {
    let mut spec = spec();
    spec["mesh"] = json!({"provider": "Istio"});
    let mut fake = Fake::new(spec);
    fake.settle();
    assert_eq!(from(&fake.settle(), "spec.ports"), []);
    fake.touch("it was handed over with port 80", Kind::Service, "app", |state| {
        if let Facts::Service(facts) = &mut state.facts {
            facts.had = Box::new([(80, true)]);
        }
    });
    let told = from(&fake.settle(), "spec.ports");
    assert!(told[0].0.starts_with("Service app has port 80 from before"), "{told:?}");
    assert!(told[0].1.starts_with("Set servicePort: 80"), "{told:?}");
    // What it asks for reaches them: the port is one of its own, and so one of its routes'.
    fake.spec("its port is named", "/ports", json!([{"name": "http", "port": 8080, "servicePort": 80}]));
    let plan = fake.step();
    assert_eq!(from(&plan, "spec.ports"), [], "{}", fake.log);
    let routes = plan.ops().filter_map(|op| match op {
        Op::Apply { child, .. } if child.kind == Kind::VirtualService => Some(child.body.to_string()),
        _ => None,
    });
    assert!(routes.into_iter().any(|body| body.contains("\"port\":80")), "{}", fake.log);
}

#[test]
fn faults_6_3_what_was_handed_over_is_never_deleted() {
    let mut fake = Fake::new(spec());
    stranger(&mut fake, Kind::Service, Some("app"));
    fake.settle();
    fake.pods_become_ready();
    fake.settle();
    let service = fake.child(Kind::Service, "app").expect("it stands");
    assert_eq!(service.owner, None, "whoever deletes the FinService leaves it");
    fake.event("another site is described", |index| {
        index.set_sites(sites(None, &["there"]));
    });
    fake.spec("elsewhere alone", "/placement", json!([{"cluster": "there"}]));
    let plan = fake.step();
    let deleted: Vec<&str> = plan
        .ops()
        .filter_map(|op| match op {
            Op::Delete { kind: Kind::Service, name, .. } => Some(name.as_str()),
            _ => None,
        })
        .collect();
    assert!(!deleted.contains(&"app"), "{}", fake.log);
    assert_eq!(deleted.len(), 1, "that of its revision goes: {}", fake.log);
}

#[test]
fn faults_6_9_a_new_one_that_runs_nowhere_is_an_error() {
    let mut spec = spec();
    spec["placement"] = json!([{"cluster": "heer"}]);
    let mut fake = Fake::new(spec);
    fake.event("another site is described", |index| {
        index.set_sites(sites(None, &["there"]));
    });
    let plan = fake.settle();
    assert!(
        errors(&plan)[0].starts_with("there is no CloudCluster heer here, only here and there;"),
        "{plan:?}"
    );
    let status = fake.status();
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready").expect("it is there");
    assert_eq!((ready.status.as_str(), fake.hashes().len()), ("False", 0), "{ready:?}");
}

#[test]
fn faults_6_12_names_that_lead_to_nothing_are_told() {
    let mut spec = spec();
    spec["access"] = json!({"inbound": [{"service": "wbe"}],
        "outbound": {"services": [{"service": "ledgr", "namespace": "books"}]}});
    spec["imagePullSecrets"] = json!(["regcred"]);
    let mut fake = Fake::new(spec);
    fake.index.alone = false;
    let plan = fake.settle();
    for (source, words) in [
        ("spec.access.inbound", "there is no FinService pay/wbe,"),
        ("spec.access.outbound.services", "there is no FinService books/ledgr,"),
        ("spec.imagePullSecrets", "Secret regcred does not exist,"),
    ] {
        let told = from(&plan, source);
        assert!(told.len() == 1 && told[0].0.starts_with(words), "{source}: {:?}", plan.problems);
    }
    fake.event("the Secret comes", |index| {
        index.secret(&Key::new("pay", "regcred"), Some("1".into()));
    });
    assert_eq!(from(&fake.settle(), "spec.imagePullSecrets"), []);
}

#[test]
fn faults_8_12_what_an_old_backend_cannot_do_is_told_and_matches_work() {
    let mut spec = spec();
    spec["mesh"] = json!({"provider": "Istio"});
    spec["ingress"] = json!({"hosts": ["app.example"], "gateway": "edge/public"});
    spec["legacy"] = json!({"host": "monolith", "port": 80});
    let mut fake = Fake::new(spec);
    fake.rollout(
        "a CanaryRollout",
        Some(json!({"service": "app", "from": "Legacy", "strategy": {"canary": {"steps": [{"weight": 10}, {"weight": 100}]}},
            "matches": [{"header": {"name": "x-tester", "value": "yes"}}], "mirrorPercent": 5, "sessionAffinity": {}})),
    );
    let mut written = Vec::new();
    for _ in 0..12 {
        let plan = fake.step();
        written.extend(plan.ops().filter_map(|op| match op {
            Op::Apply { child, .. } if child.kind == Kind::VirtualService => Some(child.body["spec"].clone()),
            _ => None,
        }));
        fake.pods_become_ready();
        fake.pass(5);
    }
    assert_eq!(fake.rollout_status().weight.map(|weight| weight.asked), Some(10), "{}", fake.log);
    let problems = fake.rollout_status().problems;
    for source in ["spec.mirrorPercent", "spec.sessionAffinity"] {
        let told = |problem: &&crate::api::Problem| {
            problem.source == source && problem.message.starts_with("while the old backend has a share")
        };
        assert!(problems.iter().any(|problem| told(&problem)), "{source}: {problems:?}");
    }
    let matched = |route: &&Value| {
        let rules = route["http"].as_array().into_iter().flatten();
        rules.into_iter().any(|rule| {
            rule["match"].to_string().contains("x-tester") && !rule["route"].to_string().contains("monolith")
        })
    };
    assert!(written.iter().any(|route| matched(&route)), "{written:#?}");
}
