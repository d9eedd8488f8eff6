//! The work queue of a controller: keys, requeue with back-off, urgent and normal lanes.
//!
//! It holds keys, not objects: who works on a key looks at the world as it is then. So it does not matter how
//! often a key was added before its turn came, and one run answers all of them.
//!
//! What it promises:
//! - **Serial per key.** A key is never worked on twice at once; one that is added during its own run is run
//!   again afterwards.
//! - **Nothing is lost.** After every `add`, a run of that key begins (unless the queue is shut down). After
//!   [`Next::At`], a run begins no later than that, as soon as a worker is free.
//! - **Urgent first.** Keys in [`Lane::Urgent`] start before all others, so that a rollout that fails is never
//!   held back behind thousands that are well. Nor do they wait for those at work: as many again may run. Then those
//!   in [`Lane::Soon`].
//! - **Bounded.** At most as many runs at once as [`Queue::run`] was told, and with urgent ones twice as many.
//! - **Quiet.** With nothing due it sleeps, on one timer for all keys.

use crate::runtime::lock::lock;
use crate::runtime::metrics::Metrics;
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a key waits after its first failure in a row. Half a second is what a conflict or a
/// restarting webhook needs, and is not felt by a person.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(500);

/// The longest wait between two tries of a key that keeps failing. A minute bounds both the load of what is
/// broken for good and the time until a repair is noticed that no watch tells of.
pub const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// Which keys start first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Before all others: where traffic flows to something that fails.
    Urgent,
    /// Before those in [`Lane::Normal`]: where a site that takes over waits for all of them.
    Soon,
    /// In the order in which they were added.
    Normal,
}

impl Lane {
    /// How many times as many as in [`Lane::Normal`] may be under way in all when one of these starts: it waits behind nothing
    /// that matters less.
    fn share(self) -> usize {
        match self {
            Self::Urgent => 3,
            Self::Soon => 2,
            Self::Normal => 1,
        }
    }
}

/// What a run of a key ended with, and so when the key is run next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Done; run again when added again.
    Idle,
    /// Done; run again at that time, or earlier if added. A time in the past means at once.
    At(Instant, Lane),
    /// Failed; run again after the key's backoff, in the lane it was in.
    Retry,
}

/// How long a key waits after `failures` failures in a row: [`BACKOFF_FIRST`], doubled each time, at most
/// [`BACKOFF_MAX`]. There is no jitter: keys fail at times of their own, and tests stay exact.
pub fn backoff(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    (BACKOFF_FIRST * (1 << doublings)).min(BACKOFF_MAX)
}

/// A task ended that must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a task ended that must not")]
pub struct TaskEnded;

/// The work queue. Cloning gives another handle of the same queue.
pub struct Queue<K> {
    shared: Arc<Shared<K>>,
}

impl<K> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

struct Shared<K> {
    state: Mutex<State<K>>,
    /// Tells the one driver in [`Queue::run`] that something is ready, due earlier, finished or shut down.
    changed: Notify,
    depth: Gauge,
}

struct State<K> {
    entries: HashMap<K, Entry>,
    /// Keys whose turn it is: urgent ones first, then in order of arrival.
    ready: BTreeMap<(Lane, u64), K>,
    /// Keys that wait for a time.
    waiting: BTreeMap<(Instant, u64), K>,
    running: usize,
    sequence: u64,
    closed: bool,
}

#[derive(Default)]
struct Entry {
    ready: Option<(Lane, u64)>,
    waiting: Option<((Instant, u64), Lane)>,
    /// The lane of the run that is going on.
    running: Option<Lane>,
    /// Added while running: run again at once.
    dirty: Option<Lane>,
    failures: u32,
    /// Since when its turn has been waited for; while it runs, since before that.
    asked: Option<Instant>,
}

impl Entry {
    fn is_idle(&self) -> bool {
        self.ready.is_none() && self.waiting.is_none() && self.running.is_none() && self.failures == 0
    }
}

