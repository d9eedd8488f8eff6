//! Whole rollouts in virtual time: the code that decides in a cluster, given a story of traffic instead of one.
//!
//! Only the cluster is made up: pods that take their time to start, requests that succeed or fail by chance from
//! a seed, a source that may be silent. What decides, judges and remembers is what runs in production, and what
//! is remembered goes through the status, as JSON, at every look.

mod cluster;
mod forecast;
mod happen;
mod others;
mod random;
mod report;
mod story;
mod world;

pub use cluster::Users;
pub use forecast::{Fate, Forecast, Meets, Spread, forecast};
pub use report::{Line, Report};
pub use story::{Story, StoryError};
pub use world::{Crash, run, run_with, statuses};
