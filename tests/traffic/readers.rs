//! What pods tell of themselves has two readers: the built-in one, and a Prometheus that scrapes the same text. A
//! rollout must fare alike with both.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use banyan::signals::builtin::Limits;
use banyan::signals::grpc::Speaks;
use banyan::signals::{Answer, Arm, BuiltIn, Endpoint, Pod, Prometheus, Subject, What};
use serde_json::{Value, json};

use crate::runner::{Scenario, scenarios};
use crate::sources::counted;
use crate::world::{World, until};

/// All of this file.
pub fn scenarios() -> Vec<Scenario> {
    scenarios![Gateway: pods_are_read_alike_by_both_readers]
}

/// Requests, most of which say what they ask for, probes among them.
const NAMED: &str = include_str!("../support/metrics/requests.txt");
/// Requests that do not.
const NAMELESS: &str = r#"http_server_request_duration_seconds_count{http_response_status_code="200"} 500
http_server_request_duration_seconds_bucket{http_response_status_code="200",le="0.25"} 500
http_server_request_duration_seconds_bucket{http_response_status_code="200",le="+Inf"} 500
"#;
/// Calls, as OpenTelemetry counts them since version 1.39 of its conventions, and before, and as gRPC's own plugin does.
const CALLS: &str = include_str!("../support/metrics/calls.txt");
const CALLS_BEFORE: &str = include_str!("../support/metrics/calls-before-1.39.txt");
const CALLS_OF_PLUGIN: &str = include_str!("../support/metrics/calls-of-the-plugin.txt");
/// Nothing of requests.
const OTHER: &str = "process_cpu_seconds_total 3\n";

async fn pods_are_read_alike_by_both_readers(world: &World) {
    let Some(real) = world.prometheus_or_skip() else { return };
    let told = Arc::new(Mutex::new(String::new()));
    let text = told.clone();
    let router = Router::new().route("/metrics", get(async move || text.lock().expect("a text").clone()));
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let arms = [arm("stable", 2), arm("canary", 3)];
    let targets: Vec<Value> = arms.iter().map(|arm| target(arm, port)).collect();
    world.scrape_also(&targets);

    let subject = Subject {
        namespace: NAMESPACE.into(),
        service: "app".into(),
        arms,
        metrics: [What::Errors, What::Slower(0.25)].into_iter().map(counted).collect(),
        endpoint: Some(Endpoint { port, path: "/metrics".into() }),
        not_counted: vec!["/healthz".into(), "/metrics".into()],
        ..Subject::default()
    };
    let asker = Prometheus::new(real.url(), None, None).expect("an address");
    let built_in = BuiltIn::new(&[], Limits::within(Duration::from_secs(8))).expect("a source");
    for (what, parts) in [
        ("requests", &[NAMED][..]),
        ("requests without a name", &[NAMELESS]),
        ("requests with and without a name", &[NAMED, NAMELESS]),
        ("calls", &[CALLS]),
        ("calls in two families", &[CALLS_BEFORE, CALLS]),
        ("calls in milliseconds", &[CALLS_BEFORE]),
        ("calls as the plugin counts them", &[CALLS_OF_PLUGIN]),
        ("calls and requests", &[CALLS, NAMED]),
        ("calls, and requests without a name", &[CALLS, NAMELESS]),
        ("nothing of requests", &[OTHER]),
    ] {
        *told.lock().expect("a text") = parts.concat();
        for speaks in [Speaks::Http, Speaks::Grpc, Speaks::Both] {
            for probed in [false, true] {
                let subject = Subject { speaks, probed, ..subject.clone() };
                let asked = std::slice::from_ref(&subject);
                let wanted = timeless(built_in.ask(asked, 1.0).await.remove(0));
                let alike = async || {
                    let answer = timeless(asker.ask(asked).await.remove(0));
                    // Samples of the text before may still be answered.
                    (answer == wanted).then_some(())
                };
                until(&format!("{what}, {speaks:?}, probed: {probed}: Prometheus says {wanted:?}"), alike)
                    .await;
            }
        }
    }
    world.scrape_also(&[]);
    server.abort();
}

const NAMESPACE: &str = "read-twice";

/// An arm of one pod, which listens at an address of the loopback.
fn arm(revision: &str, address: u8) -> Arm {
    let address = IpAddr::from(Ipv4Addr::new(127, 0, 0, address));
    let name = format!("app-{revision}");
    Arm {
        namespace: NAMESPACE.into(),
        service: name.clone(),
        port: 8080,
        revision: revision.into(),
        pods: vec![Pod { name, address, ready_since: Some(1.0) }],
    }
}

/// What Prometheus scrapes of it, with the labels that a ServiceMonitor gives.
fn target(arm: &Arm, port: u16) -> Value {
    let pod = &arm.pods[0];
    let labels = json!({
        "namespace": arm.namespace, "pod": pod.name, "banyan_dev_service": "app", "banyan_dev_revision": arm.revision,
    });
    json!({"targets": [format!("{}:{port}", pod.address)], "labels": labels})
}

/// An answer but for the time of its samples, in one order.
fn timeless(mut answer: Answer) -> Answer {
    if let Answer::Readings { readings, .. } = &mut answer {
        readings.iter_mut().for_each(|reading| reading.time = 0.0);
        readings.sort_by_key(|reading| (reading.metric, reading.arm));
    }
    answer
}
