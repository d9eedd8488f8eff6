//! `banyan run`: the operator of one cluster.
//!
//! The process has two lives: what every replica does (caches, and answers from them), and what only the leader does
//! (its controllers). It takes part in the election; while it leads, its controllers work. On SIGTERM or SIGINT it takes no
//! more work, finishes what is in work, gives the Lease back and exits with 0, so that the other replica takes
//! over at once. If leadership is lost it exits with 1: what was in work must not go on beside the new leader, and
//! ending the process is the one way to be sure of that.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use clap::{ArgAction, Args};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use super::clouds::CloudArgs;
use super::cluster::ClusterArgs;
use crate::feature_flags::launch_darkly::LAUNCH_DARKLY;
use crate::finservice::settings::{Gateways, Hosts};
use crate::notifications::Notifications;
use crate::notifications::send::NoClient;
use crate::notifications::settings::Settings as NotificationSettings;
use crate::runtime::client::{self, ClientError};
use crate::runtime::context::Context;
use crate::runtime::events::Events;
use crate::runtime::http::{self, Health, ListenError};
use crate::runtime::lease::{Election, Ended, Leadership, Timing, unique_identity};
use crate::runtime::lease_store::ApiStore;
use crate::runtime::metrics::Metrics;
use crate::runtime::permits::Permits;
use crate::runtime::status_writer::StatusWriter;
use crate::runtime::telemetry::{LogFormat, Telemetry, TelemetryError};
use crate::signals::reach::Listed;
use tokio_util::sync::CancellationToken;

/// The name of the leader Lease, in the operator's namespace.
pub const LEASE: &str = "banyan";

/// How long the work that is going on may take to end. Then it is dropped, so that the Lease goes back well
/// within the 30 s that Kubernetes grants.
const DRAIN: Duration = Duration::from_secs(10);

/// Options of `banyan run`. Each has a variable as well, for use in a Pod.
#[derive(Clone, Debug, Args)]
pub struct RunOptions {
    /// The name of this cluster, as `spec.placement[].cluster` of a FinService and its CloudCluster say it
    #[arg(long, env = "BANYAN_SITE", value_parser = site)]
    pub site: String,
    /// The cluster that it works on.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// The operator's own namespace, with its Lease and the CloudClusters
    #[arg(long, env = "BANYAN_NAMESPACE", default_value = "banyan-system")]
    pub namespace: String,
    /// Where to serve /healthz, /readyz, /metrics and /sites
    #[arg(long, env = "BANYAN_LISTEN", default_value = "0.0.0.0:8080", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// How log lines look [default: text on a terminal, else json]
    #[arg(long, env = "BANYAN_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Send traces to this OpenTelemetry collector (OTLP over HTTP), for example http://collector:4318
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// How many objects are worked on at once
    // 32 keep an API server busy without standing out among its default 400 requests in flight.
    #[arg(long, env = "BANYAN_CONCURRENCY", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=512))]
    pub concurrency: u16,
    /// Where a gateway's Envoys tell their counters, such as http://envoy.projectcontour:8002/stats/prometheus; each
    /// address of the host is a proxy. Canaries are then judged by what the gateway saw. May be repeated
    #[arg(long, env = "BANYAN_GATEWAY_METRICS", value_name = "URL", value_delimiter = ',')]
    pub gateway_metrics: Vec<String>,
    /// What CanaryRollouts may have the operator ask beside Services of their own namespace, for evidence and gates, such as
    /// prometheus.monitoring:9090, *.finflow.example or 10.1.0.0/16. May be repeated
    #[arg(long, env = "BANYAN_EVIDENCE_ALLOW", value_name = "HOST[:PORT]", value_delimiter = ',')]
    pub evidence_allow: Vec<Listed>,
    /// The namespace of Istio's control plane, which pods in the mesh may reach; empty if it is outside of the cluster
    #[arg(long, env = "BANYAN_ISTIO_NAMESPACE", value_name = "NAME", default_value = "istio-system")]
    pub istio_namespace: String,
    /// The namespaces from which metrics are scraped [default: any, but not where requests come in as well]
    #[arg(long, env = "BANYAN_SCRAPER_NAMESPACES", value_name = "NAME", value_delimiter = ',')]
    pub scraper_namespaces: Vec<String>,
    /// Where the proxies of gateways run, as JSON: [{"gateway": "edge/public", "namespace": "projectcontour", "podLabels":
    /// {"app": "envoy"}}]; gateway * is all others [default: in the namespace of each Gateway]
    #[arg(
        long,
        env = "BANYAN_GATEWAYS",
        value_name = "JSON",
        default_value = "[]",
        hide_default_value = true
    )]
    pub gateways: Gateways,
    /// Which namespaces may claim which hosts, as JSON: [{"host": "*.pay.example.com", "namespaces": ["payments"]}]; namespace
    /// * is all [default: a host is of the namespace that claims it first]
    #[arg(long, env = "BANYAN_HOSTS", value_name = "JSON", default_value = "[]", hide_default_value = true)]
    pub hosts: Hosts,
    /// Each namespace has a Kafka cluster of its own; else those of one name are one cluster, and each topic of it has one owner
    #[arg(long, env = "BANYAN_KAFKA_PER_NAMESPACE", value_name = "BOOL", default_value_t = false, action = ArgAction::Set)]
    pub kafka_per_namespace: bool,
    /// The address of LaunchDarkly, for rollouts by feature flag
    #[arg(long, env = "BANYAN_LAUNCH_DARKLY_URL", value_name = "URL", default_value = LAUNCH_DARKLY)]
    pub launch_darkly_url: String,
    /// Who is told of transitions, as a list in JSON: see docs/notifications.md
    #[arg(long, env = "BANYAN_NOTIFICATIONS", value_name = "JSON", default_value = "")]
    pub notifications: NotificationSettings,
    /// Where the clouds' own APIs are.
    #[command(flatten)]
    pub clouds: CloudArgs,
    /// What this replica is called in the Lease and in Events [default: the host's name]
    #[arg(long, env = "BANYAN_IDENTITY", value_name = "NAME")]
    pub identity: Option<String>,
}

