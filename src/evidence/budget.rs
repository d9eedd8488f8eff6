//! How much an increase of bad requests costs of an SLO's error budget.

use std::fmt;

/// The error budget of an objective.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget(f64);

/// A target that is no share between 0 and 1, without either.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Impossible(pub f64);

impl fmt::Display for Impossible {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "the SLO's target must lie between 0 and 100 %, without either; it is {} %",
            self.0 * 100.0
        )
    }
}

impl std::error::Error for Impossible {}

/// A `maxIncrease` that the SLO does not bear.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OverBudget {
    /// The increase that the policy lets pass, as a share of requests.
    pub max_increase: f64,
    /// The SLO's error budget, as a share of requests.
    pub budget: f64,
}

impl fmt::Display for OverBudget {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "maxIncrease {:.4} % is above the SLO's error budget of {:.4} %: a canary that is passed may burn the budget \
             {:.1} times as fast as it lasts; lower maxIncrease to {:.4} % or less",
            self.max_increase * 100.0,
            self.budget * 100.0,
            self.max_increase / self.budget,
            self.budget * 100.0
        )
    }
}

impl Budget {
    /// The budget of a target: a share of requests, such as 0.999 for 99.9 %.
    ///
    /// # Errors
    /// If there is no such objective.
    pub fn of(target: f64) -> Result<Self, Impossible> {
        if target > 0.0 && target < 1.0 { Ok(Self(1.0 - target)) } else { Err(Impossible(target)) }
    }

    /// The share of requests that may be bad.
    pub fn share(self) -> f64 {
        self.0
    }

    /// Whether an increase (a share of requests) fits into it.
    ///
    /// # Errors
    /// By how much it does not.
    pub fn check(self, max_increase: f64) -> Result<(), OverBudget> {
        if max_increase > self.0 { Err(OverBudget { max_increase, budget: self.0 }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_max_increase_over_the_budget_is_named() {
        let budget = Budget::of(0.999).unwrap();
        assert!((budget.share() - 0.001).abs() < 1e-12);
        assert_eq!(budget.check(0.0005), Ok(()));
        let words = budget.check(0.005).unwrap_err().to_string();
        assert!(words.contains("maxIncrease 0.5000 %") && words.contains("5.0 times"), "{words}");
    }

    #[test]
    fn impossible_objectives_are_refused() {
        for target in [0.0, 1.0, -1.0, 1.5, f64::NAN] {
            assert!(Budget::of(target).is_err());
        }
    }
}
