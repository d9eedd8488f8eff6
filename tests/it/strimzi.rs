//! The KafkaMirrorMaker2 of Strimzi on a real API server: how its copying is stopped and let on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use banyan::api::store::{KafkaMirror, MirrorMetrics};
use banyan::sandbox::install;
use banyan::stores::StoreError;
use banyan::stores::kafka::{Copying, Mirror};
use jiff::Timestamp;
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use crate::cnpg::player::cloud;
use crate::world::{World, until};

const IDENTITY: &str = "org.apache.kafka.connect.mirror.IdentityReplicationPolicy";

/// After Strimzi's own definition (1.0): `mirrors` is a list without keys, and `source` is asked for.
const DEFINITION: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: kafkamirrormaker2s.kafka.strimzi.io
spec:
  group: kafka.strimzi.io
  scope: Namespaced
  names: {kind: KafkaMirrorMaker2, listKind: KafkaMirrorMaker2List, plural: kafkamirrormaker2s, singular: kafkamirrormaker2}
  versions:
    - name: v1
      served: true
      storage: true
      subresources: {status: {}}
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec:
              type: object
              required: [replicas, mirrors]
              properties:
                replicas: {type: integer}
                mirrors:
                  type: array
                  items:
                    type: object
                    required: [source]
                    properties:
                      source: {type: object, x-kubernetes-preserve-unknown-fields: true}
                      sourceConnector:
                        type: object
                        properties:
                          state: {type: string, enum: [paused, stopped, running]}
                          config: {type: object, x-kubernetes-preserve-unknown-fields: true}
                      checkpointConnector: {type: object, x-kubernetes-preserve-unknown-fields: true}
                      topicsPattern: {type: string}
            status: {type: object, x-kubernetes-preserve-unknown-fields: true}
"#;

struct Played {
    api: Api<DynamicObject>,
    mirror: Mirror,
    /// Whether Strimzi's operator does what it is asked.
    works: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Played {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Plays Strimzi's operator, while it `works`, after its sources: what it tells of a connector right after a change is what Kafka
/// Connect says in that moment, which has stopped nothing yet; the next look finds that it has.
pub fn play(at: Api<DynamicObject>, works: Arc<AtomicBool>) -> tokio::task::JoinHandle<()> {
    let mut does = "RUNNING".to_owned();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let Ok(object) = at.get("mirror").await else { continue };
            if !works.load(Ordering::SeqCst) {
                continue;
            }
            let told = json!({"observedGeneration": object.metadata.generation, "connectors": [
                {"name": "aws->gcp.MirrorSourceConnector", "type": "source", "connector": {"state": does},
                    "tasks": [{"id": 0, "state": does}]},
            ]});
            if object.data["status"] != told {
                let status = Patch::Merge(json!({"status": told}));
                let _ = at.patch_status("mirror", &PatchParams::default(), &status).await;
            }
            let asked = object.data["spec"]["mirrors"][0]["sourceConnector"]["state"].as_str();
            does = asked.unwrap_or("running").to_ascii_uppercase();
        }
    })
}

/// Its kind.
pub fn resource() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("kafka.strimzi.io", "v1", "KafkaMirrorMaker2"))
}

/// One that copies from that cluster, as git has it.
pub fn mirror(source: &str) -> DynamicObject {
    DynamicObject::new("mirror", &resource()).data(json!({"spec": {"replicas": 1, "mirrors": [{
        "source": {"alias": source, "bootstrapServers": format!("{source}:9092")},
        "sourceConnector": {"config": {"replication.policy.class": IDENTITY}},
        "checkpointConnector": {"config": {"replication.policy.class": IDENTITY}},
        "topicsPattern": "pay.*",
    }]}}))
}

/// Makes Strimzi's definition known to a cloud.
pub async fn define(client: &Client) {
    let definitions = install::documents("strimzi", DEFINITION).expect("YAML");
    install::definitions(client, &definitions).await.expect("the definition is taken");
}

