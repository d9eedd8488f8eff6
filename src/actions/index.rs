//! What is known of Actions, by what they are said to. Synchronous, without I/O.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use kube::api::DynamicObject;

use super::hear::{created, is_over, target};
use crate::api::action::TargetKind;
use crate::api::{Action, ActionStatus};
use crate::runtime::key::{Key, is_older, version_of};
use crate::runtime::raw_object;

/// An Action as it was last read.
#[derive(Clone, Debug)]
pub enum Known {
    /// It parses.
    Good(Arc<Action>),
    /// It does not.
    Bad(Arc<Unreadable>),
}

/// An Action that cannot be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Unreadable {
    /// Why.
    pub why: String,
    /// The generation that cannot.
    pub generation: Option<i64>,
    /// What its status says, if that parses.
    pub status: Option<ActionStatus>,
}

impl Known {
    /// Reads an object.
    pub fn read(object: DynamicObject) -> Self {
        let mut metadata = object.metadata;
        metadata.managed_fields = None;
        let mut data = object.data;
        let status = serde_json::from_value(data["status"].take()).ok();
        match raw_object::parse("spec", &data["spec"]) {
            Ok(spec) => Self::Good(Arc::new(Action { metadata, spec, status })),
            Err(error) => {
                let (why, generation) = (error.to_string(), metadata.generation);
                Self::Bad(Arc::new(Unreadable { why, generation, status }))
            }
        }
    }
}

/// What an Action is said to.
pub type To = (TargetKind, Key);

/// What is known of Actions.
#[derive(Debug, Default)]
pub struct Index {
    all: BTreeMap<Key, Known>,
    /// Those that are neither carried out nor refused.
    open: BTreeMap<To, BTreeSet<Key>>,
}

impl Index {
    /// Takes in an Action. Returns what it is said to, if somebody is to hear of it.
    pub fn put(&mut self, key: &Key, known: Known) -> Option<To> {
        // The watch may tell of a state from before an answer of ours: it must not open what was answered.
        if let (Known::Good(new), Some(Known::Good(old))) = (&known, self.all.get(key))
            && is_older(&new.metadata, &old.metadata)
        {
            return None;
        }
        self.close(key);
        let to = match &known {
            Known::Good(action) => Some(target(action)),
            Known::Bad(_) => None,
        };
        if let (Some(to), Known::Good(action)) = (&to, &known)
            && !is_over(action)
        {
            self.open.entry(to.clone()).or_default().insert(key.clone());
        }
        self.all.insert(key.clone(), known);
        to
    }

    fn close(&mut self, key: &Key) {
        let Some(Known::Good(action)) = self.all.get(key) else { return };
        let to = target(action);
        if let Some(keys) = self.open.get_mut(&to) {
            keys.remove(key);
            if keys.is_empty() {
                self.open.remove(&to);
            }
        }
    }

    /// Takes in that an Action is gone.
    pub fn gone(&mut self, key: &Key) {
        self.close(key);
        self.all.remove(key);
    }

    /// Takes in the Action with which the write of its status was answered, unless it has gone meanwhile: nobody would
    /// ever tell again that it is gone.
    pub fn answered(&mut self, key: &Key, known: Known) {
        if self.all.contains_key(key) {
            self.put(key, known);
        }
    }

    /// After a relist: forgets the Actions that were not in it.
    pub fn retain(&mut self, seen: &HashSet<Key>) {
        let gone: Vec<Key> = self.all.keys().filter(|key| !seen.contains(*key)).cloned().collect();
        gone.iter().for_each(|key| self.gone(key));
    }

    /// An Action as it was last read.
    pub fn get(&self, key: &Key) -> Option<&Known> {
        self.all.get(key)
    }

    fn good(&self, key: &Key) -> Option<Arc<Action>> {
        match self.all.get(key)? {
            Known::Good(action) => Some(Arc::clone(action)),
            Known::Bad(_) => None,
        }
    }

    /// What was said to an object and has not been answered, in the order in which it was said: of what contradicts itself,
    /// the last counts. Times are to the second; within one the version of the object tells.
    pub fn said_to(&self, to: &To) -> Vec<Arc<Action>> {
        let mut said: Vec<Arc<Action>> =
            self.open.get(to).into_iter().flatten().filter_map(|key| self.good(key)).collect();
        said.sort_by_key(|action| (created(action), version_of(&action.metadata)));
        said
    }

