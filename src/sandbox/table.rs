//! The FinServices of both clouds as people and as programs read them.

use kube::Client;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde::Serialize;
use serde_json::Value;

use super::error::{Context, Result};
use crate::terminal::table::columns;

/// One FinService in one cloud. Texts are empty where its status does not say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The cloud.
    pub cloud: String,
    /// Whether it is Ready as it is specified now, not as it was before.
    pub ready: bool,
    /// Why it is Ready or not: the condition's reason.
    pub reason: String,
    /// The hash of its stable revision.
    pub revision: String,
    /// The release that serves.
    pub release: String,
    /// Ready pods and wanted ones, as `3/3`.
    pub replicas: String,
    /// Its first problem, which is the worst; else what a service that is not Ready waits for.
    pub problem: String,
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
    Ok(list.iter().map(|object| row(cloud, object)).collect())
}

fn row(cloud: &str, object: &DynamicObject) -> Row {
    let text =
        |pointer: &str| object.data.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let number = |pointer: &str| object.data.pointer(pointer).and_then(Value::as_i64);
    let condition = object
        .data
        .pointer("/status/conditions")
        .and_then(Value::as_array)
        .and_then(|conditions| conditions.iter().find(|condition| condition["type"] == "Ready"))
        .unwrap_or(&Value::Null);
    let observed = condition["observedGeneration"].as_i64().or_else(|| number("/status/observedGeneration"));
    let ready = condition["status"] == "True" && observed == object.metadata.generation;
    let first = text("/status/problems/0/message");
    let problem = match (first.is_empty(), ready) {
        (false, _) => first,
        (true, true) => String::new(),
        (true, false) if condition.is_null() => "no operator has looked at it yet".into(),
        (true, false) => condition["message"].as_str().unwrap_or_default().to_owned(),
    };
    let replicas = match (number("/status/replicas/ready"), number("/status/replicas/desired")) {
        (None, None) => String::new(),
        (ready, desired) => format!("{}/{}", ready.unwrap_or(0), desired.unwrap_or(0)),
    };
    Row {
        namespace: object.metadata.namespace.clone().unwrap_or_default(),
        name: object.metadata.name.clone().unwrap_or_default(),
        cloud: cloud.to_owned(),
        ready,
        reason: condition["reason"].as_str().unwrap_or_default().to_owned(),
        revision: text("/status/revisions/stable"),
        release: text("/status/release"),
        replicas,
        problem,
    }
}

/// The rows as a table, by namespace, name and cloud; a line each, every one ended.
pub fn render(rows: &[Row]) -> String {
    const HEAD: [&str; 8] =
        ["NAMESPACE", "NAME", "CLOUD", "READY", "REVISION", "RELEASE", "REPLICAS", "PROBLEM"];
    let mut rows: Vec<&Row> = rows.iter().collect();
    rows.sort_by_key(|row| (&row.namespace, &row.name, &row.cloud));
    let mut lines: Vec<Vec<&str>> = vec![HEAD.to_vec()];
    lines.extend(rows.iter().map(|row| {
        let cells = [
            row.namespace.as_str(),
            &row.name,
            &row.cloud,
            if row.ready { "True" } else { "False" },
            &row.revision,
            &row.release,
            &row.replicas,
            row.problem.lines().next().unwrap_or_default(),
        ];
        cells.map(|cell| if cell.is_empty() { "-" } else { cell }).to_vec()
    }));
    columns(&lines, "", 3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(generation: i64, status: Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "banyan.dev/v1alpha1",
            "kind": "FinService",
            "metadata": {"name": "fraud", "namespace": "risk", "generation": generation},
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn ready_counts_only_for_the_spec_as_it_is() {
        let status = |observed| {
            json!({
                "conditions": [{"type": "Ready", "status": "True", "reason": "Serving", "observedGeneration": observed}],
                "revisions": {"stable": "6f5d8c9b7x"},
                "release": "fraud:2.0",
                "replicas": {"ready": 3, "desired": 3},
            })
        };
        let now = row("aws", &object(2, status(2)));
        assert!(now.ready);
        assert_eq!((now.replicas.as_str(), now.problem.as_str()), ("3/3", ""));
        assert!(!row("aws", &object(3, status(2))).ready);
    }

    #[test]
    fn what_has_no_status_says_so() {
        let row = row("aws", &object(1, Value::Null));
        assert!(!row.ready);
        assert_eq!(row.problem, "no operator has looked at it yet");
        assert_eq!(
            render(&[row]),
            "NAMESPACE   NAME    CLOUD   READY   REVISION   RELEASE   REPLICAS   PROBLEM\n\
             risk        fraud   aws     False   -          -         -          no operator has looked at it yet\n"
        );
    }

    #[test]
    fn the_first_problem_is_shown_also_of_a_ready_one() {
        let status = json!({
            "conditions": [{"type": "Ready", "status": "True", "observedGeneration": 1}],
            "problems": [{"message": "Istio is not installed"}, {"message": "other"}],
        });
        let row = row("aws", &object(1, status));
        assert!(row.ready);
        assert_eq!(row.problem, "Istio is not installed");
    }

    #[test]
    fn status_of_another_shape_is_no_panic() {
        let row = row("aws", &object(1, json!({"conditions": "none", "problems": 3, "replicas": []})));
        assert!(!row.ready);
    }
}
