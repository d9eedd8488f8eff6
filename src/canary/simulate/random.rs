//! Chance that is the same on every run: SplitMix64 (Steele, Lea & Flood 2014, *Fast splittable pseudorandom
//! number generators*), and binomial draws made from it.

/// A seeded source of chance.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The source with that seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in (0, 1).
    pub fn unit(&mut self) -> f64 {
        ((self.bits() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// How many of `n` come out, each with chance `p`. Exact while few come out or stay away; from thirty on
    /// each side the normal approximation is closer than any story needs.
    pub fn binomial(&mut self, n: u64, p: f64) -> u64 {
        if n == 0 || p.is_nan() || p <= 0.0 {
            return 0;
        }
        if p >= 1.0 {
            return n;
        }
        if p > 0.5 {
            return n - self.binomial(n, 1.0 - p);
        }
        let mean = n as f64 * p;
        if mean > 30.0 {
            let spread = (mean * (1.0 - p)).sqrt();
            let normal = (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos();
            return (mean + spread * normal).round().clamp(0.0, n as f64) as u64;
        }
        // Leaps from one that comes out to the next.
        let log = (-p).ln_1p();
        let (mut place, mut count) = (0.0, 0);
        loop {
            place += (self.unit().ln() / log).floor() + 1.0;
            if place > n as f64 {
                return count;
            }
            count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binomial_draws_have_their_mean_and_spread() {
        let mut random = Random::new(1);
        for (n, p) in [(1000, 0.01), (1000, 0.2), (10, 0.9), (50, 0.5)] {
            let draws: Vec<f64> = (0..20_000).map(|_| random.binomial(n, p) as f64).collect();
            let mean = draws.iter().sum::<f64>() / draws.len() as f64;
            let variance = draws.iter().map(|draw| (draw - mean).powi(2)).sum::<f64>() / draws.len() as f64;
            let (expected, spread) = (n as f64 * p, n as f64 * p * (1.0 - p));
            assert!((mean - expected).abs() < 0.02 * expected.max(1.0) + 0.05, "{n} {p}: {mean}");
            assert!((variance / spread - 1.0).abs() < 0.06, "{n} {p}: {variance} for {spread}");
        }
    }
}
