//! A Prometheus that tests play: it answers the questions that `src/signals/promql.rs` asks, in the real form, from
//! counters that the test sets going; and it misbehaves when it is told to.
//!
//! It knows only what it was told of: [`Played::flow`] makes the series of a revision, as a real one has them as
//! soon as somebody counts. Whoever asks for more gets nothing of it. It is included by `#[path]`, and depends on
//! nothing of the binaries that do so.

// Not every binary that includes it uses all of it.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;
use serde_json::{Value, json};

/// How it answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Mood {
    /// As it should.
    #[default]
    Well,
    /// Not at all, while the connection stays open.
    Silent,
    /// So long after it was asked.
    Slow(Duration),
    /// With this status and no text.
    Status(u16),
    /// With no series.
    Empty,
    /// With NaN for every counter.
    NaN,
    /// With every series twice.
    Twice,
    /// With samples that are so many seconds old.
    Stale(f64),
    /// With half of the text; then the connection breaks.
    CutOff,
    /// With a warning, which means that something is missing.
    Warning,
}

/// What flows to a revision: requests a second, and how many percent of them are bad in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Flow {
    /// Requests a second, of each series.
    pub requests: f64,
    /// Percent that fail.
    pub failing: f64,
    /// Percent that take longer than any bound that is asked for.
    pub slow: f64,
}

impl Flow {
    /// So many requests a second, of which that many percent fail.
    pub fn of(requests: f64, failing: f64) -> Self {
        Self { requests, failing, slow: 0.0 }
    }
}

/// Counters that grow by themselves. They are worked out when somebody asks.
#[derive(Clone, Copy, Debug)]
struct Counter {
    flow: Flow,
    /// The part of it that a route sends there.
    share: f64,
    since: Instant,
    /// What was counted until `since`: requests, failed ones, slow ones.
    counted: [f64; 3],
}

impl Counter {
    fn at(&self, moment: Instant) -> [f64; 3] {
        let grown =
            moment.saturating_duration_since(self.since).as_secs_f64() * self.flow.requests * self.share;
        let [requests, failed, slow] = self.counted;
        [requests + grown, failed + grown * self.flow.failing / 100.0, slow + grown * self.flow.slow / 100.0]
    }
}

/// Of which series a counter is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Of {
    /// Namespace and Service of a revision, as a caller's proxy tells.
    Proxy(String, String),
    /// Namespace, FinService, revision, pod, as the pod itself tells.
    Pod(String, String, String, String),
}

/// The labels of a series, and its value.
type Series = (BTreeMap<String, String>, f64);

#[derive(Debug, Default)]
struct Told {
    mood: Mood,
    counters: BTreeMap<Of, Counter>,
    queries: BTreeMap<String, Vec<Series>>,
    /// Questions so far, and when they came.
    asked: Vec<(Instant, String)>,
}