impl<K: Hash + Eq + Clone> State<K> {
    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    fn add(&mut self, key: K, lane: Lane) {
        let sequence = self.next_sequence();
        let entry = self.entries.entry(key.clone()).or_default();
        if entry.running.is_some() {
            entry.dirty = Some(entry.dirty.map_or(lane, |earlier| earlier.min(lane)));
            return;
        }
        match entry.ready {
            Some((present, _)) if present <= lane => return,
            Some(position) => {
                self.ready.remove(&position);
            }
            None => {}
        }
        entry.ready = Some((lane, sequence));
        entry.asked.get_or_insert_with(Instant::now);
        self.ready.insert((lane, sequence), key);
    }

    fn add_at(&mut self, key: K, at: Instant, lane: Lane) {
        let sequence = self.next_sequence();
        let entry = self.entries.entry(key.clone()).or_default();
        let mut lane = lane;
        let mut position = (at, sequence);
        if let Some((present, present_lane)) = entry.waiting {
            lane = lane.min(present_lane);
            position = position.min(present);
            self.waiting.remove(&present);
        }
        entry.waiting = Some((position, lane));
        self.waiting.insert(position, key);
    }

    /// Moves what is due to the ready keys, and tells when the next one is.
    fn wake_due(&mut self, now: Instant) -> Option<Instant> {
        while let Some(first) = self.waiting.first_entry() {
            let due = first.key().0;
            if due > now {
                return Some(due);
            }
            let key = first.remove();
            let waited = self.entries.get_mut(&key).and_then(|entry| entry.waiting.take());
            self.add(key, waited.map_or(Lane::Normal, |(_, lane)| lane));
        }
        None
    }

    fn start(&mut self, concurrency: usize) -> Option<K> {
        let first = self.ready.first_entry()?;
        let most = concurrency * first.key().0.share();
        if self.running >= most {
            return None;
        }
        let ((lane, _), key) = first.remove_entry();
        self.running += 1;
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.ready = None;
            entry.running = Some(lane);
            // This run sees all that a later one was planned for, and names the next time itself.
            if let Some((position, _)) = entry.waiting.take() {
                self.waiting.remove(&position);
            }
        }
        Some(key)
    }

    /// Since when the oldest key has waited for its turn, or for the end of its run.
    fn oldest(&self) -> Option<Instant> {
        self.entries.values().filter_map(|entry| entry.asked).min()
    }

    fn finish(&mut self, key: K, next: Next, now: Instant) {
        self.running -= 1;
        let Some(entry) = self.entries.get_mut(&key) else {
            return;
        };
        let lane = entry.running.take().unwrap_or(Lane::Normal);
        let dirty = entry.dirty.take();
        entry.asked = None;
        entry.failures = if next == Next::Retry { entry.failures.saturating_add(1) } else { 0 };
        let failures = entry.failures;
        match next {
            Next::Idle => {}
            Next::At(at, lane) => self.add_at(key.clone(), at, lane),
            Next::Retry => self.add_at(key.clone(), now + backoff(failures), lane),
        }
        if let Some(lane) = dirty {
            self.add(key, lane);
        } else if self.entries.get(&key).is_some_and(Entry::is_idle) {
            self.entries.remove(&key);
        }
    }
}

impl<K: Hash + Eq + Clone + Send + 'static> Default for Queue<K> {
    fn default() -> Self {
        Self::new(Gauge::default())
    }
}