/// Why the operator ended other than by being told to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Logs or traces.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The way to the API server.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The address for probes and metrics.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Notifications.
    #[error(transparent)]
    Notifications(#[from] NoClient),
    /// Signals cannot be heard.
    #[error("cannot listen for signals: {0}")]
    Signals(std::io::Error),
    /// Probes and metrics ended.
    #[error("the HTTP server ended: {0}; it is restarted with the process")]
    Http(String),
    /// The election ended.
    #[error("{0}; the process ends, so that it does not act next to the new leader, and is restarted")]
    Leadership(Ended),
    /// A task that must not end did.
    #[error("the {task} ended: {why}; the process ends and is restarted")]
    Task {
        /// Which.
        task: &'static str,
        /// Why.
        why: String,
    },
}

/// Why a part of the program ended.
pub type Failure = Box<dyn Error + Send + Sync>;
/// What a part of the program ends with.
pub type Ending = Result<(), Failure>;

/// The two lives of the process, beside its election, probes and metrics.
pub trait Program: Sized + Send + 'static {
    /// Routes that every replica answers.
    fn routes(&self) -> Router;

    /// What every replica does as long as the process lives: it fills caches from which requests are answered, and writes
    /// nothing. It goes on at [`Context::shutdown`], while the work is finished, and ends only if it fails.
    fn always(&self) -> impl Future<Output = Failure> + Send + 'static;

    /// What only the leader does, until [`Context::shutdown`].
    fn leading(self) -> impl Future<Output = Ending> + Send + 'static;
}

