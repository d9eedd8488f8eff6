//! Transitions: each is one line in the log, what notifications tell of, and a Kubernetes Event, for `kubectl describe` and whoever alerts on them.
//! All that happens to any object and is worth saying goes through here.
//!
//! An Event is a courtesy: what matters stands in status. So publishing never slows a reconcile down and never
//! fails one: Events go through a bounded channel to one task, at a bounded rate, and are dropped and counted when
//! there are too many; the line in the log stands all the same. What says the same of the same object again within
//! [`REPEAT_AFTER`] is left out. Whoever does not lead says nothing.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::lease::Leadership;
use super::lock::lock;
use super::metrics::Metrics;
use crate::api::notice::Reason;

/// How many Events may wait to be published. At the rate below they are out in under two minutes.
const WAITING: usize = 1024;

/// How many Events may be published at once before the rate applies.
const BURST: f64 = 100.0;

/// How many Events a second may be published for long: a tenth of what one API server takes with ease, so that
/// Events never crowd out what they tell of.
const PER_SECOND: f64 = 10.0;

/// After how long the same may be said again of the same object. Events themselves are kept for an hour.
pub const REPEAT_AFTER: Duration = Duration::from_secs(10 * 60);

/// How much is remembered of what was said: then all of it is forgotten, and some of it may be said again.
const REMEMBERED: usize = 65_536;

/// A note may have at most 1024 bytes, says the API.
const LONGEST_NOTE: usize = 1024;

/// Who hears of each transition beside the log and the API server: its object, its reason, and the sentence. It must not
/// wait.
pub type Ear = Arc<dyn Fn(&ObjectReference, Reason, &str) + Send + Sync>;

/// An Event on its way.
#[derive(Debug)]
struct Waiting {
    about: ObjectReference,
    reason: Reason,
    note: String,
    /// Which of several rounds of the same it tells of.
    round: i64,
}

/// Publishes Events. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    sender: mpsc::Sender<Waiting>,
    said: Arc<Mutex<Said>>,
    leadership: Leadership,
    metrics: Metrics,
    ear: Ear,
}

impl Events {
    /// A publisher that calls itself `banyan` and, as its instance, `identity`; and the task that does the work,
    /// to be spawned. It ends when the last publisher is dropped and everything was sent.
    pub fn new(
        client: Client,
        identity: &str,
        leadership: Leadership,
        metrics: Metrics,
        ear: Ear,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let reporter = Reporter { controller: "banyan".into(), instance: Some(identity.to_owned()) };
        let send = move |waiting: Waiting| {
            // A Recorder remembers what it sent by object and reason without the note, and would repeat the old
            // note in place of a new one. Repetition is our own affair, so each Event gets a fresh one.
            let recorder = Recorder::new(client.clone(), reporter.clone());
            async move { recorder.publish(&event(&waiting), &waiting.about).await }
        };
        let work = publish(receiver, leadership.clone(), metrics.clone(), send);
        (Self { sender, said: Arc::default(), leadership, metrics, ear }, work)
    }

    /// Says `note` (in a sentence for people; cut at 1024 bytes) about an object. Returns at once.
    pub fn publish(&self, about: ObjectReference, reason: Reason, note: impl Into<String>) {
        self.publish_of(about, 0, reason, note);
    }

    /// The same of one of several rounds, such as the attempt of a rollout: what was said of an earlier one is no
    /// repetition, also where the words are the same.
    pub fn publish_of(&self, about: ObjectReference, round: i64, reason: Reason, note: impl Into<String>) {
        let waiting = Waiting { about, reason, note: shorten(note.into()), round };
        if !self.leadership.is_leader() {
            self.metrics.event("dropped");
        } else if !lock(&self.said).is_news(&waiting, Instant::now()) {
            self.metrics.event("repeated");
        } else {
            log(&waiting);
            (self.ear)(&waiting.about, reason, &waiting.note);
            if self.sender.try_send(waiting).is_err() {
                self.metrics.event("dropped");
            }
        }
    }
}

/// An object of which no more is at hand than its name, as Events name it.
pub fn about<K: kube::Resource<DynamicType = ()>>(
    namespace: &str,
    name: &str,
    uid: Option<String>,
) -> ObjectReference {
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        uid,
        ..ObjectReference::default()
    }
}

