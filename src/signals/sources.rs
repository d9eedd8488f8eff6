//! All sources behind the hub, each made once: the built-in one, and every Prometheus that a CanaryRollout names.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use super::ask::{Ask, GateReply, SourceKey};
use super::builtin::{BuiltIn, BuiltInError, Limits};
use super::prometheus::Prometheus;
use super::subject::{Answer, Subject};
use super::webhook;
use crate::api::analysis::{KeyOfSecret, Prometheus as Spec};
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

/// One that was made.
struct Known {
    made: Made,
    /// When.
    at: Instant,
    /// When it was asked last.
    asked: Instant,
}

/// All sources.
pub struct Sources {
    client: Client,
    built_in: BuiltIn,
    web: reqwest::Client,
    shares: Shares,
    made: Mutex<HashMap<SourceKey, Known>>,
}

impl Sources {
    /// The sources of this operator; `proxies` are where gateways tell their counters.
    ///
    /// # Errors
    /// If the address of a proxy cannot be used, or no client can be made.
    pub fn new(client: Client, proxies: &[String]) -> Result<Self, BuiltInError> {
        let limits = Limits { request: REQUEST, ..Limits::default() };
        let shares = Shares::default();
        let built_in = BuiltIn::new(proxies, limits)?.with_shares(shares.clone());
        Ok(Self { client, built_in, web: webhook::client()?, shares, made: Mutex::default() })
    }

    async fn prometheus(&self, key: &SourceKey, namespace: &str, spec: &str) -> Made {
        if let Some(known) = lock(&self.made).get_mut(key)
            && (known.made.is_ok() || known.at.elapsed() < ANEW)
        {
            known.asked = Instant::now();
            return known.made.clone();
        }
        let made = self.make(namespace, spec).await.map(Arc::new);
        let now = Instant::now();
        let mut all = lock(&self.made);
        keep_few(&mut all, namespace, now);
        all.insert(key.clone(), Known { made: made.clone(), at: now, asked: now });
        made
    }

    async fn make(&self, namespace: &str, spec: &str) -> Result<Prometheus, String> {
        let spec: Spec = serde_json::from_str(spec).map_err(|error| error.to_string())?;
        let ca = match &spec.tls {
            Some(tls) => Some(self.key("tls.ca", namespace, &tls.ca).await?),
            None => None,
        };
        let bearer = match &spec.auth {
            Some(auth) => Some(self.key("auth.bearer", namespace, &auth.bearer).await?),
            None => None,
        };
        let bearer = bearer.map(String::from_utf8).transpose();
        let bearer = bearer.map_err(|_| "the key of auth.bearer is no text".to_owned())?;
        let made = Prometheus::new(&spec.url, ca.as_deref(), bearer.as_deref());
        Ok(made.map_err(|error| error.to_string())?.on_behalf_of(namespace, self.shares.clone()))
    }

    /// What a key of a Secret holds.
    async fn key(&self, field: &str, namespace: &str, of: &KeyOfSecret) -> Result<Vec<u8>, String> {
        let (name, key) = (&of.secret, &of.key);
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let found = api.get_opt(name).await;
        let found = found.map_err(|error| format!("{field}: Secret {name} cannot be read: {error}"))?;
        let secret =
            found.ok_or_else(|| format!("{field}: there is no Secret {name} in namespace {namespace}"))?;
        let value = secret.data.and_then(|mut data| data.remove(key));
        value.map(|value| value.0).ok_or_else(|| format!("{field}: Secret {name} has no key {key}"))
    }

    /// Forgets a Prometheus that gave no answer at all, once it is old enough.
    fn doubt(&self, key: &SourceKey) {
        let mut made = lock(&self.made);
        if made.get(key).is_some_and(|known| known.at.elapsed() >= ANEW) {
            made.remove(key);
        }
    }
}

/// Forgets those that nobody asks any more, and makes room for one more of a namespace: who changes its source again and
/// again fills no memory.
fn keep_few(all: &mut HashMap<SourceKey, Known>, namespace: &str, now: Instant) {
    all.retain(|_, known| now.saturating_duration_since(known.asked) < UNUSED);
    let own =
        |key: &&SourceKey| matches!(key, SourceKey::Prometheus { namespace: of, .. } if of == namespace);
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
        let answers = match self.prometheus(source, namespace, spec).await {
            Ok(prometheus) => {
                let answers = prometheus.ask(subjects).await;
                if answers.iter().all(|answer| matches!(answer, Answer::Nothing(_))) {
                    self.doubt(source);
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
        match self.prometheus(source, namespace, spec).await {
            Ok(prometheus) => {
                let queries: Vec<&str> = queries.iter().map(String::as_str).collect();
                prometheus.gate(&queries).await
            }
            Err(why) => none(&why),
        }
    }

    async fn webhook(&self, namespace: &str, url: &str, told: &serde_json::Value) -> GateReply {
        let turn = self.shares.turn(namespace).await;
        webhook::ask(&self.web, url, told, &turn).await
    }
}

#[cfg(test)]
#[path = "sources_tests.rs"]
mod tests;
