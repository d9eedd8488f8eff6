//! The small view of the sites that other reconcilers get: what may be kept here, and which other sites there are. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::api::FinServiceSpec;
use crate::api::cloudcluster::WayKind;
use crate::api::operations::Residency;

/// The sites that CloudClusters in the operator's namespace describe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sites {
    /// Jurisdictions whose data may be kept on this site; `None` if nobody has said.
    pub residency: Option<Arc<[Residency]>>,
    /// Names of the other sites. Empty where a cluster is told of none: then nothing is known of them.
    pub peers: Arc<BTreeSet<String>>,
    /// What is said of each site, by name.
    pub described: Arc<BTreeMap<String, Described>>,
}

/// What its CloudCluster says of a site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Described {
    /// Jurisdictions whose data may be kept there.
    pub residency: Vec<Residency>,
    /// The address of its gateway.
    pub gateway: Option<String>,
    /// The kinds of ways that lead to it.
    pub kinds: Vec<WayKind>,
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
