//! Scenarios: rollouts as the service reconciler carries them out, write by write. What decides is tried in
//! `tests/simulate.rs`; here it is the order of the writes, and what survives a crash between any two of them.

use std::sync::Arc;

use expect_test::expect_file;
use serde_json::{Value, json};

use crate::api::authority::AuthorityState;
use crate::api::failovergroup::Services;
use crate::api::labels::HOTFIX_ANNOTATION;
use crate::authority::view::{Authorities, GroupView};
use crate::canary::facts::Phase;
use crate::evidence::Sample;
use crate::finservice::children::Kind;
use crate::finservice::index::child::{ChildState, Facts};
use crate::finservice::plan::{Op, Plan};
use crate::finservice::testing::fake::Fake;
use crate::judge::Analysis;
use crate::judge::Evidence;
use crate::signals::SourceKey;

fn spec(provider: &str) -> Value {
    json!({
        "owner": "team", "access": {"outbound": {}}, "image": "registry.example/app:1", "version": "1",
        "ports": [{"name": "http", "port": 8080}], "scale": {"replicas": 4},
        "mesh": {"provider": provider},
    })
}

fn policy() -> Value {
    json!({
        "service": "app",
        "strategy": {"canary": {"steps": [{"weight": 10}, {"weight": 50}, {"weight": 100}], "minHold": "1m"}},
        "rollbackWindow": {"for": "5m"},
    })
}

