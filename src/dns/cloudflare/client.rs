//! Requests to Cloudflare's API (v4): an envelope around each answer, a bearer token, and no retries.

use std::time::Duration;

use reqwest::{Method, Url, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::dns::error::DnsError;
use crate::dns::secret::Hidden;
use crate::runtime::client::USER_AGENT;
use crate::runtime::fetch::whole;
use crate::runtime::remote::{RemoteError, within};

/// Most bytes of an answer: an account with many pools has some hundred thousand.
const MOST_BYTES: usize = 4 << 20;
/// Most pages of a list. An account with more pools than 20 pages hold has to name ids.
const MOST_PAGES: u32 = 20;

/// The way to Cloudflare. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    token: Hidden,
    deadline: Duration,
}

#[derive(Deserialize)]
struct Envelope<T> {
    success: bool,
    #[serde(default)]
    errors: Vec<Complaint>,
    result: Option<T>,
    #[serde(default)]
    result_info: Option<ResultInfo>,
}

#[derive(Deserialize)]
struct Complaint {
    #[serde(default)]
    code: i64,
    #[serde(default)]
    message: String,
}

#[derive(Default, Deserialize)]
struct ResultInfo {
    #[serde(default)]
    total_pages: Option<u32>,
    #[serde(default)]
    total_count: Option<u64>,
}

/// A list, and how many there are in all where that is said.
pub(super) struct Page<T> {
    pub items: Vec<T>,
    pub total: Option<u64>,
    pages: u32,
}

impl Client {
    pub(super) fn new(base: &str, token: Hidden, deadline: Duration) -> Result<Self, DnsError> {
        let unusable =
            |error: &dyn std::fmt::Display| DnsError::Unusable(format!("Cloudflare at {base}: {error}"));
        let base = Url::parse(base).map_err(|error| unusable(&error))?;
        // The token must not follow to anywhere else.
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(USER_AGENT)
            .build()
            .map_err(|error| unusable(&error))?;
        Ok(Self { http, base, token, deadline })
    }

    /// One object.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, RemoteError> {
        self.one(Method::GET, path, None).await
    }

    /// Changes the given fields, and no others.
    pub(super) async fn patch(&self, path: &[&str], body: &Value) -> Result<(), RemoteError> {
        self.one::<Value>(Method::PATCH, path, Some(body)).await.map(|_| ())
    }

    /// Makes one.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &Value,
    ) -> Result<T, RemoteError> {
        self.one(Method::POST, path, Some(body)).await
    }

    /// All pages of a list.
    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Vec<T>, RemoteError> {
        let mut all = Vec::new();
        for page in 1..=MOST_PAGES {
            let number = page.to_string();
            let mut query = query.to_vec();
            if page > 1 {
                query.push(("page", &number));
            }
            let got = self.page(path, &query).await?;
            all.extend(got.items);
            if page >= got.pages {
                return Ok(all);
            }
        }
        Err(RemoteError::Unreadable(format!("a list of more than {MOST_PAGES} pages")))
    }

    /// One page of a list.
    pub(super) async fn page<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Page<T>, RemoteError> {
        let envelope: Envelope<Vec<T>> = self.send(Method::GET, path, query, None).await?;
        let info = envelope.result_info.unwrap_or_default();
        Ok(Page {
            items: envelope.result.unwrap_or_default(),
            total: info.total_count,
            pages: info.total_pages.unwrap_or(1),
        })
    }

    async fn one<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&Value>,
    ) -> Result<T, RemoteError> {
        let envelope: Envelope<T> = self.send(method, path, &[], body).await?;
        envelope.result.ok_or_else(|| RemoteError::Unreadable("no result in it".to_owned()))
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Envelope<T>, RemoteError> {
        within(self.deadline, self.exchange(method, path, query, body)).await
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Envelope<T>, RemoteError> {
        let mut url = self.base.clone();
        match url.path_segments_mut() {
            Ok(mut segments) => segments.pop_if_empty().extend(path),
            Err(()) => return Err(RemoteError::Unreachable("its address cannot have a path".to_owned())),
        };
        // A token of other characters cannot be sent, and no API accepts it.
        let mut bearer = header::HeaderValue::from_str(&format!("Bearer {}", self.token.shown()))
            .map_err(|_| RemoteError::Unauthorized)?;
        bearer.set_sensitive(true);
        let mut request = self.http.request(method, url).query(query).header(header::AUTHORIZATION, bearer);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = whole(request, MOST_BYTES).await?;
        if !answer.status.is_success() {
            return Err(answer.bad(&self.complaints(&answer.body)));
        }
        let envelope: Envelope<T> = serde_json::from_slice(&answer.body)
            .map_err(|error| RemoteError::Unreadable(self.token.taken_out_of(&error.to_string())))?;
        if !envelope.success {
            let words = self.said(&envelope.errors);
            return Err(RemoteError::Refused { code: answer.status.as_u16(), words });
        }
        Ok(envelope)
    }

    /// What an answer that is no success says.
    fn complaints(&self, bytes: &[u8]) -> String {
        let envelope: Option<Envelope<Value>> = serde_json::from_slice(bytes).ok();
        envelope.map(|envelope| self.said(&envelope.errors)).unwrap_or_default()
    }

    fn said(&self, errors: &[Complaint]) -> String {
        let all: Vec<String> =
            errors.iter().map(|error| format!("{} ({})", error.message, error.code)).collect();
        self.token.taken_out_of(&all.join("; "))
    }
}
