//! The sandbox itself: what all other tests stand on.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use banyan::sandbox::install::{apply, documents};
use banyan::sandbox::process::Signal;
use banyan::sandbox::{Cloud, Install, Pair, PairOptions, Part, pair};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, ListParams};

/// Asks until it is so; the panic says what was awaited.
async fn until(what: &str, limit: Duration, mut so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !so().await {
        assert!(Instant::now() < deadline, "after {limit:?} it is not so that {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn apply_yaml(client: &Client, yaml: &str) {
    apply(client, &documents("test", yaml).unwrap()).await.unwrap();
}

#[tokio::test]
async fn each_cloud_has_six_ready_nodes_in_three_zones() {
    let pair = pair().await.unwrap();
    for cloud in pair.clouds() {
        let nodes =
            Api::<Node>::all(cloud.client_admin().unwrap()).list(&ListParams::default()).await.unwrap();
        let mut zones = BTreeMap::<String, usize>::new();
        for node in &nodes {
            let ready = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
            assert!(
                ready.into_iter().any(|c| c.type_ == "Ready" && c.status == "True"),
                "{:?}",
                node.metadata.name
            );
            let labels = node.metadata.labels.as_ref().unwrap();
            assert_eq!(labels["topology.kubernetes.io/region"], cloud.options().region);
            *zones.entry(labels["topology.kubernetes.io/zone"].clone()).or_default() += 1;
        }
        assert_eq!(zones.keys().collect::<Vec<_>>(), cloud.options().zones.iter().collect::<Vec<_>>());
        assert!(zones.values().all(|nodes| *nodes == 2), "{zones:?}");
    }
}

const WORKLOADS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: cloud-workloads}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: good, namespace: cloud-workloads}
spec:
  replicas: 6
  selector: {matchLabels: {app: good}}
  template:
    metadata: {labels: {app: good}}
    spec:
      topologySpreadConstraints:
        - {maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: good}}}
      initContainers: [{name: migrate, image: good:1}]
      containers: [{name: good, image: good:1, ports: [{containerPort: 8080}]}]
---
apiVersion: v1
kind: Service
metadata: {name: good, namespace: cloud-workloads}
spec: {selector: {app: good}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: good, namespace: cloud-workloads}
spec: {minReplicas: 6, maxReplicas: 9, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: good}}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: good, namespace: cloud-workloads}
spec: {maxUnavailable: 1, selector: {matchLabels: {app: good}}}
---
apiVersion: v1
kind: Pod
metadata: {name: bad, namespace: cloud-workloads, annotations: {sandbox.banyan.dev/fail: "true"}}
spec: {containers: [{name: bad, image: bad:1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: slow, namespace: cloud-workloads, annotations: {sandbox.banyan.dev/ready-after: "3s"}}
spec: {containers: [{name: slow, image: slow:1}]}
---
apiVersion: batch/v1
kind: Job
metadata: {name: job, namespace: cloud-workloads}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: job, image: job:1}]}}}
"#;

fn pod_ready(pod: &Pod) -> Option<bool> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == "Ready").map(|condition| condition.status == "True")
}

