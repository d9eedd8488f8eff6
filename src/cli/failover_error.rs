//! Why `banyan failover` did not do what was asked.

use super::api_error::words;
use crate::runtime::client::ClientError;

/// Why it could not be shown, or is not so.
#[derive(Debug, thiserror::Error)]
pub enum FailoverError {
    /// There is no way to the API server.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The API server does not answer as it should.
    #[error("{what} in namespace {namespace}: {}", words(.source))]
    Api {
        /// Of what.
        what: &'static str,
        /// Where.
        namespace: String,
        /// What it says.
        source: Box<kube::Error>,
    },
    /// There is none.
    #[error(
        "there is no {kind} {name} in namespace {namespace}; those that are there: `kubectl get {} -n {namespace}`", .kind.to_lowercase() + "s"
    )]
    Absent {
        /// The kind.
        kind: &'static str,
        /// What was asked for.
        name: String,
        /// Where.
        namespace: String,
    },
    /// Not everything is ready; it has been printed.
    #[error("not ready: {0}")]
    NotReady(String),
    /// The call itself is wrong.
    #[error("{0}")]
    Usage(String),
    /// What was said is refused.
    #[error("{verb} of {name} is refused: {why}")]
    Refused {
        /// What.
        verb: &'static str,
        /// To what.
        name: String,
        /// Why.
        why: String,
    },
    /// Nobody has answered.
    #[error(
        "no operator has answered the Action {action} within {seconds} s; is the operator of this cluster running? The Action stays: see `kubectl get action {action}`"
    )]
    Unanswered {
        /// Its name.
        action: String,
        /// How long was waited.
        seconds: u64,
    },
    /// It is over, and nothing has moved.
    #[error("{name} has not moved anything: {phase}")]
    NotMoved {
        /// The Failover.
        name: String,
        /// How it ended.
        phase: &'static str,
    },
    /// All are over, and some have not moved.
    #[error("not moved: {0}; see `kubectl banyan failover status NAME` for why")]
    NotAllMoved(String),
    /// It has no JSON form.
    #[error("cannot write it as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl FailoverError {
    /// Of what the API server of a cluster says to something.
    pub fn api(what: &'static str, namespace: &str) -> impl Fn(kube::Error) -> Self {
        let namespace = namespace.to_owned();
        move |source| Self::Api { what, namespace: namespace.clone(), source: Box::new(source) }
    }

    /// Of an object that is not there.
    pub fn absent(kind: &'static str, name: &str, namespace: &str) -> Self {
        Self::Absent { kind, name: name.to_owned(), namespace: namespace.to_owned() }
    }

    /// What the program ends with: 2 if the call itself is wrong, 3 if something is not ready or has not moved, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::NotReady(_) | Self::NotMoved { .. } | Self::NotAllMoved(_) => 3,
            _ => 1,
        }
    }
}
