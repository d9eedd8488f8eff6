//! The table while it changes.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Instant;

use super::args::Output;
use super::failover::answers::Answer;
use super::frame::frame;
use super::report::Seen;
use super::table::Row;
use crate::failovergroup::table::Line;
use crate::terminal::drawing::Drawing;
use crate::terminal::progress::{Progress, seconds};
use crate::terminal::size::Size;

/// The table as it changes: in place on a terminal, else a line for each change on standard error.
pub(super) struct View {
    terminal: bool,
    progress: Progress,
    shown: BTreeMap<(String, String, String), Row>,
    answers: BTreeMap<(String, String), Line>,
    /// What is said under the tables.
    below: String,
    drawing: Drawing,
    /// The terminal, when it was last drawn on.
    size: Option<Size>,
    /// Whether it was said that all is Ready.
    pub(super) told: bool,
    /// Whether it was said that every group could fail over.
    pub(super) told_groups: bool,
}

impl View {
    pub(super) fn new(output: Output, progress: Progress, below: String) -> Self {
        let terminal = std::io::stdout().is_terminal() && output == Output::Table;
        Self {
            terminal,
            progress,
            shown: BTreeMap::new(),
            answers: BTreeMap::new(),
            below,
            drawing: Drawing::default(),
            size: None,
            told: false,
            told_groups: false,
        }
    }

    pub(super) fn show(&mut self, seen: &Seen, started: Instant) {
        let key = |row: &Row| (row.namespace.clone(), row.name.clone(), row.cloud.clone());
        let now: BTreeMap<_, _> = seen.rows.iter().map(|row| (key(row), row.clone())).collect();
        let of = |answer: &Answer| (answer.line.group.clone(), answer.cloud.clone());
        let answers: BTreeMap<_, _> =
            seen.answers.iter().map(|answer| (of(answer), answer.line.clone())).collect();
        // Somebody may have made the window larger or smaller.
        let size = if self.terminal { Size::of_stdout() } else { None };
        if now == self.shown && answers == self.answers && size == self.size {
            return;
        }
        if let Some(size) = size {
            self.drawing.draw(&frame(seen, &self.below, size));
        } else {
            for (_, row) in now.iter().filter(|(key, row)| self.shown.get(key) != Some(row)) {
                self.progress.say(&format!("{:>7}    {}", seconds(started.elapsed()), change(row)));
            }
            let news = answers.iter().filter(|(key, line)| self.answers.get(key) != Some(line));
            for ((group, cloud), line) in news {
                self.progress.say(&format!(
                    "{:>7}    {group} in {cloud}: {} here, could fail over here now: {}: {}",
                    seconds(started.elapsed()),
                    line.here,
                    line.ready,
                    line.why
                ));
            }
        }
        self.shown = now;
        self.answers = answers;
        self.size = size;
    }

    /// Makes room for a line that is said between two looks at the tables, which are drawn again below it.
    pub(super) fn make_room(&mut self) {
        self.wipe();
        self.size = None;
    }

    pub(super) fn wipe(&mut self) {
        self.drawing.wipe();
    }
}

/// How a service stands now, in a line. Its pods may all be Ready while it is not.
fn change(row: &Row) -> String {
    let state = if row.ready { "Ready" } else { "not Ready" };
    let mut text = format!("{}/{} in {}: {state} ({})", row.namespace, row.name, row.cloud, row.reason);
    if let Some((ready, asked)) = row.replicas.split_once('/') {
        text.push_str(&format!(", {ready} of {asked} pods Ready"));
    }
    let words = row.words();
    if !words.is_empty() {
        text.push_str(&format!(": {}", words.lines().collect::<Vec<_>>().join(" ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finservice::table::Line as Service;

    #[test]
    fn faults_6_15_pods_and_service_do_not_contradict_each_other() {
        let line = Service {
            namespace: "payments".to_owned(),
            name: "ledger".to_owned(),
            reason: "Problem".to_owned(),
            replicas: "1/1".to_owned(),
            problem: "the image cannot be pulled".to_owned(),
            remedy: "Correct spec.image.".to_owned(),
            ..Service::default()
        };
        let mut row = Row { cloud: "aws".to_owned(), line };
        assert_eq!(
            change(&row),
            "payments/ledger in aws: not Ready (Problem), 1 of 1 pods Ready: the image cannot be pulled → Correct spec.image."
        );
        row.line.ready = true;
        row.line.reason = "Serving".to_owned();
        row.line.problem.clear();
        row.line.remedy.clear();
        assert_eq!(change(&row), "payments/ledger in aws: Ready (Serving), 1 of 1 pods Ready");
    }
}
