//! The record as it is exported and read back: one JSON document, an entry on each line. Pure.

use serde_json::Value;

use super::line::Strict;

/// What says which form it has; another one gets another number.
pub const FORMAT: &str = "banyan.dev/record/v1";

/// The record of a group at a site.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// The FailoverGroup.
    pub group: String,
    /// Its entries. One that is no JSON object is kept as it stands: whoever verifies it says so.
    pub entries: Vec<Value>,
}

/// Why a text is no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRead {
    /// It is no JSON, or could be read in two ways.
    #[error("it is no JSON that can be read in one way alone: {0}")]
    Json(String),
    /// It is something else.
    #[error("it is no record that `banyan audit export` has written: {0}")]
    Other(String),
}

impl Document {
    /// Of the lines that are stored.
    pub fn of(group: &str, lines: &[&str]) -> Self {
        let read = |line: &&str| {
            let read = serde_json::from_str::<Strict>(line).map(|Strict(value)| value);
            read.unwrap_or_else(|_| Value::String((*line).to_owned()))
        };
        Self { group: group.to_owned(), entries: lines.iter().map(read).collect() }
    }

    /// As text.
    pub fn text(&self) -> String {
        let (format, group) = (Value::from(FORMAT), Value::from(self.group.as_str()));
        let mut text = format!("{{\"format\":{format},\"group\":{group},\"entries\":[");
        for (place, entry) in self.entries.iter().enumerate() {
            text.push_str(if place > 0 { ",\n" } else { "\n" });
            text.push_str(&super::line::canonical(entry));
        }
        text.push_str("\n]}\n");
        text
    }

    /// From a text.
    ///
    /// # Errors
    /// If it is no record.
    pub fn read(text: &str) -> Result<Self, NotRead> {
        let Strict(value) = serde_json::from_str(text)
            .map_err(|error: serde_json::Error| NotRead::Json(error.to_string()))?;
        let other = |why: &str| NotRead::Other(why.to_owned());
        let Value::Object(mut all) = value else { return Err(other("it is no object")) };
        let mut take = |key: &str| all.remove(key);
        if take("format") != Some(Value::from(FORMAT)) {
            return Err(NotRead::Other(format!("format is not {FORMAT}")));
        }
        let Some(Value::String(group)) = take("group") else { return Err(other("it has no group")) };
        let Some(Value::Array(entries)) = take("entries") else { return Err(other("it has no entries")) };
        match all.keys().next() {
            Some(key) => Err(NotRead::Other(format!("it has {key} too, which no entry covers"))),
            None => Ok(Self { group, entries }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_was_written() {
        let document = Document::of("payments", &[r#"{"a":1}"#, "spoilt", r#"{"a":1,"a":2}"#]);
        assert_eq!(Document::read(&document.text()), Ok(document.clone()));
        assert_eq!(document.entries[2], Value::from(r#"{"a":1,"a":2}"#), "it has no one meaning");
        let none = Document::of("payments", &[]);
        assert_eq!(Document::read(&none.text()), Ok(none));
    }

    #[test]
    fn what_is_no_record_says_why() {
        let why = |text: &str| Document::read(text).unwrap_err().to_string();
        assert!(why("no").contains("no JSON"));
        assert!(why(r#"{"format":"other"}"#).contains("format is not"));
        let more = r#"{"format":"banyan.dev/record/v1","group":"g","entries":[],"note":"all is well"}"#;
        assert!(why(more).contains("note too"));
    }
}
