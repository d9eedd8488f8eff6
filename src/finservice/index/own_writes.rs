//! What writes are answered with. An answer may be handled after the watch has told that the object is gone: then it
//! must not bring it back, since no watch would ever tell again that it is gone. And it may hold what a person has
//! changed meanwhile: then it is left to the watch, which wakes whom that concerns.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::finservice::children::Kind;
use crate::finservice::index::child::{ChildState, Facts};
use crate::finservice::index::rollouts::CanaryObject;
use crate::finservice::index::uid::Uid;
use crate::finservice::index::{Index, Parsed};
use crate::runtime::key::{Key, asks_the_same};

/// How many children that are gone are remembered. An answer is handled within seconds; no more go meanwhile.
const REMEMBERED: usize = 1024;

/// Children that are gone, by UID, with the version at which they went.
#[derive(Debug, Default)]
pub(super) struct Gone {
    versions: HashMap<Uid, u64>,
    order: VecDeque<Uid>,
}

impl Gone {
    fn note(&mut self, uid: &Uid, version: u64) {
        if self.versions.insert(uid.clone(), version).is_none() {
            self.order.push_back(uid.clone());
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.versions.remove(&oldest);
        }
    }

    /// Whether that is a state from before it went. One that has only lost its label for a while has later ones.
    pub(super) fn is_over(&self, state: &ChildState) -> bool {
        self.versions.get(&state.uid).is_some_and(|version| state.version <= *version)
    }
}

