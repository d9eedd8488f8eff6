//! Fills the index from lists and watches: FinServices, their children, objects of others that have our names,
//! what pods read, and which optional APIs there are.

mod definitions;
mod istio_gateways;
mod rollouts;
pub(crate) mod unreadable;

use crate::runtime::permits::Permits;
use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::api::labels::{MANAGED_BY_LABEL, SERVICE_LABEL};
use crate::api::{FinService, FinServiceSpec};
use crate::finservice::children::{self, Kind};
use crate::finservice::index::child::ChildState;
use crate::finservice::index::stranger::Stranger;
use crate::finservice::index::{Index, Parsed, Readable, Unreadable};
use crate::finservice::write::act::{api_resource_in, contents_digest};
use crate::runtime::follow::{self, Change, Known, Selection};
use crate::runtime::key::Key;
use crate::runtime::key::key_of;
use crate::runtime::key::version_of;
use crate::runtime::lock::lock;
use crate::runtime::metrics::Metrics;
use crate::runtime::queue::{Lane, Queue};
use crate::runtime::raw_object;
use crate::runtime::raw_object::RawObject;
use definitions::{Definitions, generation};

/// Fills an index.
#[derive(Clone)]
pub struct Watches {
    /// The API server.
    pub client: Client,
    /// What is filled.
    pub index: Arc<Mutex<Index>>,
    /// The work queue: keys of FinServices to reconcile.
    pub queue: Queue<Key>,
    /// Told whenever calls may have changed.
    pub calls_changed: Arc<tokio::sync::Notify>,
    /// How much may be asked of the API server at once.
    pub permits: Arc<Permits>,
    /// Where it is told that what is gone is not stuck.
    pub metrics: Metrics,
    /// Whether all FinServices have been read once, and so what they have on record of children.
    pub services_read: watch::Sender<bool>,
}

impl Watches {
    /// Starts all watches in `tasks`. Each receiver tells when a first list has been read in full.
    ///
    /// # Errors
    /// If the definitions of custom resources cannot be listed.
    pub async fn start(&self, tasks: &mut JoinSet<()>) -> Result<Vec<oneshot::Receiver<()>>, kube::Error> {
        let crds: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let present = crds.list_metadata(&Default::default()).await?;
        let present: Definitions =
            present.iter().map(|crd| (crd.name_any(), generation(&crd.metadata))).collect();
        let (known, crds_now) = watch::channel(present.clone());
        let mut firsts = Vec::new();
        let mut first = || {
            let (sender, receiver) = oneshot::channel();
            firsts.push(receiver);
            sender
        };
        tasks.spawn(self.clone().services(first()));
        tasks.spawn(self.clone().config_maps(first()));
        tasks.spawn(self.clone().secrets(first()));
        self.start_rollouts(tasks, &mut first);
        for kind in Kind::reading_order() {
            let there = kind.crd().is_none_or(|crd| present.contains_key(&crd));
            let done = there.then(|| (first(), first()));
            tasks.spawn(self.clone().kind(kind, crds_now.clone(), done));
        }
        tasks.spawn(self.clone().istio_gateways(crds_now));
        tasks.spawn(self.clone().definitions(known));
        Ok(firsts)
    }

    pub(super) async fn follow<K>(
        &self,
        api: Api<K>,
        selection: Selection,
        what: &'static str,
        first: oneshot::Sender<()>,
        on: impl FnMut(Change<K>) + Send,
    ) where
        K: Resource + Clone + DeserializeOwned + Send,
    {
        follow::follow(api, selection, &self.permits, what, first, on).await;
    }

    fn resource(&self, kind: Kind) -> ApiResource {
        api_resource_in(kind, &lock(&self.index).settings)
    }

    pub(super) fn again(&self, keys: BTreeSet<Key>) {
        if !keys.is_empty() {
            self.queue.add_all(keys, Lane::Normal);
        }
    }

    async fn services(self, first: oneshot::Sender<()>) {
        let (name, plural) = ("FinService", "finservices");
        let resource = kube::api::ApiResource::from_gvk_with_plural(
            &kube::api::GroupVersionKind::gvk(crate::api::GROUP, "v1alpha1", name),
            plural,
        );
        let services: Api<RawObject> = Api::all_with(self.client.clone(), &resource);
        self.follow(services, selection(None), "finservices", first, |change| {
            let concerned = match change {
                Change::Is(RawObject(object)) => {
                    let (key, version) = (key_of(&object.metadata), version_of(&object.metadata));
                    let parsed = parse(object);
                    let mut index = lock(&self.index);
                    let news = parsed.is_news(index.parsed(&key).as_ref());
                    let mut concerned = index.service(&key, version, Some(parsed));
                    if !news {
                        concerned.remove(&key);
                    }
                    concerned
                }
                Change::Gone(RawObject(object)) => {
                    lock(&self.index).service(&key_of(&object.metadata), 0, None)
                }
                Change::Relisted(seen) => {
                    self.services_read.send_replace(true);
                    lock(&self.index).retain_services(&seen)
                }
            };
            self.again(concerned);
            self.calls_changed.notify_one();
        })
        .await;
    }

