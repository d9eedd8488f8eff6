//! What is to be said of one CloudCluster. Pure.

use super::index::{Reached, Site};
use super::observe::{Observed, Way};
use crate::api::Problem;
use crate::api::conditions::{Says, Standing, State, short};

/// What is to be said of a CloudCluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// How it stands.
    pub standing: Standing,
    /// What is wrong, worst first.
    pub problems: Vec<Problem>,
    /// Version of its API server, if that is news.
    pub version: Option<String>,
}

/// What is to be said of a CloudCluster. `None` of a peer that can be read and was never asked anything.
pub fn decide(seen: &Observed) -> Option<Decision> {
    let said = match &seen.way {
        Way::Own(version) => Some(own(&seen.site, version)),
        Way::Peer(reached) => reached.as_ref().filter(|_| seen.site.has_kubeconfig).map(peer),
    };
    let unreadable: Vec<Problem> = seen.site.unreadable.iter().map(unreadable).collect();
    let Some(first) = unreadable.first() else { return said };
    let words = format!("{}. {}", first.message, first.remedy);
    let mut decision = said.unwrap_or_else(|| Decision {
        standing: Standing::stuck("Unreadable", &words),
        problems: Vec::new(),
        version: None,
    });
    if decision.standing.stalled.state == State::False {
        decision.standing.stalled = Says::yes("Unreadable", words);
    }
    decision.problems.extend(unreadable);
    Some(decision)
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
    Decision { standing, problems: Vec::new(), version: Some(version.to_owned()) }
}

/// Another site. It says nothing that moves while that stays the same.
fn peer(reached: &Reached) -> Decision {
    let standing = match reached {
        Ok(_) => Standing {
            ready: Says::yes("Reachable", "its API server answers"),
            reconciling: Says::no("Settled", ""),
            stalled: Says::no_problem(),
        },
        Err(error) if error.is_stalled() => Standing::stuck(error.reason(), &short(error.to_string())),
        Err(error) => Standing {
            ready: Says::no(error.reason(), short(error.to_string())),
            reconciling: Says::yes(error.reason(), short(error.to_string())),
            stalled: Says::no_problem(),
        },
    };
    let version = reached.as_ref().ok().and_then(Clone::clone);
    Decision { standing, problems: Vec::new(), version }
}
