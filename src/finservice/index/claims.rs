//! Hosts and paths: who claimed which first, at each gateway.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::Key;
use crate::api::FinService;
use crate::finservice::placement;

/// A host and path at a gateway.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// The gateway, as `namespace/name`.
    pub gateway: String,
    /// The host.
    pub host: String,
    /// The path prefix.
    pub path: String,
}

/// Who claims what. The oldest FinService wins; among equals the one whose name comes first.
#[derive(Debug, Default)]
pub struct Claims {
    by_claim: BTreeMap<Claim, BTreeSet<(Timestamp, Key)>>,
    by_service: BTreeMap<Key, (Timestamp, BTreeSet<Claim>)>,
}

impl Claims {
    /// Takes in what a FinService claims at this site; `None` forgets it. Returns the others that it
    /// concerns: those that claim something which this one has begun or ceased to claim.
    pub fn update(&mut self, key: &Key, service: Option<&FinService>, site: &str) -> BTreeSet<Key> {
        let mut concerned = BTreeSet::new();
        let new = service.map(|service| (created(service), claims(key, service, site)));
        let new = new.filter(|(_, claims)| !claims.is_empty());
        if self.by_service.get(key) == new.as_ref() {
            return concerned;
        }
        if let Some((at, old)) = self.by_service.remove(key) {
            for claim in old {
                if let Some(holders) = self.by_claim.get_mut(&claim) {
                    holders.remove(&(at, key.clone()));
                    concerned.extend(holders.iter().map(|(_, holder)| holder.clone()));
                    if holders.is_empty() {
                        self.by_claim.remove(&claim);
                    }
                }
            }
        }
        if let Some((at, claims)) = new {
            for claim in &claims {
                let holders = self.by_claim.entry(claim.clone()).or_default();
                concerned.extend(holders.iter().map(|(_, holder)| holder.clone()));
                holders.insert((at, key.clone()));
            }
            self.by_service.insert(key.clone(), (at, claims));
        }
        concerned
    }

    /// What this FinService claims although an older one holds it, with the holder.
    pub fn lost(&self, key: &Key) -> Vec<(Claim, Key)> {
        let Some((at, claims)) = self.by_service.get(key) else { return Vec::new() };
        claims
            .iter()
            .filter_map(|claim| {
                let (first_at, first) = self.by_claim.get(claim)?.first()?;
                ((first_at, first) != (at, key)).then(|| (claim.clone(), first.clone()))
            })
            .collect()
    }
}

fn created(service: &FinService) -> Timestamp {
    service.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |time| time.0)
}

fn claims(key: &Key, service: &FinService, site: &str) -> BTreeSet<Claim> {
    let mut claims = BTreeSet::new();
    let Some(ingress) = &service.spec.ingress else { return claims };
    if !placement::names(&service.spec, site) {
        return claims;
    }
    let gateway = match ingress.gateway.split_once('/') {
        Some(_) => ingress.gateway.clone(),
        None => format!("{}/{}", key.namespace, ingress.gateway),
    };
    let all = vec!["/".to_owned()];
    for host in &ingress.hosts {
        for path in ingress.paths.as_ref().unwrap_or(&all) {
            let path = match path.trim_end_matches('/') {
                "" => "/".to_owned(),
                path => path.to_owned(),
            };
            claims.insert(Claim { gateway: gateway.clone(), host: host.clone(), path });
        }
    }
    claims
}
