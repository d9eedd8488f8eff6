//! Durations and percentages as people write them.

use std::time::Duration;

/// The time in whole seconds, as the API keeps it: anything finer would differ from what is read back.
pub fn whole_seconds(now: jiff::Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// What a duration looks like: one or more of `500ms`, `30s`, `5m`, `1h`, `7d`, without spaces.
pub const DURATION_PATTERN: &str = "^([0-9]{1,9}(ms|s|m|h|d))+$";

/// What a percentage looks like: a decimal number from 0 to 100, written as a string so that none
/// of its digits is lost (99.99 has no exact binary form).
pub const PERCENT_PATTERN: &str = r"^(100(\.0{1,6})?|[0-9]{1,2}(\.[0-9]{1,6})?)$";

/// Parses a duration such as `1h30m`. `None` if it is not one.
pub fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let (unit, millis) = if rest.starts_with("ms") {
            ("ms", 1)
        } else if rest.starts_with('s') {
            ("s", 1_000)
        } else if rest.starts_with('m') {
            ("m", 60_000)
        } else if rest.starts_with('h') {
            ("h", 3_600_000)
        } else if rest.starts_with('d') {
            ("d", 86_400_000)
        } else {
            return None;
        };
        rest = &rest[unit.len()..];
        total = total.checked_add(Duration::from_millis(number.checked_mul(millis)?))?;
    }
    Some(total)
}

/// Parses a percentage such as `99.99`. `None` if it is not one, or not within 0 to 100.
pub fn percent(text: &str) -> Option<f64> {
    let value: f64 = text.parse().ok()?;
    (0.0..=100.0).contains(&value).then_some(value)
}

/// Writes a duration in the form that Istio, Gateway API (GEP-2257) and Prometheus all read:
/// whole units from hours to milliseconds, largest first.
pub fn display(duration: Duration) -> String {
    let mut millis = duration.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, size) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        let count = millis / size;
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
            millis -= count * size;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(duration("7d"), Some(Duration::from_secs(7 * 86_400)));
        for wrong in ["", "5", "s", "5 s", "-5s", "5x", "99999999999999999999s"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn durations_are_written_in_whole_units() {
        assert_eq!(display(Duration::from_millis(90_500)), "1m30s500ms");
        assert_eq!(display(Duration::from_secs(7 * 86_400)), "168h");
        assert_eq!(display(Duration::ZERO), "0s");
    }

    #[test]
    fn percentages_stay_within_bounds() {
        assert_eq!(percent("99.99"), Some(99.99));
        for wrong in ["101", "-1", "NaN", "x", ""] {
            assert_eq!(percent(wrong), None, "{wrong}");
        }
    }
}
