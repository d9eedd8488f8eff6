//! The status of a CloudCluster, from the decision. Pure.

use jiff::Timestamp;

use super::decide::Decision;
use super::index::Site;
use crate::api::CloudClusterStatus;
use crate::api::conditions;

/// The status that follows.
pub fn status(site: &Site, decision: Decision, now: Timestamp) -> CloudClusterStatus {
    let (old, generation) = (site.status.as_ref(), site.metadata.generation);
    let current = old.map(|status| status.conditions.as_slice()).unwrap_or_default();
    CloudClusterStatus {
        observed_generation: generation,
        conditions: decision.standing.conditions(current, generation, now),
        problems: decision.problems,
        // The last that is known.
        version: decision.version.or_else(|| old.and_then(|status| status.version.clone())),
    }
}

/// Whether two statuses say the same.
pub fn same(one: &CloudClusterStatus, other: &CloudClusterStatus) -> bool {
    let plain = |status: &CloudClusterStatus| CloudClusterStatus { conditions: Vec::new(), ..status.clone() };
    conditions::same(&one.conditions, &other.conditions) && plain(one) == plain(other)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::api::schema::beyond_bounds;
    use crate::cloudcluster::decide::decide;
    use crate::cloudcluster::index::Reached;
    use crate::cloudcluster::observe::{Observed, Way};
    use crate::cloudcluster::peer_error::PeerError;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn site(spec: Value, status: Option<CloudClusterStatus>) -> Arc<Site> {
        let object = json!({"metadata": {"name": "gcp"}, "spec": spec});
        let site = Site::read(serde_json::from_value(object).expect("an object"));
        Arc::new(Site { status, ..site })
    }

    fn after(spec: Value, way: Way, old: Option<CloudClusterStatus>, second: i64) -> CloudClusterStatus {
        let site = site(spec, old);
        let decision = decide(&Observed { site: Arc::clone(&site), way }).expect("something is to be said");
        let status = status(&site, decision, at(second));
        assert_eq!(beyond_bounds("CloudCluster", &status), Vec::<String>::new());
        status
    }

    fn words(status: &CloudClusterStatus) -> Vec<String> {
        status.conditions.iter().map(|c| format!("{}={} {}", c.type_, c.status, c.reason)).collect()
    }

    #[test]
    fn a_status_says_what_is_served_and_settles() {
        let own = || Way::Own("v1.36.3".to_owned());
        let first = after(json!({"residency": ["US"]}), own(), None, 100);
        assert!(first.conditions[0].message.ends_with("it serves data of US"));
        let again = after(json!({"residency": ["US"]}), own(), Some(first.clone()), 200);
        assert_eq!(again, first, "nothing changes while nothing happens");
        assert!(same(&again, &first));
    }

    #[test]
    fn what_cannot_be_read_of_the_own_site_is_told_and_the_rest_is_followed() {
        let own = Way::Own("v1.36.3".to_owned());
        let status = after(json!({"residency": ["US", "APAC"]}), own, None, 100);
        assert_eq!(
            words(&status),
            ["Ready=True OwnSite", "Reconciling=False Settled", "Stalled=True Unreadable"]
        );
        assert_eq!(status.problems[0].source, "spec.residency[1]");
        assert!(status.problems[0].message.contains("APAC"), "{:?}", status.problems);
    }

    #[test]
    fn a_peer_that_falls_silent_is_working_on_it_and_one_without_a_way_needs_a_person() {
        let reached = |reached: Reached, old: Option<&CloudClusterStatus>, second| {
            let spec = json!({"kubeconfig": {"secretRef": {"name": "gcp"}}});
            after(spec, Way::Peer(Some(reached)), old.cloned(), second)
        };
        let well = reached(Ok(Some("v1.36.3".to_owned())), None, 100);
        assert_eq!(
            words(&well),
            ["Ready=True Reachable", "Reconciling=False Settled", "Stalled=False NoProblem"]
        );
        assert_eq!(reached(Ok(None), Some(&well), 200), well, "nothing changes while nothing happens");
        let timeout = PeerError::timeout(std::time::Duration::from_secs(5));
        let silent = reached(Err(timeout), Some(&well), 300);
        assert_eq!(
            words(&silent),
            ["Ready=False NoAnswer", "Reconciling=True NoAnswer", "Stalled=False NoProblem"]
        );
        assert_eq!(silent.version.as_deref(), Some("v1.36.3"));
        let lost = reached(Err(PeerError::NoWay("gcp".into())), Some(&well), 400);
        assert_eq!(words(&lost)[2], "Stalled=True NoKubeconfig");
    }

    #[test]
    fn what_cannot_be_read_of_a_peer_is_told_too() {
        let spec = json!({"residency": ["US", "APAC"], "kubeconfig": {"secretRef": {"name": "gcp"}}});
        let peer = |reached| words(&after(spec.clone(), Way::Peer(reached), None, 100));
        assert_eq!(peer(None)[2], "Stalled=True Unreadable");
        assert_eq!(
            peer(Some(Ok(Some("v1.36.3".to_owned())))),
            ["Ready=True Reachable", "Reconciling=False Settled", "Stalled=True Unreadable"]
        );
        // Who cannot be reached at all is told of first.
        assert_eq!(peer(Some(Err(PeerError::NoWay("gcp".into()))))[2], "Stalled=True NoKubeconfig");
    }

    #[test]
    fn of_a_peer_that_nobody_asked_nothing_is_said() {
        let site = site(json!({"kubeconfig": {"secretRef": {"name": "gcp"}}}), None);
        assert_eq!(decide(&Observed { site, way: Way::Peer(None) }), None);
    }
}
