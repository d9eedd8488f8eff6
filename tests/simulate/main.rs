//! Stories in virtual time: each of `tests/goldens/` is told and compared with what it was, and what must hold of all of them
//! is checked.
//!
//! `UPDATE_EXPECT=1 cargo test --test simulate` writes the goldens anew; read the difference in review.

mod messages;
mod moves;
mod rollouts;
#[path = "../support/stories.rs"]
mod stories;

use stories::stories;

/// How many random stories are told: `PROPTEST_CASES`, or few enough for every day.
fn cases(usually: u32) -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(usually)
}
