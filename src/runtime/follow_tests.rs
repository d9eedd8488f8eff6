use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Mutex;

use futures::FutureExt;
use http::{Request, Response};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::client::Body;
use serde_json::{Value, json};

use super::*;

fn map(name: &str, version: u32) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "pay", "resourceVersion": version.to_string()},
    })
}

fn list(version: u32, items: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "ConfigMapList", "items": items,
        "metadata": {"resourceVersion": version.to_string()}})
    .to_string()
}

fn event(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": kind, "object": object}))
}

fn status(code: u16) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": "", "message": ""})
}

/// What follows from these answers, the last of which is silence: what is asked for, and what is told.
async fn told(answers: Vec<(u16, String)>) -> (Vec<String>, Vec<String>) {
    told_of(Selection::default(), answers).await
}

/// The same where all but `unknown` are known.
async fn told_but(
    unknown: &'static [&'static str],
    answers: Vec<(u16, String)>,
) -> (Vec<String>, Vec<String>) {
    let is = |metadata: &ObjectMeta| !unknown.contains(&metadata.name.as_deref().unwrap_or_default());
    let known = Some(Known { resource: ApiResource::erase::<ConfigMap>(&()), is: Arc::new(is) });
    told_of(Selection { known, ..Selection::default() }, answers).await
}

async fn told_of(selection: Selection, answers: Vec<(u16, String)>) -> (Vec<String>, Vec<String>) {
    let left = Arc::new(Mutex::new(VecDeque::from(answers)));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let requests = Arc::clone(&asked);
    let (tell_silence, silence) = oneshot::channel::<()>();
    let tell_silence = Arc::new(Mutex::new(Some(tell_silence)));
    let service = tower::service_fn(move |request: Request<Body>| {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let name = request.uri().path().rsplit_once("/configmaps/").map(|(_, name)| name.to_owned());
        let accepts = request.headers().get("accept").and_then(|value| value.to_str().ok());
        let word = match query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion=")) {
            Some(version) if query.contains("watch=true") => format!("watch from {version}"),
            _ if accepts.is_some_and(|kind| kind.contains("PartialObjectMetadataList")) => {
                "list of metadata".to_owned()
            }
            _ => name.map_or_else(|| format!("list?{query}"), |name| format!("get {name}")),
        };
        requests.lock().unwrap().push(word);
        let answer = left.lock().unwrap().pop_front();
        if answer.is_none() {
            tell_silence.lock().unwrap().take().map(|tell| tell.send(()));
        }
        async move {
            let Some((code, text)) = answer else { return std::future::pending().await };
            Ok::<_, Infallible>(Response::builder().status(code).body(Body::from(text.into_bytes())).unwrap())
        }
    });
    let api: Api<ConfigMap> = Api::all(Client::new(service, "default"));
    let mut all = Vec::new();
    let (first, mut listed) = oneshot::channel();
    let permits = Permits::new(1);
    let on = |change: Change<ConfigMap>| {
        let name = |map: &ConfigMap| map.metadata.name.clone().unwrap_or_default();
        all.push(match change {
            Change::Is(map) => format!("is {}", name(&map)),
            Change::Gone(map) => format!("gone {}", name(&map)),
            Change::Relisted(seen) => {
                let mut names: Vec<_> = seen.iter().map(|key| key.name.to_string()).collect();
                names.sort();
                format!("all are {}", names.join(" "))
            }
        });
    };
    tokio::select! {
        () = follow(api, selection, &permits, "configmaps", first, on) => {}
        _ = silence => {}
    }
    let whole = all.iter().any(|word| word.starts_with("all are"));
    assert_eq!(
        (&mut listed).now_or_never().is_some_and(|told| told.is_ok()),
        whole,
        "told once a list is whole"
    );
    let asked = asked.lock().unwrap().clone();
    (asked, all)
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_goes_on_from_where_it_was() {
    let bookmark = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"resourceVersion": "9"}});
    let (asked, told) = told(vec![
        (200, list(5, &[map("a", 3), map("b", 4)])),
        (200, event("MODIFIED", &map("a", 6)) + &event("DELETED", &map("b", 7))),
        (200, event("BOOKMARK", &bookmark)),
        (500, status(500).to_string()),
    ])
    .await;
    assert_eq!(asked, ["list?", "watch from 5", "watch from 7", "watch from 9", "watch from 9"]);
    assert_eq!(told, ["is a", "is b", "all are a b", "is a", "gone b"]);
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_too_old_or_of_the_future_asks_for_a_list() {
    let (asked, told) = told(vec![
        (200, list(5, &[map("a", 3)])),
        (200, event("ERROR", &status(410))),
        (200, list(50, &[map("b", 40)])),
        (410, status(410).to_string()),
        (200, list(60, &[map("b", 40)])),
        (504, status(504).to_string()),
        (200, list(70, &[])),
    ])
    .await;
    assert_eq!(
        asked,
        [
            "list?",
            "watch from 5",
            "list?",
            "watch from 50",
            "list?",
            "watch from 60",
            "list?",
            "watch from 70"
        ]
    );
    assert_eq!(told, ["is a", "all are a", "is b", "all are b", "is b", "all are b", "all are "]);
}

