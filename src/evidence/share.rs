//! Whether requests are shared as the weights say. Pure.
//!
//! A weight that was written need not be in force: the control plane of a mesh or gateway may be down, a route may be
//! overwritten elsewhere, a feature flag may not follow. Then the counters go on telling of the share before, and
//! nothing in the error rates shows it. So the share itself is compared with the weight, and what does not fit holds.
//!
//! The shares are compared as odds, canary to the arm beside it, over the latest looks. They fit while the odds lie
//! within a factor of what was asked for; the factor leaves room for what is not shared by the weight alone (callers
//! that do not pass the proxies, connections that stay). Beyond chance means by three standard deviations of a binomial
//! count, so that few requests say nothing.

use std::collections::VecDeque;

use super::tally::Tally;

/// The length of the latest looks that are compared, in seconds: long enough for two looks of fifteen seconds, short
/// enough that a change of the share shows within a few looks.
const WINDOW: f64 = 30.0;
/// Requests of both arms under which nothing is said.
const LEAST_REQUESTS: u64 = 50;
/// The factor between the odds, where all that is counted is shared by the weights.
const EXACT: f64 = 2.0;
/// The same where some of it may not be.
const LOOSE: f64 = 4.0;
/// The share that an arm may still have that is to have nothing: requests that were under way.
const REST: f64 = 0.02;
/// Standard deviations beyond which a difference is no chance.
const DEVIATIONS: f64 = 3.0;

/// The share that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The canary's weight in percent.
    pub canary: i32,
    /// The weight of the arm that it is compared with, in percent.
    pub beside: i32,
    /// How many requests may reach the arm beside without going by these weights, where all callers are counted.
    pub bypass: Bypass,
}

/// How many requests may reach the arm beside without going by the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bypass {
    /// None: whichever way a request comes, it goes by the weights.
    None,
    /// Some: in a mesh a few callers have no proxy.
    Some,
    /// Any number: only what comes through a gateway goes by the weights, and other callers may be most of all.
    Any,
}

impl Asked {
    /// The canary's share of the requests of both arms.
    pub fn share(&self) -> f64 {
        f64::from(self.canary) / f64::from((self.canary + self.beside).max(1))
    }
}

/// What the counters say of the share.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Share {
    /// Nothing: too few requests, or no share was asked for.
    #[default]
    Unknown,
    /// It is this, and fits.
    Fits(f64),
    /// It is this, and does not.
    Differs(f64),
}

impl Share {
    /// The canary's share of the requests, as far as it is known.
    pub fn observed(self) -> Option<f64> {
        match self {
            Self::Unknown => None,
            Self::Fits(share) | Self::Differs(share) => Some(share),
        }
    }

    /// Whether it is known not to fit.
    pub fn differs(self) -> bool {
        matches!(self, Self::Differs(_))
    }
}

/// The latest looks at the requests of both arms.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShareWatch {
    looks: VecDeque<(f64, Tally)>,
}

impl ShareWatch {
    /// Takes in a look of so many seconds.
    pub fn look(&mut self, tally: Tally, seconds: f64) {
        self.looks.push_back((seconds, tally));
        let mut length: f64 = self.looks.iter().map(|(seconds, _)| seconds).sum();
        while self.looks.len() > 1
            && let Some((oldest, _)) = self.looks.front()
            && length - oldest >= WINDOW
        {
            length -= oldest;
            self.looks.pop_front();
        }
    }

    /// Whether the share fits what was asked for. `exact` says that only what the weights share is counted.
    pub fn judge(&self, asked: Asked, exact: bool) -> Share {
        let tally = self.looks.iter().fold(Tally::default(), |sum, (_, tally)| sum.plus(*tally));
        let requests = tally.requests();
        let Some(observed) = tally.share().filter(|_| requests >= LEAST_REQUESTS) else {
            return Share::Unknown;
        };
        let bypass = if exact { Bypass::None } else { asked.bypass };
        let (low, high) = bounds(asked, bypass);
        let (count, requests) = (tally.canary_requests as f64, requests as f64);
        let chance = |share: f64| DEVIATIONS * (requests * share * (1.0 - share)).sqrt();
        let too_few = count + chance(low) < requests * low;
        let too_many = count - chance(high) > requests * high;
        if too_few || too_many { Share::Differs(observed) } else { Share::Fits(observed) }
    }
}

