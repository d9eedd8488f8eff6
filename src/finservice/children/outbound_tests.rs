//! Whom the pods of a FinService may call, and who may call them, by all the policies that are made for it: what one of them
//! opens, no other one closes, whatever the spec (faults 5.1 to 5.4, 8.3, 8.5).

use std::collections::BTreeMap;
use std::net::IpAddr;

use proptest::prelude::*;

use super::{Child, Routing, Scope, Weights, limits, of_service, outbound};
use crate::api::FinServiceSpec;
use crate::api::network::{Access, Mesh, MeshProvider, Outbound, Peer, ServiceRef};
use crate::finservice::testing;
use crate::finservice::testing::policies::{
    Party, mesh_lets_in, mesh_lets_out, network_lets_in, network_lets_out,
};

const SERVICE: &str = crate::api::labels::SERVICE_LABEL;
const STABLE: &str = "bcdfghjklm";
const ISSUER: &str = "https://issuer.example";

fn in_mesh(mut spec: FinServiceSpec) -> FinServiceSpec {
    let mesh = spec.mesh.take().unwrap_or_default();
    // What admission refuses: nothing but Permissive goes with an old backend.
    let mtls = mesh.mtls.filter(|_| spec.legacy.is_none());
    spec.mesh = Some(Mesh { provider: Some(MeshProvider::Istio), mtls, ..mesh });
    spec
}

fn children(scope: &Scope) -> Vec<Child> {
    let weights = Weights::of_revisions(&[(STABLE, 100)], 0);
    of_service(scope, &Routing::new(Some(STABLE), &weights))
}

fn address(text: &str) -> Option<IpAddr> {
    text.split('/').next().and_then(|address| address.parse().ok())
}

/// The pods of a FinService, as they are called.
fn service(namespace: &str, name: &str) -> Party {
    Party {
        namespace: Some(namespace.to_owned()),
        labels: BTreeMap::from([(SERVICE.to_owned(), name.to_owned())]),
        account: Some(name.to_owned()),
        address: address("172.20.0.1"),
        name: Some(name.to_owned()),
    }
}

/// Pods that are none.
fn pods(namespace: &str, labels: BTreeMap<String, String>) -> Party {
    Party { labels, account: Some("theirs".to_owned()), ..service(namespace, "theirs") }
}

