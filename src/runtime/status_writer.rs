//! How every controller writes statuses: with a permit, only while this process leads, and only what differs.

use std::fmt::Debug;
use std::sync::Arc;

use kube::api::{ApiResource, Patch};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde_json::json;

use super::key::Key;
use super::lease::Leadership;
use super::metrics::Metrics;
use super::patch::applying;
use super::permits::Permits;
use super::raw_object::RawObject;
use crate::api::stuck::Stands;

/// Writes statuses. Cheap to clone.
#[derive(Clone)]
pub struct StatusWriter {
    client: Client,
    permits: Arc<Permits>,
    leadership: Leadership,
    metrics: Metrics,
}

impl StatusWriter {
    /// A writer to that API server, which says in `metrics` what is stuck.
    pub fn new(client: Client, permits: Arc<Permits>, leadership: Leadership, metrics: Metrics) -> Self {
        Self { client, permits, leadership, metrics }
    }

    /// Writes the status of an object of kind `K` unless the `old` one says the same. Returns the object as the API server
    /// has it now; `None` where nothing was written: nothing differs, it has been deleted, or this process does not lead.
    ///
    /// What others wrote into the status stays; what `wanted` leaves out and we wrote before goes.
    ///
    /// # Errors
    /// If the API server does not answer, or refuses.
    pub async fn write<K, S>(
        &self,
        key: &Key,
        old: Option<&S>,
        wanted: &S,
        same: impl Fn(&S, &S) -> bool,
    ) -> Result<Option<RawObject>, kube::Error>
    where
        K: Resource<DynamicType = ()>,
        S: Serialize + Debug + Stands,
    {
        let kind = K::kind(&());
        if self.leadership.is_leader() {
            self.metrics.stuck().set(&kind, key, wanted.stuck());
        }
        if old.is_some_and(|old| same(old, wanted)) {
            return Ok(None);
        }
        let resource = ApiResource::erase::<K>(&());
        let api: Api<RawObject> = Api::namespaced_with(self.client.clone(), &key.namespace, &resource);
        let patch = json!({"apiVersion": K::api_version(&()), "kind": kind, "status": wanted});
        let Some(_permit) = self.permits.write_if_leading(&self.leadership, false).await else {
            return Ok(None);
        };
        match api.patch_status(&key.name, &applying(true), &Patch::Apply(&patch)).await {
            Ok(written) => Ok(Some(written)),
            // It was deleted meanwhile.
            Err(kube::Error::Api(status)) if status.code == 404 => {
                self.metrics.stuck().set(&kind, key, Vec::new());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}
