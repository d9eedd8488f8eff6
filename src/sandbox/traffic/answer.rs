//! One server: what a pod answers on one of its ports.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::behaviour::{Behaviour, Chance, Rules};
use super::metrics::Metrics;

/// Header of an answer: the image reference of the pod that gave it.
pub const RELEASE_HEADER: &str = "x-release";
/// Header of an answer: the name of the pod that gave it.
pub const POD_HEADER: &str = "x-pod";
/// How long to wait after a connection could not be taken, for want of file descriptors for example.
const PAUSE: Duration = Duration::from_millis(10);

/// A pod whose address is served.
#[derive(Debug)]
pub(super) struct Served {
    /// Its namespace and name, with a slash between them.
    pub key: String,
    /// Its name.
    pub name: String,
    /// The image reference of its first container.
    pub release: String,
    /// What its environment says.
    pub own: Behaviour,
    /// What was said since, for all pods.
    pub rules: Arc<RwLock<Rules>>,
    /// Its counters.
    pub metrics: Mutex<Metrics>,
    /// Where its chances begin.
    pub chance: Chance,
    /// How many requests have come.
    pub count: AtomicU64,
}

impl Served {
    /// Its counters as they are now.
    pub fn metrics(&self) -> Metrics {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn behaviour(&self) -> Behaviour {
        self.rules.read().unwrap_or_else(PoisonError::into_inner).of(&self.key, &self.release, self.own)
    }

    fn record(&self, method: &str, path: &str, status: StatusCode, took: Duration) {
        let mut metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        metrics.record(method, path, status.as_u16(), took);
    }

    async fn answer(&self, request: Request<Incoming>, has_metrics: bool) -> Response<Full<Bytes>> {
        if has_metrics && request.uri().path() == "/metrics" {
            let text = self.metrics().text();
            return self.response(StatusCode::OK, "text/plain; version=0.0.4", text);
        }
        let began = Instant::now();
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let chances = [self.chance.draw(2 * number), self.chance.draw(2 * number + 1)];
        let (failed, latency) = self.behaviour().outcome(chances);
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        let status = if failed { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
        let (method, path) = (request.method().as_str(), request.uri().path());
        self.record(method, path, status, began.elapsed());
        self.response(status, "text/plain", format!("{} of {}\n", self.name, self.release))
    }

    fn response(&self, status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(body.into()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        for (name, value) in [(RELEASE_HEADER, &self.release), (POD_HEADER, &self.name)] {
            // An image may be called by letters that no header takes; then the answer goes without.
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
        response
    }
}

/// Serves one port until the other side of `gone` is dropped. Then nothing new is taken, and what is under way is answered.
pub(super) async fn serve(
    pod: Arc<Served>,
    listener: TcpListener,
    has_metrics: bool,
    mut gone: watch::Receiver<()>,
) {
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    tokio::spawn(connection(pod.clone(), stream, has_metrics, gone.clone()));
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            },
            _ = gone.changed() => return,
        }
    }
}

async fn connection(pod: Arc<Served>, stream: TcpStream, has_metrics: bool, mut gone: watch::Receiver<()>) {
    // Where it cannot be set, answers are only slower.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let pod = pod.clone();
        async move { Ok::<_, Infallible>(pod.answer(request, has_metrics).await) }
    });
    let mut connection =
        std::pin::pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    // What a connection ends with concerns the other side, which counts it.
    tokio::select! {
        _ = connection.as_mut() => {}
        _ = gone.changed() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
