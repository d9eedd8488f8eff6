//! `banyan pg-agent`: what SQL cannot do to a PostgreSQL, done beside it: shut down, rewind, copy anew, follow.
//!
//! | file | what it holds |
//! |---|---|
//! | `mod` | what is asked and answered |
//! | [`work`] | orders: one at a time, each once, none with an older ballot |
//! | [`programs`] | PostgreSQL's own programs |
//! | [`server`] | HTTPS; a client without a certificate of the CA is not heard |
//! | [`client`] | the operator's end |
//!
//! The agent knows by itself how its server replicates: no order holds a password or a path.

pub mod client;
pub mod programs;
pub mod server;
pub mod work;

use serde::{Deserialize, Serialize};

use super::Ballot;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// Names the order: the same one is carried out once, however often it arrives. One that failed is tried again.
    pub id: String,
    /// The ballot that orders. Older than what the agent or the authority row knows: refused.
    pub ballot: Ballot,
    /// What.
    pub action: Action,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// Stop the server, so that standbys have all that was written. It can follow another one without rewinding then.
    Shutdown,
    /// Start the server as it is.
    Start,
    /// Stop it, rewind it where it has what the source has not, and have it follow the source.
    Rewind(Source),
    /// Stop it, put its data aside, copy the source, and have it follow the source.
    Copy(Source),
}

/// Whom a server follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// By which name this server asks it.
    pub application_name: String,
    /// The timeline that it is on, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<u32>,
}

/// How an order fares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// The order.
    pub id: String,
    /// How far it is.
    pub state: State,
    /// What it does, or why it failed.
    pub words: String,
}

/// How far an order is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// It is being carried out.
    Running,
    /// It is done.
    Done,
    /// It was not done, or in part; the same order may be given again.
    Failed,
}

/// Why an order is not begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase")]
pub enum Refusal {
    /// A greater ballot is known.
    #[error("ballot {known} is known here")]
    Greater {
        /// That one.
        known: Ballot,
    },
    /// Another order is being carried out.
    #[error("the order {id} is being carried out")]
    Busy {
        /// That one.
        id: String,
    },
    /// The row of a server that runs could not be read.
    #[error("the authority row cannot be read: {why}")]
    Unknown {
        /// Why.
        why: String,
    },
    /// The order makes no sense.
    #[error("{why}")]
    Wrong {
        /// Why.
        why: String,
    },
}

/// How the server stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Whether it runs.
    pub running: bool,
    /// The state that its control file has, such as `in production`, `shut down` or `in archive recovery`.
    pub state: String,
    /// What tells its cluster from all others.
    pub system: Option<u64>,
    /// The timeline of its last checkpoint.
    pub timeline: Option<u32>,
    /// The greatest ballot that the agent knows of.
    pub ballot: Ballot,
    /// The last order.
    pub last: Option<Progress>,
}
