//! Servers behind the addresses of a cloud's pods.
//!
//! kwok plays the kubelets; what they would start is played here. A pod's address is bound as soon as it has one, and
//! closed when the pod is gone. In a cloud whose pods are [`super::super::CloudOptions::served`] a pod becomes Ready
//! when its server listens and not before, so that no proxy hears of an address that nobody answers at.

use crate::api::labels::{REVISION_LABEL, SERVICE_LABEL, VERSION_LABEL};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Pod, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::Api;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_pods};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::answer::{Served, serve};
use super::behaviour::{Behaviour, Chance, Rules, duration};
use super::kubelet;
use super::metrics::Metrics;
use super::namespace::{self, is_pod};
use crate::sandbox::cloud::Cloud;
use crate::sandbox::error::{Context, Error, Result};
use crate::sandbox::nodes::{FAIL, FAILS, READY_AFTER};

/// How long to wait before a port is tried again: the pod that had the address before may not be gone yet.
const AGAIN: Duration = Duration::from_millis(100);
/// How many problems are remembered.
const PROBLEMS: usize = 100;

/// A pod whose address is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedPod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The image reference of its first container.
    pub release: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its TCP ports by name; those without one have the empty name.
    pub ports: Vec<(String, u16)>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

impl ServedPod {
    /// Its namespace and name, with a slash between them.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// The port at which `/metrics` is: the one that is called so, else the first.
    pub fn metrics_port(&self) -> Option<u16> {
        let named = self.ports.iter().find(|(name, _)| name == "metrics");
        named.or(self.ports.first()).map(|(_, port)| *port)
    }

    /// What there is of a pod that runs and has an address of ours.
    fn of(pod: &Pod) -> Option<Self> {
        let status = pod.status.as_ref()?;
        let address = status.pod_ip.as_deref()?.parse().ok().filter(|address| is_pod(*address))?;
        let spec = pod.spec.as_ref()?;
        let failing = pod.annotations().get(FAIL).is_some_and(|value| FAILS.contains(&value.as_str()));
        if status.phase.as_deref() != Some("Running") || failing {
            return None;
        }
        let ports = spec.containers.iter().flat_map(|container| container.ports.iter().flatten());
        let tcp = ports.filter(|port| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"));
        let port = |number: i32| u16::try_from(number).ok();
        // Ports need not be declared; what a probe asks is open as well.
        let probed = spec.containers.iter().flat_map(|container| {
            let probes = [&container.readiness_probe, &container.liveness_probe, &container.startup_probe];
            probes.into_iter().flatten().filter_map(probed_port).collect::<Vec<i32>>()
        });
        let mut ports: Vec<(String, u16)> = tcp
            .filter_map(|tcp| Some((tcp.name.clone().unwrap_or_default(), port(tcp.container_port)?)))
            .collect();
        for port in probed.filter_map(port) {
            if !ports.iter().any(|(_, known)| *known == port) {
                ports.push((String::new(), port));
            }
        }
        Some(Self {
            namespace: pod.namespace().unwrap_or_default(),
            name: pod.name_any(),
            release: spec.containers.first()?.image.clone().unwrap_or_default(),
            address,
            ports,
            labels: pod.labels().clone(),
        })
    }

    /// As Prometheus' file discovery reads it, with the labels that a ServiceMonitor of ours would give.
    fn target(&self) -> Option<Value> {
        let mut labels = json!({"namespace": self.namespace, "pod": self.name, "endpoint": "metrics"});
        for name in [SERVICE_LABEL, REVISION_LABEL, VERSION_LABEL] {
            if let Some(value) = self.labels.get(name) {
                labels[name.replace(['.', '/'], "_")] = json!(value);
            }
        }
        Some(json!({"targets": [format!("{}:{}", self.address, self.metrics_port()?)], "labels": labels}))
    }
}

#[derive(Debug)]
struct Entry {
    pod: ServedPod,
    served: Arc<Served>,
    // Nothing is ever sent: dropping it closes the ports.
    _gone: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    // By uid: a name may come again.
    pods: HashMap<String, Entry>,
    problems: Vec<String>,
}

struct Shared {
    client: Client,
    gated: bool,
    targets: PathBuf,
    rules: Arc<RwLock<Rules>>,
    state: Mutex<State>,
}

/// Serves the pods of one cloud; dropping it closes all their ports.
pub struct PodRunner {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for PodRunner {
    fn drop(&mut self) {
        self.task.abort();
        self.shared.lock().pods.clear();
    }
}

impl PodRunner {
    /// Starts to serve all pods that there are and that come. Its servers run on this runtime.
    ///
    /// # Errors
    /// Outside of a network namespace, or when no client of the cloud can be made.
    pub fn start(cloud: &Cloud) -> Result<Self> {
        if !namespace::inside() {
            return Err(Error::new(
                "pods have addresses only inside a network namespace: call enter() first",
            ));
        }
        let client = cloud.client_admin()?;
        let targets = cloud.dir().join("targets.json");
        std::fs::write(&targets, "[]").context(|| format!("writing {}", targets.display()))?;
        let shared = Arc::new(Shared {
            client,
            gated: cloud.options().served,
            targets,
            rules: Arc::default(),
            state: Mutex::default(),
        });
        let task = tokio::spawn(follow(shared.clone()));
        Ok(Self { shared, task })
    }

