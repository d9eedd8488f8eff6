//! Fields of a spec that hold a duration or a share, read once, with what is wrong with them.

use jiff::SignedDuration;

use crate::api::Problem;
use crate::api::units::{duration, percent};

/// The longest that anything in a policy may take: a gate that waits for longer has been forgotten.
const LONGEST: SignedDuration = SignedDuration::from_hours(90 * 24);

/// Reads fields, and gathers what is wrong with them.
pub(super) struct Reader {
    /// What is wrong so far.
    pub problems: Vec<Problem>,
}

impl Reader {
    /// The duration in a field, or its default. The schema has checked the form; what it cannot check is
    /// said here.
    pub fn duration(
        &mut self,
        field: &str,
        text: Option<&String>,
        default: SignedDuration,
    ) -> SignedDuration {
        let Some(text) = text else { return default };
        let read = duration(text).and_then(|length| SignedDuration::try_from(length).ok());
        match read {
            Some(length) if length <= LONGEST => length,
            _ => {
                self.problems.push(Problem::error(
                    field,
                    format!("{text:?} is no duration of at most 90d"),
                    "Write one such as 30s, 5m, 2h or 7d.",
                ));
                default
            }
        }
    }

    /// The share of requests in a field that is written in percent, or its default.
    pub fn share(&mut self, field: &str, text: Option<&String>, default: f64) -> f64 {
        let Some(text) = text else { return default };
        match percent(text) {
            Some(value) if value > 0.0 => value / 100.0,
            _ => {
                self.problems.push(Problem::error(
                    field,
                    format!("{text:?} is no percentage over 0"),
                    "Write a number of percentage points such as \"0.5\".",
                ));
                default
            }
        }
    }
}
