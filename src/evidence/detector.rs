//! The detector of one metric: what a canary's decision asks.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::confseq::ConfidenceSequence;
use super::dispersion::{Dispersion, PodCounts, Temper};
use super::eprocess::{EProcess, Starts, Tally};
use super::outage::{AbsoluteLimit, LimitState, OutageWatch, Phase};
use super::verdict::{Arm, Judgement, Missing, Needed, Numbers, Reason, Verdict};
use super::wire;

/// The least number of requests, of both arms together, that a look is judged on: shorter ones are put together, since a look
/// tells about one request's worth less than it has, and one in which an arm has none tells nothing.
const LEAST_REQUESTS: u64 = 20;

/// How many times stable's rate the canary must fail at to be failed while stable itself is in an outage.
const OUTAGE_TIMES: f64 = 3.0;

/// What is asked of the evidence, for one metric.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// The increase of the bad rate over stable's that is let pass, as a share of requests (0.005 for half a percentage point).
    #[serde(with = "wire::float")]
    pub max_increase: f64,
    /// The chance, over the whole rollout, that a canary as good as stable is failed on this metric. See [`shared_alpha`].
    #[serde(with = "wire::float")]
    pub false_alarm: f64,
    /// The number of steps with a comparison that the rollout will have, at least 1.
    pub steps: u32,
    /// The least length of a look in seconds: the source's sampling interval. Shorter looks are put together. 0 where looks are exact,
    /// as with counters of one process. A look is also at least twice as long as its arms are read apart (see [`Look::apart`]).
    #[serde(with = "wire::float")]
    pub look_seconds: f64,
    /// A limit on the canary's own bad rate, as a share of requests, if there is one.
    #[serde(with = "wire::maybe")]
    pub absolute_limit: Option<f64>,
    /// The window of the absolute limit in seconds.
    #[serde(with = "wire::float")]
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

    /// How many requests of both arms a Pass needs in a step of so much weight (a share of requests, in (0, 1)), if both arms
    /// fail at `base_rate`. For warnings before a rollout; `None` if no number up to 10^12 is enough.
    pub fn requests_to_pass(&self, base_rate: f64, weight: f64) -> Option<u64> {
        let weight = weight.clamp(1e-6, 1.0 - 1e-6);
        ConfidenceSequence::new(self.false_alarm)
            .requests_until_under(self.max_increase, base_rate, base_rate, weight / (1.0 - weight), 1.0)
            .map(|canary| (canary as f64 / weight).ceil() as u64)
    }
}

/// The part of a rollout's false-alarm chance that falls on each of so many metrics.
pub fn shared_alpha(false_alarm: f64, metrics: usize) -> f64 {
    false_alarm / metrics.max(1) as f64
}

/// What was counted in one look.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Look<'a> {
    /// Both arms' requests and bad ones.
    pub tally: Tally,
    /// Stable's part of it by pod; empty where only its sum is known.
    pub stable_pods: &'a [PodCounts],
    /// The length of the look in seconds.
    pub seconds: f64,
    /// By how much the arms were read apart, in seconds. Where something happens to both in this time, only one of them shows it
    /// yet; in looks of twice that length, such a difference fills one look at most, and one look alone decides nothing.
    pub apart: f64,
    /// The chance with which each request was sent to the canary, where every request is drawn for itself by a known weight.
    /// `None`, the usual case, takes the share from the counts, which is right with sticky sessions and pooled connections too.
    pub routed_share: Option<f64>,
}

/// The detector of one metric for one rollout. Pure: a state and looks in, judgements out. A new template needs a new one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detector {
    policy: Policy,
    rollout: EProcess,
    step: ConfidenceSequence,
    dispersion: Dispersion,
    outage: OutageWatch,
    phase: Phase,
    /// The latest look within an outage: it counts once the next one is within it too. The look in which stable leaves the outage
    /// cannot be told before, and read at slightly different times the arms leave it in different looks.
    held: Option<Tally>,
    limit: Option<AbsoluteLimit>,
    /// What has been seen but is not yet enough for a look.
    pending: Tally,
    pending_pods: Vec<PodCounts>,
    #[serde(with = "wire::float")]
    pending_seconds: f64,
    /// The least length of the next look, where it is shorter than the policy's.
    #[serde(with = "wire::maybe")]
    hastened: Option<f64>,
    /// The tally of this step, with what is pending and what an outage left out of the comparison.
    seen: Tally,
    #[serde(with = "wire::float")]
    seconds: f64,
}

