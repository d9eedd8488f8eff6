//! Banyan: a Kubernetes operator for financial platforms.
//!
//! The tree is the architecture; `ARCHITECTURE.md` has the invariants in full.
//!
//! | folder | what it holds |
//! |---|---|
//! | [`api`] | the custom resources, their conditions and labels, and the reasons of Events |
//! | [`actions`] | what people say in mid-course, to any kind of object |
//! | [`failover`] | the reconciler of Failovers: moves a group here, step by step |
//! | [`failovergroup`] | the reconciler of FailoverGroups: who has authority, and whether a failover would succeed |
//! | [`finservice`] | the service reconciler: observe (I/O) → decide (pure) → act (I/O) → status (pure) |
//! | [`canary`] | rollouts, pure: from revisions, evidence and commands to weights |
//! | [`authority`] | who may write, for each group: what a site believes, and what it answers |
//! | [`cloudcluster`] | the reconciler of CloudClusters: which sites there are, and how rollouts fare at peers |
//! | [`clouds`] | clusters in clouds: where they are, and tokens for them |
//! | [`dns`] | steers requests to the site that has authority, at Cloudflare or Route 53 |
//! | [`evidence`] | sequential tests and their verdicts, pure |
//! | [`signals`] | sources of evidence: counters of both arms of a comparison |
//! | [`stores`] | databases and mirrors that are replicated between sites: read, fenced, promoted |
//! | [`judge`] | the engine that judges: it has things counted, and says how they compare |
//! | [`witness`] | which epoch of a group followed which, in object storage on ground that is neither cloud |
//! | [`notifications`] | transitions that are told to people elsewhere: in Slack, or at any webhook |
//! | [`runtime`] | what every controller shares: list and watch, queue, permits, status writer, Lease, Events, metrics, logs, HTTP |
//! | [`cli`] | the commands |
//! | [`sandbox`] | two clouds on one machine |
//! | [`terminal`] | what commands show: tables, JSON, progress |
//! | [`feature_flags`] | what carries a rollout's shares outside the cluster |

pub mod actions;
pub mod api;
pub mod authority;
pub mod canary;
pub mod cli;
pub mod cloudcluster;
pub mod clouds;
pub mod dns;
pub mod evidence;
pub mod failover;
pub mod failovergroup;
pub(crate) mod feature_flags;
pub mod finservice;
pub mod import;
pub(crate) mod judge;
pub(crate) mod notifications;
pub mod runtime;
pub mod sandbox;
pub mod signals;
pub mod stores;
pub mod terminal;
pub mod witness;
