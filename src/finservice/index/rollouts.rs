//! What the index keeps of rollouts: CanaryRollouts by the FinService that they name, what people said, and the
//! pods of services that have a CanaryRollout. Synchronous, without I/O.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::Key;
use super::pod::PodState;
use crate::api::canarystatus::{Memory, Scatter};
use crate::api::{Action, CanaryRollout, CanaryRolloutStatus, FinService, Problem};
use crate::canary::actions;
use crate::canary::facts::{Answered, Evidence, GateAnswer, Said};
use crate::finservice::version_of;

/// A CanaryRollout as it was last read.
#[derive(Clone, Debug)]
pub enum Policy {
    /// It parses.
    Good(Arc<CanaryRollout>),
    /// It does not: what can be read of it, and what cannot.
    Bad(Arc<CanaryRollout>, Arc<Unread>),
}

/// What cannot be read of a CanaryRollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// The field, as far as it is known.
    pub field: String,
    /// Why.
    pub why: String,
    /// The fields of the spec that were left out for it.
    pub left_out: Vec<String>,
}

impl std::fmt::Display for Unread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.why)
    }
}

impl Policy {
    /// The CanaryRollout, as far as it can be read.
    pub fn object(&self) -> &Arc<CanaryRollout> {
        match self {
            Self::Good(object) | Self::Bad(object, _) => object,
        }
    }

    /// What cannot be read of it.
    pub fn unread(&self) -> Option<&Arc<Unread>> {
        match self {
            Self::Good(_) => None,
            Self::Bad(_, unread) => Some(unread),
        }
    }

    /// The FinService that the CanaryRollout of that name is for.
    fn service(&self, key: &Key) -> Key {
        Key::new(&key.namespace, &self.object().spec.service)
    }

    fn version(&self) -> u64 {
        version_of(&self.object().metadata)
    }

    fn created(&self) -> Option<Timestamp> {
        self.object().metadata.creation_timestamp.as_ref().map(|time| time.0)
    }
}

/// What is known of the rollouts of one FinService.
#[derive(Clone, Debug, Default)]
pub struct OfService {
    /// The CanaryRollout that holds: the oldest that parses; where none does, the oldest.
    pub holds: Option<(Key, Policy)>,
    /// Those that do not hold.
    pub others: Vec<(Key, Policy)>,
    /// What was said to the one that holds and has not been answered yet.
    pub actions: Vec<Arc<Action>>,
    /// Pods of the FinService.
    pub pods: Vec<PodState>,
}

/// All that decisions about the rollouts of one FinService need.
#[derive(Clone, Debug)]
pub struct ObservedRollout {
    /// The CanaryRollout.
    pub object: Arc<CanaryRollout>,
    /// What cannot be read of it.
    pub unread: Option<Arc<Unread>>,
    /// What is remembered: as its status says, or as the decision said that is being carried out.
    pub memory: Memory,
    /// Pods of the FinService.
    pub pods: Vec<PodState>,
    /// What people said and nobody has answered.
    pub actions: Vec<Said>,
    /// What was said and is refused before anything is decided.
    pub refused: Vec<Answered>,
    /// The Actions themselves.
    pub objects: Vec<Arc<Action>>,
    /// What the evidence says.
    pub evidence: Option<Evidence>,
    /// How stable's errors scatter, as measured so far.
    pub scatter: Vec<Scatter>,
    /// What the gates that were asked answer.
    pub answers: Vec<GateAnswer>,
    /// The status of the CanaryRollout of that name in each cluster that goes first, or why it is not known.
    pub peers: Vec<(String, Result<CanaryRolloutStatus, String>)>,
    /// What is wrong with those who count, ask or carry out.
    pub problems: Vec<Problem>,
}

impl ObservedRollout {
    /// Whether the evidence is against the canary.
    pub fn fails(&self) -> bool {
        self.evidence.as_ref().is_some_and(Evidence::fails)
    }
}

/// What is known of all rollouts.
#[derive(Debug, Default)]
pub struct Rollouts {
    policies: HashMap<Key, Policy>,
    of_service: HashMap<Key, BTreeSet<Key>>,
    actions: BTreeMap<Key, Arc<Action>>,
    pods: HashMap<Key, Vec<PodState>>,
}

