//! CloudCluster: the sites. The operator of a cluster speaks for its own site alone: it follows
//! `spec.residency` of the object that bears its `--site` name (see
//! [`crate::finservice::watches`]) and says in status that it does. Of its peers it says whether they
//! answer, while a rollout waits for one of them (see [`peers`]).

pub mod act;
pub mod kubeconfig;
pub mod peer_error;
pub mod peers;
pub mod status;
