//! The mark that a route carries: what the last write of weights meant.
//!
//! Traffic comes first: the weight goes to zero before anything else is written. If the operator dies between
//! that write and the status, the status is older than the route, and a decision from it alone would give the
//! canary its weight back. So the write of the weights itself says what it meant, in an annotation of the same
//! object, and the next decision catches up from there.

use std::fmt;

/// Longest reason that a mark keeps, in characters.
const LONGEST_WHY: usize = 200;

/// What the last write of weights meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The attempt.
    pub attempt: i64,
    /// Hash of the revision that it is about.
    pub canary: String,
    /// Hash of the revision that serves; `-` where there is none but the legacy backend.
    pub stable: String,
    /// The weight that it has, in percent.
    pub weight: i32,
    /// How it stands.
    pub end: End,
}

/// How an attempt stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It goes on.
    Open,
    /// Nothing rolls out; `stable` says who serves.
    Settled,
    /// It failed; why.
    Failed(String),
    /// A person took it back; why.
    Aborted(String),
}

impl fmt::Display for Mark {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, why) = match &self.end {
            End::Open => ("open", ""),
            End::Settled => ("settled", ""),
            End::Failed(why) => ("failed", why.as_str()),
            End::Aborted(why) => ("aborted", why.as_str()),
        };
        write!(out, "{} {} {} {} {word}", self.attempt, self.canary, self.stable, self.weight)?;
        if why.is_empty() {
            return Ok(());
        }
        write!(out, " {}", why.chars().take(LONGEST_WHY).collect::<String>())
    }
}

impl Mark {
    /// Reads what [`fmt::Display`] wrote; `None` if it is something else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.splitn(6, ' ');
        let attempt = words.next()?.parse().ok()?;
        let canary = words.next()?.to_owned();
        let stable = words.next()?.to_owned();
        let weight = words.next()?.parse().ok()?;
        let (end, why) = (words.next()?, words.next().unwrap_or_default().to_owned());
        let end = match end {
            "open" => End::Open,
            "settled" => End::Settled,
            "failed" => End::Failed(why),
            "aborted" => End::Aborted(why),
            _ => return None,
        };
        Some(Self { attempt, canary, stable, weight, end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reads_back_as_it_was_written() {
        for end in [
            End::Open,
            End::Settled,
            End::Failed("error-rate: the canary is worse".to_owned()),
            End::Aborted("said by anna: no".to_owned()),
        ] {
            let mark = Mark { attempt: 7, canary: "b".into(), stable: "-".into(), weight: 10, end };
            assert_eq!(Mark::parse(&mark.to_string()), Some(mark));
        }
    }

    #[test]
    fn other_words_are_no_mark() {
        for text in ["", "1", "x a b 1 open", "1 a b 1 maybe"] {
            assert_eq!(Mark::parse(text), None, "{text}");
        }
    }
}
