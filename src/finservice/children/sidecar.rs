//! Istio's Sidecar: what the pods' proxies let out.

use std::collections::BTreeSet;

use serde_json::json;

use super::outbound::{self, To};
use super::{Child, Kind, Scope, service_entry};

/// Holds the pods to what they may call, as the NetworkPolicy does: to Services by their names, and to the hosts and ranges of
/// its own ServiceEntries. What another service of the namespace calls outside is no concern of theirs.
///
/// A range of addresses without ports is nothing that a mesh could know: then its proxies let everything out, and the
/// NetworkPolicy alone holds ([`super::limits::problems`] says so). Where the labels of pods are named, and for Kafka, the
/// mesh is open to the Services of a namespace or of all: it knows no labels.
pub fn build(scope: &Scope) -> Child {
    let mut hosts: BTreeSet<String> = BTreeSet::new();
    let services = |namespace: &str| format!("{namespace}/*.{namespace}.svc.cluster.local");
    let ways = outbound::ways(scope.spec, scope.namespace);
    hosts.extend(service_entry::address_hosts(scope, &ways).into_iter().map(|host| format!("./{host}")));
    for way in ways {
        match way.to {
            To::Service(namespace, service) => {
                hosts.insert(format!("{namespace}/{service}.{namespace}.svc.cluster.local"));
            }
            To::Pods(namespace, _) => {
                hosts.insert(services(namespace));
            }
            To::Brokers(_) => {
                hosts.insert("*/*.svc.cluster.local".to_owned());
            }
            To::Host(host) => {
                hosts.insert(format!("./{host}"));
            }
            To::Node(range) => {
                hosts.insert(format!("./{}", outbound::node_host(range)));
            }
            To::Addresses(_) => {}
        }
    }
    // Where collectors of traces that the mesh itself names mostly are.
    hosts.extend(scope.settings.istiod.as_deref().map(services));
    let mode = if outbound::any_port(scope.spec) { "ALLOW_ANY" } else { "REGISTRY_ONLY" };
    let spec = json!({
        "workloadSelector": {"labels": scope.service_labels()},
        "outboundTrafficPolicy": {"mode": mode},
        "egress": [{"hosts": hosts}],
    });
    scope.child(Kind::Sidecar, scope.name.to_owned(), None, json!({"spec": spec}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finservice::testing;

    fn told(access: &str) -> (String, Vec<String>) {
        let mut spec = testing::minimal();
        spec.access = serde_norway::from_str(access).expect("an access");
        let spec = build(&testing::scope(&spec)).body["spec"].clone();
        let hosts = spec["egress"][0]["hosts"].as_array().into_iter().flatten();
        let mode = spec["outboundTrafficPolicy"]["mode"].as_str().unwrap_or_default();
        (mode.to_owned(), hosts.filter_map(|host| host.as_str().map(str::to_owned)).collect())
    }

    #[test]
    fn faults_8_5_pods_are_held_to_what_their_own_service_calls() {
        let always = [
            "./169-254-0-0-16.node.banyan.internal",
            "istio-system/*.istio-system.svc.cluster.local",
            "kube-system/*.kube-system.svc.cluster.local",
        ];
        let (mode, hosts) = told("{}");
        assert_eq!((mode.as_str(), hosts), ("REGISTRY_ONLY", always.map(str::to_owned).to_vec()));
        let (mode, mut hosts) = told(
            "outbound: {services: [{service: ledger}, {service: fraud, namespace: risk}], hosts: [api.stripe.com], pods: [{namespace: data}]}",
        );
        hosts.retain(|host| !always.contains(&host.as_str()));
        assert_eq!(mode, "REGISTRY_ONLY");
        assert_eq!(
            hosts,
            [
                "./api.stripe.com",
                "data/*.data.svc.cluster.local",
                "payments/ledger.payments.svc.cluster.local",
                "risk/fraud.risk.svc.cluster.local",
            ]
        );
    }

    #[test]
    fn faults_8_3_a_range_at_all_ports_is_left_to_the_network_policy() {
        assert_eq!(told("outbound: {cidrs: [10.3.0.0/16]}").0, "ALLOW_ANY");
        assert_eq!(told("outbound: {addresses: [{cidr: 10.3.0.0/16, ports: [5432]}]}").0, "REGISTRY_ONLY");
        assert_eq!(told("outbound: {cidrs: [169.254.169.254/32]}").0, "REGISTRY_ONLY", "it is not opened");
    }
}
