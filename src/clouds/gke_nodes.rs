//! The nodes of a cluster of GKE: its node pools, and the machines that Compute Engine has of each.
//!
//! GKE itself does not tell how many nodes a pool has: what it was begun with is all that a pool says. The instance groups of
//! the pool tell, each in its zone.

use futures::future::{BoxFuture, try_join_all};
use google_cloud_container_v1::model::node_pool::Status;
use google_cloud_container_v1::model::{Cluster, NodePool, NodePoolAutoscaling};
use google_cloud_gax::options::RequestOptionsBuilder;
use serde::Deserialize;
use serde_json::Value;

use super::gke::{Gke, NAME, of_google};
use super::nodes::{Nodes, Other, Pool};
use super::{CloudError, HasNodes, Token};
use crate::runtime::fetch::{builder, whole};
use crate::runtime::remote::{DEADLINE, RemoteError, within};

/// Where Compute Engine is.
const COMPUTE: &str = "https://compute.googleapis.com";
/// The largest answer of Compute Engine that is read.
const LARGEST: usize = 1 << 20;

const READ: &str = "grant the account roles/container.clusterViewer in the project (container.clusters.get)";
const WRITE: &str =
    "grant the account container.clusters.update in the project, such as by roles/container.clusterAdmin";
const MACHINES: &str =
    "grant the account roles/compute.viewer in the project (compute.instanceGroupManagers.get)";

/// A managed instance group, as far as it tells of machines. What is missing of it is no answer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    /// How many machines it is to have.
    target_size: u32,
    /// How many machines there are of which something is being done, by what; those with which nothing is, too.
    current_actions: std::collections::BTreeMap<String, u32>,
    /// Machines that are kept to be started again.
    #[serde(default)]
    target_stopped_size: u32,
    #[serde(default)]
    target_suspended_size: u32,
}

/// What may bring nodes back beside what its pools say, or of which these do not tell.
fn others(cluster: &Cluster) -> Vec<Other> {
    let mut found = Vec::new();
    if cluster.autopilot.as_ref().is_some_and(|autopilot| autopilot.enabled) {
        found.push(Other::new(
            "it is an Autopilot cluster, which adds nodes by itself",
            "see that nobody writes there, and say so: it cannot be confirmed for an Autopilot cluster",
        ));
    }
    let scales = cluster.autoscaling.as_ref();
    if scales.is_some_and(|scales| scales.enable_node_autoprovisioning) {
        found.push(Other::new(
            "node auto-provisioning makes new node pools by itself",
            "turn it off (`gcloud container clusters update … --no-enable-autoprovisioning`), or see that nobody writes \
             there, and say so",
        ));
    }
    let classes = scales.and_then(|scales| scales.default_compute_class_config.as_ref());
    if classes.is_some_and(|classes| classes.enabled) {
        found.push(Other::new(
            "its default compute class makes new node pools by itself",
            "turn it off, or see that nobody writes there, and say so",
        ));
    }
    found
}

/// Where an instance group is told of, by the path of the address that GKE tells. Only that: whatever else stands there,
/// our token is sent to Compute Engine alone.
fn path(url: &str) -> Option<String> {
    let (_, path) = url.split_once("/projects/")?;
    let parts: Vec<&str> = path.split('/').collect();
    let plain = |part: &&str| {
        let mut bytes = part.bytes();
        !part.is_empty() && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
    };
    let known = matches!(parts[..], [_, "zones", _, "instanceGroupManagers", _]);
    (known && parts.iter().all(|part| plain(part) && *part != ".."))
        .then(|| format!("/compute/v1/projects/{path}"))
}

impl Gke {
    fn says(&self, of: &str, asked: &str, error: RemoteError, right: &'static str) -> CloudError {
        let what = format!("{of}, asked for {asked} of {}, says:", self.name);
        CloudError::says(what, error, right, (of == "GKE").then_some(NAME))
    }

    fn failed_nodes(&self, error: RemoteError) -> CloudError {
        self.says("GKE", "the nodes", error, READ)
    }

    async fn group(&self, http: &reqwest::Client, token: &Token, url: &str) -> Result<Group, RemoteError> {
        let path = path(url)
            .ok_or_else(|| RemoteError::unreadable("an instance group has no address that is known"))?;
        let base = self.compute.as_deref().unwrap_or(COMPUTE);
        let request = http.get(format!("{base}{path}")).bearer_auth(&token.value);
        let answer = within(DEADLINE, async { Ok(whole(request, LARGEST).await?) }).await?;
        if !answer.status.is_success() {
            // What it says may repeat what was sent.
            let said: Option<Value> = serde_json::from_slice(&answer.body).ok();
            let word = said.as_ref().and_then(|said| said["error"]["status"].as_str()).unwrap_or_default();
            let word: String =
                word.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(60).collect();
            return Err(answer.bad(&word));
        }
        serde_json::from_slice(&answer.body)
            .map_err(|_| RemoteError::unreadable("it broke off, or is of another form"))
    }

