//! The HorizontalPodAutoscaler of a revision.

use serde_json::json;

use super::{Child, Kind, Scope};

/// Average CPU, in percent of the request, that is aimed at unless the spec says otherwise.
const CPU_PERCENT: i32 = 70;

/// The autoscaler of a revision; none where the number of pods is fixed.
///
/// `least` is its lower bound in pods instead of the spec's, at least one and at most what the upper bound
/// is: while two revisions serve, each of them needs another.
pub fn build(scope: &Scope, hash: &str, least: Option<i32>) -> Option<Child> {
    let scale = scope.spec.scale.as_ref()?;
    let (min, max) = (scale.min?, scale.max?);
    let max = max.max(min);
    let min = least.map_or(min, |least| least.min(max).max(1));
    Some(scope.child(
        Kind::HorizontalPodAutoscaler,
        scope.revision_name(hash),
        Some(hash),
        json!({"spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": scope.revision_name(hash)},
            "minReplicas": min,
            "maxReplicas": max,
            "metrics": [{
                "type": "Resource",
                "resource": {
                    "name": "cpu",
                    "target": {
                        "type": "Utilization",
                        "averageUtilization": scale.cpu_percent.unwrap_or(CPU_PERCENT),
                    },
                },
            }],
            "behavior": {
                // Up at once, as fast as Kubernetes does by default.
                "scaleUp": {
                    "stabilizationWindowSeconds": 0,
                    "selectPolicy": "Max",
                    "policies": [
                        {"type": "Pods", "value": 4, "periodSeconds": 15},
                        {"type": "Percent", "value": 100, "periodSeconds": 15},
                    ],
                },
                // Down slowly: Kubernetes' default would drop every pod above the need in one go, and
                // the next wave of requests would meet cold ones.
                "scaleDown": {
                    "stabilizationWindowSeconds": 300,
                    "selectPolicy": "Max",
                    "policies": [{"type": "Percent", "value": 10, "periodSeconds": 60}],
                },
            },
        }}),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::operations::Placement;
    use crate::api::workload::Scale;
    use crate::finservice::testing;

    #[test]
    fn a_fixed_number_needs_no_autoscaler() {
        let mut spec = testing::minimal();
        assert_eq!(build(&testing::scope(&spec), "bcdfghjklm", None), None);
        spec.scale = Some(Scale { replicas: Some(3), ..Scale::default() });
        assert_eq!(build(&testing::scope(&spec), "bcdfghjklm", None), None);
    }

    #[test]
    fn a_standby_is_smaller_and_may_grow_as_large() {
        let mut spec = testing::minimal();
        spec.scale = Some(Scale { min: Some(3), max: Some(30), ..Scale::default() });
        let placement =
            |cluster: &str, capacity_percent| Placement { cluster: cluster.to_owned(), capacity_percent };
        spec.placement = Some(vec![placement(testing::SITE, Some(50)), placement("elsewhere", None)]);
        let spec = crate::finservice::plan::placement::effective(&spec, testing::SITE, None);
        let child = build(&testing::scope(&spec), "bcdfghjklm", None).expect("an autoscaler");
        assert_eq!(
            (&child.body["spec"]["minReplicas"], &child.body["spec"]["maxReplicas"]),
            (&json!(2), &json!(30))
        );
    }

    #[test]
    fn the_lower_bound_can_be_another_and_never_passes_the_upper() {
        let mut spec = testing::minimal();
        spec.scale = Some(Scale { min: Some(3), max: Some(30), ..Scale::default() });
        let bounds = |least| {
            let child = build(&testing::scope(&spec), "bcdfghjklm", least).expect("an autoscaler");
            (child.body["spec"]["minReplicas"].clone(), child.body["spec"]["maxReplicas"].clone())
        };
        for (least, min) in [(None, 3), (Some(12), 12), (Some(1), 1), (Some(0), 1), (Some(99), 30)] {
            assert_eq!(bounds(least), (json!(min), json!(30)), "{least:?}");
        }
    }
}
