//! What is measured on: one control plane with Banyan's definitions and rights, and many FinServices.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use banyan::finservice::children::Kind;
use banyan::finservice::write::act;
use banyan::runtime::client::{self, Target};
use banyan::runtime::metrics::Metrics;
use banyan::sandbox::payload::Payload;
use banyan::sandbox::process::Supervisor;
use banyan::sandbox::tools::{self, Tools};
use banyan::sandbox::{Cloud, CloudOptions, Part, install};
use banyan::terminal::progress::Progress;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{ApiResource, ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::floor::Recipe;
use crate::operator;

/// What each of the many is a copy of.
const SERVICE: &str = include_str!("finservice.yaml");
/// How many FinServices share a namespace, about as many as a department has.
const PER_NAMESPACE: u32 = 100;
/// How long all processes may take to end.
const END: Duration = Duration::from_secs(20);
/// How often an API server compares its caches with etcd.
const CHECKED_EVERY: Duration = Duration::from_secs(300);
/// How long an API server has to use less than a tenth of a core to count as calm.
const CALM: Duration = Duration::from_secs(2);

/// Why a measurement ended.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A control plane that runs.
pub struct Ground {
    /// It.
    pub cloud: Cloud,
    /// The administrator's client.
    pub client: Client,
    /// How many FinServices are measured with.
    pub services: u32,
    /// Variables that the chart gives the operator, as far as they say how its allocator works.
    pub environment: Vec<(String, String)>,
    supervisor: Arc<Supervisor>,
}

impl Ground {
    /// Starts a control plane and installs all that the operator needs.
    ///
    /// Unless the cluster is to be `whole`, what plays the rest of it (controller manager, scheduler, kwok) is
    /// ended then: it would make ReplicaSets and pods for as long as the measurement takes, and compete with both
    /// the operator and the floor for the CPU. [`Ground::play_deployment_controller`] stands in for it.
    pub async fn start(services: u32, whole: bool) -> Result<Self, Failure> {
        let progress = Progress::stderr();
        let silent = progress.clone();
        let (supervisor, tools) = tokio::task::spawn_blocking(move || -> banyan::sandbox::Result<_> {
            let supervisor = Arc::new(Supervisor::start(&tools::supervise(&silent)?)?);
            let tools = Tools::obtain(&supervisor, &silent)?;
            Ok((supervisor, tools))
        })
        .await??;
        let dir = std::env::temp_dir().join(format!("banyan-scale-{}-{services}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        supervisor.remove_at_end(&dir)?;
        let nodes_per_zone = if whole { 2 } else { 0 };
        // As Kubernetes runs them.
        let options = CloudOptions { nodes_per_zone, gogc: 100, ..CloudOptions::aws() };
        let cloud =
            Cloud::start(options, &dir.join("cloud"), &tools, Arc::clone(&supervisor), &progress).await?;
        for part in [Part::ControllerManager, Part::Scheduler, Part::Kwok].into_iter().filter(|_| !whole) {
            cloud.signal(part, banyan::sandbox::process::Signal::Kill)?;
        }
        let kubeconfig = dir.join("kubeconfig-admin");
        std::fs::write(&kubeconfig, cloud.kubeconfig()?)?;
        // The connection is of the same kind as the operator's.
        let client =
            client::connect(&Target { kubeconfig: Some(kubeconfig), context: None }, Metrics::new()).await?;
        install::definitions(&client, &tools.optional_definitions()?).await?;
        let site = json!({
            "apiVersion": "banyan.dev/v1alpha1", "kind": "CloudCluster",
            "metadata": {"name": cloud.name(), "namespace": "banyan-system"},
            "spec": {"residency": ["US"]},
        });
        // The operator runs beside the cloud, not on nodes, of which there are none.
        let kind = |object: &Value| object["kind"].as_str().unwrap_or_default().to_owned();
        // Admission policies are about people, and cost the API server, not the operator.
        let payload = Payload::embedded()?;
        let environment = payload.manifests.iter().flat_map(allocator).collect();
        let manifests = payload.manifests.into_iter().filter(|object| {
            let kind = kind(object);
            let workload = matches!(kind.as_str(), "Deployment" | "PodDisruptionBudget" | "ServiceMonitor");
            !workload && !kind.contains("AdmissionPolicy")
        });
        install::apply(&client, &manifests.chain([site]).collect::<Vec<_>>()).await?;
        let ground = Self { cloud, client, services, environment, supervisor };
        ground.namespaces("team", services).await?;
        Ok(ground)
    }

    /// Makes the namespaces for that many services.
    pub async fn namespaces(&self, prefix: &str, services: u32) -> Result<(), Failure> {
        let namespaces: Vec<Value> = namespaces(prefix, services)
            .map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"istio-injection": "enabled"}}}))
            .collect();
        install::apply(&self.client, &namespaces).await?;
        Ok(())
    }

    /// Applies all FinServices, as their teams would.
    pub async fn apply_all(&self, concurrency: usize) -> Result<(), Failure> {
        let client = self.client.clone();
        each(self.services as usize, concurrency, move |number| {
            let client = client.clone();
            async move { apply(&client, &finservice("team", number as u32)).await }
        })
        .await
    }

    /// Marks the pods of each Deployment as Ready, as the Deployment controller would.
    pub async fn play_deployment_controller(&self, concurrency: usize) -> Result<(), Failure> {
        let all: Api<Deployment> = Api::all(self.client.clone());
        let deployments = all.list(&ListParams::default()).await?.items;
        let deployments = Arc::new(deployments);
        let client = self.client.clone();
        each(deployments.len(), concurrency, move |number| {
            let metadata = &deployments[number].metadata;
            let replicas =
                deployments[number].spec.as_ref().and_then(|spec| spec.replicas).unwrap_or_default();
            let status = json!({"status": {
                "observedGeneration": metadata.generation, "replicas": replicas, "readyReplicas": replicas,
                "updatedReplicas": replicas, "availableReplicas": replicas,
            }});
            let api: Api<Deployment> =
                Api::namespaced(client.clone(), metadata.namespace.as_deref().unwrap_or_default());
            let name = metadata.name.clone().unwrap_or_default();
            async move {
                let parameters = PatchParams {
                    field_manager: Some("kube-controller-manager".into()),
                    ..PatchParams::default()
                };
                api.patch_status(&name, &parameters, &Patch::Merge(&status)).await?;
                Ok(())
            }
        })
        .await
    }

    /// Checks that each child of each FinService exists.
    pub async fn verify(&self, recipe: &Recipe) -> Result<(), Failure> {
        for (kind, wanted) in recipe.kinds() {
            let all =
                Api::<kube::api::DynamicObject>::all_with(self.client.clone(), &act::api_resource(kind));
            let ours = ListParams::default().labels("app.kubernetes.io/managed-by=banyan");
            let have = all.list_metadata(&ours).await?.items.len();
            let wanted = wanted * self.services as usize;
            if have != wanted {
                return Err(format!("{have} of {wanted} {} exist", kind.resource().3).into());
            }
        }
        Ok(())
    }

    /// Checks that each FinService is Ready.
    pub async fn verify_ready(&self) -> Result<(), Failure> {
        let all: Api<banyan::api::FinService> = Api::all(self.client.clone());
        for service in all.list(&ListParams::default()).await? {
            let conditions = service.status.iter().flat_map(|status| &status.conditions);
            let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready");
            if ready.is_none_or(|ready| ready.status != "True") {
                let name = service.metadata.name.unwrap_or_default();
                return Err(format!("{name} is not Ready: {ready:?}").into());
            }
        }
        Ok(())
    }

    /// A client with the operator's rights, over the kind of connection that it has.
    pub async fn operator_client(&self) -> Result<Client, Failure> {
        let kubeconfig = self.cloud.dir().join("kubeconfig-floor");
        std::fs::write(&kubeconfig, self.cloud.kubeconfig_operator()?)?;
        let target = Target { kubeconfig: Some(kubeconfig), context: None };
        Ok(client::connect(&target, Metrics::new()).await?)
    }

    /// CPU that the API server and etcd have used so far.
    pub fn control_plane_cpu(&self) -> Duration {
        let of = |part| operator::usage(self.cloud.pid(part)?).map(|usage| usage.cpu);
        [Part::ApiServer, Part::Etcd].into_iter().filter_map(of).sum()
    }

    /// Waits until the API server has nothing to do of its own, for ten minutes at most.
    ///
    /// Every five minutes it compares its caches with etcd (`DetectCacheInconsistency`), and decodes all objects for
    /// it: with 170 000 of them that takes much longer than what is measured here.
    pub async fn until_calm(&self) {
        let began = Instant::now();
        while began.elapsed() < 2 * CHECKED_EVERY {
            let before = self.control_plane_cpu();
            tokio::time::sleep(CALM).await;
            if self.control_plane_cpu().saturating_sub(before) < CALM / 10 {
                return;
            }
        }
    }

    /// Ends all.
    pub async fn stop(self) -> Result<(), Failure> {
        let supervisor = Arc::clone(&self.supervisor);
        tokio::task::spawn_blocking(move || supervisor.shutdown(END)).await??;
        Ok(())
    }
}

