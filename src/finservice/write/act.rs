//! Carries a plan out: each write as decided, none that was not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, Preconditions};
use kube::{Api, Client};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::api::Problem;
use crate::api::labels::{HANDED_OVER_ANNOTATION, REPLICAS_BEFORE_ANNOTATION, RETIRED_ANNOTATION};
use crate::finservice::children::handed_over::{Before, keep_names};
use crate::finservice::children::{Child, Kind};
use crate::finservice::index::Index;
use crate::finservice::index::child::ChildState;
use crate::finservice::plan::revision;
use crate::finservice::plan::{Op, Over};
use crate::finservice::settings::Settings;
use crate::finservice::write::adopt;
use crate::runtime::key::{Key, version_of};
use crate::runtime::lease::Leadership;
use crate::runtime::lock::lock;
use crate::runtime::patch::{applying, scaling};
use crate::runtime::permits::Permits;

/// Writes of one FinService that are under way at once: a FinService that changes alone is written in few
/// round trips. All together are bounded by [`Actor::permits`].
const AT_ONCE: usize = 8;
/// What the ConfigMaps of one revision may hold together, in bytes. etcd takes 1.5 MiB an object.
const MOST_CONTENTS: usize = 900 * 1024;

/// A write that failed, and what a person may do about it.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}: {why}")]
pub struct ActError {
    what: String,
    why: Why,
}

#[derive(Debug, thiserror::Error)]
enum Why {
    #[error("{0}")]
    Api(#[from] kube::Error),
    #[error("this replica no longer leads")]
    NotLeading,
    #[error("ConfigMap {0} changed in the same moment")]
    Changed(String),
    #[error(
        "its ConfigMaps hold {0} bytes together, of which at most {MOST_CONTENTS} can be kept with a revision"
    )]
    TooLarge(usize),
    #[error("what was kept of ConfigMap {0} is gone from the ControllerRevision")]
    Lost(String),
    #[error("{0}")]
    Json(#[from] serde_json::Error),
}

impl ActError {
    /// What the API server answered to that write.
    pub fn answered(what: impl Into<String>, error: kube::Error) -> Self {
        Self { what: what.into(), why: Why::Api(error) }
    }

    /// The failure as a problem in status. `None` if it passes by itself.
    pub fn problem(&self) -> Option<Problem> {
        let remedy = match &self.why {
            Why::Changed(_) | Why::NotLeading => return None,
            Why::Api(kube::Error::Api(status)) => match status.code {
                // A conflict, a time-out, too many requests, or a server that restarts.
                409 | 429 | 500..=599 => return None,
                403 => {
                    "Give the operator this right (see the chart's ClusterRole), or look for a quota or an admission policy that refuses."
                }
                _ => "Change the field that the message names.",
            },
            Why::Api(_) => return None,
            Why::TooLarge(_) => "Split the service, or keep large files in an image or a volume.",
            Why::Lost(_) | Why::Json(_) => "Change the pod template, so that a new revision begins.",
        };
        Some(Problem::error("spec", self.to_string(), remedy))
    }
}

/// What acting needs.
pub struct Actor<'a> {
    /// The API server.
    pub client: &'a Client,
    /// What is known, brought up to date by each answer.
    pub index: &'a Mutex<Index>,
    /// The FinService.
    pub key: &'a Key,
    /// Whether this replica may still act.
    pub leadership: &'a Leadership,
    /// How much may be asked of the API server at once, by the whole process.
    pub permits: &'a Permits,
    /// Whether this takes weight away from a canary: then it waits behind nothing else.
    pub urgent: bool,
}

