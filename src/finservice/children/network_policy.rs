//! The NetworkPolicy: who may reach the pods, and what they may reach. What is not named is refused,
//! also where a spec has no `access` at all.

use serde_json::{Value, json};

use super::json::{list, object};
use super::outbound::{self, To};
use super::peer::{self, anywhere, labelled, namespace};
use super::routing::Routing;
use super::{Child, Kind, Scope, exposed, gateway_pods};
use crate::api::network::{MeshProvider, Peer};

/// HBONE, through which Istio's ambient mode carries requests.
const HBONE: u16 = 15008;
/// Istio's proxies show their own metrics at the first and the merged ones at the second.
const PROXY_METRICS: [u16; 2] = [15090, 15020];
/// Where Istio's proxies get configuration and certificates.
const ISTIOD: u16 = 15012;

/// The policy for all pods of the service.
///
/// A NetworkPolicy knows neither names of hosts nor ServiceAccounts: hosts open port 443 to the
/// world, and a ServiceAccount opens to its namespace; Istio's policies are as exact as the spec.
pub fn build(scope: &Scope, routing: &Routing) -> Child {
    let spec = object([
        ("podSelector", Some(json!({"matchLabels": scope.service_labels()}))),
        ("policyTypes", Some(json!(["Ingress", "Egress"]))),
        ("ingress", list(ingress(scope, routing))),
        ("egress", list(egress(scope))),
    ]);
    scope.child(Kind::NetworkPolicy, scope.name.to_owned(), None, json!({"spec": spec}))
}

fn ingress(scope: &Scope, routing: &Routing) -> Vec<Value> {
    let istio = scope.spec.provider() == MeshProvider::Istio;
    let mut rules = Vec::new();
    let inbound = scope.spec.access.as_ref().and_then(|access| access.inbound.as_deref()).unwrap_or_default();
    let peers: Vec<Value> = inbound.iter().map(|peer| caller(scope, peer)).collect();
    // Revisions may differ in their ports, and the policy is for the pods of all of them.
    for (peers, numbers) in
        [(peers, routing.all_ports(scope)), (gateway_pods::peers(scope), routing.ingress_ports(scope))]
    {
        let mut numbers: Vec<u16> = numbers.into_iter().collect();
        // An empty list of either means all, so that nothing may be written without both.
        if peers.is_empty() || numbers.is_empty() {
            continue;
        }
        if istio {
            numbers.push(HBONE);
        }
        rules.push(json!({"from": peers, "ports": tcp(&numbers).collect::<Value>()}));
    }
    let mut scraped: Vec<(u16, Vec<Value>)> =
        scope.metrics_port().map(|port| (port.port, exposed::metrics(scope))).into_iter().collect();
    if istio {
        scraped.extend(PROXY_METRICS.map(|port| (port, exposed::scrapers(scope))));
    }
    // Ports with the same callers stand in one rule.
    while let Some((_, from)) = scraped.first().cloned() {
        let ports: Vec<u16> =
            scraped.extract_if(.., |(_, callers)| *callers == from).map(|(port, _)| port).collect();
        rules.push(json!({"from": from, "ports": tcp(&ports).collect::<Value>()}));
    }
    rules
}

fn egress(scope: &Scope) -> Vec<Value> {
    // What is open at the same ports stands in one rule.
    let mut rules: Vec<(Value, Vec<Value>)> = Vec::new();
    let mut open = |ports: Value, to: Vec<Value>| {
        let place = rules.iter().position(|(known, _)| *known == ports).unwrap_or_else(|| {
            rules.push((ports, Vec::new()));
            rules.len() - 1
        });
        to.into_iter().for_each(|peer| {
            if !rules[place].1.contains(&peer) {
                rules[place].1.push(peer);
            }
        });
    };
    for way in outbound::ways(scope.spec, scope.namespace) {
        let udp = way.udp.then(|| way.ports.iter().map(|port| json!({"protocol": "UDP", "port": port})));
        let all = udp.into_iter().flatten().chain(tcp(&way.ports));
        open(all.collect(), callees(&way.to));
    }
    if scope.spec.provider() == MeshProvider::Istio {
        // One that somebody else manages is not in the cluster.
        let control_plane = match &scope.settings.istiod {
            Some(name) => vec![namespace(name)],
            None => anywhere(),
        };
        open(tcp(&[ISTIOD]).collect(), control_plane);
    }
    rules.retain(|(_, to)| !to.is_empty());
    let ports = |ports: Value| ports.as_array().is_some_and(|ports| !ports.is_empty()).then_some(ports);
    rules.into_iter().map(|(at, to)| object([("to", list(to)), ("ports", ports(at))])).collect()
}

