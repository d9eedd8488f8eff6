//! `banyan authority`: says to load balancers whether this site has authority.

use std::net::SocketAddr;

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::cluster::ClusterArgs;
use super::run::{RunError, hear_signals, site};
use crate::authority::server::{self, Listeners};
use crate::runtime::metrics::Metrics;
use crate::runtime::telemetry::{LogFormat, Telemetry};
use crate::runtime::{client, http};

/// Options of `banyan authority`. Each has a variable as well, for use in a Pod.
#[derive(Clone, Debug, Args)]
pub struct AuthorityOptions {
    /// The name of this cluster, as its CloudCluster has it
    #[arg(long, env = "BANYAN_SITE", value_parser = site)]
    pub site: String,
    /// The cluster that it reads.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// The operator's namespace, with the Authorities and FailoverGroups
    #[arg(long, env = "BANYAN_NAMESPACE", default_value = "banyan-system")]
    pub namespace: String,
    /// Where to serve /authority/GROUP, /authority, /residual, /metrics, /healthz and /readyz
    #[arg(long, env = "BANYAN_LISTEN", default_value = "0.0.0.0:8080", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// Where requests of users arrive that are to be sent on to the site with authority
    #[arg(long, env = "BANYAN_FORWARD", default_value = "0.0.0.0:8081", value_name = "ADDRESS")]
    pub forward: SocketAddr,
    /// How log lines look [default: text on a terminal, else json]
    #[arg(long, env = "BANYAN_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

/// Answers until SIGTERM or SIGINT.
///
/// # Errors
/// If it cannot start, or its address fails.
pub async fn main(options: AuthorityOptions) -> Result<(), RunError> {
    let format = options.log_format.unwrap_or_else(LogFormat::detect);
    let telemetry = Telemetry::start(format, None, &options.site)?;
    let shutdown = CancellationToken::new();
    let ended = match hear_signals(shutdown.clone()) {
        Ok(()) => serve(options, shutdown).await,
        Err(error) => Err(RunError::Signals(error)),
    };
    if let Err(error) = &ended {
        tracing::error!(%error, "ending");
    }
    telemetry.shut_down().await;
    ended
}

async fn serve(options: AuthorityOptions, shutdown: CancellationToken) -> Result<(), RunError> {
    let metrics = Metrics::new();
    let client = client::connect(&options.cluster.target(), metrics.clone()).await?;
    let answers = http::listen(options.listen).await?;
    let forward = http::listen(options.forward).await?;
    let listen = answers.local_addr().unwrap_or(options.listen);
    let forwards = forward.local_addr().unwrap_or(options.forward);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), site = options.site, %listen, %forwards, "starting");
    let listeners = Listeners { answers, forward };
    let served = server::run(client, &options.site, &options.namespace, listeners, metrics, shutdown);
    served.await.map_err(|error| RunError::Http(error.to_string()))
}
