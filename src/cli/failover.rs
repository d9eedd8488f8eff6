//! `banyan failover`, as a plugin `kubectl banyan failover`: could the platform fail over to this site now?

use clap::{Args, Subcommand};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};

use super::cluster::ClusterArgs;
use crate::api::FailoverGroup;
use crate::failovergroup::table::{is_ready, list, one};
use crate::runtime::client::{self, ClientError};
use crate::runtime::metrics::Metrics;
use crate::terminal::output::Output;

/// What is asked, and where.
#[derive(Clone, Debug, Args)]
pub struct FailoverOptions {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// The operator's namespace, with the FailoverGroups
    #[arg(
        short,
        long,
        global = true,
        env = "BANYAN_NAMESPACE",
        default_value = "banyan-system",
        value_name = "NS"
    )]
    namespace: String,
    /// How it is printed
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Shows whether a failover to this site could be ordered now, and what stands in the way. Ends with 0 if all that was
    /// asked for is ready, with 3 if not
    Ready {
        /// The FailoverGroup; all of them where left out
        group: Option<String>,
    },
}

/// Why it could not be shown, or is not so.
#[derive(Debug, thiserror::Error)]
pub enum FailoverError {
    /// There is no way to the API server.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The API server does not answer as it should.
    #[error("reading FailoverGroups in namespace {namespace}: {source}")]
    Api {
        /// Where.
        namespace: String,
        /// What it says.
        source: Box<kube::Error>,
    },
    /// There is none.
    #[error(
        "there is no FailoverGroup {name} in namespace {namespace}; those that are there: `kubectl get failovergroups -n {namespace}`"
    )]
    Absent {
        /// What was asked for.
        name: String,
        /// Where.
        namespace: String,
    },
    /// Not everything is ready; it has been printed.
    #[error("not ready: {0}")]
    NotReady(String),
    /// It has no JSON form.
    #[error("cannot write it as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl FailoverError {
    /// What the program ends with: 3 if something is not ready, else 1.
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Self::NotReady(_)) { 3 } else { 1 }
    }
}

/// Carries out the command.
///
/// # Errors
/// If it cannot be shown, or is not ready.
pub async fn main(options: FailoverOptions) -> Result<(), FailoverError> {
    let client = client::connect(&options.cluster.target(), Metrics::new()).await?;
    let Command::Ready { group } = options.command;
    let groups = read(client, &options.namespace, group.as_deref()).await?;
    match (options.output, &*groups, &group) {
        (Output::Json, [only], Some(_)) => println!("{}", serde_json::to_string_pretty(only)?),
        (Output::Json, all, _) => println!("{}", serde_json::to_string_pretty(all)?),
        (Output::Table, [only], Some(_)) => print!("{}", one(only)),
        (Output::Table, [], _) => println!("There is no FailoverGroup in namespace {}.", options.namespace),
        (Output::Table, all, _) => print!("{}", list(all)),
    }
    let unready: Vec<String> =
        groups.iter().filter(|group| !is_ready(group)).map(ResourceExt::name_any).collect();
    if unready.is_empty() { Ok(()) } else { Err(FailoverError::NotReady(unready.join(", "))) }
}

async fn read(
    client: Client,
    namespace: &str,
    name: Option<&str>,
) -> Result<Vec<FailoverGroup>, FailoverError> {
    let api: Api<FailoverGroup> = Api::namespaced(client, namespace);
    let error = |source| FailoverError::Api { namespace: namespace.to_owned(), source: Box::new(source) };
    let Some(name) = name else {
        let mut all = api.list(&ListParams::default()).await.map_err(error)?.items;
        all.iter_mut().for_each(|group| group.metadata.managed_fields = None);
        return Ok(all);
    };
    let found = api.get_opt(name).await.map_err(error)?;
    let absent = || FailoverError::Absent { name: name.to_owned(), namespace: namespace.to_owned() };
    let mut found = found.ok_or_else(absent)?;
    found.metadata.managed_fields = None;
    Ok(vec![found])
}
