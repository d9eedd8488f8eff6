//! The table while it changes.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::Instant;

use super::args::Output;
use super::table::{self, Row};
use crate::terminal::progress::{Progress, seconds};

/// The table as it changes: in place on a terminal, else a line for each change on standard error.
pub(super) struct View {
    terminal: bool,
    progress: Progress,
    shown: BTreeMap<(String, String, String), Row>,
    lines: usize,
    /// Whether it was said that all is Ready.
    pub(super) told: bool,
}

impl View {
    pub(super) fn new(output: Output, progress: Progress) -> Self {
        let terminal = std::io::stdout().is_terminal() && output == Output::Table;
        Self { terminal, progress, shown: BTreeMap::new(), lines: 0, told: false }
    }

    pub(super) fn show(&mut self, rows: &[Row], started: Instant) {
        let key = |row: &Row| (row.namespace.clone(), row.name.clone(), row.cloud.clone());
        let now: BTreeMap<_, _> = rows.iter().map(|row| (key(row), row.clone())).collect();
        if now == self.shown {
            return;
        }
        if self.terminal {
            self.wipe();
            let text = table::render(rows);
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
        }
        self.shown = now;
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
