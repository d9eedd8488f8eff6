//! Pods of FinServices that lack some, read one FinService at a time while nobody follows all pods: without a CanaryRollout
//! in the cluster, a pod that cannot start is what there is to know of pods.

use std::collections::HashMap;
use std::sync::Mutex;

use jiff::{SignedDuration, Timestamp};
use kube::api::ListParams;
use kube::{Api, Client};

use super::index::Observed;
use super::index::child::ChildState;
use super::index::pod::{PodState, said};
use super::index::slim_pod::SlimPod;
use crate::api::labels::{REVISION_LABEL, SERVICE_LABEL};
use crate::api::network::MeshProvider;
use crate::runtime::key::Key;
use crate::runtime::lock::lock;

/// How long pods may take to become Ready until somebody asks why they are not.
const USUAL: SignedDuration = SignedDuration::from_secs(3);
/// The least and the longest time between two looks at the pods of one FinService; between them, a quarter of the time for
/// which it has lacked some.
const BETWEEN: [SignedDuration; 2] = [SignedDuration::from_secs(5), SignedDuration::from_mins(1)];
/// Pods that are read of a FinService: of a thousand that do not start a few say why.
const MOST: u32 = 50;

#[derive(Debug)]
struct Asked {
    since: Timestamp,
    at: Option<Timestamp>,
    pods: Vec<PodState>,
    /// Whether they were read since none is lacking any more.
    settled: bool,
}

/// What is known of the pods of FinServices that lack some.
#[derive(Debug, Default)]
pub struct Short(Mutex<HashMap<Key, Asked>>);

impl Short {
    /// Fills in what pods say, if some are lacking and no watch tells of them. In Istio's mesh they are read once more when
    /// all have come: whether they have a proxy is nothing that keeps them from being Ready.
    ///
    /// # Errors
    /// If the pods cannot be read.
    pub async fn fill(&self, client: &Client, key: &Key, seen: &mut Observed) -> Result<(), kube::Error> {
        let lacks = lacks(seen);
        let in_mesh = seen.service.spec.provider() == MeshProvider::Istio;
        let known = lock(&self.0).get(key).map(|asked| asked.settled);
        if seen.pods.is_some() || !lacks && (known.is_none() || !in_mesh) {
            lock(&self.0).remove(key);
            return Ok(());
        }
        if lacks && known == Some(true) {
            // A time of its own begins.
            lock(&self.0).remove(key);
        }
        let now = Timestamp::now();
        let due = if lacks { self.next(key).is_none_or(|due| due <= now) } else { known == Some(false) };
        if due {
            let pods: Api<SlimPod> = Api::namespaced(client.clone(), &key.namespace);
            let of = format!("{SERVICE_LABEL}={},{REVISION_LABEL}", key.name);
            let list = pods.list(&ListParams::default().labels(&of).limit(MOST)).await?;
            let read = list.items.iter().filter_map(PodState::read).map(|(_, pod)| pod).collect();
            self.heard(key, read, now);
        }
        if let Some(asked) = lock(&self.0).get_mut(key) {
            asked.settled = !lacks;
            seen.pods = asked.at.map(|_| said(&asked.pods));
        }
        seen.pods_again = self.next(key).filter(|_| lacks);
        Ok(())
    }

    /// Forgets a FinService.
    pub fn forget(&self, key: &Key) {
        lock(&self.0).remove(key);
    }

    /// When its pods are to be read next. The first time that it is asked for begins the time that is usual.
    fn next(&self, key: &Key) -> Option<Timestamp> {
        let mut known = lock(&self.0);
        let begin = || Asked { since: Timestamp::now(), at: None, pods: Vec::new(), settled: false };
        let asked = known.entry(key.clone()).or_insert_with(begin);
        let after = |at: Timestamp, pause| at.saturating_add(pause).ok();
        match asked.at {
            None => after(asked.since, USUAL),
            Some(at) => {
                let lacking = at.duration_since(asked.since) / 4;
                after(at, lacking.clamp(BETWEEN[0], BETWEEN[1]))
            }
        }
    }

    fn heard(&self, key: &Key, mut read: Vec<PodState>, now: Timestamp) {
        let mut known = lock(&self.0);
        let Some(asked) = known.get_mut(key) else { return };
        for pod in &mut read {
            pod.inherit(asked.pods.iter().find(|older| older.name == pod.name));
        }
        (asked.pods, asked.at) = (read, Some(now));
    }
}

/// Whether a revision has fewer pods than it is to have, or status still tells something of pods.
fn lacks(seen: &Observed) -> bool {
    let mut deployments = seen.children.iter().filter_map(ChildState::deployment);
    let told = seen.service.status.iter().flat_map(|status| &status.problems);
    deployments.any(|facts| facts.replicas > facts.ready)
        || told.into_iter().any(|problem| problem.source == super::plan::pod_problems::NO_PROXY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_asked_after_three_seconds_and_then_less_and_less_often() {
        let (short, key) = (Short::default(), Key::new("pay", "app"));
        let begin = Timestamp::now();
        let first = short.next(&key).expect("a time");
        assert!(first.duration_since(begin) >= USUAL);
        let since = lock(&short.0).get(&key).expect("it is known").since;
        let pause = |after: i64| {
            let now = since.saturating_add(SignedDuration::from_secs(after)).expect("in range");
            short.heard(&key, Vec::new(), now);
            short.next(&key).expect("a time").duration_since(now).as_secs()
        };
        assert_eq!([3, 8, 40, 100, 400].map(pause), [5, 5, 10, 25, 60]);
        short.forget(&key);
        assert!(short.next(&key).expect("a time") > first);
    }
}