    async fn config_maps(self, first: oneshot::Sender<()>) {
        let maps: Api<ConfigMap> = Api::all(self.client.clone());
        self.follow(maps, selection(Some(false)), "configmaps", first, |change| {
            let concerned = match change {
                Change::Is(map) => {
                    let (key, stranger) = (key_of(&map.metadata), Stranger::read(&map.metadata));
                    let digest = contents_digest(&map);
                    let mut index = lock(&self.index);
                    let mut concerned = index.config_map(&key, Some(digest.into()));
                    concerned.extend(index.stranger(Kind::ConfigMap, &key, Some(stranger)));
                    concerned
                }
                Change::Gone(map) => {
                    let key = key_of(&map.metadata);
                    let mut index = lock(&self.index);
                    let mut concerned = index.config_map(&key, None);
                    concerned.extend(index.stranger(Kind::ConfigMap, &key, None));
                    concerned
                }
                Change::Relisted(seen) => {
                    let mut index = lock(&self.index);
                    let mut concerned = index.retain_strangers(Kind::ConfigMap, &seen);
                    for key in index.missing_config_maps(&seen) {
                        concerned.extend(index.config_map(&key, None));
                    }
                    concerned
                }
            };
            self.again(concerned);
        })
        .await;
    }

    async fn secrets(self, first: oneshot::Sender<()>) {
        // The chart can leave this right out (rbac.readSecrets=false): then there is nothing to watch.
        let asked =
            Api::<Secret>::all(self.client.clone()).list_metadata(&ListParams::default().limit(1)).await;
        if matches!(&asked, Err(kube::Error::Api(status)) if status.code == 403) {
            tracing::warn!("this operator may not read Secrets: changes of Secrets are not followed");
            lock(&self.index).hide_secrets();
            let _ = first.send(());
            return std::future::pending().await;
        }
        let secrets: Api<PartialObjectMeta<Secret>> = Api::all(self.client.clone());
        self.follow(secrets, metadata(None), "secrets", first, |change| {
            let mut index = lock(&self.index);
            let concerned = match change {
                Change::Is(secret) => {
                    let version = secret.metadata.resource_version.as_deref().unwrap_or_default();
                    index.secret(&key_of(&secret.metadata), Some(version.into()))
                }
                Change::Gone(secret) => index.secret(&key_of(&secret.metadata), None),
                Change::Relisted(seen) => {
                    let missing = index.missing_secrets(&seen);
                    missing.iter().flat_map(|key| index.secret(key, None)).collect()
                }
            };
            drop(index);
            self.again(concerned);
        })
        .await;
    }

    /// Children of one kind and their namesakes, for as long as the cluster has the kind.
    async fn kind(
        self,
        kind: Kind,
        mut crds: watch::Receiver<Definitions>,
        done: Option<(oneshot::Sender<()>, oneshot::Sender<()>)>,
    ) {
        let Some(crd) = kind.crd() else {
            let (ours, others) = done.unwrap_or_else(|| (oneshot::channel().0, oneshot::channel().0));
            tokio::join!(self.ours(kind, ours), self.others(kind, others));
            return;
        };
        let mut done = done;
        loop {
            let Ok(generation) =
                crds.wait_for(|names| names.contains_key(&crd)).await.map(|names| names[&crd])
            else {
                return;
            };
            if kind.api() == Some(children::Api::Strimzi) && !self.serves_strimzi(&crd).await {
                // Nobody is to wait for what is not there.
                if let Some((ours, others)) = done.take() {
                    let _ = (ours.send(()), others.send(()));
                }
                let other = |names: &Definitions| names.get(&crd) != Some(&generation);
                if crds.wait_for(other).await.is_err() {
                    return;
                }
                continue;
            }
            let (tell_ours, ours) = oneshot::channel();
            let (tell_others, others) = oneshot::channel();
            let told = done.take();
            let there = async {
                // A kind counts as there once its lists have been read: before, everything would
                // seem to be missing.
                if ours.await.is_ok() && others.await.is_ok() {
                    let concerned = lock(&self.index).kind(kind, true);
                    self.again(concerned);
                    if let Some((one, other)) = told {
                        let _ = (one.send(()), other.send(()));
                    }
                }
                std::future::pending::<()>().await;
            };
            // A definition that changes may serve other versions.
            let gone = crds.wait_for(|names| {
                names
                    .get(&crd)
                    .is_none_or(|now| *now != generation && kind.api() == Some(children::Api::Strimzi))
            });
            tokio::select! {
                () = self.ours(kind, tell_ours) => {}
                () = self.others(kind, tell_others) => {}
                () = there => {}
                gone = gone => if gone.is_err() { return },
            }
            if crds.borrow().contains_key(&crd) {
                continue;
            }
            let mut concerned = lock(&self.index).kind(kind, false);
            concerned.extend(lock(&self.index).retain_children(kind, &HashSet::new()));
            concerned.extend(lock(&self.index).retain_strangers(kind, &HashSet::new()));
            self.again(concerned);
        }
    }

