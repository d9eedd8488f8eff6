//! Against a server in this process, which also misbehaves.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Mutex;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::SignedDuration;
use serde_json::Value;
use tokio::time::Instant;

use super::*;
use crate::api::notice::Reason;
use crate::runtime::lock::lock;

/// How the server answers.
#[derive(Clone, Copy, Debug)]
enum Mood {
    Status(u16),
    /// It has too much to do, for so many seconds.
    Busy(u64),
    /// Somewhere else.
    Redirects,
    /// Not at all, while the connection stays open.
    Silent,
}

#[derive(Default)]
struct Heard {
    moods: Mutex<VecDeque<Mood>>,
    messages: Mutex<Vec<(Instant, Value)>>,
}

/// A receiver that answers so, one after the other, and then well.
struct Receiver {
    address: SocketAddr,
    heard: Arc<Heard>,
}

async fn take(State(heard): State<Arc<Heard>>, headers: HeaderMap, body: Bytes) -> Response {
    assert_eq!(headers[header::CONTENT_TYPE], "application/json");
    let body = serde_json::from_slice(&body).expect("JSON");
    lock(&heard.messages).push((Instant::now(), body));
    let mood = lock(&heard.moods).pop_front();
    match mood {
        None => "ok".into_response(),
        Some(Mood::Status(code)) => StatusCode::from_u16(code).expect("a status").into_response(),
        Some(Mood::Busy(seconds)) => {
            (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, seconds.to_string())]).into_response()
        }
        Some(Mood::Redirects) => (StatusCode::FOUND, [(header::LOCATION, "/elsewhere")]).into_response(),
        Some(Mood::Silent) => std::future::pending().await,
    }
}

