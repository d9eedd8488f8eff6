//! Fills the index with the CloudClusters of the operator's namespace.

use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;
use tokio::sync::watch::Sender;

use super::index::{Index, Site};
use super::links::Links;
use super::sites::Sites;
use crate::api::CloudCluster;
use crate::runtime::context::Context;
use crate::runtime::follow::{Change, follow_kind};
use crate::runtime::key::{Key, key_of};
use crate::runtime::lock::lock;
use crate::runtime::queue::{Lane, Queue};
use crate::runtime::raw_object::RawObject;

/// Follows them for ever. Each view of the sites is told in `sites`, and the ways to peers to `links`: the first time
/// once all have been read.
pub async fn watch(
    context: Context,
    index: Arc<Mutex<Index>>,
    queue: Queue<Key>,
    sites: Arc<Sender<Option<Sites>>>,
    links: Links,
) {
    let mut listed = false;
    let on = |change| {
        let mut index = lock(&index);
        match change {
            Change::Is(RawObject(object)) => {
                let key = key_of(&object.metadata);
                if index.put(&key.name, Site::read(object)) {
                    queue.add(key, Lane::Normal);
                }
            }
            Change::Gone(object) => index.gone(&key_of(&object.0.metadata).name),
            Change::Relisted(seen) => {
                index.retain(&seen.iter().map(|key| &*key.name).collect());
                listed = true;
            }
        }
        // Not before the first list is complete: what is not known yet is not absent.
        if listed {
            links.set(index.ways());
            let now = index.sites();
            sites.send_if_modified(|known| {
                let news = known.as_ref() != Some(&now);
                *known = Some(now);
                news
            });
        }
    };
    // Who waits for the first list waits for the view.
    let (first, _) = oneshot::channel();
    let Context { client, namespace, permits, .. } = &context;
    follow_kind::<CloudCluster>(client, Some(namespace), permits, "cloudclusters", first, on).await;
}
