//! Takes one move as far as it goes: hear, observe, decide, write down what is about to be done, do it, write down what came
//! of it; until it waits, or is over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Resource, ResourceExt};
use serde_json::json;

use super::act::{Means, carry_out};
use super::decide::decide;
use super::hear::{Stands, hear, with_position};
use super::index::{Index, Known, is_over};
use super::journal::Journal;
use super::observe::{Seen, observe};
use super::outcome::Done;
use super::record::entry::{self, Event};
use super::record::outbox;
use super::rehearse;
use super::status;
use super::turn::waits_for;
use super::view::{Act, Next, Wait};
use crate::actions::Actions;
use crate::actions::hear::{Answered, id};
use crate::api::action::{ActionState, TargetKind};
use crate::api::failover::{MoveAction, Phase};
use crate::api::failovergroup::Approval;
use crate::api::notice::Reason;
use crate::api::step::Step;
use crate::api::stuck::{self, Stuck};
use crate::api::{Failover, FailoverStatus};
use crate::failovergroup::act::write as write_authority;
use crate::failovergroup::controller::Shared;
use crate::failovergroup::plan::held;
use crate::runtime::context::Context;
use crate::runtime::key::Key;
use crate::runtime::lock::lock;
use crate::runtime::queue::{Lane, Next as Again};

/// The finalizer: who deletes a Failover gives it up, and what it closed is opened first.
const FINALIZER: &str = "banyan.dev/failover";
/// The most acts that are carried out in one go. There are some twenty in a move; more go round in circles.
const MOST_ACTS: usize = 100;
/// For how long a site that did not answer is not asked again: a dead one must not cost five seconds at each step.
const SILENT_FOR: Duration = Duration::from_secs(15);
/// How soon a move that waits is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// The same while it waits for pods of this site, which are known without a request.
const LOOK_FOR_PODS: Duration = Duration::from_millis(500);
/// How soon it is tried again to put on record what a move did that is over.
const RECORD_AGAIN: Duration = Duration::from_secs(30);

/// What moves are worked on with.
#[derive(Clone)]
pub struct Worker {
    /// The process.
    pub context: Context,
    /// The Failovers of this site.
    pub index: Arc<Mutex<Index>>,
    /// What reconciling groups stands on.
    pub shared: Shared,
    /// What people say.
    pub actions: Actions,
    /// When this process began to lead: what a person asserted before does not count for what may have happened since.
    pub since: Timestamp,
    /// Sites that did not answer, and when: they are not asked again for a while.
    pub silent: Arc<Mutex<BTreeMap<String, Instant>>>,
}

/// One move, while it is worked on.
pub(super) struct Move<'a> {
    pub(super) worker: &'a Worker,
    pub(super) key: &'a Key,
    pub(super) failover: Failover,
    pub(super) status: FailoverStatus,
    /// What is to be put on record with the next write, and does not follow from the status.
    pub(super) told: Vec<Event>,
}

/// Why it stops for now.
enum Stop {
    /// It is over, or gone.
    Over,
    /// Look again after a while.
    Later,
}

impl Worker {
    fn lately_silent(&self) -> BTreeSet<String> {
        let mut silent = lock(&self.silent);
        silent.retain(|_, at| at.elapsed() < SILENT_FOR);
        silent.keys().cloned().collect()
    }

    /// Which group an order has in hand: its own while it is at work, none of one that is gone.
    fn orders(&self, name: &str, failover: Option<&Failover>) {
        let moves = failover.filter(|failover| failover.spec.action.moves() && !is_over(failover));
        let mut index = lock(&self.shared.ground.index);
        index.order(name, moves.map(|failover| failover.spec.group.as_str()));
        self.context.permits.set_moving(index.has_orders());
    }

    /// Whether a group is rehearsed here.
    fn rehearse(&self, failover: &str, group: Option<&str>) {
        lock(&self.shared.ground.index).rehearse(failover, group);
        self.shared.watches.tell();
    }

