//! From what was decided to where requests go and how many pods there are.

use super::draft::Draft;
use super::facts::{Decision, Destination, Phase, Role, Route, Routed, Sampling, Sharing};
use super::{shares, steps};
use crate::api::analysis::Baseline;
use crate::api::canarystatus::{Failed, Rollout};
use crate::evidence::{Asked, Bypass};

/// The decision that the draft comes to.
pub(super) fn finish(draft: Draft<'_>) -> Decision {
    let policy = draft.facts.policy;
    let rollout = draft.memory.rollout.clone();
    let weight =
        if draft.phase == Phase::Frozen { 0 } else { rollout.as_ref().map_or(0, |rollout| rollout.weight) };
    let mut decision = Decision {
        stable: draft.stable.clone(),
        canary: rollout.as_ref().map(|rollout| rollout.canary.clone()),
        // After a promotion the flag stays where it is: it is the team's again.
        flag: (draft.by_flag() && (rollout.is_some() || draft.phase == Phase::RolledBack)).then_some(weight),
        mark: draft.mark(),
        verdict: draft.verdict(),
        step: (steps::position(policy, weight), policy.last()),
        weight,
        ..Decision::default()
    };
    match &rollout {
        _ if draft.by_flag() => by_flag(&draft, rollout.as_ref(), &mut decision),
        Some(rollout) if rollout.stable.is_none() && draft.takes_from_legacy() => {
            from_legacy(&draft, rollout, weight, &mut decision);
        }
        Some(rollout) => shared(&draft, rollout, weight, &mut decision),
        None => settled(&draft, &mut decision),
    }
    decision.route.by_pods = draft.facts.sharing == Sharing::Pods;
    decision.route.shares.retain(|(_, percent)| *percent > 0);
    decision.phase = draft.phase;
    decision.stalled = draft.stalled;
    decision.reasons = draft.reasons;
    decision.notices = draft.notices;
    decision.problems = draft.problems;
    decision.again_at = draft.again_at;
    decision.memory = draft.memory;
    decision.answered = draft.answered;
    decision.ended = draft.ended;
    decision.ask = draft.ask;
    decision
}

fn to(hash: &str) -> Destination {
    Destination::Revision(hash.to_owned())
}

/// Nothing rolls out.
fn settled(draft: &Draft<'_>, decision: &mut Decision) {
    let demand = draft.facts.scale.demand();
    let Some(stable) = &draft.stable else {
        // The first revision has nothing to be compared with: it serves as soon as it is Ready.
        if draft.takes_from_legacy() {
            decision.route.shares = vec![(Destination::Legacy, 100)];
        } else if let Some(current) = draft.facts.current {
            decision.route.shares = vec![(to(current), 100)];
        }
        decision.pods = draft.facts.current.map(|current| (current.to_owned(), demand)).into_iter().collect();
        return;
    };
    let legacy = draft.takes_from_legacy();
    decision.route.shares = vec![(if legacy { Destination::Legacy } else { to(stable) }, 100)];
    decision.pods = vec![(stable.clone(), demand)];
    if let Some(failed) = draft.refused().filter(|failed| failed.revision != *stable) {
        leaving(draft, stable, failed, decision);
    }
    if let Some(warm) = &draft.memory.warm {
        let pods = steps::share_of(demand, draft.facts.policy.window_percent);
        decision.pods.push((warm.old.clone(), pods));
        let (stable, canary) = (to(&warm.old), to(&warm.new));
        // The plain Service selects the new one: nobody has another way to the old one.
        let share = Some(Asked { canary: 100, beside: 0, bypass: Bypass::None });
        decision.sampling =
            Some(Sampling { attempt: draft.memory.attempt, weight: 100, next: 100, stable, canary, share });
    }
}

/// What was taken back keeps its pods for as long as it may be asked: while stable has none that answers, since even a
/// bad answer is more than none; and while requests still reach it, since a weight that was written need not be in
/// force.
fn leaving(draft: &Draft<'_>, stable: &str, failed: &Failed, decision: &mut Decision) {
    let Some(pods) = draft.revision(&failed.revision).map(|revision| &revision.pods) else { return };
    if pods.is_empty() {
        return;
    }
    let answering = pods.iter().filter(|pod| pod.ready_since.is_some()).count() as i32;
    if !draft.answers(stable) {
        decision.pods.push((failed.revision.clone(), answering));
        return;
    }
    if failed.weight == 0 || failed.attempt != draft.memory.attempt || draft.facts.sharing == Sharing::Pods {
        return;
    }
    if shares::observed(draft).differs() {
        decision.pods.push((failed.revision.clone(), answering));
    }
    let beside = if draft.takes_from_legacy() { Destination::Legacy } else { to(stable) };
    decision.sampling = Some(Sampling {
        attempt: draft.memory.attempt,
        weight: 0,
        next: 100,
        stable: beside,
        canary: to(&failed.revision),
        share: Some(Asked { canary: 0, beside: 100, bypass: Bypass::None }),
    });
}

