//! The decision about a rollout: from what is seen and remembered to weights. Total, deterministic, without I/O,
//! clock or randomness.
//!
//! The order is the order of what matters: catch up with what was already written; know what is wanted; listen
//! to people; take away what fails; and only then go forward.

use jiff::Timestamp;

use super::approval;
use super::catch_up::catch_up;
use super::draft::Draft;
use super::facts::{Decision, Facts, Phase, Sharing};
use super::health::{self, Health};
use super::listen::listen;
use super::peers::{self, Follow};
use super::proceed::{proceed, settle_window};
use super::route::finish;
use super::shares;
use crate::api::Problem;
use crate::api::action::Verb;
use crate::api::analysis::Baseline;
use crate::api::notice::Reason;
use crate::evidence::{Share, Verdict};

/// Losses of readiness under weight that take a canary back: a pod that was moved has done nothing wrong, three times is
/// no move any more.
const LOSSES: i32 = 3;

/// What is to be done about a rollout, and why.
pub fn decide(facts: &Facts<'_>, now: Timestamp) -> Decision {
    let mut draft = Draft::new(facts, now);
    recognise(&mut draft);
    catch_up(&mut draft);
    target(&mut draft);
    approval::follow_gates(&mut draft);
    listen(&mut draft);
    take_back(&mut draft);
    if draft.memory.rollout.is_some() {
        match facts.frozen {
            Some(why) => freeze(&mut draft, why),
            None => proceed(&mut draft),
        }
    } else {
        settle_window(&mut draft);
    }
    conclude(&mut draft);
    shares::tell(&mut draft);
    unreadable(&mut draft);
    warn(&mut draft);
    finish(draft)
}

/// A FinService that was deleted and made again has none of the revisions that are remembered, whatever it is called.
fn recognise(draft: &mut Draft<'_>) {
    let service = draft.facts.service;
    let before = draft.memory.service.replace(service.to_owned());
    if before.is_none_or(|before| before == service) {
        return;
    }
    draft.memory.warm = None;
    draft.memory.failed.clear();
    draft.memory.legacy_done = false;
    if let Some(rollout) = draft.memory.rollout.take() {
        draft.forget(
            &rollout,
            "the FinService was deleted and made again: what is remembered was of the one before",
        );
    }
}

/// What the FinService asks for: a rollout begins, goes on, starts over, or ends.
fn target(draft: &mut Draft<'_>) {
    let Some(current) = draft.facts.current else {
        draft.reasons.push("what the FinService asks for is not known yet".to_owned());
        return;
    };
    if draft.facts.scale.demand() == 0 && !draft.takes_from_legacy() {
        nothing_runs(draft, current);
        return;
    }
    if draft.memory.rollout.as_ref().is_some_and(|rollout| rollout.canary == current) {
        return;
    }
    let serves = draft.stable.as_deref() == Some(current);
    if draft.takes_from_legacy() {
        if draft.failed(current).is_none() {
            begin(draft, current);
        } else {
            draft.cancel();
        }
        return;
    }
    if draft.stable.is_none() {
        // The first revision has nothing to be compared with.
        if draft.revision(current).is_some_and(|revision| revision.ready() > 0) {
            draft.stable = Some(current.to_owned());
        }
        return;
    }
    if serves {
        give_up(draft);
        return;
    }
    if draft.memory.warm.as_ref().is_some_and(|warm| warm.old == current) && regret(draft, current) {
        return;
    }
    if returns(draft, current) {
        return;
    }
    if draft.failed(current).is_some() {
        give_up(draft);
        return;
    }
    begin(draft, current);
}

/// The FinService asks for the revision that was stable a short while ago, before the one that serves: while it has pods
/// and its rollback window would last, it takes no steps to go back there.
fn returns(draft: &mut Draft<'_>, current: &str) -> bool {
    let Some(rollout) = &draft.memory.rollout else { return false };
    let is_within = rollout.was_warm_until.as_ref().is_some_and(|until| draft.now < until.0);
    let stands = draft.revision(current).is_some_and(|revision| revision.ready() > 0);
    if rollout.was_warm.as_deref() != Some(current)
        || !is_within
        || !stands
        || draft.facts.unreadable.is_some()
    {
        return false;
    }
    let release = draft.facts.release;
    draft.settle_at(
        current,
        &format!("{release} was stable a short while ago, and still has pods: it has all traffic back"),
    );
    true
}

