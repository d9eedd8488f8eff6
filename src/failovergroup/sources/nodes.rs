//! Counts the nodes of this site, and what its pods ask of them, as long as there is a group.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch::Sender;

use super::group::Sources;
use crate::cloudcluster::nodes::count;
use crate::cloudcluster::view::NodesView;
use crate::runtime::key::Key;
use crate::runtime::queue::Lane;

/// How often. Nodes come and go in minutes.
const EVERY: Duration = Duration::from_secs(60);

/// Counts for ever.
pub async fn run(mut sources: Sources, counted: Arc<Sender<Option<NodesView>>>) {
    for round in 0u32.. {
        let Ok(groups) =
            sources.specs.wait_for(|specs| !specs.is_empty()).await.map(|specs| Arc::clone(&specs))
        else {
            return;
        };
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
        sources.rest(EVERY, round).await;
    }
}
