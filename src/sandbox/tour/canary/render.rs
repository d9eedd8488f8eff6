//! What happens in a tour, as people read it. Pure.

use std::fmt::Write;
use std::time::Duration;

use super::super::text::wrapped;
use super::super::voice::Telling;
use super::event::{Act, Event, Moment, Seen, Sum};
use crate::terminal::progress::seconds;

/// What begins the lines of a moment that follow its first.
const INDENT: &str = "           ";

impl Telling for Event {
    fn text(&self) -> String {
        event(self)
    }
}

/// An event, as lines; each of them ended.
fn event(event: &Event) -> String {
    match event {
        Event::Look { at, moment } => look(*at, moment),
        Event::Ended { act, .. } => ended(act),
        Event::Summary { at, releases, sent, failed, acts } => summary(*at, releases, *sent, *failed, acts),
    }
}

/// Where a rollout stands: weights, verdict, why, evidence, and what the users saw.
fn look(at: f64, moment: &Moment) -> String {
    let observed = moment.observed.map_or("-".to_owned(), |observed| format!("{observed} %"));
    let verdict = moment.verdict.as_deref().unwrap_or("-");
    let mut text = format!(
        "{:>9}  {:<11} step {}   weight {} % asked, {observed} observed   verdict {verdict}\n",
        time(at),
        moment.phase,
        moment.step,
        moment.asked
    );
    if !moment.message.is_empty() {
        let _ = writeln!(text, "{INDENT}{}", moment.message);
    }
    for metric in &moment.metrics {
        let increase = metric.increase.as_deref().unwrap_or("not known yet");
        let _ = writeln!(
            text,
            "{INDENT}{}: {}, {} canary and {} stable requests, increase {increase}, evidence {}",
            metric.name, metric.verdict, metric.canary_requests, metric.stable_requests, metric.evidence
        );
    }
    let users: Vec<String> = moment.users.iter().map(user).collect();
    if !users.is_empty() {
        let broken = match moment.broken {
            0 => String::new(),
            broken => format!("; {broken} without an answer"),
        };
        let _ = writeln!(text, "{INDENT}users: {}{broken}", users.join(", "));
    }
    text
}

fn user(seen: &Seen) -> String {
    let name = if seen.release.is_empty() { "the gateway itself" } else { &seen.release };
    format!("{name} {} ({} failed)", seen.answers, seen.failed)
}

fn time(seconds_: f64) -> String {
    seconds(Duration::from_secs_f64(seconds_.max(0.0)))
}

fn ended(act: &Act) -> String {
    let mut text = match act.outcome.as_str() {
        "Promoted" => format!("\n   {} was promoted after {}.\n", act.release, time(act.took)),
        "RolledBack" => format!("\n   {} was rolled back after {}.\n", act.release, time(act.took)),
        other => format!("\n   {} ended after {}: {other}.\n", act.release, time(act.took)),
    };
    text.push_str(&wrapped(&act.message));
    if let (Some(failed), Some(after), Some(took)) = (act.failed_until_zero, act.failed_after, act.to_zero) {
        text.push_str(&wrapped(&format!(
            "{failed} requests of users failed until its weight was 0, {} after the first bad answer; {after} more until the \
             gateway had heard of it.",
            time(took)
        )));
    }
    text
}

fn summary(at: f64, releases: &[Sum], sent: u64, failed: u64, acts: &[Act]) -> String {
    let mut rows =
        vec![["RELEASE", "OUTCOME", "ANSWERS", "FAILED", "GATEWAY", "OF THESE 5XX"].map(str::to_owned)];
    let count = |count: Option<u64>| count.map_or("-".to_owned(), |count| count.to_string());
    rows.extend(releases.iter().map(|sum| {
        let name = if sum.seen.release.is_empty() { "(the gateway itself)" } else { &sum.seen.release };
        [
            name.to_owned(),
            sum.outcome.clone(),
            sum.seen.answers.to_string(),
            sum.seen.failed.to_string(),
            count(sum.gateway_answers),
            count(sum.gateway_failed),
        ]
    }));
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        let _ = writeln!(text, "{}", cells.join("   ").trim_end());
    }
    let _ = writeln!(text, "\n{failed} of {sent} requests failed. The tour took {}.", time(at));
    for act in acts {
        if let (Some(failed), Some(took)) = (act.failed_until_zero, act.to_zero) {
            let _ = writeln!(
                text,
                "{}: {failed} failed requests and {} from the first bad answer until weight 0.",
                act.release,
                time(took)
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::canarystatus::MetricStatus;

    fn moment() -> Moment {
        Moment {
            phase: "Analysing".into(),
            step: "1/3".into(),
            asked: 10,
            observed: Some(0),
            verdict: Some("Pass".into()),
            message: "10 % stands for 10s at the least".into(),
            metrics: vec![MetricStatus {
                name: "error-rate".into(),
                verdict: "Pass".into(),
                canary_requests: 151,
                stable_requests: 1773,
                increase: Some("0 % (-0.8 % to 4.5 %)".into()),
                evidence: "1.00 of 100".into(),
                ..MetricStatus::default()
            }],
            users: vec![
                Seen { release: String::new(), answers: 1, failed: 1 },
                Seen { release: "app:1".into(), answers: 900, failed: 0 },
            ],
            broken: 2,
        }
    }

    #[test]
    fn a_look_tells_weights_evidence_and_users() {
        let text = event(&Event::Look { at: 12.34, moment: Box::new(moment()) });
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "   12.3 s  Analysing   step 1/3   weight 10 % asked, 0 % observed   verdict Pass",
                "           10 % stands for 10s at the least",
                "           error-rate: Pass, 151 canary and 1773 stable requests, increase 0 % (-0.8 % to 4.5 %), evidence 1.00 of 100",
                "           users: the gateway itself 1 (1 failed), app:1 900 (0 failed); 2 without an answer",
            ]
        );
    }

    #[test]
    fn a_rollback_tells_what_it_cost() {
        let act = Act {
            release: "app:3".into(),
            outcome: "RolledBack".into(),
            message: "it is worse".into(),
            took: 14.0,
            failed_until_zero: Some(42),
            failed_after: Some(1),
            to_zero: Some(9.25),
        };
        let sums = vec![Sum {
            seen: Seen { release: "app:3".into(), answers: 230, failed: 43 },
            outcome: "rolled back".into(),
            gateway_answers: Some(230),
            gateway_failed: None,
        }];
        let told = event(&Event::Ended { at: 90.0, act: act.clone() });
        assert!(told.contains("app:3 was rolled back after 14.0 s"), "{told}");
        assert!(told.contains("42 requests of users failed until its weight was 0, 9.2 s after"), "{told}");
        let told =
            event(&Event::Summary { at: 100.0, releases: sums, sent: 500, failed: 43, acts: vec![act] });
        assert!(told.contains("app:3     rolled back   230       43       230       -\n"), "{told}");
        assert!(told.contains("43 of 500 requests failed. The tour took 1:40."), "{told}");
    }
}
