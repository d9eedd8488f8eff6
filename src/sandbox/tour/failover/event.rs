//! What happens in a tour of failover, as programs read it. Pure.

use serde::Serialize;

/// Where a move stands at one moment, and what users and the client that writes have seen since the tour began.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Moment {
    /// The phase of the Failover; empty where none is at work.
    pub phase: String,
    /// Its step.
    pub step: String,
    /// What it says.
    pub message: String,
    /// Which site answers that traffic is to come there, by what each of them answers; empty where none does.
    pub serves: String,
    /// Writes that were acknowledged.
    pub writes: usize,
    /// Seconds since the last of them, where that is longer than a second.
    pub without_writes: f64,
    /// Requests that were answered, by site.
    pub answered: Vec<(String, u64)>,
    /// Requests that failed: a status of 500 or more, or no answer.
    pub failed: u64,
}

impl Moment {
    /// What a line is printed for when it changes, and not for every request.
    pub fn turn(&self) -> (&str, &str, &str, &str) {
        (&self.phase, &self.step, &self.message, &self.serves)
    }
}

/// A move that is over.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Act {
    /// What was ordered.
    pub action: String,
    /// Where it moved to.
    pub to: String,
    /// The Failover.
    pub failover: String,
    /// Seconds from the order until all stores were open there.
    pub until_open: f64,
    /// Seconds from the first store that was closed until all were open there.
    pub closed: Option<f64>,
    /// The longest time between two acknowledged writes, in seconds.
    pub longest_gap: f64,
    /// Requests that were sent meanwhile.
    pub sent: u64,
    /// Those that failed.
    pub failed: u64,
    /// Writes that were acknowledged meanwhile.
    pub acknowledged: usize,
    /// Those of them that are not at the site that has authority now.
    pub lost: usize,
}

/// Something that happens. Times are seconds since the tour began.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "camelCase")]
pub enum Event {
    /// It stands elsewhere than before.
    Look {
        /// When.
        at: f64,
        /// Where.
        #[serde(flatten)]
        moment: Box<Moment>,
    },
    /// The Failover waits for a person, who says this.
    Said {
        /// When.
        at: f64,
        /// What it waits for.
        waits: String,
        /// What was typed.
        command: String,
    },
    /// A move is over.
    Moved {
        /// When.
        at: f64,
        /// How.
        #[serde(flatten)]
        act: Act,
    },
    /// The tour is over.
    Summary {
        /// When.
        at: f64,
        /// The moves, in their order.
        acts: Vec<Act>,
    },
}