    /// The pods that are served now, by namespace and name.
    pub fn pods(&self) -> Vec<ServedPod> {
        let mut pods: Vec<ServedPod> =
            self.shared.lock().pods.values().map(|entry| entry.pod.clone()).collect();
        pods.sort_by_key(ServedPod::key);
        pods
    }

    /// The counters of one pod, by `namespace/name`; `None` once it is gone.
    pub fn metrics(&self, pod: &str) -> Option<Metrics> {
        let state = self.shared.lock();
        let entry = state.pods.values().find(|entry| entry.served.key == pod)?;
        Some(entry.served.metrics())
    }

    /// Says that a pod, by `namespace/name`, is Ready, or that its probe fails. Its server answers on as it did:
    /// it depends on who asks whether it is asked.
    ///
    /// # Errors
    /// When there is no such pod, or the API server refuses.
    pub async fn set_ready(&self, pod: &str, is_ready: bool) -> Result<()> {
        kubelet::set_ready(&self.shared.client, pod, is_ready).await
    }

    /// Says that the containers of a pod, by `namespace/name`, crashed and were started again, so many times.
    ///
    /// # Errors
    /// When there is no such pod, or the API server refuses.
    pub async fn restarted(&self, pod: &str, times: i32) -> Result<()> {
        kubelet::restarted(&self.shared.client, pod, times).await
    }

    /// How the pods of a release behave from now on, whatever their environment says; `None` goes back to that.
    /// A release is an image reference, as in the header `x-release`.
    pub fn behave(&self, release: &str, behaviour: Option<Behaviour>) {
        let mut rules = self.rules();
        match behaviour {
            Some(behaviour) => drop(rules.releases.insert(release.to_owned(), behaviour)),
            None => drop(rules.releases.remove(release)),
        }
    }

    /// How one pod behaves from now on, by `namespace/name`; it goes over what is said of its release.
    pub fn blip(&self, pod: &str, behaviour: Option<Behaviour>) {
        let mut rules = self.rules();
        match behaviour {
            Some(behaviour) => drop(rules.pods.insert(pod.to_owned(), behaviour)),
            None => drop(rules.pods.remove(pod)),
        }
    }

    /// How all pods behave from now on, over everything else; `None` ends it.
    pub fn outage(&self, behaviour: Option<Behaviour>) {
        self.rules().outage = behaviour;
    }

    /// The file that names the pods as Prometheus' file discovery reads it. It is kept up to date.
    pub fn targets(&self) -> &Path {
        &self.shared.targets
    }

