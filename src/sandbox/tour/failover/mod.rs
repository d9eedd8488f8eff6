//! What `banyan sandbox --tour failover` shows: a group moves to the other cloud and back under writes and requests; then a
//! cloud is lost, is taken over from, and returns.
//!
//! | file | what it holds |
//! |---|---|
//! | `words` | what is explained; pure |
//! | `event` | what happens, as programs read it; pure |
//! | `render` | the same as people read it; pure |
//! | `stage` | where it is played: what is read there, and what is cut off and brought back |
//! | `play` | the acts, one after the other |
//!
//! Every number is one that was read: from the Failover, from the client that writes, or from the load. What a person would
//! type is typed: the same program is run with the same words.

mod event;
mod play;
mod render;
mod stage;
mod words;

pub use play::play;
pub use stage::{Site, Stage};
