//! What is still done while all else is stopped: a canary that is under way is judged on, and its requests are taken
//! away where it fails. Pure.
//!
//! Nobody who pauses a service, deletes its site by mistake or writes a field that this version cannot read asks for
//! requests that fail.

use jiff::Timestamp;

use crate::api::canarystatus::Memory;
use crate::canary;
use crate::canary::facts::Decision;
use crate::finservice::children::Scope;
use crate::finservice::children::routing::{LegacyBackend, legacy_backend};
use crate::finservice::index::Observed;
use crate::finservice::plan::compare::Comparison;
use crate::finservice::plan::placement;
use crate::finservice::plan::planning::{Asked, Planning, Stopped};
use crate::finservice::plan::stages::{Making, Reach};
use crate::finservice::plan::traffic_split;
use crate::finservice::plan::{Op, Plan, PlannedRollout, what_to_measure};

/// Adds to a plan that is stopped what takes requests away from a canary.
pub fn add(seen: &Observed, now: Timestamp, stopped: Stopped, plan: &mut Plan, reach: Reach) {
    let Some(rollout) = &seen.rollout else { return };
    let Some(canary) = under_way(&rollout.memory) else { return };
    let spec = placement::effective(&seen.service.spec, &seen.site, seen.authority.as_ref());
    let metadata = &seen.service.metadata;
    let scope = Scope {
        namespace: metadata.namespace.as_deref().unwrap_or_default(),
        name: metadata.name.as_deref().unwrap_or_default(),
        uid: metadata.uid.as_deref().unwrap_or_default(),
        site: &seen.site,
        spec: &spec,
        settings: &seen.settings,
        known_hosts: &seen.known_hosts,
        topics: &seen.told_topics.may,
    };
    let planning = Planning::stopped(&scope, seen, canary, stopped, now);
    let shift = traffic_split::shift(&planning, plan);
    let follow = match reach {
        Reach::Whole => what_to_measure::of(&planning, &shift),
        Reach::Weights => None,
    };
    if shift.decision.as_ref().is_some_and(|decision| goes_back(&rollout.memory, decision)) {
        let comparison = Comparison::new(seen, now, plan, false);
        let mut making = Making::new(&planning, &shift, comparison);
        making.routes(Reach::Weights);
        let stages = match reach {
            Reach::Whole => making.back(),
            Reach::Weights => making.weights(),
        };
        (plan.weights, plan.stages) = stages.into_parts();
        if seen.legacy_refused.is_some() {
            without_old_backend(plan, &scope);
        }
    }
    let made = shift.decision.zip(shift.gathered);
    plan.rollout = made.map(|(decision, gathered)| Box::new(PlannedRollout { decision, gathered, follow }));
}

/// Takes out what would lead to an old backend that is not given: else one that is named while a canary fails would be
/// published by the way back.
fn without_old_backend(plan: &mut Plan, scope: &Scope<'_>) {
    let host = match legacy_backend(scope) {
        Some(LegacyBackend::Service(namespace, name)) => format!("\"{name}.{namespace}.svc.cluster.local\""),
        Some(LegacyBackend::Host(host)) => format!("\"{host}\""),
        None => return,
    };
    let leads_there = |op: &Op| match op {
        Op::Apply { child, .. } => child.body["spec"].to_string().contains(&host),
        _ => false,
    };
    plan.weights.retain(|op| !leads_there(op));
    plan.stages.iter_mut().for_each(|stage| stage.retain(|op| !leads_there(op)));
}

/// The same where the problems of the plan say why it is stopped.
pub fn of_blocked(seen: &Observed, now: Timestamp, plan: &mut Plan, reach: Reach) {
    let why = plan.problems.iter().max_by_key(|problem| std::cmp::Reverse(problem.severity));
    let why = why.map(|problem| problem.message.clone()).unwrap_or_default();
    add(seen, now, Stopped { why, phase: canary::Phase::Blocked }, plan, reach);
}

/// The revision that is on its way in, or was promoted a short while ago.
fn under_way(memory: &Memory) -> Option<Asked<'_>> {
    match (&memory.rollout, &memory.warm) {
        (Some(rollout), _) => Some(Asked { hash: &rollout.canary, release: &rollout.release }),
        (None, Some(warm)) => Some(Asked { hash: &warm.new, release: &warm.release }),
        (None, None) => None,
    }
}

/// Whether a decision leaves the canary less than it had.
fn goes_back(before: &Memory, decision: &Decision) -> bool {
    let weight = |memory: &Memory| memory.rollout.as_ref().map(|rollout| rollout.weight);
    let less = weight(&decision.memory).zip(weight(before)).is_some_and(|(now, before)| now < before);
    less || decision.phase == canary::Phase::RolledBack
}
