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

pub(crate) mod act;
pub(crate) mod controller;
pub(crate) mod decide;
pub(crate) mod index;
pub(crate) mod kubeconfig;
pub(crate) mod observe;
pub(crate) mod peer_error;
pub mod peers;
pub mod sites;
pub(crate) mod status;
pub(crate) mod watch;
