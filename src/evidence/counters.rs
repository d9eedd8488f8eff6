//! From counters to looks.
//!
//! A source hands over samples: at a time, a series (a pod, or a gateway's view of a revision) had counted so many requests and
//! so many bad ones. Rates are never asked for, since a rate hides resets, gaps and the time it speaks of. Here differences are
//! taken per series, resets are handled, and a look closes only when both arms have samples past its end, so that the arms speak
//! of the same time up to one sampling interval. Only the two revisions that are compared are listened to.

use std::fmt;

use super::dispersion::PodCounts;
use super::tally::Tally;

/// One sample of one series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample<'a> {
    /// The revision that the series belongs to.
    pub revision: &'a str,
    /// The series; see [`super::pod_id`].
    pub pod: u64,
    /// When it was sampled, in seconds on any clock that all samples share.
    pub time: f64,
    /// Since when the pod has been Ready, on the same clock; `None` while it is not.
    pub ready_since: Option<f64>,
    /// The counter of all requests.
    pub requests: f64,
    /// The counter of bad requests.
    pub bad: f64,
    /// Requests that were given up before there was an answer, beside all these; they are bad. It may waver: only what is
    /// more than ever before counts.
    pub unanswered: f64,
}

/// Why a sample was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// The sample is of a revision that is not compared: an older one, or one that was superseded.
    OtherRevision,
    /// A counter is NaN, infinite or negative, or its time is not finite.
    NotANumber,
    /// More bad requests than requests.
    MoreBadThanRequests,
    /// Not later than the sample before it of the same series: a duplicate, or one that came late.
    NotLater,
}

impl fmt::Display for Rejected {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Rejected::OtherRevision => "the sample is of a revision that is not being compared",
            Rejected::NotANumber => "a counter or its time is not a finite number, or is negative",
            Rejected::MoreBadThanRequests => {
                "more bad requests than requests; the two queries do not count the same traffic"
            }
            Rejected::NotLater => "the sample is no later than the one before it",
        })
    }
}

impl std::error::Error for Rejected {}

/// A look that has closed.
#[derive(Clone, Debug, PartialEq)]
pub struct ClosedLook {
    /// What both arms counted.
    pub tally: Tally,
    /// Requests of both arms, also those that do not count since a pod is in its warm-up: how they are shared.
    pub shared: Tally,
    /// Stable's part of what counts, by series.
    pub stable_pods: Vec<PodCounts>,
    /// How long the look was, in seconds.
    pub seconds: f64,
    /// By how much the arms were read apart at its end, on average, in seconds.
    pub apart: f64,
}

#[derive(Clone, Debug, PartialEq)]
struct Series {
    pod: u64,
    canary: bool,
    time: f64,
    requests: f64,
    bad: f64,
    /// The most that were ever unanswered.
    unanswered: f64,
    /// Within the open look.
    now: [f64; 2],
    /// Past its end.
    next: [f64; 2],
    /// All requests since the open look began, also in warm-up.
    all: f64,
    past_end: bool,
    /// The time of the first sample past the end.
    closed_at: f64,
    /// Whether the last sample counted: it was out of warm-up.
    counts: bool,
}

/// The counters of both arms and the look that is open.
#[derive(Clone, Debug, PartialEq)]
pub struct Counters {
    stable: String,
    canary: String,
    warmup_seconds: f64,
    look_seconds: f64,
    start: f64,
    end: f64,
    /// When the open look would have ended, had it not been hastened.
    planned: Option<f64>,
    /// Whether the series are sums over pods: what falls is no counter that began anew, a pod has gone.
    sums: bool,
    series: Vec<Series>,
}

impl Counters {
    /// Counters for two revisions, from a time on. A pod counts once it has been Ready for `warmup_seconds`; looks last
    /// `look_seconds`, which must not be less than the source's sampling interval.
    pub fn new(stable: &str, canary: &str, warmup_seconds: f64, look_seconds: f64, from: f64) -> Counters {
        Counters {
            stable: stable.to_owned(),
            canary: canary.to_owned(),
            warmup_seconds: warmup_seconds.max(0.0),
            look_seconds: look_seconds.max(0.1),
            start: from,
            end: from + look_seconds.max(0.1),
            planned: None,
            sums: false,
            series: Vec::new(),
        }
    }

    /// The same for series that are sums over pods: one that falls says nothing of the time in which it did.
    pub fn of_sums(mut self) -> Counters {
        self.sums = true;
        self
    }

