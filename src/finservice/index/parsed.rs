//! A FinService as it was last read, and what of it is news.

use std::sync::Arc;

use crate::api::{FinService, FinServiceStatus};

/// A FinService as it was last read.
#[derive(Clone, Debug)]
pub enum Parsed {
    /// It parses.
    Good(Arc<FinService>),
    /// It does not.
    Bad(Arc<Unreadable>),
}

/// A FinService that does not parse.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Unreadable {
    /// Why.
    pub why: String,
    /// The generation that does not.
    pub generation: Option<i64>,
    /// What its status says, if that parses.
    pub status: Option<FinServiceStatus>,
    /// What of it can be read, if that says where its requests go.
    pub readable: Readable,
}

/// What of a FinService can be read.
#[derive(Clone, Debug, Default)]
pub struct Readable(pub Option<Arc<FinService>>);

/// It follows from the rest, whose generation tells whether it is another one.
impl PartialEq for Readable {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Parsed {
    /// The same; where neither it nor where its requests go can be read, with what was read of it before.
    pub fn beside(self, known: Option<&Self>) -> Self {
        match (self, known) {
            (Self::Bad(bad), Some(known)) if bad.readable.0.is_none() => {
                let readable = match known {
                    Self::Good(service) => Readable(Some(Arc::clone(service))),
                    Self::Bad(before) => before.readable.clone(),
                };
                Self::Bad(Arc::new(Unreadable { readable, ..(*bad).clone() }))
            }
            (parsed, _) => parsed,
        }
    }

    /// Whether this differs from what is known in anything but its version.
    pub fn is_news(&self, known: Option<&Self>) -> bool {
        match (known, self) {
            (Some(Self::Good(known)), Self::Good(now)) => differ(known, now),
            (Some(Self::Bad(known)), Self::Bad(now)) => known != now,
            _ => true,
        }
    }
}

/// Whether two readings of a FinService differ in anything but the version.
pub(super) fn differ(known: &FinService, now: &FinService) -> bool {
    known.metadata.generation != now.metadata.generation
        || known.metadata.uid != now.metadata.uid
        || known.metadata.annotations != now.metadata.annotations
        // By its labels a FailoverGroup has it, or has it not.
        || known.metadata.labels != now.metadata.labels
        || known.metadata.deletion_timestamp != now.metadata.deletion_timestamp
        || known.status != now.status
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Index;
    use super::*;
    use crate::finservice::children::Kind;
    use crate::finservice::index::child::ChildState;
    use crate::runtime::key::Key;

    fn service(generation: i64) -> FinService {
        let service = json!({
            "apiVersion": "banyan.dev/v1alpha1", "kind": "FinService",
            "metadata": {"name": "app", "namespace": "pay", "uid": "u-1", "generation": generation},
            "spec": {"owner": "pay", "image": "registry.example/app:1", "ports": [{"name": "http", "port": 8080}]},
        });
        serde_json::from_value(service).expect("a FinService")
    }

    fn put(index: &mut Index, key: &Key, version: u64, service: FinService) -> bool {
        let parsed = Parsed::Good(Arc::new(service));
        let news = parsed.is_news(index.parsed(key).as_ref());
        index.service(key, version, Some(parsed));
        news
    }

    fn route(key: &Key) -> ChildState {
        let object = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": "app", "namespace": "pay", "uid": "u-2", "resourceVersion": "7",
                "labels": {"banyan.dev/service": &*key.name}},
            "spec": {},
        });
        let object = serde_json::from_value(object).expect("an object");
        ChildState::read(Kind::VirtualService, &object).expect("a child").1
    }

    /// With a hundred rollouts at once, the echo of a status came while the next reconcile wrote the route. The
    /// echo woke nobody, what was written was not looked at, and the rollout stood until its deadline.
    #[test]
    fn the_echo_of_a_status_does_not_keep_what_was_written_from_being_looked_at() {
        let (mut index, key) = (Index::new("here"), Key::new("pay", "app"));
        assert!(put(&mut index, &key, 5, service(1)));
        let mut seen = index.observe(&key).expect("it is there");
        assert!(!put(&mut index, &key, 5, service(1)), "an echo wakes nobody");
        index.child(&key, route(&key));
        assert!(index.renew(&mut seen), "so it must not keep from looking either");
        assert_eq!(seen.children.len(), 1, "with what was written");
    }

    #[test]
    fn news_of_the_service_are_looked_at_from_the_start() {
        let (mut index, key) = (Index::new("here"), Key::new("pay", "app"));
        put(&mut index, &key, 5, service(1));
        let mut seen = index.observe(&key).expect("it is there");
        assert!(put(&mut index, &key, 6, service(2)), "which wakes");
        assert!(!index.renew(&mut seen));
        let mut seen = index.observe(&key).expect("it is there");
        let status = FinServiceStatus { observed_generation: Some(2), ..FinServiceStatus::default() };
        assert!(
            put(&mut index, &key, 7, FinService { status: Some(status), ..service(2) }),
            "so does a status"
        );
        assert!(!index.renew(&mut seen));
    }
}
