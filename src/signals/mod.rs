//! Where evidence comes from: counters of both arms of a rollout, all rollouts in one go.
//!
//! | file | what it holds |
//! |---|---|
//! | [`hub`] | asks about all rollouts that are under way, and wakes those whose verdict changed |
//! | [`subject`] | what is asked for, and what comes back |

pub mod hub;
pub mod sources;
pub mod subject;

pub use sources::Sources;
pub use subject::{Answer, Arm, Counted, Endpoint, Pod, Reading, Subject, What};
