//! The way forward: other clusters, holds and verdicts, gates, pods, and then the weight.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::approval;
use super::capacity::capacity;
use super::draft::Draft;
use super::facts::{Phase, Role, Sharing};
use super::gates;
use super::measure;
use super::outage;
use super::peers::{self, Follow};
use super::policy::GateKind;
use super::shares;
use super::steps::{self, Hold, Pods, Said};
use crate::api::Problem;
use crate::api::action::Verb;
use crate::api::canarystatus::{GateMemory, Wait};
use crate::api::notice::Reason;
use crate::api::units::display;
use crate::evidence::Verdict;

/// Where the rollout goes when it leaves its weight.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// To that weight in percent.
    Weight(i32),
    /// The canary becomes stable.
    Promote,
}

/// Takes the rollout as far as this decision can.
pub(super) fn proceed(draft: &mut Draft<'_>) {
    let Some(rollout) = &draft.memory.rollout else { return };
    let (weight, paused) = (rollout.weight, rollout.paused.clone());
    if let Some(unreadable) = draft.facts.unreadable {
        draft.reasons.push(format!("stays at {weight} %: the spec cannot be read: {unreadable}"));
        return;
    }
    if let Some(held) = draft.facts.held {
        draft.phase = held.phase;
        draft.reasons.push(format!("stays at {weight} %, and only a Fail goes back: {}", held.why));
        return;
    }
    back_from_alone(draft);
    let Some(weight) = draft.memory.rollout.as_ref().map(|rollout| rollout.weight) else { return };
    if draft.facts.policy_broken {
        draft.phase = Phase::Blocked;
        draft
            .reasons
            .push(format!("stays at {weight} % until its errors are corrected: see status.problems"));
        return;
    }
    // A pause is about what is judged; it does not ask that nobody answers.
    if paused.is_some() && draft.stable_is_down() {
        draft.unwanted = true;
    } else if let Some(paused) = paused {
        draft.phase = Phase::Paused;
        draft.reasons.push(format!("paused at {weight} % by {paused}"));
        // Pods are watched on: what is missing is told, and heals, also while nothing moves.
        capacity(draft, weight.max(draft.memory.rollout.as_ref().map_or(0, |rollout| rollout.preparing)));
        return;
    }
    if outage::holds(draft) {
        return;
    }
    if weight == 0 && !follows(draft) {
        return;
    }
    if weight == 0 && !measure::has_steps(draft) {
        // A first pod starts meanwhile: whatever the first step is, it needs one.
        capacity(draft, 1);
        return;
    }
    measure::warn(draft);
    let next = match leave(draft) {
        None => return,
        Some(Next::Promote) => {
            draft.promote();
            settle_window(draft);
            return;
        }
        Some(Next::Weight(next)) => next,
    };
    // What can be looked at before the first weight must stand before it, also while a gate is closed.
    let policy = draft.facts.policy;
    let shown = policy.preview.is_some() || !policy.matches.is_empty() || policy.mirror_percent.is_some();
    let free = if weight == 0 && shown {
        capacity(draft, next) && previewed(draft, next) && gates_open(draft, next)
    } else {
        gates_open(draft, next) && capacity(draft, next) && previewed(draft, next)
    };
    if free {
        enter(draft, next);
    }
}

/// Where nobody answered in stable, the canary took everything. Once somebody does, it has again what it had: it was
/// compared with nothing meanwhile.
fn back_from_alone(draft: &mut Draft<'_>) {
    if draft.stable_is_down() {
        return;
    }
    let now = draft.time();
    let Some(rollout) = draft.memory.rollout.as_mut() else { return };
    let Some(from) = rollout.alone_from.take().filter(|from| *from < rollout.weight) else { return };
    let note =
        format!("stable answers again: {} goes from {} % back to {from} %", rollout.release, rollout.weight);
    rollout.weight = from;
    rollout.entered_at = (from > 0).then_some(now);
    rollout.passed = 0;
    draft.notice(Reason::WeightShifted, note);
}

