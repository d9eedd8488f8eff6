//! A time-uniform confidence sequence for the difference of two bad rates, canary minus stable.
//!
//! Each end is the inversion of an e-process. Against "the canary's rate exceeds stable's by at least δ", a look with
//! `n_c`, `b_c`, `n_s`, `b_s` gives, for any λ > 0,
//!
//! ```text
//! exp(−λ b_c + κ b_s + n_c δ (1 − e^−λ)),    e^κ − 1 = (n_c / n_s) (1 − e^−λ)
//! ```
//!
//! whose mean is at most 1: a binomial's exponential moment is at most that of the Poisson of the same mean, so the mean's
//! logarithm is at most `−n_c r_c (1−e^−λ) + n_s r_s (e^κ−1) + n_c δ (1−e^−λ)`; κ is chosen so that stable's rate cancels,
//! and what is left is `n_c (1−e^−λ) (δ + r_s − r_c) ≤ 0`. The unknown base rate is gone, not estimated; κ follows the
//! request counts of each look, so weights may change at will. Against "by at most δ" the signs turn, with
//! `1 − e^−κ = (n_c / n_s) (e^λ − 1)`, for those λ for which that is under 1.
//!
//! The processes are mixed over a log-uniform grid of λ; each look's exponent is divided by φ (Jensen). By Ville's inequality
//! the set of δ not yet refuted covers the truth at all times with the chance promised (Howard, Ramdas, McAuliffe & Sekhon
//! 2021, *Time-uniform, nonparametric, nonasymptotic confidence sequences*, sections 3.1 and 3.3: sub-Poisson processes and
//! discrete mixtures). Being of Poisson shape it is tight where rates are low, and some per cent too wide at 10 % and more.

use super::tally::Tally;

/// The number of λ in the mixture.
const POINTS: usize = 32;
/// The smallest λ: the best one for about a million bad events.
const SMALLEST: f64 = 0.003;
/// The largest λ: the best one while no bad event was seen.
const LARGEST: f64 = 4.0;

/// The confidence sequence. Each end holds at level α by itself, at all times at once.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfidenceSequence {
    limit: f64,
    above: Side,
    below: Side,
    tally: Tally,
}

/// One end: `ln Σ exp(constant + slope · x) − ln POINTS`, x being δ for the upper end and −δ for the lower.
#[derive(Clone, Debug, PartialEq)]
struct Side {
    constant: [f64; POINTS],
    slope: [f64; POINTS],
}

impl Side {
    const NEW: Side = Side { constant: [0.0; POINTS], slope: [0.0; POINTS] };

    /// The logarithm of the e-process at `x`, and its derivative.
    fn at(&self, x: f64) -> (f64, f64) {
        let mut terms = [0.0; POINTS];
        let mut most = f64::NEG_INFINITY;
        for (index, term) in terms.iter_mut().enumerate() {
            *term = self.constant[index] + self.slope[index] * x;
            most = most.max(*term);
        }
        let (mut sum, mut weighted) = (0.0, 0.0);
        for (term, slope) in terms.iter().zip(&self.slope) {
            let part = (term - most).exp();
            sum += part;
            weighted += part * slope;
        }
        (most + (sum / POINTS as f64).ln(), weighted / sum)
    }

    /// The smallest `x` in [−1, 1] that is refuted; 1 if none is. The logarithm is convex and rising, so Newton's steps from
    /// the right end never pass the root.
    fn bound(&self, limit: f64) -> f64 {
        let mut x = 1.0;
        for _ in 0..64 {
            let (value, slope) = self.at(x);
            if value < limit || slope <= 0.0 {
                return x;
            }
            let next = x - (value - limit) / slope;
            if next <= -1.0 {
                return -1.0;
            }
            if x - next < 1e-12 {
                return x;
            }
            x = next;
        }
        x
    }
}

impl ConfidenceSequence {
    /// A sequence that has seen nothing. `alpha` is taken into [1e-9, 0.5].
    pub fn new(alpha: f64) -> ConfidenceSequence {
        let alpha = if alpha.is_finite() { alpha.clamp(1e-9, 0.5) } else { 1e-9 };
        ConfidenceSequence { limit: -alpha.ln(), above: Side::NEW, below: Side::NEW, tally: Tally::default() }
    }

