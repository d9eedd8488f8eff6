//! The nodes of a cluster of Amazon EKS: its managed node groups, and the machines that EC2 has of it.
//!
//! EKS allows no `maxSize` of zero, so that a group that is wanted at zero and may be at zero is as far down as it can be
//! said. What raises it again, such as the cluster-autoscaler, runs in the cluster, and so not without a node.

use std::time::SystemTime;

use aws_sdk_eks::Client;
use aws_sdk_eks::types::{Cluster, Nodegroup, NodegroupScalingConfig, NodegroupStatus};
use futures::future::{BoxFuture, try_join_all};

use super::aws::life;
use super::ec2::Ec2;
use super::eks::Eks;
use super::nodes::{Nodes, Other, Pool};
use super::{CloudError, HasNodes};
use crate::runtime::aws::of_sdk;
use crate::runtime::remote::{DEADLINE, RemoteError, within};

/// After so many pages of names it is given up, and nothing is known.
const PAGES: usize = 20;
/// The most values of one filter of EC2.
const FILTER: usize = 200;

const READ: &str = "allow the identity eks:DescribeCluster, eks:ListNodegroups, eks:DescribeNodegroup and eks:ListFargateProfiles";
const WRITE: &str = "allow the identity eks:UpdateNodegroupConfig";
const MACHINES: &str = "allow the identity ec2:DescribeInstances";

/// What may run in a cluster beside its node groups, or bring nodes that these do not tell of.
fn others(cluster: &Cluster, fargate: &[String]) -> Vec<Other> {
    let mut found = Vec::new();
    if let Some(name) = fargate.first() {
        found.push(Other::new(
            format!("pods may run on Fargate, by its profile {name}"),
            "delete its Fargate profiles, or see that nobody writes there, and say so",
        ));
    }
    if cluster.compute_config().and_then(|config| config.enabled()) == Some(true) {
        found.push(Other::new(
            "EKS Auto Mode adds nodes by itself",
            "see that nobody writes there, and say so: it cannot be confirmed for a cluster in Auto Mode",
        ));
    }
    if cluster.remote_network_config().is_some() {
        found.push(Other::new(
            "it may have hybrid nodes, of which EKS does not tell",
            "see that nobody writes there, and say so: it cannot be confirmed for a cluster with hybrid nodes",
        ));
    }
    if cluster.outpost_config().is_some() || cluster.connector_config().is_some() {
        found.push(Other::new(
            "it runs outside of AWS' regions, and may be cut off from what AWS tells",
            "see that nobody writes there, and say so: it cannot be confirmed for such a cluster",
        ));
    }
    found
}

/// The name of the Auto Scaling group of a node group.
fn scaling_groups(group: &Nodegroup) -> impl Iterator<Item = &str> {
    let all = group.resources().map(|resources| resources.auto_scaling_groups()).unwrap_or_default();
    all.iter().filter_map(|one| one.name())
}

impl Eks {
    fn failed_nodes(&self, error: RemoteError) -> CloudError {
        self.says("EKS", "the nodes", error, READ)
    }

    async fn cluster(&self, client: &Client) -> Result<Cluster, CloudError> {
        let call = client.describe_cluster().name(&self.name);
        let answer = within(DEADLINE, async { call.send().await.map_err(|error| of_sdk(&error)) });
        let cluster = answer.await.map_err(|error| self.failed_nodes(error))?.cluster;
        cluster.ok_or_else(|| self.failed_nodes(RemoteError::unreadable("it names no cluster")))
    }

    /// All names that are listed page by page. A page without a list is no answer.
    async fn names<F>(
        &self,
        lists: &str,
        page: impl Fn(Option<String>) -> F,
    ) -> Result<Vec<String>, CloudError>
    where
        F: Future<Output = Result<(Option<Vec<String>>, Option<String>), RemoteError>>,
    {
        let (mut names, mut next) = (Vec::new(), None);
        for _ in 0..PAGES {
            let (told, more) =
                within(DEADLINE, page(next)).await.map_err(|error| self.failed_nodes(error))?;
            let none = || self.failed_nodes(RemoteError::unreadable(format!("it lists no {lists}")));
            names.extend(told.ok_or_else(none)?);
            next = more;
            if next.is_none() {
                return Ok(names);
            }
        }
        Err(self.failed_nodes(RemoteError::unreadable("it has more pages than are read")))
    }

    async fn fargate(&self, client: &Client) -> Result<Vec<String>, CloudError> {
        let page = |next| async move {
            let call = client.list_fargate_profiles().cluster_name(&self.name).set_next_token(next);
            let page = call.send().await.map_err(|error| of_sdk(&error))?;
            Ok((page.fargate_profile_names, page.next_token))
        };
        self.names("profiles", page).await
    }

    async fn group_names(&self, client: &Client) -> Result<Vec<String>, CloudError> {
        let page = |next| async move {
            let call = client.list_nodegroups().cluster_name(&self.name).set_next_token(next);
            let page = call.send().await.map_err(|error| of_sdk(&error))?;
            Ok((page.nodegroups, page.next_token))
        };
        self.names("node groups", page).await
    }

