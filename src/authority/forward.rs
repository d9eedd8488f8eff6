//! Sends requests on to the gateway of the site that has authority, and counts them.
//!
//! Routes at a site that stands by lead here ([`crate::finservice::children`]). It answers whole, or 503 with `Retry-After` and
//! `Connection: close`: nobody is to keep a connection to a site that has nothing to say.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, Version, header};
use http_body_util::BodyExt;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_platform_verifier::ConfigVerifierExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tower::{Service, ServiceExt};

use super::book::Book;
use super::residual::{ANSWER_HERE, Arrived, Arriving, Became, Counts};
use crate::runtime::fetch::innermost;
use crate::runtime::lock::lock;
use crate::runtime::metrics::Metrics;

/// How many requests are on their way at once. More are refused: this process also says where traffic is to go.
const AT_ONCE: usize = 512;
/// How long a connection to the other gateway may take: one that is gone makes nobody wait for longer.
const CONNECTS: Duration = Duration::from_secs(2);
/// How long an answer may take to begin. Gateways have a shorter limit of their own.
const ANSWERS: Duration = Duration::from_secs(60);
/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(30);
/// How often a connection by HTTP/2 is tried, and how long that may take: one to a site that is gone ends.
const ALIVE: Duration = Duration::from_secs(5);
/// When a client may come again: a move is over in seconds.
const RETRY_AFTER: &str = "2";

/// What belongs to one connection, and is passed on to nobody (RFC 9110, 7.6.1).
const OF_CONNECTION: [HeaderName; 7] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// A connector that leads to one gateway, whatever host a request names.
type ToGateway = tower::util::BoxCloneSyncService<Uri, MaybeHttpsStream<TokioIo<TcpStream>>, tower::BoxError>;

/// The way to a gateway. Cheap to clone.
#[derive(Clone)]
struct Way {
    scheme: Scheme,
    client: Client<ToGateway, Body>,
}

/// Sends requests on. Cheap to clone.
#[derive(Clone)]
pub struct Forwarder {
    book: Arc<Mutex<Book>>,
    https: HttpsConnector<HttpConnector>,
    /// One for each gateway: requests keep the host that they ask for, and connections are those of the gateway.
    ways: Arc<Mutex<BTreeMap<String, Way>>>,
    counts: Arc<Mutex<Counts>>,
    metrics: Metrics,
    room: Arc<Semaphore>,
    began: Instant,
}

impl Forwarder {
    /// One that goes by that book.
    ///
    /// # Errors
    /// If the certificates of the machine cannot be read.
    pub fn new(book: Arc<Mutex<Book>>, metrics: Metrics) -> std::io::Result<Self> {
        let tls = rustls::ClientConfig::with_platform_verifier().map_err(std::io::Error::other)?;
        Ok(Self::over(tls, book, metrics))
    }

