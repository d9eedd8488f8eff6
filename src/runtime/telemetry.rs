//! Logs, and traces on demand.
//!
//! Logs go to standard error, one line each: as JSON where a collector reads them, as text where a person does.
//! Traces go to an OpenTelemetry collector by OTLP over HTTP, if one is named; without, nothing is recorded.

use std::fmt;
use std::io::IsTerminal;
use std::pin::Pin;
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// What is logged unless `BANYAN_LOG` says otherwise.
const DEFAULT_FILTER: &str = "info,kube=warn,kube_client=warn,kube_runtime=warn,opentelemetry_sdk=warn";

/// The variable with the filter, in the syntax of `tracing`: `info`, `debug,kube=warn`, `banyan=trace`.
pub const FILTER_VARIABLE: &str = "BANYAN_LOG";

/// How long the last spans may take to get out.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// A line for people.
    Text,
}

impl LogFormat {
    /// Text on a terminal, JSON elsewhere.
    pub fn detect() -> Self {
        if std::io::stderr().is_terminal() { Self::Text } else { Self::Json }
    }
}

/// Why telemetry cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not valid.
    #[error(
        "{FILTER_VARIABLE}={value:?} is no log filter: {source}; write for example info, or info,banyan=debug"
    )]
    Filter {
        /// Its value.
        value: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// The collector's address is not valid.
    #[error(
        "cannot send traces to {endpoint}: {why}; write for example --otlp-endpoint http://collector:4318"
    )]
    Endpoint {
        /// The address.
        endpoint: String,
        /// What is wrong with it.
        why: String,
    },
    /// Something in this process has set up logging before.
    #[error("logging is set up already: {0}")]
    Twice(#[from] TryInitError),
}

/// What has to be flushed at the end.
#[must_use = "spans that are not flushed with Telemetry::shut_down are lost"]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Sets up logs, and traces if `otlp_endpoint` is given: the collector's base URL, to which `/v1/traces` is
    /// added, or its whole URL if it has a path. Must be called once, within the Tokio runtime.
    ///
    /// # Errors
    /// If the filter or the endpoint is not valid, or logging was set up before.
    pub fn start(format: LogFormat, otlp_endpoint: Option<&str>, site: &str) -> Result<Self, TelemetryError> {
        let provider = otlp_endpoint.map(|endpoint| provider(endpoint, site)).transpose()?;
        let traces = provider.as_ref().map(|provider| {
            // Requests to the API server are spans of the debug level: worth a trace, too much for the log.
            tracing_opentelemetry::layer()
                .with_tracer(provider.tracer("banyan"))
                .with_filter(EnvFilter::new("off,banyan=debug"))
        });
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        let lines = match format {
            LogFormat::Json => {
                lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
            }
            LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).with_target(false).boxed(),
        };
        tracing_subscriber::registry().with(traces).with(lines.with_filter(filter()?)).try_init()?;
        Ok(Self { provider })
    }

    /// Sends what is left, for at most two seconds. Must be called before the Tokio runtime ends.
    pub async fn shut_down(self) {
        let Some(provider) = self.provider else {
            return;
        };
        // It blocks, and waits for a request that runs on this very runtime.
        let flushed = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FLUSH_TIMEOUT));
        match tokio::time::timeout(FLUSH_TIMEOUT + Duration::from_millis(500), flushed).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "the last traces were not sent"),
            Ok(Err(_)) | Err(_) => tracing::warn!("the last traces were not sent in time"),
        }
    }
}

fn filter() -> Result<EnvFilter, TelemetryError> {
    parse_filter(std::env::var(FILTER_VARIABLE).ok().filter(|value| !value.is_empty()))
}

fn parse_filter(value: Option<String>) -> Result<EnvFilter, TelemetryError> {
    match value {
        None => Ok(EnvFilter::new(DEFAULT_FILTER)),
        Some(value) => EnvFilter::try_new(&value).map_err(|source| TelemetryError::Filter { value, source }),
    }
}

