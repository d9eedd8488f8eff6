//! Failovers as people read them. Pure.

use std::fmt::Write;

use jiff::Timestamp;
use kube::ResourceExt;

use crate::api::failover::{NodesRecord, Phase};
use crate::api::{Failover, FailoverStatus};
use crate::failover::view::{command, failback};
use crate::failovergroup::table::planned;
use crate::terminal::table::columns;

/// Shown where nothing is known.
const NOTHING: &str = "-";

/// A line for each Failover, the newest last.
pub fn list(failovers: &[Failover]) -> String {
    let heads = ["NAME", "GROUP", "ACTION", "PHASE", "STEP", "SAYS"].map(str::to_owned).to_vec();
    let mut sorted: Vec<&Failover> = failovers.iter().collect();
    sorted.sort_by_key(|one| one.metadata.creation_timestamp.as_ref().map(|time| time.0));
    let rows = sorted.into_iter().map(|one| {
        let empty = FailoverStatus::default();
        let status = one.status.as_ref().unwrap_or(&empty);
        let or_nothing = |text: Option<&str>| text.unwrap_or(NOTHING).to_owned();
        vec![
            one.name_any(),
            one.spec.group.clone(),
            action(one),
            or_nothing(status.phase.map(Phase::as_str)),
            or_nothing(status.step.as_deref()),
            or_nothing(status.message.as_deref()),
        ]
    });
    columns(&std::iter::once(heads).chain(rows).collect::<Vec<_>>(), "", 2)
}

fn action(one: &Failover) -> String {
    let forced = one.status.as_ref().is_some_and(|status| status.forced == Some(true));
    format!("{}{}", one.spec.action.as_str(), if forced { " (forced)" } else { "" })
}

/// All that is known of one Failover.
pub fn one(failover: &Failover) -> String {
    let mut text = format!("Failover {}\n", failover.name_any());
    let Some(status) = &failover.status else {
        text.push_str("  no operator has looked at it yet\n");
        return text;
    };
    let mut rows = vec![
        vec!["group".to_owned(), failover.spec.group.clone()],
        vec!["ordered".to_owned(), format!("{}: {}", action(failover), failover.spec.reason)],
        vec!["from".to_owned(), status.from.join(", ")],
        vec!["to".to_owned(), status.to.clone().unwrap_or_default()],
    ];
    if let Some(by) = &status.by {
        rows.push(vec!["by".to_owned(), by.clone()]);
    }
    let approvals: Vec<&str> = status.approvals.iter().map(|one| one.by.as_str()).collect();
    if !approvals.is_empty() {
        rows.push(vec!["approved by".to_owned(), approvals.join(", ")]);
    }
    let phase = status.phase.map_or(NOTHING, Phase::as_str);
    rows.push(vec!["phase".to_owned(), format!("{phase}: {}", status.message.clone().unwrap_or_default())]);
    if let Some(reason) = &status.reason {
        rows.push(vec!["reason".to_owned(), format!("{reason}: see {}", page(reason))]);
    }
    if let Some(next) = &status.next {
        rows.push(vec![next_or(status).to_owned(), next.clone()]);
    }
    if let Some(paused) = paused(failover, status) {
        rows.push(vec!["paused".to_owned(), paused]);
    }
    rows.push(vec!["way back".to_owned(), way_back(failover, status)]);
    text.push_str(&columns(&rows, "  ", 2));
    match &status.plan {
        Some(plan) => text.push_str(&format!("\nSteps of a move\n{}", planned(plan))),
        None => steps(&mut text, status, None),
    }
    hooks(&mut text, status);
    stores(&mut text, status);
    nodes(&mut text, status);
    if let Some(took) = &status.took {
        text.push_str("\nTook\n");
        let rows = [
            ("from the order until all was open", took.until_open),
            ("of that, waiting for people", took.waited_for_people.filter(|millis| *millis > 0)),
            ("from when the source was last known to serve", took.since_outage),
            ("without writes", took.without_writes),
        ];
        let rows = rows.into_iter().filter_map(|(what, took)| {
            Some(vec![what.to_owned(), format!("{:.1} s", took? as f64 / 1000.0)])
        });
        text.push_str(&columns(&rows.collect::<Vec<_>>(), "  ", 2));
    }
    if let Some((record, head)) =
        status.record.as_ref().and_then(|all| all.head.as_ref().map(|head| (all, head)))
    {
        let entries = record.entries.unwrap_or_default();
        let _ = write!(
            text,
            "\nRecord\n  {entries} entries, head {head}\n  kubectl banyan audit export {}\n",
            failover.spec.group
        );
    }
    text
}