impl<K: Hash + Eq + Clone + Send + 'static> Queue<K> {
    /// An empty queue of a `resource`, which `metrics` tells of.
    pub fn of(metrics: &Metrics, resource: &'static str) -> Self {
        let queue = Self::new(metrics.queue_depth(resource));
        let shared = Arc::downgrade(&queue.shared);
        let oldest = move || shared.upgrade().and_then(|shared| lock(&shared.state).oldest());
        metrics
            .queues()
            .read_from(resource, move || oldest().map(|asked| asked.elapsed()).unwrap_or_default());
        queue
    }

    /// An empty queue that keeps `depth` at the number of keys whose turn it is but that have not started.
    pub fn new(depth: Gauge) -> Self {
        let state = State {
            entries: HashMap::new(),
            ready: BTreeMap::new(),
            waiting: BTreeMap::new(),
            running: 0,
            sequence: 0,
            closed: false,
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), changed: Notify::new(), depth }) }
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        // No code under the lock can panic half-way through a change, so a poisoned state is still whole.
        lock(&self.shared.state)
    }

    fn change(&self, change: impl FnOnce(&mut State<K>)) {
        {
            let mut state = self.state();
            if state.closed {
                return;
            }
            change(&mut state);
            self.shared.depth.set(state.ready.len() as i64);
        }
        self.shared.changed.notify_one();
    }

    /// Run `key` as soon as its turn comes. A key that is there already keeps its place, or moves up to a lane that
    /// starts before its own; one in work is run again afterwards.
    pub fn add(&self, key: K, lane: Lane) {
        self.change(|state| state.add(key, lane));
    }

    /// Adds many keys under one lock, in order: for the first list of a watch.
    pub fn add_all(&self, keys: impl IntoIterator<Item = K>, lane: Lane) {
        self.change(|state| keys.into_iter().for_each(|key| state.add(key, lane)));
    }

    /// Starts no more runs and takes no more keys. [`Queue::run`] returns when the runs in work have ended.
    pub fn shut_down(&self) {
        {
            let mut state = self.state();
            state.closed = true;
            state.ready.clear();
            state.waiting.clear();
            self.shared.depth.set(0);
        }
        self.shared.changed.notify_one();
    }

    /// [`Queue::run`] until `shutdown`, after which what is in work is finished.
    ///
    /// # Errors
    /// If one of `tasks`, without which the work would only seem to go on, ends before. The runs in work are then aborted.
    pub async fn run_until<F, W>(
        &self,
        shutdown: &CancellationToken,
        tasks: &mut JoinSet<()>,
        concurrency: usize,
        work: F,
    ) -> Result<(), TaskEnded>
    where
        F: Fn(K) -> W,
        W: Future<Output = Next> + Send + 'static,
    {
        let mut work = std::pin::pin!(self.run(concurrency, work));
        tokio::select! {
            () = &mut work => return Ok(()),
            Some(_) = tasks.join_next(), if !tasks.is_empty() => return Err(TaskEnded),
            () = shutdown.cancelled() => self.shut_down(),
        }
        work.await;
        Ok(())
    }

    /// Works on the keys, at most `concurrency` (at least 1) at once, as many again of those that come soon, and as many again that are
    /// urgent, each in a task of its own, until [`Queue::shut_down`]; then waits for the runs in work and returns. A run that panics counts as
    /// [`Next::Retry`]. There must be one caller only. If the future is dropped, the runs in work are aborted.
    pub async fn run<F, W>(&self, concurrency: usize, work: F)
    where
        F: Fn(K) -> W,
        W: Future<Output = Next> + Send + 'static,
    {
        let concurrency = concurrency.max(1);
        let mut tasks = JoinSet::new();
        loop {
            let (started, due, done) = {
                let mut state = self.state();
                let due = state.wake_due(Instant::now());
                let mut started = Vec::new();
                while !state.closed {
                    let Some(key) = state.start(concurrency) else { break };
                    started.push(key);
                }
                self.shared.depth.set(state.ready.len() as i64);
                (started, due, state.closed && state.running == 0)
            };
            if done {
                break;
            }
            for key in started {
                let run = Run { queue: self.clone(), key: Some(key.clone()), next: Next::Retry };
                let future = work(key);
                tasks.spawn(async move {
                    let mut run = run;
                    run.next = future.await;
                });
            }
            while tasks.try_join_next().is_some() {}
            let timer = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.shared.changed.notified() => {}
                () = timer => {}
            }
        }
    }
}

/// A run in work. Dropping it, at its end or in a panic, hands the key back.
struct Run<K: Hash + Eq + Clone + Send + 'static> {
    queue: Queue<K>,
    key: Option<K>,
    next: Next,
}

impl<K: Hash + Eq + Clone + Send + 'static> Drop for Run<K> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            let mut state = self.queue.state();
            state.finish(key, self.next, Instant::now());
            if state.closed {
                state.ready.clear();
                state.waiting.clear();
            }
            self.queue.shared.depth.set(state.ready.len() as i64);
        }
        self.queue.shared.changed.notify_one();
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