#[tokio::test]
async fn pods_run_fail_and_are_slow_as_they_say() {
    let cloud = &pair().await.unwrap().aws;
    let client = cloud.client_admin().unwrap();
    apply_yaml(&client, WORKLOADS).await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "cloud-workloads");

    let good = ListParams::default().labels("app=good");
    until("six pods are Ready", Duration::from_secs(30), async || {
        pods.list(&good).await.unwrap().iter().filter(|pod| pod_ready(pod) == Some(true)).count() == 6
    })
    .await;
    let nodes: Api<Node> = Api::all(client.clone());
    let mut zones = BTreeMap::<String, usize>::new();
    for pod in pods.list(&good).await.unwrap() {
        let address = pod.status.unwrap().pod_ip.unwrap();
        let third: u8 = address.strip_prefix("10.250.").unwrap().split('.').next().unwrap().parse().unwrap();
        assert!(third < 128, "{address} is none of {}", cloud.options().pod_cidr);
        let node = nodes.get(&pod.spec.unwrap().node_name.unwrap()).await.unwrap();
        *zones.entry(node.metadata.labels.unwrap()["topology.kubernetes.io/zone"].clone()).or_default() += 1;
    }
    assert_eq!(zones.into_values().collect::<Vec<_>>(), [2, 2, 2]);

    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "cloud-workloads");
    until("the Service has six endpoints", Duration::from_secs(20), async || {
        let list =
            slices.list(&ListParams::default().labels("kubernetes.io/service-name=good")).await.unwrap();
        list.iter().map(|slice| slice.endpoints.iter().flatten().count()).sum::<usize>() == 6
    })
    .await;
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(client.clone(), "cloud-workloads");
    until("the budget allows one disruption", Duration::from_secs(20), async || {
        budgets.get("good").await.unwrap().status.is_some_and(|status| status.disruptions_allowed == Some(1))
    })
    .await;
    let autoscalers: Api<HorizontalPodAutoscaler> = Api::namespaced(client.clone(), "cloud-workloads");
    until("the autoscaler has looked at its target", Duration::from_secs(40), async || {
        let status = autoscalers.get("good").await.unwrap().status;
        status.and_then(|status| status.current_replicas) == Some(6)
    })
    .await;

    let bad = pods.get("bad").await.unwrap();
    assert_eq!(pod_ready(&bad), Some(false));
    let state = bad.status.unwrap().container_statuses.unwrap()[0].state.clone().unwrap();
    assert_eq!(state.waiting.unwrap().reason.as_deref(), Some("CrashLoopBackOff"));
    until("the slow pod is Ready", Duration::from_secs(20), async || {
        pod_ready(&pods.get("slow").await.unwrap()) == Some(true)
    })
    .await;
    let slow = pods.get("slow").await.unwrap().status.unwrap();
    let ready = slow.conditions.unwrap().into_iter().find(|c| c.type_ == "Ready").unwrap();
    let took = ready.last_transition_time.unwrap().0.duration_since(slow.start_time.unwrap().0);
    assert!(took.as_millis() >= 2_000, "Ready after {took}, of 3 s");
    until("the Job's pod is done", Duration::from_secs(20), async || {
        let list = pods.list(&ListParams::default().labels("job-name=job")).await.unwrap();
        list.iter().any(|pod| pod.status.as_ref().is_some_and(|s| s.phase.as_deref() == Some("Succeeded")))
    })
    .await;
    // Deleted pods go, and the ReplicaSet makes others.
    let first = pods.list(&good).await.unwrap().items.remove(0);
    pods.delete(first.metadata.name.as_deref().unwrap(), &Default::default()).await.unwrap();
    until("another pod has taken its place", Duration::from_secs(20), async || {
        let list = pods.list(&good).await.unwrap();
        list.iter().all(|pod| pod.metadata.uid != first.metadata.uid && pod_ready(pod) == Some(true))
            && list.items.len() == 6
    })
    .await;
}

#[tokio::test]
async fn optional_apis_are_served_and_refuse_nonsense() {
    let cloud = &pair().await.unwrap().gcp;
    let client = cloud.client_admin().unwrap();
    let definitions = Api::<CustomResourceDefinition>::all(client.clone());
    let names: Vec<String> = definitions
        .list_metadata(&ListParams::default())
        .await
        .unwrap()
        .into_iter()
        .filter_map(|definition| definition.metadata.name)
        .collect();
    for name in [
        "virtualservices.networking.istio.io",
        "destinationrules.networking.istio.io",
        "authorizationpolicies.security.istio.io",
        "httproutes.gateway.networking.k8s.io",
        "servicemonitors.monitoring.coreos.com",
        "prometheusrules.monitoring.coreos.com",
        "kafkatopics.kafka.strimzi.io",
        "kafkausers.kafka.strimzi.io",
    ] {
        assert!(names.iter().any(|found| found == name), "{name} is missing in {names:?}");
    }
    apply_yaml(
        &client,
        "apiVersion: kafka.strimzi.io/v1beta2\nkind: KafkaTopic\nmetadata: {name: good, namespace: default}\n\
         spec: {partitions: 12, config: {retention.ms: \"604800000\"}}\n",
    )
    .await;
    let nonsense = documents(
        "test",
        "apiVersion: kafka.strimzi.io/v1beta2\nkind: KafkaTopic\nmetadata: {name: bad, namespace: default}\n\
         spec: {partitions: 0}\n",
    )
    .unwrap();
    let error = apply(&client, &nonsense).await.unwrap_err().to_string();
    assert!(error.starts_with("applying KafkaTopic default/bad: "), "{error}");
    assert!(error.contains("spec.partitions"), "{error}");
}

