//! Banyan: a Kubernetes operator for financial platforms.
//!
//! The tree is the architecture; `ARCHITECTURE.md` has the invariants in full.
//!
//! | folder | what it holds |
//! |---|---|
//! | [`api`] | the CRD types, nothing else |
//! | [`actions`] | what people say in mid-course, to any kind of object |
//! | [`finservice`] | the service reconciler: observe (I/O) → decide (pure) → act (I/O) → status (pure) |
//! | [`canary`] | rollouts, pure: from revisions, evidence and commands to weights |
//! | [`cloudcluster`] | the sites: what the operator of each says of its own |
//! | [`evidence`] | sequential tests and their verdicts, pure |
//! | [`signals`] | sources of evidence: counters of both arms of a comparison |
//! | [`judge`] | the engine that judges: it has things counted, and says how they compare |
//! | [`runtime`] | what every controller shares: index, queue, lease, events, metrics, telemetry, http |
//! | [`cli`] | the commands |
//! | [`sandbox`] | two clouds on one machine |
//! | [`terminal`] | what commands show: tables, JSON, progress |
//! | [`feature_flags`] | what carries a rollout's shares outside the cluster |

pub mod actions;
pub mod api;
pub mod canary;
pub mod cli;
pub mod cloudcluster;
pub mod evidence;
pub(crate) mod feature_flags;
pub mod finservice;
pub(crate) mod judge;
pub mod runtime;
pub mod sandbox;
pub mod signals;
pub mod terminal;