/// Runs the operator: telemetry, probes, election, and `program`, until SIGTERM or SIGINT.
///
/// # Errors
/// If it cannot start, or must end for another reason than a signal.
pub async fn run<P: Program>(
    options: RunOptions,
    program: impl FnOnce(Context, &RunOptions) -> P,
) -> Result<(), RunError> {
    let format = options.log_format.unwrap_or_else(LogFormat::detect);
    let telemetry = Telemetry::start(format, options.otlp_endpoint.as_deref(), &options.site)?;
    let shutdown = CancellationToken::new();
    let ended = match hear_signals(shutdown.clone()) {
        Ok(()) => operate(options, program, shutdown).await,
        Err(error) => Err(RunError::Signals(error)),
    };
    if let Err(error) = &ended {
        tracing::error!(%error, "ending");
    }
    telemetry.shut_down().await;
    ended
}

/// [`run`] without what belongs to the whole process (telemetry, signals): so several operators fit into one
/// process, as in tests. Ends when `shutdown` is triggered.
///
/// # Errors
/// As [`run`].
pub async fn operate<P: Program>(
    options: RunOptions,
    program: impl FnOnce(Context, &RunOptions) -> P,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let metrics = Metrics::new();
    let config = client::config(&options.cluster.target()).await?;
    let api_server = client::address(&config);
    let client = client::client(config, metrics.clone())?;
    let identity = unique_identity(&options.identity.clone().unwrap_or_else(host_name));
    let store = ApiStore::new(client.clone(), &options.namespace, LEASE);
    let (election, leadership) = Election::new(store, identity.clone(), Timing::default());
    let health = Health::new(election.heartbeat(), leadership.clone(), shutdown.clone());
    let listener = http::listen(options.listen).await?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        site = options.site,
        identity,
        listen = %listener.local_addr().unwrap_or(options.listen),
        "starting"
    );

    let release = CancellationToken::new();
    let served = CancellationToken::new();
    let mut election = tokio::spawn(election.run(release.clone()));
    let notifications = Notifications::start(&options.notifications, &options.site, &metrics)?;
    let (events, publishing) =
        Events::new(client.clone(), &identity, leadership.clone(), metrics.clone(), notifications.ear());
    tokio::spawn(publishing);
    let permits = Arc::new(Permits::new(options.concurrency.into()));
    let context = Context {
        statuses: StatusWriter::new(
            client.clone(),
            Arc::clone(&permits),
            leadership.clone(),
            metrics.clone(),
        ),
        permits,
        client,
        api_server,
        site: options.site.as_str().into(),
        namespace: options.namespace.as_str().into(),
        concurrency: options.concurrency.into(),
        leadership: leadership.clone(),
        health: health.clone(),
        events,
        metrics: metrics.clone(),
        shutdown: shutdown.clone(),
    };
    let program = program(context.clone(), &options);
    let routes = http::router(health, metrics.clone()).merge(program.routes());
    let mut http = tokio::spawn(http::serve(listener, routes, served.clone()));
    let mut always = tokio::spawn(program.always());

    let tasks = Tasks { election: &mut election, http: &mut http, always: &mut always };
    let work = lead(tasks, &shutdown, program.leading(), &leadership, &metrics).await;
    // Whatever the reason to end: nothing of ours may act after the Lease is given back.
    metrics.set_leader(false);
    let ended = match work {
        Ok(()) => {
            release.cancel();
            match (&mut election).await {
                Ok(Ended::Released) => {
                    tracing::info!("the work is done, and the leader Lease given back");
                    Ok(())
                }
                // The other replica takes over when the claim expires: later, but in order.
                Ok(ended @ Ended::NotReleased(_)) => {
                    tracing::warn!("{ended}");
                    Ok(())
                }
                Ok(lost) => Err(RunError::Leadership(lost)),
                Err(error) => Err(task_ended("leader election", &error)),
            }
        }
        Err(error) => Err(error),
    };
    // The Lease is given back already: nobody waits for what is told last.
    notifications.finish().await;
    served.cancel();
    // Whoever keeps a connection to /metrics open is not waited for.
    if !http.is_finished() {
        let _ = tokio::time::timeout(Duration::from_millis(500), &mut http).await;
    }
    http.abort();
    always.abort();
    election.abort();
    ended
}

