//! What is asked of the evidence.

use std::fmt;

use super::confseq::ConfidenceSequence;

/// What is asked of the evidence, for one metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// The increase of the bad rate over stable's that is let pass, as a share of requests (0.005 for half a percentage point).
    pub max_increase: f64,
    /// The chance, over the whole rollout, that a canary as good as stable is failed on this metric. See [`shared_alpha`].
    pub false_alarm: f64,
    /// The number of steps with a comparison that the rollout will have, at least 1.
    pub steps: u32,
    /// The least length of a look in seconds: the source's sampling interval. Shorter looks are put together. 0 where looks are exact,
    /// as with counters of one process. A look is also at least twice as long as its arms are read apart (see [`Look::apart`]).
    pub look_seconds: f64,
    /// A limit on the canary's own bad rate, as a share of requests, if there is one.
    pub absolute_limit: Option<f64>,
    /// The window of the absolute limit in seconds.
    pub absolute_window: f64,
}

/// What is wrong with a policy: the field and the remedy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PolicyError {
    /// `maxIncrease` is not in (0, 1].
    MaxIncrease(f64),
    /// `falseAlarm` is not in [1e-6, 0.5].
    FalseAlarm(f64),
    /// There are no steps.
    Steps,
    /// The look is not a number of seconds from 0 to 3600.
    LookSeconds(f64),
    /// The absolute limit is not in (0, 1), or its window is not positive.
    AbsoluteLimit(f64),
}

impl fmt::Display for PolicyError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PolicyError::MaxIncrease(value) => write!(
                out,
                "maxIncrease must be over 0 and at most 100 percentage points; it is {}",
                value * 100.0
            ),
            PolicyError::FalseAlarm(value) => {
                write!(out, "falseAlarm must lie between 0.000001 and 0.5; it is {value}; 0.01 is usual")
            }
            PolicyError::Steps => {
                out.write_str("steps must contain at least one weight under 100, else nothing is compared")
            }
            PolicyError::LookSeconds(value) => {
                write!(out, "the sampling interval must lie between 0 and 3600 s; it is {value}")
            }
            PolicyError::AbsoluteLimit(value) => write!(
                out,
                "the absolute limit must lie between 0 and 100 %, without either, over a window of more than 0 s; it is {} %",
                value * 100.0
            ),
        }
    }
}

impl std::error::Error for PolicyError {}

impl Policy {
    /// A policy for one metric without an absolute limit, whose looks are taken as they come.
    pub fn new(max_increase: f64, false_alarm: f64, steps: u32) -> Policy {
        Policy {
            max_increase,
            false_alarm,
            steps,
            look_seconds: 0.0,
            absolute_limit: None,
            absolute_window: 60.0,
        }
    }

    /// Whether it can be: each field in its range.
    pub fn check(&self) -> Result<(), PolicyError> {
        if !(self.max_increase > 0.0 && self.max_increase <= 1.0) {
            return Err(PolicyError::MaxIncrease(self.max_increase));
        }
        if !(1e-6..=0.5).contains(&self.false_alarm) {
            return Err(PolicyError::FalseAlarm(self.false_alarm));
        }
        if self.steps == 0 {
            return Err(PolicyError::Steps);
        }
        if !(0.0..=3600.0).contains(&self.look_seconds) {
            return Err(PolicyError::LookSeconds(self.look_seconds));
        }
        match self.absolute_limit {
            Some(limit) if !(limit > 0.0 && limit < 1.0 && self.absolute_window > 0.0) => {
                Err(PolicyError::AbsoluteLimit(limit))
            }
            _ => Ok(()),
        }
    }

    /// The increase that a Pass must refute where the canary has that share of the requests next: it then adds at most
    /// `max_increase` to the bad rate of all requests together.
    pub fn margin(&self, next: f64) -> f64 {
        (self.max_increase / next.clamp(0.01, 1.0)).min(1.0)
    }

    /// How many requests of both arms a Pass needs in a step of so much weight (a share of requests, in (0, 1)) before one of
    /// weight `next`, if both arms fail at `base_rate`. `None` if no number up to 10^12 is enough.
    pub fn requests_to_pass(&self, base_rate: f64, weight: f64, next: f64) -> Option<u64> {
        self.requests_until_pass([base_rate, base_rate], weight, next)
    }

    /// The same where the arms fail at the rates given, the canary's first; `None` also if such a canary does not pass.
    pub fn requests_until_pass(&self, [canary, stable]: [f64; 2], weight: f64, next: f64) -> Option<u64> {
        let weight = weight.clamp(1e-6, 1.0 - 1e-6);
        ConfidenceSequence::new(self.false_alarm)
            .requests_until_under(self.margin(next), canary, stable, weight / (1.0 - weight), 1.0)
            .map(|canary| (canary as f64 / weight).ceil() as u64)
    }
}

/// The part of a rollout's false-alarm chance that falls on each of so many metrics.
pub fn shared_alpha(false_alarm: f64, metrics: usize) -> f64 {
    false_alarm / metrics.max(1) as f64
}
