//! Adds entries to the record. Each write is made over the version that was read, and what stands there already is not added
//! again: so an entry whose answer was lost, or whose writer was killed, is there once.

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use super::line::{Last, Of, lines as added, number_of, pending_number};
use super::parts::{ENTRIES, MOST_BYTES, Part, lines, object, read};
use crate::api::labels::MANAGER;
use crate::runtime::context::Context;

/// How long it may take. A move waits for nothing longer than it waits for its own journal.
const DEADLINE: Duration = Duration::from_secs(10);

/// Why entries are not in the record.
#[derive(Debug, thiserror::Error)]
pub enum NotWritten {
    /// The API server.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// It took too long.
    #[error("no answer within {} s", DEADLINE.as_secs())]
    Late,
    /// This process does not lead any more, or somebody else has written meanwhile: it is tried again.
    #[error("somebody else has written it meanwhile")]
    Again,
}

/// Adds those entries of a Failover that are not there yet. Returns how many entries there are then, and the last one's hash.
///
/// # Errors
/// If they could not be added; some may have been.
pub async fn deliver(context: &Context, of: &Of<'_>, pending: &[String]) -> Result<Last, NotWritten> {
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), &context.namespace);
    let Some(_permit) = context.may_write(true).await else { return Err(NotWritten::Again) };
    add(&api, of, pending).await
}

async fn add(api: &Api<ConfigMap>, of: &Of<'_>, pending: &[String]) -> Result<Last, NotWritten> {
    let work = async {
        let parts = read(api, of.group).await?;
        let all = lines(&parts);
        let there = all.iter().filter_map(|line| number_of(line, of.uid)).max().unwrap_or(0);
        let missing: Vec<String> =
            pending.iter().filter(|text| pending_number(text) > there).cloned().collect();
        let mut last = Last::of(&all);
        let new = added(&mut last, of, &missing);
        if !new.is_empty() {
            let text: String = new.iter().flat_map(|line| [line, "\n"]).collect();
            put(api, of.group, parts.last(), text).await?;
        }
        Ok(last)
    };
    tokio::time::timeout(DEADLINE, work).await.unwrap_or(Err(NotWritten::Late))
}

/// Writes lines behind the last part, or into a new one.
async fn put(api: &Api<ConfigMap>, group: &str, last: Option<&Part>, text: String) -> Result<(), NotWritten> {
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let over = |part: &Part, change: serde_json::Value| {
        let mut patch = change;
        patch["metadata"] = json!({"resourceVersion": part.version});
        patch
    };
    let number = match last {
        None => 1,
        Some(part) if part.full => part.number + 1,
        Some(part) if part.text.len() + text.len() < MOST_BYTES => {
            let end = if part.text.is_empty() || part.text.ends_with('\n') { "" } else { "\n" };
            let change = over(part, json!({"data": {ENTRIES: format!("{}{end}{text}", part.text)}}));
            api.patch(&part.name, &params, &Patch::Merge(&change)).await.map_err(late)?;
            return Ok(());
        }
        Some(part) => {
            // From here on the API server takes nothing more for it, from whomever.
            let change = over(part, json!({"immutable": true}));
            api.patch(&part.name, &params, &Patch::Merge(&change)).await.map_err(late)?;
            part.number + 1
        }
    };
    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    api.create(&params, &object(group, number, text)).await.map_err(late)?;
    Ok(())
}

/// Whoever was slower decides anew.
fn late(error: kube::Error) -> NotWritten {
    match error {
        kube::Error::Api(status) if status.code == 409 => NotWritten::Again,
        error => NotWritten::Api(error),
    }
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;