    /// Takes in one sample.
    pub fn sample(&mut self, sample: Sample<'_>) -> Result<(), Rejected> {
        let canary = sample.revision == self.canary;
        if !canary && sample.revision != self.stable {
            return Err(Rejected::OtherRevision);
        }
        let count = |value: f64| value.is_finite() && value >= 0.0;
        let counted = [sample.requests, sample.bad, sample.unanswered];
        if !counted.into_iter().all(count) || !sample.time.is_finite() {
            return Err(Rejected::NotANumber);
        }
        if sample.bad > sample.requests {
            return Err(Rejected::MoreBadThanRequests);
        }
        let warm = sample.ready_since.is_some_and(|since| sample.time >= since + self.warmup_seconds);
        let found = self.series.iter_mut().find(|series| series.pod == sample.pod && series.canary == canary);
        let Some(series) = found else {
            // What it counted before it was first seen may be old, or of its warm-up: the first sample only sets the mark.
            self.series.push(Series {
                pod: sample.pod,
                canary,
                time: sample.time,
                requests: sample.requests,
                bad: sample.bad,
                unanswered: sample.unanswered,
                now: [0.0; 2],
                next: [0.0; 2],
                all: 0.0,
                past_end: sample.time >= self.end,
                closed_at: sample.time,
                counts: warm,
            });
            return Ok(());
        };
        if sample.time <= series.time {
            return Err(Rejected::NotLater);
        }
        // After a reset all that the counter shows is new.
        let reset = sample.requests < series.requests || sample.bad < series.bad;
        let delta = if reset && self.sums {
            (0.0, 0.0)
        } else if reset {
            (sample.requests, sample.bad)
        } else {
            (sample.requests - series.requests, sample.bad - series.bad)
        };
        if reset {
            series.unanswered = 0.0;
        }
        let unanswered = (sample.unanswered - series.unanswered).max(0.0);
        let delta = if reset && self.sums { delta } else { (delta.0 + unanswered, delta.1 + unanswered) };
        series.unanswered += unanswered;
        series.all += delta.0;
        // Both sides of the difference must be out of warm-up.
        if warm && series.counts {
            let sum = if series.past_end { &mut series.next } else { &mut series.now };
            // Counters that are read one after the other may differ by a request in flight.
            *sum = [sum[0] + delta.0, sum[1] + delta.1.min(delta.0)];
        }
        series.time = sample.time;
        series.requests = sample.requests;
        series.bad = sample.bad;
        series.counts = warm;
        if !series.past_end {
            series.past_end = sample.time >= self.end;
            series.closed_at = sample.time;
        }
        Ok(())
    }

    /// A pod is gone: what it counted stays in the open look, which no longer waits for it.
    pub fn forget(&mut self, pod: u64) {
        for series in self.series.iter_mut().filter(|series| series.pod == pod) {
            series.past_end = true;
            series.counts = false;
            series.time = f64::MAX;
        }
    }

    /// Ends the open look as soon as can be, and tells how long it will be, in seconds: at least `seconds`, and twice as long as the
    /// series' latest samples lie apart, since the arms of a shorter look would speak of different times. `None`, and nothing
    /// has changed, where that is no sooner than it would end anyway.
    pub fn hasten(&mut self, seconds: f64) -> Option<f64> {
        let known = self.series.iter().filter(|series| series.time < f64::MAX);
        let times = known.map(|series| series.time);
        let (first, last) =
            times.fold((f64::INFINITY, f64::NEG_INFINITY), |(first, last), at| (first.min(at), last.max(at)));
        let length = seconds.max(2.0 * (last - first));
        let end = self.start.max(last) + length;
        if !end.is_finite() || end >= self.end {
            return None;
        }
        self.planned = Some(self.planned.unwrap_or(self.end));
        self.end = end;
        Some(end - self.start)
    }

