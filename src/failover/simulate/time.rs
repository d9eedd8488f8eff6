//! Virtual time: tenths of a second since the beginning of a story.

use jiff::{SignedDuration, Timestamp};

use crate::api::units::duration;

/// Virtual time begins here; nothing depends on it.
const EPOCH: i64 = 1_800_000_000;
/// Ticks in a second.
pub(super) const TICKS: u64 = 10;
/// How long a call to who is silent takes, in ticks.
pub(super) const SILENCE: u64 = 5 * TICKS;

/// A moment.
pub(super) fn at(tick: u64) -> Timestamp {
    let since = SignedDuration::from_millis(i64::try_from(tick * 1000 / TICKS).unwrap_or(i64::MAX));
    Timestamp::from_second(EPOCH).unwrap_or_default().saturating_add(since).unwrap_or(Timestamp::MAX)
}

/// How many ticks that is.
pub(super) fn ticks(text: &str) -> u64 {
    let millis = duration(text).unwrap_or_default().as_millis();
    u64::try_from(millis).unwrap_or(u64::MAX).saturating_mul(TICKS) / 1000
}

/// A time from the beginning, as people read it.
pub(super) fn clock(tick: u64) -> String {
    let (seconds, part) = (tick / TICKS, tick % TICKS);
    format!("{}:{:02}:{:02}.{part}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}
