//! What both arms have counted.

/// Requests and bad requests of both arms, as sums.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// Requests that the canary answered.
    pub canary_requests: u64,
    /// Those of the canary that were bad.
    pub canary_bad: u64,
    /// Requests that stable answered.
    pub stable_requests: u64,
    /// Those of stable that were bad.
    pub stable_bad: u64,
}

impl Tally {
    /// The sum with another; it saturates instead of overflowing.
    pub fn plus(self, other: Tally) -> Tally {
        Tally {
            canary_requests: self.canary_requests.saturating_add(other.canary_requests),
            canary_bad: self.canary_bad.saturating_add(other.canary_bad),
            stable_requests: self.stable_requests.saturating_add(other.stable_requests),
            stable_bad: self.stable_bad.saturating_add(other.stable_bad),
        }
    }

    /// What has come since `earlier`, a part of it.
    pub(super) fn minus(self, earlier: Tally) -> Tally {
        Tally {
            canary_requests: self.canary_requests.saturating_sub(earlier.canary_requests),
            canary_bad: self.canary_bad.saturating_sub(earlier.canary_bad),
            stable_requests: self.stable_requests.saturating_sub(earlier.stable_requests),
            stable_bad: self.stable_bad.saturating_sub(earlier.stable_bad),
        }
    }

    /// The canary's share of the requests; `None` without requests.
    pub fn share(&self) -> Option<f64> {
        let (canary, stable) = (self.canary_requests as f64, self.stable_requests as f64);
        (canary + stable > 0.0).then(|| canary / (canary + stable))
    }

    /// The canary's bad rate; `None` without requests.
    pub fn canary_rate(&self) -> Option<f64> {
        (self.canary_requests > 0).then(|| self.canary_bad as f64 / self.canary_requests as f64)
    }

    /// Stable's bad rate; `None` without requests.
    pub fn stable_rate(&self) -> Option<f64> {
        (self.stable_requests > 0).then(|| self.stable_bad as f64 / self.stable_requests as f64)
    }

    /// Canary's bad rate minus stable's; `None` while an arm has no requests.
    pub fn increase(&self) -> Option<f64> {
        Some(self.canary_rate()? - self.stable_rate()?)
    }

    /// Requests of both arms.
    pub fn requests(&self) -> u64 {
        self.canary_requests.saturating_add(self.stable_requests)
    }

    pub(super) fn array(&self) -> [f64; 4] {
        [
            self.canary_requests as f64,
            self.canary_bad as f64,
            self.stable_requests as f64,
            self.stable_bad as f64,
        ]
    }
}