/// No pods are asked for: nothing can be compared, and zero is zero. What the FinService asks for is what starts when
/// there are to be pods again, unless it has failed before.
fn nothing_runs(draft: &mut Draft<'_>, current: &str) {
    let moving = draft.memory.rollout.is_some() || draft.memory.warm.take().is_some();
    if draft.failed(current).is_some() {
        draft.cancel();
    } else if moving || draft.stable.as_deref() != Some(current) {
        let release = draft.facts.release;
        draft.settle_at(
            current,
            &format!(
                "{release} is stable without a rollout: scale.replicas is 0, so nothing runs to be compared"
            ),
        );
    }
    draft.reasons.push("scale.replicas is 0: no pod of any revision runs".to_owned());
}

/// The rollout that is under way is not wanted any more; but it is not taken from those who use it before somebody
/// else answers.
fn give_up(draft: &mut Draft<'_>) {
    let Some(rollout) = draft.memory.rollout.as_ref() else { return };
    if draft.has_way_back() || !draft.answers(&rollout.canary) {
        draft.cancel();
        return;
    }
    let words = format!(
        "{} is given up as soon as stable answers: no pod of revision {} is Ready",
        rollout.release,
        rollout.stable.as_deref().unwrap_or_default()
    );
    draft.unwanted = true;
    draft.no_way_back(words, true);
}

/// A rollout begins. While nobody can read by which policy, none does; but one that is under way gives way to
/// another template.
fn begin(draft: &mut Draft<'_>, current: &str) {
    match draft.facts.unreadable {
        Some(_) if draft.memory.rollout.is_none() => {
            let release = draft.facts.release;
            draft.reasons.push(format!("{release} does not begin: it is not known by which policy"));
        }
        // Where nobody answers in stable, what does must not lose its requests to it: it becomes stable first.
        _ if !draft.has_way_back()
            && draft.memory.rollout.as_ref().is_some_and(|r| draft.answers(&r.canary)) =>
        {
            let (next, now) = (draft.facts.release, draft.memory.rollout.as_ref());
            let now = now.map(|rollout| rollout.release.clone()).unwrap_or_default();
            draft.reasons.push(format!(
                "{next} begins as soon as {now} is stable: no pod of the revision before it answers"
            ));
        }
        _ => draft.begin(current),
    }
}

/// The FinService asks for the revision that is kept warm: one write of weights.
fn regret(draft: &mut Draft<'_>, current: &str) -> bool {
    let Some(old) = draft.revision(current).filter(|old| old.ready() > 0) else { return false };
    let Some(warm) = draft.memory.warm.take() else { return false };
    let note = format!(
        "the FinService asks for {} again, which is still warm: it has all traffic back",
        old.release
    );
    draft.notice(Reason::RevisionPromoted, format!("{note}; {} goes", warm.release));
    draft.stable = Some(current.to_owned());
    true
}

/// Takes all weight away from what fails, in this very decision.
fn take_back(draft: &mut Draft<'_>) {
    let (canary, beside, before, weight) = match (&draft.memory.rollout, &draft.memory.warm) {
        (Some(rollout), _) => {
            (rollout.canary.clone(), rollout.stable.clone(), rollout.restarts_before, rollout.weight)
        }
        (None, Some(warm)) => (warm.new.clone(), Some(warm.old.clone()), warm.restarts_before, 100),
        (None, None) => return,
    };
    if weight == 0 {
        // Pods without traffic do no harm; what they wait for is told by the progress deadline.
        return;
    }
    let said = draft.judge();
    draft.compared = weight < 100;
    draft.said = Some(said.clone());
    remember(draft, said.verdict);
    if said.verdict == Verdict::Fail {
        take(draft, &said.words);
        return;
    }
    let beside = beside.as_deref().and_then(|hash| draft.revision(hash));
    match health::judge(draft.revision(&canary), beside, before, weight == 100) {
        Health::Fine => {}
        Health::Crashing(why) => {
            draft.said = Some(super::steps::Said {
                verdict: Verdict::Fail,
                words: why.clone(),
                harmless: false,
                nothing: false,
                needed: None,
                share: Share::Unknown,
                asks: false,
            });
            take(draft, &why);
        }
        Health::NoneReady => none_ready(draft, &canary),
    }
    if draft.facts.role.follows() && draft.memory.rollout.is_none() {
        let warm = draft.memory.warm.as_ref().map(|warm| warm.release.clone());
        let follow = warm
            .map(|release| peers::follow(&draft.facts.policy.after, draft.facts.peers, &release, draft.now));
        if let Some(Follow::No(why)) = follow {
            take(draft, &why);
        }
    }
}

