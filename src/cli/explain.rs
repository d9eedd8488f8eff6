//! `banyan failover explain`, and what `failback` asks first. Reads objects of this cluster, and of another one only where its
//! context is given, with the caller's own rights.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};

use super::cluster::ClusterArgs;
use super::failover_error::FailoverError;
use super::groups::one_of;
use super::moves::Moves;
use crate::api::labels::SITE_LABEL;
use crate::api::{Authority, Failover, FailoverGroup};
use crate::failover::back::leads_here;
use crate::failover::explain::{Explained, Told, explain as explained, table};
use crate::runtime::client::{Target, connect};
use crate::runtime::metrics::Metrics;
use crate::terminal::output::Output;

/// What is explained.
#[derive(Clone, Debug, Args)]
pub struct Explain {
    /// The FailoverGroup
    pub group: String,
    /// A context of the kubeconfig for the other cluster, which is then explained too, as it sees it
    #[arg(long, value_name = "CONTEXT")]
    pub peer_context: Option<String>,
    /// A kubeconfig for the other cluster [default: the one of this cluster]
    #[arg(long, value_name = "FILE")]
    pub peer_kubeconfig: Option<PathBuf>,
}

/// Explains a group, in one cluster or in two.
///
/// # Errors
/// If it cannot be read.
pub async fn explain(cluster: &ClusterArgs, moves: &Moves, asked: Explain) -> Result<(), FailoverError> {
    let Explain { group, peer_context, peer_kubeconfig } = asked;
    let mut all = vec![one(&moves.client, &moves.namespace, &group).await?];
    if peer_context.is_some() || peer_kubeconfig.is_some() {
        let kubeconfig = peer_kubeconfig.or_else(|| cluster.kubeconfig.clone());
        let client = connect(&Target { kubeconfig, context: peer_context }, Metrics::new()).await?;
        all.push(one(&client, &moves.namespace, &group).await?);
    }
    match moves.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&all)?),
        Output::Table => {
            let texts: Vec<String> = all.iter().map(table::text).collect();
            print!("{}", texts.join("\n"));
        }
    }
    Ok(())
}

async fn read(
    client: &Client,
    namespace: &str,
    group: &str,
) -> Result<(FailoverGroup, Option<Authority>), FailoverError> {
    let found = one_of(client, namespace, group).await?;
    let authorities: Api<Authority> = Api::namespaced(client.clone(), namespace);
    let authority = authorities.get_opt(group).await;
    Ok((found, authority.map_err(FailoverError::api("reading the Authority of a FailoverGroup", namespace))?))
}

async fn one(client: &Client, namespace: &str, name: &str) -> Result<Explained, FailoverError> {
    let (group, authority) = read(client, namespace, name).await?;
    let failovers: Api<Failover> = Api::namespaced(client.clone(), namespace);
    let failovers = failovers.list(&ListParams::default()).await;
    let failovers = failovers.map_err(FailoverError::api("reading Failovers", namespace))?.items;
    let told =
        Told { group: &group, authority: authority.as_ref(), failovers: &failovers, now: Timestamp::now() };
    explained(&told).ok_or_else(|| FailoverError::Usage(not_looked(name, &group)))
}

fn not_looked(name: &str, group: &FailoverGroup) -> String {
    let why = group.status.as_ref().and_then(|status| {
        status.conditions.iter().find(|one| one.type_ == "Stalled" && one.status == "True")
    });
    match why {
        Some(why) => format!("nothing can be explained of {name}: {}", why.message),
        None => format!(
            "no operator has looked at {name} in this cluster yet: see whether it runs, `kubectl get pods -n {}`",
            group.namespace().unwrap_or_default()
        ),
    }
}

/// Whether this cluster is the one that had authority before.
///
/// # Errors
/// If it is not, with what to type instead.
pub async fn may_go_back(moves: &Moves, name: &str) -> Result<(), FailoverError> {
    let (group, authority) = read(&moves.client, &moves.namespace, name).await?;
    let shown =
        group.status.as_ref().and_then(|status| status.shown.as_ref()).map(|shown| shown.site.clone());
    let labelled = authority.as_ref().and_then(|authority| authority.labels().get(SITE_LABEL).cloned());
    let Some(site) = labelled.or(shown) else {
        return Err(FailoverError::Usage(not_looked(name, &group)));
    };
    let (own, state) = match &authority {
        Some(authority) => (Some(&authority.spec), authority.status.as_ref().and_then(|status| status.state)),
        None => (None, None),
    };
    leads_here(name, &site, &group.spec, own, state).map_err(FailoverError::Usage)
}
