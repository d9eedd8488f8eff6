//! Kafka topics: which FinServices say that they own one, over all namespaces.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::claims::created;
use super::holders::Holders;
use crate::api::FinService;
use crate::api::network::ServiceRef;
use crate::finservice::children::{self, Way, kafka};
use crate::finservice::plan::placement;
use crate::finservice::settings::Settings;
use crate::runtime::key::Key;

/// A topic that an older FinService names as its own too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostTopic {
    /// Its name, which is also the KafkaTopic's.
    pub name: String,
    /// Its name in Kafka.
    pub in_kafka: String,
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

/// A topic of others that a FinService may not use as it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedTopic {
    /// Its name in Kafka.
    pub name: String,
    /// What was to be done with it.
    pub way: Way,
    /// The Kafka cluster.
    pub cluster: String,
    /// Whose it is; `None` if no FinService owns it.
    pub holder: Option<Key>,
}

/// What a FinService is told of topics that others name as theirs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToldTopics {
    /// Those that an older FinService names as its own too.
    pub lost: Vec<LostTopic>,
    /// Those that it may not use.
    pub refused: Vec<RefusedTopic>,
    /// What it may do.
    pub may: children::Topics,
}

/// A topic that a FinService names as its own.
#[derive(Debug, PartialEq, Eq)]
struct Own {
    object: String,
    readers: BTreeSet<Key>,
    writers: BTreeSet<Key>,
}

#[derive(Debug, PartialEq, Eq)]
struct Named {
    at: Timestamp,
    owner: String,
    cluster: String,
    /// What it names as its own, by the name in Kafka.
    topics: BTreeMap<String, Own>,
    uses: BTreeSet<(String, Way)>,
}

/// Who names which topic as its own. The oldest FinService has it; among equals the one whose name comes first.
#[derive(Debug, Default)]
pub struct Topics {
    /// By the name in Kafka.
    holders: Holders<String, Timestamp>,
    /// By the names of their objects.
    objects: Holders<Key, Timestamp>,
    /// Who uses topics of others.
    users: Holders<String, ()>,
    by_service: BTreeMap<Key, Named>,
}

impl Topics {
    /// Takes in the topics of a FinService at this site; `None` forgets it. Returns the others that it concerns.
    pub fn update(
        &mut self,
        key: &Key,
        service: Option<&FinService>,
        site: &str,
        settings: &Settings,
    ) -> BTreeSet<Key> {
        let mut concerned = BTreeSet::new();
        let here = service.filter(|service| placement::names(&service.spec, site));
        let new = here.and_then(|service| named(key, service, settings));
        if self.by_service.get(key) == new.as_ref() {
            return concerned;
        }
        if let Some(old) = self.by_service.remove(key) {
            self.holders.remove(key, old.names(), &mut concerned);
            self.objects.remove(key, old.objects(key), &mut concerned);
            old.used().for_each(|topic| self.users.take(key, &topic, ()));
            concerned.extend(old.topics.keys().flat_map(|topic| self.users.of(topic)).cloned());
        }
        if let Some(new) = new {
            self.holders.add(key, new.names(), &mut concerned);
            self.objects.add(key, new.objects(key), &mut concerned);
            concerned.extend(new.topics.keys().flat_map(|topic| self.users.of(topic)).cloned());
            new.used().for_each(|topic| self.users.put(key, topic, ()));
            self.by_service.insert(key.clone(), new);
        }
        concerned.remove(key);
        concerned
    }

    /// Those that name a KafkaTopic of a namespace.
    pub fn namers(&self, namespace: &str, object: &str) -> Vec<Key> {
        self.objects.of(&Key::new(namespace, object)).cloned().collect()
    }

