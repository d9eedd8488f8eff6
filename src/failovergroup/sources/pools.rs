//! Asks the cloud of a site for the nodes of its cluster, where a group asks for that (`spec.fence`): by a Failover when it
//! must know, and once an hour to see that it could be known.

use std::time::Duration;

use tokio::time::Instant;

use super::group::OfGroup;
use crate::cloudcluster::handle::SitesHandle;
use crate::cloudcluster::peer_error::PeerError;
use crate::clouds::CloudError;
use crate::clouds::nodes::{Nodes, Other, Pool, Set};
use crate::failovergroup::index::PoolsAsked;
use crate::runtime::remote::{DEADLINE, RemoteError};

/// How long it may take to ask for all nodes of a cluster. What is known by it is no older when it is used.
pub const LOOKS: Duration = Duration::from_secs(10);
/// How often it is looked whether a cloud can be asked. Rights seldom change, and nothing hangs on it but a warning.
const EVERY: Duration = Duration::from_secs(3600);
/// How soon it is looked again after it could not be asked.
const AGAIN: Duration = Duration::from_secs(300);
/// How often it is looked whether it is time, and who has authority. That asks nobody.
const TICK: Duration = Duration::from_secs(10);

/// Why a cloud did not tell, and what to do about it.
fn why(error: PeerError, site: &str) -> Other {
    let look = || format!("see `kubectl describe cloudcluster {site}`");
    match error {
        PeerError::Cloud(CloudError::Remote { what, error, remedy }) => {
            let waits = "see whether the API of that cloud answers; it is asked again by itself";
            Other::new(format!("{what} {error}"), remedy.unwrap_or(waits))
        }
        PeerError::Cloud(CloudError::Credentials { message, remedy }) => Other::new(message, remedy),
        PeerError::NoCloud(_) => {
            let message = format!("the CloudCluster {site} does not say in which cloud its nodes are");
            let remedy = format!(
                "add one way to spec.access of CloudCluster {site}, eks or gke, that names its cluster; behind a kubeconfig \
                 nobody can be asked"
            );
            Other::new(message, remedy)
        }
        other => Other::new(other.to_string(), look()),
    }
}

fn late(site: &str) -> Other {
    let message =
        format!("the cloud of {site} did not tell of all its nodes: {}", RemoteError::NoAnswer(LOOKS));
    Other::new(message, "see whether the API of that cloud answers; it is asked again by itself")
}

/// Asks for the nodes of a site, for ten seconds at the most.
///
/// # Errors
/// Why nothing is known, and what to do about it.
pub async fn look(sites: &SitesHandle, site: &str) -> Result<Nodes, Other> {
    let asked = async {
        let cluster = sites.nodes(site).await?;
        cluster.nodes().await.map_err(PeerError::Cloud)
    };
    let answer = tokio::time::timeout(LOOKS, asked).await.map_err(|_| late(site))?;
    answer.map_err(|error| why(error, site))
}

/// Has pools of a site set to zero, each within five seconds, and all of them at once. What came of each.
///
/// # Errors
/// Why nobody could be asked.
pub async fn stop(sites: &SitesHandle, site: &str, pools: &[Pool]) -> Result<Set, Other> {
    let cluster = tokio::time::timeout(DEADLINE, sites.nodes(site)).await.map_err(|_| late(site))?;
    let cluster = cluster.map_err(|error| why(error, site))?;
    let all = pools.iter().map(async |pool| {
        let asked = tokio::time::timeout(LOOKS, cluster.stop(pool)).await;
        let done = asked.map_err(|_| late(site));
        let done = done.and_then(|done| done.map_err(|error| why(PeerError::Cloud(error), site)));
        (pool.name.clone(), done)
    });
    Ok(futures::future::join_all(all).await)
}

/// Looks for ever whether the cloud of whoever has authority could be asked; ends where the group does not ask for it.
pub async fn run(of: OfGroup) {
    if of.spec.fence.is_none() {
        return;
    }
    let mut due: Option<(String, Instant)> = None;
    for round in 0u32.. {
        let holder = of
            .own()
            .and_then(|own| own.holders.iter().find(|holder| **holder != *of.all.context.site).cloned());
        match holder.filter(|_| !of.holds()) {
            None => {
                due = None;
                of.found(|asked| asked.pools = None);
            }
            Some(site) if due.as_ref().is_some_and(|(of, at)| *of == site && *at > Instant::now()) => {}
            Some(site) => {
                let found = look(&of.all.peers, &site).await;
                let found = found.map(|nodes| nodes.never());
                let after = of.all.ends.every(if found.is_ok() { EVERY } else { AGAIN });
                due = Some((site.clone(), Instant::now() + after));
                of.found(|asked| asked.pools = Some(PoolsAsked { site, found }));
            }
        }
        of.all.rest(TICK, round).await;
    }
}

#[cfg(test)]
#[path = "pools_tests.rs"]
mod tests;
