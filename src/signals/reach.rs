//! Which servers a namespace may have the operator ask: Services of its own, and what the installer lists. Pure; the
//! names are resolved elsewhere ([`super::resolver`]).
//!
//! The operator stands elsewhere in the network than who names an address to it. A NetworkPolicy that lets it in, a server
//! that trusts this machine, the metadata of the node, the API server: nothing of that is a tenant's to ask.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use reqwest::Url;

use crate::runtime::network::Network;

/// What the installer lists, as `HOST[:PORT]`: a name, `*.` and a domain, an address, or a network such as `10.1.0.0/16`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    host: Host,
    /// `None`: any.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Name(String),
    /// All names that end in a dot and this.
    Below(String),
    Network(Network),
}

/// What is listed cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no server that can be listed: write a host, *.DOMAIN, an address or a network, and a port if it is for one \
     alone, such as prometheus.monitoring:9090 or 10.1.0.0/16"
)]
pub struct NotListed(String);

impl FromStr for Listed {
    type Err = NotListed;

    fn from_str(text: &str) -> Result<Self, NotListed> {
        let wrong = || NotListed(text.to_owned());
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or_else(wrong)?)),
            // More than one colon are of an IPv6 address.
            None => match text.split_once(':') {
                Some((host, port)) if !port.contains(':') => (host, Some(port)),
                _ => (text, None),
            },
        };
        let port =
            port.map(|port| port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)).transpose()?;
        if let Ok(network) = host.parse() {
            return Ok(Self { host: Host::Network(network), port });
        }
        let (below, name) = match host.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, host),
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        if name.is_empty() || !name.chars().all(fits) || name.starts_with('.') {
            return Err(wrong());
        }
        let name = plain(name);
        Ok(Self { host: if below { Host::Below(name) } else { Host::Name(name) }, port })
    }
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Name(name) => f.write_str(name)?,
            Host::Below(name) => write!(f, "*.{name}")?,
            Host::Network(network) => write!(f, "[{network}]")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// A name of DNS as it is compared: in lower case, a Service as `name.namespace`.
fn plain(name: &str) -> String {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    match service(&name) {
        Some((name, namespace)) => format!("{name}.{namespace}"),
        None => name,
    }
}

/// Name and namespace of a Service that is named as `name.namespace.svc`, with the cluster's domain or without it.
fn service(name: &str) -> Option<(&str, &str)> {
    let mut labels = name.splitn(4, '.');
    let (name, namespace) = (labels.next()?, labels.next()?);
    (labels.next() == Some("svc")).then_some((name, namespace))
}

/// By what right an address is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// The installer lists the host by its name: where that leads is the installer's matter.
    Listed,
    /// The installer lists the domain above the host, where names may be others'.
    Below,
    /// The installer lists this address.
    Address(IpAddr),
    /// A Service of the namespace's own, by its name.
    Own(String),
}

/// Why a server is not asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{field}: {what}; name a Service of namespace {namespace}, or have {host} listed in evidence.allow of the operator's \
     chart"
)]
pub struct Refused {
    field: &'static str,
    namespace: String,
    host: String,
    what: String,
}

/// Who wants to ask, and whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The field that names the server.
    pub field: &'static str,
    /// The namespace in which that stands.
    pub namespace: String,
    /// The host, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Wish {
    /// The wish to ask a URL that a field of a namespace names; `None` if it names no host.
    pub fn new(field: &'static str, namespace: &str, url: &Url) -> Option<Self> {
        let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
        Some(Self { field, namespace: namespace.to_owned(), host, port: url.port_or_known_default()? })
    }

    /// It is not granted, since of the server this is so.
    pub fn refused(&self, what: impl Into<String>) -> Refused {
        let Self { field, namespace, host, port } = self.clone();
        let host = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        Refused { field, namespace, host, what: what.into() }
    }
}

/// What is granted.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    listed: Vec<Listed>,
}

impl Reach {
    /// Services of the own namespace, and these.
    pub fn new(listed: Vec<Listed>) -> Self {
        Self { listed }
    }

