//! Sequential tests and their verdicts: is the canary worse than stable?
//!
//! Pure: no I/O, no clock, no randomness. Counts go in, a [`Judgement`] comes out, and it is valid whenever one
//! looks. `docs/evidence.md`, which `cargo run --release --example evidence` writes, shows by simulation what it keeps and costs.
//!
//! | file | what it holds |
//! |---|---|
//! | [`eprocess`] | the evidence that the canary is worse, over the whole rollout: [`EProcess`] |
//! | [`confseq`] | the interval of the increase, in one step: [`ConfidenceSequence`] |
//! | [`dispersion`] | how much stable's errors scatter: [`Dispersion`] |
//! | `wire` | how what is kept of the dispersion is written down |
//! | [`outage`] | outages that both arms share |
//! | [`limit`] | the absolute limit |
//! | [`counters`] | from counters to looks: [`Counters`] |
//! | [`tally`] | what both arms have counted |
//! | [`policy`] | what is asked of it: [`Policy`] |
//! | [`share`] | whether requests are shared as the weights say: [`ShareWatch`] |
//! | [`detector`] | all of it for one metric: [`Detector`] |
//! | `percent` | shares and amounts as people read them |
//! | [`verdict`] | [`Verdict`], [`Reason`], [`Judgement`], and [`together`] for several metrics |
//! | [`budget`] | what an increase costs of an error budget: [`Budget`] |
//!
//! A rollout makes one [`Detector`] per metric, each with its part of α ([`shared_alpha`]), calls [`Detector::begin_step`] at each
//! weight, [`Detector::look`] for each look that [`Counters::close`] gives, and combines the judgements with [`together`].
//!
//! Restarts and lost readiness are a metric like any other: `bad` counts them, `requests` counts pods times looks.

pub(crate) mod budget;
pub(crate) mod confseq;
pub(crate) mod counters;
pub(crate) mod detector;
pub(crate) mod dispersion;
pub(crate) mod eprocess;
pub(crate) mod limit;
pub(crate) mod outage;
pub(crate) mod percent;
pub(crate) mod policy;
pub(crate) mod share;
pub(crate) mod tally;
pub(crate) mod verdict;
mod wire;

#[cfg(test)]
mod tests;

pub use budget::{Budget, Impossible, OverBudget};
pub use confseq::ConfidenceSequence;
pub use counters::{ClosedLook, Counters, Rejected, Sample};
pub use detector::{Detector, Look, QUIET, SECOND_LOOK};
pub use dispersion::{Dispersion, PodCounts, Temper, pod_id};
pub use eprocess::{EProcess, Starts};
pub use limit::{Absolute, AbsoluteLimit, LimitFrom, LimitState};
pub use outage::{OutageWatch, Phase};
pub use percent::{Amount, Percent};
pub use policy::{Policy, PolicyError, shared_alpha};
pub use share::{Asked, Bypass, Share, ShareWatch};
pub use tally::Tally;
pub use verdict::{Arm, Judgement, Missing, Needed, Numbers, Reason, Verdict, together};
