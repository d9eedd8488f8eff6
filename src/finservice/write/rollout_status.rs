//! Writes what became of rollouts: the statuses of CanaryRollouts and of what people said.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use kube::Api;
use kube::api::{ApiResource, DynamicObject};
use serde_json::Value;

use crate::actions::{Actions, Answered, hear};
use crate::api::action::ActionState;
use crate::api::{CanaryRollout, CanaryRolloutStatus, Problem};
use crate::canary::status;
use crate::finservice::index::rollouts::{CanaryObject, ObservedRollout};
use crate::finservice::index::{Index, Observed};
use crate::finservice::plan::{Plan, PlannedRollout};
use crate::finservice::status::rollout as wanted;
use crate::finservice::watch::unreadable;
use crate::runtime::context::Context;
use crate::runtime::key::{Key, key_of};
use crate::runtime::lock::lock;
use crate::runtime::raw_object::RawObject;

/// Writes statuses of rollouts.
pub struct RolloutStatuses {
    context: Context,
    /// What is known, brought up to date by each answer.
    index: Arc<Mutex<Index>>,
    actions: Actions,
    /// When the numbers in the status of a CanaryRollout were last written, by its FinService.
    numbers_at: Mutex<HashMap<Key, Timestamp>>,
}

impl RolloutStatuses {
    /// One that has written nothing yet.
    pub fn new(context: Context, index: Arc<Mutex<Index>>, actions: Actions) -> Self {
        Self { context, index, actions, numbers_at: Mutex::default() }
    }

    /// Writes what became of a rollout and of what was said about it. `failed` is what went wrong in acting.
    ///
    /// # Errors
    /// If the API server refuses or does not answer.
    pub async fn under_way(
        &self,
        key: &Key,
        seen: &Observed,
        rollout: &ObservedRollout,
        planned: &PlannedRollout,
        failed: Option<Problem>,
        now: Timestamp,
    ) -> Result<(), kube::Error> {
        let numbers_at = lock(&self.numbers_at).get(key).copied();
        let status = wanted::under_way(seen, rollout, planned, failed, numbers_at, now);
        // What was refused is answered before the status remembers that it was heard: after a crash in between it is
        // refused again. What was carried out is remembered first: it must not be carried out again.
        let answered = planned.decision.answered.iter();
        let (refused, done): (Vec<&Answered>, Vec<&Answered>) =
            answered.partition(|answered| answered.state == ActionState::Refused);
        self.answer(rollout, refused, now).await?;
        if self.write(&rollout.object, status).await? {
            lock(&self.numbers_at).insert(key.clone(), now);
        }
        self.answer(rollout, done, now).await
    }

    /// Writes what became of what was said.
    async fn answer(
        &self,
        rollout: &ObservedRollout,
        answered: Vec<&Answered>,
        now: Timestamp,
    ) -> Result<(), kube::Error> {
        for answered in answered {
            let said = rollout.objects.iter().find(|action| hear::id(action) == answered.id);
            if let Some(action) = said {
                self.actions.answer(action, answered, now).await?;
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
        rollout: &ObservedRollout,
        plan: &Plan,
        now: Timestamp,
    ) -> Result<(), kube::Error> {
        self.write(&rollout.object, wanted::at_rest(rollout, plan, now)).await.map(drop)
    }

    /// Writes that a CanaryRollout does not count, and why.
    ///
    /// # Errors
    /// If the API server refuses or does not answer.
    pub async fn idle(
        &self,
        key: &Key,
        object: &CanaryObject,
        problem: Problem,
        now: Timestamp,
    ) -> Result<(), kube::Error> {
        match object {
            CanaryObject::Good(object) => {
                self.write(object, wanted::ignored(object, problem, now)).await.map(drop)
            }
            CanaryObject::Bad(object, unreadable) => {
                let Some(old) = self.standing_status(key).await? else { return Ok(()) };
                let status = wanted::unreadable(&old, unreadable, object.metadata.generation, now);
                let statuses = &self.context.statuses;
                let written = statuses.write::<CanaryRollout, _>(key, Some(&old), &status, Value::eq).await;
                self.forget_if_gone(key);
                written.map(drop)
            }
        }
    }

    /// Says of one that has gone meanwhile that it is not stuck: its watch has said so before its status was made.
    fn forget_if_gone(&self, key: &Key) {
        if lock(&self.index).rollouts.object(key).is_none() {
            self.context.metrics.stuck().set("CanaryRollout", key, Vec::new());
        }
    }

    /// The status of a CanaryRollout that cannot be read, as it stands; `None` if it is gone. Only such a one is asked
    /// for: of all others the status is known.
    async fn standing_status(&self, key: &Key) -> Result<Option<serde_json::Value>, kube::Error> {
        let resource = ApiResource::erase::<CanaryRollout>(&());
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.context.client.clone(), &key.namespace, &resource);
        let found = api.get_opt(&key.name).await?;
        Ok(found.map(|mut object| object.data["status"].take()))
    }

    /// Writes the status if it differs. Returns whether it did.
    async fn write(&self, object: &CanaryRollout, wanted: CanaryRolloutStatus) -> Result<bool, kube::Error> {
        let key = key_of(&object.metadata);
        let old = object.status.as_ref();
        let written = self.context.statuses.write::<CanaryRollout, _>(&key, old, &wanted, status::same).await;
        self.forget_if_gone(&key);
        let Some(RawObject(written)) = written? else { return Ok(false) };
        lock(&self.index).canary_answered(&key, unreadable::read(written));
        Ok(true)
    }
}
