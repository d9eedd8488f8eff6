//! What a reconcile does in a real cluster.

use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use kube::{Resource, ResourceExt};

use super::act::{ActError, Actor};
use super::feature_flag::{FlagSetter, NotSet};
use super::rollout_status::RolloutStatuses;
use crate::actions::Actions;
use crate::api::finservice::FinServiceStatus;
use crate::api::notice::Reason;
use crate::api::{FinService, Problem};
use crate::cloudcluster::peers::{Peers, Wanted};
use crate::finservice::index::rollouts::{CanaryObject, ObservedRollout};
use crate::finservice::index::{Index, Observed, Unreadable};
use crate::finservice::observe::{Beside, observe};
use crate::finservice::plan::{Op, Plan};
use crate::finservice::short::Short;
use crate::finservice::status;
use crate::finservice::watch::parse;
use crate::finservice::worker::{Effects, Failed, FlagTurn, Seen};
use crate::judge::hub::Hub;
use crate::runtime::context::Context;
use crate::runtime::key::{Key, version_of};
use crate::runtime::lock::lock;
use crate::runtime::raw_object::RawObject;

/// A cluster, and those who are asked beside it.
pub struct Cluster {
    /// What all controllers share.
    pub context: Context,
    /// What is known.
    pub index: Arc<Mutex<Index>>,
    /// Who measures.
    pub hub: Arc<Hub<Key>>,
    /// Who asks other clusters.
    pub peers: Peers,
    /// What people say.
    pub actions: Actions,
    /// Statuses of rollouts.
    pub rollouts: RolloutStatuses,
    /// Feature flags.
    pub flags: FlagSetter,
    /// Pods of those that lack some.
    pub short: Short,
}

/// The rollouts of other clusters whose word is waited for.
fn wanted_of_peers(seen: &Observed, plan: &Plan) -> Vec<Wanted> {
    let (Some(rollout), Some(planned)) = (&seen.rollout, &plan.rollout) else { return Vec::new() };
    let clusters = planned.gathered.asks(&planned.decision).into_iter();
    let (namespace, name) = (rollout.object.namespace().unwrap_or_default(), rollout.object.name_any());
    clusters.map(|cluster| (cluster, namespace.clone(), name.clone())).collect()
}

impl Cluster {
    async fn put_status(
        &self,
        key: &Key,
        old: Option<&FinServiceStatus>,
        status: &FinServiceStatus,
    ) -> Result<(), Failed> {
        let written = self.context.statuses.write::<FinService, _>(key, old, status, status::same).await?;
        if let Some(RawObject(written)) = written {
            let version = version_of(&written.metadata);
            lock(&self.index).service_answered(key, version, parse(written));
        }
        Ok(())
    }
}

impl Effects for Cluster {
    async fn observe(&self, key: &Key) -> Result<Seen, Failed> {
        let beside = Beside { actions: &self.actions, hub: &self.hub, peers: &self.peers };
        let mut seen = observe(&self.context.client, &self.index, &beside, key).await?;
        if let Seen::Whole(seen) = &mut seen {
            self.short.fill(&self.context.client, key, seen).await?;
        }
        if matches!(seen, Seen::Gone) {
            self.short.forget(key);
            self.context.metrics.set_problems("FinService", &key.to_string(), []);
            self.context.metrics.stuck().set("FinService", key, Vec::new());
            self.hub.follow(key, None);
            self.peers.want(key, Vec::new());
        }
        Ok(seen)
    }

    async fn write(&self, key: &Key, stages: &[&[Op]], urgent: bool, now: Timestamp) -> Result<(), ActError> {
        let Context { client, leadership, permits, .. } = &self.context;
        Actor { client, index: &self.index, key, leadership, permits, urgent }.act(stages, now).await
    }

    async fn set_flag(
        &self,
        key: &Key,
        seen: &Observed,
        plan: &Plan,
        turn: FlagTurn,
        now: Timestamp,
    ) -> Result<(), NotSet> {
        let percent = plan.rollout.as_ref().and_then(|planned| planned.decision.flag);
        let flag = seen.rollout.as_ref().and_then(|rollout| rollout.object.spec.feature_flag.as_ref());
        let (Some(percent), Some(flag)) = (percent, flag) else {
            self.flags.forget(key);
            return Ok(());
        };
        let its_turn = if self.flags.falls(key, percent) { FlagTurn::Before } else { FlagTurn::After };
        if its_turn != turn || !self.context.leadership.is_leader() {
            return Ok(());
        }
        self.flags.set(key, &flag.launch_darkly, percent, now).await
    }

