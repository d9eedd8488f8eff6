//! The e-process against "the canary is no worse than stable".
//!
//! # One look
//! In a look, the arms answer `n_c` and `n_s` requests, of which `b_c` and `b_s` are bad. Given the totals, and
//! with equal rates, `b_c` is hypergeometric; with the canary better than stable it is stochastically smaller.
//! For an odds ratio θ > 1 and the canary's share of the look's requests `p = n_c / (n_c + n_s)`, the look's factor
//! is the likelihood ratio of the binomial
//!
//! ```text
//! f_θ = θ^b_c / (1 + p (θ − 1))^(b_c + b_s)
//! ```
//!
//! Its mean is 1 under the binomial, and no larger under the hypergeometric, since an exponential of a draw without
//! replacement has no larger mean than with replacement (Hoeffding 1963, *Probability inequalities for sums of bounded
//! random variables*, theorem 4). So a product of such factors is a test supermartingale, and by Ville's inequality it
//! ever reaches 1/α with chance at most α, however often one looks (Lindon & Sanden 2022, *Anytime-Valid Inference for
//! Multinomial Count Data*; Ramdas, Grünwald, Vovk & Shafer 2023, *Game-theoretic statistics and safe anytime-valid
//! inference*).
//!
//! Two things are done to each factor, and both keep its mean at or under 1: it is raised to `1/φ`, φ ≥ 1 known before
//! the look (Jensen), and it is cut off at what is known before it as well, so that no single look can decide: half of the way
//! from where the odds ratio's mass stood (now or a look ago, whichever is lower) to 1/α. So two looks can decide, also after
//! a good past has made the mass small. Where stable's pods have blips, or are not known yet, it is cut off lower (see [`Temper`]).
//!
//! # Odds ratios and starting times
//! Nobody knows θ, nor when the canary turns bad. The process is a mixture over a log-uniform grid of 40 odds ratios and
//! over starting times, whose weights add up to one: what has not begun yet counts as 1 (Shin, Ramdas & Rinaldo 2023,
//! *E-detectors*). A good third of the weight starts at the steps, in equal parts; the rest starts bit by bit, on a clock
//! that counts bad events (divided by φ), since between bad events the factors are 1 and a start there is the same start.
//! For one θ all starts share every later factor, so their sum obeys one recursion, `mass ← (mass + new) · f`, and the
//! state stays at one number per θ however many starts there are.
//!
//! Masses are kept as plain numbers and not as logarithms: one that falls under 1e-290 is dropped (which only loses
//! evidence), one over 1e290 stays there (which has long been decided); a factor is made from its logarithm.

use super::confseq::first_crossing;
use super::dispersion::Temper;
use super::tally::Tally;

/// The number of odds ratios in the mixture.
pub const ODDS: usize = 40;

/// The smallest odds ratio of the grid.
pub const SMALLEST_ODDS: f64 = 1.25;

/// The largest odds ratio of the grid. A canary that is worse still is found by it as fast as the cap allows.
pub const LARGEST_ODDS: f64 = 32.0;

/// The part of the weight that starts at the steps; the rest starts within them.
const AT_STEPS: f64 = 0.36;

/// The clock at which the even part of the starts within steps ends, in bad events.
const EVEN_UNTIL: f64 = 131_072.0;

/// The clock at which the logarithmic part of the starts within steps gives way to its thin tail, in bad events.
const TAIL_FROM: f64 = 1_048_576.0;

/// How the weight of the mixture is spread over starting times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Starts {
    /// All of it at the first step: the plain mixture, which a good past can blind.
    One,
    /// A good third of it at the steps, of which there will be so many, in equal parts; the rest within them.
    StepsAndWithin(
        /// The number of steps, at least 1. Steps after these get no start of their own.
        u32,
    ),
}

/// The e-process. See the module for what it computes.
#[derive(Clone, Debug, PartialEq)]
pub struct EProcess {
    starts: Starts,
    alpha: f64,
    /// For each odds ratio, the sum over the starts so far of weight times value.
    mass: [f64; ODDS],
    /// For each odds ratio, the tally at its starts, averaged by what each start is worth now: the differences to the
    /// present tally are the requests that the evidence speaks of.
    origin_canary_requests: [f64; ODDS],
    origin_canary_bad: [f64; ODDS],
    origin_stable_requests: [f64; ODDS],
    origin_stable_bad: [f64; ODDS],
    /// The weight that has not started yet.
    reserve: f64,
    /// Steps begun.
    steps: u32,
    /// Bad events so far, each divided by the φ of its look.
    clock: f64,
    /// The part of the weight for starts within steps that has been given out.
    given: f64,
    tally: Tally,
    peak: f64,
    /// The masses as they were before the latest look: what the two-look rule measures from.
    before: [f64; ODDS],
    /// The tally before the latest look that was cut off for being one alone, while each look since has added to the evidence.
    striking: Option<Tally>,
    /// Whether more looks of this kind would decide soon: nothing else makes them wait.
    pressing: bool,
    /// The grid, and what depends on the share alone, for looks that repeat it.
    grid: Grid,
}