impl Index {
    /// Notes what we wrote: the digest that was wanted. `repaired` is the time of a repair, in Unix
    /// seconds.
    pub fn wrote(&mut self, key: &Key, kind: Kind, name: &str, wanted: u64, repaired: Option<i64>) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        if let Some(child) = entry.children.iter_mut().find(|c| c.kind == kind && &*c.name == name) {
            let mut written = child.written();
            written.applied = child.digest.map(|came| (wanted, came));
            if let Some(now) = repaired {
                written.repairs = [written.repairs[1], written.repairs[2], now];
            }
            child.written = Some(Box::new(written));
        }
    }

    /// Notes that a Deployment of a FinService has been scaled, at a time in Unix seconds. Where it had as many pods from us
    /// before, that is a repair. `version` is the one that it has since; what was told of an older one is over.
    pub fn scaled(&mut self, key: &Key, name: &str, replicas: i32, version: u64, now: i64) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        for child in entry.children.iter_mut().filter(|child| &*child.name == name) {
            let mut written = child.written();
            child.version = child.version.max(version);
            if let Facts::Deployment(facts) = &mut child.facts {
                if written.scaled == Some(replicas) && facts.replicas != replicas {
                    written.repairs = [written.repairs[1], written.repairs[2], now];
                }
                facts.replicas = replicas;
                written.scaled = Some(replicas);
                child.written = Some(Box::new(written));
            }
        }
    }

    /// Takes in that a child in that state has gone.
    pub fn child_left(&mut self, key: &Key, state: &ChildState) {
        self.gone.note(&state.uid, state.version);
        self.child_gone(key, state.kind, &state.name, Some(&state.uid));
    }

    /// Takes in the FinService with which the write of its status was answered.
    pub fn service_answered(&mut self, key: &Key, version: u64, parsed: Parsed) -> BTreeSet<Key> {
        let asks_the_same = match (self.parsed(key), &parsed) {
            (Some(Parsed::Good(known)), Parsed::Good(answer)) => {
                asks_the_same(&known.metadata, &answer.metadata)
            }
            (Some(Parsed::Bad(known)), Parsed::Bad(answer)) => known.generation == answer.generation,
            _ => false,
        };
        if asks_the_same { self.service(key, version, Some(parsed)) } else { BTreeSet::new() }
    }

    /// Takes in the CanaryRollout with which the write of its status was answered.
    pub fn canary_answered(&mut self, key: &Key, object: CanaryObject) -> BTreeSet<Key> {
        let known = self.rollouts.object(key);
        let same =
            known.is_some_and(|known| asks_the_same(&known.object().metadata, &object.object().metadata));
        if same { self.canary(key, object) } else { BTreeSet::new() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use std::sync::Arc;

    use super::*;

    fn key() -> Key {
        Key::new("pay", "app")
    }

    fn service() -> Parsed {
        let service = json!({
            "apiVersion": "banyan.dev/v1alpha1", "kind": "FinService",
            "metadata": {"name": "app", "namespace": "pay", "uid": "u-1"},
            "spec": {"owner": "pay", "image": "registry.example/app:1", "ports": [{"name": "http", "port": 8080}]},
        });
        Parsed::Good(Arc::new(serde_json::from_value(service).expect("a FinService")))
    }

    fn policy() -> CanaryObject {
        let object = json!({
            "apiVersion": "banyan.dev/v1alpha1", "kind": "CanaryRollout",
            "metadata": {"name": "app", "namespace": "pay"},
            "spec": {"service": "app", "strategy": {"blueGreen": {}}},
        });
        CanaryObject::Good(Arc::new(serde_json::from_value(object).expect("a CanaryRollout")))
    }

    fn child(version: u64, uid: &str) -> ChildState {
        let object = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "Sidecar",
            "metadata": {"name": "app", "namespace": "pay", "uid": uid, "resourceVersion": version.to_string(),
                "labels": {"banyan.dev/service": "app"}},
        });
        ChildState::read(Kind::Sidecar, &serde_json::from_value(object).expect("an object"))
            .expect("a child")
            .1
    }

    /// A CanaryRollout was deleted in the moment in which its status was written. The answer came after the event, the
    /// rollout stood in the index for ever, and its canary kept its share.
    #[test]
    fn an_answer_brings_no_canary_rollout_back() {
        let mut index = Index::new("here");
        index.canary(&key(), policy());
        index.canary_answered(&key(), policy());
        assert!(index.rollouts.any());
        index.canary_gone(&key());
        assert_eq!(index.canary_answered(&key(), policy()), BTreeSet::new());
        assert!(!index.rollouts.any(), "it is gone");
    }

    #[test]
    fn an_answer_brings_no_finservice_back() {
        let mut index = Index::new("here");
        index.service(&key(), 5, Some(service()));
        index.child(&key(), child(6, "u-2"));
        index.service(&key(), 0, None);
        assert_eq!(index.service_answered(&key(), 7, service()), BTreeSet::new());
        assert!(index.observe(&key()).is_none(), "it is gone");
    }

    /// A person changed the spec in the moment in which the status was written. The answer held the new spec, the watch
    /// had no news after that, and the new spec waited until something else happened.
    #[test]
    fn what_a_person_changed_meanwhile_is_left_to_the_watch() {
        let changed = || {
            let Parsed::Good(service) = service() else { panic!("it parses") };
            let mut service = Arc::unwrap_or_clone(service);
            service.metadata.generation = Some(2);
            Parsed::Good(Arc::new(service))
        };
        let mut index = Index::new("here");
        index.service(&key(), 5, Some(service()));
        assert_eq!(index.service_answered(&key(), 7, changed()), BTreeSet::new());
        assert!(index.service(&key(), 6, Some(changed())).contains(&key()), "the watch wakes it");
        assert!(index.service_answered(&key(), 8, changed()).contains(&key()));

        index.canary(&key(), policy());
        let CanaryObject::Good(object) = policy() else { panic!("it parses") };
        let mut object = Arc::unwrap_or_clone(object);
        object.metadata.generation = Some(2);
        let changed = || CanaryObject::Good(Arc::new(object.clone()));
        assert_eq!(index.canary_answered(&key(), changed()), BTreeSet::new());
        assert!(index.canary(&key(), changed()).contains(&key()));
    }

    #[test]
    fn an_answer_brings_no_child_back_but_a_label_that_is_restored_does() {
        let mut index = Index::new("here");
        index.service(&key(), 5, Some(service()));
        index.child(&key(), child(6, "u-2"));
        index.child_left(&key(), &child(8, "u-2"));
        assert!(!index.child(&key(), child(7, "u-2")), "the answer of a write before it went");
        assert!(index.observe(&key()).expect("it is there").children.is_empty());
        assert!(index.child(&key(), child(9, "u-2")), "its label is there again");
        index.child_left(&key(), &child(10, "u-2"));
        assert!(index.child(&key(), child(9, "u-3")), "another one of its name");
    }

    #[test]
    fn no_more_are_remembered_than_may_matter() {
        let mut gone = Gone::default();
        (0..3000).for_each(|number| gone.note(&Uid::new(&format!("u-{number}")), 1));
        assert_eq!((gone.order.len(), gone.versions.len()), (REMEMBERED, REMEMBERED));
        assert!(!gone.is_over(&child(1, "u-7")) && gone.is_over(&child(1, "u-2999")));
    }
}
