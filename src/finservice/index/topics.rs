//! Kafka topics: which FinServices say that they own one, over all namespaces.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::claims::created;
use super::holders::Holders;
use crate::api::FinService;
use crate::finservice::children::kafka;
use crate::finservice::plan::placement;
use crate::runtime::key::Key;

/// A topic that an older FinService names as its own too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostTopic {
    /// Its name, which is also the KafkaTopic's.
    pub name: String,
    /// The Kafka cluster.
    pub cluster: String,
    /// The older FinService.
    pub holder: Key,
    /// Whose that one is.
    pub owner: String,
    /// Whether both would make the same object.
    pub same_object: bool,
    /// Whether both have one owner.
    pub same_owner: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Named {
    at: Timestamp,
    owner: String,
    cluster: String,
    topics: BTreeSet<String>,
}

/// Who names which topic as its own. The oldest FinService has it; among equals the one whose name comes first.
#[derive(Debug, Default)]
pub struct Topics {
    holders: Holders<String, Timestamp>,
    by_service: BTreeMap<Key, Named>,
}

impl Topics {
    /// Takes in the topics of a FinService at this site; `None` forgets it. Returns the others that it concerns.
    pub fn update(&mut self, key: &Key, service: Option<&FinService>, site: &str) -> BTreeSet<Key> {
        let mut concerned = BTreeSet::new();
        let new = service.filter(|service| placement::names(&service.spec, site)).and_then(named);
        if self.by_service.get(key) == new.as_ref() {
            return concerned;
        }
        if let Some(old) = self.by_service.remove(key) {
            let topics = old.topics.into_iter().map(|topic| (topic, old.at));
            self.holders.remove(key, topics, &mut concerned);
        }
        if let Some(new) = new {
            let topics = new.topics.iter().map(|topic| (topic.clone(), new.at));
            self.holders.add(key, topics, &mut concerned);
            self.by_service.insert(key.clone(), new);
        }
        concerned
    }

    /// Those that name a topic, in a namespace.
    pub fn namers(&self, namespace: &str, topic: &str) -> Vec<Key> {
        let all = self.holders.of(topic);
        all.filter(|key| &*key.namespace == namespace).cloned().collect()
    }

    /// What this FinService names as its own although an older one does, in its namespace or of its Kafka cluster.
    pub fn lost(&self, key: &Key) -> Vec<LostTopic> {
        let Some(own) = self.by_service.get(key) else { return Vec::new() };
        let lost = own.topics.iter().filter_map(|topic| {
            let older = self.holders.of(topic).take_while(|holder| *holder != key);
            let others = older.filter_map(|holder| Some((holder, self.by_service.get(holder)?)));
            let others = others
                .filter(|(holder, other)| holder.namespace == key.namespace || other.cluster == own.cluster);
            // Whose object it would be matters more than whose data.
            let (holder, other) = others.min_by_key(|(holder, _)| holder.namespace != key.namespace)?;
            Some(LostTopic {
                name: topic.clone(),
                cluster: other.cluster.clone(),
                holder: holder.clone(),
                owner: other.owner.clone(),
                same_object: holder.namespace == key.namespace,
                same_owner: other.owner == own.owner,
            })
        });
        lost.collect()
    }
}

fn named(service: &FinService) -> Option<Named> {
    let data = service.spec.data.as_ref()?;
    let topics: BTreeSet<String> = data.topics.iter().flatten().map(|topic| topic.name.clone()).collect();
    let cluster = kafka::cluster_of(data).filter(|_| !topics.is_empty())?.to_owned();
    Some(Named { at: created(service), owner: service.spec.owner.clone(), cluster, topics })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(second: i64, owner: &str, cluster: &str, topics: &[&str]) -> FinService {
        let topics: Vec<_> = topics.iter().map(|name| json!({"name": name})).collect();
        let time = Timestamp::from_second(second).expect("in range");
        serde_json::from_value(json!({
            "apiVersion": "banyan.dev/v1alpha1", "kind": "FinService",
            "metadata": {"name": "x", "creationTimestamp": time.to_string()},
            "spec": {"owner": owner, "image": "app:1", "ports": [{"name": "http", "port": 80}],
                "data": {"kafkaCluster": cluster, "topics": topics}},
        }))
        .expect("a FinService")
    }

    #[test]
    fn the_oldest_that_names_a_topic_has_it_and_others_hear_of_it() {
        let mut topics = Topics::default();
        let (old, young, far) = (Key::new("pay", "old"), Key::new("pay", "young"), Key::new("far", "away"));
        assert_eq!(
            topics.update(&young, Some(&service(20, "b", "kafka", &["t", "u"])), "here"),
            BTreeSet::new()
        );
        assert_eq!(topics.lost(&young), []);
        let heard = topics.update(&old, Some(&service(10, "a", "other", &["t"])), "here");
        assert_eq!(heard, BTreeSet::from([young.clone()]));
        let lost = topics.lost(&young);
        assert_eq!((lost.len(), &*lost[0].name, &lost[0].holder, &*lost[0].owner), (1, "t", &old, "a"));
        assert!(lost[0].same_object && !lost[0].same_owner, "in one namespace it is one object: {lost:?}");
        assert_eq!(topics.lost(&old), []);
        // In another namespace it is the same topic only if it is of the same Kafka cluster.
        topics.update(&far, Some(&service(30, "b", "kafka", &["t"])), "here");
        let lost = topics.lost(&far);
        assert_eq!((&lost[0].holder, lost[0].same_object, lost[0].same_owner), (&young, false, true));
        assert_eq!(topics.update(&old, None, "here"), BTreeSet::from([young.clone(), far]));
        assert_eq!(topics.lost(&young), []);
    }
}
