//! A gateway in front of one cloud: Contour, which follows HTTPRoutes, and Envoy, which carries the requests.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::api::DynamicObject;
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use serde_json::json;

use super::namespace;
use super::relay::short;
use super::tools::TrafficTools;
use crate::sandbox::cloud::Cloud;
use crate::sandbox::error::{Context, Error, Result};
use crate::sandbox::install;
use crate::sandbox::process::{Signal, Spec, Status, Supervisor, tail};
use crate::terminal::progress::Progress;

/// The namespace of the Gateway.
pub const NAMESPACE: &str = "projectcontour";
/// What a FinService's `ingress.gateway` or an HTTPRoute's parent names.
pub const NAME: &str = "public";

/// The Gateway's port. Contour adds 8000, as it has no right to lower ones where it usually runs.
const LISTENER_PORT: u16 = 80;
const HTTP_PORT: u16 = 8080;
const XDS_PORT: u16 = 8001;
const STATS_PORT: u16 = 8002;
const CONTOUR_PORT: u16 = 8000;
const DEBUG_PORT: u16 = 6060;
/// How long both may take to be ready. Three seconds are usual.
const READY: Duration = Duration::from_secs(90);
/// How often that is asked for.
const POLL: Duration = Duration::from_millis(50);
/// How long Envoy may take to end.
const GRACE: Duration = Duration::from_secs(2);

/// What a gateway is like.
#[derive(Debug, Clone)]
pub struct GatewayOptions {
    /// A loopback address on which it has its ports. Two gateways in one namespace need two.
    pub address: Ipv4Addr,
    /// Threads of Envoy.
    pub threads: usize,
}

impl GatewayOptions {
    /// An address that no other cloud of its namespace has; one thread.
    pub fn of(cloud: &Cloud) -> Self {
        Self { address: Ipv4Addr::new(127, 0, cloud.options().subnet, 1), threads: 1 }
    }
}

/// The programs of a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// Turns routes into configuration. Without it, requests go as they went.
    Contour,
    /// Carries requests.
    Envoy,
}

impl Program {
    const ALL: [Self; 2] = [Self::Contour, Self::Envoy];

    fn name(self) -> &'static str {
        match self {
            Self::Contour => "contour",
            Self::Envoy => "envoy",
        }
    }
}

/// A gateway that runs. Its processes end with the cloud's.
#[derive(Debug)]
pub struct Gateway {
    cloud: String,
    dir: PathBuf,
    address: Ipv4Addr,
    supervisor: Arc<Supervisor>,
}

impl Gateway {
    /// Installs Contour's definitions, a GatewayClass and the Gateway `projectcontour/public`, starts both programs, and
    /// waits until Envoy has its configuration and the Gateway is programmed. The cloud must have Gateway API's
    /// definitions.
    ///
    /// # Errors
    /// Outside of a network namespace; when a program ends or is not ready in 90 s, with the end of its log.
    pub async fn start(
        cloud: &Cloud,
        tools: &TrafficTools,
        options: &GatewayOptions,
        progress: &Progress,
    ) -> Result<Self> {
        if !namespace::inside() {
            return Err(Error::new(
                "a gateway reaches pods only inside a network namespace: call enter() first",
            ));
        }
        let step = progress.step(format!("{}: gateway", cloud.name()));
        let client = cloud.client_admin()?;
        install::definitions(&client, &tools.contour_definitions()?).await?;
        install::apply(&client, &objects()).await?;
        let dir = cloud.dir().join("gateway");
        std::fs::create_dir_all(&dir).context(|| format!("making the folder {}", dir.display()))?;
        let gateway = Self {
            cloud: cloud.name().to_owned(),
            dir,
            address: options.address,
            supervisor: cloud.supervisor().clone(),
        };
        gateway.spawn(Program::Contour, gateway.contour(cloud, tools)?)?;
        gateway.bootstrap(tools).await?;
        gateway.spawn(Program::Envoy, gateway.envoy(tools, options.threads))?;
        gateway.ready(&client).await?;
        step.done();
        Ok(gateway)
    }

