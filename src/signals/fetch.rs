//! One request with a deadline and a bound on what is read, for every source.

use std::error::Error as _;
use std::net::SocketAddr;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, RequestBuilder, StatusCode};

/// How long an idle connection is kept: longer than the longest time between two ticks.
const IDLE: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// It took too long.
    #[error("no answer within {0:?}")]
    Late(Duration),
    /// No connection, or one that broke.
    #[error("{0}")]
    Broken(String),
    /// More than will be read.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
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

/// Sends a request and reads the text that is answered, of at most `most` bytes, within `deadline`. Statuses are the
/// caller's to judge.
///
/// # Errors
/// If there is no whole answer.
pub async fn text(
    request: RequestBuilder,
    deadline: Duration,
    most: usize,
) -> Result<(StatusCode, String), Trouble> {
    let read = async {
        let mut response = request.send().await.map_err(broken)?;
        if response.content_length().is_some_and(|length| length > most as u64) {
            return Err(Trouble::TooLarge(most));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if body.len() + chunk.len() > most {
                return Err(Trouble::TooLarge(most));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((response.status(), String::from_utf8(body).map_err(|_| Trouble::NotText)?))
    };
    tokio::time::timeout(deadline, read).await.unwrap_or(Err(Trouble::Late(deadline)))
}

/// The innermost reason, which is what a person can act on; not the address, which the caller names.
fn broken(error: reqwest::Error) -> Trouble {
    let error = error.without_url();
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        words = inner.to_string();
        source = inner.source();
    }
    Trouble::Broken(words)
}

/// All addresses of a host, in order.
///
/// # Errors
/// If it has none, or nobody says.
pub async fn resolve(host: &str, port: u16, deadline: Duration) -> Result<Vec<SocketAddr>, Trouble> {
    let found = tokio::time::timeout(deadline, tokio::net::lookup_host((host, port))).await;
    let found = found.map_err(|_| Trouble::Late(deadline))?;
    let mut found: Vec<SocketAddr> =
        found.map_err(|error| Trouble::Broken(format!("{host} has no address: {error}")))?.collect();
    found.sort_unstable();
    found.dedup();
    Ok(found)
}
