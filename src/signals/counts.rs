//! What one series has counted: requests, those that failed, and how long they took. Pure.

use super::subject::What;

/// How close a bound must be to a threshold to be the same, as a part of it: bounds are written in decimals and
/// sometimes in another unit.
const SAME: f64 = 1e-9;

/// How many bounds are named in a message.
const SHOWN: usize = 32;
/// How many bounds a histogram may have: many times what any has that is made for people.
const BOUNDS: usize = 256;

/// Counters of one series: a pod, or a proxy's view of an arm.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    requests: f64,
    bad: f64,
    /// Failed calls of gRPC, where they are counted apart from the requests.
    grpc_bad: f64,
    /// Requests that were refused, and calls of gRPC, as above.
    refused: f64,
    grpc_refused: f64,
    /// Requests that were sent and given up before there was an answer, which are not among the requests.
    unanswered: f64,
    /// By bound, in order of appearance.
    bounds: Vec<Bound>,
    not_a_number: bool,
    /// Whether there were more bounds than are kept.
    too_many: bool,
    /// Whether something of it says what was asked for.
    named: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Bound {
    /// In seconds.
    most: f64,
    /// Requests that took at most so long.
    count: f64,
    /// How many histograms have it.
    histograms: u32,
}

/// Why a series does not say how many were bad.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Untold {
    /// A histogram does not tell slower requests from faster ones at this threshold.
    #[error("{} s is no bound of the histogram of durations; {}", .threshold, remedy(.bounds))]
    NoSuchBound {
        /// The threshold, in seconds.
        threshold: f64,
        /// The bounds that there are, in seconds.
        bounds: Vec<f64>,
    },
    /// A counter is NaN, infinite or negative.
    #[error("a counter is not a number of requests (NaN, infinite or negative)")]
    NotANumber,
    /// A histogram has more bounds than are read.
    #[error(
        "the histogram of durations has more than {BOUNDS} bounds; give it fewer, as OpenTelemetry's defaults are"
    )]
    TooMany,
    /// It is none of what every service has.
    #[error("a metric of the service's own is counted by Prometheus alone; set analysis.source.prometheus")]
    NotBuiltIn,
}

/// What threshold can be set, in words.
fn remedy(bounds: &[f64]) -> String {
    if bounds.is_empty() {
        return "there is no histogram".to_owned();
    }
    let words: Vec<String> = bounds.iter().take(SHOWN).map(f64::to_string).collect();
    format!("set the threshold to one of {}", words.join(", "))
}

impl Counts {
    /// Adds requests, all of them failed or none.
    pub fn add(&mut self, requests: f64, failed: bool) {
        self.add_requests(requests);
        if failed {
            self.add_bad(requests);
        }
    }

    /// Adds requests.
    pub fn add_requests(&mut self, requests: f64) {
        self.requests += self.number(requests);
    }

    /// Adds requests that failed, which were added before.
    pub fn add_bad(&mut self, requests: f64) {
        self.bad += self.number(requests);
    }

    /// Adds calls of gRPC that failed, among requests that were counted apart: which of these also count as bad
    /// themselves is not known, so the larger number of the two is taken.
    pub fn add_grpc_bad(&mut self, requests: f64) {
        self.grpc_bad += self.number(requests);
    }

    /// Adds requests that were refused for what was asked, which were added before.
    pub fn add_refused(&mut self, requests: f64) {
        self.refused += self.number(requests);
    }

    /// Adds calls of gRPC that were refused, as [`Self::add_grpc_bad`] does.
    pub fn add_grpc_refused(&mut self, requests: f64) {
        self.grpc_refused += self.number(requests);
    }

    /// Adds requests that were sent and given up before there was an answer, and were not added before.
    pub fn add_unanswered(&mut self, requests: f64) {
        self.unanswered += self.number(requests);
    }

    /// Requests that were given up before there was an answer, among what is asked for. How long they would have taken
    /// nobody knows, so they are no slower requests.
    pub fn unanswered(&self, what: &What) -> f64 {
        if *what == What::Errors { self.unanswered } else { 0.0 }
    }

    /// Notes that something of it says what was asked for, so that probes can be told from other requests.
    pub fn name(&mut self) {
        self.named = true;
    }

    /// Whether it counts requests of which none says what was asked for.
    pub fn is_nameless(&self) -> bool {
        self.requests > 0.0 && !self.named
    }

    /// Adds what another one of the same series has counted, of other requests.
    pub fn merge(&mut self, other: &Counts) {
        self.requests += other.requests;
        self.bad += other.bad;
        self.grpc_bad += other.grpc_bad;
        self.refused += other.refused;
        self.grpc_refused += other.grpc_refused;
        self.unanswered += other.unanswered;
        self.not_a_number |= other.not_a_number;
        self.named |= other.named;
        self.too_many |= other.too_many;
        for bound in &other.bounds {
            self.add_bound(*bound);
        }
    }

    /// Adds a bucket of a histogram: requests that took at most `most` seconds.
    pub fn add_bucket(&mut self, most: f64, requests: f64) {
        let count = self.number(requests);
        self.not_a_number |= most.is_nan();
        self.add_bound(Bound { most, count, histograms: 1 });
    }

    fn add_bound(&mut self, more: Bound) {
        let full = self.bounds.len() >= BOUNDS;
        match self.bounds.iter_mut().find(|bound| bound.most == more.most) {
            Some(bound) => {
                bound.count += more.count;
                bound.histograms += more.histograms;
            }
            None if full => self.too_many = true,
            None => self.bounds.push(more),
        }
    }

