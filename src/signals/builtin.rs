//! The built-in source: proxies and pods are asked directly, each once a sweep, however many rollouts there are.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use http::header::{ACCEPT, HOST};
use reqwest::{Client, StatusCode, Url};
use tokio::time::Instant;

use super::answer::{Proxy, answer, needs_pods};
use super::counts::Untold;
use super::gateway::{self, Seen, Services};
use super::grpc::Speaks;
use super::pods::{self, Told};
use super::subject::{Answer, Pod, Subject};
use crate::runtime::fetch::{self, Trouble};

/// The format that is asked for: without it some exporters answer in protocol buffers.
const FORMAT: &str = "text/plain;version=0.0.4;q=1,*/*;q=0.1";

/// What a sweep may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long one request may take. Default: 2s.
    pub request: Duration,
    /// How long the whole sweep may take; what is not asked by then does not answer. Default: 8s, so that a few
    /// hundred silent pods cannot stop the evidence of all others.
    pub sweep: Duration,
    /// How many requests are under way at once. Default: 64.
    pub at_once: usize,
    /// How many bytes of an answer are read. Default: 8 MiB.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { request: Duration::from_secs(2), sweep: Duration::from_secs(8), at_once: 64, bytes: 8 << 20 }
    }
}

impl Limits {
    /// Limits for looks that are `interval` apart: no sweep lasts longer than that.
    pub fn within(interval: Duration) -> Self {
        let default = Self::default();
        Self { request: default.request.min(interval), sweep: default.sweep.min(interval), ..default }
    }
}

