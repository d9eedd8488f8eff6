//! The NetworkPolicy: who may reach the pods, and what they may reach. What is not named is refused,
//! also where a spec has no `access` at all.

use crate::api::labels::SERVICE_LABEL;
use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::json::{list, object};
use super::routing::Routing;
use super::{Child, Kind, Scope, exposed, kafka};
use crate::api::network::{MeshProvider, Peer};

/// HBONE, through which Istio's ambient mode carries requests.
const HBONE: u16 = 15008;
/// Istio's proxies show their own metrics at the first and the merged ones at the second.
const PROXY_METRICS: [u16; 2] = [15090, 15020];
/// Where Istio's proxies get configuration and certificates.
const ISTIOD: u16 = 15012;
/// Strimzi's listeners by default: plain, TLS, and one more.
const KAFKA: [u16; 3] = [9092, 9093, 9094];
/// Link-local addresses: clouds answer questions about the node and its credentials there, and run
/// caches of DNS.
const LINK_LOCAL: &str = "169.254.0.0/16";
/// Where GKE's nodes hand out tokens to pods (Workload Identity): both addresses that its manual
/// names, with their ports.
const GKE_METADATA: [(&str, &[u16]); 2] =
    [("169.254.169.252/32", &[987, 988]), ("169.254.169.254/32", &[80])];

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
    let mut peers: Vec<Value> = inbound.iter().map(|peer| caller(scope, peer)).collect();
    peers.extend(scope.gateway_namespace().map(namespace));
    // Revisions may differ in their ports, and the policy is for the pods of all of them.
    let mut numbers: Vec<u16> = routing.all_ports(scope).into_iter().collect();
    // An empty list of either means all, so that nothing may be written without both.
    if !peers.is_empty() && !numbers.is_empty() {
        if istio {
            numbers.push(HBONE);
        }
        rules.push(json!({"from": peers, "ports": tcp(&numbers)}));
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
        rules.push(json!({"from": from, "ports": tcp(&ports)}));
    }
    rules
}

fn egress(scope: &Scope) -> Vec<Value> {
    let istio = scope.spec.provider() == MeshProvider::Istio;
    let dns = json!([{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]);
    let kube_dns = json!({
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
    });
    // NodeLocal DNSCache and Cloud DNS answer at link-local addresses.
    let mut rules = vec![json!({"to": [kube_dns, {"ipBlock": {"cidr": LINK_LOCAL}}], "ports": dns})];
    if let Some(outbound) = scope.spec.access.as_ref().and_then(|access| access.outbound.as_ref()) {
        let mut peers: Vec<Value> = outbound
            .services
            .iter()
            .flatten()
            .map(|service| pods(service.namespace.as_deref().unwrap_or(scope.namespace), &service.service))
            .collect();
        peers.extend(outbound.cidrs.iter().flatten().filter_map(|cidr| exposed::addresses(cidr)));
        // On all their ports: which of them are open is for the other side to say.
        rules.extend(list(peers).map(|to| json!({"to": to})));
        rules.extend(outbound.pods.iter().flatten().map(|peer| {
            let to = labelled(peer.namespace.as_deref().unwrap_or(scope.namespace), peer.labels.as_ref());
            object([("to", Some(json!([to]))), ("ports", peer.ports.as_ref().map(|ports| tcp(ports)))])
        }));
    }
    let hosts = scope.spec.access.as_ref().and_then(|access| access.outbound.as_ref()?.hosts.as_ref());
    let identity = scope.spec.identity.as_ref();
    // An IAM role is of no use without STS, which has no address of its own.
    if hosts.is_some_and(|hosts| !hosts.is_empty()) || identity.is_some_and(|id| id.aws_role_arn.is_some()) {
        rules.push(json!({"to": anywhere(), "ports": tcp(&[443])}));
    }
    if identity.is_some_and(|identity| identity.gcp_service_account.is_some()) {
        for (cidr, ports) in GKE_METADATA {
            rules.push(json!({"to": [{"ipBlock": {"cidr": cidr}}], "ports": tcp(ports)}));
        }
    }
    if let Some(tracing) = scope.spec.observability.as_ref().and_then(|o| o.tracing.as_ref())
        && let Some((peers, port)) = collector(scope, &tracing.endpoint)
    {
        rules.push(json!({"to": peers, "ports": tcp(&[port])}));
    }
    if let Some(cluster) = kafka::cluster(scope) {
        let brokers =
            json!({"namespaceSelector": {}, "podSelector": {"matchLabels": {"strimzi.io/cluster": cluster}}});
        rules.push(json!({"to": [brokers], "ports": tcp(&KAFKA)}));
    }
    if istio {
        // One that somebody else manages is not in the cluster.
        let control_plane = match &scope.settings.istiod {
            Some(name) => vec![namespace(name)],
            None => anywhere(),
        };
        rules.push(json!({"to": control_plane, "ports": tcp(&[ISTIOD])}));
    }
    rules
}

fn caller(scope: &Scope, peer: &Peer) -> Value {
    if let Some(cidr) = &peer.cidr {
        return json!({"ipBlock": {"cidr": cidr}});
    }
    let from = peer.namespace.as_deref().unwrap_or(scope.namespace);
    match &peer.service {
        Some(service) => pods(from, service),
        None => labelled(from, peer.pod_labels.as_ref()),
    }
}

/// Pods in a namespace: those with the labels, or all.
fn labelled(of: &str, labels: Option<&BTreeMap<String, String>>) -> Value {
    let mut peer = namespace(of);
    if let Some(labels) = labels.filter(|labels| !labels.is_empty()) {
        peer["podSelector"] = json!({"matchLabels": labels});
    }
    peer
}

/// Everything in a namespace.
fn namespace(name: &str) -> Value {
    json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}})
}

