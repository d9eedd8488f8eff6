//! Why nothing came of what was asked of a provider.

use crate::runtime::remote::RemoteError;

use super::plan::Refusal;

/// Why nothing came of it. Whatever the provider may have done, it is read before it is asked for again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnsError {
    /// A call failed.
    #[error("{doing}: {error}")]
    Remote {
        /// What was being done, such as `reading pools`.
        doing: &'static str,
        /// Why it failed.
        error: RemoteError,
    },
    /// Nothing may be written.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It is not as wanted after several tries, because somebody else writes at the same time.
    #[error(
        "it was changed by somebody else at each of {0} tries: find out who else writes these records or pools"
    )]
    Contended(u32),
    /// Something cannot be made for want of something else.
    #[error("{what} cannot be made: {remedy}")]
    CannotMake {
        /// What.
        what: String,
        /// What to set.
        remedy: &'static str,
    },
    /// What is given cannot be used at all.
    #[error("{0}")]
    Unusable(String),
}

impl DnsError {
    /// The word for a condition.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Remote { error, .. } => error.reason(),
            Self::Refused(Refusal::Superseded { .. }) => "Superseded",
            Self::Refused(Refusal::OtherGroup { .. }) => "OtherGroup",
            Self::Contended(_) => "Contended",
            Self::CannotMake { .. } => "CannotMake",
            Self::Unusable(_) => "Unusable",
        }
    }

    /// Why the call failed, if it was one.
    pub(crate) fn remote(&self) -> Option<&RemoteError> {
        match self {
            Self::Remote { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// Says what was being done when a call failed.
pub(super) trait Doing<T> {
    fn doing(self, doing: &'static str) -> Result<T, DnsError>;
}

impl<T> Doing<T> for Result<T, RemoteError> {
    fn doing(self, doing: &'static str) -> Result<T, DnsError> {
        self.map_err(|error| DnsError::Remote { doing, error })
    }
}
