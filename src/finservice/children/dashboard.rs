//! The Grafana dashboard, in a ConfigMap that Grafana's sidecar finds by its label.

use serde_json::{Value, json};

use super::metric_source::MetricSource;
use super::{Child, Kind, Scope};
use crate::finservice::plan::revision::letters;

/// The dashboard of a service that is watched, or that promises something; none for others.
///
/// The name has a dot and so is never that of a ConfigMap which the service calls its own.
pub fn build(scope: &Scope) -> Option<Child> {
    if scope.spec.observability.is_none() && scope.spec.slo.is_none() {
        return None;
    }
    // Grafana's sidecar writes those of all namespaces into one folder, and neither name has a dot.
    let file = format!("{}.{}.json", scope.namespace, scope.name);
    let mut child = scope.child(
        Kind::ConfigMap,
        format!("{}.dashboard", scope.name),
        None,
        json!({"data": {file: dashboard(scope).to_string()}}),
    );
    child.body["metadata"]["labels"]["grafana_dashboard"] = "1".into();
    Some(child)
}

fn dashboard(scope: &Scope) -> Value {
    let source = MetricSource::of(scope);
    let window = "$__rate_interval";
    let (by_revision, revision) = source.by_revision(window);
    let pods = format!(r#"namespace="{}",pod=~"{}-[b-z2-9]{{10}}-.*""#, scope.namespace, scope.name);
    let container = format!(r#"{pods},container="{}""#, scope.name);
    let slo =
        |record: &str| format!(r#"{record}{{namespace="{}",service="{}"}}"#, scope.namespace, scope.name);
    let mut panels = vec![
        panel("Requests", "reqps", &[(source.requests(window), "requests")]),
        panel(
            "Errors",
            "percentunit",
            &[(format!("{} / {}", source.errors(window), source.requests(window)), "errors")],
        ),
        panel(
            "Latency",
            "s",
            &[
                (source.quantile("0.5", window), "p50"),
                (source.quantile("0.95", window), "p95"),
                (source.quantile("0.99", window), "p99"),
            ],
        ),
        panel("Requests by revision", "reqps", &[(by_revision, revision)]),
        panel(
            "CPU of the request",
            "percentunit",
            &[(
                format!(
                    r#"sum by (pod) (rate(container_cpu_usage_seconds_total{{{container}}}[{window}])) / sum by (pod) (kube_pod_container_resource_requests{{{container},resource="cpu"}})"#
                ),
                "{{pod}}",
            )],
        ),
        panel(
            "Memory of the limit",
            "percentunit",
            &[(
                format!(
                    r#"sum by (pod) (container_memory_working_set_bytes{{{container}}}) / sum by (pod) (kube_pod_container_resource_limits{{{container},resource="memory"}})"#
                ),
                "{{pod}}",
            )],
        ),
        panel(
            "Pods Ready by revision",
            "short",
            &[(
                format!(
                    r#"kube_deployment_status_replicas_ready{{namespace="{}",deployment=~"{}-[b-z2-9]{{10}}"}}"#,
                    scope.namespace, scope.name
                ),
                "{{deployment}}",
            )],
        ),
    ];
    if scope.spec.slo.is_some() {
        panels.push(panel(
            "Error budget left",
            "percentunit",
            &[(slo("banyan:slo_error_budget_remaining:ratio"), "{{slo}}")],
        ));
    }
    for (index, panel) in panels.iter_mut().enumerate() {
        panel["id"] = (index + 1).into();
        panel["gridPos"] = json!({"h": 8, "w": 12, "x": 12 * (index % 2), "y": 8 * (index / 2)});
    }
    // Grafana takes identifiers of at most 40 characters, and finds the same dashboard by them again.
    let identity = letters(format!("{}/{}", scope.namespace, scope.name).as_bytes(), 20);
    json!({
        "uid": format!("banyan-{identity}"),
        "title": format!("{} / {}", scope.namespace, scope.name),
        "tags": ["banyan", scope.spec.owner],
        "schemaVersion": 39,
        "editable": false,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [{
            "name": "datasource",
            "label": "Data source",
            "type": "datasource",
            "query": "prometheus",
        }]},
        "panels": panels,
    })
}

fn panel(title: &str, unit: &str, queries: &[(String, &str)]) -> Value {
    let source = json!({"type": "prometheus", "uid": "${datasource}"});
    let targets: Vec<Value> = queries
        .iter()
        .zip('A'..='Z')
        .map(|((expr, legend), id)| {
            json!({"refId": id.to_string(), "datasource": source, "expr": expr, "legendFormat": legend})
        })
        .collect();
    json!({
        "title": title,
        "type": "timeseries",
        "datasource": source,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": targets,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finservice::testing;

    #[test]
    fn a_dashboard_is_json_that_grafana_finds() {
        let spec = testing::rich();
        let child = build(&testing::scope(&spec)).expect("a dashboard");
        assert_eq!(child.body["metadata"]["labels"]["grafana_dashboard"], "1");
        let data = child.body["data"].as_object().expect("data");
        let text = data.values().next().and_then(Value::as_str).expect("a file");
        let dashboard: Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(dashboard["panels"].as_array().map(Vec::len), Some(8));
        assert!(dashboard["uid"].as_str().is_some_and(|uid| uid.len() <= 40));
    }

    #[test]
    fn faults_4_10_no_two_services_have_one_file() {
        let spec = testing::rich();
        let file = |namespace: &str, name: &str| {
            let child = build(&Scope { namespace, name, ..testing::scope(&spec) }).expect("a dashboard");
            child.body["data"].as_object().expect("data").keys().next().cloned().expect("a file")
        };
        assert_ne!(file("a", "b-c"), file("a-b", "c"));
    }

    #[test]
    fn who_is_not_watched_has_none() {
        let spec = testing::minimal();
        assert_eq!(build(&testing::scope(&spec)), None);
    }
}
