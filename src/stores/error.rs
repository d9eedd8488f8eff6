//! Why a store did not do what was asked.

use std::time::Duration;

use super::Ballot;
use crate::api::Problem;
use crate::runtime::remote::RemoteError;

/// Why a store did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It could not be asked, or did not answer.
    #[error("{0}")]
    Remote(#[from] RemoteError),
    /// The store knows a greater ballot.
    #[error("the store is claimed by ballot {known}, which is greater than {asked}")]
    Refused {
        /// The one that it was asked with.
        asked: Ballot,
        /// The one that it knows.
        known: Ballot,
    },
    /// The store was opened for a later epoch than the claim follows.
    #[error("the store was opened for epoch {opened}, and the claim {asked} follows {follows}: it is void")]
    OpenedSince {
        /// The ballot that it was asked with.
        asked: Ballot,
        /// The epoch that the claim follows.
        follows: Ballot,
        /// The epoch that it was opened for.
        opened: Ballot,
    },
    /// The authority row at the standby is another one than was read.
    #[error("the standby's row has ballot {}, and {} was expected: nothing was promoted", or_none(*.found), or_none(*.expected))]
    OtherRow {
        /// The ballot that was expected.
        expected: Option<Ballot>,
        /// The one that stands there.
        found: Option<Ballot>,
    },
    /// What was asked needs a primary, and it is a standby.
    #[error("it is a standby, which accepts no writes")]
    IsStandby,
    /// What was asked needs a standby, and it is a primary.
    #[error("it is a primary already")]
    IsPrimary,
    /// Sessions are left that could write.
    #[error("sessions are left that may write: {}", .0.join(", "))]
    Leaks(Vec<String>),
    /// Somebody else holds a lock on what is to be changed.
    #[error("somebody else holds a lock on the roles or on banyan.authority")]
    Locked,
    /// It starts, stops or recovers.
    #[error("the server is starting, stopping or recovering")]
    Starting,
    /// It has been asked, and is not there yet.
    #[error("{what} after {} s", .after.as_secs())]
    NotYet {
        /// What is not so yet, as a clause.
        what: &'static str,
        /// How long it was waited for.
        after: Duration,
    },
    /// Something must be set or granted first.
    #[error("{}", .0.message)]
    Problem(Box<Problem>),
    /// This kind of store cannot do that, or not without something that it does not have.
    #[error("{message}")]
    Unsupported {
        /// What it cannot do.
        message: String,
        /// What to do instead.
        remedy: String,
    },
}

fn or_none(ballot: Option<Ballot>) -> String {
    ballot.map_or_else(|| "none".to_owned(), |ballot| ballot.to_string())
}

impl From<Problem> for StoreError {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}

impl StoreError {
    /// The same, where it names no field: of the store at that one.
    pub(super) fn of_store(self, source: &str) -> Self {
        match self {
            Self::Problem(mut problem) if problem.source.is_empty() => {
                source.clone_into(&mut problem.source);
                Self::Problem(problem)
            }
            other => other,
        }
    }

    /// The word for a condition.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Remote(error) => error.reason(),
            Self::Refused { .. } | Self::OpenedSince { .. } => "Superseded",
            Self::OtherRow { .. } => "OtherRow",
            Self::IsStandby => "IsStandby",
            Self::IsPrimary => "IsPrimary",
            Self::Leaks(_) => "SessionsLeft",
            Self::Locked => "Locked",
            Self::Starting => "Starting",
            Self::NotYet { .. } => "NotYet",
            Self::Problem(_) => "NotPrepared",
            Self::Unsupported { .. } => "Unsupported",
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        let words = match self {
            Self::Remote(RemoteError::Unauthorized) => {
                "correct user and password in the Secret of credentials.secretRef, and see that pg_hba.conf lets the \
                 operator's addresses in"
            }
            Self::Remote(RemoteError::Forbidden) => {
                "grant the operator's role what readiness lists for this store"
            }
            Self::Remote(RemoteError::NotFound) => {
                "correct database: it must exist, and hold the applications' tables"
            }
            Self::Remote(RemoteError::Busy { .. }) => {
                "raise max_connections, or reserve connections for the operator's role with \
                 superuser_reserved_connections"
            }
            Self::Remote(_) => {
                "see that host and port are right, that the server runs, and that the network between the sites and \
                 pg_hba.conf let the operator in"
            }
            Self::Refused { .. } | Self::OpenedSince { .. } => {
                "another site claims authority: see `kubectl get authorities -n banyan-system -o yaml` at both sites"
            }
            Self::OtherRow { .. } => "read the store again and order once more",
            Self::IsStandby => "see which site's server is the primary: host may name the wrong one",
            Self::IsPrimary => {
                "nothing, if the failover promoted it; else see which site's server is the primary"
            }
            Self::Leaks(_) => {
                "end them at the server: select pg_terminate_backend(pid) from pg_stat_activity where usename = '…'; \
                 sessions of a superuser can be ended by a superuser alone"
            }
            Self::Locked => {
                "see who: select pid, usename, query from pg_stat_activity where pid in (select pid from pg_locks where \
                 relation in ('pg_authid'::regclass, 'banyan.authority'::regclass))"
            }
            Self::Starting | Self::NotYet { .. } => {
                "wait; it is asked again. The server's log says what it is doing"
            }
            Self::Problem(problem) => return problem.remedy.clone(),
            Self::Unsupported { remedy, .. } => return remedy.clone(),
        };
        words.to_owned()
    }

    /// Whether another claim has the store: this one is over.
    pub fn is_superseded(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::OpenedSince { .. })
    }

    /// Whether it says that the store itself is not well, rather than that it refuses us.
    pub fn is_silence(&self) -> bool {
        match self {
            Self::Remote(error) => error.is_silence(),
            Self::Starting => true,
            _ => false,
        }
    }

    /// Whether what was asked for may have been done all the same. Then the same call is made again, which reads first.
    pub fn may_be_done(&self) -> bool {
        match self {
            Self::Remote(error) => error.may_be_done(),
            Self::NotYet { .. } | Self::Leaks(_) => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_both_ballots_and_is_no_silence() {
        let error = StoreError::Refused { asked: 17, known: 33 };
        assert_eq!(error.to_string(), "the store is claimed by ballot 33, which is greater than 17");
        assert!(error.is_superseded() && !error.is_silence() && !error.may_be_done());
        let other = StoreError::OtherRow { expected: None, found: Some(33) };
        assert_eq!(
            other.to_string(),
            "the standby's row has ballot 33, and none was expected: nothing was promoted"
        );
    }

    #[test]
    fn what_may_be_done_is_asked_again() {
        let lost = StoreError::Remote(RemoteError::NoAnswer(Duration::from_secs(5)));
        assert!(lost.may_be_done() && lost.is_silence());
        assert!(!StoreError::Remote(RemoteError::Unauthorized).may_be_done());
        assert!(StoreError::Remote(RemoteError::Unauthorized).remedy().contains("Secret"));
    }
}