    /// What is told to this FinService.
    pub fn told(&self, key: &Key) -> ToldTopics {
        let Some(own) = self.by_service.get(key) else { return ToldTopics::default() };
        let mut told = ToldTopics::default();
        for (name, topic) in &own.topics {
            // Whose data it is goes first: no second FinService of a namespace gives it what belongs to another one.
            let owner = self.owner(name, &own.cluster);
            let foreign = owner.filter(|owner| owner.namespace != key.namespace);
            if let Some(other) = foreign.and_then(|owner| self.by_service.get(owner)) {
                told.may.lost.insert(name.clone());
                let ways = [Way::Read, Way::Write].into_iter().filter(|way| other.allows(key, name, *way));
                told.may.granted.extend(ways.map(|way| (name.clone(), way)));
            }
            let of_object = self.objects.of(&Key::new(&key.namespace, &topic.object)).next();
            let Some(holder) =
                foreign.or([of_object, owner].into_iter().flatten().find(|holder| *holder != key))
            else {
                continue;
            };
            let Some(other) = self.by_service.get(holder) else { continue };
            told.lost.push(LostTopic {
                name: topic.object.clone(),
                in_kafka: name.clone(),
                cluster: other.cluster.clone(),
                holder: holder.clone(),
                owner: other.owner.clone(),
                same_object: holder.namespace == key.namespace,
                same_owner: other.owner == own.owner,
            });
        }
        for (name, way) in &own.uses {
            let holder = self.owner(name, &own.cluster);
            let allows = |holder: &&Key| {
                let other = self.by_service.get(*holder);
                holder.namespace == key.namespace || other.is_some_and(|other| other.allows(key, name, *way))
            };
            if holder.as_ref().is_some_and(allows) {
                told.may.granted.insert((name.clone(), *way));
                continue;
            }
            let (name, cluster) = (name.clone(), own.cluster.clone());
            told.refused.push(RefusedTopic { name, way: *way, cluster, holder: holder.cloned() });
        }
        told
    }

    /// Whose a topic of a Kafka cluster is: of the first that named it.
    fn owner(&self, topic: &str, cluster: &str) -> Option<&Key> {
        let is_of_cluster = |other: &Named| other.cluster == cluster;
        self.holders.of(topic).find(|holder| self.by_service.get(*holder).is_some_and(is_of_cluster))
    }
}

impl Named {
    fn names(&self) -> impl Iterator<Item = (String, Timestamp)> + use<> {
        let at = self.at;
        self.topics.keys().cloned().collect::<Vec<_>>().into_iter().map(move |name| (name, at))
    }

    fn objects(&self, key: &Key) -> impl Iterator<Item = (Key, Timestamp)> + use<> {
        let all = self.topics.values().map(|own| (Key::new(&key.namespace, &own.object), self.at));
        all.collect::<Vec<_>>().into_iter()
    }

    fn used(&self) -> impl Iterator<Item = String> + use<> {
        let all: BTreeSet<String> = self.uses.iter().map(|(name, _)| name.clone()).collect();
        all.into_iter()
    }

    fn allows(&self, who: &Key, topic: &str, way: Way) -> bool {
        self.topics.get(topic).is_some_and(|own| match way {
            Way::Read => own.readers.contains(who),
            Way::Write => own.writers.contains(who),
        })
    }
}

