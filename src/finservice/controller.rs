//! Runs the reconciler of FinServices: watches → queue → observe → decide → act → status.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use kube::api::{ApiResource, DynamicObject, Patch};
use kube::{Api, Resource, ResourceExt};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::act::Actor;
use super::decide::{decide, weights};
use super::flag::{FlagSetter, NotSet};
use super::index::rollouts::{ObservedRollout, Policy};
use super::index::{Index, Key, Observed, Parsed};
use super::observe::observe;
use super::plan::Plan;
use super::report::Reporter;
use super::watches::Watches;
use super::{counting, follow, lock, status, version_of};
use crate::api::conditions::{self, State, Wanted};
use crate::api::finservice::FinServiceStatus;
use crate::api::{FinService, Problem};
use crate::canary;
use crate::cloudcluster::peers::Peers;
use crate::runtime::context::Context;
use crate::runtime::metrics::Outcome;
use crate::runtime::patch::applying;
use crate::runtime::queue::{Lane, Next, Queue};
use crate::signals::builtin::BuiltInError;
use crate::signals::hub::{Follow, Hub, Wake};
use crate::signals::{Sources, Subject};

/// The resource, as metrics name it.
const RESOURCE: &str = "finservices";
/// How long calls may go on changing before cycles are looked for anew: a hundred FinServices that
/// are applied together are looked at once.
const CYCLES_AFTER: Duration = Duration::from_millis(250);

/// When to look again at a FinService of which something is left to do after all writes went well. A
/// watch tells earlier, as a rule.
const SETTLE: SignedDuration = SignedDuration::from_secs(1);

/// When the rest is written after the weights have been taken away: what fails together does so within two looks or so.
const REST_AFTER: SignedDuration = SignedDuration::from_millis(500);
/// So much later for each that waits as well: about what an API server takes for the rest of one. Else what tells proxies
/// of the weights would stand behind statuses.
const REST_EACH: SignedDuration = SignedDuration::from_millis(15);

