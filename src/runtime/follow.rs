//! List and watch of one kind, what client-go calls a reflector: a list, then a watch from there, and a relist after a
//! fault, as long as the process lives.
//!
//! Not kube's `watcher`, for what a cold start costs with many objects. Its streaming lists send each object as
//! an event of its own, for which the API server encodes it twice; its pages are read from etcd, all but the first.
//! A list without pages is answered from the API server's memory in one go, and is read here while it arrives, so
//! that neither end holds it as a whole.

use super::permits::{LISTS_AT_ONCE, Permits};
use crate::runtime::key::key_of;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::{AsyncBufRead, AsyncBufReadExt, Stream, StreamExt, TryStreamExt};
use http::Request;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ApiResource, DynamicObject, GetParams, ListParams, WatchEvent, WatchParams};
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::DefaultBackoff;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::runtime::items::{Items, ItemsError};
use crate::runtime::key::Key;
use crate::runtime::raw_object::RawObject;

/// Of how many objects one may be unknown, for each to be read alone: to the API server that costs as much as a few
/// objects of a list.
const FEW: usize = 4;

/// How long a list may stand still before it is given up. The API server's own limit for a whole one.
const STALLED: Duration = Duration::from_secs(60);

/// After which time the API server is to end a watch, so that it is begun anew, perhaps at another one.
const WATCH: Duration = Duration::from_secs(290);

/// How long after that a watch that says nothing counts as cut off.
const MARGIN: Duration = Duration::from_secs(5);

/// How long a watch lasts at least until the next one is begun.
const SHORT: Duration = Duration::from_secs(1);

/// A change that a watch tells of.
pub enum Change<K> {
    /// It is new or has changed.
    Is(K),
    /// It is gone.
    Gone(K),
    /// A new list has been read in full: what is not in it is gone.
    Relisted(HashSet<Key>),
}

/// Which objects are followed, and how much of them.
#[derive(Clone, Default)]
pub struct Selection {
    /// Only those with these labels.
    pub labels: Option<String>,
    /// Only those with these fields.
    pub fields: Option<String>,
    /// Only the metadata of each.
    pub metadata: bool,
    /// Of which objects a list need tell the metadata alone, the rest being known.
    pub known: Option<Known>,
}

/// Tells by its metadata whether all else of an object is known already.
#[derive(Clone)]
pub struct Known {
    /// What is followed.
    pub resource: ApiResource,
    /// Whether it is.
    pub is: Arc<dyn Fn(&ObjectMeta) -> bool + Send + Sync>,
}

