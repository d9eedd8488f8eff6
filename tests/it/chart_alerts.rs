//! The alerts of the chart, as Helm renders them.

use serde_json::Value;

use crate::chart::{SITE, find, objects};

const ENABLED: &str = "metrics.prometheusRule.enabled=true";

/// Each rule of the PrometheusRule.
fn rules(objects: &[Value]) -> Vec<Value> {
    let groups = &find(objects, "PrometheusRule", "banyan").unwrap()["spec"]["groups"];
    groups.as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

#[tokio::test]
async fn alerts_are_those_of_the_file_with_links_to_where_the_pages_are() {
    let text = include_str!("../../charts/banyan/files/alerts.yaml");
    let file: Value = serde_norway::from_str(text).unwrap();
    let plain = objects(&[SITE, "crds.install=false", ENABLED]).await;
    assert_eq!(find(&plain, "PrometheusRule", "banyan").unwrap()["spec"], file);
    let values = [
        SITE,
        "crds.install=false",
        ENABLED,
        "metrics.prometheusRule.runbooks=https://wiki.example/banyan/",
        "metrics.prometheusRule.labels.release=monitoring",
    ];
    let linked = objects(&values).await;
    let rules = rules(&linked);
    assert!(rules.len() >= 12);
    for rule in &rules {
        let link = rule["annotations"]["runbook_url"].as_str().unwrap();
        assert!(link.starts_with("https://wiki.example/banyan/") && link.ends_with(".md"), "{link}");
    }
    let labels = &find(&linked, "PrometheusRule", "banyan").unwrap()["metadata"]["labels"];
    assert_eq!(labels["release"], "monitoring");
    let without = objects(&[SITE, "crds.install=false"]).await;
    assert!(find(&without, "PrometheusRule", "banyan").is_none());
}

/// Two names for one thing in a metric would hide what is stuck behind the operator's own namespace.
#[tokio::test]
async fn scrapes_keep_the_namespace_of_what_is_stuck() {
    let objects = objects(&[SITE, "crds.install=false", "metrics.serviceMonitor.enabled=true"]).await;
    let monitor = find(&objects, "ServiceMonitor", "banyan").unwrap();
    assert_eq!(monitor["spec"]["endpoints"][0]["honorLabels"], true);
}