async fn played(name: &str) -> Played {
    let cloud = cloud().await;
    let client = cloud.client_admin().expect("a client");
    define(&client).await;
    let namespace = World::on(cloud, name).await.namespace;
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &resource());
    let object = mirror("aws");
    until("the mirror is made", async || api.create(&PostParams::default(), &object).await.ok()).await;
    let works = Arc::new(AtomicBool::new(true));
    let (at, does) = (api.clone(), Arc::clone(&works));
    let task = play(at, does);
    let spec = KafkaMirror {
        connect: format!("{namespace}/mirror"),
        groups: None,
        policy: None,
        metrics: MirrorMetrics { url: "http://127.0.0.1:9/metrics".to_owned() },
    };
    let mirror =
        Mirror::new(&spec, client, "spec.stores[events].kafkaMirror").with_deadline(Duration::from_secs(30));
    Played { api, mirror, works, task }
}

impl Played {
    async fn spec(&self) -> Value {
        self.api.get("mirror").await.expect("an object").data["spec"].clone()
    }

    async fn frozen(&self, ballot: i64) {
        until("the mirror has stopped", async || match self.mirror.steer(ballot, false).await {
            Ok(mirroring) => mirroring.is_frozen().then_some(()),
            // Its status is written all the while.
            Err(error) if error.reason() == "Conflict" => None,
            Err(error) => panic!("{error}"),
        })
        .await;
    }
}

#[tokio::test]
async fn the_copying_is_stopped_and_let_on_and_nothing_else_is_changed() {
    let played = played("mirror").await;
    let before = played.spec().await;
    until("the mirror runs", async || {
        let reading = played.mirror.read(Timestamp::now()).await.ok()?;
        (reading.mirroring.does == Some(Copying::Running)).then_some(())
    })
    .await;
    played.works.store(false, Ordering::SeqCst);
    let asked = until("it is asked for", async || played.mirror.steer(33, false).await.ok()).await;
    assert!(asked.asked == Copying::Paused && !asked.is_frozen(), "{asked:?}: it is asked for, and not done");
    played.works.store(true, Ordering::SeqCst);
    played.frozen(33).await;
    let mut wanted = before.clone();
    wanted["mirrors"][0]["sourceConnector"]["state"] = json!("paused");
    assert_eq!(played.spec().await, wanted);
    let reading = played.mirror.read(Timestamp::now()).await.expect("a reading");
    assert!(reading.mirroring.is_frozen());
    assert_eq!(reading.flow.behind(Timestamp::now()), None, "nobody serves its page");

    let older = played.mirror.steer(17, true).await.map(|_| ());
    assert_eq!(older, Err(StoreError::Refused { asked: 17, known: 33 }));
    assert_eq!(played.spec().await, wanted);
    until("it is let on", async || played.mirror.steer(33, true).await.ok()).await;
    wanted["mirrors"][0]["sourceConnector"]["state"] = json!("running");
    assert_eq!(played.spec().await, wanted);
}

#[tokio::test]
async fn what_is_asked_twice_is_written_once() {
    let played = played("mirror-once").await;
    played.frozen(33).await;
    let generation = async || played.api.get("mirror").await.expect("an object").metadata.generation;
    let before = generation().await;
    for _ in 0..5 {
        played.frozen(33).await;
    }
    assert_eq!(generation().await, before);
}

/// Why the one field is not applied: the list has no keys, so that an applier must own all of it.
#[tokio::test]
async fn server_side_apply_cannot_write_the_one_field() {
    let played = played("mirror-apply").await;
    let object = json!({"apiVersion": "kafka.strimzi.io/v1", "kind": "KafkaMirrorMaker2", "metadata": {"name": "mirror"},
        "spec": {"mirrors": [{"sourceConnector": {"state": "paused"}}]}});
    let parameters = PatchParams::apply("banyan-failover").force();
    let answer = played.api.patch("mirror", &parameters, &Patch::Apply(&object)).await;
    assert!(answer.expect_err("refused").to_string().contains("spec.mirrors[0].source: Required value"));
}
