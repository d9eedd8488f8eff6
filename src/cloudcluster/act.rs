//! Writes the status of CloudClusters: of the operator's own site, and of peers.

use jiff::Timestamp;
use kube::api::Patch;
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;

use super::peer_error::PeerError;
use super::status;
use crate::api::{CloudCluster, CloudClusterStatus};
use crate::runtime::patch::applying;

/// Writes the status of the operator's own site, if it differs.
///
/// # Errors
/// If the API server does not answer or refuses.
pub async fn write_own(client: &Client, cluster: &CloudCluster) -> Result<(), kube::Error> {
    let version = client.apiserver_version().await?.git_version;
    write(client, cluster, status::own(cluster, &version, Timestamp::now())).await
}

/// Writes the status of a peer, if it differs: whether it answers, and the version of its API server.
///
/// # Errors
/// If the API server does not answer or refuses.
pub async fn write_peer(
    client: &Client,
    cluster: &CloudCluster,
    reached: Result<Option<&str>, &PeerError>,
) -> Result<(), kube::Error> {
    write(client, cluster, status::peer(cluster, reached, Timestamp::now())).await
}

async fn write(
    client: &Client,
    cluster: &CloudCluster,
    wanted: CloudClusterStatus,
) -> Result<(), kube::Error> {
    if cluster.status.as_ref() == Some(&wanted) {
        return Ok(());
    }
    let namespace = cluster.namespace().unwrap_or_default();
    let api: Api<CloudCluster> = Api::namespaced(client.clone(), &namespace);
    let patch = json!({
        "apiVersion": CloudCluster::api_version(&()),
        "kind": CloudCluster::kind(&()),
        "status": wanted,
    });
    api.patch_status(&cluster.name_any(), &applying(true), &Patch::Apply(&patch)).await.map(|_| ())
}
