//! Tests with real requests: Contour and Envoy before served pods, inside a network namespace.
//!
//! All scenarios share one cloud and run one after the other; each has a namespace of its own in it.
//! `cargo test --test traffic NAME` runs those whose names contain NAME.

mod operator;
mod outages;
mod readers;
mod rollouts;
mod routes;
mod runner;
mod sources;
mod stage;
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut scenarios = routes::scenarios();
    scenarios.extend(sources::scenarios());
    scenarios.extend(readers::scenarios());
    scenarios.extend(operator::scenarios());
    scenarios.extend(rollouts::scenarios());
    scenarios.extend(outages::scenarios());
    runner::main(&scenarios)
}
