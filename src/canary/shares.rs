//! A weight that was written need not be in force: what is said while the requests that are counted are shared
//! otherwise.

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::draft::Draft;
use super::facts::{Facts, Sharing};
use crate::api::Problem;
use crate::api::action::Verb;
use crate::evidence::{Percent, Share};

/// How long a mesh may take to hear of a weight before anything is said: Istio pushes what changes together, in a busy
/// mesh for ten seconds and more (`PILOT_DEBOUNCE_MAX`).
const HEARD_WITHIN: SignedDuration = SignedDuration::from_secs(30);

/// The canary's weight, and since when it has it; after a rollback 0. `None` while nothing has begun.
fn asked<'a>(draft: &'a Draft<'_>) -> Option<(i32, Option<&'a Time>)> {
    if let Some(rollout) = &draft.memory.rollout {
        return Some((rollout.weight, rollout.entered_at.as_ref()));
    }
    match &draft.memory.warm {
        Some(warm) => Some((100, Some(&warm.promoted_at))),
        None => draft.refused().map(|failed| (0, Some(&failed.at))),
    }
}

/// How the requests are shared at the weight of now. While nobody answers in stable, none is counted there.
pub(super) fn observed(draft: &Draft<'_>) -> Share {
    if draft.stable_is_down() {
        return Share::Unknown;
    }
    let weight = asked(draft).map(|(weight, _)| weight);
    let evidence = draft.evidence().filter(|evidence| Some(evidence.weight) == weight);
    evidence.map(|evidence| evidence.share).unwrap_or_default()
}

/// Who carries the weights out, and where to look if it does not.
pub(super) fn who_follows(facts: &Facts<'_>, by_flag: bool) -> (&'static str, String) {
    match facts.sharing {
        _ if by_flag => {
            ("the feature flag", "the flag in LaunchDarkly, and at what the pods count by variant".to_owned())
        }
        Sharing::Mesh => {
            ("the mesh", "Istio's control plane (`kubectl -n istio-system get pods`)".to_owned())
        }
        Sharing::Ingress | Sharing::Pods => (
            "the gateway",
            format!(
                "the logs of the gateway's controller, at `status.parents` in `kubectl -n {} get httproute -o yaml`",
                facts.namespace
            ),
        ),
    }
}

/// Says that requests are not shared as the weight says, once they should be.
pub(super) fn tell(draft: &mut Draft<'_>) {
    let (Share::Differs(observed), Some((weight, since))) = (observed(draft), asked(draft)) else { return };
    let heard = since.and_then(|since| since.0.saturating_add(HEARD_WITHIN).ok());
    if let Some(heard) = heard.filter(|heard| *heard > draft.now) {
        draft.look_again(Some(heard));
        return;
    }
    let (who, look_at) = who_follows(draft.facts, draft.by_flag());
    let another = match draft.facts.sharing {
        _ if draft.by_flag() => "",
        Sharing::Mesh => ", and for another VirtualService of the same host",
        Sharing::Ingress | Sharing::Pods => ", and for another route of the same host",
    };
    let remedy = format!("Look at {look_at}{another}.");
    let words = format!(
        "{who} does not follow the weight: {} of the requests reach the canary, {weight} % were asked for",
        Percent(observed)
    );
    draft.stalled.get_or_insert(("WeightNotFollowed", words.clone()));
    let remedy = match observed == 0.0 {
        true => {
            format!("{remedy} Or the canary's pods count no requests: look at what its metrics port tells.")
        }
        false => remedy,
    };
    let remedy = match draft.memory.rollout {
        Some(_) => {
            format!("{remedy} To go on all the same, run `{}`.", draft.facts.command(Verb::SkipStep))
        }
        None => remedy,
    };
    draft.problems.push(Problem::error("spec.strategy", words, remedy));
}