/// A Prometheus, until it is dropped.
pub struct Played {
    address: SocketAddr,
    told: Arc<Mutex<Told>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Played {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(told: &Mutex<Told>) -> MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Played {
    /// Starts one, on the runtime of the caller, at a free port of this machine.
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let told = Arc::new(Mutex::new(Told::default()));
        let router = Router::new().route("/api/v1/query", post(query)).with_state(Arc::clone(&told));
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                eprintln!("the played Prometheus ended: {error}");
            }
        });
        Self { address, told, task }
    }

    /// For `spec.analysis.source.prometheus.url`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From here on it answers so.
    pub fn mood(&self, mood: Mood) {
        lock(&self.told).mood = mood;
    }

    /// From here on so much flows to the Service of a revision, `<service>-<revision>`, as a caller's proxy counts it.
    /// What was counted stays.
    pub fn flow(&self, namespace: &str, service: &str, revision: &str, flow: Flow) {
        self.set(Of::Proxy(namespace.to_owned(), format!("{service}-{revision}")), flow);
    }

    /// The same, as a pod of the revision counts it itself.
    pub fn flow_to_pod(&self, namespace: &str, service: &str, revision: &str, pod: &str, flow: Flow) {
        let [namespace, service, revision, pod] = [namespace, service, revision, pod].map(str::to_owned);
        self.set(Of::Pod(namespace, service, revision, pod), flow);
    }

    fn set(&self, of: Of, flow: Flow) {
        let mut told = lock(&self.told);
        let since = Instant::now();
        let known = told.counters.get(&of);
        let counted = known.map(|counter| counter.at(since)).unwrap_or_default();
        let share = known.map_or(1.0, |counter| counter.share);
        told.counters.insert(of, Counter { flow, share, since, counted });
    }

    /// From here on a route sends this part of the requests to a Service. Before, all that flows is sent there.
    pub fn share(&self, namespace: &str, service: &str, share: f64) {
        let mut told = lock(&self.told);
        let now = Instant::now();
        let of = Of::Proxy(namespace.to_owned(), service.to_owned());
        let known = told.counters.get(&of);
        let counted = known.map(|counter| counter.at(now)).unwrap_or_default();
        let flow = known.map(|counter| counter.flow).unwrap_or_default();
        told.counters.insert(of, Counter { flow, share, since: now, counted });
    }

    /// All counters of a namespace begin at zero again, as they do when processes are started anew.
    pub fn reset(&self, namespace: &str) {
        for (of, counter) in &mut lock(&self.told).counters {
            let (Of::Proxy(own, _) | Of::Pod(own, ..)) = of;
            if own == namespace {
                (counter.since, counter.counted) = (Instant::now(), [0.0; 3]);
            }
        }
    }

    /// Forgets the series of a namespace.
    pub fn forget(&self, namespace: &str) {
        lock(&self.told).counters.retain(|of, _| {
            let (Of::Proxy(own, _) | Of::Pod(own, ..)) = of;
            own != namespace
        });
    }

    /// From here on a query of somebody's own (a metric's or a gate's, word by word) gives these series.
    pub fn answer(&self, query: &str, series: &[(&[(&str, &str)], f64)]) {
        let labels = |labels: &[(&str, &str)]| {
            labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let rows = series.iter().map(|(of, value)| (labels(of), *value)).collect();
        lock(&self.told).queries.insert(query.to_owned(), rows);
    }

    /// How many questions it was asked so far, answered or not.
    pub fn asked(&self) -> usize {
        lock(&self.told).asked.len()
    }

    /// When the first question after a moment came.
    pub fn asked_after(&self, moment: Instant) -> Option<Instant> {
        lock(&self.told).asked.iter().map(|(at, _)| *at).find(|at| *at >= moment)
    }

    /// How many of the questions so far held these words.
    pub fn asked_with(&self, words: &str) -> usize {
        lock(&self.told).asked.iter().filter(|(_, text)| text.contains(words)).count()
    }

    /// The questions so far.
    pub fn questions(&self) -> Vec<String> {
        lock(&self.told).asked.iter().map(|(_, text)| text.clone()).collect()
    }
}

