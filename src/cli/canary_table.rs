//! CanaryRollouts as people read them, and whether what a person wants to say makes sense. Pure.

use std::fmt::Write;

use kube::ResourceExt;

use crate::api::action::{Verb, command};
use crate::api::canaryrollout::Gate;
use crate::api::canarystatus::{GateMemory, MetricStatus, Rollout, Weight};
use crate::api::{CanaryRollout, CanaryRolloutStatus, FinService, Problem, Severity};
use crate::canary::Policy;
use crate::canary::refusal::{self, Asked, Standing};
use crate::terminal::table::fitted;

/// Shown where nothing is known.
const NOTHING: &str = "-";

fn or_nothing(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or(NOTHING).to_owned()
}

/// The weight of a canary; of none where there is no canary, so that nobody reads it as that of the release.
fn weight(status: &CanaryRolloutStatus) -> String {
    let weight = status.weight.as_ref();
    let none = |weight: &&Weight| weight.asked == 0 && weight.observed.unwrap_or_default() == 0;
    let Some(weight) = weight.filter(|weight| status.canary.is_some() || !none(weight)) else {
        return NOTHING.to_owned();
    };
    let about = if weight.approximate { "about " } else { "" };
    match weight.observed {
        Some(observed) if observed != weight.asked => {
            format!("{} % asked, {about}{observed} % observed", weight.asked)
        }
        Some(_) => format!("{about}{} %", weight.asked),
        None => format!("{} % asked", weight.asked),
    }
}

/// A line for each CanaryRollout, on a terminal of that width; with namespaces, where more than one is shown.
pub fn list(rollouts: &[CanaryRollout], namespaces: bool, width: Option<usize>) -> String {
    let mut rows = vec![vec![]];
    if namespaces {
        rows[0].push("NAMESPACE".to_owned());
    }
    let heads = ["NAME", "SERVICE", "PHASE", "STEP", "WEIGHT", "VERDICT", "RELEASE", "WHY"];
    rows[0].extend(heads.map(str::to_owned));
    let empty = CanaryRolloutStatus::default();
    for rollout in rollouts {
        let status = rollout.status.as_ref().unwrap_or(&empty);
        let mut row = Vec::new();
        if namespaces {
            row.push(rollout.namespace().unwrap_or_default());
        }
        row.extend([
            rollout.name_any(),
            rollout.spec.service.clone(),
            or_nothing(status.phase.as_deref()),
            or_nothing(status.step.as_deref()),
            weight(status),
            or_nothing(status.verdict.as_deref()),
            or_nothing(status.release.as_deref()),
            or_nothing(status.message.as_deref()),
        ]);
        rows.push(row);
    }
    // Most are called as their service is; the reason has what led to the verdict.
    let spare = [1, 5, 6].map(|column| column + usize::from(namespaces));
    fitted(&rows, "", 2, &spare, width)
}

/// What the FinService of a rollout says of the revision that is on its way in, be it of its pods: why they do not start, or
/// crash. The rollout itself knows only how many are Ready.
pub fn of_canary<'a>(rollout: &CanaryRollout, service: &'a FinService) -> Vec<&'a Problem> {
    let canary = rollout.status.as_ref().and_then(|status| status.canary.as_deref());
    let Some(name) = canary.map(|canary| format!("revision {canary}")) else { return Vec::new() };
    let problems = service.status.iter().flat_map(|status| &status.problems);
    problems.filter(|problem| problem.message.contains(&name)).collect()
}

/// All that is known of one CanaryRollout, with `pods`, what its FinService says of the canary, or why that cannot be known; on
/// a terminal of that width.
pub fn status(rollout: &CanaryRollout, pods: Result<Vec<&Problem>, String>, width: Option<usize>) -> String {
    let table = |rows: &[Vec<String>]| fitted(rows, "  ", 2, &[], width);
    let spec = &rollout.spec;
    let (namespace, name) = (rollout.namespace().unwrap_or_default(), rollout.name_any());
    let mut text = format!("CanaryRollout {namespace}/{name} of FinService {}\n", spec.service);
    let Some(status) = &rollout.status else {
        text.push_str("  nothing is known of it yet: no operator has looked at it\n");
        return text;
    };
    if status.observed_generation != rollout.metadata.generation {
        text.push_str("  what follows is about an older spec: the operator has not seen the newest yet\n");
    }
    let mut rows = Vec::new();
    let mut row = |what: &str, value: String| rows.push(vec![what.to_owned(), value]);
    row("phase", or_nothing(status.phase.as_deref()));
    row("step", or_nothing(status.step.as_deref()));
    row("weight", weight(status));
    row("release", or_nothing(status.release.as_deref()));
    row("stable", or_nothing(status.stable.as_deref()));
    row("canary", or_nothing(status.canary.as_deref()));
    row("verdict", or_nothing(status.verdict.as_deref()));
    row("why", or_nothing(status.message.as_deref()));
    let stalled = status.conditions.iter().find(|c| c.type_ == "Stalled" && c.status == "True");
    if let Some(stalled) = stalled {
        row("stalled", format!("{}: {}", stalled.reason, stalled.message));
    }
    if let Some(paused) = under_way(status).and_then(|rollout| rollout.paused.as_deref()) {
        row("paused", format!("by {paused}"));
    }
    text.push_str(&table(&rows));
    let section = |text: &mut String, title: &str, rows: Vec<Vec<String>>| {
        if !rows.is_empty() {
            let _ = write!(text, "{title}\n{}", table(&rows));
        }
    };
    let problem = |p: &Problem| {
        vec![format!("{:?}", p.severity), p.source.clone(), format!("{} → {}", p.message, p.remedy)]
    };
    let pods = match pods {
        Ok(problems) => problems.into_iter().map(problem).collect(),
        Err(why) => vec![vec![why]],
    };
    section(&mut text, "the canary's pods", pods);
    section(
        &mut text,
        "evidence (written at each change, and once a minute in between)",
        status.metrics.iter().map(metric).collect(),
    );
    section(&mut text, "gates", gates(spec.gates.as_deref().unwrap_or_default(), status));
    section(&mut text, "problems", status.problems.iter().map(problem).collect());
    let past = status.history.iter().map(|past| {
        let outcome = format!("{:?}", past.outcome);
        vec![past.ended_at.0.to_string(), past.release.clone(), outcome, past.message.clone()]
    });
    section(&mut text, "history", past.collect());
    text
}

