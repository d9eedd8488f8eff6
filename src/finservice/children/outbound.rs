//! What the pods of a service may call, whoever holds them to it: the NetworkPolicy and the mesh are both made from this, so
//! that what one lets out, the other does not stop. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{kafka, peer};
use crate::api::FinServiceSpec;

/// Link-local addresses: clouds answer questions about the node and its credentials there, and run
/// caches of DNS.
pub const LINK_LOCAL: &str = "169.254.0.0/16";
/// Where GKE's nodes hand out tokens to pods (Workload Identity): both addresses that its manual
/// names, with their ports.
const GKE_METADATA: [(&str, &[u16]); 2] =
    [("169.254.169.252/32", &[987, 988]), ("169.254.169.254/32", &[80])];
/// Strimzi's listeners by default: plain, TLS, and one more.
const KAFKA: [u16; 3] = [9092, 9093, 9094];
/// OTLP over gRPC, as the specification of OpenTelemetry's protocol has it.
const OTLP_GRPC: u16 = 4317;
/// DNS.
const DNS: u16 = 53;
/// The labels of the cluster's DNS.
const KUBE_DNS: (&str, &str) = ("k8s-app", "kube-dns");
/// Its namespace.
const KUBE_SYSTEM: &str = "kube-system";

/// Who may be called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum To<'a> {
    /// The pods of a FinService: its namespace and its name.
    Service(&'a str, &'a str),
    /// Pods of a namespace with these labels; without any, all of them.
    Pods(&'a str, Vec<(&'a str, &'a str)>),
    /// The brokers of a Kafka cluster, in whatever namespace.
    Brokers(&'a str),
    /// A range of addresses, without those where clouds give away credentials of the node.
    Addresses(String),
    /// A range of link-local addresses, where the node answers.
    Node(&'static str),
    /// A host outside of the cluster, by name; it may begin with `*.`.
    Host(String),
}

/// What is spoken there, as far as a mesh must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spoken {
    /// TLS, by the name that it asks for.
    Tls,
    /// HTTP in the clear.
    Http,
    /// gRPC in the clear.
    Grpc,
    /// Anything.
    Tcp,
}

/// One thing that may be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way<'a> {
    /// Who.
    pub to: To<'a>,
    /// At which ports. Empty: at all of them.
    pub ports: Vec<u16>,
    /// What is spoken.
    pub spoken: Spoken,
    /// Whether UDP is as well.
    pub udp: bool,
}

impl<'a> Way<'a> {
    fn new(to: To<'a>, ports: &[u16], spoken: Spoken) -> Self {
        Self { to, ports: ports.to_vec(), spoken, udp: false }
    }
}

/// All that the pods of such a service in this namespace may call, each once.
pub fn ways<'a>(spec: &'a FinServiceSpec, namespace: &'a str) -> Vec<Way<'a>> {
    let mut ways = dns();
    if let Some(outbound) = spec.access.as_ref().and_then(|access| access.outbound.as_ref()) {
        // On all their ports: which of them are open is for the other side to say.
        ways.extend(outbound.services.iter().flatten().map(|service| {
            let to = To::Service(service.namespace.as_deref().unwrap_or(namespace), &service.service);
            Way::new(to, &[], Spoken::Tcp)
        }));
        ways.extend(outbound.pods.iter().flatten().map(|peer| {
            let labels = peer.labels.as_ref().map(labels).unwrap_or_default();
            let to = To::Pods(peer.namespace.as_deref().unwrap_or(namespace), labels);
            Way::new(to, peer.ports.as_deref().unwrap_or_default(), Spoken::Tcp)
        }));
        let all_ports = outbound.cidrs.iter().flatten().map(|cidr| (cidr, &[][..]));
        let some = outbound.addresses.iter().flatten().map(|peer| (&peer.cidr, &*peer.ports));
        ways.extend(
            all_ports
                .chain(some)
                .map(|(cidr, ports)| Way::new(To::Addresses(cidr.clone()), ports, Spoken::Tcp)),
        );
        let hosts = outbound.hosts.iter().flatten();
        ways.extend(hosts.map(|host| Way::new(To::Host(host.clone()), &[443], Spoken::Tls)));
    }
    if let Some(identity) = &spec.identity {
        ways.extend(
            identity
                .aws_role_arn
                .as_deref()
                .map(|arn| Way::new(To::Host(aws_hosts(arn)), &[443], Spoken::Tls)),
        );
        if identity.gcp_service_account.is_some() {
            ways.extend(GKE_METADATA.map(|(cidr, ports)| Way::new(To::Node(cidr), ports, Spoken::Tcp)));
        }
    }
    let tracing = spec.observability.as_ref().and_then(|observability| observability.tracing.as_ref());
    ways.extend(tracing.into_iter().flat_map(|tracing| collector(namespace, &tracing.endpoint)));
    let brokers = spec.data.as_ref().and_then(kafka::cluster_of);
    ways.extend(brokers.map(|cluster| Way::new(To::Brokers(cluster), &KAFKA, Spoken::Tcp)));
    let mut once: Vec<Way> = Vec::with_capacity(ways.len());
    for way in ways {
        if !once.contains(&way) {
            once.push(way);
        }
    }
    once
}

/// Whether a range of addresses is open at all its ports.
pub fn any_port(spec: &FinServiceSpec) -> bool {
    let outbound = spec.access.as_ref().and_then(|access| access.outbound.as_ref());
    let mut ranges = outbound.into_iter().flat_map(|outbound| outbound.cidrs.iter().flatten());
    ranges.any(|range| peer::addresses(range).is_some())
}

