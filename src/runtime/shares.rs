//! What the tenants of a process share: memory for what their servers answer, time to read it, and turns to ask them.
//!
//! A namespace waits for nobody but itself: it has so many turns of its own, however many namespaces there are. What it
//! holds of the memory is bounded, and while all of the memory is held, whoever holds more than the same part for
//! everybody is refused, and everybody else is not. So the namespace that would fill the memory loses its answers, and a
//! small answer always has room. It is the same with what is read in a second, but that who reads more than its part
//! waits for the next one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::lock::lock;

/// How much there is to share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure {
    /// Bytes that all namespaces together may hold. Default: 64 MiB, an eighth of the memory that the chart gives.
    pub total: usize,
    /// Bytes that one namespace may hold. Default: 16 MiB.
    pub each: usize,
    /// Bytes that all namespaces together may read in a second, before those that read most are made to wait. Default:
    /// 64 MiB, which a part of a core reads.
    pub rate: usize,
    /// How many requests of one namespace are under way at once. Default: 16.
    pub turns: usize,
}

impl Default for Measure {
    fn default() -> Self {
        Self { total: 64 << 20, each: 16 << 20, rate: 64 << 20, turns: 16 }
    }
}

/// What tenants share. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Shares(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    measure: Measure,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    held: HashMap<Arc<str>, usize>,
    sum: usize,
    most: usize,
    turns: HashMap<Arc<str>, Arc<Semaphore>>,
    /// What was read since then.
    since: Option<Instant>,
    read: HashMap<Arc<str>, usize>,
    read_by_all: usize,
}

/// The time in which what is read is counted.
const SECOND: Duration = Duration::from_secs(1);

/// There is no room for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answers that are read for this namespace at once are larger than {0} bytes")]
pub struct Crowded(pub usize);

impl Shares {
    /// As much as that.
    pub fn new(measure: Measure) -> Self {
        Self(Arc::new(Inner { measure, state: Mutex::default() }))
    }

    /// Waits until less than the namespace's number of requests is under way.
    pub async fn turn(&self, namespace: &str) -> Turn {
        let semaphore = {
            let mut state = lock(&self.0.state);
            let known = state.turns.get(namespace).cloned();
            known.unwrap_or_else(|| {
                // Whoever asks no more is forgotten.
                state.turns.retain(|_, turns| Arc::strong_count(turns) > 1);
                let made = Arc::new(Semaphore::new(self.0.measure.turns));
                state.turns.insert(namespace.into(), Arc::clone(&made));
                made
            })
        };
        // It is never closed.
        let turn = Turn {
            shares: self.clone(),
            namespace: namespace.into(),
            _permit: semaphore.acquire_owned().await.ok(),
        };
        turn.read(0).await;
        turn
    }

    /// Counts what was read for a namespace; for how long it is to wait, if it reads too much.
    fn read(&self, namespace: &Arc<str>, bytes: usize) -> Option<Duration> {
        let now = Instant::now();
        let mut state = lock(&self.0.state);
        let since = *state.since.get_or_insert(now);
        if now.duration_since(since) >= SECOND {
            state.since = Some(now);
            state.read.clear();
            state.read_by_all = 0;
        }
        state.read_by_all += bytes;
        let own = match state.read.get_mut(namespace) {
            Some(own) => {
                *own += bytes;
                *own
            }
            None => {
                state.read.insert(Arc::clone(namespace), bytes);
                bytes
            }
        };
        let rate = self.0.measure.rate;
        let too_much = state.read_by_all > rate && own > rate / state.read.len();
        too_much.then(|| SECOND.saturating_sub(now.duration_since(since)))
    }

    /// An account of what is held for a namespace; nothing as yet.
    pub fn account(&self, namespace: &str) -> Held {
        Held { shares: self.clone(), namespace: namespace.into(), bytes: 0 }
    }

    /// The most that was ever held at once.
    pub fn most(&self) -> usize {
        lock(&self.0.state).most
    }
}

/// The right to have one request under way, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    shares: Shares,
    namespace: Arc<str>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Turn {
    /// So many bytes were read: waits, if the namespace has had more than its part of this second.
    pub async fn read(&self, bytes: usize) {
        let mut wait = self.shares.read(&self.namespace, bytes);
        while let Some(longer) = wait {
            tokio::time::sleep(longer).await;
            wait = self.shares.read(&self.namespace, 0);
        }
    }
}

