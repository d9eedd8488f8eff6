//! CloudCluster: the sites. The operator of a cluster speaks for its own site alone: it follows `spec.residency` of the
//! object that bears its `--site` name and says in status that it does. Of its peers it says whether they answer, while
//! somebody asks them.
//!
//! | file | what it is for |
//! |---|---|
//! | [`watch`] | fills the [`index`] |
//! | [`observe`] | all that a decision about one CloudCluster needs |
//! | [`decide`] | what is to be said of it; pure |
//! | [`act`] | writes that |
//! | [`status`] | its status; pure |
//! | [`controller`] | runs it all |
//! | [`sites`] | the view of the sites that other reconcilers get |
//! | [`peers`] | how rollouts fare in other clusters, for those who wait for them |
//! | [`kubeconfig`], [`peer_error`] | the way to a peer, and why there is none |

pub mod act;
pub mod controller;
pub mod decide;
pub mod index;
pub mod kubeconfig;
pub mod observe;
pub mod peer_error;
pub mod peers;
pub mod sites;
pub mod status;
pub mod watch;