/// What is known to a mesh by the name of a host, and called by such a service, with its ports.
pub fn hosts(spec: &FinServiceSpec, namespace: &str) -> BTreeSet<(String, u16)> {
    let mut hosts = BTreeSet::new();
    for way in ways(spec, namespace) {
        let host = match way.to {
            To::Host(host) => host,
            To::Node(range) => node_host(range),
            _ => continue,
        };
        hosts.extend(way.ports.iter().map(|port| (host.clone(), *port)));
    }
    hosts
}

/// The name by which a mesh knows what a node answers at: one that nobody looks up.
pub fn node_host(range: &str) -> String {
    format!("{}.node.banyan.internal", range.replace(['.', '/'], "-"))
}

/// Names are looked up by everybody. NodeLocal DNSCache and Cloud DNS answer at link-local addresses.
fn dns<'a>() -> Vec<Way<'a>> {
    let to = [To::Pods(KUBE_SYSTEM, vec![KUBE_DNS]), To::Node(LINK_LOCAL)];
    to.map(|to| Way { udp: true, ..Way::new(to, &[DNS], Spoken::Tcp) }).into()
}

fn labels(labels: &BTreeMap<String, String>) -> Vec<(&str, &str)> {
    labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
}

/// The hosts of AWS's own services, for the partition of that ARN. A role is of no use without STS, whose name is another one
/// in each region; what else the role may call is for IAM to say.
fn aws_hosts(arn: &str) -> String {
    match arn.split(':').nth(1) {
        Some("aws-cn") => "*.amazonaws.com.cn".to_owned(),
        _ => "*.amazonaws.com".to_owned(),
    }
}

/// Where traces go, from an OTLP endpoint such as `http://collector.observability.svc:4318`; empty if it names no place that
/// may be called.
fn collector<'a>(own: &'a str, endpoint: &'a str) -> Vec<Way<'a>> {
    let Some((tls, host, port)) = parts(endpoint) else { return Vec::new() };
    let way = |to, spoken| Way::new(to, &[port], spoken);
    let namespace = |name| way(To::Pods(name, Vec::new()), Spoken::Tcp);
    if let Ok(address) = host.parse::<IpAddr>() {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        return vec![way(To::Addresses(format!("{address}/{bits}")), Spoken::Tcp)];
    }
    let spoken = match (tls, port) {
        (true, _) => Spoken::Tls,
        (false, OTLP_GRPC) => Spoken::Grpc,
        (false, _) => Spoken::Http,
    };
    let outside = || way(To::Host(host.to_ascii_lowercase()), spoken);
    match host.split('.').collect::<Vec<&str>>()[..] {
        [_] => vec![namespace(own)],
        [_, name, "svc"] | [_, name, "svc", "cluster", "local"] => vec![namespace(name)],
        // `name.namespace` looks like any other host.
        [_, name] => vec![outside(), namespace(name)],
        _ => vec![outside()],
    }
}

/// Whether an endpoint asks for TLS, its host, and its port.
fn parts(endpoint: &str) -> Option<(bool, &str, u16)> {
    let (scheme, rest) = endpoint.split_once("://")?;
    let tls = scheme == "https";
    let authority = rest.split(['/', '?', '#']).next()?;
    let default = if tls { 443 } else { 80 };
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
    (port != 0).then_some((tls, host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collectors_are_found_in_their_endpoints() {
        let found = |endpoint: &str| -> Vec<String> {
            let ways = collector("pay", endpoint);
            ways.iter().map(|way| format!("{:?} {:?} {:?}", way.to, way.ports, way.spoken)).collect()
        };
        let inside = r#"Pods("observability", [])"#;
        assert_eq!(found("http://otel.observability.svc:4318/v1"), [format!("{inside} [4318] Tcp")]);
        assert_eq!(found("https://otel.observability.svc.cluster.local"), [format!("{inside} [443] Tcp")]);
        assert_eq!(found("http://otel:4317"), [r#"Pods("pay", []) [4317] Tcp"#]);
        assert_eq!(found("http://10.1.2.3"), [r#"Addresses("10.1.2.3/32") [80] Tcp"#]);
        assert_eq!(found("http://[fd00::1]:4318"), [r#"Addresses("fd00::1/128") [4318] Tcp"#]);
        assert_eq!(found("https://OTLP.vendor.example:4317"), [r#"Host("otlp.vendor.example") [4317] Tls"#]);
        assert_eq!(found("http://otlp.vendor.example:4317"), [r#"Host("otlp.vendor.example") [4317] Grpc"#]);
        let both = [r#"Host("otel.observability") [4318] Http"#, r#"Pods("observability", []) [4318] Tcp"#];
        assert_eq!(found("http://otel.observability:4318"), both);
        assert_eq!(found("http://otel:notaport"), [""; 0]);
        assert_eq!(found("http://otel:0"), [""; 0]);
    }

    #[test]
    fn a_role_calls_the_services_of_its_partition() {
        assert_eq!(aws_hosts("arn:aws:iam::123456789012:role/app"), "*.amazonaws.com");
        assert_eq!(aws_hosts("arn:aws-us-gov:iam::123456789012:role/app"), "*.amazonaws.com");
        assert_eq!(aws_hosts("arn:aws-cn:iam::123456789012:role/app"), "*.amazonaws.com.cn");
    }
}
