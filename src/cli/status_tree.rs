//! A FinService and all that belongs to it, as people read it. Pure.

use serde::Serialize;
use serde_json::Value;

use crate::api::finservice::image_without_registry;
use crate::api::labels::{REVISION_LABEL, VERSION_LABEL};
use crate::api::{CanaryRollout, FinService, Problem};
use crate::finservice::children::observed::{is_unclaimed, refusal};
use crate::finservice::children::template::label_value;
use crate::finservice::index::pod_words::why;
use crate::finservice::index::slim_pod::SlimPod;
use crate::terminal::words::{command, hang};

/// Why a pod that is to go is not Ready.
const ENDS: &str = "it is ending";
/// The reason of a FinService that no operator has looked at as it is specified now.
const NOT_SEEN: &str = "NotSeen";

/// All that was read of a FinService.
#[derive(Clone, Debug, Default)]
pub struct Read {
    /// The FinService.
    pub service: Option<FinService>,
    /// Its CanaryRollout.
    pub rollout: Option<CanaryRollout>,
    /// Its Deployments.
    pub deployments: Vec<Value>,
    /// Its pods.
    pub pods: Vec<Value>,
    /// Its HTTPRoutes.
    pub routes: Vec<Value>,
    /// The Gateway of Istio that it names, as namespace/name, if there is none.
    pub no_gateway: Option<String>,
}

/// What is shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown {
    /// Namespace and name.
    pub service: String,
    /// The condition Ready: its status, reason and message.
    pub ready: [String; 3],
    /// Its revisions that have pods, or serve.
    pub revisions: Vec<Revision>,
    /// Where its rollout stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<String>,
    /// What gateways say of its routes, where that is no good news.
    pub routes: Vec<String>,
    /// What is wrong, worst first.
    pub problems: Vec<Problem>,
    /// What to type next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A revision.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// Its hash.
    pub hash: String,
    /// What people call it.
    pub release: String,
    /// What it is: stable, or the canary and its weight.
    pub role: String,
    /// Pods Ready, and asked for.
    pub pods_ready: [i64; 2],
    /// Its pods.
    pub pods: Vec<Pod>,
}

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Whether it is Ready.
    pub ready: bool,
    /// Why it is not, in the words of scheduler and kubelet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// How often its containers were started again.
    pub restarts: i64,
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn items<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn label<'a>(value: &'a Value, key: &str) -> &'a str {
    value["metadata"]["labels"].get(key).and_then(Value::as_str).unwrap_or_default()
}

/// What is to be shown of what was read.
pub fn shown(read: &Read) -> Shown {
    let Some(service) = &read.service else { return Shown::default() };
    let (namespace, name) = (
        service.metadata.namespace.as_deref().unwrap_or_default(),
        service.metadata.name.as_deref().unwrap_or_default(),
    );
    let status = service.status.clone().unwrap_or_default();
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
    let unseen = |what: &str| ["Unknown", NOT_SEEN, what].map(str::to_owned);
    // What was said of an older spec is no answer about this one.
    let ready = match ready {
        None => unseen("no operator has looked at it yet: does one run in this cluster?"),
        Some(ready)
            if ready.observed_generation.or(status.observed_generation) != service.metadata.generation =>
        {
            unseen("no operator has looked at its newest spec yet; what follows is about an older one")
        }
        Some(ready) => [ready.status.clone(), ready.reason.clone(), ready.message.clone()],
    };
    let revisions = revisions(read);
    let mut routes: Vec<String> = read.routes.iter().filter_map(refusals).collect();
    let absent =
        |gateway| format!("Gateway {gateway}: there is none; create it, or correct spec.ingress.gateway");
    routes.extend(read.no_gateway.iter().map(absent));
    let rollout = read.rollout.as_ref().map(|rollout| {
        let status = rollout.status.clone().unwrap_or_default();
        let [phase, step] = [status.phase, status.step].map(Option::unwrap_or_default);
        let message = status.message.unwrap_or_default();
        format!("{phase} {step}: {message}").trim_end_matches([':', ' ']).to_owned()
    });
    let mut shown = Shown {
        service: format!("{namespace}/{name}"),
        ready,
        revisions,
        rollout,
        routes,
        problems: status.problems,
        next: None,
    };
    shown.next = next(&shown, read, namespace);
    shown
}

