//! Permits: how many requests go to one API server at once. One budget for all controllers of the process, however many
//! there are, like a client-side rate limit, but of requests under way.

use tokio::sync::{Semaphore, SemaphorePermit};

use super::lease::Leadership;

/// How many lists are read at once. The API server sends objects as fast as they are read, so more at once would
/// make each of them slower and none of them sooner; and it ends a list that takes longer than a minute.
pub const LISTS_AT_ONCE: usize = 4;

/// Permits to ask an API server.
#[derive(Debug)]
pub struct Permits {
    lists: Semaphore,
    writes: Semaphore,
    urgent: Semaphore,
}

impl Permits {
    /// So many writes may be under way at once, and as many urgent ones beside them.
    pub fn new(writes: usize) -> Self {
        let semaphore = Semaphore::new;
        Self { lists: semaphore(LISTS_AT_ONCE), writes: semaphore(writes), urgent: semaphore(writes) }
    }

    /// Waits until a list may be read; it may for as long as the permit is kept.
    pub async fn list(&self) -> SemaphorePermit<'_> {
        taken(&self.lists).await
    }

    /// Waits until something may be written. What takes weight away from a canary is `urgent`: it waits behind nothing
    /// else.
    pub async fn write(&self, urgent: bool) -> SemaphorePermit<'_> {
        taken(if urgent { &self.urgent } else { &self.writes }).await
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
