//! Entries that are not in the record yet. They are written in one with the status that they tell of: whoever goes on after
//! the operator was killed finds both or neither. Pure.

use jiff::Timestamp;
use serde::Serialize;

use super::entry::Event;
use super::line::instant;
use crate::api::record::RecordStatus;

/// The most entries that wait, as the schema has it. A move makes some fifty.
const MOST: usize = 256;
/// The most bytes that wait. An object has room for about a MiB.
const MOST_BYTES: usize = 256 * 1024;

/// An entry before it has its place in the record.
#[derive(Serialize)]
struct Pending<'a> {
    number: i64,
    at: String,
    #[serde(flatten)]
    event: &'a Event,
}

/// Puts entries to those that wait, each with the next number of its move.
pub fn put(record: &mut RecordStatus, events: &[Event], now: Timestamp) {
    for event in events {
        let number = record.made + 1;
        let text = serde_json::to_string(&Pending { number, at: instant(now), event }).unwrap_or_default();
        let bytes: usize = record.pending.iter().map(String::len).sum();
        if record.pending.len() >= MOST || bytes + text.len() > MOST_BYTES {
            record.missed = Some(record.missed.unwrap_or(0) + 1);
            continue;
        }
        record.made = number;
        record.pending.push(text);
    }
}

/// Whether the entry of an Action waits already: it was answered, and the answer did not come to stand.
pub fn has_heard(record: Option<&RecordStatus>, id: &str) -> bool {
    let said = format!("\"id\":{}", serde_json::Value::from(id));
    record.is_some_and(|record| record.pending.iter().any(|text| text.contains(&said)))
}

/// These entries are in the record, which has so many now and that head.
pub fn delivered(record: &mut RecordStatus, sent: usize, entries: i64, head: &str, now: Timestamp) {
    record.pending.drain(..sent.min(record.pending.len()));
    (record.entries, record.head, record.error) = (Some(entries), Some(head.to_owned()), None);
    if let (true, Some(count)) = (record.pending.is_empty(), record.missed.take()) {
        put(record, &[Event::Missed { count }], now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn began(step: &str) -> Event {
        Event::StepBegan { step: step.to_owned() }
    }

    #[test]
    fn entries_are_numbered_in_the_order_in_which_they_happened() {
        let mut record = RecordStatus::default();
        let now = "2026-01-01T00:00:00.25Z".parse().unwrap();
        put(&mut record, &[began("claim"), began("fence")], now);
        assert_eq!(
            record.pending[1],
            r#"{"number":2,"at":"2026-01-01T00:00:00.250Z","event":"StepBegan","step":"fence"}"#
        );
        delivered(&mut record, 1, 1, "head", now);
        put(&mut record, &[began("open")], now);
        assert_eq!((record.made, record.pending.len()), (3, 2));
        assert!(record.pending[1].starts_with(r#"{"number":3"#));
    }

    #[test]
    fn what_finds_no_room_is_counted_and_said() {
        let mut record = RecordStatus::default();
        let long = "x".repeat(4000);
        let now = Timestamp::UNIX_EPOCH;
        for _ in 0..300 {
            put(&mut record, &[began(&long)], now);
        }
        let bytes: usize = record.pending.iter().map(String::len).sum();
        assert!(bytes <= MOST_BYTES && record.pending.len() <= MOST);
        let (made, missed) = (record.made, record.missed.unwrap());
        assert_eq!(made + missed, 300);
        let sent = record.pending.len();
        delivered(&mut record, sent, made, "head", now);
        assert_eq!((record.missed, record.made), (None, made + 1));
        assert!(record.pending[0].contains(&format!(r#""event":"Missed","count":{missed}"#)));
    }
}