/// The API of a kind in a namespace.
pub fn api(client: &Client, kind: Kind, namespace: Option<&str>) -> Api<DynamicObject> {
    let resource = api_resource(kind);
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// A kind, as kube's dynamic API wants it, where nothing else is known of its version.
pub fn api_resource(kind: Kind) -> ApiResource {
    api_resource_in(kind, &Settings::default())
}

/// A kind, as kube's dynamic API wants it, in this cluster.
pub fn api_resource_in(kind: Kind, settings: &Settings) -> ApiResource {
    let (group, _, name, plural) = kind.resource();
    ApiResource {
        group: group.to_owned(),
        version: kind.version(settings).to_owned(),
        api_version: kind.api_version_in(settings),
        kind: name.to_owned(),
        plural: plural.to_owned(),
    }
}

impl Actor<'_> {
    /// The API of a kind in the namespace of the FinService.
    fn api(&self, kind: Kind) -> Api<DynamicObject> {
        let settings = Arc::clone(&lock(self.index).settings);
        let resource = api_resource_in(kind, &settings);
        Api::namespaced_with(self.client.clone(), &self.key.namespace, &resource)
    }

    /// Carries stages of a plan out, one after the other; the first failure ends it.
    ///
    /// # Errors
    /// That of the first write that failed.
    pub async fn act(&self, stages: &[&[Op]], now: Timestamp) -> Result<(), ActError> {
        for stage in stages {
            let writes: Vec<_> = stage.iter().map(|op| self.write(op, now)).collect();
            stream::iter(writes).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
        }
        Ok(())
    }

    async fn write(&self, op: &Op, now: Timestamp) -> Result<(), ActError> {
        // Without a bound of its own, each of the many FinServices in work would have AT_ONCE requests
        // in flight, and the renewal of the leader Lease would wait behind all of them.
        let Some(_permit) = self.permits.write_if_leading(self.leadership, self.urgent).await else {
            return Err(ActError { what: op.words(), why: Why::NotLeading });
        };
        self.op(op, now).await.map_err(|why| ActError { what: op.words(), why })
    }

    async fn op(&self, op: &Op, now: Timestamp) -> Result<(), Why> {
        let namespace = &*self.key.namespace;
        tracing::debug!(service = %self.key, op = op.words(), "write");
        match op {
            Op::Apply { child, digest, over } => self.apply(child, *digest, *over, now).await,
            Op::Record { child, config_maps } => self.record(child, config_maps).await,
            Op::CopyConfigMap { child, revision, of, digest, over } => {
                self.copy(child, revision, of, (*digest, *over), now).await
            }
            Op::Mark { name, number, retired_at } => {
                let retired_at = retired_at.map(|at| at.to_string());
                let patch = json!({
                    "revision": number,
                    "metadata": {"annotations": {RETIRED_ANNOTATION: retired_at}},
                });
                let api = self.api(Kind::ControllerRevision);
                let object = api.patch(name, &scaling(), &Patch::Merge(&patch)).await?;
                self.learn(Kind::ControllerRevision, &object, None, None);
                Ok(())
            }
            Op::Scale { name, replicas } => self.scale(name, *replicas, now).await,
            Op::HandOver { name, retired_at, to_zero } => {
                let api: Api<Deployment> = Api::namespaced(self.client.clone(), namespace);
                let mut annotations = json!({RETIRED_ANNOTATION: retired_at.to_string()});
                if *to_zero {
                    let pods = api.get_scale(name).await?.spec.and_then(|scale| scale.replicas).unwrap_or(0);
                    // Said before it is done: a process that ends in between must not remember a zero.
                    let before =
                        json!({"metadata": {"annotations": {REPLICAS_BEFORE_ANNOTATION: pods.to_string()}}});
                    if pods > 0 {
                        api.patch(name, &scaling(), &Patch::Merge(&before)).await?;
                    }
                    self.scale(name, 0, now).await?;
                    annotations[HANDED_OVER_ANNOTATION] = "true".into();
                }
                let patch = json!({"metadata": {"annotations": annotations}});
                api.patch(name, &scaling(), &Patch::Merge(&patch)).await?;
                Ok(())
            }
            Op::Delete { kind, name, uid } => {
                let parameters = DeleteParams {
                    preconditions: Some(Preconditions { uid: Some(uid.to_string()), resource_version: None }),
                    ..DeleteParams::background()
                };
                match self.api(*kind).delete(name, &parameters).await {
                    Err(kube::Error::Api(status)) if status.code == 404 => {
                        lock(self.index).child_gone(self.key, *kind, name, Some(uid));
                        Ok(())
                    }
                    other => other.map(|_| ()).map_err(Why::from),
                }
            }
        }
    }

    async fn apply(&self, child: &Child, digest: u64, over: Over, now: Timestamp) -> Result<(), Why> {
        let api = self.api(child.kind);
        let mut body = std::borrow::Cow::Borrowed(&child.body);
        if child.kind == Kind::ControllerRevision && over != Over::Nothing {
            // Its data must neither change nor be left out: only what is around it can have drifted.
            let existing = api.get(&child.name).await?;
            let body = body.to_mut();
            for field in ["data", "revision"] {
                body[field] = existing.data[field].clone();
            }
        }
        if child.kind == Kind::Service && over == Over::HandedOver {
            let services: Api<Service> = Api::namespaced(self.client.clone(), &self.key.namespace);
            let existing = services.get(&child.name).await?;
            keep_names(body.to_mut(), &Before::of(&existing).had());
            if let Some(patch) = adopt::service_patch(&existing, &child.body) {
                services.patch(&child.name, &scaling(), &Patch::Merge(&patch)).await?;
            }
        }
        let force = over != Over::Nothing;
        let object = api.patch(&child.name, &applying(force), &Patch::Apply(&*body)).await?;
        let repaired = (over == Over::Drifted).then_some(now);
        self.learn(child.kind, &object, Some(digest), repaired);
        Ok(())
    }

    /// Takes an answer into the index at once: the next decision must not wait for the watch.
    fn learn(&self, kind: Kind, object: &DynamicObject, wanted: Option<u64>, repaired: Option<Timestamp>) {
        if let Some((_, state)) = ChildState::read(kind, object) {
            let name = state.name.clone();
            let mut index = lock(self.index);
            index.child(self.key, state);
            if let Some(wanted) = wanted {
                index.wrote(self.key, kind, &name, wanted, repaired.map(Timestamp::as_second));
            }
        }
    }

    async fn scale(&self, name: &str, replicas: i32, now: Timestamp) -> Result<(), Why> {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &self.key.namespace);
        let patch = json!({"spec": {"replicas": replicas}});
        let scaled = api.patch_scale(name, &scaling(), &Patch::Merge(&patch)).await?;
        let version = version_of(&scaled.metadata);
        lock(self.index).scaled(self.key, name, replicas, version, now.as_second());
        Ok(())
    }

    /// Makes a ControllerRevision that keeps the contents of the ConfigMaps that were decided upon.
    async fn record(&self, child: &Child, config_maps: &[(String, String)]) -> Result<(), Why> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.key.namespace);
        let mut kept: BTreeMap<&str, Contents> = BTreeMap::new();
        let mut size = 0;
        for (name, digest) in config_maps {
            let found = api.get(name).await?;
            if contents_digest(&found) != *digest {
                return Err(Why::Changed(name.clone()));
            }
            let contents = Contents { data: found.data, binary_data: found.binary_data };
            size += serde_json::to_vec(&contents)?.len();
            kept.insert(name, contents);
        }
        if size > MOST_CONTENTS {
            return Err(Why::TooLarge(size));
        }
        let mut body = child.body.clone();
        if !kept.is_empty() {
            body["data"]["configMaps"] = serde_json::to_value(kept)?;
        }
        let api = self.api(child.kind);
        let object = api.patch(&child.name, &applying(false), &Patch::Apply(&body)).await?;
        self.learn(child.kind, &object, None, None);
        Ok(())
    }

    /// Makes a revision's copy of a ConfigMap from what its ControllerRevision keeps: so it can be
    /// made again whatever has become of the original.
    async fn copy(
        &self,
        child: &Child,
        revision: &str,
        of: &str,
        (digest, over): (u64, Over),
        now: Timestamp,
    ) -> Result<(), Why> {
        let api: Api<ControllerRevision> = Api::namespaced(self.client.clone(), &self.key.namespace);
        let record = api.get(&format!("{}-{revision}", self.key.name)).await?;
        let kept = record.data.and_then(|data| data.0.get("configMaps")?.get(of).cloned());
        let Some(kept) = kept else { return Err(Why::Lost(of.to_owned())) };
        let contents: Contents = serde_json::from_value(kept)?;
        let mut body = child.body.clone();
        if let (Value::Object(body), Value::Object(contents)) = (&mut body, serde_json::to_value(contents)?) {
            body.extend(contents);
        }
        let api = self.api(child.kind);
        let force = over != Over::Nothing;
        let object = api.patch(&child.name, &applying(force), &Patch::Apply(&body)).await?;
        let repaired = (over == Over::Drifted).then_some(now);
        self.learn(child.kind, &object, Some(digest), repaired);
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Contents {
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    binary_data: Option<BTreeMap<String, ByteString>>,
}

/// Digest of what a ConfigMap holds.
pub fn contents_digest(config_map: &ConfigMap) -> String {
    let contents = json!([config_map.data, config_map.binary_data]);
    revision::letters(contents.to_string().as_bytes(), 16)
}
