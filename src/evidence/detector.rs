//! The detector of one metric: what a canary's decision asks.

use super::confseq::ConfidenceSequence;
use super::counters::Counters;
use super::dispersion::{Dispersion, PodCounts, Temper, add_to};
use super::eprocess::{EProcess, Starts};
use super::limit::{Absolute, AbsoluteLimit, LimitState};
use super::outage::{OutageWatch, Phase};
use super::policy::{Policy, PolicyError};
use super::tally::Tally;
use super::verdict::{Arm, Judgement, Missing, Needed, Numbers, Reason, Verdict};

/// The least number of requests, of both arms together, that a look is judged on: shorter ones are put together, since a look
/// tells about one request's worth less than it has, and one in which an arm has none tells nothing.
const LEAST_REQUESTS: u64 = 20;
/// The same of a look shorter than [`BRIEF`], unless it follows a bad one: enough for an outage of stable to show in it.
const LEAST_REQUESTS_BRIEF: u64 = 100;
/// In seconds.
const BRIEF: f64 = 1.0;

/// A look that has this part of its length is whole: readings come a moment early or late, so that every second look would be a
/// moment too short, and waiting for the next would make it twice as long.
const NEARLY: f64 = 0.9;

/// The least length in seconds of the look that follows a bad one. One bad look alone fails nobody, but there is no reason to
/// wait a whole interval for the next: two readings this far apart are not two halves of one hiccup.
pub const SECOND_LOOK: f64 = 0.25;

/// The looks at the end of an outage that say nothing. Read at different times the arms leave it in different looks, and as looks are
/// twice that time long, only the last two of stable's can be concerned.
const OUTAGE_END: usize = 2;

/// After so many seconds without a request there is no rate of now.
pub const QUIET: f64 = 60.0;

/// From so many of the canary's requests on it is told how many are missing: with fewer, not even their rate is known.
const FORECAST_REQUESTS: u64 = 30;
/// And from when the standard error of the increase is this part of how far it is from where no verdict would ever come. A forecast
/// goes with one over that distance squared: nearer than that, one bad request by chance makes days of minutes. From then on nine
/// in ten lie between a tenth of what it takes and four times that (measured in `a_forecast_is_told_once_it_is_one`).
const FORECAST_ERROR: f64 = 0.5;

/// How many times stable's rate the canary must fail at to be failed while stable itself is in an outage.
const OUTAGE_TIMES: f64 = 3.0;

/// How far on the way to its limit, on the logarithmic scale, the evidence against a canary is that is not to go on
/// with too few requests for a verdict: an e-value of three at α = 1 %.
const LEANING: f64 = 0.25;

/// What was counted in one look.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Look<'a> {
    /// Both arms' requests and bad ones.
    pub tally: Tally,
    /// Stable's part of it by pod; empty where only its sum is known.
    pub stable_pods: &'a [PodCounts],
    /// The length of the look in seconds; 0 where it is not known.
    pub seconds: f64,
    /// By how much the arms were read apart, in seconds. Where something happens to both in this time, only one of them shows it
    /// yet; in looks of twice that length, such a difference fills one look at most, and one look alone decides nothing.
    pub apart: f64,
    /// The chance with which each request was sent to the canary, where every request is drawn for itself by a known weight.
    /// `None`, the usual case, takes the share from the counts, which is right with sticky sessions and pooled connections too.
    pub routed_share: Option<f64>,
}

