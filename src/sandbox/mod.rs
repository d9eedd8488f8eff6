//! Two clouds on one machine: what `banyan sandbox`, the integration tests and the benchmarks stand on.
//!
//! | file | what it holds |
//! |---|---|
//! | `flow`, `args`, `home`, `view`, `frame`, `table`, `report`, `interrupt`, `contexts`, `payload` | the command |
//! | `tour` | what it shows step by step |
//! | `pair`, `cloud`, `cloud_options`, `argv`, `nodes`, `credentials`, `audit` | clouds: real control planes, played nodes |
//! | `introduce` | how each operator finds the other cloud |
//! | `failover` | what FailoverGroups move: databases, a witness, a load balancer |
//! | `operators`, `install` | what is put into them |
//! | `tools`, `build` | where the programs come from |
//! | `traffic` | real requests: a gateway, servers behind the pods' addresses, load, Prometheus |
//! | `postgres` | two PostgreSQL, one of which follows the other, and a client that writes |
//! | `ends` | played ends of what cannot be had on one machine, such as a cloud's API |
//! | `process`, `error` | processes that never outlive this one; errors as people read them |
//!
//! A test that needs clouds asks [`pair`] for the one that its binary shares and takes namespaces of its own;
//! one that breaks a cloud starts a [`Pair`] for itself.

mod args;
mod argv;
pub mod audit;
mod build;
pub(crate) mod cloud;
mod cloud_options;
mod contexts;
pub(crate) mod credentials;
pub mod ends;
pub(crate) mod error;
pub(crate) mod failover;
pub(crate) mod flow;
mod frame;
mod home;
pub mod install;
mod interrupt;
mod introduce;
pub(crate) mod nodes;
pub mod operators;
pub mod pair;
pub mod payload;
pub mod postgres;
pub mod process;
mod report;
pub(crate) mod table;
pub mod tools;
pub(crate) mod tour;
pub mod traffic;
mod view;

pub use cloud::{Cloud, Part};
pub use cloud_options::CloudOptions;
pub use error::{Error, Result};
pub use pair::{Install, Pair, PairOptions, pair};
