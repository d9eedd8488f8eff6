//! The FinServices of both clouds as people and as programs read them.

use std::ops::Deref;

use kube::Client;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde::Serialize;

use super::error::{Context, Result};
use crate::finservice::table::{Line, or_nothing};
use crate::terminal::table::fitted;

/// One FinService in one cloud.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// The cloud.
    pub cloud: String,
    /// What its status says there.
    #[serde(flatten)]
    pub line: Line,
}

impl Deref for Row {
    type Target = Line;

    fn deref(&self) -> &Line {
        &self.line
    }
}

/// Reads all FinServices of a cloud, however they are formed.
///
/// # Errors
/// When the API server does not answer, or has no FinServices.
pub async fn read(client: &Client, cloud: &str) -> Result<Vec<Row>> {
    let resource = ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk("banyan.dev", "v1alpha1", "FinService"),
        "finservices",
    );
    let list = Api::<DynamicObject>::all_with(client.clone(), &resource)
        .list(&ListParams::default())
        .await
        .context(|| format!("listing the FinServices of {cloud}"))?;
    Ok(list.iter().map(|object| Row { cloud: cloud.to_owned(), line: Line::of(object) }).collect())
}

/// The rows as a table, by namespace, name and cloud, on a terminal of that width; every line is ended.
pub fn render(rows: &[&Row], width: Option<usize>) -> String {
    const HEAD: [&str; 9] =
        ["NAMESPACE", "NAME", "CLOUD", "READY", "REASON", "PODS", "RELEASE", "REVISION", "PROBLEM"];
    // What serves is told by `banyan status` as well; what is wrong must be readable here.
    const SPARE: [usize; 2] = [7, 6];
    let mut rows = rows.to_vec();
    rows.sort_by_key(|row| (&row.namespace, &row.name, &row.cloud));
    let mut lines: Vec<Vec<String>> = vec![HEAD.map(str::to_owned).to_vec()];
    lines.extend(rows.iter().map(|row| {
        let words = row.words();
        let cells = [
            &*row.namespace,
            &row.name,
            &row.cloud,
            row.state(),
            &row.reason,
            &row.replicas,
            &row.release,
            &row.revision,
            &words,
        ];
        cells.map(or_nothing).to_vec()
    }));
    fitted(&lines, "", 3, &SPARE, width)
}
