//! Istio's DestinationRule of a revision: mTLS and circuit breaking toward its Service.

use serde_json::{Value, json};

use super::json::{filled, object};
use super::peer_authentication::strict;
use super::routing::{LegacyBackend, legacy_backend};
use super::service_entry::seen_by_gateway;
use super::{Child, Kind, Scope};
use crate::api::units;

/// The port of HTTP with TLS (RFC 9110).
const HTTPS: u16 = 443;
/// Envoy's own default for how long a pod is ejected.
const EJECTION_TIME: &str = "30s";
/// Envoy's own default for the share of pods, in percent, that may be ejected at once.
const EJECTION_PERCENT: i32 = 10;

/// The rule for the host of the revision's own Service; there are no subsets. None if the spec asks
/// for nothing: Istio then uses mTLS wherever the other side has it.
///
/// The limits are those of each calling proxy, as is Envoy's way, not of all callers together.
pub fn build(scope: &Scope, hash: &str) -> Option<Child> {
    rule(scope, scope.revision_name(hash), hash)
}

/// The same for the revision's direct Service ([`super::service::direct`]): a proxy counts its connections,
/// and ejects pods, for each of the two apart.
pub fn direct(scope: &Scope, hash: &str) -> Option<Child> {
    rule(scope, scope.direct_name(hash), hash)
}

/// The rule for an old backend outside of the cluster that is called with TLS: requests go there from the gateway, which has them
/// in the clear. None if there is no such backend.
pub fn legacy(scope: &Scope) -> Option<Child> {
    let (LegacyBackend::Host(host), Some(legacy)) = (legacy_backend(scope)?, &scope.spec.legacy) else {
        return None;
    };
    if !legacy.tls.unwrap_or(legacy.port == HTTPS) {
        return None;
    }
    let spec = json!({
        "host": host,
        "exportTo": seen_by_gateway(scope),
        "trafficPolicy": {"tls": {"mode": "SIMPLE", "sni": host, "subjectAltNames": [host]}},
    });
    Some(scope.child(Kind::DestinationRule, format!("{}.legacy", scope.name), None, json!({"spec": spec})))
}

/// The rule for a Service of the revision, under the same name.
fn rule(scope: &Scope, service: String, hash: &str) -> Option<Child> {
    let breaker = scope.spec.mesh.as_ref().and_then(|mesh| mesh.circuit_breaker.as_ref());
    let pool = breaker.and_then(|breaker| {
        let connections = breaker.max_connections.map(|max| json!({"maxConnections": max}));
        let pending = breaker.max_pending_requests.map(|max| json!({"http1MaxPendingRequests": max}));
        filled(object([("tcp", connections), ("http", pending)]))
    });
    let outliers = breaker.and_then(|breaker| {
        let five_hundreds = breaker.consecutive_5xx?;
        let time = breaker.ejection_time.as_deref().unwrap_or(EJECTION_TIME);
        let time = units::duration(time).filter(|time| !time.is_zero());
        Some(object([
            ("consecutive5xxErrors", Some(five_hundreds.into())),
            ("baseEjectionTime", time.map(|time| units::display(time).into())),
            ("maxEjectionPercent", Some(breaker.max_ejection_percent.unwrap_or(EJECTION_PERCENT).into())),
        ]))
    });
    let policy = filled(object([
        ("tls", strict(scope).then(|| json!({"mode": "ISTIO_MUTUAL"}))),
        ("connectionPool", pool),
        // Istio sends requests to the zone of the caller first as soon as pods can be ejected, and to others only where none
        // are left: the share of a revision would be that of its pods in the zone.
        ("loadBalancer", outliers.is_some().then(|| json!({"localityLbSetting": {"enabled": false}}))),
        ("outlierDetection", outliers),
    ]))?;
    let host: Value = scope.host(&service).into();
    Some(scope.child(
        Kind::DestinationRule,
        service,
        Some(hash),
        json!({"spec": {"host": host, "trafficPolicy": policy}}),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::network::{CircuitBreaker, Mesh};
    use crate::finservice::testing;

    #[test]
    fn faults_8_6_ejecting_pods_keeps_no_requests_in_the_callers_zone() {
        let policy = |breaker: CircuitBreaker| {
            let mut spec = testing::minimal();
            let provider = Some(crate::api::network::MeshProvider::Istio);
            spec.mesh = Some(Mesh { provider, circuit_breaker: Some(breaker), ..Mesh::default() });
            let child = build(&testing::scope(&spec), "bcdfghjklm").expect("a rule");
            child.body["spec"]["trafficPolicy"].clone()
        };
        let ejects = policy(CircuitBreaker { consecutive_5xx: Some(5), ..CircuitBreaker::default() });
        assert_eq!(ejects["outlierDetection"]["consecutive5xxErrors"], 5);
        assert_eq!(ejects["loadBalancer"], json!({"localityLbSetting": {"enabled": false}}));
        let bounds = policy(CircuitBreaker { max_connections: Some(9), ..CircuitBreaker::default() });
        assert_eq!(bounds.get("loadBalancer"), None, "who ejects nobody has nothing to say of zones");
    }
}