impl Receiver {
    async fn start(moods: &[Mood]) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let heard =
            Arc::new(Heard { moods: Mutex::new(moods.iter().copied().collect()), ..Heard::default() });
        let router = axum::Router::new().fallback(take).with_state(Arc::clone(&heard));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, heard }
    }

    /// As a destination.
    fn named(&self, name: &str) -> String {
        format!(r#"{{"name":"{name}","format":"JSON","url":"http://{}/hook/secret"}}"#, self.address)
    }

    fn messages(&self) -> Vec<Value> {
        lock(&self.heard.messages).iter().map(|(_, body)| body.clone()).collect()
    }

    /// How many messages there are once they are so many, within ten seconds.
    async fn comes_to(&self, count: usize) -> Vec<Value> {
        let all = async {
            while self.messages().len() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let came = tokio::time::timeout(Duration::from_secs(10), all).await;
        assert!(came.is_ok(), "{count} messages: {:?}", self.messages());
        self.messages()
    }
}

const QUICK: Pace = Pace {
    gather: Duration::from_millis(50),
    apart: Duration::from_millis(50),
    oldest: SignedDuration::from_hours(1),
};

fn start(destinations: &[String], metrics: &Metrics) -> Notifications {
    let settings: Settings = format!("[{}]", destinations.join(",")).parse().expect("settings");
    Notifications::at_pace(&settings, "aws-us-east-1", metrics, QUICK).expect("notifications")
}

fn happens(notifications: &Notifications, name: &str, reason: Reason) {
    let about = ObjectReference {
        kind: Some("FinService".into()),
        namespace: Some("pay".into()),
        name: Some(name.into()),
        ..ObjectReference::default()
    };
    (notifications.ear())(&about, reason, "no image");
}

fn count(metrics: &Metrics, start: &str) -> u64 {
    let text = metrics.encode().expect("text");
    text.lines().find_map(|line| line.strip_prefix(start)?.trim().parse().ok()).unwrap_or_default()
}

fn sent(metrics: &Metrics, destination: &str, result: &str) -> u64 {
    count(metrics, &format!(r#"banyan_notifications_total{{destination="{destination}",result="{result}"}}"#))
}

async fn settles(what: impl Fn() -> bool) {
    let all = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), all).await.expect("it settles within ten seconds");
}

#[tokio::test]
async fn a_warning_is_told_once_and_what_is_no_warning_is_not_told() {
    let (receiver, metrics) = (Receiver::start(&[]).await, Metrics::new());
    let notifications = start(&[receiver.named("ops")], &metrics);
    happens(&notifications, "ledger", Reason::RevisionPromoted);
    happens(&notifications, "ledger", Reason::Stalled);
    let messages = receiver.comes_to(1).await;
    let group = &messages[0]["groups"][0];
    assert_eq!((&group["reason"], &group["objects"][0]["name"]), (&"Stalled".into(), &"ledger".into()));
    tokio::time::sleep(4 * QUICK.apart).await;
    assert_eq!(receiver.messages().len(), 1);
    assert_eq!((sent(&metrics, "ops", "sent"), sent(&metrics, "ops", "dropped")), (1, 0));
    notifications.finish().await;
    assert_eq!(receiver.messages().len(), 1, "nothing is left to tell");
}

#[tokio::test]
async fn a_storm_of_five_hundred_makes_a_few_messages_and_nothing_is_lost_of_it() {
    let (receiver, metrics) = (Receiver::start(&[]).await, Metrics::new());
    let notifications = start(&[receiver.named("ops")], &metrics);
    for n in 0..500 {
        happens(&notifications, &n.to_string(), Reason::Stalled);
        tokio::task::yield_now().await;
    }
    settles(|| sent(&metrics, "ops", "sent") == 500).await;
    let messages = receiver.messages();
    assert!(messages.len() <= 3, "{} messages", messages.len());
    let told: u64 = messages.iter().filter_map(|message| message["groups"][0]["count"].as_u64()).sum();
    assert_eq!(told, 500);
    notifications.finish().await;
}

#[tokio::test]
async fn what_is_busy_or_fails_is_asked_again_when_it_says_and_what_came_meanwhile_comes_along() {
    let receiver = Receiver::start(&[Mood::Busy(1), Mood::Status(500)]).await;
    let metrics = Metrics::new();
    let notifications = start(&[receiver.named("ops")], &metrics);
    happens(&notifications, "ledger", Reason::Stalled);
    receiver.comes_to(1).await;
    happens(&notifications, "cards", Reason::Stalled);
    let messages = receiver.comes_to(3).await;
    assert_eq!(messages[0]["groups"][0]["count"], 1);
    assert_eq!(
        (&messages[1]["groups"][0]["count"], &messages[2]["groups"][0]["count"]),
        (&2.into(), &2.into())
    );
    let times: Vec<Instant> = lock(&receiver.heard.messages).iter().map(|(at, _)| *at).collect();
    assert!(times[1] - times[0] >= Duration::from_millis(950), "{:?}", times[1] - times[0]);
    settles(|| sent(&metrics, "ops", "sent") == 2).await;
    assert_eq!(count(&metrics, r#"banyan_notification_failures_total{destination="ops"}"#), 2);
    notifications.finish().await;
}

#[tokio::test]
async fn what_is_refused_is_given_up_counted_and_no_redirect_is_followed() {
    let receiver = Receiver::start(&[Mood::Status(404), Mood::Redirects]).await;
    let metrics = Metrics::new();
    let notifications = start(&[receiver.named("ops")], &metrics);
    happens(&notifications, "ledger", Reason::Stalled);
    settles(|| sent(&metrics, "ops", "dropped") == 1).await;
    happens(&notifications, "cards", Reason::Stalled);
    settles(|| sent(&metrics, "ops", "dropped") == 2).await;
    assert_eq!(receiver.messages().len(), 2, "nobody went elsewhere");
    happens(&notifications, "loans", Reason::Stalled);
    settles(|| sent(&metrics, "ops", "sent") == 1).await;
    notifications.finish().await;
}

#[tokio::test]
async fn one_that_is_silent_holds_up_neither_the_operator_nor_the_others_nor_the_end() {
    let (silent, other) = (Receiver::start(&[Mood::Silent]).await, Receiver::start(&[]).await);
    let metrics = Metrics::new();
    let notifications = start(&[silent.named("silent"), other.named("other")], &metrics);
    happens(&notifications, "ledger", Reason::Stalled);
    silent.comes_to(1).await;
    let began = Instant::now();
    for n in 0..10_000 {
        happens(&notifications, &n.to_string(), Reason::Stalled);
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    settles(|| sent(&metrics, "other", "sent") == 10_001).await;
    let began = Instant::now();
    notifications.finish().await;
    assert!(began.elapsed() < LAST + Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(sent(&metrics, "silent", "sent"), 0);
}

#[tokio::test]
async fn what_is_left_at_the_end_is_sent_at_once() {
    let (receiver, metrics) = (Receiver::start(&[]).await, Metrics::new());
    let settings: Settings = format!("[{}]", receiver.named("ops")).parse().expect("settings");
    let notifications = Notifications::start(&settings, "aws-us-east-1", &metrics).expect("notifications");
    happens(&notifications, "ledger", Reason::Stalled);
    notifications.finish().await;
    assert_eq!(receiver.messages().len(), 1);
    assert_eq!(sent(&metrics, "ops", "sent"), 1);
}

#[tokio::test]
async fn an_address_in_a_file_is_read_for_each_message_and_said_nowhere() {
    let (receiver, metrics) = (Receiver::start(&[]).await, Metrics::new());
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ops");
    let destination = format!(r#"{{"name":"ops","format":"JSON","urlFile":"{}"}}"#, path.display());
    let notifications = start(&[destination], &metrics);
    happens(&notifications, "ledger", Reason::Stalled);
    settles(|| count(&metrics, r#"banyan_notification_failures_total{destination="ops"}"#) > 0).await;
    std::fs::write(&path, format!("http://{}/hook/secret\n", receiver.address)).expect("a file");
    receiver.comes_to(1).await;
    notifications.finish().await;
    // Nobody listens there any more, or it is no address: neither is repeated in an error.
    for address in ["http://127.0.0.1:1/hook/secret", "secret"] {
        std::fs::write(&path, address).expect("a file");
        let text = format!(r#"[{{"name":"ops","format":"Slack","urlFile":"{}"}}]"#, path.display());
        let settings: Settings = text.parse().expect("settings");
        let sender = send::Sender::new(settings.all()[0].clone(), "aws-us-east-1").expect("a sender");
        let error = sender.try_out().await.expect_err("nobody").to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
