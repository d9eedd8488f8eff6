//! Fills the index with what rollouts need: CanaryRollouts and pods. Pods are followed only
//! while there is a CanaryRollout: a cluster without any pays nothing for them.

use std::collections::BTreeSet;

use kube::api::{ApiResource, GroupVersionKind};
use kube::{Api, ResourceExt};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::api::labels::{REVISION_LABEL, SERVICE_LABEL};
use crate::finservice::index::pod::PodState;
use crate::finservice::index::rollouts::CanaryObject;
use crate::finservice::index::slim_pod::SlimPod;
use crate::finservice::watch::unreadable;
use crate::finservice::watch::{Watches, selection};
use crate::runtime::follow::{Change, Selection};
use crate::runtime::key::key_of;
use crate::runtime::lock::lock;
use crate::runtime::raw_object::RawObject;

impl Watches {
    /// Starts the watches.
    pub(super) fn start_rollouts(
        &self,
        tasks: &mut JoinSet<()>,
        first: &mut impl FnMut() -> oneshot::Sender<()>,
    ) {
        let (tell, any) = watch::channel(None);
        tasks.spawn(self.clone().rollouts(first(), tell));
        tasks.spawn(self.clone().pods(first(), any));
    }

    async fn rollouts(self, first: oneshot::Sender<()>, any: watch::Sender<Option<bool>>) {
        let all: Api<RawObject> =
            Api::all_with(self.client.clone(), &resource("CanaryRollout", "canaryrollouts"));
        self.follow(all, selection(None), "canaryrollouts", first, |change| {
            let stuck = self.metrics.stuck();
            let mut index = lock(&self.index);
            let listed = matches!(change, Change::Relisted(_));
            let concerned = match change {
                Change::Is(RawObject(object)) => {
                    let key = key_of(&object.metadata);
                    let policy = unreadable::read(object);
                    let same = !is_news(index.rollouts.object(&key), &policy);
                    let concerned = index.canary(&key, policy);
                    if same { BTreeSet::new() } else { concerned }
                }
                // It is gone from the index first: whoever makes a status of it meanwhile looks there afterwards.
                Change::Gone(object) => {
                    let key = key_of(&object.0.metadata);
                    let concerned = index.canary_gone(&key);
                    stuck.set("CanaryRollout", &key, Vec::new());
                    concerned
                }
                Change::Relisted(seen) => {
                    let concerned = index.retain_canaries(&seen);
                    stuck.retain("CanaryRollout", |key| seen.contains(key));
                    concerned
                }
            };
            let there = index.rollouts.any();
            drop(index);
            // Not before the first list is complete: what is not known yet is not absent.
            if listed || any.borrow().is_some() {
                any.send_if_modified(|known| known.replace(there) != Some(there));
            }
            self.again(concerned);
        })
        .await;
    }

    async fn pods(self, first: oneshot::Sender<()>, mut any: watch::Receiver<Option<bool>>) {
        let mut first = Some(first);
        loop {
            let Ok(there) = any.wait_for(Option::is_some).await.map(|there| *there) else { return };
            if there != Some(true) {
                if let Some(first) = first.take() {
                    let _ = first.send(());
                }
                if any.changed().await.is_err() {
                    return;
                }
                continue;
            }
            let listed = first.take().unwrap_or_else(|| oneshot::channel().0);
            let mut gone = any.clone();
            tokio::select! {
                () = self.follow_pods(listed) => {}
                gone = gone.wait_for(|there| *there == Some(false)) => if gone.is_err() { return },
            }
            let mut index = lock(&self.index);
            index.rollouts.follows_pods = false;
            index.rollouts.retain_pods(&Default::default());
        }
    }

    async fn follow_pods(&self, first: oneshot::Sender<()>) {
        let pods: Api<SlimPod> = Api::all(self.client.clone());
        // By these labels no pod of anybody else is followed.
        let labels = Some(format!("{SERVICE_LABEL},{REVISION_LABEL}"));
        self.follow(pods, Selection { labels, ..Selection::default() }, "pods", first, |change| {
            let mut index = lock(&self.index);
            let concerned = match change {
                Change::Is(pod) => match PodState::read(&pod) {
                    Some((service, state)) => index.rollouts.pod(&service, state),
                    None => BTreeSet::new(),
                },
                Change::Gone(pod) => match PodState::read(&pod) {
                    Some((service, state)) => index.rollouts.pod_gone(&service, &state.name),
                    None => BTreeSet::new(),
                },
                Change::Relisted(seen) => {
                    index.rollouts.follows_pods = true;
                    index.rollouts.retain_pods(&seen)
                }
            };
            drop(index);
            self.again(concerned);
        })
        .await;
    }
}

fn resource(kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(crate::api::GROUP, "v1alpha1", kind), plural)
}

/// Whether a CanaryRollout differs from what is known in anything but its version.
fn is_news(known: Option<&CanaryObject>, now: &CanaryObject) -> bool {
    let Some(known) = known else { return true };
    let (old, new) = (known.object(), now.object());
    known.unreadable() != now.unreadable()
        || old.metadata.generation != new.metadata.generation
        || old.uid() != new.uid()
        || old.status != new.status
}
