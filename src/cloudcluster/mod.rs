//! CloudCluster: the sites. The operator of a cluster speaks for its own site alone: it follows `spec.residency` of the
//! object that bears its `--site` name and says in status that it does. Of its peers it says whether they answer, by
//! which ways, and what nodes they have.
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
//! | [`handle`], [`view`] | what others get: the link to each peer, and what is known of it |
//! | [`links`] | one link to each peer, made of its ways |
//! | [`way`], [`health`] | one way, and whether it works; the latter pure |
//! | [`connect`], [`secrets`], [`kubeconfig`] | what a way is made of |
//! | [`nodes`], [`requests`] | the nodes of a peer; the latter pure |
//! | [`peer_error`] | why a peer says nothing |
//! | [`peers`] | how rollouts fare in other clusters, for those who wait for them |

pub(crate) mod act;
pub(crate) mod connect;
pub(crate) mod controller;
pub(crate) mod decide;
pub mod handle;
pub(crate) mod health;
pub(crate) mod index;
pub(crate) mod kubeconfig;
pub mod links;
pub(crate) mod nodes;
pub(crate) mod observe;
pub mod peer_error;
pub mod peers;
pub(crate) mod requests;
pub(crate) mod secrets;
pub mod sites;
pub(crate) mod status;
pub mod view;
pub(crate) mod watch;
pub mod way;
