//! The status of a CanaryRollout, from the decision and from what was seen. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::facts::{Decision, Facts, Phase, Sharing};
use crate::api::canarystatus::{MetricStatus, Past, Scatter, Weight};
use crate::api::conditions::{self, State, Wanted, short};
use crate::api::{CanaryRolloutStatus, Problem};
use crate::evidence::{Amount, Judgement, Percent, Verdict};
use crate::judge::Evidence;

/// Rollouts that the history keeps.
const HISTORY: usize = 10;
/// Problems that are shown.
const SHOWN: usize = 32;
/// Seconds after which numbers are written again although nothing else has changed.
const FRESH: i64 = 60;

/// What beside the decision goes into a status.
#[derive(Clone, Debug, Default)]
pub struct Seen<'a> {
    /// Generation of the CanaryRollout.
    pub generation: Option<i64>,
    /// The status that stands there.
    pub old: Option<&'a CanaryRolloutStatus>,
    /// The canary's weight that stands in the route; without a route, its share of the Ready pods.
    pub observed_weight: Option<i32>,
    /// Problems of the policy, and of those who carry the decision out.
    pub problems: &'a [Problem],
    /// How stable's errors scatter; nothing while nothing is counted.
    pub scatter: &'a [Scatter],
    /// When the numbers in the old status were written.
    pub numbers_at: Option<Timestamp>,
}

/// The status that follows.
pub fn status(
    facts: &Facts<'_>,
    decision: &Decision,
    seen: &Seen<'_>,
    now: Timestamp,
) -> CanaryRolloutStatus {
    let mut problems: Vec<Problem> = seen.problems.iter().chain(&decision.problems).cloned().collect();
    problems.sort_by_key(|problem| problem.severity);
    problems.truncate(SHOWN);
    let empty = CanaryRolloutStatus::default();
    let old = seen.old.unwrap_or(&empty);
    let release = decision.memory.rollout.as_ref().map(|rollout| rollout.release.clone());
    // What led to this weight says nothing of it.
    let judged = facts.evidence.filter(|evidence| evidence.attempt == decision.memory.attempt);
    let moved = judged.is_some_and(|evidence| {
        decision.sampling.as_ref().is_some_and(|sampling| sampling.weight != evidence.weight)
    });
    let outdated = |verdict: Verdict| moved && verdict != Verdict::Fail;
    let mut status = CanaryRolloutStatus {
        observed_generation: seen.generation,
        conditions: conditions::merge(&old.conditions, wanted(decision, &problems), seen.generation, now),
        problems,
        phase: Some(decision.phase.as_str().to_owned()),
        message: decision.reasons.first().map(short),
        step: Some(format!("{}/{}", decision.step.0, decision.step.1)),
        weight: Some(Weight {
            asked: decision.weight,
            observed: seen.observed_weight,
            approximate: facts.sharing == Sharing::Pods,
        }),
        verdict: decision.verdict.filter(|verdict| !outdated(*verdict)).map(|verdict| verdict.to_string()),
        release: Some(release.unwrap_or_else(|| facts.release.to_owned())),
        stable: decision.stable.clone(),
        canary: decision.canary.clone(),
        metrics: Vec::new(),
        scatter: if seen.scatter.is_empty() { old.scatter.clone() } else { seen.scatter.to_vec() },
        history: history(&decision.ended, &old.history),
        memory: Some(decision.memory.clone()),
    };
    status.metrics = shown(facts.evidence, decision, old, now);
    // Live numbers are at /metrics; here they move with something else, or once a minute.
    let fresh = seen.numbers_at.is_some_and(|at| now.duration_since(at).as_secs() < FRESH);
    if fresh && old.phase == status.phase && old.weight == status.weight && old.verdict == status.verdict {
        status.metrics = old.metrics.clone();
        status.scatter = old.scatter.clone();
        let kinds = |problems: &[Problem]| -> Vec<_> {
            problems.iter().map(|problem| (problem.source.clone(), problem.severity)).collect()
        };
        if kinds(&old.problems) == kinds(&status.problems) {
            status.problems = old.problems.clone();
        }
        if has_numbers(decision.phase) {
            status.message = old.message.clone();
            let kept = keep(&old.conditions, decision);
            let kept = conditions::merge(&old.conditions, kept, seen.generation, now);
            if kept.len() == status.conditions.len() {
                status.conditions = kept;
            }
        }
    }
    status
}

/// Whether what a rollout waits for is told with numbers of requests, which move with every look. What gates, pods and
/// other clusters say changes only with them; nothing may come after it for days, so it is written at once.
fn has_numbers(phase: Phase) -> bool {
    !matches!(phase, Phase::Gated | Phase::Preparing | Phase::Waiting)
}

/// The conditions of now with the messages of before.
fn keep(
    old: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition],
    decision: &Decision,
) -> Vec<Wanted> {
    let mut wanted = wanted(decision, &[]);
    for want in &mut wanted {
        let same = |have: &&k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
            have.type_ == want.kind && have.status == want.state.as_str() && have.reason == want.reason
        };
        if let Some(have) = old.iter().find(same) {
            want.message.clone_from(&have.message);
        }
    }
    wanted
}

