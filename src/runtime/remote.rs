//! Calls to what is outside of this cluster: other API servers, a cloud's API, DNS, databases, object storage. Each has a
//! deadline, and a failure is named in words that stay the same while the reason does, so that a status does not change
//! while nothing happens.

use std::error::Error;
use std::io;
use std::time::Duration;

use http::HeaderMap;
use http::header::RETRY_AFTER;

/// How long one call may take.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// Up to which time an answer may ask us to wait. Whoever asks for more is asked again all the same.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// Why a call brought no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// The credentials are not accepted. It says nothing about the health of what was asked.
    #[error("it does not accept the credentials (401)")]
    Unauthorized,
    /// The credentials are accepted, and may not do this. It says nothing about the health of what was asked.
    #[error("the credentials may not do this (403)")]
    Forbidden,
    /// There is no such thing.
    #[error("it knows of no such thing (404)")]
    NotFound,
    /// Somebody else was first, or it stands otherwise than was thought.
    #[error("it was changed by somebody else meanwhile ({0})")]
    Conflict(u16),
    /// It has too much to do.
    #[error("it has too much to do (429)")]
    Busy {
        /// When it wants to be asked again, bounded to five minutes.
        after: Option<Duration>,
    },
    /// It refuses the request as such.
    #[error("it refuses the request ({code}): {words}")]
    Refused {
        /// The HTTP status.
        code: u16,
        /// Its own words, shortened.
        words: String,
    },
    /// It answers with an error of its own.
    #[error("it answers with {0}")]
    Failing(u16),
    /// There was no answer in time. Whether it did what was asked is not known.
    #[error("no answer within {} s", .0.as_secs_f64())]
    NoAnswer(Duration),
    /// Nobody listens there.
    #[error("the connection is refused")]
    NobodyListens,
    /// The connection cannot be made, or broke. Whether it did what was asked is not known.
    #[error("{0}")]
    Unreachable(String),
    /// The answer cannot be understood. Whether it did what was asked is not known.
    #[error("its answer cannot be read: {0}")]
    Unreadable(String),
}

impl RemoteError {
    /// What an HTTP status other than success means; `words` is what the answer says, of which secrets are not part.
    pub fn of_status(code: u16, headers: &HeaderMap, words: &str) -> Self {
        match code {
            401 => Self::Unauthorized,
            403 => Self::Forbidden,
            404 => Self::NotFound,
            409 | 412 => Self::Conflict(code),
            429 => Self::Busy { after: retry_after(headers) },
            400..500 => Self::Refused { code, words: shortened(words) },
            _ => Self::Failing(code),
        }
    }

    /// What an error of a connection means, by the deepest of its causes.
    pub fn of_connection(error: &(dyn Error + 'static)) -> Self {
        let mut deepest = error;
        loop {
            if let Some(error) = deepest.downcast_ref::<io::Error>()
                && error.kind() == io::ErrorKind::ConnectionRefused
            {
                return Self::NobodyListens;
            }
            match deepest.source() {
                Some(source) => deepest = source,
                None => return Self::Unreachable(shortened(&deepest.to_string())),
            }
        }
    }

    /// An answer that is none, in words that say why.
    pub fn unreadable(words: impl Into<String>) -> Self {
        Self::Unreadable(words.into())
    }

    /// The word for a condition.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "NotFound",
            Self::Conflict(_) => "Conflict",
            Self::Busy { .. } => "Busy",
            Self::Refused { .. } => "Refused",
            Self::Failing(_) => "Failing",
            Self::NoAnswer(_) => "NoAnswer",
            Self::NobodyListens | Self::Unreachable(_) => "Unreachable",
            Self::Unreadable(_) => "Unreadable",
        }
    }

    /// Whether it says something about the health of what was asked, other than about us: an answer that refuses us is a
    /// sign of life.
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::Failing(_) | Self::NoAnswer(_) | Self::NobodyListens | Self::Unreachable(_))
    }

    /// Whether a person must act, since asking again brings the same.
    pub fn is_stalled(&self) -> bool {
        matches!(self, Self::Unauthorized | Self::Forbidden | Self::NotFound | Self::Refused { .. })
    }

    /// Whether what was asked for may have been done all the same. Then it is read before it is asked for again.
    pub fn may_be_done(&self) -> bool {
        matches!(self, Self::Failing(_) | Self::NoAnswer(_) | Self::Unreachable(_) | Self::Unreadable(_))
    }
}

/// Whether something takes a connection there: nothing is sent over it.
///
/// # Errors
/// Why not.
pub async fn connects(host: &str, port: u16) -> Result<(), RemoteError> {
    let connected = tokio::net::TcpStream::connect((host, port)).await;
    connected.map(drop).map_err(|error| RemoteError::of_connection(&error))
}

/// Carries out a call, for at most that long.
///
/// # Errors
/// Its own, or [`RemoteError::NoAnswer`].
pub async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<T, RemoteError>>,
) -> Result<T, RemoteError> {
    tokio::time::timeout(deadline, call).await.unwrap_or(Err(RemoteError::NoAnswer(deadline)))
}

/// The header `Retry-After` in seconds; a date is not read, and whoever sends one is asked again as usual.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}

/// The first 200 characters in one line.
fn shortened(words: &str) -> String {
    words.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: u16, after: &str) -> RemoteError {
        let headers = [(RETRY_AFTER, after.parse().expect("a header"))].into_iter().collect();
        RemoteError::of_status(code, &headers, "why\nnot")
    }

    #[test]
    fn each_status_means_one_thing() {
        assert_eq!(of(401, ""), RemoteError::Unauthorized);
        assert_eq!(of(412, ""), RemoteError::Conflict(412));
        assert_eq!(of(422, ""), RemoteError::Refused { code: 422, words: "why not".to_owned() });
        assert_eq!(of(503, ""), RemoteError::Failing(503));
        let after = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(of(429, "7"), RemoteError::Busy { after: after(7) });
        assert_eq!(of(429, "86400"), RemoteError::Busy { after: after(300) });
        assert_eq!(of(429, "Wed, 21 Oct 2026 07:28:00 GMT"), RemoteError::Busy { after: None });
    }

    #[test]
    fn a_refusal_is_a_sign_of_life() {
        for code in [401, 403, 404, 409, 422, 429] {
            assert!(!of(code, "").is_silence() && !of(code, "").may_be_done(), "{code}");
        }
        assert!(of(500, "").is_silence() && of(500, "").may_be_done());
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends() {
        let silent = within(DEADLINE, std::future::pending::<Result<(), _>>()).await;
        assert_eq!(silent, Err(RemoteError::NoAnswer(DEADLINE)));
        assert_eq!(silent.unwrap_err().to_string(), "no answer within 5 s");
    }

    #[tokio::test]
    async fn where_nobody_listens_is_told_apart() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("an address");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let error = tokio::net::TcpStream::connect(address).await.expect_err("nobody");
        assert_eq!(RemoteError::of_connection(&error), RemoteError::NobodyListens);
    }
}
