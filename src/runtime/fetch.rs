//! One request over HTTP, and a bound on what is read of its answer.

use std::net::SocketAddr;
use std::time::Duration;

use http::HeaderMap;
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, RequestBuilder, Response, StatusCode};

use super::remote::RemoteError;
use super::shares::{Crowded, Held, Turn};

/// How long an idle connection is kept: longer than the longest time between two ticks.
const IDLE: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// It took too long.
    #[error("no answer within {0:?}")]
    Late(Duration),
    /// No connection, or one that broke.
    #[error("{}", innermost(.0))]
    Broken(reqwest::Error),
    /// A name has no address.
    #[error("{0}")]
    Unknown(String),
    /// More than will be read.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// More than there is room for beside what else is read.
    #[error(transparent)]
    Crowded(#[from] Crowded),
    /// What is answered is not what was asked for.
    #[error("{0}")]
    Unread(String),
    /// Not UTF-8.
    #[error("the answer is no text")]
    NotText,
}

/// What every client of a source has in common: no redirects, which could lead to where a token must not go, and no
/// proxy of the environment.
pub fn builder() -> ClientBuilder {
    Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .pool_idle_timeout(IDLE)
        .user_agent(concat!("banyan/", env!("CARGO_PKG_VERSION")))
}

/// A status in words that are nobody's: what a server itself writes may be anything.
pub fn status_words(status: StatusCode) -> String {
    let meaning = status.canonical_reason().map(|words| format!(" ({words})")).unwrap_or_default();
    format!("status {}{meaning}", status.as_u16())
}

/// Sends a request and reads the text that is answered, of at most `most` bytes, within `deadline`. What is read of it is
/// held in an account. Statuses are the caller's to judge.
///
/// # Errors
/// If there is no whole answer, or no room for it.
pub async fn text(
    request: RequestBuilder,
    deadline: Duration,
    most: usize,
    turn: &Turn,
    held: &mut Held,
) -> Result<(StatusCode, String), Trouble> {
    let mut body = Vec::new();
    let each = |_, piece: &[u8]| {
        let needed = body.len() + piece.len();
        if needed > body.capacity() {
            // What grows is there twice while it is copied.
            let grown = needed.max(2 * body.capacity()).min(most);
            held.set(body.capacity() + grown)?;
            body.reserve_exact(grown - body.len());
            held.set(body.capacity())?;
        }
        body.extend_from_slice(piece);
        Ok(())
    };
    let status = pieces(request, deadline, most, Some(turn), each).await?;
    Ok((status, String::from_utf8(body).map_err(|_| Trouble::NotText)?))
}

/// Sends a request and hands over what is answered, piece by piece as it arrives, at most `most` bytes within `deadline`,
/// and for a tenant no faster than its turn allows. Statuses are the caller's to judge.
///
/// # Errors
/// If there is no whole answer, and what `each` says.
pub async fn pieces(
    request: RequestBuilder,
    deadline: Duration,
    most: usize,
    turn: Option<&Turn>,
    mut each: impl FnMut(StatusCode, &[u8]) -> Result<(), Trouble>,
) -> Result<StatusCode, Trouble> {
    let read = async {
        let mut response = begin(request, most).await?;
        let status = response.status();
        let mut read = 0;
        while let Some(piece) = response.chunk().await.map_err(broken)? {
            read += piece.len();
            if read > most {
                return Err(Trouble::TooLarge(most));
            }
            each(status, &piece)?;
            if let Some(turn) = turn {
                turn.read(piece.len()).await;
            }
        }
        Ok(status)
    };
    tokio::time::timeout(deadline, read).await.unwrap_or(Err(Trouble::Late(deadline)))
}

/// An answer that was read to its end.
#[derive(Debug)]
pub struct Answer {
    /// Its status, which is the caller's to judge.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body of one that is a success.
    ///
    /// # Errors
    /// What its status means.
    pub fn good(self) -> Result<Vec<u8>, RemoteError> {
        if self.status.is_success() { Ok(self.body) } else { Err(self.bad("")) }
    }

    /// What the status of one that is no success means; `words` is what it says, of which secrets are not part.
    pub fn bad(&self, words: &str) -> RemoteError {
        RemoteError::of_status(self.status.as_u16(), &self.headers, words)
    }
}

/// Why an answer broke off; not the address, which the caller names.
fn broken(error: reqwest::Error) -> Trouble {
    Trouble::Broken(error.without_url())
}

/// Sends a request; nothing is read of an answer that is known to be too large.
async fn begin(request: RequestBuilder, most: usize) -> Result<Response, Trouble> {
    let response = request.send().await.map_err(broken)?;
    if response.content_length().is_some_and(|length| length > most as u64) {
        return Err(Trouble::TooLarge(most));
    }
    Ok(response)
}

/// Sends a request and reads what is answered, of at most `most` bytes. It has no deadline of its own.
///
/// # Errors
/// If there is no whole answer.
pub async fn whole(request: RequestBuilder, most: usize) -> Result<Answer, Trouble> {
    let mut response = begin(request, most).await?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        if body.len() + chunk.len() > most {
            return Err(Trouble::TooLarge(most));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status: response.status(), headers: response.headers().clone(), body })
}

/// Asks whether somebody answers well, which is any status below 400. The body is not read.
///
/// # Errors
/// What the status means, or the silence.
pub async fn is_well(request: RequestBuilder) -> Result<(), RemoteError> {
    let answer = request.send().await.map_err(|error| RemoteError::of_connection(&error))?;
    match answer.status().as_u16() {
        ..400 => Ok(()),
        code => Err(RemoteError::of_status(code, answer.headers(), "")),
    }
}

impl From<Trouble> for RemoteError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Late(deadline) => Self::NoAnswer(deadline),
            Trouble::Broken(error) => Self::of_connection(&error),
            other => Self::Unreadable(other.to_string()),
        }
    }
}

/// The innermost reason, which is what a person can act on; not the address, which the caller names, and nothing that the
/// other end says of itself, such as the names in its certificate.
pub fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut deepest: &(dyn std::error::Error + 'static) = error;
    loop {
        let inside = deepest.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let inside = inside.map(|inside| inside as &(dyn std::error::Error + 'static));
        match inside.unwrap_or(deepest).downcast_ref::<rustls::Error>() {
            Some(rustls::Error::InvalidCertificate(_)) => {
                return "its certificate is not for that name, has expired, or is of no authority that is trusted".into();
            }
            Some(_) => return "it does not speak TLS as it should".into(),
            None => {}
        }
        match inside.or_else(|| deepest.source()) {
            Some(inner) => deepest = inner,
            None => return deepest.to_string(),
        }
    }
}

/// All addresses of a host, in order.
///
/// # Errors
/// If it has none, or nobody says.
pub async fn resolve(host: &str, port: u16, deadline: Duration) -> Result<Vec<SocketAddr>, Trouble> {
    let found = tokio::time::timeout(deadline, tokio::net::lookup_host((host, port))).await;
    let found = found.map_err(|_| Trouble::Late(deadline))?;
    let mut found: Vec<SocketAddr> =
        found.map_err(|error| Trouble::Unknown(format!("{host} has no address: {error}")))?.collect();
    found.sort_unstable();
    found.dedup();
    Ok(found)
}
