//! A cloud with a gateway, served pods and a Prometheus: what every scenario begins with.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use banyan::sandbox::operators::{Operator, OperatorOptions};
use banyan::sandbox::process::{Signal, Supervisor};
use banyan::sandbox::traffic::gateway::Program;
use banyan::sandbox::traffic::{
    Gateway, GatewayOptions, Load, LoadOptions, PodRunner, PrometheusOptions, PrometheusServer, ServedPod,
    TrafficTools,
};
use banyan::sandbox::{Cloud, CloudOptions, install, pair};
use banyan::terminal::progress::Progress;
use kube::api::{Api, DeleteParams, DynamicObject, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

/// The chart as Helm renders it with its default values: what the operator may do, and no more.
const CHART: &str = include_str!("../goldens/chart/rendered.yaml");
/// How long a scenario waits for anything. Nothing depends on being fast; this only ends what hangs.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// Time between two scrapes.
const SCRAPE: Duration = Duration::from_secs(1);

/// What all scenarios share.
pub struct World {
    /// The cloud, with the definitions of the optional APIs, Banyan's, and the chart's rights.
    pub cloud: Cloud,
    /// The administrator's client.
    pub client: Client,
    /// The gateway.
    pub gateway: Gateway,
    /// The servers behind its pods.
    pub pods: PodRunner,
    /// A Prometheus that scrapes them; `None` where the machine has none.
    pub prometheus: Option<PrometheusServer>,
    /// Names what that one scrapes beside them.
    more_targets: PathBuf,
    /// The operator of the scenarios that run at the moment.
    operator: tokio::sync::Mutex<Option<Running>>,
    supervisor: Arc<Supervisor>,
}

/// An operator, and the arguments that it was started with.
struct Running {
    operator: Operator,
    args: Vec<String>,
}

impl World {
    /// Starts all, except an operator, in a cloud of its own.
    pub async fn start(options: CloudOptions) -> Self {
        let progress = Progress::stderr();
        let supervisor = pair::supervisor(progress.clone()).await.expect("a supervisor");
        let tools = pair::prepare(supervisor.clone(), progress.clone()).await.expect("tools");
        let traffic = {
            let (supervisor, progress) = (supervisor.clone(), progress.clone());
            tokio::task::spawn_blocking(move || TrafficTools::obtain(&supervisor, &progress))
        };
        let traffic = traffic.await.expect("no panic").expect("traffic's tools");
        let name = options.name.clone();
        let dir = std::env::temp_dir().join(format!("banyan-traffic-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder");
        supervisor.remove_at_end(&dir).expect("a supervisor");
        let options = CloudOptions { served: true, ..options };
        let folder = dir.join("cloud");
        let cloud = Cloud::start(options, &folder, &tools, supervisor.clone(), &progress);
        let cloud = cloud.await.expect("a cloud");
        let client = cloud.client_admin().expect("a client");
        prepare(&cloud, &client, &tools.optional_definitions().expect("definitions")).await;
        let pods = PodRunner::start(&cloud).expect("a runner of pods");
        let options = GatewayOptions::of(&cloud);
        let gateway = Gateway::start(&cloud, &traffic, &options, &progress);
        let gateway = gateway.await.expect("a gateway");
        let stats = gateway
            .stats_url()
            .trim_start_matches("http://")
            .trim_end_matches("/stats/prometheus")
            .to_owned();
        let more_targets = dir.join("more-targets.json");
        std::fs::write(&more_targets, "[]").expect("a file");
        let prometheus = match traffic.prometheus {
            Some(program) => {
                let options = PrometheusOptions {
                    program,
                    dir: dir.join("prometheus"),
                    name,
                    targets: vec![pods.targets().to_owned(), more_targets.clone()],
                    gateways: vec![stats],
                    interval: SCRAPE,
                };
                Some(PrometheusServer::start(&options, supervisor.clone()).await.expect("a Prometheus"))
            }
            None => None,
        };
        let operator = tokio::sync::Mutex::default();
        Self { cloud, client, gateway, pods, prometheus, more_targets, operator, supervisor }
    }

    /// The Prometheus, for a scenario that is skipped without one; in CI it fails then.
    pub fn prometheus_or_skip(&self) -> Option<&PrometheusServer> {
        if self.prometheus.is_none() {
            println!("skipped: prometheus is not installed");
            assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "prometheus is not installed");
        }
        self.prometheus.as_ref()
    }

    /// Has the Prometheus scrape these as well, and no more those given before.
    pub fn scrape_also(&self, targets: &[Value]) {
        let unfinished = self.more_targets.with_extension("unfinished");
        std::fs::write(&unfinished, json!(targets).to_string()).expect("a file");
        std::fs::rename(&unfinished, &self.more_targets).expect("a file");
    }

    /// A new namespace.
    pub async fn space(&self, name: &str) -> Space<'_> {
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(self.client.clone());
        let metadata = ObjectMeta { generate_name: Some(format!("{name}-")), ..ObjectMeta::default() };
        let namespace = k8s_openapi::api::core::v1::Namespace { metadata, ..Default::default() };
        let made = namespaces.create(&PostParams::default(), &namespace).await.expect("a namespace");
        Space { world: self, namespace: made.name_any() }
    }

    /// Starts the operator, which reads what the gateway counts or what pods count.
    pub async fn begin(&self, of_gateway: bool) {
        let args = match of_gateway {
            true => vec!["--gateway-metrics".to_owned(), self.gateway.stats_url()],
            false => Vec::new(),
        };
        let operator = self.start_operator(&args).await;
        *self.operator.lock().await = Some(Running { operator, args });
    }

    /// Ends the operator as a crash would, and starts it again.
    pub async fn kill(&self) {
        let mut place = self.operator.lock().await;
        let Running { operator, args } = place.take().expect("an operator");
        operator.signal(Signal::Kill).expect("a kill");
        operator.stop().await.expect("an end");
        let operator = self.start_operator(&args).await;
        *place = Some(Running { operator, args });
    }

    /// Ends the operator, which has to run until then.
    pub async fn end(&self) {
        let running = self.operator.lock().await.take().expect("an operator");
        running.operator.check().expect("an operator that runs");
        running.operator.stop().await.expect("an end");
    }

    /// Starts an operator of this cloud as a process of its own, with more arguments for `banyan run`, and waits until
    /// it is ready. Its cloud is one of the CloudClusters already.
    async fn start_operator(&self, args: &[String]) -> Operator {
        let options = OperatorOptions {
            binary: PathBuf::from(env!("CARGO_BIN_EXE_banyan")),
            site: self.cloud.name().to_owned(),
            kubeconfig: self.cloud.kubeconfig_operator().expect("a kubeconfig"),
            dir: self.cloud.dir().join("operators"),
            replica: 0,
            args: args.to_vec(),
            env: Vec::new(),
        };
        let operator = Operator::start(&options, self.supervisor.clone()).expect("an operator");
        operator.ready().await.expect("an operator that is ready");
        operator
    }

    /// A namespace in which `stable` with three pods and `canary` with one share its host by weight.
    pub async fn pair(&self, name: &str, weights: [u32; 2]) -> Space<'_> {
        let space = self.space(name).await;
        let pods = [("stable", 3), ("canary", 1)];
        for (name, count) in pods {
            space.deploy(name, count).await;
        }
        space.route(&[("stable", weights[0]), ("canary", weights[1])]).await;
        // One at zero as well: its first request may come with the next route.
        for (name, count) in pods {
            let knows = async || (self.known(&space.cluster(name)).await == count as u64).then_some(());
            until("Envoy knows the pods", knows).await;
        }
        for (name, weight) in ["stable", "canary"].into_iter().zip(weights) {
            if weight > 0 {
                space.hears_of(name).await;
            }
        }
        space
    }

    /// Ends every behaviour that a scenario asked of all pods.
    pub fn calm(&self) {
        self.pods.outage(None);
    }

    /// What Envoy has counted: the sum of a counter for one Service, and one class of statuses where it is named.
    pub async fn envoy(&self, cluster: &str, class: Option<&str>) -> u64 {
        let text = fetch(&self.gateway.stats_url()).await;
        let cluster = format!("envoy_cluster_name=\"{cluster}\"");
        let class = class.map(|class| format!("envoy_response_code_class=\"{class}\"")).unwrap_or_default();
        sum(&text, "envoy_cluster_upstream_rq_xx", &[&cluster, &class])
    }

    /// How many calls of gRPC Envoy has counted for one Service with this status.
    pub async fn envoy_calls(&self, cluster: &str, status: u8) -> u64 {
        let text = fetch(&self.gateway.stats_url()).await;
        sum(&text, &format!("envoy_cluster_grpc_{status}"), &[&format!("envoy_cluster_name=\"{cluster}\"")])
    }

    /// How many pods of a Service Envoy knows to be well; none where it does not know the Service.
    pub async fn known(&self, cluster: &str) -> u64 {
        let text = fetch(&self.gateway.stats_url()).await;
        sum(&text, "envoy_cluster_membership_healthy", &[&format!("envoy_cluster_name=\"{cluster}\"")])
    }

    /// How large the page is that Envoy tells of all it has, and how long it takes.
    pub async fn page(&self) {
        let began = Instant::now();
        let text = fetch(&self.gateway.stats_url()).await;
        let clusters =
            text.lines().filter(|line| line.starts_with("envoy_cluster_upstream_rq_total{")).count();
        println!("(Envoy tells {} kB of {clusters} clusters in {:.0?})", text.len() >> 10, began.elapsed());
    }

    /// Tells what may explain a failure.
    pub fn explain(&self) {
        for problem in self.pods.problems() {
            println!("pods: {problem}");
        }
        // Envoy's log has a line for each request that failed, with a flag that says why.
        let log = std::fs::read_to_string(self.gateway.log(Program::Envoy)).unwrap_or_default();
        let failed: Vec<&str> = log.lines().filter(|line| line.contains("HTTP/1.1\" 5")).collect();
        println!("{} answers of 500 or more; the last that Envoy gave by itself:", failed.len());
        let own = failed.iter().rev().filter(|line| !line.contains("\" 500 - "));
        own.take(10).for_each(|line| println!("    {line}"));
        let log = banyan::sandbox::process::tail(&self.gateway.log(Program::Contour), 10);
        println!("the end of Contour's log:\n{log}");
    }

    /// Ends all.
    pub async fn stop(self) {
        let Self { supervisor, pods, .. } = self;
        drop(pods);
        let ended = tokio::task::spawn_blocking(move || supervisor.shutdown(Duration::from_secs(30))).await;
        ended.expect("no panic").expect("an end");
    }
}

