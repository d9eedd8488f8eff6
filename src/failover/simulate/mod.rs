//! Whole moves in virtual time: the code that decides in a cluster, given a story of sites and faults instead of some.
//!
//! | file | what it holds |
//! |---|---|
//! | [`story`] | what a simulation is given |
//! | [`world`] | the sites, what lies between them, users who write, and the course of time |
//! | [`happen`] | what happens to them |
//! | [`server`] | what a PostgreSQL does with each order |
//! | [`operator`] | one turn of the operator of a site |
//! | [`carry`] | carries acts out |
//! | [`time`] | virtual time |
//! | [`report`] | what is said of it: only what changes |
//!
//! Sites, databases and the network are made up; what they do is what `tests/stores` holds real ones to. What decides,
//! remembers and says is what runs in production. How long a move takes here says nothing of a real one: an act takes a
//! tenth of a second, and a site that is silent five.

mod carry;
mod happen;
mod operator;
mod report;
mod server;
mod story;
mod time;
mod world;

pub use report::{Ended, Line, Report, Writes};
pub use story::{Story, StoryError};
pub use world::{run, run_with};
