//! Where evidence comes from: counters of both arms of a rollout, all rollouts in one go.
//!
//! | file | what it holds |
//! |---|---|
//! | [`subject`] | what is asked for, and what comes back |

pub mod subject;

pub use subject::{Answer, Arm, Counted, Endpoint, Pod, Reading, Subject, What};
