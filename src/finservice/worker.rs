//! The order in which one FinService is reconciled: snapshot, decision, writes, and what is said of it.
//!
//! What is done is behind [`Effects`], so that the order is the same for the operator and for the cluster in memory of the
//! tests, and can be tried without an API server.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};

use super::index::rollouts::ObservedRollout;
use super::index::{Observed, Unreadable};
use super::plan::decide::{back, decide, weights};
use super::plan::growth::growth;
use super::plan::{Op, Plan};
use super::write::act::ActError;
use super::write::feature_flag::NotSet;
use crate::api::Problem;
use crate::canary;
use crate::runtime::key::Key;
use crate::runtime::lock::lock;
use crate::runtime::metrics::Outcome;

/// When to look again at a FinService of which something is left to do after all writes went well. A
/// watch tells earlier, as a rule.
const SETTLE: SignedDuration = SignedDuration::from_secs(1);

/// When the rest is written after the weights have been taken away: what fails together does so within two looks or so.
const REST_AFTER: SignedDuration = SignedDuration::from_millis(500);
/// So much later for each that waits as well: about what an API server takes for the rest of one. Else what tells proxies
/// of the weights would stand behind statuses.
const REST_EACH: SignedDuration = SignedDuration::from_millis(15);

/// Why a reconcile failed.
pub type Failed = Box<dyn std::error::Error + Send + Sync>;

/// A FinService as it is seen.
pub enum Seen {
    /// There is none.
    Gone,
    /// It cannot be read; what of it can be, if that is enough to take requests away from a canary.
    Unreadable(Arc<Unreadable>, Option<Box<Observed>>),
    /// The whole snapshot that a decision about it needs.
    Whole(Box<Observed>),
}

/// When a feature flag is set: before all else where its percentage falls, else after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagTurn {
    /// Before the writes.
    Before,
    /// After them.
    After,
}

/// What a reconcile does to the world.
pub trait Effects: Send + Sync {
    /// The snapshot.
    fn observe(&self, key: &Key) -> impl Future<Output = Result<Seen, Failed>> + Send;

    /// Carries stages out, one after the other. Urgent ones wait behind nothing else.
    fn write(
        &self,
        key: &Key,
        stages: &[&[Op]],
        urgent: bool,
        now: Timestamp,
    ) -> impl Future<Output = Result<(), ActError>> + Send;

    /// Sets the flag of a rollout, if it has one, and if this is its turn.
    fn set_flag(
        &self,
        key: &Key,
        seen: &Observed,
        plan: &Plan,
        turn: FlagTurn,
        now: Timestamp,
    ) -> impl Future<Output = Result<(), NotSet>> + Send;

    /// Publishes what is worth an Event.
    fn announce(&self, seen: &Observed, plan: &Plan);

    /// Has measured, and asked of other clusters, what the plan needs from now on; nothing where there is none.
    fn measure(&self, key: &Key, seen: &Observed, plan: Option<&Plan>);

    /// Brings the snapshot up to date with what was written. `false` if there is news for which the FinService is looked
    /// at from the start; whoever brought the news wakes for it.
    fn renew(&self, seen: &mut Observed) -> bool;

    /// Writes what became of the rollout, and of what was said to it.
    fn write_rollout(
        &self,
        key: &Key,
        seen: &Observed,
        rollout: &ObservedRollout,
        plan: &Plan,
        failed: Option<Problem>,
        now: Timestamp,
    ) -> impl Future<Output = Result<(), Failed>> + Send;

    /// Says to CanaryRollouts that name the FinService and do not hold why that is so.
    fn write_idle(
        &self,
        key: &Key,
        exists: bool,
        now: Timestamp,
    ) -> impl Future<Output = Result<(), Failed>> + Send;

    /// Writes the status of the FinService.
    fn write_status(
        &self,
        key: &Key,
        seen: &Observed,
        plan: &Plan,
        failed: Option<Problem>,
        now: Timestamp,
    ) -> impl Future<Output = Result<(), Failed>> + Send;