/// Why the controller ended.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// The API server could not be asked at the start.
    #[error("cannot list the definitions of custom resources: {0}; look at the operator's ClusterRole")]
    Start(#[source] kube::Error),
    /// A watch ended, which it must not.
    #[error("a watch of the FinService controller ended")]
    WatchEnded,
    /// The built-in source of evidence cannot be.
    #[error("--gateway-metrics: {0}")]
    Source(#[from] BuiltInError),
}

/// Reconciles FinServices until the word to stop.
///
/// # Errors
/// If the watches cannot be started, or one of them ends.
pub async fn run(context: Context) -> Result<(), ControllerError> {
    let index = Arc::new(Mutex::new(Index::new(&context.site)));
    let queue = Queue::new(context.metrics.queue_depth(RESOURCE));
    let calls_changed = Arc::new(tokio::sync::Notify::new());
    let watches = Watches {
        client: context.client.clone(),
        index: Arc::clone(&index),
        queue: queue.clone(),
        namespace: Arc::clone(&context.namespace),
        calls_changed: Arc::clone(&calls_changed),
        lists: follow::turns(),
        services_read: tokio::sync::watch::Sender::default(),
    };
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    let firsts = tokio::select! {
        firsts = watches.start(&mut tasks) => firsts.map_err(ControllerError::Start)?,
        () = context.shutdown.triggered() => return Ok(()),
    };
    for first in firsts {
        tokio::select! {
            first = first => first.map_err(|_| ControllerError::WatchEnded)?,
            () = context.shutdown.triggered() => return Ok(()),
        }
    }
    let keys = {
        let mut index = lock(&index);
        index.refresh_cycles();
        index.keys()
    };
    tracing::info!(finservices = keys.len(), took = ?began.elapsed(), "the caches are filled");
    queue.add_all(keys, Lane::Normal);
    context.health.set_synced();
    tasks.spawn(find_cycles(Arc::clone(&index), queue.clone(), calls_changed));
    let turns = Arc::new(Semaphore::new(context.concurrency));
    let hub = Arc::new(Hub::default());
    let sources = Arc::new(Sources::new(context.client.clone(), &context.proxies)?);
    let read = Arc::clone(&hub);
    context.metrics.live().read_from(move || counting::live(read.all()));
    tasks.spawn(count(Arc::clone(&hub), sources, Arc::clone(&index), queue.clone()));
    let reporter = Reporter::new(
        context.client.clone(),
        Arc::clone(&index),
        context.leadership.clone(),
        Arc::clone(&turns),
    );
    let flags = FlagSetter::new(context.client.clone(), &context.launch_darkly);
    let peers = Peers::new(context.client.clone(), &context.namespace);
    let (asking, again, shutdown) = (peers.clone(), queue.clone(), context.shutdown.clone());
    tasks.spawn(async move {
        asking.run(shutdown, move |key: &Key| again.add(key.clone(), Lane::Normal)).await;
        // It ends only with the process, and must not seem to end before.
        std::future::pending::<()>().await;
    });
    let worker = Arc::new(Worker {
        context: context.clone(),
        index,
        turns,
        urgent: Semaphore::new(context.concurrency),
        hub,
        reporter,
        flags,
        peers,
        begun: Mutex::default(),
    });
    let tidy = Arc::clone(&worker);
    tasks.spawn(async move { tidy.reporter.tidy().await });
    let work = queue.run(context.concurrency, |key| {
        let worker = Arc::clone(&worker);
        async move { worker.reconcile(key).await }
    });
    let mut work = std::pin::pin!(work);
    tokio::select! {
        () = &mut work => return Ok(()),
        _ = tasks.join_next() => return Err(ControllerError::WatchEnded),
        () = context.shutdown.triggered() => queue.shut_down(),
    }
    work.await;
    Ok(())
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
        counting::fill(index.rollouts.pods_of(key), &follow.labels, subject);
    };
    let wake = move |wake: Wake<Key>| {
        queue.add(wake.key, if wake.urgent { Lane::Urgent } else { Lane::Normal });
    };
    hub.run(sources, fill, wake)
}

/// The rollouts of other clusters whose word is waited for.
fn wanted_of_peers(seen: &Observed, plan: &Plan) -> Vec<(String, String, String)> {
    let (Some(rollout), Some(planned)) = (&seen.rollout, &plan.rollout) else { return Vec::new() };
    let clusters = planned.gathered.asks(&planned.decision).into_iter();
    let (namespace, name) = (rollout.object.namespace().unwrap_or_default(), rollout.object.name_any());
    clusters.map(|cluster| (cluster, namespace.clone(), name.clone())).collect()
}

struct Worker {
    context: Context,
    index: Arc<Mutex<Index>>,
    /// A permit for each write that may be under way.
    turns: Arc<Semaphore>,
    /// The same for writes that take weight away: they wait behind no others.
    urgent: Semaphore,
    hub: Arc<Hub<Key>>,
    reporter: Reporter,
    flags: FlagSetter,
    peers: Peers,
    /// Of which services the weights have been taken away, and nothing else has been done.
    begun: Mutex<HashMap<Key, Begun>>,
}

/// From what and when it was decided that the weights go, of which only they have been written.
struct Begun {
    seen: Observed,
    now: Timestamp,
}

/// What came of a reconcile, and when to look again.
type Done = (Outcome, Option<Timestamp>);
/// Why a reconcile failed.
type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Whether a plan takes weight away from a canary by a route, and that can be written at once.
fn takes_back(seen: &Observed, plan: &Plan) -> bool {
    let (Some(rollout), Some(planned)) = (&seen.rollout, &plan.rollout) else { return false };
    let weighs = rollout.memory.rollout.as_ref().is_some_and(|rollout| rollout.weight > 0);
    plan.weights_first
        && planned.decision.phase == canary::Phase::RolledBack
        && planned.decision.flag.is_none()
        && (weighs || rollout.memory.warm.is_some())
}