fn history(ended: &[Past], old: &[Past]) -> Vec<Past> {
    let mut history: Vec<Past> = ended.iter().rev().chain(old).cloned().collect();
    history.truncate(HISTORY);
    history
}

/// Ready, Reconciling and Stalled, by the kstatus rules: Stalled only when a person must act.
fn wanted(decision: &Decision, problems: &[Problem]) -> Vec<Wanted> {
    let why = decision.reasons.first().map_or("nothing rolls out", String::as_str).to_owned();
    let reason = decision.phase.as_str();
    let at_rest = matches!(
        decision.phase,
        Phase::Settled | Phase::Warm | Phase::RolledBack | Phase::Blocked | Phase::Unreadable
    );
    let well = matches!(decision.phase, Phase::Settled | Phase::Warm);
    let error = problems.iter().find(|problem| problem.severity == crate::api::Severity::Error);
    let stalled = match (&decision.stalled, error) {
        (Some((reason, message)), _) => Some((*reason, message.clone())),
        (None, Some(problem)) => Some(("Problem", format!("{} {}", problem.message, problem.remedy))),
        (None, None) => None,
    };
    let ready = if well && stalled.is_none() { State::True } else { State::False };
    let working = if at_rest { State::False } else { State::True };
    let (is_stalled, stalled_reason, message) = match stalled {
        Some((reason, message)) => (State::True, reason, message),
        None => (State::False, "NoProblem", String::new()),
    };
    vec![
        Wanted { kind: "Ready", state: ready, reason, message: why.clone() },
        Wanted { kind: "Reconciling", state: working, reason, message: why },
        Wanted { kind: "Stalled", state: is_stalled, reason: stalled_reason, message },
    ]
}

/// The evidence that is shown: of this weight; after a rollback what decided it, for as long as that stands.
fn shown(
    evidence: Option<&Evidence>,
    decision: &Decision,
    old: &CanaryRolloutStatus,
    now: Timestamp,
) -> Vec<MetricStatus> {
    let evidence = evidence.filter(|evidence| evidence.attempt == decision.memory.attempt);
    if decision.phase == Phase::RolledBack {
        // What is counted afterwards tells only whether requests still reach it.
        let evidence = evidence.filter(|evidence| evidence.weight > 0);
        return if evidence.is_some() { metrics(evidence, now) } else { old.metrics.clone() };
    }
    let weight = decision.sampling.as_ref().map(|sampling| sampling.weight).filter(|weight| *weight > 0);
    let mut shown = metrics(evidence.filter(|evidence| Some(evidence.weight) == weight), now);
    if weight == Some(100) {
        // Nothing runs beside it, so there is no comparison that could be insufficient.
        shown.retain(|metric| metric.verdict == Verdict::Fail.to_string());
    }
    shown
}

fn metrics(evidence: Option<&Evidence>, now: Timestamp) -> Vec<MetricStatus> {
    let said = evidence.into_iter().flat_map(|evidence| evidence.judgements.iter().chain(&evidence.doubts));
    said.map(|(name, judgement)| metric(name, judgement, now)).collect()
}

fn metric(name: &str, judgement: &Judgement, now: Timestamp) -> MetricStatus {
    let numbers = &judgement.numbers;
    let count = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let seconds = numbers.needed.as_ref().and_then(|needed| needed.seconds).filter(|seconds| *seconds < 1e9);
    let until = seconds
        .and_then(|seconds| now.saturating_add(jiff::SignedDuration::from_secs(seconds.ceil() as i64)).ok());
    MetricStatus {
        name: name.to_owned(),
        verdict: judgement.verdict.to_string(),
        message: short(super::steps::reason(judgement)),
        canary_requests: count(numbers.step.canary_requests),
        stable_requests: count(numbers.step.stable_requests),
        increase: numbers.estimate.map(|estimate| {
            let (low, high) = numbers.interval;
            format!("{} ({} to {})", Percent(estimate), Percent(low), Percent(high))
        }),
        evidence: format!("{} of {:.0}", Amount(numbers.evidence), numbers.limit),
        needed_requests: numbers.needed.as_ref().map(|needed| count(needed.requests)),
        needed_until: until.map(Time),
    }
}