impl Detector {
    /// A detector that has seen nothing. Refuses a policy that cannot be.
    pub fn new(policy: Policy) -> Result<Detector, PolicyError> {
        policy.check()?;
        Ok(Detector {
            rollout: EProcess::new(policy.false_alarm, Starts::StepsAndWithin(policy.steps)),
            step: ConfidenceSequence::new(policy.false_alarm),
            dispersion: Dispersion::default(),
            outage: OutageWatch::default(),
            phase: Phase::Calm,
            held: None,
            limit: new_limit(&policy),
            pending: Tally::default(),
            pending_pods: Vec::new(),
            pending_seconds: 0.0,
            hastened: None,
            seen: Tally::default(),
            seconds: 0.0,
            policy,
        })
    }

    /// Takes over what an earlier rollout of the same service measured of stable's dispersion.
    pub fn with_dispersion(mut self, mut dispersion: Dispersion) -> Detector {
        dispersion.carry_over();
        self.dispersion = dispersion;
        self
    }

    /// The dispersion as measured so far, to be kept for the next rollout.
    pub fn dispersion(&self) -> &Dispersion {
        &self.dispersion
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The evidence over the whole rollout.
    pub fn evidence(&self) -> &EProcess {
        &self.rollout
    }

    /// The confidence sequence of this step.
    pub fn interval(&self) -> &ConfidenceSequence {
        &self.step
    }

    /// A look at stable alone, before the canary has traffic: it measures how stable's errors scatter.
    pub fn before(&mut self, stable_pods: &[PodCounts], seconds: f64) {
        let (requests, bad) = sum(stable_pods);
        self.observe_stable(requests, bad, stable_pods, seconds);
    }

    /// A new step begins: Pass will be judged on what is seen from here on; the evidence against the canary goes on, with a
    /// start for this step.
    pub fn begin_step(&mut self) {
        self.rollout.begin_step();
        self.step = ConfidenceSequence::new(self.policy.false_alarm);
        self.limit = new_limit(&self.policy);
        self.held = None;
        self.seen = Tally::default();
        self.seconds = 0.0;
        self.pending = Tally::default();
        self.pending_pods.clear();
        self.pending_seconds = 0.0;
        self.hastened = None;
    }

    /// Whether a look would have failed the canary, were it not one alone: then the next is worth taking soon.
    pub fn asks_for_another(&self) -> bool {
        let increase = self.rollout.since_start().increase();
        self.rollout.asks_for_another()
            && increase.is_some_and(|increase| increase > self.policy.max_increase)
    }

    /// The next look may be as short as this, in seconds.
    pub fn hasten(&mut self, seconds: f64) {
        self.hastened = Some(seconds);
    }

    /// Takes in one look and judges.
    pub fn look(&mut self, look: Look<'_>) -> Judgement {
        if !self.take(look) {
            return self.insufficient(Reason::ImpossibleNumbers);
        }
        self.judge()
    }

    /// Takes in one look without judging: for many looks at once. Returns whether its numbers can be; if not, it was left out.
    pub fn take(&mut self, look: Look<'_>) -> bool {
        let tally = look.tally;
        let routed = look.routed_share.filter(|share| *share > 0.0 && *share < 1.0);
        if tally.canary_bad > tally.canary_requests
            || tally.stable_bad > tally.stable_requests
            || !(look.seconds >= 0.0 && look.seconds.is_finite())
            || !(look.apart >= 0.0 && look.apart.is_finite())
            || look.routed_share.is_some() != routed.is_some()
            || look.stable_pods.iter().any(|pod| pod.bad > pod.requests)
        {
            return false;
        }
        self.seen = self.seen.plus(tally);
        self.seconds += look.seconds;
        if let Some(limit) = &mut self.limit {
            limit.look(tally, look.seconds);
        }
        if let Some(share) = routed {
            let temper = self.temper(look.seconds);
            self.rollout.look(tally, share, temper);
        }
        let least = self.hastened.unwrap_or(self.policy.look_seconds).max(2.0 * look.apart);
        if self.pending.requests() == 0
            && tally.requests() >= LEAST_REQUESTS
            && tally.canary_requests > 0
            && tally.stable_requests > 0
            && look.seconds + self.pending_seconds >= least
        {
            self.pending_seconds = 0.0;
            self.close(tally, look.stable_pods, look.seconds, routed.is_none());
            return true;
        }
        self.pending = self.pending.plus(tally);
        self.pending_seconds += look.seconds;
        for pod in look.stable_pods {
            match self.pending_pods.iter_mut().find(|held| held.pod == pod.pod) {
                Some(held) => {
                    held.requests = held.requests.saturating_add(pod.requests);
                    held.bad = held.bad.saturating_add(pod.bad);
                }
                None => self.pending_pods.push(*pod),
            }
        }
        let ripe = self.pending.requests() >= LEAST_REQUESTS
            && self.pending.canary_requests > 0
            && self.pending.stable_requests > 0
            && self.pending_seconds >= least;
        if ripe {
            let tally = std::mem::take(&mut self.pending);
            let seconds = std::mem::take(&mut self.pending_seconds);
            let mut pods = std::mem::take(&mut self.pending_pods);
            self.close(tally, &pods, seconds, routed.is_none());
            pods.clear();
            self.pending_pods = pods;
        }
        true
    }

    /// A look that is large and long enough to be judged on.
    fn close(&mut self, tally: Tally, pods: &[PodCounts], seconds: f64, counted: bool) {
        self.hastened = None;
        // As known before this look.
        let (temper, whole) = (self.temper(seconds), self.dispersion.phi_with_bursts());
        self.observe_stable(tally.stable_requests, tally.stable_bad, pods, seconds);
        let tally = match self.phase {
            Phase::Calm => tally,
            Phase::Edge => {
                self.held = None;
                return;
            }
            Phase::Within => match self.held.replace(tally) {
                Some(before) => before,
                None => return,
            },
        };
        if let (true, Some(share)) = (counted, tally.share()) {
            self.rollout.look(tally, share, temper);
        }
        self.step.look(tally, whole);
    }

    fn temper(&self, seconds: f64) -> Temper {
        self.dispersion.temper(self.policy.false_alarm, seconds)
    }

    fn observe_stable(&mut self, requests: u64, bad: u64, pods: &[PodCounts], seconds: f64) {
        let phi = self.dispersion.phi();
        self.phase = self.outage.look(requests, bad, pods, seconds, phi);
        if self.phase != Phase::Calm {
            self.dispersion.skip();
            return;
        }
        if pods.is_empty() {
            let pod = 0;
            self.dispersion.look(&[PodCounts { pod, requests, bad }], seconds);
        } else {
            self.dispersion.look(pods, seconds);
        }
    }

    /// Judges what has been seen so far.
    pub fn judge(&self) -> Judgement {
        let (verdict, reason) = self.decide();
        let numbers = self.numbers(verdict);
        Judgement { verdict, reason, numbers }
    }

    /// The verdict and its reason alone, without the numbers, which cost more.
    pub fn decide(&self) -> (Verdict, Reason) {
        let recent = self.rollout.since_start().increase();
        let over = recent.is_some_and(|increase| increase > self.policy.max_increase);
        if self.rollout.crossed() && over && (self.phase == Phase::Calm || self.far_worse()) {
            return (Verdict::Fail, Reason::Worse);
        }
        let hold = |reason| (Verdict::Insufficient, reason);
        if let Some(limit) = &self.limit {
            match limit.state() {
                LimitState::Kept => {}
                LimitState::Broken => {
                    return (Verdict::Fail, Reason::OverAbsoluteLimit(limit.rate()));
                }
                LimitState::BrokenByBoth => {
                    return hold(Reason::BothOverAbsoluteLimit(limit.rate()));
                }
            }
        }
        if self.phase != Phase::Calm {
            return hold(Reason::SharedOutage);
        }
        match (self.seen.canary_requests, self.seen.stable_requests) {
            (0, 0) => return hold(Reason::NothingSeen),
            (0, _) => return hold(Reason::NoRequests(Arm::Canary)),
            (_, 0) => return hold(Reason::NoRequests(Arm::Stable)),
            _ => {}
        }
        if !self.step.under(self.policy.max_increase) {
            return hold(Reason::TooFewRequests);
        }
        // Halfway to its limit, on the logarithmic scale, and by more than is let pass: not the moment to go on.
        if over && self.rollout.evidence().powi(2) >= self.rollout.limit() {
            return hold(Reason::TurningWorse);
        }
        (Verdict::Pass, Reason::WithinLimit)
    }

    /// The source gives no answer, or a stale one.
    pub fn provider_down(&self, missing: Missing) -> Judgement {
        Judgement {
            verdict: Verdict::ProviderDown,
            reason: Reason::Missing(missing),
            numbers: self.numbers(Verdict::ProviderDown),
        }
    }

    /// The source counts requests that are not shared by chance, and cannot tell them apart.
    pub fn not_comparable(&self) -> Judgement {
        self.insufficient(Reason::TrafficNotComparable)
    }

    fn insufficient(&self, reason: Reason) -> Judgement {
        let verdict = Verdict::Insufficient;
        Judgement { verdict, reason, numbers: self.numbers(verdict) }
    }

    fn far_worse(&self) -> bool {
        let recent = self.rollout.since_start();
        match (recent.canary_rate(), recent.stable_rate()) {
            (Some(canary), Some(stable)) => canary >= OUTAGE_TIMES * stable,
            _ => false,
        }
    }

    fn numbers(&self, verdict: Verdict) -> Numbers {
        Numbers {
            step: self.seen,
            estimate: self.step.tally().increase(),
            interval: (self.step.lower(), self.step.upper()),
            recent_estimate: self.rollout.since_start().increase(),
            evidence: self.rollout.peak(),
            limit: self.rollout.limit(),
            dispersion: self.dispersion.phi(),
            needed: matches!(verdict, Verdict::Insufficient | Verdict::ProviderDown)
                .then(|| self.needed())
                .flatten(),
        }
    }

    fn needed(&self) -> Option<Needed> {
        let tally = self.step.tally();
        let (canary, stable) = (tally.canary_rate()?, tally.stable_rate()?);
        let ratio = tally.canary_requests as f64 / tally.stable_requests as f64;
        let (phi, whole) = (self.dispersion.phi(), self.dispersion.phi_with_bursts());
        let (toward, requests) = if canary - stable > self.policy.max_increase {
            let requests = self.rollout.requests_until_limit(canary, stable, ratio, phi);
            (Verdict::Fail, requests)
        } else {
            let limit = self.policy.max_increase;
            let requests = self.step.requests_until_under(limit, canary, stable, ratio, whole);
            (Verdict::Pass, requests)
        };
        let requests = (requests? as f64 * (1.0 + 1.0 / ratio)).ceil();
        let rate = self.seen.requests() as f64 / self.seconds;
        let seconds = (rate > 0.0 && rate.is_finite()).then(|| requests / rate);
        Some(Needed { toward, requests: requests as u64, seconds })
    }
}

fn new_limit(policy: &Policy) -> Option<AbsoluteLimit> {
    policy.absolute_limit.map(|rate| AbsoluteLimit::new(rate, policy.absolute_window))
}

fn sum(pods: &[PodCounts]) -> (u64, u64) {
    pods.iter()
        .fold((0u64, 0u64), |sum, pod| (sum.0.saturating_add(pod.requests), sum.1.saturating_add(pod.bad)))
}
