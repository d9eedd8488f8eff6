//! What of a FinService matters to its group, here and at a peer. Pure.

use std::collections::BTreeMap;

use crate::api::operations::Residency;
use crate::api::{FinService, FinServiceSpec, Severity, quantity};
use crate::runtime::key::Key;

/// A FinService at one site.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceFacts {
    /// Its labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// The sites that it is placed at; everywhere where `None`.
    pub placed: Option<Vec<String>>,
    /// Where its data must stay.
    pub residency: Option<Residency>,
    /// The release that serves.
    pub release: Option<String>,
    /// The release that is asked for.
    pub asked: String,
    /// Whether it is Ready, and why not; `None` while nothing was said.
    pub ready: Option<Result<(), String>>,
    /// The first error that its status names, with its remedy.
    pub error: Option<(String, String)>,
    /// Pods that are Ready.
    pub pods: i64,
    /// What each pod asks for: thousandths of a core, and MiB.
    pub asks: (i64, i64),
}

impl ServiceFacts {
    /// Of a FinService.
    pub fn of(service: &FinService) -> Self {
        let (spec, status) = (&service.spec, service.status.as_ref());
        let condition = |kind: &str| {
            let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
            conditions.iter().find(|condition| condition.type_ == kind)
        };
        let ready = condition("Ready").and_then(|condition| match condition.status.as_str() {
            "True" => Some(Ok(())),
            "False" => Some(Err(condition.message.clone())),
            _ => None,
        });
        let problems = status.map(|status| status.problems.as_slice()).unwrap_or_default();
        let error = problems.iter().find(|problem| problem.severity == Severity::Error);
        let replicas = status.and_then(|status| status.replicas.as_ref());
        Self {
            labels: service.metadata.labels.clone(),
            placed: spec.placement.as_ref().map(|all| all.iter().map(|one| one.cluster.clone()).collect()),
            residency: spec.data.as_ref().and_then(|data| data.residency),
            release: status.and_then(|status| status.release.clone()),
            asked: spec.release().to_owned(),
            ready,
            error: error.map(|problem| (problem.message.clone(), problem.remedy.clone())),
            pods: replicas.map_or(0, |replicas| i64::from(replicas.ready)),
            asks: asks(spec),
        }
    }

    /// Whether it is placed at a site.
    pub fn is_placed(&self, site: &str) -> bool {
        self.placed.as_ref().is_none_or(|placed| placed.iter().any(|named| named == site))
    }
}

/// FinServices of one group at one site.
pub type Services = BTreeMap<Key, ServiceFacts>;

/// What a pod asks for: thousandths of a core, and MiB.
fn asks(spec: &FinServiceSpec) -> (i64, i64) {
    let requests = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let of = |name: &str| {
        let asked = requests.and_then(|requests| requests.get(name));
        asked.and_then(|asked| quantity::thousandths(&asked.0)).unwrap_or(0)
    };
    let whole = |value: i128| i64::try_from(value).unwrap_or(i64::MAX);
    (whole(of("cpu")), whole(of("memory") / 1000 / (1 << 20)))
}

/// What the pods of a group that are Ready ask for together: thousandths of a core, MiB, and how many they are.
pub fn sum(services: &Services) -> (i64, i64, i64) {
    services.values().fold((0, 0, 0), |(cpu, memory, pods), service| {
        let (one_cpu, one_memory) = service.asks;
        let of = |one: i64| one.saturating_mul(service.pods);
        (
            cpu.saturating_add(of(one_cpu)),
            memory.saturating_add(of(one_memory)),
            pods.saturating_add(service.pods),
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_pods_ask_for_is_counted_in_whole_units() {
        let service = json!({
            "apiVersion": "banyan.dev/v1alpha1", "kind": "FinService", "metadata": {"name": "a"},
            "spec": {"owner": "t", "image": "registry.example/a:1", "placement": [{"cluster": "x"}],
                "resources": {"requests": {"cpu": "250m", "memory": "1Gi"}}},
            "status": {"release": "a:1", "replicas": {"desired": 3, "ready": 2, "summary": "2/3"},
                "conditions": [{"type": "Ready", "status": "False", "reason": "Degraded", "message": "2 of 3",
                    "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        });
        let facts = ServiceFacts::of(&serde_json::from_value(service).expect("a FinService"));
        assert_eq!((facts.asks, facts.pods), ((250, 1024), 2));
        assert_eq!(facts.ready, Some(Err("2 of 3".to_owned())));
        assert!(facts.is_placed("x") && !facts.is_placed("y"));
        let all = [(Key::new("pay", "a"), facts.clone()), (Key::new("pay", "b"), facts)].into();
        assert_eq!(sum(&all), (1000, 4096, 4));
    }
}