async fn query(State(told): State<Arc<Mutex<Told>>>, body: String) -> Response {
    // A form is what the query of a URL is.
    let form = reqwest::Url::parse(&format!("http://form/?{body}"));
    let text = form.ok().and_then(|form| {
        form.query_pairs().find(|(name, _)| name == "query").map(|(_, text)| text.into_owned())
    });
    let Some(text) = text else {
        return answer(400, json!({"status": "error", "errorType": "bad_data", "error": "no query"}));
    };
    let mood = {
        let mut told = lock(&told);
        told.asked.push((Instant::now(), text.clone()));
        told.mood.clone()
    };
    match mood {
        Mood::Silent => std::future::pending().await,
        Mood::Slow(wait) => tokio::time::sleep(wait).await,
        Mood::Status(status) => return answer(status, Value::Null),
        _ => {}
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let sampled = if let Mood::Stale(age) = mood { now - age } else { now };
    let mut rows = match mood {
        Mood::Empty => Vec::new(),
        _ => lock(&told).rows(&text, now, sampled),
    };
    match mood {
        Mood::NaN => {
            for row in &mut rows {
                let term = row["metric"]["banyan_term"].as_str().unwrap_or_default();
                // When something was sampled is known also where it is no number.
                if !term.ends_with(" seen") && !term.ends_with(" up") {
                    row["value"][1] = json!("NaN");
                }
            }
        }
        Mood::Twice => rows.extend(rows.clone()),
        _ => {}
    }
    let mut whole = json!({"status": "success", "data": {"resultType": "vector", "result": rows}});
    match mood {
        Mood::Warning => whole["warnings"] = json!(["a store is away"]),
        Mood::CutOff => {
            let text = whole.to_string();
            let half = Ok::<_, std::io::Error>(Bytes::from(text[..text.len() / 2].to_owned()));
            let broken = Err(std::io::Error::other("the connection breaks"));
            return Response::new(Body::from_stream(futures::stream::iter([half, broken])));
        }
        _ => {}
    }
    answer(200, whole)
}

fn answer(status: u16, body: Value) -> Response {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    response
}

impl Told {
    /// The series that answer a question.
    fn rows(&self, text: &str, now: f64, sampled: f64) -> Vec<Value> {
        let row = |labels: Value, value: f64| json!({"metric": labels, "value": [now, value.to_string()]});
        let mut rows = Vec::new();
        // All terms speak of one moment.
        let moment = Instant::now();
        // A built-in question is a term a line.
        for term in text.split("\nor ").filter_map(Term::read) {
            for (of, counter) in &self.counters {
                let Some(labels) = term.labels(of) else { continue };
                let [requests, failed, slow] = counter.at(moment);
                match term.kind.as_str() {
                    "seen" | "up" => rows.push(row(json!(labels), sampled)),
                    "requests" => rows.push(row(json!(labels), requests.floor())),
                    "bad" => rows.push(row(json!(labels), failed.floor())),
                    "bucket" => rows.extend(term.bounds.iter().map(|bound| {
                        let mut labels = labels.clone();
                        labels.insert("le", bound.clone());
                        let slower = if bound == "+Inf" { 0.0 } else { slow.floor() };
                        row(json!(labels), requests.floor() - slower)
                    })),
                    _ => {}
                }
            }
        }
        // A question of somebody's own is alone, or in a union with others.
        for (query, series) in &self.queries {
            let ends = format!("(\n{query}\n), \"banyan_term\", \"");
            let places: Vec<Option<&str>> = if text == query {
                vec![None]
            } else {
                text.match_indices(&ends).map(|(at, _)| text[at + ends.len()..].split('"').next()).collect()
            };
            for place in places {
                for (labels, value) in series {
                    let mut labels = labels.clone();
                    if let Some(place) = place {
                        labels.insert("banyan_term".to_owned(), place.to_owned());
                    }
                    rows.push(row(json!(labels), *value));
                }
            }
        }
        rows
    }
}

/// A term of a built-in question.
struct Term {
    /// The value of its label.
    label: String,
    /// What it counts: the label's last word.
    kind: String,
    /// What labels must be one of, by their name.
    asked: BTreeMap<String, Vec<String>>,
    /// The bounds of a histogram that are asked for.
    bounds: Vec<String>,
}

impl Term {
    fn read(text: &str) -> Option<Self> {
        let label = text.split_once("\"banyan_term\", \"")?.1.split('"').next()?.to_owned();
        let kind = label.rsplit(' ').next()?.to_owned();
        let mut asked = BTreeMap::new();
        for name in [
            "namespace",
            "banyan_dev_service",
            "banyan_dev_revision",
            "destination_service_namespace",
            "destination_service_name",
            "le",
        ] {
            let matcher = [format!("{{{name}=~\""), format!(",{name}=~\"")];
            let Some((_, rest)) = matcher.iter().find_map(|matcher| text.split_once(matcher.as_str())) else {
                continue;
            };
            let pattern = rest.split('"').next()?;
            // Words and bounds hold no bar of their own. A string of PromQL doubles what a pattern escapes.
            let words = pattern
                .split('|')
                .map(|word| word.replace("([.]0)?", "").replace("[+]", "+").replace('\\', ""));
            asked.insert(name.to_owned(), words.collect());
        }
        let bounds = asked.remove("le").unwrap_or_default();
        Some(Self { label, kind, asked, bounds })
    }

    /// The labels of a series, if it is asked for.
    fn labels(&self, of: &Of) -> Option<BTreeMap<&'static str, String>> {
        let is_asked =
            |name: &str, value: &String| self.asked.get(name).is_some_and(|words| words.contains(value));
        let mut labels = BTreeMap::from([("banyan_term", self.label.clone())]);
        match of {
            Of::Proxy(namespace, service) if self.label.starts_with("istio ") => {
                let to =
                    [("destination_service_namespace", namespace), ("destination_service_name", service)];
                if !to.iter().all(|(name, value)| is_asked(name, value)) {
                    return None;
                }
                labels.extend(to.map(|(name, value)| (name, value.clone())));
                let proxy = [
                    ("namespace", "istio-system"),
                    ("pod", "gateway-0"),
                    ("job", "envoy"),
                    ("instance", "192.0.2.1:15090"),
                ];
                labels.extend(proxy.map(|(name, value)| (name, value.to_owned())));
            }
            Of::Pod(namespace, service, revision, pod) if self.label.starts_with("pods ") => {
                let own = [
                    ("namespace", namespace),
                    ("banyan_dev_service", service),
                    ("banyan_dev_revision", revision),
                ];
                if !own.iter().all(|(name, value)| is_asked(name, value)) {
                    return None;
                }
                labels.extend(own.map(|(name, value)| (name, value.clone())));
                labels.insert("pod", pod.clone());
                labels.insert("job", service.clone());
                labels.insert("instance", format!("{pod}:9090"));
            }
            _ => return None,
        }
        Some(labels)
    }
}
