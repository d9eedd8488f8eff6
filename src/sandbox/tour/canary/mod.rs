//! What `banyan sandbox --tour canary` shows, with real requests: a good release takes over, a bad one goes back.
//!
//! | file | what it holds |
//! |---|---|
//! | `script` | who plays: a FinService, its CanaryRollout, and the releases; pure |
//! | `words` | what is explained; pure |
//! | `event` | what happens, as programs read it; pure |
//! | `render` | the same as people read it; pure |
//! | `look` | what is read: the rollout's status, its route, the gateway's counters |
//! | `play` | the acts, one after the other |
//! | `simulated` | the same in virtual time, where no request can be sent |
//!
//! Every number is one that was read: from the load, the status, the route or the gateway.

mod event;
mod look;
mod play;
mod render;
mod script;
mod simulated;
mod words;

pub use play::{Stage, play};
pub use script::Script;
pub use simulated::simulate;
