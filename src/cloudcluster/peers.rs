//! How rollouts fare in other clusters: their status, asked every ten seconds while somebody wants to know.
//!
//! Each cluster is asked on its own, so that a dead one delays no other, and each call has a deadline. Nothing is
//! asked while nobody waits. The way to a cluster is its link's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use kube::ResourceExt;
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use serde::Deserialize;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::links::Links;
use super::peer_error::PeerError;
use crate::api::{CanaryRollout, CanaryRolloutStatus};
use crate::runtime::key::Key;
use crate::runtime::lock::lock;
use crate::runtime::remote::RemoteError;

/// How often a cluster is asked.
const EVERY: Duration = Duration::from_secs(10);
/// Up to so many rollouts of a cluster are asked for one by one; more by one list.
const ONE_BY_ONE: usize = 8;

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

struct Inner {
    links: Links,
    every: Duration,
    state: Mutex<State>,
    woken: Notify,
}

#[derive(Default)]
struct State {
    wanted: BTreeMap<Key, Vec<Wanted>>,
    answers: BTreeMap<Wanted, Answer>,
}

/// A cluster that is asked.
#[derive(Default)]
struct Cluster {
    due: Option<Instant>,
    busy: bool,
}

/// One round with a cluster.
struct Round {
    cluster: String,
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

impl Peers {
    /// Nothing is wanted yet.
    pub fn new(links: Links) -> Self {
        Self::every(links, EVERY)
    }

    fn every(links: Links, every: Duration) -> Self {
        Self { inner: Arc::new(Inner { links, every, state: Mutex::default(), woken: Notify::new() }) }
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
                    rounds.push(self.round(name, rollouts));
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
                    cluster.busy = false;
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

    async fn round(&self, cluster: String, rollouts: BTreeSet<Wanted>) -> Round {
        let answers = self.ask(&cluster, &rollouts).await;
        Round { cluster, answers }
    }

    /// The status of each rollout.
    async fn ask(
        &self,
        cluster: &str,
        rollouts: &BTreeSet<Wanted>,
    ) -> Vec<(Wanted, Result<CanaryRolloutStatus, PeerError>)> {
        let links = &self.inner.links;
        let resource = ApiResource::erase::<CanaryRollout>(&());
        if rollouts.len() > ONE_BY_ONE {
            let listed = links.ask(cluster, async |client| {
                let api: Api<DynamicObject> = Api::all_with(client, &resource);
                // What the server has in memory is new enough, and costs it nothing.
                api.list(&ListParams::default().match_any()).await
            });
            let found = listed.await.map(|list| {
                let named = |object: DynamicObject| {
                    ((object.namespace().unwrap_or_default(), object.name_any()), object)
                };
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
            let found = links.ask(cluster, async |client| {
                let api: Api<DynamicObject> = Api::namespaced_with(client, namespace, &resource);
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
}

/// The status in an object, which an operator of another version may have written.
fn status(object: Option<&DynamicObject>) -> Result<CanaryRolloutStatus, PeerError> {
    let value = object.and_then(|object| object.data.get("status"));
    value.map_or_else(
        || Ok(CanaryRolloutStatus::default()),
        |value| {
            CanaryRolloutStatus::deserialize(value).map_err(|error| {
                let words =
                    format!("its status cannot be read ({error}); run one version of Banyan in all clusters");
                PeerError::answered(RemoteError::Unreadable(error.to_string()), words)
            })
        },
    )
}

#[cfg(test)]
#[path = "peers_tests.rs"]
mod tests;
