//! The absolute limit: how much of a canary's requests may be bad, without comparison.
//!
//! It is broken when, over its window, the canary's bad requests are more than the limit explains (Chernoff's bound for a
//! Poisson count at or over its mean is at most e^−7, under one in a thousand), also without the worst look of them, so
//! that no look decides alone; and stable's rate over the same window keeps the limit. The chance of a false alarm that a
//! policy promises speaks of the comparison alone, not of this rule.
//!
//! Where nothing runs beside the canary there is always one: the one that is set, else stable's own rate before with a
//! margin ([`Absolute`]).

use std::fmt;

use super::percent::Percent;
use super::tally::Tally;

/// The parts that the window moves by.
const PARTS: f64 = 16.0;
/// The excess, in nats, from which the limit does not explain the bad requests.
const EXCESS: f64 = 7.0;
/// How many times the increase that is let pass the margin over stable's rate is at the least: nothing runs beside the
/// canary, so that all that changes with time of day and with others is in it too.
const INCREASES: f64 = 10.0;
/// How many times stable's rate the limit is at the least.
const TIMES: f64 = 3.0;
/// The limit where neither one is set nor stable's rate is known.
const UNKNOWN: f64 = 0.5;
/// No limit is higher: with it nothing could be broken.
const HIGHEST: f64 = 0.9;

/// A limit on the bad rate, and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Absolute {
    /// The limit, as a share of requests.
    pub rate: f64,
    /// Where it comes from.
    pub from: LimitFrom,
}

/// Where a limit comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LimitFrom {
    /// Somebody set it.
    Set,
    /// From stable's bad rate (a share of requests) before the canary had everything.
    Before(
        /// The rate.
        f64,
    ),
    /// From stable's bad rate before, since stable itself does not keep the one that is set.
    NotKept {
        /// The rate.
        usual: f64,
        /// The limit that is set.
        set: f64,
    },
    /// From nothing: none is set, and stable was not compared with.
    Nothing,
}

impl Absolute {
    /// The one that is in force. A limit that is `set` and that stable itself does not keep as a rule says nothing of a release.
    /// Beside stable the comparison judges then; where nothing runs beside the canary (`alone`), there always is a limit.
    /// `usual` is stable's bad rate before, if known.
    pub fn in_force(
        set: Option<f64>,
        usual: Option<f64>,
        max_increase: f64,
        alone: bool,
    ) -> Option<Absolute> {
        match (set, usual) {
            (Some(set), Some(usual)) if usual >= set => alone.then(|| Absolute {
                from: LimitFrom::NotKept { usual, set },
                ..Absolute::alone(Some(usual), max_increase)
            }),
            (Some(rate), _) => Some(Absolute { rate, from: LimitFrom::Set }),
            (None, _) => alone.then(|| Absolute::alone(usual, max_increase)),
        }
    }

    /// The limit where nothing runs beside the canary and none is set. `usual` is stable's bad rate before, if known.
    pub fn alone(usual: Option<f64>, max_increase: f64) -> Absolute {
        match usual {
            Some(usual) => {
                let rate = (TIMES * usual).max(usual + INCREASES * max_increase).min(HIGHEST);
                Absolute { rate, from: LimitFrom::Before(usual) }
            }
            None => Absolute { rate: UNKNOWN, from: LimitFrom::Nothing },
        }
    }
}

impl fmt::Display for Absolute {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", Percent(self.rate))?;
        match self.from {
            LimitFrom::Set => Ok(()),
            LimitFrom::Before(usual) => {
                write!(out, " (none is set; {} of stable's were bad before, and a margin)", Percent(usual))
            }
            LimitFrom::NotKept { usual, set } => write!(
                out,
                " (stable did not keep the limit of {} that is set: {} of its requests were bad before, and a margin)",
                Percent(set),
                Percent(usual)
            ),
            LimitFrom::Nothing => out.write_str(" (none is set, and stable was not compared with)"),
        }
    }
}