/// Says that nobody answers in stable, so that the canary is compared with nothing.
fn tell_alone(draft: &mut Draft<'_>) {
    let Some(rollout) = &draft.memory.rollout else { return };
    let stable = rollout.stable.as_deref().unwrap_or_default();
    let words = match rollout.weight {
        100 => format!("no pod of revision {stable} is Ready, so {} has all requests", rollout.release),
        weight => format!(
            "no pod of revision {stable} is Ready: {} goes from {weight} % to 100 % as soon as its own pods are",
            rollout.release
        ),
    };
    draft.reasons.insert(0, words);
}

/// Whether the clusters that go first have gone well.
fn follows(draft: &mut Draft<'_>) -> bool {
    let Some(rollout) = &draft.memory.rollout else { return false };
    if rollout.skip_after {
        return true;
    }
    let release = rollout.release.clone();
    match peers::follow(&draft.facts.policy.after, draft.facts.peers, &release, draft.now) {
        Follow::Yes => true,
        Follow::Wait(why, again_at) => {
            draft.phase = Phase::Waiting;
            let clusters: Vec<&str> =
                draft.facts.policy.after.iter().map(|after| after.cluster.as_str()).collect();
            let note =
                format!("{release} waits at its start until it serves well in {}", clusters.join(", "));
            draft.announce(Reason::RolloutHeld, Wait::OtherClusters, 0, &note);
            draft
                .reasons
                .push(format!("{why}; to go without it, run `{}`", draft.facts.command(Verb::SkipAfter)));
            draft.look_again(again_at);
            false
        }
        Follow::No(why) if draft.facts.role.follows() => {
            draft.roll_back(&why, false);
            false
        }
        Follow::No(why) => {
            draft.phase = Phase::Waiting;
            let words = format!("{why}; to start anyway, run `{}`", draft.facts.command(Verb::SkipAfter));
            let note = format!("{release} does not begin: {words}");
            draft.announce(Reason::Stalled, Wait::TakenBackElsewhere, 0, &note);
            draft.reasons.push(words.clone());
            draft.stalled = Some(("PeerRolledBack", words));
            false
        }
    }
}

/// Where the rollout goes from the weight of now; nowhere while it may not leave it.
fn leave(draft: &mut Draft<'_>) -> Option<Next> {
    let policy = draft.facts.policy;
    let alone = draft.stable_is_down();
    if alone {
        tell_alone(draft);
    }
    let rollout = draft.memory.rollout.as_ref()?;
    let weight = rollout.weight;
    let jump = rollout.promote || alone || draft.facts.role == Role::Standby;
    let next = match policy.steps.iter().find(|step| step.weight > weight) {
        Some(_) if jump => Next::Weight(100),
        Some(step) => Next::Weight(step.weight),
        None => Next::Promote,
    };
    if weight == 0 {
        return Some(next);
    }
    // Gates are asked beside the analysis, so that neither waits for the other.
    if let Next::Weight(next) = next {
        ask(draft, next);
    }
    let said = draft.said.clone().unwrap_or_else(|| draft.judge());
    let said = nothing_to_see(draft, said);
    let rollout = draft.memory.rollout.as_ref()?;
    if weight == 100 && (draft.unwanted || (alone && said.verdict == Verdict::Fail)) {
        // Whatever it is, there is nothing better; but it does not become stable for that.
        draft.phase = Phase::Inconclusive;
        return None;
    }
    if alone && weight < 100 {
        return Some(next);
    }
    if jump && !alone && weight == 100 && !said.share.differs() {
        return Some(next);
    }
    match steps::hold(policy, rollout, &said, draft.now) {
        Hold::Leave => Some(next),
        Hold::Back(why) => {
            draft.roll_back(&why, false);
            None
        }
        Hold::Stay { phase, reason, again_at } => {
            draft.phase = phase;
            draft.look_again(again_at);
            too_slow(draft, &said);
            if phase == Phase::Inconclusive {
                // While the weight does not follow, only skip-step goes on.
                let (verb, others) = match said.share.differs() {
                    true => (Verb::SkipStep, "abort"),
                    false => (Verb::Promote, "skip-step or abort"),
                };
                let words =
                    format!("{reason}; run `{}`, or the same with {others}", draft.facts.command(verb));
                draft.stalled = Some(("Inconclusive", words));
                draft.announce(Reason::RolloutHeld, Wait::Hold, weight, &reason);
            }
            draft.reasons.push(reason);
            None
        }
    }
}

