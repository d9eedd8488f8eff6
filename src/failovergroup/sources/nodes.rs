//! Counts the nodes of this site, and what its pods ask of them, as long as there is a group.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch::Sender;

use super::group::{Sources, rest};
use crate::cloudcluster::nodes::count;
use crate::cloudcluster::view::NodesView;
use crate::runtime::key::Key;
use crate::runtime::lock::lock;
use crate::runtime::queue::Lane;

/// How often. Nodes come and go in minutes.
const EVERY: Duration = Duration::from_secs(60);
/// How often it is looked whether there is a group, which asks nobody: the first one need not wait for a minute.
const LOOK: Duration = Duration::from_secs(2);

/// Counts for ever.
pub async fn run(sources: Sources, counted: Sender<Option<NodesView>>) {
    for round in 0u32.. {
        let mut groups = lock(&sources.index).specs();
        while groups.is_empty() {
            tokio::time::sleep(LOOK).await;
            groups = lock(&sources.index).specs();
        }
        match count(&sources.context.client, Timestamp::now()).await {
            Ok(nodes) => {
                let same = |known: &Option<NodesView>| {
                    known.as_ref().is_some_and(|known| NodesView { at: nodes.at, ..known.clone() } == nodes)
                };
                let news = !same(&counted.borrow());
                counted.send_replace(Some(nodes));
                if news {
                    let keys = groups.keys().map(|name| Key::new(&sources.context.namespace, name));
                    sources.queue.add_all(keys, Lane::Normal);
                }
            }
            Err(error) => tracing::warn!(%error, "the nodes of this site cannot be counted"),
        }
        rest(EVERY, round).await;
    }
}
