//! The four verdicts, the numbers behind them, and the reasons in plain words.

use std::fmt;

use super::limit::Absolute;
use super::percent::Percent;

/// What the evidence says of a canary. No evidence is not good evidence: the last two neither promote nor roll back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// With the canary's next share of the requests the service as a whole is worse by less than the policy's `maxIncrease`,
    /// with the confidence asked for: at the last step, the canary itself is.
    Pass,
    /// Neither yet.
    Insufficient,
    /// There is no answer, or a stale one.
    ProviderDown,
    /// The canary is worse than stable, with the confidence asked for and by more than `maxIncrease`; or it breaks an absolute
    /// limit that stable keeps.
    Fail,
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Verdict::Pass => "Pass",
            Verdict::Insufficient => "Insufficient",
            Verdict::ProviderDown => "ProviderDown",
            Verdict::Fail => "Fail",
        })
    }
}

/// An arm of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arm {
    /// The new revision.
    Canary,
    /// The revision beside it.
    Stable,
}

impl fmt::Display for Arm {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Arm::Canary => "the canary",
            Arm::Stable => "stable",
        })
    }
}

/// Why a source gives no usable answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It did not answer; the words say how.
    NoAnswer(
        /// What happened, in a few words.
        String,
    ),
    /// It counts no request to the canary, which should have had about so many.
    NothingOfCanary(
        /// Requests that its weight would have given it.
        u64,
    ),
    /// Its newest sample is this many seconds old.
    Stale(
        /// The age of the newest sample in seconds.
        u32,
    ),
}

/// Why a verdict is what it is.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// Pass: the interval lies under `maxIncrease`.
    WithinLimit,
    /// Pass, before a step with less than all requests: the interval lies under an increase by which the whole service is
    /// worse by no more than `maxIncrease` there.
    WithinHarm {
        /// That increase.
        margin: f64,
        /// The canary's share of all requests at the next step.
        next: f64,
    },
    /// Fail: the evidence reached its limit, and the estimate is over `maxIncrease`.
    Worse,
    /// Fail: the canary breaks an absolute limit that stable keeps.
    OverAbsoluteLimit {
        /// The limit.
        limit: Absolute,
        /// Whether there was no stable that could keep it.
        alone: bool,
    },
    /// Insufficient: nothing has been seen in this step yet.
    NothingSeen,
    /// Insufficient: an arm has had no requests in this step.
    NoRequests(
        /// The arm.
        Arm,
    ),
    /// Insufficient: more requests are needed.
    TooFewRequests,
    /// Insufficient: more requests are needed, and those that came speak against the canary.
    LeaningWorse,
    /// Insufficient: requests are not shared as the weights say, so what is counted says nothing of this weight.
    OtherShare {
        /// The canary's share of the requests of both arms.
        observed: f64,
        /// The share that was asked for.
        asked: f64,
    },
    /// Insufficient: stable fails far more than usual, so the cause is probably shared.
    SharedOutage,
    /// Insufficient: both arms break the absolute limit.
    BothOverAbsoluteLimit(
        /// The limit, as a share of requests.
        f64,
    ),
    /// Insufficient: the step as a whole would pass, but what came last speaks against the canary.
    TurningWorse,
    /// Insufficient: the traffic contains requests that are not shared by chance (probes, scrapes, header-matched or mirrored
    /// ones) and cannot be told apart.
    TrafficNotComparable,
    /// Insufficient: a look had numbers that cannot be, and was left out.
    ImpossibleNumbers,
    /// ProviderDown.
    Missing(
        /// What is missing.
        Missing,
    ),
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::WithinLimit => out.write_str("the increase is under maxIncrease"),
            Reason::WithinHarm { margin, next } => write!(
                out,
                "the increase is under {}, so that at {} of all requests the service as a whole is worse by less than \
                 maxIncrease",
                Percent(*margin),
                Percent(*next)
            ),
            Reason::Worse => out.write_str("the canary is worse than stable by more than maxIncrease"),
            Reason::OverAbsoluteLimit { limit, alone: false } => {
                write!(out, "the canary's bad rate is over its absolute limit of {limit} while stable keeps it")
            }
            Reason::OverAbsoluteLimit { limit, alone: true } => write!(
                out,
                "its bad rate is over the limit of {limit}; nothing runs beside it, so what fails may be something else"
            ),
            Reason::NothingSeen => out.write_str("nothing has been seen in this step yet"),
            Reason::NoRequests(arm) => write!(
                out,
                "{arm} has had no requests in this step; check that the route sends it traffic"
            ),
            Reason::TooFewRequests => out.write_str("more requests are needed for a verdict"),
            Reason::LeaningWorse => out.write_str(
                "more requests are needed for a verdict, and those that came so far speak against the canary",
            ),
            Reason::OtherShare { observed, asked } => write!(
                out,
                "{} of the requests reach the canary, and {} were asked for",
                Percent(*observed),
                Percent(*asked)
            ),
            Reason::SharedOutage => out.write_str(
                "stable fails far more often than usual: probably an outage that both share, so nothing is decided",
            ),
            Reason::BothOverAbsoluteLimit(rate) => write!(
                out,
                "both the canary and stable are over the absolute limit of {}",
                Percent(*rate)
            ),
            Reason::TurningWorse => out.write_str(
                "the step as a whole would pass, but the latest requests speak against the canary",
            ),
            Reason::TrafficNotComparable => out.write_str(
                "requests that are not shared by chance (probes, scrapes, matched or mirrored ones, callers that pass no \
                 gateway) cannot be told apart; use a source that counts routed requests only",
            ),
            Reason::ImpossibleNumbers => {
                out.write_str("the source gave more bad requests than requests; check its queries")
            }
            Reason::Missing(Missing::NoAnswer(how)) => {
                write!(out, "the metrics source does not answer: {how}")
            }
            Reason::Missing(Missing::NothingOfCanary(expected)) => write!(
                out,
                "no request to the canary is counted, where its weight would have given it about {expected}: either none \
                 reaches it, or its pods do not count them; look at the route, and at what its metrics port tells"
            ),
            Reason::Missing(Missing::Stale(age)) => {
                write!(out, "the newest sample is {age} s old")
            }
        }
    }
}