    /// One that goes while it is read is no answer: what it had may be there still.
    async fn group(&self, client: &Client, name: &str) -> Result<Nodegroup, CloudError> {
        let call = client.describe_nodegroup().cluster_name(&self.name).nodegroup_name(name);
        let answer = within(DEADLINE, async { call.send().await.map_err(|error| of_sdk(&error)) });
        let group = answer.await.map_err(|error| self.failed_nodes(error))?.nodegroup;
        group.ok_or_else(|| {
            self.failed_nodes(RemoteError::unreadable(format!("it does not tell of node group {name}")))
        })
    }

    /// What a node group says of itself; a number that it does not say is no number.
    fn pool(&self, name: &str, group: &Nodegroup) -> Result<Pool, RemoteError> {
        let size = group.scaling_config();
        let number = |value: Option<i32>| {
            let value = value.and_then(|value| u32::try_from(value).ok());
            value.ok_or_else(|| RemoteError::unreadable(format!("node group {name} does not say its size")))
        };
        let least = number(size.and_then(|size| size.min_size()))?;
        let nodes = number(size.and_then(|size| size.desired_size()))?;
        let most = number(size.and_then(|size| size.max_size()))?;
        let settled = matches!(group.status(), Some(NodegroupStatus::Active | NodegroupStatus::Degraded));
        if settled && scaling_groups(group).next().is_none() {
            return Err(RemoteError::unreadable(format!(
                "node group {name} does not say by what its nodes are scaled"
            )));
        }
        let restore = format!(
            "aws eks update-nodegroup-config --cluster-name {} --nodegroup-name {name} --scaling-config \
             minSize={least},maxSize={most},desiredSize={nodes} --region {}",
            self.name, self.region
        );
        Ok(Pool { name: name.to_owned(), nodes, least, most, scales: false, changing: !settled, restore })
    }

    async fn left(&self, ec2: &Ec2, filter: &str, values: &[String]) -> Result<Vec<String>, CloudError> {
        let found = ec2.machines(filter, values).await;
        found.map_err(|error| self.says("EC2", "the machines", error, MACHINES))
    }

    async fn look(&self) -> Result<Nodes, CloudError> {
        let credentials = self.source.credentials().await?;
        life(&credentials, SystemTime::now())?;
        let ec2 = Ec2::new(self.ec2.as_deref(), &self.region, credentials.clone())
            .map_err(|error| self.says("EC2", "the machines", error, MACHINES))?;
        let client = self.client_with(credentials)?;
        // All that belongs to the cluster bears this, whoever started it: nodes do not join without it.
        let mark = [format!("kubernetes.io/cluster/{}", self.name)];
        let (cluster, fargate, names) =
            tokio::try_join!(self.cluster(&client), self.fargate(&client), self.group_names(&client))?;
        let groups = try_join_all(names.iter().map(|name| self.group(&client, name))).await?;
        let pools = names.iter().zip(&groups).map(|(name, group)| self.pool(name, group));
        let pools: Vec<Pool> = pools.collect::<Result<_, _>>().map_err(|error| self.failed_nodes(error))?;
        // Last, so that what a group still started when it was read is seen.
        let scaled: Vec<String> = groups.iter().flat_map(scaling_groups).map(str::to_owned).collect();
        let mut left = self.left(&ec2, "tag-key", &mark).await?;
        for some in scaled.chunks(FILTER) {
            left.extend(self.left(&ec2, "tag:aws:autoscaling:groupName", some).await?);
        }
        left.sort_unstable();
        left.dedup();
        Ok(Nodes {
            cluster: format!("Amazon EKS cluster {} in {}", self.name, self.region),
            called: "node groups",
            pools,
            left: u32::try_from(left.len()).unwrap_or(u32::MAX),
            others: others(&cluster, &fargate),
        })
    }

    async fn scale_to_zero(&self, pool: &Pool) -> Result<(), CloudError> {
        let client = self.client_with(self.source.credentials().await?)?;
        let most = i32::try_from(pool.most.max(1)).unwrap_or(i32::MAX);
        let size = NodegroupScalingConfig::builder().min_size(0).desired_size(0).max_size(most).build();
        let call = client.update_nodegroup_config().cluster_name(&self.name).nodegroup_name(&pool.name);
        let call = call.scaling_config(size);
        let answer = within(DEADLINE, async { call.send().await.map_err(|error| of_sdk(&error)) });
        let asked = format!("node group {} at zero", pool.name);
        answer.await.map(drop).map_err(|error| self.says("EKS", &asked, error, WRITE))
    }
}

impl HasNodes for Eks {
    fn nodes(&self) -> BoxFuture<'_, Result<Nodes, CloudError>> {
        Box::pin(self.look())
    }

    fn stop<'a>(&'a self, pool: &'a Pool) -> BoxFuture<'a, Result<(), CloudError>> {
        Box::pin(self.scale_to_zero(pool))
    }
}

#[cfg(test)]
#[path = "eks_nodes_tests.rs"]
mod tests;
