//! Istio's AuthorizationPolicy: who may call, by the certificate that they present.

use serde_json::{Value, json};

use super::json::{list, object};
use super::peer_authentication::strict;
use super::{Child, Kind, Routing, Scope, gateway_pods};
use crate::api::network::Peer;
use crate::api::workload::{Port, Protocol};

/// What may reach the pods; all else is refused. `cluster.local` in a principal stands for the
/// mesh's own trust domain, whatever it is called.
///
/// With mTLS Permissive a caller may come without a certificate and then cannot be told by one:
/// such callers are let in as far as the NetworkPolicy lets them.
///
/// The gateway is let in where it sends requests to, and to no other port.
pub fn build(scope: &Scope, routing: &Routing) -> Child {
    let jwt = scope.spec.access.as_ref().and_then(|access| access.jwt.as_ref());
    let inbound = scope.spec.access.as_ref().and_then(|access| access.inbound.as_deref()).unwrap_or_default();
    let mut who: Vec<(&str, Value)> = inbound.iter().filter_map(|peer| caller(scope, peer)).collect();
    if !strict(scope) {
        who.push(("notPrincipals", json!(["*"])));
    }
    let gateway = gateway_pods::sources(scope);
    let sources = |who: &[(&str, Value)], token: Option<Value>| {
        let sources = who.iter().map(|(field, values)| {
            let mut source = json!({*field: values});
            if let Some(principals) = &token {
                source["requestPrincipals"] = principals.clone();
            }
            json!({"source": source})
        });
        list(sources.collect())
    };
    let with_token = jwt.map(|jwt| json!([format!("{}/*", jwt.issuer)]));
    // A connection has no requests, and so no tokens: asked for one, it would be refused whoever made it.
    let connections: Vec<Value> = tcp_ports(scope).map(|port| json!(port.port.to_string())).collect();
    let connections = list(connections).filter(|_| with_token.is_some()).and_then(|ports| {
        Some(json!({"from": sources(&who, None)?, "to": [{"operation": {"ports": ports}}]}))
    });
    let callers = sources(&who, with_token.clone()).map(|from| json!({"from": from}));
    let published: Vec<Value> =
        routing.ingress_ports(scope).iter().map(|port| json!(port.to_string())).collect();
    let gateway = sources(&gateway, with_token).and_then(|from| {
        let ports = list(published)?;
        Some(json!({"from": from, "to": [{"operation": {"ports": ports}}]}))
    });
    let callers = callers.into_iter().chain(gateway).chain(connections);
    let scrapers = scope.metrics_port().map(|port| {
        let path = scope.spec.observability.as_ref().and_then(|o| o.metrics.as_ref()?.path.clone());
        let mut operation = json!({"ports": [port.port.to_string()]});
        if scope.own_metrics_port().is_none() {
            // The port serves requests too: only the metrics themselves are open.
            operation["methods"] = json!(["GET"]);
            operation["paths"] = json!([path.as_deref().unwrap_or(super::service_monitor::PATH)]);
        }
        json!({"to": [{"operation": operation}]})
    });
    let spec = object([
        ("selector", Some(json!({"matchLabels": scope.service_labels()}))),
        ("action", Some("ALLOW".into())),
        // Without rules an ALLOW policy lets nobody in.
        ("rules", list(callers.chain(scrapers).collect())),
    ]);
    scope.child(Kind::AuthorizationPolicy, scope.name.to_owned(), None, json!({"spec": spec}))
}

/// Ports at which there are connections, and no requests.
pub fn tcp_ports<'a>(scope: &'a Scope<'_>) -> impl Iterator<Item = &'a Port> {
    let metrics = scope.own_metrics_port().map(|port| port.port);
    let tcp = move |port: &&Port| port.protocol() == Protocol::TCP && Some(port.port) != metrics;
    scope.spec.ports.iter().filter(tcp)
}