/// The URL that spans go to.
fn traces_url(endpoint: &str) -> Result<String, TelemetryError> {
    let wrong = |why: &str| TelemetryError::Endpoint { endpoint: endpoint.into(), why: why.into() };
    let url = reqwest::Url::parse(endpoint).map_err(|error| wrong(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("it is neither http nor https (gRPC is not spoken)"));
    }
    if url.path() == "/" {
        return Ok(format!("{}v1/traces", url));
    }
    Ok(url.into())
}

fn provider(endpoint: &str, site: &str) -> Result<SdkTracerProvider, TelemetryError> {
    let wrong = |why: String| TelemetryError::Endpoint { endpoint: endpoint.into(), why };
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(10))
        .build()
        .map_err(|error| wrong(error.to_string()))?;
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(OnRuntime { client, runtime: tokio::runtime::Handle::current() })
        .with_endpoint(traces_url(endpoint)?)
        .build()
        .map_err(|error| wrong(error.to_string()))?;
    let resource = Resource::builder()
        .with_service_name("banyan")
        .with_attribute(opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(opentelemetry::KeyValue::new("banyan.site", site.to_owned()))
        .build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

/// Sends requests on the Tokio runtime. The exporter works on a thread of its own, where an asynchronous client
/// finds no runtime and would panic.
struct OnRuntime {
    client: reqwest::Client,
    runtime: tokio::runtime::Handle,
}

impl fmt::Debug for OnRuntime {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("OnRuntime")
    }
}

impl HttpClient for OnRuntime {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        let client = self.client.clone();
        let sent = self.runtime.spawn(async move {
            let answer = client.execute(request.try_into()?).await?;
            let mut response = Response::builder().status(answer.status());
            if let Some(headers) = response.headers_mut() {
                headers.extend(answer.headers().clone());
            }
            Ok::<_, HttpError>(response.body(answer.bytes().await?)?)
        });
        Box::pin(async move { sent.await? })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn a_filter_that_is_none_is_refused_with_the_remedy() {
        assert!(parse_filter(None).is_ok());
        assert!(parse_filter(Some("info,banyan=debug".into())).is_ok());
        let error = parse_filter(Some("info,banyan=loud".into())).unwrap_err().to_string();
        assert!(
            error.contains("BANYAN_LOG=\"info,banyan=loud\"") && error.contains("write for example"),
            "{error}"
        );
    }

    #[test]
    fn the_endpoint_is_a_base_or_a_whole_url() {
        assert_eq!(traces_url("http://collector:4318").unwrap(), "http://collector:4318/v1/traces");
        assert_eq!(traces_url("https://collector/").unwrap(), "https://collector/v1/traces");
        assert_eq!(traces_url("http://collector/in/v1/traces").unwrap(), "http://collector/in/v1/traces");
        for wrong in ["collector:4318", "grpc://collector:4317", "nonsense", ""] {
            let error = traces_url(wrong).unwrap_err().to_string();
            assert!(error.contains("--otlp-endpoint"), "{error}");
        }
    }

    /// From a span to the collector's socket, through the exporter's own thread, flushed at the end.
    #[tokio::test(flavor = "multi_thread")]
    async fn spans_reach_the_collector_when_the_process_ends() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let received = Arc::new(Mutex::new(Vec::new()));
        let log = received.clone();
        let router = axum::Router::new().route(
            "/v1/traces",
            axum::routing::post(move |body: axum::body::Bytes| async move { log.lock().unwrap().push(body) }),
        );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });

        let provider = provider(&endpoint, "aws-us-east-1").unwrap();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("banyan"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info_span!("reconcile", service = "ledger").in_scope(|| ());
        });
        Telemetry { provider: Some(provider) }.shut_down().await;

        let received = received.lock().unwrap();
        assert_eq!(received.len(), 1);
        let text = String::from_utf8_lossy(&received[0]).into_owned();
        for word in ["reconcile", "ledger", "aws-us-east-1", env!("CARGO_PKG_VERSION")] {
            assert!(text.contains(word), "{word} is missing in {text:?}");
        }
    }
}
