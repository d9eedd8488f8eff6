//! Istio's Gateways, for as long as the cluster has that kind.

use kube::Api;
use kube::api::{ApiResource, GroupVersionKind};
use tokio::sync::{oneshot, watch};

use super::{Definitions, Watches, selection};
use crate::runtime::follow::Change;
use crate::runtime::key::key_of;
use crate::runtime::lock::lock;
use crate::runtime::raw_object::RawObject;

/// The name of their definition.
const ISTIO_GATEWAYS: &str = "gateways.networking.istio.io";

impl Watches {
    /// Follows them. Nothing waits for that: what is not known of them is not told, and no route depends on it.
    pub(super) async fn istio_gateways(self, mut crds: watch::Receiver<Definitions>) {
        loop {
            if crds.wait_for(|names| names.contains_key(ISTIO_GATEWAYS)).await.is_err() {
                return;
            }
            let gone = crds.wait_for(|names| !names.contains_key(ISTIO_GATEWAYS));
            tokio::select! {
                () = self.follow_istio_gateways() => {}
                gone = gone => if gone.is_err() { return },
            }
            let concerned = lock(&self.index).forget_istio_gateways();
            self.again(concerned);
        }
    }

    async fn follow_istio_gateways(&self) {
        let (ignored, _) = oneshot::channel();
        let kind = GroupVersionKind::gvk("networking.istio.io", "v1", "Gateway");
        let resource = ApiResource::from_gvk_with_plural(&kind, "gateways");
        let gateways: Api<RawObject> = Api::all_with(self.client.clone(), &resource);
        self.follow(gateways, selection(None), "gateways of Istio", ignored, |change| {
            let mut index = lock(&self.index);
            let concerned = match change {
                Change::Is(RawObject(object)) => {
                    index.istio_gateway(&key_of(&object.metadata), Some(&object.data["spec"]))
                }
                Change::Gone(RawObject(object)) => index.istio_gateway(&key_of(&object.metadata), None),
                Change::Relisted(seen) => index.retain_istio_gateways(&seen),
            };
            drop(index);
            self.again(concerned);
        })
        .await;
    }
}
