//! Follows Actions, answers them for whoever hears them, refuses what nobody hears, and removes what is old.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, ResourceExt};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::hear::{self, Answered, Orphan};
use super::index::{Index, Known};
use super::status;
use crate::api::Action;
use crate::api::action::TargetKind;
use crate::runtime::context::Context;
use crate::runtime::follow::{Change, follow_kind};
use crate::runtime::http::Gate;
use crate::runtime::key::{Key, key_of};
use crate::runtime::lock::lock;
use crate::runtime::metrics::Outcome;
use crate::runtime::queue::{Lane, Next, Queue};
use crate::runtime::raw_object::RawObject;

/// The resource, as metrics and the readiness gate name it.
pub const RESOURCE: &str = "actions";

/// How often Actions are looked through for those that are old, or whose target does not exist. It costs no request.
const TIDY_EVERY: Duration = Duration::from_secs(60);
/// How many Actions that cannot be read are worked on at once.
const AT_ONCE: usize = 2;

/// Why the controller ended.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// A watch ended, which it must not.
    #[error("the watch of Actions ended")]
    WatchEnded,
}

/// Who hears what is said to one kind of object.
pub trait Target: Send + Sync + 'static {
    /// The kind.
    fn kind(&self) -> TargetKind;
    /// Whether there is an object of that key.
    fn exists(&self, key: &Key) -> bool;
    /// Something was said to the object of that key, or is not said any more.
    fn changed(&self, key: &Key);
}

/// What is said, for those who hear it. Cheap to clone.
#[derive(Clone)]
pub struct Actions {
    context: Context,
    index: Arc<Mutex<Index>>,
    targets: Arc<Mutex<Vec<Arc<dyn Target>>>>,
    read: Arc<watch::Sender<bool>>,
}

impl Actions {
    /// One that knows nothing yet.
    pub fn new(context: Context) -> Self {
        Self { context, index: Arc::default(), targets: Arc::default(), read: Arc::default() }
    }

    /// From here on what is said to that kind is heard by `target`.
    pub fn hear(&self, target: impl Target) {
        lock(&self.targets).push(Arc::new(target));
    }

    /// Waits until all Actions have been read. What is remembered of those that were carried out must not be forgotten
    /// before that: they would be carried out again.
    pub async fn all_read(&self) {
        // The sender lives as long as `self`, so the wait cannot fail.
        let _ = self.read.subscribe().wait_for(|read| *read).await;
    }

    /// What was said to an object and has not been answered.
    pub fn said_to(&self, kind: TargetKind, key: &Key) -> Vec<Arc<Action>> {
        lock(&self.index).said_to(&(kind, key.clone()))
    }

    /// Writes what became of an Action.
    ///
    /// # Errors
    /// If the API server does not answer, or refuses.
    pub async fn answer(
        &self,
        action: &Action,
        answered: &Answered,
        now: Timestamp,
    ) -> Result<(), kube::Error> {
        let key = key_of(&action.metadata);
        let wanted = status::status(action, answered, now);
        let old = action.status.as_ref();
        let written = self.context.statuses.write::<Action, _>(&key, old, &wanted, status::same).await?;
        if let Some(RawObject(written)) = written {
            lock(&self.index).answered(&key, Known::read(written));
        }
        Ok(())
    }

    fn target(&self, kind: TargetKind) -> Option<Arc<dyn Target>> {
        lock(&self.targets).iter().find(|target| target.kind() == kind).cloned()
    }

    /// Follows Actions until the word to stop; opens `gate` once all have been read.
    ///
    /// # Errors
    /// If the watch ends.
    pub async fn run(self, gate: Gate) -> Result<(), ControllerError> {
        let queue: Queue<Key> = Queue::of(&self.context.metrics, RESOURCE);
        let shutdown = self.context.shutdown.clone();
        let mut tasks = JoinSet::new();
        let (tell, first) = oneshot::channel();
        tasks.spawn(self.clone().watch(queue.clone(), tell));
        tokio::select! {
            first = first => first.map_err(|_| ControllerError::WatchEnded)?,
            () = shutdown.cancelled() => return Ok(()),
        }
        self.read.send_replace(true);
        gate.open();
        tasks.spawn(self.clone().tidy());
        let work = |key| {
            let actions = self.clone();
            async move { actions.reconcile(key).await }
        };
        queue.run_until(&shutdown, &mut tasks, AT_ONCE, work).await.map_err(|_| ControllerError::WatchEnded)
    }

