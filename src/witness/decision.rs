//! Who succeeded an epoch, and how that is written down. Pure.

use serde::{Deserialize, Serialize};

/// Most bytes of a decision: a longer object is none.
pub const MOST_BYTES: u64 = 16 << 10;
/// Most holders that a decision may name.
const MOST_HOLDERS: usize = 16;

/// What followed an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The epoch that followed: the ballot of the claim that was committed.
    pub epoch: i64,
    /// The sites that may write since.
    pub holders: Vec<String>,
    /// UID of the Failover that committed it; empty where the source's operator opened itself again.
    #[serde(default)]
    pub failover: String,
}

/// The object: a decision, and what it is a decision about. An object that was copied to another place, or a prefix that
/// two groups share, is found by it.
#[derive(Serialize, Deserialize)]
struct Written {
    group: String,
    follows: i64,
    #[serde(flatten)]
    decision: Decision,
}

impl Decision {
    /// The object `after/<follows>` of a group.
    pub fn encode(&self, group: &str, follows: i64) -> Vec<u8> {
        let written = Written { group: group.to_owned(), follows, decision: self.clone() };
        serde_json::to_vec(&written).expect("numbers and strings are JSON")
    }

    /// Reads the object `after/<follows>` of a group.
    ///
    /// # Errors
    /// If it is no decision, or a decision about something else: what is wrong, and what to do.
    pub fn decode(group: &str, follows: i64, text: &[u8]) -> Result<Self, String> {
        let written: Written = serde_json::from_slice(text).map_err(|error| {
            format!("after/{follows} is no decision (line {}, column {})", error.line(), error.column())
        })?;
        if written.group != group {
            return Err(format!(
                "after/{follows} belongs to the group {:?}: give each group a prefix of its own in spec.witness",
                shown(&written.group)
            ));
        }
        if written.follows != follows {
            return Err(format!("after/{follows} speaks of epoch {}: it was copied there", written.follows));
        }
        let Decision { epoch, holders, failover } = &written.decision;
        let long = |text: &String| text.len() > 253;
        if *epoch < 0 || holders.is_empty() || holders.len() > MOST_HOLDERS {
            return Err(format!("after/{follows} names no epoch or no holders"));
        }
        if holders.iter().any(|holder| holder.is_empty() || long(holder)) || long(failover) {
            return Err(format!("after/{follows} names holders or a Failover that cannot be"));
        }
        Ok(written.decision)
    }
}

/// The first 63 characters: what somebody else wrote ends up in a status.
fn shown(text: &str) -> String {
    text.chars().take(63).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision() -> Decision {
        Decision { epoch: 33, holders: vec!["gcp".to_owned()], failover: "uid".to_owned() }
    }

    #[test]
    fn what_is_written_is_read() {
        let text = decision().encode("payments", 16);
        assert_eq!(
            String::from_utf8(text.clone()).unwrap(),
            r#"{"group":"payments","follows":16,"epoch":33,"holders":["gcp"],"failover":"uid"}"#
        );
        assert_eq!(Decision::decode("payments", 16, &text), Ok(decision()));
        let later = br#"{"group":"payments","follows":16,"epoch":33,"holders":["gcp"],"more":{"a":1}}"#;
        let read = Decision::decode("payments", 16, later).unwrap();
        assert_eq!(read, Decision { failover: String::new(), ..decision() }, "what a later version adds");
    }

    #[test]
    fn what_is_no_decision_about_this_is_refused() {
        let other = decision().encode("accounts", 16);
        let error = Decision::decode("payments", 16, &other).unwrap_err();
        assert_eq!(
            error,
            "after/16 belongs to the group \"accounts\": give each group a prefix of its own in spec.witness"
        );
        let copied = decision().encode("payments", 0);
        assert!(Decision::decode("payments", 16, &copied).unwrap_err().contains("speaks of epoch 0"));
        let empty = Decision { holders: Vec::new(), ..decision() };
        let negative = Decision { epoch: -1, ..decision() };
        let nameless = Decision { holders: vec![String::new()], ..decision() };
        let long = Decision { failover: "x".repeat(254), ..decision() };
        for wrong in [empty, negative, nameless, long] {
            assert!(Decision::decode("payments", 16, &wrong.encode("payments", 16)).is_err(), "{wrong:?}");
        }
        for text in [&b""[..], b"{}", b"[]", b"\xff", &decision().encode("payments", 16)[..40]] {
            let error = Decision::decode("payments", 16, text).unwrap_err();
            assert!(error.starts_with("after/16 is no decision"), "{error}");
        }
    }
}
