//! `banyan authority`: says to load balancers whether this site has authority.

use std::net::SocketAddr;

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::cluster::ClusterArgs;
use super::run::{RunError, hear_signals, site};
use crate::authority::server;
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
    /// Where to serve /authority/GROUP, /authority, /healthz and /readyz
    #[arg(long, env = "BANYAN_LISTEN", default_value = "0.0.0.0:8080", value_name = "ADDRESS")]
    pub listen: SocketAddr,
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
    let client = client::connect(&options.cluster.target(), Metrics::new()).await?;
    let listener = http::listen(options.listen).await?;
    let listen = listener.local_addr().unwrap_or(options.listen);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), site = options.site, %listen, "starting");
    let served = server::run(client, &options.site, &options.namespace, listener, shutdown);
    served.await.map_err(|error| RunError::Http(error.to_string()))
}
