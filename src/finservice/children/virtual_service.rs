//! Istio's VirtualServices: requests to the plain name, and requests from the outside, go to the
//! revisions' own Services by weight.

use serde_json::{Value, json};

use super::json::{list, object, text};
use super::routing::{HostGroup, LegacyBackend, Routing, Target, legacy_backend, split_paths};
use super::{Child, Kind, Scope};
use crate::api::finservice::Traffic;
use crate::api::units;
use crate::api::workload::Protocol;

/// What is retried unless the spec says otherwise: failures before the request reached the service.
const RETRY_ON: &str = "connect-failure,refused-stream";

/// The VirtualServices: one on the plain name for callers in the mesh, and one for each group of
/// hosts at the ingress gateway.
///
/// They are apart since FinServices may share a host: Istio merges VirtualServices of one host at a
/// gateway, but not in the sidecars. None is made while there is nowhere to send anything, nor for
/// a service that fetches its work.
pub fn build(scope: &Scope, routing: &Routing) -> Vec<Child> {
    if scope.spec.traffic() == Traffic::Pulled {
        return Vec::new();
    }
    let mut children: Vec<Child> = in_mesh(scope, routing).into_iter().collect();
    let groups = routing.groups(scope);
    children.extend(
        groups.iter().enumerate().filter_map(|(index, group)| at_gateway(scope, routing, group, index)),
    );
    children
}

fn in_mesh(scope: &Scope, routing: &Routing) -> Option<Child> {
    let shares = routing.shares(false);
    if shares.is_empty() {
        return None;
    }
    let (mut http, mut tcp) = (Vec::new(), Vec::new());
    for port in routing.plain_ports(scope) {
        let route = destinations(scope, routing, &shares, &port.name)?;
        let matches = json!([{"port": port.port}]);
        match port.protocol() {
            Protocol::TCP => tcp.push(json!({"match": matches, "route": route})),
            _ => http.push(http_rule(scope, matches, route)),
        }
    }
    if http.is_empty() && tcp.is_empty() {
        return None;
    }
    let spec = object([
        ("hosts", Some(json!([scope.host(scope.name)]))),
        ("gateways", Some(json!(["mesh"]))),
        ("http", list(http)),
        ("tcp", list(tcp)),
    ]);
    Some(scope.child(Kind::VirtualService, scope.name.to_owned(), None, json!({"spec": spec})))
}

fn at_gateway(scope: &Scope, routing: &Routing, group: &HostGroup, index: usize) -> Option<Child> {
    let (ingress, port) = (scope.spec.ingress.as_ref()?, scope.ingress_port()?);
    let (shared, rest) = split_paths(scope, &group.paths);
    let mut rules = Vec::new();
    // Istio takes the first rule that matches: the legacy backend's paths are the more specific ones.
    for (mut paths, legacy) in [(shared, true), (rest, false)] {
        let shares = routing.shares(legacy);
        if paths.is_empty() || shares.is_empty() {
            continue;
        }
        paths.sort_by_key(|path| std::cmp::Reverse(path.len()));
        let route = destinations(scope, routing, &shares, &port.name)?;
        rules.push(http_rule(scope, paths.iter().flat_map(|path| path_matches(path)).collect(), route));
    }
    let gateway = if ingress.gateway.contains('/') {
        ingress.gateway.clone()
    } else {
        format!("{}/{}", scope.namespace, ingress.gateway)
    };
    // A dot keeps these names apart from those of all FinServices, which are DNS labels.
    let name = match index {
        0 => format!("{}.ingress", scope.name),
        _ => format!("{}.ingress-{}", scope.name, index + 1),
    };
    let spec = json!({"hosts": group.hosts, "gateways": [gateway], "http": list(rules)?});
    Some(scope.child(Kind::VirtualService, name, None, json!({"spec": spec})))
}

/// A prefix that ends at a slash, as Gateway API understands prefixes; Istio's `prefix` alone would
/// send `/payments` to who asked for `/pay`.
fn path_matches(path: &str) -> Vec<Value> {
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() {
        return vec![json!({"uri": {"prefix": "/"}})];
    }
    vec![json!({"uri": {"exact": trimmed}}), json!({"uri": {"prefix": format!("{trimmed}/")}})]
}

