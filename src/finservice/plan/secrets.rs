//! What a changed Secret does to the pods that read it. Pure.
//!
//! A pod template carries, in an annotation, a digest of each Secret that its pods have read; a
//! changed digest makes the Deployment replace its pods, a few at a time. Anybody who may read a
//! Deployment reads the annotation, so the digest is salted with the Secret's UID and cut to 24 bits:
//! it tells that something changed (and misses one change in 16 million), but does not help to
//! guess the contents (see `docs/decisions/0006`).

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::finservice::index::SecretState;

/// Digest of the contents of a Secret.
pub fn digest<'a>(uid: &str, data: impl IntoIterator<Item = (&'a String, &'a [u8])>) -> String {
    let mut sha = Sha256::new();
    sha.update(uid.as_bytes());
    for (key, value) in data {
        for part in [key.as_bytes(), value] {
            sha.update((part.len() as u64).to_be_bytes());
            sha.update(part);
        }
    }
    sha.finalize().iter().take(3).map(|byte| format!("{byte:02x}")).collect()
}

/// What an annotation says of each Secret: the version at which it was read, and its digest.
pub fn parse(annotation: &str) -> BTreeMap<&str, (&str, &str)> {
    annotation
        .split(',')
        .filter_map(|part| {
            let (name, read) = part.split_once('=')?;
            Some((name, read.split_once('/')?))
        })
        .collect()
}

/// The annotation for a template that bears `recorded` now. A Secret whose contents are as recorded
/// keeps its words, whatever else about it has changed; so does one that is gone or unreadable.
pub fn annotation(recorded: Option<&str>, secrets: &BTreeMap<String, Option<SecretState>>) -> Option<String> {
    let recorded = recorded.map(parse).unwrap_or_default();
    let mut parts = Vec::new();
    for (name, state) in secrets {
        let old = recorded.get(name.as_str()).copied();
        let new = state.as_ref().and_then(|state| Some((&*state.version, state.digest.as_deref()?)));
        let (version, digest) = match (old, new) {
            (Some(old), Some(new)) if old.1 != new.1 => new,
            (Some(old), _) => old,
            (None, Some(new)) => new,
            (None, None) => continue,
        };
        parts.push(format!("{name}={version}/{digest}"));
    }
    (!parts.is_empty()).then(|| parts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(version: &str, digest: Option<&str>) -> Option<SecretState> {
        Some(SecretState { version: version.into(), digest: digest.map(Into::into) })
    }

    #[test]
    fn only_changed_contents_change_the_annotation() {
        let read = |state| BTreeMap::from([("db".to_owned(), state)]);
        let first = annotation(None, &read(state("7", Some("abc")))).expect("one");
        assert_eq!(first, "db=7/abc");
        for same in [state("8", Some("abc")), state("8", None), None] {
            assert_eq!(annotation(Some(&first), &read(same)).as_ref(), Some(&first));
        }
        assert_eq!(annotation(Some(&first), &read(state("9", Some("def")))).expect("one"), "db=9/def");
        assert_eq!(annotation(None, &read(None)), None);
    }

    #[test]
    fn a_digest_depends_on_each_key_and_value_and_on_the_uid() {
        let of = |uid: &str, pairs: &[(&str, &str)]| {
            let pairs: Vec<_> = pairs.iter().map(|(k, v)| ((*k).to_owned(), v.as_bytes().to_vec())).collect();
            digest(uid, pairs.iter().map(|(k, v)| (k, v.as_slice())))
        };
        let all = [
            of("u", &[("a", "b")]),
            of("v", &[("a", "b")]),
            of("u", &[("a", "c")]),
            of("u", &[("ab", "")]),
            of("u", &[("a", ""), ("b", "")]),
        ];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }
}
