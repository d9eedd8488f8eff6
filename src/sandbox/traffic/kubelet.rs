//! What a kubelet would tell the API server of a served pod: its readiness and its restarts.

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use crate::sandbox::error::{Context, Error, Result};

/// Says that a pod, by `namespace/name`, is Ready, or that its probe fails.
///
/// # Errors
/// When there is no such pod, or the API server refuses.
pub async fn set_ready(client: &Client, pod: &str, is_ready: bool) -> Result<()> {
    tell(client, pod, |pod| readiness(pod, is_ready, &now())).await
}

/// Says that the containers of a pod, by `namespace/name`, crashed and were started again, so many times.
///
/// # Errors
/// When there is no such pod, or the API server refuses.
pub async fn restarted(client: &Client, pod: &str, times: i32) -> Result<()> {
    tell(client, pod, |pod| restarts(pod, times, &now())).await
}

async fn tell(client: &Client, pod: &str, patch: impl Fn(&Pod) -> Value) -> Result<()> {
    let doing = || format!("changing the status of the pod {pod}");
    let (namespace, name) =
        pod.split_once('/').ok_or_else(|| Error::new(format!("{pod} is no namespace/name")))?;
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let read = api.get(name).await.context(doing)?;
    let patch = Patch::Strategic(patch(&read));
    api.patch_status(name, &PatchParams::default(), &patch).await.map(drop).context(doing)
}

fn now() -> String {
    jiff::Timestamp::now().to_string()
}

/// Says what a kubelet would whose probe has passed. What is gone meanwhile needs nothing said of it.
///
/// # Errors
/// When the API server has not heard it.
pub async fn make_ready(client: &Client, pod: &Pod) -> kube::Result<()> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let patch = readiness(pod, true, &now());
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    match api.patch_status(name, &PatchParams::default(), &Patch::Strategic(&patch)).await {
        // It is gone, or another of its name is there.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        told => told.map(drop),
    }
}

/// The change of a pod's status by which it becomes Ready, or is so no more.
fn readiness(pod: &Pod, is_ready: bool, now: &str) -> Value {
    let gates = pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
    let types =
        ["Ready", "ContainersReady"].into_iter().chain(gates.map(|gate| gate.condition_type.as_str()));
    let (status, reason) = if is_ready { ("True", None) } else { ("False", Some("ContainersNotReady")) };
    let condition =
        |kind| json!({"type": kind, "status": status, "lastTransitionTime": now, "reason": reason});
    let conditions: Vec<Value> = types.map(condition).collect();
    change(pod, json!({"conditions": conditions}), |container| container["ready"] = json!(is_ready))
}

/// The change of a pod's status that tells of crashes.
fn restarts(pod: &Pod, times: i32, now: &str) -> Value {
    change(pod, json!({}), |container| {
        let before = container["restartCount"].as_i64().unwrap_or_default();
        container["restartCount"] = json!(before + i64::from(times));
        container["lastState"] =
            json!({"terminated": {"exitCode": 1, "reason": "Error", "startedAt": now, "finishedAt": now}});
        container["state"] = json!({"running": {"startedAt": now}});
    })
}

/// A change of a status, and of each container's. The API server takes their list as a whole.
fn change(pod: &Pod, mut status: Value, each: impl Fn(&mut Value)) -> Value {
    let mut containers = json!(pod.status.as_ref().and_then(|status| status.container_statuses.as_ref()));
    containers.as_array_mut().into_iter().flatten().for_each(each);
    status["containerStatuses"] = containers;
    // With the uid, so that one of the same name that came meanwhile is not meant.
    json!({"metadata": {"uid": pod.metadata.uid}, "status": status})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "a-1", "namespace": "pay", "uid": "u"},
            "spec": {"readinessGates": [{"conditionType": "mesh"}], "containers": [{"name": "app"}]},
            "status": {"containerStatuses": [
                {"name": "app", "image": "i", "imageID": "", "ready": false, "restartCount": 1},
            ]},
        }))
        .unwrap()
    }

    #[test]
    fn ready_is_said_of_the_pod_its_gates_and_its_containers() {
        for (is_ready, status) in [(true, "True"), (false, "False")] {
            let patch = readiness(&pod(), is_ready, "2026-01-01T00:00:00Z");
            let conditions = patch["status"]["conditions"].as_array().unwrap();
            let kinds: Vec<&str> = conditions.iter().filter_map(|one| one["type"].as_str()).collect();
            assert_eq!(kinds, ["Ready", "ContainersReady", "mesh"]);
            assert!(conditions.iter().all(|condition| condition["status"] == status));
            assert_eq!(patch["status"]["containerStatuses"][0]["ready"], is_ready);
            assert_eq!(patch["metadata"]["uid"], "u");
        }
    }

    #[test]
    fn restarts_add_up_and_change_nothing_else() {
        let patch = restarts(&pod(), 2, "2026-01-01T00:00:00Z");
        let container = &patch["status"]["containerStatuses"][0];
        assert_eq!((&container["restartCount"], &container["ready"]), (&json!(3), &json!(false)));
        assert_eq!(patch["status"].get("conditions"), None);
    }
}
