//! May A call B? Answered from the policies that were made for both, as their own enforcers read them: Kubernetes' manual on
//! NetworkPolicies, and Istio's reference of Sidecar, ServiceEntry, PeerAuthentication and AuthorizationPolicy.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;

use crate::finservice::children::{Child, Kind};
use crate::runtime::network::Network;

/// Somebody who calls or is called.
#[derive(Clone, Debug, Default)]
pub struct Party {
    /// The namespace; `None` outside of the cluster.
    pub namespace: Option<String>,
    /// Labels of the pod.
    pub labels: BTreeMap<String, String>,
    /// Its ServiceAccount, by which the mesh knows it; `None` outside of the mesh.
    pub account: Option<String>,
    /// Its address.
    pub address: Option<IpAddr>,
    /// The Service, or the host, by whose name it is called.
    pub name: Option<String>,
}

fn items<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn texts<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a str> {
    items(value, pointer).filter_map(Value::as_str)
}

fn of(children: &[Child], kind: Kind) -> impl Iterator<Item = &Value> {
    children.iter().filter(move |child| child.kind == kind).map(|child| &child.body["spec"])
}

fn within(range: &str, address: IpAddr) -> bool {
    range.parse::<Network>().is_ok_and(|network| network.contains(address))
}

fn has_labels(selector: &Value, labels: &BTreeMap<String, String>) -> bool {
    let wanted = selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten();
    wanted.into_iter().all(|(key, value)| labels.get(key).map(String::as_str) == value.as_str())
}

/// Whether a peer of a NetworkPolicy is that party.
fn is_peer(peer: &Value, party: &Party) -> bool {
    if let Some(block) = peer.get("ipBlock") {
        let Some(address) = party.address else { return false };
        let cidr = block["cidr"].as_str().unwrap_or_default();
        return within(cidr, address) && !texts(block, "/except").any(|except| within(except, address));
    }
    let Some(namespace) = &party.namespace else { return false };
    let of_namespace = BTreeMap::from([("kubernetes.io/metadata.name".to_owned(), namespace.clone())]);
    has_labels(&peer["namespaceSelector"], &of_namespace) && has_labels(&peer["podSelector"], &party.labels)
}

fn network(children: &[Child], rules: &str, peers: &str, party: &Party, port: u16) -> bool {
    of(children, Kind::NetworkPolicy).any(|policy| {
        items(policy, rules).any(|rule| {
            let open = rule.get("ports").is_none()
                || items(rule, "/ports").any(|at| at["port"] == port && at["protocol"] == "TCP");
            open && items(rule, peers).any(|peer| is_peer(peer, party))
        })
    })
}

/// Whether the NetworkPolicy lets the pods connect to that party.
pub fn network_lets_out(children: &[Child], to: &Party, port: u16) -> bool {
    network(children, "/egress", "/to", to, port)
}

/// Whether the NetworkPolicy lets that party connect to the pods.
pub fn network_lets_in(children: &[Child], from: &Party, port: u16) -> bool {
    network(children, "/ingress", "/from", from, port)
}

/// Whether a name is one of those that a pattern stands for: itself, or what ends in what follows a `*`.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(end) => name.ends_with(end),
        None => pattern == name,
    }
}

/// Whether the proxies let that out. A Service of the cluster is called by its full name, a host outside by its own, and what
/// has no name by its address. `known` are all ServiceEntries of the namespace.
pub fn mesh_lets_out(children: &[Child], known: &[Child], to: &Party, port: u16) -> bool {
    let Some(sidecar) = of(children, Kind::Sidecar).next() else { return true };
    if sidecar["outboundTrafficPolicy"]["mode"] == "ALLOW_ANY" {
        return true;
    }
    let imported = |namespace: &str, name: &str| {
        texts(sidecar, "/egress/0/hosts")
            .filter_map(|host| host.split_once('/'))
            .any(|(of, pattern)| (of == "*" || of == namespace) && matches(pattern, name))
    };
    if let (Some(namespace), Some(name)) = (&to.namespace, &to.name)
        && imported(namespace, &format!("{name}.{namespace}.svc.cluster.local"))
    {
        return true;
    }
    of(known, Kind::ServiceEntry).any(|entry| {
        let open = items(entry, "/ports").any(|at| at["number"] == port);
        let seen = texts(entry, "/hosts").any(|host| imported(".", host));
        let meant = match entry.get("addresses") {
            Some(_) => to
                .address
                .is_some_and(|address| texts(entry, "/addresses").any(|range| within(range, address))),
            None => {
                to.name.as_ref().is_some_and(|name| texts(entry, "/hosts").any(|host| matches(host, name)))
            }
        };
        open && seen && meant
    })
}

/// Whether the proxies let that party in, which brings a token of that issuer, if any.
pub fn mesh_lets_in(children: &[Child], from: &Party, port: u16, issuer: Option<&str>) -> bool {
    let strict = of(children, Kind::PeerAuthentication).any(|policy| {
        let at = policy["portLevelMtls"].get(port.to_string()).unwrap_or(&policy["mtls"]);
        at["mode"] == "STRICT"
    });
    if strict && from.account.is_none() {
        return false;
    }
    let mut policies = of(children, Kind::AuthorizationPolicy).peekable();
    policies.peek().is_none()
        || policies.any(|policy| {
            items(policy, "/rules").any(|rule| {
                let at = rule.get("to").is_none()
                    || items(rule, "/to").any(|to| is_operation(&to["operation"], port));
                let who = rule.get("from").is_none()
                    || items(rule, "/from").any(|source| is_source(&source["source"], from, issuer));
                at && who
            })
        })
}

fn is_operation(operation: &Value, port: u16) -> bool {
    let ports =
        operation.get("ports").is_none() || texts(operation, "/ports").any(|at| at == port.to_string());
    // What is asked here is whether any request may come.
    ports && operation.get("paths").is_none()
}

fn is_source(source: &Value, from: &Party, issuer: Option<&str>) -> bool {
    let principal = from.account.as_ref().zip(from.namespace.as_ref());
    let principal =
        principal.map(|(account, namespace)| format!("cluster.local/ns/{namespace}/sa/{account}"));
    let certain = from.namespace.as_deref().filter(|_| principal.is_some());
    let fields = source.as_object().into_iter().flatten();
    fields.into_iter().all(|(field, _)| {
        let mut values = source[field].as_array().into_iter().flatten().filter_map(Value::as_str);
        match field.as_str() {
            "principals" => {
                principal.as_ref().is_some_and(|principal| values.any(|value| value == principal))
            }
            "notPrincipals" => principal.is_none(),
            "namespaces" => certain.is_some_and(|namespace| values.any(|value| value == namespace)),
            "ipBlocks" => from.address.is_some_and(|address| values.any(|range| within(range, address))),
            "requestPrincipals" => {
                issuer.is_some_and(|issuer| values.any(|value| value == format!("{issuer}/*")))
            }
            other => panic!("nothing here knows {other}"),
        }
    })
}
