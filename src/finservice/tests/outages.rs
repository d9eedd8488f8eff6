//! What runs, and what it is safe to go back to, as the service reconciler carries it out. What decides is tried in
//! `tests/simulate.rs`.

use serde_json::{Value, json};

use crate::api::Severity;
use crate::finservice::children::Kind;
use crate::finservice::index::child::Facts;
use crate::finservice::plan::{Op, Phase, Plan};
use crate::finservice::testing::fake::Fake;

fn spec(provider: &str, replicas: i32) -> Value {
    json!({
        "owner": "team", "access": {"outbound": {}}, "image": "registry.example/app:1", "version": "1",
        "ports": [{"name": "http", "port": 8080}], "scale": {"replicas": replicas},
        "mesh": {"provider": provider}, "ingress": {"hosts": ["app.example"], "gateway": "edge/public"},
    })
}

fn policy() -> Value {
    json!({
        "service": "app",
        "strategy": {"canary": {"steps": [{"weight": 10}, {"weight": 50}, {"weight": 100}], "minHold": "1m"}},
    })
}

fn ready(fake: &mut Fake) {
    fake.pods_become_ready();
    fake.pass(2);
    fake.settle();
}

/// Version 1 serves.
fn serving(spec: Value, policy: Option<Value>) -> Fake {
    let mut fake = Fake::new(spec);
    if policy.is_some() {
        fake.rollout("a CanaryRollout", policy);
    }
    fake.settle();
    ready(&mut fake);
    fake
}

fn version_2(fake: &mut Fake) -> Plan {
    fake.spec("version 2", "/version", json!("2"));
    fake.spec("with its image", "/image", json!("registry.example/app:2"));
    fake.settle()
}

fn condition(fake: &Fake, kind: &str) -> (String, String) {
    let status = fake.status();
    let found = status.conditions.iter().find(|condition| condition.type_ == kind).expect("it is there");
    (found.status.clone(), found.message.clone())
}

fn replicas(fake: &Fake, revision: usize) -> i32 {
    let name = format!("app-{}", fake.hashes()[revision]);
    fake.child(Kind::Deployment, &name).expect("it stands").deployment().expect("a Deployment").replicas
}

#[test]
fn zero_is_zero_with_and_without_a_rollout() {
    for (policy, provider) in [(None, "Istio"), (Some(policy()), "Istio"), (Some(policy()), "None")] {
        let mut fake = serving(spec(provider, 0), policy);
        let plan = version_2(&mut fake);
        assert_eq!((replicas(&fake, 0), replicas(&fake, 1)), (0, 0), "{}", fake.log);
        let hashes = fake.hashes();
        assert_eq!((plan.stable.as_deref(), plan.next), (Some(hashes[1].as_str()), None), "{}", fake.log);
        assert_eq!(condition(&fake, "Ready").0, "True");
    }
}

#[test]
fn a_service_whose_stable_is_down_is_not_ready_whatever_is_on_its_way() {
    let mut fake = serving(spec("Istio", 2), Some(policy()));
    let stable = fake.hashes()[0].clone();
    fake.pods_fail(&stable);
    let plan = version_2(&mut fake);
    assert_eq!(plan.phase, Phase::Degraded);
    let (ready_is, why) = condition(&fake, "Ready");
    assert_eq!(ready_is, "False");
    assert!(why.contains(&format!("no pod of revision {stable} is Ready")), "{why}");
    // It is made in full, and takes everything.
    assert_eq!(replicas(&fake, 1), 2);
    ready(&mut fake);
    fake.pods_fail(&stable);
    fake.settle();
    assert_eq!(fake.rollout_status().weight.map(|weight| weight.asked), Some(100), "{}", fake.log);
}

#[test]
fn without_a_rollout_the_first_pod_of_a_fix_takes_over_from_nobody() {
    let mut fake = serving(spec("Istio", 2), None);
    let stable = fake.hashes()[0].clone();
    fake.pods_fail(&stable);
    version_2(&mut fake);
    assert_eq!(condition(&fake, "Ready").0, "False");
    let name = format!("app-{}", fake.hashes()[1]);
    fake.touch("one pod is Ready", Kind::Deployment, &name, |state| {
        if let Facts::Deployment(facts) = &mut state.facts {
            (facts.ready, facts.updated_and_available, facts.observed) = (1, 1, true);
        }
    });
    let plan = fake.settle();
    assert_eq!(plan.stable.as_deref(), Some(fake.hashes()[1].as_str()), "{}", fake.log);
}

