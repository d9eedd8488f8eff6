//! The ConfigMaps in which a record lies: numbered parts, of which each but the last is full. A full one is made immutable, so
//! that a writer who was paused cannot go on in it after another has begun the next.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ListParams, ObjectMeta};
use kube::{Api, ResourceExt};

use crate::api::labels::RECORD_LABEL;

/// The key under which entries stand, one in each line.
pub const ENTRIES: &str = "entries";
/// The most bytes of a part. The API server takes a MiB of a ConfigMap.
pub const MOST_BYTES: usize = 768 * 1024;

/// The name of a part.
pub fn name(group: &str, number: usize) -> String {
    format!("banyan-record-{group}-{number:04}")
}

/// One part.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its number, from 1.
    pub number: usize,
    /// Its name.
    pub name: String,
    /// The version that a write must still find.
    pub version: Option<String>,
    /// Whether nothing can be added to it any more.
    pub full: bool,
    /// Its entries.
    pub text: String,
}

impl Part {
    fn of(group: &str, map: ConfigMap) -> Option<Self> {
        let name = map.name_any();
        let number = name.strip_prefix(&format!("banyan-record-{group}-"))?.parse().ok()?;
        let text = map.data.and_then(|mut data| data.remove(ENTRIES)).unwrap_or_default();
        let (version, full) = (map.metadata.resource_version, map.immutable == Some(true));
        Some(Self { number, name, version, full, text })
    }
}

/// The entries of some parts, one in each line.
pub fn lines(parts: &[Part]) -> Vec<&str> {
    parts.iter().flat_map(|part| part.text.lines()).collect()
}

/// A new part.
pub fn object(group: &str, number: usize, text: String) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name(group, number)),
            labels: Some([(RECORD_LABEL.to_owned(), group.to_owned())].into()),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(ENTRIES.to_owned(), text)])),
        ..ConfigMap::default()
    }
}

/// Reads all parts of a record, in order.
///
/// # Errors
/// If the API server does not answer, or refuses.
pub async fn read(api: &Api<ConfigMap>, group: &str) -> Result<Vec<Part>, kube::Error> {
    let selector = format!("{RECORD_LABEL}={group}");
    let found = api.list(&ListParams::default().labels(&selector)).await?;
    let mut parts: Vec<Part> = found.items.into_iter().filter_map(|map| Part::of(group, map)).collect();
    parts.sort_by_key(|part| part.number);
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_read_as_it_was_made() {
        let mut map = object("payments", 12, "one\ntwo\n".to_owned());
        map.immutable = Some(true);
        let part = Part::of("payments", map.clone()).unwrap();
        assert_eq!((part.number, part.full, part.name.as_str()), (12, true, "banyan-record-payments-0012"));
        assert_eq!(lines(&[part]), ["one", "two"]);
        assert!(Part::of("other", map).is_none(), "its name is another group's");
    }
}
