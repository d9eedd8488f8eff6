//! How large the node groups and node pools of a source were, as an entry tells it. Pure.

use serde::Serialize;

use crate::api::failover::PoolRecord;

/// How large one was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Size {
    /// Its name.
    pub name: String,
    /// How many nodes it was to have.
    pub nodes: i64,
    /// The least that it was to have.
    pub least: i64,
    /// The most that it was to have.
    pub most: i64,
    /// Whether its cloud scaled it by itself.
    pub scales: bool,
}

impl Size {
    /// The one that is noted.
    pub fn of(pool: &PoolRecord) -> Self {
        let PoolRecord { name, nodes, least, most, scales, .. } = pool;
        Self { name: name.clone(), nodes: *nodes, least: *least, most: *most, scales: *scales == Some(true) }
    }
}