    /// Says of a FinService that cannot be read that it cannot.
    fn write_unreadable(
        &self,
        key: &Key,
        unreadable: &Unreadable,
        now: Timestamp,
    ) -> impl Future<Output = Result<(), Failed>> + Send;
}

/// What came of a reconcile, and when to look again.
pub type Done = (Outcome, Option<Timestamp>);

/// Reconciles FinServices, one at a time for each of them.
pub struct Worker<E> {
    effects: E,
    /// FinServices whose weights have been taken away, and of whose plan nothing else has been done yet.
    half_done: Mutex<HashMap<Key, HalfDone>>,
}

/// The snapshot from which, and the time at which, it was decided that the weights go.
struct HalfDone {
    seen: Observed,
    now: Timestamp,
}

/// Whether a plan takes weight away from a canary by a route, and that can be written at once.
fn takes_back(seen: &Observed, plan: &Plan) -> bool {
    let (Some(rollout), Some(planned)) = (&seen.rollout, &plan.rollout) else { return false };
    let weighs = rollout.memory.rollout.as_ref().is_some_and(|rollout| rollout.weight > 0);
    !plan.weights.is_empty()
        && planned.decision.phase == canary::Phase::RolledBack
        && planned.decision.flag.is_none()
        && (weighs || rollout.memory.warm.is_some())
}

impl<E: Effects> Worker<E> {
    /// A worker that has begun nothing.
    pub fn new(effects: E) -> Self {
        Self { effects, half_done: Mutex::default() }
    }

    /// What it does things by.
    pub fn effects(&self) -> &E {
        &self.effects
    }

    /// Finishes what is half done, and looks at the FinService.
    ///
    /// # Errors
    /// If something cannot be read or written; what was half done is decided anew at the next attempt.
    pub async fn reconcile(&self, key: &Key, now: impl Fn() -> Timestamp) -> Result<Done, Failed> {
        self.finish_half_done(key).await?;
        self.attempt(key, now()).await
    }

    /// Does the rest of a plan of which only the weights have been written.
    ///
    /// # Errors
    /// As [`Worker::reconcile`].
    pub async fn finish_half_done(&self, key: &Key) -> Result<(), Failed> {
        let half_done = lock(&self.half_done).remove(key);
        let Some(HalfDone { seen, now }) = half_done else { return Ok(()) };
        let mut plan = decide(&seen, now);
        plan.weights.clear();
        self.finish(key, seen, plan, true, now).await.map(drop)
    }

    /// Looks at the FinService, decides, and carries that out; where weights are taken away, only these.
    ///
    /// # Errors
    /// As [`Worker::reconcile`].
    pub async fn attempt(&self, key: &Key, now: Timestamp) -> Result<Done, Failed> {
        let effects = &self.effects;
        let seen = match effects.observe(key).await? {
            Seen::Gone => {
                effects.write_idle(key, false, now).await?;
                return Ok((Outcome::Unchanged, None));
            }
            Seen::Unreadable(unreadable, seen) => {
                let done = match seen {
                    Some(seen) => self.way_back(key, &seen, &unreadable.why, now).await?,
                    None => (Outcome::Unchanged, None),
                };
                effects.write_unreadable(key, &unreadable, now).await?;
                return Ok(done);
            }
            Seen::Whole(seen) => *seen,
        };
        let hurries = seen.rollout.as_ref().is_some_and(ObservedRollout::fails);
        let hurried = hurries.then(|| weights(&seen, now)).filter(|plan| takes_back(&seen, plan));
        let plan = hurried.unwrap_or_else(|| decide(&seen, now));
        if !takes_back(&seen, &plan) {
            // A site that takes over waits for the pods of all: what else there is to write of any, and to say, comes once
            // all have asked for theirs. What is refused is tried once more with the rest, which says so.
            let grows = growth(&seen, &plan);
            if !grows.is_empty() && effects.write(key, &[&grows], true, now).await.is_ok() {
                return Ok((Outcome::Changed, Some(now)));
            }
            return self.finish(key, seen, plan, false, now).await;
        }
        // Where many fail at once, the weights of all go to zero before anything else of any of them is decided or written.
        effects.write(key, &[&plan.weights], true, now).await?;
        let mut half_done = lock(&self.half_done);
        let wait = REST_AFTER + REST_EACH * half_done.len() as i32;
        half_done.insert(key.clone(), HalfDone { seen, now });
        Ok((Outcome::Changed, Some(now.saturating_add(wait).unwrap_or(now))))
    }

