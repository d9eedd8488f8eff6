//! Runs the reconciler of CloudClusters: watch → queue → observe → decide → act. Every replica watches; only the leader
//! does the rest.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::watch::{Sender, channel};

use super::act::act;
use super::decide::decide;
use super::handle::SitesHandle;
use super::index::Index;
use super::links::Links;
use super::observe::observe;
use super::peers::Peers;
use super::sites::Sites;
use super::watch::watch;
use super::way::Pace;
use crate::clouds::Addresses;
use crate::runtime::context::Context;
use crate::runtime::http::Gate;
use crate::runtime::key::Key;
use crate::runtime::metrics::Outcome;
use crate::runtime::queue::{Lane, Next, Queue};

/// The resource, as metrics and the readiness gate name it.
pub const RESOURCE: &str = "cloudclusters";

/// How many sites are worked on at once.
const AT_ONCE: usize = 4;

/// Why the controller ended.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// A watch ended, which it must not.
    #[error("the watch of CloudClusters ended")]
    WatchEnded,
}

/// The reconciler before it runs.
pub struct Controller {
    context: Context,
    index: Arc<Mutex<Index>>,
    queue: Queue<Key>,
    sites: Arc<Sender<Option<Sites>>>,
    links: Links,
}

impl Controller {
    /// One that knows nothing yet, and what others get of it.
    /// `addresses` says where the clouds' own APIs are.
    pub fn new(context: Context, addresses: Addresses) -> (Self, SitesHandle) {
        let index = Arc::new(Mutex::new(Index::new(&context.site)));
        let queue: Queue<Key> = Queue::of(&context.metrics, RESOURCE);
        let (sites, view) = channel(None);
        let sites = Arc::new(sites);
        let links = Links::new(context.client.clone(), &context.namespace, addresses, Pace::default());
        let handle = SitesHandle::new(view, Peers::new(links.clone()), links.clone());
        (Self { context, index, queue, sites, links }, handle)
    }

    /// Follows CloudClusters as long as the process lives: what every replica does.
    /// Returns why it ended, which it must not.
    pub fn watch(&self) -> impl Future<Output = ControllerError> + Send + use<> {
        let Self { context, index, queue, sites, links } = self;
        let (context, index, queue, sites, links) =
            (context.clone(), Arc::clone(index), queue.clone(), Arc::clone(sites), links.clone());
        async move {
            watch(context, index, queue, sites, links).await;
            ControllerError::WatchEnded
        }
    }

    /// Reconciles CloudClusters until the word to stop; opens `gate` once all have been read.
    ///
    /// # Errors
    /// None so far.
    pub async fn run(self, gate: Gate) -> Result<(), ControllerError> {
        let Self { context, index, queue, sites, links } = self;
        let mut read = sites.subscribe();
        tokio::select! {
            // The sender lives as long as `sites`, so the wait cannot fail.
            _ = read.wait_for(Option::is_some) => {}
            () = context.shutdown.cancelled() => return Ok(()),
        }
        gate.open();
        links.on_change({
            let (queue, namespace) = (queue.clone(), Arc::clone(&context.namespace));
            move |peer: &str| queue.add(Key::new(&namespace, peer), Lane::Normal)
        });
        let work =
            queue.run(AT_ONCE, |key| reconcile(context.clone(), Arc::clone(&index), links.clone(), key));
        let work = async { tokio::join!(work, links.run(context.shutdown.clone())).0 };
        let mut work = std::pin::pin!(work);
        tokio::select! {
            () = &mut work => return Ok(()),
            () = context.shutdown.cancelled() => queue.shut_down(),
        }
        work.await;
        Ok(())
    }
}

async fn reconcile(context: Context, index: Arc<Mutex<Index>>, links: Links, key: Key) -> Next {
    let began = Instant::now();
    let done = async {
        let seen = observe(&context.client, &index, &links, &context.site, &key).await?;
        if seen.is_none() {
            context.metrics.stuck().set("CloudCluster", &key, Vec::new());
        }
        let decided = seen.as_ref().and_then(|seen| Some((&seen.site, decide(seen)?)));
        let Some((site, decision)) = decided else { return Ok(false) };
        act(&context, &index, &key, site, decision).await
    };
    let done: Result<bool, kube::Error> = done.await;
    let (outcome, next) = match done {
        Ok(true) => (Outcome::Changed, Next::Idle),
        Ok(false) => (Outcome::Unchanged, Next::Idle),
        Err(error) => {
            tracing::warn!(cloudcluster = %key, %error, "reconcile failed");
            (Outcome::Error, Next::Retry)
        }
    };
    context.metrics.reconciled(RESOURCE, outcome, began.elapsed());
    next
}
