//! What is kept of a pod: enough to know whether it may take requests, and where its counters are.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use crate::api::labels::{REVISION_LABEL, SERVICE_LABEL};
use crate::canary::facts::PodFacts;
use crate::runtime::key::Key;

/// A pod as it was last seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodState {
    /// Its name.
    pub name: Box<str>,
    /// The revision that it runs, by its label: the hash, or `<hash>-fresh`.
    pub revision: Box<str>,
    /// Its address, once it has one.
    pub address: Option<IpAddr>,
    /// Since when it is Ready. A pod that is being deleted is not.
    pub ready_since: Option<Timestamp>,
    /// How often its containers have restarted.
    pub restarts: u32,
    /// How often they had when it was first seen Ready: what a start needs is no crash.
    pub at_start: u32,
    /// Whether it has been seen Ready.
    pub started: bool,
}

impl PodState {
    /// The pod as decisions about a rollout see it.
    pub fn facts(&self) -> PodFacts {
        let restarts = self.restarts.saturating_sub(self.at_start);
        PodFacts { ready_since: self.ready_since, restarts }
    }

    /// Keeps what only memory knows when a newer state of the same pod arrives.
    pub fn inherit(&mut self, older: Option<&Self>) {
        match older.filter(|older| older.started) {
            Some(older) => (self.started, self.at_start) = (true, older.at_start),
            None => (self.started, self.at_start) = (self.ready_since.is_some(), self.restarts),
        }
    }

    /// What is kept of a pod, and its FinService; `None` if it bears no label of a FinService.
    pub fn read(pod: &SlimPod) -> Option<(Key, Self)> {
        let labels = pod.metadata.labels.as_ref()?;
        let service = labels.get(SERVICE_LABEL)?;
        let status = &pod.status;
        let ready = status.conditions.iter().find(|condition| condition.kind == "Ready");
        let ready = ready.filter(|ready| ready.status == "True" && pod.metadata.deletion_timestamp.is_none());
        let restarts = status.container_statuses.iter().map(|container| container.restart_count).sum();
        let state = Self {
            name: pod.metadata.name.as_deref().unwrap_or_default().into(),
            revision: labels.get(REVISION_LABEL).map(String::as_str).unwrap_or_default().into(),
            // One on its node's network has the node's address, where others answer at other ports.
            address: status
                .pod_ip
                .as_deref()
                .filter(|_| !pod.spec.host_network)
                .and_then(|text| text.parse().ok()),
            ready_since: ready.map(|ready| ready.last_transition_time.unwrap_or(Timestamp::UNIX_EPOCH)),
            restarts,
            ..Self::default()
        };
        Some((Key::new(pod.metadata.namespace.as_deref().unwrap_or_default(), service), state))
    }
}

/// The part of a Pod that is read. A cluster has many of them, and most of each is of no concern here.
#[derive(Clone, Debug, Deserialize)]
pub struct SlimPod {
    /// Its metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// Its spec.
    #[serde(default)]
    pub spec: SlimSpec,
    /// Its status.
    #[serde(default)]
    pub status: SlimStatus,
}

/// The part of a Pod's spec that is read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlimSpec {
    /// Whether it is on the network of its node. None of a FinService's is.
    #[serde(default)]
    pub host_network: bool,
}

/// The part of a Pod's status that is read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlimStatus {
    /// Its address.
    #[serde(rename = "podIP")]
    pub pod_ip: Option<String>,
    /// Its conditions.
    #[serde(default)]
    pub conditions: Vec<SlimCondition>,
    /// Its containers.
    #[serde(default)]
    pub container_statuses: Vec<SlimContainer>,
}

/// The part of a condition that is read.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlimCondition {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its status.
    pub status: String,
    /// Since when.
    pub last_transition_time: Option<Timestamp>,
}

/// The part of a container's status that is read.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlimContainer {
    /// How often it has restarted.
    #[serde(default)]
    pub restart_count: u32,
}

impl kube::Resource for SlimPod {
    type DynamicType = ();
    type Scope = k8s_openapi::NamespaceResourceScope;

    fn kind((): &()) -> std::borrow::Cow<'_, str> {
        "Pod".into()
    }

    fn group((): &()) -> std::borrow::Cow<'_, str> {
        "".into()
    }

    fn version((): &()) -> std::borrow::Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> std::borrow::Cow<'_, str> {
        "pods".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn faults_4_2_a_pod_on_the_network_of_its_node_is_not_asked() {
        let pod = |host: bool| -> SlimPod {
            serde_json::from_value(serde_json::json!({
                "metadata": {"name": "a", "namespace": "pay", "labels": {"banyan.dev/service": "app"}},
                "spec": {"hostNetwork": host}, "status": {"podIP": "10.0.0.1"},
            }))
            .expect("a pod")
        };
        let address = |host| PodState::read(&pod(host)).expect("a pod of a FinService").1.address;
        assert_eq!(address(false), Some([10, 0, 0, 1].into()));
        assert_eq!(address(true), None);
    }

    #[test]
    fn restarts_before_a_pod_was_ready_are_its_starts() {
        let (mut index, app) =
            (crate::finservice::index::rollouts::Rollouts::default(), Key::new("pay", "app"));
        let mut see = |restarts, ready: bool| {
            let ready_since = ready.then_some(Timestamp::UNIX_EPOCH);
            let pod = PodState { name: "a".into(), restarts, ready_since, ..PodState::default() };
            index.pod(&app, pod);
            index.pods_of(&app)[0].facts().restarts
        };
        let seen = [(0, false), (1, false), (1, true), (2, false), (3, true)].map(|(n, ready)| see(n, ready));
        assert_eq!(seen, [0, 0, 0, 1, 2]);
    }

    #[test]
    fn a_pod_that_is_being_deleted_is_not_ready() {
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "app-x-1", "namespace": "pay", "labels": {SERVICE_LABEL: "app", REVISION_LABEL: "x"}},
            "spec": {"containers": []},
            "status": {
                "podIP": "10.0.0.7",
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:05Z"}],
                "containerStatuses": [{"restartCount": 2, "name": "a"}, {"restartCount": 1, "name": "b"}],
            },
        });
        let read = |pod: &serde_json::Value| {
            PodState::read(&serde_json::from_value(pod.clone()).expect("a pod")).expect("labelled")
        };
        let (key, state) = read(&pod);
        assert_eq!(key, Key::new("pay", "app"));
        assert_eq!((&*state.revision, state.restarts), ("x", 3));
        assert_eq!(state.ready_since, Some("2026-01-01T00:00:05Z".parse().expect("a time")));
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:01:00Z");
        assert_eq!(read(&pod).1.ready_since, None);
        pod["metadata"]["labels"] = json!({});
        assert!(PodState::read(&serde_json::from_value(pod).expect("a pod")).is_none());
    }
}
