//! Scenarios on a cluster in memory ([`super::testing::fake`]), and properties of decisions.

mod claims;
mod decide;
mod drift;
mod examples;
mod mistakes;
mod moving_in;
mod outages;
mod people;
mod releases;
mod rollouts;
mod stopped;
mod upgrades;
