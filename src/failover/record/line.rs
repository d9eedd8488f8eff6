//! An entry as the bytes that are hashed: JSON in the one form that RFC 8785 gives it (keys in order, no space, no escape that
//! is not needed), with whole numbers alone. Pure.

use std::fmt::Write;

use jiff::Timestamp;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// What the first entry names as the one before.
pub const NOTHING_BEFORE: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// The key of an entry's own hash, over all of it but this.
pub const HASH: &str = "hash";

/// A moment, to the millisecond.
pub fn instant(now: Timestamp) -> String {
    format!("{now:.3}")
}

/// Text in its one form.
pub fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

fn write(value: &Value, text: &mut String) {
    match value {
        Value::Array(items) => {
            text.push('[');
            for (place, item) in items.iter().enumerate() {
                text.push_str(if place > 0 { "," } else { "" });
                write(item, text);
            }
            text.push(']');
        }
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            // By UTF-16, as the RFC has it; ours are ASCII, of which it is the same.
            keys.sort_by(|one, other| one.encode_utf16().cmp(other.encode_utf16()));
            text.push('{');
            for (place, key) in keys.into_iter().enumerate() {
                let key_text = Value::String(key.clone());
                let _ = write!(text, "{}{key_text}:", if place > 0 { "," } else { "" });
                write(&map[key], text);
            }
            text.push('}');
        }
        plain => {
            let _ = write!(text, "{plain}");
        }
    }
}

/// SHA-256, in hexadecimal digits.
pub fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The hash that an entry is to bear: over all of it but the hash itself.
pub fn hash_of(entry: &Map<String, Value>) -> String {
    let mut rest = entry.clone();
    rest.remove(HASH);
    sha256(&canonical(&Value::Object(rest)))
}

/// Whose entries are added.
#[derive(Clone, Copy, Debug)]
pub struct Of<'a> {
    /// The FailoverGroup.
    pub group: &'a str,
    /// The site.
    pub site: &'a str,
    /// The name of the Failover.
    pub failover: &'a str,
    /// Its UID.
    pub uid: &'a str,
}

/// The last entry of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Last {
    /// How many entries there are.
    pub entries: i64,
    /// Its hash.
    pub head: String,
}

impl Last {
    /// Of a record without entries.
    pub fn none() -> Self {
        Self { entries: 0, head: NOTHING_BEFORE.to_owned() }
    }

    /// Of these lines. One that cannot be read is hashed as it stands: the record goes on, and whoever verifies it is told.
    pub fn of(lines: &[&str]) -> Self {
        let Some(last) = lines.last() else { return Self::none() };
        let read = serde_json::from_str::<Map<String, Value>>(last).ok();
        let head = read.and_then(|entry| entry.get(HASH)?.as_str().map(str::to_owned));
        Self {
            entries: i64::try_from(lines.len()).unwrap_or(i64::MAX),
            head: head.unwrap_or_else(|| sha256(last)),
        }
    }
}

/// The lines of entries that come after the last one, which is moved on.
pub fn lines(last: &mut Last, of: &Of<'_>, pending: &[String]) -> Vec<String> {
    pending.iter().map(|text| line(last, of, text)).collect()
}

fn line(last: &mut Last, of: &Of<'_>, pending: &str) -> String {
    let mut entry: Map<String, Value> = serde_json::from_str(pending).unwrap_or_default();
    last.entries += 1;
    entry.insert("seq".to_owned(), last.entries.into());
    entry.insert("prev".to_owned(), last.head.clone().into());
    for (key, value) in [("group", of.group), ("site", of.site), ("failover", of.failover), ("uid", of.uid)] {
        entry.insert(key.to_owned(), value.into());
    }
    // What is not known is left out, rather than said to be null.
    entry.retain(|_, value| !value.is_null());
    last.head = hash_of(&entry);
    entry.insert(HASH.to_owned(), last.head.clone().into());
    canonical(&Value::Object(entry))
}

/// The number, within its move, of an entry of that Failover; `None` if it is another's.
pub fn number_of(line: &str, uid: &str) -> Option<i64> {
    let entry: Map<String, Value> = serde_json::from_str(line).ok()?;
    let of = entry.get("uid")?.as_str()? == uid;
    of.then(|| entry.get("number").and_then(Value::as_i64)).flatten()
}

/// The number of an entry that waits.
pub fn pending_number(text: &str) -> i64 {
    let entry: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
    entry.get("number").and_then(Value::as_i64).unwrap_or(0)
}

/// JSON in which no key stands twice and each number is whole: in which whoever reads it and whoever hashes it cannot see two
/// different things.
#[derive(Clone, Debug, PartialEq)]
pub struct Strict(pub Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Strict;

    fn expecting(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("JSON with whole numbers")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Strict, E> {
        Ok(Strict(value.into()))
    }

    fn visit_unit<E: Error>(self) -> Result<Strict, E> {
        Ok(Strict(Value::Null))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Strict, A::Error> {
        let mut all = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            all.push(item);
        }
        Ok(Strict(Value::Array(all)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Strict, A::Error> {
        let mut map = Map::new();
        while let Some((key, Strict(value))) = members.next_entry::<String, Strict>()? {
            if map.contains_key(&key) {
                return Err(A::Error::custom(format!("the key {key} stands twice")));
            }
            map.insert(key, value);
        }
        Ok(Strict(Value::Object(map)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn there_is_one_form_of_each_value() {
        let value = json!({"b": [1, true, null], "a": {"d": "q\"\u{1}\n/é", "c": -2}});
        assert_eq!(canonical(&value), "{\"a\":{\"c\":-2,\"d\":\"q\\\"\\u0001\\n/é\"},\"b\":[1,true,null]}");
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_not_read() {
        let read = |text: &str| serde_json::from_str::<Strict>(text).map_err(|error| error.to_string());
        assert!(read(r#"{"by":"eve","by":"jo"}"#).unwrap_err().contains("the key by stands twice"));
        assert!(read(r#"{"n":1.0}"#).is_err() && read(r#"{"n":1e0}"#).is_err());
        assert_eq!(read(r#"{"n":[1,-1,"x",null,true]}"#).unwrap().0, json!({"n": [1, -1, "x", null, true]}));
    }

    #[test]
    fn each_line_names_the_one_before_and_leaves_out_what_is_not_known() {
        let of = Of { group: "payments", site: "gcp", failover: "move", uid: "u-1" };
        let mut last = Last::none();
        let pending = [1, 2].map(|number| format!(r#"{{"number":{number},"event":"E","ticket":null}}"#));
        let all = lines(&mut last, &of, &pending);
        let one: Map<String, Value> = serde_json::from_str(&all[0]).unwrap();
        let two: Map<String, Value> = serde_json::from_str(&all[1]).unwrap();
        assert_eq!((&one["prev"], &two["prev"]), (&json!(NOTHING_BEFORE), &one["hash"]));
        assert_eq!((two["seq"].as_i64(), last.entries), (Some(2), 2));
        assert!(!one.contains_key("ticket"));
        assert_eq!(Last::of(&[&all[0], &all[1]]), last);
        assert_eq!((number_of(&all[1], "u-1"), number_of(&all[1], "u-2")), (Some(2), None));
        assert_eq!(Last::of(&["not JSON"]).head, sha256("not JSON"));
    }
}
