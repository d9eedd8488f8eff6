//! How rollouts fare in other clusters: their status, asked every ten seconds while somebody wants to know.
//!
//! Each cluster is asked on its own, so that a dead one delays no other, and each call has a deadline. Nothing is
//! asked while nobody waits. The kubeconfig is read anew each time, from this cluster, so that a renewed one is used
//! at once; the connection is kept while it is the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::config::KubeConfigOptions;
use kube::{Client, Config, ResourceExt};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::index::Reached;
use super::kubeconfig;
use super::peer_error::PeerError;
use crate::api::cloudcluster::KubeconfigSource;
use crate::api::{CanaryRollout, CanaryRolloutStatus, CloudCluster};
use crate::runtime::key::Key;
use crate::runtime::lock::lock;
use tokio_util::sync::CancellationToken;

/// How often a cluster is asked.
const EVERY: Duration = Duration::from_secs(10);
/// How long a call may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// Up to so many rollouts of a cluster are asked for one by one; more by one list.
const ONE_BY_ONE: usize = 8;
/// After so many rounds the version of a peer's API server is asked for again.
const VERSION_EVERY: u32 = 60;

/// What a cluster answered about a rollout; the error is a sentence. A CanaryRollout that is not there, or has no
/// status yet, is answered by an empty status.
pub type Answer = Result<CanaryRolloutStatus, String>;

/// A rollout in another cluster: name of the cluster, namespace, name.
pub type Wanted = (String, String, String);

/// What is known of rollouts in other clusters. Cheap to clone.
#[derive(Clone)]
pub struct Peers {
    inner: Arc<Inner>,
}

/// Told how a cluster was reached.
type OnReached = Box<dyn Fn(&str, Reached) + Send + Sync>;

struct Inner {
    client: Client,
    namespace: String,
    every: Duration,
    state: Mutex<State>,
    woken: Notify,
    on_reached: OnceLock<OnReached>,
}

#[derive(Default)]
struct State {
    wanted: BTreeMap<Key, Vec<Wanted>>,
    answers: BTreeMap<Wanted, Answer>,
}

/// A connection to a peer.
struct Link {
    /// The kubeconfig that it was made from.
    text: Vec<u8>,
    client: Client,
    version: Option<String>,
    rounds: u32,
}

/// A cluster that is asked.
#[derive(Default)]
struct Cluster {
    due: Option<Instant>,
    busy: bool,
    link: Option<Link>,
}

/// One round with a cluster.
struct Round {
    cluster: String,
    link: Option<Link>,
    answers: Vec<(Wanted, Result<CanaryRolloutStatus, PeerError>)>,
}

/// What of an answer matters: numbers that move all the time are no news.
fn essence(answer: &Answer) -> Answer {
    answer.clone().map(|mut status| {
        status.metrics.clear();
        status.conditions.clear();
        status.problems.clear();
        status.message = None;
        status.verdict = None;
        status
    })
}

async fn within<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, PeerError> {
    match tokio::time::timeout(DEADLINE, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(PeerError::of(&error)),
        Err(_) => Err(PeerError::timeout(DEADLINE)),
    }
}

/// A call to this cluster's own API server.
async fn own<T>(what: &str, call: impl Future<Output = kube::Result<T>>) -> Result<T, PeerError> {
    match tokio::time::timeout(DEADLINE, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(kube::Error::Api(status))) => {
            Err(PeerError::Own(format!("{what} cannot be read ({}): {}", status.code, status.message)))
        }
        Ok(Err(_)) => Err(PeerError::Own(format!("{what} cannot be read"))),
        Err(_) => Err(PeerError::Own(format!("{what}: no answer within {} s", DEADLINE.as_secs()))),
    }
}