/// The detector of one metric for one rollout. Pure: a state and looks in, judgements out. A new template needs a new one.
#[derive(Clone, Debug, PartialEq)]
pub struct Detector {
    policy: Policy,
    rollout: EProcess,
    step: ConfidenceSequence,
    dispersion: Dispersion,
    outage: OutageWatch,
    phase: Phase,
    /// The latest looks within an outage: one counts once [`OUTAGE_END`] more are within it too, since its end cannot be told before.
    held: Vec<Tally>,
    /// Whether the next of these is the first in the outage: an arm that is read later may enter it there.
    entering: bool,
    /// What stood before the latest look, where the arms are read apart: if stable is in an outage in the next one, the arm that is
    /// read later may have shown it in that look already, and it is taken back.
    before: Option<Box<(EProcess, ConfidenceSequence)>>,
    limit: AbsoluteLimit,
    /// Whether nothing runs beside the canary.
    alone: bool,
    /// The canary's share of the requests once it has passed, from 0 to 1.
    next: f64,
    /// What has been seen but is not yet enough for a look.
    pending: Tally,
    pending_pods: Vec<PodCounts>,
    pending_seconds: f64,
    /// The least length of the next look, where it is shorter than the policy's.
    hastened: Option<f64>,
    /// The tally of this step, with what is pending and what an outage left out of the comparison.
    seen: Tally,
    seconds: f64,
    /// How long there has been no request of either arm, in seconds.
    quiet: f64,
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
            held: Vec::new(),
            entering: false,
            before: None,
            limit: AbsoluteLimit::new(policy.absolute_window),
            alone: false,
            next: 1.0,
            pending: Tally::default(),
            pending_pods: Vec::new(),
            pending_seconds: 0.0,
            hastened: None,
            seen: Tally::default(),
            seconds: 0.0,
            quiet: 0.0,
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

    /// A look at stable alone, before the canary has traffic: it measures how stable's errors scatter. Stable's pods are empty where
    /// only its sum is known.
    pub fn before(&mut self, tally: Tally, stable_pods: &[PodCounts], seconds: f64) {
        self.observe_stable(tally.stable_requests, tally.stable_bad, stable_pods, seconds);
    }

    /// A new step begins: Pass will be judged on what is seen from here on; the evidence against the canary goes on, with a
    /// start for this step.
    pub fn begin_step(&mut self) {
        self.alone = false;
        self.rollout.begin_step();
        self.step = ConfidenceSequence::new(self.policy.false_alarm);
        self.limit = AbsoluteLimit::new(self.policy.absolute_window);
        self.held.clear();
        self.before = None;
        self.seen = Tally::default();
        self.seconds = 0.0;
        self.pending = Tally::default();
        self.pending_pods.clear();
        self.pending_seconds = 0.0;
        self.hastened = None;
    }

    /// The same. Where nothing runs beside the canary in this step, only a limit can judge it, so there always is one.
    pub fn begin(&mut self, alone: bool) {
        self.begin_step();
        self.alone = alone;
    }

    /// Says which share of all requests the canary will have once it has passed in this step, from 0 to 1: what a Pass
    /// must refute is in proportion to the harm that it could do there. With nothing said it is all of them.
    pub fn moves_on_to(&mut self, share: f64) {
        self.next = if share.is_finite() { share.clamp(0.01, 1.0) } else { 1.0 };
    }

    /// The increase that a Pass must refute in this step.
    fn margin(&self) -> f64 {
        self.policy.margin(self.next)
    }

    /// The limit on the canary's own bad rate that is in force, if there is one.
    fn absolute(&self) -> Option<Absolute> {
        let Policy { absolute_limit, max_increase, .. } = self.policy;
        Absolute::in_force(absolute_limit, self.dispersion.usual_rate(), max_increase, self.alone)
    }

    /// What a Pass is judged on begins anew, in the same step: what was seen before was not of its weight. The evidence
    /// against the canary goes on.
    pub fn begin_interval(&mut self) {
        self.step = ConfidenceSequence::new(self.policy.false_alarm);
        self.seen = Tally::default();
        self.seconds = 0.0;
    }

    /// Whether a look would have failed the canary, were it not one alone: then the next is worth taking soon.
    pub fn asks_for_another(&self) -> bool {
        self.rollout.asks_for_another() && self.over()
    }

    /// The next look may be as short as this, in seconds.
    pub fn hasten(&mut self, seconds: f64) {
        self.hastened = Some(seconds);
    }

    /// If it asks for another look, ends the open one of its counters as soon as can be, after `least` seconds at the earliest.
    /// Returns in how many seconds it is worth asking for it; `None` where that is no sooner than usual.
    pub fn second_look(&mut self, counters: &mut Counters, least: f64) -> Option<f64> {
        let seconds = if self.asks_for_another() { counters.hasten(least)? } else { return None };
        self.hasten(least);
        Some(seconds)
    }