#[test]
fn deleting_the_canary_rollout_does_not_send_everybody_to_where_nobody_answers() {
    let mut fake = serving(spec("Istio", 2), Some(policy()));
    version_2(&mut fake);
    ready(&mut fake);
    assert_eq!(fake.rollout_status().weight.map(|weight| weight.asked), Some(10));
    let hashes = fake.hashes();
    fake.pods_fail(&hashes[0]);
    fake.rollout("the CanaryRollout is deleted", None);
    let plan = fake.settle();
    assert_eq!(plan.stable.as_deref(), Some(hashes[1].as_str()), "{}", fake.log);
}

/// The gateway's controller says how far it has read the route.
fn gateway_has_read(fake: &mut Fake, all: bool) {
    let what = if all { "the gateway reads the route" } else { "the gateway's controller is dead" };
    fake.touch(what, Kind::HTTPRoute, "app", |state| {
        if let Facts::Route(route) = &mut state.facts {
            route.behind = !all;
        }
    });
}

#[test]
fn pods_stay_while_the_gateway_has_not_read_that_they_have_no_requests() {
    let mut fake = serving(spec("GatewayAPI", 2), None);
    version_2(&mut fake);
    ready(&mut fake);
    gateway_has_read(&mut fake, false);
    fake.settle();
    fake.pass(600);
    let plan = fake.settle();
    assert_eq!(replicas(&fake, 0), 2, "{}", fake.log);
    let problem = plan.problems.iter().find(|problem| problem.message.contains("has not been read"));
    assert_eq!(problem.map(|problem| problem.severity), Some(Severity::Error), "{:?}", plan.problems);
    gateway_has_read(&mut fake, true);
    let plan = fake.settle();
    assert_eq!((replicas(&fake, 0), plan.problems), (0, Vec::new()), "{}", fake.log);
}

/// Row 8.10: once it goes on, it hears of the revision and of all its requests at once, and answers 503.
#[test]
fn faults_8_10_a_gateway_that_has_not_read_of_a_revision_does_not_send_everybody_there() {
    let mut fake = serving(spec("GatewayAPI", 2), None);
    version_2(&mut fake);
    gateway_has_read(&mut fake, false);
    ready(&mut fake);
    let plan = fake.settle();
    assert_eq!(plan.stable, Some(fake.hashes()[0].clone()), "{}", fake.log);
    gateway_has_read(&mut fake, true);
    let plan = fake.settle();
    assert_eq!(plan.stable, Some(fake.hashes()[1].clone()), "{}", fake.log);
}

/// Row 8.10, with a rollout: Istio leaves what has no weight out of routes.
#[test]
fn faults_8_10_a_service_that_a_mesh_has_not_heard_of_gets_no_first_step() {
    let mut fake = serving(spec("Istio", 2), Some(policy()));
    version_2(&mut fake);
    let (name, now) = (format!("app-{}", fake.hashes()[1]), fake.now);
    fake.touch("its Service is new", Kind::Service, &name, |state| {
        if let Facts::Service(facts) = &mut state.facts {
            facts.since = Some(now);
        }
    });
    let asked = |fake: &Fake| fake.rollout_status().weight.map(|weight| weight.asked);
    ready(&mut fake);
    assert_eq!(asked(&fake), Some(0), "{}", fake.log);
    fake.pass(10);
    fake.settle();
    assert_eq!(asked(&fake), Some(10), "{}", fake.log);
}

/// Rows 5.5 and 5.6: what a gateway says of a route is told in its own words, and that none has taken it.
#[test]
fn what_a_gateway_says_against_a_route_is_told() {
    let mut fake = serving(spec("GatewayAPI", 2), None);
    let told = |fake: &mut Fake, change: &dyn Fn(&mut crate::finservice::children::observed::Observed)| {
        fake.touch("its gateway says something", Kind::HTTPRoute, "app", |state| {
            if let Facts::Route(route) = &mut state.facts {
                change(route);
            }
        });
        let problem =
            fake.settle().problems.into_iter().find(|problem| problem.source == "spec.ingress.gateway");
        problem.map(|problem| (problem.severity, problem.message))
    };
    assert_eq!(told(&mut fake, &|_| {}), None);
    let refused = "Accepted is False (NotAllowedByListeners): namespace pay may not";
    let problem = told(&mut fake, &|route| route.refused = Some(refused.into())).expect("a problem");
    assert_eq!(problem.0, Severity::Error);
    assert_eq!(problem.1, format!("Gateway edge/public says of HTTPRoute app: {refused}"));
    let now = fake.now;
    let taken = |route: &mut crate::finservice::children::observed::Observed| {
        route.refused = None;
        route.unclaimed_since = Some(now);
    };
    assert_eq!(told(&mut fake, &taken), None, "it may take its time");
    fake.pass(10);
    let problem = fake.settle().problems.into_iter().find(|problem| problem.source == "spec.ingress.gateway");
    let problem = problem.expect("ten seconds are over");
    assert!(problem.message.starts_with("no gateway has taken HTTPRoute app"), "{problem:?}");
    assert!(problem.remedy.contains("kubectl -n edge get gateway public"), "{problem:?}");
}

