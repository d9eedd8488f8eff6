//! How far a mirror is behind, from what it tells again and again. Pure.
//!
//! The age of the last record is its age when it was copied, and stands still when the mirror does. So it counts only
//! where the number of records has grown since the look before: whatever is copied (a heartbeat topic, if there is one,
//! always is) shows that the mirror runs. From then on the bound grows with the time: a mirror that has stopped falls
//! behind by itself, and one of which nothing is known is not fresh.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::page::{Page, Partition};

/// What one look at a mirror has shown, after the ones before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flow {
    /// It copies: at the look it was so far behind.
    Moves(Seen),
    /// It has copied nothing since the look at `Seen`: nothing was written, or it has stopped.
    Still(Seen),
    /// It is not known whether it copies.
    Unknown(String),
}

/// When the mirror was last seen to copy, and how old what it copied was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When.
    pub at: Timestamp,
    /// How old the oldest was of the records that the partitions copied last.
    pub age: Duration,
}

impl Seen {
    /// What was written longer ago than that is here. It grows while nothing is seen.
    pub fn behind(&self, now: Timestamp) -> Duration {
        self.age + Duration::try_from(now.duration_since(self.at)).unwrap_or_default()
    }
}

impl Flow {
    /// How far the mirror is behind at most; `None` if that is not known.
    pub fn behind(&self, now: Timestamp) -> Option<Duration> {
        match self {
            Self::Moves(seen) | Self::Still(seen) => Some(seen.behind(now)),
            Self::Unknown(_) => None,
        }
    }
}

/// What is remembered from look to look.
#[derive(Clone, Debug, Default)]
pub struct Track {
    records: BTreeMap<Partition, u64>,
    seen: Option<Seen>,
}

