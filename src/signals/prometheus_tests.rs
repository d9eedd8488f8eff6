use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::super::subject::{Arm, Counted, Pod};
use super::super::testing::{Reply, Server};
use super::*;

/// A tenth of a second: what these tests have of patience with a server that is silent.
const SOON: Duration = Duration::from_millis(100);

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

fn subject(metrics: &[What]) -> Subject {
    let arm = |hash: &str| Arm {
        namespace: "pay".into(),
        service: format!("tx-{hash}"),
        port: 80,
        revision: hash.into(),
        pods: vec![Pod { name: format!("{hash}-1"), address: [10, 0, 0, 1].into(), ready_since: Some(1.0) }],
    };
    let metrics = metrics.iter().cloned().enumerate();
    Subject {
        namespace: "pay".into(),
        service: "tx".into(),
        arms: [arm("old"), arm("new")],
        metrics: metrics.map(|(place, what)| Counted { name: format!("m{place}"), what }).collect(),
        ..Subject::default()
    }
}

fn own(name: &str) -> What {
    What::Custom { bad: format!("{name}_bad"), total: format!("{name}_total") }
}

fn vector(rows: Vec<Value>) -> String {
    json!({"status": "success", "data": {"resultType": "vector", "result": rows}}).to_string()
}

/// What both pods say of themselves: when it was sampled, all requests, and the bad ones.
fn pods(sampled: f64, requests: [f64; 2], bad: [f64; 2]) -> Vec<Value> {
    let mut rows = Vec::new();
    for (place, hash) in ["old", "new"].into_iter().enumerate() {
        for (kind, value) in [("seen", sampled), ("requests", requests[place]), ("bad", bad[place])] {
            let labels = json!({
                "namespace": "pay", "banyan_dev_service": "tx", "banyan_dev_revision": hash,
                "pod": format!("{hash}-1"), "job": "tx", "instance": "10.0.0.1:9090",
                "banyan_term": format!("pods 0 {kind}"),
            });
            rows.push(json!({"metric": labels, "value": [now(), value.to_string()]}));
        }
    }
    rows
}

fn of_revision(place: Option<usize>, hash: &str, value: f64) -> Value {
    let mut labels = json!({"revision": hash});
    if let Some(place) = place {
        labels["banyan_term"] = json!(place.to_string());
    }
    json!({"metric": labels, "value": [now(), value.to_string()]})
}

fn source(server: &Server) -> Prometheus {
    Prometheus::new(&format!("http://{}", server.address), None, None).unwrap()
}

async fn answer_to(reply: Reply) -> subject::Answer {
    // Whoever answers may take its time.
    let deadline = if matches!(reply, Reply::Silence) { SOON } else { DEADLINE };
    let server = Server::start([reply]).await;
    source(&server).with_deadline(deadline).ask(&[subject(&[What::Errors])]).await.remove(0)
}

fn counted(answer: &subject::Answer) -> Vec<(usize, f64, f64)> {
    match answer {
        subject::Answer::Readings { readings, .. } => {
            readings.iter().map(|reading| (reading.arm, reading.requests, reading.bad)).collect()
        }
        subject::Answer::Nothing(why) => panic!("{why}"),
    }
}

fn question(asked: &(String, String)) -> String {
    let form = Url::parse(&format!("http://form/?{}", asked.1)).unwrap();
    form.query_pairs().find(|(name, _)| name == "query").unwrap().1.into_owned()
}

#[tokio::test]
async fn what_pods_counted_is_read_with_the_time_of_the_sample() {
    let sampled = now() - 7.0;
    let server = Server::start([Reply::Text(vector(pods(sampled, [90.0, 10.0], [9.0, 2.0])))]).await;
    let answers = source(&server).ask(&[subject(&[What::Errors])]).await;
    assert_eq!(counted(&answers[0]), [(0, 90.0, 9.0), (1, 10.0, 2.0)]);
    let subject::Answer::Readings { readings, .. } = &answers[0] else { panic!() };
    assert!(readings.iter().all(|reading| (reading.time - sampled).abs() < 1e-3), "{readings:?}");
    let (head, body) = server.asked().remove(0);
    assert!(head.starts_with("POST /api/v1/query HTTP/1.1"), "{head}");
    assert!(body.contains("timeout=4s"), "{body}");
}