impl Rollouts {
    /// Whether there is any CanaryRollout at all.
    pub fn any(&self) -> bool {
        !self.policies.is_empty()
    }

    /// The CanaryRollout of that name as it was last read.
    pub fn policy(&self, key: &Key) -> Option<&Policy> {
        self.policies.get(key)
    }

    /// Takes in a CanaryRollout. Returns the FinServices that it concerns.
    pub fn put(&mut self, key: &Key, policy: Policy) -> BTreeSet<Key> {
        let version = policy.version();
        if self.policies.get(key).is_some_and(|known| version != 0 && version < known.version()) {
            return BTreeSet::new();
        }
        let service = policy.service(key);
        let mut concerned = BTreeSet::from([service.clone()]);
        let old = self.policies.insert(key.clone(), policy).map(|old| old.service(key));
        if let Some(old) = old.filter(|old| *old != service) {
            self.unlink(&old, key);
            concerned.insert(old);
        }
        self.of_service.entry(service).or_default().insert(key.clone());
        concerned
    }

    /// Takes in that a CanaryRollout is gone. Returns the FinServices that it concerns.
    pub fn gone(&mut self, key: &Key) -> BTreeSet<Key> {
        let Some(old) = self.policies.remove(key) else { return BTreeSet::new() };
        let service = old.service(key);
        self.unlink(&service, key);
        BTreeSet::from([service])
    }

    fn unlink(&mut self, service: &Key, key: &Key) {
        if let Some(keys) = self.of_service.get_mut(service) {
            keys.remove(key);
            if keys.is_empty() {
                self.of_service.remove(service);
            }
        }
    }

    /// After a relist: forgets the CanaryRollouts that were not in it.
    pub fn retain(&mut self, seen: &HashSet<Key>) -> BTreeSet<Key> {
        let gone: Vec<Key> = self.policies.keys().filter(|key| !seen.contains(*key)).cloned().collect();
        gone.iter().flat_map(|key| self.gone(key)).collect()
    }

    /// Takes in what somebody said (or that it is gone). Returns the FinServices that it concerns.
    pub fn action(&mut self, key: &Key, action: Option<Arc<Action>>) -> BTreeSet<Key> {
        let target = match action {
            Some(action) => {
                let target = target_of(key, &action);
                self.actions.insert(key.clone(), action);
                target
            }
            None => {
                self.actions.remove(key);
                None
            }
        };
        target.and_then(|target| Some(self.policies.get(&target)?.service(&target))).into_iter().collect()
    }

    /// Whether there is an Action of that name.
    pub fn knows_action(&self, key: &Key) -> bool {
        self.actions.contains_key(key)
    }

    /// After a relist: forgets the Actions that were not in it.
    pub fn retain_actions(&mut self, seen: &HashSet<Key>) {
        self.actions.retain(|key, _| seen.contains(key));
    }

    /// Actions that are said to no CanaryRollout that is known.
    pub fn unheard(&self) -> Vec<(Key, Arc<Action>)> {
        let stray = |key: &Key, action: &Action| {
            target_of(key, action).is_some_and(|target| !self.policies.contains_key(&target))
        };
        let all = self.actions.iter().filter(|(key, action)| !actions::is_over(action) && stray(key, action));
        all.map(|(key, action)| (key.clone(), Arc::clone(action))).collect()
    }

    /// Actions that have been carried out or refused.
    pub fn over(&self) -> Vec<(Key, Arc<Action>)> {
        let all = self.actions.iter().filter(|(_, action)| actions::is_over(action));
        all.map(|(key, action)| (key.clone(), Arc::clone(action))).collect()
    }

    /// Takes in a pod. Returns the FinService, if it has a CanaryRollout and anything of the pod changed.
    pub fn pod(&mut self, service: &Key, pod: PodState) -> BTreeSet<Key> {
        let pods = self.pods.entry(service.clone()).or_default();
        let changed = match pods.iter_mut().find(|known| known.name == pod.name) {
            Some(known) if *known == pod => false,
            Some(known) => {
                *known = pod;
                true
            }
            None => {
                pods.push(pod);
                true
            }
        };
        self.concerned(service, changed)
    }

