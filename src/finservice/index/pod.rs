//! What is kept of a pod: enough to know whether it may take requests, and where its counters are.

use std::net::IpAddr;

use jiff::Timestamp;

use super::pod_words;
use super::slim_pod::SlimPod;
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
    /// Why it is not Ready, where scheduler or kubelet say something of it.
    pub why: Option<Box<str>>,
    /// Whether it has no proxy of a mesh.
    pub bare: bool,
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
        pod_words::steady(&mut self.why, older.and_then(|older| older.why.as_deref()));
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
            why: pod_words::why(pod).map(String::into_boxed_str),
            bare: pod_words::is_bare(pod),
            ..Self::default()
        };
        Some((Key::new(pod.metadata.namespace.as_deref().unwrap_or_default(), service), state))
    }
}

/// What the pods of a FinService say of themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodsSaid {
    /// Of each revision that has one, a pod that is not Ready, and why.
    pub unready: Vec<Unready>,
    /// A Ready pod of each revision that has one without a proxy of the mesh: the revision, and the pod.
    pub without_proxy: Vec<(Box<str>, Box<str>)>,
}

/// A pod that is not Ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unready {
    /// Its revision.
    pub revision: Box<str>,
    /// Its name.
    pub pod: Box<str>,
    /// Why, in the words of those who know.
    pub why: Box<str>,
}

/// What these pods say: of each revision the first that has something to say, by name.
pub fn said(pods: &[PodState]) -> PodsSaid {
    let mut said = PodsSaid::default();
    let mut pods: Vec<&PodState> = pods.iter().filter(|pod| pod.why.is_some() || pod.bare).collect();
    pods.sort_by(|one, other| one.name.cmp(&other.name));
    for pod in pods {
        if let Some(why) = &pod.why
            && !said.unready.iter().any(|known| known.revision == pod.revision)
        {
            said.unready.push(Unready {
                revision: pod.revision.clone(),
                pod: pod.name.clone(),
                why: why.clone(),
            });
        }
        if pod.bare
            && pod.ready_since.is_some()
            && !said.without_proxy.iter().any(|(revision, _)| *revision == pod.revision)
        {
            said.without_proxy.push((pod.revision.clone(), pod.name.clone()));
        }
    }
    said
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