fn revisions(read: &Read) -> Vec<Revision> {
    let status = read.service.as_ref().and_then(|service| service.status.clone()).unwrap_or_default();
    let in_play = status.revisions.unwrap_or_default();
    let weight = read.rollout.as_ref().and_then(|rollout| rollout.status.as_ref()?.weight.clone());
    let role = |hash: &str| {
        if in_play.stable.as_deref() == Some(hash) {
            "stable".to_owned()
        } else if in_play.next.as_deref() == Some(hash) {
            weight
                .as_ref()
                .map_or_else(|| "on its way in".to_owned(), |weight| format!("canary, {} %", weight.asked))
        } else {
            "retired".to_owned()
        }
    };
    let mut revisions: Vec<Revision> = Vec::new();
    for deployment in &read.deployments {
        let hash = label(deployment, REVISION_LABEL);
        let asked = deployment["spec"]["replicas"].as_i64().unwrap_or(1);
        let role = role(hash);
        let pods: Vec<Pod> =
            read.pods.iter().filter(|pod| label(pod, REVISION_LABEL) == hash).map(pod).collect();
        if role == "retired" && asked == 0 && pods.is_empty() {
            continue;
        }
        revisions.push(Revision {
            hash: hash.to_owned(),
            release: release(&deployment["spec"]["template"]),
            role,
            // Counted of the pods that are shown: what the Deployment counts is of another moment, and of pods that end, too.
            pods_ready: [pods.iter().filter(|pod| pod.ready).count() as i64, asked],
            pods,
        });
    }
    let rank = |revision: &Revision| match revision.role.as_str() {
        "stable" => 0,
        "retired" => 2,
        _ => 1,
    };
    revisions.sort_by(|one, other| (rank(one), &one.hash).cmp(&(rank(other), &other.hash)));
    revisions
}

/// What people call the revision with this template. Its label holds less signs than the image may have.
fn release(template: &Value) -> String {
    let label = label(template, VERSION_LABEL);
    let images = items(template, "/spec/containers").filter_map(|container| container["image"].as_str());
    let mut releases = images.map(image_without_registry);
    releases.find(|release| label_value(release) == label).unwrap_or(label).to_owned()
}

/// A pod, and why it is not Ready.
fn pod(object: &Value) -> Pod {
    let condition =
        |kind: &str| items(object, "/status/conditions").find(|condition| condition["type"] == kind);
    let ready = condition("Ready").is_some_and(|ready| ready["status"] == "True");
    let containers =
        || items(object, "/status/initContainerStatuses").chain(items(object, "/status/containerStatuses"));
    let restarts = containers().filter_map(|container| container["restartCount"].as_i64()).sum();
    let known = serde_json::from_value::<SlimPod>(object.clone()).ok();
    let ends = object["metadata"].get("deletionTimestamp").is_some_and(|at| !at.is_null());
    // Nobody is sent to one that is to go, Ready or not.
    let ready = ready && !ends;
    let why = known.as_ref().and_then(why);
    let why = why.or_else(|| {
        if ends {
            return Some(ENDS.to_owned());
        }
        let runs = items(object, "/status/containerStatuses")
            .all(|container| container.pointer("/state/running").is_some());
        let known = object.pointer("/status/containerStatuses").is_some();
        Some(
            if runs && known { "it runs, and its readiness probe has not passed" } else { "it starts" }
                .to_owned(),
        )
    });
    let name = text(object, "/metadata/name").to_owned();
    Pod { name, ready, why: why.filter(|_| !ready), restarts }
}

/// What gateways say against a route, as the operator reads it.
fn refusals(route: &Value) -> Option<String> {
    let name = format!("{} {}", text(route, "/kind"), text(route, "/metadata/name"));
    if is_unclaimed(route) {
        let gateway = text(route, "/spec/parentRefs/0/name");
        return Some(format!("{name}: no gateway has taken it; is there a Gateway {gateway}?"));
    }
    let generation = route["metadata"]["generation"].as_i64().unwrap_or_default();
    refusal(route, generation).map(|words| format!("{name}: {words}"))
}

/// What to type next: what a remedy says, else where the reason is told at length.
fn next(shown: &Shown, read: &Read, namespace: &str) -> Option<String> {
    let commands = |text: &str| -> Option<String> {
        let command = text.split('`').skip(1).step_by(2).find(|part| part.starts_with("kubectl"))?;
        Some(command.to_owned())
    };
    let of_problem = shown.problems.iter().find_map(|problem| commands(&problem.remedy));
    let mut pods = shown.revisions.iter().flat_map(|revision| &revision.pods);
    let of_pod = pods
        .find(|pod| !pod.ready && pod.why.as_deref() != Some(ENDS))
        .map(|pod| format!("kubectl -n {namespace} describe pod {}", pod.name));
    let of_rollout = read
        .rollout
        .as_ref()
        .filter(|_| shown.rollout.as_deref().is_some_and(|words| !words.starts_with("Settled")));
    let of_rollout = of_rollout.and_then(|rollout| rollout.metadata.name.as_deref());
    let of_rollout =
        of_rollout.map(|rollout| format!("kubectl banyan canary status {rollout} -n {namespace}"));
    let unseen = (shown.ready[1] == NOT_SEEN).then(|| "kubectl -n banyan-system get pods".to_owned());
    unseen.or(of_problem).or(of_pod).or(of_rollout)
}

