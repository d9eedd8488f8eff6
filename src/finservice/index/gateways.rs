//! Istio's Gateways: which there are, and whom they let in. Nothing in a VirtualService's status says of one that is missing.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::Value;

use crate::api::FinServiceSpec;
use crate::api::network::MeshProvider;
use crate::runtime::key::Key;

/// What a FinService's Gateway of Istio says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IstioGateway {
    /// There is none of that name.
    Absent,
    /// It has no server for these hosts of the FinService.
    Lacks(Vec<String>),
    /// It has a server for each of its hosts.
    Serves,
}

/// The Gateways of Istio that there are.
#[derive(Debug, Default)]
pub struct Gateways {
    /// The hosts of each; `None` while that has not been read, or the cluster has no such kind.
    known: Option<BTreeMap<Key, Vec<Box<str>>>>,
    arriving: BTreeMap<Key, Vec<Box<str>>>,
}

/// The hosts of a Gateway's servers.
fn hosts(spec: &Value) -> Vec<Box<str>> {
    let servers = spec["servers"].as_array().into_iter().flatten();
    let hosts = servers.flat_map(|server| server["hosts"].as_array().into_iter().flatten());
    hosts.filter_map(|host| host.as_str().map(Into::into)).collect()
}

/// Whether a Gateway's host, such as `payments/*.example.com`, lets in requests for `host` by a route of `namespace`. Istio's
/// reference of `Server.hosts`: without a namespace it is any, `.` is the Gateway's own.
fn lets_in(pattern: &str, gateway: &Key, namespace: &str, host: &str) -> bool {
    let (of, pattern) = pattern.split_once('/').unwrap_or(("*", pattern));
    let is_ours = match of {
        "*" => true,
        "." => *gateway.namespace == *namespace,
        of => of == namespace,
    };
    is_ours
        && match pattern.strip_prefix('*') {
            Some(suffix) => host.ends_with(suffix),
            None => pattern == host,
        }
}

impl Gateways {
    /// The Gateway that a FinService of `namespace` names, if it is one of Istio.
    pub fn named(namespace: &str, spec: &FinServiceSpec) -> Option<Key> {
        let ingress = spec.ingress.as_ref().filter(|_| spec.provider() == MeshProvider::Istio)?;
        let (of, name) = ingress.gateway_in(namespace);
        Some(Key::new(of, name))
    }

    /// Takes in a Gateway (or that it is gone). Returns whether that is news.
    pub fn update(&mut self, key: &Key, spec: Option<&Value>) -> bool {
        let all = self.known.as_mut().unwrap_or(&mut self.arriving);
        match spec.map(hosts) {
            Some(hosts) => all.insert(key.clone(), hosts.clone()).as_ref() != Some(&hosts),
            None => all.remove(key).is_some(),
        }
    }

    /// All have been read. Returns those that are news.
    pub fn all_read(&mut self, seen: &HashSet<Key>) -> BTreeSet<Key> {
        match &mut self.known {
            Some(known) => {
                let gone: BTreeSet<Key> = known.keys().filter(|key| !seen.contains(*key)).cloned().collect();
                known.retain(|key, _| seen.contains(key));
                gone
            }
            None => {
                let known = self.known.insert(std::mem::take(&mut self.arriving));
                known.keys().cloned().collect()
            }
        }
    }

    /// Whether it is known which there are.
    pub fn are_known(&self) -> bool {
        self.known.is_some()
    }

    /// The cluster has no such kind any more.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// What the Gateway says that a FinService names; `None` if it names none of Istio, or nobody knows.
    pub fn of(&self, namespace: &str, spec: &FinServiceSpec) -> Option<IstioGateway> {
        let key = Self::named(namespace, spec)?;
        let Some(patterns) = self.known.as_ref()?.get(&key) else { return Some(IstioGateway::Absent) };
        let all = spec.ingress.iter().flat_map(|ingress| &ingress.hosts);
        let lacks = all
            .filter(|host| !patterns.iter().any(|pattern| lets_in(pattern, &key, namespace, host)))
            .cloned();
        let lacks: Vec<String> = lacks.collect();
        Some(if lacks.is_empty() { IstioGateway::Serves } else { IstioGateway::Lacks(lacks) })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::finservice::testing;

    #[test]
    fn faults_5_5_a_gateway_of_istio_that_is_missing_or_serves_other_hosts_is_known() {
        let mut spec = testing::rich();
        let ingress = spec.ingress.as_mut().expect("an ingress");
        ingress.gateway = "edge/public".to_owned();
        ingress.hosts = vec!["pay.example.com".to_owned(), "pay.example.org".to_owned()];
        spec.mesh.as_mut().expect("a mesh").provider = Some(MeshProvider::Istio);
        let key = Key::new("edge", "public");
        let mut gateways = Gateways::default();
        let with = |hosts: &[&str]| json!({"servers": [{"hosts": hosts}]});
        assert_eq!(gateways.of("payments", &spec), None, "nothing has been read");
        assert!(gateways.update(&key, Some(&with(&["*"]))));
        assert_eq!(gateways.of("payments", &spec), None, "not all have been read");
        assert_eq!(gateways.all_read(&HashSet::from([key.clone()])), BTreeSet::from([key.clone()]));
        assert!(!gateways.update(&key, Some(&with(&["*"]))));
        for (hosts, said) in [
            (&["*"][..], IstioGateway::Serves),
            (&["*.example.com", "payments/pay.example.org"], IstioGateway::Serves),
            (&["*.example.com", "./*"], IstioGateway::Lacks(vec!["pay.example.org".to_owned()])),
            (
                &["other/*", "example.com"],
                IstioGateway::Lacks(vec!["pay.example.com".into(), "pay.example.org".into()]),
            ),
        ] {
            gateways.update(&key, Some(&with(hosts)));
            assert_eq!(gateways.of("payments", &spec), Some(said), "{hosts:?}");
        }
        assert_eq!(gateways.all_read(&HashSet::new()), BTreeSet::from([key]));
        assert_eq!(gateways.of("payments", &spec), Some(IstioGateway::Absent));
        spec.mesh.as_mut().expect("a mesh").provider = Some(MeshProvider::GatewayAPI);
        assert_eq!(gateways.of("payments", &spec), None);
        gateways.forget();
        assert!(!gateways.are_known());
    }
}
