//! What a list and its watch tell of one kind of object, kept small. Synchronous, without I/O.

use std::collections::{BTreeMap, BTreeSet};

use kube::api::DynamicObject;

use crate::runtime::follow::Change;
use crate::runtime::key::{Key, key_of};
use crate::runtime::raw_object::RawObject;

/// What is known of each object, by what it is known as. What is not in it is only absent once a list was read to its end.
#[derive(Clone, Debug)]
pub struct Listed<K, V> {
    so_far: BTreeMap<K, V>,
    whole: bool,
}

impl<K, V> Default for Listed<K, V> {
    fn default() -> Self {
        Self { so_far: BTreeMap::new(), whole: false }
    }
}

impl<K: Ord, V: PartialEq> Listed<K, V> {
    /// All of it; `None` until a list was read to its end.
    pub fn all(&self) -> Option<&BTreeMap<K, V>> {
        self.whole.then_some(&self.so_far)
    }

    /// Takes in one that was read by itself.
    pub fn put(&mut self, key: K, value: V) {
        self.so_far.insert(key, value);
    }

    /// Takes in a change. Returns whether it is news.
    pub fn take(
        &mut self,
        change: Change<RawObject>,
        known_as: impl Fn(&Key) -> K,
        read: impl FnOnce(DynamicObject) -> V,
    ) -> bool {
        match change {
            Change::Is(RawObject(object)) => {
                let key = known_as(&key_of(&object.metadata));
                let value = read(object);
                let news = self.so_far.get(&key) != Some(&value);
                self.so_far.insert(key, value);
                news
            }
            Change::Gone(object) => self.so_far.remove(&known_as(&key_of(&object.0.metadata))).is_some(),
            Change::Relisted(seen) => {
                let seen: BTreeSet<K> = seen.iter().map(known_as).collect();
                let before = self.so_far.len();
                self.so_far.retain(|key, _| seen.contains(key));
                !std::mem::replace(&mut self.whole, true) || self.so_far.len() != before
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn is(name: &str, value: u64) -> Change<RawObject> {
        let object = json!({"metadata": {"name": name, "namespace": "pay"}, "value": value});
        Change::Is(RawObject(serde_json::from_value(object).expect("an object")))
    }

    fn take(listed: &mut Listed<String, u64>, change: Change<RawObject>) -> bool {
        listed.take(change, |key| key.name.to_string(), |object| object.data["value"].as_u64().unwrap_or(0))
    }

    #[test]
    fn what_is_not_listed_yet_is_not_absent_and_only_news_are_news() {
        let mut listed = Listed::default();
        assert!(
            take(&mut listed, is("a", 1)) && !take(&mut listed, is("a", 1)) && take(&mut listed, is("a", 2))
        );
        assert_eq!(listed.all(), None, "the list was not read to its end");
        assert!(take(&mut listed, is("b", 1)));
        let seen = || Change::Relisted([Key::new("pay", "a")].into());
        assert!(take(&mut listed, seen()));
        assert_eq!(listed.all(), Some(&BTreeMap::from([("a".to_owned(), 2)])));
        assert!(!take(&mut listed, seen()), "nothing has changed");
    }
}