/// What of a verdict outlasts it: that it was a Pass, and how long the source was silent.
fn remember(draft: &mut Draft<'_>, verdict: Verdict) {
    let now = draft.time();
    let policy = draft.facts.policy;
    let Some(rollout) = draft.memory.rollout.as_mut() else { return };
    if verdict == Verdict::Pass {
        rollout.passed = rollout.weight;
        rollout.passed_for = Some(policy.after_weight(rollout.weight));
    }
    if verdict == Verdict::ProviderDown {
        rollout.silent_since.get_or_insert(now);
    } else if let Some(since) = rollout.silent_since.take() {
        rollout.silent_seconds += now.0.duration_since(since.0).as_secs().max(0);
    }
}

fn take(draft: &mut Draft<'_>, why: &str) {
    if !draft.roll_back(why, false) {
        let words =
            format!("{why}; but no pod of the revision before it is Ready, so no request would be answered");
        draft.no_way_back(words, true);
    }
}

/// Nobody is there to answer: the weight goes to where somebody is, and comes back step by step. A pod that was
/// moved to another node has done nothing wrong.
fn none_ready(draft: &mut Draft<'_>, canary: &str) {
    if draft.memory.rollout.is_some() && !draft.has_way_back() {
        // Nor is anybody there to go back to.
        let words =
            format!("neither a pod of revision {canary} nor one of stable is Ready: no request is answered");
        draft.no_way_back(words, false);
    } else if loses_again(draft) {
        take(
            draft,
            &format!(
                "for the {LOSSES}rd time no pod of revision {canary} is Ready while those of stable are"
            ),
        );
    } else if let Some(rollout) = draft.memory.rollout.as_mut() {
        let note = format!(
            "no pod of revision {canary} is Ready: {} goes from {} % to 0 % until there is one",
            rollout.release, rollout.weight
        );
        rollout.weight = 0;
        rollout.entered_at = None;
        rollout.alone_from = None;
        draft.notice(Reason::RolloutHeld, note);
    } else {
        take(draft, &format!("no pod of revision {canary} is Ready"));
    }
}

/// Counts that the canary has lost its last Ready pod under weight, and tells whether it was once too often. What stable's
/// pods lose as well says nothing of the canary.
fn loses_again(draft: &mut Draft<'_>) -> bool {
    let stable = draft.memory.rollout.as_ref().and_then(|rollout| rollout.stable.as_deref());
    let stable = stable.and_then(|stable| draft.revision(stable));
    let is_well =
        stable.is_some_and(|stable| !stable.pods.is_empty() && stable.ready() == stable.pods.len() as i32);
    let Some(rollout) = draft.memory.rollout.as_mut().filter(|_| is_well) else { return false };
    rollout.lost += 1;
    rollout.lost >= LOSSES
}

/// A Failover goes first: all weight to stable; afterwards the rollout starts over.
fn freeze(draft: &mut Draft<'_>, why: &str) {
    let attempt = draft.memory.attempt + 1;
    let has_way_back = draft.has_way_back();
    let Some(rollout) = draft.memory.rollout.as_mut() else { return };
    if !has_way_back {
        let words = format!(
            "{why}; {} keeps its requests meanwhile, since no pod of stable is Ready",
            rollout.release
        );
        draft.unwanted = true;
        draft.no_way_back(words, true);
        proceed(draft);
        return;
    }
    if rollout.weight > 0 || rollout.preparing > 0 {
        let note = format!("{} goes from {} % to 0 %: {why}", rollout.release, rollout.weight);
        rollout.weight = 0;
        rollout.entered_at = None;
        rollout.preparing = 0;
        rollout.unready_since = None;
        draft.memory.attempt = attempt;
        draft.notice(Reason::RolloutHeld, note);
    }
    draft.phase = Phase::Frozen;
    draft.said = None;
    draft.reasons.push(format!("{why}; the rollout starts over afterwards"));
}