    /// Where requests go.
    pub fn address(&self) -> SocketAddr {
        (self.address, HTTP_PORT).into()
    }

    /// What the Gateway is called where an HTTPRoute or a FinService names it: `projectcontour/public`.
    pub fn reference(&self) -> String {
        format!("{NAMESPACE}/{NAME}")
    }

    /// Where Envoy's counters are, in Prometheus' format.
    pub fn stats_url(&self) -> String {
        format!("http://{}:{STATS_PORT}/stats/prometheus", self.address)
    }

    /// The log of a program.
    pub fn log(&self, program: Program) -> PathBuf {
        self.dir.join(format!("{}.log", program.name()))
    }

    /// The process id of a program; `None` where it does not run.
    pub fn pid(&self, program: Program) -> Option<u32> {
        match self.supervisor.status(&self.process(program)) {
            Some(Status::Running(pid)) => Some(pid),
            _ => None,
        }
    }

    /// Sends a signal to a program.
    ///
    /// # Errors
    /// When the supervisor is gone.
    pub fn signal(&self, program: Program, signal: Signal) -> Result<()> {
        self.supervisor.signal(&self.process(program), signal)
    }

    /// Ends both programs.
    ///
    /// # Errors
    /// When one is still there after SIGKILL.
    pub async fn stop(self) -> Result<()> {
        tokio::task::spawn_blocking(move || {
            let stop = |program| self.supervisor.stop(&self.process(program), GRACE);
            Program::ALL.into_iter().rev().try_for_each(stop)
        })
        .await
        .context(|| "stopping a gateway")?
    }