/// The one line of a transition.
fn log(Waiting { about, reason, note, .. }: &Waiting) {
    let word = |part: &Option<String>| part.clone().unwrap_or_default();
    let (kind, namespace, name) = (word(&about.kind), word(&about.namespace), word(&about.name));
    let (is_warning, reason) = (reason.is_warning(), reason.as_str());
    if is_warning {
        tracing::warn!(kind, namespace, name, reason, "{note}");
    } else {
        tracing::info!(kind, namespace, name, reason, "{note}");
    }
}

fn event(waiting: &Waiting) -> Event {
    Event {
        type_: if waiting.reason.is_warning() { EventType::Warning } else { EventType::Normal },
        reason: waiting.reason.as_str().into(),
        note: Some(waiting.note.clone()),
        action: waiting.reason.action().into(),
        secondary: None,
    }
}

fn shorten(note: String) -> String {
    if note.len() <= LONGEST_NOTE {
        return note;
    }
    let ellipsis = '…';
    let mut end = LONGEST_NOTE - ellipsis.len_utf8();
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{ellipsis}", &note[..end])
}

/// What was said when, by a digest of object, round, reason and note.
#[derive(Debug, Default)]
struct Said {
    when: HashMap<u64, Instant>,
    swept: Option<Instant>,
}

impl Said {
    /// Whether `waiting` is news, and notes it as said.
    fn is_news(&mut self, waiting: &Waiting, now: Instant) -> bool {
        if self.swept.is_none_or(|swept| now >= swept + REPEAT_AFTER) {
            self.when.retain(|_, said| now < *said + REPEAT_AFTER);
            self.swept = Some(now);
        }
        if self.when.len() >= REMEMBERED {
            self.when.clear();
        }
        let mut hasher = DefaultHasher::new();
        let ObjectReference { kind, namespace, name, uid, .. } = &waiting.about;
        (kind, namespace, name, uid, waiting.round, waiting.reason, &waiting.note).hash(&mut hasher);
        let key = hasher.finish();
        if self.when.get(&key).is_some_and(|said| now < *said + REPEAT_AFTER) {
            return false;
        }
        self.when.insert(key, now);
        true
    }
}

/// Lets [`BURST`] through at once, and [`PER_SECOND`] after that.
struct Pace {
    tokens: f64,
    at: Instant,
}

impl Pace {
    /// How long to wait before the next one.
    fn next(&mut self, now: Instant) -> Duration {
        self.tokens = (self.tokens + (now - self.at).as_secs_f64() * PER_SECOND).min(BURST) - 1.0;
        self.at = now;
        if self.tokens >= 0.0 { Duration::ZERO } else { Duration::from_secs_f64(-self.tokens / PER_SECOND) }
    }
}

