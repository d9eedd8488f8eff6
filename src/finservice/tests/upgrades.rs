//! An upgrade of the operator restarts nobody's pods, and decisions hold for any spec.

use proptest::prelude::*;
use serde_json::json;

use crate::finservice::children::Kind;
use crate::finservice::index::child::Facts;
use crate::finservice::plan::Op;
use crate::finservice::testing;
use crate::finservice::testing::fake::Fake;
use crate::runtime::digest;

/// A revision that an older operator has made: its template lacks what the builder of today writes.
#[test]
fn a_builder_that_has_changed_restarts_nothing_and_repairs_to_what_was_recorded() {
    let spec = json!({"owner": "team", "access": {"outbound": {}}, "image": "registry.example/app:1",
        "ports": [{"name": "http", "port": 8080}], "scale": {"replicas": 3}});
    let mut fake = Fake::new(spec);
    fake.settle();
    fake.pods_become_ready();
    fake.settle();
    let hash = fake.hashes()[0].clone();
    let name = format!("app-{hash}");
    fake.touch("it was made by an older operator", Kind::ControllerRevision, &name, |state| {
        if let Facts::Revision(facts) = &mut state.facts {
            let mut template: serde_json::Value = serde_json::from_str(&facts.template).expect("JSON");
            let spec = template["spec"].as_object_mut().expect("a pod");
            assert!(spec.remove("topologySpreadConstraints").is_some(), "today's builder writes it");
            facts.template = template.to_string().into();
        }
    });
    // The Deployment, too, is as the older operator made it.
    let older = fake.step();
    let written: Vec<&Op> = older.ops().collect();
    let [Op::Apply { child, digest: wanted, .. }] = written.as_slice() else { panic!("{written:?}") };
    assert_eq!(child.kind, Kind::Deployment);
    assert!(child.body.pointer("/spec/template/spec/topologySpreadConstraints").is_none());
    assert_eq!(digest::wanted(&child.body), *wanted);
    // From here on today's operator, with today's builder, finds nothing to do ...
    assert!(fake.step().is_empty());
    // ... and puts a hand-made change right from the record, not from its builder.
    fake.touch("somebody edits the Deployment", Kind::Deployment, &name, |state| state.digest = Some(7));
    let repair = fake.step();
    let repaired: Vec<&Op> = repair.ops().collect();
    let [Op::Apply { child, .. }] = repaired.as_slice() else { panic!("{repaired:?}") };
    assert!(child.body.pointer("/spec/template/spec/topologySpreadConstraints").is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Total and idempotent: whatever the spec, the plan after its own effect is empty, and the
    /// second decision about the same thing is the same.
    #[test]
    fn the_plan_after_its_own_effect_is_empty(one in testing::spec(), two in testing::spec()) {
        let mut fake = Fake::new(serde_json::to_value(&one).expect("JSON"));
        fake.everything_is_there();
        fake.settle();
        fake.pods_become_ready();
        prop_assert!(fake.settle().is_empty());
        fake.change("another spec", |service| service.spec = two);
        fake.everything_is_there();
        fake.settle();
        fake.pods_become_ready();
        fake.settle();
        fake.pass(31);
        prop_assert!(fake.settle().is_empty());
        let seen = fake.seen();
        prop_assert_eq!(crate::finservice::plan::decide::decide(&seen, fake.now), crate::finservice::plan::decide::decide(&seen, fake.now));
    }

    /// Pods never run short of what serves: no plan takes pods from the revision that has the
    /// traffic below what the spec asks for, and routes name only what exists.
    #[test]
    fn what_serves_keeps_its_pods(one in testing::spec(), image in "[a-z]{3}") {
        let mut fake = Fake::new(serde_json::to_value(&one).expect("JSON"));
        fake.everything_is_there();
        fake.settle();
        fake.pods_become_ready();
        fake.settle();
        fake.change("a new image", |service| service.spec.image = image);
        for _ in 0..6 {
            let plan = fake.step();
            if let Some(stable) = &plan.stable {
                let name = format!("app-{stable}");
                for op in plan.ops() {
                    if let Op::Scale { name: scaled, replicas } = op {
                        let asked = crate::finservice::plan::revisions::base(&crate::finservice::plan::placement::effective(&fake.seen().service.spec, "here", None));
                        prop_assert!(*scaled != name || *replicas >= asked, "{op:?}");
                    }
                }
                prop_assert!(fake.child(Kind::ControllerRevision, &name).is_some());
            }
            fake.pods_become_ready();
            fake.pass(10);
        }
    }
}