/// Half a list says nothing of what is not in it: nothing must count as gone.
#[tokio::test(start_paused = true)]
async fn a_list_that_breaks_off_is_read_anew() {
    let whole = list(5, &[map("a", 3), map("b", 4)]);
    let (asked, told) = told(vec![
        (403, status(403).to_string()),
        (200, whole[..whole.find("\"b\"").unwrap()].to_owned()),
        (429, status(429).to_string()),
        (200, whole),
    ])
    .await;
    assert_eq!(asked, ["list?", "list?", "list?", "list?", "watch from 5"]);
    assert_eq!(told, ["is a", "is a", "is b", "all are a b"]);
}

#[tokio::test(start_paused = true)]
async fn without_a_whole_list_nobody_is_told_that_there_is_one() {
    let (_, told) = told(vec![(200, "[".into()), (200, list(5, &[map("a", 3)])[..60].to_owned())]).await;
    assert!(!told.iter().any(|word| word.starts_with("all are")), "{told:?}");
}

/// A list that succeeds must not make the next one come sooner.
#[tokio::test(start_paused = true)]
async fn lists_after_watches_that_are_refused_come_more_and_more_rarely() {
    let began = Instant::now();
    let pair = [(200, list(5, &[])), (504, status(504).to_string())];
    let (asked, _) = told(pair.iter().cycle().take(12).cloned().collect()).await;
    assert_eq!(asked.iter().filter(|word| **word == "list?").count(), 7);
    // 0.8 s and then twice as much each time; six pauses of the first length would be 10 s at most.
    assert!(began.elapsed() > Duration::from_secs(20), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn of_those_that_are_known_only_the_metadata_are_read() {
    let all = ["a", "b", "c", "d"].map(|name| map(name, 3));
    let (asked, told) = told_but(&["b"], vec![(200, list(5, &all)), (200, map("b", 6).to_string())]).await;
    assert_eq!(asked, ["list of metadata", "get b", "watch from 5"]);
    assert_eq!(told, ["is a", "is c", "is d", "is b", "all are a b c d"]);
}

#[tokio::test(start_paused = true)]
async fn where_many_are_unknown_all_are_read_at_once() {
    let all = ["a", "b", "c"].map(|name| map(name, 3));
    let (asked, told) = told_but(&["b"], vec![(200, list(5, &all)), (200, list(6, &all))]).await;
    assert_eq!(asked, ["list of metadata", "list?", "watch from 6"]);
    assert_eq!(told, ["is a", "is c", "is a", "is b", "is c", "all are a b c"]);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_gone_before_it_is_read_is_gone_and_one_that_cannot_be_read_is_not() {
    let all = ["a", "b", "c", "d"].map(|name| map(name, 3));
    let (asked, told) = told_but(
        &["b"],
        vec![
            (200, list(5, &all)),
            (500, status(500).to_string()),
            (200, list(7, &all)),
            (404, status(404).to_string()),
        ],
    )
    .await;
    assert_eq!(asked, ["list of metadata", "get b", "list of metadata", "get b", "watch from 7"]);
    assert_eq!(told, ["is a", "is c", "is d", "is a", "is c", "is d", "all are a c d"]);
}

#[tokio::test]
async fn whoever_follows_ends_where_the_store_was_put_back() {
    let answers = vec![
        (200, list(50, &[map("a", 40)])),
        (200, event("ERROR", &status(410))),
        (200, list(20, &[map("a", 10)])),
    ];
    let followed = tokio::time::timeout(Duration::from_secs(60), told(answers));
    let (asked, _) = followed.await.expect("it does not go on");
    assert_eq!(asked.len(), 3, "nothing is watched after that: {asked:?}");
}
