//! Two clouds on one machine: what `banyan sandbox`, the integration tests and the benchmarks stand on.

pub mod audit;
mod build;
pub mod cloud;
pub mod credentials;
pub mod error;
pub mod install;
pub mod nodes;
pub mod pair;
pub mod process;
pub mod progress;
pub mod tools;

pub use cloud::{Cloud, CloudOptions, Part};
pub use error::{Error, Result};
pub use pair::{Install, Pair, PairOptions, pair};
