//! Writes what became of rollouts: the statuses of CanaryRollouts and of what people said.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{DeleteParams, DynamicObject, Patch, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use tokio::sync::Semaphore;

use super::index::rollouts::{ObservedRollout, Policy, Unread};
use super::index::{Index, Key, Observed};
use super::plan::{Phase, Plan, PlannedRollout};
use super::{lock, unread};
use crate::api::conditions::{self, State, Wanted, short};
use crate::api::{Action, CanaryRollout, CanaryRolloutStatus, Problem};
use crate::canary::actions::{self, Orphan};
use crate::canary::facts::Answered;
use crate::canary::status;
use crate::runtime::lease::Leadership;
use crate::runtime::patch::applying;

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
        rollout: &ObservedRollout,
        plan: &Plan,
        now: Timestamp,
    ) -> Result<(), kube::Error> {
        let object = &rollout.object;
        if let Some(unread) = &rollout.unread {
            let problem = unread::problem(unread);
            let (reason, why) = ((State::False, "Unreadable"), problem.message.clone());
            let status = standing(object, reason, State::True, &why, vec![problem], now);
            return self.write(object, status).await.map(drop);
        }
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
            Policy::Bad(object, unread) => {
                let Some(old) = self.standing_status(key).await? else { return Ok(()) };
                let status = unreadable(&old, unread, object.metadata.generation, now);
                if status == old {
                    return Ok(());
                }
                self.patch(key, status).await.map(drop)
            }
        }
    }

    /// The status of a CanaryRollout that cannot be read, as it stands; `None` if it is gone. Only such a one is asked
    /// for: of all others the status is known.
    async fn standing_status(&self, key: &Key) -> Result<Option<serde_json::Value>, kube::Error> {
        let found = untyped(&self.client, key).get_opt(&key.name).await?;
        Ok(found.map(|mut object| object.data["status"].take()))
    }

    /// Writes the status if it differs. Returns whether it did.
    async fn write(&self, object: &CanaryRollout, wanted: CanaryRolloutStatus) -> Result<bool, kube::Error> {
        if object.status.as_ref().is_some_and(|old| status::same(old, &wanted)) {
            return Ok(false);
        }
        let key = Key::new(&object.namespace().unwrap_or_default(), &object.name_any());
        let Some(written) = self.patch(&key, json!(wanted)).await? else { return Ok(false) };
        lock(&self.index).policy_answered(&key, unread::read(written));
        Ok(true)
    }

    async fn patch(
        &self,
        key: &Key,
        status: serde_json::Value,
    ) -> Result<Option<DynamicObject>, kube::Error> {
        let api = untyped(&self.client, key);
        let patch = json!({
            "apiVersion": CanaryRollout::api_version(&()),
            "kind": CanaryRollout::kind(&()),
            "status": status,
        });
        let _turn = self.turns.acquire().await;
        if !self.leadership.is_leader() {
            return Ok(None);
        }
        match api.patch_status(&key.name, &applying(true), &Patch::Apply(&patch)).await {
            Ok(written) => Ok(Some(written)),
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
        match api.patch_status(&name, &applying(true), &Patch::Apply(&patch)).await {
            Ok(mut written) => {
                written.metadata.managed_fields = None;
                let key = Key::new(&namespace, &name);
                lock(&self.index).action_answered(&key, written);
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

/// CanaryRollouts beside that one, whether they can be read or not.
fn untyped(client: &Client, key: &Key) -> Api<DynamicObject> {
    let resource = kube::api::ApiResource::erase::<CanaryRollout>(&());
    Api::namespaced_with(client.clone(), &key.namespace, &resource)
}

/// The status of a CanaryRollout whose spec cannot be read. All else that stands in it stays, above all what is
/// remembered: an apply that left it out would take it away.
fn unreadable(
    old: &serde_json::Value,
    unread: &Unread,
    generation: Option<i64>,
    now: Timestamp,
) -> serde_json::Value {
    let problem = unread::problem(unread);
    let message = problem.message.clone();
    let wanted = |kind, state| Wanted { kind, state, reason: "Unreadable", message: message.clone() };
    let states = [("Ready", State::False), ("Reconciling", State::False), ("Stalled", State::True)];
    let wanted = states.into_iter().map(|(kind, state)| wanted(kind, state)).collect();
    let before: Vec<Condition> = serde_json::from_value(old["conditions"].clone()).unwrap_or_default();
    let mut status = if old.is_object() { old.clone() } else { json!({}) };
    status["observedGeneration"] = json!(generation);
    status["conditions"] = json!(conditions::merge(&before, wanted, generation, now));
    status["problems"] = json!([problem]);
    status["phase"] = json!("Unreadable");
    status["message"] = json!(message);
    status
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
        message: Some(short(why)),
        scatter: old.scatter,
        history: old.history,
        memory: old.memory,
        release: old.release,
        ..CanaryRolloutStatus::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_says_so_once_and_keeps_what_is_remembered() {
        let at = |second| Timestamp::from_second(second).expect("in range");
        let old = json!({"phase": "Analysing", "memory": {"attempt": 7}, "history": [1], "problems": []});
        let unread = |why: &str| Unread { field: "spec.via".into(), why: why.into(), left_out: Vec::new() };
        let first = unreadable(&old, &unread("a string"), Some(2), at(1000));
        assert_eq!((&first["memory"], &first["history"]), (&json!({"attempt": 7}), &json!([1])));
        assert_eq!(first["conditions"][2]["reason"], "Unreadable");
        assert_eq!(first["problems"][0]["message"], "the spec cannot be read: spec.via: a string");
        assert_eq!(unreadable(&first, &unread("a string"), Some(2), at(2000)), first);
        assert_ne!(unreadable(&first, &unread("another word"), Some(3), at(2000)), first);
        assert_eq!(unreadable(&serde_json::Value::Null, &unread("x"), None, at(1))["phase"], "Unreadable");
    }
}
