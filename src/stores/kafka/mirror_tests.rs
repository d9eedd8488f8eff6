use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use serde_json::{Value, json};

use super::*;
use crate::api::store::MirrorMetrics;
use crate::sandbox::ends::server::{Fault, Served, serve};

/// A bound for calls that are answered, and for the test of one that is not.
const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(300);
const IDENTITY: &str = "org.apache.kafka.connect.mirror.IdentityReplicationPolicy";

/// MirrorMaker's page and the API server that has its object, played.
struct Played {
    page: Arc<Mutex<String>>,
    object: Arc<Mutex<Value>>,
    end: Served,
}

/// What an API server does with a JSON patch of the version that it has; 409 for another one.
async fn patched(object: Arc<Mutex<Value>>, body: Bytes) -> (StatusCode, String) {
    let changes: Vec<Value> = serde_json::from_slice(&body).expect("a JSON patch");
    let mut object = lock(&object);
    for change in &changes {
        let path = change["path"].as_str().expect("a path");
        if path == "/metadata/resourceVersion" {
            if object["metadata"]["resourceVersion"] != change["value"] {
                return (StatusCode::CONFLICT, "{}".to_owned());
            }
            continue;
        }
        let (parent, name) = path.rsplit_once('/').expect("a path");
        object.pointer_mut(parent).expect("a parent")[name.replace("~1", "/")] = change["value"].clone();
    }
    let version: u64 =
        object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).expect("one");
    object["metadata"]["resourceVersion"] = json!((version + 1).to_string());
    (StatusCode::OK, object.to_string())
}

async fn played() -> Played {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let page = Arc::new(Mutex::new(String::new()));
    let object = json!({
        "apiVersion": "kafka.strimzi.io/v1", "kind": "KafkaMirrorMaker2",
        "metadata": {"name": "mirror", "namespace": "kafka", "resourceVersion": "1", "generation": 1},
        "spec": {"mirrors": [{
            "source": {"alias": "aws"},
            "sourceConnector": {"config": {"replication.policy.class": IDENTITY}},
            "checkpointConnector": {"config": {"replication.policy.class": IDENTITY, "sync.group.offsets.enabled": true}},
        }]},
    });
    let object = Arc::new(Mutex::new(object));
    let (read, written) = (Arc::clone(&object), Arc::clone(&object));
    let routes = Router::new()
        .route("/metrics", get(async |State(page): State<Arc<Mutex<String>>>| lock(&page).clone()))
        .route(
            "/apis/kafka.strimzi.io/v1/namespaces/kafka/kafkamirrormaker2s/mirror",
            get(async move || lock(&read).to_string())
                .patch(async move |body: Bytes| patched(Arc::clone(&written), body).await),
        )
        .with_state(Arc::clone(&page));
    Played { page, object, end: serve(routes).await.expect("a server") }
}

impl Played {
    fn mirror(&self, deadline: Duration) -> Mirror {
        let mut config = kube::Config::new(self.end.url().parse().expect("a URL"));
        // As the operator's own clients.
        config.default_retry = false;
        let client = Client::try_from(config).expect("a client");
        let spec = Spec {
            connect: "kafka/mirror".to_owned(),
            groups: Some(vec!["fraud".to_owned()]),
            policy: None,
            metrics: MirrorMetrics { url: format!("{}/metrics", self.end.url()) },
        };
        Mirror::new(&spec, client, "spec.stores[events].kafkaMirror").with_deadline(deadline)
    }