    async fn ready(&self, client: &Client) -> Result<()> {
        let http = http_client()?;
        let ready = format!("http://{}:{STATS_PORT}/ready", self.address);
        let resource =
            ApiResource::from_gvk(&GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "Gateway"));
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), NAMESPACE, &resource);
        self.until("the gateway is ready", async || {
            if !http.get(&ready).send().await.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(false);
            }
            let gateway = api.get(NAME).await.context(|| "reading the Gateway")?;
            let conditions = gateway.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
            Ok(conditions.iter().any(|one| one["type"] == "Programmed" && one["status"] == "True"))
        })
        .await
    }

    async fn until(&self, what: &str, mut ask: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + READY;
        loop {
            let answer = ask().await;
            if matches!(answer, Ok(true)) {
                return Ok(());
            }
            let ended = Program::ALL.into_iter().find(|program| self.pid(*program).is_none());
            if ended.is_some() || Instant::now() > deadline {
                let why = answer.err().map(|error| format!(" ({error})")).unwrap_or_default();
                let waited = READY.as_secs();
                let so = match ended {
                    Some(program) => format!("{} ended before {what}", program.name()),
                    None => format!("after {waited} s it is not so that {what}"),
                };
                let logs: String = Program::ALL
                    .iter()
                    .map(|program| format!("{}:\n{}", program.name(), tail(&self.log(*program), 10)))
                    .collect();
                return Err(Error::new(format!("{}: {so}{why}; the ends of the logs:\n{logs}", self.cloud)));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn spawn(&self, program: Program, argv: Vec<String>) -> Result<()> {
        let spec = Spec {
            name: self.process(program),
            argv,
            env: Vec::new(),
            dir: Some(self.dir.clone()),
            log: self.log(program),
            stage: 3,
            grace: if program == Program::Envoy { GRACE } else { Duration::ZERO },
        };
        self.supervisor.spawn(&spec).map(drop)
    }

    fn process(&self, program: Program) -> String {
        format!("{}/{}", self.cloud, program.name())
    }

    fn contour(&self, cloud: &Cloud, tools: &TrafficTools) -> Result<Vec<String>> {
        let config = self.dir.join("contour.yaml");
        let text = json!({
            "gateway": {"gatewayRef": {"namespace": NAMESPACE, "name": NAME}},
            // A line for each request that failed tells why; one for each request costs too much.
            "accesslog-level": "error",
        })
        .to_string();
        std::fs::write(&config, text).context(|| format!("writing {}", config.display()))?;
        let kubeconfig = cloud.dir().join("kubeconfig");
        let address = self.address;
        let mut argv = vec![tools.contour.display().to_string(), "serve".into(), "--insecure".into()];
        argv.extend([
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--config-path={}", config.display()),
            "--disable-leader-election".into(),
            // The default of ten requests a second is for a cluster whose API server others need too.
            "--kubernetes-client-qps=500".into(),
            "--kubernetes-client-burst=1000".into(),
        ]);
        for (flag, port) in [
            ("xds", XDS_PORT),
            ("envoy-service-http", HTTP_PORT),
            ("stats", STATS_PORT),
            ("http", CONTOUR_PORT),
            ("health", CONTOUR_PORT),
            ("debug-http", DEBUG_PORT),
        ] {
            argv.extend([format!("--{flag}-address={address}"), format!("--{flag}-port={port}")]);
        }
        Ok(argv)
    }

    /// Writes Envoy's first configuration, which says where the rest comes from.
    async fn bootstrap(&self, tools: &TrafficTools) -> Result<()> {
        let doing = || "writing Envoy's configuration with contour bootstrap";
        let output = tokio::process::Command::new(&tools.contour)
            .arg("bootstrap")
            .arg(self.bootstrap_file())
            .arg(format!("--xds-address={}", self.address))
            .arg(format!("--xds-port={XDS_PORT}"))
            .arg("--xds-resource-version=v3")
            .arg("--dns-lookup-family=v4")
            .arg(format!(
                "--admin-address={}",
                short(&self.dir, &format!("envoy-{}.sock", std::process::id())).display()
            ))
            .stdin(Stdio::null())
            .output()
            .await
            .context(doing)?;
        if output.status.success() {
            return Ok(());
        }
        Err(Error::new(format!("{} failed: {}", doing(), String::from_utf8_lossy(&output.stderr).trim())))
    }

    fn envoy(&self, tools: &TrafficTools, threads: usize) -> Vec<String> {
        let mut argv = vec![tools.envoy.display().to_string()];
        // Its flags take no equals sign.
        for (flag, value) in [
            ("--config-path", self.bootstrap_file().display().to_string()),
            ("--service-cluster", "projectcontour".into()),
            ("--service-node", self.cloud.clone()),
            ("--log-level", "warning".into()),
            ("--concurrency", threads.to_string()),
            ("--file-flush-interval-msec", "200".into()),
        ] {
            argv.extend([flag.into(), value]);
        }
        // It would share memory with a second Envoy of the same machine.
        argv.push("--disable-hot-restart".into());
        argv
    }

    fn bootstrap_file(&self) -> PathBuf {
        self.dir.join("envoy.json")
    }
}

fn http_client() -> Result<reqwest::Client> {
    reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(5))
        .build()
        .context(|| "making an HTTP client")
}

/// The namespace, the GatewayClass, the Gateway, and the Service that Contour looks for.
fn objects() -> Vec<serde_json::Value> {
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
            "metadata": {"name": "contour"},
            "spec": {"controllerName": "projectcontour.io/gateway-controller"},
        }),
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"name": NAME, "namespace": NAMESPACE},
            "spec": {
                "gatewayClassName": "contour",
                "listeners": [{
                    "name": "http", "protocol": "HTTP", "port": LISTENER_PORT,
                    "allowedRoutes": {"namespaces": {"from": "All"}},
                }],
            },
        }),
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "envoy", "namespace": NAMESPACE},
            "spec": {"ports": [{"name": "http", "port": LISTENER_PORT, "targetPort": HTTP_PORT}]},
        }),
    ]
}