/// Installs definitions and the chart's own rights.
async fn prepare(cloud: &Cloud, client: &Client, optional: &[Value]) {
    install::definitions(client, optional).await.expect("definitions are taken");
    let mut definitions = Vec::new();
    for (name, text) in banyan::cli::crds::files().expect("definitions") {
        definitions.extend(install::documents(&name, &text).expect("YAML"));
    }
    install::definitions(client, &definitions).await.expect("definitions are taken");
    let rights: Vec<Value> = install::documents("chart", CHART)
        .expect("YAML")
        .into_iter()
        .filter(|object| {
            !["Deployment", "CustomResourceDefinition", "PodDisruptionBudget", "Service"]
                .contains(&object["kind"].as_str().unwrap_or_default())
        })
        .collect();
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "banyan-system"}});
    install::apply(client, &[namespace]).await.expect("a namespace");
    install::apply(client, &rights).await.expect("the chart is taken");
    let site = json!({
        "apiVersion": "banyan.dev/v1alpha1", "kind": "CloudCluster",
        "metadata": {"name": cloud.name(), "namespace": "banyan-system"},
        "spec": {"residency": ["US"]},
    });
    install::apply(client, &[site]).await.expect("a site");
}

/// A namespace of one scenario. Its host at the gateway is `<namespace>.example`.
pub struct Space<'a> {
    /// What all share.
    pub world: &'a World,
    /// Its name.
    pub namespace: String,
}

