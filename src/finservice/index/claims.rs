//! Hosts and paths: who claimed which first, at each gateway.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::holders::{Holders, in_order};
use crate::api::FinService;
use crate::api::network::Ingress;
use crate::finservice::plan::placement;
use crate::runtime::key::Key;

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

/// What a host is for. What serves goes before what is only shown: a changed CanaryRollout must not take a host from
/// a service that answers under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    Serves,
    Preview,
}

/// Since when a FinService has been there, and what it claims, in order.
type Of = (Timestamp, Box<[(Claim, Use)]>);

/// Who claims what. What serves wins over previews; of equals the oldest FinService, then the one whose name comes
/// first.
#[derive(Debug, Default)]
pub struct Claims {
    holders: Holders<Claim, (Use, Timestamp)>,
    by_service: BTreeMap<Key, Of>,
}

impl Claims {
    /// Takes in what a FinService claims at this site, with the host of its preview, if it has one; `None` forgets
    /// it. Returns the others that it concerns: those that claim something which this one has begun or ceased to
    /// claim.
    pub fn update(
        &mut self,
        key: &Key,
        service: Option<&FinService>,
        preview: Option<&str>,
        site: &str,
    ) -> BTreeSet<Key> {
        let mut concerned = BTreeSet::new();
        let new = service.map(|service| (created(service), claims(key, service, preview, site)));
        let new = new.filter(|(_, claims)| !claims.is_empty());
        if self.by_service.get(key) == new.as_ref() {
            return concerned;
        }
        let before = self.by_service.get(key).map(|(_, claims)| claims.iter()).into_iter().flatten();
        let after = new.iter().flat_map(|(_, claims)| claims.iter());
        for (claim, _) in before.chain(after) {
            let above = above(claim).flat_map(|claim| self.holders.of(&claim).cloned().collect::<Vec<_>>());
            concerned.extend(above.filter(|holder| holder != key));
        }
        if let Some((at, old)) = self.by_service.remove(key) {
            let old = old.into_iter().map(|(claim, of_use)| (claim, (of_use, at)));
            self.holders.remove(key, old, &mut concerned);
        }
        if let Some((at, claims)) = new {
            let ranked = claims.iter().map(|(claim, of_use)| (claim.clone(), (*of_use, at)));
            self.holders.add(key, ranked, &mut concerned);
            self.by_service.insert(key.clone(), (at, claims));
        }
        concerned
    }

    /// What this FinService claims to serve although an older one does, with the holder.
    pub fn lost(&self, key: &Key) -> Vec<(Claim, Key)> {
        self.lost_of(key, Use::Serves)
    }

    /// Where its preview would stand although that belongs to another, with the holder.
    pub fn lost_previews(&self, key: &Key) -> Vec<(Claim, Key)> {
        self.lost_of(key, Use::Preview)
    }

    /// What others claim below what this FinService claims, at the same gateway.
    pub fn nested(&self, key: &Key) -> Vec<Claim> {
        let Some((_, claims)) = self.by_service.get(key) else { return Vec::new() };
        let mut nested = Vec::new();
        for (claim, _) in claims.iter().filter(|(_, of_use)| *of_use == Use::Serves) {
            let prefix = format!("{}/", claim.path.trim_end_matches('/'));
            let first = Claim { path: prefix.clone(), ..claim.clone() };
            let below = self.holders.from(&first).take_while(|other| {
                (&other.gateway, &other.host) == (&claim.gateway, &claim.host)
                    && other.path.starts_with(&prefix)
            });
            let others = below.filter(|other| other.path != claim.path);
            nested.extend(others.filter(|other| self.holders.of(*other).next() != Some(key)).cloned());
        }
        nested
    }

    fn lost_of(&self, key: &Key, wanted: Use) -> Vec<(Claim, Key)> {
        let Some((_, claims)) = self.by_service.get(key) else { return Vec::new() };
        claims
            .iter()
            .filter(|(_, of_use)| *of_use == wanted)
            .filter_map(|(claim, _)| {
                let first = self.holders.of(claim).next()?;
                (first != key).then(|| (claim.clone(), first.clone()))
            })
            .collect()
    }
}

/// The claims of which this one is a part: the same host, and each shorter prefix.
fn above(claim: &Claim) -> impl Iterator<Item = Claim> + use<'_> {
    let slashes = claim.path.match_indices('/').map(|(at, _)| at);
    let prefixes = slashes.map(|at| if at == 0 { "/" } else { &claim.path[..at] });
    let shorter = prefixes.filter(|prefix| *prefix != claim.path);
    shorter.map(|prefix| Claim { path: prefix.to_owned(), ..claim.clone() })
}

/// When a FinService was created; the end of time where that is not known.
pub(super) fn created(service: &FinService) -> Timestamp {
    service.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |time| time.0)
}

