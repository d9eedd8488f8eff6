//! What every controller shares.
//!
//! | module | what it is for |
//! |---|---|
//! | [`queue`] | which key is worked on when: deduplicated, never twice at once, urgent first, with backoff |
//! | [`lease`] | which replica acts: the leader Lease |
//! | [`lease_store`] | where that Lease is kept |
//! | [`client`] | the connection to an API server, with every request counted |
//! | [`request`] | what a request to an API server asks for, in RBAC's words |
//! | [`events`] | Kubernetes Events that never slow a reconcile down |
//! | [`items`] | a list read one by one while its text arrives |
//! | [`patch`] | how this operator writes |
//! | [`metrics`] | the figures at `/metrics` |
//! | [`process`] | memory and CPU of this process, for `/metrics` |
//! | [`http`] | `/healthz`, `/readyz`, `/metrics` |
//! | [`telemetry`] | logs, and traces on demand |
//! | [`shutdown`] | the word to stop, heard everywhere |
//! | [`context`] | all of the above in one value, as a controller gets it |

pub mod client;
pub mod context;
pub mod digest;
pub mod events;
pub mod http;
pub mod items;
pub mod lease;
pub mod lease_store;
pub mod live;
pub mod metrics;
pub mod patch;
pub mod process;
pub mod queue;
pub mod request;
pub mod shutdown;
pub mod telemetry;