    /// Takes in that a pod is gone.
    pub fn pod_gone(&mut self, service: &Key, name: &str) -> BTreeSet<Key> {
        let Some(pods) = self.pods.get_mut(service) else { return BTreeSet::new() };
        let before = pods.len();
        pods.retain(|pod| &*pod.name != name);
        let changed = pods.len() != before;
        if pods.is_empty() {
            self.pods.remove(service);
        }
        self.concerned(service, changed)
    }

    fn concerned(&self, service: &Key, changed: bool) -> BTreeSet<Key> {
        let concerns = changed && self.of_service.contains_key(service);
        concerns.then(|| service.clone()).into_iter().collect()
    }

    /// After a relist: forgets the pods that were not in it. Without any, all are forgotten.
    pub fn retain_pods(&mut self, seen: &HashSet<Key>) -> BTreeSet<Key> {
        let mut concerned = BTreeSet::new();
        self.pods.retain(|service, pods| {
            let before = pods.len();
            pods.retain(|pod| seen.contains(&Key::new(&service.namespace, &pod.name)));
            if pods.len() != before && self.of_service.contains_key(service) {
                concerned.insert(service.clone());
            }
            !pods.is_empty()
        });
        concerned
    }

    /// Pods of a FinService.
    pub fn pods_of(&self, service: &Key) -> &[PodState] {
        self.pods.get(service).map(Vec::as_slice).unwrap_or_default()
    }

    /// All that decisions about the rollout of a FinService need, as far as it is known here.
    pub fn observe(&self, service: &FinService) -> Option<ObservedRollout> {
        let metadata = &service.metadata;
        let (namespace, name) = (metadata.namespace.as_deref(), metadata.name.as_deref());
        let of = self.of(&Key::new(namespace.unwrap_or_default(), name.unwrap_or_default()));
        let (_, policy) = of.holds?;
        let object = Arc::clone(policy.object());
        let memory = object.status.as_ref().and_then(|status| status.memory.clone()).unwrap_or_default();
        let changed_by = metadata.annotations.as_ref().and_then(actions::changed_by);
        let (said, refused) = actions::hear(of.actions.iter().map(Arc::as_ref), changed_by);
        Some(ObservedRollout {
            object,
            unread: policy.unread().cloned(),
            memory,
            pods: of.pods,
            actions: said,
            refused,
            objects: of.actions,
            evidence: None,
            scatter: Vec::new(),
            answers: Vec::new(),
            peers: Vec::new(),
            problems: Vec::new(),
        })
    }

    /// The host under which the CanaryRollout of a FinService shows revisions before they serve.
    pub fn preview_host(&self, service: &Key) -> Option<String> {
        let holds = self.that_name(service).into_iter().next()?.1;
        holds.object().spec.strategy.blue_green.as_ref()?.preview_host.clone()
    }

    /// What is known of the rollouts of a FinService.
    pub fn of(&self, service: &Key) -> OfService {
        let mut all = self.that_name(service).into_iter().map(|(key, policy)| (key.clone(), policy.clone()));
        let Some(holds) = all.next() else { return OfService::default() };
        let said = self.actions.iter().filter(|(key, action)| {
            target_of(key, action).as_ref() == Some(&holds.0) && !actions::is_over(action)
        });
        OfService {
            actions: said.map(|(_, action)| Arc::clone(action)).collect(),
            others: all.collect(),
            pods: self.pods_of(service).to_vec(),
            holds: Some(holds),
        }
    }

    /// The CanaryRollouts that name a FinService: first the one that holds, then the others by age.
    fn that_name(&self, service: &Key) -> Vec<(&Key, &Policy)> {
        let named = self.of_service.get(service).into_iter().flatten();
        let mut all: Vec<(&Key, &Policy)> =
            named.filter_map(|key| Some((key, self.policies.get(key)?))).collect();
        all.sort_by_key(|(key, policy)| (policy.created().is_none(), policy.created(), *key));
        let parses = |(_, policy): &(&Key, &Policy)| policy.unread().is_none();
        if let Some(holds) = all.iter().position(parses) {
            all[..=holds].rotate_right(1);
        }
        all
    }
}

