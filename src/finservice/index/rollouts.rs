//! What the index keeps of rollouts: CanaryRollouts by the FinService that they name, what people said, and the
//! pods of services that have a CanaryRollout. Synchronous, without I/O.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::pod::PodState;
use crate::actions::{Said, hear};
use crate::api::action::{Verb, command};
use crate::api::canarystatus::{Memory, Scatter};
use crate::api::{Action, CanaryRollout, CanaryRolloutStatus, FinService, Problem};
use crate::judge::hub::Known;
use crate::judge::{Evidence, GateAnswer};
use crate::runtime::key::Key;
use crate::runtime::key::version_of;

/// A CanaryRollout as it was last read.
#[derive(Clone, Debug)]
pub enum CanaryObject {
    /// It parses.
    Good(Arc<CanaryRollout>),
    /// It does not: what can be read of it, and what cannot.
    Bad(Arc<CanaryRollout>, Arc<UnreadableField>),
}

/// What cannot be read of a CanaryRollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableField {
    /// The field, as far as it is known.
    pub field: String,
    /// Why.
    pub why: String,
    /// The fields of the spec that were left out for it.
    pub left_out: Vec<String>,
}

impl std::fmt::Display for UnreadableField {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.why)
    }
}

impl CanaryObject {
    /// The CanaryRollout, as far as it can be read.
    pub fn object(&self) -> &Arc<CanaryRollout> {
        match self {
            Self::Good(object) | Self::Bad(object, _) => object,
        }
    }