/// The tree, on a terminal of that width.
pub fn tree(shown: &Shown, width: Option<usize>) -> String {
    let [ready, reason, message] = &shown.ready;
    let first = format!("{}  Ready={ready} ", shown.service);
    let mut text = hang(&first, "  ", &format!("{reason}: {message}"), width);
    let mut branches: Vec<(String, Vec<String>)> = Vec::new();
    for revision in &shown.revisions {
        let [ready, asked] = revision.pods_ready;
        let head = format!(
            "revision {} ({}), {}: {ready} of {asked} pods Ready",
            revision.hash, revision.release, revision.role
        );
        branches.push((head, revision.pods.iter().map(line).collect()));
    }
    branches.extend(shown.rollout.iter().map(|rollout| (format!("rollout {rollout}"), Vec::new())));
    branches.extend(shown.routes.iter().map(|route| (route.clone(), Vec::new())));
    for problem in &shown.problems {
        let head = format!("{:?} {}: {}", problem.severity, problem.source, problem.message);
        branches.push((head, vec![problem.remedy.clone()]));
    }
    let turn = |is_last: bool| if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
    for (index, (head, leaves)) in branches.iter().enumerate() {
        let (first, beside) = turn(index + 1 == branches.len());
        // The line down to the leaves goes on beside what is broken.
        let down = if leaves.is_empty() { "   " } else { "│  " };
        text.push_str(&hang(first, &format!("{beside}{down}"), head, width));
        for (at, leaf) in leaves.iter().enumerate() {
            let (first, then) = turn(at + 1 == leaves.len());
            text.push_str(&hang(&format!("{beside}{first}"), &format!("{beside}{then}"), leaf, width));
        }
    }
    if let Some(next) = &shown.next {
        text.push_str(&command("next: ", next, width));
    }
    text
}

