//! The status of a FinService, from the plan and from what came of it. Pure.

use jiff::Timestamp;

use super::index::Observed;
use super::plan::{Phase, Plan};
use super::record;
use crate::api::conditions::{self, State, Wanted};
use crate::api::finservice::{FinServiceStatus, Replicas, Revisions};
use crate::api::{Problem, Severity};

/// Problems that are shown; the rest is counted in the last of them.
const SHOWN: usize = 16;

/// The status that follows from what was seen and decided. `failed` is what went wrong in acting.
pub fn status(seen: &Observed, plan: &Plan, failed: Option<Problem>, now: Timestamp) -> FinServiceStatus {
    let service = &seen.service;
    let mut problems = plan.problems.clone();
    problems.extend(failed);
    problems.sort_by_key(|problem| problem.severity);
    let hidden = problems.len().saturating_sub(SHOWN);
    problems.truncate(SHOWN);
    if hidden > 0 {
        problems.push(Problem::info(
            "status.problems",
            format!("{hidden} more are not shown"),
            "Mend those above first.",
        ));
    }
    let generation = service.metadata.generation;
    let old = service.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    FinServiceStatus {
        observed_generation: generation,
        conditions: conditions::merge(old, wanted(plan, &problems), generation, now),
        problems,
        release: plan.release.clone(),
        revisions: (plan.stable.is_some() || plan.next.is_some())
            .then(|| Revisions { stable: plan.stable.clone(), next: plan.next.clone() }),
        replicas: plan.pods.map(|(desired, ready)| Replicas {
            desired,
            ready,
            summary: format!("{ready}/{desired}"),
        }),
        site: Some(seen.site.to_string()),
        record: record::record(&seen.children, service.metadata.name.as_deref().unwrap_or_default()),
    }
}

/// Ready, Reconciling and Stalled, by the kstatus rules: Stalled only when a person must act.
fn wanted(plan: &Plan, problems: &[Problem]) -> Vec<Wanted> {
    let error = problems.iter().find(|problem| problem.severity == Severity::Error);
    let waits = || plan.reasons.first().cloned().unwrap_or_else(|| "at work".to_owned());
    let (state, reason, message) = match (&plan.phase, error) {
        (Phase::Paused, _) => (State::Unknown, "Paused", waits()),
        (Phase::NotPlaced, _) => (State::True, "NotPlaced", waits()),
        (_, Some(problem)) => (State::False, "Problem", problem.message.clone()),
        (Phase::Blocked, None) => (State::False, "Blocked", waits()),
        (Phase::Starting, _) => (State::False, "Starting", waits()),
        (Phase::RollingOut, _) => (State::True, "RollingOut", waits()),
        (Phase::Degraded, _) => (State::False, "Degraded", waits()),
        (Phase::Serving, _) => (State::True, "Serving", "all pods asked for are Ready".to_owned()),
    };
    let works = matches!(plan.phase, Phase::Starting | Phase::RollingOut | Phase::Degraded);
    let reconciling = match plan.phase {
        Phase::Starting => (State::True, "Starting", waits()),
        Phase::RollingOut => (State::True, "RollingOut", waits()),
        Phase::Degraded => (State::True, "Degraded", waits()),
        Phase::Paused => (State::False, "Paused", String::new()),
        _ => (State::False, "Settled", String::new()),
    };
    debug_assert_eq!(works, reconciling.0 == State::True);
    let stalled = match error {
        Some(problem) => (State::True, "Problem", format!("{} {}", problem.message, problem.remedy)),
        None => (State::False, "NoProblem", String::new()),
    };
    let make = |kind, (state, reason, message): (State, &'static str, String)| Wanted {
        kind,
        state,
        reason,
        message,
    };
    vec![make("Ready", (state, reason, message)), make("Reconciling", reconciling), make("Stalled", stalled)]
}

/// Whether two statuses say the same; the times of transitions follow from the rest, and seals alone are no news.
pub fn same(one: &FinServiceStatus, other: &FinServiceStatus) -> bool {
    let plain = |status: &FinServiceStatus| {
        let mut status = FinServiceStatus { record: None, ..status.clone() };
        for condition in &mut status.conditions {
            condition.last_transition_time.0 = Timestamp::UNIX_EPOCH;
        }
        status
    };
    plain(one) == plain(other) && record::same(one.record.as_deref(), other.record.as_deref())
}