fn outside(name: Option<&str>, at: &str) -> Party {
    Party { address: address(at), name: name.map(str::to_owned), ..Party::default() }
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// All that a spec names as what it calls, with a port.
fn named(spec: &FinServiceSpec) -> Vec<(Party, u16)> {
    let own = testing::NAMESPACE;
    let mut named = vec![
        (pods("kube-system", labels(&[("k8s-app", "kube-dns")])), 53),
        (outside(None, "169.254.20.10"), 53),
    ];
    if let Some(outbound) = spec.access.as_ref().and_then(|access| access.outbound.as_ref()) {
        for peer in outbound.services.iter().flatten() {
            named.push((service(peer.namespace.as_deref().unwrap_or(own), &peer.service), 8080));
        }
        for peer in outbound.pods.iter().flatten() {
            let party =
                pods(peer.namespace.as_deref().unwrap_or(own), peer.labels.clone().unwrap_or_default());
            named.push((party, peer.ports.as_ref().map_or(1234, |ports| ports[0])));
        }
        named.extend(
            outbound
                .hosts
                .iter()
                .flatten()
                .map(|host| (outside(Some(&host.replace('*', "www")), "198.51.100.7"), 443)),
        );
        named.extend(outbound.cidrs.iter().flatten().map(|range| (outside(None, range), 5432)));
        for range in outbound.addresses.iter().flatten() {
            named.extend(range.ports.iter().map(|port| (outside(None, &range.cidr), *port)));
        }
    }
    if let Some(identity) = &spec.identity {
        let sts = outside(Some("sts.eu-west-1.amazonaws.com"), "198.51.100.8");
        named.extend(identity.aws_role_arn.is_some().then_some((sts, 443)));
        let metadata = [("169.254.169.254", 80), ("169.254.169.252", 988)];
        let metadata = metadata.into_iter().filter(|_| identity.gcp_service_account.is_some());
        named.extend(metadata.map(|(at, port)| (outside(None, at), port)));
    }
    if spec.data.as_ref().is_some_and(|data| data.kafka_cluster.is_some()) {
        let cluster = spec.data.as_ref().and_then(|data| data.kafka_cluster.clone()).unwrap_or_default();
        named.push((pods("kafka", labels(&[("strimzi.io/cluster", &cluster)])), 9092));
    }
    named
}

/// Who is named by no spec of those that are made here, and the port that it would be called at.
fn strangers() -> Vec<(Party, u16)> {
    vec![
        (service("nobodys-namespace", "stranger"), 8080),
        (outside(None, "203.0.113.9"), 5432),
        (outside(Some("evil.test"), "203.0.113.9"), 443),
        (outside(Some("evil.test"), "203.0.113.9"), 80),
        (outside(None, "169.254.169.253"), 80),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn who_is_named_may_be_called_and_nobody_else(spec in testing::spec()) {
        let spec = in_mesh(spec);
        let scope = testing::scope(&spec);
        let children = children(&scope);
        for (to, port) in named(&spec) {
            prop_assert!(network_lets_out(&children, &to, port), "the NetworkPolicy: {to:?} at {port}");
            prop_assert!(mesh_lets_out(&children, &children, &to, port), "the mesh: {to:?} at {port}");
        }
        let told = limits::problems(&scope).iter().any(|problem| problem.source == "spec.access.outbound.cidrs");
        prop_assert_eq!(told, outbound::any_port(&spec));
        for (to, port) in strangers() {
            let (network, mesh) = (network_lets_out(&children, &to, port), mesh_lets_out(&children, &children, &to, port));
            prop_assert!(!network || !mesh || told, "{to:?} at {port}");
            // Names are nothing to a NetworkPolicy, and labels nothing to a mesh: all else both hold to.
            if to.name.is_none() && !told {
                prop_assert_eq!(network, mesh, "{:?} at {}", to, port);
            }
        }
    }

    #[test]
    fn who_is_named_may_call_and_nobody_else(spec in testing::spec()) {
        let spec = FinServiceSpec { traffic: None, ..in_mesh(spec) };
        let scope = testing::scope(&spec);
        let children = children(&scope);
        let access = spec.access.clone().unwrap_or_default();
        let issuer = access.jwt.as_ref().map(|_| ISSUER);
        let refused = limits::problems(&scope).iter().any(|problem| problem.source == "spec.access.inbound" && problem.message.contains("certificate"));
        let mut callers: Vec<(Party, bool)> = Vec::new();
        for Peer { service: name, namespace, pod_labels, service_account, cidr } in access.inbound.iter().flatten() {
            let namespace = namespace.as_deref().unwrap_or(testing::NAMESPACE);
            callers.push(match (name, cidr, service_account) {
                (Some(name), ..) => (service(namespace, name), true),
                (_, Some(cidr), _) => (outside(None, cidr), !refused),
                (_, _, Some(account)) => (Party { account: Some(account.clone()), ..pods(namespace, BTreeMap::new()) }, true),
                _ => (pods(namespace, pod_labels.clone().unwrap_or_default()), true),
            });
        }
        if let Some(ingress) = &spec.ingress {
            let (namespace, name) = ingress.gateway_in(testing::NAMESPACE);
            let gateway = pods(namespace, labels(&[("gateway.networking.k8s.io/gateway-name", name)]));
            // Only where it sends requests to.
            if let Some(port) = scope.ingress_port().map(|port| port.port) {
                prop_assert!(network_lets_in(&children, &gateway, port), "the NetworkPolicy: {gateway:?} at {port}");
                prop_assert!(mesh_lets_in(&children, &gateway, port, issuer), "the mesh: {gateway:?} at {port}");
            }
        }
        // Where there are metrics alone, scrapers come without a certificate.
        let metrics = scope.own_metrics_port().map(|port| port.port);
        for (from, is_let_in) in callers {
            for port in spec.ports.iter().map(|port| port.port) {
                prop_assert!(network_lets_in(&children, &from, port), "the NetworkPolicy: {from:?} at {port}");
                prop_assert_eq!(mesh_lets_in(&children, &from, port, issuer), is_let_in || Some(port) == metrics, "the mesh: {:?} at {}", from, port);
            }
        }
        for from in [service("nobodys-namespace", "stranger"), outside(None, "203.0.113.9")] {
            for port in spec.ports.iter().map(|port| port.port).filter(|port| Some(*port) != metrics) {
                let both = network_lets_in(&children, &from, port) && mesh_lets_in(&children, &from, port, issuer);
                // Where requests come in at the port of metrics, scrapers are let in to those alone.
                prop_assert!(!both, "{from:?} at {port}");
            }
        }
    }

    #[test]
    fn two_that_name_each_other_may_call_each_other(caller in testing::spec(), called in testing::spec(), says in any::<[bool; 2]>()) {
        let (mut caller, mut called) = (in_mesh(caller), in_mesh(called));
        called.traffic = None;
        let to = Outbound { services: Some(vec![ServiceRef { service: "b".to_owned(), namespace: Some("other".to_owned()) }]), ..Outbound::default() };
        let from = Peer { service: Some("a".to_owned()), namespace: Some(testing::NAMESPACE.to_owned()), ..Peer::default() };
        caller.access = Some(Access { outbound: says[0].then_some(to), ..Access::default() });
        caller.data = None;
        called.access = Some(Access { inbound: says[1].then_some(vec![from]), ..Access::default() });
        called.ingress = None;
        called.legacy = None;
        let a = children(&Scope { name: "a", ..testing::scope(&caller) });
        let b = children(&Scope { name: "b", namespace: "other", ..testing::scope(&called) });
        let scope = testing::scope(&called);
        let metrics = scope.metrics_port().map(|port| port.port);
        for port in called.ports.iter().map(|port| port.port).filter(|port| Some(*port) != metrics) {
            let may = [
                network_lets_out(&a, &service("other", "b"), port),
                mesh_lets_out(&a, &a, &service("other", "b"), port),
                network_lets_in(&b, &service(testing::NAMESPACE, "a"), port),
                mesh_lets_in(&b, &service(testing::NAMESPACE, "a"), port, None),
            ];
            prop_assert_eq!(may.iter().all(|may| *may), says == [true, true], "{:?} {:?}", may, says);
        }
    }
}
