//! Runs the reconciler of Failovers: watch → queue → worker. Only the leader moves anything.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::index::Index;
use super::watch::follow;
use super::worker::Worker;
use crate::actions::{Actions, Target};
use crate::api::action::TargetKind;
use crate::authority::claims::{orphan, withdraw};
use crate::failovergroup::act::write;
use crate::failovergroup::controller::Shared;
use crate::failovergroup::observe::observe;
use crate::runtime::context::Context;
use crate::runtime::http::Gate;
use crate::runtime::key::Key;
use crate::runtime::lock::lock;
use crate::runtime::metrics::Outcome;
use crate::runtime::queue::{Lane, Next, Queue};

/// The resource, as metrics and the readiness gate name it.
pub const RESOURCE: &str = "failovers";

/// How many moves are worked on at once.
const AT_ONCE: usize = 8;
/// How often claims are looked for whose Failover is gone. It asks nobody.
const ORPHANS_EVERY: Duration = Duration::from_secs(10);

/// Why the controller ended.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// A watch ended, which it must not.
    #[error("a watch of the Failover controller ended")]
    WatchEnded,
}

/// Who hears what is said to Failovers.
struct Ears {
    index: Arc<Mutex<Index>>,
    queue: Queue<Key>,
}

impl Target for Ears {
    fn kind(&self) -> TargetKind {
        TargetKind::Failover
    }

    fn exists(&self, key: &Key) -> bool {
        lock(&self.index).get(&key.name).is_some()
    }

    fn changed(&self, key: &Key) {
        self.queue.add(key.clone(), Lane::Urgent);
    }
}

/// The reconciler before it runs.
pub struct Controller {
    worker: Worker,
    queue: Queue<Key>,
}

impl Controller {
    /// One that knows nothing yet. It hears what is said to Failovers from here on.
    pub fn new(context: Context, shared: Shared, actions: Actions) -> Self {
        let index = Arc::new(Mutex::new(Index::default()));
        let queue = Queue::of(&context.metrics, RESOURCE);
        actions.hear(Ears { index: Arc::clone(&index), queue: queue.clone() });
        let since = Timestamp::now();
        let silent = Arc::default();
        Self { worker: Worker { context, index, shared, actions, since, silent }, queue }
    }

    /// Reconciles Failovers until the word to stop; opens `gate` once all have been read.
    ///
    /// # Errors
    /// If the watch ends.
    pub async fn run(self, gate: Gate) -> Result<(), ControllerError> {
        let Self { worker, queue } = self;
        let shutdown = worker.context.shutdown.clone();
        let mut tasks = JoinSet::new();
        let (tell, first) = oneshot::channel();
        tasks.spawn(follow(worker.context.clone(), Arc::clone(&worker.index), queue.clone(), tell));
        let mut groups = worker.shared.watches.view.subscribe();
        let read = async {
            first.await.map_err(|_| ControllerError::WatchEnded)?;
            // What was heard before must not be heard again, and no group is missing that is only not read yet.
            worker.actions.all_read().await;
            groups.wait_for(Option::is_some).await.map(drop).map_err(|_| ControllerError::WatchEnded)
        };
        tokio::select! {
            read = read => read?,
            () = shutdown.cancelled() => return Ok(()),
        }
        gate.open();
        tasks.spawn(wake(worker.clone(), queue.clone()));
        tasks.spawn(orphans(worker.clone()));
        let work = |key| {
            let worker = worker.clone();
            async move { reconcile(&worker, key).await }
        };
        queue.run_until(&shutdown, &mut tasks, AT_ONCE, work).await.map_err(|_| ControllerError::WatchEnded)
    }
}

async fn reconcile(worker: &Worker, key: Key) -> Next {
    let Context { leadership, metrics, .. } = &worker.context;
    if !leadership.is_leader() {
        return Next::Retry;
    }
    let began = Instant::now();
    let (outcome, next) = match worker.work(&key).await {
        Ok(next) => (Outcome::Changed, next),
        Err(error) => {
            tracing::warn!(failover = %key, %error, "reconcile failed");
            (Outcome::Error, Next::Retry)
        }
    };
    metrics.reconciled(RESOURCE, outcome, began.elapsed());
    next
}

/// Wakes the moves of groups of which something is news, for ever.
async fn wake(worker: Worker, queue: Queue<Key>) {
    let mut view = worker.shared.watches.view.subscribe();
    while view.changed().await.is_ok() {
        let groups = view.borrow_and_update().clone();
        let names = groups.iter().flat_map(|all| all.groups());
        let moved = names.flat_map(|group| lock(&worker.index).of_group(&group.name)).collect::<Vec<_>>();
        queue.add_all(moved.into_iter().map(|name| Key::new(&worker.context.namespace, &name)), Lane::Urgent);
    }
}

/// Gives claims of this site up whose Failover is gone, for ever: it was deleted with force, or is not in a backup that was
/// restored. What they closed is opened by whoever reads that.
async fn orphans(worker: Worker) {
    let Worker { context, index, shared, .. } = &worker;
    loop {
        tokio::time::sleep(shared.sources.ends.every(ORPHANS_EVERY)).await;
        // A snapshot, which has all services of a group, is taken only where there may be something to write.
        let claimed = lock(&shared.ground.index).claimed();
        for name in claimed {
            let Some(at_work) = lock(index).at_work() else { break };
            let Some(seen) = observe(&shared.ground, &name) else { continue };
            let Some(own) = &seen.knowledge.own else { continue };
            let Some(claim) = orphan(&seen.knowledge, &context.site, &at_work) else { continue };
            let Ok(wanted) = withdraw(own, &context.site, claim.ballot) else { continue };
            match write(context, &shared.ground, &seen, &wanted).await {
                Ok(_) => {
                    tracing::warn!(group = name, ballot = claim.ballot, "its claim was nobody's any more")
                }
                Err(error) => {
                    tracing::warn!(group = name, %error, "a claim that is nobody's is not given up")
                }
            }
        }
    }
}
