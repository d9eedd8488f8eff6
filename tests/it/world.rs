//! A namespace of its own in a cloud whose operator runs: what most tests begin with.

use std::time::{Duration, Instant};

use banyan::api::FinService;
use banyan::api::labels::{CHANGED_BY_ANNOTATION, SAID_BY_ANNOTATION};
use banyan::cli::clouds::CloudArgs;
use banyan::cli::cluster::ClusterArgs;
use banyan::cli::operator::Operator;
use banyan::cli::run::{self, RunOptions};
use banyan::sandbox::{Cloud, CloudOptions, install, pair};
use banyan::terminal::progress::Progress;
use kube::api::{Api, DynamicObject, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

/// The chart as Helm renders it with its default values: what the operator may do, and no more.
pub const CHART: &str = include_str!("../goldens/chart/rendered.yaml");

/// How long a test waits for anything. Nothing depends on being fast; this only ends what hangs.
pub const PATIENCE: Duration = Duration::from_secs(180);

static AWS: OnceCell<()> = OnceCell::const_new();

/// Waits until a test that keeps two clouds of its own busy may begin, and has others of that kind wait until it ends. Two of
/// them leave the others enough of two cores; three leave nobody the time that it waits for.
pub async fn with_two_clouds() -> SemaphorePermit<'static> {
    static TWO: Semaphore = Semaphore::const_new(2);
    TWO.acquire().await.expect("nobody closes it")
}

/// The shared cloud `aws-us-east-1`, with definitions, rights and a running operator.
pub async fn aws() -> &'static Cloud {
    let cloud = &pair().await.expect("a pair of clouds").aws;
    AWS.get_or_init(|| async {
        prepare(cloud).await;
        start_operator(cloud, CancellationToken::new(), "shared");
    })
    .await;
    cloud
}

/// Installs definitions and the chart's own rights.
pub async fn prepare(cloud: &Cloud) {
    let client = cloud.client_admin().expect("a client");
    let mut definitions = Vec::new();
    for (name, text) in banyan::cli::crds::files().expect("definitions") {
        definitions.extend(install::documents(&name, &text).expect("YAML"));
    }
    install::definitions(&client, &definitions).await.expect("definitions are taken");
    let rights: Vec<Value> = install::documents("chart", CHART)
        .expect("YAML")
        .into_iter()
        .filter(|object| {
            !["Deployment", "CustomResourceDefinition", "PodDisruptionBudget", "Service"]
                .contains(&object["kind"].as_str().unwrap_or_default())
        })
        .collect();
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "banyan-system"}});
    install::apply(&client, &[namespace]).await.expect("a namespace");
    install::apply(&client, &rights).await.expect("the chart is taken");
    let site = json!({
        "apiVersion": "banyan.dev/v1alpha1", "kind": "CloudCluster",
        "metadata": {"name": cloud.name(), "namespace": "banyan-system"},
        "spec": {"residency": ["US"]},
    });
    install::apply(&client, &[site]).await.expect("a site");
    named(&client).await;
}

/// Waits until the policies of the chart are in force: until then, and for some seconds after definitions have
/// changed, writes may be answered with 503.
async fn named(client: &Client) {
    let policy = json!({"service": "named", "strategy": {"blueGreen": {}}});
    for (kind, spec, key) in [
        ("FinService", small(), CHANGED_BY_ANNOTATION),
        ("CanaryRollout", policy, CHANGED_BY_ANNOTATION),
        ("Action", said(), SAID_BY_ANNOTATION),
    ] {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("banyan.dev", "v1alpha1", kind));
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), "banyan-system", &resource);
        let object = DynamicObject::new("named", &resource).data(json!({"spec": spec}));
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        until(&format!("who makes a {kind} is written"), async || {
            let made = api.create(&dry, &object).await.ok()?;
            made.annotations().contains_key(key).then_some(())
        })
        .await;
    }
}

fn said() -> Value {
    json!({"target": {"kind": "CanaryRollout", "name": "app"}, "verb": "abort"})
}

/// Starts an operator in this process, under the rights of the chart.
pub fn start_operator(
    cloud: &Cloud,
    shutdown: CancellationToken,
    identity: &str,
) -> std::thread::JoinHandle<()> {
    start_operator_with(cloud, shutdown, identity, |_| ())
}