/// Who is meant, as a NetworkPolicy can tell it: of names it knows nothing. Empty if it is nothing that may be opened.
fn callees(to: &To) -> Vec<Value> {
    match to {
        To::Service(namespace, service) => vec![peer::service(namespace, service)],
        To::Pods(of, labels) => vec![labelled(of, labels.iter().copied())],
        To::Brokers(cluster) => {
            let labels = json!({"matchLabels": {"strimzi.io/cluster": cluster}});
            vec![json!({"namespaceSelector": {}, "podSelector": labels})]
        }
        To::Addresses(cidr) => peer::addresses(cidr).into_iter().collect(),
        To::Node(cidr) => vec![json!({"ipBlock": {"cidr": cidr}})],
        To::Host(_) => anywhere(),
    }
}

fn caller(scope: &Scope, peer: &Peer) -> Value {
    if let Some(cidr) = &peer.cidr {
        return json!({"ipBlock": {"cidr": cidr}});
    }
    let from = peer.namespace.as_deref().unwrap_or(scope.namespace);
    match &peer.service {
        Some(service) => peer::service(from, service),
        None => {
            let labels = peer.pod_labels.iter().flatten();
            labelled(from, labels.map(|(key, value)| (key.as_str(), value.as_str())))
        }
    }
}

fn tcp(ports: &[u16]) -> impl Iterator<Item = Value> {
    ports.iter().map(|port| json!({"protocol": "TCP", "port": port}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::operations::{Metrics, Observability};
    use crate::finservice::children::Weights;
    use crate::finservice::testing;

    fn policy(spec: &crate::api::FinServiceSpec) -> Value {
        let weights = Weights::default();
        build(&testing::scope(spec), &Routing::new(None, &weights)).body["spec"].clone()
    }

    #[test]
    fn what_is_not_named_is_refused() {
        let spec = testing::minimal();
        let policy = policy(&spec);
        assert_eq!(policy["policyTypes"], json!(["Ingress", "Egress"]));
        assert_eq!(policy.get("ingress"), None);
        let egress = policy["egress"].as_array().cloned().unwrap_or_default();
        assert_eq!(egress.len(), 1, "only names may be looked up: {egress:?}");
        assert_eq!(egress[0]["ports"][0]["port"], 53);
    }

    #[test]
    fn scrapers_reach_the_metrics_and_nothing_else() {
        let mut spec = testing::minimal();
        let metrics = Metrics { port: "http".to_owned(), ..Metrics::default() };
        spec.observability = Some(Observability { metrics: Some(metrics), ..Observability::default() });
        assert_eq!(
            policy(&spec)["ingress"],
            json!([{"from": [{"namespaceSelector": {}}], "ports": [{"protocol": "TCP", "port": 8080}]}])
        );
    }

    /// Row 6.2: a database next door could only be opened by its address, and a caller that is no FinService not at all.
    #[test]
    fn faults_6_2_pods_that_are_no_finservice_are_told_by_their_labels() {
        let spec = testing::rich();
        let policy = policy(&spec);
        let to = |policy: &Value, labels: Value| {
            let rules = policy["egress"].as_array().cloned().unwrap_or_default();
            let found = rules.iter().find_map(|rule| {
                let mut peers = rule["to"].as_array().into_iter().flatten();
                let peer = peers.find(|peer| peer["podSelector"]["matchLabels"] == labels)?;
                Some((peer.clone(), rule.get("ports").cloned()))
            });
            found.expect("a rule")
        };
        let database = to(&policy, json!({"app": "ledger-db"}));
        assert_eq!(database.0["namespaceSelector"], namespace("data")["namespaceSelector"]);
        assert_eq!(database.1, Some(json!([{"protocol": "TCP", "port": 5432}])));
        let cache = to(&policy, json!({"app": "redis"}));
        assert_eq!(cache.0["namespaceSelector"], namespace(testing::NAMESPACE)["namespaceSelector"]);
        assert_eq!(cache.1, None);
        let callers = policy["ingress"][0]["from"].as_array().cloned().unwrap_or_default();
        assert!(callers.contains(&labelled("monitoring", [("app", "prober")])));
    }

    #[test]
    fn no_rule_is_open_to_all_by_omission() {
        let spec = testing::rich();
        let policy = policy(&spec);
        for rule in policy["ingress"].as_array().into_iter().flatten() {
            assert!(rule["from"].as_array().is_some_and(|from| !from.is_empty()), "{rule}");
            assert!(rule["ports"].as_array().is_some_and(|ports| !ports.is_empty()), "{rule}");
        }
        for rule in policy["egress"].as_array().into_iter().flatten() {
            assert!(rule["to"].as_array().is_some_and(|to| !to.is_empty()), "{rule}");
        }
    }
}
