//! Writes what was decided: the status of a CloudCluster, and an Event where that turns.

use std::sync::Mutex;

use jiff::Timestamp;

use super::decide::Decision;
use super::index::{Index, Site};
use super::status;
use crate::api::CloudCluster;
use crate::api::notice::{Notice, turned};
use crate::runtime::context::Context;
use crate::runtime::events;
use crate::runtime::key::Key;
use crate::runtime::lock::lock;

/// Writes the status, if it differs. Returns whether it did.
///
/// # Errors
/// If the API server does not answer, or refuses.
pub async fn act(
    context: &Context,
    index: &Mutex<Index>,
    key: &Key,
    site: &Site,
    decision: Decision,
) -> Result<bool, kube::Error> {
    let wanted = status::status(site, decision, Timestamp::now());
    let old = site.status.as_ref();
    let written = context.statuses.write::<CloudCluster, _>(key, old, &wanted, status::same).await?;
    let Some(written) = written else { return Ok(false) };
    let old = old.map(|old| old.conditions.as_slice()).unwrap_or_default();
    for Notice { reason, note } in turned(old, &wanted.conditions) {
        let about = events::about::<CloudCluster>(&key.namespace, &key.name, site.metadata.uid.clone());
        context.events.publish(about, reason, note);
    }
    lock(index).answered(&key.name, Site::read(written.0));
    Ok(true)
}