impl Peers {
    /// Nothing is wanted yet. CloudClusters and the Secrets of their kubeconfigs are in `namespace`.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self::every(client, namespace, EVERY)
    }

    fn every(client: Client, namespace: &str, every: Duration) -> Self {
        let (namespace, state, woken) = (namespace.to_owned(), Mutex::default(), Notify::new());
        let on_reached = OnceLock::new();
        Self { inner: Arc::new(Inner { client, namespace, every, state, woken, on_reached }) }
    }

    /// Who is told how a cluster was reached, each time it was asked. The first one stays.
    pub fn on_reached(&self, on_reached: impl Fn(&str, Reached) + Send + Sync + 'static) {
        let _ = self.inner.on_reached.set(Box::new(on_reached));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can leave a state half changed.
        lock(&self.inner.state)
    }

    /// Says which rollouts of other clusters a service waits for, instead of those before; none: it waits no longer.
    pub fn want(&self, service: &Key, wanted: Vec<Wanted>) {
        let mut state = self.state();
        let before = if wanted.is_empty() {
            state.wanted.remove(service)
        } else {
            state.wanted.insert(service.clone(), wanted.clone())
        };
        if before.unwrap_or_default() == wanted {
            return;
        }
        let left: BTreeSet<Wanted> = state.wanted.values().flatten().cloned().collect();
        state.answers.retain(|asked, _| left.contains(asked));
        drop(state);
        self.inner.woken.notify_one();
    }

    /// What each cluster last answered about what the service waits for, in the order of [`Self::want`].
    pub fn peers(&self, service: &Key) -> Vec<(String, Answer)> {
        let state = self.state();
        let wanted = state.wanted.get(service).map(Vec::as_slice).unwrap_or_default();
        wanted
            .iter()
            .map(|asked| {
                let answer = state.answers.get(asked).cloned();
                (asked.0.clone(), answer.unwrap_or_else(|| Err(PeerError::NotYet.to_string())))
            })
            .collect()
    }

    /// What is wanted of each cluster, and whether some of it has never been asked.
    fn by_cluster(&self) -> BTreeMap<String, (BTreeSet<Wanted>, bool)> {
        let state = self.state();
        let mut clusters: BTreeMap<String, (BTreeSet<Wanted>, bool)> = BTreeMap::new();
        for asked in state.wanted.values().flatten() {
            let (all, new) = clusters.entry(asked.0.clone()).or_default();
            *new |= !state.answers.contains_key(asked);
            all.insert(asked.clone());
        }
        clusters
    }

    /// Asks until `shutdown`. `on_change` is called for each service for which an answer differs from the one before.
    pub async fn run(&self, shutdown: CancellationToken, on_change: impl Fn(&Key)) {
        let mut clusters: BTreeMap<String, Cluster> = BTreeMap::new();
        let mut rounds = FuturesUnordered::new();
        loop {
            let wanted = self.by_cluster();
            clusters.retain(|name, cluster| cluster.busy || wanted.contains_key(name));
            let now = Instant::now();
            for (name, (rollouts, new)) in wanted {
                let cluster = clusters.entry(name.clone()).or_default();
                if !cluster.busy && (new || cluster.due.is_none_or(|due| due <= now)) {
                    cluster.busy = true;
                    rounds.push(self.round(name, rollouts, cluster.link.take()));
                }
            }
            let waiting = clusters.values().filter(|cluster| !cluster.busy);
            let next = waiting.filter_map(|cluster| cluster.due).min();
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.inner.woken.notified() => {}
                () = tokio::time::sleep_until(next.unwrap_or(now)), if next.is_some() => {}
                Some(round) = rounds.next(), if !rounds.is_empty() => {
                    let cluster = clusters.entry(round.cluster).or_default();
                    (cluster.busy, cluster.link) = (false, round.link);
                    cluster.due = Some(Instant::now() + self.inner.every);
                    self.keep(round.answers).iter().for_each(&on_change);
                }
            }
        }
    }

    /// Keeps what was answered, and says for whom that is news.
    fn keep(&self, answers: Vec<(Wanted, Result<CanaryRolloutStatus, PeerError>)>) -> Vec<Key> {
        let mut state = self.state();
        let mut news = BTreeSet::new();
        for (asked, answer) in answers {
            let answer = answer.map_err(|error| error.to_string());
            let wants: Vec<Key> = state
                .wanted
                .iter()
                .filter(|(_, all)| all.contains(&asked))
                .map(|(key, _)| key.clone())
                .collect();
            if wants.is_empty() {
                continue;
            }
            let before = state.answers.insert(asked, answer.clone());
            if before.as_ref().map(essence) != Some(essence(&answer)) {
                news.extend(wants);
            }
        }
        news.into_iter().collect()
    }

    async fn round(&self, cluster: String, rollouts: BTreeSet<Wanted>, link: Option<Link>) -> Round {
        let all =
            |error: &PeerError| rollouts.iter().map(|asked| (asked.clone(), Err(error.clone()))).collect();
        let way = match self.way(&cluster).await {
            Ok(way) => way,
            Err(error) => return Round { answers: all(&error), cluster, link },
        };
        let (link, answers) = match self.link(&cluster, &way, link).await {
            Ok(link) => {
                let answers = ask(&link.client, &rollouts).await;
                (Some(link), answers)
            }
            Err(error) => (None, all(&error)),
        };
        let answered = answers.iter().any(|(_, answer)| answer.is_ok());
        let failure = answers.iter().find_map(|(_, answer)| answer.as_ref().err()).filter(|_| !answered);
        if let Some(on_reached) = self.inner.on_reached.get() {
            on_reached(
                &cluster,
                match failure {
                    None => Ok(link.as_ref().and_then(|link| link.version.clone())),
                    Some(error) => Err(error.clone()),
                },
            );
        }
        // What failed is connected anew.
        let link = link.filter(|_| answered);
        Round { answers, cluster, link }
    }

    /// Where the kubeconfig of a cluster is: of its CloudCluster nothing else is read, so that nothing else of it can be
    /// in the way.
    async fn way(&self, cluster: &str) -> Result<KubeconfigSource, PeerError> {
        let resource = ApiResource::erase::<CloudCluster>(&());
        let sites: Api<DynamicObject> =
            Api::namespaced_with(self.inner.client.clone(), &self.inner.namespace, &resource);
        let what = format!("the CloudCluster {cluster}");
        let found = own(&what, sites.get_opt(cluster)).await?.ok_or_else(|| PeerError::NoSite {
            cluster: cluster.to_owned(),
            namespace: self.inner.namespace.clone(),
        })?;
        match &found.data["spec"]["kubeconfig"] {
            Value::Null => Err(PeerError::NoWay(cluster.to_owned())),
            way => KubeconfigSource::deserialize(way)
                .map_err(|error| PeerError::Own(format!("{what}: spec.kubeconfig cannot be read: {error}"))),
        }
    }

    /// The connection to a peer: the one before, if the kubeconfig is the same.
    async fn link(
        &self,
        cluster: &str,
        source: &KubeconfigSource,
        link: Option<Link>,
    ) -> Result<Link, PeerError> {
        let (name, key) = (&source.secret_ref.name, source.secret_ref.key());
        let namespace = &self.inner.namespace;
        let secrets: Api<Secret> = Api::namespaced(self.inner.client.clone(), namespace);
        let absent = |what: String| PeerError::NoSecret { cluster: cluster.to_owned(), what };
        let secret = own(&format!("the Secret {name}"), secrets.get_opt(name))
            .await?
            .ok_or_else(|| absent(format!("Secret {name} in namespace {namespace}")))?;
        let text = secret.data.and_then(|mut data| data.remove(key)).map(|bytes| bytes.0);
        let text =
            text.ok_or_else(|| absent(format!("key {key} in Secret {name} in namespace {namespace}")))?;
        let mut link = match link.filter(|link| link.text == text) {
            Some(link) => link,
            None => connect(text).await?,
        };
        if link.rounds % VERSION_EVERY == 0 {
            match within(link.client.apiserver_version()).await {
                Ok(version) => link.version = Some(version.git_version),
                // Somebody may keep that from us; whether the peer answers shows in what matters.
                Err(PeerError::Answer { reason: "Forbidden" | "NotInstalled", .. }) => {}
                Err(error) => return Err(error),
            }
        }
        link.rounds = link.rounds.wrapping_add(1);
        Ok(link)
    }
}