fn named(key: &Key, service: &FinService, settings: &Settings) -> Option<Named> {
    let data = service.spec.data.as_ref()?;
    let keys = |list: &Option<Vec<ServiceRef>>| -> BTreeSet<Key> {
        let namespace = |of: &ServiceRef| of.namespace.clone().unwrap_or_else(|| key.namespace.to_string());
        list.iter().flatten().map(|of| Key::new(&namespace(of), &of.service)).collect()
    };
    let topics: BTreeMap<String, Own> = (data.topics.iter().flatten())
        .map(|topic| {
            let (readers, writers) = (keys(&topic.readers), keys(&topic.writers));
            (topic.in_kafka().to_owned(), Own { object: topic.name.clone(), readers, writers })
        })
        .collect();
    let reads = data.reads.iter().flatten().map(|name| (name.clone(), Way::Read));
    let writes = data.writes.iter().flatten().map(|name| (name.clone(), Way::Write));
    let uses: BTreeSet<(String, Way)> =
        reads.chain(writes).filter(|(name, _)| !topics.contains_key(name)).collect();
    let cluster = kafka::cluster_of(data).filter(|_| !topics.is_empty() || !uses.is_empty())?;
    let cluster = match settings.kafka_per_namespace {
        true => format!("{}/{cluster}", key.namespace),
        false => cluster.to_owned(),
    };
    Some(Named { at: created(service), owner: service.spec.owner.clone(), cluster, topics, uses })
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
        let (mut topics, shared) = (Topics::default(), Settings::default());
        let lost_by = |topics: &Topics, key: &Key| topics.told(key).lost;
        let (old, young, far) = (Key::new("pay", "old"), Key::new("pay", "young"), Key::new("far", "away"));
        assert_eq!(
            topics.update(&young, Some(&service(20, "b", "kafka", &["t", "u"])), "here", &shared),
            BTreeSet::new()
        );
        assert_eq!(lost_by(&topics, &young), []);
        let heard = topics.update(&old, Some(&service(10, "a", "other", &["t"])), "here", &shared);
        assert_eq!(heard, BTreeSet::from([young.clone()]));
        let lost = lost_by(&topics, &young);
        assert_eq!((lost.len(), &*lost[0].name, &lost[0].holder, &*lost[0].owner), (1, "t", &old, "a"));
        assert!(lost[0].same_object && !lost[0].same_owner, "in one namespace it is one object: {lost:?}");
        assert_eq!(lost_by(&topics, &old), []);
        // In another namespace it is the same topic only if it is of the same Kafka cluster.
        topics.update(&far, Some(&service(30, "b", "kafka", &["t"])), "here", &shared);
        let lost = lost_by(&topics, &far);
        assert_eq!((&lost[0].holder, lost[0].same_object, lost[0].same_owner), (&young, false, true));
        assert_eq!(topics.update(&old, None, "here", &shared), BTreeSet::from([young.clone(), far]));
        assert_eq!(lost_by(&topics, &young), []);
    }

    fn with(second: i64, data: serde_json::Value) -> FinService {
        let mut service = service(second, "team", "kafka", &[]);
        service.spec.data = Some(serde_json::from_value(data).expect("data"));
        service
    }

    #[test]
    fn faults_4_6_a_topic_of_another_namespace_is_used_as_its_owner_allows() {
        let (mut topics, shared) = (Topics::default(), Settings::default());
        let (owner, fraud, thief, near) = (
            Key::new("pay", "ledger"),
            Key::new("risk", "fraud"),
            Key::new("evil", "x"),
            Key::new("pay", "near"),
        );
        let reads = json!({"reads": ["Fees_v2"]});
        topics.update(&fraud, Some(&with(20, reads.clone())), "here", &shared);
        topics.update(&near, Some(&with(20, reads)), "here", &shared);
        let refused = topics.told(&fraud).refused;
        assert_eq!((refused[0].holder.as_ref(), refused[0].way), (None, Way::Read), "nobody owns it");
        let reader = json!([{"service": "fraud", "namespace": "risk"}]);
        let own = json!({"topics": [{"name": "fees", "topicName": "Fees_v2", "readers": reader}]});
        let heard = topics.update(&owner, Some(&with(10, own.clone())), "here", &shared);
        assert_eq!(heard, BTreeSet::from([fraud.clone(), near.clone()]), "who uses it hears of it");
        let read = BTreeSet::from([("Fees_v2".to_owned(), Way::Read)]);
        assert_eq!((topics.told(&fraud).may.granted, topics.told(&fraud).refused), (read.clone(), vec![]));
        assert_eq!(topics.told(&near).may.granted, read, "a namespace is one team's");
        // Who names it as its own later on has nothing of it, whatever it calls the object.
        let claim = json!({"topics": [{"name": "mine", "topicName": "Fees_v2"}], "writes": ["Fees_v2"]});
        topics.update(&thief, Some(&with(30, claim)), "here", &shared);
        let told = topics.told(&thief);
        assert_eq!((told.may.lost.len(), told.may.granted.len(), told.lost[0].same_object), (1, 0, false));
        // Nor by a second one of its namespace, whose object it would be.
        let second = Key::new("evil", "y");
        let claim = json!({"topics": [{"name": "mine", "topicName": "Fees_v2"}]});
        topics.update(&second, Some(&with(40, claim.clone())), "here", &shared);
        assert_eq!(topics.told(&second).may.lost.len(), 1);
        topics.update(
            &thief,
            Some(&with(30, json!({"topics": [{"name": "mine", "topicName": "Other"}]}))),
            "here",
            &shared,
        );
        assert_eq!(topics.told(&second).may.lost.len(), 1);
        let without = json!({"topics": [{"name": "fees", "topicName": "Fees_v2"}]});
        topics.update(&owner, Some(&with(10, without)), "here", &shared);
        let refused = topics.told(&fraud).refused;
        assert_eq!((refused[0].holder.as_ref(), topics.told(&fraud).may.granted.len()), (Some(&owner), 0));
    }

    #[test]
    fn where_each_namespace_has_its_own_kafka_none_takes_anothers_topic() {
        let (mut topics, apart) =
            (Topics::default(), Settings { kafka_per_namespace: true, ..Settings::default() });
        for (second, namespace) in [(10, "a"), (20, "b")] {
            let service = service(second, namespace, "kafka", &["t"]);
            topics.update(&Key::new(namespace, "x"), Some(&service), "here", &apart);
        }
        assert_eq!(topics.told(&Key::new("b", "x")), ToldTopics::default());
    }
}
