//! The built-in source: proxies and pods are asked directly, each once a sweep, however many rollouts there are.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use http::header::{ACCEPT, HOST};
use reqwest::{Client, StatusCode, Url};
use tokio::time::Instant;

use super::answer::{Proxy, answer, needs_pods};
use super::counts::Untold;
use super::gateway::{self, Seen, Services};
use super::grpc::Speaks;
use super::pods::{self, Told};
use super::subject::{Answer, Pod, Subject};
use crate::runtime::exposition::{Lines, Malformed, Sample};
use crate::runtime::fetch::{self, Trouble};
use crate::runtime::shares::{Shares, Turn};

/// The format that is asked for: without it some exporters answer in protocol buffers.
const FORMAT: &str = "text/plain;version=0.0.4;q=1,*/*;q=0.1";

/// What a sweep may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long one request to a pod may take. Default: 2s.
    pub request: Duration,
    /// How long one request to a proxy may take, whose page may have megabytes. Default: 2s.
    pub proxy: Duration,
    /// How long the whole sweep may take; what is not asked by then does not answer. Default: 8s, so that a few
    /// hundred silent pods cannot stop the evidence of their own namespace.
    pub sweep: Duration,
    /// How many requests to proxies, and to pods of a namespace, are under way at once. Default: 64; what is
    /// [shared](Shares) bounds those of a namespace too.
    pub at_once: usize,
    /// How many bytes of a proxy's answer are read. Default: 64 MiB, of some 6 000 clusters: they are read as they come, and are
    /// no tenant's.
    pub bytes: usize,
    /// How many bytes of a pod's answer are read. Default: 2 MiB.
    pub pod_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(2),
            proxy: Duration::from_secs(2),
            sweep: Duration::from_secs(8),
            at_once: 64,
            bytes: 64 << 20,
            pod_bytes: 2 << 20,
        }
    }
}