    /// What went wrong so far: ports that could not be bound, variables that mean nothing, an API server that is away.
    pub fn problems(&self) -> Vec<String> {
        self.shared.lock().problems.clone()
    }

    fn rules(&self) -> std::sync::RwLockWriteGuard<'_, Rules> {
        self.shared.rules.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // What is guarded is whole after every statement, so a panic elsewhere does no harm.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn problem(&self, problem: String) {
        let problems = &mut self.lock().problems;
        if problems.len() < PROBLEMS && problems.last() != Some(&problem) {
            problems.push(problem);
        }
    }

    /// Takes a pod as it is now.
    fn apply(self: &Arc<Self>, pod: &Pod) {
        let Some(uid) = pod.uid() else { return };
        let Some(described) = ServedPod::of(pod) else {
            // It has no address yet, or does not run any more.
            self.lock().pods.remove(&uid);
            return;
        };
        let mut state = self.lock();
        if let Some(entry) = state.pods.get_mut(&uid) {
            // Its labels may have changed.
            entry.pod = described;
            return;
        }
        let containers = pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
        let (own, wrong) = containers.first().map(Behaviour::of).unwrap_or_default();
        let served = Arc::new(Served {
            key: described.key(),
            name: described.name.clone(),
            release: described.release.clone(),
            own,
            rules: self.rules.clone(),
            metrics: Mutex::default(),
            chance: Chance::seeded(&uid),
            count: AtomicU64::new(0),
        });
        let (gone, until) = watch::channel(());
        tokio::spawn(run(self.clone(), pod.clone(), described.clone(), served.clone(), until));
        state.pods.insert(uid, Entry { pod: described, served, _gone: gone });
        drop(state);
        wrong.into_iter().for_each(|wrong| self.problem(format!("{}: {wrong}", pod.name_any())));
    }

    fn remove(&self, uid: &str) {
        self.lock().pods.remove(uid);
    }

    /// Names all pods in the file for Prometheus, which must never read half of it.
    async fn publish(&self) -> Result<()> {
        let targets: Vec<Value> = self.lock().pods.values().filter_map(|entry| entry.pod.target()).collect();
        let doing = || format!("writing {}", self.targets.display());
        let unfinished = self.targets.with_extension("unfinished");
        tokio::fs::write(&unfinished, Value::Array(targets).to_string()).await.context(doing)?;
        tokio::fs::rename(&unfinished, &self.targets).await.context(doing)
    }
}

/// Follows the pods for ever.
async fn follow(shared: Arc<Shared>) {
    let api: Api<Pod> = Api::all(shared.client.clone());
    let mut events = watch_pods(api, watcher::Config::default()).default_backoff().boxed();
    let mut listed = HashSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(pod)) => {
                listed.extend(pod.uid());
                shared.apply(&pod);
                continue;
            }
            Ok(Event::InitDone) => {
                let known: Vec<String> = shared.lock().pods.keys().cloned().collect();
                known.iter().filter(|uid| !listed.contains(*uid)).for_each(|uid| shared.remove(uid));
            }
            Ok(Event::Apply(pod)) => shared.apply(&pod),
            Ok(Event::Delete(pod)) => shared.remove(&pod.uid().unwrap_or_default()),
            Err(error) => {
                // The stream goes on by itself; meanwhile pods are served as they were.
                shared.problem(format!("watching pods: {error}"));
                continue;
            }
        }
        if let Err(error) = shared.publish().await {
            shared.problem(error.to_string());
        }
    }
}

/// The port that a probe asks at, where it is a number.
fn probed_port(probe: &Probe) -> Option<i32> {
    let of_http = probe.http_get.as_ref().map(|get| &get.port);
    let of_tcp = probe.tcp_socket.as_ref().map(|socket| &socket.port);
    match of_http.or(of_tcp) {
        Some(IntOrString::Int(port)) => Some(*port),
        Some(IntOrString::String(_)) => None,
        None => probe.grpc.as_ref().map(|grpc| grpc.port),
    }
}