    /// A pool, and how many machines it has still.
    async fn pool(
        &self,
        http: &reqwest::Client,
        token: &Token,
        pool: &NodePool,
    ) -> Result<(Pool, u32), CloudError> {
        let says = |error| self.says("Compute Engine", "the machines", error, MACHINES);
        if pool.instance_group_urls.is_empty() {
            let words = format!("node pool {} names no instance group", pool.name);
            return Err(self.failed_nodes(RemoteError::unreadable(words)));
        }
        let groups = pool.instance_group_urls.iter().map(|url| self.group(http, token, url));
        let groups = try_join_all(groups).await.map_err(says)?;
        let sum = |of: fn(&Group) -> u32| groups.iter().map(of).fold(0, u32::saturating_add);
        let kept = |group: &Group| group.target_stopped_size.saturating_add(group.target_suspended_size);
        let left = sum(|group| group.current_actions.values().copied().fold(0, u32::saturating_add));
        let nodes = sum(|group| group.target_size);
        let left = left.saturating_add(groups.iter().map(kept).fold(0, u32::saturating_add));
        // A size is told to GKE for each zone.
        let each = groups.iter().map(|group| group.target_size).max().unwrap_or_default();
        let scaling = pool.autoscaling.as_ref().filter(|scaling| scaling.enabled);
        let number = |value: i32| u32::try_from(value).unwrap_or_default();
        let bound = |all: fn(&NodePoolAutoscaling) -> (i32, i32)| {
            scaling.map_or(0, |scaling| {
                let (whole, zone) = all(scaling);
                number(whole).max(number(zone))
            })
        };
        let made = Pool {
            name: pool.name.clone(),
            nodes,
            least: bound(|scaling| (scaling.total_min_node_count, scaling.min_node_count)),
            most: bound(|scaling| (scaling.total_max_node_count, scaling.max_node_count)).max(nodes),
            scales: scaling.is_some(),
            changing: pool.status != Status::Running,
            restore: self.restore(&pool.name, each, scaling),
        };
        Ok((made, left))
    }

    /// The command that gives a pool its size back.
    fn restore(&self, pool: &str, each: u32, scaling: Option<&NodePoolAutoscaling>) -> String {
        let parts: Vec<&str> = self.name.split('/').collect();
        let (project, location, name) = match parts[..] {
            [_, project, _, location, _, name] => (project, location, name),
            _ => ("…", "…", self.name.as_str()),
        };
        let at = format!("--location {location} --project {project}");
        let resize = format!(
            "gcloud container clusters resize {name} --node-pool {pool} --num-nodes {each} {at} --quiet"
        );
        let Some(scaling) = scaling else { return resize };
        let (least, most) = (scaling.total_min_node_count, scaling.total_max_node_count);
        let bounds = match most > 0 {
            true => format!("--total-min-nodes {least} --total-max-nodes {most}"),
            false => format!("--min-nodes {} --max-nodes {}", scaling.min_node_count, scaling.max_node_count),
        };
        format!(
            "{resize} && gcloud container clusters update {name} --node-pool {pool} --enable-autoscaling {bounds} {at}"
        )
    }

    async fn look(&self) -> Result<Nodes, CloudError> {
        let token = self.google.token().await?;
        let client = self.client_with(&token).await?;
        let call = client.get_cluster().set_name(&self.name).with_attempt_timeout(DEADLINE);
        let answer = within(DEADLINE, async { call.send().await.map_err(|error| of_google(&error)) });
        let cluster = answer.await.map_err(|error| self.failed_nodes(error))?;
        if cluster.name.is_empty() {
            return Err(self.failed_nodes(RemoteError::unreadable("it names no cluster")));
        }
        let others = others(&cluster);
        // Whatever its pools say, it is never known.
        let asked = if others.is_empty() { cluster.node_pools.as_slice() } else { &[] };
        let http = builder()
            .build()
            .map_err(|_| self.failed_nodes(RemoteError::unreadable("there is no client for HTTP")))?;
        let found = try_join_all(asked.iter().map(|pool| self.pool(&http, &token, pool))).await?;
        Ok(Nodes {
            cluster: format!("GKE cluster {}", self.name),
            called: "node pools",
            left: found.iter().map(|(_, left)| *left).fold(0, u32::saturating_add),
            pools: found.into_iter().map(|(pool, _)| pool).collect(),
            others,
        })
    }

    /// Its autoscaler is turned off first: it would bring nodes back that pods wait for. GKE takes one change of a pool at a
    /// time, so that the other one comes with the next call.
    async fn scale_to_zero(&self, pool: &Pool) -> Result<(), CloudError> {
        let client = self.client_with(&self.google.token().await?).await?;
        let name = format!("{}/nodePools/{}", self.name, pool.name);
        let sent = async {
            let done = match pool.scales {
                true => {
                    let call = client.set_node_pool_autoscaling().set_name(name);
                    let call = call.set_autoscaling(NodePoolAutoscaling::new().set_enabled(false));
                    call.with_attempt_timeout(DEADLINE).send().await
                }
                false => {
                    let call = client.set_node_pool_size().set_name(name).set_node_count(0);
                    call.with_attempt_timeout(DEADLINE).send().await
                }
            };
            done.map(drop).map_err(|error| of_google(&error))
        };
        let asked = format!("node pool {} at zero", pool.name);
        within(DEADLINE, sent).await.map_err(|error| self.says("GKE", &asked, error, WRITE))
    }
}

impl HasNodes for Gke {
    fn nodes(&self) -> BoxFuture<'_, Result<Nodes, CloudError>> {
        Box::pin(self.look())
    }

    fn stop<'a>(&'a self, pool: &'a Pool) -> BoxFuture<'a, Result<(), CloudError>> {
        Box::pin(self.scale_to_zero(pool))
    }
}

#[cfg(test)]
#[path = "gke_nodes_tests.rs"]
mod tests;