/// What is to be said when nothing is under way.
fn conclude(draft: &mut Draft<'_>) {
    if draft.memory.rollout.is_some() || draft.memory.warm.is_some() {
        return;
    }
    let failed = draft.refused().cloned();
    if let Some(failed) = failed {
        draft.phase = Phase::RolledBack;
        let retry = draft.facts.command(Verb::Retry);
        let words = format!(
            "{} was rolled back at {} %: {}; change the FinService, or run `{retry}`",
            failed.release, failed.weight, failed.message
        );
        let words = match failed.weight {
            0 => format!(
                "{} was taken back before it had any weight: {}; change the FinService, or run `{retry}`",
                failed.release, failed.message
            ),
            _ => words,
        };
        draft.reasons.push(words.clone());
        draft.stalled.get_or_insert(("RolledBack", words));
    } else if draft.stable.is_none() {
        draft.phase = Phase::Starting;
        draft.reasons.push("the first revision serves as soon as it is Ready".to_owned());
    } else if draft.phase != Phase::Settled {
        draft.phase = Phase::Settled;
    }
}

/// What is to be said while the policy cannot be read. What was taken back before stays so.
fn unreadable(draft: &mut Draft<'_>) {
    let Some(unreadable) = draft.facts.unreadable else { return };
    let words = format!("the spec cannot be read: {unreadable}; correct it, or delete this CanaryRollout");
    if !matches!(draft.phase, Phase::RolledBack | Phase::Frozen) {
        draft.phase = Phase::Unreadable;
    }
    draft.reasons.push(words.clone());
    draft.stalled.get_or_insert(("Unreadable", words));
}

/// What the shares cannot do here.
fn warn(draft: &mut Draft<'_>) {
    let (policy, sharing) = (draft.facts.policy, draft.facts.sharing);
    if draft.by_flag() {
        return;
    }
    match sharing {
        Sharing::Mesh => {}
        Sharing::Ingress => draft.problems.push(Problem::info(
            "spec.strategy",
            "weights hold for requests through the gateway; clients of the plain Service see stable until the promotion",
            "Use mesh.provider Istio if clients inside the cluster are to take part.",
        )),
        Sharing::Pods => {
            draft.problems.push(Problem::info(
                "spec.strategy",
                "without a route the weight is a share of pods, and as close as their number allows",
                "Set mesh.provider on the FinService for exact weights.",
            ));
            let asked = [
                ("spec.matches", !policy.matches.is_empty()),
                ("spec.mirrorPercent", policy.mirror_percent.is_some()),
                ("spec.sessionAffinity", policy.affinity.is_some()),
                ("spec.analysis.baseline", policy.baseline == Baseline::Fresh),
            ];
            for (field, _) in asked.iter().filter(|(_, set)| *set) {
                draft.problems.push(Problem::warning(
                    *field,
                    "only a route can do this, and there is none",
                    "Set mesh.provider on the FinService, or leave this out.",
                ));
            }
        }
    }
    if draft.takes_from_legacy() {
        let asked = [
            ("spec.mirrorPercent", policy.mirror_percent.is_some(), "mirrored"),
            ("spec.sessionAffinity", policy.affinity.is_some(), "kept on a revision"),
        ];
        for (field, _, what) in asked.iter().filter(|(_, set, _)| *set) {
            draft.problems.push(Problem::warning(
                *field,
                format!(
                    "while the old backend has a share, no request is {what}: it knows nothing of revisions"
                ),
                "Nothing to do if that is wanted afterwards; else leave this out.",
            ));
        }
    }
    if let Some(percent) = policy.mirror_percent {
        draft.problems.push(Problem::warning(
            "spec.mirrorPercent",
            format!("{percent} % of requests are carried out twice: a mirrored payment is a second payment"),
            "Leave it out unless requests change nothing.",
        ));
    }
}