    /// Closes the look if it may be closed: each arm has a series past its end, and so has every series that was sampled
    /// within the last `patience_seconds` before `now`.
    pub fn close(&mut self, now: f64, patience_seconds: f64) -> Option<ClosedLook> {
        let past = |canary: bool| self.series.iter().any(|series| series.canary == canary && series.past_end);
        let waiting =
            self.series.iter().any(|series| !series.past_end && series.time + patience_seconds >= now);
        if !past(true) || !past(false) || waiting {
            return None;
        }
        let mut tally = Tally::default();
        let mut shared = Tally::default();
        let mut stable_pods = Vec::new();
        for series in &mut self.series {
            let all = std::mem::take(&mut series.all).round() as u64;
            let sum = if series.canary { &mut shared.canary_requests } else { &mut shared.stable_requests };
            *sum = sum.saturating_add(all);
            let (requests, bad) = (series.now[0].round() as u64, series.now[1].round() as u64);
            let bad = bad.min(requests);
            if series.canary {
                tally.canary_requests = tally.canary_requests.saturating_add(requests);
                tally.canary_bad = tally.canary_bad.saturating_add(bad);
            } else {
                tally.stable_requests = tally.stable_requests.saturating_add(requests);
                tally.stable_bad = tally.stable_bad.saturating_add(bad);
                if requests > 0 {
                    let pod = series.pod;
                    stable_pods.push(PodCounts { pod, requests, bad });
                }
            }
        }
        // A series that fell silent is dropped: should it come back, its first sample sets a new mark.
        self.series.retain(|series| series.past_end && series.time < f64::MAX);
        // After a gap of the source the look is as long as the gap.
        let reached = self.series.iter().map(|series| series.closed_at).fold(f64::INFINITY, f64::min);
        let reached = if reached.is_finite() { reached.max(self.end) } else { self.end };
        let seconds = reached - self.start;
        let read_at = |canary: bool| {
            let of_arm = || self.series.iter().filter(|series| series.canary == canary);
            of_arm().map(|series| series.closed_at).sum::<f64>() / of_arm().count() as f64
        };
        let apart = (read_at(true) - read_at(false)).abs();
        // An arm that is gone was not read at all.
        let apart = if apart.is_finite() { apart } else { 0.0 };
        self.start = reached;
        // The grid of looks goes on from the look that holds `now`, so that no look is over before it began. A look that was
        // hastened leaves the rest of its own, if that is worth a look.
        if let Some(planned) = self.planned.take() {
            let rest = planned - now.max(reached) >= self.look_seconds / 4.0;
            self.end = planned - if rest { self.look_seconds } else { 0.0 };
        }
        let skipped = ((now - self.end) / self.look_seconds).floor().max(0.0);
        self.end += (skipped + 1.0) * self.look_seconds;
        for series in &mut self.series {
            series.now = std::mem::take(&mut series.next);
            series.past_end = series.time >= self.end;
            series.closed_at = series.time;
        }
        Some(ClosedLook { tally, shared, stable_pods, seconds, apart })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(revision: &str, pod: u64, time: f64, requests: f64, bad: f64) -> Sample<'_> {
        Sample { revision, pod, time, ready_since: Some(0.0), requests, bad, unanswered: 0.0 }
    }

    fn counters() -> Counters {
        Counters::new("old", "new", 0.0, 5.0, 0.0)
    }

    #[test]
    fn differences_per_series_and_both_arms() {
        let mut counters = counters();
        for (revision, pod) in [("old", 1), ("old", 2), ("new", 3)] {
            counters.sample(at(revision, pod, 0.5, 1000.0, 10.0)).unwrap();
        }
        counters.sample(at("old", 1, 5.5, 1100.0, 11.0)).unwrap();
        counters.sample(at("old", 2, 5.5, 1050.0, 10.0)).unwrap();
        assert_eq!(counters.close(5.6, 10.0), None, "the canary has no sample past the end");
        counters.sample(at("new", 3, 5.6, 1010.0, 13.0)).unwrap();
        let look = counters.close(5.7, 10.0).unwrap();
        let expected = Tally { canary_requests: 10, canary_bad: 3, stable_requests: 150, stable_bad: 1 };
        assert_eq!((look.tally, look.stable_pods.len()), (expected, 2));
        assert_eq!(counters.close(5.8, 10.0), None, "the next look is open");
    }

    #[test]
    fn what_is_unanswered_is_bad_and_its_wavering_is_nothing() {
        let mut counters = counters();
        let mut taken = |time: f64, requests: f64, unanswered: f64| {
            counters.sample(at("old", 1, time, 10.0 * requests, 0.0)).unwrap();
            counters.sample(Sample { unanswered, ..at("new", 2, time, requests, 0.0) }).unwrap();
            counters.close(time, 10.0).map(|look| (look.tally.canary_requests, look.tally.canary_bad))
        };
        assert_eq!(taken(0.0, 100.0, 3.0), None, "the first is a mark");
        assert_eq!(taken(5.0, 200.0, 23.0), Some((120, 20)));
        assert_eq!(taken(10.0, 300.0, 19.0), Some((100, 0)), "some of them were only under way");
        assert_eq!(taken(15.0, 400.0, 24.0), Some((101, 1)));
        assert_eq!(taken(20.0, 50.0, 2.0), Some((52, 2)), "the proxy began anew");
    }

