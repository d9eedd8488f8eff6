//! Istio's ServiceEntries: what the service calls outside of the mesh, and a legacy backend outside of it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::outbound::{self, Spoken, To, Way};
use super::routing::{LegacyBackend, legacy_backend};
use super::{Child, Kind, Scope, peer};

/// Makes known to the mesh what the service calls outside of it, so that its [`super::sidecar`] lets that out and nothing else.
/// Hosts with a wildcard have an entry of their own, since they cannot be looked up, and so have ranges of addresses.
pub fn build(scope: &Scope) -> Vec<Child> {
    let ways = outbound::ways(scope.spec, scope.namespace);
    let mut hosts: BTreeMap<(&'static str, u16, Spoken), Vec<String>> = BTreeMap::new();
    for way in &ways {
        let To::Host(host) = &way.to else { continue };
        // Two entries for one host would make one listener twice, which Envoy refuses as a whole.
        for &port in &way.ports {
            if !scope.known_hosts.contains(&(host.clone(), port)) {
                // Dots keep these names apart from those of all FinServices, which are DNS labels.
                let suffix = match (host.starts_with('*'), (port, way.spoken) == (443, Spoken::Tls)) {
                    (true, _) => ".wildcard",
                    (false, true) => "",
                    (false, false) => ".collector",
                };
                hosts.entry((suffix, port, way.spoken)).or_default().push(host.clone());
            }
        }
    }
    let mut children: Vec<Child> = hosts
        .into_iter()
        .map(|((suffix, port, spoken), hosts)| {
            let resolution = if suffix == ".wildcard" { "NONE" } else { "DNS" };
            let spec = json!({"hosts": hosts, "ports": [shape(port, spoken)], "resolution": resolution});
            entry(scope, suffix, spec, &["."])
        })
        .collect();
    // Each node has the same, so that one entry is enough for all that call there.
    for way in &ways {
        let To::Node(range) = way.to else { continue };
        let host = outbound::node_host(range);
        let Some(first) =
            way.ports.first().filter(|first| !scope.known_hosts.contains(&(host.clone(), **first)))
        else {
            continue;
        };
        let ports: Vec<Value> = way.ports.iter().map(|port| shape(*port, Spoken::Tcp)).collect();
        let spec = json!({"hosts": [host], "addresses": [range], "ports": ports, "resolution": "NONE"});
        children.push(entry(scope, &format!(".node-{first}"), spec, &["."]));
    }
    children.extend(addresses(&ways).into_iter().enumerate().map(|(index, (ports, ranges))| {
        let ports: Vec<Value> = ports.iter().map(|port| shape(*port, Spoken::Tcp)).collect();
        let suffix = address_suffix(index);
        let hosts = [address_host(scope, &suffix)];
        let spec = json!({"hosts": hosts, "addresses": ranges, "ports": ports, "resolution": "NONE"});
        entry(scope, &suffix, spec, &["."])
    }));
    if let (Some(LegacyBackend::Host(host)), Some(legacy)) = (legacy_backend(scope), &scope.spec.legacy) {
        let port = json!({"number": legacy.port, "name": "http", "protocol": "HTTP"});
        let spec = json!({"hosts": [host], "ports": [port], "resolution": "DNS"});
        children.push(entry(scope, ".legacy", spec, &seen_by_gateway(scope)));
    }
    children
}

/// Who is to know an old backend: the gateway, which sends requests there and is mostly in another namespace, and nobody else.
pub fn seen_by_gateway<'s>(scope: &'s Scope<'_>) -> Vec<&'s str> {
    let gateway = scope.gateway_namespace().filter(|name| *name != scope.namespace);
    ["."].into_iter().chain(gateway).collect()
}

/// The hosts by which the entries for ranges of addresses are known: names that nobody looks up.
pub fn address_hosts(scope: &Scope, ways: &[Way]) -> Vec<String> {
    (0..addresses(ways).len()).map(|index| address_host(scope, &address_suffix(index))).collect()
}

fn address_suffix(index: usize) -> String {
    if index == 0 { ".addresses".to_owned() } else { format!(".addresses-{}", index + 1) }
}

fn address_host(scope: &Scope, suffix: &str) -> String {
    format!("{}{suffix}.{}.banyan.internal", scope.name, scope.namespace)
}

/// Ranges of addresses by their ports: an entry opens each of its ports at each of its ranges.
fn addresses<'a>(ways: &'a [Way]) -> BTreeMap<&'a [u16], Vec<&'a str>> {
    let mut by_ports: BTreeMap<&[u16], Vec<&str>> = BTreeMap::new();
    for way in ways.iter().filter(|way| !way.ports.is_empty()) {
        if let To::Addresses(range) = &way.to
            && peer::addresses(range).is_some()
        {
            by_ports.entry(&way.ports).or_default().push(range);
        }
    }
    by_ports
}

fn entry(scope: &Scope, suffix: &str, mut spec: Value, visible: &[&str]) -> Child {
    spec["location"] = "MESH_EXTERNAL".into();
    spec["exportTo"] = json!(visible);
    scope.child(Kind::ServiceEntry, format!("{}{suffix}", scope.name), None, json!({"spec": spec}))
}

