//! Amazon EKS: where a cluster is, and tokens for it.

use std::time::SystemTime;

use aws_config::BehaviorVersion;
use aws_credential_types::Credentials;
use aws_sdk_eks::config::Region;
use aws_sdk_eks::config::retry::RetryConfig;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::future::BoxFuture;

use super::aws::{AccessKey, Source, life};
use super::{Addresses, CloudError, Cluster, Found, Token, eks_token};
use crate::api::cloudcluster::EksAccess;
use crate::runtime::aws::{of_sdk, timeouts};
use crate::runtime::remote::{DEADLINE, RemoteError, within};

const READ: &str = "allow the identity eks:DescribeCluster, eks:ListNodegroups and eks:DescribeNodegroup";

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

    /// What a service of AWS says that was asked for something of the cluster. `right` is what grants it.
    pub(super) fn says(&self, of: &str, asked: &str, error: RemoteError, right: &'static str) -> CloudError {
        let what = format!("Amazon {of} in {}, asked for {asked} of {}, says:", self.region, self.name);
        let name = (of == "EKS").then_some("correct eks.name, eks.region or eks.roleArn");
        CloudError::says(what, error, right, name)
    }

    async fn describe(&self) -> Result<Found, CloudError> {
        let client = self.client().await?;
        let call = client.describe_cluster().name(&self.name);
        let failed = |error| self.says("EKS", "the address", error, READ);
        let answer = within(DEADLINE, async { call.send().await.map_err(|error| of_sdk(&error)) });
        let cluster = answer.await.map_err(failed)?.cluster;
        let unreadable = |words: &str| failed(RemoteError::unreadable(words));
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
