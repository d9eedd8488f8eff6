//! Real PostgreSQL: two servers on loopback, one of which follows the other, and a client that writes.
//!
//! | file | what it holds |
//! |---|---|
//! | `tools` | where the programs come from, and as whom they run |
//! | `server` | one server: made, copied, started, stopped, killed |
//! | `pair` | two of them as two sites have them, with doors that misbehave between |
//! | `agents` | `banyan pg-agent` beside each |
//! | `client` | a client that writes what can be checked, and reads |

pub mod agents;
pub(crate) mod client;
pub(crate) mod pair;
pub(crate) mod server;
pub(crate) mod tools;

pub use agents::Agents;
pub use client::{Client, Kept, Tally};
pub use pair::{APPLICATION, OPERATOR, PostgresPair, PostgresPairOptions};
pub use server::Server;
pub use tools::PostgresTools;
