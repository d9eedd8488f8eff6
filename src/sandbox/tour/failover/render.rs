//! What happens in a tour of failover, as people read it. Pure.

use std::fmt::Write;
use std::time::Duration;

use super::super::text::wrapped;
use super::super::voice::Telling;
use super::event::{Act, Event, Moment};
use crate::terminal::progress::seconds;
use crate::terminal::table::columns;

/// What begins the lines of a moment that follow its first.
const INDENT: &str = "           ";

impl Telling for Event {
    fn text(&self) -> String {
        match self {
            Self::Look { at, moment } => look(*at, moment),
            Self::Said { at, waits, command } => {
                format!("{:>9}  waits for a person: {waits}\n{INDENT}$ {command}\n", time(*at))
            }
            Self::Moved { act, .. } => moved(act),
            Self::Summary { at, acts } => summary(*at, acts),
        }
    }
}

fn time(seconds_: f64) -> String {
    seconds(Duration::from_secs_f64(seconds_.max(0.0)))
}

/// Where it stands: the step, who serves, what users and the writer saw.
fn look(at: f64, moment: &Moment) -> String {
    let serves = if moment.serves.is_empty() { "nobody" } else { &moment.serves };
    let mut text = format!("{:>9}  ", time(at));
    match moment.phase.as_str() {
        "" => {
            let _ = writeln!(text, "{serves} serves");
        }
        phase => {
            let _ = writeln!(text, "{phase:<12} {:<10} {}", moment.step, moment.message);
        }
    }
    let still = match moment.without_writes {
        none if none <= 0.0 => String::new(),
        still => format!(", none for {}", time(still)),
    };
    let answered: Vec<String> =
        moment.answered.iter().map(|(site, count)| format!("{count} at {site}")).collect();
    let _ = writeln!(
        text,
        "{INDENT}{serves} serves; {} writes{still}; requests: {}, {} failed",
        moment.writes,
        answered.join(", "),
        moment.failed
    );
    text
}

fn moved(act: &Act) -> String {
    let closed =
        act.closed.map_or_else(String::new, |closed| format!(", {} of it without writes", time(closed)));
    let mut text = format!("\n   {} to {} took {}{closed}.\n", act.action, act.to, time(act.until_open));
    text.push_str(&wrapped(&format!(
        "{} of {} acknowledged writes were lost. {} of {} requests failed, while no site could serve or until the load \
         balancer had noticed who does.",
        act.lost, act.acknowledged, act.failed, act.sent
    )));
    text
}

fn summary(at: f64, acts: &[Act]) -> String {
    let heads = ["MOVE", "TO", "UNTIL OPEN", "WITHOUT WRITES", "REQUESTS", "FAILED", "WRITES", "LOST"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    rows.extend(acts.iter().map(|act| {
        vec![
            act.action.clone(),
            act.to.clone(),
            time(act.until_open),
            time(act.longest_gap),
            act.sent.to_string(),
            act.failed.to_string(),
            act.acknowledged.to_string(),
            act.lost.to_string(),
        ]
    }));
    format!("\n{}\nThe tour took {}.\n", columns(&rows, "", 3), time(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn act() -> Act {
        Act {
            action: "Switchover".into(),
            to: "gcp".into(),
            failover: "payments-switchover-x".into(),
            until_open: 5.25,
            closed: Some(2.1),
            longest_gap: 2.3,
            sent: 900,
            failed: 130,
            acknowledged: 1200,
            lost: 0,
        }
    }

    #[test]
    fn a_look_tells_the_step_and_what_is_seen_outside() {
        let moment = Moment {
            phase: "Fencing".into(),
            step: "catch-up".into(),
            message: "all is here".into(),
            serves: String::new(),
            writes: 812,
            without_writes: 1.4,
            answered: vec![("aws".into(), 700), ("gcp".into(), 0)],
            failed: 12,
        };
        let text = Event::Look { at: 12.34, moment: Box::new(moment) }.text();
        assert_eq!(
            text,
            "   12.3 s  Fencing      catch-up   all is here\n           nobody serves; 812 writes, none for 1.4 s; \
             requests: 700 at aws, 0 at gcp, 12 failed\n"
        );
        let text = Event::Look { at: 1.0, moment: Box::default() }.text();
        assert!(text.starts_with("    1.0 s  nobody serves\n"), "{text}");
    }

    #[test]
    fn a_move_tells_what_it_cost() {
        let text = Event::Moved { at: 20.0, act: act() }.text();
        assert!(text.contains("Switchover to gcp took 5.2 s, 2.1 s of it without writes."), "{text}");
        assert!(
            text.contains("0 of 1200 acknowledged writes were lost. 130 of 900 requests failed"),
            "{text}"
        );
        let text = Event::Summary { at: 100.0, acts: vec![act()] }.text();
        assert!(text.contains("Switchover   gcp   5.2 s") && text.contains("The tour took 1:40."), "{text}");
    }
}
