//! The built-in source against servers that behave, and others.

use std::net::IpAddr;
use std::time::Duration;

use super::super::subject::{Arm, Counted, Endpoint, Reading, What};
use super::super::testing::{Reply, Server};
use super::*;

/// A rollout whose pods are at these addresses.
fn subject(name: &str, stable: &[IpAddr], canary: &[IpAddr], port: u16) -> Subject {
    let arm = |hash: &str, pods: &[IpAddr]| Arm {
        namespace: "payments".into(),
        service: format!("{name}-{hash}"),
        port: 8080,
        revision: hash.into(),
        pods: pods
            .iter()
            .enumerate()
            .map(|(number, address)| Pod {
                name: format!("{name}-{hash}-{number}"),
                address: *address,
                ready_since: Some(1000.0),
            })
            .collect(),
    };
    Subject {
        namespace: "payments".into(),
        service: name.into(),
        arms: [arm("old", stable), arm("new", canary)],
        metrics: vec![Counted { name: "error-rate".into(), what: What::Errors }],
        endpoint: Some(Endpoint { port, path: "/metrics".into() }),
        not_counted: vec!["/healthz".into()],
        ..Subject::default()
    }
}

/// A pod's metrics.
fn pod(requests: u32, bad: u32) -> Reply {
    let name = "http_server_request_duration_seconds_count";
    Reply::Text(format!(
        "{name}{{http_route=\"/pay\",http_response_status_code=\"200\"}} {}\n\
         {name}{{http_route=\"/pay\",http_response_status_code=\"500\"}} {bad}\n\
         {name}{{http_route=\"/healthz\",http_response_status_code=\"200\"}} 77\n",
        requests - bad
    ))
}

/// A proxy's metrics of two Services.
fn envoy(name: &str, counts: &[(&str, u32, u32)]) -> String {
    counts
        .iter()
        .map(|(hash, requests, bad)| {
            let cluster = format!("envoy_cluster_name=\"payments_{name}-{hash}_8080\"");
            format!(
                "envoy_cluster_upstream_rq_xx{{envoy_response_code_class=\"2\",{cluster}}} {}\n\
                 envoy_cluster_upstream_rq_xx{{envoy_response_code_class=\"5\",{cluster}}} {bad}\n",
                requests - bad
            )
        })
        .collect()
}

fn source(proxies: &[String], limits: Limits) -> BuiltIn {
    BuiltIn::new(proxies, limits).unwrap()
}

/// Generous, so that nothing depends on being fast.
fn patient() -> Limits {
    Limits {
        request: Duration::from_secs(60),
        proxy: Duration::from_secs(60),
        sweep: Duration::from_secs(120),
        ..Limits::default()
    }
}

fn readings(answer: &Answer) -> &[Reading] {
    match answer {
        Answer::Readings { readings, .. } => readings,
        Answer::Nothing(why) => panic!("{why}"),
    }
}

fn counts(answer: &Answer) -> Vec<(usize, f64, f64)> {
    readings(answer).iter().map(|reading| (reading.arm, reading.requests, reading.bad)).collect()
}

fn nothing(answer: &Answer) -> &str {
    match answer {
        Answer::Nothing(why) => why,
        Answer::Readings { readings, .. } => panic!("{readings:?}"),
    }
}

/// Two servers with one port at two addresses, as pods have.
async fn two_pods(old: Reply, new: Reply) -> (Server, Server) {
    let old = Server::at("127.0.0.1:0", [old]).await;
    let new = Server::at(&format!("127.0.0.2:{}", old.address.port()), [new]).await;
    (old, new)
}

fn of(pods: &(Server, Server)) -> Subject {
    subject("tx", &[pods.0.address.ip()], &[pods.1.address.ip()], pods.0.address.port())
}

#[tokio::test]
async fn pods_are_each_asked_once_and_their_probes_do_not_count() {
    let pods = two_pods(pod(100, 2), pod(10, 5)).await;
    let mut subjects = vec![of(&pods), of(&pods)];
    subjects[1].chosen = true;
    let answers = source(&[], patient()).ask(&subjects, 2000.0).await;
    assert_eq!(counts(&answers[0]), [(0, 100.0, 2.0), (1, 10.0, 5.0)]);
    assert_eq!(counts(&answers[0]), counts(&answers[1]));
    let comparable = |answer: &Answer| matches!(answer, Answer::Readings { comparable: true, .. });
    assert!(comparable(&answers[0]) && !comparable(&answers[1]));
    for reading in readings(&answers[0]) {
        assert!(reading.time >= 2000.0 && reading.ready_since == Some(1000.0), "{reading:?}");
    }
    let asked = pods.0.asked();
    assert_eq!(asked.len(), 1, "one sweep for all");
    assert!(
        asked[0].0.starts_with("GET /metrics HTTP/1.1") && asked[0].0.contains("text/plain"),
        "{asked:?}"
    );
}

