//! The protocol of failover, explored: two sites, a witness, people and what may break, with the operator's own decisions.
//!
//! | module | what it holds |
//! |---|---|
//! | [`world`] | all that is true at one moment |
//! | [`shown`] | the same, as the operator's functions take it |
//! | [`operator`] | what an operator decides, by those functions |
//! | [`server`] | what a store does |
//! | [`carry`] | carries out what was decided |
//! | [`chances`] | all that can happen next |
//! | [`checker`] | explores it, and looks whether the promises hold |
//! | [`progress`] | whether each world leads to one in which a site serves |
//! | [`scenarios`] | what is explored, and in which bounds |
//! | [`twins`] | the same with one rule left out, which must be found |
//!
//! docs/model.md says what is in it, what is not, and what it found.

mod carry;
mod chances;
mod checker;
mod operator;
mod progress;
mod scenarios;
mod server;
mod shown;
mod twins;
mod world;

use checker::{Found, Scenario, explore};

/// Explores a scenario, which must keep all promises.
fn holds(scenario: Scenario) {
    let found = explore(scenario);
    found.print(scenario.name);
    assert!(found.broken.is_none(), "{} breaks a promise; the trace is above", scenario.name);
}

/// Explores a scenario, which must break this promise.
fn breaks(scenario: Scenario, promise: &str) {
    let found = explore(scenario);
    let Found { states, took, broken } = &found;
    let Some((rule, trace, _)) = broken else {
        panic!("{}: without its rule nothing breaks in {states} states", scenario.name);
    };
    println!("{}: {rule}, after {} steps, {states} states, {took:.1?}", scenario.name, trace.len());
    for step in trace {
        println!("    {step}");
    }
    assert!(rule.starts_with(promise), "{} breaks {rule}, and not {promise}", scenario.name);
}
