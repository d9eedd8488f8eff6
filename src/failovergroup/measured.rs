//! What the last move of a group to this site, or its rehearsal, took. Pure.

use jiff::Timestamp;

/// What was measured last of moves of a group, or of a rehearsal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// The Failover.
    pub by: String,
    /// When it was over.
    pub at: Timestamp,
    /// How long each of its steps took, in milliseconds.
    pub steps: Vec<(String, i64)>,
}