    /// Whether the increase that the evidence speaks of is more than is let pass.
    fn over(&self) -> bool {
        let increase = self.rollout.since_start().increase();
        increase.is_some_and(|increase| increase > self.policy.max_increase)
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
        self.quiet = if tally.requests() > 0 { 0.0 } else { self.quiet + look.seconds };
        self.limit.look(tally, look.seconds);
        if let Some(share) = routed {
            let temper = self.temper(look.seconds);
            self.rollout.look(tally, share, temper);
        }
        let length = self.pending_seconds + look.seconds;
        let least = (NEARLY * self.hastened.unwrap_or(self.policy.look_seconds)).max(2.0 * look.apart);
        let brief = length > 0.0 && length < NEARLY * BRIEF && self.hastened.is_none();
        let requests = if brief { LEAST_REQUESTS_BRIEF } else { LEAST_REQUESTS };
        let ripe = |tally: Tally| {
            length >= least
                && tally.requests() >= requests
                && tally.canary_requests > 0
                && tally.stable_requests > 0
        };
        if self.pending.requests() == 0 && ripe(tally) {
            self.pending_seconds = 0.0;
            self.close(look);
            return true;
        }
        self.pending = self.pending.plus(tally);
        self.pending_seconds = length;
        add_to(&mut self.pending_pods, look.stable_pods);
        if ripe(self.pending) {
            let tally = std::mem::take(&mut self.pending);
            let seconds = std::mem::take(&mut self.pending_seconds);
            let mut pods = std::mem::take(&mut self.pending_pods);
            self.close(Look { tally, stable_pods: &pods, seconds, ..look });
            pods.clear();
            self.pending_pods = pods;
        }
        true
    }

    /// A look that is large and long enough to be judged on.
    fn close(&mut self, look: Look<'_>) {
        self.hastened = None;
        // As known before this look.
        let mut temper = self.temper(look.seconds);
        if self.dispersion.is_no_blip(look.tally.canary_requests, look.tally.canary_bad) {
            temper.cap = f64::INFINITY;
        }
        let whole = self.dispersion.phi_with_bursts();
        let (requests, bad) = (look.tally.stable_requests, look.tally.stable_bad);
        self.observe_stable(requests, bad, look.stable_pods, look.seconds);
        let Some(tally) = self.sift(look) else { return };
        if let (None, Some(share)) = (look.routed_share, tally.share()) {
            self.rollout.look(tally, share, temper);
        }
        self.step.look(tally, whole);
    }