    /// What has not been answered, by what it is said to.
    pub fn open(&self) -> Vec<(To, Vec<Arc<Action>>)> {
        self.open.keys().map(|to| (to.clone(), self.said_to(to))).collect()
    }

    /// What has been carried out or refused.
    pub fn over(&self) -> Vec<Arc<Action>> {
        let good = self.all.values().filter_map(|known| match known {
            Known::Good(action) if is_over(action) => Some(Arc::clone(action)),
            _ => None,
        });
        good.collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn key(name: &str) -> Key {
        Key::new("pay", name)
    }

    fn read(name: &str, target: &str, status: Value) -> Known {
        let object = json!({
            "metadata": {"name": name, "namespace": "pay", "uid": name},
            "spec": {"target": {"kind": "CanaryRollout", "name": target}, "verb": "abort"}, "status": status,
        });
        Known::read(serde_json::from_value(object).expect("an object"))
    }

    fn to(name: &str) -> To {
        (TargetKind::CanaryRollout, key(name))
    }

    fn names(actions: &[Arc<Action>]) -> Vec<&str> {
        actions.iter().filter_map(|action| action.metadata.name.as_deref()).collect()
    }

    #[test]
    fn what_was_said_last_is_heard_last_whatever_it_is_called() {
        let mut index = Index::default();
        for (name, at, version) in
            [("resume", "00:00:01", "7"), ("abort", "00:00:02", "9"), ("pause", "00:00:02", "8")]
        {
            let object = json!({
                "metadata": {"name": name, "namespace": "pay", "uid": name, "resourceVersion": version,
                    "creationTimestamp": format!("2026-01-01T{at}Z")},
                "spec": {"target": {"kind": "Failover", "name": "move", "uid": "u"}, "verb": name},
            });
            index.put(&key(name), Known::read(serde_json::from_value(object).expect("an object")));
        }
        let said = index.said_to(&(TargetKind::Failover, key("move")));
        assert_eq!(names(&said), ["resume", "pause", "abort"]);
    }

    #[test]
    fn what_is_said_is_found_by_what_it_is_said_to_until_it_is_over() {
        let mut index = Index::default();
        assert_eq!(index.put(&key("one"), read("one", "app", Value::Null)), Some(to("app")));
        index.put(&key("two"), read("two", "app", Value::Null));
        index.put(&key("three"), read("three", "other", Value::Null));
        assert_eq!(names(&index.said_to(&to("app"))), ["one", "two"]);
        assert_eq!(index.open().len(), 2);
        index.put(&key("one"), read("one", "app", json!({"state": "Done"})));
        assert_eq!(names(&index.said_to(&to("app"))), ["two"]);
        assert_eq!(names(&index.over()), ["one"]);
        index.gone(&key("two"));
        assert!(index.said_to(&to("app")).is_empty());
        index.answered(&key("two"), read("two", "app", Value::Null));
        assert!(index.said_to(&to("app")).is_empty(), "no answer brings back what is gone");
        index.retain(&HashSet::new());
        assert!(index.open().is_empty() && index.over().is_empty());
    }

    #[test]
    fn an_older_state_opens_nothing_that_was_answered() {
        let at = |version: &str, status| {
            let Known::Good(action) = read("one", "app", status) else { panic!("it parses") };
            let mut action = Arc::unwrap_or_clone(action);
            action.metadata.resource_version = Some(version.to_owned());
            Known::Good(Arc::new(action))
        };
        let mut index = Index::default();
        index.put(&key("one"), at("5", Value::Null));
        index.answered(&key("one"), at("7", json!({"state": "Done"})));
        assert_eq!(index.put(&key("one"), at("6", Value::Null)), None);
        assert!(index.said_to(&to("app")).is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_kept_and_said_to_nobody() {
        let mut index = Index::default();
        let object = json!({"metadata": {"name": "one", "generation": 3}, "spec": {"verb": "leap"}});
        let known = Known::read(serde_json::from_value(object).expect("an object"));
        assert_eq!(index.put(&key("one"), known), None);
        let Some(Known::Bad(bad)) = index.get(&key("one")) else { panic!("it does not parse") };
        assert!(bad.generation == Some(3) && !bad.why.is_empty(), "{bad:?}");
    }
}
