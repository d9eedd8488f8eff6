//! Scenarios on a cluster in memory ([`super::testing::fake`]), and properties of decisions.

mod claims;
mod decide;
mod examples;
mod outages;
mod releases;
mod rollouts;
mod stopped;
mod upgrades;