fn line(pod: &Pod) -> String {
    let restarts = match pod.restarts {
        0 => String::new(),
        1 => ", started again once".to_owned(),
        times => format!(", started again {times} times"),
    };
    match &pod.why {
        Some(why) => format!("pod {}: not Ready{restarts}: {why}", pod.name),
        None => format!("pod {}: Ready{restarts}", pod.name),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(status: Value) -> Pod {
        pod(&json!({"metadata": {"name": "app-x-1"}, "status": status}))
    }

    /// Row 5.9: the scheduler's and the kubelet's own sentence, with the pod's name.
    #[test]
    fn a_pod_that_does_not_start_says_why_in_their_own_words() {
        let unscheduled =
            of(json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/3 nodes are available: persistentvolumeclaim \"disk\" not found."}]}));
        assert_eq!(
            unscheduled.why.as_deref(),
            Some("Unschedulable: 0/3 nodes are available: persistentvolumeclaim \"disk\" not found.")
        );
        let waiting = |reason: &str, message: &str| {
            of(
                json!({"containerStatuses": [{"name": "app", "state": {"waiting": {"reason": reason, "message": message}}}]}),
            )
        };
        let config =
            waiting("CreateContainerConfigError", "container has runAsNonRoot and image will run as root");
        assert_eq!(
            config.why.as_deref(),
            Some("CreateContainerConfigError: container has runAsNonRoot and image will run as root")
        );
        assert_eq!(waiting("ContainerCreating", "").why.as_deref(), Some("it starts"));
        let killed = of(json!({"containerStatuses": [{"name": "app", "restartCount": 4,
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
            "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]}));
        assert_eq!(
            killed.why.as_deref(),
            Some("CrashLoopBackOff: container app ended with exit code 137 (OOMKilled)")
        );
        assert_eq!(killed.restarts, 4);
        let slow = of(json!({"containerStatuses": [{"name": "app", "state": {"running": {}}}]}));
        assert_eq!(slow.why.as_deref(), Some("it runs, and its readiness probe has not passed"));
        let ends = pod(&json!({"metadata": {"name": "app-x-1", "deletionTimestamp": "2026-01-01T00:00:00Z"},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}}));
        assert_eq!((ends.ready, ends.why.as_deref()), (false, Some(ENDS)));
    }

    #[test]
    fn a_release_is_called_as_everywhere_else() {
        let of = |label: &str, image: &str| {
            release(
                &json!({"metadata": {"labels": {VERSION_LABEL: label}}, "spec": {"containers": [{"image": image}]}}),
            )
        };
        assert_eq!(of("pay_app_1.0", "registry.example/pay/app:1.0"), "pay/app:1.0");
        // One that has a version is called by that.
        assert_eq!(of("1.0", "registry.example/pay/app:1.0"), "1.0");
    }

    /// Row 5.5.
    #[test]
    fn a_gateway_that_is_not_there_or_refuses_is_told() {
        let service: FinService =
            serde_json::from_value(json!({"apiVersion": "banyan.dev/v1alpha1", "kind": "FinService",
            "metadata": {"name": "app", "namespace": "pay"}, "spec": {"owner": "team", "image": "app:2"}}))
            .expect("a FinService");
        let read = Read {
            service: Some(service),
            no_gateway: Some("istio-system/publik".to_owned()),
            ..Read::default()
        };
        assert_eq!(
            shown(&read).routes,
            ["Gateway istio-system/publik: there is none; create it, or correct spec.ingress.gateway"]
        );
        let route = |parents: Value| {
            refusals(&json!({"kind": "HTTPRoute", "metadata": {"name": "app"},
                "spec": {"parentRefs": [{"name": "public"}]}, "status": {"parents": parents}}))
        };
        assert_eq!(
            route(json!([])).as_deref(),
            Some("HTTPRoute app: no gateway has taken it; is there a Gateway public?")
        );
        let refused = json!([{"conditions": [
            {"type": "Accepted", "status": "False", "reason": "NotAllowedByListeners", "message": "namespace pay may not"},
            {"type": "ResolvedRefs", "status": "True", "reason": "ResolvedRefs", "message": ""},
        ]}]);
        assert_eq!(
            route(refused).as_deref(),
            Some("HTTPRoute app: Accepted is False (NotAllowedByListeners): namespace pay may not")
        );
    }

    #[test]
    fn the_tree_ends_with_what_to_type() {
        let service: FinService = serde_json::from_value(json!({
            "apiVersion": "banyan.dev/v1alpha1", "kind": "FinService",
            "metadata": {"name": "app", "namespace": "pay"},
            "spec": {"owner": "team", "image": "app:2"},
            "status": {
                "conditions": [{"type": "Ready", "status": "True", "reason": "RollingOut", "message": "it serves, and a new revision gets ready",
                    "lastTransitionTime": "2026-01-01T00:00:00Z"}],
                "revisions": {"stable": "aaa", "next": "bbb"},
                "problems": [{"source": "spec.access", "severity": "Warning", "message": "a ring", "remedy": "Break it."}],
            },
        }))
        .expect("a FinService");
        let deployment = |hash: &str, release: &str, ready: i64| {
            json!({"metadata": {"labels": {"banyan.dev/revision": hash}}, "status": {"readyReplicas": ready},
                "spec": {"replicas": 1, "template": {"metadata": {"labels": {"app.kubernetes.io/version": release}}}}})
        };
        let pod = |name: &str, hash: &str, status: Value| json!({"metadata": {"name": name, "labels": {"banyan.dev/revision": hash}}, "status": status});
        let pulls = json!({"containerStatuses": [{"name": "app", "state": {"waiting":
            {"reason": "ImagePullBackOff", "message": "manifest unknown"}}}]});
        let read = Read {
            service: Some(service),
            deployments: vec![deployment("bbb", "2", 0), deployment("aaa", "1", 1)],
            pods: vec![
                pod("app-aaa-1", "aaa", json!({"conditions": [{"type": "Ready", "status": "True"}]})),
                pod("app-bbb-1", "bbb", pulls),
            ],
            ..Read::default()
        };
        let expected = "\
pay/app  Ready=True RollingOut: it serves, and a new revision gets ready
├─ revision aaa (1), stable: 1 of 1 pods Ready
│  └─ pod app-aaa-1: Ready
├─ revision bbb (2), on its way in: 0 of 1 pods Ready
│  └─ pod app-bbb-1: not Ready: ImagePullBackOff: manifest unknown
└─ Warning spec.access: a ring
   └─ Break it.
next: kubectl -n pay describe pod app-bbb-1
";
        assert_eq!(tree(&shown(&read), None), expected);
        assert_eq!(tree(&shown(&read), Some(80)), expected);
        let narrow = "\
pay/app  Ready=True RollingOut: it serves, and
  a new revision gets ready
├─ revision aaa (1), stable: 1 of 1 pods Ready
│  └─ pod app-aaa-1: Ready
├─ revision bbb (2), on its way in: 0 of 1 pods
│  │  Ready
│  └─ pod app-bbb-1: not Ready:
│     ImagePullBackOff: manifest unknown
└─ Warning spec.access: a ring
   └─ Break it.
next: kubectl -n pay describe pod app-bbb-1
";
        assert_eq!(tree(&shown(&read), Some(47)), narrow);
    }
}
