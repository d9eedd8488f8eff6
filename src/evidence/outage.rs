//! Outages that both arms share, and the absolute limit.
//!
//! When stable itself burns far above what it did before, what fails is most likely behind both arms. The arms are read at
//! slightly different times, so the looks in which it begins and ends would say whatever the scrape offsets say: these say
//! nothing (the last one within it and the first one after it count as its end). In between, both arms are inside, and the comparison is as fair as ever; but the verdict is held.

use super::dispersion::PodCounts;
use super::tally::Tally;

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

/// The parts that the window of an absolute limit moves by.
const PARTS: f64 = 16.0;

/// A limit on the canary's own bad rate, without comparison: an SLO that burns.
///
/// It is broken when, over the window, the canary's bad requests are more than the limit explains (Chernoff's bound for a
/// Poisson count at or over its mean is at most e^−7, under one in a thousand), and stable's rate over the same window keeps the
/// limit. The chance of a false alarm that a policy promises speaks of the comparison alone, not of this rule.
#[derive(Clone, Debug, PartialEq)]
pub struct AbsoluteLimit {
    rate: f64,
    window_seconds: f64,
    /// The latest looks, the newest last, put together to about a sixteenth of the window each.
    parts: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Part {
    tally: Tally,
    seconds: f64,
}

/// What an absolute limit says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitState {
    /// The canary keeps it, as far as can be told.
    Kept,
    /// The canary breaks it and stable does not.
    Broken,
    /// The canary breaks it, and so does stable.
    BrokenByBoth,
}

impl AbsoluteLimit {
    /// A limit on the bad rate (a share of requests) over a window in seconds.
    pub fn new(rate: f64, window_seconds: f64) -> AbsoluteLimit {
        AbsoluteLimit {
            rate: if rate.is_finite() { rate.clamp(0.0, 1.0) } else { 1.0 },
            window_seconds: if window_seconds.is_finite() { window_seconds.max(1.0) } else { 60.0 },
            parts: Vec::new(),
        }
    }

    /// Takes in one look.
    pub fn look(&mut self, seen: Tally, seconds: f64) -> LimitState {
        let seconds = seconds.clamp(0.0, 1e6);
        match self.parts.last_mut() {
            Some(last) if last.seconds + seconds <= self.window_seconds / PARTS => {
                last.tally = last.tally.plus(seen);
                last.seconds += seconds;
            }
            _ => self.parts.push(Part { tally: seen, seconds }),
        }
        let mut length: f64 = self.parts.iter().map(|part| part.seconds).sum();
        let mut drop = 0;
        while drop + 1 < self.parts.len() && length - self.parts[drop].seconds >= self.window_seconds {
            length -= self.parts[drop].seconds;
            drop += 1;
        }
        self.parts.drain(..drop);
        self.state()
    }

    /// What it says now.
    pub fn state(&self) -> LimitState {
        let sum = self.parts.iter().fold(Tally::default(), |sum, part| sum.plus(part.tally));
        let (bad, allowed) = (sum.canary_bad as f64, sum.canary_requests as f64 * self.rate);
        let excess = if bad <= allowed || bad == 0.0 {
            0.0
        } else if allowed == 0.0 {
            f64::INFINITY
        } else {
            bad * (bad / allowed).ln() - (bad - allowed)
        };
        if excess < 7.0 {
            LimitState::Kept
        } else if sum.stable_rate().is_some_and(|rate| rate > self.rate) {
            LimitState::BrokenByBoth
        } else {
            LimitState::Broken
        }
    }

    /// The limit, as a share of requests.
    pub fn rate(&self) -> f64 {
        self.rate
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

    fn seen(canary_bad: u64, stable_bad: u64) -> Tally {
        Tally { canary_requests: 100, canary_bad, stable_requests: 900, stable_bad }
    }

    #[test]
    fn the_limit_fails_alone_unless_stable_breaks_it_too() {
        let mut limit = AbsoluteLimit::new(0.02, 60.0);
        assert_eq!(limit.look(seen(2, 9), 5.0), LimitState::Kept);
        assert_eq!(limit.look(seen(30, 9), 5.0), LimitState::Broken);
        let mut both = AbsoluteLimit::new(0.02, 60.0);
        assert_eq!(both.look(seen(30, 200), 5.0), LimitState::BrokenByBoth);
    }

    #[test]
    fn the_window_forgets_and_never_grows() {
        let mut limit = AbsoluteLimit::new(0.02, 600.0);
        limit.look(seen(40, 0), 1.0);
        for _ in 0..2000 {
            limit.look(seen(0, 0), 1.0);
            assert!(limit.parts.len() <= 2 * PARTS as usize + 2);
        }
        assert_eq!(limit.state(), LimitState::Kept);
        assert!(limit.parts.iter().all(|part| part.tally.canary_bad == 0));
    }
}