impl Worker {
    async fn reconcile(&self, key: Key) -> Next {
        if !self.context.leadership.is_leader() {
            return Next::Retry;
        }
        let began = Instant::now();
        let (outcome, next) = match self.continue_or_attempt(&key).await {
            Ok((outcome, again_at)) => {
                let at = again_at.map(|at| {
                    let wait = at.duration_since(Timestamp::now());
                    tokio::time::Instant::now() + Duration::try_from(wait).unwrap_or_default()
                });
                (outcome, at.map_or(Next::Idle, |at| Next::At(at, Lane::Normal)))
            }
            Err(error) => {
                tracing::warn!(finservice = %key, %error, "reconcile failed");
                (Outcome::Error, Next::Retry)
            }
        };
        self.context.metrics.reconciled(RESOURCE, outcome, began.elapsed());
        next
    }

    /// Finishes what was begun, and looks again.
    async fn continue_or_attempt(&self, key: &Key) -> Result<Done, Failed> {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        if let Some(Begun { seen, now }) = begun {
            let mut plan = decide(&seen, now);
            plan.stages.drain(..usize::from(plan.weights_first));
            self.finish(key, seen, plan, true, now).await?;
        }
        self.attempt(key).await
    }

    async fn attempt(&self, key: &Key) -> Result<Done, Failed> {
        let parsed = lock(&self.index).parsed(key);
        if let Some(Parsed::Bad(why, generation)) = parsed {
            self.refuse(key, &why, generation).await?;
            return Ok((Outcome::Unchanged, None));
        }
        let now = Timestamp::now();
        let Some(mut seen) = observe(&self.context.client, &self.index, key).await? else {
            self.context.metrics.set_problems("FinService", &key.to_string(), []);
            self.hub.follow(key, None);
            self.peers.want(key, Vec::new());
            self.unheld(key, false, now).await?;
            return Ok((Outcome::Unchanged, None));
        };
        if let Some(rollout) = &mut seen.rollout {
            let known = self.hub.known(key);
            (rollout.evidence, rollout.scatter) = (known.evidence, known.scatter);
            (rollout.answers, rollout.problems) = (known.answers, known.problems);
            rollout.peers = self.peers.peers(key);
        }
        let hurries = seen.rollout.as_ref().is_some_and(ObservedRollout::fails);
        let hurried = hurries.then(|| weights(&seen, now)).filter(|plan| takes_back(&seen, plan));
        let mut plan = hurried.unwrap_or_else(|| decide(&seen, now));
        if !takes_back(&seen, &plan) {
            return self.finish(key, seen, plan, false, now).await;
        }
        // Where many fail at once, the weights of all go to zero before anything else of any of them is decided or written.
        plan.stages.truncate(1);
        self.actor(key, &self.urgent).act(&plan, now).await?;
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = REST_AFTER + REST_EACH * begun.len() as i32;
        begun.insert(key.clone(), Begun { seen, now });
        Ok((Outcome::Changed, Some(now.saturating_add(wait).unwrap_or(now))))
    }

