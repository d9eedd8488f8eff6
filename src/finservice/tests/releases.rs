//! A FinService that is as large as it may be is released many times: its status can always be written. (The cluster in
//! memory compares each status with the bounds of its schema.)

use serde_json::{Value, json};

use crate::api::FinService;
use crate::finservice::children::Kind;
use crate::finservice::index::stranger::Stranger;
use crate::finservice::testing;
use crate::finservice::testing::fake::Fake;
use crate::runtime::key::Key;

/// A FinService with every field, the longest name, and as many topics, with as long names, as there may be.
fn largest() -> FinService {
    let mut spec: Value = serde_norway::from_str(testing::RICH).expect("a spec");
    let topics = (0..64).map(|number| json!({"name": format!("{number:02}{}", "t".repeat(247))}));
    spec["data"]["topics"] = topics.collect();
    serde_json::from_value(json!({
        "apiVersion": "banyan.dev/v1alpha1", "kind": "FinService",
        "metadata": {"name": "s".repeat(40), "namespace": "n".repeat(63)}, "spec": spec,
    }))
    .expect("a FinService")
}

fn released_many_times(mut fake: Fake) {
    fake.everything_is_there();
    let given = Stranger { legacy_for: Some("n".repeat(63).into()), ..Stranger::default() };
    fake.index.stranger(Kind::Service, &Key::new("legacy", "monolith"), Some(given));
    // Far more often than a record is kept of anything.
    for release in 0..50 {
        // The longest that a release can be named.
        fake.spec("a release", "/version", json!(format!("{release:0128}")));
        fake.spec("of its own image", "/image", json!(format!("registry.example/{release:0400}")));
        for _ in 0..3 {
            fake.settle();
            fake.pods_become_ready();
            fake.pass(40);
        }
        let status = fake.status();
        assert_eq!(status.release.as_deref(), Some(format!("{release:0128}").as_str()), "{status:?}");
    }
}

#[test]
fn faults_8_2_the_largest_service_is_released_many_times() {
    released_many_times(Fake::of(largest(), testing::SITE));
}

#[test]
fn faults_8_2_the_shipped_example_is_released_many_times() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/finflow/transaction.yaml");
    let text = std::fs::read_to_string(path).expect("the example");
    let service = text.split("\n---").find(|document| document.contains("kind: FinService"));
    let service = serde_norway::from_str(service.expect("it is there")).expect("a FinService");
    released_many_times(Fake::of(service, testing::SITE));
}
