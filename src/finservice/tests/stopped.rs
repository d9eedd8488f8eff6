//! Weights may always go to zero: also where nothing else of a FinService is carried out.

use serde_json::{Value, json};

use crate::api::action::Verb;
use crate::api::labels::PAUSE_ANNOTATION;
use crate::api::operations::Residency;
use crate::finservice::children::Kind;
use crate::finservice::index::child::Facts;
use crate::finservice::index::stranger::Stranger;
use crate::finservice::plan::Phase;
use crate::finservice::plan::decide::decide;
use crate::finservice::testing::{self, fake::Fake};
use crate::runtime::key::Key;

fn spec(provider: &str) -> Value {
    json!({
        "owner": "team", "access": {"outbound": {}}, "image": "registry.example/app:1", "version": "1",
        "ports": [{"name": "http", "port": 8080}], "scale": {"replicas": 2},
        "mesh": {"provider": provider}, "ingress": {"hosts": ["app.example"], "gateway": "edge/public"},
        "data": {"residency": "US"}, "placement": [{"cluster": "here"}],
    })
}

/// Version 2 has a half of the requests.
fn at_half(provider: &str) -> Fake {
    let mut fake = Fake::new(spec(provider));
    let steps = json!([{"weight": 50}, {"weight": 100}]);
    let policy = json!({"service": "app", "strategy": {"canary": {"steps": steps}}});
    fake.rollout("a CanaryRollout", Some(policy));
    for version in ["1", "2"] {
        fake.spec("a version", "/version", json!(version));
        fake.settle();
        for _ in 0..2 {
            fake.pods_become_ready();
            fake.pass(2);
            fake.settle();
        }
    }
    assert_eq!(asked(&fake), Some(50), "{}", fake.log);
    fake
}

fn asked(fake: &Fake) -> Option<i32> {
    fake.rollout_status().weight.map(|weight| weight.asked)
}

/// What the routes give the canary; where there are none, its pods.
fn given(fake: &Fake) -> i32 {
    let hashes = fake.hashes();
    let route = fake.child(Kind::VirtualService, "app").or(fake.child(Kind::HTTPRoute, "app"));
    let Some(Facts::Route(route)) = route.map(|child| child.facts) else {
        let canary = fake.child(Kind::Deployment, &format!("app-{}", hashes[1])).expect("it stands");
        return canary.deployment().expect("a Deployment").replicas;
    };
    route.share(&format!("app-{}", hashes[1]), &format!("app-{}", hashes[0])).map_or(0, i32::from)
}

