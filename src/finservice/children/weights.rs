//! How requests are shared: what a route is made from, and how a decision about a rollout comes to it.

use std::collections::BTreeSet;

use crate::api::canaryrollout::Match;
use crate::canary::facts::{Destination, Route};
use crate::canary::mark::Mark;
use crate::canary::policy::Affinity;

/// How requests are shared: weights in percent, which add up to 100, and what reaches a revision
/// otherwise than by chance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Weights {
    /// Weights of revisions and of fresh copies; those with weight zero may be left out, and the legacy backend's stands
    /// in `legacy`.
    pub revisions: Vec<(Destination, u8)>,
    /// Share of the legacy backend on its paths, in percent. The revisions share the rest.
    pub legacy: u8,
    /// Requests that always see a revision, by hash.
    pub matches: Vec<(Match, String)>,
    /// The revision, by hash, that a share of what is shared by chance is mirrored to, in percent.
    pub mirror: Option<(String, u8)>,
    /// How clients are kept on the revision that they met first.
    pub affinity: Option<Affinity>,
    /// The host under which a revision, by hash, can be seen before it serves.
    pub preview: Option<(String, String)>,
    /// What the route carries in [`crate::api::labels::MARK_ANNOTATION`].
    pub mark: Option<String>,
    /// Whether shares are made by numbers of pods: the plain Service then selects all revisions.
    pub by_pods: bool,
    /// Revisions, by hash, that routes name although they have no share: proxies hear of routes and of Services
    /// on ways of their own, and must know a Service before it gets its first request, and until it has
    /// answered its last ([`crate::finservice::plan::traffic_split::Shift`] says which).
    pub named: BTreeSet<String>,
    /// Whether routes name the legacy backend on its paths although it has no share.
    pub names_legacy: bool,
}

impl Weights {
    /// Weights of revisions by hash, and the share of the legacy backend on its paths.
    pub fn of_revisions(revisions: &[(&str, u8)], legacy: u8) -> Self {
        let arm = |(hash, weight): &(&str, u8)| (Destination::Revision((*hash).to_owned()), *weight);
        Self { revisions: revisions.iter().map(arm).collect(), legacy, ..Self::default() }
    }

    /// Hashes of the revisions that these weights reach otherwise than by chance: each of them needs its
    /// direct Service ([`super::service::direct`]) before the route names it.
    pub fn direct(&self) -> BTreeSet<&str> {
        let mut hashes: BTreeSet<&str> = self.matches.iter().map(|(_, hash)| hash.as_str()).collect();
        hashes.extend(self.mirror.iter().map(|(hash, _)| hash.as_str()));
        hashes.extend(self.preview.iter().map(|(_, hash)| hash.as_str()));
        if self.affinity.is_some() {
            let in_play = self.revisions.iter().filter(|(_, weight)| *weight > 0);
            hashes.extend(in_play.filter_map(|(to, _)| to.hash()));
        }
        hashes
    }
}

/// What a decision about a rollout means for the routes.
///
/// `stable` is the hash of the revision that the plain Service selects: it serves what the decision does
/// not speak of, which are the paths that are not the legacy backend's while that one has everything.
/// `legacy_without_rollout` is the share, in percent, that the legacy backend has of its paths where the
/// decision does not name it: 0 with `from: Legacy`, where that means that it has given up everything.
pub fn weights_of(
    route: &Route,
    mark: Option<&Mark>,
    stable: Option<&str>,
    legacy_without_rollout: u8,
) -> Weights {
    let mut weights = Weights {
        legacy: legacy_without_rollout.min(100),
        affinity: route.affinity.clone(),
        mark: mark.map(Mark::to_string),
        by_pods: route.by_pods,
        ..Weights::default()
    };
    for (destination, share) in &route.shares {
        let share = percent(*share);
        match destination {
            Destination::Legacy => weights.legacy = share,
            _ if share == 0 => {}
            to => weights.revisions.push((to.clone(), share)),
        }
    }
    if weights.revisions.is_empty() {
        weights.revisions.extend(stable.map(|hash| (Destination::Revision(hash.to_owned()), 100)));
    }
    // Nothing but a revision is ever chosen: a copy is there to be compared, and the legacy backend keeps
    // its paths.
    let revision = |destination: &Destination| match destination {
        Destination::Revision(hash) => Some(hash.clone()),
        Destination::Baseline(_) | Destination::Legacy => None,
    };
    let chosen = route.matches.iter().filter_map(|(matched, to)| Some((matched.clone(), revision(to)?)));
    weights.matches = chosen.collect();
    weights.mirror = route
        .mirror
        .as_ref()
        .and_then(|(to, share)| Some((revision(to)?, percent(*share))))
        .filter(|m| m.1 > 0);
    weights.preview = route.preview.as_ref().and_then(|(host, to)| Some((host.clone(), revision(to)?)));
    weights
}

