//! Who may create objects in one namespace gains nothing elsewhere by way of the operator: what the chart and the API server
//! do for that. docs/security.md names the other tests.

use serde_json::{Value, json};

use super::chart::{SITE, find, objects};

/// Faults 4.2: what tenants name is asked from within a NetworkPolicy, and what the installer lists gets through it.
#[tokio::test]
async fn faults_4_2_the_operator_is_behind_a_policy_that_lets_out_what_is_listed() {
    let policy =
        |objects: &[Value]| find(objects, "NetworkPolicy", "banyan").unwrap()["spec"]["egress"].clone();
    let out = policy(&objects(&[SITE]).await);
    assert!(!out.to_string().contains("9090"), "{out}");
    let listed = "evidence.allow={prometheus.monitoring:9090,10.1.0.0/16:9091,*.finflow.example}";
    let metrics = "evidence.gatewayMetrics={http://envoy.projectcontour:8002/stats/prometheus}";
    let objects = objects(&[SITE, listed, metrics]).await;
    let port = |port: u16| json!({"port": port, "protocol": "TCP"});
    let out = policy(&objects);
    assert!(
        out.as_array().unwrap().contains(&json!({"ports": [port(9090), port(9091), port(8002)]})),
        "{out}"
    );
    let deployment = find(&objects, "Deployment", "banyan").unwrap().to_string();
    let value = r#"{"name":"BANYAN_EVIDENCE_ALLOW","value":"prometheus.monitoring:9090,10.1.0.0/16:9091,*.finflow.example"}"#;
    assert!(deployment.contains(value), "{deployment}");
}