async fn connect(text: Vec<u8>) -> Result<Link, PeerError> {
    let checked = kubeconfig::check(&text)?;
    let wrong = |what: String| PeerError::Kubeconfig {
        message: format!("the kubeconfig cannot be used: {what}"),
        remedy: "correct its certificates and credentials".to_owned(),
    };
    let mut config = Config::from_custom_kubeconfig(checked, &KubeConfigOptions::default())
        .await
        .map_err(|error| wrong(error.to_string()))?;
    // The next round is the retry.
    config.default_retry = false;
    config.connect_timeout = Some(DEADLINE);
    // Variables of our own process are not the kubeconfig's.
    config.proxy_url = None;
    let client = Client::try_from(config).map_err(|error| wrong(error.to_string()))?;
    Ok(Link { text, client, version: None, rounds: 0 })
}

/// The status of each rollout.
async fn ask(
    client: &Client,
    rollouts: &BTreeSet<Wanted>,
) -> Vec<(Wanted, Result<CanaryRolloutStatus, PeerError>)> {
    let resource = ApiResource::erase::<CanaryRollout>(&());
    if rollouts.len() > ONE_BY_ONE {
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        // What the server has in memory is new enough, and costs it nothing.
        let listed = within(api.list(&ListParams::default().match_any())).await;
        let found = listed.map(|list| {
            let named =
                |object: DynamicObject| ((object.namespace().unwrap_or_default(), object.name_any()), object);
            list.items.into_iter().map(named).collect::<BTreeMap<_, _>>()
        });
        let answer = |asked: &Wanted| match &found {
            Ok(found) => status(found.get(&(asked.1.clone(), asked.2.clone()))),
            Err(error) => Err(error.clone()),
        };
        return rollouts.iter().map(|asked| (asked.clone(), answer(asked))).collect();
    }
    let one = async |asked: &Wanted| {
        let (_, namespace, name) = asked;
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
        let found = within(async {
            match api.get(name).await {
                Ok(object) => Ok(Some(object)),
                // The object is missing, and not its definition: the server knows its name.
                Err(kube::Error::Api(answer))
                    if answer.code == 404
                        && answer.details.as_ref().is_some_and(|details| details.name == *name) =>
                {
                    Ok(None)
                }
                Err(error) => Err(error),
            }
        });
        (asked.clone(), found.await.and_then(|object| status(object.as_ref())))
    };
    join_all(rollouts.iter().map(one)).await
}

/// The status in an object, which an operator of another version may have written.
fn status(object: Option<&DynamicObject>) -> Result<CanaryRolloutStatus, PeerError> {
    let value = object.and_then(|object| object.data.get("status"));
    value.map_or_else(
        || Ok(CanaryRolloutStatus::default()),
        |value| {
            CanaryRolloutStatus::deserialize(value).map_err(|error| PeerError::Answer {
                reason: "Unreadable",
                words: format!(
                    "its status cannot be read ({error}); run one version of Banyan in all clusters"
                ),
                stalled: true,
            })
        },
    )
}

#[cfg(test)]
#[path = "peers_tests.rs"]
mod tests;
