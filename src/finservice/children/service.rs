//! The Services: one for each revision, which routes name, and the plain one, which callers name.

use serde_json::{Value, json};

use super::json::{filled, object, text};
use super::{Child, Kind, Routing, Scope};
use crate::api::network::MeshProvider;
use crate::api::workload::{Port, Protocol};

/// The port `discard` of RFC 863. A Service must have one, and the plain Service of a service
/// without ports still records which revision is stable. A headless one needs no port, but could
/// not become an ordinary one when a port is added later.
const DISCARD: u16 = 9;

/// The Service of one revision, with the ports of that revision; none if it has no ports.
pub fn revision(scope: &Scope, hash: &str, ports: &[Port]) -> Option<Child> {
    (!ports.is_empty()).then(|| {
        scope.child(
            Kind::Service,
            scope.revision_name(hash),
            Some(hash),
            json!({"spec": {"selector": scope.revision_labels(hash), "ports": service_ports(scope, ports, false)}}),
        )
    })
}

/// The Service of a revision for requests that reach it otherwise than by chance: matched, mirrored,
/// previewed, or kept by a cookie. It selects the same pods, and is apart so that a proxy's counters of the
/// revision's own Service speak of requests that were shared by chance alone. None without ports.
///
/// It bears no label of the revision: a ServiceMonitor goes by that, and would scrape the pods twice.
pub fn direct(scope: &Scope, hash: &str, ports: &[Port]) -> Option<Child> {
    (!ports.is_empty()).then(|| {
        scope.child(
            Kind::Service,
            scope.direct_name(hash),
            None,
            json!({"spec": {"selector": scope.revision_labels(hash), "ports": service_ports(scope, ports, false)}}),
        )
    })
}

/// The plain Service, whose selector is the record of which revision is stable.
///
/// Without a stable revision it selects nothing of ours: a selector that named the service alone
/// would send requests to whatever revision starts first. A Service that is being adopted keeps the
/// selector that it has until then, since no selector is applied.
///
/// Where shares are made by numbers of pods it selects the pods of all revisions, and the mark that it
/// carries says which one is stable.
pub fn plain(scope: &Scope, routing: &Routing) -> Child {
    let ports = routing.plain_ports(scope);
    let ports = if ports.is_empty() {
        json!([{"name": "discard", "port": DISCARD, "protocol": "TCP", "targetPort": DISCARD}])
    } else {
        service_ports(scope, ports, true)
    };
    let mut spec = json!({"ports": ports});
    let settings = scope.spec.service.clone().unwrap_or_default();
    for (field, value) in [
        ("type", json!(settings.kind)),
        ("loadBalancerClass", json!(settings.load_balancer_class)),
        ("loadBalancerSourceRanges", json!(settings.load_balancer_source_ranges)),
        ("externalTrafficPolicy", json!(settings.external_traffic_policy)),
    ] {
        // What is not said is left as it is: a Service that was handed over may be a load balancer.
        if !value.is_null() && value != json!([]) {
            spec[field] = value;
        }
    }
    if let Some(stable) = routing.stable {
        spec["selector"] =
            if routing.weights.by_pods { scope.service_labels() } else { scope.revision_labels(stable) };
    }
    let mut child = scope.child(Kind::Service, scope.name.to_owned(), None, json!({"spec": spec}));
    if let Some(annotations) = settings.annotations.and_then(|annotations| filled(json!(annotations))) {
        child.body["metadata"]["annotations"] = annotations;
    }
    child
}

/// The ports of a Service: of the plain one as callers know them, of a revision's own as its pods have them.
fn service_ports(scope: &Scope, ports: &[Port], plain: bool) -> Value {
    ports
        .iter()
        .map(|port| {
            let node_port = scope.seen_as(port).filter(|_| plain).and_then(|seen| seen.node_port);
            object([
                ("name", text(&port.name)),
                ("port", Some(if plain { scope.service_port(port) } else { port.port }.into())),
                ("nodePort", node_port.map(Value::from)),
                ("protocol", text("TCP")),
                // By name, so that a pod's own number counts.
                ("targetPort", text(&port.name)),
                ("appProtocol", text(app_protocol(scope.spec.provider(), port.protocol()))),
            ])
        })
        .collect()
}

