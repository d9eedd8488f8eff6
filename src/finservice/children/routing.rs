//! How requests are shared: what VirtualServices and HTTPRoutes have in common.

use std::collections::{BTreeMap, BTreeSet};

use super::{Scope, Weights};
use crate::api::Problem;
use crate::api::workload::{Port, Protocol};
use crate::authority::residual;
use crate::authority::view::LedAway;
use crate::canary::facts::Destination;

/// What the routes of a service are made from, beside its spec.
#[derive(Clone, Debug)]
pub struct Routing<'a> {
    /// Hash of the revision that serves; none before the first one is Ready.
    pub stable: Option<&'a str>,
    /// Shares of the revisions and of the legacy backend.
    pub weights: &'a Weights,
    /// Ports of the revisions, by hash. A revision that is not here is taken to have the spec's.
    pub ports: BTreeMap<&'a str, &'a [Port]>,
    /// Pairs of host and path that another FinService has claimed: no route is made for them.
    pub refused: BTreeSet<(String, String)>,
    /// Paths of other FinServices below those of this one, by host.
    pub nested: BTreeMap<String, BTreeSet<String>>,
    /// Hosts of which requests go to who has authority, unless they say that this site is to answer.
    pub led_away: LedAway,
}

/// Hosts that are served on the same paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostGroup {
    /// Names of hosts.
    pub hosts: Vec<String>,
    /// Path prefixes.
    pub paths: Vec<String>,
    /// Path prefixes below them that are another's.
    pub nested: Vec<String>,
    /// Whether requests go to who has authority, unless they say that this site is to answer.
    pub away: Away,
}

/// Whether requests of a host go to who has authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Away {
    /// Never.
    Never,
    /// They may have to: who sends them on is named, at zero.
    Named,
    /// They do.
    Led,
}

/// Where the legacy backend is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LegacyBackend {
    /// A Service of this cluster: its namespace and name.
    Service(String, String),
    /// A host outside of the cluster.
    Host(String),
}

impl<'a> Routing<'a> {
    /// A routing in which every revision has the ports of the spec and nothing is refused.
    pub fn new(stable: Option<&'a str>, weights: &'a Weights) -> Self {
        Self {
            stable,
            weights,
            ports: BTreeMap::new(),
            refused: BTreeSet::new(),
            nested: BTreeMap::new(),
            led_away: LedAway::default(),
        }
    }

    /// Ports of a revision.
    fn ports_of<'b>(&'b self, scope: &'b Scope, hash: &str) -> &'b [Port] {
        self.ports.get(hash).copied().unwrap_or(&scope.spec.ports)
    }

    /// Ports of the plain Service: those of stable, whose pods it selects.
    pub fn plain_ports<'b>(&'b self, scope: &'b Scope) -> &'b [Port] {
        self.stable.map_or(&scope.spec.ports, |hash| self.ports_of(scope, hash))
    }

    /// Number of the port of that name in a revision. A revision that has none of that name is
    /// reached at its first port; one without ports is not reached.
    pub fn port_number(&self, scope: &Scope, hash: &str, name: &str) -> Option<u16> {
        let ports = self.ports_of(scope, hash);
        ports.iter().find(|port| port.name == name).or(ports.first()).map(|port| port.port)
    }

    /// Numbers of the ports of all revisions that are known and of the spec.
    pub fn all_ports(&self, scope: &Scope) -> BTreeSet<u16> {
        let revisions = self.ports.values().flat_map(|ports| ports.iter());
        scope.spec.ports.iter().chain(revisions).map(|port| port.port).collect()
    }

    /// Numbers of the port that gateways send requests to, as routes name it, in all revisions that are known and in the spec.
    pub fn ingress_ports(&self, scope: &Scope) -> BTreeSet<u16> {
        let Some(port) = scope.ingress_port() else { return BTreeSet::new() };
        let revisions = self.ports.keys().filter_map(|hash| self.port_number(scope, hash, &port.name));
        revisions.chain([port.port]).collect()
    }

