//! Why a peer says nothing, in words that stay the same while the reason does.

use std::error::Error;
use std::io;
use std::time::Duration;

use http::HeaderMap;
use tokio::time::error::Elapsed;

use crate::api::Problem;
use crate::api::cloudcluster::WayKind;
use crate::clouds::CloudError;
use crate::runtime::remote::{DEADLINE, RemoteError};

/// Why a peer says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// Nobody has been asked yet.
    #[error("it has not been asked yet")]
    NotYet,
    /// There is no CloudCluster of that name.
    #[error("there is no CloudCluster {cluster} in namespace {namespace}; create it, with spec.access")]
    NoSite {
        /// The cluster.
        cluster: String,
        /// The operator's own namespace.
        namespace: String,
    },
    /// The CloudCluster does not say how to reach it.
    #[error("the CloudCluster {0} does not say how to reach it; set spec.access")]
    NoWay(String),
    /// The CloudCluster names no cloud that could be asked for the nodes, or more than one cluster.
    #[error(
        "the CloudCluster {0} does not say in which cloud its nodes are; add one way to spec.access, eks or gke, that names \
         its cluster there"
    )]
    NoCloud(String),
    /// The Secret, or the key in it, is missing.
    #[error("there is no {missing}; put {what} there")]
    NoSecret {
        /// What is missing.
        missing: String,
        /// What is to be put there.
        what: String,
    },
    /// The kubeconfig cannot be used.
    #[error("{message}; {remedy}")]
    Kubeconfig {
        /// What is wrong.
        message: String,
        /// What to do about it.
        remedy: String,
    },
    /// This cluster's own API server gives no answer about the peer.
    #[error("this cluster's own API server: {0}")]
    Own(String),
    /// The cloud does not tell where the peer is, or gives no token for it. It says nothing about the peer itself.
    #[error("{0}")]
    Cloud(CloudError),
    /// The peer gives no answer, or another one.
    #[error("{words}")]
    Answer {
        /// What it is.
        error: RemoteError,
        /// In words, with the remedy where there is one.
        words: String,
    },
}

impl From<Problem> for PeerError {
    fn from(problem: Problem) -> Self {
        Self::Kubeconfig { message: problem.message, remedy: problem.remedy }
    }
}

impl PeerError {
    /// No answer in time.
    pub fn timeout(deadline: Duration) -> Self {
        Self::from(RemoteError::NoAnswer(deadline))
    }

    /// A peer that answered so, in those words.
    pub fn answered(error: RemoteError, words: impl Into<String>) -> Self {
        Self::Answer { error, words: words.into() }
    }

    /// The word for a condition.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotYet => "NotAsked",
            Self::NoSite { .. } => "NoCloudCluster",
            Self::NoWay(_) | Self::NoCloud(_) => "NoAccess",
            Self::NoSecret { .. } => "NoSecret",
            Self::Kubeconfig { .. } => "BadKubeconfig",
            Self::Own(_) => "Unknown",
            Self::Cloud(error) => error.reason(),
            Self::Answer { error, .. } => error.reason(),
        }
    }

    /// Whether a person must act.
    pub fn is_stalled(&self) -> bool {
        match self {
            Self::NoSite { .. }
            | Self::NoWay(_)
            | Self::NoCloud(_)
            | Self::NoSecret { .. }
            | Self::Kubeconfig { .. } => true,
            Self::NotYet | Self::Own(_) => false,
            Self::Cloud(error) => error.is_stalled(),
            Self::Answer { error, .. } => error.is_stalled() || matches!(error, RemoteError::Unreadable(_)),
        }
    }

    /// Whether the peer itself was asked and gave no sign of life.
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::Answer { error, .. } if error.is_silence())
    }

    /// Whether the peer itself was asked and answered, if only to refuse us.
    pub fn is_answer(&self) -> bool {
        matches!(self, Self::Answer { error, .. } if !error.is_silence())
    }

    /// Whether what was to be written was changed meanwhile by somebody else.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Answer { error: RemoteError::Conflict(_), .. })
    }

    /// Whether it is certain, and about what people here have written: no time heals it.
    pub fn is_ours(&self) -> bool {
        match self {
            Self::NoSite { .. }
            | Self::NoWay(_)
            | Self::NoCloud(_)
            | Self::NoSecret { .. }
            | Self::Kubeconfig { .. } => true,
            Self::Cloud(error) => matches!(error, CloudError::Credentials { .. }),
            Self::NotYet | Self::Own(_) | Self::Answer { .. } => false,
        }
    }

    /// What an API server answered by a way of that kind.
    pub fn of(error: &kube::Error, way: WayKind) -> Self {
        let error = remote(error);
        let words = match (&error, way) {
            (RemoteError::Unauthorized, WayKind::Kubeconfig) => {
                "its API server does not accept the credentials (401); renew the kubeconfig in the Secret"
            }
            (RemoteError::Unauthorized, WayKind::Eks) => {
                "its API server does not accept the token of AWS (401); give that role an access entry of the EKS cluster"
            }
            (RemoteError::Unauthorized, WayKind::Gke) => {
                "its API server does not accept Google's access token (401); give that account the role \
                 roles/container.clusterViewer in the project"
            }
            (RemoteError::Forbidden, _) => {
                "the user that we are there may not read this (403); bind the ClusterRole banyan-peer to it in that \
                 cluster"
            }
            (RemoteError::NotFound, _) => "this kind of object is not installed there (404); install Banyan",
            (RemoteError::Busy { .. }, _) => "its API server has too much to do (429)",
            (RemoteError::Failing(code), _) => {
                return Self::answered(error.clone(), format!("its API server answers with {code}"));
            }
            _ => return Self::from(error),
        };
        Self::answered(error, words)
    }
}

impl From<RemoteError> for PeerError {
    fn from(error: RemoteError) -> Self {
        let words = error.to_string();
        Self::Answer { error, words }
    }
}

impl From<CloudError> for PeerError {
    fn from(error: CloudError) -> Self {
        Self::Cloud(error)
    }
}

/// The peer did not begin to answer in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {} s", DEADLINE.as_secs())]
pub struct NoAnswer;

/// There is no token that lives, so nobody was asked.
#[derive(Debug, thiserror::Error)]
#[error("there is no token that has not ended")]
pub struct NoToken;

/// What an error of a client of Kubernetes means.
pub fn remote(error: &kube::Error) -> RemoteError {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        // A connection that is not made in time fails by a clock of its own, which is as long as ours.
        let is_late =
            error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut);
        if is_late || error.is::<NoAnswer>() || error.is::<Elapsed>() {
            return RemoteError::NoAnswer(DEADLINE);
        }
        if error.is::<NoToken>() {
            return RemoteError::Unauthorized;
        }
        cause = error.source();
    }
    match error {
        kube::Error::Api(status) => RemoteError::of_status(status.code, &HeaderMap::new(), &status.message),
        kube::Error::SerdeError(error) => RemoteError::Unreadable(error.to_string()),
        error => RemoteError::of_connection(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_it_is_late_it_is_no_answer() {
        let of = |error: Box<dyn Error + Send + Sync>| remote(&kube::Error::Service(error));
        for late in [
            of(Box::new(io::Error::new(io::ErrorKind::TimedOut, "deadline has elapsed"))),
            of(Box::new(NoAnswer)),
        ] {
            assert_eq!(late, RemoteError::NoAnswer(DEADLINE));
        }
        assert_eq!(of(Box::new(NoToken)), RemoteError::Unauthorized, "nobody was asked, so nobody is silent");
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(of(Box::new(refused)), RemoteError::NobodyListens);
    }
}
