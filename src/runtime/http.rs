//! What the process tells about itself over HTTP.
//!
//! | path | 200 when |
//! |---|---|
//! | `/healthz` | the process runs and its leader election moves; otherwise Kubernetes restarts it |
//! | `/readyz` | it leads and its caches are filled, or it stands by and can see the Lease |
//! | `/metrics` | always; see [`super::metrics`] |

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use http::{StatusCode, header};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;

use super::lease::Leadership;
use super::metrics::{CONTENT_TYPE, Metrics};
use super::shutdown::Shutdown;

/// How long the election may be silent before the process counts as hung: three times the most it should be.
const SILENT_TOO_LONG: Duration = Duration::from_secs(30);

/// What `/healthz` and `/readyz` answer from. Cheap to clone.
#[derive(Clone)]
pub struct Health {
    heartbeat: watch::Receiver<Instant>,
    leadership: Leadership,
    synced: Arc<AtomicBool>,
    shutdown: Shutdown,
}

impl Health {
    /// The health of a process whose election beats in `heartbeat`.
    pub fn new(heartbeat: watch::Receiver<Instant>, leadership: Leadership, shutdown: Shutdown) -> Self {
        Self { heartbeat, leadership, synced: Arc::default(), shutdown }
    }

    /// Says that the caches are filled.
    pub fn set_synced(&self) {
        self.synced.store(true, Ordering::Relaxed);
    }

    fn alive(&self) -> Result<&'static str, String> {
        let silent = self.heartbeat.borrow().elapsed();
        if silent > SILENT_TOO_LONG && !self.shutdown.is_triggered() {
            return Err(format!("the leader election has been silent for {silent:.0?}"));
        }
        Ok("ok")
    }

    fn ready(&self) -> Result<&'static str, String> {
        self.alive()?;
        if self.shutdown.is_triggered() {
            return Err("shutting down".into());
        }
        match (self.leadership.is_leader(), self.synced.load(Ordering::Relaxed)) {
            (true, true) => Ok("leading"),
            (true, false) => Err("leading; the caches are not filled yet".into()),
            (false, _) => Ok("standing by"),
        }
    }
}

fn answer(health: Result<&'static str, String>) -> (StatusCode, String) {
    match health {
        Ok(words) => (StatusCode::OK, format!("{words}\n")),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

/// The routes.
fn router(health: Health, metrics: Metrics) -> Router {
    let metrics = get(|State(metrics): State<Metrics>| async move {
        match metrics.encode() {
            Ok(text) => Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text)),
            Err(error) => Err((StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
        }
    })
    .with_state(metrics);
    Router::new()
        .route("/healthz", get(|State(health): State<Health>| async move { answer(health.alive()) }))
        .route("/readyz", get(|State(health): State<Health>| async move { answer(health.ready()) }))
        .with_state(health)
        .route("/metrics", metrics)
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
    health: Health,
    metrics: Metrics,
    shutdown: Shutdown,
) -> std::io::Result<()> {
    axum::serve(listener, router(health, metrics))
        .with_graceful_shutdown(async move { shutdown.triggered().await })
        .await
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    struct Process {
        beat: watch::Sender<Instant>,
        health: Health,
        shutdown: Shutdown,
    }

    fn process(leadership: Leadership) -> Process {
        let (beat, heartbeat) = watch::channel(Instant::now());
        let shutdown = Shutdown::new();
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
        assert_eq!(get(&process, "/readyz").await.0, 503);
        process.health.set_synced();
        assert_eq!(get(&process, "/readyz").await, (200, "leading\n".into()));
        process.shutdown.trigger();
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
        let served = tokio::spawn(serve(listener, process.health, Metrics::new(), process.shutdown.clone()));
        process.shutdown.trigger();
        served.await.unwrap().unwrap();
    }
}