/// A share as the API has it, as routes need it.
fn percent(share: i32) -> u8 {
    u8::try_from(share.clamp(0, 100)).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::canaryrollout::NameAndValue;
    use crate::canary::mark::End;
    use crate::finservice::children::Routing;

    const OLD: &str = "bcdfghjklm";
    const NEW: &str = "nothashhhh";

    fn revision(hash: &str) -> Destination {
        Destination::Revision(hash.to_owned())
    }

    fn header() -> Match {
        let header = Some(NameAndValue { name: "X-Canary".to_owned(), value: "always".to_owned() });
        Match { header, ..Match::default() }
    }

    fn shared(shares: Vec<(Destination, i32)>) -> Route {
        Route { shares, ..Route::default() }
    }

    #[test]
    fn a_rollout_beside_stable_leaves_the_legacy_backend_what_it_has() {
        let route = shared(vec![(revision(OLD), 90), (revision(NEW), 10)]);
        let weights = weights_of(&route, None, Some(OLD), 100);
        assert_eq!(weights, Weights::of_revisions(&[(OLD, 90), (NEW, 10)], 100));
        let routing = Routing::new(Some(OLD), &weights);
        assert_eq!(routing.shares(true), [(Destination::Legacy, 100)]);
        assert_eq!(
            routing.shares(false),
            [(Destination::Revision(OLD), 90), (Destination::Revision(NEW), 10)]
        );
    }

    #[test]
    fn traffic_taken_from_the_legacy_backend_is_on_its_paths_alone() {
        let shares = |shares: Vec<(Destination, i32)>| {
            let weights = weights_of(&shared(shares), None, Some(NEW), 0);
            let routing = Routing::new(Some(NEW), &weights);
            let own = |shares: Vec<(Destination<&str>, u8)>| -> Vec<(bool, u8)> {
                shares.into_iter().map(|(target, share)| (target == Destination::Legacy, share)).collect()
            };
            (own(routing.shares(true)), own(routing.shares(false)))
        };
        let all = vec![(false, 100)];
        assert_eq!(shares(vec![(Destination::Legacy, 100)]), (vec![(true, 100)], all.clone()));
        assert_eq!(
            shares(vec![(Destination::Legacy, 70), (revision(NEW), 30)]),
            (vec![(false, 30), (true, 70)], all.clone())
        );
        assert_eq!(shares(vec![(revision(NEW), 100)]), (all.clone(), all));
    }

    #[test]
    fn what_is_chosen_and_the_mark_come_along() {
        let mark = Mark { attempt: 1, canary: NEW.into(), stable: OLD.into(), weight: 10, end: End::Settled };
        let affinity = Affinity { cookie: "kept".to_owned(), max_age: jiff::SignedDuration::from_secs(60) };
        let route = Route {
            shares: vec![(revision(OLD), 80), (Destination::Baseline(OLD.into()), 10), (revision(NEW), 10)],
            matches: vec![(header(), revision(NEW)), (header(), Destination::Legacy)],
            mirror: Some((revision(NEW), 5)),
            affinity: Some(affinity.clone()),
            preview: Some(("preview.example".to_owned(), revision(NEW))),
            by_pods: true,
        };
        let weights = weights_of(&route, Some(&mark), Some(OLD), 0);
        assert_eq!(weights.revisions[1], (Destination::Baseline(OLD.to_owned()), 10));
        assert_eq!(weights.matches, [(header(), NEW.to_owned())]);
        assert_eq!(weights.mirror, Some((NEW.to_owned(), 5)));
        assert_eq!(weights.preview, Some(("preview.example".to_owned(), NEW.to_owned())));
        assert_eq!((weights.affinity.clone(), weights.by_pods), (Some(affinity), true));
        assert_eq!(weights.mark.as_deref().and_then(Mark::parse), Some(mark));
        assert_eq!(weights.direct(), BTreeSet::from([OLD, NEW]));
    }

    #[test]
    fn only_what_is_reached_otherwise_than_by_chance_needs_a_direct_service() {
        let mut weights = Weights::of_revisions(&[(OLD, 100), (NEW, 0)], 0);
        assert_eq!(weights.direct(), BTreeSet::new());
        weights.affinity =
            Some(Affinity { cookie: "kept".to_owned(), max_age: jiff::SignedDuration::from_secs(60) });
        assert_eq!(weights.direct(), BTreeSet::from([OLD]));
        weights.matches = vec![(header(), NEW.to_owned())];
        assert_eq!(weights.direct(), BTreeSet::from([OLD, NEW]));
    }
}