    /// The hosts of the ingress, those with the same paths together, without what is refused.
    pub fn groups(&self, scope: &Scope) -> Vec<HostGroup> {
        let Some(ingress) = &scope.spec.ingress else { return Vec::new() };
        let all = ingress.paths.clone().unwrap_or_else(|| vec!["/".to_owned()]);
        let mut groups: Vec<HostGroup> = Vec::new();
        for host in &ingress.hosts {
            let mut paths = all.clone();
            paths.retain(|path| !self.refused.contains(&(host.clone(), path.clone())));
            if paths.is_empty() {
                continue;
            }
            let nested: Vec<String> = self.nested.get(host).into_iter().flatten().cloned().collect();
            let away = match self.led_away.hosts.contains(host) {
                false => Away::Never,
                true if self.led_away.now => Away::Led,
                true => Away::Named,
            };
            let same =
                |group: &&mut HostGroup| (&group.paths, &group.nested, group.away) == (&paths, &nested, away);
            match groups.iter_mut().find(same) {
                Some(group) if group.hosts.contains(host) => {}
                Some(group) => group.hosts.push(host.clone()),
                None => groups.push(HostGroup { hosts: vec![host.clone()], paths, nested, away }),
            }
        }
        groups
    }

    /// Shares in percent, which add up to 100; empty if nothing may be sent anywhere. Zero is the share of what is
    /// only to be named. `legacy` says whether these are paths of the legacy backend.
    pub fn shares(&self, legacy: bool) -> Vec<(Destination<&'a str>, u8)> {
        let legacy_share = if legacy { self.weights.legacy.min(100) } else { 0 };
        let weights: Vec<u32> = self.weights.revisions.iter().map(|(_, weight)| u32::from(*weight)).collect();
        let rest = if weights.iter().all(|weight| *weight == 0) { 0 } else { 100 - legacy_share };
        let mut shares: Vec<(Destination<&'a str>, u8)> = self
            .weights
            .revisions
            .iter()
            .map(|(to, _)| to.borrowed())
            .zip(proportional(&weights, rest))
            .collect();
        // With no revision to take the rest, the legacy backend keeps all of it.
        shares.push((Destination::Legacy, if legacy_share > 0 { 100 - rest } else { 0 }));
        shares.retain(|(_, share)| *share > 0);
        if shares.is_empty() {
            return shares;
        }
        let named = self.weights.named.iter().map(|hash| Destination::Revision(hash.as_str()));
        for target in named.chain((legacy && self.weights.names_legacy).then_some(Destination::Legacy)) {
            if !shares.iter().any(|(known, _)| *known == target) {
                shares.push((target, 0));
            }
        }
        shares
    }
}

/// Integers in the proportion of `weights` that add up to `total`, by the largest remainder. A
/// weight of zero gets nothing. Any other gets at least one where there is enough: a canary that
/// sees no request is never judged.
fn proportional(weights: &[u32], total: u8) -> Vec<u8> {
    let sum: u32 = weights.iter().sum();
    if sum == 0 || total == 0 {
        return vec![0; weights.len()];
    }
    let total = u32::from(total);
    let mut shares: Vec<u32> = weights.iter().map(|weight| weight * total / sum).collect();
    let mut order: Vec<usize> = (0..weights.len()).filter(|index| weights[*index] > 0).collect();
    order.sort_by_key(|index| std::cmp::Reverse(weights[*index] * total % sum));
    let missing = total - shares.iter().sum::<u32>();
    for index in order.iter().cycle().take(missing as usize) {
        shares[*index] += 1;
    }
    for index in order {
        if shares[index] == 0
            && let Some(largest) = (0..shares.len()).max_by_key(|other| shares[*other])
            && shares[largest] > 1
        {
            shares[largest] -= 1;
            shares[index] = 1;
        }
    }
    shares.into_iter().map(|share| u8::try_from(share).unwrap_or(100)).collect()
}

/// The port of [`residual::SERVICE`] to which requests are led away.
pub fn residual_port(scope: &Scope) -> u16 {
    match scope.ingress_port().map(Port::protocol) {
        Some(Protocol::HTTP2 | Protocol::GRPC) => residual::PORT_HTTP2,
        _ => residual::PORT,
    }
}

/// Whether `path` is `prefix` or lies under it, part by part: `/pay` is a prefix of `/pay/1` and not
/// of `/payments`.
pub fn lies_under(path: &str, prefix: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The paths of a group, split into those that the legacy backend shares and the rest. The former
/// are at least as specific as any of the latter that they lie under.
pub fn split_paths(scope: &Scope, paths: &[String]) -> (Vec<String>, Vec<String>) {
    let Some(legacy) = &scope.spec.legacy else { return (Vec::new(), paths.to_vec()) };
    let Some(old) = &legacy.paths else { return (paths.to_vec(), Vec::new()) };
    let covered = |path: &String| old.iter().any(|old| lies_under(path, old));
    let mut shared: Vec<String> = paths.iter().filter(|path| covered(path)).cloned().collect();
    let under = old.iter().filter(|old| paths.iter().any(|path| lies_under(old, path)));
    for path in under {
        if !shared.contains(path) {
            shared.push(path.clone());
        }
    }
    (shared, paths.iter().filter(|path| !covered(path)).cloned().collect())
}

/// The legacy backend, if there is one: `name`, `name.namespace.svc` and
/// `name.namespace.svc.cluster.local` are Services of this cluster, all else is a host outside.
pub fn legacy_backend(scope: &Scope) -> Option<LegacyBackend> {
    let host = &scope.spec.legacy.as_ref()?.host;
    let parts: Vec<&str> = host.split('.').collect();
    Some(match parts[..] {
        [name] => LegacyBackend::Service(scope.namespace.to_owned(), name.to_owned()),
        [name, namespace, "svc"] | [name, namespace, "svc", "cluster", "local"] => {
            LegacyBackend::Service(namespace.to_owned(), name.to_owned())
        }
        _ => LegacyBackend::Host(host.clone()),
    })
}

/// The Service that an HTTPRoute can name as the legacy backend: namespace, name and port.
///
/// # Errors
/// A problem, if it is a host outside of the cluster: an HTTPRoute sends to Services alone.
pub fn legacy_service(scope: &Scope) -> Result<Option<(String, String, u16)>, Problem> {
    match (legacy_backend(scope), &scope.spec.legacy) {
        (Some(LegacyBackend::Service(namespace, name)), Some(legacy)) => {
            Ok(Some((namespace, name, legacy.port)))
        }
        (Some(LegacyBackend::Host(host)), _) => Err(Problem::error(
            "spec.legacy.host",
            format!(
                "{host} is no Service of this cluster, and an HTTPRoute can only send to Services: it gets no requests"
            ),
            "Make a Service with EndpointSlices for it and name that as name.namespace.svc.cluster.local, or use mesh.provider Istio.",
        )),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::network::Legacy;
    use crate::finservice::testing;

    fn weights(revisions: &[(&str, u8)], legacy: u8) -> Weights {
        Weights::of_revisions(revisions, legacy)
    }

    #[test]
    fn shares_are_what_was_asked() {
        let canary = weights(&[("old", 90), ("new", 10)], 0);
        let shares = Routing::new(None, &canary).shares(true);
        assert_eq!(shares, [(Destination::Revision("old"), 90), (Destination::Revision("new"), 10)]);
        let fig = weights(&[("old", 90), ("new", 10)], 70);
        let shares = Routing::new(None, &fig).shares(true);
        assert_eq!(
            shares,
            [
                (Destination::Revision("old"), 27),
                (Destination::Revision("new"), 3),
                (Destination::Legacy, 70)
            ]
        );
        assert_eq!(Routing::new(None, &fig).shares(false).len(), 2);
    }

    #[test]
    fn zero_is_none_at_all() {
        let done = weights(&[("old", 0), ("new", 100)], 0);
        assert_eq!(Routing::new(None, &done).shares(true), [(Destination::Revision("new"), 100)]);
        let nowhere = weights(&[], 0);
        assert_eq!(Routing::new(None, &nowhere).shares(true), []);
        let not_yet = weights(&[], 30);
        assert_eq!(Routing::new(None, &not_yet).shares(true), [(Destination::Legacy, 100)]);
    }

    #[test]
    fn what_is_only_named_has_zero_and_nothing_is_named_alone() {
        let mut weights = Weights::of_revisions(&[("old", 100)], 0);
        weights.named = ["old", "new"].map(str::to_owned).into();
        weights.names_legacy = true;
        let old = (Destination::Revision("old"), 100);
        let routing = Routing::new(None, &weights);
        assert_eq!(routing.shares(false), [old, (Destination::Revision("new"), 0)]);
        assert_eq!(routing.shares(true), [old, (Destination::Revision("new"), 0), (Destination::Legacy, 0)]);
        weights.revisions.clear();
        assert_eq!(Routing::new(None, &weights).shares(true), []);
    }

    #[test]
    fn a_small_canary_beside_the_legacy_backend_is_seen() {
        let both = weights(&[("old", 99), ("new", 1)], 80);
        assert!(Routing::new(None, &both).shares(true).contains(&(Destination::Revision("new"), 1)));
    }

    #[test]
    fn prefixes_end_at_a_slash() {
        for (path, prefix, under) in [
            ("/pay", "/pay", true),
            ("/pay/1", "/pay", true),
            ("/pay/1", "/pay/", true),
            ("/payments", "/pay", false),
            ("/x", "/", true),
            ("/", "/x", false),
        ] {
            assert_eq!(lies_under(path, prefix), under, "{path} {prefix}");
        }
    }

    #[test]
    fn legacy_keeps_its_paths_and_no_others() {
        let mut spec = testing::minimal();
        spec.legacy = Some(Legacy {
            host: "monolith".to_owned(),
            port: 80,
            paths: Some(vec!["/old".to_owned(), "/elsewhere".to_owned()]),
            ..Legacy::default()
        });
        let split = |paths: &[&str]| {
            let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
            split_paths(&testing::scope(&spec), &paths)
        };
        assert_eq!(split(&["/old/new", "/api"]), (vec!["/old/new".to_owned()], vec!["/api".to_owned()]));
        assert_eq!(split(&["/"]), (vec!["/old".to_owned(), "/elsewhere".to_owned()], vec!["/".to_owned()]));
    }

    #[test]
    fn legacy_hosts_are_told_apart() {
        let mut spec = testing::minimal();
        for (host, expected) in [
            ("monolith", LegacyBackend::Service(testing::NAMESPACE.to_owned(), "monolith".to_owned())),
            ("m.legacy.svc", LegacyBackend::Service("legacy".to_owned(), "m".to_owned())),
            ("m.legacy.svc.cluster.local", LegacyBackend::Service("legacy".to_owned(), "m".to_owned())),
            ("old.finflow.example", LegacyBackend::Host("old.finflow.example".to_owned())),
        ] {
            spec.legacy = Some(Legacy { host: host.to_owned(), port: 80, ..Legacy::default() });
            assert_eq!(legacy_backend(&testing::scope(&spec)), Some(expected), "{host}");
        }
    }

    #[test]
    fn what_an_older_service_claims_is_not_routed() {
        let mut spec = testing::rich();
        let ingress = spec.ingress.as_mut().expect("an ingress");
        ingress.hosts = vec!["a.example".to_owned(), "b.example".to_owned()];
        ingress.paths = Some(vec!["/x".to_owned(), "/y".to_owned()]);
        let weights = Weights::default();
        let mut routing = Routing::new(None, &weights);
        assert_eq!(routing.groups(&testing::scope(&spec)).len(), 1);
        routing.refused.insert(("b.example".to_owned(), "/x".to_owned()));
        let groups = routing.groups(&testing::scope(&spec));
        assert_eq!(
            groups[1],
            HostGroup {
                hosts: vec!["b.example".to_owned()],
                paths: vec!["/y".to_owned()],
                nested: Vec::new(),
                away: Away::Never,
            }
        );
        routing.refused.insert(("b.example".to_owned(), "/y".to_owned()));
        assert_eq!(routing.groups(&testing::scope(&spec)).len(), 1);
    }

    proptest! {
        #[test]
        fn shares_add_up_and_zero_stays_zero(
            revisions in proptest::collection::vec(0_u8..=100, 0..5),
            legacy in 0_u8..=100,
            on_legacy_paths: bool,
        ) {
            let arm = |(i, w): (usize, &u8)| (Destination::Revision(format!("r{i}")), *w);
            let revisions_and_weights = revisions.iter().enumerate().map(arm).collect();
            let weights = Weights { revisions: revisions_and_weights, legacy, ..Weights::default() };
            let shares = Routing::new(None, &weights).shares(on_legacy_paths);
            let sum: u32 = shares.iter().map(|(_, share)| u32::from(*share)).sum();
            prop_assert!(sum == 100 || shares.is_empty(), "{:?}", shares);
            let anybody = revisions.iter().any(|w| *w > 0) || (on_legacy_paths && legacy > 0);
            prop_assert_eq!(shares.is_empty(), !anybody);
            for (target, share) in shares {
                prop_assert!(share > 0);
                match target {
                    Destination::Revision(hash) => {
                        let index: usize = hash[1..].parse().expect("an index");
                        prop_assert!(revisions[index] > 0, "zero means zero");
                    }
                    Destination::Baseline(hash) => prop_assert!(false, "{} has no copy", hash),
                    Destination::Legacy => prop_assert!(on_legacy_paths && legacy > 0),
                }
            }
        }
    }
}