impl Limits {
    /// Limits for looks that are `interval` apart: no sweep lasts longer than that.
    pub fn within(interval: Duration) -> Self {
        let default = Self::default();
        Self {
            request: default.request.min(interval),
            proxy: default.proxy.min(interval),
            sweep: default.sweep.min(interval),
            ..default
        }
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
    shares: Shares,
}

/// A pod's metrics: address and path, what is not counted in them, and what is spoken there.
type Page<'s> = (SocketAddr, &'s str, &'s [String], Speaks);

/// A subject, by its place, and what proxies told of it.
type Asks<'s> = (usize, &'s Subject, &'s [Proxy]);

/// What proxies tell.
struct Proxied {
    /// Of each subject.
    proxies: Vec<Vec<Proxy>>,
    /// Why one of them could not be read.
    unread: Option<String>,
    /// Why they tell nothing of a subject of which none tells.
    untold: Option<String>,
}

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
        Ok(Self { client, proxies, limits, shares: Shares::default() })
    }

    /// The same with what tenants share in the whole process.
    pub fn with_shares(mut self, shares: Shares) -> Self {
        self.shares = shares;
        self
    }

    /// Asks for all subjects in one sweep that begins at `now`, in Unix seconds. Answers come in order.
    pub async fn ask(&self, subjects: &[Subject], now: f64) -> Vec<Answer> {
        let mut answers: Vec<Option<Answer>> = subjects.iter().map(|_| None).collect();
        self.ask_each(subjects, now, |told| {
            told.into_iter().for_each(|(place, answer)| answers[place] = Some(answer));
        })
        .await;
        // Each namespace was answered for, and so each subject.
        answers.into_iter().flatten().collect()
    }

    /// The same; the answers about a namespace are handed over as soon as its own pods have told, by their places, so that
    /// pods which are slow hold up nobody else.
    ///
    /// Proxies are asked first, and then the pods of those subjects of which the proxies do not say everything.
    pub async fn ask_each(
        &self,
        subjects: &[Subject],
        now: f64,
        mut answered: impl FnMut(Vec<(usize, Answer)>) + Send,
    ) {
        if subjects.is_empty() {
            return;
        }
        let sweep = Sweep { began: Instant::now(), at: now };
        let Proxied { proxies, unread, untold } = self.ask_proxies(subjects, sweep).await;
        let mut namespaces: BTreeMap<&str, Vec<Asks>> = BTreeMap::new();
        for (place, (subject, proxies)) in subjects.iter().zip(&proxies).enumerate() {
            namespaces.entry(&subject.namespace).or_default().push((place, subject, proxies));
        }
        let why = (unread.as_deref(), untold.as_deref());
        let asked = namespaces.into_values().map(|of| self.ask_namespace(of, why, sweep));
        let mut asked: FuturesUnordered<_> = asked.collect();
        while let Some(told) = asked.next().await {
            answered(told);
        }
    }

    /// Asks for the subjects of one namespace, of which is known what proxies told.
    async fn ask_namespace(
        &self,
        subjects: Vec<Asks<'_>>,
        (unread, untold): (Option<&str>, Option<&str>),
        sweep: Sweep,
    ) -> Vec<(usize, Answer)> {
        let pods = self.ask_pods(&subjects, sweep).await;
        let answers = subjects.iter().map(|(place, subject, proxies)| {
            let told = |_, pod: &Pod| match page(subject, pod) {
                Some(page) => pods.get(&page).cloned().unwrap_or_else(|| Err("it was not asked".into())),
                None => Err("the FinService names no port in observability.metrics".into()),
            };
            let pods = pods::views(subject, told).map_err(|why| match untold {
                Some(untold) if proxies.is_empty() => format!("{why}; {untold}"),
                _ => why,
            });
            let custom = |_| Err(Untold::NotBuiltIn.to_string());
            (*place, answer(subject, (proxies, unread), &pods, custom))
        });
        answers.collect()
    }

    /// What all proxies tell.
    async fn ask_proxies(&self, subjects: &[Subject], sweep: Sweep) -> Proxied {
        let (mut unread, mut idle, mut told_all) = (None, None, 0);
        let mut known = Vec::new();
        let resolved = self.proxies.iter().map(|url| async move {
            let port = url.port_or_known_default().unwrap_or(80);
            // Brackets around an IPv6 address belong to the URL.
            let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
            (url, fetch::resolve(host, port, self.limits.proxy).await)
        });
        for (url, found) in join_all(resolved).await {
            match found {
                Ok(found) => known.extend(found.into_iter().map(|address| (url, address))),
                Err(why) => unread = Some(format!("the proxies of {url} are not known: {why}")),
            }
        }
        let services = Services::of(subjects);
        let asked: Vec<_> =
            known.into_iter().map(|(url, address)| self.ask_proxy(url, address, &services, sweep)).collect();
        let mut proxies = vec![Vec::new(); subjects.len()];
        let mut answers = futures::stream::iter(asked).buffer_unordered(self.limits.at_once);
        while let Some((id, told)) = answers.next().await {
            match told {
                Ok((_, None)) => {
                    idle = Some(format!(
                        "the proxy {id} has counted no request yet, neither in istio_requests_total nor in envoy_cluster_upstream_rq \
                         (a gateway of Istio tells them at port 15090, /stats/prometheus)"
                    ));
                }
                Ok((time, Some(seen))) => {
                    told_all += 1;
                    for (subject, arms) in seen {
                        proxies[subject].push(Proxy { id: id.clone(), time, arms });
                    }
                }
                Err(why) => unread = Some(format!("the proxy {id} tells nothing: {why}")),
            }
        }
        // They came in any order.
        for proxies in &mut proxies {
            proxies.sort_by(|one: &Proxy, other: &Proxy| one.id.cmp(&other.id));
        }
        let untold = unread.clone().or(idle).or_else(|| {
            (told_all > 0)
                .then(|| format!("proxies that were asked ({told_all}) count nothing of its Services"))
        });
        Proxied { proxies, unread, untold }
    }

    /// What one proxy tells of all subjects, `None` if it counts no requests at all; and what it is known by.
    async fn ask_proxy(
        &self,
        url: &Url,
        address: SocketAddr,
        services: &Services,
        sweep: Sweep,
    ) -> (String, Result<(f64, Option<Seen>), String>) {
        let told = async {
            let mut counter = gateway::Counter::new(services);
            let asked = Asked {
                address,
                path: &path_of(url),
                host: Some(&authority(url)),
                deadline: self.limits.proxy,
                most: self.limits.bytes,
                turn: None,
            };
            let time = self.read(asked, &gateway::PREFIXES, sweep, |sample| counter.take(sample)).await?;
            let counts = counter.counts();
            Ok((time, counts.then(|| counter.seen())))
        };
        (format!("{address} of {url}"), told.await)
    }

    /// What the pods tell that have to be asked, of subjects of one namespace.
    async fn ask_pods<'s>(
        &self,
        subjects: &[Asks<'s>],
        sweep: Sweep,
    ) -> HashMap<Page<'s>, Result<Told, String>> {
        let Some((_, Subject { namespace, .. }, _)) = subjects.first() else { return HashMap::new() };
        let asked = subjects.iter().filter(|(_, subject, proxies)| needs_pods(subject, proxies));
        let ready = asked.flat_map(|(_, subject, _)| {
            let pods = subject.arms.iter().flat_map(|arm| &arm.pods).filter(|pod| pod.ready_since.is_some());
            pods.filter_map(|pod| page(subject, pod))
        });
        let pages: HashSet<Page<'s>> = ready.collect();
        let asked: Vec<_> = pages.into_iter().map(|page| self.ask_pod(namespace, page, sweep)).collect();
        futures::stream::iter(asked).buffer_unordered(self.limits.at_once).collect().await
    }

    async fn ask_pod<'s>(
        &self,
        namespace: &str,
        page: Page<'s>,
        sweep: Sweep,
    ) -> (Page<'s>, Result<Told, String>) {
        let (address, path, not_counted, speaks) = page;
        let told = async {
            let turn = self.shares.turn(namespace).await;
            let mut counter = pods::Counter::new(not_counted, speaks);
            let Limits { request: deadline, pod_bytes: most, .. } = self.limits;
            let asked = Asked { address, path, host: None, deadline, most, turn: Some(&turn) };
            let prefixes = counter.prefixes();
            let time = self.read(asked, &prefixes, sweep, |sample| counter.take(sample)).await?;
            Ok(Told { time, counts: counter.counts() })
        };
        (page, told.await)
    }

    /// Reads a page while it arrives; returns when it was told.
    async fn read(
        &self,
        asked: Asked<'_>,
        prefixes: &[&str],
        sweep: Sweep,
        mut take: impl FnMut(&Sample<'_, '_>),
    ) -> Result<f64, String> {
        let Asked { address, path, host, deadline, most, turn } = asked;
        let page = path.split('?').next().unwrap_or_default();
        let left = self.limits.sweep.saturating_sub(sweep.began.elapsed());
        if left.is_zero() {
            return Err("the sweep was over before it was asked".into());
        }
        let mut request = self.client.get(format!("http://{address}{path}")).header(ACCEPT, FORMAT);
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        let mut lines = Lines::default();
        let unread = |error: Malformed| Trouble::Unread(error.to_string());
        let each = |status, piece: &[u8]| match status {
            StatusCode::OK => lines.read(piece, prefixes, &mut take).map_err(unread),
            _ => Ok(()),
        };
        let answered = fetch::pieces(request, deadline.min(left), most, turn, each).await;
        match answered {
            Ok(StatusCode::OK) => lines.end().map(|()| sweep.now()).map_err(|error| error.to_string()),
            Ok(status) => Err(format!("status {} from {address}{page}", status.as_u16())),
            Err(Trouble::Unread(why)) => Err(why),
            Err(why @ Trouble::TooLarge(_)) => Err(format!("{why} ({address}{page})")),
            Err(why) => Err(format!("{why} from {address}{page}")),
        }
    }
}

/// A page that is asked for.
struct Asked<'a> {
    address: SocketAddr,
    path: &'a str,
    /// The name by which it is asked for, where that is not the address.
    host: Option<&'a str>,
    /// How long it may take.
    deadline: Duration,
    /// How many bytes of it are read.
    most: usize,
    /// The turn of the tenant whose page it is.
    turn: Option<&'a Turn>,
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

/// Path and query. Who names no query is asked for what is read alone.
fn path_of(url: &Url) -> String {
    format!("{}?{}", url.path(), url.query().unwrap_or(gateway::FILTER))
}

#[cfg(test)]
#[path = "builtin_tests.rs"]
mod tests;
