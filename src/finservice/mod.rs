//! FinService: observe (I/O) → decide (pure) → act (I/O) → status (pure).
//!
//! | module | what it is for |
//! |---|---|
//! | [`watch`] | fills the index from the API server |
//! | [`index`] | what is known, kept small |
//! | [`observe`] | the snapshot: all that a decision about one FinService needs |
//! | [`plan`] | pure: from the snapshot to a plan ([`plan::decide`]) |
//! | [`settings`] | what the installer says of this cluster; pure |
//! | [`children`] | one pure builder per kind of child |
//! | [`write`] | carries a plan out, and writes what came of it |
//! | [`rendered`] | what a FinService becomes, without a cluster; pure |
//! | [`status`] | what the FinService and its CanaryRollout say of themselves; pure |
//! | [`table`] | FinServices as people read them, a line for each; pure |
//! | [`worker`] | the order of one reconcile |
//! | [`controller`] | runs it all |

pub mod children;
pub(crate) mod controller;
pub mod index;
pub(crate) mod observe;
pub mod plan;
pub mod rendered;
pub mod settings;
mod short;
pub mod status;
pub mod table;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub(crate) mod watch;
pub(crate) mod worker;
pub mod write;
