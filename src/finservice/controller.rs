//! Runs the reconciler of FinServices: watches → queue → observe → decide → act → status.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::index::Index;
use super::plan::what_to_measure;
use super::settings::Settings;
use super::watch::Watches;
use super::worker::Worker;
use super::write::effects::Cluster;
use super::write::feature_flag::FlagSetter;
use super::write::rollout_status::RolloutStatuses;
use crate::actions::{Actions, Target};
use crate::api::action::TargetKind;
use crate::authority::view::Authorities;
use crate::cloudcluster::handle::SitesHandle;
use crate::cloudcluster::sites::Sites;
use crate::finservice::short::Short;
use crate::judge::hub::{Follow, Hub, Wake};
use crate::runtime::context::Context;
use crate::runtime::http::Gate;
use crate::runtime::key::Key;
use crate::runtime::lock::lock;
use crate::runtime::metrics::Outcome;
use crate::runtime::queue::{Lane, Next, Queue};
use crate::signals::builtin::BuiltInError;
use crate::signals::{Grants, Reach, Sources, Subject};

/// The resource, as metrics and the readiness gate name it.
pub const RESOURCE: &str = "finservices";
/// How long calls may go on changing before cycles are looked for anew: a hundred FinServices that
/// are applied together are looked at once.
const CYCLES_AFTER: Duration = Duration::from_millis(250);

/// How long after a failed reconcile the next one comes while the evidence is against a canary.
const WHILE_IT_FAILS: Duration = Duration::from_secs(2);

/// Why the controller ended.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// The API server could not be asked at the start.
    #[error("cannot list the definitions of custom resources: {0}; look at the operator's ClusterRole")]
    Start(#[source] kube::Error),
    /// A watch ended, which it must not.
    #[error("a watch of the FinService controller ended")]
    WatchEnded,
    /// The client of the built-in source of evidence cannot be made.
    #[error("--gateway-metrics: {0}")]
    Source(#[from] BuiltInError),
}

/// What this controller has to do with FailoverGroups.
pub struct Groups {
    /// The index, from which their controller reads FinServices.
    pub(crate) index: Arc<Mutex<Index>>,
    /// How this site stands for each group; `None` until that is known.
    pub authorities: watch::Receiver<Option<Authorities>>,
}

impl Groups {
    /// An empty index of that site.
    pub fn index(site: &str) -> Arc<Mutex<Index>> {
        Arc::new(Mutex::new(Index::new(site)))
    }
}

/// What this controller alone needs to be told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where gateways tell their counters; see `banyan run --gateway-metrics`.
    pub proxies: Vec<String>,
    /// The address of LaunchDarkly.
    pub launch_darkly: String,
    /// What the installer says of this cluster.
    pub settings: Settings,
    /// Which servers namespaces may have asked, beside their own; see `banyan run --evidence-allow`.
    pub reach: Reach,
}

/// Reconciles FinServices until the word to stop; opens `gate` once the caches are filled.
///
/// # Errors
/// If the watches cannot be started, or one of them ends.
pub async fn run(
    context: Context,
    options: Options,
    groups: Groups,
    sites: SitesHandle,
    actions: Actions,
    gate: Gate,
) -> Result<(), ControllerError> {
    let SitesHandle { mut sites, peers, .. } = sites;
    let Groups { index, mut authorities } = groups;
    // Before anything is read: who owns which topic depends on them.
    lock(&index).settings = Arc::new(options.settings);
    let queue = Queue::of(&context.metrics, RESOURCE);
    let calls_changed = Arc::new(tokio::sync::Notify::new());
    let watches = Watches {
        client: context.client.clone(),
        index: Arc::clone(&index),
        queue: queue.clone(),
        calls_changed: Arc::clone(&calls_changed),
        permits: Arc::clone(&context.permits),
        metrics: context.metrics.clone(),
        services_read: tokio::sync::watch::Sender::default(),
    };
    actions.hear(Hears { index: Arc::clone(&index), queue: queue.clone() });
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    let firsts = tokio::select! {
        firsts = watches.start(&mut tasks) => firsts.map_err(ControllerError::Start)?,
        () = context.shutdown.cancelled() => return Ok(()),
    };
    for first in firsts {
        tokio::select! {
            first = first => first.map_err(|_| ControllerError::WatchEnded)?,
            () = context.shutdown.cancelled() => return Ok(()),
        }
    }
    tokio::select! {
        () = actions.all_read() => {}
        () = context.shutdown.cancelled() => return Ok(()),
    }
    let known = tokio::select! {
        known = sites.wait_for(Option::is_some) => known.map(|known| known.clone()),
        () = context.shutdown.cancelled() => return Ok(()),
    };
    let standing = tokio::select! {
        known = authorities.wait_for(Option::is_some) => known.map(|known| known.clone()),
        () = context.shutdown.cancelled() => return Ok(()),
    };
    let keys = {
        let mut index = lock(&index);
        index.set_sites(known.ok().flatten().ok_or(ControllerError::WatchEnded)?);
        index.set_authorities(standing.ok().flatten().ok_or(ControllerError::WatchEnded)?);
        index.refresh_cycles();
        index.keys()
    };
    tracing::info!(finservices = keys.len(), took = ?began.elapsed(), "the caches are filled");
    queue.add_all(keys, Lane::Normal);
    gate.open();
    tasks.spawn(follow_sites(sites, Arc::clone(&index), queue.clone()));
    tasks.spawn(follow_authorities(authorities, Arc::clone(&index), queue.clone()));
    tasks.spawn(find_cycles(Arc::clone(&index), queue.clone(), calls_changed));
    let hub = Arc::new(Hub::default());
    let grants = Grants::new(context.client.clone(), options.reach, context.api_server.clone());
    let sources = Arc::new(Sources::new(context.client.clone(), &options.proxies, grants)?);
    let read = Arc::clone(&hub);
    context.metrics.live().read_from(move || what_to_measure::live(read.all()));
    tasks.spawn(count(Arc::clone(&hub), sources, Arc::clone(&index), queue.clone()));
    let (asking, again, shutdown) = (peers.clone(), queue.clone(), context.shutdown.clone());
    tasks.spawn(async move {
        asking.run(shutdown, move |key: &Key| again.add(key.clone(), Lane::Normal)).await;
        // It ends only with the process, and must not seem to end before.
        std::future::pending::<()>().await;
    });
    let worker = Arc::new(Worker::new(Cluster {
        rollouts: RolloutStatuses::new(context.clone(), Arc::clone(&index), actions.clone()),
        flags: FlagSetter::new(context.client.clone(), &options.launch_darkly),
        short: Short::default(),
        context: context.clone(),
        index,
        hub,
        peers,
        actions,
    }));
    let work = |key| {
        let worker = Arc::clone(&worker);
        async move { reconcile(&worker, key).await }
    };
    let worked = queue.run_until(&context.shutdown, &mut tasks, context.concurrency, work).await;
    worked.map_err(|_| ControllerError::WatchEnded)
}

