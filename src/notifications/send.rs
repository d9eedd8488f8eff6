//! One message over HTTP: no redirect is followed, and nothing that is said of a failure has the address in it.

use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Url};
use serde_json::Value;

use super::message;
use super::pending::Pending;
use super::settings::{Address, DestinationSettings};
use crate::runtime::fetch;
use crate::runtime::remote::{RemoteError, within};

/// How long one attempt may take.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// How much is read of an answer, in bytes: a word of the receiver's.
const MOST: usize = 16 * 1024;
/// The longest address, in bytes.
const LONGEST_URL: u64 = 4096;

/// There is no way to speak HTTP.
#[derive(Debug, thiserror::Error)]
#[error("notifications cannot be sent: {0}")]
pub struct NoClient(#[from] reqwest::Error);

/// Why a message was not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotSent {
    /// The file with the address cannot be read.
    #[error("the file {0} with its address cannot be read: {1}; create the Secret that `urlFrom` names")]
    NoAddress(String, std::io::Error),
    /// The address is none.
    #[error(
        "its address is no http or https URL; write one into `url`, or into the Secret that `urlFrom` names"
    )]
    BadAddress,
    /// It leads elsewhere.
    #[error("it answers with {0}, which leads elsewhere and is not followed; write down where it leads")]
    Redirects(u16),
    /// It does not take it.
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

impl NotSent {
    /// Whether sending the same again brings the same.
    pub fn is_final(&self) -> bool {
        match self {
            // A Secret may be made or corrected while the process runs.
            Self::NoAddress(..) | Self::BadAddress => false,
            Self::Redirects(_) => true,
            Self::Remote(error) => error.is_stalled(),
        }
    }

    /// How long it asks not to be asked again.
    pub fn wait(&self) -> Option<Duration> {
        match self {
            Self::Remote(RemoteError::Busy { after }) => *after,
            _ => None,
        }
    }
}

/// Sends messages to one destination.
pub struct Sender {
    settings: DestinationSettings,
    site: String,
    client: Client,
}

impl Sender {
    /// One of that site.
    ///
    /// # Errors
    /// If there is no way to speak HTTP.
    pub fn new(settings: DestinationSettings, site: &str) -> Result<Self, NoClient> {
        Ok(Self { settings, site: site.to_owned(), client: fetch::builder().build()? })
    }

    /// What the destination is.
    pub fn settings(&self) -> &DestinationSettings {
        &self.settings
    }

    /// Tells what is pending.
    ///
    /// # Errors
    /// If it is not taken within [`DEADLINE`]. After a silence it may have been.
    pub async fn tell(&self, pending: &Pending) -> Result<(), NotSent> {
        self.post(&message::message(self.settings.format, &self.site, pending)).await
    }

    /// Sends a message that says that it is a test.
    ///
    /// # Errors
    /// As [`Sender::tell`].
    pub async fn try_out(&self) -> Result<(), NotSent> {
        self.post(&message::trial(self.settings.format, &self.site)).await
    }

    async fn post(&self, body: &Value) -> Result<(), NotSent> {
        let url = self.url().await?;
        let request = self.client.post(url).header(CONTENT_TYPE, "application/json").body(body.to_string());
        let answer = within(DEADLINE, async { Ok(fetch::whole(request, MOST).await?) }).await?;
        if answer.status.is_redirection() {
            return Err(NotSent::Redirects(answer.status.as_u16()));
        }
        if answer.status.is_success() {
            return Ok(());
        }
        Err(answer.bad(&String::from_utf8_lossy(&answer.body)).into())
    }

    async fn url(&self) -> Result<Url, NotSent> {
        let url = match &self.settings.address {
            Address::Url(url) => url.parse(),
            Address::File(path) => {
                let unread = |error| NotSent::NoAddress(path.display().to_string(), error);
                if tokio::fs::metadata(path).await.map_err(unread)?.len() > LONGEST_URL {
                    return Err(NotSent::BadAddress);
                }
                tokio::fs::read_to_string(path).await.map_err(unread)?.trim().parse()
            }
        };
        let url: Url = url.map_err(|_| NotSent::BadAddress)?;
        if matches!(url.scheme(), "http" | "https") { Ok(url) } else { Err(NotSent::BadAddress) }
    }
}