impl Known {
    /// One that is not known, as a whole; `None` if it is gone.
    async fn read<K: DeserializeOwned>(&self, client: &Client, key: Key) -> Result<Option<K>, Fault> {
        let path = DynamicObject::url_path(&self.resource, Some(&key.namespace));
        let request = kube::core::Request::new(path).get(&key.name, &GetParams::default())?;
        match client.request(request).await {
            Ok(object) => Ok(Some(object)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Why following is interrupted.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error("the request cannot be made: {0}")]
    Request(#[from] kube::core::request::Error),
    #[error("a list broke off: {0}")]
    Read(#[from] std::io::Error),
    #[error(transparent)]
    Items(#[from] ItemsError),
    #[error("a list stood still for {STALLED:?}")]
    Stalled,
}

impl Fault {
    fn code(&self) -> Option<u16> {
        match self {
            Self::Api(kube::Error::Api(status)) => Some(status.code),
            _ => None,
        }
    }

    /// Whether the version to watch from is of no use: it is too old (410), or one that the API server has not
    /// reached and may never reach, etcd having been restored (504).
    fn asks_for_a_list(&self) -> bool {
        matches!(self.code(), Some(410 | 504))
    }
}

struct Follower<'a, K, F> {
    client: Client,
    request: kube::core::Request,
    selection: Selection,
    permits: &'a Permits,
    what: &'static str,
    backoff: DefaultBackoff,
    failing: bool,
    on: F,
    kind: std::marker::PhantomData<fn() -> K>,
}

/// Follows the objects of `api` for ever; it returns only if the store behind the API server was put back to an older
/// state. `first` is told once a first list has been read in full.
pub async fn follow<K>(
    api: Api<K>,
    selection: Selection,
    permits: &Permits,
    what: &'static str,
    first: oneshot::Sender<()>,
    on: impl FnMut(Change<K>) + Send,
) where
    K: Resource + Clone + DeserializeOwned + Send,
{
    let request = kube::core::Request::new(api.resource_url());
    let kind = std::marker::PhantomData;
    let (client, backoff) = (api.into_client(), DefaultBackoff::default());
    let mut follower =
        Follower { client, request, selection, permits, what, backoff, failing: false, on, kind };
    let mut first = Some(first);
    let mut newest: Option<u64> = None;
    loop {
        let mut version = match follower.list().await {
            Ok(version) => version,
            Err(fault) => {
                follower.rest(&fault).await;
                continue;
            }
        };
        // A list is never older than what was told before it, unless the store behind the API server was put back. Then
        // nothing that is remembered holds, of no kind: whoever follows ends, and begins with nothing.
        if went_back(newest, &version) {
            tracing::error!(
                what,
                version,
                before = newest,
                "the API server's store is older than before, as after a restore from a backup; the process ends, and \
                 reads everything anew when it starts again"
            );
            return;
        }
        if let Some(first) = first.take() {
            let _ = first.send(());
        }
        loop {
            newest = newest.max(version.parse().ok());
            let began = Instant::now();
            let Err(fault) = follower.watch(&mut version).await else {
                // One that ends at once, as a broken proxy may have it, is not begun anew at once.
                tokio::time::sleep(SHORT.saturating_sub(began.elapsed())).await;
                continue;
            };
            newest = newest.max(version.parse().ok());
            follower.rest(&fault).await;
            if fault.asks_for_a_list() {
                break;
            }
        }
    }
}

/// Whether a list of that version is older than what was told before.
fn went_back(newest: Option<u64>, version: &str) -> bool {
    newest.zip(version.parse().ok()).is_some_and(|(newest, version): (u64, u64)| version < newest)
}

/// Follows all objects of kind `K` for ever, in a namespace or in all of them, as they lie there: whoever takes them reads
/// each by itself, so that one which cannot be read harms no other.
pub async fn follow_kind<K: Resource<DynamicType = ()>>(
    client: &Client,
    namespace: Option<&str>,
    permits: &Permits,
    what: &'static str,
    first: oneshot::Sender<()>,
    on: impl FnMut(Change<RawObject>) + Send,
) {
    let resource = ApiResource::erase::<K>(&());
    let api: Api<RawObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    follow(api, Selection::default(), permits, what, first, on).await;
}

impl<K, F> Follower<'_, K, F>
where
    K: Resource + Clone + DeserializeOwned + Send,
    F: FnMut(Change<K>) + Send,
{
    /// Reads all objects, and returns the version from which to watch.
    async fn list(&mut self) -> Result<String, Fault> {
        let Self { client, request, selection, permits, on, .. } = self;
        // The most recent state, which the API server knows without etcd: `resourceVersion=0` could be older than
        // what was seen before.
        let params = ListParams {
            label_selector: selection.labels.clone(),
            field_selector: selection.fields.clone(),
            ..ListParams::default()
        };
        let mut seen = HashSet::new();
        let _permit = permits.list().await;
        if let Some(known) = &selection.known {
            let mut unknown = Vec::new();
            let version = read(client, request.list_metadata(&params)?, |object: K| {
                let key = key_of(object.meta());
                if (known.is)(object.meta()) {
                    seen.insert(key);
                    on(Change::Is(object));
                } else {
                    unknown.push(key);
                }
            })
            .await?;
            if unknown.len() * FEW <= seen.len() + unknown.len() {
                let reads = futures::stream::iter(unknown).map(|key| known.read(client, key));
                let objects: Vec<Option<K>> = reads.buffer_unordered(LISTS_AT_ONCE).try_collect().await?;
                for object in objects.into_iter().flatten() {
                    seen.insert(key_of(object.meta()));
                    on(Change::Is(object));
                }
                on(Change::Relisted(seen));
                return Ok(version);
            }
            seen.clear();
        }
        let request = match selection.metadata {
            true => request.list_metadata(&params)?,
            false => request.list(&params)?,
        };
        let version = read(client, request, |object: K| {
            seen.insert(key_of(object.meta()));
            on(Change::Is(object));
        })
        .await?;
        on(Change::Relisted(seen));
        Ok(version)
    }

    /// Tells of changes until the API server ends the watch in an orderly way; `version` moves along.
    async fn watch(&mut self, version: &mut String) -> Result<(), Fault> {
        let params = WatchParams {
            label_selector: self.selection.labels.clone(),
            field_selector: self.selection.fields.clone(),
            timeout: Some(WATCH.as_secs() as u32),
            bookmarks: true,
            send_initial_events: false,
        };
        let request: Request<Vec<u8>> = match self.selection.metadata {
            true => self.request.watch_metadata(&params, version)?,
            false => self.request.watch(&params, version)?,
        };
        let mut events = std::pin::pin!(plain_stream(self.client.request_events::<K>(request).await?));
        while let Ok(Some(event)) = tokio::time::timeout(WATCH + MARGIN, events.next()).await {
            let change = match event? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    advance(version, object.meta());
                    Some(Change::Is(object))
                }
                WatchEvent::Deleted(object) => {
                    advance(version, object.meta());
                    Some(Change::Gone(object))
                }
                WatchEvent::Bookmark(bookmark) => {
                    *version = bookmark.metadata.resource_version;
                    None
                }
                WatchEvent::Error(status) => return Err(kube::Error::Api(status).into()),
            };
            self.works();
            if let Some(change) = change {
                (self.on)(change);
            }
        }
        Ok(())
    }

    /// A watch has said something. A list alone does not show that: after it the watch may still be refused, and
    /// lists would follow each other without a pause.
    fn works(&mut self) {
        self.failing = false;
        self.backoff.reset();
    }

    /// Says what is wrong, once, and waits before the next attempt.
    async fn rest(&mut self, fault: &Fault) {
        let what = self.what;
        if self.failing {
            tracing::debug!(error = %fault, what, "a watch is still broken");
        } else if fault.code() == Some(403) {
            tracing::error!(
                error = %fault,
                what,
                "this operator may not watch them, and does nothing before it can: give it the right that the chart's ClusterRole names"
            );
        } else {
            tracing::warn!(error = %fault, what, "a watch broke; it is started again");
        }
        self.failing = true;
        tokio::time::sleep(self.backoff.next().unwrap_or(MARGIN)).await;
    }
}

/// Reads a list while it arrives. Returns its version.
async fn read<K: DeserializeOwned>(
    client: &Client,
    request: Request<Vec<u8>>,
    mut each: impl FnMut(K),
) -> Result<String, Fault> {
    let mut body = std::pin::pin!(client.request_stream(request).await?);
    let mut items = Items::default();
    loop {
        let piece = tokio::time::timeout(STALLED, body.fill_buf()).await.map_err(|_| Fault::Stalled)??;
        let length = piece.len();
        if length == 0 {
            items.end();
        }
        items.push(piece);
        while let Some(object) = items.take::<K>()? {
            each(object);
        }
        if length == 0 {
            return Ok(items.version()?);
        }
        body.as_mut().consume(length);
    }
}

/// Says to the compiler what the items of kube's stream are.
fn plain_stream<K>(
    events: impl Stream<Item = kube::Result<WatchEvent<K>>>,
) -> impl Stream<Item = kube::Result<WatchEvent<K>>> {
    events
}

fn advance(version: &mut String, metadata: &ObjectMeta) {
    if let Some(now) = &metadata.resource_version {
        version.clone_from(now);
    }
}

#[cfg(test)]
#[path = "follow_tests.rs"]
mod tests;
