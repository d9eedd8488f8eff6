//! Whether a record is whole. Needs nothing but the record itself. Pure.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::document::Document;
use super::line::{HASH, NOTHING_BEFORE, hash_of};

/// What a record that is whole has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Whole {
    /// The FailoverGroup.
    pub group: String,
    /// The site; absent where there is no entry.
    pub site: Option<String>,
    /// How many entries it has.
    pub entries: usize,
    /// Of how many moves.
    pub moves: usize,
    /// The hash of the last entry; absent where there is none.
    pub head: Option<String>,
    /// When the last entry was made.
    pub until: Option<String>,
}

/// Where a record is broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Broken {
    /// The first entry that is not as it must be, counted from 1; 0 where it is none of them.
    pub entry: usize,
    /// Why, in one sentence.
    pub why: String,
}

/// Whether a record is whole; with `head`, whether it has all that it had when that was its head.
///
/// # Errors
/// The first entry that is not as it must be.
pub fn verify(document: &Document, head: Option<&str>) -> Result<Whole, Broken> {
    let mut before = Before { hash: NOTHING_BEFORE.to_owned(), ..Before::default() };
    let mut heads = Vec::new();
    for (place, entry) in document.entries.iter().enumerate() {
        let entry = entry.as_object().ok_or_else(|| "it is no entry: it cannot be read".to_owned());
        let checked = entry.and_then(|entry| check(&document.group, place + 1, entry, &mut before));
        checked.map_err(|why| Broken { entry: place + 1, why })?;
        heads.push(before.hash.clone());
    }
    if let Some(head) = head.filter(|head| !heads.iter().any(|hash| hash.eq_ignore_ascii_case(head))) {
        let why = format!(
            "no entry has the hash {head}: entries that were there were cut off at the end, or the whole was made anew"
        );
        return Err(Broken { entry: 0, why });
    }
    Ok(Whole {
        group: document.group.clone(),
        site: before.site,
        entries: document.entries.len(),
        moves: before.numbers.len(),
        head: heads.pop(),
        until: before.at,
    })
}

/// What was seen up to an entry.
#[derive(Default)]
struct Before {
    hash: String,
    site: Option<String>,
    at: Option<String>,
    /// The last number of each move.
    numbers: BTreeMap<String, i64>,
}

fn text<'a>(entry: &'a Map<String, Value>, key: &str) -> Result<&'a str, String> {
    entry.get(key).and_then(Value::as_str).ok_or_else(|| format!("it has no {key}"))
}

fn number(entry: &Map<String, Value>, key: &str) -> Result<i64, String> {
    entry.get(key).and_then(Value::as_i64).ok_or_else(|| format!("it has no {key}"))
}

fn check(group: &str, place: usize, entry: &Map<String, Value>, before: &mut Before) -> Result<(), String> {
    let own = text(entry, HASH)?;
    if hash_of(entry) != own {
        return Err("it was changed: what it says does not give its hash".to_owned());
    }
    let seq = number(entry, "seq")?;
    if usize::try_from(seq) != Ok(place) {
        return Err(format!(
            "it is entry {seq} of the record and stands in place {place}: entries were removed, put in or moved"
        ));
    }
    if text(entry, "prev")? != before.hash {
        return Err(
            "it does not follow the entry before it: that one was changed or put in its place, with a hash \
                    that fits it"
                .to_owned(),
        );
    }
    if text(entry, "group")? != group {
        return Err(format!("it is of another group: {}", text(entry, "group")?));
    }
    let site = text(entry, "site")?;
    if before.site.as_deref().is_some_and(|before| before != site) {
        return Err(format!("it is of another site: {site}"));
    }
    let (uid, number) = (text(entry, "uid")?, number(entry, "number")?);
    let last = before.numbers.insert(uid.to_owned(), number).unwrap_or(0);
    if number != last + 1 {
        let failover = text(entry, "failover")?;
        return Err(format!(
            "it is number {number} of Failover {failover}, of which number {last} was the last before: one is missing or \
             stands twice"
        ));
    }
    (before.site, before.hash) = (Some(site.to_owned()), own.to_owned());
    before.at = Some(text(entry, "at")?.to_owned());
    Ok(())
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