#[tokio::test]
async fn the_operators_requests_are_counted_and_nobody_elses() {
    let cloud = &pair().await.unwrap().gcp;
    let operator = cloud.client_operator().unwrap();
    let mark = cloud.audit_mark();
    cloud.client_admin().unwrap().list_api_groups().await.unwrap();
    // Refused, since the chart gives no right to read these: what is refused counts too.
    for _ in 0..3 {
        let claims = Api::<PersistentVolumeClaim>::namespaced(operator.clone(), "no-rights");
        let refused = claims.list(&ListParams::default()).await;
        assert!(matches!(refused, Err(kube::Error::Api(status)) if status.code == 403));
    }
    let requests = cloud.audit_since(mark).unwrap();
    let ours: Vec<_> = requests.requests.iter().filter(|request| request.namespace == "no-rights").collect();
    assert_eq!(ours.len(), 3, "{requests:?}");
    assert!(
        ours.iter().all(
            |r| (r.verb.as_str(), r.resource.as_str(), r.code) == ("list", "persistentvolumeclaims", 403)
        )
    );
    assert!(!requests.requests.iter().any(|request| request.resource == "/apis"), "{requests:?}");
}

fn alive(pid: u32) -> bool {
    std::process::Command::new("kill").args(["-0", &pid.to_string()]).output().unwrap().status.success()
}

const PARTS: [Part; 5] = [Part::Etcd, Part::ApiServer, Part::ControllerManager, Part::Scheduler, Part::Kwok];

fn pids(cloud: &Cloud) -> Vec<u32> {
    PARTS.iter().map(|part| cloud.pid(*part).unwrap()).collect()
}

/// A pair of its own, because it is stopped: whole, and after its API servers were suspended.
#[tokio::test]
async fn a_stop_leaves_no_process_and_no_file() {
    let options = PairOptions { install: Install::nothing(), ..PairOptions::default() };
    let pair = Pair::start(options).await.unwrap();
    let dir = pair.dir().to_owned();
    let pids: Vec<u32> = pair.clouds().iter().flat_map(|cloud| pids(cloud)).collect();
    assert!(dir.is_dir());
    assert!(pids.iter().all(|pid| alive(*pid)));

    // A suspended API server is silent; let go on, it answers.
    pair.aws.signal(Part::ApiServer, Signal::Stop).unwrap();
    let client = pair.aws.client_admin().unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(1), client.apiserver_version()).await;
    assert!(answer.is_err(), "a suspended API server answered");
    pair.aws.signal(Part::ApiServer, Signal::Cont).unwrap();
    client.apiserver_version().await.unwrap();
    pair.gcp.signal(Part::ApiServer, Signal::Stop).unwrap();

    pair.stop().await.unwrap();
    for pid in pids {
        assert!(!alive(pid), "process {pid} still runs");
    }
    assert!(!dir.exists(), "{} is still there", dir.display());
}

/// However the command is ended, and be it in the middle of its start, nothing is left.
#[tokio::test]
async fn an_interrupted_sandbox_leaves_no_process_and_no_file() {
    for signal in ["INT", "TERM", "KILL"] {
        let parent = tempfile::tempdir().unwrap();
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_banyan"))
            .arg("sandbox")
            .current_dir(parent.path())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let sandbox = parent.path().canonicalize().unwrap().join(".banyan/sandbox");
        let log = sandbox.join("gcp-us-central1/logs/kube-apiserver.log");
        until("the API server writes its log", Duration::from_secs(30), async || {
            std::fs::metadata(&log).is_ok_and(|metadata| metadata.len() > 0)
        })
        .await;
        let theirs = processes_that_name(&sandbox);
        assert!(!theirs.is_empty());
        let pid = command.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        let status = command.wait().await.unwrap();
        // Ctrl-C is the way in which the command ends well.
        assert_eq!(status.success(), signal != "KILL", "SIG{signal}: {status}");
        until("its processes have ended", Duration::from_secs(20), async || {
            theirs.iter().all(|pid| !alive(*pid)) && processes_that_name(&sandbox).is_empty()
        })
        .await;
        until("its folder is gone", Duration::from_secs(5), async || !sandbox.exists()).await;
        if signal != "KILL" {
            assert!(!parent.path().join(".banyan").exists(), "SIG{signal}");
        }
    }
}

/// The processes whose arguments name a folder, by their ids.
fn processes_that_name(folder: &std::path::Path) -> Vec<u32> {
    let list = std::process::Command::new("ps").args(["-A", "-ww", "-o", "pid=,args="]).output().unwrap();
    String::from_utf8_lossy(&list.stdout)
        .lines()
        .filter(|line| line.contains(folder.to_str().unwrap()))
        .map(|line| line.split_whitespace().next().unwrap().parse().unwrap())
        .collect()
}
