//! Numbers of pods, and autoscalers.

use serde_json::{Map, Value, json};

use super::fields::{Fields, put, take};
use super::{Manifests, Note, Object, Weight};

/// Writes `scale`: from the autoscaler of the Deployment if there is one, else from its replicas.
pub fn read(
    fields: &mut Fields,
    deployment: &Object,
    manifests: &Manifests,
    spec: &mut Map<String, Value>,
    notes: &mut Vec<Note>,
) {
    let replicas = fields.take("/replicas");
    let autoscaler = manifests.autoscalers.iter().find(|autoscaler| {
        autoscaler.namespace == deployment.namespace
            && autoscaler.whole["spec"]["scaleTargetRef"]["name"] == deployment.name.as_str()
            && autoscaler.whole["spec"]["scaleTargetRef"]["kind"] == deployment.kind.as_str()
    });
    let scale = match autoscaler {
        Some(autoscaler) => of_autoscaler(autoscaler, notes),
        // One is what Kubernetes gives where nothing is said, and two what a FinService gives.
        None => json!({"replicas": replicas.unwrap_or_else(|| json!(1))}),
    };
    spec.insert("scale".to_owned(), scale);
}

fn of_autoscaler(autoscaler: &Object, notes: &mut Vec<Note>) -> Value {
    let mut fields = Fields::of(autoscaler);
    fields.take("/scaleTargetRef");
    let mut scale = Map::new();
    put(&mut scale, "min", fields.take("/minReplicas").unwrap_or_else(|| json!(1)));
    put(&mut scale, "max", fields.take("/maxReplicas").unwrap_or_default());
    put(&mut scale, "cpuPercent", fields.take("/targetCPUUtilizationPercentage").unwrap_or_default());
    let (mut external, mut rest) = (Vec::new(), Vec::new());
    for mut metric in fields.list("metrics") {
        let resource = metric.get("resource").or_else(|| metric.get("containerResource")).cloned();
        let percent =
            resource.as_ref().and_then(|resource| resource.pointer("/target/averageUtilization")).cloned();
        let field = match resource.as_ref().and_then(|resource| resource["name"].as_str()) {
            Some("cpu") => Some("cpuPercent"),
            Some("memory") => Some("memoryPercent"),
            _ => None,
        };
        if let (Some(field), Some(percent)) = (field, percent) {
            scale.insert(field.to_owned(), percent);
            continue;
        }
        let Some(mut of) = take(&mut metric, "/external") else {
            rest.push(metric);
            continue;
        };
        let mut read = Map::new();
        put(&mut read, "name", take(&mut of, "/metric/name").unwrap_or_default());
        put(&mut read, "labels", take(&mut of, "/metric/selector/matchLabels").unwrap_or_default());
        for key in ["value", "averageValue"] {
            put(&mut read, key, take(&mut of, &format!("/target/{key}")).unwrap_or_default());
        }
        take(&mut of, "/target/type");
        external.push(read);
        rest.push(of);
    }
    put(&mut scale, "external", external);
    fields.put_back("metrics", rest.into());
    if fields.take("/behavior").is_some() {
        fields.note(
            Weight::Changed,
            "spec.behavior",
            "Banyan's autoscalers go up at once and down by a tenth a minute",
        );
    }
    fields.note(
        Weight::Changed,
        "spec.scaleTargetRef",
        "Banyan makes one for each revision: delete this one once the FinService serves",
    );
    notes.append(&mut fields.left());
    scale.into()
}
