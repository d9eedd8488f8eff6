//! Istio's PeerAuthentication: whether callers must present a certificate of the mesh.

use serde_json::json;

use super::{Child, Kind, Scope};
use crate::api::network::Mtls;

/// Whether callers must present a certificate: as the spec says, else they must unless the monolith,
/// which has none, still takes part.
pub fn strict(scope: &Scope) -> bool {
    let asked = scope.spec.mesh.as_ref().and_then(|mesh| mesh.mtls);
    let default = if scope.spec.legacy.is_some() { Mtls::Permissive } else { Mtls::Strict };
    asked.unwrap_or(default) == Mtls::Strict
}

/// The policy for the pods of the service. A metrics port that serves nothing else takes plain
/// connections too, so that a scraper outside of the mesh reaches it.
pub fn build(scope: &Scope) -> Child {
    let mode = if strict(scope) { "STRICT" } else { "PERMISSIVE" };
    let mut spec = json!({
        "selector": {"matchLabels": scope.service_labels()},
        "mtls": {"mode": mode},
    });
    if let Some(port) = scope.own_metrics_port() {
        spec["portLevelMtls"] = json!({port.port.to_string(): {"mode": "PERMISSIVE"}});
    }
    scope.child(Kind::PeerAuthentication, scope.name.to_owned(), None, json!({"spec": spec}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::operations::{Metrics, Observability};
    use crate::api::workload::Port;
    use crate::finservice::testing;

    #[test]
    fn certificates_are_asked_for_unless_the_monolith_takes_part() {
        let mut spec = testing::rich();
        let mode = |spec: &crate::api::FinServiceSpec| {
            build(&testing::scope(spec)).body["spec"]["mtls"]["mode"].clone()
        };
        assert_eq!(mode(&spec), "PERMISSIVE");
        spec.legacy = None;
        spec.mesh.as_mut().expect("a mesh").mtls = None;
        assert_eq!(mode(&spec), "STRICT");
        spec.mesh.as_mut().expect("a mesh").mtls = Some(Mtls::Permissive);
        assert_eq!(mode(&spec), "PERMISSIVE");
    }

    #[test]
    fn only_a_metrics_port_of_its_own_is_left_out() {
        let mut spec = testing::minimal();
        let port = |name: &str, port| Port { name: name.to_owned(), port, protocol: None, ..Port::default() };
        spec.ports = vec![port("http", 8080), port("metrics", 9090)];
        let metrics = |port: &str| {
            let metrics = Metrics { port: port.to_owned(), ..Metrics::default() };
            Some(Observability { metrics: Some(metrics), ..Observability::default() })
        };
        spec.observability = metrics("metrics");
        assert_eq!(
            build(&testing::scope(&spec)).body["spec"]["portLevelMtls"],
            json!({"9090": {"mode": "PERMISSIVE"}})
        );
        spec.observability = metrics("http");
        assert_eq!(build(&testing::scope(&spec)).body["spec"].get("portLevelMtls"), None);
    }
}
