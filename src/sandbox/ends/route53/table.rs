//! A zone of Route 53: a table, and batches that are carried out as a whole or not at all.

use std::collections::BTreeMap;

use super::xml::{Change, Record};

/// By name (its labels from the last to the first, which is Route 53's order), type and identifier.
type Key = (Vec<String>, String, String);

/// The records of a zone.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    records: BTreeMap<Key, Record>,
}

fn labels(name: &str) -> Vec<String> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name.rsplit('.').map(str::to_owned).collect()
}

fn key(record: &Record) -> Key {
    (labels(&record.name), record.kind.clone(), record.set_identifier.clone().unwrap_or_default())
}

/// As it is kept: what may be written in several ways is written in one.
fn kept(mut record: Record) -> Record {
    record.name = format!("{}.", record.name.trim_end_matches('.').to_ascii_lowercase());
    if let Some(alias) = &mut record.alias_target {
        alias.dns_name = format!("{}.", alias.dns_name.trim_end_matches('.').to_ascii_lowercase());
    }
    record
}

fn same(one: &Record, other: &Record) -> bool {
    let sorted = |record: &Record| {
        let mut record = kept(record.clone());
        if let Some(values) = &mut record.resource_records {
            values.resource_record.sort();
        }
        record
    };
    sorted(one) == sorted(other)
}

fn name(record: &Record) -> String {
    let set = record.set_identifier.as_ref().map(|set| format!(", set identifier='{set}'"));
    format!("[name='{}', type='{}'{}]", record.name, record.kind, set.unwrap_or_default())
}

impl Table {
    /// Carries out a batch.
    ///
    /// # Errors
    /// What of it cannot be done; nothing is done then.
    pub(super) fn change(&mut self, zone: &str, changes: Vec<Change>) -> Result<(), Vec<String>> {
        let mut next = self.clone();
        let faults: Vec<String> =
            changes.into_iter().filter_map(|change| next.one(zone, change).err()).collect();
        if !faults.is_empty() {
            return Err(faults);
        }
        *self = next;
        Ok(())
    }

    fn one(&mut self, zone: &str, change: Change) -> Result<(), String> {
        let record = kept(change.resource_record_set);
        let (key, shown) = (key(&record), name(&record));
        if !labels(&record.name).starts_with(&labels(zone)) {
            return Err(format!("RRSet with DNS name {} is not permitted in zone {zone}", record.name));
        }
        if record.resource_records.is_some() == record.alias_target.is_some() {
            return Err(format!("Invalid request: expected records or an alias target for {shown}"));
        }
        if record.resource_records.is_some() != record.ttl.is_some() {
            return Err(format!("Invalid request: a TTL goes with records, and only with them, for {shown}"));
        }
        if record.weight.is_some() != record.set_identifier.is_some() {
            return Err(format!("Invalid request: a weight goes with a set identifier, for {shown}"));
        }
        if record.weight.is_some_and(|weight| !(0..=255).contains(&weight)) {
            return Err(format!("Invalid request: weights are 0 to 255, for {shown}"));
        }
        let there = self.records.get(&key);
        match change.action.as_str() {
            "DELETE" => match there {
                None => Err(format!("Tried to delete resource record set {shown} but it was not found")),
                Some(there) if !same(there, &record) => Err(format!(
                    "Tried to delete resource record set {shown} but the values provided do not match the current values"
                )),
                Some(_) => {
                    self.records.remove(&key);
                    Ok(())
                }
            },
            "CREATE" if there.is_some() => {
                Err(format!("Tried to create resource record set {shown} but it already exists"))
            }
            "CREATE" | "UPSERT" => {
                let simple = record.set_identifier.is_none();
                let mixed = self.records.iter().any(|((labels, kind, set), _)| {
                    let same_name = *labels == key.0;
                    let cname = (kind == "CNAME") != (record.kind == "CNAME");
                    same_name && (cname || (*kind == record.kind && set.is_empty() != simple))
                });
                if mixed {
                    return Err(format!(
                        "RRSet {shown} cannot be created as other RRSets exist with the same name"
                    ));
                }
                self.records.insert(key, record);
                Ok(())
            }
            other => Err(format!("Invalid request: there is no action {other}")),
        }
    }

    /// Up to so many records from this one on, and the one after them.
    pub(super) fn from(
        &self,
        start: Option<(&str, Option<&str>, Option<&str>)>,
        most: usize,
    ) -> (Vec<Record>, Option<Record>) {
        let start = start.map(|(name, kind, set)| {
            (labels(name), kind.unwrap_or_default().to_owned(), set.unwrap_or_default().to_owned())
        });
        let mut found = self.records.range(start.unwrap_or_default()..).map(|(_, record)| record.clone());
        let page: Vec<Record> = found.by_ref().take(most).collect();
        (page, found.next())
    }

    /// All records of a name and type.
    pub(super) fn of(&self, name: &str, kind: &str) -> Vec<Record> {
        let labels = labels(name);
        let of = self.records.iter().filter(|((name, of, _), _)| *name == labels && of == kind);
        of.map(|(_, record)| record.clone()).collect()
    }

    /// All records.
    pub(super) fn all(&self) -> Vec<Record> {
        self.records.values().cloned().collect()
    }
}
