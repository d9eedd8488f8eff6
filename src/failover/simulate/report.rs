//! What a simulation says: only what changes, with its time.

use std::fmt;

use serde::Serialize;

/// A whole simulation.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// What the story is about.
    pub about: String,
    /// What changed, in the order of time.
    pub lines: Vec<Line>,
    /// The last order of each site, as it stands at the end.
    pub orders: Vec<Ended>,
    /// The greatest epoch that any site knows at the end.
    pub epoch: i64,
    /// Who has authority in it.
    pub holders: Vec<String>,
    /// What became of what users wrote.
    pub writes: Writes,
}

/// An order, at the end.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// Its name.
    pub name: String,
    /// Where it was applied.
    pub site: String,
    /// What it says.
    pub says: String,
    /// What a person is to type; none where it goes on by itself, or is over.
    pub next: Option<String>,
}

/// What became of what users wrote, ten times a second.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Writes {
    /// How many were acknowledged.
    pub acknowledged: u64,
    /// How many of these are not where authority is at the end.
    pub lost: u64,
    /// For how long none was acknowledged, in all, in seconds.
    pub without_seconds: f64,
    /// The longest of these times.
    pub longest_seconds: f64,
    /// For how long two sites took writes at once, in seconds.
    pub both_seconds: f64,
}

/// Something that changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Line {
    /// The story went on.
    Story {
        /// When, from the beginning.
        at: String,
        /// What happened.
        words: String,
    },
    /// Something stands otherwise than before.
    Change {
        /// When, from the beginning.
        at: String,
        /// What.
        of: String,
        /// How it stands.
        words: String,
    },
}

impl fmt::Display for Line {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Story { at, words } => write!(out, "{at} ~ {words}"),
            Self::Change { at, of, words } => write!(out, "{at}   {of}: {words}"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.about.is_empty() {
            writeln!(out, "{}", self.about.trim())?;
        }
        for line in &self.lines {
            writeln!(out, "{line}")?;
        }
        let has = if self.holders.len() == 1 { "has" } else { "have" };
        writeln!(out, "end: {} {has} authority in epoch {}", self.holders.join(" and "), self.epoch)?;
        for order in &self.orders {
            writeln!(out, "{} at {}: {}", order.name, order.site, order.says)?;
        }
        let Writes { acknowledged, lost, without_seconds, longest_seconds, both_seconds } = &self.writes;
        writeln!(
            out,
            "writes: {acknowledged} acknowledged, {lost} of them lost; {without_seconds} s without, {longest_seconds} s at \
             a time"
        )?;
        if *both_seconds > 0.0 {
            writeln!(out, "two sites took writes at once for {both_seconds} s")?;
        }
        Ok(())
    }
}