    /// By what right a wish is granted, as far as the host's name says.
    ///
    /// # Errors
    /// If there is none.
    pub fn way(&self, wish: &Wish) -> Result<Way, Refused> {
        if let Ok(address) = wish.host.parse::<IpAddr>() {
            let address = address.to_canonical();
            let listed = self.lists(address, wish.port);
            return listed
                .then_some(Way::Address(address))
                .ok_or_else(|| wish.refused(format!("{address} is an address that is not listed")));
        }
        let name = plain(&wish.host);
        for listed in self.listed.iter().filter(|listed| listed.port.is_none_or(|port| port == wish.port)) {
            match &listed.host {
                Host::Name(known) if *known == name => return Ok(Way::Listed),
                Host::Below(domain)
                    if name.strip_suffix(domain.as_str()).is_some_and(|n| n.ends_with('.')) =>
                {
                    return Ok(Way::Below);
                }
                _ => {}
            }
        }
        // A name without a dot would be looked for in the operator's own namespace.
        let own = match name.split_once('.') {
            None => Some(name.as_str()),
            Some((service, namespace)) => (namespace == wish.namespace).then_some(service),
        };
        match own.filter(|name| !name.is_empty()) {
            Some(service) => Ok(Way::Own(service.to_owned())),
            None => Err(wish.refused(format!("{} is no Service of the own namespace", wish.host))),
        }
    }

    /// Whether an address to which a name leads may be asked, as far as it says that itself.
    ///
    /// # Errors
    /// If it is of a kind that is nobody's to ask, and is not listed.
    pub fn pass(&self, wish: &Wish, address: IpAddr) -> Result<(), Refused> {
        let address = address.to_canonical();
        match nobodys(address) {
            Some(what) if !self.lists(address, wish.port) => {
                Err(wish.refused(format!("{} leads to {address}, which is {what}", wish.host)))
            }
            _ => Ok(()),
        }
    }

    /// Whether an address is listed as such.
    pub fn lists(&self, address: IpAddr, port: u16) -> bool {
        self.listed.iter().any(|listed| {
            let within = matches!(listed.host, Host::Network(network) if network.contains(address));
            within && listed.port.is_none_or(|known| known == port)
        })
    }
}