/// Where a site has a part of the capacity, it may have no request at all, which is neither for nor against the canary.
/// Where the source is silent, those that went first have spoken for it.
fn nothing_to_see(draft: &Draft<'_>, said: Said) -> Said {
    let went_first = !draft.facts.policy.after.is_empty();
    let silent = said.verdict == Verdict::ProviderDown && went_first;
    if draft.facts.role != Role::Partial || !(said.nothing || silent) {
        return said;
    }
    let words =
        "this site has a part of the capacity, and no request of either revision is counted".to_owned();
    Said { verdict: Verdict::Pass, words, ..said }
}

/// Warns of a verdict that cannot be there in time.
fn too_slow(draft: &mut Draft<'_>, said: &Said) {
    let policy = draft.facts.policy;
    let (Some(rollout), Some((metric, requests, seconds))) = (&draft.memory.rollout, &said.needed) else {
        return;
    };
    let left = steps::limit(policy, rollout, said, draft.now).duration_since(draft.now).as_secs_f64();
    if rollout.weight == 100 || said.verdict != Verdict::Insufficient || *seconds <= left.max(0.0) {
        return;
    }
    let takes = display(std::time::Duration::from_secs(seconds.clamp(0.0, 1e9).ceil() as u64));
    draft.problems.push(Problem::warning(
        "spec.strategy.canary.maxHold",
        format!(
            "at {} % {metric} needs about {requests} more requests for a verdict, {takes} at the rate of now, which is \
             longer than what is left of maxHold",
            rollout.weight
        ),
        "Begin with more weight, raise maxHold or maxIncrease, or say in analysis.onInsufficient what happens then.",
    ));
}

/// Asks the gates before a weight. Returns those that are closed, in words. Who says `promote` opens none that waits for a
/// person.
fn ask(draft: &mut Draft<'_>, next: i32) -> Vec<(String, Option<Timestamp>, bool)> {
    let facts = draft.facts;
    let now = draft.now;
    let Some(rollout) = draft.memory.rollout.as_mut() else { return Vec::new() };
    let mut closed = Vec::new();
    let approve = facts.command(Verb::Approve);
    for (place, policy) in approval::gates_that_stand(facts, rollout) {
        // A gate before a step that was jumped over stands as well.
        let is_between = policy.at > rollout.weight && policy.at <= next;
        let waits_for_a_person = policy.kind == GateKind::Approval;
        if !is_between || (rollout.promote && !waits_for_a_person) {
            continue;
        }
        if let Some(place) = place.filter(|place| !draft.ask.contains(place)) {
            draft.ask.push(place);
        }
        let what = policy.name();
        let known = rollout.gates.iter().position(|memory| memory.what == what).unwrap_or_else(|| {
            let (true_since, unanswered_since) = (None, None);
            let reached_at = Time(now);
            rollout.gates.push(GateMemory { what, reached_at, true_since, unanswered_since, open: false });
            rollout.gates.len() - 1
        });
        let answer = facts.answers.iter().find(|answer| Some(answer.gate) == place);
        let answer = answer.map(|answer| &answer.answer);
        let mut said = gates::ask(&policy, &mut rollout.gates[known], answer, &approve, now);
        if let (true, Some(why)) = (waits_for_a_person, &rollout.unsigned) {
            said.words =
                format!("the gate before {} % waits for a person, and stays closed: {why}", policy.at);
        }
        if !said.open {
            closed.push((said.words, said.again_at, said.overdue));
        }
    }
    closed
}

fn gates_open(draft: &mut Draft<'_>, next: i32) -> bool {
    let closed = ask(draft, next);
    let Some((words, _, _)) = closed.first().cloned() else { return true };
    draft.phase = Phase::Gated;
    for (words, again_at, overdue) in closed {
        draft.look_again(again_at);
        if overdue {
            draft.stalled = Some(("GateTimedOut", words.clone()));
        }
        draft.reasons.push(words);
    }
    draft.announce(Reason::GateReached, Wait::Gate, next, &words);
    false
}