/// The same with options that the caller changes.
fn start_operator_with(
    cloud: &Cloud,
    shutdown: CancellationToken,
    identity: &str,
    change: impl FnOnce(&mut RunOptions),
) -> std::thread::JoinHandle<()> {
    let path = cloud.dir().join(format!("kubeconfig-operator-{identity}"));
    std::fs::write(&path, cloud.kubeconfig_operator().expect("a kubeconfig")).expect("written");
    let mut options = RunOptions {
        site: cloud.name().to_owned(),
        cluster: ClusterArgs { kubeconfig: Some(path), context: None },
        namespace: "banyan-system".to_owned(),
        listen: "127.0.0.1:0".parse().expect("an address"),
        log_format: None,
        otlp_endpoint: None,
        gateway_metrics: Vec::new(),
        // Whatever plays Prometheus and web servers plays here.
        evidence_allow: vec!["127.0.0.0/8".parse().expect("a network")],
        istio_namespace: "istio-system".to_owned(),
        scraper_namespaces: Vec::new(),
        gateways: Default::default(),
        hosts: Default::default(),
        kafka_per_namespace: false,
        notifications: Default::default(),
        launch_darkly_url: "http://localhost:9".to_owned(),
        concurrency: 32,
        clouds: CloudArgs::default(),
        identity: Some(identity.to_owned()),
    };
    change(&mut options);
    // A runtime of its own: each test has one that ends with it, the operator outlives them all.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            if let Err(error) = run::operate(options, Operator::new, shutdown).await {
                eprintln!("the operator ended: {error}");
            }
        });
    })
}

/// A cloud for one test alone, with an operator of its own.
pub struct Alone {
    /// The cloud.
    pub cloud: Cloud,
    shutdown: CancellationToken,
    operator: std::thread::JoinHandle<()>,
}

/// Starts a cloud for one test alone, without the optional APIs, with an operator of its own.
pub async fn alone(name: &str) -> Alone {
    alone_with(name, |_| ()).await
}

/// The same with an operator whose options the caller changes.
pub async fn alone_with(name: &str, change: impl FnOnce(&mut RunOptions)) -> Alone {
    let shared = pair().await.expect("a pair of clouds");
    let (supervisor, tools) = (shared.supervisor().clone(), &shared.tools);
    let options = CloudOptions { name: name.to_owned(), subnet: 9, ..CloudOptions::aws() };
    let dir = shared.dir().join(format!("alone-{name}"));
    let progress = Progress::stderr();
    let cloud = Cloud::start(options, &dir, tools, supervisor.clone(), &progress).await.expect("a cloud");
    prepare(&cloud).await;
    let shutdown = CancellationToken::new();
    let operator = start_operator_with(&cloud, shutdown.clone(), name, change);
    Alone { cloud, shutdown, operator }
}

/// The definitions of the optional APIs.
pub async fn optional_definitions() -> Vec<Value> {
    pair().await.expect("a pair of clouds").tools.optional_definitions().expect("definitions")
}

impl Alone {
    /// Ends the operator, as a SIGTERM would.
    pub async fn end_operator(mut self) -> Self {
        self.shutdown.cancel();
        let operator = std::mem::replace(&mut self.operator, std::thread::spawn(|| ()));
        tokio::task::spawn_blocking(move || operator.join()).await.expect("joined").expect("no panic");
        self
    }

    /// Ends the operator and the cloud.
    pub async fn stop(self) {
        self.shutdown.cancel();
        let operator = self.operator;
        tokio::task::spawn_blocking(move || operator.join()).await.expect("joined").expect("no panic");
        self.cloud.kill().expect("an end");
    }
}

/// A namespace of a test.
pub struct World {
    /// The administrator's client.
    pub client: Client,
    /// The namespace.
    pub namespace: String,
}

impl World {
    /// A new namespace in the shared cloud.
    pub async fn new(name: &str) -> Self {
        let cloud = aws().await;
        Self::on(cloud, name).await
    }

    /// A new namespace in that cloud.
    pub async fn on(cloud: &Cloud, name: &str) -> Self {
        let client = cloud.client_admin().expect("a client");
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
        let metadata = ObjectMeta {
            generate_name: Some(format!("{name}-")),
            labels: Some([("istio-injection".to_owned(), "enabled".to_owned())].into()),
            ..ObjectMeta::default()
        };
        let namespace = k8s_openapi::api::core::v1::Namespace { metadata, ..Default::default() };
        let made = namespaces.create(&PostParams::default(), &namespace).await.expect("a namespace");
        Self { client, namespace: made.name_any() }
    }

    /// The namespace of that name in that cloud: what GitOps does for every cluster.
    pub async fn named(cloud: &Cloud, namespace: &str) -> Self {
        let client = cloud.client_admin().expect("a client");
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": {"istio-injection": "enabled"}}});
        install::apply(&client, &[object]).await.expect("a namespace");
        Self { client, namespace: namespace.to_owned() }
    }

