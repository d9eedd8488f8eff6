//! The engine that judges: it has what was asked for counted, and says how it compares. It knows no rollout; whoever
//! wants something judged hands over a [`Standard`] and a [`Comparison`], and is woken when the verdict changes.
//!
//! | file | what it holds |
//! |---|---|
//! | [`analysis`] | the detectors of one comparison, and what they say; pure |
//! | [`followed`] | one comparison that the hub follows; pure |
//! | [`hub`] | asks the sources about all of them, and wakes those whose verdict changed |

pub(crate) mod analysis;
mod followed;
#[cfg(test)]
mod greedy_tests;
pub(crate) mod hub;

pub use analysis::Analysis;

use jiff::SignedDuration;

use crate::api::canaryrollout::WebhookGate;
use crate::evidence::{Asked, Judgement, Share, Verdict, shared_alpha};
use crate::signals::GateReply;

/// By what a canary is judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Standard {
    /// What is compared, in the order in which it is asked for.
    pub metrics: Vec<Metric>,
    /// How long a pod must be Ready before it counts.
    pub warmup: SignedDuration,
    /// Time between looks.
    pub interval: SignedDuration,
    /// Chance of a false alarm over the whole comparison, all metrics together.
    pub false_alarm: f64,
    /// Number of steps, each with a weight of its own, in which two arms are compared; at least 1.
    pub steps: u32,
}

/// A metric that is compared. Shares are of requests, 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// The increase that is let pass.
    pub max_increase: f64,
    /// The absolute limit, if there is one.
    pub limit: Option<f64>,
    /// Whether what it counts is shared as requests are, so that it tells how they are shared.
    pub counts_requests: bool,
    /// Whether it may count sums over pods that come and go, as queries of a service's own do.
    pub sums: bool,
    /// Whether more of it only asks for a person: it neither fails the canary nor is waited for.
    pub asks: bool,
    /// Whether nobody asked for it by name, so that it holds up nothing where it cannot be counted at all.
    pub optional: bool,
}

/// The part of the chance of a false alarm that falls on each metric that judges, or on each that only `asks`: what takes
/// nothing back takes no part of the chance that a good canary is rolled back.
pub fn alpha(false_alarm: f64, metrics: &[Metric], asks: bool) -> f64 {
    shared_alpha(false_alarm, metrics.iter().filter(|metric| metric.asks == asks).count())
}

/// Which two arms are compared, and at which weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// The attempt: its evidence starts from nothing.
    pub attempt: i64,
    /// The weight in percent: a new one begins a new step of the evidence.
    pub weight: i32,
    /// The weight that a Pass lets it go on to, in percent.
    pub next: i32,
    /// What it is compared with: another one begins anew.
    pub beside: String,
    /// How the requests of both are to be shared, where anybody can say.
    pub share: Option<Asked>,
    /// Whether it has callers of its own, whose requests say nothing of the canary's.
    pub others: bool,
}

/// What is asked beside counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// A query of the source.
    Query(String),
    /// A web server.
    Webhook(WebhookGate),
}

/// What the evidence says, and of what. Evidence of another attempt is void.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// The attempt that it speaks of.
    pub attempt: i64,
    /// The weight that it speaks of: a Pass counts for this weight alone.
    pub weight: i32,
    /// The weight that a Pass lets it go on to, in percent.
    pub next: i32,
    /// The judgement on each metric.
    pub judgements: Vec<(String, Judgement)>,
    /// Those of the metrics that ask for a person which found more of what they count.
    pub doubts: Vec<(String, Judgement)>,
    /// The canary's share of the requests, as they were counted.
    pub share: Share,
}

impl Evidence {
    /// Whether the canary is found to be worse by any metric.
    pub fn fails(&self) -> bool {
        self.judgements.iter().any(|(_, judgement)| judgement.verdict == Verdict::Fail)
    }
}

/// What a gate answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateAnswer {
    /// Its place among those that are asked.
    pub gate: usize,
    /// What it says.
    pub answer: GateReply,
}