    /// Takes a move as far as it goes.
    ///
    /// # Errors
    /// If this cluster's API server does not answer.
    pub async fn work(&self, key: &Key) -> Result<Again, kube::Error> {
        let known = lock(&self.index).get(&key.name).cloned();
        let failover = match known {
            Some(Known::Good(failover)) => Arc::unwrap_or_clone(failover),
            Some(Known::Bad(why)) => {
                tracing::error!(failover = %key, why, "it cannot be read; upgrade the operator of this site");
                self.context.metrics.stuck().set(
                    &Failover::kind(&()),
                    key,
                    vec![Stuck::unreadable(Timestamp::now())],
                );
                return Ok(Again::Idle);
            }
            None => {
                self.context.metrics.stuck().set(&Failover::kind(&()), key, Vec::new());
                self.orders(&key.name, None);
                self.rehearse(&key.name, None);
                return Ok(Again::Idle);
            }
        };
        let status = failover.status.clone().unwrap_or_default();
        self.orders(&key.name, Some(&failover));
        let mut this = Move { worker: self, key, failover, status, told: Vec::new() };
        let stop = this.go().await;
        this.known();
        self.orders(&key.name, Some(&this.failover));
        let stop = stop?;
        let waits_for_pods = this.status.reason.as_deref() == Some("NoCapacity");
        let recorded = this.deliver().await?;
        this.let_go(recorded).await?;
        let again = |after, lane| Again::At(tokio::time::Instant::now() + after, lane);
        Ok(match stop {
            Stop::Over if recorded => Again::Idle,
            Stop::Over => again(RECORD_AGAIN, Lane::Normal),
            Stop::Later if waits_for_pods => again(LOOK_FOR_PODS, Lane::Urgent),
            Stop::Later => again(LOOK_AGAIN, Lane::Urgent),
        })
    }
}

