//! Which definitions of custom resources there are, and in which version those of Strimzi are served.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::PartialObjectMeta;
use kube::{Api, ResourceExt};
use tokio::sync::{oneshot, watch};

use super::{Watches, metadata};
use crate::finservice::settings::STRIMZI_VERSIONS;
use crate::runtime::follow::Change;
use crate::runtime::lock::lock;

/// When a definition that could not be read is asked for again.
const AGAIN: Duration = Duration::from_secs(5);

/// The definitions of custom resources that there are, with their generations.
pub(super) type Definitions = BTreeMap<String, i64>;

pub(super) fn generation(metadata: &ObjectMeta) -> i64 {
    metadata.generation.unwrap_or_default()
}

impl Watches {
    /// Which definitions of custom resources there are.
    pub(super) async fn definitions(self, known: watch::Sender<Definitions>) {
        let crds: Api<PartialObjectMeta<CustomResourceDefinition>> = Api::all(self.client.clone());
        let (ignored, _) = oneshot::channel();
        self.follow(crds, metadata(None), "customresourcedefinitions", ignored, |change| match change {
            Change::Is(crd) => {
                let generation = generation(&crd.metadata);
                known.send_if_modified(|names| names.insert(crd.name_any(), generation) != Some(generation));
            }
            Change::Gone(crd) => {
                known.send_if_modified(|names| names.remove(&crd.name_any()).is_some());
            }
            Change::Relisted(seen) => {
                let now: HashSet<&str> = seen.iter().map(|key| &*key.name).collect();
                known.send_if_modified(|names| {
                    let before = names.len();
                    names.retain(|name, _| now.contains(&**name));
                    names.len() != before
                });
            }
        })
        .await;
    }

    /// Reads in which version the cluster serves a kind of Strimzi's, and writes in it from here on. `false` if it serves none
    /// that is known here.
    pub(super) async fn serves_strimzi(&self, crd: &str) -> bool {
        let crds: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let served = loop {
            match crds.get_opt(crd).await {
                Ok(found) => {
                    break found
                        .into_iter()
                        .flat_map(|crd| crd.spec.versions)
                        .filter(|version| version.served);
                }
                Err(kube::Error::Api(status)) if status.code == 403 => {
                    tracing::warn!(%crd, "a definition may not be read: {} is taken to be served", lock(&self.index).settings.strimzi);
                    return true;
                }
                Err(error) => tracing::warn!(%crd, %error, "a definition cannot be read; trying again"),
            }
            tokio::time::sleep(AGAIN).await;
        };
        let served: BTreeSet<String> = served.map(|version| version.name).collect();
        let Some(version) = STRIMZI_VERSIONS.into_iter().find(|version| served.contains(*version)) else {
            tracing::warn!(%crd, ?served, "no version of it is known here: no topics and users are made");
            return false;
        };
        let concerned = lock(&self.index).set_strimzi(version);
        self.again(concerned);
        true
    }
}
