//! What is known of Actions, by what they are said to. Synchronous, without I/O.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use kube::api::{DynamicObject, ObjectMeta};

use super::hear::{created, is_over, target};
use crate::api::action::{TargetKind, Verb};
use crate::api::{Action, ActionSpec, ActionStatus};
use crate::runtime::key::{Key, is_older, version_of};
use crate::runtime::raw_object;

/// How many Actions are heard at once of what is said to one object: with each answer the next one is.
const HEARD: usize = 64;
/// How many of a namespace wait for an answer, at the most; more are refused.
const OPEN: usize = 500;
/// How many of a namespace are kept that are over; of more, the oldest are removed before their time.
const KEPT: usize = 2000;

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
    pub fn put(&mut self, key: &Key, mut known: Known) -> Option<To> {
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
        if let Known::Good(action) = &mut known
            && is_over(action)
        {
            *action = Arc::new(remembered(action));
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
    /// the last counts. Times are to the second; within one the version of the object tells. Where very much was said at once
    /// it is the first part of it, with what takes weight away before all else.
    pub fn said_to(&self, to: &To) -> Vec<Arc<Action>> {
        let mut said: Vec<Arc<Action>> =
            self.open.get(to).into_iter().flatten().filter_map(|key| self.good(key)).collect();
        let order = |action: &Arc<Action>| (created(action), version_of(&action.metadata));
        if said.len() > HEARD {
            said.sort_by_key(|action| (action.spec.verb != Verb::Abort, order(action)));
            said.truncate(HEARD);
        }
        said.sort_by_key(order);
        said
    }

    /// What has not been answered, by what it is said to.
    pub fn open(&self) -> Vec<(To, Vec<Arc<Action>>)> {
        self.open.keys().map(|to| (to.clone(), self.said_to(to))).collect()
    }

    /// What has been carried out or refused.
    pub fn over(&self) -> Vec<Arc<Action>> {
        self.good_ones().filter(|action| is_over(action)).cloned().collect()
    }

    /// What is more than a namespace may have: the newest of those that wait, which are to be refused, and the oldest of
    /// those that are over, which are to be removed.
    pub fn surplus(&self) -> (Vec<Arc<Action>>, Vec<Arc<Action>>) {
        let mut namespaces: BTreeMap<&str, [Vec<&Arc<Action>>; 2]> = BTreeMap::new();
        for action in self.good_ones() {
            let namespace = action.metadata.namespace.as_deref().unwrap_or_default();
            namespaces.entry(namespace).or_default()[usize::from(is_over(action))].push(action);
        }
        let (mut refused, mut removed) = (Vec::new(), Vec::new());
        for [mut open, mut over] in namespaces.into_values() {
            let order = |action: &&Arc<Action>| (created(action), version_of(&action.metadata));
            open.sort_by_key(order);
            over.sort_by_key(order);
            refused.extend(open.into_iter().skip(OPEN).cloned());
            let many = over.len().saturating_sub(KEPT);
            removed.extend(over.into_iter().take(many).cloned());
        }
        (refused, removed)
    }

    fn good_ones(&self) -> impl Iterator<Item = &Arc<Action>> {
        self.all.values().filter_map(|known| match known {
            Known::Good(action) => Some(action),
            Known::Bad(_) => None,
        })
    }
}

/// What is kept of an Action that is over: enough to remove it some day.
fn remembered(action: &Action) -> Action {
    let ObjectMeta { name, namespace, uid, creation_timestamp, resource_version, .. } =
        action.metadata.clone();
    Action {
        metadata: ObjectMeta {
            name,
            namespace,
            uid,
            creation_timestamp,
            resource_version,
            ..ObjectMeta::default()
        },
        spec: ActionSpec { words: None, ..action.spec.clone() },
        status: action
            .status
            .as_ref()
            .map(|status| ActionStatus { state: status.state, ..ActionStatus::default() }),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
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

    /// `number` Actions of a namespace, one a second.
    fn many(index: &mut Index, namespace: &str, number: usize, status: &Value) {
        for place in 0..number {
            let name = format!("{namespace}-{place:05}");
            let verb = if place == number - 1 { "abort" } else { "pause" };
            let at = Timestamp::from_second(i64::try_from(place).expect("small")).expect("a time");
            let object = json!({
                "metadata": {"name": name, "namespace": namespace, "uid": name, "creationTimestamp": at.to_string(),
                    "annotations": {"a": "b".repeat(100)}},
                "spec": {"target": {"kind": "CanaryRollout", "name": "app"}, "verb": verb, "words": "w".repeat(100)},
                "status": status,
            });
            let known = Known::read(serde_json::from_value(object).expect("an object"));
            index.put(&Key::new(namespace, &name), known);
        }
    }

    #[test]
    fn faults_4_11_thousands_of_actions_are_work_for_their_own_namespace_and_not_for_ever() {
        let mut index = Index::default();
        many(&mut index, "greedy", 10_000, &Value::Null);
        many(&mut index, "pay", 3, &Value::Null);
        let of = |namespace: &str| index.said_to(&(TargetKind::CanaryRollout, Key::new(namespace, "app")));
        assert_eq!(of("pay").len(), 3);
        let heard = of("greedy");
        assert_eq!(heard.len(), HEARD);
        assert_eq!(names(&heard)[0], "greedy-00000", "in the order in which they were said");
        assert_eq!(
            names(&heard)[HEARD - 1],
            "greedy-09999",
            "what takes weight away is heard before all else"
        );
        let (refused, removed) = index.surplus();
        assert_eq!((refused.len(), removed.len()), (10_000 - OPEN, 0));
        assert_eq!(names(&refused)[0], format!("greedy-{OPEN:05}"), "the newest");

        let mut index = Index::default();
        many(&mut index, "greedy", 3000, &json!({"state": "Done", "message": "m".repeat(100)}));
        let (refused, removed) = index.surplus();
        assert_eq!((refused.len(), removed.len()), (0, 3000 - KEPT));
        assert_eq!(names(&removed)[0], "greedy-00000", "the oldest");
        let kept = index.good(&Key::new("greedy", "greedy-00007")).expect("it is there");
        assert!(kept.metadata.annotations.is_none() && kept.spec.words.is_none(), "{kept:?}");
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