impl Space<'_> {
    /// The host of its routes.
    pub fn host(&self) -> String {
        format!("{}.example", self.namespace)
    }

    /// The image reference of a release, which is unique to this namespace.
    pub fn release(&self, name: &str) -> String {
        format!("registry.example/{}/{name}", self.namespace)
    }

    /// Envoy's name of a Service that [`Space::deploy`] made.
    pub fn cluster(&self, name: &str) -> String {
        format!("{}_{name}_8080", self.namespace)
    }

    /// A Deployment and a Service of the same name, whose pods answer as the release `name:1`; waits until they serve.
    pub async fn deploy(&self, name: &str, replicas: usize) {
        self.deploy_speaking(name, replicas, "http").await;
    }

    /// The same with an `appProtocol`.
    pub async fn deploy_speaking(&self, name: &str, replicas: usize, protocol: &str) {
        let labels = json!({"app": name, "banyan.dev/service": "app", "banyan.dev/revision": name});
        let pod = json!({
            "metadata": {"labels": labels},
            "spec": {"containers": [{
                "name": "app", "image": self.release(name),
                "ports": [{"name": "http", "containerPort": 8080}, {"name": "metrics", "containerPort": 9090}],
                // Time for proxies to hear of it, as Banyan's pods have it.
                "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
            }]},
        });
        let metadata = json!({"name": name, "namespace": self.namespace});
        let objects = [
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {
                "replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": pod}}),
            json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {
                "selector": {"app": name}, "ports": [{"name": "http", "port": 8080, "appProtocol": protocol}]}}),
        ];
        install::apply(&self.world.client, &objects).await.expect("a workload");
        until(&format!("{replicas} pods of {name} are Ready"), async || {
            (self.ready(name).await == replicas).then_some(())
        })
        .await;
    }

    /// How many pods of a Deployment are Ready.
    async fn ready(&self, name: &str) -> usize {
        let api = self.api("apps/v1", "Deployment");
        let status = api.get(name).await.ok().map(|found| found.data["status"].clone()).unwrap_or_default();
        status["readyReplicas"].as_u64().unwrap_or_default() as usize
    }

    /// Changes how many pods a Deployment has.
    pub async fn scale(&self, name: &str, replicas: usize) {
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        let api = self.api("apps/v1", "Deployment");
        api.patch(name, &PatchParams::default(), &patch).await.expect("a Deployment that is scaled");
    }

    /// Deletes a Deployment and waits until its pods are gone.
    pub async fn delete(&self, name: &str) {
        let api = self.api("apps/v1", "Deployment");
        api.delete(name, &DeleteParams::background()).await.expect("a Deployment that is deleted");
        until(&format!("the pods of {name} are gone"), async || self.pods(name).is_empty().then_some(()))
            .await;
    }

    /// The served pods of a release.
    pub fn pods(&self, name: &str) -> Vec<ServedPod> {
        let mut pods = self.world.pods.pods();
        pods.retain(|pod| pod.release == self.release(name));
        pods
    }

    /// Writes the route of this namespace's host: Services and their weights.
    pub async fn route(&self, weights: &[(&str, u32)]) {
        let backends: Vec<Value> = weights
            .iter()
            .map(|(name, weight)| json!({"kind": "Service", "name": name, "port": 8080, "weight": weight}))
            .collect();
        let (namespace, name) = self.world.gateway.reference().split_once('/').map(own).expect("a reference");
        let route = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": "app", "namespace": self.namespace},
            "spec": {
                "parentRefs": [{"namespace": namespace, "name": name}],
                "hostnames": [self.host()],
                "rules": [{"backendRefs": backends}],
            },
        });
        install::apply(&self.world.client, &[route]).await.expect("a route");
    }

    /// A load on this namespace's host.
    pub fn load(&self) -> LoadOptions {
        LoadOptions::to(self.world.gateway.address(), self.host())
    }

    /// Waits until none of many requests in a row goes to a release, or fails. With another weight than zero that
    /// is next to impossible.
    pub async fn hears_nothing_of(&self, name: &str) {
        until(&format!("no request goes to {name}"), async || {
            let tally = Load::exactly(self.load().at(2000.0), 200).await.expect("a load");
            (tally.of(&self.release(name)).total() == 0 && tally.failed() == 0).then_some(())
        })
        .await;
    }

    /// Waits until a release answers.
    pub async fn hears_of(&self, name: &str) {
        until(&format!("requests go to {name}"), async || {
            let tally = Load::exactly(self.load().at(2000.0), 20).await.expect("a load");
            (tally.of(&self.release(name)).total() > 0 && tally.failed() == 0).then_some(())
        })
        .await;
    }

    /// The same in what is spoken at the port of a FinService: for `GRPC` its requests are calls.
    pub fn load_speaking(&self, protocol: &str) -> LoadOptions {
        let load = self.load();
        if protocol == "GRPC" { load.calling("/pay.v1.Ledger/Post") } else { load }
    }

    /// Objects of a kind in the namespace.
    pub fn api(&self, api_version: &str, kind: &str) -> Api<DynamicObject> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        Api::namespaced_with(self.world.client.clone(), &self.namespace, &resource)
    }
}

