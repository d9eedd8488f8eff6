//! The token that a demoted Cluster leaves, and that a promoted one asks for: what `pg_controldata` said after the last
//! primary was shut down, as JSON in base64. Pure.

use k8s_openapi::ByteString;
use serde::Deserialize;

use super::super::Position;

/// Most bytes of a token: it has some three hundred.
const MOST_BYTES: usize = 4096;

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Which cluster of servers it is about.
    pub system: u64,
    /// On which timeline it was shut down.
    pub timeline: u32,
    /// Where its last checkpoint begins: nothing that was acknowledged lies beyond the record there.
    pub position: Position,
    /// The token itself, as it is written into another Cluster.
    pub text: String,
}

/// The names that CloudNativePG gives the fields. All of them must be there, or its webhook refuses the token.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Content {
    #[serde(rename = "latestCheckpointTimelineID")]
    timeline: String,
    redo_wal_file: String,
    database_system_identifier: String,
    #[serde(rename = "latestCheckpointREDOLocation")]
    position: String,
    time_of_latest_checkpoint: String,
    operator_version: String,
}

impl Token {
    /// Reads a token.
    ///
    /// # Errors
    /// If it is none: what is wrong with it.
    pub fn decode(text: &str) -> Result<Self, String> {
        if text.len() > MOST_BYTES {
            return Err(format!("it is longer than {MOST_BYTES} bytes"));
        }
        let ByteString(bytes) =
            serde_json::from_value(text.into()).map_err(|_| "it is not in base64".to_owned())?;
        let content: Content = serde_json::from_slice(&bytes)
            .map_err(|_| "it does not hold what pg_controldata says".to_owned())?;
        let must_be_there =
            [&content.redo_wal_file, &content.time_of_latest_checkpoint, &content.operator_version];
        if must_be_there.into_iter().any(String::is_empty) {
            return Err("it has no WAL file, no time or no operator's version".to_owned());
        }
        let no_number = |what: &str| format!("its {what} is no number");
        Ok(Self {
            system: content.database_system_identifier.parse().map_err(|_| no_number("system identifier"))?,
            timeline: content.timeline.parse().map_err(|_| no_number("timeline"))?,
            position: content.position.parse().map_err(|_| "its position is none".to_owned())?,
            text: text.to_owned(),
        })
    }

    /// Whether a Cluster of that system, whose instances tell that timeline, may ever be promoted with it. CloudNativePG
    /// checks the same with a timeline that is not late, and waits until all before the token is replayed.
    ///
    /// # Errors
    /// If it never may: why, as a sentence.
    pub fn fits(&self, system: u64, timeline: u32) -> Result<(), String> {
        if self.system != system {
            return Err(format!(
                "the token is about the system {}, and this Cluster is {system}: they were never one",
                self.system
            ));
        }
        if self.timeline < timeline {
            return Err(format!(
                "the token is of timeline {}, and this Cluster has gone on to {timeline} by itself",
                self.timeline
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A token as CloudNativePG makes it.
    pub fn token(system: &str, timeline: &str, position: &str) -> String {
        encoded(&json!({
            "latestCheckpointTimelineID": timeline, "redoWalFile": "000000010000000000000003",
            "databaseSystemIdentifier": system, "latestCheckpointREDOLocation": position,
            "timeOfLatestCheckpoint": "Sat Nov 28 02:14:07 2026", "operatorVersion": "1.29.1",
        }))
    }

    fn encoded(content: &Value) -> String {
        let bytes = ByteString(content.to_string().into_bytes());
        serde_json::to_value(bytes).expect("base64").as_str().expect("a string").to_owned()
    }

    #[test]
    fn a_token_is_read_as_it_is_written() {
        let text = token("7421", "3", "0/3000148");
        let read = Token::decode(&text).expect("a token");
        assert_eq!(
            (read.system, read.timeline, read.position.to_string()),
            (7421, 3, "0/3000148".to_owned())
        );
        assert_eq!(read.text, text);
    }

    #[test]
    fn what_the_webhook_would_refuse_is_refused() {
        let broken = |change: fn(&mut Value)| {
            let text = token("7421", "3", "0/3000148");
            let ByteString(bytes) = serde_json::from_value(text.into()).expect("base64");
            let mut content = serde_json::from_slice(&bytes).expect("JSON");
            change(&mut content);
            Token::decode(&encoded(&content)).expect_err("no token")
        };
        assert!(broken(|content| content["redoWalFile"] = json!("")).contains("no WAL file"));
        assert!(broken(|content| content["operatorVersion"] = json!("")).contains("operator's version"));
        assert!(
            broken(|content| content["databaseSystemIdentifier"] = json!("x")).contains("system identifier")
        );
        assert!(broken(|content| content["latestCheckpointTimelineID"] = json!("")).contains("timeline"));
        assert!(broken(|content| content["latestCheckpointREDOLocation"] = json!("3")).contains("position"));
        assert!(broken(|content| *content = json!({})).contains("pg_controldata"));
        assert!(Token::decode("no base64!").expect_err("no token").contains("base64"));
        assert!(Token::decode(&"QQ==".repeat(2000)).is_err());
    }

    #[test]
    fn a_token_fits_the_cluster_that_followed_it() {
        let token = Token::decode(&token("7421", "3", "0/3000148")).expect("a token");
        assert_eq!(token.fits(7421, 3), Ok(()));
        assert_eq!(token.fits(7421, 2), Ok(()), "what its instances tell may be late");
        assert!(token.fits(7421, 4).expect_err("never").contains("gone on to 4"));
        assert!(token.fits(1, 3).expect_err("never").contains("never one"));
    }
}