/// What a verdict still needs, if what was seen so far goes on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Needed {
    /// The verdict that it tends to.
    pub toward: Verdict,
    /// Requests of both arms together.
    pub requests: u64,
    /// The time for them at the rate of this step, in seconds; `None` while no rate is known.
    pub seconds: Option<f64>,
}

/// The numbers behind a verdict. All rates are shares of requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Numbers {
    /// What was seen in this step.
    pub step: super::Tally,
    /// Canary's rate minus stable's in this step; `None` while an arm has no requests.
    pub estimate: Option<f64>,
    /// The interval of the increase in this step: each end holds with the policy's α, at all times at once.
    pub interval: (f64, f64),
    /// The increase since the time at which the evidence sees its beginning; it is what a Fail asks to be over `maxIncrease`.
    pub recent_estimate: Option<f64>,
    /// What both arms counted of late in this step, in how many seconds: numbers to be found again on a dashboard.
    pub recent: (super::Tally, f64),
    /// The limit on the canary's own bad rate that is in force, if there is one.
    pub absolute: Option<Absolute>,
    /// The most evidence so far in this rollout that the canary is worse.
    pub evidence: f64,
    /// The evidence at which it is called worse, 1/α.
    pub limit: f64,
    /// φ: how much more stable's errors scatter than independent ones; at least 1.
    pub dispersion: f64,
    /// How long there has been no request of either arm, in seconds.
    pub quiet: f64,
    /// What a verdict still needs; `None` if there is one, if none is in sight, or while too few were counted to tell.
    pub needed: Option<Needed>,
}

/// A verdict with its reason and its numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// The numbers behind it.
    pub numbers: Numbers,
}

impl fmt::Display for Judgement {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.verdict, self.reason)?;
        let numbers = &self.numbers;
        if let Some(estimate) = numbers.estimate {
            write!(
                out,
                " ({} canary and {} stable requests, increase {}, at most {}, evidence {:.3} of {:.0})",
                numbers.step.canary_requests,
                numbers.step.stable_requests,
                Percent(estimate),
                Percent(numbers.interval.1),
                numbers.evidence,
                numbers.limit
            )?;
        }
        if let Some(needed) = &numbers.needed {
            write!(out, "; about {} more requests", needed.requests)?;
            if let Some(seconds) = needed.seconds {
                write!(out, ", {seconds:.0} s")?;
            }
            write!(out, " to {}", needed.toward)?;
        }
        Ok(())
    }
}

/// The verdict of several metrics together: one that fails is enough to fail, all must pass to pass; between, a source that is
/// down comes before evidence that is insufficient. `None` without metrics, which can decide nothing.
pub fn together(verdicts: impl IntoIterator<Item = Verdict>) -> Option<Verdict> {
    // The order of the variants is this order.
    verdicts.into_iter().max()
}