fn shape(port: u16, spoken: Spoken) -> Value {
    let (name, protocol) = match spoken {
        Spoken::Tls => ("tls", "TLS"),
        Spoken::Http => ("http", "HTTP"),
        Spoken::Grpc => ("grpc", "GRPC"),
        Spoken::Tcp => ("tcp", "TCP"),
    };
    let name = if spoken == Spoken::Tcp { format!("{name}-{port}") } else { name.to_owned() };
    json!({"number": port, "name": name, "protocol": protocol})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::FinServiceSpec;
    use crate::finservice::children::destination_rule;
    use crate::finservice::testing;

    fn spec(more: &str) -> FinServiceSpec {
        let text = format!("owner: team\nimage: app:1\nports: [{{name: http, port: 8080}}]\n{more}");
        serde_norway::from_str(&text).expect("a spec")
    }

    fn entries(scope: &Scope) -> Vec<String> {
        let told = |child: Child| {
            let spec = &child.body["spec"];
            let ports = spec["ports"].as_array().into_iter().flatten();
            let ports: Vec<String> =
                ports.map(|port| format!("{}/{}", port["number"], port["protocol"])).collect();
            let addresses = spec.get("addresses").map(|all| format!(" {all}")).unwrap_or_default();
            format!("{} {} {}{addresses} {}", child.name, spec["hosts"], spec["resolution"], ports.join(" "))
                .replace('"', "")
        };
        build(scope).into_iter().map(told).collect()
    }

    #[test]
    fn faults_5_1_what_the_network_policy_opens_the_mesh_knows() {
        let spec = spec(
            "access: {outbound: {hosts: [api.stripe.com, '*.swift.example'], addresses: [{cidr: 10.3.0.0/16, ports: [5432]}, \
             {cidr: 10.4.0.0/16, ports: [5432]}, {cidr: 169.254.169.254/32, ports: [80]}]}}\n\
             identity: {awsRoleArn: 'arn:aws:iam::1:role/a', gcpServiceAccount: a@p.iam.gserviceaccount.com}\n\
             observability: {tracing: {endpoint: 'http://otlp.vendor.example:4317'}}",
        );
        let scope = testing::scope(&spec);
        assert_eq!(
            entries(&scope),
            [
                "transaction [api.stripe.com] DNS 443/TLS",
                "transaction.collector [otlp.vendor.example] DNS 4317/GRPC",
                "transaction.wildcard [*.swift.example,*.amazonaws.com] NONE 443/TLS",
                "transaction.node-53 [169-254-0-0-16.node.banyan.internal] NONE [169.254.0.0/16] 53/TCP",
                "transaction.node-987 [169-254-169-252-32.node.banyan.internal] NONE [169.254.169.252/32] 987/TCP 988/TCP",
                "transaction.node-80 [169-254-169-254-32.node.banyan.internal] NONE [169.254.169.254/32] 80/TCP",
                "transaction.addresses [transaction.addresses.payments.banyan.internal] NONE [10.3.0.0/16,10.4.0.0/16] 5432/TCP",
            ]
        );
    }

    #[test]
    fn faults_8_11_a_host_that_an_older_one_makes_known_has_one_entry() {
        let spec = spec("access: {outbound: {hosts: [api.stripe.com, b.example]}}");
        let known = outbound::hosts(&spec, testing::NAMESPACE);
        let known = known.into_iter().filter(|(host, _)| host != "b.example").collect();
        let scope = Scope { known_hosts: &known, ..testing::scope(&spec) };
        assert_eq!(entries(&scope), ["transaction [b.example] DNS 443/TLS"]);
    }

    #[test]
    fn faults_4_4_an_old_backend_is_seen_by_its_gateway_alone() {
        let mut spec = spec("legacy: {host: old.example, port: 8080}");
        let seen_by = |spec: &FinServiceSpec| {
            let entry = build(&testing::scope(spec)).pop().expect("that of the old backend");
            assert_eq!(
                (&*entry.name, &entry.body["spec"]["resolution"]),
                ("transaction.legacy", &json!("DNS"))
            );
            entry.body["spec"]["exportTo"].clone()
        };
        assert_eq!(seen_by(&spec), json!(["."]));
        spec.ingress = testing::rich().ingress;
        spec.ingress.as_mut().expect("an ingress").gateway = "edge/public".to_owned();
        assert_eq!(seen_by(&spec), json!([".", "edge"]));
    }

    #[test]
    fn faults_4_4_an_old_backend_with_tls_is_called_with_tls() {
        let rule = |legacy: &str| {
            let spec = spec(&format!("legacy: {legacy}"));
            destination_rule::legacy(&testing::scope(&spec)).map(|rule| rule.body["spec"].clone())
        };
        let policy =
            json!({"tls": {"mode": "SIMPLE", "sni": "old.example", "subjectAltNames": ["old.example"]}});
        let expected = json!({"host": "old.example", "exportTo": ["."], "trafficPolicy": policy});
        assert_eq!(rule("{host: old.example, port: 443}"), Some(expected.clone()));
        assert_eq!(rule("{host: old.example, port: 8443, tls: true}"), Some(expected));
        assert_eq!(rule("{host: old.example, port: 8080}"), None);
        assert_eq!(rule("{host: old.example, port: 443, tls: false}"), None);
        assert_eq!(rule("{host: monolith, port: 443}"), None, "the mesh sees to what is in the cluster");
    }

    /// Each sidecar that an entry is exported to looks its hosts up when it starts.
    #[test]
    fn faults_8_13_no_sidecar_elsewhere_looks_a_host_of_ours_up() {
        let mut spec = testing::rich();
        spec.legacy.as_mut().expect("an old backend").host = "old.example".to_owned();
        let entries = build(&testing::scope(&spec));
        let of = |suffix: &str| entries.iter().any(|entry| entry.name == format!("transaction{suffix}"));
        assert!([".legacy", ".wildcard", ".addresses", ""].into_iter().all(of), "all kinds are there");
        for entry in entries {
            let visible: Vec<&str> = entry.body["spec"]["exportTo"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            let expected: &[&str] =
                if entry.name.ends_with(".legacy") { &[".", "istio-system"] } else { &["."] };
            assert_eq!(visible, expected, "{}: left out is the whole mesh", entry.name);
        }
    }
}