/// The tasks without which the process cannot go on.
struct Tasks<'a> {
    election: &'a mut JoinHandle<Ended>,
    http: &'a mut JoinHandle<std::io::Result<()>>,
    always: &'a mut JoinHandle<Failure>,
}

impl Tasks<'_> {
    /// Returns when one of them has ended, which none should.
    async fn ended(&mut self) -> RunError {
        tokio::select! {
            ended = &mut *self.election => match ended {
                Ok(ended) => RunError::Leadership(ended),
                Err(error) => task_ended("leader election", &error),
            },
            ended = &mut *self.http => match ended {
                Ok(Ok(())) => RunError::Http("it was not told to".into()),
                Ok(Err(error)) => RunError::Http(error.to_string()),
                Err(error) => task_ended("HTTP server", &error),
            },
            ended = &mut *self.always => match ended {
                Ok(error) => RunError::Task { task: "caches", why: error.to_string() },
                Err(error) => task_ended("caches", &error),
            },
        }
    }
}

/// Waits for leadership, works, and returns once told to shut down and the work has ended.
async fn lead(
    mut tasks: Tasks<'_>,
    shutdown: &CancellationToken,
    leading: impl Future<Output = Ending> + Send + 'static,
    leadership: &Leadership,
    metrics: &Metrics,
) -> Result<(), RunError> {
    tokio::select! {
        () = leadership.acquired() => {}
        () = shutdown.cancelled() => return Ok(()),
        error = tasks.ended() => return Err(error),
    }
    metrics.set_leader(true);
    let mut work = tokio::spawn(leading);
    tokio::select! {
        ended = &mut work => return Err(match ended {
            Ok(Ok(())) if shutdown.is_cancelled() => return Ok(()),
            Ok(Ok(())) => RunError::Task { task: "controllers", why: "they ended without being told to".into() },
            Ok(Err(error)) => RunError::Task { task: "controllers", why: error.to_string() },
            Err(error) => task_ended("controllers", &error),
        }),
        () = shutdown.cancelled() => {}
        error = tasks.ended() => {
            work.abort();
            return Err(error);
        }
    }
    tracing::info!("finishing the work");
    tokio::select! {
        ended = tokio::time::timeout(DRAIN, &mut work) => match ended {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => Err(RunError::Task { task: "controllers", why: error.to_string() }),
            Ok(Err(error)) => Err(task_ended("controllers", &error)),
            Err(_) => {
                // What was cut off is level-triggered: the next leader does it again.
                tracing::warn!("the work did not end within {DRAIN:?} and was cut off");
                work.abort();
                let _ = work.await;
                Ok(())
            }
        },
        error = tasks.ended() => {
            work.abort();
            Err(error)
        }
    }
}

fn task_ended(task: &'static str, error: &tokio::task::JoinError) -> RunError {
    RunError::Task { task, why: error.to_string() }
}

/// Triggers `shutdown` at the first SIGTERM or SIGINT; ends the process at the second.
pub(crate) fn hear_signals(shutdown: CancellationToken) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        for first in [true, false] {
            let (name, code) = tokio::select! {
                _ = terminate.recv() => ("SIGTERM", 143),
                _ = interrupt.recv() => ("SIGINT", 130),
            };
            if first {
                tracing::info!(signal = name, "shutting down");
                shutdown.cancel();
            } else {
                tracing::warn!(signal = name, "told twice: ending at once");
                std::process::exit(code);
            }
        }
    });
    Ok(())
}

fn host_name() -> String {
    let name =
        std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok());
    name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).unwrap_or_else(|| "banyan".into())
}

/// Checks the name of a site: it is the name of a CloudCluster, and a label's value.
pub(crate) fn site(value: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let edges = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if (1..=63).contains(&value.len())
        && value.chars().all(fits)
        && value.starts_with(edges)
        && value.ends_with(edges)
    {
        return Ok(value.into());
    }
    Err("a site has 1 to 63 lower-case letters, digits and dashes, such as aws-us-east-1".into())
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
