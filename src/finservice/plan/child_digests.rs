//! What stands on record of children that a start need not read: in the status of their FinService, which nobody but
//! the operator may write. Pure.
//!
//! Of each such child there are two numbers: the digest of its contents, and a seal of its UID and generation. While
//! the seal is that of the live object, nobody has changed its contents, whatever else of it has been read.

use std::fmt::Write;

use crate::api::finservice::LONGEST_RECORD;
use crate::finservice::children::Kind;
use crate::finservice::index::child::{ChildState, Facts};
use crate::runtime::digest;

/// What is put on record of these children of a FinService of that name: `Kind=contents@seal`, or
/// `Kind/name=contents@seal` where its name is another one; as many as fit into [`LONGEST_RECORD`]. `None` if there is
/// nothing to say.
pub fn record(children: &[ChildState], service: &str) -> Option<String> {
    let mut passive: Vec<_> = children
        .iter()
        .filter_map(|child| match &child.facts {
            Facts::Passive(facts) if !child.deleting => Some((child, facts)),
            _ => None,
        })
        .collect();
    passive.sort_by(|(one, _), (other, _)| (one.kind, &one.name).cmp(&(other.kind, &other.name)));
    let mut text = String::new();
    for (child, facts) in passive {
        let separator = if text.is_empty() { "" } else { " " };
        let name = if *child.name == *service { String::new() } else { format!("/{}", child.name) };
        let seal = digest::seal(&child.uid.to_string(), facts.generation);
        let kind = child.kind.name();
        let before = text.len();
        // Writing to a String cannot fail.
        let _ = write!(text, "{separator}{kind}{name}={:016x}@{seal:016x}", facts.contents);
        if text.len() > LONGEST_RECORD {
            // The rest is read at a start. A status that is refused would cost all that it says.
            text.truncate(before);
            break;
        }
    }
    (!text.is_empty()).then_some(text)
}

/// The digest of the contents of a child, if the record speaks of this state of this object.
pub fn contents(record: &str, service: &str, kind: Kind, name: &str, seal: u64) -> Option<u64> {
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    entries(record)
        .filter(|(what, _)| {
            let (of, named) = what.split_once('/').unwrap_or((what, service));
            of == kind.name() && named == name
        })
        .find_map(|(_, said)| {
            let (contents, sealed) = said.split_once('@')?;
            (number(sealed)? == seal).then(|| number(contents))?
        })
}

/// Whether two records speak of the same contents. A seal that is out of date costs the next start one request; to
/// renew it would cost a write whenever somebody else changes what is not ours.
pub fn same(one: Option<&str>, other: Option<&str>) -> bool {
    let plain = |record| {
        entries(record)
            .map(|(what, said)| (what, said.split_once('@').map_or(said, |(contents, _)| contents)))
    };
    match (one, other) {
        (Some(one), Some(other)) => plain(one).eq(plain(other)),
        (None, None) => true,
        _ => false,
    }
}

fn entries(record: &str) -> impl Iterator<Item = (&str, &str)> {
    record.split(' ').filter_map(|entry| entry.split_once('='))
}

#[cfg(test)]
mod tests {
    use kube::api::DynamicObject;
    use serde_json::{Value, json};

    use super::*;

    fn object(kind: Kind, name: &str, generation: i64) -> Value {
        json!({
            "apiVersion": kind.api_version(), "kind": kind.name(),
            "metadata": {
                "name": name, "namespace": "pay", "uid": format!("u-{name}"), "generation": generation,
                "resourceVersion": "7", "labels": {"banyan.dev/service": "app"},
                "managedFields": [{"manager": "banyan", "operation": "Apply",
                    "fieldsV1": {"f:metadata": {"f:labels": {"f:banyan.dev/service": {}}}, "f:spec": {"f:a": {}}}}],
            },
            "spec": {"a": 1, "b": 2},
        })
    }

    fn parsed(object: Value) -> DynamicObject {
        serde_json::from_value(object).expect("an object")
    }

    fn read(kind: Kind, name: &str, generation: i64) -> ChildState {
        ChildState::read(kind, &parsed(object(kind, name, generation))).expect("a child").1
    }

    #[test]
    fn what_is_on_record_is_what_would_be_read() {
        let children = [
            read(Kind::Sidecar, "app", 3),
            read(Kind::DestinationRule, "app-x", 1),
            read(Kind::VirtualService, "app", 1),
            read(Kind::Service, "app", 1),
        ];
        let text = record(&children, "app").expect("a record");
        let kinds: Vec<_> = text.split(' ').map(|entry| entry.split_once('=').expect("an entry").0).collect();
        assert_eq!(kinds, ["DestinationRule/app-x", "Sidecar"]);
        for (child, generation) in [(&children[0], 3), (&children[1], 1)] {
            let seal = digest::seal(&child.uid.to_string(), generation);
            let contents = contents(&text, "app", child.kind, &child.name, seal).expect("an entry");
            let mut only_metadata = object(child.kind, &child.name, generation);
            only_metadata.as_object_mut().expect("an object").remove("spec");
            let (service, on_record) =
                ChildState::on_record(child.kind, &parsed(only_metadata), contents).expect("a child");
            assert_eq!((service.as_str(), &on_record), ("app", child));
        }
    }

    #[test]
    fn of_another_generation_a_namesake_or_another_child_nothing_is_on_record() {
        let child = read(Kind::Sidecar, "app", 3);
        let text = record(std::slice::from_ref(&child), "app").expect("a record");
        let of = |kind, name: &str, seal| contents(&text, "app", kind, name, seal);
        assert!(of(Kind::Sidecar, "app", digest::seal("u-app", 3)).is_some());
        assert_eq!(of(Kind::Sidecar, "app", digest::seal("u-app", 4)), None);
        assert_eq!(of(Kind::Sidecar, "app", digest::seal("u-other", 3)), None);
        assert_eq!(of(Kind::Sidecar, "app-x", digest::seal("u-app", 3)), None);
        assert_eq!(of(Kind::ServiceMonitor, "app", digest::seal("u-app", 3)), None);
    }

    #[test]
    fn a_record_is_renewed_for_other_contents_alone() {
        let one = record(&[read(Kind::Sidecar, "app", 3)], "app");
        assert!(same(one.as_deref(), record(&[read(Kind::Sidecar, "app", 4)], "app").as_deref()));
        let mut other = object(Kind::Sidecar, "app", 4);
        other["spec"]["a"] = json!(2);
        let other = ChildState::read(Kind::Sidecar, &parsed(other)).expect("a child").1;
        assert!(!same(one.as_deref(), record(&[other], "app").as_deref()));
        assert!(!same(one.as_deref(), None) && !same(None, one.as_deref()) && same(None, None));
    }

    #[test]
    fn nonsense_is_no_record() {
        for text in
            ["", " ", "Sidecar", "Sidecar=", "Sidecar=@", "Sidecar=x@y", "Sidecar=1", "=@ = Sidecar=@1"]
        {
            assert_eq!(contents(text, "app", Kind::Sidecar, "app", 1), None, "{text}");
        }
    }
}