#[tokio::test]
async fn every_way_of_not_answering_has_its_words_and_harms_no_other() {
    let well = two_pods(pod(100, 2), pod(10, 5)).await;
    let mut quick = patient();
    quick.pod_bytes = 1 << 16;
    for (reply, words) in [
        (Reply::Status(429, "slow down".into()), "status 429"),
        (Reply::Status(500, pod_text()), "status 500"),
        (Reply::Elsewhere("http://example.com/".into()), "status 302"),
        (Reply::CutOff(pod_text()), "end of file before message length reached"),
        (Reply::Endless, "larger than 65536 bytes"),
        (Reply::Text("http_server_request_duration_seconds_count{ 5\n".into()), "line 1 is no metric"),
        (Reply::Text("http_server_request_duration_seconds_count 5".into()), "cut off"),
        (Reply::Text("http_server_request_duration_seconds_count NaN\n".into()), "NaN"),
    ] {
        let bad = two_pods(pod(100, 2), reply).await;
        let answers = source(&[], quick).ask(&[of(&bad), of(&well)], 2000.0).await;
        let why = nothing(&answers[0]);
        assert!(why.starts_with("error-rate: ") && why.contains("the canary (`tx-new`)"), "{why}");
        assert!(why.contains(words), "{words}: {why}");
        assert_eq!(counts(&answers[1]), [(0, 100.0, 2.0), (1, 10.0, 5.0)], "{words}");
    }
}

