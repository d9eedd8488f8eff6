//! CloudCluster: the sites. The operator of a cluster speaks for its own site alone: it follows
//! `spec.residency` of the object that bears its `--site` name (see
//! [`crate::finservice::watches`]) and says in status that it does. Peers are not looked at yet.

pub mod act;
pub mod status;