/// What is said of a pause while something else is waited for: it counts once that is over.
fn paused(failover: &Failover, status: &FailoverStatus) -> Option<String> {
    let stands = status.paused == Some(true) && status.reason.as_deref() != Some("Paused");
    let counts = stands && status.committed_at.is_none() && !status.phase.is_some_and(Phase::is_over);
    counts.then(|| {
        format!(
            "by a person, and waits before the next step that can; else {}",
            command("resume", &failover.name_any())
        )
    })
}

/// The hooks that it has called.
fn hooks(text: &mut String, status: &FailoverStatus) {
    if status.hooks.is_empty() {
        return;
    }
    text.push_str("\nHooks\n");
    let rows = status.hooks.iter().map(|hook| {
        let state = match (&hook.ended_at, hook.failed) {
            (Some(_), Some(true)) => "gone on without",
            (Some(_), _) => "done",
            (None, Some(true)) => "late",
            (None, _) => "called",
        };
        vec![hook.name.clone(), state.to_owned(), hook.message.clone().unwrap_or_default()]
    });
    text.push_str(&columns(&rows.collect::<Vec<_>>(), "  ", 2));
}

/// The word before the command that can be typed: who is not waited for may leave it out.
pub(super) fn next_or(status: &FailoverStatus) -> &'static str {
    if status.phase == Some(Phase::Waiting) { "next" } else { "or" }
}

/// The page that says what to do where a move waits for that reason.
pub fn page(reason: &str) -> String {
    format!("docs/runbooks/{reason}.md")
}

/// The command by which it is given up or given back.
pub(super) fn way_back(failover: &Failover, status: &FailoverStatus) -> String {
    match (status.phase.is_some_and(|phase| phase.is_over()), status.committed_at.is_some()) {
        (false, false) => command("abort", &failover.name_any()),
        (true, false) => NOTHING.to_owned(),
        (_, true) => {
            format!("{}, in the cluster of {}", failback(&failover.spec.group), status.from.join(", "))
        }
    }
}

/// The steps that were begun; at `now` those that are not done say for how long.
pub(super) fn steps(text: &mut String, status: &FailoverStatus, now: Option<Timestamp>) {
    text.push_str("\nSteps\n");
    let rows = status.steps.iter().enumerate().map(|(number, step)| {
        let mark = if step.ended_at.is_some() { "ok" } else { ".." };
        let so_far = now.filter(|_| step.ended_at.is_none()).map(|now| now.duration_since(step.started_at.0));
        let took =
            step.millis.map(|millis| millis as f64 / 1000.0).or(so_far.map(|so_far| so_far.as_secs_f64()));
        let took = took.map_or_else(String::new, |took| format!("{:.1} s", took.max(0.0)));
        vec![(number + 1).to_string(), mark.to_owned(), step.name.clone(), took, step.message.clone()]
    });
    text.push_str(&columns(&rows.collect::<Vec<_>>(), "  ", 2));
}

fn stores(text: &mut String, status: &FailoverStatus) {
    if status.stores.is_empty() {
        return;
    }
    text.push_str("\nStores\n");
    let mut rows = Vec::new();
    for store in &status.stores {
        let level = store.level.map_or("not fenced", |level| level.as_str());
        let mut says = Vec::new();
        says.extend(store.evidence.clone());
        says.extend(store.frozen.as_ref().map(|at| format!("here up to {at}")));
        says.extend((store.complete == Some(true)).then(|| "all that was acknowledged is here".to_owned()));
        says.extend((store.opened == Some(true)).then(|| "open here".to_owned()));
        says.extend(store.error.clone());
        rows.push(vec![store.name.clone(), level.to_owned(), says.join("; ")]);
    }
    text.push_str(&columns(&rows, "  ", 2));
}

/// What the cloud says of the nodes of the source, and what brings them back.
fn nodes(text: &mut String, status: &FailoverStatus) {
    let Some(nodes) = &status.nodes else { return };
    let _ = writeln!(text, "\nNodes of {}: {}", nodes.site, nodes.cluster);
    let rows = nodes.pools.iter().map(|pool| {
        let now = if pool.at_zero { "at zero" } else { "not at zero" };
        let scales = if pool.scales == Some(true) { ", scaled by itself" } else { "" };
        let was = format!("had {} ({} to {}{scales})", pool.nodes, pool.least, pool.most);
        vec![pool.name.clone(), was, now.to_owned()]
    });
    text.push_str(&columns(&rows.collect::<Vec<_>>(), "  ", 2));
    if let Some(message) = &nodes.message {
        let _ = writeln!(text, "  {message}");
    }
    for command in brings_back(nodes) {
        let _ = writeln!(text, "  back: {command}");
    }
}

