//! Two clouds on one machine: what `banyan sandbox`, the integration tests and the benchmarks stand on.

pub mod audit;
mod build;
pub mod cloud;
mod contexts;
pub mod credentials;
pub mod error;
pub mod flow;
mod home;
pub mod install;
pub mod nodes;
pub mod operators;
pub mod pair;
pub mod payload;
pub mod process;
pub mod progress;
pub mod table;
pub mod tools;
mod view;

pub use cloud::{Cloud, CloudOptions, Part};
pub use error::{Error, Result};
pub use pair::{Install, Pair, PairOptions, pair};