impl Track {
    /// Takes in another look. `source` is the alias of the cluster that is copied from, where it is known: what comes
    /// from elsewhere does not count.
    ///
    /// A partition that is missing may be told by another worker; one whose count has fallen belongs to a task that began
    /// anew. Neither shows that anything was copied.
    pub fn look(&mut self, page: &Page, source: Option<&str>, now: Timestamp) -> Flow {
        let ours = |partition: &Partition| source.is_none_or(|source| source == partition.source);
        let mut moved = Vec::new();
        let mut known = false;
        for (partition, counts) in page.partitions.iter().filter(|(partition, _)| ours(partition)) {
            let Some(records) = counts.records else { continue };
            known = true;
            let before = self.records.insert(partition.clone(), records);
            if before.is_some_and(|before| records > before) {
                moved.push(counts.age);
            }
        }
        if let [task, ..] = page.not_running.as_slice() {
            // What runs says nothing about what does not.
            self.seen = None;
            return Flow::Unknown(task.clone());
        }
        // One of those that copy and do not say how old it is makes all of it unknown.
        let ages: Option<Vec<Duration>> = moved.iter().copied().collect();
        let oldest = ages.as_ref().and_then(|ages| ages.iter().max().copied());
        match (oldest, self.seen) {
            (Some(age), _) => {
                let seen = Seen { at: now, age };
                self.seen = Some(seen);
                Flow::Moves(seen)
            }
            (None, Some(seen)) => Flow::Still(seen),
            (None, None) if ages.is_none() => {
                Flow::Unknown("it does not say how old the records are that it copies".to_owned())
            }
            (None, None) if known => Flow::Unknown("it has not been seen to copy anything yet".to_owned()),
            (None, None) => Flow::Unknown("it tells of no partition that it copies".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::page::Counts;
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn page(partitions: &[(&str, Option<u64>, Option<u64>)]) -> Page {
        let partitions = partitions.iter().map(|(topic, records, age)| {
            let (topic, partition) = ((*topic).to_owned(), "0".to_owned());
            let counts = Counts { records: *records, age: age.map(seconds) };
            (Partition { source: "aws".to_owned(), topic, partition }, counts)
        });
        Page { partitions: partitions.collect(), ..Page::default() }
    }

    #[test]
    fn an_age_counts_only_while_the_count_grows() {
        let mut track = Track::default();
        let first = track.look(&page(&[("pay", Some(10), Some(1))]), None, at(0));
        assert_eq!(first.behind(at(0)), None, "one look shows no movement");
        let moves = track.look(&page(&[("pay", Some(12), Some(2))]), None, at(10));
        assert_eq!(moves, Flow::Moves(Seen { at: at(10), age: seconds(2) }));
        assert_eq!(moves.behind(at(10)), Some(seconds(2)));
        // It stands still, and goes on to say that it is two seconds behind.
        let still = track.look(&page(&[("pay", Some(12), Some(2))]), None, at(70));
        assert_eq!(still, Flow::Still(Seen { at: at(10), age: seconds(2) }));
        assert_eq!(still.behind(at(70)), Some(seconds(62)));
        let again = track.look(&page(&[("pay", Some(13), Some(61))]), None, at(80));
        assert_eq!(again.behind(at(80)), Some(seconds(61)), "it catches up, and is that far behind");
    }

    #[test]
    fn the_heartbeat_shows_that_quiet_topics_are_quiet() {
        let mut track = Track::default();
        let look = |track: &mut Track, beats, second| {
            let page = page(&[("pay", Some(10), Some(900)), ("heartbeats", Some(beats), Some(1))]);
            track.look(&page, Some("aws"), at(second))
        };
        look(&mut track, 1, 0);
        assert_eq!(look(&mut track, 2, 10).behind(at(10)), Some(seconds(1)));
        assert_eq!(look(&mut track, 2, 60).behind(at(60)), Some(seconds(51)), "no beat: it falls behind");
    }

    #[test]
    fn a_reset_and_a_missing_series_show_nothing() {
        let mut track = Track::default();
        track.look(&page(&[("pay", Some(10), Some(1))]), None, at(0));
        track.look(&page(&[("pay", Some(11), Some(1))]), None, at(10));
        let reset = track.look(&page(&[("pay", Some(3), Some(0))]), None, at(20));
        assert_eq!(reset.behind(at(20)), Some(seconds(11)), "a task began anew");
        let after = track.look(&page(&[("pay", Some(4), Some(7))]), None, at(30));
        assert_eq!(after.behind(at(30)), Some(seconds(7)));
        let missing = track.look(&page(&[]), None, at(40));
        assert_eq!(missing.behind(at(40)), Some(seconds(17)));
        let elsewhere = track.look(&page(&[("pay", Some(5), Some(0))]), Some("other"), at(50));
        assert_eq!(elsewhere.behind(at(50)), Some(seconds(27)), "another mirror's partition is not ours");
    }

    #[test]
    fn what_is_not_known_is_not_fresh() {
        let mut track = Track::default();
        let unknown = |flow: Flow| match flow {
            Flow::Unknown(words) => words,
            other => panic!("{other:?}"),
        };
        assert!(unknown(track.look(&page(&[]), None, at(0))).contains("no partition"));
        assert!(unknown(track.look(&page(&[("pay", None, None)]), None, at(0))).contains("no partition"));
        assert!(unknown(track.look(&page(&[("pay", Some(1), None)]), None, at(1))).contains("not been seen"));
        let ageless = track.look(&page(&[("pay", Some(2), None)]), None, at(2));
        assert!(unknown(ageless).contains("how old"));
        // One of two that copy has no age.
        track.look(&page(&[("a", Some(1), Some(1)), ("b", Some(1), Some(1))]), None, at(3));
        let half = track.look(&page(&[("a", Some(2), Some(1)), ("b", Some(2), None)]), None, at(4));
        assert_eq!(half.behind(at(4)), None);
    }

    #[test]
    fn a_task_that_has_failed_makes_all_of_it_unknown() {
        let mut track = Track::default();
        track.look(&page(&[("pay", Some(1), Some(1))]), None, at(0));
        let failed = Page {
            not_running: vec!["task 1 of aws->gcp.MirrorSourceConnector is failed".to_owned()],
            ..page(&[("pay", Some(2), Some(1))])
        };
        let flow = track.look(&failed, None, at(10));
        assert_eq!(flow, Flow::Unknown("task 1 of aws->gcp.MirrorSourceConnector is failed".to_owned()));
        let well = track.look(&page(&[("pay", Some(2), Some(1))]), None, at(20));
        assert_eq!(well.behind(at(20)), None, "what was seen before does not count");
    }
}