    fn over(tls: rustls::ClientConfig, book: Arc<Mutex<Book>>, metrics: Metrics) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECTS));
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
        Self {
            book,
            https: builder.enable_http1().enable_http2().wrap_connector(tcp),
            ways: Arc::default(),
            counts: Arc::default(),
            metrics,
            room: Arc::new(Semaphore::new(AT_ONCE)),
            began: Instant::now(),
        }
    }

    /// What has arrived, by group.
    pub fn arrived(&self) -> Vec<Arrived> {
        lock(&self.counts).all(self.began.elapsed().as_secs())
    }

    /// Answers a request.
    pub async fn answer(self, request: Request) -> Response {
        let host = host_of(&request);
        let arriving = lock(&self.book).arriving(&host);
        match arriving {
            Arriving::Unknown => {
                let words = format!("no FailoverGroup of this site has {host} in traffic.hosts\n");
                (StatusCode::NOT_FOUND, words).into_response()
            }
            Arriving::Refuse { group, why } => self.refuse(&group, Became::Refused, &why),
            Arriving::SendOn { group, gateway } => {
                let sent = self.send_on(request, &host, &gateway);
                match sent.await {
                    Ok(response) => {
                        self.note(&group, Became::Forwarded);
                        response
                    }
                    Err(why) => self.refuse(&group, Became::Failed, &why),
                }
            }
        }
    }

    fn note(&self, group: &str, became: Became) {
        lock(&self.counts).note(group, became, self.began.elapsed().as_secs());
        self.metrics.residual(group, became.as_str());
    }

    fn refuse(&self, group: &str, became: Became, why: &str) -> Response {
        self.note(group, became);
        let headers = [
            (header::RETRY_AFTER, RETRY_AFTER),
            (header::CONNECTION, "close"),
            (header::CACHE_CONTROL, "no-store"),
        ];
        (StatusCode::SERVICE_UNAVAILABLE, headers, format!("{why}\n")).into_response()
    }

    /// Sends it to a gateway; a sentence where that did not answer.
    async fn send_on(&self, request: Request, host: &str, gateway: &str) -> Result<Response, String> {
        let headers = request.headers();
        if headers.get(ANSWER_HERE.0).is_some_and(|value| value == ANSWER_HERE.1) {
            return Err(
                "this request was sent on once already, and the gateways of both sites send it to each other"
                    .to_owned(),
            );
        }
        if headers.contains_key(header::UPGRADE) {
            return Err("a connection that is to be upgraded is not sent on: connect anew".to_owned());
        }
        let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else {
            return Err(format!("{AT_ONCE} requests are being sent on at the moment"));
        };
        let Way { scheme, client } =
            self.way(gateway).ok_or_else(|| format!("{gateway} is no address of a gateway"))?;
        let (mut parts, body) = request.into_parts();
        parts.uri = uri(scheme, host, &parts.uri).ok_or_else(|| format!("{host} is no name of a host"))?;
        parts.version = Version::HTTP_11;
        let trailers = parts.headers.get(header::TE).is_some_and(|value| value == "trailers");
        clean(&mut parts.headers);
        // It stands in the URI, and is said by each version of HTTP in its own way.
        parts.headers.remove(header::HOST);
        if trailers {
            // Which gRPC asks for.
            parts.headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        parts.headers.insert(ANSWER_HERE.0, HeaderValue::from_static(ANSWER_HERE.1));
        let sent = client.request(Request::from_parts(parts, body));
        let answered = tokio::time::timeout(ANSWERS, sent).await;
        let answered =
            answered.map_err(|_| format!("{gateway} has not answered within {} s", ANSWERS.as_secs()))?;
        let (mut parts, body) = answered
            .map_err(|error| format!("{gateway} does not answer: {}", innermost(&error)))?
            .into_parts();
        parts.version = Version::HTTP_11;
        clean(&mut parts.headers);
        // Its room is taken until the last of it has been passed on.
        let body = body.map_frame(move |frame| {
            let _ = &room;
            frame
        });
        Ok(Response::from_parts(parts, Body::new(body)))
    }

    /// The way to a gateway; `None` if that is no address of one.
    fn way(&self, gateway: &str) -> Option<Way> {
        let mut ways = lock(&self.ways);
        if let Some(way) = ways.get(gateway) {
            return Some(way.clone());
        }
        let to: Uri = gateway.parse().ok()?;
        let scheme = to.scheme()?.clone();
        let https = self.https.clone();
        let connector = tower::service_fn(move |_: Uri| -> BoxFuture<'static, _> {
            let (mut https, to) = (https.clone(), to.clone());
            Box::pin(async move { https.ready().await?.call(to).await })
        });
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_idle_timeout(IDLE).http2_keep_alive_interval(ALIVE).http2_keep_alive_timeout(ALIVE);
        builder.timer(hyper_util::rt::TokioTimer::new()).pool_timer(hyper_util::rt::TokioTimer::new());
        let way = Way { scheme, client: builder.build(ToGateway::new(connector)) };
        ways.insert(gateway.to_owned(), way.clone());
        Some(way)
    }
}

/// The host that a request asks for, by whatever version of HTTP, with its port.
fn host_of(request: &Request) -> String {
    let named = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    named.or_else(|| request.uri().authority().map(Authority::as_str)).unwrap_or_default().to_owned()
}

/// The same path of the same host, with the scheme of the gateway.
fn uri(scheme: Scheme, host: &str, asked: &Uri) -> Option<Uri> {
    let path = asked.path_and_query().map_or("/", PathAndQuery::as_str);
    Uri::builder().scheme(scheme).authority(host).path_and_query(path).build().ok()
}

/// Takes away what belongs to one connection.
fn clean(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&OF_CONNECTION) {
        headers.remove(name);
    }
}

#[cfg(test)]
#[path = "forward_tests.rs"]
mod tests;
