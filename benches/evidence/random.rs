//! A small seeded generator, so that every table can be made again bit by bit: xoshiro256++ (Blackman & Vigna 2019), seeded by
//! splitmix64. Samplers are exact but for large counts, which
//! are rounded normals: Poisson ones with a mean over 100, binomial ones with a variance over 1000.

/// The mean over which a Poisson count is drawn as a rounded normal.
const LARGE: f64 = 100.0;
/// The variance over which a binomial count is.
const LARGE_BINOMIAL: f64 = 1000.0;

/// The generator.
#[derive(Clone)]
pub struct Random([u64; 4]);

impl Random {
    /// One generator per seed and stream: equal pairs give equal numbers.
    pub fn new(seed: u64, stream: u64) -> Random {
        let mut state = seed ^ stream.wrapping_mul(0xd1b5_4a32_d192_ed03);
        let mut next = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = state;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        };
        Random([next(), next(), next(), next()])
    }

    fn bits(&mut self) -> u64 {
        let state = &mut self.0;
        let result = state[0].wrapping_add(state[3]).rotate_left(23).wrapping_add(state[0]);
        let shifted = state[1] << 17;
        state[2] ^= state[0];
        state[3] ^= state[1];
        state[1] ^= state[2];
        state[0] ^= state[3];
        state[2] ^= shifted;
        state[3] = state[3].rotate_left(45);
        result
    }

    /// Even in [0, 1).
    pub fn even(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True with chance `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.even() < p
    }

    /// Even over `0..n`.
    pub fn below(&mut self, n: usize) -> usize {
        ((self.even() * n as f64) as usize).min(n - 1)
    }

    /// The number of trials up to and with the first success.
    pub fn geometric(&mut self, p: f64) -> u64 {
        if p >= 1.0 {
            return 1;
        }
        ((1.0 - self.even()).ln() / (-p).ln_1p()).floor() as u64 + 1
    }

    /// A normal rounded to a whole number that is not negative (Box & Muller 1958).
    fn rounded(&mut self, mean: f64, variance: f64) -> u64 {
        let radius = (-2.0 * (1.0 - self.even()).ln()).sqrt();
        let angle = std::f64::consts::TAU * self.even();
        (mean + variance.sqrt() * radius * angle.cos()).round().max(0.0) as u64
    }

    /// Poisson by inversion.
    pub fn poisson(&mut self, mean: f64) -> u64 {
        if mean > LARGE {
            return self.rounded(mean, mean);
        }
        let mut left = mean;
        let mut total = 0;
        while left > 0.0 {
            let part = left.min(40.0);
            left -= part;
            let mut term = (-part).exp();
            let mut point = self.even();
            let mut count = 0u64;
            while point > term && count < 1000 {
                point -= term;
                count += 1;
                term *= part / count as f64;
            }
            total += count;
        }
        total
    }

    /// Binomial by the gaps between successes.
    pub fn binomial(&mut self, n: u64, p: f64) -> u64 {
        if p <= 0.0 || n == 0 {
            return 0;
        }
        let variance = n as f64 * p * (1.0 - p);
        if variance > LARGE_BINOMIAL {
            return self.rounded(n as f64 * p, variance).min(n);
        }
        if p > 0.3 {
            return (0..n).filter(|_| self.chance(p)).count() as u64;
        }
        let (mut place, mut count) = (self.geometric(p), 0);
        while place <= n {
            count += 1;
            place += self.geometric(p);
        }
        count
    }
}