/// Whether the preview of blue-green has stood for long enough.
fn previewed(draft: &mut Draft<'_>, next: i32) -> bool {
    let Some(preview) = &draft.facts.policy.preview else { return true };
    let now = draft.now;
    let Some(rollout) = draft.memory.rollout.as_mut() else { return false };
    if rollout.promote || draft.facts.role == Role::Standby {
        return true;
    }
    let since = rollout.previewed_since.get_or_insert(Time(now)).0;
    let until = since.saturating_add(preview.at_least).unwrap_or(Timestamp::MAX);
    if now >= until {
        return true;
    }
    draft.phase = Phase::Preparing;
    let length = display(preview.at_least.unsigned_abs());
    draft.reasons.push(format!("the preview stands for {length} before {next} %"));
    draft.look_again(Some(until));
    false
}

/// The weight goes up.
fn enter(draft: &mut Draft<'_>, next: i32) {
    let now = draft.time();
    let (policy, role) = (draft.facts.policy, draft.facts.role);
    let alone = draft.stable_is_down();
    let Some(rollout) = draft.memory.rollout.as_mut() else { return };
    if alone {
        rollout.alone_from.get_or_insert(rollout.weight);
    }
    let (before, release) = (rollout.weight, rollout.release.clone());
    rollout.weight = next;
    rollout.entered_at = Some(now);
    rollout.announced = None;
    rollout.passed = 0;
    rollout.silent_since = None;
    rollout.silent_seconds = 0;
    let jumped = rollout.promote || role == Role::Standby;
    let note = format!("{release} goes from {before} % to {next} %");
    // Where numbers of pods are the weight, it is as close as they allow.
    let note = match draft.facts.sharing {
        Sharing::Pods => {
            let Pods { stable, canary } = steps::pods(draft.facts.scale, Sharing::Pods, next, 0);
            format!("{note}: {canary} of {} pods", stable + canary)
        }
        Sharing::Mesh | Sharing::Ingress => note,
    };
    draft.notice(Reason::WeightShifted, note);
    if next == 100 && jumped {
        // A person, or the lack of traffic, leaves nothing to wait for.
        draft.phase = Phase::Promoting;
        draft.reasons.push("all the weight is there; it is promoted next".to_owned());
        draft.look_again(Some(draft.now));
        return;
    }
    draft.phase = if next == 100 { Phase::Promoting } else { Phase::Analysing };
    let hold = policy.step(steps::position(policy, next)).map(|step| step.min_hold).unwrap_or_default();
    let length = display(hold.unsigned_abs());
    draft.reasons.push(format!("{next} % stands for {length} at the least"));
    draft.look_again(draft.now.saturating_add(hold).ok());
}

/// The rollback window is over: the revision before is not kept warm any more.
pub(super) fn close_window(draft: &mut Draft<'_>) {
    let Some(warm) = draft.memory.warm.take() else { return };
    let note =
        format!("the rollback window of {} is over; {} is not kept warm any more", warm.release, warm.old);
    draft.phase = Phase::Settled;
    draft.notice(Reason::WindowClosed, note);
}

/// The rollback window after a promotion.
pub(super) fn settle_window(draft: &mut Draft<'_>) {
    let share = shares::observed(draft);
    let Some(warm) = &draft.memory.warm else { return };
    if let Some(held) = draft.facts.held {
        draft.phase = Phase::Warm;
        draft.reasons.push(format!("revision {} stays warm: {}", warm.old, held.why));
        return;
    }
    if draft.now >= warm.until.0 && share.differs() {
        draft.phase = Phase::Warm;
        draft.reasons.push(format!(
            "the rollback window is over, but requests still reach revision {}: it keeps its pods until none do, or \
             until you run `{}`, after which nothing answers these requests",
            warm.old,
            draft.facts.command(Verb::SkipStep)
        ));
        return;
    }
    if draft.now >= warm.until.0 {
        close_window(draft);
        return;
    }
    draft.phase = Phase::Warm;
    let length = display(draft.facts.policy.window.unsigned_abs());
    let reason = format!(
        "revision {} stays warm for {length} after the promotion: the way back is one write",
        warm.old
    );
    let until = warm.until.0;
    draft.reasons.push(reason);
    draft.look_again(Some(until));
}