/// The CanaryRollout that an Action speaks of.
fn target_of(key: &Key, action: &Action) -> Option<Key> {
    actions::rollout(action).map(|name| Key::new(&key.namespace, name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const AT: &str = "2026-11-25T10:00:00Z";

    fn rollout(name: &str, service: &str, version: u64, created: &str) -> Policy {
        let object = json!({
            "apiVersion": "banyan.dev/v1alpha1", "kind": "CanaryRollout",
            "metadata": {"name": name, "namespace": "pay", "resourceVersion": version.to_string(),
                "creationTimestamp": created},
            "spec": {"service": service, "strategy": {"blueGreen": {}}},
        });
        Policy::Good(Arc::new(serde_json::from_value(object).expect("a CanaryRollout")))
    }

    #[test]
    fn the_oldest_that_parses_holds() {
        let mut rollouts = Rollouts::default();
        let app = Key::new("pay", "app");
        let key = |name| Key::new("pay", name);
        rollouts.put(&key("young"), rollout("young", "app", 1, "2026-11-25T10:00:20Z"));
        rollouts.put(&key("old"), rollout("old", "app", 2, "2026-11-25T10:00:10Z"));
        let Policy::Good(object) = rollout("bad", "app", 3, AT) else { panic!("it parses") };
        let unread = Unread { field: "spec.via".into(), why: "no".into(), left_out: vec!["via".into()] };
        rollouts.put(&key("bad"), Policy::Bad(object, Arc::new(unread)));
        let of = rollouts.of(&app);
        assert_eq!(of.holds.map(|(key, _)| key), Some(key("old")));
        let others: Vec<_> = of.others.iter().map(|(key, _)| key.name.to_string()).collect();
        assert_eq!(others, ["bad", "young"]);
        assert_eq!(rollouts.gone(&key("old")), BTreeSet::from([app.clone()]));
        assert_eq!(rollouts.of(&app).holds.map(|(key, _)| key), Some(key("young")));
        rollouts.gone(&key("young"));
        let seen = rollouts.of(&app).holds.map(|(key, policy)| (key, policy.unread().map(|u| u.to_string())));
        assert_eq!(seen, Some((key("bad"), Some("spec.via: no".to_owned()))), "what none replaces holds on");
    }

    #[test]
    fn an_older_event_changes_nothing_and_another_service_concerns_both() {
        let mut rollouts = Rollouts::default();
        let key = Key::new("pay", "app");
        rollouts.put(&key, rollout("app", "app", 7, AT));
        assert_eq!(rollouts.put(&key, rollout("app", "other", 6, AT)), BTreeSet::new());
        let both = BTreeSet::from([Key::new("pay", "app"), Key::new("pay", "other")]);
        assert_eq!(rollouts.put(&key, rollout("app", "other", 8, AT)), both);
        assert!(rollouts.of(&Key::new("pay", "app")).holds.is_none());
    }

    #[test]
    fn pods_concern_only_services_with_a_rollout() {
        let mut rollouts = Rollouts::default();
        let app = Key::new("pay", "app");
        let pod = PodState { name: "a".into(), revision: "r".into(), ..PodState::default() };
        assert_eq!(rollouts.pod(&app, pod.clone()), BTreeSet::new());
        rollouts.put(&app, rollout("app", "app", 1, AT));
        assert_eq!(rollouts.pod(&app, pod.clone()), BTreeSet::new(), "nothing of it changed");
        assert_eq!(rollouts.pod(&app, PodState { restarts: 1, ..pod }), BTreeSet::from([app.clone()]));
        assert_eq!(rollouts.of(&app).pods.len(), 1);
        assert_eq!(rollouts.retain_pods(&HashSet::new()), BTreeSet::from([app.clone()]));
        assert!(rollouts.pods_of(&app).is_empty());
    }
}
