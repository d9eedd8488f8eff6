//! `banyan status`: a FinService with all that belongs to it, and what to type next; without a name all of them, a line for each.

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams};
use serde_json::Value;

use super::cluster::ClusterArgs;
use super::objects::{self, ReadError};
use super::service_list;
use super::status_tree::{Read, shown, tree};
use crate::api::labels::SERVICE_LABEL;
use crate::api::{CanaryRollout, FinService};
use crate::finservice::index::gateways::Gateways;
use crate::runtime::client::{self, ClientError};
use crate::runtime::metrics::Metrics;
use crate::terminal::output::Output;
use crate::terminal::size;

/// Time between two looks with `--watch`.
const LOOK: Duration = Duration::from_secs(2);

/// What is shown.
#[derive(Clone, Debug, Args)]
pub struct StatusOptions {
    /// The name of the FinService; without it all are listed
    name: Option<String>,
    /// List those of all namespaces
    #[arg(short = 'A', long, conflicts_with_all = ["namespace", "name"])]
    all_namespaces: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// The namespace [default: the context's]
    #[arg(short, long, value_name = "NS")]
    namespace: Option<String>,
    /// Show it again whenever something has changed, until Ctrl-C
    #[arg(short, long)]
    watch: bool,
    /// How it is printed
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Why nothing is shown.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The cluster cannot be reached.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The cluster does not answer as it should.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// There is none.
    #[error(
        "there is no FinService {name} in namespace {namespace}; list them with `kubectl banyan status -A`"
    )]
    Absent {
        /// Its name.
        name: String,
        /// Its namespace.
        namespace: String,
    },
    /// It has no JSON form.
    #[error("cannot write the answer as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Shows a FinService, or lists them.
///
/// # Errors
/// If there is none of that name, or the cluster cannot be read.
pub async fn main(options: StatusOptions) -> Result<(), StatusError> {
    let client = client::connect(&options.cluster.target(), Metrics::default()).await?;
    let namespace = options.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
    let mut told = String::new();
    loop {
        let text = look(&options, &client, &namespace).await?;
        if text != told {
            let clear = options.watch && options.output == Output::Table && std::io::stdout().is_terminal();
            print!("{}{text}", if clear { "\x1b[H\x1b[2J" } else { "" });
            told = text;
        }
        if !options.watch {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

/// What is to be printed now.
async fn look(options: &StatusOptions, client: &Client, namespace: &str) -> Result<String, StatusError> {
    let json = |answer: serde_json::Result<String>| Ok(answer? + "\n");
    let Some(name) = &options.name else {
        let namespace = (!options.all_namespaces).then_some(namespace);
        let lines = service_list::read(client, namespace).await?;
        return match options.output {
            Output::Table => Ok(service_list::text(&lines, namespace, size::width())),
            Output::Json => json(serde_json::to_string_pretty(&lines)),
        };
    };
    let answer = shown(&read(client, namespace, name).await?);
    match options.output {
        Output::Table => Ok(tree(&answer, size::width())),
        Output::Json => json(serde_json::to_string_pretty(&answer)),
    }
}

/// Whether there is no such Gateway of Istio. Nothing in a VirtualService's status would say so. Who may not look, or has no
/// Istio, hears nothing of it.
async fn is_absent(client: &Client, namespace: &str, gateway: &str) -> bool {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("networking.istio.io", "v1", "Gateway"));
    let gateways: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    // A list: the answer to a name is 404 as well where the kind is not known.
    let found = gateways.list_metadata(&ListParams::default()).await;
    found.is_ok_and(|found| !found.items.iter().any(|one| one.metadata.name.as_deref() == Some(gateway)))
}

async fn read(client: &Client, namespace: &str, name: &str) -> Result<Read, StatusError> {
    let services: Api<FinService> = Api::namespaced(client.clone(), namespace);
    let rollouts: Api<CanaryRollout> = Api::namespaced(client.clone(), namespace);
    let everything = ListParams::default();
    let own = format!("{SERVICE_LABEL}={name}");
    let list = async |kind| {
        let found = objects::list(client, namespace, kind, &own).await?;
        Ok::<Vec<Value>, ReadError>(
            found.iter().filter_map(|object| serde_json::to_value(object).ok()).collect(),
        )
    };
    let (service, rollouts, deployments, pods, routes) = tokio::join!(
        services.get_opt(name),
        rollouts.list(&everything),
        list(("apps", "v1", "Deployment")),
        list(("", "v1", "Pod")),
        list(("gateway.networking.k8s.io", "v1", "HTTPRoute")),
    );
    let service = service.map_err(ReadError::of("FinService", namespace))?;
    if service.is_none() {
        return Err(StatusError::Absent { name: name.to_owned(), namespace: namespace.to_owned() });
    }
    let rollouts = rollouts.map_err(ReadError::of("CanaryRollout", namespace))?;
    let gateway = service.as_ref().and_then(|service| Gateways::named(namespace, &service.spec));
    let no_gateway = match gateway {
        Some(gateway) => {
            is_absent(client, &gateway.namespace, &gateway.name).await.then(|| gateway.to_string())
        }
        None => None,
    };
    Ok(Read {
        service,
        no_gateway,
        rollout: rollouts.items.into_iter().find(|rollout| rollout.spec.service == name),
        deployments: deployments?,
        pods: pods?,
        routes: routes?,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: StatusOptions,
    }

    fn parsed(line: &str) -> Result<StatusOptions, String> {
        let words = std::iter::once("status").chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| line.options).map_err(|error| error.to_string())
    }

    #[test]
    fn a_name_may_be_left_out() {
        assert_eq!(parsed("").unwrap().name, None);
        assert!(parsed("-A --output json").unwrap().all_namespaces);
        assert_eq!(parsed("app -n pay").unwrap().name.as_deref(), Some("app"));
        for line in ["app -A", "-A -n pay"] {
            assert!(parsed(line).unwrap_err().contains("cannot be used with"), "{line}");
        }
    }
}