/// How a caller is told: the field of a source, and its values.
fn caller(scope: &Scope, peer: &Peer) -> Option<(&'static str, Value)> {
    let namespace = peer.namespace.as_deref().unwrap_or(scope.namespace);
    // The ServiceAccount of a FinService is named as it is.
    if let Some(account) = peer.service.as_ref().or(peer.service_account.as_ref()) {
        return Some(("principals", json!([format!("cluster.local/ns/{namespace}/sa/{account}")])));
    }
    if let Some(cidr) = &peer.cidr {
        return Some(("ipBlocks", json!([cidr])));
    }
    peer.namespace.as_ref().map(|namespace| ("namespaces", json!([namespace])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::network::{Access, Mesh, MeshProvider};
    use crate::finservice::children::Weights;
    use crate::finservice::testing;

    fn istio() -> crate::api::FinServiceSpec {
        let mut spec = testing::minimal();
        spec.mesh = Some(Mesh { provider: Some(MeshProvider::Istio), ..Mesh::default() });
        spec
    }

    fn built(spec: &crate::api::FinServiceSpec) -> Child {
        let weights = Weights::default();
        build(&testing::scope(spec), &Routing::new(None, &weights))
    }

    #[test]
    fn faults_4_3_a_gateway_reaches_the_port_that_is_published_and_no_other() {
        let spec = testing::rich();
        let rules = built(&spec).body["spec"]["rules"].clone();
        let of_gateway =
            |rule: &&Value| rule["from"].to_string().contains("\"namespaces\":[\"istio-system\"]");
        let rules: Vec<&Value> = rules.as_array().into_iter().flatten().filter(of_gateway).collect();
        assert!(spec.ports.len() > 1 && rules.len() == 1, "{rules:?}");
        assert_eq!(rules[0]["to"], json!([{"operation": {"ports": ["8080"]}}]));
    }

    #[test]
    fn nobody_is_let_in_unless_named() {
        let spec = istio();
        let policy = built(&spec).body["spec"].clone();
        assert_eq!((&policy["action"], policy.get("rules")), (&json!("ALLOW"), None));
    }

    #[test]
    fn callers_are_told_by_what_they_are() {
        let mut spec = istio();
        spec.access = Some(Access {
            inbound: Some(vec![
                Peer { service: Some("a".to_owned()), ..Peer::default() },
                Peer {
                    service_account: Some("b".to_owned()),
                    namespace: Some("n".to_owned()),
                    ..Peer::default()
                },
                Peer { namespace: Some("m".to_owned()), ..Peer::default() },
                Peer { cidr: Some("10.0.0.0/8".to_owned()), ..Peer::default() },
            ]),
            ..Access::default()
        });
        let rules = built(&spec).body["spec"]["rules"].clone();
        let own = format!("cluster.local/ns/{}/sa/a", testing::NAMESPACE);
        assert_eq!(
            rules,
            json!([{"from": [
                {"source": {"principals": [own]}},
                {"source": {"principals": ["cluster.local/ns/n/sa/b"]}},
                {"source": {"namespaces": ["m"]}},
                {"source": {"ipBlocks": ["10.0.0.0/8"]}},
            ]}])
        );
    }

    #[test]
    fn faults_5_4_a_connection_is_asked_for_no_token() {
        let mut spec = testing::rich();
        let port = |name: &str, port| Port { name: name.to_owned(), port, ..Port::default() };
        spec.ports = vec![port("http", 8080), Port { protocol: Some(Protocol::TCP), ..port("gossip", 7946) }];
        let rules = built(&spec).body["spec"]["rules"].clone();
        let gossip = rules
            .as_array()
            .into_iter()
            .flatten()
            .find(|rule| rule["to"][0]["operation"]["ports"] == json!(["7946"]));
        let sources = gossip.and_then(|rule| rule["from"].as_array()).cloned().unwrap_or_default();
        assert_eq!(sources.len(), rules[0]["from"].as_array().map_or(0, Vec::len), "{rules}");
        assert!(sources.iter().all(|source| source["source"].get("requestPrincipals").is_none()), "{rules}");
    }

    #[test]
    fn every_source_must_bring_a_token_if_one_is_asked_for() {
        let spec = testing::rich();
        let rules = built(&spec).body["spec"]["rules"].clone();
        let sources = rules[0]["from"].as_array().cloned().unwrap_or_default();
        assert!(sources.len() > 2);
        for source in sources {
            assert_eq!(source["source"]["requestPrincipals"], json!(["https://auth.finflow.example/*"]));
        }
    }
}
