//! What an API server and a worker of the operator do, in memory.

use crate::api::Problem;
use crate::api::labels::ADOPT_ANNOTATION;
use crate::finservice::index::Unreadable;
use crate::finservice::index::rollouts::ObservedRollout;
use crate::finservice::worker::Effects;
use crate::finservice::worker::Failed;
use crate::finservice::worker::FlagTurn;
use crate::finservice::worker::Seen;
use crate::finservice::write::act::ActError;
use crate::finservice::write::feature_flag::NotSet;
use crate::runtime::lock::lock;
use std::sync::Mutex;

use jiff::Timestamp;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use crate::finservice::children::Kind;
use crate::finservice::index::child::{ChildState, Facts};
use crate::finservice::index::pod::PodState;
use crate::finservice::index::stranger::Stranger;
use crate::finservice::index::{Observed, Parsed};
use crate::finservice::plan::{Op, Over, Plan};
use crate::finservice::status;
use crate::runtime::key::Key;

use super::fake::Fake;

/// The cluster, for as long as a worker works on it.
pub struct InMemory<'a>(pub Mutex<&'a mut Fake>);

impl Effects for InMemory<'_> {
    async fn observe(&self, _: &Key) -> Result<Seen, Failed> {
        let fake = lock(&self.0);
        let seen = Box::new(fake.seen());
        Ok(match fake.index.parsed(&fake.key) {
            Some(Parsed::Bad(unreadable)) => Seen::Unreadable(unreadable, Some(seen)),
            _ => Seen::Whole(seen),
        })
    }

    async fn write(&self, _: &Key, stages: &[&[Op]], _: bool, _: Timestamp) -> Result<(), ActError> {
        let mut fake = lock(&self.0);
        stages.iter().copied().flatten().for_each(|op| fake.carry_out(op));
        fake.follow_replicas();
        Ok(())
    }

    async fn set_flag(
        &self,
        _: &Key,
        _: &Observed,
        _: &Plan,
        _: FlagTurn,
        _: Timestamp,
    ) -> Result<(), NotSet> {
        Ok(())
    }

    fn announce(&self, _: &Observed, _: &Plan) {}

    fn measure(&self, _: &Key, _: &Observed, _: Option<&Plan>) {}

    fn renew(&self, seen: &mut Observed) -> bool {
        lock(&self.0).index.renew(seen)
    }

    async fn write_rollout(
        &self,
        _: &Key,
        seen: &Observed,
        rollout: &ObservedRollout,
        plan: &Plan,
        failed: Option<Problem>,
        now: Timestamp,
    ) -> Result<(), Failed> {
        let status = match &plan.rollout {
            Some(planned) => status::rollout::under_way(seen, rollout, planned, failed, None, now),
            None => status::rollout::at_rest(rollout, plan, now),
        };
        fits("CanaryRollout", &status);
        let mut fake = lock(&self.0);
        if let Some(object) = &mut fake.rollout {
            object.status = Some(status);
        }
        fake.put_rollout();
        Ok(())
    }

    async fn write_idle(&self, _: &Key, _: bool, _: Timestamp) -> Result<(), Failed> {
        Ok(())
    }

    async fn write_status(
        &self,
        _: &Key,
        seen: &Observed,
        plan: &Plan,
        failed: Option<Problem>,
        now: Timestamp,
    ) -> Result<(), Failed> {
        let status = status::status(seen, plan, failed, now);
        fits("FinService", &status);
        let mut fake = lock(&self.0);
        fake.service.status = Some(status);
        fake.put();
        Ok(())
    }

    async fn write_unreadable(&self, _: &Key, _: &Unreadable, _: Timestamp) -> Result<(), Failed> {
        Ok(())
    }
}

/// The API server would take the status.
fn fits(kind: &str, status: &impl serde::Serialize) {
    assert_eq!(crate::api::schema::beyond_bounds(kind, status), Vec::<String>::new());
}

