//! The connection to an API server.
//!
//! Built by hand from kube's parts rather than with its default stack, for four reasons:
//! - every request is counted, by verb, group, resource and code;
//! - nothing is retried below the reconcilers: the default retries a 429, 503 or 504 up to 15 times, for minutes,
//!   and a queue with backoff is the better place for that;
//! - each request has a deadline for the beginning of its answer, where the default waits for ever (what comes
//!   after it in a list or a watch is guarded by whoever reads it);
//! - sockets send at once (`TCP_NODELAY`): a body that takes two writes would else wait for the peer's delayed
//!   acknowledgement, up to 40 ms.
//!
//! kube speaks HTTP/1.1: each request in flight has a connection of its own, kept for the next one. That is as
//! many connections as a controller has workers, plus one for each watch; one slow answer holds up nothing else.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{HeaderValue, Request, Response, header};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tower::{BoxError, Layer, Service, ServiceBuilder};

use super::metrics::Metrics;
use super::request::RequestInfo;

/// What this program calls itself in the API server's audit log.
pub const USER_AGENT: &str = concat!("banyan/", env!("CARGO_PKG_VERSION"));

/// How long to wait for a connection: a packet that is lost twice still makes it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long to wait for the answer to begin, also that of a watch. The API server itself gives up after 60 s;
/// admission webhooks have 10 s by default, and up to 30.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(35);

/// How long a connection may be idle before it is closed. Below the 90 s after which cloud load balancers and
/// the API server begin to close it from their side, in the middle of a request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// How much is read from a connection at once: two records of TLS. By default the room grows with what a long list
/// sends, and stays with the connection, which then waits for hours in a watch: 0.1 MB for each of fifty.
const READ_AT_ONCE: usize = 32 * 1024;

/// Where the API server is, and who we are to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// A kubeconfig file. Without one: `$KUBECONFIG`, `~/.kube/config`, or the service account of the Pod.
    pub kubeconfig: Option<PathBuf>,
    /// A context of that file; without one, its current context.
    pub context: Option<String>,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The named file cannot be used.
    #[error(
        "cannot use the kubeconfig {path}{}: {source}; name a readable kubeconfig with --kubeconfig",
        in_context(context)
    )]
    Kubeconfig {
        /// The file.
        path: String,
        /// The context asked for.
        context: Option<String>,
        /// What is wrong with it.
        source: kube::config::KubeconfigError,
    },
    /// There is neither a kubeconfig nor a service account.
    #[error(
        "found no way to an API server ({0}); name a kubeconfig with --kubeconfig or in KUBECONFIG, or run in a Pod with a service account"
    )]
    Nowhere(String),
    /// The certificates or credentials cannot be used.
    #[error("cannot set up the connection to {url}: {source}; check its certificates and credentials")]
    Setup {
        /// The API server.
        url: String,
        /// What is wrong.
        source: kube::Error,
    },
}

fn in_context(context: &Option<String>) -> String {
    context.as_ref().map(|context| format!(", context {context}")).unwrap_or_default()
}

/// The configuration for `target`.
///
/// # Errors
/// If no file, no context or no service account is there, or one cannot be read.
pub async fn config(target: &Target) -> Result<Config, ClientError> {
    let options = KubeConfigOptions { context: target.context.clone(), ..KubeConfigOptions::default() };
    let unusable = |path: String| {
        let context = target.context.clone();
        move |source| ClientError::Kubeconfig { path, context, source }
    };
    if let Some(path) = &target.kubeconfig {
        let name = path.display().to_string();
        let kubeconfig = Kubeconfig::read_from(path).map_err(unusable(name.clone()))?;
        return Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(unusable(name));
    }
    if target.context.is_some() || std::env::var_os("KUBECONFIG").is_some() {
        return Config::from_kubeconfig(&options).await.map_err(unusable("of $KUBECONFIG".into()));
    }
    Config::infer().await.map_err(|error| ClientError::Nowhere(error.to_string()))
}

/// Host and port of the API server.
pub fn address(config: &Config) -> Option<(String, u16)> {
    let url = &config.cluster_url;
    let usual = if url.scheme_str() == Some("http") { 80 } else { 443 };
    let host = url.host()?.trim_matches(['[', ']']);
    Some((host.to_owned(), url.port_u16().unwrap_or(usual)))
}

/// A client for `config` that counts its requests in `metrics`.
///
/// # Errors
/// If certificates or credentials cannot be used.
pub fn client(config: Config, metrics: Metrics) -> Result<Client, ClientError> {
    let url = config.cluster_url.to_string();
    build(config, metrics).map_err(|source| ClientError::Setup { url, source })
}

/// [`config`] and [`client`] in one.
///
/// # Errors
/// As theirs.
pub async fn connect(target: &Target, metrics: Metrics) -> Result<Client, ClientError> {
    client(config(target).await?, metrics)
}

fn build(config: Config, metrics: Metrics) -> Result<Client, kube::Error> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_keepalive(Some(Duration::from_secs(30)));
    let connector = config.rustls_https_connector_with_connector(connector)?;
    let http: hyper_util::client::legacy::Client<_, Body> =
        hyper_util::client::legacy::Builder::new(TokioExecutor::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_timer(TokioTimer::new())
            .http1_read_buf_exact_size(READ_AT_ONCE)
            .build(connector);
    let stack = ServiceBuilder::new()
        .layer(Counted { metrics })
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(stack, config.default_namespace))
}

/// Counts requests and sets their deadline.
#[derive(Clone)]
struct Counted {
    metrics: Metrics,
}

impl<S> Layer<S> for Counted {
    type Service = CountedService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CountedService { inner, metrics: self.metrics.clone() }
    }
}

struct CountedService<S> {
    inner: S,
    metrics: Metrics,
}

/// A request was not answered in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer of the API server within {ANSWER_TIMEOUT:?}")]
struct NoAnswer;

impl<S, B> Service<Request<Body>> for CountedService<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let apply = request
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"application/apply-patch"));
        let info = RequestInfo::new(request.method(), request.uri(), apply);
        request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        let watches = info.verb == "watch";
        let span = tracing::debug_span!(
            "api_request",
            otel.kind = "client",
            verb = info.verb,
            group = info.group,
            resource = info.resource
        );
        let metrics = self.metrics.clone();
        let answer = self.inner.call(request);
        let future = async move {
            let start = Instant::now();
            let answer = tokio::time::timeout(ANSWER_TIMEOUT, answer).await;
            let took = (!watches).then(|| start.elapsed());
            match answer {
                Ok(Ok(response)) => {
                    metrics.requested(info, response.status().as_str(), took);
                    Ok(response)
                }
                Ok(Err(error)) => {
                    metrics.requested(info, "error", took);
                    Err(error.into())
                }
                Err(_) => {
                    metrics.requested(info, "timeout", took);
                    Err(NoAnswer.into())
                }
            }
        };
        Box::pin(tracing::Instrument::instrument(future, span))
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
