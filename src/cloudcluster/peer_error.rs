//! Why a peer says nothing, in words that stay the same while the reason does.

use std::error::Error;
use std::io;
use std::time::Duration;

use crate::api::Problem;

/// Why a peer says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// Nobody has been asked yet.
    #[error("it has not been asked yet")]
    NotYet,
    /// There is no CloudCluster of that name.
    #[error("there is no CloudCluster {cluster} in namespace {namespace}; create it, with spec.kubeconfig")]
    NoSite {
        /// The cluster.
        cluster: String,
        /// The operator's own namespace.
        namespace: String,
    },
    /// The CloudCluster does not say how to reach it.
    #[error("the CloudCluster {0} does not say how to reach it; set spec.kubeconfig")]
    NoWay(String),
    /// The Secret, or the key in it, is missing.
    #[error("there is no {what}; put the kubeconfig of {cluster} there")]
    NoSecret {
        /// The cluster.
        cluster: String,
        /// What is missing.
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
    /// The peer gives no answer, or another one.
    #[error("{words}")]
    Answer {
        /// The word for a condition.
        reason: &'static str,
        /// What it says.
        words: String,
        /// Whether a person must act.
        stalled: bool,
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
        Self::answer("NoAnswer", format!("no answer within {} s", deadline.as_secs()), false)
    }

    fn answer(reason: &'static str, words: impl Into<String>, stalled: bool) -> Self {
        Self::Answer { reason, words: words.into(), stalled }
    }

    /// The word for a condition.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotYet => "NotAsked",
            Self::NoSite { .. } => "NoCloudCluster",
            Self::NoWay(_) => "NoKubeconfig",
            Self::NoSecret { .. } => "NoSecret",
            Self::Kubeconfig { .. } => "BadKubeconfig",
            Self::Own(_) => "Unknown",
            Self::Answer { reason, .. } => reason,
        }
    }

    /// Whether a person must act.
    pub fn is_stalled(&self) -> bool {
        match self {
            Self::NoSite { .. } | Self::NoWay(_) | Self::NoSecret { .. } | Self::Kubeconfig { .. } => true,
            Self::NotYet | Self::Own(_) => false,
            Self::Answer { stalled, .. } => *stalled,
        }
    }

    /// What an API server answered instead of a CanaryRollout.
    pub fn of(error: &kube::Error) -> Self {
        if let kube::Error::Api(status) = error {
            return match status.code {
                401 => Self::answer(
                    "Unauthorized",
                    "its API server does not accept the credentials (401); renew the kubeconfig in the Secret",
                    true,
                ),
                403 => Self::answer(
                    "Forbidden",
                    "the user of the kubeconfig may not read CanaryRollouts there (403); bind the ClusterRole \
                     banyan-peer to it in that cluster",
                    true,
                ),
                404 => Self::answer(
                    "NotInstalled",
                    "CanaryRollouts are not installed there (404); install Banyan",
                    true,
                ),
                429 => Self::answer("Busy", "its API server has too much to do (429)", false),
                code => Self::answer("Failing", format!("its API server answers with {code}"), false),
            };
        }
        let mut deepest: &dyn Error = error;
        let mut refused = false;
        loop {
            if let Some(error) = deepest.downcast_ref::<io::Error>() {
                refused |= error.kind() == io::ErrorKind::ConnectionRefused;
            }
            match deepest.source() {
                Some(source) => deepest = source,
                None => break,
            }
        }
        if refused {
            return Self::answer("Refused", "the connection is refused", false);
        }
        Self::answer("Unreachable", deepest.to_string(), false)
    }
}
