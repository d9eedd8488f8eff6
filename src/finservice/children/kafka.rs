//! Strimzi's KafkaTopics and KafkaUser.
//!
//! They are made in the namespace of the FinService, which Strimzi's topic and user operators must
//! watch.

use serde_json::{Value, json};

use super::json::{filled, object, text};
use super::{Child, Kind, Scope};
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
    let topics = data.topics.as_ref().is_some_and(|topics| !topics.is_empty());
    (topics || data.kafka_cluster.is_some()).then(|| data.kafka_cluster.as_deref().unwrap_or(CLUSTER))
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
        ("topicName", text(&topic.name)),
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

/// The user may do with its own topics what a client does, and have consumer groups that begin with
/// the name of the service. It authenticates by a certificate, which Strimzi writes into a Secret
/// named as the user is.
fn user(scope: &Scope, data: &Data, cluster: &str) -> Child {
    let mut acls: Vec<Value> = data
        .topics
        .iter()
        .flatten()
        .map(|topic| {
            json!({
                "type": "allow",
                "resource": {"type": "topic", "name": topic.name, "patternType": "literal"},
                "operations": ["Describe", "Read", "Write"],
                "host": "*",
            })
        })
        .collect();
    acls.push(json!({
        "type": "allow",
        "resource": {"type": "group", "name": scope.name, "patternType": "prefix"},
        "operations": ["Describe", "Read"],
        "host": "*",
    }));
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