    fn announce(&self, seen: &Observed, plan: &Plan) {
        let events = &self.context.events;
        for notice in &plan.notices {
            events.publish(seen.service.object_ref(&()), notice.reason, notice.note.clone());
        }
        let (Some(rollout), Some(planned)) = (&seen.rollout, &plan.rollout) else { return };
        for notice in &planned.decision.notices {
            let (about, attempt) = (rollout.object.object_ref(&()), planned.decision.memory.attempt);
            events.publish_of(about, attempt, notice.reason, notice.note.clone());
        }
    }

    fn measure(&self, key: &Key, seen: &Observed, plan: Option<&Plan>) {
        let followed = plan.and_then(|plan| plan.rollout.as_ref()?.follow.clone());
        self.hub.follow(key, followed);
        self.peers.want(key, plan.map(|plan| wanted_of_peers(seen, plan)).unwrap_or_default());
    }

    fn renew(&self, seen: &mut Observed) -> bool {
        lock(&self.index).renew(seen)
    }

    async fn write_rollout(
        &self,
        key: &Key,
        seen: &Observed,
        rollout: &ObservedRollout,
        plan: &Plan,
        failed: Option<Problem>,
        now: Timestamp,
    ) -> Result<(), Failed> {
        let said = match &plan.rollout {
            Some(planned) => self.rollouts.under_way(key, seen, rollout, planned, failed, now).await,
            None => self.rollouts.at_rest(rollout, plan, now).await,
        };
        Ok(said?)
    }

    async fn write_idle(&self, key: &Key, exists: bool, now: Timestamp) -> Result<(), Failed> {
        let of = lock(&self.index).rollouts.of(key);
        let (namespace, name) = (&key.namespace, &key.name);
        let mut idle: Vec<(Key, CanaryObject, Problem)> = Vec::new();
        if !exists && let Some((own, object)) = &of.holds {
            let problem = Problem::error(
                "spec.service",
                format!("there is no FinService {name} in namespace {namespace} that can be read"),
                "Create or correct it, or delete this CanaryRollout and create one that names another.",
            );
            idle.push((own.clone(), object.clone(), problem));
        }
        let holder = of.holds.as_ref().map(|(own, _)| own.name.to_string()).unwrap_or_default();
        for (own, object) in of.others {
            let problem = Problem::error(
                "spec.service",
                format!("FinService {name} has a CanaryRollout already, {holder}, which is older and counts"),
                format!("Delete this one or CanaryRollout {holder}: a FinService has at most one."),
            );
            idle.push((own, object, problem));
        }
        for (own, object, problem) in idle {
            self.rollouts.idle(&own, &object, problem, now).await?;
        }
        Ok(())
    }

    async fn write_status(
        &self,
        key: &Key,
        seen: &Observed,
        plan: &Plan,
        failed: Option<Problem>,
        now: Timestamp,
    ) -> Result<(), Failed> {
        if seen.service.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let status = status::status(seen, plan, failed, now);
        let sources = status.problems.iter().map(|problem| problem.source.as_str());
        self.context.metrics.set_problems("FinService", &key.to_string(), sources);
        let old = seen.service.status.as_ref();
        let stalled = |status: &FinServiceStatus| {
            status.conditions.iter().any(|said| said.type_ == "Stalled" && said.status == "True")
        };
        if stalled(&status) && !old.is_some_and(stalled) {
            let note =
                status.problems.first().map(|p| format!("{}; {}", p.message, p.remedy)).unwrap_or_default();
            self.context.events.publish(seen.service.object_ref(&()), Reason::Stalled, note);
        }
        self.put_status(key, old, &status).await
    }

    async fn write_unreadable(
        &self,
        key: &Key,
        unreadable: &Unreadable,
        now: Timestamp,
    ) -> Result<(), Failed> {
        let status = status::unreadable(unreadable, now);
        self.put_status(key, unreadable.status.as_ref(), &status).await
    }
}