/// Binds a pod's ports, and says that it is Ready.
async fn run(
    shared: Arc<Shared>,
    pod: Pod,
    described: ServedPod,
    served: Arc<Served>,
    gone: watch::Receiver<()>,
) {
    let open = async {
        for (_, port) in &described.ports {
            let listener = bind(&shared, &described, *port).await;
            let has_metrics = described.metrics_port() == Some(*port);
            tokio::spawn(serve(served.clone(), listener, has_metrics, gone.clone()));
        }
        if shared.gated && pod.metadata.deletion_timestamp.is_none() {
            let after = pod.annotations().get(READY_AFTER).and_then(|after| duration(after));
            tokio::time::sleep(after.unwrap_or_default()).await;
            while let Err(error) = kubelet::make_ready(&shared.client, &pod).await {
                shared.problem(format!("{}: saying that it is Ready: {error}", described.key()));
                tokio::time::sleep(AGAIN).await;
            }
        }
    };
    let mut until = gone.clone();
    tokio::select! {
        () = open => {}
        _ = until.changed() => {}
    }
}

async fn bind(shared: &Shared, pod: &ServedPod, port: u16) -> TcpListener {
    loop {
        match TcpListener::bind((pod.address, port)).await {
            Ok(listener) => return listener,
            Err(error) => {
                let key = pod.key();
                shared.problem(format!("{key}: binding {}:{port}: {error}", pod.address));
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(change: impl FnOnce(&mut Value)) -> Pod {
        let mut pod = json!({
            "metadata": {"name": "a-1", "namespace": "pay", "uid": "u",
                "labels": {"banyan.dev/service": "a", "banyan.dev/revision": "r", "other": "x"}},
            "spec": {
                "containers": [
                    {"name": "app", "image": "registry.example/a:1", "ports": [
                        {"name": "http", "containerPort": 8080},
                        {"name": "metrics", "containerPort": 9090, "protocol": "TCP"},
                        {"name": "dns", "containerPort": 53, "protocol": "UDP"},
                    ]},
                    {"name": "side", "image": "other"},
                ],
            },
            "status": {"phase": "Running", "podIP": "10.250.0.7"},
        });
        change(&mut pod);
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn a_pod_is_served_while_it_runs_under_an_address_of_ours() {
        let served = ServedPod::of(&pod(|_| {})).unwrap();
        assert_eq!(served.key(), "pay/a-1");
        assert_eq!(served.release, "registry.example/a:1");
        assert_eq!(served.ports, [("http".to_owned(), 8080), ("metrics".to_owned(), 9090)]);
        for (pointer, value) in [
            ("/status/phase", json!("Pending")),
            ("/status/podIP", json!("10.0.0.1")),
            ("/status/podIP", Value::Null),
            ("/metadata/annotations", json!({FAIL: "true"})),
            ("/metadata/annotations", json!({FAIL: "Crash"})),
            ("/metadata/annotations", json!({FAIL: "Memory"})),
        ] {
            let (parent, field) = pointer.rsplit_once('/').unwrap();
            let not = pod(|pod| pod.pointer_mut(parent).unwrap()[field] = value.clone());
            assert_eq!(ServedPod::of(&not), None, "{pointer} {value}");
        }
    }

    #[test]
    fn prometheus_hears_what_a_service_monitor_would_say() {
        let mut served = ServedPod::of(&pod(|_| {})).unwrap();
        let labels = json!({
            "namespace": "pay", "pod": "a-1", "endpoint": "metrics",
            "banyan_dev_service": "a", "banyan_dev_revision": "r",
        });
        assert_eq!(served.target().unwrap(), json!({"targets": ["10.250.0.7:9090"], "labels": labels}));
        served.ports.remove(1);
        assert_eq!(served.target().unwrap()["targets"][0], "10.250.0.7:8080");
        served.ports.clear();
        assert_eq!(served.target(), None);
    }
}
