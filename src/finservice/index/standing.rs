//! What many FinServices share: how this site stands for their FailoverGroups, and the Gateways that they are behind.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use serde_json::Value;

use super::child::ChildState;
use super::gateways::Gateways;
use super::{Index, Parsed};
use crate::api::FinService;
use crate::authority::view::Authorities;
use crate::runtime::key::Key;

impl Index {
    /// Takes in how this site stands for each FailoverGroup. Returns whom it concerns: the FinServices of the groups that
    /// are news.
    pub fn set_authorities(&mut self, authorities: Authorities) -> BTreeSet<Key> {
        let before = std::mem::replace(&mut self.authorities, authorities);
        let changed: Vec<_> = self.authorities.changed(&before).collect();
        if changed.is_empty() {
            return BTreeSet::new();
        }
        let concerned = self.services().filter(|(key, service)| {
            let labels = service.metadata.labels.as_ref();
            changed.iter().any(|group| group.services.contains(&key.namespace, labels))
        });
        concerned.map(|(key, _)| key.clone()).collect()
    }

    /// Takes in the version in which Strimzi's kinds are served. Returns whom it concerns: all, if that is news.
    pub fn set_strimzi(&mut self, version: &'static str) -> BTreeSet<Key> {
        if self.settings.strimzi == version {
            return BTreeSet::new();
        }
        Arc::make_mut(&mut self.settings).strimzi = version;
        self.keys()
    }

    /// Takes in a Gateway of Istio (or that it is gone). Returns whom it concerns.
    pub fn istio_gateway(&mut self, key: &Key, spec: Option<&Value>) -> BTreeSet<Key> {
        match self.gateways.update(key, spec) && self.gateways.are_known() {
            true => self.behind(|gateway| gateway == key),
            false => BTreeSet::new(),
        }
    }

    /// All Gateways of Istio have been read. Returns whom it concerns.
    pub fn retain_istio_gateways(&mut self, seen: &HashSet<Key>) -> BTreeSet<Key> {
        let first = !self.gateways.are_known();
        let news = self.gateways.all_read(seen);
        self.behind(|gateway| first || news.contains(gateway))
    }

    /// The cluster has no Gateways of Istio any more. Returns whom it concerns.
    pub fn forget_istio_gateways(&mut self) -> BTreeSet<Key> {
        self.gateways.forget();
        self.behind(|_| true)
    }

    /// The FinServices that name such a Gateway of Istio.
    fn behind(&self, such: impl Fn(&Key) -> bool) -> BTreeSet<Key> {
        let named = |(key, service): &(&Key, &Arc<FinService>)| {
            Gateways::named(&key.namespace, &service.spec).is_some_and(|gateway| such(&gateway))
        };
        self.services().filter(named).map(|(key, _)| key.clone()).collect()
    }

    /// The pods that are Ready of the revision that serves, as its Deployment says; `None` where that is not known.
    pub fn ready_pods(&self, key: &Key) -> Option<i32> {
        let entry = self.entries.get(key)?;
        let Some(Parsed::Good(service)) = &entry.service else { return None };
        let stable = service.status.as_ref()?.revisions.as_ref()?.stable.as_deref()?;
        let mut deployments = entry.children.iter().filter_map(ChildState::deployment);
        deployments.find(|facts| &*facts.revision == stable).map(|facts| facts.ready)
    }

    /// All FinServices that can be read.
    pub fn services(&self) -> impl Iterator<Item = (&Key, &Arc<FinService>)> {
        self.entries.iter().filter_map(|(key, entry)| match &entry.service {
            Some(Parsed::Good(service)) => Some((key, service)),
            _ => None,
        })
    }
}
