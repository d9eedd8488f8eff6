//! Which status a CanaryRollout gets: of a rollout under way (made by `canary::status`), at rest, ignored, or unreadable.
//! Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::{Value, json};

use crate::api::conditions::{Says, Standing, State, short};
use crate::api::{CanaryRollout, CanaryRolloutStatus, Problem};
use crate::canary::facts::{Destination, RevisionFacts, Sharing};
use crate::canary::status::{self, Seen};
use crate::evidence::Share;
use crate::finservice::index::Observed;
use crate::finservice::index::child::Facts as ChildFacts;
use crate::finservice::index::rollouts::{ObservedRollout, UnreadableField};
use crate::finservice::plan::{Phase, Plan, PlannedRollout};
use crate::finservice::watch::unreadable;

/// The status of a rollout that was decided about. `failed` is what went wrong in carrying it out, `numbers_at` when the
/// numbers in its status were written last.
pub fn under_way(
    seen: &Observed,
    rollout: &ObservedRollout,
    planned: &PlannedRollout,
    failed: Option<Problem>,
    numbers_at: Option<Timestamp>,
    now: Timestamp,
) -> CanaryRolloutStatus {
    let PlannedRollout { decision, gathered, .. } = planned;
    let mut problems: Vec<Problem> = gathered.problems.iter().chain(&rollout.problems).cloned().collect();
    problems.extend(failed);
    let around = Seen {
        generation: rollout.object.metadata.generation,
        old: rollout.object.status.as_ref(),
        observed_weight: observed_weight(seen, rollout, planned),
        problems: &problems,
        scatter: &rollout.scatter,
        numbers_at,
    };
    let mut status = status::status(&gathered.facts(rollout), decision, &around, now);
    if gathered.unreadable.is_some() && decision.memory.rollout.is_some() {
        // Of how many it is a step cannot be known.
        status.step = rollout.object.status.as_ref().and_then(|old| old.step.clone());
    }
    status
}

/// The canary's weight that is in force: the one that stands in the route, unless what is counted says otherwise;
/// without a route, its share of the Ready pods.
fn observed_weight(seen: &Observed, rollout: &ObservedRollout, planned: &PlannedRollout) -> Option<i32> {
    let PlannedRollout { decision, gathered, .. } = planned;
    let canary = decision.canary.as_deref()?;
    let of_now = rollout
        .evidence
        .as_ref()
        .filter(|evidence| (evidence.attempt, evidence.weight) == (decision.memory.attempt, decision.weight));
    // What is counted wavers around what fits; only what does not is news.
    if let Some(Share::Differs(share)) = of_now.map(|evidence| evidence.share) {
        return Some((share * 100.0).round() as i32);
    }
    if gathered.sharing == Sharing::Pods {
        let all: i32 = gathered.revisions.iter().map(RevisionFacts::ready).sum();
        let found = gathered.revisions.iter().find(|revision| revision.hash == canary);
        let of_canary = found.map_or(0, RevisionFacts::ready);
        return (all > 0).then(|| (of_canary * 100 + all / 2) / all);
    }
    let name = seen.service.metadata.name.as_deref().unwrap_or_default();
    let service = format!("{name}-{canary}");
    let beside = match decision.sampling.as_ref().map(|sampling| &sampling.stable) {
        Some(Destination::Legacy) => gathered.legacy.clone()?,
        _ => format!("{name}-{}", decision.stable.as_deref().unwrap_or_default()),
    };
    let routes = seen.children.iter().filter_map(|child| match &child.facts {
        ChildFacts::Route(route) => route.share(&service, &beside),
        _ => None,
    });
    // Several routes may share it (the mesh's and the gateway's); the one that lags behind is told.
    routes.min().map(i32::from)
}

/// The status of a CanaryRollout about which nothing is decided: its FinService is paused, or not placed here.
pub fn at_rest(rollout: &ObservedRollout, plan: &Plan, now: Timestamp) -> CanaryRolloutStatus {
    if let Some(unreadable) = &rollout.unreadable {
        let problem = unreadable::problem(unreadable);
        let why = problem.message.clone();
        return standing(&rollout.object, Standing::stuck("Unreadable", &why), vec![problem], now);
    }
    let why = plan.reasons.first().cloned().unwrap_or_else(|| "nothing is decided".to_owned());
    let (state, reason) = match plan.phase {
        Phase::Paused => (State::Unknown, "Paused"),
        Phase::Blocked => (State::False, "Blocked"),
        _ => (State::True, "NotPlaced"),
    };
    let stands = Standing {
        ready: Says::new(state, reason, &why),
        reconciling: Says::no(reason, &why),
        stalled: Says::no(reason, &why),
    };
    standing(&rollout.object, stands, Vec::new(), now)
}

/// The status of a CanaryRollout that does not count, and why.
pub fn ignored(object: &CanaryRollout, problem: Problem, now: Timestamp) -> CanaryRolloutStatus {
    standing(object, Standing::stuck("Ignored", &problem.message), vec![problem], now)
}

/// What stands of it is what is remembered; all else is of now.
fn standing(
    object: &CanaryRollout,
    standing: Standing,
    problems: Vec<Problem>,
    now: Timestamp,
) -> CanaryRolloutStatus {
    let old = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation;
    CanaryRolloutStatus {
        observed_generation: generation,
        phase: Some(standing.ready.reason.to_owned()),
        message: Some(short(&standing.ready.message)),
        conditions: standing.conditions(&old.conditions, generation, now),
        problems,
        scatter: old.scatter,
        history: old.history,
        memory: old.memory,
        release: old.release,
        ..CanaryRolloutStatus::default()
    }
}

/// The status of a CanaryRollout whose spec cannot be read. All else that stands in it stays, above all what is
/// remembered: an apply that left it out would take it away.
pub fn unreadable(
    old: &Value,
    unreadable: &UnreadableField,
    generation: Option<i64>,
    now: Timestamp,
) -> Value {
    let problem = unreadable::problem(unreadable);
    let message = problem.message.clone();
    let before: Vec<Condition> = serde_json::from_value(old["conditions"].clone()).unwrap_or_default();
    let mut status = if old.is_object() { old.clone() } else { json!({}) };
    status["observedGeneration"] = json!(generation);
    status["conditions"] =
        json!(Standing::stuck("Unreadable", &message).conditions(&before, generation, now));
    status["problems"] = json!([problem]);
    status["phase"] = json!("Unreadable");
    status["message"] = json!(message);
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_says_so_once_and_keeps_what_is_remembered() {
        let at = |second| Timestamp::from_second(second).expect("in range");
        let old = json!({"phase": "Analysing", "memory": {"attempt": 7}, "history": [1], "problems": []});
        let field =
            |why: &str| UnreadableField { field: "spec.via".into(), why: why.into(), left_out: Vec::new() };
        let first = unreadable(&old, &field("a string"), Some(2), at(1000));
        assert_eq!((&first["memory"], &first["history"]), (&json!({"attempt": 7}), &json!([1])));
        assert_eq!(first["conditions"][2]["reason"], "Unreadable");
        assert_eq!(first["problems"][0]["message"], "the spec cannot be read: spec.via: a string");
        assert_eq!(unreadable(&first, &field("a string"), Some(2), at(2000)), first);
        assert_ne!(unreadable(&first, &field("another word"), Some(3), at(2000)), first);
        assert_eq!(unreadable(&Value::Null, &field("x"), None, at(1))["phase"], "Unreadable");
    }
}
