//! Tells what happens: in place on a terminal, else a line for each turn, else as JSON.

use std::io::IsTerminal;
use std::time::Instant;

use super::event::{Event, Moment};
use super::render;
use crate::sandbox::args::Output;
use crate::sandbox::error::{Context, Result};
use crate::sandbox::view::print;

/// How events become text on standard output.
pub(super) struct Voice {
    output: Output,
    terminal: bool,
    began: Instant,
    shown: Option<Moment>,
    /// Lines on the terminal that the next moment replaces.
    lines: usize,
}

impl Voice {
    pub(super) fn new(output: Output) -> Self {
        let terminal = std::io::stdout().is_terminal() && output == Output::Table;
        Self { output, terminal, began: Instant::now(), shown: None, lines: 0 }
    }

    /// Seconds since the tour began.
    pub(super) fn now(&self) -> f64 {
        // Tenths of a second are as close as it is looked.
        tenths(self.began.elapsed().as_secs_f64())
    }

    /// Tells an event that stays.
    pub(super) fn say(&mut self, event: &Event) -> Result<()> {
        self.lines = 0;
        self.tell(event)
    }

    /// Tells where the rollout stands, if that is something new.
    pub(super) fn look(&mut self, moment: Moment) -> Result<()> {
        let turned = self.shown.as_ref().is_none_or(|shown| shown.turn() != moment.turn());
        if !turned && (!self.terminal || self.shown.as_ref() == Some(&moment)) {
            return Ok(());
        }
        let event = Event::Look { at: self.now(), moment: Box::new(moment.clone()) };
        if self.terminal {
            let text = render::event(&event);
            // What has turned stays to be read; what only counts on is replaced.
            let up = if turned { String::new() } else { up(self.lines) };
            self.lines = text.lines().count();
            // Lines that are cut at the edge keep the count of lines right.
            print(&format!("{up}\x1b[?7l{text}\x1b[?7h"));
        } else {
            self.tell(&event)?;
        }
        self.shown = Some(moment);
        Ok(())
    }

    fn tell(&self, event: &Event) -> Result<()> {
        print(&match self.output {
            Output::Table => render::event(event),
            Output::Json => {
                let text = serde_json::to_string(event).context(|| "writing an event")?;
                format!("{text}\n")
            }
        });
        Ok(())
    }
}

/// A number of seconds, to a tenth.
pub(super) fn tenths(seconds: f64) -> f64 {
    (seconds * 10.0).round() / 10.0
}

fn up(lines: usize) -> String {
    if lines == 0 { String::new() } else { format!("\x1b[{lines}A\x1b[J") }
}