    /// Takes requests away from the canary of a FinService that cannot be read, where it fails. Nothing else of it is
    /// carried out.
    async fn way_back(&self, key: &Key, seen: &Observed, why: &str, now: Timestamp) -> Result<Done, Failed> {
        let effects = &self.effects;
        let plan = back(seen, why, now);
        let (Some(rollout), Some(_)) = (&seen.rollout, &plan.rollout) else {
            return Ok((Outcome::Unchanged, None));
        };
        let stages: Vec<&[Op]> = plan.in_order().map(Vec::as_slice).collect();
        let flagged = effects.set_flag(key, seen, &plan, FlagTurn::Before, now).await;
        let again_at = flagged.err().map(|not_set| not_set.again_at);
        effects.write(key, &stages, true, now).await?;
        effects.announce(seen, &plan);
        effects.measure(key, seen, Some(&plan));
        effects.write_rollout(key, seen, rollout, &plan, None, now).await?;
        let outcome = if plan.is_empty() { Outcome::Unchanged } else { Outcome::Changed };
        Ok((outcome, again_at.into_iter().chain(plan.again_at).min()))
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
        let effects = &self.effects;
        let flagged = effects.set_flag(key, &seen, &plan, FlagTurn::Before, now).await;
        let stages: Vec<&[Op]> = plan.in_order().map(Vec::as_slice).collect();
        let acted = effects.write(key, &stages, false, now).await;
        let flagged = flagged.and(effects.set_flag(key, &seen, &plan, FlagTurn::After, now).await);
        if let (Err(not_set), Some(rollout)) = (flagged, &mut seen.rollout) {
            plan.look_again(not_set.again_at);
            rollout.problems.push(not_set.problem);
        }
        effects.announce(&seen, &plan);
        let failed = acted.as_ref().err().and_then(ActError::problem);
        let wrote = wrote || !plan.is_empty();
        effects.measure(key, &seen, Some(&plan));
        let again_at = plan.again_at;
        // What was written is in the index already. A status from before it would be wrong a moment
        // later, and take a second write.
        let fresh = acted.is_ok() && wrote && effects.renew(&mut seen);
        if let Some(rollout) = seen.rollout.take() {
            let said = effects.write_rollout(key, &seen, &rollout, &plan, failed.clone(), now).await;
            // What was decided is remembered now, and what was said has been heard.
            let memory = plan.rollout.as_ref().map(|planned| planned.decision.memory.clone());
            let memory = memory.unwrap_or_else(|| rollout.memory.clone());
            seen.rollout = Some(ObservedRollout { memory, actions: Vec::new(), ..rollout });
            said?;
        }
        effects.write_idle(key, true, now).await?;
        if fresh {
            plan = decide(&seen, now);
            if !plan.is_empty() {
                plan.look_again(now.saturating_add(SETTLE).unwrap_or(now));
            }
        }
        if let Some(at) = again_at {
            plan.look_again(at);
        }
        effects.write_status(key, &seen, &plan, failed, now).await?;
        acted?;
        Ok((if wrote { Outcome::Changed } else { Outcome::Unchanged }, plan.again_at))
    }
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
