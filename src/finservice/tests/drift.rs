//! What somebody else does to Deployments of ours.

use serde_json::json;

use crate::finservice::children::Kind;
use crate::finservice::index::child::Facts;
use crate::finservice::plan::{Op, Plan};
use crate::finservice::testing::fake::Fake;

fn serving() -> (Fake, String) {
    let mut fake = Fake::new(json!({
        "owner": "team", "access": {"outbound": {}}, "image": "registry.example/app:1", "ports": [{"name": "http", "port": 8080}],
        "scale": {"replicas": 2},
    }));
    fake.settle();
    fake.pods_become_ready();
    fake.pass(60);
    fake.settle();
    let name = format!("app-{}", fake.hashes()[0]);
    (fake, name)
}

fn scales(plan: &Plan) -> bool {
    plan.ops().any(|op| matches!(op, Op::Scale { .. }))
}

#[test]
fn whoever_keeps_scaling_a_deployment_is_named_and_then_let_be() {
    let (mut fake, name) = serving();
    let scaled = |fake: &mut Fake| {
        fake.touch("an autoscaler scales it", Kind::Deployment, &name, |state| {
            if let Facts::Deployment(facts) = &mut state.facts {
                facts.replicas = 5;
            }
        });
        fake.pass(15);
        fake.step()
    };
    for round in 0..3 {
        let plan = scaled(&mut fake);
        assert!(scales(&plan), "{round}: {}", fake.log);
        let note = plan.notices.first().map(|notice| notice.note.clone()).unwrap_or_default();
        assert!(note.contains("was scaled to 5 pods by somebody else"), "{note}");
    }
    let plan = scaled(&mut fake);
    assert!(!scales(&plan), "{}", fake.log);
    let problem = plan.problems.iter().find(|problem| problem.message.contains("keeps scaling"));
    assert!(problem.is_some_and(|problem| problem.remedy.contains("scale.min")), "{:?}", plan.problems);
    // What is asked for by the FinService is another matter.
    fake.spec("three pods", "/scale", json!({"replicas": 3}));
    assert!(scales(&fake.step()), "{}", fake.log);
}

#[test]
fn what_is_added_to_pods_by_hand_is_an_error() {
    let (mut fake, name) = serving();
    fake.touch("kubectl set env", Kind::Deployment, &name, |state| {
        if let Facts::Deployment(facts) = &mut state.facts {
            facts.added = Some("kubectl-set has added containers[app].env".into());
        }
    });
    let plan = fake.step();
    let problem = plan.problems.iter().find(|problem| problem.source == format!("Deployment {name}"));
    let problem = problem.expect("it is told");
    assert!(
        problem.message.starts_with("kubectl-set has added containers[app].env to Deployment"),
        "{problem:?}"
    );
    assert!(problem.remedy.contains(&format!("edit deployment {name}")), "{problem:?}");
}