    fn actor<'a>(&'a self, key: &'a Key, turns: &'a Semaphore) -> Actor<'a> {
        let Context { client, leadership, .. } = &self.context;
        Actor { client, index: &self.index, key, leadership, turns }
    }

    /// Carries a plan out and says what came of it. `wrote` tells that a part of it has been written already.
    async fn finish(
        &self,
        key: &Key,
        mut seen: Observed,
        mut plan: Plan,
        wrote: bool,
        now: Timestamp,
    ) -> Result<Done, Failed> {
        let flagged = self.flag(key, &seen, &plan, true, now).await;
        let acted = self.actor(key, &self.turns).act(&plan, now).await;
        let flagged = flagged.and(self.flag(key, &seen, &plan, false, now).await);
        if let (Err(not_set), Some(rollout)) = (flagged, &mut seen.rollout) {
            plan.look_again(not_set.again_at);
            rollout.problems.push(not_set.problem);
        }
        self.announce(&seen, &plan);
        let failed = acted.as_ref().err().and_then(super::act::ActError::problem);
        let wrote = wrote || !plan.is_empty();
        let outcome = if wrote { Outcome::Changed } else { Outcome::Unchanged };
        let followed = plan.rollout.as_ref().and_then(|planned| planned.follow.clone());
        self.hub.follow(key, followed);
        self.peers.want(key, wanted_of_peers(&seen, &plan));
        let again_at = plan.again_at;
        // What was written is in the index already. A status from before it would be wrong a moment
        // later, and take a second write.
        let fresh = acted.is_ok() && wrote && lock(&self.index).renew(&mut seen);
        if let Some(rollout) = seen.rollout.take() {
            let said = match &plan.rollout {
                Some(planned) => {
                    self.reporter.rollout(key, &seen, &rollout, planned, failed.clone(), now).await
                }
                None => self.reporter.at_rest(&rollout, &plan, now).await,
            };
            // What was decided is remembered now, and what was said has been heard.
            let memory = plan.rollout.as_ref().map(|planned| planned.decision.memory.clone());
            let memory = memory.unwrap_or_else(|| rollout.memory.clone());
            seen.rollout = Some(ObservedRollout { memory, actions: Vec::new(), ..rollout });
            said?;
        }
        self.unheld(key, true, now).await?;
        if fresh {
            plan = decide(&seen, now);
            if !plan.is_empty() {
                plan.look_again(now.saturating_add(SETTLE).unwrap_or(now));
            }
        }
        if let Some(at) = again_at {
            plan.look_again(at);
        }
        self.write_status(key, &seen, &plan, failed, now).await?;
        acted?;
        Ok((outcome, plan.again_at))
    }

    /// Says to CanaryRollouts that name this FinService and do not hold why that is so.
    async fn unheld(&self, key: &Key, exists: bool, now: Timestamp) -> Result<(), kube::Error> {
        let of = lock(&self.index).rollouts.of(key);
        let (namespace, name) = (&key.namespace, &key.name);
        let mut idle: Vec<(Key, Policy, Problem)> = Vec::new();
        if !exists && let Some((own, policy)) = &of.holds {
            let problem = Problem::error(
                "spec.service",
                format!("there is no FinService {name} in namespace {namespace} that can be read"),
                "Create or correct it, or delete this CanaryRollout and create one that names another.",
            );
            idle.push((own.clone(), policy.clone(), problem));
        }
        let holder = of.holds.as_ref().map(|(own, _)| own.name.to_string()).unwrap_or_default();
        for (own, policy) in of.others {
            let problem = Problem::error(
                "spec.service",
                format!("FinService {name} has a CanaryRollout already, {holder}, which is older and holds"),
                format!("Delete this one or CanaryRollout {holder}: a FinService has at most one."),
            );
            idle.push((own, policy, problem));
        }
        for (own, policy, problem) in idle {
            self.reporter.idle(&own, &policy, problem, now).await?;
        }
        Ok(())
    }

    /// Sets the flag of a rollout, if it has one: before all else where its percentage falls, else after.
    async fn flag(
        &self,
        key: &Key,
        seen: &Observed,
        plan: &Plan,
        first: bool,
        now: Timestamp,
    ) -> Result<(), NotSet> {
        let percent = plan.rollout.as_ref().and_then(|planned| planned.decision.flag);
        let flag = seen.rollout.as_ref().and_then(|rollout| rollout.object.spec.feature_flag.as_ref());
        let (Some(percent), Some(flag)) = (percent, flag) else {
            self.flags.forget(key);
            return Ok(());
        };
        if self.flags.falls(key, percent) != first || !self.context.leadership.is_leader() {
            return Ok(());
        }
        self.flags.set(key, &flag.launch_darkly, percent, now).await
    }

    fn announce(&self, seen: &Observed, plan: &Plan) {
        for notice in &plan.notices {
            let about = seen.service.object_ref(&());
            self.context.events.publish(about, notice.reason, notice.note.clone());
        }
        let (Some(rollout), Some(planned)) = (&seen.rollout, &plan.rollout) else { return };
        for notice in &planned.decision.notices {
            let (about, attempt) = (rollout.object.object_ref(&()), planned.decision.memory.attempt);
            self.context.events.publish_of(about, attempt, notice.reason, notice.note.clone());
        }
    }

    async fn write_status(
        &self,
        key: &Key,
        seen: &Observed,
        plan: &Plan,
        failed: Option<Problem>,
        now: Timestamp,
    ) -> Result<(), kube::Error> {
        if seen.service.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let status = status::status(seen, plan, failed, now);
        let sources = status.problems.iter().map(|problem| problem.source.as_str());
        self.context.metrics.set_problems("FinService", &key.to_string(), sources);
        if seen.service.status.as_ref().is_some_and(|old| status::same(old, &status)) {
            return Ok(());
        }
        let stalled = |status: &FinServiceStatus| {
            status.conditions.iter().any(|said| said.type_ == "Stalled" && said.status == "True")
        };
        let was_stalled = seen.service.status.as_ref().is_some_and(stalled);
        if stalled(&status) && !was_stalled {
            let note =
                status.problems.first().map(|p| format!("{} {}", p.message, p.remedy)).unwrap_or_default();
            let about = seen.service.object_ref(&());
            self.context.events.publish(about, crate::runtime::events::Reason::Stalled, note);
        }
        self.patch_status(key, &status).await
    }

    async fn patch_status(&self, key: &Key, status: &FinServiceStatus) -> Result<(), kube::Error> {
        let api: Api<FinService> = Api::namespaced(self.context.client.clone(), &key.namespace);
        let patch = json!({
            "apiVersion": FinService::api_version(&()),
            "kind": FinService::kind(&()),
            "status": status,
        });
        let _turn = self.turns.acquire().await;
        if !self.context.leadership.is_leader() {
            return Ok(());
        }
        match api.patch_status(&key.name, &applying(true), &Patch::Apply(&patch)).await {
            Ok(mut written) => {
                written.metadata.managed_fields = None;
                let version = version_of(&written.metadata);
                lock(&self.index).service_answered(key, version, Parsed::Good(Arc::new(written)));
                Ok(())
            }
            // It was deleted meanwhile.
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Says in status why an object cannot be read. Nothing else of it is touched.
    async fn refuse(&self, key: &Key, why: &str, generation: Option<i64>) -> Result<(), kube::Error> {
        let message = format!("the spec cannot be read: {why}");
        let wanted = |kind, state, reason| Wanted { kind, state, reason, message: message.clone() };
        let conditions = conditions::merge(
            &[],
            vec![
                wanted("Ready", State::False, "Unreadable"),
                wanted("Reconciling", State::False, "Unreadable"),
                wanted("Stalled", State::True, "Unreadable"),
            ],
            generation,
            Timestamp::now(),
        );
        let remedy = "Correct the field that the message names; what runs is left as it is.";
        let status = FinServiceStatus {
            observed_generation: generation,
            conditions,
            problems: vec![Problem::error("spec", message.clone(), remedy)],
            ..FinServiceStatus::default()
        };
        let resource = ApiResource::erase::<FinService>(&());
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.context.client.clone(), &key.namespace, &resource);
        let patch = json!({
            "apiVersion": FinService::api_version(&()),
            "kind": FinService::kind(&()),
            "status": status,
        });
        api.patch_status(&key.name, &applying(true), &Patch::Apply(&patch)).await?;
        Ok(())
    }
}