fn golden(name: &str, fake: &Fake) {
    let path = format!("{}/tests/goldens/finservice/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    expect_file![path].assert_eq(&fake.story());
}

/// Version 1 serves, under a CanaryRollout.
fn started(spec: Value, policy: Value) -> Fake {
    let mut fake = Fake::new(spec);
    fake.rollout("a CanaryRollout", Some(policy));
    fake.settle();
    ready(&mut fake);
    fake.settle();
    fake
}

#[test]
fn faults_5_11_what_nobody_counts_is_told_before_anything_is_released() {
    let told = |change: fn(&mut Value)| {
        let mut spec = spec("GatewayAPI");
        change(&mut spec);
        let fake = started(spec, policy());
        let problems = fake.rollout_status().problems;
        problems.into_iter().find(|problem| problem.source == "spec.analysis.source")
    };
    let problem = told(|_| {}).expect("a problem");
    assert!(problem.message.contains("nothing counts the requests of FinService app"), "{problem:?}");
    assert_eq!(told(|spec| spec["observability"] = json!({"metrics": {"port": "http"}})), None);
}

/// Pods become Ready, and proxies hear of them.
fn ready(fake: &mut Fake) {
    fake.pods_become_ready();
    fake.pass(2);
}

/// Evidence of the rollout that is under way, from counters of requests that are shared as they should be.
fn counted(fake: &mut Fake, what: &str, bad: [f64; 2]) {
    let seen = fake.seen();
    let plan = crate::finservice::plan::decide::decide(&seen, fake.now);
    let planned = plan.rollout.expect("a rollout");
    let sampling = planned.decision.sampling.clone().expect("something is counted");
    let policy = planned.gathered.policy();
    let shares = sampling.share.map_or([50, 50], |share| [share.beside, share.canary]);
    let mut analysis = Analysis::new(&policy.standard(), &sampling.comparison(), "stable", "canary", 0.0)
        .expect("a policy that can be");
    for look in 0..40 {
        let time = f64::from(look) * 5.0 + 0.1;
        for (arm, (pod, rate)) in [(1_u64, bad[0]), (2, bad[1])].into_iter().enumerate() {
            let requests = f64::from(look) * f64::from(2000 * shares[arm]) / 100.0;
            let (revision, bad) = (["stable", "canary"][arm], (requests * rate).floor());
            let sample =
                Sample { revision, pod, time, ready_since: Some(-1e6), requests, bad, unanswered: 0.0 };
            analysis.sample("error-rate", sample).expect("a sample");
        }
        analysis.close(time);
    }
    let evidence: Evidence = analysis.evidence(195.1);
    let verdicts: Vec<String> =
        evidence.judgements.iter().map(|(name, judged)| format!("{name} {}", judged.verdict)).collect();
    fake.event(&format!("{what}: {}", verdicts.join(", ")), |_| {});
    fake.evidence = Some(evidence);
}

/// From the deployment of version 2 to its first weight.
fn to_first_weight(fake: &mut Fake) -> Plan {
    fake.spec("version 2", "/version", json!("2"));
    fake.spec("with its image", "/image", json!("registry.example/app:2"));
    fake.settle();
    ready(fake);
    fake.settle()
}

/// The share of a revision's Service in the route of the mesh or gateway.
fn share(fake: &Fake, revision: usize) -> Option<u8> {
    let hashes = fake.hashes();
    let kind = if fake.child(Kind::VirtualService, "app").is_some() {
        Kind::VirtualService
    } else {
        Kind::HTTPRoute
    };
    let route = fake.child(kind, "app")?;
    let Facts::Route(route) = &route.facts else { return None };
    route.share(&format!("app-{}", hashes[revision]), &format!("app-{}", hashes[0]))
}

#[test]
fn a_good_release_takes_over_step_by_step_and_the_old_one_stays_warm() {
    let mut fake = started(spec("Istio"), policy());
    to_first_weight(&mut fake);
    assert_eq!(share(&fake, 1), Some(10));
    for weight in [50, 100] {
        counted(&mut fake, "both are well", [0.001, 0.001]);
        fake.pass(60);
        fake.settle();
        ready(&mut fake);
        fake.settle();
        assert_eq!(share(&fake, 1), Some(weight));
    }
    fake.evidence = None;
    fake.pass(60);
    fake.settle();
    let new = fake.hashes()[1].clone();
    assert_eq!(fake.rollout_status().stable, Some(new));
    fake.pass(300);
    fake.settle();
    fake.pass(30);
    fake.settle();
    assert!(fake.step().is_empty());
    golden("rollout_promoted", &fake);
}

#[test]
fn a_bad_release_loses_its_weight_in_the_first_write_of_the_reconcile_that_knows() {
    for provider in ["Istio", "GatewayAPI"] {
        let mut spec = spec(provider);
        spec["ingress"] = json!({"hosts": ["app.example"], "gateway": "edge/public"});
        let mut fake = started(spec, policy());
        to_first_weight(&mut fake);
        assert_eq!(share(&fake, 1), Some(10));
        counted(&mut fake, "the new one fails", [0.001, 0.2]);
        let plan = fake.step();
        let first = &plan.weights;
        assert!(
            first.iter().all(|op| matches!(op, Op::Apply { child, .. }
                if matches!(child.kind, Kind::VirtualService | Kind::HTTPRoute | Kind::Service))),
            "weights come first: {first:?}"
        );
        assert_eq!(share(&fake, 1), Some(0));
        fake.settle();
        fake.pass(30);
        fake.settle();
        assert!(fake.step().is_empty());
        golden(&format!("rollout_failed_{}", provider.to_lowercase()), &fake);
    }
}

#[test]
fn without_a_route_the_pods_of_a_bad_release_go_first() {
    let mut fake = started(spec("None"), policy());
    to_first_weight(&mut fake);
    counted(&mut fake, "the new one fails", [0.001, 0.2]);
    let new = format!("app-{}", fake.hashes()[1]);
    let plan = fake.step();
    assert!(plan.weights.contains(&Op::Scale { name: new, replicas: 0 }), "{:?}", plan.weights);
    fake.settle();
    golden("rollout_failed_by_pods", &fake);
}

#[test]
fn killed_between_the_weights_and_the_status_what_failed_stays_failed() {
    let mut fake = started(spec("Istio"), policy());
    to_first_weight(&mut fake);
    let before = fake.rollout_status();
    counted(&mut fake, "the new one fails", [0.001, 0.2]);
    fake.step();
    fake.forget_status(before);
    fake.evidence = None;
    fake.settle();
    assert_eq!(share(&fake, 1), Some(0), "no weight jumps back");
    assert_eq!(fake.rollout_status().phase.as_deref(), Some("RolledBack"));
    golden("rollout_killed", &fake);
}

#[test]
fn a_deleted_canary_rollout_leaves_stable_with_everything() {
    let mut fake = started(spec("Istio"), policy());
    to_first_weight(&mut fake);
    fake.rollout("the CanaryRollout is deleted in mid-course", None);
    fake.settle();
    assert_eq!(share(&fake, 1), Some(0));
    fake.pass(600);
    fake.settle();
    assert_eq!(share(&fake, 1), Some(0), "what was not let pass does not take over by itself");
    fake.spec("version 3", "/version", json!("3"));
    fake.settle();
    ready(&mut fake);
    fake.settle();
    assert_eq!(share(&fake, 2), Some(100));
    golden("rollout_deleted", &fake);
}

#[test]
fn while_its_canary_rollout_cannot_be_read_no_revision_takes_over() {
    let mut fake = started(spec("Istio"), policy());
    fake.unreadable("the CanaryRollout cannot be read", "strategy", json!("fast"));
    fake.spec("version 2", "/version", json!("2"));
    fake.settle();
    ready(&mut fake);
    let plan = fake.settle();
    let (old, new) = (fake.hashes()[0].clone(), fake.hashes()[1].clone());
    assert_eq!((plan.stable.as_ref(), share(&fake, 1).unwrap_or(0)), (Some(&old), 0));
    let says =
        |plan: &Plan| plan.problems.iter().any(|p| p.message.contains("CanaryRollout app cannot be read"));
    assert!(says(&plan), "{:?}", plan.problems);
    assert_eq!(fake.rollout_status().phase.as_deref(), Some("Unreadable"));
    // Without any, the simplest policy holds: what is Ready takes over.
    fake.rollout("the CanaryRollout is deleted", None);
    fake.settle();
    ready(&mut fake);
    let plan = fake.settle();
    assert_eq!((plan.stable.as_ref(), says(&plan)), (Some(&new), false));
}

/// What stands in the status of a CanaryRollout: its phase, and the field and words of its worst problem.
fn told(fake: &Fake) -> (String, String, String) {
    let status = fake.rollout_status();
    let problem = status.problems.first().cloned();
    let (field, words) = problem.map(|problem| (problem.source, problem.message)).unwrap_or_default();
    (status.phase.unwrap_or_default(), field, words)
}

#[test]
fn a_canary_rollout_that_becomes_unreadable_holds_where_it_is_and_goes_on_when_it_is_mended() {
    for (field, value) in [("strategy", json!("fast")), ("analysis", json!(7)), ("via", json!("Pigeon"))] {
        let mut fake = started(spec("Istio"), policy());
        to_first_weight(&mut fake);
        fake.unreadable("a field cannot be read", field, value);
        fake.pass(600);
        let plan = fake.step();
        assert!(plan.is_empty(), "nothing moves: {}", fake.log);
        let named = format!("spec.{field}");
        let (phase, source, words) = told(&fake);
        assert_eq!((&*phase, &source), ("Unreadable", &named));
        assert!(
            words.starts_with(&format!("the spec cannot be read: {named}: invalid type"))
                || words.contains("unknown variant"),
            "{words}"
        );
        let of_service = &plan.problems[0];
        assert!(of_service.message.contains("so 2 stays at 10 %"), "{of_service:?}");
        assert!(of_service.remedy.contains(&named), "{of_service:?}");
        let status = fake.rollout_status();
        let stalled = status.conditions.iter().find(|c| c.type_ == "Stalled").expect("a condition");
        assert_eq!((&*stalled.status, &*stalled.reason), ("True", "Unreadable"));
        assert_eq!((status.weight.map(|w| w.asked), status.step.as_deref()), (Some(10), Some("1/3")));
        assert!(fake.step().is_empty(), "and it is said once");

        // Mended, it goes on from where it was.
        fake.unreadable("it is mended", field, Value::Null);
        fake.settle();
        assert_eq!(fake.rollout_status().phase.as_deref(), Some("Analysing"));
        counted(&mut fake, "both are well", [0.001, 0.001]);
        fake.settle();
        ready(&mut fake);
        fake.settle();
        assert_eq!(share(&fake, 1), Some(50), "{}", fake.log);
    }
}

#[test]
fn while_it_cannot_be_read_what_fails_goes_back_and_deleting_gives_stable_everything() {
    for deleted in [false, true] {
        let mut fake = started(spec("Istio"), policy());
        to_first_weight(&mut fake);
        fake.unreadable("a field cannot be read", "strategy", json!({"canary": {"steps": "many"}}));
        fake.settle();
        assert_eq!(told(&fake).1, "spec.strategy.canary.steps");
        if deleted {
            fake.rollout("the CanaryRollout is deleted", None);
        } else {
            counted(&mut fake, "the new one fails", [0.001, 0.2]);
        }
        fake.settle();
        assert_eq!(share(&fake, 1), Some(0), "{}", fake.log);
        if !deleted {
            assert_eq!(told(&fake).0, "RolledBack");
        }
    }
}

#[test]
fn what_the_old_backend_has_given_up_stays_so_while_the_policy_cannot_be_read() {
    let mut spec = spec("Istio");
    spec["ingress"] = json!({"hosts": ["app.example"], "gateway": "edge/public"});
    spec["legacy"] = json!({"host": "monolith.pay.svc.cluster.local", "port": 80});
    let mut policy = policy();
    policy["from"] = json!("Legacy");
    let mut fake = started(spec, policy);
    let share = |fake: &Fake| {
        let child = fake.child(Kind::VirtualService, "app.ingress")?;
        let Facts::Route(route) = &child.facts else { return None };
        route.share(&format!("app-{}", fake.hashes()[0]), "monolith")
    };
    assert_eq!(share(&fake), Some(10), "{}", fake.log);
    fake.unreadable("from cannot be read", "from", json!("Nowhere"));
    fake.pass(60);
    fake.settle();
    assert_eq!((share(&fake), &*told(&fake).0), (Some(10), "Unreadable"), "{}", fake.log);
    fake.unreadable("it is mended", "from", Value::Null);
    for _ in 0..3 {
        counted(&mut fake, "both are well", [0.001, 0.001]);
        fake.pass(60);
        fake.settle();
    }
    fake.evidence = None;
    fake.pass(60);
    fake.settle();
    let all = share(&fake);
    assert_ne!(all, Some(10), "it has all of it: {}", fake.log);
    for (field, value) in [("from", json!("Nowhere")), ("strategy", json!("fast"))] {
        fake.unreadable("a field cannot be read", field, value);
        fake.pass(600);
        fake.settle();
        assert_eq!(share(&fake), all, "nothing returns to the old backend: {}", fake.log);
        fake.unreadable("it is mended", field, Value::Null);
    }
}

#[test]
fn stable_and_canary_keep_their_least_while_an_autoscaler_works() {
    let mut spec = spec("Istio");
    spec["scale"] = json!({"min": 2, "max": 20});
    let mut fake = started(spec, policy());
    let old = format!("app-{}", fake.hashes()[0]);
    fake.touch("the load asks for 10 pods", Kind::HorizontalPodAutoscaler, &old, |state| {
        if let Facts::Autoscaler(facts) = &mut state.facts {
            facts.need = Some(10);
        }
    });
    fake.touch("the autoscaler has made 10", Kind::Deployment, &old, |state| {
        if let Facts::Deployment(facts) = &mut state.facts {
            (facts.replicas, facts.ready, facts.updated_and_available) = (10, 10, 10);
        }
    });
    ready(&mut fake);
    to_first_weight(&mut fake);
    counted(&mut fake, "both are well", [0.001, 0.001]);
    fake.pass(60);
    fake.settle();
    ready(&mut fake);
    fake.settle();
    let least =
        |fake: &Fake, name: &str| match fake.child(Kind::HorizontalPodAutoscaler, name).map(|c| c.facts) {
            Some(Facts::Autoscaler(facts)) => Some(facts.min),
            _ => None,
        };
    assert_eq!(least(&fake, &old), Some(10), "the way back is never too small");
    let new = format!("app-{}", fake.hashes()[1]);
    assert_eq!(least(&fake, &new), Some(5));
    assert_eq!(
        fake.child(Kind::Deployment, &new).as_ref().and_then(ChildState::deployment).map(|d| d.replicas),
        Some(5)
    );
    golden("rollout_autoscaled", &fake);
}

#[test]
fn a_standing_rollout_leaves_nothing_to_do() {
    for provider in ["Istio", "None"] {
        let mut fake = started(spec(provider), policy());
        let plan = to_first_weight(&mut fake);
        assert!(plan.is_empty());
        for _ in 0..3 {
            fake.pass(5);
            assert!(fake.step().is_empty(), "{}", fake.log);
        }
    }
}

#[test]
fn the_cluster_that_goes_first_waits_for_nobody_and_the_others_for_it() {
    for (cluster, weight) in [("here", Some(10)), ("there", Some(0))] {
        let mut policy = policy();
        policy["after"] = json!([{"cluster": cluster}]);
        let mut fake = started(spec("Istio"), policy);
        to_first_weight(&mut fake);
        assert_eq!(share(&fake, 1).or(Some(0)), weight, "after {cluster}: {}", fake.log);
    }
}

#[test]
fn a_prometheus_is_asked_for_each_namespace_apart() {
    for auth in [None, Some(json!({"bearer": {"secret": "p", "key": "token"}}))] {
        let mut policy = policy();
        policy["analysis"] = json!({"source": {"prometheus": {"url": "http://prometheus:9090"}}});
        if let Some(auth) = auth {
            policy["analysis"]["source"]["prometheus"]["auth"] = auth;
        }
        let mut fake = started(spec("Istio"), policy);
        to_first_weight(&mut fake);
        let plan = crate::finservice::plan::decide::decide(&fake.seen(), fake.now);
        let source = plan.rollout.and_then(|planned| planned.follow).expect("something is counted").source;
        let SourceKey::Prometheus { namespace: found, .. } = source else { panic!("{source:?}") };
        assert_eq!(found, "pay");
    }
}

#[test]
fn faults_6_14_a_gate_is_told_which_attempt_asks_and_before_which_step() {
    let mut policy = policy();
    policy["gates"] = json!([{"at": 10, "webhook": {"url": "http://change/ok"}},
        {"at": 50, "webhook": {"url": "http://change/ok"}}]);
    let mut fake = started(spec("Istio"), policy);
    to_first_weight(&mut fake);
    let plan = crate::finservice::plan::decide::decide(&fake.seen(), fake.now);
    let follow = plan.rollout.and_then(|planned| planned.follow).expect("a gate is asked");
    assert_eq!(follow.gates.len(), 1, "{:?}", follow.gates);
    let told = ["id", "release", "weight", "before"].map(|field| &follow.told[field]);
    assert_eq!(told, [&json!("pay/app/1"), &json!("2"), &json!(0), &json!([10])]);
}

/// How the group of the service stands: whether it moves to another site.
fn moves(fake: &mut Fake, moves_to: Option<&str>) {
    let group = GroupView {
        name: "payments".to_owned(),
        services: Services { namespaces: vec!["pay".to_owned()], selector: None },
        state: AuthorityState::Held,
        holders: vec!["here".to_owned()],
        epoch: 16,
        claimed: false,
        moves_to: moves_to.map(str::to_owned),
        hosts: Arc::default(),
        refuses: false,
    };
    fake.index.set_authorities(Authorities::new(vec![group]));
}

#[test]
fn while_the_group_moves_all_weight_is_with_stable_and_afterwards_it_starts_over() {
    let mut fake = started(spec("Istio"), policy());
    to_first_weight(&mut fake);
    assert_eq!(share(&fake, 1), Some(10));
    moves(&mut fake, Some("there"));
    let decision = fake.settle().rollout.expect("a rollout").decision;
    assert_eq!((share(&fake, 1), decision.phase), (Some(0), Phase::Frozen), "{}", fake.story());
    let why = decision.reasons.join("; ");
    assert!(why.contains("FailoverGroup payments moves to there"), "{why}");
    // What must not wait goes on all the same.
    let hotfix = [(HOTFIX_ANNOTATION.to_owned(), "true".to_owned())];
    fake.change("a hotfix", |service| service.metadata.annotations = Some(hotfix.into()));
    fake.settle();
    ready(&mut fake);
    fake.settle();
    assert_eq!(share(&fake, 1), Some(10), "{}", fake.story());
    fake.change("no hotfix", |service| service.metadata.annotations = None);
    fake.settle();
    assert_eq!(share(&fake, 1), Some(0));
    moves(&mut fake, None);
    fake.settle();
    ready(&mut fake);
    fake.settle();
    assert_eq!(share(&fake, 1), Some(10), "{}", fake.story());
}
