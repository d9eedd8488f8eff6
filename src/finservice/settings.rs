//! What the installer says of this cluster, by which builders of children go. Pure.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::Deserialize;

/// What the installer says of this cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The operator's own namespace, whose pods ask others for their metrics.
    pub own_namespace: String,
    /// The namespace of Istio's control plane; `None` where it is outside of the cluster.
    pub istiod: Option<String>,
    /// Namespaces from which metrics are scraped; none: any.
    pub scrapers: Vec<String>,
    /// Whether gateways tell the operator what they count.
    pub gateways_count: bool,
    /// Where the proxies of gateways run. One that is not named has them in its own namespace.
    pub gateways: Gateways,
    /// Which namespaces may claim which hosts. One that is not named is of the namespace that claims it first.
    pub hosts: Hosts,
    /// Whether each namespace has a Kafka cluster of its own; else clusters of one name are one cluster.
    pub kafka_per_namespace: bool,
    /// The version in which the cluster serves Strimzi's kinds; read from its definitions, and followed.
    pub strimzi: &'static str,
}

/// The versions of Strimzi's kinds that a FinService's can be written in, best first: 1.0 and later serve `v1` alone, those before
/// 0.49 have only `v1beta2`. What is written is the same in both.
pub const STRIMZI_VERSIONS: [&str; 2] = ["v1", "v1beta2"];

impl Default for Settings {
    fn default() -> Self {
        Self {
            own_namespace: "banyan-system".to_owned(),
            istiod: Some("istio-system".to_owned()),
            scrapers: Vec::new(),
            gateways_count: false,
            gateways: Gateways::default(),
            hosts: Hosts::default(),
            kafka_per_namespace: false,
            strimzi: "v1beta2",
        }
    }
}

/// Which namespaces may claim a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Hosts(pub Vec<HostOf>);

/// A host, or all below one, and whose it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostOf {
    /// The host, such as `pay.example.com`, or `*.example.com` for all below that.
    pub host: String,
    /// The namespaces that may claim it; `*` is all.
    pub namespaces: Vec<String>,
}

impl Hosts {
    /// The namespaces that a host is given to; `None` if nothing is said of it. What names it goes before what names all below
    /// something, and of these the longest.
    pub fn of(&self, host: &str) -> Option<&[String]> {
        let below = |of: &&HostOf| {
            of.host
                .strip_prefix('*')
                .is_some_and(|suffix| host.len() > suffix.len() && host.ends_with(suffix))
        };
        let named = self.0.iter().find(|of| of.host == host);
        let found = named.or_else(|| self.0.iter().filter(below).max_by_key(|of| of.host.len()));
        found.map(|of| of.namespaces.as_slice())
    }
}

impl FromStr for Hosts {
    type Err = String;

    /// Reads what the chart hands over: the list of its value `hosts`, as JSON.
    fn from_str(text: &str) -> Result<Self, String> {
        let form = r#"write a list such as [{"host": "*.pay.example.com", "namespaces": ["payments"]}]"#;
        let hosts: Self = serde_json::from_str(text).map_err(|error| format!("{error}; {form}"))?;
        match hosts.0.iter().find(|of| of.host.is_empty() || of.namespaces.is_empty()) {
            Some(of) => {
                Err(format!("host {} needs a name and the namespaces that may claim it; {form}", of.host))
            }
            None => Ok(hosts),
        }
    }
}

/// Where the proxies of gateways run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Gateways(pub Vec<Proxies>);

/// The proxies of a gateway: pods of a namespace, or what has these addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Proxies {
    /// The gateway, as `namespace/name`; `*` is all that are not named.
    pub gateway: String,
    /// The namespace of its proxies.
    pub namespace: Option<String>,
    /// Labels of its proxies in that namespace; without any, all pods there.
    #[serde(default)]
    pub pod_labels: BTreeMap<String, String>,
    /// Addresses of its proxies, where they are no pods of this cluster.
    #[serde(default)]
    pub cidrs: Vec<String>,
}

impl Gateways {
    /// What is said of a gateway.
    pub fn of(&self, namespace: &str, name: &str) -> Option<&Proxies> {
        let named = |proxies: &&Proxies| proxies.gateway.split_once('/') == Some((namespace, name));
        let others = || self.0.iter().find(|proxies| proxies.gateway == "*");
        self.0.iter().find(named).or_else(others)
    }
}

impl FromStr for Gateways {
    type Err = String;

    /// Reads what the chart hands over: the list of its value `gateways`, as JSON.
    fn from_str(text: &str) -> Result<Self, String> {
        let form = r#"write a list such as [{"gateway": "edge/public", "namespace": "projectcontour"}]"#;
        let gateways: Self = serde_json::from_str(text).map_err(|error| format!("{error}; {form}"))?;
        for Proxies { gateway, namespace, cidrs, .. } in &gateways.0 {
            if gateway != "*" && !gateway.contains('/') {
                return Err(format!("gateway {gateway} must be namespace/name, or *; {form}"));
            }
            if namespace.is_none() && cidrs.is_empty() {
                return Err(format!("gateway {gateway} needs the namespace of its proxies, or their cidrs"));
            }
        }
        Ok(gateways)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_that_is_named_goes_before_those_below_something() {
        let text = r#"[{"host": "*.example", "namespaces": ["a"]}, {"host": "*.pay.example", "namespaces": ["b"]},
            {"host": "x.pay.example", "namespaces": ["c"]}]"#;
        let hosts: Hosts = text.parse().expect("hosts");
        let of = |host: &str| hosts.of(host).map(|all| all.concat());
        assert_eq!(
            ["x.pay.example", "y.pay.example", "pay.example", "example", "other"].map(of),
            [Some("c".to_owned()), Some("b".to_owned()), Some("a".to_owned()), None, None]
        );
        assert!(r#"[{"host": "a.example", "namespaces": []}]"#.parse::<Hosts>().is_err());
    }

    #[test]
    fn a_gateway_that_is_named_goes_before_all_others() {
        let text = r#"[{"gateway": "*", "cidrs": ["35.191.0.0/16"]}, {"gateway": "edge/public", "namespace": "contour", "podLabels": {"app": "envoy"}}]"#;
        let gateways: Gateways = text.parse().expect("gateways");
        let of = |namespace: &str, name: &str| gateways.of(namespace, name).map(|proxies| &*proxies.gateway);
        assert_eq!([of("edge", "public"), of("edge", "other")], [Some("edge/public"), Some("*")]);
        assert_eq!(Gateways::default().of("edge", "public"), None);
        for (wrong, says) in [
            ("edge/public", "expected value"),
            (r#"[{"gateway": "public", "namespace": "edge"}]"#, "must be namespace/name"),
            (r#"[{"gateway": "edge/public"}]"#, "needs the namespace"),
            (r#"[{"gateway": "edge/public", "labels": {}}]"#, "unknown field"),
        ] {
            let error = wrong.parse::<Gateways>().expect_err("it is wrong");
            assert!(error.contains(says), "{error}");
        }
    }
}
