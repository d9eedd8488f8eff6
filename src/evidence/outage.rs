//! Outages that both arms share.
//!
//! When stable itself burns far above what it did before, what fails is most likely behind both arms. The arms are read at
//! slightly different times, so the looks in which it begins and ends would say whatever the scrape offsets say: these say
//! nothing (the last one within it and the first one after it count as its end). In between, both arms are inside, and the comparison is as fair as ever; but the verdict is held.

use super::dispersion::PodCounts;

/// The time, in seconds, after which what stable did counts half.
const HALF_LIFE: f64 = 600.0;
/// How many times its usual rate stable must fail at, at the least.
const TIMES: f64 = 3.0;
/// How many standard deviations above its usual number of errors.
const SIGMAS: f64 = 6.0;
/// The least number of errors.
const LEAST: f64 = 5.0;

/// How a look stands to an outage of stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Stable does as it usually does.
    Calm,
    /// The outage begins or ends in this look: the look says nothing.
    Edge,
    /// Stable is in the outage from before this look on.
    Within,
}

/// What stable usually does, and whether it does so now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OutageWatch {
    requests: f64,
    bad: f64,
    burning: bool,
}

impl OutageWatch {
    /// Takes in one look at stable: its requests and bad ones, by pod if known, and the dispersion of its errors.
    pub fn look(&mut self, requests: u64, bad: u64, pods: &[PodCounts], seconds: f64, phi: f64) -> Phase {
        let before = self.burning;
        self.burning = self.burns(requests as f64, bad as f64, pods, phi);
        let fade = 0.5f64.powf(seconds.clamp(0.0, 1e6) / HALF_LIFE);
        // A rate that stays up becomes the usual one, slowly: otherwise a rollout would be held for ever.
        let weight = if self.burning { 0.05 } else { 1.0 };
        let fade = 1.0 - weight * (1.0 - fade);
        self.requests = self.requests * fade + weight * requests as f64;
        self.bad = self.bad * fade + weight * bad as f64;
        match (before, self.burning) {
            (false, false) => Phase::Calm,
            (true, true) => Phase::Within,
            _ => Phase::Edge,
        }
    }

    /// Whether stable is in an outage now.
    pub fn burning(&self) -> bool {
        self.burning
    }

    fn burns(&self, requests: f64, bad: f64, pods: &[PodCounts], phi: f64) -> bool {
        if self.requests < 1.0 || bad < LEAST {
            return false;
        }
        let usual = ((self.bad + 1.0) / self.requests).min(1.0);
        let expected = requests * usual;
        let bound = (TIMES * expected).max(expected + SIGMAS * (phi.max(1.0) * expected).sqrt());
        if bad <= bound {
            return false;
        }
        // One pod that fails is no outage: at least half of them must be worse than usual.
        let serving = pods.iter().filter(|pod| pod.requests > 0);
        let worse = serving.clone().filter(|pod| pod.bad as f64 > 2.0 * usual * pod.requests as f64);
        2 * worse.count() >= serving.count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(bad: [u64; 4]) -> Vec<PodCounts> {
        bad.iter()
            .enumerate()
            .map(|(pod, bad)| PodCounts { pod: pod as u64, requests: 250, bad: *bad })
            .collect()
    }

    #[test]
    fn an_outage_begins_stays_and_ends() {
        let mut watch = OutageWatch::default();
        for _ in 0..20 {
            assert_eq!(watch.look(1000, 5, &[], 5.0, 1.0), Phase::Calm);
        }
        assert_eq!(watch.look(1000, 300, &[], 5.0, 1.0), Phase::Edge);
        assert_eq!(watch.look(1000, 300, &[], 5.0, 1.0), Phase::Within);
        assert_eq!(watch.look(1000, 5, &[], 5.0, 1.0), Phase::Edge);
        assert_eq!(watch.look(1000, 5, &[], 5.0, 1.0), Phase::Calm);
    }

    #[test]
    fn one_bad_pod_is_no_outage() {
        let mut watch = OutageWatch::default();
        for _ in 0..20 {
            watch.look(1000, 4, &pods([1, 1, 1, 1]), 5.0, 1.0);
        }
        assert_eq!(watch.look(1000, 100, &pods([100, 0, 0, 0]), 5.0, 1.0), Phase::Calm);
        assert_eq!(watch.look(1000, 100, &pods([30, 30, 40, 0]), 5.0, 1.0), Phase::Edge);
    }

    #[test]
    fn a_rate_that_stays_up_becomes_the_usual_one() {
        let mut watch = OutageWatch::default();
        for _ in 0..100 {
            watch.look(1000, 5, &[], 5.0, 1.0);
        }
        let held = (0..5000).take_while(|_| watch.look(1000, 50, &[], 5.0, 1.0) != Phase::Calm).count();
        assert!((2..1500).contains(&held), "{held}");
    }
}