fn http_rule(scope: &Scope, matches: Value, route: Value) -> Value {
    let mesh = scope.spec.mesh.clone().unwrap_or_default();
    let retries = mesh.retries.unwrap_or_default();
    let retries = if retries.attempts == 0 {
        // Written out: Istio retries twice where nothing is said.
        json!({"attempts": 0})
    } else {
        object([
            ("attempts", Some(retries.attempts.into())),
            ("perTryTimeout", retries.per_try_timeout.as_deref().and_then(duration)),
            ("retryOn", text(retries.on.as_deref().unwrap_or(RETRY_ON))),
        ])
    };
    object([
        ("match", Some(matches)),
        ("route", Some(route)),
        ("timeout", mesh.timeout.as_deref().and_then(duration)),
        ("retries", Some(retries)),
    ])
}

/// A duration in Istio's form; zero, which Istio refuses here, means the same as none.
fn duration(text: &str) -> Option<Value> {
    units::duration(text).filter(|d| !d.is_zero()).map(|d| units::display(d).into())
}

fn destinations(scope: &Scope, routing: &Routing, shares: &[(Target, u8)], port: &str) -> Option<Value> {
    let destination = |target: &Target| match target {
        Target::Revision(hash) => {
            let number = routing.port_number(scope, hash, port)?;
            Some(json!({"host": scope.host(&scope.revision_name(hash)), "port": {"number": number}}))
        }
        Target::Legacy => {
            let host = match legacy_backend(scope)? {
                LegacyBackend::Service(namespace, name) => format!("{name}.{namespace}.svc.cluster.local"),
                LegacyBackend::Host(host) => host,
            };
            Some(json!({"host": host, "port": {"number": scope.spec.legacy.as_ref()?.port}}))
        }
    };
    shares
        .iter()
        .map(|(target, share)| Some(json!({"destination": destination(target)?, "weight": share})))
        .collect::<Option<Vec<Value>>>()
        .map(Value::Array)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::network::Retries;
    use crate::finservice::children::Weights;
    use crate::finservice::testing;

    fn weights() -> Weights {
        Weights { revisions: vec![("aaaaaaaaaa".to_owned(), 90), ("bbbbbbbbbb".to_owned(), 10)], legacy: 0 }
    }

    #[test]
    fn retries_are_off_unless_asked() {
        let mut spec = testing::rich();
        let rule = |spec: &crate::api::FinServiceSpec| {
            build(&testing::scope(spec), &Routing::new(None, &weights()))[0].body["spec"]["http"][0]["retries"].clone()
        };
        spec.mesh.as_mut().expect("a mesh").retries = None;
        assert_eq!(rule(&spec), json!({"attempts": 0}));
        spec.mesh.as_mut().expect("a mesh").retries = Some(Retries { attempts: 2, ..Retries::default() });
        assert_eq!(rule(&spec), json!({"attempts": 2, "retryOn": RETRY_ON}));
    }

    #[test]
    fn prefixes_do_not_swallow_their_neighbours() {
        assert_eq!(
            path_matches("/pay"),
            [json!({"uri": {"exact": "/pay"}}), json!({"uri": {"prefix": "/pay/"}})]
        );
        assert_eq!(path_matches("/pay/"), path_matches("/pay"));
        assert_eq!(path_matches("/"), [json!({"uri": {"prefix": "/"}})]);
    }

    #[test]
    fn a_route_without_a_target_is_not_made() {
        let spec = testing::rich();
        assert_eq!(build(&testing::scope(&spec), &Routing::new(None, &Weights::default())), []);
    }

    #[test]
    fn callers_in_the_mesh_never_reach_the_legacy_backend() {
        let spec = testing::rich();
        let mut weights = weights();
        weights.legacy = 40;
        let children = build(&testing::scope(&spec), &Routing::new(None, &weights));
        assert!(!children[0].body.to_string().contains("monolith"));
        assert!(children[1].body.to_string().contains("monolith"));
    }
}
