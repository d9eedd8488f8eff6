//! What stable answers is counted before the first step, where the policy leaves the steps out, and they are chosen by that.
//! Pure.

use std::time::Duration;

use jiff::SignedDuration;

use super::draft::Draft;
use super::facts::{Phase, Role};
use super::ladder::{Answers, Chosen, choose};
use super::route::compares_with_stable;
use crate::api::Problem;
use crate::api::canarystatus::Ladder;
use crate::api::units::display;
use crate::evidence::Percent;

/// How long it is counted for, in seconds.
const COUNTS: f64 = 30.0;
/// After that time the steps are chosen by what there is.
const AT_MOST: SignedDuration = SignedDuration::from_mins(2);
/// How soon it is looked again.
const LOOK: SignedDuration = SignedDuration::from_secs(5);

/// Whether the rollout has its steps, or needs none. While it has none, what stable answers is counted.
pub(super) fn has_steps(draft: &mut Draft<'_>) -> bool {
    let policy = draft.facts.policy;
    let Some(pace) = policy.pace else { return true };
    let Some(rollout) = &draft.memory.rollout else { return true };
    // Nobody waits for a verdict there.
    let jumps = rollout.promote || draft.facts.role == Role::Standby || draft.stable_is_down();
    if rollout.ladder.is_some() || jumps {
        return true;
    }
    let begun = rollout.started_at.0;
    let until = begun.saturating_add(AT_MOST).unwrap_or(draft.now);
    let counted = draft.evidence().filter(|evidence| evidence.weight == 0);
    let recent = counted.and_then(|counted| Some(counted.judgements.first()?.1.numbers.recent));
    let enough = recent.filter(|(_, seconds)| *seconds >= COUNTS);
    let in_vain = draft.now >= until || !compares_with_stable(draft);
    if enough.is_none() && !in_vain {
        draft.phase = Phase::Preparing;
        let length = display(Duration::from_secs_f64(COUNTS));
        draft.reasons.push(format!("counts what stable answers for {length}, to choose the steps"));
        draft.look_again(draft.now.saturating_add(LOOK).ok());
        return false;
    }
    let answers = enough.or(recent).and_then(|(tally, seconds)| Answers::of(tally, seconds));
    let Chosen { weights, seconds } = choose(policy, pace.as_secs_f64(), answers);
    let whole = |value: f64| value.clamp(0.0, 1e12).round() as i64;
    let ladder = Ladder {
        weights,
        requests_a_minute: answers.map(|answers| whole(answers.requests * 60.0)),
        bad_of_a_million: answers.map(|answers| whole(answers.bad * 1e6)),
        seconds: seconds.filter(|seconds| seconds.is_finite()).map(whole),
    };
    draft.reasons.push(words(&ladder));
    if let Some(rollout) = &mut draft.memory.rollout {
        rollout.ladder = Some(ladder);
    }
    draft.phase = Phase::Preparing;
    draft.look_again(Some(draft.now));
    false
}

/// Which steps were chosen, and why.
fn words(ladder: &Ladder) -> String {
    let weights: Vec<String> = ladder.weights.iter().map(i32::to_string).collect();
    let weights = format!("the steps are {} %", weights.join(", "));
    let Some(requests) = ladder.requests_a_minute else {
        return format!("{weights}: it is not known what stable answers");
    };
    let bad = Percent(ladder.bad_of_a_million.unwrap_or(0) as f64 / 1e6);
    let chosen = format!("{weights}, chosen for {requests} requests a minute, of which {bad} are bad");
    match ladder.seconds {
        Some(seconds) => format!("{chosen}; a release as good as stable takes about {}", length(seconds)),
        None => format!("{chosen}; no steps lead to a verdict"),
    }
}

fn length(seconds: i64) -> String {
    display(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// Warns of steps that are slower than was asked for.
pub(super) fn warn(draft: &mut Draft<'_>) {
    let Some(pace) = draft.facts.policy.pace else { return };
    let Some(ladder) = draft.memory.rollout.as_ref().and_then(|rollout| rollout.ladder.clone()) else {
        return;
    };
    if ladder.seconds.is_some_and(|seconds| seconds <= pace.as_secs()) {
        return;
    }
    let message = match ladder.seconds {
        Some(_) => format!("{}, which is longer than pace {}", words(&ladder), display(pace.unsigned_abs())),
        None => words(&ladder),
    };
    draft.problems.push(Problem::warning(
        "spec.strategy.canary.pace",
        message,
        "Raise pace or analysis.errorRate.maxIncrease, or say in analysis.onInsufficient what happens at maxHold.",
    ));
}
