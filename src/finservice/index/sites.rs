//! The sites that CloudClusters in the operator's namespace describe: this one, and its peers. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Index, Key};
use crate::api::FinServiceSpec;
use crate::api::operations::Residency;

/// The sites that are described here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sites {
    /// Jurisdictions whose data may be kept on this site; `None` if nobody has said.
    pub residency: Option<Arc<[Residency]>>,
    /// Names of the other sites. Empty where a cluster is told of none: then nothing is known of them.
    pub peers: Arc<BTreeSet<String>>,
}

impl Sites {
    /// Whether a name can be that of a site. Where no peer is described every name can: a cluster need not be told of its peers.
    fn may_be(&self, own: &str, name: &str) -> bool {
        name == own || self.peers.is_empty() || self.peers.contains(name)
    }

    /// Whether `placement` names sites, of which none is described.
    pub fn nowhere(&self, own: &str, spec: &FinServiceSpec) -> bool {
        let placed = spec.placement.as_deref().unwrap_or_default();
        !placed.is_empty() && !placed.iter().any(|placed| self.may_be(own, &placed.cluster))
    }

    /// Names in `placement` and `sites` that no CloudCluster has, each with the field that says it.
    pub fn unknown<'a>(&self, own: &str, spec: &'a FinServiceSpec) -> Vec<(&'static str, &'a str)> {
        let placed = spec.placement.iter().flatten();
        let placed = placed.map(|placed| ("spec.placement", placed.cluster.as_str()));
        let special = spec.sites.iter().flatten().map(|(name, _)| ("spec.sites", name.as_str()));
        placed.chain(special).filter(|(_, name)| !self.may_be(own, name)).collect()
    }
}

impl Index {
    /// Takes in what data may be kept on this site. Returns whom it concerns: all, if that is news.
    pub fn residency(&mut self, residency: Option<&[Residency]>) -> BTreeSet<Key> {
        if self.sites.residency.as_deref() == residency {
            return BTreeSet::new();
        }
        self.sites.residency = residency.map(Arc::from);
        self.keys()
    }

    /// Takes in whether another site is described. Returns whom it concerns: all, if that is news.
    pub fn peer(&mut self, name: &str, there: bool) -> BTreeSet<Key> {
        if self.sites.peers.contains(name) == there {
            return BTreeSet::new();
        }
        let peers = Arc::make_mut(&mut self.sites.peers);
        if there {
            peers.insert(name.to_owned());
        } else {
            peers.remove(name);
        }
        self.keys()
    }

    /// Takes in that these are all the other sites that are described. Returns whom it concerns.
    pub fn retain_peers(&mut self, seen: &BTreeSet<&str>) -> BTreeSet<Key> {
        let known = self.sites.peers.iter();
        let gone: Vec<String> = known.filter(|name| !seen.contains(name.as_str())).cloned().collect();
        gone.iter().flat_map(|name| self.peer(name, false)).collect()
    }
}
