//! The hub: asks the sources about all rollouts that are under way, keeps their evidence, and wakes just those
//! services whose verdict changed.
//!
//! While nothing rolls out it sleeps, and nobody is asked anything. Rollouts of one source and one interval are
//! asked about together, at the same moment, in one batch; a source that is slow or silent holds up no other, and nor do
//! pods of another namespace.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use tokio::task::JoinSet;

pub use super::followed::Follow;
use super::followed::{ARMS, AskedPods, Followed, keep_dispersions, next_tick};
use super::{Analysis, Evidence, GateAnswer, Question};
use crate::api::canaryrollout::WebhookGate;
use crate::api::canarystatus::Scatter;
use crate::evidence::Dispersion;
use crate::runtime::lock::lock;
use crate::signals::{Answer, Ask, SourceKey, Subject};

/// A web server is not asked more often than that, in seconds: a gate stands for minutes or days.
const WEBHOOK_EVERY: f64 = 10.0;

/// What the hub knows for a decision.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The evidence.
    pub evidence: Option<Evidence>,
    /// How stable's errors scatter, to be written down.
    pub scatter: Vec<Scatter>,
    /// Answers of gates.
    pub answers: Vec<GateAnswer>,
    /// Why the source of the evidence gives no answer, if it gives none.
    pub silent: Option<String>,
    /// Why a metric that nobody asked for by name is left out, if one is.
    pub left_out: Option<String>,
}

struct State<K> {
    followed: HashMap<K, Followed<K>>,
    dispersions: HashMap<(K, String), Dispersion>,
}

/// The hub. `K` names a FinService.
pub struct Hub<K> {
    state: Mutex<State<K>>,
    changed: Notify,
}

impl<K> Default for Hub<K> {
    fn default() -> Self {
        let state = State { followed: HashMap::new(), dispersions: HashMap::new() };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }
}

/// What has to be asked at one moment of one source.
struct Batch<K> {
    source: SourceKey,
    keys: Vec<K>,
    subjects: Vec<Subject>,
    queries: Vec<(K, usize, String)>,
    webhooks: Vec<Posted<K>>,
}

/// A web server that is to be asked.
struct Posted<K> {
    key: K,
    gate: usize,
    namespace: String,
    server: WebhookGate,
    told: serde_json::Value,
}

/// Who is to be woken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wake<K> {
    /// Whom.
    pub key: K,
    /// Whether a canary fails: then before all others.
    pub urgent: bool,
}