    #[test]
    fn how_requests_are_shared_shows_in_warm_up_too() {
        let mut counters = Counters::new("old", "new", 60.0, 5.0, 0.0);
        for time in [0.0, 5.0] {
            counters
                .sample(Sample { ready_since: Some(-100.0), ..at("old", 1, time, 9.0 * time, 0.0) })
                .unwrap();
            counters.sample(at("new", 2, time, time, time)).unwrap();
        }
        let look = counters.close(5.0, 10.0).unwrap();
        let counted = Tally { stable_requests: 45, ..Tally::default() };
        assert_eq!((look.tally, look.shared), (counted, Tally { canary_requests: 5, ..counted }));
    }

    #[test]
    fn a_look_that_is_hastened_ends_once_and_the_grid_goes_on() {
        let mut counters = counters();
        let sample = |counters: &mut Counters, time: f64, apart: f64| {
            counters.sample(at("old", 1, time, 100.0 * time, 0.0)).unwrap();
            counters.sample(at("new", 2, time + apart, 10.0 * time, time)).unwrap();
            counters.close(time + apart, 10.0)
        };
        assert_eq!(sample(&mut counters, 0.0, 0.0), None);
        assert!(sample(&mut counters, 5.0, 0.1).is_some());
        let length = counters.hasten(0.25).expect("it is hastened");
        assert!((length - 0.35).abs() < 1e-9, "the later sample is already taken: {length}");
        assert_eq!(counters.hasten(0.25), None, "once");
        let look = sample(&mut counters, 5.5, 0.1).expect("it ends early");
        assert_eq!((look.tally.stable_requests, look.tally.canary_bad), (50, 1));
        assert_eq!(sample(&mut counters, 9.0, 0.1), None);
        assert!(sample(&mut counters, 10.0, 0.1).is_some(), "as it would have been");
        // Arms that are read far apart make no short looks.
        assert!(sample(&mut counters, 15.0, 3.0).is_some());
        assert_eq!(counters.hasten(0.25), None);
    }

    #[test]
    fn a_look_tells_by_how_much_its_arms_were_read_apart() {
        let mut counters = counters();
        for time in [0.0, 5.0] {
            for (revision, pod, later) in [("old", 1, 0.0), ("old", 2, 1.0), ("new", 3, 3.0)] {
                counters.sample(at(revision, pod, time + later, 10.0 * time, 0.0)).unwrap();
            }
        }
        assert_eq!(counters.close(8.0, 10.0).unwrap().apart, 2.5);
    }

    #[test]
    fn a_reset_counts_what_came_after_it() {
        let mut counters = counters();
        counters.sample(at("old", 1, 0.0, 500.0, 5.0)).unwrap();
        counters.sample(at("new", 2, 0.0, 500.0, 5.0)).unwrap();
        counters.sample(at("old", 1, 5.0, 600.0, 6.0)).unwrap();
        counters.sample(at("new", 2, 5.0, 40.0, 2.0)).unwrap();
        let tally = counters.close(5.0, 10.0).unwrap().tally;
        assert_eq!((tally.canary_requests, tally.canary_bad), (40, 2));
    }

    #[test]
    fn a_sum_that_falls_is_no_counter_that_began_anew() {
        let mut counters = counters().of_sums();
        for (revision, pod) in [("old", 1), ("new", 2)] {
            counters.sample(at(revision, pod, 0.0, 5000.0, 50.0)).unwrap();
        }
        counters.sample(at("old", 1, 5.0, 5100.0, 51.0)).unwrap();
        // A pod has gone, and with it half of what it had counted.
        counters.sample(at("new", 2, 5.0, 2600.0, 25.0)).unwrap();
        let tally = counters.close(5.0, 10.0).unwrap().tally;
        assert_eq!((tally.canary_requests, tally.stable_requests), (0, 100));
        counters.sample(at("old", 1, 10.0, 5200.0, 52.0)).unwrap();
        counters.sample(at("new", 2, 10.0, 2700.0, 95.0)).unwrap();
        let tally = counters.close(10.0, 10.0).unwrap().tally;
        assert_eq!((tally.canary_requests, tally.canary_bad), (100, 70));
    }