type Stop = (&'static str, fn(&mut Fake));

const STOPS: [Stop; 4] = [
    ("paused", |fake| {
        fake.change("it is paused", |service| {
            let annotations = service.metadata.annotations.get_or_insert_default();
            annotations.insert(PAUSE_ANNOTATION.to_owned(), "true".to_owned());
        });
    }),
    ("its CloudCluster is deleted", |fake| {
        fake.event("its CloudCluster is deleted", |index| {
            index.set_sites(testing::sites(None, &[]));
        });
    }),
    ("a slip in placement", |fake| {
        fake.event("another site is described", |index| {
            index.set_sites(testing::sites(Some(&[Residency::US]), &["there"]));
        });
        fake.spec("a slip in placement", "/placement", json!([{"cluster": "heer"}]));
    }),
    ("it cannot be read", |fake| fake.unreadable_service("it cannot be read", "tier", json!("Colossal"))),
];

#[test]
fn whatever_stops_a_plan_the_weights_of_what_fails_go_to_zero() {
    for (what, stop) in STOPS {
        for provider in ["Istio", "GatewayAPI", "None"] {
            let mut fake = at_half(provider);
            let before = given(&fake);
            assert!(before > 0, "{provider}");
            stop(&mut fake);
            fake.pass(3600);
            fake.work();
            fake.work();
            assert_eq!(
                (given(&fake), asked(&fake)),
                (before, Some(50)),
                "{what}: nothing moves\n{}",
                fake.log
            );
            fake.fails(50);
            fake.work();
            assert_eq!(given(&fake), 0, "{what}, {provider}: {}", fake.log);
            let status = fake.rollout_status();
            let memory = status.memory.expect("it is remembered");
            assert!(memory.rollout.is_none() && memory.failed.len() == 1, "{what}: {memory:?}");
            fake.work();
            assert_eq!(given(&fake), 0, "{what}, {provider}: {}", fake.log);
        }
    }
}

#[test]
fn whoever_aborts_is_heard_while_all_else_is_stopped() {
    for (what, stop) in STOPS {
        let mut fake = at_half("Istio");
        stop(&mut fake);
        fake.say(Verb::Abort);
        fake.work();
        assert_eq!(given(&fake), 0, "{what}: {}", fake.log);
    }
}

#[test]
fn what_is_stopped_is_measured_on_and_says_so() {
    let mut fake = at_half("Istio");
    (STOPS[0].1)(&mut fake);
    fake.spec("another version", "/version", json!("3"));
    let plan = decide(&fake.seen(), fake.now);
    assert!(plan.is_empty(), "another template begins nothing: {plan:?}");
    let planned = plan.rollout.expect("it is judged");
    assert!(planned.follow.is_some_and(|follow| follow.comparison.is_some()));
    let reason = planned.decision.reasons.first().expect("a reason");
    assert!(reason.contains("stays at 50 %") && reason.contains(PAUSE_ANNOTATION), "{reason}");
}

#[test]
fn at_rest_nothing_is_written_while_it_is_stopped() {
    let mut fake = Fake::new(spec("Istio"));
    fake.settle();
    (STOPS[0].1)(&mut fake);
    fake.spec("another version", "/version", json!("3"));
    let plan = decide(&fake.seen(), fake.now);
    assert!(plan.is_empty() && plan.rollout.is_none());
}

/// Faults 4.3: with Istio an old backend in another namespace is its owner's to give, and until then nothing is begun or
/// changed.
#[test]
fn faults_4_3_an_old_backend_of_another_namespace_is_not_published_before_its_owner_gives_it() {
    let mut with_old = spec("Istio");
    with_old["legacy"] = json!({"host": "ledger.bank.svc.cluster.local", "port": 80});
    let mut fake = Fake::new(with_old);
    let ledger = Key::new("bank", "ledger");
    let given = |to: Option<&str>| Stranger { legacy_for: to.map(Into::into), ..Stranger::default() };
    for to in [None, Some("shop")] {
        assert!(fake.index.stranger(Kind::Service, &ledger, Some(given(to))).contains(&fake.key));
        fake.settle();
        let plan = decide(&fake.seen(), fake.now);
        assert_eq!((plan.phase, plan.stages.len()), (Phase::Blocked, 0), "{}", fake.log);
        let problem = plan.problems.first().expect("it says so");
        assert_eq!(problem.source, "spec.legacy.host");
        assert!(problem.remedy.contains("banyan.dev/legacy-for=pay"), "{problem:?}");
        assert!(fake.child(Kind::VirtualService, "app.ingress").is_none(), "{}", fake.log);
    }
    fake.index.stranger(Kind::Service, &ledger, Some(given(Some("shop, pay"))));
    fake.settle();
    fake.pods_become_ready();
    fake.pass(2);
    fake.settle();
    assert!(fake.child(Kind::VirtualService, "app.ingress").is_some(), "{}", fake.log);
}

/// Row 6.12: `pause: "True"` looks as if it paused.
#[test]
fn faults_6_12_a_pause_that_pauses_nothing_is_told() {
    let mut fake = Fake::new(spec("Istio"));
    let told = |fake: &mut Fake, value: &str| {
        fake.change("the annotation is written", |service| {
            let annotations = service.metadata.annotations.get_or_insert_default();
            annotations.insert(PAUSE_ANNOTATION.to_owned(), value.to_owned());
        });
        let problems = decide(&fake.seen(), fake.now).problems;
        problems.into_iter().find(|problem| problem.source == "metadata.annotations")
    };
    assert_eq!(told(&mut fake, "false"), None);
    let problem = told(&mut fake, "True").expect("a problem");
    assert!(problem.message.contains("pauses nothing"), "{problem:?}");
    assert_eq!(told(&mut fake, "true"), None);
}

/// Faults 4.3: an old backend that is named while a canary fails is not published by the way back either.
#[test]
fn faults_4_3_no_way_back_leads_to_an_old_backend_that_is_not_given() {
    let mut fake = at_half("Istio");
    fake.index.stranger(Kind::Service, &Key::new("bank", "ledger"), Some(Stranger::default()));
    fake.spec("an old backend", "/legacy", json!({"host": "ledger.bank.svc.cluster.local", "port": 80}));
    fake.fails(50);
    fake.settle();
    let route = fake.child(Kind::VirtualService, "app.ingress").map(|child| child.facts);
    let Some(Facts::Route(route)) = route else { panic!("it has one: {}", fake.log) };
    assert!(!route.names("ledger"), "{}", fake.log);
    assert_eq!(given(&fake), 0, "callers in the mesh are taken off it: {}", fake.log);
}
