//! The peak of the site that serves, over a day, as the sites that stand by remember it. Pure.

use jiff::Timestamp;

use super::facts::{Services, sum};
use crate::api::failovergroup::{Peak, PeakHour};

/// For how many hours a peak is kept: a day, and the hour that has begun.
const HOURS: i64 = 24;

/// The peak with what is there now. It differs from the old one only where an hour has begun, or a figure has risen.
pub fn sampled(old: Option<&Peak>, there: &Services, now: Timestamp) -> Option<Peak> {
    let (cpu_millis, memory_mib, pods) = sum(there);
    if pods == 0 {
        return None;
    }
    let hour = now.as_second().div_euclid(3600);
    let mut hours: Vec<PeakHour> = old.map(|old| old.hours.clone()).unwrap_or_default();
    hours.retain(|known| known.hour > hour - HOURS - 1 && known.hour <= hour);
    match hours.last_mut().filter(|last| last.hour == hour) {
        Some(last) => {
            last.cpu_millis = last.cpu_millis.max(cpu_millis);
            last.memory_mib = last.memory_mib.max(memory_mib);
            last.pods = last.pods.max(pods);
        }
        None => hours.push(PeakHour { hour, cpu_millis, memory_mib, pods }),
    }
    Some(Peak { hours })
}

/// The greatest figures of the last day: thousandths of a core, MiB, pods. `None` if none was taken. Where nothing could be
/// sampled for a day, the last that was known stands.
pub fn peak_of(peak: Option<&Peak>) -> Option<(i64, i64, i64)> {
    let hours = &peak?.hours;
    let most = |of: fn(&PeakHour) -> i64| hours.iter().map(of).max();
    Some((most(|hour| hour.cpu_millis)?, most(|hour| hour.memory_mib)?, most(|hour| hour.pods)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failovergroup::facts::ServiceFacts;
    use crate::runtime::key::Key;

    fn pods(pods: i64) -> Services {
        let facts = ServiceFacts { pods, asks: (100, 64), ..ServiceFacts::default() };
        [(Key::new("pay", "a"), facts)].into()
    }

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(hour * 3600 + 17).expect("a time")
    }

    #[test]
    fn the_peak_of_a_day_is_kept_and_changes_only_when_it_must() {
        let first = sampled(None, &pods(4), at(100)).expect("a peak");
        assert_eq!(sampled(Some(&first), &pods(3), at(100)), Some(first.clone()), "nothing rose");
        let second = sampled(Some(&first), &pods(2), at(101)).expect("a peak");
        assert_eq!(peak_of(Some(&second)), Some((400, 256, 4)));
        let later = sampled(Some(&second), &pods(1), at(125)).expect("a peak");
        assert_eq!(peak_of(Some(&later)), Some((200, 128, 2)), "the first hour is a day ago");
        assert_eq!(sampled(Some(&later), &pods(0), at(130)), None, "who has no pods is no measure");
        assert!(
            (0..200)
                .fold(first, |peak, hour| sampled(Some(&peak), &pods(1), at(hour)).expect("a peak"))
                .hours
                .len()
                <= 25
        );
    }
}