impl Fake {
    /// Pods follow what their Deployment asks for; new ones are not Ready.
    pub(super) fn follow_replicas(&mut self) {
        let key = self.key.clone();
        let wanted: Vec<(String, i32)> = self
            .seen()
            .children
            .iter()
            .filter_map(ChildState::deployment)
            .map(|facts| (facts.revision.to_string(), facts.replicas))
            .collect();
        let known: Vec<PodState> = self.index.rollouts.pods_of(&key).to_vec();
        for pod in &known {
            let (place, replicas) = (
                pod.name.rsplit('-').next().and_then(|text| text.parse().ok()).unwrap_or(0),
                wanted.iter().find(|(revision, _)| **revision == *pod.revision).map_or(0, |(_, n)| *n),
            );
            if place >= replicas {
                self.index.rollouts.pod_gone(&key, &pod.name);
            }
        }
        for (revision, replicas) in wanted {
            for place in 0..replicas {
                let name = format!("app-{revision}-{place}");
                if !known.iter().any(|pod| *pod.name == *name) {
                    let (name, revision) = (name.into(), revision.as_str().into());
                    self.index.rollouts.pod(&key, PodState { name, revision, ..PodState::default() });
                }
            }
        }
    }

    /// Does to the index what the API server's answer would do.
    fn carry_out(&mut self, op: &Op) {
        self.version += 1;
        let key = self.key.clone();
        match op {
            Op::Apply { child, digest, over } => {
                let mut object: Value = child.body.clone();
                if let Some(old) = self.child(child.kind, &child.name)
                    && let Facts::Deployment(facts) = &old.facts
                {
                    object["spec"]["replicas"] = facts.replicas.into();
                    object["status"] = json!({"readyReplicas": facts.ready, "updatedReplicas": facts.ready,
                        "availableReplicas": facts.ready});
                }
                let adopted = self.child(child.kind, &child.name).is_some_and(|old| old.adopted);
                if adopted || *over == Over::HandedOver {
                    object["metadata"]["annotations"][ADOPT_ANNOTATION] = json!(&*key.name);
                }
                self.store(child.kind, object, Some(*digest));
                let repaired = (*over == Over::Drifted).then_some(self.now.as_second());
                self.index.wrote(&key, child.kind, &child.name, *digest, repaired);
                if *over == Over::HandedOver {
                    self.index.stranger(child.kind, &Key::new(&key.namespace, &child.name), None);
                }
            }
            Op::Record { child, .. } | Op::CopyConfigMap { child, .. } => {
                let digest = crate::runtime::digest::wanted(&child.body);
                self.store(child.kind, child.body.clone(), Some(digest));
            }
            Op::Mark { name, number, retired_at } => {
                let mut state = self.child(Kind::ControllerRevision, name).expect("it exists");
                if let Facts::Revision(facts) = &mut state.facts {
                    facts.number = *number;
                    facts.retired_at = *retired_at;
                }
                self.index.child(&key, state);
            }
            Op::Scale { name, replicas } => {
                self.index.scaled(&key, name, *replicas, 0, self.now.as_second());
            }
            Op::HandOver { name, retired_at, to_zero } => {
                let (kind, object) = (Kind::Deployment, Key::new(&key.namespace, name));
                let seen = self.seen();
                let stranger = seen.strangers.into_iter().find(|(k, n, _)| *k == kind && n == name);
                let stranger = Stranger {
                    retired_at: Some(*retired_at),
                    handed_over: *to_zero,
                    ..stranger.expect("it exists").2
                };
                self.index.stranger(kind, &object, Some(stranger));
            }
            Op::Delete { kind, name, .. } => {
                self.index.child_gone(&key, *kind, name, None);
            }
        }
    }

    fn store(&mut self, kind: Kind, mut object: Value, digest: Option<u64>) {
        object["metadata"]["uid"] = json!(format!("u-{}", self.version));
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let old = object["metadata"]["name"].as_str().and_then(|name| self.child(kind, name));
        if let Some(old) = old {
            object["metadata"]["uid"] = json!(old.uid.to_string());
        }
        let ours = json!({"f:metadata": {"f:annotations": {"f:banyan.dev/rollout": {}}}});
        object["metadata"]["managedFields"] =
            json!([{"manager": "banyan", "operation": "Apply", "fieldsV1": ours}]);
        if kind == Kind::Deployment && object["spec"].get("replicas").is_none() {
            object["spec"]["replicas"] = json!(1);
        }
        let object: DynamicObject = serde_json::from_value(object).expect("an object");
        let (_, mut state) = ChildState::read(kind, &object).expect("labelled");
        state.digest = digest;
        self.index.child(&self.key.clone(), state);
    }
}
