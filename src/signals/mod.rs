//! Where evidence comes from: counters of both arms of a rollout, all rollouts in one go.
//!
//! A caller hands over all rollouts of one source at one tick and gets an [`Answer`] for each, in order. What cannot
//! be had is said in words; nothing is made up, and what is wrong with one rollout harms no other.
//!
//! | file | what it holds |
//! |---|---|
//! | [`subject`] | what is asked for, and what comes back |
//! | [`counts`] | what one series counted; pure |
//! | [`pods`] | what pods tell of themselves; pure |
//! | [`grpc`] | what tells of gRPC calls; pure |
//! | [`gateway`] | what proxies tell of Services; pure |
//! | [`mod@answer`] | whose counters are believed; pure |
//! | [`builtin`] | the built-in source: proxies and pods are asked directly |
//! | [`promql`] | the questions that Prometheus is asked; pure |
//! | [`vector`] | what its API answers; pure |
//! | [`series`] | from that to what pods and proxies counted; pure |
//! | [`prometheus`] | Prometheus as a source, and as a gate |
//! | [`ask`] | the one door to all of them |
//! | [`sources`] | all of them, each made once |
//! | [`reach`] | which servers a namespace may have asked; pure |
//! | [`resolver`] | where their names lead, and whether they may |
//! | [`webhook`] | a web server as a gate |

pub(crate) mod answer;
pub(crate) mod ask;
pub mod builtin;
pub(crate) mod counts;
pub(crate) mod gateway;
pub mod grpc;
pub(crate) mod pods;
pub(crate) mod prometheus;
pub(crate) mod promql;
pub mod reach;
pub(crate) mod resolver;
pub(crate) mod series;
pub(crate) mod sources;
pub(crate) mod subject;
#[cfg(test)]
mod testing;
pub(crate) mod vector;
pub(crate) mod webhook;

pub use ask::{Ask, GateReply, SourceKey};
pub use builtin::BuiltIn;
pub use prometheus::Prometheus;
pub use reach::Reach;
pub use resolver::Grants;
pub use sources::Sources;
pub use subject::{Answer, Arm, Counted, Endpoint, Pod, Reading, Subject, What};
