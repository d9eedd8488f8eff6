//! Why a pod is not Ready, in the words of the scheduler and the kubelet. Pure.

use super::slim_pod::{SlimContainer, SlimPod};
use crate::api::conditions::cut;

/// Characters of such words that are kept.
const MOST: usize = 400;
/// What a container waits for in the usual course.
const USUAL: [&str; 3] = ["PodInitializing", "ContainerCreating", ""];
/// The annotation by which Istio's injector tells what it has put into a pod.
const INJECTED: &str = "sidecar.istio.io/status";
/// The annotation of pods whose connections Istio's ambient mode carries.
const REDIRECTED: &str = "ambient.istio.io/redirection";
/// The same failure by turns, and the one of the two that says why.
const PULL: [&str; 2] = ["ImagePullBackOff", "ErrImagePull"];

/// Whether a pod has no proxy of the mesh, neither its own nor its node's.
pub fn is_bare(pod: &SlimPod) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    let has = |key: &str| annotations.is_some_and(|all| all.contains_key(key));
    !has(INJECTED) && !has(REDIRECTED)
}

/// Why a pod is not Ready; nothing while it starts as pods do, or is being deleted.
pub fn why(pod: &SlimPod) -> Option<String> {
    let status = &pod.status;
    let condition = |kind: &str| status.conditions.iter().find(|condition| condition.kind == kind);
    if pod.metadata.deletion_timestamp.is_some()
        || condition("Ready").is_some_and(|ready| ready.status == "True")
    {
        return None;
    }
    let unscheduled = condition("PodScheduled")
        .filter(|scheduled| scheduled.status == "False")
        .map(|scheduled| words(&scheduled.reason, &scheduled.message));
    let refused = (status.phase.as_deref() == Some("Failed")).then(|| words(&status.reason, &status.message));
    let containers = || status.init_container_statuses.iter().chain(&status.container_statuses);
    let why = unscheduled.or(refused).or_else(|| {
        let ended = containers().find_map(ended);
        let waits = containers().find_map(|container| {
            let waiting = container.state.waiting.as_ref()?;
            let reason = waiting.reason.as_deref().unwrap_or_default();
            // What the kubelet says of it changes with each pause; why the container ended does not.
            (!USUAL.contains(&reason)).then(|| match &ended {
                Some(ended) if reason == "CrashLoopBackOff" => format!("{reason}: {ended}"),
                _ => words(&waiting.reason, &waiting.message),
            })
        });
        waits.or(ended)
    });
    why.map(|why| cut(why, MOST))
}

/// How a container ended last, if it was no success.
fn ended(container: &SlimContainer) -> Option<String> {
    let last = container.state.terminated.as_ref().or(container.last_state.terminated.as_ref())?;
    let code = last.exit_code.filter(|code| *code != 0)?;
    Some(format!(
        "container {} ended with exit code {code} ({})",
        container.name,
        words(&last.reason, &last.message)
    ))
}

fn words(reason: &Option<String>, message: &Option<String>) -> String {
    let reason = reason.as_deref().unwrap_or_default();
    match message.as_deref().map(str::trim).filter(|message| !message.is_empty()) {
        Some(message) if reason.is_empty() => message.to_owned(),
        Some(message) => format!("{reason}: {message}"),
        None => reason.to_owned(),
    }
}

/// Of two words for one failure that come by turns, those that are to be shown: an image that cannot be pulled is told by
/// what the registry said, also while the kubelet pauses.
pub fn steady(why: &mut Option<Box<str>>, older: Option<&str>) {
    let [pause, cause] = PULL;
    if let (Some(now), Some(older)) = (why.as_deref(), older)
        && now.starts_with(pause)
        && older.starts_with(cause)
    {
        *why = Some(older.into());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: Value) -> SlimPod {
        serde_json::from_value(json!({"metadata": {"name": "a"}, "status": status})).expect("a pod")
    }

    #[test]
    fn faults_5_9_scheduler_and_kubelet_are_quoted() {
        let said = |status: Value| why(&pod(status)).unwrap_or_default();
        let unscheduled = json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/3 nodes are available: persistentvolumeclaim \"journal\" not found."}]});
        assert_eq!(
            said(unscheduled),
            "Unschedulable: 0/3 nodes are available: persistentvolumeclaim \"journal\" not found."
        );
        let waiting = |reason: &str, message: &str| json!({"containerStatuses": [{"name": "app", "state": {"waiting": {"reason": reason, "message": message}}}]});
        assert_eq!(said(waiting("ErrImagePull", "not found")), "ErrImagePull: not found");
        assert_eq!(
            said(waiting("CreateContainerConfigError", "couldn't find key x in Secret pay/keys")),
            "CreateContainerConfigError: couldn't find key x in Secret pay/keys"
        );
        assert_eq!(said(waiting("ContainerCreating", "")), "");
        let crash = json!({"containerStatuses": [{"name": "app", "restartCount": 4,
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting"}},
            "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]});
        assert_eq!(said(crash), "CrashLoopBackOff: container app ended with exit code 137 (OOMKilled)");
        let evicted = json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."});
        assert_eq!(said(evicted), "Evicted: The node was low on resource: memory.");
        let init = json!({"initContainerStatuses": [{"name": "migrate", "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}]});
        assert_eq!(said(init), "container migrate ended with exit code 1 (Error)");
        assert_eq!(said(json!({"conditions": [{"type": "Ready", "status": "True"}]})), "");
    }

    #[test]
    fn words_that_come_by_turns_change_no_status() {
        let mut now: Option<Box<str>> = Some("ImagePullBackOff: Back-off pulling image".into());
        steady(&mut now, Some("ErrImagePull: not found"));
        assert_eq!(now.as_deref(), Some("ErrImagePull: not found"));
        let mut now: Option<Box<str>> = Some("Unschedulable: no".into());
        steady(&mut now, Some("ErrImagePull: not found"));
        assert_eq!(now.as_deref(), Some("Unschedulable: no"));
    }
}