async fn publish<F, S, E>(
    mut receiver: mpsc::Receiver<Waiting>,
    leadership: Leadership,
    metrics: Metrics,
    send: F,
) where
    F: Fn(Waiting) -> S,
    S: Future<Output = Result<(), E>>,
    E: std::fmt::Display,
{
    let mut pace = Pace { tokens: BURST, at: Instant::now() };
    while let Some(waiting) = receiver.recv().await {
        tokio::time::sleep(pace.next(Instant::now())).await;
        if !leadership.is_leader() {
            metrics.event("dropped");
            continue;
        }
        let reason = waiting.reason.as_str();
        match send(waiting).await {
            Ok(()) => metrics.event("published"),
            Err(error) => {
                metrics.event("failed");
                tracing::debug!(reason, %error, "cannot publish an Event");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    type Sent = Arc<Mutex<Vec<(Instant, String)>>>;

    fn publisher(fail: bool) -> (Events, Sent, Metrics) {
        publisher_that(Leadership::always(), fail)
    }

    fn publisher_that(leadership: Leadership, fail: bool) -> (Events, Sent, Metrics) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let (metrics, sent) = (Metrics::new(), Sent::default());
        let log = sent.clone();
        tokio::spawn(publish(receiver, leadership.clone(), metrics.clone(), move |waiting: Waiting| {
            let event = event(&waiting);
            log.lock().unwrap().push((Instant::now(), format!("{} {}", event.reason, event.note.unwrap())));
            async move { if fail { Err("no") } else { Ok(()) } }
        }));
        (
            Events {
                sender,
                said: Arc::default(),
                leadership,
                metrics: metrics.clone(),
                ear: Arc::new(|_, _, _| {}),
            },
            sent,
            metrics,
        )
    }

    fn about(name: &str) -> ObjectReference {
        ObjectReference { name: Some(name.into()), ..ObjectReference::default() }
    }

    fn count(metrics: &Metrics, result: &str) -> u64 {
        let start = format!("banyan_events_total{{result=\"{result}\"}} ");
        metrics.encode().unwrap().lines().find_map(|l| l.strip_prefix(&start)?.parse().ok()).unwrap_or(0)
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_is_said_once_and_again_after_a_while() {
        let (events, sent, metrics) = publisher(false);
        for _ in 0..3 {
            events.publish(about("a"), Reason::Stalled, "no image");
            events.publish(about("a"), Reason::Stalled, "no port");
            events.publish(about("b"), Reason::Stalled, "no image");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(sent.lock().unwrap().len(), 3);
        assert_eq!((count(&metrics, "published"), count(&metrics, "repeated")), (3, 6));
        // A second attempt goes the way of the first, and is seen.
        events.publish_of(about("a"), 2, Reason::Stalled, "no image");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(sent.lock().unwrap().pop().unwrap().1, "Stalled no image");
        tokio::time::sleep(REPEAT_AFTER).await;
        events.publish(about("a"), Reason::Stalled, "no image");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(sent.lock().unwrap()[3].1, "Stalled no image");
    }

    #[tokio::test(start_paused = true)]
    async fn many_are_spread_out_and_too_many_are_dropped_without_waiting() {
        let (events, sent, metrics) = publisher(false);
        let start = Instant::now();
        for n in 0..3000 {
            events.publish(about(&n.to_string()), Reason::RevisionPromoted, "first");
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        tokio::time::sleep(Duration::from_secs(300)).await;
        let sent = sent.lock().unwrap();
        assert_eq!(sent.len(), WAITING);
        assert_eq!(count(&metrics, "dropped"), 3000 - WAITING as u64);
        let last = (sent[sent.len() - 1].0 - start).as_secs_f64();
        assert!((last - (WAITING as f64 - BURST) / PER_SECOND).abs() < 1.0, "{last}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_fails_is_counted_and_forgotten() {
        let (events, _, metrics) = publisher(true);
        events.publish(about("a"), Reason::Stalled, "Deployment a belongs to helm");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!((count(&metrics, "failed"), count(&metrics, "published")), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_does_not_lead_publishes_nothing() {
        let (events, sent, metrics) = publisher_that(Leadership::never(), false);
        events.publish(about("a"), Reason::Stalled, "no image");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!((sent.lock().unwrap().len(), count(&metrics, "dropped")), (0, 1));
    }

    #[test]
    fn long_notes_are_cut_at_a_character() {
        assert_eq!(shorten("short".to_owned()), "short");
        let long = shorten("é".repeat(1000));
        assert!(
            long.len() <= LONGEST_NOTE && long.len() > LONGEST_NOTE - 4 && long.ends_with('…'),
            "{}",
            long.len()
        );
    }
    /// A log that tests read.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            lock(&self.0).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn faults_6_16_each_transition_is_one_line_in_the_log_however_many_events_there_are() {
        let (events, _, metrics) = publisher(false);
        let (standby, ..) = publisher_that(Leadership::never(), false);
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer().json().flatten_event(true);
        let layer = layer.with_writer(move || writer.clone());
        let ledger = ObjectReference {
            kind: Some("FinService".into()),
            namespace: Some("pay".into()),
            ..about("ledger")
        };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            for _ in 0..3 {
                events.publish(ledger.clone(), Reason::Stalled, "no image\nat all");
                events.publish(ledger.clone(), Reason::RevisionPromoted, "1.1 serves");
            }
            standby.publish(ledger.clone(), Reason::Moved, "it does not lead");
            for n in 0..2 * WAITING {
                events.publish(about(&n.to_string()), Reason::WeightShifted, "10 %");
            }
        });
        let text = String::from_utf8(lock(&lines.0).clone()).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2 + 2 * WAITING, "what is dropped as an Event is logged");
        assert!(count(&metrics, "dropped") > 0);
        for (line, level, reason, message) in [
            (&lines[0], "WARN", "Stalled", "no image\nat all"),
            (&lines[1], "INFO", "RevisionPromoted", "1.1 serves"),
        ] {
            let said = ["level", "kind", "namespace", "name", "reason", "message"].map(|field| &line[field]);
            assert_eq!(said, [level, "FinService", "pay", "ledger", reason, message]);
        }
    }
}
