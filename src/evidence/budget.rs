//! Error-budget arithmetic of an SLO.
//!
//! Source: Beyer, Murphy, Rensin, Kawahara & Thorne (eds.), *The Site Reliability Workbook* (Google, 2018), chapter 5,
//! *Alerting on SLOs*: burn rate, and the multiwindow, multi-burn-rate alerts of table 5-8 (for a 30-day SLO: 2 % of the budget
//! in one hour is a burn rate of 14.4, 5 % in six hours is 6, 10 % in one day is 3 and in three days is 1; each long window
//! goes with a short one of a twelfth of it, so that an alert ends soon after its cause).

use std::fmt;

use serde::{Deserialize, Serialize};

/// An objective: the share of requests that is to be good, over a window of days.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slo {
    target: f64,
    days: f64,
}

/// Why an objective cannot be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SloError {
    /// The target is not within (0, 1).
    Target(f64),
    /// The window is not a positive number of days, at most 366.
    Days(f64),
}

impl fmt::Display for SloError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SloError::Target(target) => write!(
                out,
                "the SLO's target must lie between 0 and 100 %, without either; it is {} %",
                target * 100.0
            ),
            SloError::Days(days) => {
                write!(out, "the SLO's window must be over 0 and at most 366 days; it is {days}")
            }
        }
    }
}

impl std::error::Error for SloError {}

/// How urgent an alert on a burn rate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Urgency {
    /// Somebody is woken.
    Page,
    /// Somebody looks on the next working day.
    Ticket,
}

/// One alert of the multiwindow, multi-burn-rate kind.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BurnAlert {
    /// The burn rate at and over which it fires, in both windows.
    pub burn_rate: f64,
    /// The long window in seconds.
    pub long_seconds: u32,
    /// The short window in seconds.
    pub short_seconds: u32,
    /// How urgent it is.
    pub urgency: Urgency,
}

/// The alerts of the workbook's table 5-8, for an SLO over 30 days, the most urgent first.
pub const WORKBOOK_ALERTS: [BurnAlert; 4] = [
    BurnAlert { burn_rate: 14.4, long_seconds: 3_600, short_seconds: 300, urgency: Urgency::Page },
    BurnAlert { burn_rate: 6.0, long_seconds: 21_600, short_seconds: 1_800, urgency: Urgency::Page },
    BurnAlert { burn_rate: 3.0, long_seconds: 86_400, short_seconds: 7_200, urgency: Urgency::Ticket },
    BurnAlert { burn_rate: 1.0, long_seconds: 259_200, short_seconds: 21_600, urgency: Urgency::Ticket },
];

impl BurnAlert {
    /// Whether it fires, given the bad rates over its long and its short window.
    pub fn fires(&self, slo: &Slo, long_rate: f64, short_rate: f64) -> bool {
        slo.burn_rate(long_rate) >= self.burn_rate && slo.burn_rate(short_rate) >= self.burn_rate
    }

    /// The bad rate at which it fires.
    pub fn threshold(&self, slo: &Slo) -> f64 {
        (self.burn_rate * slo.budget()).min(1.0)
    }

    /// The part of the whole budget that is gone when it fires after its long window.
    pub fn budget_spent(&self, slo: &Slo) -> f64 {
        self.burn_rate * f64::from(self.long_seconds) / slo.seconds()
    }
}

/// A `maxIncrease` that the SLO does not bear.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OverBudget {
    /// The increase that the policy lets pass, as a share of requests.
    pub max_increase: f64,
    /// The SLO's error budget, as a share of requests.
    pub budget: f64,
    /// The burn rate that a canary with just that increase adds at full traffic.
    pub burn_rate: f64,
}

impl fmt::Display for OverBudget {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "maxIncrease {:.4} % is above the SLO's error budget of {:.4} %: a canary that is passed may burn the budget \
             {:.1} times as fast as it lasts; lower maxIncrease to {:.4} % or less",
            self.max_increase * 100.0,
            self.budget * 100.0,
            self.burn_rate,
            self.budget * 100.0
        )
    }
}

impl Slo {
    /// An objective: `target` as a share (0.999 for 99.9 %), over so many `days`.
    pub fn new(target: f64, days: f64) -> Result<Slo, SloError> {
        if !(target > 0.0 && target < 1.0) {
            return Err(SloError::Target(target));
        }
        if !(days > 0.0 && days <= 366.0) {
            return Err(SloError::Days(days));
        }
        Ok(Slo { target, days })
    }

