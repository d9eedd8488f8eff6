//! Hosts and paths: who claimed which first, at each gateway.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::holders::{Holders, in_order};
use crate::api::FinService;
use crate::api::network::Ingress;
use crate::finservice::plan::placement;
use crate::finservice::settings::Hosts;
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

/// A host at a gateway.
type Place = (Box<str>, Box<str>);

/// A claim that is another's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// What is claimed.
    pub claim: Claim,
    /// Whose it is.
    pub to: Holder,
}

/// Who has a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A FinService that claimed it before.
    Service(Key),
    /// The namespace of a FinService that was the first to claim something of the host.
    Namespace(Key),
    /// Namespaces that the installer gave the host to.
    Given(Vec<String>),
}

/// Who claims what. A host at a gateway is of one namespace, unless the installer gives it to several: of those that he says,
/// else of the one that claimed something of it first. There what serves wins over previews; of equals the oldest FinService,
/// then the one whose name comes first.
#[derive(Debug, Default)]
pub struct Claims {
    holders: Holders<Claim, (Use, Timestamp)>,
    hosts: BTreeMap<Place, BTreeSet<(Use, Timestamp, Key)>>,
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
        let mut places = BTreeSet::new();
        for (claim, _) in before.chain(after) {
            places.insert(claim.place());
            let above = above(claim).flat_map(|claim| self.holders.of(&claim).cloned().collect::<Vec<_>>());
            concerned.extend(above.filter(|holder| holder != key));
        }
        let first: Vec<Option<Arc<str>>> = places.iter().map(|place| self.first_namespace(place)).collect();
        if let Some((at, old)) = self.by_service.remove(key) {
            for (claim, of_use) in &old {
                if let Some(all) = self.hosts.get_mut(&claim.place()) {
                    all.remove(&(*of_use, at, key.clone()));
                }
            }
            let old = old.into_iter().map(|(claim, of_use)| (claim, (of_use, at)));
            self.holders.remove(key, old, &mut concerned);
        }
        if let Some((at, claims)) = new {
            let ranked = claims.iter().map(|(claim, of_use)| (claim.clone(), (*of_use, at)));
            self.holders.add(key, ranked, &mut concerned);
            for (claim, of_use) in &claims {
                self.hosts.entry(claim.place()).or_default().insert((*of_use, at, key.clone()));
            }
            self.by_service.insert(key.clone(), (at, claims));
        }
        for (place, first) in places.iter().zip(first) {
            if self.first_namespace(place) != first {
                concerned.extend(self.of_place(place).filter(|holder| *holder != key).cloned());
            }
            if self.hosts.get(place).is_some_and(BTreeSet::is_empty) {
                self.hosts.remove(place);
            }
        }
        concerned
    }

    fn first_namespace(&self, place: &Place) -> Option<Arc<str>> {
        let (.., first) = self.hosts.get(place)?.first()?;
        Some(first.namespace.clone())
    }

    /// Who keeps the FinServices of a namespace from a host; `None` if nobody does.
    fn keeps_from(&self, namespace: &str, claim: &Claim, given: &Hosts) -> Option<Holder> {
        if let Some(namespaces) = given.of(&claim.host) {
            let is_given = namespaces.iter().any(|given| given == namespace || given == "*");
            return (!is_given).then(|| Holder::Given(namespaces.to_vec()));
        }
        let places = std::iter::once(claim.place()).chain(claim.above_host());
        let (.., first) = places.filter_map(|place| self.hosts.get(&place)?.first()).min()?;
        (*first.namespace != *namespace).then(|| Holder::Namespace(first.clone()))
    }

    /// Those who claim something of a host, or of one below it.
    fn of_place<'a>(&'a self, (gateway, host): &'a Place) -> impl Iterator<Item = &'a Key> {
        let below = host.strip_prefix('*').map(|suffix| {
            let all = self.hosts.range((gateway.clone(), Box::default())..);
            let all = all.take_while(move |((of, _), _)| of == gateway);
            all.filter(move |((_, name), _)| name.ends_with(suffix) && *name != *host)
        });
        let below = below.into_iter().flatten().flat_map(|(_, all)| all);
        let own =
            self.hosts.get_key_value(&(gateway.clone(), host.clone())).into_iter().flat_map(|(_, all)| all);
        own.chain(below).map(|(.., key)| key)
    }

    /// The first that may claim it.
    fn holder(&self, claim: &Claim, given: &Hosts) -> Option<&Key> {
        self.holders.of(claim).find(|key| self.keeps_from(&key.namespace, claim, given).is_none())
    }

    /// What this FinService claims to serve although it is another's.
    pub fn lost(&self, key: &Key, given: &Hosts) -> Vec<Lost> {
        self.lost_of(key, Use::Serves, given)
    }

    /// Where its preview would stand although that belongs to another.
    pub fn lost_previews(&self, key: &Key, given: &Hosts) -> Vec<Lost> {
        self.lost_of(key, Use::Preview, given)
    }

    /// What others claim below what this FinService claims, at the same gateway, and may.
    pub fn nested(&self, key: &Key, given: &Hosts) -> Vec<Claim> {
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
            let others = others.filter(|other| self.holder(other, given).is_some_and(|holder| holder != key));
            nested.extend(others.cloned());
        }
        nested
    }

    fn lost_of(&self, key: &Key, wanted: Use, given: &Hosts) -> Vec<Lost> {
        let Some((_, claims)) = self.by_service.get(key) else { return Vec::new() };
        claims
            .iter()
            .filter(|(_, of_use)| *of_use == wanted)
            .filter_map(|(claim, _)| {
                let to = self.keeps_from(&key.namespace, claim, given).or_else(|| {
                    let first = self.holder(claim, given)?;
                    (first != key).then(|| Holder::Service(first.clone()))
                })?;
                Some(Lost { claim: claim.clone(), to })
            })
            .collect()
    }
}