    /// The look that counts now, after this one has been seen: in an outage it is an earlier one, or none.
    fn sift(&mut self, look: Look<'_>) -> Option<Tally> {
        match self.phase {
            Phase::Calm => {
                let apart = look.apart >= SECOND_LOOK && look.routed_share.is_none();
                self.before = apart.then(|| Box::new((self.rollout.clone(), self.step.clone())));
                Some(look.tally)
            }
            Phase::Edge => {
                if let Some(before) = self.before.take() {
                    (self.rollout, self.step) = *before;
                }
                self.held.clear();
                self.entering = true;
                None
            }
            Phase::Within => {
                self.held.push(look.tally);
                if self.held.len() <= OUTAGE_END {
                    return None;
                }
                let oldest = self.held.remove(0);
                (!std::mem::take(&mut self.entering)).then_some(oldest)
            }
        }
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
        let over = self.over();
        if self.rollout.crossed() && over && (self.phase == Phase::Calm || self.far_worse()) {
            return (Verdict::Fail, Reason::Worse);
        }
        let hold = |reason| (Verdict::Insufficient, reason);
        if let Some(limit) = self.absolute() {
            match self.limit.state(limit.rate) {
                LimitState::Kept => {}
                LimitState::Broken => {
                    return (Verdict::Fail, Reason::OverAbsoluteLimit { limit, alone: self.alone });
                }
                LimitState::BrokenByBoth => {
                    return hold(Reason::BothOverAbsoluteLimit(limit.rate));
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
        let passes = self.step.under(self.margin());
        let leans = |share: f64| over && self.rollout.evidence() >= self.rollout.limit().powf(share);
        match passes {
            // Halfway to its limit, on the logarithmic scale, and by more than is let pass: not the moment to go on.
            true if leans(0.5) => hold(Reason::TurningWorse),
            true if self.next < 1.0 => {
                (Verdict::Pass, Reason::WithinHarm { margin: self.margin(), next: self.next })
            }
            true => (Verdict::Pass, Reason::WithinLimit),
            // Nothing speaks for it yet, so that less against it is enough.
            false if leans(LEANING) => hold(Reason::LeaningWorse),
            false => hold(Reason::TooFewRequests),
        }
    }

    /// The source gives no answer, or a stale one.
    pub fn provider_down(&self, missing: Missing) -> Judgement {
        Judgement {
            verdict: Verdict::ProviderDown,
            reason: Reason::Missing(missing),
            numbers: self.numbers(Verdict::ProviderDown),
        }
    }

    /// Requests are not shared as was asked for.
    pub fn other_share(&self, observed: f64, asked: f64) -> Judgement {
        let judgement = self.insufficient(Reason::OtherShare { observed, asked });
        // How many requests are missing for a verdict is not what it waits for.
        Judgement { numbers: Numbers { needed: None, ..judgement.numbers }, ..judgement }
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
            recent: self.limit.seen(),
            absolute: self.absolute(),
            evidence: self.rollout.peak(),
            limit: self.rollout.limit(),
            dispersion: self.dispersion.phi(),
            quiet: self.quiet,
            needed: matches!(verdict, Verdict::Insufficient | Verdict::ProviderDown)
                .then(|| self.needed())
                .flatten(),
        }
    }

    /// The standard error of the increase in this step. One bad request more than there were is reckoned with: none among few does
    /// not say that there are none.
    fn standard_error(&self) -> f64 {
        let tally = self.step.tally();
        let bad = (tally.canary_bad as f64) + (tally.stable_bad as f64) + 1.0;
        let rate = (bad / (tally.requests() as f64 + 2.0)).min(0.5);
        let each = |requests: u64| 1.0 / requests.max(1) as f64;
        let variance = rate * (1.0 - rate) * (each(tally.canary_requests) + each(tally.stable_requests));
        (variance * self.dispersion.phi()).sqrt()
    }

    fn needed(&self) -> Option<Needed> {
        let tally = self.step.tally();
        let (canary, stable) = (tally.canary_rate()?, tally.stable_rate()?);
        let ratio = tally.canary_requests as f64 / tally.stable_requests as f64;
        let (phi, whole) = (self.dispersion.phi(), self.dispersion.phi_with_bursts());
        let increase = canary - stable;
        let fails = || self.rollout.requests_until_limit(canary, stable, ratio, phi);
        let passes = || self.step.requests_until_under(self.margin(), canary, stable, ratio, whole);
        let fail = (increase > self.policy.max_increase).then(|| (Verdict::Fail, fails()));
        let pass = (increase <= self.margin()).then(|| (Verdict::Pass, passes()));
        // Between both, whichever comes first.
        let of = |(_, requests): &(Verdict, Option<u64>)| requests.unwrap_or(u64::MAX);
        let (toward, requests) = fail.into_iter().chain(pass).min_by_key(of)?;
        let far = if toward == Verdict::Fail { increase } else { self.margin() - increase };
        if tally.canary_requests < FORECAST_REQUESTS || self.standard_error() > FORECAST_ERROR * far {
            return None;
        }
        let requests = (requests? as f64 * (1.0 + 1.0 / ratio)).ceil();
        let rate = self.seen.requests() as f64 / self.seconds;
        // What came long ago is no rate of now.
        let known = rate > 0.0 && rate.is_finite() && self.quiet < QUIET;
        let seconds = known.then(|| requests / rate);
        Some(Needed { toward, requests: requests as u64, seconds })
    }
}
