//! Writes what was decided: the status of a CloudCluster.

use std::sync::Mutex;

use jiff::Timestamp;

use super::decide::Decision;
use super::index::{Index, Site};
use super::status;
use crate::api::CloudCluster;
use crate::runtime::key::Key;
use crate::runtime::lock::lock;
use crate::runtime::status_writer::StatusWriter;

/// Writes the status, if it differs. Returns whether it did.
///
/// # Errors
/// If the API server does not answer, or refuses.
pub async fn act(
    statuses: &StatusWriter,
    index: &Mutex<Index>,
    key: &Key,
    site: &Site,
    decision: Decision,
) -> Result<bool, kube::Error> {
    let wanted = status::status(site, decision, Timestamp::now());
    let written = statuses.write::<CloudCluster, _>(key, site.status.as_ref(), &wanted, status::same).await?;
    let Some(written) = written else { return Ok(false) };
    lock(index).answered(&key.name, Site::read(written.0));
    Ok(true)
}
