//! Kubernetes Events, for `kubectl describe` and whoever alerts on them.
//!
//! An Event is a courtesy: what matters stands in status. So publishing never slows a reconcile down and never
//! fails one: Events go through a bounded channel to one task, at a bounded rate, and are dropped and counted when
//! there are too many. One that says the same of the same object again within [`REPEAT_AFTER`] is left out. Whoever
//! does not lead publishes none.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::lease::Leadership;
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

/// A note may have at most 1024 bytes, says the API.
const LONGEST_NOTE: usize = 1024;

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
    metrics: Metrics,
}

impl Events {
    /// A publisher that calls itself `banyan` and, as its instance, `identity`; and the task that does the work,
    /// to be spawned. It ends when the last publisher is dropped and everything was sent.
    pub fn new(
        client: Client,
        identity: &str,
        leadership: Leadership,
        metrics: Metrics,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let reporter = Reporter { controller: "banyan".into(), instance: Some(identity.to_owned()) };
        let send = move |waiting: Waiting| {
            // A Recorder remembers what it sent by object and reason without the note, and would repeat the old
            // note in place of a new one. Repetition is our own affair, so each Event gets a fresh one.
            let recorder = Recorder::new(client.clone(), reporter.clone());
            async move { recorder.publish(&event(&waiting), &waiting.about).await }
        };
        let work = publish(receiver, leadership, metrics.clone(), send);
        (Self { sender, metrics }, work)
    }

    /// Says `note` (in a sentence for people; cut at 1024 bytes) about an object. Returns at once.
    pub fn publish(&self, about: ObjectReference, reason: Reason, note: impl Into<String>) {
        self.publish_of(about, 0, reason, note);
    }

    /// The same of one of several rounds, such as the attempt of a rollout: what was said of an earlier one is no
    /// repetition, also where the words are the same.
    pub fn publish_of(&self, about: ObjectReference, round: i64, reason: Reason, note: impl Into<String>) {
        if self.sender.try_send(Waiting { about, reason, note: note.into(), round }).is_err() {
            self.metrics.event("dropped");
        }
    }
}

fn event(waiting: &Waiting) -> Event {
    Event {
        type_: if waiting.reason.is_warning() { EventType::Warning } else { EventType::Normal },
        reason: waiting.reason.as_str().into(),
        note: Some(shorten(&waiting.note)),
        action: waiting.reason.action().into(),
        secondary: None,
    }
}

fn shorten(note: &str) -> String {
    if note.len() <= LONGEST_NOTE {
        return note.into();
    }
    let ellipsis = '…';
    let mut end = LONGEST_NOTE - ellipsis.len_utf8();
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{ellipsis}", &note[..end])
}

/// What was said when, by a digest of object, round, reason and note.
#[derive(Default)]
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
    let mut said = Said::default();
    let mut pace = Pace { tokens: BURST, at: Instant::now() };
    while let Some(waiting) = receiver.recv().await {
        if !said.is_news(&waiting, Instant::now()) {
            metrics.event("repeated");
            continue;
        }
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
    use std::sync::{Arc, Mutex};

    use super::*;

    type Sent = Arc<Mutex<Vec<(Instant, String)>>>;

    fn publisher(fail: bool) -> (Events, Sent, Metrics) {
        publisher_that(Leadership::always(), fail)
    }

    fn publisher_that(leadership: Leadership, fail: bool) -> (Events, Sent, Metrics) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let (metrics, sent) = (Metrics::new(), Sent::default());
        let log = sent.clone();
        tokio::spawn(publish(receiver, leadership, metrics.clone(), move |waiting: Waiting| {
            let event = event(&waiting);
            log.lock().unwrap().push((Instant::now(), format!("{} {}", event.reason, event.note.unwrap())));
            async move { if fail { Err("no") } else { Ok(()) } }
        }));
        (Events { sender, metrics: metrics.clone() }, sent, metrics)
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
        assert_eq!(shorten("short"), "short");
        let long = shorten(&"é".repeat(1000));
        assert!(
            long.len() <= LONGEST_NOTE && long.len() > LONGEST_NOTE - 4 && long.ends_with('…'),
            "{}",
            long.len()
        );
    }
}