/// What an address is that no server of a tenant's has.
fn nobodys(address: IpAddr) -> Option<&'static str> {
    const AWS: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    const ALIBABA: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
    let (link_local, broadcast) = match address {
        IpAddr::V4(address) => (address.is_link_local(), address.is_broadcast()),
        IpAddr::V6(address) => (address.is_unicast_link_local(), false),
    };
    if address.is_loopback() || address.is_unspecified() {
        return Some("the operator's own machine");
    }
    if link_local || address == AWS || address == ALIBABA {
        return Some("link-local, where clouds tell secrets of a node");
    }
    (address.is_multicast() || broadcast).then_some("no address of one server")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(listed: &[&str]) -> Reach {
        Reach::new(listed.iter().map(|text| text.parse().unwrap()).collect())
    }

    fn wish(url: &str) -> Wish {
        Wish::new("gates[].webhook.url", "pay", &Url::parse(url).unwrap()).unwrap()
    }

    #[test]
    fn faults_4_2_own_services_and_what_is_listed_and_nothing_else() {
        let none = reach(&[]);
        let own = |name: &str| Ok(Way::Own(name.to_owned()));
        assert_eq!(none.way(&wish("http://prometheus:9090")), own("prometheus"));
        assert_eq!(none.way(&wish("http://prometheus.pay:9090/x")), own("prometheus"));
        assert_eq!(none.way(&wish("https://Prometheus.pay.svc")), own("prometheus"));
        assert_eq!(none.way(&wish("http://prometheus.pay.svc.cluster.local.:80")), own("prometheus"));
        for url in [
            "http://prometheus.monitoring:9090",
            "http://prometheus.monitoring.svc.cluster.local:9090/-/quit",
            "http://ledger.pay.example.com",
            "http://pod-1.prometheus.pay.svc",
            "https://hooks.example.com",
            "http://127.0.0.1:9090",
            "http://0x7f000001",
            "http://[::1]:2379",
            "http://169.254.169.254/latest/meta-data",
            "http://10.0.0.1",
        ] {
            let why = none.way(&wish(url)).unwrap_err().to_string();
            assert!(why.starts_with("gates[].webhook.url: "), "{why}");
            assert!(why.contains("namespace pay") && why.contains("evidence.allow"), "{url}: {why}");
        }
        let some =
            reach(&["prometheus.monitoring.svc:9090", "*.example.com", "10.1.0.0/16:80", "[fd00::1]:80"]);
        assert_eq!(some.way(&wish("http://prometheus.monitoring:9090")), Ok(Way::Listed));
        assert!(some.way(&wish("http://prometheus.monitoring:9091")).is_err(), "another port");
        assert_eq!(some.way(&wish("https://hooks.example.com")), Ok(Way::Below));
        assert!(some.way(&wish("https://notexample.com")).is_err());
        let address = |text: &str| Ok(Way::Address(text.parse().unwrap()));
        assert_eq!(some.way(&wish("http://10.1.255.255")), address("10.1.255.255"));
        assert_eq!(some.way(&wish("http://[::ffff:10.1.0.1]")), address("10.1.0.1"));
        assert_eq!(some.way(&wish("http://[fd00::1]")), address("fd00::1"));
        assert!(some.way(&wish("http://10.2.0.1")).is_err());
        assert!(some.way(&wish("https://10.1.0.1")).is_err(), "another port");
    }

    #[test]
    fn faults_4_2_where_a_name_leads_is_looked_at_as_well() {
        let named = reach(&["*.example.com"]);
        let hooks = wish("https://hooks.example.com");
        for (address, what) in [
            ("127.0.0.1", "own machine"),
            ("0.0.0.0", "own machine"),
            ("::", "own machine"),
            ("::1", "own machine"),
            ("::ffff:127.0.0.1", "own machine"),
            ("169.254.169.254", "link-local"),
            ("fe80::1", "link-local"),
            ("fd00:ec2::254", "link-local"),
            ("::ffff:169.254.170.2", "link-local"),
            ("100.100.100.200", "link-local"),
            ("224.0.0.1", "no address of one"),
            ("255.255.255.255", "no address of one"),
        ] {
            let why = named.pass(&hooks, address.parse().unwrap()).unwrap_err().to_string();
            assert!(why.contains(what) && why.contains("hooks.example.com:443 listed"), "{address}: {why}");
        }
        assert_eq!(named.pass(&hooks, "203.0.113.7".parse().unwrap()), Ok(()));
        let here = reach(&["127.0.0.0/8", "*.example.com"]);
        assert_eq!(here.pass(&hooks, "127.0.0.2".parse().unwrap()), Ok(()), "listed as an address");
    }

    #[test]
    fn what_is_listed_is_read_and_shown() {
        for text in
            ["a.b:80", "*.b.example", "[10.0.0.0/8]:9090", "[::1/128]", "[fd00::/8]:443", "prometheus"]
        {
            let listed: Listed = text.parse().unwrap();
            assert_eq!(listed.to_string(), text);
        }
        assert_eq!("10.0.0.7".parse::<Listed>().unwrap().to_string(), "[10.0.0.7/32]");
        assert_eq!("fd00::/8".parse::<Listed>().unwrap().to_string(), "[fd00::/8]");
        assert_eq!(
            "0.0.0.0/0".parse::<Listed>().map(|all| Reach::new(vec![all]).lists([1, 2, 3, 4].into(), 1)),
            Ok(true)
        );
        for text in ["", "http://a", "a:0", "a:x", "10.0.0.0/33", "a/8", "*", "*.", ".a", "[::1]80", "a b"] {
            let why = text.parse::<Listed>().unwrap_err().to_string();
            assert!(why.contains("prometheus.monitoring:9090"), "{why}");
        }
    }
}
