//! What every controller shares.
//!
//! | module | what it is for |
//! |---|---|
//! | [`queue`] | which key is worked on when: deduplicated, never twice at once, urgent first, with backoff |
//! | [`queue_ages`] | how long the oldest key of each queue has waited, for `/metrics` |
//! | [`lease`] | which replica acts: the leader Lease |
//! | [`lease_store`] | where that Lease is kept |
//! | [`client`] | the connection to an API server, with every request counted |
//! | [`request`] | what a request to an API server asks for, in RBAC's words |
//! | [`events`] | Kubernetes Events that never slow a reconcile down |
//! | [`exposition`] | Prometheus' text format; pure |
//! | [`follow`] | all objects of one kind: a list, then a watch from there, and again after a fault |
//! | [`items`] | a list read one by one while its text arrives |
//! | [`key`] | what an object is known by |
//! | [`lock`] | locks that a panic elsewhere does not spoil |
//! | [`shares`] | what tenants share: memory for what their servers answer, and turns to ask them |
//! | [`network`] | networks of addresses; pure |
//! | [`fetch`] | one request over HTTP, and a bound on what is read of its answer |
//! | [`remote`] | calls to what is outside of this cluster: a deadline, and what a failure means |
//! | [`raw_object`] | objects of any kind, read in one pass |
//! | [`patch`] | how this operator writes |
//! | [`permits`] | how much is asked of an API server at once |
//! | [`status_writer`] | how every controller writes statuses |
//! | [`metrics`] | the figures at `/metrics` |
//! | [`process`] | memory and CPU of this process, for `/metrics` |
//! | [`http`] | `/healthz`, `/readyz`, `/metrics` |
//! | [`telemetry`] | logs, and traces on demand |
//! | [`aws`] | the identity that a Pod has at AWS, and what an error of AWS means |
//! | [`digest`] | the digest of the fields that we own: whether a child has drifted |
//! | [`stuck`] | what is stuck, by name, for `/metrics` |
//! | [`live`] | numbers of rollouts under way, for `/metrics` |
//! | [`context`] | what a controller gets: the client, the site, permits, statuses, Events, metrics, leadership, shutdown |

pub(crate) mod aws;
pub mod client;
pub(crate) mod context;
pub mod digest;
pub(crate) mod events;
pub(crate) mod exposition;
pub(crate) mod fetch;
pub(crate) mod follow;
pub(crate) mod http;
pub(crate) mod items;
pub mod key;
pub(crate) mod lease;
pub(crate) mod lease_store;
pub(crate) mod live;
pub(crate) mod lock;
pub mod metrics;
pub(crate) mod network;
pub mod patch;
pub mod permits;
pub(crate) mod process;
pub(crate) mod queue;
pub(crate) mod queue_ages;
pub(crate) mod raw_object;
pub mod remote;
pub(crate) mod request;
pub(crate) mod shares;
pub(crate) mod status_writer;
pub(crate) mod stuck;
pub(crate) mod telemetry;

#[cfg(test)]
mod alerts_tests;
#[cfg(test)]
pub(crate) mod pod_tests;