    #[test]
    fn what_cannot_be_is_rejected_and_changes_nothing() {
        let mut counters = counters();
        counters.sample(at("old", 1, 1.0, 10.0, 1.0)).unwrap();
        let before = counters.clone();
        for (sample, why) in [
            (at("older", 1, 2.0, 20.0, 1.0), Rejected::OtherRevision),
            (at("old", 1, 2.0, f64::NAN, 1.0), Rejected::NotANumber),
            (at("old", 1, 2.0, -1.0, -2.0), Rejected::NotANumber),
            (at("old", 1, 2.0, f64::INFINITY, 1.0), Rejected::NotANumber),
            (at("old", 1, f64::NAN, 20.0, 1.0), Rejected::NotANumber),
            (at("old", 1, 2.0, 20.0, 21.0), Rejected::MoreBadThanRequests),
            (at("old", 1, 1.0, 20.0, 1.0), Rejected::NotLater),
            (at("old", 1, 0.5, 20.0, 1.0), Rejected::NotLater),
        ] {
            assert_eq!(counters.sample(sample), Err(why));
            assert_eq!(counters, before);
        }
    }

    #[test]
    fn a_pod_counts_only_after_its_warm_up() {
        let mut counters = Counters::new("old", "new", 60.0, 5.0, 0.0);
        let mut bad = 0;
        for second in 0..200 {
            let time = f64::from(second);
            let mut sample = at("new", 2, time, time * 10.0, time.min(61.0));
            sample.ready_since = Some(0.0);
            counters.sample(sample).unwrap();
            let mut sample = at("old", 1, time, time * 100.0, 0.0);
            sample.ready_since = Some(-1000.0);
            counters.sample(sample).unwrap();
            if let Some(look) = counters.close(time, 10.0) {
                bad += look.tally.canary_bad;
            }
        }
        assert_eq!(bad, 1, "only the failure of the 61st second is out of warm-up");
    }

    #[test]
    fn a_late_sample_goes_to_the_look_that_it_belongs_to() {
        let mut counters = counters();
        for (revision, pod) in [("old", 1), ("new", 2)] {
            counters.sample(at(revision, pod, 0.0, 0.0, 0.0)).unwrap();
        }
        counters.sample(at("old", 1, 5.0, 50.0, 0.0)).unwrap();
        counters.sample(at("old", 1, 6.0, 60.0, 9.0)).unwrap();
        counters.sample(at("new", 2, 5.0, 5.0, 0.0)).unwrap();
        let first = counters.close(6.0, 10.0).unwrap();
        assert_eq!((first.tally.stable_requests, first.tally.stable_bad), (50, 0));
        counters.sample(at("old", 1, 10.0, 100.0, 9.0)).unwrap();
        counters.sample(at("new", 2, 10.0, 10.0, 0.0)).unwrap();
        let second = counters.close(10.0, 10.0).unwrap();
        assert_eq!((second.tally.stable_requests, second.tally.stable_bad), (50, 9));
    }

    #[test]
    fn a_pod_that_is_gone_is_not_waited_for() {
        let mut counters = counters();
        for (revision, pod) in [("old", 1), ("old", 9), ("new", 2)] {
            counters.sample(at(revision, pod, 0.0, 0.0, 0.0)).unwrap();
            counters.sample(at(revision, pod, 3.0, 30.0, 1.0)).unwrap();
        }
        counters.sample(at("old", 1, 5.0, 50.0, 1.0)).unwrap();
        counters.sample(at("new", 2, 5.0, 50.0, 1.0)).unwrap();
        assert_eq!(counters.close(5.0, 10.0), None);
        counters.forget(9);
        let look = counters.close(5.0, 10.0).unwrap();
        assert_eq!(look.tally.stable_requests, 80, "what it answered still counts");
    }

    #[test]
    fn a_silent_pod_is_waited_for_only_so_long() {
        let mut counters = counters();
        for (revision, pod) in [("old", 1), ("old", 9), ("new", 2)] {
            counters.sample(at(revision, pod, 0.0, 0.0, 0.0)).unwrap();
        }
        counters.sample(at("old", 1, 12.0, 50.0, 1.0)).unwrap();
        counters.sample(at("new", 2, 12.0, 50.0, 1.0)).unwrap();
        assert_eq!(counters.close(9.0, 10.0), None);
        assert!(counters.close(12.0, 10.0).is_some());
    }
}
