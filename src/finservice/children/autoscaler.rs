//! The HorizontalPodAutoscaler of a revision.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::{Value, json};

use super::json::{filled, object, text};
use super::{Child, Kind, Scope};
use crate::api::FinServiceSpec;
use crate::api::network::MeshProvider;
use crate::api::quantity;
use crate::api::workload::Scale;

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
            "metrics": metrics(scope, scale),
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

/// The resources that the number of pods follows, as Kubernetes and as people call them.
pub fn follows(spec: &FinServiceSpec) -> Vec<(&'static str, &'static str)> {
    let Some(scale) = spec.scale.as_ref().filter(|scale| scale.max.is_some()) else { return Vec::new() };
    let cpu = percent_of_cpu(scale).map(|_| ("cpu", "CPU"));
    cpu.into_iter().chain(scale.memory_percent.map(|_| ("memory", "memory"))).collect()
}

/// Unless something else says what is aimed at, CPU does.
fn percent_of_cpu(scale: &Scale) -> Option<i32> {
    let aims_elsewhere =
        scale.memory_percent.is_some() || scale.external.as_ref().is_some_and(|m| !m.is_empty());
    scale.cpu_percent.or((!aims_elsewhere).then_some(CPU_PERCENT))
}

/// What the number of pods follows: the greatest need counts.
fn metrics(scope: &Scope, scale: &Scale) -> Value {
    let cpu = percent_of_cpu(scale);
    let resource = |name: &str, percent: i32| {
        let target = json!({"type": "Utilization", "averageUtilization": percent});
        match scope.spec.provider() {
            // The proxy beside it has requests and use of its own, which say nothing of the service.
            MeshProvider::Istio => json!({
                "type": "ContainerResource",
                "containerResource": {"name": name, "container": scope.name, "target": target},
            }),
            MeshProvider::GatewayAPI | MeshProvider::None => {
                json!({"type": "Resource", "resource": {"name": name, "target": target}})
            }
        }
    };
    let external = scale.external.iter().flatten().map(|metric| {
        let value =
            |value: &Option<Quantity>| value.as_ref().and_then(|value| text(&quantity::canonical(&value.0)));
        let labels = metric.labels.as_ref().and_then(|labels| filled(json!(labels)));
        let target = object([
            ("type", text(if metric.value.is_some() { "Value" } else { "AverageValue" })),
            ("value", value(&metric.value)),
            ("averageValue", value(&metric.average_value)),
        ]);
        let selector = labels.map(|labels| json!({"matchLabels": labels}));
        let metric = object([("name", text(&metric.name)), ("selector", selector)]);
        json!({"type": "External", "external": {"metric": metric, "target": target}})
    });
    let of_pods =
        [cpu.map(|percent| resource("cpu", percent)), scale.memory_percent.map(|p| resource("memory", p))];
    of_pods.into_iter().flatten().chain(external).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::operations::Placement;
    use crate::finservice::testing;

    #[test]
    fn a_fixed_number_needs_no_autoscaler() {
        let mut spec = testing::minimal();
        assert_eq!(build(&testing::scope(&spec), "bcdfghjklm", None), None);
        spec.scale = Some(Scale { replicas: Some(3), ..Scale::default() });
        assert_eq!(build(&testing::scope(&spec), "bcdfghjklm", None), None);
    }

    /// Row 6.7: a proxy's own use of its own request says nothing of the service.
    #[test]
    fn faults_6_7_beside_a_proxy_the_services_own_container_counts() {
        let spec = testing::rich();
        let child = build(&testing::scope(&spec), "bcdfghjklm", None).expect("an autoscaler");
        let metrics = &child.body["spec"]["metrics"];
        let of_container = &metrics[0]["containerResource"];
        assert_eq!(
            (&of_container["name"], &of_container["container"]),
            (&json!("cpu"), &json!(testing::NAME))
        );
        assert_eq!(metrics[1]["containerResource"]["target"]["averageUtilization"], 80);
        assert_eq!(
            metrics[2]["external"],
            json!({"metric": {"name": "queue_length", "selector": {"matchLabels": {"queue": "payments"}}},
                "target": {"type": "AverageValue", "averageValue": "30"}})
        );
    }

    #[test]
    fn cpu_is_followed_unless_something_else_is() {
        let mut spec = testing::minimal();
        let kinds = |spec: &crate::api::FinServiceSpec| {
            let child = build(&testing::scope(spec), "bcdfghjklm", None).expect("an autoscaler");
            let metrics = child.body["spec"]["metrics"].as_array().cloned().unwrap_or_default();
            metrics.iter().map(|metric| metric["resource"]["name"].clone()).collect::<Vec<_>>()
        };
        spec.scale = Some(Scale { min: Some(1), max: Some(3), ..Scale::default() });
        assert_eq!(kinds(&spec), ["cpu"]);
        spec.scale = Some(Scale { min: Some(1), max: Some(3), memory_percent: Some(80), ..Scale::default() });
        assert_eq!(kinds(&spec), ["memory"]);
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