/// Does `make` for each number below `count`, at most `at_once` at a time.
pub async fn each<F, D>(count: usize, at_once: usize, make: F) -> Result<(), Failure>
where
    F: Fn(usize) -> D + Clone + Send + 'static,
    D: Future<Output = Result<(), Failure>> + Send,
{
    let next = Arc::new(AtomicUsize::new(0));
    let mut workers = tokio::task::JoinSet::<Result<(), Failure>>::new();
    for _ in 0..at_once {
        let (next, make) = (Arc::clone(&next), make.clone());
        workers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok(());
                }
                make(number).await?;
            }
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    Ok(())
}

/// The namespaces of that many services.
pub fn namespaces(prefix: &str, services: u32) -> impl Iterator<Item = String> {
    (0..services.div_ceil(PER_NAMESPACE)).map(move |number| format!("{prefix}-{number:03}"))
}

/// Namespace and name of one of the many.
pub fn place(prefix: &str, number: u32) -> (String, String) {
    (format!("{prefix}-{:03}", number / PER_NAMESPACE), format!("service-{number:05}"))
}

/// One of the many.
pub fn finservice(prefix: &str, number: u32) -> Value {
    let (namespace, name) = place(prefix, number);
    let mut documents = install::documents("finservice.yaml", SERVICE).expect("the file beside this one");
    let mut service = documents.remove(0);
    service["spec"]["ingress"]["hosts"] = json!([format!("{name}.{namespace}.example")]);
    service["metadata"] = json!({"name": name, "namespace": namespace});
    service
}

/// Applies a FinService as its team would.
pub async fn apply(client: &Client, service: &Value) -> Result<(), Failure> {
    let resource = ApiResource::erase::<banyan::api::FinService>(&());
    let namespace = service["metadata"]["namespace"].as_str().unwrap_or_default();
    let name = service["metadata"]["name"].as_str().unwrap_or_default();
    let api: Api<kube::api::DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    api.patch(name, &PatchParams::apply("team").force(), &Patch::Apply(service)).await?;
    Ok(())
}

/// The API of a kind of child in a namespace.
pub fn children(client: &Client, kind: Kind, namespace: &str) -> Api<kube::api::DynamicObject> {
    act::api(client, kind, Some(namespace))
}

/// What the chart says to the allocator of the operator's Deployment.
fn allocator(object: &Value) -> impl Iterator<Item = (String, String)> {
    let variables = object.pointer("/spec/template/spec/containers/0/env").and_then(Value::as_array);
    let variables = variables.into_iter().flatten();
    variables.filter_map(|variable| {
        let (name, value) = (variable["name"].as_str()?, variable["value"].as_str()?);
        (name == "_RJEM_MALLOC_CONF").then(|| (name.to_owned(), value.to_owned()))
    })
}