    async fn ours(&self, kind: Kind, first: oneshot::Sender<()>) {
        let resource = self.resource(kind);
        let all: Api<RawObject> = Api::all_with(self.client.clone(), &resource);
        let mut selection = selection(Some(true));
        if kind.is_passive() {
            let watches = self.clone();
            let is = Arc::new(move |metadata: &_| watches.on_record(kind, metadata).is_some());
            selection.known = Some(Known { resource, is });
            // It is dropped by nobody.
            let _ = self.services_read.subscribe().wait_for(|read| *read).await;
        }
        self.follow(all, selection, kind.resource().3, first, |change| {
            let concerned = match change {
                Change::Is(RawObject(object)) => match self.child(kind, &object) {
                    Some((service, state)) => {
                        let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
                        let key = Key::new(namespace, &service);
                        let news = lock(&self.index).child(&key, state);
                        if news { BTreeSet::from([key]) } else { BTreeSet::new() }
                    }
                    None => BTreeSet::new(),
                },
                Change::Gone(RawObject(object)) => match ChildState::read(kind, &object) {
                    Some((service, state)) => {
                        let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
                        let key = Key::new(namespace, &service);
                        lock(&self.index).child_left(&key, &state);
                        BTreeSet::from([key])
                    }
                    None => BTreeSet::new(),
                },
                Change::Relisted(seen) => lock(&self.index).retain_children(kind, &seen),
            };
            self.again(concerned);
        })
        .await;
    }

    /// What is kept of a child. Of one that is on record only the metadata may have been read.
    fn child(&self, kind: Kind, object: &DynamicObject) -> Option<(String, ChildState)> {
        let bare = kind.is_passive() && object.data.as_object().is_none_or(serde_json::Map::is_empty);
        match bare.then(|| self.on_record(kind, &object.metadata)).flatten() {
            Some(contents) => ChildState::on_record(kind, object, contents),
            None => ChildState::read(kind, object),
        }
    }

    /// The digest of a child's contents, if that is on record.
    fn on_record(&self, kind: Kind, metadata: &ObjectMeta) -> Option<u64> {
        let service = metadata.labels.as_ref()?.get(SERVICE_LABEL)?;
        let key = Key::new(metadata.namespace.as_deref()?, service);
        lock(&self.index).on_record(&key, kind, metadata)
    }

    async fn others(&self, kind: Kind, first: oneshot::Sender<()>) {
        if kind == Kind::ConfigMap {
            // Those are read in full, by `config_maps`.
            let _ = first.send(());
            return std::future::pending().await;
        }
        let others: Api<PartialObjectMeta<DynamicObject>> =
            Api::all_with(self.client.clone(), &self.resource(kind));
        self.follow(others, metadata(Some(false)), kind.resource().3, first, |change| {
            let mut index = lock(&self.index);
            let concerned = match change {
                Change::Is(object) => {
                    index.stranger(kind, &key_of(&object.metadata), Some(Stranger::read(&object.metadata)))
                }
                Change::Gone(object) => index.stranger(kind, &key_of(&object.metadata), None),
                Change::Relisted(seen) => index.retain_strangers(kind, &seen),
            };
            drop(index);
            self.again(concerned);
        })
        .await;
    }
}

/// All objects, or those that are (or are not) ours.
pub(super) fn selection(ours: Option<bool>) -> Selection {
    let labels = ours.map(|ours| format!("{MANAGED_BY_LABEL}{}banyan", if ours { "=" } else { "!=" }));
    Selection { labels, ..Selection::default() }
}

/// The same, of which only the metadata is read.
fn metadata(ours: Option<bool>) -> Selection {
    Selection { metadata: true, ..selection(ours) }
}

/// The FinService in an object, or why it cannot be read: a bad one must not stop the watch.
pub fn parse(mut object: DynamicObject) -> Parsed {
    object.metadata.managed_fields = None;
    let generation = object.metadata.generation;
    let metadata = object.metadata;
    let mut data = object.data;
    let spec = data["spec"].take();
    let result = raw_object::parse::<FinServiceSpec>("spec", &spec);
    // A status that an older or newer operator wrote in another form is simply written anew.
    let status = serde_json::from_value(data["status"].take()).ok();
    match result {
        Ok(spec) => Parsed::Good(Arc::new(FinService { metadata, spec, status })),
        Err(error) => {
            let spec = unreadable::readable_service(&spec);
            let readable = spec.map(|spec| FinService { metadata, spec, status: status.clone() });
            let readable = Readable(readable.map(Arc::new));
            Parsed::Bad(Arc::new(Unreadable { why: error.to_string(), generation, status, readable }))
        }
    }
}