/// A canary beside stable.
fn shared(draft: &Draft<'_>, rollout: &Rollout, weight: i32, decision: &mut Decision) {
    let facts = draft.facts;
    let policy = facts.policy;
    let Some(stable) = &draft.stable else { return };
    let canary = to(&rollout.canary);
    let preparing = if draft.phase == Phase::Frozen { 0 } else { rollout.preparing };
    let pods = steps::pods(facts.scale, facts.sharing, weight, preparing);
    decision.pods = vec![(stable.clone(), pods.stable), (rollout.canary.clone(), pods.canary)];
    let mut of_stable = 100 - weight;
    let target = weight.max(preparing);
    let fresh =
        policy.baseline == Baseline::Fresh && facts.sharing != Sharing::Pods && weight < 100 && target > 0;
    let mut compared = to(stable);
    let mut beside = 100 - weight;
    if fresh && facts.role != Role::Standby {
        decision.baseline_pods = steps::share_of(facts.scale.demand(), target.min(99));
        let copies = facts.baseline.map_or(0, |baseline| baseline.ready());
        if weight > 0 && copies > 0 {
            // As much as the canary has, as far as stable has it to give.
            let percent = weight.min(of_stable);
            of_stable -= percent;
            beside = percent;
            compared = Destination::Baseline(stable.clone());
            decision.route.shares.push((compared.clone(), percent));
        }
    }
    decision.route.shares.insert(0, (to(stable), of_stable));
    decision.route.shares.push((canary.clone(), weight));
    let ready = draft.revision(&rollout.canary).is_some_and(|revision| revision.ready() > 0);
    let seen = ready && draft.phase != Phase::Frozen;
    if seen && facts.sharing != Sharing::Pods {
        extras(draft, &canary, decision);
    }
    let chooses = policy.pace.is_some() && rollout.ladder.is_none();
    let outlasts = rollout.stepped_back.as_ref().is_some_and(|back| back.ended_at.is_none());
    if weight > 0 {
        let (attempt, next) = (draft.memory.attempt, policy.after_weight(weight));
        // Who is kept by a cookie does not follow the weight, and connections that stay do not follow numbers of pods.
        let follows = facts.sharing != Sharing::Pods && policy.affinity.is_none();
        let bypass = if facts.sharing == Sharing::Mesh { Bypass::Some } else { Bypass::Any };
        let share = follows.then_some(Asked { canary: weight, beside, bypass });
        decision.sampling = Some(Sampling { attempt, weight, next, stable: compared, canary, share });
    } else if (chooses || outlasts || draft.phase == Phase::Preparing) && compares_with_stable(draft) {
        // What stable answers says which steps are chosen, what is usual, and whether it fails still.
        let attempt = draft.memory.attempt;
        decision.sampling =
            Some(Sampling { attempt, weight: 0, next: 100, stable: compared, canary, share: None });
    }
}

/// Whether the canary is compared with the revision before it: neither with the legacy backend, nor with itself behind a
/// flag.
pub(super) fn compares_with_stable(draft: &Draft<'_>) -> bool {
    !draft.by_flag() && draft.memory.rollout.as_ref().is_some_and(|rollout| rollout.stable.is_some())
}

/// What a route can do beside weights, while the canary has pods.
fn extras(draft: &Draft<'_>, canary: &Destination, decision: &mut Decision) {
    let policy = draft.facts.policy;
    let route: &mut Route = &mut decision.route;
    route.matches = policy.matches.iter().map(|matched| (matched.clone(), canary.clone())).collect();
    route.mirror = policy.mirror_percent.map(|percent| (canary.clone(), percent));
    route.affinity = policy.affinity.clone();
    let host = policy.preview.as_ref().and_then(|preview| preview.host.clone());
    route.preview = host.map(|host| (host, canary.clone()));
}

/// The service takes traffic from the legacy backend. All its pods run: it is the plain Service's stable too.
fn from_legacy(draft: &Draft<'_>, rollout: &Rollout, weight: i32, decision: &mut Decision) {
    let demand = draft.facts.scale.demand();
    let canary = to(&rollout.canary);
    decision.pods = vec![(rollout.canary.clone(), demand)];
    out(draft, &rollout.canary, demand, decision);
    decision.route.shares = vec![(Destination::Legacy, 100 - weight), (canary.clone(), weight)];
    let ready = draft.revision(&rollout.canary).is_some_and(|revision| revision.ready() > 0);
    if ready && draft.phase != Phase::Frozen && draft.facts.sharing != Sharing::Pods {
        let matches = draft.facts.policy.matches.iter();
        decision.route.matches = matches.map(|matched| (matched.clone(), canary.clone())).collect();
    }
    if weight > 0 {
        let (attempt, next) = (draft.memory.attempt, draft.facts.policy.after_weight(weight));
        // The old backend serves other paths and other callers too, and proxies count it as a whole: what it has says
        // nothing of the weight.
        decision.sampling =
            Some(Sampling { attempt, weight, next, stable: Destination::Legacy, canary, share: None });
    }
}

/// A flag's percentage moves; the new revision is out before that.
fn by_flag(draft: &Draft<'_>, rollout: Option<&Rollout>, decision: &mut Decision) {
    let demand = draft.facts.scale.demand();
    let Some(rollout) = rollout else {
        settled(draft, decision);
        return;
    };
    decision.pods = vec![(rollout.canary.clone(), demand)];
    out(draft, &rollout.canary, demand, decision);
    if let Some(stable) = &decision.stable {
        decision.route.shares = vec![(to(stable), 100)];
    }
    if rollout.weight > 0 {
        let canary = to(&rollout.canary);
        let (attempt, weight) = (draft.memory.attempt, rollout.weight);
        let next = draft.facts.policy.after_weight(weight);
        let share = Some(Asked { canary: weight, beside: 100 - weight, bypass: Bypass::Some });
        decision.sampling = Some(Sampling { attempt, weight, next, stable: canary.clone(), canary, share });
    }
}

/// The revision takes the place of the one before once all its pods are Ready.
fn out(draft: &Draft<'_>, hash: &str, demand: i32, decision: &mut Decision) {
    let ready = draft.revision(hash).map_or(0, |revision| revision.heard_of(draft.now).0);
    if (ready >= demand && draft.facts.routed == Routed::Yes) || draft.stable.is_none() {
        decision.stable = Some(hash.to_owned());
    } else if let Some(stable) = draft.stable.clone().filter(|stable| stable != hash) {
        decision.pods.push((stable, demand));
    }
}
