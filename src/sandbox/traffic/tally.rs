//! What became of requests.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Buckets of latency for each doubling: a quantile is at most 9 % too high.
const PER_DOUBLING: f64 = 8.0;
/// Buckets in all: they reach beyond an hour.
const BUCKETS: usize = 256;

/// Latencies, by buckets that grow with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latencies(Vec<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self(vec![0; BUCKETS])
    }
}

impl Latencies {
    fn add(&mut self, latency: Duration) {
        let micros = (latency.as_micros() as f64).max(1.0);
        self.0[((micros.log2() * PER_DOUBLING) as usize).min(BUCKETS - 1)] += 1;
    }

    /// The latency under which this share of the answers came, 0 to 1; `None` where there was none.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let all: u64 = self.0.iter().sum();
        let wanted = ((all as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let bucket = self.0.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        Some(Duration::from_micros(2f64.powf((bucket as f64 + 1.0) / PER_DOUBLING) as u64))
    }
}

/// The answers of one release.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answers {
    /// How many there were of each HTTP status.
    pub statuses: BTreeMap<u16, u64>,
    /// How long they took.
    pub latencies: Latencies,
}

impl Answers {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.statuses.values().sum()
    }

    /// Those with a status of 500 or more.
    pub fn failed(&self) -> u64 {
        self.statuses.range(500..).map(|(_, count)| count).sum()
    }
}

/// Counts of requests, and of what became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many were sent.
    pub sent: u64,
    /// The answers by release, which is what the header `x-release` says. Those without it, which the gateway gives
    /// by itself, are under the empty one.
    pub releases: BTreeMap<String, Answers>,
    /// How many answers came from each pod, by its name.
    pub pods: BTreeMap<String, u64>,
    /// Requests without an answer, by what stood in the way.
    pub broken: BTreeMap<String, u64>,
    /// Requests that were due and not sent, because too many were under way.
    pub left_out: u64,
}

impl Tally {
    /// Notes an answer.
    pub fn answer(&mut self, release: &str, pod: &str, status: u16, latency: Duration) {
        if !self.releases.contains_key(release) {
            self.releases.insert(release.to_owned(), Answers::default());
        }
        if let Some(answers) = self.releases.get_mut(release) {
            *answers.statuses.entry(status).or_default() += 1;
            answers.latencies.add(latency);
        }
        if !pod.is_empty() {
            *self.pods.entry(pod.to_owned()).or_default() += 1;
        }
    }

    /// The answers of a release; none where it gave none.
    pub fn of(&self, release: &str) -> Answers {
        self.releases.get(release).cloned().unwrap_or_default()
    }

    /// How many requests were answered, well or not.
    pub fn answered(&self) -> u64 {
        self.releases.values().map(Answers::total).sum()
    }

    /// How many requests failed: a status of 500 or more, or no answer.
    pub fn failed(&self) -> u64 {
        self.releases.values().map(Answers::failed).sum::<u64>() + self.broken.values().sum::<u64>()
    }

    /// What came after an earlier tally of the same load.
    pub fn since(&self, earlier: &Self) -> Self {
        let minus = |now: &BTreeMap<String, u64>, then: &BTreeMap<String, u64>| {
            let left = now.iter().map(|(key, count)| (key.clone(), count - then.get(key).unwrap_or(&0)));
            left.filter(|(_, count)| *count > 0).collect()
        };
        let mut releases = self.releases.clone();
        for (release, then) in &earlier.releases {
            let Some(now) = releases.get_mut(release) else { continue };
            for (status, count) in &then.statuses {
                now.statuses.entry(*status).and_modify(|now| *now -= count);
            }
            now.statuses.retain(|_, count| *count > 0);
            now.latencies.0.iter_mut().zip(&then.latencies.0).for_each(|(now, then)| *now -= then);
        }
        releases.retain(|_, answers| answers.total() > 0);
        Self {
            sent: self.sent - earlier.sent,
            releases,
            pods: minus(&self.pods, &earlier.pods),
            broken: minus(&self.broken, &earlier.broken),
            left_out: self.left_out - earlier.left_out,
        }
    }
}

impl fmt::Display for Tally {
    /// A line for people: `4000 sent; app:1 3600 (0 failed, p99 4 ms), app:2 400 (8 failed, p99 5 ms)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sent", self.sent)?;
        for (index, (release, answers)) in self.releases.iter().enumerate() {
            let name = if release.is_empty() { "the gateway itself" } else { release };
            let p99 = answers.latencies.quantile(0.99).unwrap_or_default().as_secs_f64() * 1000.0;
            let before = if index == 0 { "; " } else { ", " };
            let (total, failed) = (answers.total(), answers.failed());
            write!(f, "{before}{name} {total} ({failed} failed, p99 {p99:.0} ms)")?;
        }
        for (why, count) in &self.broken {
            write!(f, "; {count} without an answer: {why}")?;
        }
        if self.left_out > 0 {
            write!(f, "; {} not sent, too many were under way", self.left_out)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(counts: &[(&str, u16, u64)]) -> Tally {
        let mut tally = Tally::default();
        for (release, status, count) in counts {
            for _ in 0..*count {
                tally.sent += 1;
                tally.answer(release, &format!("pod-{release}"), *status, Duration::from_millis(3));
            }
        }
        tally
    }

    #[test]
    fn failed_is_what_has_a_bad_status_or_no_answer() {
        let mut tally = answered(&[("a", 200, 5), ("a", 503, 2), ("b", 404, 1), ("", 503, 1)]);
        tally.broken.insert("reset".into(), 4);
        assert_eq!((tally.answered(), tally.failed()), (9, 7));
        assert_eq!((tally.of("a").total(), tally.of("a").failed(), tally.of("c").total()), (7, 2, 0));
        let text = tally.to_string();
        assert!(text.starts_with("9 sent; the gateway itself 1 (1 failed, "), "{text}");
        assert!(text.ends_with("; 4 without an answer: reset"), "{text}");
    }

    #[test]
    fn what_was_before_is_taken_away() {
        let early = answered(&[("a", 200, 5), ("b", 200, 3)]);
        let late = answered(&[("a", 200, 9), ("a", 500, 1), ("b", 200, 3), ("c", 200, 2)]);
        assert_eq!(late.since(&early), answered(&[("a", 200, 4), ("a", 500, 1), ("c", 200, 2)]));
        assert_eq!(late.since(&late), Tally::default());
    }

    #[test]
    fn quantiles_are_a_little_too_high_at_most() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile(0.5), None);
        (1..=1000).for_each(|millis| latencies.add(Duration::from_millis(millis)));
        latencies.add(Duration::ZERO);
        for (share, millis) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let found = latencies.quantile(share).unwrap().as_secs_f64() * 1000.0;
            assert!(found >= millis * 0.998 && found <= millis * 1.095, "{share}: {found}");
        }
    }
}