    /// The ConfigMap and the Secret that [`rich`] reads.
    pub async fn references(&self) {
        let settings = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings",
            "namespace": self.namespace}, "data": {"A": "1"}});
        let db = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db",
            "namespace": self.namespace}, "stringData": {"password": "p"}});
        install::apply(&self.client, &[settings, db]).await.expect("references");
    }

    /// Objects of a kind in the namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Objects of a kind that is named, such as `("networking.istio.io/v1", "VirtualService")`.
    pub fn dynamic(&self, api_version: &str, kind: &str) -> Api<DynamicObject> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    /// Applies a FinService as a team would, by server-side apply.
    pub async fn apply(&self, name: &str, spec: Value) -> kube::Result<FinService> {
        let object = json!({
            "apiVersion": "banyan.dev/v1alpha1", "kind": "FinService",
            "metadata": {"name": name, "namespace": self.namespace}, "spec": spec,
        });
        let parameters = PatchParams::apply("team").force();
        let began = Instant::now();
        loop {
            match self.api::<FinService>().patch(name, &parameters, &Patch::Apply(&object)).await {
                // The policy that writes names waits for definitions that have just changed.
                Err(kube::Error::Api(status)) if status.code == 503 && began.elapsed() < PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                answered => return answered,
            }
        }
    }

    /// Waits until a FinService is Ready for its newest spec.
    pub async fn ready(&self, name: &str) -> FinService {
        self.status(name, "it is Ready", |service| {
            condition(service, "Ready") == Some("True") && condition(service, "Reconciling") == Some("False")
        })
        .await
    }

    /// Waits until the status of a FinService, for its newest spec, is as wanted.
    pub async fn status(&self, name: &str, what: &str, is: impl Fn(&FinService) -> bool) -> FinService {
        let api = self.api::<FinService>();
        until(&format!("{name}: {what}"), async || {
            let service = api.get(name).await.ok()?;
            let status = service.status.as_ref()?;
            (status.observed_generation == service.metadata.generation && is(&service)).then_some(service)
        })
        .await
    }
}

/// The status of a condition.
pub fn condition<'a>(service: &'a FinService, kind: &str) -> Option<&'a str> {
    let conditions = &service.status.as_ref()?.conditions;
    conditions.iter().find(|condition| condition.type_ == kind).map(|condition| condition.status.as_str())
}

/// Asks until there is an answer; panics after [`PATIENCE`].
pub async fn until<T>(what: &str, ask: impl AsyncFnMut() -> Option<T>) -> T {
    until_within(PATIENCE, Duration::from_millis(20), what, ask).await
}

/// The same with the patience and the pause between two questions that the caller has.
pub async fn until_within<T>(
    patience: Duration,
    pause: Duration,
    what: &str,
    mut ask: impl AsyncFnMut() -> Option<T>,
) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(began.elapsed() < patience, "waited {patience:?} in vain: {what}");
        tokio::time::sleep(pause).await;
    }
}

/// A FinService with a child of nearly every kind. [`World::references`] makes what it reads.
pub fn rich() -> Value {
    json!({
        "owner": "team", "image": "registry.example/app:1", "version": "1",
        "ports": [
            {"name": "http", "port": 8080}, {"name": "grpc", "port": 9000, "protocol": "GRPC"},
            {"name": "iso", "port": 8583, "protocol": "TCP"}, {"name": "metrics", "port": 9090},
        ],
        "env": [
            {"name": "LEVEL", "value": "info"},
            {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}},
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "GOMEMLIMIT", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}},
        ],
        "envFrom": [{"prefix": "APP_", "configMapRef": {"name": "settings"}}],
        "files": [{"mountPath": "/etc/keys", "secret": "db"}],
        "volumes": [{"name": "cache", "mountPath": "/var/cache/app", "emptyDir": {"sizeLimit": "0.5Gi"}}],
        "initContainers": [{"name": "migrate", "image": "registry.example/migrate:9", "args": ["up"]}],
        "resources": {"requests": {"cpu": "0.5", "memory": "1024Mi"}, "limits": {"memory": "1.5Gi"}},
        "probes": {
            "readiness": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 5},
            "liveness": {"grpc": {"port": 9000}},
        },
        "scale": {"min": 3, "max": 6},
        "tier": "Critical",
        "identity": {"awsRoleArn": "arn:aws:iam::123456789012:role/app"},
        "mesh": {
            "provider": "Istio", "timeout": "2s", "retries": {"attempts": 0},
            "circuitBreaker": {"maxConnections": 200, "consecutive5xx": 5, "ejectionTime": "30s"},
        },
        "access": {
            "inbound": [{"service": "gateway", "namespace": "edge"}, {"cidr": "10.20.0.0/16"}],
            "outbound": {"services": [{"service": "ledger"}], "hosts": ["api.stripe.com"]},
            "jwt": {"issuer": "https://auth.example", "jwksUri": "https://auth.example/keys", "audiences": ["api"]},
        },
        "observability": {
            "metrics": {"port": "metrics"}, "tracing": {"endpoint": "http://otel.observability.svc:4317"},
            "logs": {"errorRateAlert": true},
        },
        "slo": {"availability": "99.9", "latency": {"threshold": "200ms", "percent": "99"}},
        "data": {"residency": "US", "topics": [
            {"name": "payments-kept", "partitions": 12, "retention": "7d"},
            {"name": "payments-gone", "onDelete": "Delete"},
        ]},
    })
}

/// A small FinService.
pub fn small() -> Value {
    json!({
        "owner": "team", "image": "registry.example/app:1",
        "ports": [{"name": "http", "port": 8080}], "scale": {"replicas": 2},
    })
}
