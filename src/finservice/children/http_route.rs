//! Gateway API's HTTPRoutes.

use serde_json::{Value, json};

use super::json::{list, object};
use super::routing::{Routing, Target, legacy_service, split_paths};
use super::{Child, Kind, Scope};
use crate::api::finservice::Traffic;
use crate::api::units;

/// One HTTPRoute for each group of hosts of the ingress, from the gateway to the revisions' own
/// Services by weight. A legacy backend that is no Service is left out (see
/// [`legacy_service`]); one in another namespace needs a ReferenceGrant there.
pub fn build(scope: &Scope, routing: &Routing) -> Vec<Child> {
    if scope.spec.traffic() == Traffic::Pulled {
        return Vec::new();
    }
    let groups = routing.groups(scope);
    let routes = groups.iter().enumerate().filter_map(|(index, group)| {
        let (ingress, port) = (scope.spec.ingress.as_ref()?, scope.ingress_port()?);
        let (shared, rest) = split_paths(scope, &group.paths);
        let mut rules = Vec::new();
        for (paths, legacy) in [(shared, true), (rest, false)] {
            // A backend that cannot be named must not keep its share: those requests would fail.
            let legacy = legacy && matches!(legacy_service(scope), Ok(Some(_)));
            let shares = routing.shares(legacy);
            if !paths.is_empty() && !shares.is_empty() {
                rules.push(rule(scope, &paths, backends(scope, routing, &shares, &port.name)?));
            }
        }
        let (namespace, gateway) =
            ingress.gateway.split_once('/').unwrap_or((scope.namespace, &ingress.gateway));
        // A dot keeps these names apart from those of all FinServices, which are DNS labels.
        let name = match index {
            0 => scope.name.to_owned(),
            _ => format!("{}.{}", scope.name, index + 1),
        };
        let spec = json!({
            "parentRefs": [{
                "group": "gateway.networking.k8s.io",
                "kind": "Gateway",
                "namespace": namespace,
                "name": gateway,
            }],
            "hostnames": group.hosts,
            "rules": list(rules)?,
        });
        Some(scope.child(Kind::HTTPRoute, name, None, json!({"spec": spec})))
    });
    routes.collect()
}

fn rule(scope: &Scope, paths: &[String], backends: Value) -> Value {
    let timeout = scope.spec.mesh.as_ref().and_then(|mesh| mesh.timeout.as_deref()).and_then(units::duration);
    let matches = paths.iter().map(|path| json!({"path": {"type": "PathPrefix", "value": path}})).collect();
    object([
        ("matches", list(matches)),
        ("backendRefs", Some(backends)),
        // Zero is no limit. Written out, since implementations have limits of their own: Envoy's is
        // 15 s.
        ("timeouts", Some(json!({"request": units::display(timeout.unwrap_or_default())}))),
    ])
}

fn backends(scope: &Scope, routing: &Routing, shares: &[(Target, u8)], port: &str) -> Option<Value> {
    let backend = |(target, share): &(Target, u8)| match target {
        Target::Revision(hash) => Some(json!({
            "group": "",
            "kind": "Service",
            "name": scope.revision_name(hash),
            "port": routing.port_number(scope, hash, port)?,
            "weight": share,
        })),
        Target::Legacy => {
            let (namespace, name, port) = legacy_service(scope).ok()??;
            let elsewhere = (namespace != scope.namespace).then(|| namespace.into());
            Some(object([
                ("group", Some("".into())),
                ("kind", Some("Service".into())),
                ("name", Some(name.into())),
                ("namespace", elsewhere),
                ("port", Some(port.into())),
                ("weight", Some((*share).into())),
            ]))
        }
    };
    shares.iter().map(backend).collect::<Option<Vec<Value>>>().map(Value::Array)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finservice::children::Weights;
    use crate::finservice::testing;

    fn routed(spec: &crate::api::FinServiceSpec, legacy: u8) -> Value {
        let weights = Weights { revisions: vec![("aaaaaaaaaa".to_owned(), 100)], legacy };
        build(&testing::scope(spec), &Routing::new(None, &weights))[0].body["spec"].clone()
    }

    #[test]
    fn legacy_takes_its_share_from_its_own_namespace() {
        let spec = testing::rich();
        let backends = routed(&spec, 30)["rules"][0]["backendRefs"].clone();
        assert_eq!((&backends[0]["weight"], &backends[1]["weight"]), (&json!(70), &json!(30)));
        assert_eq!((&backends[1]["name"], &backends[1]["namespace"]), (&json!("monolith"), &json!("legacy")));
    }

    #[test]
    fn a_legacy_host_outside_gets_nothing_and_a_problem_says_so() {
        let mut spec = testing::rich();
        spec.legacy.as_mut().expect("legacy").host = "old.finflow.example".to_owned();
        assert_eq!(routed(&spec, 30)["rules"][0]["backendRefs"][0]["weight"], 100);
        assert!(legacy_service(&testing::scope(&spec)).is_err());
    }

    #[test]
    fn no_limit_is_written_as_none() {
        let mut spec = testing::rich();
        assert_eq!(routed(&spec, 0)["rules"][0]["timeouts"]["request"], "2s");
        spec.mesh.as_mut().expect("a mesh").timeout = None;
        assert_eq!(routed(&spec, 0)["rules"][0]["timeouts"]["request"], "0s");
    }
}
