//! The revision that the spec asks for, and what it waits for. Pure.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::api::finservice::{OnSecretChange, Traffic};
use crate::api::network::MeshProvider;
use crate::api::{FinServiceSpec, Problem};
use crate::finservice::children::Kind;
use crate::finservice::index::Observed;
use crate::finservice::index::child::ChildState;
use crate::finservice::plan::compare::belongs_to;
use crate::finservice::plan::revision::{References, RevisionInput};
use crate::finservice::plan::{Plan, revisions};

/// How long what a new FinService refers to may take until that counts as missing: people apply both at once, in any order.
const ARRIVES_WITHIN: SignedDuration = SignedDuration::from_secs(10);

/// The field that names ConfigMaps and Secrets.
const FIELD: &str = "spec.env, spec.envFrom, spec.files";

/// The revision that the spec asks for: its hash and its input. `None` while that cannot be known, or it cannot begin.
pub fn revision(
    spec: &FinServiceSpec,
    seen: &Observed,
    now: Timestamp,
    plan: &mut Plan,
) -> Option<(String, RevisionInput)> {
    if let Some(why) = held(seen, now, plan) {
        plan.reasons.push(format!("no revision begins: {why}"));
        return None;
    }
    let needed = References::of(spec);
    let is_needed = |needed: &BTreeMap<&str, bool>, name: &str| needed.get(name) == Some(&true);
    let maps = seen
        .config_maps
        .iter()
        .filter(|(name, digest)| digest.is_none() && is_needed(&needed.config_maps, name));
    let maps: Vec<&String> = maps.map(|(name, _)| name).collect();
    let secrets =
        seen.secrets.iter().filter(|(name, state)| state.is_none() && is_needed(&needed.secrets, name));
    let secrets: Vec<&String> = secrets.map(|(name, _)| name).collect();
    if let Some(until) =
        arrives_until(seen).filter(|until| *until > now && !(maps.is_empty() && secrets.is_empty()))
    {
        let what = maps.iter().map(|name| format!("ConfigMap {name}"));
        let what: Vec<String> = what.chain(secrets.iter().map(|name| format!("Secret {name}"))).collect();
        plan.reasons.push(format!("waiting for {}, which may just be on its way", what.join(" and ")));
        plan.look_again(until);
        return None;
    }
    let create = |kind, name: &str| {
        format!("Create {kind} {name} in this namespace, or remove the reference or make it optional.")
    };
    plan.problems.extend(maps.iter().map(|name| {
        let message = format!("ConfigMap {name} does not exist, so no new revision can begin");
        Problem::error(FIELD, message, create("ConfigMap", name))
    }));
    let input = maps.is_empty().then(|| input(spec, seen, plan)).flatten().map(|input| (input.hash(), input));
    // Pods that cannot start would start twice once the Secret comes, since its digest is news to them.
    let stands = input.as_ref().is_some_and(|(hash, _)| {
        seen.children.iter().filter_map(ChildState::deployment).any(|facts| *facts.revision == **hash)
    });
    plan.problems.extend(secrets.iter().map(|name| {
        let message = match stands {
            true => format!("Secret {name} does not exist, so pods that read it cannot start"),
            false => format!("Secret {name} does not exist, so no new revision can begin"),
        };
        Problem::error(FIELD, message, create("Secret", name))
    }));
    input.filter(|_| stands || secrets.is_empty())
}

/// Whether a revision has begun.
pub fn has_begun(seen: &Observed) -> bool {
    seen.children.iter().any(|child| child.deployment().is_some())
}

/// Why no first revision begins beside what stands there already.
fn held(seen: &Observed, now: Timestamp, plan: &mut Plan) -> Option<String> {
    let name = seen.service.metadata.name.as_deref().unwrap_or_default();
    if has_begun(seen) {
        return None;
    }
    let theirs = |kind: Kind| {
        let mut all = seen.strangers.iter().filter(move |(have, bears, _)| *have == kind && bears == name);
        all.next().map(|(.., stranger)| stranger).filter(|stranger| stranger.adopt.as_deref() != Some(name))
    };
    let ours = seen.children.iter().any(|child| child.kind == Kind::ServiceAccount);
    if !ours && theirs(Kind::ServiceAccount).is_some() {
        // Routes are compared once there is somebody to lead to: what will be in their way is told with the rest.
        let route = match seen.service.spec.provider() {
            MeshProvider::Istio => Some(Kind::VirtualService),
            MeshProvider::GatewayAPI => Some(Kind::HTTPRoute),
            MeshProvider::None => None,
        };
        let in_the_way = route.and_then(|kind| Some((kind, theirs(kind)?)));
        plan.problems.extend(in_the_way.map(|(kind, stranger)| belongs_to(seen, kind, name, stranger)));
        // Its rights and its role in the cloud are somebody else's to give.
        return Some(format!("its pods would run as ServiceAccount {name}, which is not handed over"));
    }
    if seen.service.spec.traffic() != Traffic::Pulled {
        return None;
    }
    if let Some(stranger) = theirs(Kind::Deployment) {
        let namespace = seen.service.metadata.namespace.as_deref().unwrap_or_default();
        plan.problems.push(Problem::error(
            format!("Deployment {name}"),
            format!(
                "Deployment {namespace}/{name} belongs to {} and may fetch the same work: both would handle it",
                stranger.whose
            ),
            format!(
                "Hand it over with `kubectl -n {namespace} annotate deployment {name} banyan.dev/adopt={name}`: it stops before \
                 the first pod of the FinService starts. Or delete it, or rename one of both."
            ),
        ));
        return Some(format!("Deployment {name} is not handed over"));
    }
    let ends = seen
        .strangers
        .iter()
        .filter(|(kind, _, stranger)| *kind == Kind::Deployment && stranger.adopt.as_deref() == Some(name));
    let ends = ends.map(|(_, _, stranger)| match (stranger.handed_over, stranger.retired_at) {
        (true, Some(at)) => at.saturating_add(revisions::RETIRE_GRACE).unwrap_or(Timestamp::MAX),
        (true, None) => Timestamp::MIN,
        (false, _) => Timestamp::MAX,
    });
    let until = ends.max().filter(|until| *until > now)?;
    if until < Timestamp::MAX {
        plan.look_again(until);
    }
    Some("the old pods end first, so that no work is done twice".to_owned())
}

/// Until when what is missing may just be on its way; `None` once a revision has begun.
fn arrives_until(seen: &Observed) -> Option<Timestamp> {
    if has_begun(seen) {
        return None;
    }
    let created = seen.service.metadata.creation_timestamp.as_ref()?;
    created.0.saturating_add(ARRIVES_WITHIN).ok()
}

fn input(spec: &FinServiceSpec, seen: &Observed, plan: &mut Plan) -> Option<RevisionInput> {
    let config_maps = seen.config_maps.iter();
    let config_maps =
        config_maps.filter_map(|(name, digest)| Some((name.clone(), digest.as_deref()?.to_owned())));
    let config_maps = config_maps.collect();
    let mut digests = BTreeMap::new();
    if spec.on_secret_change == Some(OnSecretChange::Rollout) {
        for (name, state) in &seen.secrets {
            match state.as_ref().map(|state| state.digest.as_deref()) {
                Some(Some(digest)) => {
                    digests.insert(name.clone(), digest.to_owned());
                }
                Some(None) => {
                    plan.reasons.push(format!("waiting to read Secret {name}"));
                    return None;
                }
                None => {}
            }
        }
    }
    Some(RevisionInput::of(spec, config_maps, digests))
}
