//! Strimzi's KafkaTopics and KafkaUser.
//!
//! They are made in the namespace of the FinService, which Strimzi's topic and user operators must
//! watch.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::json::{filled, object, text};
use super::{Child, Kind, Scope, Way};
use crate::api::operations::{Data, OnDelete, Topic};
use crate::api::units;

/// The Kafka cluster unless the spec names one.
const CLUSTER: &str = "kafka";
/// Copies of a topic unless the spec says otherwise: one may be lost while another is maintained.
const REPLICAS: i32 = 3;

/// Name of the Kafka cluster that the service uses; none if it uses none.
pub fn cluster<'a>(scope: &Scope<'a>) -> Option<&'a str> {
    cluster_of(scope.spec.data.as_ref()?)
}

/// Name of the Kafka cluster that is used by who has such data; none if none is.
pub fn cluster_of(data: &Data) -> Option<&str> {
    let some = |names: &Option<Vec<String>>| names.as_ref().is_some_and(|names| !names.is_empty());
    let topics = data.topics.as_ref().is_some_and(|topics| !topics.is_empty());
    (topics || some(&data.reads) || some(&data.writes) || data.kafka_cluster.is_some())
        .then(|| data.kafka_cluster.as_deref().unwrap_or(CLUSTER))
}

/// The topics that the service owns, and its user.
pub fn build(scope: &Scope) -> Vec<Child> {
    let (Some(data), Some(cluster)) = (&scope.spec.data, cluster(scope)) else { return Vec::new() };
    let mut children: Vec<Child> = data.topics.iter().flatten().map(|t| topic(scope, t, cluster)).collect();
    children.push(user(scope, data, cluster));
    children
}

fn topic(scope: &Scope, topic: &Topic, cluster: &str) -> Child {
    let retention = topic.retention.as_deref().and_then(units::duration);
    let retention = retention.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX).into());
    let spec = object([
        ("topicName", text(topic.in_kafka())),
        ("partitions", topic.partitions.map(Value::from)),
        ("replicas", Some(topic.replicas.unwrap_or(REPLICAS).into())),
        ("config", filled(object([("retention.ms", retention)]))),
    ]);
    let mut child = scope.child(Kind::KafkaTopic, topic.name.clone(), None, json!({"spec": spec}));
    child.body["metadata"]["labels"]["strimzi.io/cluster"] = cluster.into();
    if topic.on_delete.unwrap_or_default() == OnDelete::Retain
        && let Some(metadata) = child.body["metadata"].as_object_mut()
    {
        // Without an owner nothing collects it when the FinService goes, and its data stays.
        metadata.remove("ownerReferences");
    }
    child
}

/// The user may do with its own topics what a client does, with those of others what these allow, and have the consumer group
/// of the service's name and those that begin with that and a dot: without one, `pay` could leave `payments` without its
/// messages. It authenticates by a certificate, which Strimzi writes into a Secret named as the user is.
fn user(scope: &Scope, data: &Data, cluster: &str) -> Child {
    let mut topics: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let own =
        data.topics.iter().flatten().map(Topic::in_kafka).filter(|name| !scope.topics.lost.contains(*name));
    let both = own.flat_map(|name| [(name, "Read"), (name, "Write")]);
    let of_others = scope.topics.granted.iter().map(|(name, way)| match way {
        Way::Read => (name.as_str(), "Read"),
        Way::Write => (name.as_str(), "Write"),
    });
    for (name, operation) in both.chain(of_others) {
        topics.entry(name).or_insert_with(|| BTreeSet::from(["Describe"])).insert(operation);
    }
    let acl = |kind: &str, name: &str, pattern: &str, operations: Value| {
        json!({
            "type": "allow",
            "resource": {"type": kind, "name": name, "patternType": pattern},
            "operations": operations,
            "host": "*",
        })
    };
    let mut acls: Vec<Value> =
        topics.iter().map(|(name, operations)| acl("topic", name, "literal", json!(operations))).collect();
    acls.push(acl("group", scope.name, "literal", json!(["Describe", "Read"])));
    acls.push(acl("group", &format!("{}.", scope.name), "prefix", json!(["Describe", "Read"])));
    let spec = json!({
        "authentication": {"type": "tls"},
        "authorization": {"type": "simple", "acls": acls},
    });
    // Strimzi's Secret bears the name of the user: apart from what people call theirs.
    let mut child =
        scope.child(Kind::KafkaUser, format!("{}-kafka", scope.name), None, json!({"spec": spec}));
    child.body["metadata"]["labels"]["strimzi.io/cluster"] = cluster.into();
    child
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finservice::children::Topics;
    use crate::finservice::testing;

    #[test]
    fn a_topic_outlives_its_service_unless_told_otherwise() {
        let mut spec = testing::rich();
        let owners = |spec: &crate::api::FinServiceSpec| {
            build(&testing::scope(spec))[0].body["metadata"].get("ownerReferences").is_some()
        };
        assert!(!owners(&spec));
        let topics = spec.data.as_mut().and_then(|data| data.topics.as_mut()).expect("topics");
        topics[0].on_delete = Some(OnDelete::Delete);
        assert!(owners(&spec));
    }

    #[test]
    fn faults_4_6_a_user_may_what_it_owns_or_was_given() {
        let mut spec = testing::rich();
        let data = spec.data.as_mut().expect("data");
        data.topics =
            serde_json::from_value(json!([{"name": "own-v2", "topicName": "Own_v2"}, {"name": "taken"}]))
                .expect("topics");
        let topics = Topics {
            lost: BTreeSet::from(["taken".to_owned()]),
            granted: BTreeSet::from([("fees".to_owned(), Way::Read), ("audit".to_owned(), Way::Write)]),
        };
        let scope = Scope { topics: &topics, ..testing::scope(&spec) };
        let all = build(&scope);
        assert_eq!((&*all[0].name, &all[0].body["spec"]["topicName"]), ("own-v2", &json!("Own_v2")), "6.13");
        let user = all.last().expect("a user");
        let acls = user.body["spec"]["authorization"]["acls"].as_array().expect("ACLs").iter();
        let told = acls.map(|acl| {
            let (resource, may) = (&acl["resource"], &acl["operations"]);
            format!("{} {} {} {may}", resource["patternType"], resource["type"], resource["name"])
                .replace('"', "")
        });
        assert_eq!(
            told.collect::<Vec<_>>(),
            [
                "literal topic Own_v2 [Describe,Read,Write]",
                "literal topic audit [Describe,Write]",
                "literal topic fees [Describe,Read]",
                "literal group transaction [Describe,Read]",
                "prefix group transaction. [Describe,Read]",
            ]
        );
    }

    #[test]
    fn retention_is_in_milliseconds() {
        let spec = testing::rich();
        assert_eq!(build(&testing::scope(&spec))[0].body["spec"]["config"]["retention.ms"], 604_800_000_u64);
    }

    #[test]
    fn a_service_without_kafka_has_no_user() {
        let spec = testing::minimal();
        assert_eq!(build(&testing::scope(&spec)), []);
    }
}