impl Move<'_> {
    fn api(&self) -> Api<Failover> {
        Api::namespaced(self.worker.context.client.clone(), &self.key.namespace)
    }

    /// What others are to know of it: what it waits for, what is rehearsed, and what was measured.
    fn known(&self) {
        let is_late = status::lateness(Some(&self.status)).is_some();
        let stuck = stuck::of_move(self.failover.spec.action, &self.status, is_late);
        self.worker.context.metrics.stuck().set(&Failover::kind(&()), self.key, stuck);
        let rehearses = self.status.grown == Some(true) && !is_over(&self.failover);
        let group = &self.failover.spec.group;
        if self.failover.spec.action == MoveAction::Rehearsal {
            self.worker.rehearse(&self.key.name, rehearses.then_some(group));
        }
        if let Some(measured) = status::measured(&self.failover, &self.status) {
            lock(&self.worker.shared.ground.index).measure(group, measured);
        }
    }

    async fn go(&mut self) -> Result<Stop, kube::Error> {
        let deleted = self.failover.metadata.deletion_timestamp.is_some();
        self.hear().await?;
        if is_over(&self.failover) {
            return Ok(Stop::Over);
        }
        if deleted && !self.failover.finalizers().iter().any(|one| one == FINALIZER) {
            return Ok(Stop::Over);
        }
        self.finalize(true).await?;
        if deleted && self.status.committed_at.is_none() {
            // Whoever deletes it gives it up. After the commit it goes on to its end, and is gone then.
            self.status.aborted = Some(true);
        }
        for _ in 0..MOST_ACTS {
            if !self.worker.context.leadership.is_leader() || self.worker.context.shutdown.is_cancelled() {
                return Ok(Stop::Later);
            }
            if let Some(stop) = self.step().await? {
                return Ok(stop);
            }
        }
        tracing::error!(failover = %self.key, "it went round in circles, and rests for a while");
        Ok(Stop::Later)
    }

    /// One decision, and what follows from it. `None` if it goes on at once.
    async fn step(&mut self) -> Result<Option<Stop>, kube::Error> {
        let Worker { context, shared, index, .. } = self.worker;
        let before = lock(index).before(&self.failover);
        if let (Some(other), None) = (before, self.status.ballot) {
            let words = format!(
                "{other} moves the same group: see `kubectl get failover {other} -n {}`",
                self.key.namespace
            );
            return self.over(Phase::Refused, &words).await.map(Some);
        }
        let seen = match observe(&shared.ground, &self.failover.spec.group) {
            Ok(seen) => seen,
            Err(words) if self.status.ballot.is_none() => {
                return self.over(Phase::Refused, &words).await.map(Some);
            }
            Err(words) => {
                let wait = Wait { reason: "NoGroup", message: words, next: None };
                return self.waits(Step::Preflight, &wait).await.map(Some);
            }
        };
        // What others know better is copied before anything is decided on it.
        if let Some(better) = &seen.authority.write
            && !seen.authority.first_claim
        {
            let written = write_authority(context, &shared.ground, &seen.group, better).await?;
            shared.watches.tell();
            return Ok((!written).then_some(Stop::Later));
        }
        self.note(&seen);
        if self.failover.spec.action == MoveAction::Plan {
            return self.planned(seen).await.map(Some);
        }
        let silent: Vec<String> = seen.silent().union(&self.worker.lately_silent()).cloned().collect();
        let journal = self.journal(&seen);
        let name = self.failover.name_any();
        let specs = |group: &str| lock(&shared.ground.index).after(group);
        let others = lock(index).others(&self.failover);
        let turn = waits_for(&self.failover.spec.group, &others, specs);
        let view = seen.view(&name, &self.status, &silent, turn.as_ref());
        let next = match self.failover.spec.action {
            MoveAction::Rehearsal => {
                let gives_way = lock(index).gives_way(&self.failover);
                rehearse::decide(&view, seen.rehearsed(gives_way.as_deref()), &journal)
            }
            _ => decide(&view, &journal),
        };
        match next {
            Next::End(phase, words) => self.over(phase, &words).await.map(Some),
            Next::Wait(step, wait) => {
                let wait = with_position(wait, &self.status);
                self.waits(step, &wait).await.map(Some)
            }
            Next::Do(step, act) => self.act(&seen, &journal, &silent, step, act).await,
        }
    }

    /// Says what a move would do.
    async fn planned(&mut self, seen: Seen) -> Result<Stop, kube::Error> {
        let plan = seen.plan.unwrap_or_default();
        let words = match held(&plan)[..] {
            [] => format!("nothing would hold a move to {}; see status.plan", seen.group.site),
            [only] => format!("a move to {} would be held: {only}", seen.group.site),
            [first, ref more @ ..] => {
                format!(
                    "a move to {} would be held: {first} (and {} more: see status.plan)",
                    seen.group.site,
                    more.len()
                )
            }
        };
        self.status.plan = Some(plan);
        self.over(Phase::Done, &words).await
    }

    /// What is remembered from the beginning.
    fn note(&mut self, seen: &Seen) {
        let status = &mut self.status;
        let own = seen.group.knowledge.own.as_ref();
        if status::commits(status, own, Timestamp::now()) {
            tracing::info!(failover = %self.key, epoch = status.ballot, "committed");
        }
        if status.digest.is_none() {
            status::begun(status, &self.failover, (&seen.group.site, &seen.spec), own);
            status.digest = Some(seen.group.digest.clone());
            status.last_served = seen.last_served();
        }
    }

    fn journal(&self, seen: &Seen) -> Journal {
        let most = |name: &str| {
            let store = seen.spec.stores().iter().find(|store| store.name == name)?;
            i64::try_from(store.max_lag()?.as_millis()).ok()
        };
        Journal::of(self.failover.spec.action, &self.status, most)
            .asserted_since(&self.status, self.worker.since)
    }

    async fn act(
        &mut self,
        seen: &Seen,
        journal: &Journal,
        silent: &[String],
        step: Step,
        act: Act,
    ) -> Result<Option<Stop>, kube::Error> {
        // Written down before it is done: whoever goes on from here knows what may have been done. What is tried once more
        // while it waits for a person stands there already, and what that person is to type stays.
        let before = self.status.ballot;
        status::begins(&mut self.status, step, &act, Timestamp::now());
        if !journal.is_planned() && self.status.committed_at.is_none() {
            // A Switchover that was forced had a source that served on after it began.
            let known = self.status.last_served.take();
            self.status.last_served =
                known.into_iter().chain(seen.last_served()).max_by_key(|seen| seen.at.0);
        }
        if self.status.ballot != before {
            self.told.push(entry::preflight(seen.checked(), &self.status));
        }
        if !self.write().await? {
            return Ok(Some(Stop::Later));
        }
        let began = Instant::now();
        let claim = self.status.ballot.zip(self.status.follows).unwrap_or_default();
        let means = Means {
            context: &self.worker.context,
            shared: &self.worker.shared,
            failover: &self.failover,
            seen,
            claim,
            planned: journal.is_planned(),
            silent,
            required: seen.required(),
            optional: seen.optional(),
        };
        let mut mute = BTreeSet::new();
        let done = carry_out(&means, &act, &mut self.status, &mut mute).await?;
        let at = Instant::now();
        lock(&self.worker.silent).extend(mute.into_iter().map(|site| (site, at)));
        match done {
            Done::Yes(words) => {
                tracing::info!(failover = %self.key, step = step.as_str(), words, "done");
                status::did(&mut self.status, step, words, began.elapsed(), Timestamp::now());
                Ok((!self.write().await?).then_some(Stop::Later))
            }
            Done::Again => Ok(None),
            Done::NotYet(wait) => self.waits(step, &wait).await.map(Some),
        }
    }

    async fn waits(&mut self, step: Step, wait: &Wait) -> Result<Stop, kube::Error> {
        let news = self.status.message.as_deref() != Some(&*wait.message);
        status::waits(&mut self.status, step, wait, Timestamp::now());
        self.write().await?;
        if news {
            self.tell(Reason::MoveWaits, &wait.message);
        }
        Ok(Stop::Later)
    }

    async fn over(&mut self, phase: Phase, words: &str) -> Result<Stop, kube::Error> {
        status::over(&mut self.status, phase, words, Timestamp::now());
        if !self.write().await? {
            return Ok(Stop::Later);
        }
        let reason = match (phase, self.failover.spec.action.moves()) {
            (Phase::Done, true) => Reason::Moved,
            (Phase::Done, false) => Reason::Rehearsed,
            _ => Reason::NotMoved,
        };
        self.tell(reason, words);
        Ok(Stop::Over)
    }

    pub(super) fn tell(&self, reason: Reason, note: &str) {
        let about = self.failover.object_ref(&());
        self.worker.context.events.publish(about, reason, note.to_owned());
    }

    /// Writes the journal over the version that was read, so that a former leader that wakes up writes nothing. Returns
    /// whether it stands there.
    pub(super) async fn write(&mut self) -> Result<bool, kube::Error> {
        let now = Timestamp::now();
        let wanted = status::concluded(&self.failover, self.on_record(now), now);
        if self.failover.status.as_ref() == Some(&wanted) {
            return Ok(true);
        }
        let Some(_permit) = self.worker.context.may_write(true).await else { return Ok(false) };
        let mut object = self.failover.clone();
        object.status = Some(wanted);
        match self.api().replace_status(&self.key.name, &PostParams::default(), &object).await {
            Ok(written) => {
                let knew = status::lateness(self.failover.status.as_ref()).is_some();
                self.take(written);
                self.told.clear();
                if let Some(words) = status::lateness(Some(&self.status)).filter(|_| !knew) {
                    self.tell(Reason::MoveLate, words);
                }
                Ok(true)
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn take(&mut self, mut written: Failover) {
        written.metadata.managed_fields = None;
        self.status = written.status.clone().unwrap_or_default();
        self.failover = written;
        let known = Known::Good(Arc::new(self.failover.clone()));
        let mut index = lock(&self.worker.index);
        if index.get(&self.key.name).is_some() {
            index.put(&self.key.name, known);
        }
    }

    /// Holds the object until its move is over, or lets it go.
    pub(super) async fn finalize(&mut self, hold: bool) -> Result<(), kube::Error> {
        let now = self.failover.finalizers().to_vec();
        let held = now.iter().any(|one| one == FINALIZER);
        if held == hold || (hold && self.failover.metadata.deletion_timestamp.is_some()) {
            return Ok(());
        }
        let mut wanted: Vec<String> = now.into_iter().filter(|one| one != FINALIZER).collect();
        wanted.extend(hold.then(|| FINALIZER.to_owned()));
        let patch = json!({"metadata": {
            "finalizers": wanted, "resourceVersion": self.failover.metadata.resource_version,
        }});
        let Some(_permit) = self.worker.context.may_write(true).await else { return Ok(()) };
        let patched = self.api().patch(&self.key.name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        match patched {
            Ok(written) => {
                let status = self.status.clone();
                self.take(written);
                self.status = status;
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Takes in what people say. It is in the journal before it is answered.
    async fn hear(&mut self) -> Result<(), kube::Error> {
        let said = self.worker.actions.said_to(TargetKind::Failover, self.key);
        if said.is_empty() {
            return Ok(());
        }
        let seen = observe(&self.worker.shared.ground, &self.failover.spec.group);
        let ballot = self.status.ballot;
        let stands = seen.map(|seen| {
            let group = Stands {
                stores: seen.stores(),
                optional: seen.optional().into_iter().map(str::to_owned).collect(),
                people: seen.spec.approval.as_ref().map(Approval::people),
                ..Stands::default()
            };
            group.claimed(seen.group.knowledge.own.as_ref(), &seen.group.site, ballot)
        });
        let stands = stands.unwrap_or_default();
        for action in said {
            let now = Timestamp::now();
            let before = self.status.heard.contains(&id(&action))
                || outbox::has_heard(self.status.record.as_ref(), &id(&action));
            let heard = hear(&self.failover, &mut self.status, &action, &stands, now);
            if !before {
                self.told.push(entry::heard(&action, &heard));
            }
            if !self.write().await? {
                return Ok(());
            }
            let (state, words) = match heard {
                Ok(words) => (ActionState::Done, words),
                Err(words) => (ActionState::Refused, words),
            };
            tracing::info!(failover = %self.key, verb = action.spec.verb.as_str(), ?state, words, "heard");
            if state == ActionState::Refused {
                self.tell(Reason::ActionRefused, &words);
            }
            let answered = Answered { id: id(&action), state, words };
            self.worker.actions.answer(&action, &answered, now).await?;
        }
        Ok(())
    }
}
