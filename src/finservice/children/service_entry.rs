//! Istio's ServiceEntries: hosts outside of the mesh that the service calls, and a legacy backend
//! outside of it.

use serde_json::{Value, json};

use super::routing::{LegacyBackend, legacy_backend};
use super::{Child, Kind, Scope};

/// Makes outside hosts known to the mesh, so that a mesh whose `outboundTrafficPolicy` is
/// `REGISTRY_ONLY` lets the service reach them and no others. Hosts with a wildcard have an entry of
/// their own, since they cannot be looked up.
pub fn build(scope: &Scope) -> Vec<Child> {
    let hosts = scope.spec.access.as_ref().and_then(|access| access.outbound.as_ref()?.hosts.as_ref());
    let (wild, plain): (Vec<&String>, Vec<&String>) =
        hosts.into_iter().flatten().partition(|host| host.starts_with('*'));
    let entry = |name: String, hosts: Value, port: Value, resolution: &str, visible: &[&str]| {
        let spec = json!({
            "hosts": hosts,
            "ports": [port],
            "location": "MESH_EXTERNAL",
            "resolution": resolution,
            "exportTo": visible,
        });
        scope.child(Kind::ServiceEntry, name, None, json!({"spec": spec}))
    };
    let tls = json!({"number": 443, "name": "tls", "protocol": "TLS"});
    let mut children = Vec::new();
    if !plain.is_empty() {
        children.push(entry(scope.name.to_owned(), json!(plain), tls.clone(), "DNS", &["."]));
    }
    // Dots keep these names apart from those of all FinServices, which are DNS labels.
    if !wild.is_empty() {
        children.push(entry(format!("{}.wildcard", scope.name), json!(wild), tls, "NONE", &["."]));
    }
    if let (Some(LegacyBackend::Host(host)), Some(legacy)) = (legacy_backend(scope), &scope.spec.legacy) {
        let port = json!({"number": legacy.port, "name": "http", "protocol": "HTTP"});
        // The gateway, which sends requests there, is mostly in another namespace; nobody else is to know the host.
        let gateway = scope.gateway_namespace().filter(|name| *name != scope.namespace);
        let visible: Vec<&str> = ["."].into_iter().chain(gateway).collect();
        children.push(entry(format!("{}.legacy", scope.name), json!([host]), port, "DNS", &visible));
    }
    children
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::network::{Access, Legacy, Outbound};
    use crate::finservice::testing;

    #[test]
    fn wildcards_and_legacy_hosts_have_entries_of_their_own() {
        let mut spec = testing::minimal();
        spec.access = Some(Access {
            outbound: Some(Outbound {
                hosts: Some(vec!["api.stripe.com".to_owned(), "*.swift.example".to_owned()]),
                ..Outbound::default()
            }),
            ..Access::default()
        });
        spec.legacy = Some(Legacy { host: "old.example".to_owned(), port: 8080, paths: None });
        let entries: Vec<(String, Value)> = build(&testing::scope(&spec))
            .into_iter()
            .map(|c| (c.name, c.body["spec"]["resolution"].clone()))
            .collect();
        let name = |suffix: &str| format!("{}{suffix}", testing::NAME);
        assert_eq!(
            entries,
            [(name(""), json!("DNS")), (name(".wildcard"), json!("NONE")), (name(".legacy"), json!("DNS"))]
        );
        // Faults 4.4: no other namespace of the mesh sees it.
        let seen_by = |spec: &crate::api::FinServiceSpec| {
            let entry = build(&testing::scope(spec)).pop().expect("that of the old backend");
            entry.body["spec"]["exportTo"].clone()
        };
        assert_eq!(seen_by(&spec), json!(["."]));
        spec.ingress = testing::rich().ingress;
        spec.ingress.as_mut().expect("an ingress").gateway = "edge/public".to_owned();
        assert_eq!(seen_by(&spec), json!([".", "edge"]));
    }
}
