//! Banyan: a Kubernetes operator for financial platforms.
//!
//! The tree is the architecture; `ARCHITECTURE.md` has the invariants in full.
//!
//! | folder | what it holds |
//! |---|---|
//! | [`api`] | the CRD types, nothing else |
//! | [`finservice`] | the service reconciler: observe (I/O) → decide (pure) → act (I/O) → status (pure) |
//! | [`canary`] | rollouts, pure: from revisions, evidence and commands to weights |
//! | [`cloudcluster`] | the sites: what the operator of each says of its own |
//! | [`evidence`] | sequential tests and their verdicts, pure |
//! | [`signals`] | where evidence comes from: counters of both arms of a rollout |
//! | [`runtime`] | what every controller shares: index, queue, lease, events, metrics, telemetry, http |
//! | [`cli`] | the commands |
//! | [`sandbox`] | two clouds on one machine |
//! | [`traffic`] | what carries a rollout's shares outside the cluster: feature flags |

pub mod api;
pub mod canary;
pub mod cli;
pub mod cloudcluster;
pub mod evidence;
pub mod finservice;
pub mod runtime;
pub mod sandbox;
pub mod signals;
pub mod traffic;
