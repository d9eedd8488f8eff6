//! Tells what happens: in place on a terminal, else a line for each turn, else as JSON.

use std::io::IsTerminal;
use std::time::Instant;

use serde::Serialize;

use super::text::act;
use crate::sandbox::args::Output;
use crate::sandbox::error::{Context, Result};
use crate::terminal::drawing::{Drawing, print};

/// Something that happens in a tour: programs read it as JSON, people as text.
pub trait Telling: Serialize {
    /// As people read it: lines, each of them ended.
    fn text(&self) -> String;
}

/// An act begins.
#[derive(Serialize)]
#[serde(tag = "event", rename = "step", rename_all = "camelCase")]
struct Step {
    /// When, in seconds since the tour began.
    at: f64,
    /// Its number, from 1 on.
    number: usize,
    /// What it is called.
    title: String,
    /// What is going to be seen.
    words: String,
    /// How a person does the same; empty where nothing is done.
    command: String,
}

impl Telling for Step {
    fn text(&self) -> String {
        act(self.number, &self.title, &self.words, &self.command)
    }
}

/// How events become text on standard output.
pub struct Voice {
    output: Output,
    terminal: bool,
    began: Instant,
    /// What was shown last: what a line is printed for, and all of it.
    shown: Option<(String, String)>,
    /// Lines on the terminal that the next moment replaces.
    drawing: Drawing,
}

impl Voice {
    /// One that has said nothing yet; the tour begins.
    pub fn new(output: Output) -> Self {
        let terminal = std::io::stdout().is_terminal() && output == Output::Table;
        Self { output, terminal, began: Instant::now(), shown: None, drawing: Drawing::default() }
    }

    /// Seconds since the tour began.
    pub fn now(&self) -> f64 {
        // Tenths of a second are as close as it is looked.
        tenths(self.began.elapsed().as_secs_f64())
    }

    /// Tells an event that stays.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub fn say(&mut self, event: &impl Telling) -> Result<()> {
        self.drawing.keep();
        self.tell(event)
    }

    /// Tells that an act begins: what it is called, what is going to be seen, and how a person does the same; nothing where
    /// nothing is done.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub fn begins(&mut self, number: usize, (title, words): (String, String), command: String) -> Result<()> {
        self.say(&Step { at: self.now(), number, title, words, command })
    }

    /// Tells where it stands, if that is something new. `turn` is what a line is printed for when it changes; `whole` is
    /// all that is shown, without the time.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub fn look(&mut self, event: &impl Telling, turn: String, whole: String) -> Result<()> {
        let turned = self.shown.as_ref().is_none_or(|(shown, _)| *shown != turn);
        if !turned && (!self.terminal || self.shown.as_ref().is_some_and(|(_, shown)| *shown == whole)) {
            return Ok(());
        }
        if self.terminal {
            // What has turned stays to be read; what only counts on is replaced.
            if turned {
                self.drawing.keep();
            }
            self.drawing.draw(&event.text());
        } else {
            self.tell(event)?;
        }
        self.shown = Some((turn, whole));
        Ok(())
    }

    fn tell(&self, event: &impl Telling) -> Result<()> {
        print(&match self.output {
            Output::Table => event.text(),
            Output::Json => {
                let text = serde_json::to_string(event).context(|| "writing an event")?;
                format!("{text}\n")
            }
        });
        Ok(())
    }
}

/// A number of seconds, to a tenth.
pub fn tenths(seconds: f64) -> f64 {
    (seconds * 10.0).round() / 10.0
}