/// The latest looks of both arms, and whether they keep the limit.
#[derive(Clone, Debug, PartialEq)]
pub struct AbsoluteLimit {
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

/// Bad requests of the canary beyond what a limit explains, in nats.
fn excess(tally: Tally, rate: f64) -> f64 {
    let (bad, allowed) = (tally.canary_bad as f64, tally.canary_requests as f64 * rate);
    if bad <= allowed || bad == 0.0 {
        0.0
    } else if allowed == 0.0 {
        f64::INFINITY
    } else {
        bad * (bad / allowed).ln() - (bad - allowed)
    }
}

impl AbsoluteLimit {
    /// A window of so many seconds.
    pub fn new(window_seconds: f64) -> AbsoluteLimit {
        let window_seconds = if window_seconds.is_finite() { window_seconds.max(1.0) } else { 60.0 };
        AbsoluteLimit { window_seconds, parts: Vec::new() }
    }

    /// Takes in one look.
    pub fn look(&mut self, seen: Tally, seconds: f64) {
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
    }

    /// What both arms counted in the window, and its length in seconds.
    pub fn seen(&self) -> (Tally, f64) {
        let sum = self.parts.iter().fold(Tally::default(), |sum, part| sum.plus(part.tally));
        (sum, self.parts.iter().map(|part| part.seconds).sum())
    }

    /// What a limit on the bad rate, a share of requests, says now.
    pub fn state(&self, rate: f64) -> LimitState {
        let (sum, _) = self.seen();
        let rate = if rate.is_finite() { rate.clamp(0.0, 1.0) } else { 1.0 };
        let worst = self.parts.iter().max_by_key(|part| part.tally.canary_bad).map(|part| part.tally);
        let others = sum.minus(worst.unwrap_or_default());
        if excess(sum, rate) < EXCESS || excess(others, rate) == 0.0 {
            LimitState::Kept
        } else if sum.stable_rate().is_some_and(|stable| stable > rate) {
            LimitState::BrokenByBoth
        } else {
            LimitState::Broken
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(canary_bad: u64, stable_bad: u64) -> Tally {
        Tally { canary_requests: 100, canary_bad, stable_requests: 900, stable_bad }
    }

    fn after(looks: &[Tally]) -> LimitState {
        let mut limit = AbsoluteLimit::new(60.0);
        looks.iter().for_each(|look| limit.look(*look, 5.0));
        limit.state(0.02)
    }

    #[test]
    fn the_limit_fails_alone_unless_stable_breaks_it_too() {
        assert_eq!(after(&[seen(2, 9), seen(2, 9)]), LimitState::Kept);
        assert_eq!(after(&[seen(30, 9), seen(30, 9)]), LimitState::Broken);
        assert_eq!(after(&[seen(30, 200), seen(30, 200)]), LimitState::BrokenByBoth);
    }

    #[test]
    fn no_look_breaks_it_alone() {
        assert_eq!(after(&[seen(100, 0)]), LimitState::Kept);
        assert_eq!(after(&[seen(0, 0), seen(100, 0), seen(1, 0), seen(2, 0)]), LimitState::Kept);
        assert_eq!(after(&[seen(0, 0), seen(100, 0), seen(100, 0)]), LimitState::Broken);
        // Little over it, and for long.
        assert_eq!(after(&[seen(5, 0); 12]), LimitState::Broken);
    }

    #[test]
    fn the_window_forgets_and_never_grows() {
        let mut limit = AbsoluteLimit::new(600.0);
        limit.look(seen(40, 0), 1.0);
        limit.look(seen(40, 0), 40.0);
        assert_eq!(limit.state(0.02), LimitState::Broken);
        for _ in 0..2000 {
            limit.look(seen(0, 0), 1.0);
            assert!(limit.parts.len() <= 2 * PARTS as usize + 2);
        }
        assert_eq!(limit.state(0.02), LimitState::Kept);
        assert!(limit.parts.iter().all(|part| part.tally.canary_bad == 0));
    }

    #[test]
    fn without_one_that_is_set_it_follows_from_what_stable_did() {
        let limit = |usual| Absolute::alone(usual, 0.005).rate;
        assert!((limit(Some(0.001)) - 0.051).abs() < 1e-9);
        assert!((limit(Some(0.1)) - 0.3).abs() < 1e-9);
        assert_eq!((limit(Some(0.8)), limit(None)), (HIGHEST, UNKNOWN));
    }
}
