//! Prometheus, or what speaks its API, as a source: one question for the built-in metrics of all rollouts, and one
//! for all metrics of services' own.

use crate::runtime::lock::lock;
use crate::signals::GateReply;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use futures::future::join;
use http::HeaderValue;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Certificate, Client, ClientBuilder, Url};

use super::answer::answer;
use super::promql::{self, TERM};
use super::series::{self, Series};
use super::subject::{self, Subject, What};
use super::vector::{self, Refused, Row};
use super::{answer::View, pods};
use crate::runtime::fetch::{self, Trouble};
use crate::runtime::shares::{Crowded, Held, Shares};

/// How long a question may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long the server may work on one: less, so that its own words can be heard.
const TIMEOUT: &str = "4s";
/// How many bytes of an answer are read: some seven thousand series.
const BYTES: usize = 2 << 20;
/// How many questions are asked at once.
const AT_ONCE: usize = 4;
/// How many series may answer a query of a service's own: both arms of a rollout, a series for each pod, and many more.
const OWN_ROWS: usize = 1000;

/// Why there is no such source.
#[derive(Debug, thiserror::Error)]
pub enum PrometheusError {
    /// Its address cannot be used.
    #[error(
        "`{url}` is no address of a Prometheus: {why}; write for example http://prometheus.monitoring:9090"
    )]
    Url {
        /// The address.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The authority's certificate cannot be read.
    #[error("the key of tls.ca holds no certificate in PEM: {0}")]
    Ca(String),
    /// The token cannot be sent.
    #[error(
        "the key of auth.bearer holds what cannot be sent as a token: it must be visible ASCII in one line"
    )]
    Bearer,
    /// No client can be made.
    #[error("cannot make an HTTP client: {0}")]
    Client(reqwest::Error),
}

/// A Prometheus. Made once; its connections are kept from one tick to the next.
#[derive(Debug)]
pub struct Prometheus {
    client: Client,
    url: Url,
    bearer: Option<HeaderValue>,
    deadline: Duration,
    namespace: String,
    shares: Shares,
    /// Queries that spoilt a union: each is asked alone until it is answered.
    apart: Mutex<BTreeSet<String>>,
}

impl Prometheus {
    /// A Prometheus at `url`, with the authority that its certificate is checked against as PEM (the system's if none
    /// is given), and a token.
    ///
    /// # Errors
    /// If one of them cannot be used.
    pub fn new(url: &str, ca: Option<&[u8]>, bearer: Option<&str>) -> Result<Self, PrometheusError> {
        Self::found_by(fetch::builder(), url, ca, bearer)
    }