    /// All requests and the bad ones.
    ///
    /// Slower requests are all of the histogram without those under the threshold, so that both come from one
    /// family. A bound that some of the summed histograms lack is none: their requests would all count as slow.
    ///
    /// # Errors
    /// If the series cannot say.
    pub fn of(&self, what: &What) -> Result<(f64, f64), Untold> {
        if self.not_a_number {
            return Err(Untold::NotANumber);
        }
        match what {
            What::Errors => Ok((self.requests, self.bad.max(self.grpc_bad))),
            What::Refused => Ok((self.requests, self.refused.max(self.grpc_refused))),
            What::Slower(_) if self.too_many => Err(Untold::TooMany),
            What::Slower(threshold) => self.slower(*threshold),
            What::Custom { .. } => Err(Untold::NotBuiltIn),
        }
    }

    fn slower(&self, threshold: f64) -> Result<(f64, f64), Untold> {
        let all = self.bounds.iter().find(|bound| bound.most == f64::INFINITY);
        let histograms = all.map_or(0, |all| all.histograms);
        let whole = |bound: &&Bound| bound.histograms == histograms && bound.most.is_finite();
        let at = self
            .bounds
            .iter()
            .filter(whole)
            .find(|bound| (bound.most - threshold).abs() <= SAME * threshold.abs());
        match (all, at) {
            (Some(all), Some(at)) => Ok((all.count, (all.count - at.count).max(0.0))),
            // Histograms begin with the first request.
            (None, None) if self.bounds.is_empty() && self.requests == 0.0 => Ok((0.0, 0.0)),
            _ => {
                let mut bounds: Vec<f64> = self.bounds.iter().filter(whole).map(|b| b.most).collect();
                bounds.sort_by(f64::total_cmp);
                Err(Untold::NoSuchBound { threshold, bounds })
            }
        }
    }

    fn number(&mut self, value: f64) -> f64 {
        if value.is_finite() && value >= 0.0 {
            return value;
        }
        self.not_a_number = true;
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_and_slow_requests_come_from_their_own_counters() {
        let mut counts = Counts::default();
        counts.add(90.0, false);
        counts.add(10.0, true);
        for (most, requests) in [(0.1, 50.0), (0.25, 80.0), (f64::INFINITY, 100.0)] {
            counts.add_bucket(most, requests);
            counts.add_bucket(most, 0.0);
        }
        assert_eq!(counts.of(&What::Errors), Ok((100.0, 10.0)));
        assert_eq!(counts.of(&What::Slower(0.25)), Ok((100.0, 20.0)));
        assert_eq!(counts.of(&What::Slower(250.0 / 1000.0)), Ok((100.0, 20.0)));
        let error = counts.of(&What::Slower(0.2)).unwrap_err().to_string();
        assert_eq!(
            error,
            "0.2 s is no bound of the histogram of durations; set the threshold to one of 0.1, 0.25"
        );
    }

    #[test]
    fn faults_4_1_bounds_without_end_are_not_kept() {
        let mut counts = Counts::default();
        counts.add(1.0, false);
        (0..100_000).for_each(|bound| counts.add_bucket(f64::from(bound), 1.0));
        assert_eq!(counts.bounds.len(), BOUNDS);
        assert_eq!(counts.of(&What::Slower(0.2)), Err(Untold::TooMany));
        assert_eq!(counts.of(&What::Errors), Ok((1.0, 0.0)));
    }

    #[test]
    fn a_bound_that_one_of_the_histograms_lacks_is_none() {
        let mut counts = Counts::default();
        for (most, requests) in [(0.2, 1.0), (f64::INFINITY, 1.0), (0.5, 3.0), (f64::INFINITY, 4.0)] {
            counts.add_bucket(most, requests);
        }
        let bounds = Vec::new();
        assert_eq!(counts.of(&What::Slower(0.2)), Err(Untold::NoSuchBound { threshold: 0.2, bounds }));
    }

    #[test]
    fn what_has_counted_nothing_has_no_slow_request_and_what_has_no_histogram_cannot_say() {
        assert_eq!(Counts::default().of(&What::Slower(0.2)), Ok((0.0, 0.0)));
        let mut counts = Counts::default();
        counts.add(1.0, false);
        let error = counts.of(&What::Slower(0.2)).unwrap_err().to_string();
        assert!(error.ends_with("there is no histogram"), "{error}");
    }

    #[test]
    fn failed_calls_that_are_counted_apart_are_not_counted_twice() {
        let mut counts = Counts::default();
        counts.add(97.0, false);
        counts.add(3.0, true);
        counts.add_grpc_bad(10.0);
        assert_eq!(counts.of(&What::Errors), Ok((100.0, 10.0)));
        counts.add(20.0, true);
        assert_eq!(counts.of(&What::Errors), Ok((120.0, 23.0)));
    }

    #[test]
    fn what_two_histograms_count_adds_up_where_both_have_the_bound() {
        let of = |bounds: &[(f64, f64)]| {
            let mut counts = Counts::default();
            counts.add(4.0, false);
            bounds.iter().for_each(|(most, requests)| counts.add_bucket(*most, *requests));
            counts
        };
        let mut counts = of(&[(0.2, 3.0), (0.5, 4.0), (f64::INFINITY, 4.0)]);
        counts.merge(&of(&[(0.2, 1.0), (f64::INFINITY, 4.0)]));
        assert_eq!(counts.of(&What::Errors), Ok((8.0, 0.0)));
        assert_eq!(counts.of(&What::Slower(0.2)), Ok((8.0, 4.0)));
        assert!(counts.of(&What::Slower(0.5)).is_err());
    }

    #[test]
    fn what_is_no_number_of_requests_is_not_used() {
        for value in [f64::NAN, f64::INFINITY, -1.0] {
            let mut counts = Counts::default();
            counts.add(5.0, false);
            counts.add_bucket(0.2, value);
            assert_eq!(counts.of(&What::Errors), Err(Untold::NotANumber), "{value}");
        }
    }
}