impl Claim {
    fn place(&self) -> Place {
        (self.gateway.as_str().into(), self.host.as_str().into())
    }

    /// The hosts with a star that hold this one, such as `*.example.com` of `pay.example.com`.
    fn above_host(&self) -> impl Iterator<Item = Place> {
        let host = self.host.strip_prefix("*.").unwrap_or(&self.host);
        let dots = host.match_indices('.').map(|(at, _)| format!("*{}", &host[at..]));
        dots.filter(|above| *above != self.host).map(|above| (self.gateway.as_str().into(), above.into()))
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

    fn lost(found: Vec<Lost>) -> Vec<String> {
        let words = |Lost { claim: Claim { host, path, .. }, to }| match to {
            Holder::Service(key) => format!("{host}{path} {key}"),
            Holder::Namespace(key) => format!("{host}{path} of {}", key.namespace),
            Holder::Given(all) => format!("{host}{path} given to {}", all.join(" ")),
        };
        found.into_iter().map(words).collect()
    }

    #[test]
    fn one_preview_host_and_path_belongs_to_the_older_of_two() {
        let (mut claims, a, b) = (Claims::default(), Key::new("pay", "a"), Key::new("pay", "b"));
        claims.update(&a, Some(&service(20, "a.example", &["/x", "/y"])), Some("preview.example"), "here");
        let heard =
            claims.update(&b, Some(&service(10, "b.example", &["/y/"])), Some("preview.example"), "here");
        assert_eq!(heard, BTreeSet::from([a.clone()]));
        assert_eq!(lost(claims.lost_previews(&a, &Hosts::default())), ["preview.example/y pay/b"]);
        assert_eq!(
            (
                claims.lost_previews(&b, &Hosts::default()),
                claims.lost(&a, &Hosts::default()),
                claims.lost(&b, &Hosts::default())
            ),
            (vec![], vec![], vec![])
        );
        let heard = claims.update(&b, Some(&service(10, "b.example", &["/y"])), None, "here");
        assert_eq!((heard, claims.lost_previews(&a, &Hosts::default())), (BTreeSet::from([a]), vec![]));
    }

    #[test]
    fn faults_8_4_who_claims_below_another_is_known_to_it() {
        let (mut claims, pay, refunds) =
            (Claims::default(), Key::new("pay", "pay"), Key::new("pay", "refunds"));
        claims.update(&pay, Some(&service(20, "a.example", &["/", "/pay"])), None, "here");
        let nested = |claims: &Claims| -> Vec<String> {
            claims.nested(&pay, &Hosts::default()).into_iter().map(|claim| claim.path).collect()
        };
        let heard = claims.update(
            &refunds,
            Some(&service(10, "a.example", &["/pay/refunds/", "/payments"])),
            None,
            "here",
        );
        assert_eq!(heard, BTreeSet::from([pay.clone()]));
        assert_eq!(nested(&claims), ["/pay/refunds", "/payments", "/pay/refunds"], "below each of both");
        assert_eq!(claims.nested(&refunds, &Hosts::default()), []);
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
        assert_eq!(lost(claims.lost_previews(&old, &Hosts::default())), ["app.example/ pay/young"]);
        assert_eq!(
            (claims.lost(&young, &Hosts::default()), claims.lost(&old, &Hosts::default())),
            (vec![], vec![])
        );
        // Its own host is told of elsewhere.
        claims.update(&old, Some(&service(10, "old.example", &["/"])), Some("old.example"), "here");
        assert_eq!(claims.lost_previews(&old, &Hosts::default()), []);
    }

    #[test]
    fn faults_4_5_a_host_is_of_one_namespace_whatever_the_path() {
        let (mut claims, pay, thief) =
            (Claims::default(), Key::new("pay", "pay"), Key::new("evil", "refunds"));
        let free = Hosts::default();
        claims.update(&thief, Some(&service(20, "a.example", &["/pay/refunds"])), None, "here");
        assert_eq!(claims.lost(&thief, &free), [], "nobody else claims anything of it");
        let heard = claims.update(&pay, Some(&service(10, "a.example", &["/pay"])), None, "here");
        assert_eq!(heard, BTreeSet::from([thief.clone()]));
        assert_eq!(lost(claims.lost(&thief, &free)), ["a.example/pay/refunds of pay"]);
        assert_eq!(
            (claims.lost(&pay, &free), claims.nested(&pay, &free)),
            (vec![], vec![]),
            "it has all of /pay"
        );
        // What the installer says goes before who was first.
        let given: Hosts = r#"[{"host": "*.example", "namespaces": ["evil"]}]"#.parse().expect("hosts");
        assert_eq!(lost(claims.lost(&pay, &given)), ["a.example/pay given to evil"]);
        assert_eq!(claims.lost(&thief, &given), []);
        let shared: Hosts = r#"[{"host": "a.example", "namespaces": ["*"]}]"#.parse().expect("hosts");
        assert_eq!((claims.lost(&pay, &shared), claims.lost(&thief, &shared)), (vec![], vec![]));
        assert_eq!(claims.nested(&pay, &shared).len(), 1);
        // A star holds what is below it; and what stood there before stays.
        let star = Key::new("wide", "all");
        let heard = claims.update(&star, Some(&service(5, "*.example", &["/"])), None, "here");
        assert_eq!(heard, BTreeSet::from([pay.clone(), thief.clone()]));
        assert_eq!(lost(claims.lost(&pay, &free)), ["a.example/pay of wide"]);
        assert_eq!(claims.lost(&star, &free), []);
        claims.update(&star, Some(&service(50, "*.example", &["/"])), None, "here");
        assert_eq!((claims.lost(&pay, &free), claims.lost(&star, &free)), (vec![], vec![]));
        claims.update(&star, None, None, "here");
        // Given up, it is the next one's.
        assert_eq!(claims.update(&pay, None, None, "here"), BTreeSet::from([thief.clone()]));
        assert_eq!(claims.lost(&thief, &free), []);
    }
}