fn metric(metric: &MetricStatus) -> Vec<String> {
    let mut needs = String::new();
    if let Some(requests) = metric.needed_requests {
        let _ = write!(needs, "needs {requests} more requests");
        if let Some(until) = &metric.needed_until {
            let _ = write!(needs, ", until {}", until.0);
        }
        needs.push_str("; ");
    }
    vec![
        metric.name.clone(),
        metric.verdict.clone(),
        format!("increase {}", metric.increase.as_deref().unwrap_or("not known yet")),
        format!("{} canary and {} stable requests", metric.canary_requests, metric.stable_requests),
        format!("evidence {}", metric.evidence),
        format!("{needs}{}", metric.message),
    ]
}

fn gates(gates: &[Gate], status: &CanaryRolloutStatus) -> Vec<Vec<String>> {
    let memory = |gate: &Gate| -> Option<&GateMemory> {
        let what = Policy::name_of(gate)?;
        under_way(status)?.gates.iter().find(|memory| memory.what == what)
    };
    gates
        .iter()
        .map(|gate| {
            let what = match (&gate.promql, &gate.webhook) {
                (Some(promql), _) => {
                    format!("{} for {}", promql.query, promql.r#for.as_deref().unwrap_or("0s"))
                }
                (_, Some(webhook)) => webhook.url.clone(),
                _ => "approval".to_owned(),
            };
            let state = match memory(gate) {
                None => "not reached".to_owned(),
                Some(memory) if memory.open => "open".to_owned(),
                Some(GateMemory { unanswered_since: Some(since), .. }) => {
                    format!("no answer since {}", since.0)
                }
                Some(GateMemory { true_since: Some(since), .. }) => format!("true since {}", since.0),
                Some(memory) => format!("waits since {}", memory.reached_at.0),
            };
            vec![format!("before {} %", gate.at), what, state]
        })
        .collect()
}

fn under_way(status: &CanaryRolloutStatus) -> Option<&Rollout> {
    status.memory.as_ref()?.rollout.as_ref()
}

/// Why a rollout that is Blocked goes nowhere: the first of its errors.
fn blocked(status: &CanaryRolloutStatus) -> Option<String> {
    let mut errors = status.problems.iter().filter(|problem| problem.severity == Severity::Error);
    let error = errors.next().filter(|_| status.phase.as_deref() == Some("Blocked"))?;
    Some(format!("{}: {} ({})", error.source, error.message, error.remedy.trim_end_matches('.')))
}

/// The release that words of that kind would be meant for, as the rollout stands.
///
/// # Errors
/// If the operator would refuse them, as far as its status tells: why.
pub fn meant(rollout: &CanaryRollout, verb: Verb, gate: Option<i32>) -> Result<String, String> {
    let status = rollout.status.as_ref().ok_or("nothing is known of it yet: no operator has looked at it")?;
    let memory = status.memory.clone().unwrap_or_default();
    let release = status.release.as_deref();
    let gates = rollout.spec.gates.iter().flatten();
    let approvals: Vec<i32> = gates.filter(|gate| gate.approval.is_some()).map(|gate| gate.at).collect();
    let stopped = blocked(status);
    let standing = Standing {
        memory: &memory,
        failed: release.filter(|release| memory.failed.iter().any(|failed| failed.release == **release)),
        approvals: &approvals,
        retry: &command(Verb::Retry, &rollout.namespace().unwrap_or_default(), &rollout.name_any()),
        stopped: stopped.as_deref(),
    };
    refusal::accept(&standing, &Asked { verb, release: None, gate }).map(|accepted| accepted.release)
}

#[cfg(test)]
#[path = "canary_table_tests.rs"]
mod tests;
