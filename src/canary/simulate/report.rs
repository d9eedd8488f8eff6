//! What a simulation says: only what changes, with its time and its reason.

use std::fmt;

use serde::Serialize;

use super::cluster::Users;

/// A whole simulation.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// What the story is about.
    pub about: String,
    /// The seed.
    pub seed: u64,
    /// What changed, in the order of time.
    pub lines: Vec<Line>,
    /// Where it ended.
    pub phase: String,
    /// The release that serves at the end.
    pub stable: String,
    /// The canary's weight at the end.
    pub weight: i32,
    /// Requests of the users.
    pub users: Users,
}

/// Something that changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Line {
    /// The story went on.
    Story {
        /// Seconds from the beginning.
        at: f64,
        /// What happened.
        words: String,
    },
    /// An Event of the operator.
    Event {
        /// Seconds from the beginning.
        at: f64,
        /// Its reason.
        reason: String,
        /// Its note.
        note: String,
    },
    /// Something else was decided than before.
    Decision {
        /// Seconds from the beginning.
        at: f64,
        /// Where the rollout stands.
        phase: String,
        /// Where requests go, in percent.
        route: String,
        /// Pods Ready, of how many.
        pods: String,
        /// What the evidence says.
        verdict: Option<String>,
        /// Why, the first reason first.
        reasons: Vec<String>,
        /// Why a person must act.
        stalled: Option<String>,
    },
}

fn clock(seconds: f64) -> String {
    let hundredths = (seconds * 100.0).round() as u64;
    let (whole, part) = (hundredths / 100, hundredths % 100);
    let time = format!("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
    if part == 0 { time } else { format!("{time}.{part:02}") }
}

impl fmt::Display for Line {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Story { at, words } => write!(out, "{} ~ {words}", clock(*at)),
            Self::Event { at, reason, note } => write!(out, "{} ! {reason}: {note}", clock(*at)),
            Self::Decision { at, phase, route, pods, verdict, reasons, stalled } => {
                write!(out, "{}   {phase:<12} {route} | pods {pods}", clock(*at))?;
                if let Some(verdict) = verdict {
                    write!(out, " | {verdict}")?;
                }
                for reason in reasons {
                    write!(out, "\n            {reason}")?;
                }
                if let Some(stalled) = stalled {
                    write!(out, "\n            Stalled: {stalled}")?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.about.is_empty() {
            writeln!(out, "{}", self.about.trim())?;
        }
        writeln!(out, "seed {}", self.seed)?;
        for line in &self.lines {
            writeln!(out, "{line}")?;
        }
        writeln!(out, "end: {}, {} serves, the canary has {} %", self.phase, self.stable, self.weight)?;
        let users = &self.users;
        writeln!(
            out,
            "requests: {}, failed {}, of these by the canary {}, unanswered {}",
            users.requests, users.failed, users.failed_by_canary, users.unanswered
        )
    }
}
