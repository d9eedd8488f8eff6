//! Whether a Failover could learn from the cloud that no node of its source is left: a warning, and never more.

use serde_json::json;

use super::tests::{authority, change_spec, decided, well};
use super::*;
use crate::api::conditions::State;
use crate::clouds::nodes::Other;
use crate::failovergroup::index::PoolsAsked;

fn found(seen: &Observed) -> Option<Found> {
    decided(seen).checks.into_iter().find(|found| found.name == "nodes of aws")
}

/// A group whose source is `aws`, of whose cloud that is known.
fn asks(mode: &str, known: Option<Result<Option<Other>, Other>>) -> Observed {
    let mut seen = well();
    change_spec(&mut seen, |spec| spec["fence"] = json!({"nodePools": mode}));
    seen.asked.pools = known.map(|found| PoolsAsked { site: "aws".to_owned(), found });
    seen
}

#[test]
fn a_cloud_that_cannot_be_asked_is_a_warning_with_what_to_do() {
    assert_eq!(found(&well()), None, "the group asks for nothing");
    let right = || {
        Other::new("Amazon EC2 says: the credentials may not do this (403)", "allow ec2:DescribeInstances")
    };
    let never = || Other::new("it is an Autopilot cluster", "say so");
    let cases = [
        (None, CheckState::Warning, "NotAsked", "wait some seconds"),
        (Some(Err(right())), CheckState::Warning, "NodesNotTold", "allow ec2:DescribeInstances"),
        (Some(Ok(Some(never()))), CheckState::Warning, "NeverConfirmed", "say so"),
        (Some(Ok(None)), CheckState::Passed, "NodesTold", ""),
    ];
    for (known, state, reason, remedy) in cases {
        let seen = asks("Confirm", known);
        let check = found(&seen).expect("it is checked");
        assert_eq!((check.state, check.reason, check.remedy.as_str()), (state, reason, remedy));
        assert_eq!(decided(&seen).standing.ready.state, State::True, "a person can say so instead");
    }
}

#[test]
fn whether_nodes_may_be_scaled_is_not_promised_and_what_is_known_of_another_site_is_nothing() {
    let seen = asks("Stop", Some(Ok(None)));
    assert!(found(&seen).is_some_and(|check| check.message.contains("is seen only then")));
    let mut seen = asks("Confirm", Some(Ok(None)));
    seen.asked.pools.as_mut().expect("it was asked").site = "azure".to_owned();
    assert!(found(&seen).is_some_and(|check| check.reason == "NotAsked"));
    // Who has authority asks nobody about itself.
    let mut seen = asks("Confirm", None);
    seen.knowledge.own = Some(authority("gcp"));
    assert!(decided(&seen).checks.iter().all(|check| !check.name.starts_with("nodes of")));
}