/// Why there is no such source.
#[derive(Debug, thiserror::Error)]
pub enum BuiltInError {
    /// The address of a proxy cannot be used.
    #[error(
        "`{url}` is no address of a proxy's metrics: {why}; write for example http://envoy.projectcontour:8002/stats/prometheus"
    )]
    Proxy {
        /// The address.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// No client can be made.
    #[error("cannot make an HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

/// The built-in source. Made once; its connections are kept from one sweep to the next.
#[derive(Clone, Debug)]
pub struct BuiltIn {
    client: Client,
    proxies: Vec<Url>,
    limits: Limits,
}

/// A pod's metrics: address and path, what is not counted in them, and what is spoken there.
type Page<'s> = (SocketAddr, &'s str, &'s [String], Speaks);

/// A sweep that is under way.
#[derive(Clone, Copy)]
struct Sweep {
    began: Instant,
    /// The same moment in Unix seconds.
    at: f64,
}

impl Sweep {
    /// The time of now, in Unix seconds.
    fn now(self) -> f64 {
        self.at + self.began.elapsed().as_secs_f64()
    }
}

impl BuiltIn {
    /// A source that asks these proxies, by the URLs of their metrics, and pods. A URL stands for all proxies that
    /// its host's name leads to at the time of a sweep: name a headless Service.
    ///
    /// # Errors
    /// If a URL is not plain HTTP (a proxy is asked by its address, which no certificate would name), or no client
    /// can be made.
    pub fn new(proxies: &[String], limits: Limits) -> Result<Self, BuiltInError> {
        let proxies = proxies.iter().map(|url| proxy_url(url)).collect::<Result<_, _>>()?;
        // Only plain HTTP is spoken: no authority is trusted, and none has to be there.
        let client = fetch::builder().tls_certs_only([]).build()?;
        Ok(Self { client, proxies, limits })
    }

    /// Asks for all subjects in one sweep that begins at `now`, in Unix seconds. Answers come in order.
    ///
    /// Proxies are asked first, and then the pods of those subjects of which the proxies do not say everything.
    pub async fn ask(&self, subjects: &[Subject], now: f64) -> Vec<Answer> {
        if subjects.is_empty() {
            return Vec::new();
        }
        let sweep = Sweep { began: Instant::now(), at: now };
        let (proxies, silent) = self.ask_proxies(subjects, sweep).await;
        let pods = self.ask_pods(subjects, &proxies, sweep).await;
        subjects
            .iter()
            .zip(&proxies)
            .map(|(subject, proxies)| {
                let told = |_, pod: &Pod| match page(subject, pod) {
                    Some(page) => pods.get(&page).cloned().unwrap_or_else(|| Err("it was not asked".into())),
                    None => Err("the FinService names no port in observability.metrics".into()),
                };
                let pods = pods::views(subject, told).map_err(|why| match &silent {
                    Some(silent) if proxies.is_empty() => format!("{why}; {silent}"),
                    _ => why,
                });
                answer(subject, proxies, &pods, |_| Err(Untold::NotBuiltIn.to_string()))
            })
            .collect()
    }

    /// What all proxies tell, by subject; and, if one of them tells nothing, which and why.
    async fn ask_proxies(&self, subjects: &[Subject], sweep: Sweep) -> (Vec<Vec<Proxy>>, Option<String>) {
        let mut silent = None;
        let mut known = Vec::new();
        let resolved = self.proxies.iter().map(|url| async move {
            let port = url.port_or_known_default().unwrap_or(80);
            // Brackets around an IPv6 address belong to the URL.
            let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
            (url, fetch::resolve(host, port, self.limits.request).await)
        });
        for (url, found) in join_all(resolved).await {
            match found {
                Ok(found) => known.extend(found.into_iter().map(|address| (url, address))),
                Err(why) => silent = Some(format!("the proxies of {url} are not known: {why}")),
            }
        }
        let services = Services::of(subjects);
        let asked: Vec<_> =
            known.into_iter().map(|(url, address)| self.ask_proxy(url, address, &services, sweep)).collect();
        let mut proxies = vec![Vec::new(); subjects.len()];
        let mut answers = futures::stream::iter(asked).buffer_unordered(self.limits.at_once);
        while let Some((id, told)) = answers.next().await {
            match told {
                Ok((time, seen)) => {
                    for (subject, arms) in seen {
                        proxies[subject].push(Proxy { id: id.clone(), time, arms });
                    }
                }
                Err(why) => silent = Some(format!("the proxy {id} tells nothing: {why}")),
            }
        }
        // They came in any order.
        for proxies in &mut proxies {
            proxies.sort_by(|one: &Proxy, other: &Proxy| one.id.cmp(&other.id));
        }
        (proxies, silent)
    }

    /// What one proxy tells of all subjects, and what it is known by.
    async fn ask_proxy(
        &self,
        url: &Url,
        address: SocketAddr,
        services: &Services,
        sweep: Sweep,
    ) -> (String, Result<(f64, Seen), String>) {
        let told = async {
            let (time, text) = self.read(address, &path_of(url), Some(&authority(url)), sweep).await?;
            let seen = gateway::read(&text, services).map_err(|error| error.to_string())?;
            Ok((time, seen))
        };
        (format!("{address} of {url}"), told.await)
    }

    /// What the pods tell that have to be asked.
    async fn ask_pods<'s>(
        &self,
        subjects: &'s [Subject],
        proxies: &[Vec<Proxy>],
        sweep: Sweep,
    ) -> HashMap<Page<'s>, Result<Told, String>> {
        let asked = subjects.iter().zip(proxies).filter(|(subject, proxies)| needs_pods(subject, proxies));
        let ready = asked.flat_map(|(subject, _)| {
            let pods = subject.arms.iter().flat_map(|arm| &arm.pods).filter(|pod| pod.ready_since.is_some());
            pods.filter_map(move |pod| page(subject, pod))
        });
        let pages: HashSet<Page<'s>> = ready.collect();
        let asked: Vec<_> = pages.into_iter().map(|page| self.ask_pod(page, sweep)).collect();
        futures::stream::iter(asked).buffer_unordered(self.limits.at_once).collect().await
    }

    async fn ask_pod<'s>(&self, page: Page<'s>, sweep: Sweep) -> (Page<'s>, Result<Told, String>) {
        let (address, path, not_counted, speaks) = page;
        let told = async {
            let (time, text) = self.read(address, path, None, sweep).await?;
            let counts = pods::read(&text, not_counted, speaks).map_err(|error| error.to_string())?;
            Ok(Told { time, counts })
        };
        (page, told.await)
    }

    /// The text of a page, and when it was told.
    async fn read(
        &self,
        address: SocketAddr,
        path: &str,
        host: Option<&str>,
        sweep: Sweep,
    ) -> Result<(f64, String), String> {
        let left = self.limits.sweep.saturating_sub(sweep.began.elapsed());
        if left.is_zero() {
            return Err("the sweep was over before it was asked".into());
        }
        let mut request = self.client.get(format!("http://{address}{path}")).header(ACCEPT, FORMAT);
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        let answered = fetch::text(request, self.limits.request.min(left), self.limits.bytes).await;
        match answered {
            Ok((StatusCode::OK, text)) => Ok((sweep.now(), text)),
            Ok((status, _)) => Err(format!("status {} from {address}{path}", status.as_u16())),
            Err(why @ Trouble::TooLarge(_)) => Err(format!("{why} ({address}{path})")),
            Err(why) => Err(format!("{why} from {address}{path}")),
        }
    }
}

/// Where a pod tells its counters; `None` if it does not.
fn page<'s>(subject: &'s Subject, pod: &Pod) -> Option<Page<'s>> {
    let endpoint = subject.endpoint.as_ref()?;
    let address = SocketAddr::new(pod.address, endpoint.port);
    Some((address, &endpoint.path, &subject.not_counted, subject.speaks))
}

/// The URL of a proxy's metrics, checked.
fn proxy_url(text: &str) -> Result<Url, BuiltInError> {
    let wrong = |why: String| BuiltInError::Proxy { url: text.to_owned(), why };
    let url = Url::parse(text).map_err(|error| wrong(error.to_string()))?;
    match (url.scheme(), url.host_str()) {
        ("http", Some(_)) => Ok(url),
        (other, _) => Err(wrong(format!("it must be http, not {other}"))),
    }
}

/// Host and port, as a request names them.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Path and query.
fn path_of(url: &Url) -> String {
    url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()))
}

#[cfg(test)]
#[path = "builtin_tests.rs"]
mod tests;