/// Whether two statuses say the same; the times of transitions follow from the rest.
pub fn same(one: &CanaryRolloutStatus, other: &CanaryRolloutStatus) -> bool {
    let plain = |status: &CanaryRolloutStatus| {
        let mut status = status.clone();
        for condition in &mut status.conditions {
            condition.last_transition_time = Time(Timestamp::UNIX_EPOCH);
        }
        status
    };
    plain(one) == plain(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::canarystatus::Memory;
    use crate::canary::Policy;
    use crate::canary::facts::{Role, Routed, Scale};

    /// The status after a decision, over an old one.
    fn after(decision: &Decision, old: Option<&CanaryRolloutStatus>, second: i64) -> CanaryRolloutStatus {
        after_with(decision, old, second, &[])
    }

    fn after_with(
        decision: &Decision,
        old: Option<&CanaryRolloutStatus>,
        second: i64,
        scatter: &[Scatter],
    ) -> CanaryRolloutStatus {
        let (policy, _) = Policy::of(&Default::default(), None, Default::default());
        let memory = Memory::default();
        let facts = Facts {
            namespace: "pay",
            name: "app",
            service: "u-1",
            policy: &policy,
            policy_broken: false,
            unreadable: None,
            held: None,
            sharing: Sharing::Mesh,
            scale: Scale { least: 2, most: 2, need: None },
            current: Some("b"),
            release: "app:2",
            made_by: None,
            changed: None,
            policy_by: None,
            stable: Some("a"),
            revisions: &[],
            baseline: None,
            routed: Routed::Yes,
            evidence: None,
            answers: &[],
            actions: &[],
            peers: &[],
            role: Role::Active,
            frozen: None,
            mark: None,
            memory: &memory,
        };
        let at = |second| Timestamp::from_second(second).expect("in range");
        let numbers_at = old.map(|_| at(1000));
        let seen = Seen { generation: Some(3), old, numbers_at, scatter, ..Seen::default() };
        status(&facts, decision, &seen, at(second))
    }

    fn condition<'a>(status: &'a CanaryRolloutStatus, kind: &str) -> (&'a str, &'a str) {
        let found = status.conditions.iter().find(|condition| condition.type_ == kind).expect("it is there");
        (&found.status, &found.reason)
    }

    #[test]
    fn a_rollback_is_stalled_until_somebody_acts() {
        let decision = Decision {
            phase: Phase::RolledBack,
            stalled: Some(("RolledBack", "it failed".to_owned())),
            reasons: vec!["it failed".to_owned()],
            ..Decision::default()
        };
        let status = after(&decision, None, 1000);
        assert_eq!(condition(&status, "Stalled"), ("True", "RolledBack"));
        assert_eq!(condition(&status, "Ready"), ("False", "RolledBack"));
        assert_eq!(condition(&status, "Reconciling"), ("False", "RolledBack"));
    }

    #[test]
    fn a_rollout_on_its_way_is_reconciling_and_not_stalled() {
        let decision = Decision { phase: Phase::Analysing, weight: 10, ..Decision::default() };
        let status = after(&decision, None, 1000);
        assert_eq!(condition(&status, "Reconciling"), ("True", "Analysing"));
        assert_eq!(condition(&status, "Stalled"), ("False", "NoProblem"));
        let settled = after(&Decision::default(), None, 1000);
        assert_eq!(condition(&settled, "Ready"), ("True", "Settled"));
    }

    #[test]
    fn how_stable_scatters_is_written_once_a_minute_and_stays_when_nothing_is_counted() {
        let decision = Decision { phase: Phase::Analysing, weight: 10, ..Decision::default() };
        let scatter =
            |state: &str| vec![Scatter { metric: "error-rate".to_owned(), state: state.to_owned() }];
        let over = |old: &CanaryRolloutStatus, state: &str, second| {
            after_with(&decision, Some(old), second, &scatter(state)).scatter
        };
        let mut old = after(&decision, None, 1000);
        assert!(old.scatter.is_empty());
        old.scatter = scatter("one");
        assert_eq!(over(&old, "two", 1001), scatter("one"));
        assert_eq!(over(&old, "two", 1061), scatter("two"));
        assert_eq!(after(&decision, Some(&old), 1061).scatter, scatter("one"));
    }

    #[test]
    fn what_a_gate_says_is_written_at_once() {
        let gated = |words: &str| Decision {
            phase: Phase::Gated,
            weight: 50,
            verdict: Some(Verdict::Pass),
            reasons: vec![words.to_owned()],
            ..Decision::default()
        };
        let first = after(&gated("it has not been asked yet"), None, 1000);
        let then = after(&gated("it says status 403"), Some(&first), 1001);
        assert_eq!(then.message.as_deref(), Some("it says status 403"));
        let reconciling = then.conditions.iter().find(|c| c.type_ == "Reconciling").expect("it is there");
        assert_eq!(reconciling.message, "it says status 403");
        assert!(same(&then, &after(&gated("it says status 403"), Some(&then), 1002)));
    }

    #[test]
    fn numbers_alone_are_written_once_a_minute() {
        let decision = |words: &str| Decision {
            phase: Phase::Analysing,
            weight: 10,
            verdict: Some(Verdict::Insufficient),
            reasons: vec![words.to_owned()],
            ..Decision::default()
        };
        let first = after(&decision("900 more requests"), None, 1000);
        let soon = after(&decision("800 more requests"), Some(&first), 1059);
        assert!(same(&first, &soon), "{soon:?}");
        let later = after(&decision("100 more requests"), Some(&first), 1060);
        assert_eq!(later.message.as_deref(), Some("100 more requests"));
        let turned = Decision { verdict: Some(Verdict::Pass), ..decision("passes") };
        assert!(!same(&first, &after(&turned, Some(&first), 1001)), "a transition is written at once");
    }
}