fn pod_text() -> String {
    match pod(10, 5) {
        Reply::Text(text) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn silence_ends_with_the_deadline_and_refusal_at_once() {
    let pods = two_pods(pod(100, 2), Reply::Silence).await;
    let limits = Limits { request: Duration::from_millis(300), ..patient() };
    let answers = source(&[], limits).ask(&[of(&pods)], 2000.0).await;
    assert!(nothing(&answers[0]).contains("no answer within 300ms"), "{answers:?}");
    let mut gone = of(&pods);
    drop(pods);
    // Nobody listens at this address.
    gone.arms[0].pods[0].address = IpAddr::from([127, 0, 0, 3]);
    let answers = source(&[], patient()).ask(&[gone], 2000.0).await;
    assert!(nothing(&answers[0]).contains("refused"), "{answers:?}");
}

#[tokio::test]
async fn while_a_proxy_is_silent_pods_may_fail_a_canary_and_do_not_pass_it() {
    let pods = two_pods(pod(100, 2), pod(10, 5)).await;
    let proxy = Server::start([Reply::Silence]).await;
    let limits = Limits { proxy: Duration::from_millis(300), ..patient() };
    let url = format!("http://{}/stats/prometheus", proxy.address);
    let answers = source(&[url], limits).ask(&[of(&pods)], 2000.0).await;
    assert_eq!(counts(&answers[0]), [(0, 100.0, 2.0), (1, 10.0, 5.0)]);
    let Answer::Readings { missing, .. } = &answers[0] else { panic!("{answers:?}") };
    let (_, why) = &missing[0];
    assert!(why.contains("tells nothing: no answer within 300ms") && !why.contains("filter"), "{why}");
}

#[tokio::test]
async fn a_sweep_ends_even_if_more_pods_are_silent_than_are_asked_at_once() {
    let pods = two_pods(Reply::Silence, Reply::Silence).await;
    let limits = Limits { sweep: Duration::from_millis(300), at_once: 1, ..patient() };
    let answers = source(&[], limits).ask(&[of(&pods)], 2000.0).await;
    assert!(nothing(&answers[0]).contains("none of the 1 Ready pods"), "{answers:?}");
    assert_eq!(pods.0.asked().len() + pods.1.asked().len(), 1, "the other's turn did not come");
}

#[tokio::test]
async fn a_slow_pod_is_waited_for_and_a_restarted_one_counts_from_zero_again() {
    let slow = Reply::After(Duration::from_millis(200), Box::new(pod(10, 5)));
    let pods = two_pods(pod(100, 2), slow).await;
    let source = source(&[], patient());
    let first = source.ask(&[of(&pods)], 2000.0).await;
    assert!(readings(&first[0])[1].time >= 2000.2, "{first:?}");
    pods.1.reply([pod(3, 0)]);
    let second = source.ask(&[of(&pods)], 2005.0).await;
    assert_eq!(counts(&second[0])[1], (1, 3.0, 0.0), "resets are for the counters to see");
    assert_eq!(readings(&first[0])[1].series, readings(&second[0])[1].series);
}

#[tokio::test]
async fn every_address_of_a_proxys_name_is_a_proxy_of_its_own_and_pods_are_left_alone() {
    let pods = two_pods(pod(100, 2), pod(10, 5)).await;
    let first = Server::start([Reply::Text(envoy("tx", &[("old", 900, 9), ("new", 100, 7)]))]).await;
    let second = Server::start([Reply::Text(envoy("tx", &[("old", 500, 5)]))]).await;
    let port = |server: &Server| server.address.port();
    let urls = [
        format!("http://localhost:{}/stats/prometheus?filter=upstream_rq", port(&first)),
        format!("http://127.0.0.1:{}/stats/prometheus", port(&second)),
    ];
    let mut chosen = of(&pods);
    chosen.chosen = true;
    let answers = source(&urls, patient()).ask(&[chosen], 2000.0).await;
    let mut seen = counts(&answers[0]);
    seen.sort_by(|one, other| one.partial_cmp(other).unwrap());
    assert_eq!(seen, [(0, 500.0, 5.0), (0, 900.0, 9.0), (1, 0.0, 0.0), (1, 100.0, 7.0)]);
    assert!(matches!(answers[0], Answer::Readings { comparable: true, .. }));
    assert_eq!(pods.0.asked().len() + pods.1.asked().len(), 0, "the proxies said everything");
    let asked = first.asked()[0].0.to_lowercase();
    assert!(asked.starts_with("get /stats/prometheus?filter=upstream_rq "), "{asked}");
    assert!(asked.contains(&format!("host: localhost:{}", port(&first))), "{asked}");
    let asked = second.asked()[0].0.to_lowercase();
    assert!(asked.starts_with("get /stats/prometheus?filter=upstream_rq_(total"), "{asked}");
}

#[tokio::test]
async fn faults_8_8_pods_are_asked_where_proxies_know_nothing_and_both_are_named_if_nobody_does() {
    let pods = two_pods(pod(100, 2), pod(10, 5)).await;
    let proxy = Server::start([Reply::Text(envoy("other", &[("old", 900, 9), ("new", 100, 7)]))]).await;
    let url = format!("http://{}/stats/prometheus", proxy.address);
    let both = [of(&pods), subject("other", &[], &[], 9)];
    let answers = source(std::slice::from_ref(&url), patient()).ask(&both, 2000.0).await;
    assert_eq!(counts(&answers[0]), [(0, 100.0, 2.0), (1, 10.0, 5.0)]);
    assert_eq!(counts(&answers[1]), [(0, 900.0, 9.0), (1, 100.0, 7.0)]);
    assert_eq!(proxy.asked().len(), 1, "one sweep for all");
    let mut mute = of(&pods);
    mute.endpoint = None;
    // Row 8.8: what the source shows, and what it lacks.
    for (page, lacks) in [
        (envoy("other", &[("old", 900, 9)]), "proxies that were asked (1) count nothing of its Services"),
        ("envoy_server_uptime 7\n".to_owned(), "port 15090"),
    ] {
        proxy.reply([Reply::Text(page)]);
        let answers = source(std::slice::from_ref(&url), patient()).ask(&[mute.clone()], 2000.0).await;
        let why = nothing(&answers[0]);
        assert!(why.contains("observability.metrics") && why.contains(lacks), "{why}");
    }
    proxy.reply([Reply::Status(503, String::new())]);
    let answers = source(&[url], patient()).ask(&[mute], 2000.0).await;
    let why = nothing(&answers[0]);
    assert!(why.contains("observability.metrics") && why.contains("tells nothing: status 503"), "{why}");
    let nowhere = source(&["http://nowhere.invalid:1/".into()], patient());
    let answers = nowhere.ask(&[subject("x", &[], &[], 9)], 1.0).await;
    assert!(nothing(&answers[0]).contains("nowhere.invalid"), "{answers:?}");
}

#[tokio::test]
async fn the_future_can_be_given_to_a_task_of_its_own() {
    let pods = two_pods(pod(100, 2), pod(10, 5)).await;
    let subject = of(&pods);
    let task = tokio::spawn(async move { source(&[], patient()).ask(&[subject], 2000.0).await });
    assert_eq!(counts(&task.await.unwrap()[0]).len(), 2);
    assert_eq!(source(&[], patient()).ask(&[], 1.0).await, []);
}

#[test]
fn an_address_that_cannot_be_asked_is_named_with_the_remedy() {
    for (url, why) in
        [("envoy:8002", "not envoy"), ("https://envoy/", "not https"), ("nonsense", "relative URL")]
    {
        let error = BuiltIn::new(&[url.to_owned()], Limits::default()).unwrap_err().to_string();
        assert!(error.contains(why) && error.contains("http://envoy.projectcontour"), "{error}");
    }
    assert_eq!(Limits::within(Duration::from_secs(1)).request, Duration::from_secs(1));
    assert_eq!(Limits::within(Duration::from_secs(15)), Limits::default());
}
