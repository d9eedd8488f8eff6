//! What the process tells about itself over HTTP.
//!
//! | path | 200 when |
//! |---|---|
//! | `/healthz` | the process runs and its leader election moves; otherwise Kubernetes restarts it |
//! | `/readyz` | it leads and the caches of all controllers are filled, or it stands by and can see the Lease |
//! | `/metrics` | always; see [`super::metrics`] |
//!
//! What a program answers beside that is its own: see [`crate::cli::operator`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::{MethodRouter, get};
use http::{StatusCode, header};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;

use super::lease::Leadership;
use super::lock::lock;
use super::metrics::{CONTENT_TYPE, Metrics};
use tokio_util::sync::CancellationToken;

/// How long the election may be silent before the process counts as hung: three times the most it should be.
const SILENT_TOO_LONG: Duration = Duration::from_secs(30);

/// What `/healthz` and `/readyz` answer from. Cheap to clone.
#[derive(Clone)]
pub struct Health {
    heartbeat: watch::Receiver<Instant>,
    leadership: Leadership,
    gates: Arc<Mutex<BTreeMap<&'static str, bool>>>,
    shutdown: CancellationToken,
}

impl Health {
    /// The health of a process whose election beats in `heartbeat`.
    pub fn new(
        heartbeat: watch::Receiver<Instant>,
        leadership: Leadership,
        shutdown: CancellationToken,
    ) -> Self {
        Self { heartbeat, leadership, gates: Arc::default(), shutdown }
    }

    /// A gate of that name, closed: a process that leads is ready once it has gates and all of them are open.
    pub fn gate(&self, name: &'static str) -> Gate {
        lock(&self.gates).insert(name, false);
        Gate { name, gates: Arc::clone(&self.gates) }
    }

    fn alive(&self) -> Result<&'static str, String> {
        let silent = self.heartbeat.borrow().elapsed();
        if silent > SILENT_TOO_LONG && !self.shutdown.is_cancelled() {
            return Err(format!("the leader election has been silent for {silent:.0?}"));
        }
        Ok("ok")
    }

    fn ready(&self) -> Result<&'static str, String> {
        self.alive()?;
        if self.shutdown.is_cancelled() {
            return Err("shutting down".into());
        }
        if !self.leadership.is_leader() {
            return Ok("standing by");
        }
        let gates = lock(&self.gates);
        let closed: Vec<&str> = gates.iter().filter(|(_, open)| !**open).map(|(name, _)| *name).collect();
        match closed.as_slice() {
            [] if gates.is_empty() => Err("leading; no controller has been started yet".into()),
            [] => Ok("leading"),
            closed => Err(format!("leading; the caches of {} are not filled yet", closed.join(", "))),
        }
    }
}

/// What a controller opens once its caches are filled.
#[derive(Debug)]
pub struct Gate {
    name: &'static str,
    gates: Arc<Mutex<BTreeMap<&'static str, bool>>>,
}

impl Gate {
    /// The caches are filled.
    pub fn open(self) {
        lock(&self.gates).insert(self.name, true);
    }
}

fn answer(health: Result<&'static str, String>) -> (StatusCode, String) {
    match health {
        Ok(words) => (StatusCode::OK, format!("{words}\n")),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

/// What is answered at `/metrics`.
pub fn metrics(metrics: Metrics) -> MethodRouter {
    get(|State(metrics): State<Metrics>| async move {
        match metrics.encode() {
            Ok(text) => Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text)),
            Err(error) => Err((StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
        }
    })
    .with_state(metrics)
}

/// The routes of a process that may lead.
pub fn router(health: Health, metrics: Metrics) -> Router {
    Router::new()
        .route("/healthz", get(|State(health): State<Health>| async move { answer(health.alive()) }))
        .route("/readyz", get(|State(health): State<Health>| async move { answer(health.ready()) }))
        .with_state(health)
        .route("/metrics", self::metrics(metrics))
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}; choose another address with --listen")]
pub struct ListenError {
    address: SocketAddr,
    source: std::io::Error,
}

/// Takes the address.
///
/// # Errors
/// If it is taken, or not ours to take.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| ListenError { address, source })
}

/// Serves until `shutdown`, then ends what it is answering.
///
/// # Errors
/// If the listener fails.
pub async fn serve(
    listener: TcpListener,
    routes: Router,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    axum::serve(listener, routes).with_graceful_shutdown(async move { shutdown.cancelled().await }).await
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    struct Process {
        beat: watch::Sender<Instant>,
        health: Health,
        shutdown: CancellationToken,
    }

    fn process(leadership: Leadership) -> Process {
        let (beat, heartbeat) = watch::channel(Instant::now());
        let shutdown = CancellationToken::new();
        Process { beat, health: Health::new(heartbeat, leadership, shutdown.clone()), shutdown }
    }

    async fn get(process: &Process, path: &str) -> (u16, String) {
        let request = http::Request::get(path).body(axum::body::Body::empty()).unwrap();
        let response = router(process.health.clone(), Metrics::new()).oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_is_ready_once_its_caches_are_filled() {
        let process = process(Leadership::always());
        assert_eq!(get(&process, "/healthz").await, (200, "ok\n".into()));
        let not_started = "leading; no controller has been started yet\n";
        assert_eq!(get(&process, "/readyz").await, (503, not_started.into()));
        let (one, other) = (process.health.gate("finservices"), process.health.gate("cloudclusters"));
        one.open();
        let one_is_left = "leading; the caches of cloudclusters are not filled yet\n";
        assert_eq!(get(&process, "/readyz").await, (503, one_is_left.into()));
        other.open();
        assert_eq!(get(&process, "/readyz").await, (200, "leading\n".into()));
        process.shutdown.cancel();
        assert_eq!(get(&process, "/readyz").await, (503, "shutting down\n".into()));
        assert_eq!(
            get(&process, "/healthz").await.0,
            200,
            "one that ends in order must not be killed for it"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_standby_is_ready_and_an_election_that_hangs_is_not_healthy() {
        let process = process(Leadership::never());
        assert_eq!(get(&process, "/readyz").await, (200, "standing by\n".into()));
        tokio::time::sleep(Duration::from_secs(31)).await;
        assert_eq!(get(&process, "/readyz").await.0, 503);
        let (status, why) = get(&process, "/healthz").await;
        assert_eq!((status, why.as_str()), (503, "the leader election has been silent for 31s\n"));
        process.beat.send_replace(Instant::now());
        assert_eq!(get(&process, "/healthz").await.0, 200);
    }

    #[tokio::test]
    async fn metrics_are_open_metrics() {
        let (status, text) = get(&process(Leadership::always()), "/metrics").await;
        assert_eq!(status, 200);
        assert!(text.contains("banyan_build_info") && text.ends_with("# EOF\n"), "{text}");
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_named_with_the_remedy() {
        let first = listen(([127, 0, 0, 1], 0).into()).await.unwrap();
        let error = listen(first.local_addr().unwrap()).await.unwrap_err().to_string();
        assert!(error.contains("127.0.0.1") && error.contains("--listen"), "{error}");
    }

    #[tokio::test]
    async fn serving_ends_when_told() {
        let process = process(Leadership::always());
        let listener = listen(([127, 0, 0, 1], 0).into()).await.unwrap();
        let routes = router(process.health, Metrics::new());
        let served = tokio::spawn(serve(listener, routes, process.shutdown.clone()));
        process.shutdown.cancel();
        served.await.unwrap().unwrap();
    }
}