/// What is held for a namespace, until it is dropped.
#[derive(Debug)]
pub struct Held {
    shares: Shares,
    namespace: Arc<str>,
    bytes: usize,
}

impl Held {
    /// Holds so many bytes, instead of what was held before.
    ///
    /// # Errors
    /// If there is no room; then what was held before is held on.
    pub fn set(&mut self, bytes: usize) -> Result<(), Crowded> {
        let Measure { total, each, .. } = self.shares.0.measure;
        let mut state = lock(&self.shares.0.state);
        let before = state.held.get(&self.namespace).copied().unwrap_or_default();
        let own = before - self.bytes + bytes;
        let sum = state.sum - self.bytes + bytes;
        if bytes > self.bytes {
            let tenants = state.held.len() + usize::from(before == 0);
            let fair = total / tenants;
            if own > each || (sum > total && own > fair) {
                return Err(Crowded(if own > each { each } else { fair }));
            }
        }
        state.sum = sum;
        state.most = state.most.max(sum);
        match own {
            0 => state.held.remove(&self.namespace),
            _ => state.held.insert(Arc::clone(&self.namespace), own),
        };
        self.bytes = bytes;
        Ok(())
    }

    /// Holds so many bytes more.
    ///
    /// # Errors
    /// If there is no room.
    pub fn add(&mut self, bytes: usize) -> Result<(), Crowded> {
        self.set(self.bytes + bytes)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Less is never refused.
        let _ = self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(total: usize, each: usize) -> Shares {
        Shares::new(Measure { total, each, rate: 1000, turns: 2 })
    }

    #[test]
    fn faults_4_1_who_holds_most_is_refused_and_a_small_answer_always_has_room() {
        let shares = shares(1000, 600);
        let (mut greedy, mut other) = (shares.account("greedy"), shares.account("other"));
        greedy.add(600).unwrap();
        assert_eq!(greedy.add(1), Err(Crowded(600)), "not more than one may have");
        other.add(400).unwrap();
        // All is held. A third has room up to its part, and who holds more than that has none.
        let mut third = shares.account("third");
        third.add(333).unwrap();
        assert_eq!(third.add(1), Err(Crowded(333)));
        assert_eq!(other.add(1), Err(Crowded(333)));
        assert_eq!(shares.most(), 1333);
        drop(greedy);
        other.add(100).unwrap();
        third.set(10).unwrap();
        other.add(90).unwrap();
        assert_eq!(other.add(11), Err(Crowded(600)));
        drop((other, third));
        assert!(lock(&shares.0.state).held.is_empty());
        assert_eq!(lock(&shares.0.state).sum, 0);
    }

    #[test]
    fn accounts_of_one_namespace_are_counted_together() {
        let shares = shares(1000, 600);
        let (mut one, mut two) = (shares.account("pay"), shares.account("pay"));
        one.add(400).unwrap();
        assert_eq!(two.add(201), Err(Crowded(600)));
        two.add(200).unwrap();
        drop(one);
        two.add(400).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_namespace_waits_for_itself_alone() {
        let shares = shares(1, 1);
        let _two = (shares.turn("silent").await, shares.turn("silent").await);
        let third = tokio::time::timeout(Duration::from_secs(60), shares.turn("silent")).await;
        assert!(third.is_err(), "it has two turns");
        drop(shares.turn("other").await);
        drop(_two);
        drop(shares.turn("silent").await);
        drop(shares.turn("new").await);
        assert_eq!(lock(&shares.0.state).turns.len(), 1, "who asks no more is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn faults_4_1_who_reads_most_waits_for_the_next_second_and_nobody_else() {
        let shares = shares(1, 1);
        let (greedy, other) = (shares.turn("greedy").await, shares.turn("other").await);
        let began = Instant::now();
        greedy.read(900).await;
        other.read(100).await;
        assert_eq!(began.elapsed(), Duration::ZERO, "there is enough for both");
        other.read(400).await;
        assert_eq!(began.elapsed(), Duration::ZERO, "no more than its part");
        greedy.read(1).await;
        assert_eq!(began.elapsed(), SECOND);
        greedy.read(1000).await;
        assert_eq!(began.elapsed(), SECOND, "alone it has all of it");
        drop(shares.turn("greedy").await);
        assert_eq!(began.elapsed(), SECOND);
        greedy.read(1).await;
        drop(shares.turn("greedy").await);
        assert_eq!(began.elapsed(), 2 * SECOND);
    }
}
