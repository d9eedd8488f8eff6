//! What is to be said of one CloudCluster. Pure.

use super::index::Site;
use super::observe::{Observed, Way};
use super::peer_error::PeerError;
use super::view::{NodesView, PeerView, WayView};
use crate::api::Problem;
use crate::api::conditions::{Says, Standing, State, short};

/// What is to be said of a CloudCluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// How it stands.
    pub standing: Standing,
    /// What is wrong, worst first.
    pub problems: Vec<Problem>,
    /// Version of its API server, if that is known.
    pub version: Option<String>,
    /// How each way fares; `None` of the operator's own site, and where nothing is known yet.
    pub ways: Option<Vec<WayView>>,
    /// Its nodes, if they have been counted.
    pub nodes: Option<NodesView>,
}

/// What is to be said of a CloudCluster. `None` of a peer of which nothing is known yet, and nothing wrong.
pub fn decide(seen: &Observed) -> Option<Decision> {
    let said = match &seen.way {
        Way::Own(version) => Some(own(&seen.site, version)),
        Way::Peer(view) => view.as_ref().and_then(|view| peer(&seen.site, view)),
    };
    let mut found: Vec<Problem> = seen.site.unreadable.iter().map(unreadable).collect();
    let first = found.first().map(|first| format!("{}. {}", first.message, first.remedy));
    if seen.site.is_older {
        found.push(older());
    }
    if found.is_empty() {
        return said;
    }
    let mut decision = said.unwrap_or_else(|| Decision {
        standing: match &first {
            Some(words) => Standing::stuck("Unreadable", words),
            None => unknown(),
        },
        problems: Vec::new(),
        version: None,
        ways: None,
        nodes: None,
    });
    if let Some(words) = first.filter(|_| decision.standing.stalled.state == State::False) {
        decision.standing.stalled = Says::yes("Unreadable", words);
    }
    decision.problems.extend(found);
    decision.problems.sort_by_key(|problem| problem.severity);
    Some(decision)
}

/// A peer that has not been asked yet.
fn unknown() -> Standing {
    let words = PeerError::NotYet.to_string();
    Standing {
        ready: Says::new(State::Unknown, "NotAsked", &words),
        reconciling: Says::yes("NotAsked", words),
        stalled: Says::no_problem(),
    }
}

/// The older form of a way.
fn older() -> Problem {
    Problem::warning(
        "spec.kubeconfig",
        "spec.kubeconfig is the older form, which the next version reads no more",
        "Move it into the list of ways: `spec: {access: [{kubeconfig: {secretRef: {name: …}}}]}`.",
    )
}

/// A field that this version cannot read.
fn unreadable((field, why): &(String, String)) -> Problem {
    Problem::error(
        field.as_str(),
        format!("{field} cannot be read, and counts as not written: {why}"),
        format!(
            "Set {field} to what `kubectl explain cloudcluster.spec` lists, or upgrade Banyan with `helm upgrade`."
        ),
    )
}

/// The operator's own site.
fn own(site: &Site, version: &str) -> Decision {
    let served: Vec<String> = site.residency.iter().map(|residency| format!("{residency:?}")).collect();
    let message = match served.as_slice() {
        [] => "the operator of this site follows this object; no data that must stay in a jurisdiction may be kept here"
            .to_owned(),
        served => format!(
            "the operator of this site follows this object; it serves data of {}",
            served.join(", ")
        ),
    };
    let ready = Says::yes("OwnSite", message);
    let standing = Standing { ready, reconciling: Says::no("Settled", ""), stalled: Says::no_problem() };
    Decision { standing, problems: Vec::new(), version: Some(version.to_owned()), ways: None, nodes: None }
}

/// Another site. It says nothing that moves while that stays the same; `None` until it is known whether it answers.
fn peer(site: &Site, view: &PeerView) -> Option<Decision> {
    let is_reachable = view.reachable?;
    let fields = site.access.iter().map(|(place, access)| match site.is_older {
        true => "spec.kubeconfig".to_owned(),
        false => {
            format!("spec.access[{place}].{}", access.kind().map(|kind| kind.field()).unwrap_or_default())
        }
    });
    let broken: Vec<(String, &WayView)> =
        fields.zip(&view.ways).filter(|(_, way)| way.reachable == Some(false)).collect();
    let standing = match broken.first() {
        _ if is_reachable => Standing {
            ready: Says::yes("Reachable", "its API server answers"),
            reconciling: Says::no("Settled", ""),
            stalled: Says::no_problem(),
        },
        Some((_, way)) if broken.iter().all(|(_, way)| way.why.is_stalled()) => {
            Standing::stuck(way.why.reason(), &short(way.why.to_string()))
        }
        // What is no person's to mend is said first: it explains more.
        first => {
            let silent = broken.iter().find(|(_, way)| !way.why.is_stalled()).or(first);
            let why = silent.map_or(&PeerError::NotYet, |(_, way)| &way.why);
            Standing {
                ready: Says::no(why.reason(), short(why.to_string())),
                reconciling: Says::yes(why.reason(), short(why.to_string())),
                stalled: Says::no_problem(),
            }
        }
    };
    // What the conditions say already is not said twice.
    let others = broken.iter().filter(|_| is_reachable || broken.len() > 1);
    let mut problems: Vec<Problem> = others.map(|(field, way)| broken_way(field, way)).collect();
    if let Some(error) = view.uncounted.as_ref().filter(|_| is_reachable) {
        problems.push(Problem::warning(
            "spec.access",
            format!("its nodes cannot be counted: {error}"),
            "In that cluster, bind the ClusterRole banyan-peer of the chart's present version to the user that we are there.",
        ));
    }
    let (version, nodes) = (view.version.clone(), view.nodes.clone());
    Some(Decision { standing, problems, version, ways: Some(view.ways.clone()), nodes })
}

/// A way that does not work.
fn broken_way(field: &str, way: &WayView) -> Problem {
    let remedy = match way.why.is_stalled() {
        true => "Do what the message says; until then only the other ways of spec.access lead there.",
        false => "It is tried again by itself; see whether the network lets this cluster reach it.",
    };
    Problem::warning(field, format!("this way does not work: {}", way.why), remedy)
}
