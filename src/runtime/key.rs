//! What an object is known by: its namespace and name, and its version.

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl Key {
    /// A key of these.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Whether a text can be the name of an object. What is none must not become part of a request: with `..` it would ask for
/// an object elsewhere.
pub fn is_name(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let fits = |c: char| edge(c) || c == '-';
    let part = |part: &str| part.starts_with(edge) && part.ends_with(edge) && part.chars().all(fits);
    text.len() <= 253 && text.split('.').all(part)
}

/// The key of an object.
pub fn key_of(metadata: &ObjectMeta) -> Key {
    Key::new(metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
}

/// Names that a list of one namespace has not: what had them is gone.
pub fn missing<'a>(known: impl Iterator<Item = &'a String>, seen: &HashSet<Key>) -> Vec<String> {
    let seen: HashSet<&str> = seen.iter().map(|key| &*key.name).collect();
    known.filter(|name| !seen.contains(name.as_str())).cloned().collect()
}

/// Whether that is an earlier version of the same object than the one that is known.
pub fn is_older(metadata: &ObjectMeta, known: &ObjectMeta) -> bool {
    metadata.uid == known.uid && version_of(metadata) < version_of(known)
}

/// Whether two versions of an object ask for the same: nothing that people write differs, so what is new is its status.
pub fn asks_the_same(one: &ObjectMeta, other: &ObjectMeta) -> bool {
    one.uid == other.uid
        && one.generation == other.generation
        && one.deletion_timestamp == other.deletion_timestamp
        && one.annotations == other.annotations
        && one.labels == other.labels
}

/// The version of an object as a number, so that an older one is not taken for newer: versions of one resource grow
/// (KEP-5504, and what every API server has done before it). Zero where there is none.
pub fn version_of(metadata: &ObjectMeta) -> u64 {
    metadata.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
}
#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn faults_4_10_no_name_leads_out_of_its_namespace() {
        for name in ["a", "a-1", "a.b-c.d", "0"] {
            assert!(is_name(name), "{name}");
        }
        let long = "a".repeat(254);
        for text in ["", ".", "..", "../a", "a/b", "a%2fb", "A", "a b", "-a", "a-", "a..b", "a?b", "ä", &long]
        {
            assert!(!is_name(text), "{text}");
        }
    }
}