#[tokio::test]
async fn whatever_is_no_answer_is_said_in_words() {
    let well = || pods(now(), [90.0, 10.0], [9.0, 2.0]);
    let twice = [well(), well()].concat();
    let mut not_a_number = well();
    not_a_number.iter_mut().for_each(|row| {
        if row["metric"]["banyan_term"] == "pods 0 requests" {
            row["value"][1] = json!("NaN");
        }
    });
    let mut partial: Value = serde_json::from_str(&vector(well())).unwrap();
    partial["warnings"] = json!(["a store is away"]);
    for (reply, words) in [
        (Reply::Status(429, "slow down".into()), "Prometheus does not answer: status 429"),
        (
            Reply::Status(
                500,
                json!({"status": "error", "errorType": "internal", "error": "broken"}).to_string(),
            ),
            "Prometheus does not answer: status 500 (internal): the server failed",
        ),
        (Reply::Silence, "no answer within 100ms"),
        (Reply::Text(vector(vec![])), "Prometheus has no series of it"),
        (Reply::Text(vector(not_a_number)), "NaN"),
        (Reply::Text(vector(twice)), "the same series more than once"),
        (Reply::Text(partial.to_string()), "the answer is not whole: the server warns"),
        (Reply::CutOff(vector(well())), "Prometheus does not answer"),
        (Reply::Text(vector(pods(now() - 90.0, [90.0, 10.0], [9.0, 2.0]))), "stale: 90 s old"),
        (Reply::Elsewhere("http://127.0.0.1:9/".into()), "status 302"),
        (Reply::Endless, "Prometheus does not answer"),
    ] {
        let what = format!("{reply:?}").chars().take(80).collect::<String>();
        match answer_to(reply).await {
            subject::Answer::Nothing(why) => assert!(why.contains(words), "{what}: {why}"),
            answer => panic!("{what}: {answer:?}"),
        }
    }
}

#[tokio::test]
async fn a_counter_that_begins_anew_is_passed_on_as_it_is() {
    let server = Server::start([
        Reply::Text(vector(pods(now() - 5.0, [90.0, 10.0], [9.0, 2.0]))),
        Reply::Text(vector(pods(now(), [3.0, 1.0], [1.0, 0.0]))),
    ])
    .await;
    let prometheus = source(&server);
    let subject = subject(&[What::Errors]);
    prometheus.ask(std::slice::from_ref(&subject)).await;
    let then = prometheus.ask(std::slice::from_ref(&subject)).await;
    assert_eq!(counted(&then[0]), [(0, 3.0, 1.0), (1, 1.0, 0.0)], "who counts sees that it is a reset");
}

