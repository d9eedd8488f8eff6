//! Tests with real requests: Contour and Envoy before served pods, inside a network namespace.
//!
//! Scenarios share two clouds, and each has a namespace of its own in one of them. Those that do not disturb each other
//! run side by side.
//! `cargo test --test traffic NAME` runs those whose names contain NAME.

mod adoption;
mod applications;
mod hardships;
mod operator;
mod outages;
mod readers;
mod residual;
mod rollouts;
mod routes;
mod runner;
mod sources;
mod stage;
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    // The longest of each group first.
    let mut scenarios = applications::scenarios();
    scenarios.extend(adoption::scenarios());
    scenarios.extend(rollouts::scenarios());
    scenarios.extend(outages::scenarios());
    scenarios.extend(hardships::scenarios());
    scenarios.extend(operator::scenarios());
    scenarios.extend(residual::scenarios());
    scenarios.extend(readers::scenarios());
    scenarios.extend(sources::scenarios());
    scenarios.extend(routes::scenarios());
    runner::main(&scenarios)
}
