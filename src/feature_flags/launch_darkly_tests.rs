//! Against a server that follows LaunchDarkly's schema, and misbehaves on demand.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response as Answer};
use axum::routing::get;
use serde_json::{Value, json};

use super::*;
use crate::api::analysis::KeyOfSecret;

/// How the server misbehaves at one request.
#[derive(Clone, Debug)]
enum Trick {
    Refuse(u16, Vec<(&'static str, String)>),
    Silence,
    /// A PATCH is carried out, and its answer lost.
    LoseAnswer,
    Garbage,
    /// A PATCH is answered with 200 and forgotten.
    Forget,
}

struct Server {
    on: bool,
    weights: Vec<(usize, i64)>,
    bucket_by: Option<&'static str>,
    experiment: bool,
    off_variation: usize,
    patches: Vec<Value>,
    requests: usize,
    tricks: VecDeque<(&'static str, Trick)>,
}

type Shared = Arc<Mutex<Server>>;

const IDS: [&str; 3] = ["id-old", "id-new", "id-other"];

fn rendered(server: &Server) -> Value {
    let mut fallthrough = match server.weights[..] {
        [(variation, WHOLE)] => json!({"variation": variation}),
        _ => json!({"rollout": {"variations": server.weights.iter()
            .map(|(variation, weight)| json!({"variation": variation, "weight": weight})).collect::<Vec<_>>()}}),
    };
    if let (Some(bucket_by), true) = (server.bucket_by, fallthrough["rollout"].is_object()) {
        fallthrough["rollout"]["bucketBy"] = json!(bucket_by);
    }
    if server.experiment {
        fallthrough["rollout"]["experimentAllocation"] =
            json!({"defaultVariation": 0, "canReshuffle": false});
    }
    json!({
        "key": "new-path", "kind": "multivariate", "_version": 7,
        "variations": IDS.map(|id| json!({"_id": id, "value": id})),
        "environments": {"production": {
            "on": server.on, "archived": false, "offVariation": server.off_variation, "fallthrough": fallthrough, "targets": [], "rules": [],
        }},
    })
}

async fn trick(shared: &Shared, method: &'static str) -> Option<Answer> {
    let trick = {
        let mut server = shared.lock().unwrap();
        server.requests += 1;
        match server.tricks.front() {
            Some((at, _)) if *at == method => server.tricks.pop_front().map(|(_, trick)| trick),
            _ => None,
        }
    };
    Some(match trick? {
        Trick::Refuse(code, headers) => {
            let mut answer =
                (axum::http::StatusCode::from_u16(code).unwrap(), "{\"code\": \"no\"}").into_response();
            for (name, value) in headers {
                answer.headers_mut().insert(name, value.parse().unwrap());
            }
            answer
        }
        Trick::Silence | Trick::LoseAnswer => std::future::pending().await,
        Trick::Garbage => "<html>".into_response(),
        Trick::Forget => "{}".into_response(),
    })
}

fn authorized(headers: &HeaderMap) -> bool {
    headers.get("authorization").is_some_and(|token| token == "api-123")
        && headers.get("ld-api-version").is_some_and(|version| version == "20240415")
}

async fn read(
    State(shared): State<Shared>,
    Path((project, flag)): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
) -> Answer {
    if let Some(answer) = trick(&shared, "GET").await {
        return answer;
    }
    if !authorized(&headers) {
        return axum::http::StatusCode::UNAUTHORIZED.into_response();
    }
    if project != "pay ments" || flag != "new-path" || uri.query() != Some("env=production") {
        return axum::http::StatusCode::NOT_FOUND.into_response();
    }
    rendered(&shared.lock().unwrap()).to_string().into_response()
}

async fn patch(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> Answer {
    let lose = {
        let server = shared.lock().unwrap();
        matches!(server.tricks.front(), Some(("PATCH", Trick::LoseAnswer)))
    };
    if !lose && let Some(answer) = trick(&shared, "PATCH").await {
        return answer;
    }
    let semantic = "application/json; domain-model=launchdarkly.semanticpatch";
    if !authorized(&headers) || headers.get("content-type").is_none_or(|kind| kind != semantic) {
        return axum::http::StatusCode::BAD_REQUEST.into_response();
    }
    let patch: Value = serde_json::from_slice(&body).unwrap();
    let instruction = &patch["instructions"][0];
    let weights = instruction["rolloutWeights"].as_object().unwrap();
    let sum: i64 = weights.values().map(|weight| weight.as_i64().unwrap()).sum();
    let known = weights.keys().all(|id| IDS.contains(&id.as_str()));
    let kind = "updateFallthroughVariationOrRollout";
    if patch["environmentKey"] != "production" || instruction["kind"] != kind || sum != WHOLE || !known {
        return axum::http::StatusCode::BAD_REQUEST.into_response();
    }
    let shares = IDS.iter().enumerate().filter_map(|(index, id)| Some((index, weights.get(*id)?.as_i64()?)));
    let rendered = {
        let mut server = shared.lock().unwrap();
        server.weights = shares.collect();
        server.patches.push(patch.clone());
        rendered(&server)
    };
    if lose {
        return trick(&shared, "PATCH").await.unwrap();
    }
    rendered.to_string().into_response()
}

async fn server(weights: &[(usize, i64)]) -> (Flags, Shared) {
    let shared = Arc::new(Mutex::new(Server {
        on: true,
        weights: weights.to_vec(),
        bucket_by: None,
        experiment: false,
        off_variation: 0,
        patches: Vec::new(),
        requests: 0,
        tricks: VecDeque::new(),
    }));
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let router = Router::new()
        .route("/base/api/v2/flags/{project}/{flag}", get(read).patch(patch))
        .with_state(shared.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/base/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (Flags::new(&base).unwrap(), shared)
}

fn flag() -> LaunchDarkly {
    LaunchDarkly {
        project: "pay ments".into(),
        environment: "production".into(),
        flag: "new-path".into(),
        variation: 1,
        fallback: 0,
        token: KeyOfSecret::default(),
    }
}

fn play(shared: &Shared, tricks: impl IntoIterator<Item = (&'static str, Trick)>) {
    shared.lock().unwrap().tricks = tricks.into_iter().collect();
}

#[tokio::test]
async fn a_share_is_written_once_and_read_back() {
    let (flags, shared) = server(&[(0, WHOLE)]).await;
    let set = flags.set(&flag(), "api-123\n", 10).await.unwrap();
    assert_eq!(set, Set { written: true, weights: [(0, 90_000), (1, 10_000)].into() });
    let again = flags.set(&flag(), "api-123", 10).await.unwrap();
    assert_eq!(again, Set { written: false, ..set });
    let server = shared.lock().unwrap();
    assert_eq!(server.patches.len(), 1, "the second call has nothing to write");
    let weights = &server.patches[0]["instructions"][0]["rolloutWeights"];
    assert_eq!(*weights, json!({"id-old": 90_000, "id-new": 10_000, "id-other": 0}));
}

#[tokio::test]
async fn both_ends_are_reached_and_one_variation_alone_counts_as_all() {
    let (flags, shared) = server(&[(0, WHOLE)]).await;
    assert!(
        !flags.set(&flag(), "api-123", 0).await.unwrap().written,
        "variation 0 alone is 0 % of the other"
    );
    assert_eq!(flags.set(&flag(), "api-123", 100).await.unwrap().weights, [(1, WHOLE)].into());
    assert_eq!(flags.set(&flag(), "api-123", 0).await.unwrap().weights, [(0, WHOLE)].into());
    assert_eq!(shared.lock().unwrap().patches.len(), 2);
}

#[tokio::test]
async fn shares_of_others_and_the_way_of_choosing_stay() {
    let (flags, shared) = server(&[(0, 70_000), (2, 30_000)]).await;
    shared.lock().unwrap().bucket_by = Some("account");
    let set = flags.set(&flag(), "api-123", 50).await.unwrap();
    assert_eq!(set.weights, [(0, 20_000), (1, 50_000), (2, 30_000)].into());
    assert_eq!(shared.lock().unwrap().patches[0]["instructions"][0]["rolloutBucketBy"], "account");
    let error = flags.set(&flag(), "api-123", 80).await.unwrap_err();
    assert!(error.message.contains("80 % are not left") && error.retry_at.is_none(), "{error}");
}

#[tokio::test]
async fn a_lost_answer_is_no_second_change() {
    let (flags, shared) = server(&[(0, WHOLE)]).await;
    play(&shared, [("PATCH", Trick::LoseAnswer)]);
    let error = flags.set(&flag(), "api-123", 10).await.unwrap_err();
    assert!(error.message.contains("no answer within 5 s") && error.retry_at.is_some(), "{error}");
    assert!(!flags.set(&flag(), "api-123", 10).await.unwrap().written);
    assert_eq!(shared.lock().unwrap().patches.len(), 1);
}

#[tokio::test]
async fn every_refusal_says_what_to_do() {
    let (flags, shared) = server(&[(0, WHOLE)]).await;
    let cases: [(u16, &str, bool); 8] = [
        (401, "renew the token", false),
        (403, "updateFallthrough", false),
        (404, "correct project and flag", false),
        (405, "approval", false),
        (409, "tried again", true),
        (500, "tried again", true),
        (503, "tried again", true),
        (302, "leads elsewhere", false),
    ];
    for (code, words, again) in cases {
        for method in ["GET", "PATCH"] {
            play(&shared, [(method, Trick::Refuse(code, vec![("location", "http://127.0.0.1:1/".into())]))]);
            let error = flags.set(&flag(), "api-123", 10).await.unwrap_err();
            assert!(error.to_string().contains(words), "{code} to {method}: {error}");
            assert!(error.to_string().starts_with("the flag pay ments/new-path in production: "), "{error}");
            assert_eq!(error.retry_at.is_some(), again, "{code} to {method}");
            assert!(!error.to_string().contains("api-123"), "a token stays secret");
        }
    }
    assert!(shared.lock().unwrap().patches.is_empty());
    let error = flags.set(&flag(), "other", 10).await.unwrap_err();
    assert!(error.message.contains("401"), "{error}");
    let error = flags.set(&flag(), "a\nb", 10).await.unwrap_err();
    assert!(error.message.contains("characters"), "{error}");
}

#[tokio::test]
async fn a_limit_says_when_to_come_back() {
    let (flags, shared) = server(&[(0, WHOLE)]).await;
    let reset = || (Timestamp::now().as_millisecond() + 120_000).to_string();
    let cases = [
        (vec![("retry-after", "30".to_owned()), ("x-ratelimit-reset", reset())], 30),
        (vec![("x-ratelimit-reset", reset())], 120),
        (vec![("x-ratelimit-reset", "soon".to_owned())], 10),
        (vec![("retry-after", "999999".to_owned())], 300),
        (vec![], 10),
    ];
    for (headers, seconds) in cases {
        play(&shared, [("PATCH", Trick::Refuse(429, headers.clone()))]);
        let before = Timestamp::now();
        let error = flags.set(&flag(), "api-123", 10).await.unwrap_err();
        let wait = error.retry_at.expect("time helps").duration_since(before).as_secs();
        // Whatever time the call took may be on top, or off a moment that was fixed before.
        assert!((seconds - 20..=seconds + 20).contains(&wait), "{headers:?}: {wait} s");
    }
}

#[tokio::test]
async fn nonsense_and_silence_are_no_success() {
    let (flags, shared) = server(&[(0, WHOLE)]).await;
    for (trick, words) in [
        (("GET", Trick::Garbage), "no flag"),
        (("GET", Trick::Silence), "no answer within 5 s"),
        (("PATCH", Trick::Forget), "changed at the same time"),
    ] {
        play(&shared, [trick]);
        let error = flags.set(&flag(), "api-123", 10).await.unwrap_err();
        assert!(error.message.contains(words) && error.retry_at.is_some(), "{error}");
    }
    let nobody = Flags::new("http://127.0.0.1:1").unwrap();
    let error = nobody.set(&flag(), "api-123", 10).await.unwrap_err();
    assert!(error.message.contains("no connection"), "{error}");
    assert!(Flags::new("launchdarkly").unwrap_err().to_string().contains("https://"));
}

#[tokio::test]
async fn what_cannot_work_is_said_before_it_is_tried() {
    let (flags, shared) = server(&[(0, WHOLE)]).await;
    let refused = async |flag: LaunchDarkly, words: &str| {
        let error = flags.set(&flag, "api-123", 10).await.unwrap_err();
        assert!(error.to_string().contains(words) && error.retry_at.is_none(), "{error}");
    };
    refused(LaunchDarkly { variation: 3, ..flag() }, "no variation 3: it has 3").await;
    refused(LaunchDarkly { fallback: 1, ..flag() }, "the same").await;
    refused(LaunchDarkly { flag: "a/../b".into(), ..flag() }, "404").await;
    shared.lock().unwrap().on = false;
    refused(flag(), "turn the flag on").await;
    assert!(flags.set(&flag(), "api-123", 0).await.is_ok(), "back is possible while it is off");
    {
        let mut server = shared.lock().unwrap();
        (server.on, server.experiment, server.weights) = (true, true, vec![(0, 50_000), (1, 50_000)]);
    }
    refused(flag(), "experiment").await;
}

#[tokio::test]
async fn a_flag_that_is_off_and_serves_the_new_variation_is_not_back() {
    let (flags, shared) = server(&[(0, WHOLE)]).await;
    {
        let mut server = shared.lock().unwrap();
        (server.on, server.off_variation) = (false, 1);
    }
    let error = flags.set(&flag(), "api-123", 0).await.unwrap_err();
    assert!(error.message.contains("it is off"), "{error}");
}
