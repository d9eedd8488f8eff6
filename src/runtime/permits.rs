//! Permits: how many requests go to one API server at once. One budget for all controllers of the process, however many
//! there are, like a client-side rate limit, but of requests under way.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::lease::Leadership;

/// How many lists are read at once. The API server sends objects as fast as they are read, so more at once would
/// make each of them slower and none of them sooner; and it ends a list that takes longer than a minute.
pub const LISTS_AT_ONCE: usize = 4;
/// How many writes that are not urgent are under way at once while a group moves here: what the move writes goes through the same
/// API server, one after the other, and has to wait for each of those that it has taken before.
const WHILE_MOVING: usize = 8;

/// Permits to ask an API server.
#[derive(Debug)]
pub struct Permits {
    lists: Semaphore,
    writes: Semaphore,
    urgent: Semaphore,
    /// Instead of `writes` while a group moves here.
    fewer: Semaphore,
    moving: AtomicBool,
}

impl Permits {
    /// So many writes may be under way at once, and twice as many urgent ones beside them.
    pub fn new(writes: usize) -> Self {
        let semaphore = Semaphore::new;
        Self {
            lists: semaphore(LISTS_AT_ONCE),
            writes: semaphore(writes),
            urgent: semaphore(2 * writes),
            fewer: semaphore(writes.min(WHILE_MOVING)),
            moving: AtomicBool::new(false),
        }
    }

    /// Whether a group moves here: then what is not urgent makes room.
    pub fn set_moving(&self, moving: bool) {
        self.moving.store(moving, Ordering::Relaxed);
    }

    /// Waits until a list may be read; it may for as long as the permit is kept.
    pub async fn list(&self) -> SemaphorePermit<'_> {
        taken(&self.lists).await
    }

    /// Waits until something may be written. What takes weight away from a canary, and what a move waits for, is `urgent`: it
    /// waits behind nothing else.
    pub async fn write(&self, urgent: bool) -> SemaphorePermit<'_> {
        let from = match (urgent, self.moving.load(Ordering::Relaxed)) {
            (true, _) => &self.urgent,
            (false, false) => &self.writes,
            (false, true) => &self.fewer,
        };
        taken(from).await
    }

    /// A permit to write, if this process leads once it is had: leadership may have gone while it was waited.
    pub async fn write_if_leading(
        &self,
        leadership: &Leadership,
        urgent: bool,
    ) -> Option<SemaphorePermit<'_>> {
        let permit = self.write(urgent).await;
        leadership.is_leader().then_some(permit)
    }
}

async fn taken(semaphore: &Semaphore) -> SemaphorePermit<'_> {
    semaphore.acquire().await.expect("these are closed by nobody")
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn while_a_group_moves_what_is_not_urgent_makes_room() {
        let permits = Permits::new(32);
        let at_once = |urgent: bool| {
            let all: Vec<_> = std::iter::from_fn(|| permits.write(urgent).now_or_never()).collect();
            all.len()
        };
        assert_eq!((at_once(false), at_once(true)), (32, 64));
        permits.set_moving(true);
        assert_eq!((at_once(false), at_once(true)), (WHILE_MOVING, 64));
        permits.set_moving(false);
        assert_eq!(at_once(false), 32);
    }
}
