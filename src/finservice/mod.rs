//! FinService: observe (I/O) → decide (pure) → act (I/O) → status (pure).
//!
//! | file | what it is for |
//! |---|---|
//! | [`watches`] | fills the index from the API server |
//! | [`index`] | what is known, kept small |
//! | [`observe`] | all that a decision about one FinService needs |
//! | [`decide`] | from that to a [`plan`]; helped by [`placement`], [`rollout`], [`compare`], [`secrets`], [`warnings`] |
//! | [`children`] | one pure builder per kind of child |
//! | [`act`] | carries a plan out; helped by [`adopt`] |
//! | [`unread`] | what can be read of a CanaryRollout that cannot |
//! | [`status`] | what the FinService says of itself; helped by [`record`] |
//! | [`controller`] | runs it all |

pub mod act;
pub mod adopt;
pub mod children;
#[cfg(test)]
mod claims_tests;
pub mod compare;
pub mod controller;
pub mod counting;
pub mod decide;
#[cfg(test)]
mod decide_tests;
#[cfg(test)]
mod examples_tests;
pub mod facts;
#[cfg(test)]
mod fake;
mod flag;
mod follow;
pub mod index;
pub mod make;
pub mod observe;
#[cfg(test)]
mod outage_tests;
pub mod placement;
pub mod plain;
pub mod plan;
pub mod record;
#[cfg(test)]
mod releases_tests;
pub mod report;
pub mod revision;
pub mod rollout;
#[cfg(test)]
mod rollout_tests;
pub mod secrets;
pub mod shift;
pub mod status;
#[cfg(test)]
pub mod testing;
pub mod unread;
#[cfg(test)]
mod upgrade_tests;
pub mod warnings;
mod watch_rollouts;
pub mod watches;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use follow::LISTS_AT_ONCE;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Locks the index. It is whole between any two of its calls, so a panic elsewhere does not spoil it.
fn lock(index: &Mutex<index::Index>) -> MutexGuard<'_, index::Index> {
    index.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The version of an object as a number, so that an older one is not taken for newer: versions of one resource grow
/// (KEP-5504, and what every API server has done before it). Zero where there is none.
fn version_of(metadata: &ObjectMeta) -> u64 {
    metadata.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
}