#[derive(Clone, Debug)]
struct Grid {
    log_odds: [f64; ODDS],
    /// θ − 1.
    excess: [f64; ODDS],
    /// ln(1 + p (θ − 1)) for `share`.
    penalty: [f64; ODDS],
    share: f64,
}

impl PartialEq for Grid {
    /// A cache is not part of the state.
    fn eq(&self, _: &Grid) -> bool {
        true
    }
}

impl Grid {
    fn new() -> Grid {
        let (low, high) = (SMALLEST_ODDS.ln(), LARGEST_ODDS.ln());
        let mut log_odds = [0.0; ODDS];
        for (index, value) in log_odds.iter_mut().enumerate() {
            *value = low + (high - low) * index as f64 / (ODDS - 1) as f64;
        }
        Grid { log_odds, excess: log_odds.map(f64::exp_m1), penalty: [0.0; ODDS], share: 0.0 }
    }

    fn set(&mut self, share: f64) {
        if self.share != share {
            self.share = share;
            for (penalty, excess) in self.penalty.iter_mut().zip(&self.excess) {
                *penalty = (share * excess).ln_1p();
            }
        }
    }
}

impl EProcess {
    /// A process that has seen nothing, for a limit of 1/`alpha`. `alpha` is taken into [1e-9, 0.5].
    pub fn new(alpha: f64, starts: Starts) -> EProcess {
        EProcess {
            starts,
            alpha: if alpha.is_finite() { alpha.clamp(1e-9, 0.5) } else { 1e-9 },
            mass: [0.0; ODDS],
            origin_canary_requests: [0.0; ODDS],
            origin_canary_bad: [0.0; ODDS],
            origin_stable_requests: [0.0; ODDS],
            origin_stable_bad: [0.0; ODDS],
            reserve: 1.0,
            steps: 0,
            clock: 0.0,
            given: 0.0,
            tally: Tally::default(),
            peak: 1.0,
            before: [0.0; ODDS],
            striking: None,
            pressing: false,
            grid: Grid::new(),
        }
    }

    /// A start for a new step.
    pub fn begin_step(&mut self) {
        let weight = match self.starts {
            Starts::One if self.steps == 0 => 1.0,
            Starts::StepsAndWithin(steps) if self.steps < steps.max(1) => AT_STEPS / f64::from(steps.max(1)),
            _ => 0.0,
        };
        self.steps = self.steps.saturating_add(1);
        self.start(weight);
    }

    /// Takes in one look. `share` is the chance that a request of this look falls on the canary, in (0, 1); outside of
    /// it the look says nothing about the canary and changes only the tally. `temper` says how far the look is believed, as known before
    /// it.
    pub fn look(&mut self, seen: Tally, share: f64, temper: Temper) {
        let bad = seen.canary_bad as f64 + seen.stable_bad as f64;
        let (mut striking, mut free, mut grew) = (false, false, false);
        if bad > 0.0 && share > 0.0 && share < 1.0 {
            self.start_within();
            // NaN falls to the careful side.
            let phi = temper.phi.clamp(1.0, 1e6);
            let phi = if phi.is_nan() { 1e6 } else { phi };
            let canary = seen.canary_bad as f64;
            self.grid.set(share);
            let held: f64 = self.reserve + self.mass.iter().sum::<f64>();
            let mut total = self.reserve;
            for (index, mass) in self.mass.iter_mut().enumerate() {
                let log = canary * self.grid.log_odds[index] - bad * self.grid.penalty[index];
                let from = mass.min(self.before[index]);
                self.before[index] = *mass;
                let most = half_way(from, self.alpha);
                striking |= log / phi >= most;
                free |= temper.cap >= most;
                let next = *mass * (log / phi).min(temper.cap).min(most).exp();
                *mass = if next < 1e-290 { 0.0 } else { next.min(1e290) };
                total += *mass;
            }
            self.clock += bad / phi;
            self.peak = self.peak.max(total);
            grew = total > held;
        } else {
            self.before = self.mass;
        }
        self.striking = match self.striking {
            Some(before) if grew => Some(before),
            _ => striking.then_some(self.tally),
        };
        self.pressing = free && self.striking.is_some();
        self.tally = self.tally.plus(seen);
    }

    /// The evidence now: under "no worse", its mean is at most 1 at any time.
    pub fn evidence(&self) -> f64 {
        self.reserve + self.mass.iter().sum::<f64>()
    }

