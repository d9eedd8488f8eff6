//! The status of a FinService, from the plan and from what came of it. Pure.

pub(crate) mod rollout;

use jiff::Timestamp;

use crate::api::conditions::{self, Says, Standing, State};
use crate::api::finservice::{FinServiceStatus, Replicas, Revisions};
use crate::api::{Problem, Severity};
use crate::finservice::index::{Observed, Unreadable};
use crate::finservice::plan::child_digests;
use crate::finservice::plan::{Phase, Plan};

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
        conditions: standing(plan, &problems).conditions(old, generation, now),
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
        record: child_digests::record(&seen.children, service.metadata.name.as_deref().unwrap_or_default()),
    }
}

/// The status of a FinService that cannot be read: what it said before of what runs is not known to hold.
pub fn unreadable(unreadable: &Unreadable, now: Timestamp) -> FinServiceStatus {
    let message = format!("the spec cannot be read: {}", unreadable.why);
    let (old, generation) = (unreadable.status.as_ref(), unreadable.generation);
    let current = old.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let remedy = "Correct the field that the message names; what runs is left as it is.";
    FinServiceStatus {
        observed_generation: generation,
        conditions: Standing::stuck("Unreadable", &message).conditions(current, generation, now),
        problems: vec![Problem::error("spec", message, remedy)],
        ..FinServiceStatus::default()
    }
}

/// Ready, Reconciling and Stalled, by the kstatus rules: Stalled only when a person must act.
fn standing(plan: &Plan, problems: &[Problem]) -> Standing {
    let error = problems.iter().find(|problem| problem.severity == Severity::Error);
    let waits = || plan.reasons.first().cloned().unwrap_or_else(|| "at work".to_owned());
    let ready = match (&plan.phase, error) {
        (Phase::Paused, _) => Says::new(State::Unknown, "Paused", waits()),
        (Phase::NotPlaced, _) => Says::yes("NotPlaced", waits()),
        (_, Some(problem)) => Says::no("Problem", problem.message.clone()),
        (Phase::Blocked, None) => Says::no("Blocked", waits()),
        (Phase::Starting, _) => Says::no("Starting", waits()),
        (Phase::RollingOut, _) => Says::yes("RollingOut", waits()),
        (Phase::Degraded, _) => Says::no("Degraded", waits()),
        (Phase::Serving, _) => Says::yes("Serving", "all pods asked for are Ready"),
    };
    let reconciling = match plan.phase {
        Phase::Starting => Says::yes("Starting", waits()),
        Phase::RollingOut => Says::yes("RollingOut", waits()),
        Phase::Degraded => Says::yes("Degraded", waits()),
        Phase::Paused => Says::no("Paused", ""),
        Phase::Serving | Phase::NotPlaced | Phase::Blocked => Says::no("Settled", ""),
    };
    let stalled = match error {
        Some(problem) => Says::yes("Problem", format!("{}; {}", problem.message, problem.remedy)),
        None => Says::no_problem(),
    };
    Standing { ready, reconciling, stalled }
}

/// Whether two statuses say the same; the times of transitions follow from the rest, and seals alone are no news.
pub fn same(one: &FinServiceStatus, other: &FinServiceStatus) -> bool {
    let plain = |status: &FinServiceStatus| FinServiceStatus {
        record: None,
        conditions: Vec::new(),
        ..status.clone()
    };
    conditions::same(&one.conditions, &other.conditions)
        && plain(one) == plain(other)
        && child_digests::same(one.record.as_deref(), other.record.as_deref())
}
