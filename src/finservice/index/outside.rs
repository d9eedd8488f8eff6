//! Hosts outside of the mesh: which FinServices of a namespace call one, of which the oldest makes it known for all.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::claims::created;
use super::holders::Holders;
use crate::api::FinService;
use crate::api::network::MeshProvider;
use crate::finservice::children::outbound;
use crate::finservice::plan::placement;
use crate::runtime::key::Key;

/// A host outside, and a port.
type Host = (String, u16);

/// Who calls which host outside, in each namespace.
#[derive(Debug, Default)]
pub struct Outside {
    holders: Holders<(Box<str>, Host), Timestamp>,
    by_service: BTreeMap<Key, (Timestamp, BTreeSet<Host>)>,
}

impl Outside {
    /// Takes in what a FinService calls at this site; `None` forgets it. Returns the others that it concerns.
    pub fn update(&mut self, key: &Key, service: Option<&FinService>, site: &str) -> BTreeSet<Key> {
        let mut concerned = BTreeSet::new();
        let new = service.filter(|service| {
            service.spec.provider() == MeshProvider::Istio && placement::names(&service.spec, site)
        });
        let new = new.map(|service| (created(service), outbound::hosts(&service.spec, &key.namespace)));
        let new = new.filter(|(_, hosts)| !hosts.is_empty());
        if self.by_service.get(key) == new.as_ref() {
            return concerned;
        }
        let named = |(at, hosts): &(Timestamp, BTreeSet<Host>)| {
            let (namespace, at) = (Box::<str>::from(&*key.namespace), *at);
            hosts.iter().map(|host| ((namespace.clone(), host.clone()), at)).collect::<Vec<_>>()
        };
        if let Some(old) = self.by_service.remove(key) {
            self.holders.remove(key, named(&old).into_iter(), &mut concerned);
        }
        if let Some(new) = new {
            self.holders.add(key, named(&new).into_iter(), &mut concerned);
            self.by_service.insert(key.clone(), new);
        }
        concerned
    }

    /// What this FinService calls, and an older one of the namespace makes known to the mesh.
    pub fn known(&self, key: &Key) -> BTreeSet<Host> {
        let Some((_, own)) = self.by_service.get(key) else { return BTreeSet::new() };
        let namespace: Box<str> = (&*key.namespace).into();
        let held = |host: &&Host| {
            let first = self.holders.of(&(namespace.clone(), (*host).clone())).next();
            first.is_some_and(|first| first != key)
        };
        own.iter().filter(held).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(second: i64, hosts: &[&str]) -> FinService {
        let time = Timestamp::from_second(second).expect("in range");
        serde_json::from_value(json!({
            "apiVersion": "banyan.dev/v1alpha1", "kind": "FinService",
            "metadata": {"name": "x", "creationTimestamp": time.to_string()},
            "spec": {"owner": "team", "image": "app:1", "ports": [{"name": "http", "port": 80}],
                "mesh": {"provider": "Istio"}, "access": {"outbound": {"hosts": hosts}}},
        }))
        .expect("a FinService")
    }

    #[test]
    fn faults_8_11_the_oldest_of_a_namespace_makes_a_host_known_for_all() {
        let mut outside = Outside::default();
        let (old, young, far) = (Key::new("pay", "old"), Key::new("pay", "young"), Key::new("far", "away"));
        let none: BTreeSet<Key> = BTreeSet::new();
        assert_eq!(outside.update(&young, Some(&service(20, &["a.example", "b.example"])), "here"), none);
        assert_eq!(
            outside.update(&far, Some(&service(1, &["a.example"])), "here"),
            none,
            "it is not seen there"
        );
        assert_eq!(outside.known(&young).len(), 0);
        let heard = outside.update(&old, Some(&service(10, &["a.example"])), "here");
        assert_eq!(heard, BTreeSet::from([young.clone()]));
        let known: Vec<String> =
            outside.known(&young).into_iter().map(|(host, port)| format!("{host}:{port}")).collect();
        assert_eq!(known, ["169-254-0-0-16.node.banyan.internal:53", "a.example:443"]);
        assert_eq!(outside.known(&old).len(), 0);
        assert_eq!(outside.update(&old, None, "here"), BTreeSet::from([young.clone()]));
        assert_eq!(outside.known(&young).len(), 0);
    }
}