    async fn watch(self, queue: Queue<Key>, first: oneshot::Sender<()>) {
        let on = |change| match change {
            Change::Is(RawObject(object)) => {
                let key = key_of(&object.metadata);
                let known = Known::read(object);
                let bad = matches!(known, Known::Bad(_));
                let to = lock(&self.index).put(&key, known);
                if bad {
                    queue.add(key, Lane::Normal);
                }
                if let Some((kind, key)) = to
                    && let Some(target) = self.target(kind)
                {
                    target.changed(&key);
                }
            }
            Change::Gone(object) => lock(&self.index).gone(&key_of(&object.0.metadata)),
            Change::Relisted(seen) => lock(&self.index).retain(&seen),
        };
        let Context { client, permits, .. } = &self.context;
        follow_kind::<Action>(client, None, permits, RESOURCE, first, on).await;
    }

    /// Says of an Action that cannot be read that it cannot.
    async fn reconcile(&self, key: Key) -> Next {
        let began = Instant::now();
        let known = lock(&self.index).get(&key).cloned();
        let Some(Known::Bad(bad)) = known else { return Next::Idle };
        let (wanted, old) = (status::unreadable(&bad, Timestamp::now()), bad.status.as_ref());
        let written = self.context.statuses.write::<Action, _>(&key, old, &wanted, status::same).await;
        let (outcome, next) = match written {
            Ok(written) => {
                (if written.is_some() { Outcome::Changed } else { Outcome::Unchanged }, Next::Idle)
            }
            Err(error) => {
                tracing::warn!(action = %key, %error, "reconcile failed");
                (Outcome::Error, Next::Retry)
            }
        };
        self.context.metrics.reconciled(RESOURCE, outcome, began.elapsed());
        next
    }

    /// Refuses what is said to what does not exist or is too much, and removes what is old, for ever.
    async fn tidy(self) {
        loop {
            tokio::time::sleep(TIDY_EVERY).await;
            let now = Timestamp::now();
            let open = lock(&self.index).open();
            for ((kind, key), said) in open {
                let target = self.target(kind);
                let stray = target.as_ref().is_none_or(|target| !target.exists(&key));
                for action in said.iter().filter(|_| stray) {
                    if let Some(Orphan::Refuse(answered)) = hear::orphan(action, target.is_some(), now) {
                        tell(action, self.answer(action, &answered, now).await);
                    }
                }
            }
            let (refused, mut removed) = lock(&self.index).surplus();
            for action in &refused {
                tell(action, self.answer(action, &hear::too_many(action), now).await);
            }
            let over = lock(&self.index).over();
            removed.extend(over.into_iter().filter(|action| hear::is_old(action, now)));
            for action in &removed {
                tell(action, self.remove(action).await);
            }
        }
    }

    async fn remove(&self, action: &Action) -> Result<(), kube::Error> {
        let Some(_permit) = self.context.may_write(false).await else { return Ok(()) };
        let client = self.context.client.clone();
        let api: Api<Action> = Api::namespaced(client, &action.namespace().unwrap_or_default());
        let preconditions = Some(Preconditions { uid: action.uid(), resource_version: None });
        let parameters = DeleteParams { preconditions, ..DeleteParams::default() };
        match api.delete(&action.name_any(), &parameters).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other.map(drop),
        }
    }
}

fn tell(action: &Action, done: Result<(), kube::Error>) {
    if let Err(error) = done {
        let key = key_of(&action.metadata);
        tracing::warn!(action = %key, %error, "an Action was not tidied up; it is tried again in a minute");
    }
}