impl<K: Clone + Eq + std::hash::Hash + Ord + Send + Sync + 'static> Hub<K> {
    fn lock(&self) -> MutexGuard<'_, State<K>> {
        // Whole between any two of its changes, so a panic elsewhere does not spoil it.
        lock(&self.state)
    }

    /// Follows the rollout of a FinService as it was just decided, or no longer.
    pub fn follow(&self, key: &K, follow: Option<Follow>) {
        let now = unix_now();
        let mut state = self.lock();
        let State { followed, dispersions } = &mut *state;
        let Some(follow) = follow.filter(|follow| follow.comparison.is_some() || !follow.gates.is_empty())
        else {
            if let Some(old) = followed.remove(key) {
                keep_dispersions(dispersions, key, old.analysis.as_ref());
            }
            return;
        };
        let is_new = !followed.contains_key(key);
        let entry =
            followed.entry(key.clone()).or_insert_with(|| Followed::new(key.clone(), follow.clone(), now));
        let before = std::mem::replace(&mut entry.follow, follow);
        entry.answers.retain(|gate, _| entry.follow.gates.iter().any(|(asked, _)| asked == gate));
        let newly_asked = entry.follow.gates.iter().any(|gate| !before.gates.contains(gate));
        let mut at_once = is_new || newly_asked;
        match &entry.follow.comparison {
            None => {
                keep_dispersions(dispersions, key, entry.analysis.take().as_ref());
                entry.evidence = None;
                entry.series.clear();
            }
            Some(comparison) => {
                let same = entry.analysis.as_ref().is_some_and(|analysis| {
                    analysis.attempt() == comparison.attempt
                        && before.standard == entry.follow.standard
                        && before.comparison.as_ref().is_some_and(|old| old.beside == comparison.beside)
                });
                if !same {
                    keep_dispersions(dispersions, key, entry.analysis.take().as_ref());
                    entry.evidence = None;
                    entry.series.clear();
                    let made = Analysis::new(&entry.follow.standard, comparison, ARMS[0], ARMS[1], now);
                    let known = |name: &str| {
                        let known = dispersions.get(&(key.clone(), name.to_owned())).cloned();
                        known.or_else(|| entry.follow.written(name))
                    };
                    entry.analysis = made.ok().map(|analysis| analysis.with_dispersion(known));
                    at_once = true;
                } else if let Some(analysis) = &mut entry.analysis
                    && analysis.follow(comparison, now)
                {
                    entry.series.clear();
                    at_once = true;
                }
            }
        }
        if at_once {
            entry.due = entry.due.min(now);
        }
        drop(state);
        if at_once {
            self.changed.notify_one();
        }
    }

    /// What is known of the rollout of a FinService.
    pub fn known(&self, key: &K) -> Known {
        let state = self.lock();
        let Some(entry) = state.followed.get(key) else { return Known::default() };
        let answers =
            entry.answers.iter().map(|(gate, answer)| GateAnswer { gate: *gate, answer: answer.clone() });
        Known {
            evidence: entry.evidence.clone(),
            scatter: entry.scatter(),
            answers: answers.collect(),
            silent: entry.problem.clone(),
            left_out: entry.left_out.clone(),
        }
    }

    /// The evidence of all rollouts that are followed.
    pub fn all(&self) -> Vec<(K, Evidence)> {
        let state = self.lock();
        let known =
            state.followed.values().filter_map(|entry| Some((entry.key.clone(), entry.evidence.clone()?)));
        known.collect()
    }

    /// Asks for ever. `fill` puts the pods of now into a subject; `wake` is told who is to look again.
    pub async fn run<A: Ask>(
        self: Arc<Self>,
        ask: Arc<A>,
        fill: impl Fn(&K, &Follow, &mut Subject) + Send,
        wake: impl Fn(Wake<K>) + Send + Sync + 'static,
    ) {
        let wake = Arc::new(wake);
        let mut asking = JoinSet::new();
        loop {
            let next = self.lock().followed.values().filter(|f| !f.asking).map(|f| f.due).reduce(f64::min);
            let wait = next.map(|due| Duration::from_secs_f64((due - unix_now()).clamp(0.0, 3600.0)));
            if wait.is_none_or(|wait| !wait.is_zero()) {
                tokio::select! {
                    () = self.changed.notified() => {}
                    () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
                    Some(_) = asking.join_next(), if !asking.is_empty() => {}
                }
                continue;
            }
            for batch in self.due(unix_now(), &fill) {
                let (hub, ask, wake) = (Arc::clone(&self), Arc::clone(&ask), Arc::clone(&wake));
                asking.spawn(async move { hub.ask(&*ask, batch, &*wake).await });
            }
        }
    }

    /// The batches that are due, one for each source; what is in them counts as being asked.
    fn due(&self, now: f64, fill: &impl Fn(&K, &Follow, &mut Subject)) -> Vec<Batch<K>> {
        let mut batches: BTreeMap<SourceKey, Batch<K>> = BTreeMap::new();
        let mut ready: Vec<(K, Follow)> = Vec::new();
        {
            let mut state = self.lock();
            for entry in state.followed.values_mut().filter(|entry| entry.due <= now && !entry.asking) {
                entry.asking = true;
                entry.due = next_tick(now, entry.follow.standard.interval.as_secs_f64());
                let source = entry.follow.source.clone();
                let batch = batches.entry(source.clone()).or_insert_with(|| Batch {
                    source,
                    keys: Vec::new(),
                    subjects: Vec::new(),
                    queries: Vec::new(),
                    webhooks: Vec::new(),
                });
                let ask_webhooks = entry.webhooks_due <= now;
                for (gate, kind) in &entry.follow.gates {
                    let key = entry.key.clone();
                    match kind {
                        Question::Query(query) => batch.queries.push((key, *gate, query.clone())),
                        Question::Webhook(server) if ask_webhooks => {
                            batch.webhooks.push(Posted {
                                key,
                                gate: *gate,
                                namespace: entry.follow.subject.namespace.clone(),
                                server: server.clone(),
                                told: entry.follow.told.clone(),
                            });
                        }
                        Question::Webhook(_) => {}
                    }
                }
                if ask_webhooks {
                    entry.webhooks_due = now + WEBHOOK_EVERY;
                }
                if entry.analysis.is_some() {
                    ready.push((entry.key.clone(), entry.follow.clone()));
                } else {
                    batch.keys.push(entry.key.clone());
                    batch.subjects.push(Subject::default());
                }
            }
        }
        // Pods are known elsewhere, behind a lock of their own: never hold both.
        for (key, follow) in ready {
            if let Some(batch) = batches.get_mut(&follow.source) {
                let mut subject = follow.subject.clone();
                fill(&key, &follow, &mut subject);
                batch.keys.push(key);
                batch.subjects.push(subject);
            }
        }
        // A web server that is slow must hold up nobody's counters: each is a batch of its own.
        let servers: Vec<_> =
            batches.values_mut().flat_map(|batch| std::mem::take(&mut batch.webhooks)).collect();
        let alone = servers.into_iter().map(|server| Batch {
            source: SourceKey::BuiltIn,
            keys: Vec::new(),
            subjects: Vec::new(),
            queries: Vec::new(),
            webhooks: vec![server],
        });
        batches.into_values().chain(alone).collect()
    }

    /// Asks about a batch and takes the answers in, each as soon as it is there. `wake` is told who is to look again.
    async fn ask(&self, ask: &impl Ask, batch: Batch<K>, wake: &(impl Fn(Wake<K>) + Sync)) {
        let Batch { source, keys, subjects, queries, webhooks } = batch;
        let counted: Vec<usize> =
            (0..subjects.len()).filter(|place| !subjects[*place].service.is_empty()).collect();
        let asked: Vec<Subject> = counted.iter().map(|place| subjects[*place].clone()).collect();
        // Gates are asked with the counters, and both are waited for.
        let of_gates: BTreeSet<&K> = queries.iter().map(|(key, ..)| key).collect();
        let mut unanswered: BTreeSet<usize> = (0..keys.len()).collect();
        let counters = async {
            if asked.is_empty() {
                return;
            }
            let answered = |answers: Vec<(usize, Answer)>| {
                let answers = answers.into_iter().map(|(place, answer)| {
                    let place = counted[place];
                    unanswered.remove(&place);
                    (&keys[place], AskedPods::of(&subjects[place]), answer)
                });
                self.take(answers, &of_gates, wake);
            };
            ask.counters(&source, &asked, unix_now(), answered).await;
        };
        // Equal queries are asked once.
        let distinct: Vec<String> =
            queries.iter().map(|(.., query)| query.clone()).collect::<BTreeSet<_>>().into_iter().collect();
        let gates =
            async { if distinct.is_empty() { Vec::new() } else { ask.queries(&source, &distinct).await } };
        let servers = futures::future::join_all(
            webhooks.iter().map(|posted| ask.webhook(&posted.namespace, &posted.server, &posted.told)),
        );
        let ((), gates, servers) = tokio::join!(counters, gates, servers);

        let mut woken: BTreeSet<K> = BTreeSet::new();
        let mut state = self.lock();
        let answered = distinct.iter().zip(gates).collect::<HashMap<_, _>>();
        let of_queries =
            queries.iter().filter_map(|(key, gate, query)| Some((key, *gate, answered.get(query)?.clone())));
        let of_servers =
            webhooks.iter().zip(servers).map(|(server, answer)| (&server.key, server.gate, answer));
        for (key, gate, answer) in of_queries.chain(of_servers) {
            let Some(entry) = state.followed.get_mut(key) else { continue };
            if entry.answers.get(&gate) != Some(&answer) {
                entry.answers.insert(gate, answer);
                woken.insert(key.clone());
            }
        }
        for key in unanswered.iter().map(|place| &keys[*place]).chain(of_gates) {
            if let Some(entry) = state.followed.get_mut(key) {
                entry.asking = false;
            }
        }
        drop(state);
        self.changed.notify_one();
        woken.into_iter().for_each(|key| wake(Wake { key, urgent: false }));
    }

    /// Takes answers in; who is not among `of_gates` may be asked about anew.
    fn take<'k>(
        &self,
        answers: impl Iterator<Item = (&'k K, AskedPods, Answer)>,
        of_gates: &BTreeSet<&K>,
        wake: &impl Fn(Wake<K>),
    ) where
        K: 'k,
    {
        let now = unix_now();
        let mut woken: BTreeMap<K, bool> = BTreeMap::new();
        let mut state = self.lock();
        for (key, pods, answer) in answers {
            let Some(entry) = state.followed.get_mut(key) else { continue };
            if let Some(urgent) = entry.take(answer, &pods, now) {
                *woken.entry(key.clone()).or_default() |= urgent;
            }
            entry.asking = of_gates.contains(key);
        }
        drop(state);
        self.changed.notify_one();
        woken.into_iter().for_each(|(key, urgent)| wake(Wake { key, urgent }));
    }
}

fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
#[path = "hub_tests.rs"]
pub(super) mod tests;
