//! Runs the reconciler of FailoverGroups: watch → queue → observe → decide → act. Every replica watches groups and
//! Authorities; only the leader asks peers, stores, the witness and the provider, and does the rest.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::act::{ActError, Acted, Means, act, release};
use super::decide::decide;
use super::hangs::Written;
use super::index::Index;
use super::observe::{Ground, observe};
use super::sources;
use super::sources::group::{Ends, Sources};
use super::sources::nodes;
use super::watch::Watches;
use crate::authority::abandoned::ABANDONED_AFTER;
use crate::authority::view::Authorities;
use crate::cloudcluster::handle::SitesHandle;
use crate::cloudcluster::view::NodesView;
use crate::finservice;
use crate::runtime::context::Context;
use crate::runtime::http::Gate;
use crate::runtime::key::Key;
use crate::runtime::lock::lock;
use crate::runtime::metrics::Outcome;
use crate::runtime::queue::{Lane, Next, Queue};

/// The resource, as metrics and the readiness gate name it.
pub const RESOURCE: &str = "failovergroups";

/// How many groups are worked on at once.
const AT_ONCE: usize = 4;

/// How soon a group is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// The same while a store is at work on what it was told: nothing else tells that it is done.
const UNDER_WAY: Duration = Duration::from_secs(2);

/// Why the controller ended.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// A watch ended, which it must not.
    #[error("a watch of the FailoverGroup controller ended")]
    WatchEnded,
}

/// What reconciling groups stands on. Cheap to clone.
#[derive(Clone)]
pub struct Shared {
    /// Where snapshots are taken.
    pub ground: Ground,
    /// How others are asked.
    pub sources: Sources,
    /// How others are told.
    pub watches: Watches,
    counted: Arc<watch::Sender<Option<NodesView>>>,
}

/// The reconciler before it runs.
pub struct Controller {
    context: Context,
    ends: Ends,
    watches: Watches,
    services: Arc<Mutex<finservice::index::Index>>,
}

/// How long a site is silent until its claim is abandoned.
fn patience(ends: &Ends) -> SignedDuration {
    let usual = ABANDONED_AFTER.unsigned_abs();
    SignedDuration::try_from(ends.every(usual)).unwrap_or(ABANDONED_AFTER)
}

impl Controller {
    /// One that knows nothing yet, and how this site stands for each group, which is not known yet either.
    pub fn new(
        context: Context,
        ends: Ends,
        services: Arc<Mutex<finservice::index::Index>>,
    ) -> (Self, watch::Receiver<Option<Authorities>>) {
        let (view, known) = watch::channel(None);
        let watches = Watches {
            index: Arc::new(Mutex::new(Index::new(&context.site).with_patience(patience(&ends)))),
            queue: Queue::of(&context.metrics, RESOURCE),
            view: Arc::new(view),
            specs: Arc::new(watch::channel(Arc::default()).0),
            context: context.clone(),
        };
        (Self { context, ends, watches, services }, known)
    }

    /// Follows groups and Authorities as long as the process lives: what every replica does.
    /// Returns why it ended, which it must not.
    pub fn watch(&self) -> impl Future<Output = ControllerError> + Send + use<> {
        let watches = self.watches.clone();
        async move {
            watches.own().await;
            ControllerError::WatchEnded
        }
    }

    /// What reconciling groups stands on, which those who move groups share.
    pub fn means(&self, sites: &SitesHandle) -> Shared {
        let Self { context, ends, watches, services } = self;
        let index = Arc::clone(&watches.index);
        let (counted, nodes) = watch::channel(None);
        let sources = Sources {
            context: context.clone(),
            index: Arc::clone(&index),
            queue: watches.queue.clone(),
            specs: watches.specs.subscribe(),
            ends: ends.clone(),
            sites: sites.sites.clone(),
            peers: sites.clone(),
        };
        let (site, services) = (Arc::clone(&context.site), Arc::clone(services));
        let ground = Ground { site, index, services, sites: sites.clone(), nodes };
        Shared { ground, sources, watches: watches.clone(), counted: Arc::new(counted) }
    }

    /// Reconciles groups until the word to stop; opens `gate` once all have been read.
    ///
    /// # Errors
    /// If a watch of peers ends.
    pub async fn run(self, shared: Shared, gate: Gate) -> Result<(), ControllerError> {
        let Self { context, watches, .. } = self;
        let mut read = watches.view.subscribe();
        tokio::select! {
            // The sender lives as long as `watches`, so the wait cannot fail.
            _ = read.wait_for(Option::is_some) => {}
            () = context.shutdown.cancelled() => return Ok(()),
        }
        gate.open();
        let queue = watches.queue.clone();
        let Shared { ground, sources, counted, .. } = shared;
        let sites = ground.sites.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(watches.clone().peers(sites));
        tasks.spawn(sources::run(sources.clone()));
        tasks.spawn(nodes::run(sources.clone(), counted));
        let names = lock(&ground.index).names();
        queue.add_all(names.iter().map(|name| Key::new(&context.namespace, name)), Lane::Normal);
        let written = Arc::new(Mutex::new(Written::default()));
        let work = |key| {
            let (ground, watches, sources) = (ground.clone(), watches.clone(), sources.clone());
            let written = Arc::clone(&written);
            async move { reconcile(&ground, &watches, &sources, &written, key).await }
        };
        let worked = queue.run_until(&context.shutdown, &mut tasks, AT_ONCE, work).await;
        worked.map_err(|_| ControllerError::WatchEnded)
    }
}

async fn reconcile(
    ground: &Ground,
    watches: &Watches,
    sources: &Sources,
    written: &Mutex<Written>,
    key: Key,
) -> Next {
    let context = &watches.context;
    if !context.leadership.is_leader() {
        return Next::Retry;
    }
    let began = Instant::now();
    let means = Means { context, ground, sources, written };
    let done: Result<Option<Acted>, ActError> = async {
        let Some(seen) = observe(ground, &key.name) else {
            context.metrics.set_checks(&key.name, []);
            context.metrics.stuck().set("FailoverGroup", &key, Vec::new());
            return Ok(None);
        };
        match decide(&seen, Timestamp::now()) {
            Some(decision) => act(&means, &key, &seen, decision).await.map(Some),
            None => release(&means, &key, &seen).await.map(|_| None),
        }
    }
    .await;
    watches.tell();
    // Ages, and what FinServices say, wake nobody: they are looked at again. That asks nobody anything.
    let again = |usually| Next::At(tokio::time::Instant::now() + sources.ends.every(usually), Lane::Normal);
    let (outcome, next) = match done {
        Ok(Some(Acted { changed, under_way })) => (
            if changed { Outcome::Changed } else { Outcome::Unchanged },
            again(if under_way { UNDER_WAY } else { LOOK_AGAIN }),
        ),
        Ok(None) => (Outcome::Unchanged, Next::Idle),
        Err(error) => {
            tracing::warn!(failovergroup = %key, %error, "reconcile failed");
            (Outcome::Error, Next::Retry)
        }
    };
    context.metrics.reconciled(RESOURCE, outcome, began.elapsed());
    next
}
