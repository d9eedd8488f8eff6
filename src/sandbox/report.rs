//! What is printed on standard output at the end. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::{Value, json};

use super::failover::answers::{self, Answer};
use super::table::{self, Row};
use crate::terminal::progress::{Timing, seconds};
use crate::terminal::words::hang;

/// How many clouds there are.
const CLOUDS: usize = 2;

/// What was seen at one moment.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The FinServices of both clouds.
    pub(super) rows: Vec<Row>,
    /// What both say of each FailoverGroup.
    pub(super) answers: Vec<Answer>,
    /// The groups that are waited for: those whose data is replicated here.
    pub(super) groups: Vec<String>,
}

impl Seen {
    /// What is waited for and is not so yet, in words for who waits; `None` if all is.
    pub(super) fn unready(&self) -> Option<String> {
        self.unready_services().or_else(|| self.unready_group())
    }

    fn unready_services(&self) -> Option<String> {
        let unready = self.rows.iter().filter(|row| !row.ready).count();
        let clouds: BTreeSet<&str> = self.rows.iter().map(|row| row.cloud.as_str()).collect();
        if clouds.len() < CLOUDS {
            return Some("there is no FinService in one of both clouds".to_owned());
        }
        if unready > 0 {
            return Some(format!("{unready} of {} FinServices are not Ready", self.rows.len()));
        }
        None
    }

    fn unready_group(&self) -> Option<String> {
        let mut groups = self.groups.iter();
        groups.find_map(|group| {
            let why = answers::stands(&self.answers, group).err()?;
            Some(format!("FailoverGroup {group} is not ready: {why}"))
        })
    }

    /// Whether every FinService is Ready in both clouds.
    pub(super) fn services_ready(&self) -> bool {
        self.unready_services().is_none()
    }

    /// Both tables, on a terminal of that width.
    pub(super) fn render(&self, width: Option<usize>) -> String {
        let answers = answers::render(&self.answers.iter().collect::<Vec<_>>(), width);
        let between = if answers.is_empty() { "" } else { "\n" };
        format!("{}{between}{answers}", table::render(&self.rows.iter().collect::<Vec<_>>(), width))
    }
}

/// What is said beside what was seen.
pub(super) struct Beside {
    /// How long each step took.
    pub(super) timings: Vec<Timing>,
    /// How many writes to PostgreSQL were acknowledged, where there is one.
    pub(super) writes: Option<usize>,
    /// The kubeconfigs, by cloud, of what goes on.
    pub(super) kubeconfigs: BTreeMap<String, PathBuf>,
}

/// For programs.
pub(super) fn to_json(seen: &Seen, beside: &Beside) -> String {
    let steps = beside.timings.iter();
    let steps: Vec<Value> =
        steps.map(|timing| json!({"step": timing.step, "seconds": timing.took.as_secs_f64()})).collect();
    let document = json!({
        "ready": seen.unready().is_none(),
        "services": seen.rows,
        "groups": seen.answers,
        "acknowledgedWrites": beside.writes,
        "steps": steps,
        "kubeconfigs": beside.kubeconfigs,
    });
    format!("{document:#}\n")
}

/// For people, on a terminal of that width. `timeout` is how long was waited, in words.
pub(super) fn to_text(seen: &Seen, beside: &Beside, timeout: &str, width: Option<usize>) -> String {
    let mut text = seen.render(width);
    text.push('\n');
    for timing in &beside.timings {
        text.push_str(&format!("{:>8}  {}\n", seconds(timing.took), timing.step));
    }
    if let Some(writes) = beside.writes {
        text.push_str(&format!("\nPostgreSQL acknowledged {writes} writes meanwhile.\n"));
    }
    let Some(unready) = seen.unready() else { return text };
    text.push_str(&format!("\nAfter {timeout}: {unready}\n"));
    for row in seen.rows.iter().filter(|row| !row.ready) {
        let words =
            format!("{}/{} in {}: {}: {}", row.namespace, row.name, row.cloud, row.reason, row.words());
        text.push_str(&hang("  ", "      ", &words, width));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::failovergroup::table::Line;
    use crate::finservice::table::Line as Service;

    fn row(cloud: &str, ready: bool) -> Row {
        let line = Service {
            namespace: "payments".to_owned(),
            name: "ledger".to_owned(),
            ready,
            reason: "Degraded".to_owned(),
            replicas: "2/3".to_owned(),
            problem: "2 of 3 pods are Ready".to_owned(),
            ..Service::default()
        };
        Row { cloud: cloud.to_owned(), line }
    }

    fn answer(cloud: &str, here: &str, ready: &str) -> Answer {
        let line = Line {
            group: "payments".to_owned(),
            ready: ready.to_owned(),
            protected: "True".to_owned(),
            here: here.to_owned(),
            holders: "aws".to_owned(),
            epoch: 16,
            why: "no answer".to_owned(),
        };
        let holds = "witness: no answer; see to it".to_owned();
        Answer { cloud: cloud.to_owned(), line, current: true, holds }
    }

    #[test]
    fn what_is_waited_for_is_named_and_services_come_first() {
        let mut seen = Seen { rows: vec![row("aws", true)], ..Seen::default() };
        assert_eq!(seen.unready().unwrap(), "there is no FinService in one of both clouds");
        seen.rows.push(row("gcp", false));
        seen.answers = vec![answer("aws", "Held", "False"), answer("gcp", "Standby", "False")];
        // Nobody waits for groups without databases.
        assert_eq!(seen.unready().unwrap(), "1 of 2 FinServices are not Ready");
        seen.rows[1].line.ready = true;
        assert_eq!((seen.unready(), seen.services_ready()), (None, true));
        seen.groups.push("payments".to_owned());
        let beside = Beside {
            timings: vec![Timing { step: "platform".to_owned(), took: Duration::from_secs(1) }],
            writes: Some(7),
            kubeconfigs: BTreeMap::new(),
        };
        let text = to_text(&seen, &beside, "3m", None);
        assert!(
            text.ends_with(
                "PostgreSQL acknowledged 7 writes meanwhile.\n\nAfter 3m: FailoverGroup payments is not ready: a \
                 failover to gcp could not be ordered: the check `witness: no answer; see to it`\n"
            ),
            "{text}"
        );
        seen.answers[1] = answer("gcp", "Standby", "True");
        let document: Value = serde_json::from_str(&to_json(&seen, &beside)).unwrap();
        assert_eq!((&document["ready"], &document["acknowledgedWrites"]), (&json!(true), &json!(7)));
        assert_eq!(document["groups"][1]["cloud"], "gcp");
        assert_eq!(document["groups"][1]["epoch"], 16);
    }
}
