//! CanaryRollouts as they come into the index, with the hosts under which they show revisions: those are claimed as
//! the hosts of FinServices are.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use crate::finservice::index::rollouts::CanaryObject;
use crate::finservice::index::{Index, Parsed};
use crate::runtime::key::Key;

impl Index {
    /// Takes in a CanaryRollout. Returns the FinServices that it concerns.
    pub fn canary(&mut self, key: &Key, object: CanaryObject) -> BTreeSet<Key> {
        let concerned = self.rollouts.put(key, object);
        self.claim_all(concerned)
    }

    /// Takes in that a CanaryRollout is gone. Returns the FinServices that it concerns.
    pub fn canary_gone(&mut self, key: &Key) -> BTreeSet<Key> {
        let concerned = self.rollouts.gone(key);
        self.claim_all(concerned)
    }

    /// After a relist: forgets the CanaryRollouts that were not in it. Returns the FinServices that it concerns.
    pub fn retain_canaries(&mut self, seen: &HashSet<Key>) -> BTreeSet<Key> {
        let concerned = self.rollouts.retain(seen);
        self.claim_all(concerned)
    }

    fn claim_all(&mut self, mut concerned: BTreeSet<Key>) -> BTreeSet<Key> {
        let others: Vec<Key> = concerned.iter().flat_map(|key| self.claim(key)).collect();
        concerned.extend(others);
        concerned
    }

    /// Works out what a FinService claims: its hosts, and that of its preview. Returns the others that it concerns.
    pub(super) fn claim(&mut self, key: &Key) -> BTreeSet<Key> {
        let service = match self.entries.get(key).and_then(|entry| entry.service.as_ref()) {
            Some(Parsed::Good(service)) => Some(Arc::clone(service)),
            _ => None,
        };
        let preview = self.rollouts.preview_host(key);
        self.claims.update(key, service.as_deref(), preview.as_deref(), &self.site)
    }
}
