//! An outage that both arms share may be the canary's doing: it may break what stands behind both, and no comparison shows
//! that. If one begins under a step, that step is taken back once; what happens then is told. If one begins again under
//! a later step, that is taken back as well, and a person says how it goes on. Pure.

use jiff::SignedDuration;

use super::draft::Draft;
use super::facts::{Phase, Role};
use super::route::compares_with_stable;
use crate::api::action::Verb;
use crate::api::canarystatus::{SteppedBack, Wait};
use crate::api::notice::Reason;
use crate::api::units::display;
use crate::evidence::{Judgement, Reason as Why};

/// Without weight nothing is known of the outage where the source is silent: after that time the first step is tried again.
const AT_MOST: SignedDuration = SignedDuration::from_mins(10);
/// How soon it is looked again meanwhile.
const LOOK: SignedDuration = SignedDuration::from_secs(5);

/// What is counted at this weight says of an outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// Nothing yet.
    Nothing,
    /// Both arms are in one.
    Outage,
    /// There is none.
    Calm,
}

fn seen(draft: &Draft<'_>, weight: i32) -> Seen {
    let judgements = draft.evidence().filter(|evidence| evidence.weight == weight);
    let judgements = judgements.map(|evidence| evidence.judgements.as_slice()).unwrap_or_default();
    let is = |of: fn(&Why) -> bool| judgements.iter().any(|(_, Judgement { reason, .. })| of(reason));
    if is(|reason| matches!(reason, Why::SharedOutage | Why::BothOverAbsoluteLimit(_))) {
        return Seen::Outage;
    }
    let tells = |reason: &Why| !matches!(reason, Why::NothingSeen | Why::Missing(_) | Why::OtherShare { .. });
    match judgements.iter().any(|(_, judgement)| tells(&judgement.reason)) {
        true => Seen::Calm,
        false => Seen::Nothing,
    }
}

/// Takes a step back under which an outage began that both arms share. Returns whether the rollout stays where it is
/// for that.
pub(super) fn holds(draft: &mut Draft<'_>) -> bool {
    let alone = draft.stable_is_down() || !compares_with_stable(draft);
    let Some(rollout) = &draft.memory.rollout else { return false };
    let weight = rollout.weight;
    if alone || weight == 100 || rollout.promote || draft.facts.role == Role::Standby {
        return false;
    }
    let seen = seen(draft, weight);
    match rollout.stepped_back.clone() {
        None if seen == Seen::Outage && weight > 0 => suspect(draft, 0),
        Some(back) if back.suspected => confirm(draft, &back, seen),
        Some(back) if back.ended_at.is_none() => lasts(draft, &back, seen),
        // A person says what a second one means, and is not asked again.
        Some(back) if back.times > 1 => back.asks && asks(draft, &back),
        Some(back) if seen == Seen::Outage && weight > 0 => suspect(draft, back.times),
        _ => false,
    }
}

/// Both fail for the first time under this step: a moment is no outage.
fn suspect(draft: &mut Draft<'_>, times: i32) -> bool {
    let at = draft.time();
    if let Some(rollout) = draft.memory.rollout.as_mut() {
        let from = rollout.weight;
        rollout.stepped_back =
            Some(SteppedBack { from, at, ended_at: None, times, asks: false, suspected: true });
    }
    draft.look_again(draft.now.saturating_add(LOOK).ok());
    false
}

/// Whether it was more than a moment.
fn confirm(draft: &mut Draft<'_>, back: &SteppedBack, seen: Seen) -> bool {
    let Some(rollout) = draft.memory.rollout.as_mut() else { return false };
    if seen == Seen::Calm || rollout.weight != back.from {
        let before = SteppedBack { suspected: false, ended_at: Some(back.at.clone()), ..back.clone() };
        rollout.stepped_back = (back.times > 0).then_some(before);
        return false;
    }
    let two_looks = draft.facts.policy.interval.checked_mul(2).unwrap_or(SignedDuration::MAX);
    if seen == Seen::Outage && draft.now.duration_since(back.at.0) >= two_looks {
        return step_back(draft, back.times + 1);
    }
    draft.look_again(draft.now.saturating_add(LOOK).ok());
    false
}

fn step_back(draft: &mut Draft<'_>, times: i32) -> bool {
    let (at, steps) = (draft.time(), &draft.facts.policy.steps);
    let Some(rollout) = draft.memory.rollout.as_mut() else { return false };
    let from = rollout.weight;
    let to = steps.iter().rev().find(|step| step.weight < from).map_or(0, |step| step.weight);
    rollout.weight = to;
    rollout.entered_at = (to > 0).then(|| at.clone());
    rollout.passed = 0;
    let asks = times > 1;
    rollout.stepped_back = Some(SteppedBack { from, at, ended_at: None, times, asks, suspected: false });
    let note = format!(
        "{} goes from {from} % back to {to} %: stable has begun to fail as well under this step, so the canary may break \
         what both need",
        rollout.release
    );
    draft.notice(Reason::RolloutHeld, note.clone());
    draft.phase = Phase::Analysing;
    draft.reasons.push(note);
    draft.look_again(draft.now.saturating_add(LOOK).ok());
    true
}

/// The step is taken back, and it is not known yet whether the outage is over.
fn lasts(draft: &mut Draft<'_>, back: &SteppedBack, seen: Seen) -> bool {
    let since = draft.now.duration_since(back.at.0);
    let (now, weight) = (draft.time(), draft.memory.rollout.as_ref().map_or(0, |rollout| rollout.weight));
    let in_vain = weight == 0 && seen == Seen::Nothing && since >= AT_MOST;
    if seen != Seen::Calm && !in_vain {
        let took = format!("{} % was taken back {} ago", back.from, display(since.unsigned_abs()));
        draft.reasons.push(match seen {
            Seen::Outage => format!("{took}, and stable fails still"),
            _ => format!("{took}, and nothing has been counted since"),
        });
        draft.phase = Phase::Analysing;
        draft.look_again(draft.now.saturating_add(LOOK).ok());
        return true;
    }
    let Some(rollout) = draft.memory.rollout.as_mut() else { return false };
    let back = SteppedBack { ended_at: Some(now), ..back.clone() };
    rollout.stepped_back = Some(back.clone());
    // What was seen in the outage passes nothing.
    rollout.passed = 0;
    let note = match in_vain {
        true => format!("{} tries {} % again: nothing is counted without it", rollout.release, back.from),
        false => told(&back),
    };
    draft.notice(Reason::RolloutHeld, note);
    back.asks && asks(draft, &back)
}

/// How long after the step was taken back stable failed.
fn told(back: &SteppedBack) -> String {
    let ended = back.ended_at.as_ref().unwrap_or(&back.at);
    let after = display(ended.0.duration_since(back.at.0).unsigned_abs());
    format!("stable does not fail any more, {after} after {} % was taken back", back.from)
}

fn asks(draft: &mut Draft<'_>, back: &SteppedBack) -> bool {
    let why = format!("for the second time both failed under a step of this rollout; {}", told(back));
    let words = format!(
        "{why}: look whether the canary breaks what both need (a database, a quota); to give it up run `{}`, to try {} % once \
         more the same with skip-step",
        draft.facts.command(Verb::Abort),
        back.from
    );
    draft.phase = Phase::Inconclusive;
    draft.stalled = Some(("Inconclusive", words.clone()));
    let weight = draft.memory.rollout.as_ref().map_or(0, |rollout| rollout.weight);
    draft.announce(Reason::RolloutHeld, Wait::Hold, weight, &why);
    draft.reasons.push(words);
    true
}
