//! All sources behind the hub, each made once: the built-in one, and every Prometheus that a CanaryRollout names.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use reqwest::{ClientBuilder, Url};

use super::ask::{Ask, GateReply, SourceKey};
use super::builtin::{BuiltIn, BuiltInError, Limits};
use super::prometheus::Prometheus;
use super::reach::Wish;
use super::resolver::Grants;
use super::subject::{Answer, Subject};
use super::webhook;
use crate::api::analysis::{Auth, KeyOfSecret, Prometheus as Spec};
use crate::api::canaryrollout::WebhookGate;
use crate::runtime::fetch;
use crate::runtime::key::is_name;
use crate::runtime::lock::lock;
use crate::runtime::shares::Shares;

/// After how long a Prometheus that gives no answer is made anew: its Secrets may have changed. Secrets are not
/// read at other times.
const ANEW: Duration = Duration::from_secs(30);
/// After how long a Prometheus is forgotten that nobody asks any more.
const UNUSED: Duration = Duration::from_secs(300);
/// How many a namespace may have made at once: each has connections of its own. Whose turn was longest ago is forgotten.
const EACH: usize = 16;
/// How long one pod or proxy may take to answer: a tick of the shortest interval must not wait longer for one that
/// is silent.
const REQUEST: Duration = Duration::from_secs(1);

/// A Prometheus, or why there is none.
type Made = Result<Arc<Prometheus>, String>;

/// What is kept of what was made for namespaces, by the namespace and what it asked for.
type Kept<M> = HashMap<(String, String), Known<M>>;

/// One that was made.
struct Known<M> {
    made: M,
    /// When.
    at: Instant,
    /// When it was asked last.
    asked: Instant,
}

/// All sources.
pub struct Sources {
    client: Client,
    built_in: BuiltIn,
    grants: Grants,
    shares: Shares,
    made: Mutex<Kept<Made>>,
    /// Clients for web servers that are gates, by their origin.
    web: Mutex<Kept<reqwest::Client>>,
}

impl Sources {
    /// The sources of this operator; `proxies` are where gateways tell their counters, and `grants` says which servers
    /// namespaces may have asked.
    ///
    /// # Errors
    /// If the address of a proxy cannot be used, or no client can be made.
    pub fn new(client: Client, proxies: &[String], grants: Grants) -> Result<Self, BuiltInError> {
        let limits = Limits { request: REQUEST, ..Limits::default() };
        let shares = Shares::default();
        let built_in = BuiltIn::new(proxies, limits)?.with_shares(shares.clone());
        Ok(Self { client, built_in, grants, shares, made: Mutex::default(), web: Mutex::default() })
    }

    /// The same with other shares.
    #[cfg(test)]
    pub(crate) fn with_shares(mut self, shares: Shares) -> Self {
        self.built_in = self.built_in.with_shares(shares.clone());
        self.shares = shares;
        self
    }

    async fn prometheus(&self, namespace: &str, spec: &str) -> Made {
        let key = (namespace.to_owned(), spec.to_owned());
        if let Some(known) = lock(&self.made).get_mut(&key)
            && (known.made.is_ok() || known.at.elapsed() < ANEW)
        {
            known.asked = Instant::now();
            return known.made.clone();
        }
        let made = self.make(namespace, spec).await.map(Arc::new);
        let now = Instant::now();
        let mut all = lock(&self.made);
        keep_few(&mut all, namespace, now);
        all.insert(key, Known { made: made.clone(), at: now, asked: now });
        made
    }

    async fn make(&self, namespace: &str, spec: &str) -> Result<Prometheus, String> {
        let spec: Spec = serde_json::from_str(spec).map_err(|error| error.to_string())?;
        let ca = match &spec.tls {
            Some(tls) => Some(self.key("tls.ca", namespace, &tls.ca).await?),
            None => None,
        };
        let bearer = self.bearer("auth.bearer", namespace, spec.auth.as_ref()).await?;
        let field = "analysis.source.prometheus.url";
        let (_, client) = self.way_to(field, namespace, &spec.url).await?;
        let made = Prometheus::found_by(client, &spec.url, ca.as_deref(), bearer.as_deref());
        Ok(made.map_err(|error| error.to_string())?.on_behalf_of(namespace, self.shares.clone()))
    }

    /// A client that finds the server of a URL, if the namespace may have it asked.
    async fn way_to(
        &self,
        field: &'static str,
        namespace: &str,
        url: &str,
    ) -> Result<(Url, ClientBuilder), String> {
        let no_address = |why: &str| format!("{field}: `{url}` is no address: {why}");
        let parsed = Url::parse(url).map_err(|error| no_address(&error.to_string()))?;
        let wish = Wish::new(field, namespace, &parsed).ok_or_else(|| no_address("it names no host"))?;
        let resolver = self.grants.resolver(wish).await?;
        Ok((parsed, fetch::builder().dns_resolver(resolver)))
    }