    /// The same by a client that finds servers in a way of its own.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn found_by(
        mut client: ClientBuilder,
        url: &str,
        ca: Option<&[u8]>,
        bearer: Option<&str>,
    ) -> Result<Self, PrometheusError> {
        let wrong = |why: String| PrometheusError::Url { url: url.to_owned(), why };
        let base = Url::parse(url).map_err(|error| wrong(error.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
            return Err(wrong("it must begin with http:// or https://".to_owned()));
        }
        let mut query = base.clone();
        query.set_path(&format!("{}/api/v1/query", base.path().trim_end_matches('/')));
        if let Some(ca) = ca {
            let ca =
                Certificate::from_pem_bundle(ca).map_err(|error| PrometheusError::Ca(error.to_string()))?;
            if ca.is_empty() {
                return Err(PrometheusError::Ca("it holds none".to_owned()));
            }
            client = client.tls_certs_only(ca);
        } else if base.scheme() == "http" {
            // No authority is needed, so none has to be there.
            client = client.tls_certs_only([]);
        }
        let bearer = bearer.map(|token| {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
                .map_err(|_| PrometheusError::Bearer)?;
            value.set_sensitive(true);
            Ok(value)
        });
        Ok(Self {
            client: client.build().map_err(PrometheusError::Client)?,
            url: query,
            bearer: bearer.transpose()?,
            deadline: DEADLINE,
            namespace: String::new(),
            shares: Shares::default(),
            apart: Mutex::default(),
        })
    }

    /// The same with another deadline for each question. Default: 5s.
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The same, asked for a namespace, with what tenants share in the whole process.
    pub fn on_behalf_of(mut self, namespace: &str, shares: Shares) -> Self {
        (self.namespace, self.shares) = (namespace.to_owned(), shares);
        self
    }

    /// Asks for all subjects. Answers come in order.
    pub async fn ask(&self, subjects: &[Subject]) -> Vec<subject::Answer> {
        let query = promql::built_in(subjects);
        let built_in = async {
            match &query {
                Some(query) => self.question(&query.text).await.map(|rows| Series::of(rows.all())),
                None => Ok(Series::default()),
            }
        };
        let (found, own) = join(built_in, self.ask_own(&own_queries(subjects))).await;
        subjects
            .iter()
            .enumerate()
            .map(|(place, subject)| {
                let (proxies, pods) = match (&found, &query) {
                    (Err(why), _) => (Vec::new(), Err(format!("Prometheus does not answer: {why}"))),
                    (Ok(_), None) => (Vec::new(), Ok(Vec::<View>::new())),
                    (Ok(found), Some(query)) => {
                        if let Err(why) = found.check(query, place, subject) {
                            return subject::Answer::Nothing(why);
                        }
                        let told = |arm, pod: &_| found.told(query, place, subject, arm, pod);
                        (found.proxies(subject), pods::views(subject, told))
                    }
                };
                answer(subject, (&proxies, None), &pods, |metric| {
                    let name = &subject.metrics[metric].name;
                    let What::Custom { bad, total } = &subject.metrics[metric].what else {
                        return Err("it is built in".to_owned());
                    };
                    let rows = |query: &String| match own.get(query.as_str()) {
                        Some(rows) => rows.as_ref().map(Rows::all).map_err(Clone::clone),
                        None => Err("it was not asked".to_owned()),
                    };
                    series::custom(subject, name, rows(bad), rows(total))
                })
            })
            .collect()
    }

    /// Asks gates, equal ones once. Any series opens a gate, whatever its value; none closes it. Answers come in
    /// order.
    pub async fn gate(&self, queries: &[&str]) -> Vec<GateReply> {
        let distinct: BTreeSet<&str> = queries.iter().copied().collect();
        let answers: BTreeMap<&str, GateReply> =
            self.each(distinct).await.into_iter().map(|(query, rows)| (query, gate(rows))).collect();
        queries.iter().map(|query| answers[query].clone()).collect()
    }

    /// Asks metrics of services' own: all in one question. Those with which that has failed, through their own fault
    /// or perhaps so, are asked alone.
    async fn ask_own<'q>(&self, queries: &BTreeSet<&'q str>) -> BTreeMap<&'q str, Result<Rows, String>> {
        let known = {
            let mut apart = lock(&self.apart);
            apart.retain(|query| queries.contains(query.as_str()));
            apart.clone()
        };
        let (together, alone): (Vec<&str>, Vec<&str>) = queries
            .iter()
            .copied()
            .partition(|query| promql::self_contained(query) && !known.contains(*query));
        let (mut answers, singly) = join(self.together(&together), self.each(alone)).await;
        answers.extend(singly);
        {
            let mut apart = lock(&self.apart);
            for (query, rows) in &answers {
                match rows {
                    Ok(_) => apart.remove(*query),
                    Err(Refused::Question(_) | Refused::Late(_)) => apart.insert((*query).to_owned()),
                    // The server is at fault, and more questions would not help it.
                    Err(Refused::Other(_)) => false,
                };
            }
        }
        answers.into_iter().map(|(query, rows)| (query, few(rows).map_err(|why| why.to_string()))).collect()
    }

    /// Asks queries in one question; if that is refused for what it asks, each alone.
    async fn together<'q>(&self, queries: &[&'q str]) -> BTreeMap<&'q str, Result<Rows, Refused>> {
        if queries.len() < 2 {
            return self.each(queries.iter().copied()).await;
        }
        match self.question(&promql::union(queries)).await {
            Ok(rows) => {
                let of = |row: &Row| row.label(TERM).parse().ok().filter(|place| *place < queries.len());
                queries.iter().copied().zip(rows.parted(queries.len(), of).into_iter().map(Ok)).collect()
            }
            Err(Refused::Question(_)) => self.each(queries.iter().copied()).await,
            Err(why) => queries.iter().map(|query| (*query, Err(why.clone()))).collect(),
        }
    }

    /// Asks each query alone.
    async fn each<'q>(
        &self,
        queries: impl IntoIterator<Item = &'q str>,
    ) -> BTreeMap<&'q str, Result<Rows, Refused>> {
        let asked: Vec<_> =
            queries.into_iter().map(|query| async move { (query, self.question(query).await) }).collect();
        futures::stream::iter(asked).buffer_unordered(AT_ONCE).collect().await
    }

    /// Asks one question.
    async fn question(&self, query: &str) -> Result<Rows, Refused> {
        let turn = self.shares.turn(&self.namespace).await;
        let mut held = self.shares.account(&self.namespace);
        // A URL's query is what a form is.
        let mut form = self.url.clone();
        form.query_pairs_mut().clear().append_pair("query", query).append_pair("timeout", TIMEOUT);
        let mut request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.query().unwrap_or_default().to_owned());
        if let Some(bearer) = &self.bearer {
            request = request.header(AUTHORIZATION, bearer.clone());
        }
        match fetch::text(request, self.deadline, BYTES, &turn, &mut held).await {
            Ok((status, text)) => {
                let rows = vector::read(status.as_u16(), &text)?;
                drop(text);
                Rows::new(rows, held)
            }
            Err(why @ Trouble::Late(_)) => Err(Refused::Late(why.to_string())),
            Err(why @ Trouble::TooLarge(_)) => {
                Err(Refused::Question(format!("{why}; ask for fewer series, such as `sum by (revision)`")))
            }
            Err(Trouble::Crowded(why)) => Err(crowded(why)),
            Err(why) => Err(Refused::Other(why.to_string())),
        }
    }
}

