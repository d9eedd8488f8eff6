//! The table while it changes.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::Instant;

use super::args::Output;
use super::failover::answers::Answer;
use super::report::Seen;
use super::table::Row;
use crate::failovergroup::table::Line;
use crate::terminal::progress::{Progress, seconds};

/// The table as it changes: in place on a terminal, else a line for each change on standard error.
pub(super) struct View {
    terminal: bool,
    progress: Progress,
    shown: BTreeMap<(String, String, String), Row>,
    answers: BTreeMap<(String, String), Line>,
    /// What is said under the tables.
    below: String,
    lines: usize,
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
            lines: 0,
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
        if now == self.shown && answers == self.answers {
            return;
        }
        if self.terminal {
            self.wipe();
            let text = format!("{}{}", seen.render(), self.below);
            self.lines = text.lines().count();
            // Lines that are cut at the edge keep the count of lines right.
            print(&format!("\x1b[?7l{text}\x1b[?7h"));
        } else {
            for (_, row) in now.iter().filter(|(key, row)| self.shown.get(key) != Some(row)) {
                self.progress.say(&format!(
                    "{:>7}    {}/{} in {}: {} {} {}",
                    seconds(started.elapsed()),
                    row.namespace,
                    row.name,
                    row.cloud,
                    if row.ready { "Ready" } else { "not Ready" },
                    row.replicas,
                    row.problem.lines().next().unwrap_or_default()
                ));
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
    }

    pub(super) fn wipe(&mut self) {
        if self.lines > 0 {
            print(&format!("\x1b[{}A\x1b[J", self.lines));
            self.lines = 0;
        }
    }
}

/// Prints on standard output.
pub(super) fn print(text: &str) {
    let mut out = std::io::stdout();
    // A reader that went away, as `head` does, is no reason to stop the clouds in another way than usual.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