    /// The page tells that so many records were copied, the last one so many milliseconds old.
    fn tells(&self, records: &str, age: &str) {
        let of = "source=\"aws\",target=\"gcp\",topic=\"pay\",partition=\"0\"";
        let name = "kafka_connect_mirror_mirrorsourceconnector";
        *lock(&self.page) = format!(
            "{name}_record_count{{{of}}} {records}\n{name}_record_age_ms{{{of}}} {age}\n\
             kafka_connect_mirror_mirrorcheckpointconnector_checkpoint_latency_ms{{source=\"aws\",target=\"gcp\",group=\"fraud\",topic=\"pay\",partition=\"0\"}} 1500.0\n"
        );
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

#[tokio::test]
async fn a_mirror_that_copies_says_how_far_it_is_behind_and_one_that_stands_still_does_not() {
    let played = played().await;
    let mirror = played.mirror(LONG);
    let behind = async |records: &str, age: &str, second: i64| {
        played.tells(records, age);
        let reading = mirror.read(at(second)).await.expect("a reading");
        (reading.flow.behind(at(second)), reading.offsets["fraud"])
    };
    let millis = |millis| Some(Duration::from_millis(millis));
    assert_eq!(behind("10.0", "200.0", 0).await, (None, None), "seen once");
    assert_eq!(behind("12.0", "300.0", 10).await, (millis(300), millis(1500)));
    assert_eq!(behind("12.0", "300.0", 40).await, (millis(30_300), None), "it stands still");
    assert_eq!(behind("NaN", "NaN", 50).await, (millis(40_300), None));
    assert_eq!(behind("3.0", "1.0", 60).await, (millis(50_300), None), "a task began anew");
    assert_eq!(behind("4.0", "2000.0", 70).await, (millis(2000), millis(1500)));
    assert_eq!(behind("5.0", "NaN", 80).await, (millis(12_000), None), "it copies, and does not say how old");
    *lock(&played.page) = String::new();
    let reading = mirror.read(at(90)).await.expect("a reading");
    assert_eq!(reading.flow.behind(at(90)), millis(22_000), "the series are missing");
    assert_eq!((reading.mirroring.source.as_deref(), reading.mirroring.problems), (Some("aws"), Vec::new()));
}

#[tokio::test]
async fn every_fault_of_the_page_is_a_flow_that_is_not_known() {
    let played = played().await;
    let url = format!("{}/metrics", played.end.url());
    for fault in Fault::all() {
        let mirror = played.mirror(if fault == Fault::Silence { SHORT } else { LONG });
        for (records, second) in [("1.0", 0), ("2.0", 1)] {
            played.tells(records, "200.0");
            mirror.read(at(second)).await.expect("a reading");
        }
        played.end.desk.take();
        played.end.desk.next(|asked| asked.path == "/metrics", [fault.clone()]);
        let reading = mirror.read(at(2)).await.expect("the object is read");
        let Flow::Unknown(words) = &reading.flow else { panic!("{fault:?}: {reading:?}") };
        assert!(words.starts_with(&format!("{url} cannot be read: ")), "{fault:?}: {words}");
        assert_eq!(reading.offsets["fraud"], None);
        assert_eq!(played.end.desk.take().len(), 2, "{fault:?}: the page and the object, once each");
        let after = mirror.read(at(3)).await.expect("a reading");
        assert_eq!(
            after.flow.behind(at(3)),
            Some(Duration::from_millis(2200)),
            "what was seen is remembered"
        );
    }
}

#[tokio::test]
async fn every_fault_of_the_api_server_is_told() {
    let played = played().await;
    played.tells("1.0", "200.0");
    for fault in Fault::all() {
        let mirror = played.mirror(if fault == Fault::Silence { SHORT } else { LONG });
        played.end.desk.take();
        played.end.desk.next(|asked| asked.path != "/metrics", [fault.clone()]);
        let error = mirror.read(at(0)).await.expect_err("a fault");
        let StoreError::Remote(remote) = &error else { panic!("{fault:?}: {error:?}") };
        let right = match &fault {
            Fault::Status(401, _) => *remote == RemoteError::Unauthorized,
            Fault::Status(403, _) => *remote == RemoteError::Forbidden,
            Fault::Status(404, _) => *remote == RemoteError::NotFound,
            Fault::Status(409, _) => *remote == RemoteError::Conflict(409),
            Fault::Status(code, _) => *remote == RemoteError::Failing(*code),
            Fault::RetryAfter(_) => matches!(remote, RemoteError::Busy { .. }),
            Fault::Silence => *remote == RemoteError::NoAnswer(SHORT),
            Fault::HalfAnswer | Fault::AnswerLost => remote.may_be_done(),
        };
        assert!(right, "{fault:?}: {error:?}");
        let asked = played.end.desk.take().into_iter().filter(|asked| asked.path != "/metrics").count();
        assert_eq!(asked, 1, "{fault:?}");
    }
}

#[tokio::test]
async fn every_fault_of_a_write_ends_right_and_nothing_is_done_twice() {
    for fault in Fault::all() {
        let played = played().await;
        let mirror = played.mirror(if fault == Fault::Silence { SHORT } else { LONG });
        let is_patch =
            |asked: &crate::sandbox::ends::server::Asked| asked.method == axum::http::Method::PATCH;
        played.end.desk.next(is_patch, [fault.clone()]);
        let error = mirror.steer(33, false).await.expect_err("a fault");
        let StoreError::Remote(remote) = &error else { panic!("{fault:?}: {error:?}") };
        let done = matches!(fault, Fault::HalfAnswer | Fault::AnswerLost);
        let version = async || lock(&played.object)["metadata"]["resourceVersion"].clone();
        assert_eq!(version().await, if done { json!("2") } else { json!("1") }, "{fault:?}");
        assert!(!done || remote.may_be_done(), "{fault:?}: {error:?}");
        // Asked for again, it reads first: it is written once, and has not stopped yet, since nobody plays Strimzi.
        let again = played.mirror(LONG).steer(33, false).await.expect("an answer");
        assert!(again.asked == Copying::Paused && !again.is_frozen(), "{fault:?}: {again:?}");
        assert_eq!(version().await, json!("2"), "{fault:?}");
        let object = lock(&played.object).clone();
        assert_eq!(object["spec"]["mirrors"][0]["sourceConnector"]["state"], "paused");
        assert_eq!(object["metadata"]["annotations"]["banyan.dev/ballot"], "33");
        let patches = played.end.desk.take().iter().filter(|asked| is_patch(asked)).count();
        assert_eq!(patches, if done { 1 } else { 2 }, "{fault:?}");
    }
}