    /// What a key of a Secret holds.
    /// The token that is presented to a server, if one is.
    async fn bearer(
        &self,
        field: &str,
        namespace: &str,
        auth: Option<&Auth>,
    ) -> Result<Option<String>, String> {
        let Some(auth) = auth else { return Ok(None) };
        let token = String::from_utf8(self.key(field, namespace, &auth.bearer).await?);
        let token = token.map_err(|_| format!("the key of {field} is no text"))?;
        Ok(Some(token.trim_end().to_owned()))
    }

    async fn key(&self, field: &str, namespace: &str, of: &KeyOfSecret) -> Result<Vec<u8>, String> {
        let (name, key) = (&of.secret, &of.key);
        if !is_name(name) {
            return Err(format!("{field}: `{name}` is no name of a Secret"));
        }
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let found = api.get_opt(name).await;
        let found = found.map_err(|error| format!("{field}: Secret {name} cannot be read: {error}"))?;
        let secret =
            found.ok_or_else(|| format!("{field}: there is no Secret {name} in namespace {namespace}"))?;
        let value = secret.data.and_then(|mut data| data.remove(key));
        value.map(|value| value.0).ok_or_else(|| format!("{field}: Secret {name} has no key {key}"))
    }

    /// Forgets a Prometheus that gave no answer at all, once it is old enough.
    fn doubt(&self, namespace: &str, spec: &str) {
        let key = &(namespace.to_owned(), spec.to_owned());
        let mut made = lock(&self.made);
        if made.get(key).is_some_and(|known| known.at.elapsed() >= ANEW) {
            made.remove(key);
        }
    }
}

/// Forgets those that nobody asks any more, and makes room for one more of a namespace: who changes its source again and
/// again fills no memory.
fn keep_few<M>(all: &mut Kept<M>, namespace: &str, now: Instant) {
    all.retain(|_, known| now.saturating_duration_since(known.asked) < UNUSED);
    let own = |key: &&(String, String)| key.0 == namespace;
    while all.keys().filter(own).count() >= EACH {
        let oldest = all.iter().filter(|(key, _)| own(key)).min_by_key(|(_, known)| known.asked);
        let Some(oldest) = oldest.map(|(key, _)| key.clone()) else { return };
        all.remove(&oldest);
    }
}

impl Ask for Sources {
    async fn counters(
        &self,
        source: &SourceKey,
        subjects: &[Subject],
        now: f64,
        mut answered: impl FnMut(Vec<(usize, Answer)>) + Send,
    ) {
        let SourceKey::Prometheus { namespace, spec } = source else {
            return self.built_in.ask_each(subjects, now, answered).await;
        };
        let answers = match self.prometheus(namespace, spec).await {
            Ok(prometheus) => {
                let answers = prometheus.ask(subjects).await;
                if answers.iter().all(|answer| matches!(answer, Answer::Nothing(_))) {
                    self.doubt(namespace, spec);
                }
                answers
            }
            Err(why) => subjects.iter().map(|_| Answer::Nothing(why.clone())).collect(),
        };
        answered(answers.into_iter().enumerate().collect());
    }

    async fn queries(&self, source: &SourceKey, queries: &[String]) -> Vec<GateReply> {
        let none = |why: &str| queries.iter().map(|_| GateReply::Nobody(why.to_owned())).collect();
        let SourceKey::Prometheus { namespace, spec } = source else {
            return none("analysis.source names no Prometheus");
        };
        match self.prometheus(namespace, spec).await {
            Ok(prometheus) => {
                let queries: Vec<&str> = queries.iter().map(String::as_str).collect();
                prometheus.gate(&queries).await
            }
            Err(why) => none(&why),
        }
    }

    async fn webhook(&self, namespace: &str, server: &WebhookGate, told: &serde_json::Value) -> GateReply {
        let WebhookGate { url, auth } = server;
        let turn = self.shares.turn(namespace).await;
        let bearer = match self.bearer("gates[].webhook.auth.bearer", namespace, auth.as_ref()).await {
            Ok(bearer) => bearer,
            Err(why) => return GateReply::Nobody(why),
        };
        // What is listed, and what a name says, is looked at each time; where it leads, when a connection is made.
        let (url, builder) = match self.way_to("gates[].webhook.url", namespace, url).await {
            Ok(found) => found,
            Err(why) => return GateReply::Nobody(why),
        };
        let key = (namespace.to_owned(), url.origin().ascii_serialization());
        let now = Instant::now();
        let known = lock(&self.web).get_mut(&key).map(|known| {
            known.asked = now;
            known.made.clone()
        });
        let client = match known.map_or_else(|| builder.build(), Ok) {
            Ok(client) => client,
            Err(error) => return GateReply::Nobody(format!("cannot make an HTTP client: {error}")),
        };
        let reply = webhook::ask(&client, url, bearer.as_deref(), told, &turn).await;
        let mut all = lock(&self.web);
        if !all.contains_key(&key) {
            keep_few(&mut all, namespace, now);
            all.insert(key, Known { made: client, at: now, asked: now });
        }
        reply
    }
}

#[cfg(test)]
#[path = "sources_tests.rs"]
mod tests;