    /// The most evidence there ever was. It reaches 1/α with chance at most α under "no worse".
    pub fn peak(&self) -> f64 {
        self.peak
    }

    /// The evidence at which a canary is called worse, 1/α.
    pub fn limit(&self) -> f64 {
        1.0 / self.alpha
    }

    /// Whether the evidence ever reached its limit.
    pub fn crossed(&self) -> bool {
        self.peak * self.alpha >= 1.0
    }

    /// All requests so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Whether a look was cut off for being one alone, and those since bear it out: the next ones decide, or take it back.
    pub fn asks_for_another(&self) -> bool {
        self.pressing && !self.crossed()
    }

    /// The requests that the evidence speaks of. After a turn these are the requests since the turn, so that a good past does not
    /// water the estimate: if a look was striking by itself, and each one since bears it out, these looks; else those since the
    /// start, the starts averaged by what the evidence says for each.
    pub fn since_start(&self) -> Tally {
        if let Some(before) = self.striking {
            return self.tally.minus(before);
        }
        let total: f64 = self.mass.iter().sum();
        if total <= 0.0 {
            return self.tally;
        }
        let now = self.tally.array();
        let mean = |origins: &[f64; ODDS], present: f64| {
            let sum: f64 = self.mass.iter().zip(origins).map(|(mass, origin)| mass / total * origin).sum();
            (present - sum).max(0.0).round() as u64
        };
        Tally {
            canary_requests: mean(&self.origin_canary_requests, now[0]),
            canary_bad: mean(&self.origin_canary_bad, now[1]),
            stable_requests: mean(&self.origin_stable_requests, now[2]),
            stable_bad: mean(&self.origin_stable_bad, now[3]),
        }
    }

    /// The canary's requests that are still needed until the evidence reaches its limit, if both arms fail at the rates given
    /// and stable answers `1 / ratio` requests for each of the canary's; `None` if that is not in sight.
    pub fn requests_until_limit(
        &self,
        canary_rate: f64,
        stable_rate: f64,
        ratio: f64,
        phi: f64,
    ) -> Option<u64> {
        let share = ratio / (1.0 + ratio);
        let bad = canary_rate + stable_rate / ratio;
        let grid = Grid::new();
        let growth: [f64; ODDS] = std::array::from_fn(|index| {
            let log = grid.log_odds[index];
            (canary_rate * log - bad * (share * log.exp_m1()).ln_1p()) / phi.max(1.0)
        });
        let start: [f64; ODDS] = std::array::from_fn(|index| self.mass[index].ln());
        first_crossing(&start, &growth, -self.alpha.ln())
    }

    /// Hands out the weight that the clock has made due since the last look.
    fn start_within(&mut self) {
        if let Starts::StepsAndWithin(_) = self.starts {
            let due = (1.0 - AT_STEPS) * due_by(self.clock);
            let new = due - self.given;
            if new > 0.0 {
                self.given = due;
                self.start(new);
            }
        }
    }

    fn start(&mut self, weight: f64) {
        let weight = weight.min(self.reserve);
        if weight <= 0.0 {
            return;
        }
        self.reserve -= weight;
        let each = weight / ODDS as f64;
        let now = self.tally.array();
        for index in 0..ODDS {
            let old = self.mass[index];
            let part = each / (old + each);
            self.mass[index] = old + each;
            // It was there before the look that follows, so that this one alone decides no more than any other.
            self.before[index] += each;
            let toward = |origin: &mut f64, present: f64| *origin += (present - *origin) * part;
            toward(&mut self.origin_canary_requests[index], now[0]);
            toward(&mut self.origin_canary_bad[index], now[1]);
            toward(&mut self.origin_stable_requests[index], now[2]);
            toward(&mut self.origin_stable_bad[index], now[3]);
        }
    }
}

/// The most that one look may add to a logarithm of a mass: half of what it had before it to 1/`alpha`. So two looks can
/// decide, from wherever the mass has come down to, and one alone cannot.
fn half_way(mass: f64, alpha: f64) -> f64 {
    0.5 * -(mass.clamp(1e-290, 1.0) * alpha).ln()
}

/// The part of the weight for starts within steps that is due by a clock, from 0 to 1: most of it evenly (for a turn late
/// in a long rollout), a third with the logarithm (for a turn after a few bad events), the rest in a tail without end.
fn due_by(clock: f64) -> f64 {
    let reach = TAIL_FROM.ln_1p();
    let even = 0.64 * (clock / EVEN_UNTIL).min(1.0);
    let logarithmic = 0.34 * (clock.min(TAIL_FROM).ln_1p() / reach);
    let tail = 0.02 * (1.0 - reach / clock.max(TAIL_FROM).ln_1p());
    even + logarithmic + tail
}