/// The pods of a FinService.
fn pods(namespace: &str, service: &str) -> Value {
    json!({
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "podSelector": {"matchLabels": {SERVICE_LABEL: service}},
    })
}

/// All addresses but the link-local ones, where a cloud gives away credentials of the node.
fn anywhere() -> Vec<Value> {
    ["0.0.0.0/0", "::/0"].into_iter().filter_map(exposed::addresses).collect()
}

fn tcp(ports: &[u16]) -> Value {
    ports.iter().map(|port| json!({"protocol": "TCP", "port": port})).collect()
}

/// Where traces go: the peers and the port of an OTLP endpoint such as
/// `http://collector.observability.svc:4318`.
fn collector(scope: &Scope, endpoint: &str) -> Option<(Vec<Value>, u16)> {
    let (scheme, rest) = endpoint.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let default = if scheme == "https" { 443 } else { 80 };
    let (host, port) = match authority.strip_prefix('[') {
        Some(ipv6) => {
            let (host, rest) = ipv6.split_once(']')?;
            (host, rest.strip_prefix(':').map_or(Some(default), |port| port.parse().ok())?)
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (authority, default),
        },
    };
    let port = if port == 0 { return None } else { port };
    if let Ok(address) = host.parse::<IpAddr>() {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        return Some((vec![exposed::addresses(&format!("{address}/{bits}"))?], port));
    }
    let parts: Vec<&str> = host.split('.').collect();
    let peers = match parts[..] {
        [_] => vec![namespace(scope.namespace)],
        [_, name, "svc"] | [_, name, "svc", "cluster", "local"] => vec![namespace(name)],
        // `name.namespace` looks like any other host.
        [_, name] => anywhere().into_iter().chain([namespace(name)]).collect(),
        _ => anywhere(),
    };
    Some((peers, port))
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
    fn pods_that_are_no_finservice_are_told_by_their_labels() {
        let spec = testing::rich();
        let policy = policy(&spec);
        let to = |policy: &Value, labels: Value| {
            let rules = policy["egress"].as_array().cloned().unwrap_or_default();
            rules
                .into_iter()
                .find(|rule| rule["to"][0]["podSelector"]["matchLabels"] == labels)
                .expect("a rule")
        };
        let database = to(&policy, json!({"app": "ledger-db"}));
        assert_eq!(
            database["to"][0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"],
            "data"
        );
        assert_eq!(database["ports"], json!([{"protocol": "TCP", "port": 5432}]));
        let cache = to(&policy, json!({"app": "redis"}));
        assert_eq!(cache["to"][0]["namespaceSelector"], namespace(testing::NAMESPACE)["namespaceSelector"]);
        assert_eq!(cache.get("ports"), None);
        let callers = policy["ingress"][0]["from"].as_array().cloned().unwrap_or_default();
        assert!(
            callers
                .contains(&labelled("monitoring", Some(&[("app".to_owned(), "prober".to_owned())].into())))
        );
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

    #[test]
    fn collectors_are_found_in_their_endpoints() {
        let spec = testing::minimal();
        let scope = testing::scope(&spec);
        let found = |endpoint: &str| collector(&scope, endpoint);
        let observability = vec![namespace("observability")];
        assert_eq!(found("http://otel.observability.svc:4318/v1"), Some((observability.clone(), 4318)));
        assert_eq!(found("https://otel.observability.svc.cluster.local"), Some((observability, 443)));
        assert_eq!(found("http://otel:4317"), Some((vec![namespace(testing::NAMESPACE)], 4317)));
        assert_eq!(found("http://10.1.2.3"), Some((vec![json!({"ipBlock": {"cidr": "10.1.2.3/32"}})], 80)));
        assert_eq!(
            found("http://[fd00::1]:4318"),
            Some((vec![json!({"ipBlock": {"cidr": "fd00::1/128"}})], 4318))
        );
        assert_eq!(found("https://otlp.vendor.example:443"), Some((anywhere(), 443)));
        assert_eq!(found("http://otel:notaport"), None);
        assert_eq!(found("http://169.254.169.254/latest"), None, "faults 4.8");
    }
}
