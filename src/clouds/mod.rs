//! Clouds, as far as a cluster in them must be found and entered: where its API server is, and a token for it.
//!
//! | file | what it is for |
//! |---|---|
//! | [`tokens`] | keeps a token fresh |
//! | [`aws`], [`eks`], [`eks_token`] | Amazon EKS |
//! | [`google`], [`gke`] | Google's access tokens, and Google Kubernetes Engine |
//! | [`nodes`] | what a cloud says of the nodes of a cluster, and what follows from it; pure |
//! | [`eks_nodes`], [`ec2`] | the nodes of a cluster of EKS, and its machines |
//! | [`gke_nodes`] | the nodes of a cluster of GKE |
//!
//! Nothing here runs a program, whatever credentials ask for. What holds a secret hides it from `Debug`.

use std::fmt;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::Instant;

use self::nodes::{Nodes, Pool};
use crate::runtime::remote::RemoteError;

pub mod aws;
mod ec2;
pub mod eks;
mod eks_nodes;
pub mod eks_token;
pub mod gke;
mod gke_nodes;
pub mod google;
pub mod nodes;
pub mod tokens;

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod pod_tests;

/// Where a cluster is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The address of its API server, such as `https://10.0.0.1`.
    pub server: String,
    /// The certificates that vouch for it, in PEM; those of public authorities where it is `None`.
    pub ca: Option<String>,
    /// The version of Kubernetes, as the cloud writes it, such as `1.36`.
    pub version: String,
}

/// A token, and when it ends.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// What the API server is shown.
    pub value: String,
    /// When it was made.
    pub made: Instant,
    /// When it ends.
    pub ends: Instant,
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Token")
            .field("made", &self.made)
            .field("ends", &self.ends)
            .finish_non_exhaustive()
    }
}

impl Token {
    /// One that was made now and lives so long.
    pub fn living(value: String, life: Duration) -> Self {
        Self::living_since(Instant::now(), value, life)
    }

    /// One that was asked for then and lives so long. How long the answer took counts against it.
    pub fn living_since(asked: Instant, value: String, life: Duration) -> Self {
        Self { value, made: asked, ends: asked + life }
    }
}

/// Why a cloud does not tell what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloudError {
    /// It gives no answer, or another one.
    #[error("{what} {error}{}", .remedy.map(|remedy| format!("; {remedy}")).unwrap_or_default())]
    Remote {
        /// Who was asked for what, such as `Amazon EKS, asked where the cluster prod is, says:`.
        what: String,
        /// What came of it.
        error: RemoteError,
        /// What to do about it, if a person can.
        remedy: Option<&'static str>,
    },
    /// The credentials are not such that they can be used.
    #[error("{message}; {remedy}")]
    Credentials {
        /// What is wrong.
        message: String,
        /// What to do about it.
        remedy: String,
    },
}

impl CloudError {
    /// What a cloud says that was asked for something: `right` is what grants it, and `name` what is to be corrected where
    /// there is no such thing.
    fn says(what: String, error: RemoteError, right: &'static str, name: Option<&'static str>) -> Self {
        let remedy = match error {
            RemoteError::Unauthorized => Some("renew the credentials"),
            RemoteError::Forbidden => Some(right),
            RemoteError::NotFound => name,
            _ => None,
        };
        Self::Remote { what, error, remedy }
    }

    /// The word for a condition.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Credentials { .. } => "BadCredentials",
            Self::Remote { error, .. } => match error {
                RemoteError::Unauthorized => "CloudUnauthorized",
                RemoteError::Forbidden => "CloudForbidden",
                RemoteError::NotFound => "CloudNotFound",
                RemoteError::Busy { .. } => "CloudBusy",
                _ => "CloudFails",
            },
        }
    }

    /// Whether a person must act.
    pub fn is_stalled(&self) -> bool {
        match self {
            Self::Credentials { .. } => true,
            Self::Remote { error, .. } => error.is_stalled(),
        }
    }

    /// After which time it may be asked again, where it has said so.
    pub fn after(&self) -> Option<Duration> {
        match self {
            Self::Remote { error: RemoteError::Busy { after }, .. } => *after,
            _ => None,
        }
    }
}

/// A cluster in a cloud.
pub trait Cluster: Send + Sync {
    /// Where it is.
    fn find(&self) -> BoxFuture<'_, Result<Found, CloudError>>;

    /// A new token for it.
    fn token(&self) -> BoxFuture<'_, Result<Token, CloudError>>;
}

/// A cluster whose nodes its cloud adds and takes away.
pub trait HasNodes: Cluster {
    /// What the cloud says of its nodes now.
    fn nodes(&self) -> BoxFuture<'_, Result<Nodes, CloudError>>;

    /// Sets a pool to zero, and to stay there, or takes the next step to that. Asked again it does no more. It does not
    /// wait until the nodes are gone.
    fn stop<'a>(&'a self, pool: &'a Pool) -> BoxFuture<'a, Result<(), CloudError>>;
}

/// Where the clouds' own APIs are, where they are not in their usual places: for private links and local ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// The address of EKS, in all regions.
    pub eks: Option<String>,
    /// The address of AWS' STS, in all regions.
    pub sts: Option<String>,
    /// The address of GKE.
    pub gke: Option<String>,
    /// The address of Amazon EC2, in all regions.
    pub ec2: Option<String>,
    /// The address of Google's Compute Engine.
    pub compute: Option<String>,
}
