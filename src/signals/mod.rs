//! Where evidence comes from: counters of both arms of a rollout, all rollouts in one go.
//!
//! A caller hands over all rollouts of one source at one tick and gets an [`Answer`] for each, in order. What cannot
//! be had is said in words; nothing is made up, and what is wrong with one rollout harms no other.
//!
//! | file | what it holds |
//! |---|---|
//! | [`subject`] | what is asked for, and what comes back |
//! | [`exposition`] | Prometheus' text format; pure |
//! | [`counts`] | what one series counted; pure |
//! | [`pods`] | what pods tell of themselves; pure |
//! | [`gateway`] | what proxies tell of Services; pure |
//! | [`mod@answer`] | whose counters are believed; pure |

pub mod answer;
pub mod counts;
pub mod exposition;
pub mod gateway;
pub mod pods;
pub mod subject;

pub use subject::{Answer, Arm, Counted, Endpoint, Pod, Reading, Subject, What};