    /// What cannot be read of it.
    pub fn unreadable(&self) -> Option<&Arc<UnreadableField>> {
        match self {
            Self::Good(_) => None,
            Self::Bad(_, unreadable) => Some(unreadable),
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
    pub holds: Option<(Key, CanaryObject)>,
    /// Those that do not hold.
    pub others: Vec<(Key, CanaryObject)>,
    /// Pods of the FinService.
    pub pods: Vec<PodState>,
}

/// All that decisions about the rollouts of one FinService need.
#[derive(Clone, Debug)]
pub struct ObservedRollout {
    /// The CanaryRollout.
    pub object: Arc<CanaryRollout>,
    /// What cannot be read of it.
    pub unreadable: Option<Arc<UnreadableField>>,
    /// What is remembered: as its status says, or as the decision said that is being carried out.
    pub memory: Memory,
    /// Pods of the FinService.
    pub pods: Vec<PodState>,
    /// What people said and nobody has answered.
    pub actions: Vec<Said>,
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
    /// Takes in what was said to it.
    pub fn hear(&mut self, said: Vec<Arc<Action>>) {
        self.actions = said.iter().filter_map(|action| hear::said(action)).collect();
        self.objects = said;
    }

    /// Takes in what was measured.
    pub fn measured(&mut self, known: Known) {
        (self.evidence, self.scatter, self.answers) = (known.evidence, known.scatter, known.answers);
        self.problems = known.silent.map(|why| self.no_evidence(&why)).into_iter().collect();
        self.problems.extend(known.left_out.map(|why| {
            Problem::warning(
                "spec.analysis.latency",
                format!("slo.latency of the FinService is not judged: {why}"),
                "Set slo.latency.threshold of the FinService to a bound of the histogram, or analysis.latency.",
            )
        }));
    }

    /// The source of the evidence gives no answer.
    fn no_evidence(&self, why: &str) -> Problem {
        let source = self.object.spec.analysis.as_ref().and_then(|analysis| analysis.source.as_ref());
        let field = match source.is_some_and(|source| source.prometheus.is_some()) {
            true => "spec.analysis.source.prometheus",
            false => "spec.analysis",
        };
        let namespace = self.object.metadata.namespace.as_deref().unwrap_or_default();
        let name = self.object.metadata.name.as_deref().unwrap_or_default();
        Problem::warning(
            field,
            format!("the source of the evidence gives no answer: {why}"),
            format!(
                "The rollout holds until there is an answer. Look at the source; or decide without it: run `{}`, or the \
                 same with abort.",
                command(Verb::Promote, namespace, name)
            ),
        )
    }

    /// Whether the evidence is against the canary.
    pub fn fails(&self) -> bool {
        self.evidence.as_ref().is_some_and(Evidence::fails)
    }
}

/// What is known of all rollouts.
#[derive(Debug, Default)]
pub struct Rollouts {
    objects: HashMap<Key, CanaryObject>,
    of_service: HashMap<Key, BTreeSet<Key>>,
    pods: HashMap<Key, Vec<PodState>>,
    /// Whether all pods of FinServices are followed, so that one that is not known is not there.
    pub follows_pods: bool,
}

impl Rollouts {
    /// Whether there is any CanaryRollout at all.
    pub fn any(&self) -> bool {
        !self.objects.is_empty()
    }

    /// The CanaryRollout of that name as it was last read.
    pub fn object(&self, key: &Key) -> Option<&CanaryObject> {
        self.objects.get(key)
    }

    /// Takes in a CanaryRollout. Returns the FinServices that it concerns.
    pub fn put(&mut self, key: &Key, object: CanaryObject) -> BTreeSet<Key> {
        let version = object.version();
        if self.objects.get(key).is_some_and(|known| version != 0 && version < known.version()) {
            return BTreeSet::new();
        }
        let service = object.service(key);
        let mut concerned = BTreeSet::from([service.clone()]);
        let old = self.objects.insert(key.clone(), object).map(|old| old.service(key));
        if let Some(old) = old.filter(|old| *old != service) {
            self.unlink(&old, key);
            concerned.insert(old);
        }
        self.of_service.entry(service).or_default().insert(key.clone());
        concerned
    }

    /// Takes in that a CanaryRollout is gone. Returns the FinServices that it concerns.
    pub fn gone(&mut self, key: &Key) -> BTreeSet<Key> {
        let Some(old) = self.objects.remove(key) else { return BTreeSet::new() };
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
        let gone: Vec<Key> = self.objects.keys().filter(|key| !seen.contains(*key)).cloned().collect();
        gone.iter().flat_map(|key| self.gone(key)).collect()
    }

    /// The FinService that a CanaryRollout is for; none if there is no such CanaryRollout.
    pub fn service_of(&self, key: &Key) -> Option<Key> {
        Some(self.objects.get(key)?.service(key))
    }

    /// Takes in a pod. Returns the FinService, if it has a CanaryRollout and anything of the pod changed.
    pub fn pod(&mut self, service: &Key, mut pod: PodState) -> BTreeSet<Key> {
        let pods = self.pods.entry(service.clone()).or_default();
        pod.inherit(pods.iter().find(|known| known.name == pod.name));
        let (changed, says) = match pods.iter_mut().find(|known| known.name == pod.name) {
            Some(known) if *known == pod => (false, false),
            Some(known) => {
                let says = (&known.why, known.bare) != (&pod.why, pod.bare);
                *known = pod;
                (true, says)
            }
            None => {
                let says = pod.why.is_some();
                pods.push(pod);
                (true, says)
            }
        };
        if says { BTreeSet::from([service.clone()]) } else { self.concerned(service, changed) }
    }

    /// Takes in that a pod is gone.
    pub fn pod_gone(&mut self, service: &Key, name: &str) -> BTreeSet<Key> {
        let Some(pods) = self.pods.get_mut(service) else { return BTreeSet::new() };
        let before = pods.len();
        let said = pods.iter().any(|pod| &*pod.name == name && pod.why.is_some());
        pods.retain(|pod| &*pod.name != name);
        let changed = pods.len() != before;
        if pods.is_empty() {
            self.pods.remove(service);
        }
        if said { BTreeSet::from([service.clone()]) } else { self.concerned(service, changed) }
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
        let (_, canary_object) = of.holds?;
        let object = Arc::clone(canary_object.object());
        let memory = object.status.as_ref().and_then(|status| status.memory.clone()).unwrap_or_default();
        Some(ObservedRollout {
            object,
            unreadable: canary_object.unreadable().cloned(),
            memory,
            pods: of.pods,
            actions: Vec::new(),
            objects: Vec::new(),
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
        OfService { others: all.collect(), pods: self.pods_of(service).to_vec(), holds: Some(holds) }
    }

    /// The CanaryRollouts that name a FinService: first the one that holds, then the others by age.
    fn that_name(&self, service: &Key) -> Vec<(&Key, &CanaryObject)> {
        let named = self.of_service.get(service).into_iter().flatten();
        let mut all: Vec<(&Key, &CanaryObject)> =
            named.filter_map(|key| Some((key, self.objects.get(key)?))).collect();
        all.sort_by_key(|(key, policy)| (policy.created().is_none(), policy.created(), *key));
        let parses = |(_, policy): &(&Key, &CanaryObject)| policy.unreadable().is_none();
        if let Some(holds) = all.iter().position(parses) {
            all[..=holds].rotate_right(1);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const AT: &str = "2026-11-25T10:00:00Z";

    fn rollout(name: &str, service: &str, version: u64, created: &str) -> CanaryObject {
        let object = json!({
            "apiVersion": "banyan.dev/v1alpha1", "kind": "CanaryRollout",
            "metadata": {"name": name, "namespace": "pay", "resourceVersion": version.to_string(),
                "creationTimestamp": created},
            "spec": {"service": service, "strategy": {"blueGreen": {}}},
        });
        CanaryObject::Good(Arc::new(serde_json::from_value(object).expect("a CanaryRollout")))
    }

    #[test]
    fn the_oldest_that_parses_holds() {
        let mut rollouts = Rollouts::default();
        let app = Key::new("pay", "app");
        let key = |name| Key::new("pay", name);
        rollouts.put(&key("young"), rollout("young", "app", 1, "2026-11-25T10:00:20Z"));
        rollouts.put(&key("old"), rollout("old", "app", 2, "2026-11-25T10:00:10Z"));
        let CanaryObject::Good(object) = rollout("bad", "app", 3, AT) else { panic!("it parses") };
        let unreadable =
            UnreadableField { field: "spec.via".into(), why: "no".into(), left_out: vec!["via".into()] };
        rollouts.put(&key("bad"), CanaryObject::Bad(object, Arc::new(unreadable)));
        let of = rollouts.of(&app);
        assert_eq!(of.holds.map(|(key, _)| key), Some(key("old")));
        let others: Vec<_> = of.others.iter().map(|(key, _)| key.name.to_string()).collect();
        assert_eq!(others, ["bad", "young"]);
        assert_eq!(rollouts.gone(&key("old")), BTreeSet::from([app.clone()]));
        assert_eq!(rollouts.of(&app).holds.map(|(key, _)| key), Some(key("young")));
        rollouts.gone(&key("young"));
        let seen =
            rollouts.of(&app).holds.map(|(key, policy)| (key, policy.unreadable().map(|u| u.to_string())));
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
