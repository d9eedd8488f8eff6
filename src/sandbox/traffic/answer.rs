//! One server: what a pod answers on one of its ports, to requests of HTTP and calls of gRPC.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::behaviour::{Behaviour, Chance, Rules};
use super::metrics::Metrics;

/// Header of an answer: the image reference of the pod that gave it.
pub const RELEASE_HEADER: &str = "x-release";
/// Header of an answer: the name of the pod that gave it.
pub const POD_HEADER: &str = "x-pod";
/// The media type of gRPC, with which those of its encodings begin.
pub(super) const GRPC: &str = "application/grpc";
/// Header or trailer of a call's answer: what became of it.
pub(super) const GRPC_STATUS: &str = "grpc-status";
/// A message of gRPC that is empty: not compressed, and no bytes long.
pub(super) const EMPTY_MESSAGE: Bytes = Bytes::from_static(&[0; 5]);
/// How long to wait after a connection could not be taken, for want of file descriptors for example.
const PAUSE: Duration = Duration::from_millis(10);

/// What is answered.
type Answer = Response<BoxBody<Bytes, Infallible>>;

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

    async fn answer(&self, request: Request<Incoming>, has_metrics: bool) -> Answer {
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
        let is_call = request
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(GRPC.as_bytes()));
        let mut metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        if is_call {
            metrics.record_call(path, failed, began.elapsed());
            return self.answer_call(failed);
        }
        metrics.record(method, path, status.as_u16(), began.elapsed());
        self.response(status, "text/plain", format!("{} of {}\n", self.name, self.release))
    }

    /// The answer to a call of gRPC: an empty message, and that all is well; or that the server is unavailable, which
    /// has the HTTP status 200 as well.
    fn answer_call(&self, failed: bool) -> Answer {
        let mut response = self.response(StatusCode::OK, GRPC, String::new());
        if failed {
            response.headers_mut().insert(GRPC_STATUS, HeaderValue::from_static("14"));
            return response;
        }
        let mut well = HeaderMap::new();
        well.insert(GRPC_STATUS, HeaderValue::from_static("0"));
        let body = Full::new(EMPTY_MESSAGE).with_trailers(std::future::ready(Some(Ok(well))));
        response.map(|_| body.boxed())
    }

    fn response(&self, status: StatusCode, kind: &'static str, body: String) -> Answer {
        let mut response = Response::new(Full::new(body.into()).boxed());
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
    // HTTP/1.1 or HTTP/2, as the first bytes say.
    let server = auto::Builder::new(TokioExecutor::new());
    let mut connection = std::pin::pin!(server.serve_connection(TokioIo::new(stream), service));
    // What a connection ends with concerns the other side, which counts it.
    tokio::select! {
        _ = connection.as_mut() => {}
        _ = gone.changed() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
