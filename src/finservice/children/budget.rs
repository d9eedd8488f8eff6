//! The PodDisruptionBudget: how many pods of a revision a drain may take at once.

use serde_json::json;

use super::{Child, Kind, Scope};

/// The budget of a revision that is to have `replicas` pods; none below two, where a budget either
/// says nothing or blocks every drain.
///
/// A tenth of the pods, which Kubernetes rounds up, so that it is one pod up to ten and never zero.
/// A share does not change while an autoscaler works, and so costs no writes. It selects by
/// revision, so that no pod ever has two budgets, with which eviction fails.
pub fn build(scope: &Scope, hash: &str, replicas: i32) -> Option<Child> {
    (replicas >= 2).then(|| {
        scope.child(
            Kind::PodDisruptionBudget,
            scope.revision_name(hash),
            Some(hash),
            json!({"spec": {
                "maxUnavailable": "10%",
                "selector": {"matchLabels": scope.revision_labels(hash)},
                // A pod that is not Ready serves nobody: it must not hold up a drain.
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
            }}),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finservice::testing;

    #[test]
    fn a_drain_is_never_blocked() {
        let spec = testing::minimal();
        let scope = testing::scope(&spec);
        for replicas in [-1, 0, 1] {
            assert_eq!(build(&scope, "bcdfghjklm", replicas), None, "{replicas}");
        }
        let child = build(&scope, "bcdfghjklm", 2).expect("two pods have a budget");
        assert_eq!(child.body["spec"]["maxUnavailable"], "10%");
        assert_eq!(child.body["spec"].get("minAvailable"), None);
    }

    #[test]
    fn a_pod_has_one_budget() {
        let spec = testing::minimal();
        let scope = testing::scope(&spec);
        let selector = |hash| build(&scope, hash, 3).expect("a budget").body["spec"]["selector"].clone();
        assert_ne!(selector("bcdfghjklm"), selector("mlkjhgfdcb"));
        assert_eq!(selector("bcdfghjklm")["matchLabels"]["banyan.dev/revision"], "bcdfghjklm");
    }
}
