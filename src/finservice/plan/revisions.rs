//! Which revisions there are, which one serves, which one is on its way in, and how many pods each
//! of them is to have. Pure.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::api::FinServiceSpec;
use crate::api::finservice::Traffic;
use crate::finservice::children::Kind;
use crate::finservice::index::Observed;
use crate::finservice::index::child::{ChildState, DeploymentFacts, Facts, RevisionFacts};
use crate::finservice::plan::placement::DEFAULT_REPLICAS;
use crate::finservice::plan::revision::RevisionInput;

/// How long a revision keeps its pods after it has lost its traffic: long enough for every proxy to
/// have heard of it (Envoy's and kube-proxy's updates take seconds) and for requests to end.
pub const RETIRE_GRACE: SignedDuration = SignedDuration::from_secs(30);
/// Retired revisions that are kept, at zero pods, so that a way back is one template away.
pub const HISTORY: usize = 5;

/// A revision that exists.
#[derive(Debug)]
pub struct Revision<'a> {
    /// Its hash.
    pub hash: &'a str,
    /// What its ControllerRevision says.
    pub facts: &'a RevisionFacts,
    /// Its Deployment, if that exists.
    pub deployment: Option<&'a DeploymentFacts>,
    /// Its input and its template, if they parse.
    pub parts: Option<(RevisionInput, Value)>,
}

/// All revisions of a FinService, by hash.
pub fn revisions(seen: &Observed) -> BTreeMap<&str, Revision<'_>> {
    let deployments: BTreeMap<&str, &DeploymentFacts> = seen
        .children
        .iter()
        .filter(|child| !child.deleting)
        .filter_map(ChildState::deployment)
        .map(|facts| (&*facts.revision, facts))
        .collect();
    seen.children
        .iter()
        .filter(|child| !child.deleting)
        .filter_map(ChildState::revision)
        .map(|facts| {
            let parts =
                serde_json::from_str(&facts.input).ok().zip(serde_json::from_str(&facts.template).ok());
            let deployment = deployments.get(&*facts.hash).copied();
            (&*facts.hash, Revision { hash: &facts.hash, facts, deployment, parts })
        })
        .collect()
}

/// The revision that serves: the one that the plain Service selects. Where that Service is not ours
/// (yet), the newest that is Ready.
pub fn stable<'a>(seen: &'a Observed, revisions: &BTreeMap<&'a str, Revision<'a>>) -> Option<&'a str> {
    let name = seen.service.metadata.name.as_deref().unwrap_or_default();
    let selected = seen
        .children
        .iter()
        .filter(|child| child.kind == Kind::Service && &*child.name == name)
        .find_map(|child| match &child.facts {
            Facts::Service(facts) => facts.selects.as_deref(),
            _ => None,
        })
        .filter(|hash| revisions.contains_key(hash));
    selected.or_else(|| {
        revisions
            .values()
            .filter(|revision| revision.deployment.is_some_and(|facts| is_ready(facts, 1)))
            .max_by_key(|revision| revision.facts.number)
            .map(|revision| revision.hash)
    })
}

/// The revision that the spec asked for last: the newest that is not retired.
pub fn newest<'a>(revisions: &BTreeMap<&'a str, Revision<'a>>) -> Option<&'a str> {
    let active = revisions.values().filter(|revision| revision.facts.retired_at.is_none());
    active.max_by_key(|revision| revision.facts.number).map(|revision| revision.hash)
}

/// Whether a Deployment has that many pods Ready, of its newest template.
pub fn is_ready(facts: &DeploymentFacts, wanted: i32) -> bool {
    facts.observed && facts.ready >= wanted && facts.updated_and_available >= wanted
}

/// Pods that the spec asks for: the fixed number, or the autoscaler's least.
pub fn base(spec: &FinServiceSpec) -> i32 {
    match &spec.scale {
        Some(scale) => scale.replicas.or(scale.min).unwrap_or(DEFAULT_REPLICAS),
        None => DEFAULT_REPLICAS,
    }
}

/// Whether an autoscaler sets the number of pods.
pub fn is_autoscaled(spec: &FinServiceSpec) -> bool {
    spec.scale.as_ref().is_some_and(|scale| scale.replicas.is_none() && scale.max.is_some())
}

/// Pods of the revision that serves; `None` leaves them as they are, to the autoscaler.
pub fn replicas_of_stable(spec: &FinServiceSpec, now: Option<&DeploymentFacts>) -> Option<i32> {
    match now {
        Some(facts) if is_autoscaled(spec) && facts.replicas > 0 => None,
        _ => Some(base(spec)),
    }
}

/// Pods of the revision that is on its way in. Capacity leads weight: with an autoscaler it must
/// have as many as the one that it relieves has now.
pub fn replicas_of_next(spec: &FinServiceSpec, stable: Option<&DeploymentFacts>) -> i32 {
    let least = base(spec);
    match (is_autoscaled(spec), stable) {
        (true, Some(stable)) => {
            let most = spec.scale.as_ref().and_then(|scale| scale.max).unwrap_or(i32::MAX);
            stable.replicas.clamp(least, most.max(least))
        }
        _ => least,
    }
}

/// What becomes of the pods of a revision without traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retired {
    /// They stay until then.
    Until(Timestamp),
    /// They go.
    Zero,
}

/// What becomes of the pods of a revision that lost its traffic at that time. What fetches its work
/// by itself goes at once: while it runs, it works.
pub fn retired(spec: &FinServiceSpec, since: Timestamp, now: Timestamp) -> Retired {
    let until = since.saturating_add(RETIRE_GRACE).unwrap_or(Timestamp::MAX);
    if spec.traffic() == Traffic::Pulled || until <= now { Retired::Zero } else { Retired::Until(until) }
}

/// The retired revisions that are kept: the newest few.
pub fn kept<'a>(revisions: &BTreeMap<&'a str, Revision<'a>>, in_play: &[Option<&str>]) -> Vec<&'a str> {
    let mut old: Vec<_> =
        revisions.values().filter(|revision| !in_play.contains(&Some(revision.hash))).collect();
    old.sort_by_key(|revision| std::cmp::Reverse(revision.facts.number));
    // One that still has pods is kept whatever its age: it is scaled to zero first.
    let has_pods = |revision: &Revision| revision.deployment.is_some_and(|facts| facts.replicas > 0);
    old.iter()
        .enumerate()
        .filter(|(place, revision)| *place < HISTORY || has_pods(revision))
        .map(|(_, revision)| revision.hash)
        .collect()
}
