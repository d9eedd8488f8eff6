//! How this site stands for the FailoverGroups of its FinServices.

use std::collections::BTreeSet;
use std::sync::Arc;

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

    /// All FinServices that can be read.
    pub fn services(&self) -> impl Iterator<Item = (&Key, &Arc<FinService>)> {
        self.entries.iter().filter_map(|(key, entry)| match &entry.service {
            Some(Parsed::Good(service)) => Some((key, service)),
            _ => None,
        })
    }
}
