//! What a controller gets to work with.

use std::sync::Arc;

use kube::Client;
use tokio::sync::SemaphorePermit;

use super::events::Events;
use super::http::Health;
use super::lease::Leadership;
use super::metrics::Metrics;
use super::permits::Permits;
use super::status_writer::StatusWriter;
use tokio_util::sync::CancellationToken;

/// Everything that a controller shares with the rest of the process. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// The API server of this cluster.
    pub client: Client,
    /// Host and port of that API server; `None` where they are not known.
    pub api_server: Option<(String, u16)>,
    /// The name of this site, as `spec.placement[].cluster` says it.
    pub site: Arc<str>,
    /// The operator's own namespace, where CloudClusters are.
    pub namespace: Arc<str>,
    /// How many objects a controller works on at once.
    pub concurrency: usize,
    /// Whether this replica may act: ask before each write.
    pub leadership: Leadership,
    /// Where to say that caches are filled.
    pub health: Health,
    /// How much may be asked of the API server at once, by all controllers together.
    pub permits: Arc<Permits>,
    /// How to write a status.
    pub statuses: StatusWriter,
    /// Where to publish Events.
    pub events: Events,
    /// Where to count.
    pub metrics: Metrics,
    /// When triggered: take no more work, finish what is in work, return.
    pub shutdown: CancellationToken,
}

impl Context {
    /// The right to send one write, if this process leads: taken before each.
    pub async fn may_write(&self, urgent: bool) -> Option<SemaphorePermit<'_>> {
        self.permits.write_if_leading(&self.leadership, urgent).await
    }
}