#[test]
fn a_handed_over_deployment_keeps_its_pods_as_well() {
    use crate::finservice::index::stranger::Stranger;
    use crate::runtime::key::Key;
    let mut fake = serving(spec("GatewayAPI", 2), None);
    let old = Stranger { whose: "helm".into(), adopt: Some("app".into()), ..Stranger::default() };
    fake.event("a Deployment is handed over", |index| {
        index.stranger(Kind::Deployment, &Key::new("pay", "app"), Some(old));
    });
    fake.settle();
    gateway_has_read(&mut fake, false);
    fake.pass(600);
    let to_zero = |plan: &Plan| plan.ops().any(|op| matches!(op, Op::HandOver { to_zero: true, .. }));
    let plan = fake.step();
    assert!(!to_zero(&plan), "{}", fake.log);
    gateway_has_read(&mut fake, true);
    assert!(to_zero(&fake.step()), "{}", fake.log);
}

#[test]
fn faults_8_10_a_service_that_a_mesh_has_not_heard_of_gets_no_requests() {
    let mut fake = serving(spec("Istio", 2), None);
    version_2(&mut fake);
    let (stable, name) = (fake.hashes()[0].clone(), format!("app-{}", fake.hashes()[1]));
    let now = fake.now;
    fake.touch("its Service is new", Kind::Service, &name, |state| {
        if let Facts::Service(facts) = &mut state.facts {
            facts.since = Some(now);
        }
    });
    ready(&mut fake);
    let plan = fake.settle();
    assert_eq!(plan.stable.as_deref(), Some(stable.as_str()), "{}", fake.log);
    assert!(plan.again_at.is_some_and(|at| at.duration_since(now).as_secs() == 10), "{:?}", plan.again_at);
    fake.pass(8);
    let plan = fake.settle();
    assert_ne!(plan.stable.as_deref(), Some(stable.as_str()), "{}", fake.log);
}

/// The kubelet, a quota or a policy may say as much as they like, and status is written all the same.
#[test]
fn faults_5_12_a_refusal_of_any_length_is_told_and_status_is_written() {
    let mut fake = serving(spec("Istio", 2), Some(policy()));
    version_2(&mut fake);
    let name = format!("app-{}", fake.hashes()[1]);
    let refusal = format!("admission webhook denied the request: {}", "ä".repeat(5000));
    fake.touch("its pods are refused", Kind::Deployment, &name, |state| {
        if let Facts::Deployment(facts) = &mut state.facts {
            facts.failure = Some(refusal.as_str().into());
        }
    });
    // The status is compared with the bounds of its schema as it is written.
    fake.settle();
    let told =
        fake.status().problems.into_iter().find(|problem| problem.message.contains("admission webhook"));
    let told = told.expect("it is told").message;
    assert!(told.ends_with("ä…") && told.chars().count() == 1000, "{told}");
    assert!(fake.rollout_status().memory.is_some(), "what is remembered stays");
}

#[test]
fn faults_8_9_a_namespace_that_lets_no_container_change_the_network_is_told_of_cni() {
    let mut fake = serving(spec("Istio", 2), None);
    let name = format!("app-{}", fake.hashes()[0]);
    let mut remedy = |refused: &str| {
        fake.touch("its pods are refused", Kind::Deployment, &name, |state| {
            if let Facts::Deployment(facts) = &mut state.facts {
                facts.failure = Some(refused.into());
            }
        });
        let problem = fake.settle().problems.into_iter().find(|problem| problem.message.contains(refused));
        problem.expect("a problem").remedy
    };
    let of_init = "violates PodSecurity \"restricted:latest\": unrestricted capabilities (container \"istio-init\" must not include \"NET_ADMIN\")";
    assert!(remedy(of_init).contains("components.cni.enabled=true"));
    let of_app = "violates PodSecurity \"restricted:latest\": runAsNonRoot != true (container \"app\")";
    assert!(!remedy(of_app).contains("cni"));
}