/// The series of an answer, which are held in the namespace's account as long as they are there.
#[derive(Debug)]
struct Rows {
    rows: Vec<Row>,
    _held: Arc<Held>,
}

impl Rows {
    fn new(rows: Vec<Row>, mut held: Held) -> Result<Self, Refused> {
        held.set(rows.iter().map(Row::size).sum()).map_err(crowded)?;
        Ok(Self { rows, _held: Arc::new(held) })
    }

    fn all(&self) -> &[Row] {
        &self.rows
    }

    /// So many parts, by what each row belongs to.
    fn parted(self, parts: usize, of: impl Fn(&Row) -> Option<usize>) -> Vec<Rows> {
        let part = || Rows { rows: Vec::new(), _held: Arc::clone(&self._held) };
        let mut all: Vec<Rows> = (0..parts).map(|_| part()).collect();
        for row in self.rows {
            if let Some(part) = of(&row) {
                all[part].rows.push(row);
            }
        }
        all
    }
}

/// An answer to a query of a service's own, if it is one that can be meant.
fn few(rows: Result<Rows, Refused>) -> Result<Rows, Refused> {
    match rows {
        Ok(rows) if rows.rows.len() > OWN_ROWS => Err(Refused::Question(format!(
            "it gives {} series, and {OWN_ROWS} are read; ask for fewer, such as `sum by (revision)`",
            rows.rows.len()
        ))),
        rows => rows,
    }
}

fn crowded(why: Crowded) -> Refused {
    Refused::Other(format!("{why}; ask for fewer series, or in fewer CanaryRollouts at once"))
}

/// The queries of metrics of services' own, each once.
fn own_queries(subjects: &[Subject]) -> BTreeSet<&str> {
    let metrics = subjects.iter().flat_map(|subject| &subject.metrics);
    let queries = metrics.filter_map(|metric| match &metric.what {
        What::Custom { bad, total } => Some([bad.as_str(), total.as_str()]),
        What::Errors | What::Refused | What::Slower(_) => None,
    });
    queries.flatten().collect()
}

/// What an answer means to a gate.
fn gate(rows: Result<Rows, Refused>) -> GateReply {
    match rows {
        Ok(rows) if rows.rows.is_empty() => GateReply::No("the query gives no series".to_owned()),
        Ok(_) => GateReply::Yes,
        Err(why) => GateReply::Nobody(why.to_string()),
    }
}

#[cfg(test)]
#[path = "prometheus_tests.rs"]
mod tests;
