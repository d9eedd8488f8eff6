//! What a weight needs before the canary has it: pods, and routes of which everybody has heard. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::draft::Draft;
use super::facts::{HEARD, Phase, Routed, Sharing};
use super::{shares, steps};
use crate::api::analysis::Baseline;
use crate::api::canarystatus::Wait;
use crate::api::notice::Reason;
use crate::api::units::display;

/// Whether the pods that a weight needs are Ready. Capacity leads weight.
pub(super) fn capacity(draft: &mut Draft<'_>, next: i32) -> bool {
    let facts = draft.facts;
    if next == 0 {
        return false;
    }
    let now = draft.now;
    let by_flag = draft.by_flag();
    let Some(rollout) = draft.memory.rollout.as_mut() else { return false };
    rollout.preparing = rollout.preparing.max(next);
    // A flag, and the legacy backend, take traffic from a service that is out as a whole.
    let whole = by_flag || rollout.stable.is_none();
    let share = if whole { 100 } else { next };
    let wanted = steps::share_of(facts.scale.demand(), share);
    if wanted == 0 {
        draft.phase = Phase::Preparing;
        draft.reasons.push("scale.replicas is 0: there is nothing to send requests to".to_owned());
        return false;
    }
    let canary = rollout.canary.clone();
    let found = facts.revisions.iter().find(|revision| revision.hash == canary);
    let (ready, soon) = found.map_or((0, None), |revision| revision.heard_of(now));
    let (copies, copies_soon) = facts.baseline.map_or((0, None), |baseline| baseline.heard_of(now));
    let fresh = facts.policy.baseline == Baseline::Fresh && next < 100 && !whole;
    let unread = unread(draft, next, by_flag);
    let mut heard_at = None;
    let (short, words) = if ready < wanted {
        (true, format!("{ready} of {wanted} pods of revision {canary} are Ready, which {next} % needs"))
    } else if fresh && copies < wanted {
        (true, format!("{copies} of {wanted} pods of the fresh copy of stable are Ready"))
    } else {
        heard_at = unread.as_ref().and_then(|(_, until)| *until);
        (unread.is_some(), unread.map(|(words, _)| words).unwrap_or_default())
    };
    let Some(rollout) = draft.memory.rollout.as_mut() else { return false };
    if !short {
        rollout.unready_since = None;
        return true;
    }
    let since = rollout.unready_since.get_or_insert(Time(now)).0;
    draft.again_at = [draft.again_at, soon, copies_soon, heard_at].into_iter().flatten().min();
    let deadline = since.saturating_add(facts.policy.progress_deadline).unwrap_or(Timestamp::MAX);
    if draft.phase != Phase::Paused {
        draft.phase = Phase::Preparing;
    }
    // What is a matter of seconds is no reason for alarm, however long it took until then.
    if now >= deadline && heard_at.is_none() {
        let length = display(facts.policy.progress_deadline.unsigned_abs());
        let words = format!(
            "{words}, for longer than progressDeadline {length}; it goes on by itself when that changes"
        );
        draft.stalled = Some(("ProgressDeadlineExceeded", words.clone()));
        if draft.phase != Phase::Paused {
            draft.announce(Reason::RolloutHeld, Wait::Hold, next, &words);
        }
        draft.reasons.push(words);
    } else {
        draft.look_again(Some(deadline));
        draft.reasons.push(words);
    }
    false
}

/// What has not been heard of the canary by those who are to send requests to it. A proxy that hears of a weight before
/// it knows who gets it answers 503: so a gateway gets time to tell its proxies, from when it has read of the canary. Until
/// when, where that is known.
fn unread(draft: &mut Draft<'_>, next: i32, by_flag: bool) -> Option<(String, Option<Timestamp>)> {
    let (facts, now) = (draft.facts, draft.now);
    // Where nobody answers, a 503 is no loss, and each second is.
    let alone = draft.stable_is_down();
    let rollout = draft.memory.rollout.as_mut()?;
    let canary = &rollout.canary;
    let (words, until) = match facts.routed {
        Routed::Yes | Routed::Until(_) if alone => return None,
        Routed::Yes if facts.sharing != Sharing::Ingress || rollout.weight > 0 || by_flag => return None,
        Routed::Yes => {
            let since = rollout.routed_since.get_or_insert(Time(now)).0;
            let until = since.saturating_add(HEARD).unwrap_or(Timestamp::MAX);
            if until <= now {
                return None;
            }
            (format!("the gateway has just read that the route names revision {canary}"), Some(until))
        }
        Routed::Until(until) => {
            (format!("the mesh is given time to hear of the Service of revision {canary}"), Some(until))
        }
        Routed::NotNamed => (format!("the routes do not name revision {canary} yet"), None),
        Routed::NotRead => {
            let (who, look_at) = shares::who_follows(facts, by_flag);
            let words = format!("{who} has not read the route since it was changed, which {next} % needs");
            (format!("{words} (look at {look_at})"), None)
        }
    };
    if until.is_none() {
        rollout.routed_since = None;
    }
    Some((words, until))
}