/// The lowest and the highest share that fit.
fn bounds(asked: Asked, bypass: Bypass) -> (f64, f64) {
    let share = asked.share();
    let times = |factor: f64| {
        let odds = factor * share / (1.0 - share);
        odds / (1.0 + odds)
    };
    match (asked.canary > 0, asked.beside > 0, bypass) {
        (false, ..) => (0.0, REST),
        (true, false, Bypass::None) => (1.0 - REST, 1.0),
        // Who does not pass the proxies reaches the arm beside until the promotion, and may be most of the callers.
        (true, false, Bypass::Some) => (1.0 / LOOSE, 1.0),
        (true, false, Bypass::Any) => (0.0, 1.0),
        (true, true, Bypass::None) => (times(1.0 / EXACT), times(EXACT)),
        (true, true, Bypass::Some) => (times(1.0 / LOOSE), times(LOOSE)),
        (true, true, Bypass::Any) => (0.0, times(LOOSE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(canary: i32, beside: i32) -> Asked {
        Asked { canary, beside, bypass: Bypass::Some }
    }

    fn seen(canary: u64, stable: u64) -> ShareWatch {
        let mut watch = ShareWatch::default();
        let tally = Tally { canary_requests: canary, stable_requests: stable, ..Tally::default() };
        watch.look(tally, 5.0);
        watch
    }

    #[test]
    fn faults_8_1_a_share_that_stayed_where_it_was_is_told_from_the_one_that_was_asked_for() {
        for (before, after) in
            [((0, 100), (1, 99)), ((1, 99), (10, 90)), ((10, 90), (50, 50)), ((50, 50), (100, 0))]
        {
            let share = |(canary, beside): (u64, u64)| seen(50 * canary, 50 * beside);
            let now = asked(after.0 as i32, after.1 as i32);
            for exact in [true, false] {
                assert!(matches!(share(after).judge(now, exact), Share::Fits(_)), "{after:?}");
            }
            assert!(share(before).judge(now, true).differs(), "{before:?} for {after:?}");
        }
    }

    #[test]
    fn what_does_not_pass_the_proxies_is_let_pass_where_it_may_be() {
        // Half of stable's callers reach it by themselves.
        for (canary, stable, weight) in [(100, 1900, 10), (500, 1500, 50), (1000, 1000, 100)] {
            let now = asked(weight, 100 - weight);
            assert!(!seen(canary, stable).judge(now, false).differs(), "{weight}");
        }
        assert!(seen(1000, 1000).judge(asked(100, 0), true).differs());
        let whole = Asked { bypass: Bypass::None, ..asked(100, 0) };
        assert!(seen(1000, 1000).judge(whole, false).differs(), "after the promotion there is no other way");
        assert!(seen(100, 900).judge(asked(100, 0), false).differs(), "so much is no way of its own");
    }

    #[test]
    fn callers_that_pass_no_gateway_make_a_share_small_and_never_large() {
        // One call in ten comes through the gateway, which alone shares by weight; the pods count all of them.
        for (canary, stable, weight) in [(10, 990, 10), (50, 950, 50), (100, 900, 100)] {
            let now = Asked { bypass: Bypass::Any, ..asked(weight, 100 - weight) };
            assert!(!seen(10 * canary, 10 * stable).judge(now, false).differs(), "{weight}");
            assert!(
                seen(10 * canary, 10 * stable).judge(now, true).differs(),
                "a gateway counts its own alone"
            );
        }
        let ten = Asked { bypass: Bypass::Any, ..asked(10, 90) };
        assert!(seen(900, 100).judge(ten, false).differs());
    }

    #[test]
    fn too_much_is_no_better_than_too_little() {
        assert!(seen(900, 100).judge(asked(10, 90), true).differs());
        assert!(seen(900, 100).judge(asked(10, 90), false).differs());
        assert!(
            seen(100, 900).judge(asked(0, 100), true).differs(),
            "what was taken back still gets requests"
        );
        assert!(!seen(3, 997).judge(asked(0, 100), true).differs(), "these were under way");
    }

    #[test]
    fn few_requests_say_nothing() {
        assert_eq!(seen(0, 49).judge(asked(50, 50), true), Share::Unknown);
        assert_eq!(ShareWatch::default().judge(asked(50, 50), true), Share::Unknown);
        assert!(!seen(0, 100).judge(asked(1, 99), true).differs(), "one was to be expected");
        assert!(seen(0, 1000).judge(asked(10, 90), true).differs());
    }

    #[test]
    fn only_the_latest_looks_count() {
        let mut watch = seen(0, 10_000);
        for _ in 0..5 {
            watch.look(Tally { canary_requests: 500, stable_requests: 500, ..Tally::default() }, 5.0);
        }
        assert!(watch.judge(asked(50, 50), true).differs(), "the first is still among them");
        watch.look(Tally { canary_requests: 500, stable_requests: 500, ..Tally::default() }, 5.0);
        assert_eq!(watch.judge(asked(50, 50), true), Share::Fits(0.5));
        // One that is longer than that stands alone.
        watch.look(Tally { canary_requests: 90, stable_requests: 10, ..Tally::default() }, 60.0);
        assert_eq!(watch.judge(asked(90, 10), true), Share::Fits(0.9));
    }
}
