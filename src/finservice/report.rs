//! Writes what became of rollouts: the statuses of CanaryRollouts and of what people said.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use tokio::sync::Semaphore;

use super::index::rollouts::{ObservedRollout, Policy};
use super::index::{Index, Key, Observed};
use super::lock;
use super::plan::{Phase, Plan, PlannedRollout};
use crate::api::conditions::{self, State, Wanted};
use crate::api::{Action, CanaryRollout, CanaryRolloutStatus, Problem};
use crate::canary::actions::{self, Orphan};
use crate::canary::facts::Answered;
use crate::canary::status;
use crate::runtime::digest::MANAGER;
use crate::runtime::lease::Leadership;

/// How often it is looked for Actions that are old, or that speak of nothing. It costs no request.
const TIDY_EVERY: Duration = Duration::from_secs(60);

/// Writes statuses.
pub struct Reporter {
    /// The API server.
    pub client: Client,
    /// What is known, brought up to date by each answer.
    pub index: Arc<Mutex<Index>>,
    /// Whether this replica may still act.
    pub leadership: Leadership,
    /// One permit for each write that may be under way in the whole process.
    pub turns: Arc<Semaphore>,
    /// When the numbers in the status of a CanaryRollout were last written, by its FinService.
    numbers_at: Mutex<HashMap<Key, Timestamp>>,
}

impl Reporter {
    /// One that has written nothing yet.
    pub fn new(
        client: Client,
        index: Arc<Mutex<Index>>,
        leadership: Leadership,
        turns: Arc<Semaphore>,
    ) -> Self {
        Self { client, index, leadership, turns, numbers_at: Mutex::default() }
    }