fn own((a, b): (&str, &str)) -> (String, String) {
    (a.to_owned(), b.to_owned())
}

/// The text at an address.
pub async fn fetch(url: &str) -> String {
    let client =
        reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().expect("a client");
    let answer = client.get(url).send().await.expect("an answer").error_for_status().expect("a good one");
    answer.text().await.expect("a text")
}

/// The sum over the series of a counter whose labels contain all of these.
pub fn sum(text: &str, name: &str, labels: &[&str]) -> u64 {
    let series =
        text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')));
    let wanted = series.filter(|line| labels.iter().all(|label| line.contains(label)));
    wanted
        .map(|line| line.rsplit(' ').next().and_then(|value| value.parse::<u64>().ok()).expect("a count"))
        .sum()
}

/// Asks until there is an answer; panics after [`PATIENCE`].
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// That a count of independent draws is what their chance makes of it: within six standard deviations, which chance
/// alone exceeds once in five hundred million times.
pub fn assert_share(count: u64, draws: u64, chance: f64) {
    let (count, draws) = (count as f64, draws as f64);
    let bound = 6.0 * (draws * chance * (1.0 - chance)).sqrt();
    let expected = draws * chance;
    assert!((count - expected).abs() <= bound, "{count} of {draws}, expected {expected} ± {bound:.0}");
}