    /// Takes in one look. A look in which an arm has no requests is passed over. `phi` is the dispersion as known before the
    /// look; anything under 1 counts as 1.
    pub fn look(&mut self, seen: Tally, phi: f64) {
        if seen.canary_requests == 0 || seen.stable_requests == 0 {
            return;
        }
        let phi = if phi.is_finite() { phi.max(1.0) } else { 1e6 };
        let (requests, canary_bad) = (seen.canary_requests as f64, seen.canary_bad as f64);
        let stable_bad = seen.stable_bad as f64;
        let ratio = requests / seen.stable_requests as f64;
        // The logarithms cost the most, and most looks at a healthy service have no bad requests.
        let kappa = |argument: f64| {
            if stable_bad > 0.0 { argument.ln_1p() } else { 0.0 }
        };
        for (index, [lambda, fall, rise]) in table().iter().copied().enumerate() {
            let up = kappa(ratio * fall);
            self.above.constant[index] += (up * stable_bad - lambda * canary_bad) / phi;
            self.above.slope[index] += requests * fall / phi;
            if ratio * rise < 1.0 {
                let down = -kappa(-ratio * rise);
                self.below.constant[index] += (lambda * canary_bad - down * stable_bad) / phi;
                self.below.slope[index] += requests * rise / phi;
            }
        }
        self.tally = self.tally.plus(seen);
    }

    /// The upper end for the increase (canary − stable), in [−1, 1].
    pub fn upper(&self) -> f64 {
        self.above.bound(self.limit)
    }

    /// The lower end for the increase (canary − stable), in [−1, 1].
    pub fn lower(&self) -> f64 {
        -self.below.bound(self.limit)
    }

    /// Whether an increase of `delta` or more is refuted: the upper end lies under it.
    pub fn under(&self, delta: f64) -> bool {
        delta <= 1.0 && self.above.at(delta).0 >= self.limit
    }

    /// The logarithm of the evidence against an increase of `delta` or more.
    pub fn log_evidence_under(&self, delta: f64) -> f64 {
        self.above.at(delta).0
    }

    /// The requests that it speaks of.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// The canary's requests that are still needed until an increase of `delta` is refuted, if both arms fail at the rates given
    /// and stable answers `1 / ratio` requests for each of the canary's; `None` if that is not in sight.
    pub fn requests_until_under(
        &self,
        delta: f64,
        canary_rate: f64,
        stable_rate: f64,
        ratio: f64,
        phi: f64,
    ) -> Option<u64> {
        let phi = phi.max(1.0);
        let growth: [f64; POINTS] = std::array::from_fn(|index| {
            let [lambda, fall, _] = table()[index];
            let kappa = (ratio * fall).ln_1p();
            (kappa * stable_rate / ratio - lambda * canary_rate + delta * fall) / phi
        });
        let start: [f64; POINTS] =
            std::array::from_fn(|index| self.above.constant[index] + self.above.slope[index] * delta);
        first_crossing(&start, &growth, self.limit + (POINTS as f64).ln())
    }
}

/// The least `n` at which `ln Σ exp(start + growth · n)` reaches `limit`; `None` if it takes over 10^12.
pub(super) fn first_crossing(start: &[f64], growth: &[f64], limit: f64) -> Option<u64> {
    let reached = |n: f64| {
        let terms = || start.iter().zip(growth).map(|(start, growth)| start + growth * n);
        let most = terms().fold(f64::NEG_INFINITY, f64::max);
        most.is_finite() && most + terms().map(|term| (term - most).exp()).sum::<f64>().ln() >= limit
    };
    if reached(0.0) {
        return Some(0);
    }
    let mut high = 1.0;
    while !reached(high) {
        high *= 2.0;
        if high > 1e12 {
            return None;
        }
    }
    let mut low = high / 2.0;
    while high - low > 0.5 {
        let middle = (low + high) / 2.0;
        if reached(middle) {
            high = middle;
        } else {
            low = middle;
        }
        if high - low < high * 1e-4 {
            break;
        }
    }
    Some(high.ceil() as u64)
}

/// For each λ: itself, 1 − e^−λ, and e^λ − 1.
fn table() -> &'static [[f64; 3]; POINTS] {
    static TABLE: std::sync::OnceLock<[[f64; 3]; POINTS]> = std::sync::OnceLock::new();
    TABLE.get_or_init(|| {
        std::array::from_fn(|index| {
            let lambda = SMALLEST * (LARGEST / SMALLEST).powf(index as f64 / (POINTS - 1) as f64);
            [lambda, -(-lambda).exp_m1(), lambda.exp_m1()]
        })
    })
}