#[tokio::test]
async fn one_question_is_asked_a_tick_for_the_built_in_metrics_and_one_for_all_others() {
    let server = Server::start([Reply::Text(vector(vec![]))]).await;
    let prometheus = source(&server);
    let subjects: Vec<Subject> = ["a", "b", "c"]
        .map(|name| Subject { service: name.into(), ..subject(&[What::Errors, own("x"), own(name)]) })
        .to_vec();
    assert_eq!(prometheus.ask(&subjects).await.len(), 3);
    let asked: Vec<String> = server.asked().iter().map(question).collect();
    assert_eq!(asked.len(), 2, "{asked:?}");
    let built_in = asked.iter().find(|text| text.contains("pods 0 requests")).unwrap();
    assert!(built_in.contains(r#"banyan_dev_service=~"a|b|c""#), "{built_in}");
    let others = asked.iter().find(|text| *text != built_in).unwrap();
    assert_eq!(others.matches("x_bad").count(), 1, "equal queries are asked once: {others}");
    assert_eq!(others.matches("label_replace").count(), 8, "{others}");
    // Without any there is no question at all.
    prometheus.ask(&[]).await;
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn a_query_that_is_refused_harms_no_other_and_is_asked_alone_from_then_on() {
    let refused = || {
        let error = json!({"status": "error", "errorType": "bad_data", "error": "parse error"});
        Reply::Status(400, error.to_string())
    };
    let good = |hash: &str, value| vec![of_revision(None, hash, value)];
    // Of the union, then of each alone; queries are asked in any order, so all good ones say the same.
    let server = Server::start([refused()]).await;
    let prometheus = source(&server);
    let bad = Subject { service: "bad".into(), ..subject(&[own("bad")]) };
    let well = Subject { service: "well".into(), ..subject(&[own("well")]) };
    prometheus.ask(&[bad.clone(), well.clone()]).await;
    let first = server.asked().len();
    assert_eq!(first, 5, "one union and its four queries");
    // All are under suspicion now. Whoever is answered is together with the others again.
    server.reply([Reply::Text(vector(good("new", 3.0)))]);
    let answers = prometheus.ask(&[bad, well.clone()]).await;
    assert_eq!(server.asked().len() - first, 4);
    assert!(answers.iter().all(|answer| matches!(answer, subject::Answer::Readings { .. })), "{answers:?}");
    let rows = vec![of_revision(Some(0), "new", 1.0), of_revision(Some(1), "new", 9.0)];
    server.reply([Reply::Text(vector(rows))]);
    let answers = prometheus.ask(&[well]).await;
    assert_eq!(server.asked().len() - first, 5);
    assert_eq!(counted(&answers[0]), [(0, 0.0, 0.0), (1, 9.0, 1.0)]);
}

#[tokio::test]
async fn one_that_could_reach_out_of_its_brackets_is_never_put_among_others() {
    let server = Server::start([Reply::Text(vector(vec![]))]).await;
    let prometheus = source(&server);
    let trick = What::Custom { bad: "a) or (b".into(), total: "c".into() };
    prometheus.ask(&[subject(&[own("x"), trick])]).await;
    let asked: Vec<String> = server.asked().iter().map(question).collect();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(asked.contains(&"a) or (b".to_owned()), "{asked:?}");
}

#[tokio::test]
async fn gates_open_by_any_series_and_are_asked_once_each() {
    let server = Server::start([Reply::Text(vector(vec![of_revision(None, "x", 0.0)]))]).await;
    let prometheus = source(&server);
    let answers = prometheus.gate(&["a == 0", "a == 0"]).await;
    assert_eq!(answers, [GateReply::Yes, GateReply::Yes], "0 is a value like any other");
    assert_eq!(server.asked().len(), 1);
    server.reply([Reply::Text(vector(vec![]))]);
    assert_eq!(prometheus.gate(&["a"]).await, [GateReply::No("the query gives no series".into())]);
    server.reply([Reply::Status(500, String::new())]);
    assert_eq!(prometheus.gate(&["a"]).await, [GateReply::Nobody("status 500".into())]);
    server.reply([Reply::Silence]);
    let late = prometheus.with_deadline(SOON).gate(&["a"]).await;
    assert_eq!(late, [GateReply::Nobody("no answer within 100ms".into())]);
}

#[tokio::test]
async fn the_token_is_sent_and_what_cannot_be_an_address_is_refused() {
    let server = Server::start([Reply::Text(vector(vec![]))]).await;
    let url = format!("http://{}/under/", server.address);
    let prometheus = Prometheus::new(&url, None, Some(" secret\n")).unwrap();
    prometheus.gate(&["a"]).await;
    let (head, _) = server.asked().remove(0);
    assert!(head.starts_with("POST /under/api/v1/query HTTP/1.1"), "{head}");
    assert!(head.to_lowercase().contains("authorization: bearer secret"), "{head}");
    for url in ["prometheus:9090", "ftp://prometheus", "nonsense"] {
        assert!(matches!(Prometheus::new(url, None, None), Err(PrometheusError::Url { .. })), "{url}");
    }
    let made = Prometheus::new("https://prometheus", Some(b"no certificate"), None);
    assert!(matches!(made, Err(PrometheusError::Ca(_))));
    assert!(matches!(Prometheus::new(&url, None, Some("two\nlines")), Err(PrometheusError::Bearer)));
}