    /// The share of requests that may be bad.
    pub fn budget(&self) -> f64 {
        1.0 - self.target
    }

    /// The window in seconds.
    pub fn seconds(&self) -> f64 {
        self.days * 86_400.0
    }

    /// How many times as fast as it lasts a bad rate uses the budget: 1 uses it up just at the end of the window.
    pub fn burn_rate(&self, bad_rate: f64) -> f64 {
        bad_rate / self.budget()
    }

    /// The time in seconds until a full budget is gone at a bad rate; `None` if it never is.
    pub fn seconds_to_exhaustion(&self, bad_rate: f64) -> Option<f64> {
        (bad_rate > 0.0).then(|| self.seconds() / self.burn_rate(bad_rate))
    }

    /// The part of the budget that is left after so many requests of which so many were bad; negative when overdrawn, 1
    /// without requests.
    pub fn remaining(&self, requests: u64, bad: u64) -> f64 {
        if requests == 0 {
            return 1.0;
        }
        1.0 - bad as f64 / (requests as f64 * self.budget())
    }

    /// The most urgent of the workbook's alerts that fires; `rate(seconds)` is the bad rate over the window that ends now.
    pub fn alert(&self, rate: impl Fn(u32) -> f64) -> Option<BurnAlert> {
        WORKBOOK_ALERTS
            .into_iter()
            .find(|alert| alert.fires(self, rate(alert.long_seconds), rate(alert.short_seconds)))
    }

    /// Whether a `max_increase` (a share of requests) fits into the budget.
    pub fn check(&self, max_increase: f64) -> Result<(), OverBudget> {
        if max_increase > self.budget() {
            return Err(OverBudget {
                max_increase,
                budget: self.budget(),
                burn_rate: self.burn_rate(max_increase),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slo() -> Slo {
        Slo::new(0.999, 30.0).unwrap()
    }

    #[test]
    fn the_workbooks_table_comes_out() {
        let spent: Vec<f64> = WORKBOOK_ALERTS
            .iter()
            .map(|alert| (alert.budget_spent(&slo()) * 1000.0).round() / 10.0)
            .collect();
        assert_eq!(spent, [2.0, 5.0, 10.0, 10.0]);
        for alert in WORKBOOK_ALERTS {
            assert_eq!(alert.long_seconds, 12 * alert.short_seconds);
        }
        assert!((WORKBOOK_ALERTS[0].threshold(&slo()) - 0.0144).abs() < 1e-12);
    }

    #[test]
    fn an_alert_needs_both_windows() {
        let over = |seconds: u32| if seconds == 300 { 0.0 } else { 0.02 };
        assert_eq!(slo().alert(over).map(|alert| alert.burn_rate), Some(6.0));
        assert_eq!(slo().alert(|_| 0.02).map(|alert| alert.burn_rate), Some(14.4));
        assert_eq!(slo().alert(|_| 0.0005), None);
    }

    #[test]
    fn budgets_and_burning() {
        assert!((slo().budget() - 0.001).abs() < 1e-12);
        assert!((slo().burn_rate(0.002) - 2.0).abs() < 1e-9);
        assert!((slo().seconds_to_exhaustion(0.002).unwrap() - 15.0 * 86_400.0).abs() < 1e-3);
        assert_eq!(slo().seconds_to_exhaustion(0.0), None);
        assert_eq!(slo().remaining(0, 0), 1.0);
        assert!((slo().remaining(10_000, 5) - 0.5).abs() < 1e-9);
        assert!(slo().remaining(1_000, 2) < 0.0);
    }

    #[test]
    fn a_max_increase_over_the_budget_is_named() {
        assert_eq!(slo().check(0.0005), Ok(()));
        let words = slo().check(0.005).unwrap_err().to_string();
        assert!(words.contains("maxIncrease 0.5000 %") && words.contains("5.0 times"), "{words}");
    }

    #[test]
    fn impossible_objectives_are_refused() {
        for target in [0.0, 1.0, -1.0, 1.5, f64::NAN] {
            assert!(matches!(Slo::new(target, 30.0), Err(SloError::Target(_))));
        }
        for days in [0.0, -1.0, 400.0, f64::NAN] {
            assert!(matches!(Slo::new(0.99, days), Err(SloError::Days(_))));
        }
    }
}
