//! The nodes of a cloud, and the Stages by which kwok plays their kubelets.

use futures::TryStreamExt;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::Node;
use kube::Client;
use kube::api::{Api, ListParams, PostParams};
use serde_json::json;

use super::error::{Context, Result};
use super::install;

/// How nodes become and stay Ready.
const NODE_STAGES: &str = include_str!("stages/nodes.yaml");
/// How pods run, fail, are slow and end.
const POD_STAGES: &str = include_str!("stages/pods.yaml");

/// What Istio's injector does to pods, as far as anybody here reads it.
const INJECTOR: &str = include_str!("stages/injector.yaml");
/// The Gateway of Istio that the example platform names.
const GATEWAY: &str = include_str!("stages/istio-gateway.yaml");
/// What images need of a pod.
const ROOT_IMAGES: &str = include_str!("stages/root-images.txt");

/// Annotation on a pod that makes it fail: `Crash` (or `"true"`), `Memory` and `Pull`. It is never Ready; with any other value it
/// is not begun, and says so.
pub const FAIL: &str = "sandbox.banyan.dev/fail";
/// What [`FAIL`] can be.
pub const FAILS: [&str; 4] = ["true", "Crash", "Memory", "Pull"];
/// Annotation on a pod: how long it takes to be Ready, as Go writes durations (`5s`).
pub const READY_AFTER: &str = "sandbox.banyan.dev/ready-after";

/// How many pods a node takes. A kubelet's limit is 110; with no kubelet behind them,
/// six nodes carry the pods of ten thousand services.
const PODS: u32 = 10_000;

/// The Stages that kwok plays, as YAML.
///
/// Where pods are `served` by somebody who says when they are Ready, kwok only lets them run. It also keeps one that
/// is to go for as long as the `preStop` of its first container sleeps, as a kubelet would: proxies need that time.
pub(super) fn stages(served: bool) -> Result<String> {
    let pod_stages = POD_STAGES.replace("$WOULD_BE_ROOT", &would_be_root());
    if !served {
        return Ok(format!("{NODE_STAGES}---\n{pod_stages}"));
    }
    let mut text = NODE_STAGES.to_owned();
    for mut stage in install::documents("stages/pods.yaml", &pod_stages)? {
        match stage["metadata"]["name"].as_str() {
            Some("banyan-pod-ready" | "banyan-pod-slow-ready") => continue,
            // What runs, but is not Ready: so are all of them at first.
            Some("banyan-pod-slow") => {
                if let Some(wanted) = stage["spec"]["selector"]["matchExpressions"].as_array_mut() {
                    wanted
                        .retain(|wanted| wanted["key"].as_str().is_none_or(|key| !key.contains(READY_AFTER)));
                }
            }
            Some("banyan-pod-delete") => {
                let pause = ".spec.containers[0].lifecycle.preStop.sleep.seconds // 0 | tostring + \"s\"";
                stage["spec"]["delay"] = json!({"durationFrom": {"expressionFrom": pause}});
            }
            _ => {}
        }
        let stage = serde_norway::to_string(&stage).context(|| "writing a Stage")?;
        text.push_str(&format!("---\n{stage}"));
    }
    Ok(text)
}

/// Istio's injector, as it is played.
pub(super) fn injector() -> Result<Vec<serde_json::Value>> {
    install::documents("stages/injector.yaml", INJECTOR)
}

/// The Gateway that the example platform names. No proxy listens for it.
pub(super) fn gateway() -> Result<Vec<serde_json::Value>> {
    install::documents("stages/istio-gateway.yaml", GATEWAY)
}

/// An expression of jq over a pod: `"true"` if one of its images would run as root although the pod forbids that.
fn would_be_root() -> String {
    let names = ROOT_IMAGES.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let names: Vec<String> = names.map(|name| format!("{name:?}")).collect();
    let of = |field: &str| format!("(.securityContext.{field} // $pod.spec.securityContext.{field})");
    // An image's name without Docker Hub's own parts, its tag and its digest.
    let name = r#"(.image | ltrimstr("docker.io/") | ltrimstr("library/") | split("@")[0] | split(":")[0])"#;
    format!(
        ". as $pod | [(.spec.containers[], ((.spec.initContainers // [])[])) | select({} == true and {} == null and ({name} | IN({})))] | length > 0 | tostring",
        of("runAsNonRoot"),
        of("runAsUser"),
        names.join(", ")
    )
}

/// Makes the nodes of one cloud: `per_zone` in each of its zones.
pub(super) async fn create(
    client: &Client,
    region: &str,
    zones: &[String],
    per_zone: usize,
    subnet: u8,
) -> Result<usize> {
    let api: Api<Node> = Api::all(client.clone());
    let made = FuturesUnordered::new();
    for (zone_index, zone) in zones.iter().enumerate() {
        for number in 0..per_zone {
            let name = format!("{zone}-{}", number + 1);
            let address = format!("10.249.{subnet}.{}", zone_index * per_zone + number + 1);
            let size = json!({"cpu": "1000", "memory": "4Ti", "pods": PODS.to_string(), "ephemeral-storage": "10Ti"});
            let node = json!({
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {
                    "name": name,
                    "labels": {
                        "kubernetes.io/hostname": name,
                        "kubernetes.io/os": "linux",
                        // Kubelets still set the older words beside them, and old manifests ask for them.
                        "beta.kubernetes.io/os": "linux",
                        "beta.kubernetes.io/arch": "amd64",
                        "kubernetes.io/arch": "amd64",
                        "topology.kubernetes.io/region": region,
                        "topology.kubernetes.io/zone": zone,
                        "node.kubernetes.io/instance-type": "sandbox",
                    },
                },
                "status": {
                    "capacity": size,
                    "allocatable": size,
                    "addresses": [
                        {"type": "InternalIP", "address": address},
                        {"type": "Hostname", "address": name},
                    ],
                },
            });
            let api = &api;
            made.push(async move {
                let node: Node =
                    serde_json::from_value(node).context(|| format!("describing the node {name}"))?;
                api.create(&PostParams::default(), &node).await.context(|| format!("making the node {name}"))
            });
        }
    }
    let made: Vec<Node> = made.try_collect().await?;
    Ok(made.len())
}

/// How many nodes are Ready, and free of taints that keep pods away.
pub(super) async fn ready(client: &Client) -> Result<usize> {
    let nodes = Api::<Node>::all(client.clone())
        .list(&ListParams::default())
        .await
        .context(|| "listing the nodes")?;
    Ok(nodes.iter().filter(|node| is_ready(node)).count())
}

fn is_ready(node: &Node) -> bool {
    let ready = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let tainted = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()).next().is_some();
    ready && !tainted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        let stages = install::documents("stages", text).unwrap();
        stages.iter().map(|stage| stage["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn who_serves_pods_says_when_they_are_ready() {
        let all = names(&stages(false).unwrap());
        let mut expected = all.clone();
        expected.retain(|name| name != "banyan-pod-ready" && name != "banyan-pod-slow-ready");
        assert_eq!(expected.len(), all.len() - 2);
        let text = stages(true).unwrap();
        assert_eq!(names(&text), expected);
        // No Stage asks for the annotation any more: who serves the pod heeds it.
        assert!(!text.contains(READY_AFTER), "{text}");
        assert!(text.contains("preStop.sleep.seconds"), "{text}");
    }
}