/// The commands that bring the nodes back which an order has scaled to zero.
pub fn brings_back(nodes: &NodesRecord) -> impl Iterator<Item = &str> {
    let ordered = nodes.ordered_at.is_some();
    nodes.pools.iter().filter(move |_| ordered).filter_map(|pool| pool.restore.as_deref())
}

/// One line of a live view, if it says something else than the last one.
pub fn line(failover: &Failover, now: Timestamp) -> String {
    let status = failover.status.clone().unwrap_or_default();
    let began = failover.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
    let seconds = now.duration_since(began).as_secs();
    let mut text = format!(
        "{seconds:>4} s  {:<13} {:<10} {}",
        status.phase.map_or(NOTHING, Phase::as_str),
        status.step.as_deref().unwrap_or(NOTHING),
        status.message.as_deref().unwrap_or(match status.phase {
            Some(_) => "begun",
            None => "no operator has looked at it yet",
        }),
    );
    if let Some(reason) = &status.reason {
        let _ = write!(text, " ({reason})");
    }
    if let Some(next) = &status.next {
        let _ = write!(text, "\n        {}: {next}", next_or(&status));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn failover() -> Failover {
        let object = json!({
            "apiVersion": "banyan.dev/v1alpha1", "kind": "Failover",
            "metadata": {"name": "move", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"group": "payments", "action": "Switchover", "reason": "the zone is degraded"},
            "status": {
                "phase": "Waiting", "step": "capacity", "message": "two pods are missing",
                "next": "kubectl banyan failover skip --step capacity move", "from": ["aws"], "to": "gcp", "by": "jo",
                "steps": [
                    {"name": "claim", "message": "claimed", "startedAt": "2026-01-01T00:00:00Z",
                        "endedAt": "2026-01-01T00:00:01Z", "millis": 40},
                    {"name": "capacity", "message": "two pods are missing", "startedAt": "2026-01-01T00:00:01Z"},
                ],
                "stores": [{"name": "db", "level": "Asserted", "evidence": "NodesStopped: seen", "frozen": "0/30"}],
            },
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn what_was_scaled_to_zero_is_shown_with_what_brings_it_back() {
        let mut object = serde_json::to_value(failover()).unwrap();
        object["status"]["nodes"] = json!({
            "site": "aws", "cluster": "Amazon EKS cluster prod in us-east-1", "message": "all are gone",
            "pools": [
                {"name": "blue", "nodes": 3, "least": 1, "most": 9, "atZero": true, "restore": "aws eks …"},
                {"name": "green", "nodes": 0, "least": 0, "most": 5, "scales": true, "atZero": false},
            ],
        });
        let shown = |object: &serde_json::Value| one(&serde_json::from_value(object.clone()).unwrap());
        let expected = "
Nodes of aws: Amazon EKS cluster prod in us-east-1
  blue   had 3 (1 to 9)                    at zero
  green  had 0 (0 to 5, scaled by itself)  not at zero
  all are gone
";
        assert!(shown(&object).ends_with(expected), "{}", shown(&object));
        object["status"]["nodes"]["orderedAt"] = json!("2026-01-01T00:00:05Z");
        assert!(shown(&object).ends_with("  all are gone\n  back: aws eks …\n"), "{}", shown(&object));
    }

    #[test]
    fn it_says_where_it_stands_and_what_to_type() {
        let text = one(&failover());
        let expected = "Failover move
  group     payments
  ordered   Switchover: the zone is degraded
  from      aws
  to        gcp
  by        jo
  phase     Waiting: two pods are missing
  next      kubectl banyan failover skip --step capacity move
  way back  kubectl banyan failover abort move

Steps
  1  ok  claim     0.0 s  claimed
  2  ..  capacity         two pods are missing

Stores
  db  Asserted  NodesStopped: seen; here up to 0/30
";
        assert_eq!(text, expected);
        assert!(list(&[failover()]).contains("move  payments  Switchover  Waiting  capacity"));
        let mut paused = serde_json::to_value(failover()).unwrap();
        paused["status"]["paused"] = json!(true);
        let shown = one(&serde_json::from_value(paused.clone()).unwrap());
        assert!(shown.contains("kubectl banyan failover resume move"), "{shown}");
        paused["status"]["reason"] = json!("Paused");
        let shown = one(&serde_json::from_value(paused).unwrap());
        assert!(!shown.contains("failover resume"), "it is what is waited for: {shown}");
        let now = "2026-01-01T00:00:09Z".parse().unwrap();
        let said = line(&failover(), now);
        assert!(
            said.starts_with("   9 s  Waiting       capacity   two pods") && said.contains("next: kubectl")
        );
    }
}