/// `kubernetes.io/h2c` is Kubernetes' standard word for HTTP/2 without TLS, which gRPC is as well;
/// Istio tells gRPC apart to count its statuses.
fn app_protocol(provider: MeshProvider, protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::HTTP => "http",
        Protocol::GRPC if provider == MeshProvider::Istio => "grpc",
        Protocol::HTTP2 | Protocol::GRPC => "kubernetes.io/h2c",
        Protocol::TCP => "tcp",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finservice::children::Weights;
    use crate::finservice::testing;

    #[test]
    fn the_plain_service_selects_stable_and_nothing_before() {
        let spec = testing::minimal();
        let scope = testing::scope(&spec);
        let weights = Weights::default();
        let none = plain(&scope, &Routing::new(None, &weights));
        assert_eq!(none.body["spec"].get("selector"), None);
        let stable = plain(&scope, &Routing::new(Some("bcdfghjklm"), &weights));
        assert_eq!(
            stable.body["spec"]["selector"],
            json!({"banyan.dev/service": testing::NAME, "banyan.dev/revision": "bcdfghjklm"})
        );
    }

    #[test]
    fn the_plain_service_selects_all_pods_where_their_numbers_are_the_shares() {
        let spec = testing::minimal();
        let scope = testing::scope(&spec);
        let weights = Weights { by_pods: true, ..Weights::default() };
        let child = plain(&scope, &Routing::new(Some("bcdfghjklm"), &weights));
        assert_eq!(child.body["spec"]["selector"], json!({"banyan.dev/service": testing::NAME}));
        assert_eq!(plain(&scope, &Routing::new(None, &weights)).body["spec"].get("selector"), None);
    }

    #[test]
    fn a_direct_service_reaches_the_same_pods_and_is_not_scraped() {
        let spec = testing::minimal();
        let scope = testing::scope(&spec);
        let own = revision(&scope, "bcdfghjklm", &spec.ports).expect("a Service");
        let direct = direct(&scope, "bcdfghjklm", &spec.ports).expect("a Service");
        assert_eq!(direct.name, "transaction-bcdfghjklm-direct");
        assert_eq!(direct.body["spec"], own.body["spec"]);
        assert_eq!(direct.body["metadata"]["labels"].get("banyan.dev/revision"), None);
    }

    #[test]
    fn the_plain_service_has_the_ports_of_stable() {
        let spec = testing::minimal();
        let scope = testing::scope(&spec);
        let weights = Weights::default();
        let old = [Port { name: "http".to_owned(), port: 9999, protocol: None, ..Port::default() }];
        let mut routing = Routing::new(Some("bcdfghjklm"), &weights);
        routing.ports.insert("bcdfghjklm", &old);
        assert_eq!(plain(&scope, &routing).body["spec"]["ports"][0]["port"], 9999);
    }

    /// Row 6.5: `frontend:80` was dead, and a load balancer lost its ports.
    #[test]
    fn faults_6_5_callers_see_the_ports_and_the_type_that_are_asked_for() {
        let spec = testing::rich();
        let scope = testing::scope(&spec);
        let weights = Weights::default();
        let mut routing = Routing::new(Some("bcdfghjklm"), &weights);
        let of_pods: Vec<Port> = testing::input(&spec).ports;
        routing.ports.insert("bcdfghjklm", &of_pods);
        let child = plain(&scope, &routing);
        let port = &child.body["spec"]["ports"][0];
        assert_eq!(
            (&port["port"], &port["targetPort"], &port["nodePort"]),
            (&json!(80), &json!("http"), &json!(30080))
        );
        assert_eq!(child.body["spec"]["type"], "LoadBalancer");
        assert_eq!(child.body["spec"]["externalTrafficPolicy"], "Local");
        assert_eq!(child.body["metadata"]["annotations"]["networking.gke.io/load-balancer-type"], "Internal");
        let own = revision(&scope, "bcdfghjklm", &of_pods).expect("a Service");
        assert_eq!(
            (&own.body["spec"]["ports"][0]["port"], own.body["spec"].get("type")),
            (&json!(8080), None)
        );
    }

    #[test]
    fn what_is_not_said_of_a_service_is_left_as_it_is() {
        let spec = testing::minimal();
        let weights = Weights::default();
        let child = plain(&testing::scope(&spec), &Routing::new(None, &weights));
        assert_eq!(
            child.body["spec"].as_object().map(|spec| spec.keys().cloned().collect::<Vec<_>>()),
            Some(vec!["ports".to_owned()])
        );
    }

    #[test]
    fn without_ports_the_record_stands_all_the_same() {
        let mut spec = testing::minimal();
        spec.ports.clear();
        let scope = testing::scope(&spec);
        let weights = Weights::default();
        let child = plain(&scope, &Routing::new(Some("bcdfghjklm"), &weights));
        assert_eq!(child.body["spec"]["ports"][0]["port"], 9);
        assert_eq!(revision(&scope, "bcdfghjklm", &[]), None);
    }
}