fn claims(key: &Key, service: &FinService, preview: Option<&str>, site: &str) -> Box<[(Claim, Use)]> {
    let Some(ingress) = &service.spec.ingress else { return Box::default() };
    if !placement::names(&service.spec, site) {
        return Box::default();
    }
    let serves = ingress.hosts.iter().map(|host| (host.as_str(), Use::Serves));
    let shown = preview.map(|host| (host, Use::Preview));
    let claims = serves.chain(shown);
    let claims = claims.flat_map(|(host, of_use)| of_host(key, ingress, host).map(move |c| (c, of_use)));
    in_order(claims)
}

/// A host with each path of an ingress.
fn of_host<'a>(key: &Key, ingress: &'a Ingress, host: &'a str) -> impl Iterator<Item = Claim> + use<'a> {
    let (namespace, gateway) = ingress.gateway_in(&key.namespace);
    let gateway = format!("{namespace}/{gateway}");
    let paths = ingress.paths.clone().unwrap_or_else(|| vec!["/".to_owned()]);
    paths.into_iter().map(move |path| {
        let path = match path.trim_end_matches('/') {
            "" => "/".to_owned(),
            path => path.to_owned(),
        };
        Claim { gateway: gateway.clone(), host: host.to_owned(), path }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(second: i64, host: &str, paths: &[&str]) -> FinService {
        let time = Timestamp::from_second(second).expect("in range");
        serde_json::from_value(json!({
            "apiVersion": "banyan.dev/v1alpha1", "kind": "FinService",
            "metadata": {"name": "x", "creationTimestamp": time.to_string()},
            "spec": {"owner": "team", "image": "app:1", "ports": [{"name": "http", "port": 80}],
                "ingress": {"hosts": [host], "paths": paths, "gateway": "edge/public"}},
        }))
        .expect("a FinService")
    }

    fn lost(found: Vec<(Claim, Key)>) -> Vec<String> {
        found.into_iter().map(|(claim, holder)| format!("{}{} {holder}", claim.host, claim.path)).collect()
    }

    #[test]
    fn one_preview_host_and_path_belongs_to_the_older_of_two() {
        let (mut claims, a, b) = (Claims::default(), Key::new("pay", "a"), Key::new("pay", "b"));
        claims.update(&a, Some(&service(20, "a.example", &["/x", "/y"])), Some("preview.example"), "here");
        let heard =
            claims.update(&b, Some(&service(10, "b.example", &["/y/"])), Some("preview.example"), "here");
        assert_eq!(heard, BTreeSet::from([a.clone()]));
        assert_eq!(lost(claims.lost_previews(&a)), ["preview.example/y pay/b"]);
        assert_eq!((claims.lost_previews(&b), claims.lost(&a), claims.lost(&b)), (vec![], vec![], vec![]));
        let heard = claims.update(&b, Some(&service(10, "b.example", &["/y"])), None, "here");
        assert_eq!((heard, claims.lost_previews(&a)), (BTreeSet::from([a]), vec![]));
    }

    #[test]
    fn faults_8_4_who_claims_below_another_is_known_to_it() {
        let (mut claims, pay, refunds) =
            (Claims::default(), Key::new("pay", "pay"), Key::new("pay", "refunds"));
        claims.update(&pay, Some(&service(20, "a.example", &["/", "/pay"])), None, "here");
        let nested = |claims: &Claims| -> Vec<String> {
            claims.nested(&pay).into_iter().map(|claim| claim.path).collect()
        };
        let heard = claims.update(
            &refunds,
            Some(&service(10, "a.example", &["/pay/refunds/", "/payments"])),
            None,
            "here",
        );
        assert_eq!(heard, BTreeSet::from([pay.clone()]));
        assert_eq!(nested(&claims), ["/pay/refunds", "/payments", "/pay/refunds"], "below each of both");
        assert_eq!(claims.nested(&refunds), []);
        assert_eq!(claims.update(&refunds, None, None, "here"), BTreeSet::from([pay.clone()]));
        assert_eq!(nested(&claims), [""; 0]);
    }

    #[test]
    fn a_host_that_serves_goes_before_a_preview_however_old_that_is() {
        let (mut claims, old, young) = (Claims::default(), Key::new("pay", "old"), Key::new("pay", "young"));
        claims.update(&young, Some(&service(20, "app.example", &["/"])), None, "here");
        let heard =
            claims.update(&old, Some(&service(10, "old.example", &["/"])), Some("app.example"), "here");
        assert_eq!(heard, BTreeSet::from([young.clone()]));
        assert_eq!(lost(claims.lost_previews(&old)), ["app.example/ pay/young"]);
        assert_eq!((claims.lost(&young), claims.lost(&old)), (vec![], vec![]));
        // Its own host is told of elsewhere.
        claims.update(&old, Some(&service(10, "old.example", &["/"])), Some("old.example"), "here");
        assert_eq!(claims.lost_previews(&old), []);
    }
}