    /// Writes what became of a rollout and of what was said about it. `failed` is what went wrong in acting.
    ///
    /// # Errors
    /// If the API server refuses or does not answer.
    pub async fn rollout(
        &self,
        key: &Key,
        seen: &Observed,
        rollout: &ObservedRollout,
        planned: &PlannedRollout,
        failed: Option<Problem>,
        now: Timestamp,
    ) -> Result<(), kube::Error> {
        let numbers_at = self.numbers_at.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied();
        let wanted = planned.gathered.status(seen, rollout, &planned.decision, failed, numbers_at, now);
        if self.write(&rollout.object, wanted).await? {
            self.numbers_at.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), now);
        }
        for answered in planned.decision.answered.iter().chain(&rollout.refused) {
            let said = rollout.objects.iter().find(|action| actions::id(action) == answered.id);
            if let Some(action) = said {
                self.answer(action, answered, now).await?;
            }
        }
        Ok(())
    }

    /// Writes why nothing is decided about a rollout: its FinService is paused, or not placed here.
    ///
    /// # Errors
    /// If the API server refuses or does not answer.
    pub async fn at_rest(
        &self,
        object: &CanaryRollout,
        plan: &Plan,
        now: Timestamp,
    ) -> Result<(), kube::Error> {
        let why = plan.reasons.first().cloned().unwrap_or_else(|| "nothing is decided".to_owned());
        let (state, reason) = match plan.phase {
            Phase::Paused => (State::Unknown, "Paused"),
            Phase::Blocked => (State::False, "Blocked"),
            _ => (State::True, "NotPlaced"),
        };
        self.write(object, standing(object, (state, reason), State::False, &why, Vec::new(), now))
            .await
            .map(drop)
    }

    /// Writes that a CanaryRollout does not hold, and why.
    ///
    /// # Errors
    /// If the API server refuses or does not answer.
    pub async fn idle(
        &self,
        key: &Key,
        policy: &Policy,
        problem: Problem,
        now: Timestamp,
    ) -> Result<(), kube::Error> {
        match policy {
            Policy::Good(object) => {
                let why = problem.message.clone();
                let reason = (State::False, "DoesNotHold");
                self.write(object, standing(object, reason, State::True, &why, vec![problem], now))
                    .await
                    .map(drop)
            }
            Policy::Bad(why, generation) => {
                let message = format!("the spec cannot be read: {why}");
                let remedy = "Correct the field that the message names; traffic stays as it is.";
                let problem = Problem::error("spec", message.clone(), remedy);
                let wanted =
                    |kind, state| Wanted { kind, state, reason: "Unreadable", message: message.clone() };
                let states =
                    [("Ready", State::False), ("Reconciling", State::False), ("Stalled", State::True)];
                let wanted = states.into_iter().map(|(kind, state)| wanted(kind, state)).collect();
                let status = json!({
                    "observedGeneration": generation,
                    "conditions": conditions::merge(&[], wanted, *generation, now),
                    "problems": [problem],
                });
                self.patch(key, status).await.map(drop)
            }
        }
    }

    /// Writes the status if it differs. Returns whether it did.
    async fn write(&self, object: &CanaryRollout, wanted: CanaryRolloutStatus) -> Result<bool, kube::Error> {
        if object.status.as_ref().is_some_and(|old| status::same(old, &wanted)) {
            return Ok(false);
        }
        let key = Key::new(&object.namespace().unwrap_or_default(), &object.name_any());
        let Some(mut written) = self.patch(&key, json!(wanted)).await? else { return Ok(false) };
        written.metadata.managed_fields = None;
        let version = written.resource_version().and_then(|text| text.parse().ok()).unwrap_or(0);
        let created = written.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let service = written.spec.service.clone();
        lock(&self.index).rollouts.put(&key, version, created, &service, Policy::Good(Arc::new(written)));
        Ok(true)
    }

    async fn patch(
        &self,
        key: &Key,
        status: serde_json::Value,
    ) -> Result<Option<CanaryRollout>, kube::Error> {
        let api: Api<kube::api::DynamicObject> = Api::namespaced_with(
            self.client.clone(),
            &key.namespace,
            &kube::api::ApiResource::erase::<CanaryRollout>(&()),
        );
        let patch = json!({
            "apiVersion": CanaryRollout::api_version(&()),
            "kind": CanaryRollout::kind(&()),
            "status": status,
        });
        let _turn = self.turns.acquire().await;
        if !self.leadership.is_leader() {
            return Ok(None);
        }
        let parameters = PatchParams::apply(MANAGER).force();
        match api.patch_status(&key.name, &parameters, &Patch::Apply(&patch)).await {
            // One that cannot be read is told so, and is not taken in.
            Ok(written) => Ok(written.try_parse().ok()),
            // It was deleted meanwhile.
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes what became of an Action.
    async fn answer(&self, action: &Action, answered: &Answered, now: Timestamp) -> Result<(), kube::Error> {
        let namespace = action.namespace().unwrap_or_default();
        let api: Api<Action> = Api::namespaced(self.client.clone(), &namespace);
        let patch = json!({
            "apiVersion": Action::api_version(&()),
            "kind": Action::kind(&()),
            "status": actions::status(action, answered, now),
        });
        let _turn = self.turns.acquire().await;
        if !self.leadership.is_leader() {
            return Ok(());
        }
        let name = action.name_any();
        match api.patch_status(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&patch)).await {
            Ok(mut written) => {
                written.metadata.managed_fields = None;
                let key = Key::new(&namespace, &name);
                lock(&self.index).rollouts.action(&key, Some(Arc::new(written)));
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Refuses what is said to a CanaryRollout that does not exist, and removes what is old, for ever.
    pub async fn tidy(&self) {
        loop {
            tokio::time::sleep(TIDY_EVERY).await;
            let now = Timestamp::now();
            let unheard = lock(&self.index).rollouts.unheard();
            for (key, action) in unheard {
                let done = match actions::orphan(&action, now) {
                    Some(Orphan::Refuse(answered)) => self.answer(&action, &answered, now).await,
                    Some(Orphan::Wait(_)) | None => Ok(()),
                };
                tell(&key, done);
            }
            let over = lock(&self.index).rollouts.over();
            for (key, action) in over {
                if actions::is_old(&action, now) {
                    tell(&key, self.remove(&action).await);
                }
            }
        }
    }

    async fn remove(&self, action: &Action) -> Result<(), kube::Error> {
        if !self.leadership.is_leader() {
            return Ok(());
        }
        let api: Api<Action> = Api::namespaced(self.client.clone(), &action.namespace().unwrap_or_default());
        let uid = action.uid();
        let parameters = DeleteParams {
            preconditions: Some(Preconditions { uid, resource_version: None }),
            ..DeleteParams::default()
        };
        match api.delete(&action.name_any(), &parameters).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other.map(drop),
        }
    }
}

fn tell(key: &Key, done: Result<(), kube::Error>) {
    if let Err(error) = done {
        tracing::warn!(action = %key, %error, "an Action was not tidied up; it is tried again in a minute");
    }
}

/// The status of a CanaryRollout about which nothing is decided: what is remembered stays.
fn standing(
    object: &CanaryRollout,
    (ready, reason): (State, &'static str),
    stalled: State,
    why: &str,
    problems: Vec<Problem>,
    now: Timestamp,
) -> CanaryRolloutStatus {
    let old = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation;
    let wanted = |kind, state, reason| Wanted { kind, state, reason, message: why.to_owned() };
    let wanted = vec![
        wanted("Ready", ready, reason),
        wanted("Reconciling", State::False, reason),
        wanted("Stalled", stalled, reason),
    ];
    CanaryRolloutStatus {
        observed_generation: generation,
        conditions: conditions::merge(&old.conditions, wanted, generation, now),
        problems,
        phase: Some(reason.to_owned()),
        message: Some(why.to_owned()),
        history: old.history,
        memory: old.memory,
        release: old.release,
        ..CanaryRolloutStatus::default()
    }
}
