//! Guided tours of `banyan sandbox --tour`: each shows one thing that Banyan is for, with what really happens.
//!
//! | where | what it holds |
//! |---|---|
//! | `canary` | a good release takes over, a bad one goes back |
//! | `failover` | a group moves to the other cloud and back; then a cloud is lost, and returns |
//! | `voice` | where a tour is told: a terminal, lines, JSON |
//! | `text` | how its words are laid out; pure |

pub mod canary;
pub mod failover;
mod text;
mod voice;

/// What a tour shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Tour {
    /// How releases are compared, take over and go back.
    Canary,
    /// How a group moves to the other cloud under writes and requests, and what happens when a cloud is lost.
    Failover,
}