/// Takes over each new view of the sites, for ever.
async fn follow_sites(
    mut sites: watch::Receiver<Option<Sites>>,
    index: Arc<Mutex<Index>>,
    queue: Queue<Key>,
) {
    while sites.changed().await.is_ok() {
        let now = sites.borrow_and_update().clone().unwrap_or_default();
        let concerned = lock(&index).set_sites(now);
        queue.add_all(concerned, Lane::Normal);
    }
}

/// Takes over how this site stands for each FailoverGroup, for ever.
async fn follow_authorities(
    mut authorities: watch::Receiver<Option<Authorities>>,
    index: Arc<Mutex<Index>>,
    queue: Queue<Key>,
) {
    while authorities.changed().await.is_ok() {
        let now = authorities.borrow_and_update().clone().unwrap_or_default();
        let concerned = lock(&index).set_authorities(now);
        queue.add_all(concerned, Lane::Soon);
    }
}

async fn find_cycles(index: Arc<Mutex<Index>>, queue: Queue<Key>, changed: Arc<tokio::sync::Notify>) {
    loop {
        changed.notified().await;
        tokio::time::sleep(CYCLES_AFTER).await;
        let concerned = lock(&index).refresh_cycles();
        if !concerned.is_empty() {
            queue.add_all(concerned, Lane::Normal);
        }
    }
}

/// Counts for all rollouts, for ever.
fn count(
    hub: Arc<Hub<Key>>,
    sources: Arc<Sources>,
    index: Arc<Mutex<Index>>,
    queue: Queue<Key>,
) -> impl Future<Output = ()> {
    let fill = move |key: &Key, follow: &Follow, subject: &mut Subject| {
        let index = lock(&index);
        what_to_measure::fill(index.rollouts.pods_of(key), &follow.labels, subject);
    };
    let wake = move |wake: Wake<Key>| {
        queue.add(wake.key, if wake.urgent { Lane::Urgent } else { Lane::Normal });
    };
    hub.run(sources, fill, wake)
}

async fn reconcile(worker: &Worker<Cluster>, key: Key) -> Next {
    let context = &worker.effects().context;
    if !context.leadership.is_leader() {
        return Next::Retry;
    }
    let began = Instant::now();
    let (outcome, next) = match worker.reconcile(&key, Timestamp::now).await {
        Ok((outcome, again_at)) => {
            let at = again_at.map(|at| {
                let wait = at.duration_since(Timestamp::now());
                tokio::time::Instant::now() + Duration::try_from(wait).unwrap_or_default()
            });
            (outcome, at.map_or(Next::Idle, |at| Next::At(at, Lane::Normal)))
        }
        Err(error) => {
            tracing::warn!(finservice = %key, %error, "reconcile failed");
            // Who fails requests is not waited for longer and longer.
            let fails = worker.effects().hub.known(&key).evidence.is_some_and(|evidence| evidence.fails());
            let soon = Next::At(tokio::time::Instant::now() + WHILE_IT_FAILS, Lane::Urgent);
            (Outcome::Error, if fails { soon } else { Next::Retry })
        }
    };
    context.metrics.reconciled(RESOURCE, outcome, began.elapsed());
    next
}

/// Hears what is said to CanaryRollouts, for the FinServices that they name.
struct Hears {
    index: Arc<Mutex<Index>>,
    queue: Queue<Key>,
}

impl Target for Hears {
    fn kind(&self) -> TargetKind {
        TargetKind::CanaryRollout
    }

    fn exists(&self, key: &Key) -> bool {
        lock(&self.index).rollouts.object(key).is_some()
    }

    fn changed(&self, key: &Key) {
        let service = lock(&self.index).rollouts.service_of(key);
        self.queue.add_all(service, Lane::Normal);
    }
}
