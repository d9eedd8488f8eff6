//! Amazon EKS: where a cluster is, its node groups, and tokens for it.

use std::time::SystemTime;

use aws_config::BehaviorVersion;
use aws_credential_types::Credentials;
use aws_sdk_eks::config::Region;
use aws_sdk_eks::config::retry::RetryConfig;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::future::BoxFuture;

use super::aws::{AccessKey, Source, life};
use super::{Addresses, CloudError, Cluster, Found, NodeGroup, Token, eks_token};
use crate::api::cloudcluster::EksAccess;
use crate::runtime::aws::{of_sdk, timeouts};
use crate::runtime::remote::{DEADLINE, RemoteError, within};

/// After so many pages of node groups it is given up: EKS has 30 groups in a cluster by default, and 100 on a page.
const PAGES: usize = 20;

/// A cluster of EKS.
pub struct Eks {
    pub(super) name: String,
    pub(super) region: String,
    address: Option<String>,
    pub(super) ec2: Option<String>,
    pub(super) source: Source,
}

impl Eks {
    /// One with credentials from a Secret, or of the Pod.
    pub fn new(access: &EksAccess, key: Option<AccessKey>, addresses: &Addresses) -> Self {
        let source = Source::new(&access.region, key, access.role_arn.clone(), addresses.sts.clone());
        Self {
            name: access.name.clone(),
            region: access.region.clone(),
            address: addresses.eks.clone(),
            ec2: addresses.ec2.clone(),
            source,
        }
    }

    async fn client(&self) -> Result<aws_sdk_eks::Client, CloudError> {
        self.client_with(self.source.credentials().await?)
    }

    pub(super) fn client_with(&self, credentials: Credentials) -> Result<aws_sdk_eks::Client, CloudError> {
        life(&credentials, SystemTime::now())?;
        let mut config = aws_sdk_eks::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(self.region.clone()))
            .credentials_provider(credentials)
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts());
        config.set_endpoint_url(self.address.clone());
        Ok(aws_sdk_eks::Client::from_conf(config.build()))
    }

    fn failed(&self, asked: &str, error: RemoteError) -> CloudError {
        let remedy = match error {
            RemoteError::Unauthorized => Some("renew the credentials"),
            RemoteError::Forbidden => {
                Some("allow the identity eks:DescribeCluster, eks:ListNodegroups and eks:DescribeNodegroup")
            }
            RemoteError::NotFound => Some("correct eks.name, eks.region or eks.roleArn"),
            _ => None,
        };
        let what = format!("Amazon EKS in {}, asked for {asked} of {}, says:", self.region, self.name);
        CloudError::Remote { what, error, remedy }
    }

    async fn describe(&self) -> Result<Found, CloudError> {
        let client = self.client().await?;
        let call = client.describe_cluster().name(&self.name);
        let failed = |error| self.failed("the address", error);
        let answer = within(DEADLINE, async { call.send().await.map_err(|error| of_sdk(&error)) });
        let cluster = answer.await.map_err(failed)?.cluster;
        let unreadable = |words: &str| failed(RemoteError::Unreadable(words.to_owned()));
        let cluster = cluster.ok_or_else(|| unreadable("it names no cluster"))?;
        let server = cluster.endpoint.filter(|server| !server.is_empty());
        let server = server.ok_or_else(|| unreadable("the cluster has no address yet"))?;
        let ca = match cluster
            .certificate_authority
            .and_then(|authority| authority.data)
            .filter(|data| !data.is_empty())
        {
            None => None,
            Some(data) => Some(pem(&data).ok_or_else(|| unreadable("its certificate is no text in base64"))?),
        };
        Ok(Found { server, ca, version: cluster.version.unwrap_or_default() })
    }

    async fn sign(&self) -> Result<Token, CloudError> {
        let credentials = self.source.credentials().await?;
        let now = SystemTime::now();
        let life = life(&credentials, now)?.map_or(eks_token::LIFE, |life| life.min(eks_token::LIFE));
        let value = eks_token::token(&self.name, &self.region, credentials, now).map_err(|error| {
            let remedy = "correct eks.name and eks.region".to_owned();
            CloudError::Credentials { message: format!("no token can be signed: {error}"), remedy }
        })?;
        Ok(Token::living(value, life))
    }

    /// The node groups that EKS manages. One that goes while they are read is left out.
    ///
    /// # Errors
    /// If EKS gives no answer, or refuses.
    pub async fn node_groups(&self) -> Result<Vec<NodeGroup>, CloudError> {
        let client = self.client().await?;
        let failed = |error| self.failed("the node groups", error);
        let (mut names, mut next) = (Vec::new(), None);
        for _ in 0..PAGES {
            let call = client.list_nodegroups().cluster_name(&self.name).set_next_token(next);
            let answer = within(DEADLINE, async { call.send().await.map_err(|error| of_sdk(&error)) });
            let page = answer.await.map_err(failed)?;
            names.extend(page.nodegroups.unwrap_or_default());
            next = page.next_token;
            if next.is_none() {
                break;
            }
        }
        let mut groups = Vec::new();
        for name in names {
            let call = client.describe_nodegroup().cluster_name(&self.name).nodegroup_name(&name);
            let answer = within(DEADLINE, async { call.send().await.map_err(|error| of_sdk(&error)) });
            let group = match answer.await {
                Ok(answer) => answer.nodegroup,
                Err(RemoteError::NotFound) => None,
                Err(error) => return Err(failed(error)),
            };
            let Some(group) = group else { continue };
            let size = group.scaling_config;
            let number =
                |value: Option<i32>| value.and_then(|value| u32::try_from(value).ok()).unwrap_or_default();
            groups.push(NodeGroup {
                name,
                least: number(size.as_ref().and_then(|size| size.min_size)),
                nodes: number(size.as_ref().and_then(|size| size.desired_size)),
                most: number(size.as_ref().and_then(|size| size.max_size)),
            });
        }
        Ok(groups)
    }
}

/// The certificates that a cloud tells in base64.
pub(super) fn pem(data: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(data.trim()).ok()?).ok()
}

impl Cluster for Eks {
    fn find(&self) -> BoxFuture<'_, Result<Found, CloudError>> {
        Box::pin(self.describe())
    }

    fn token(&self) -> BoxFuture<'_, Result<Token, CloudError>> {
        Box::pin(self.sign())
    }
}

#[cfg(test)]
#[path = "eks_tests.rs"]
mod tests;
