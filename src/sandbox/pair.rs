//! The pair of clouds, and the one that the tests of a binary share.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::OnceCell;

use super::cloud::Cloud;
use super::cloud_options::CloudOptions;
use super::ends::clouds::CloudEnds;
use super::error::{Context, Error, Result};
use super::install;
use super::process::Supervisor;
use super::tools::{self, Tools};
use crate::terminal::progress::Progress;

/// How long all processes of a pair may take to end.
const END: Duration = Duration::from_secs(20);

/// What a pair of clouds is like.
#[derive(Debug, Clone)]
pub struct PairOptions {
    /// The folder that takes both; a new temporary one where there is none. It is removed at the end.
    pub dir: Option<PathBuf>,
    /// Each cloud.
    pub clouds: [CloudOptions; 2],
    /// What is installed in both before they count as started.
    pub install: Install,
    /// Where the steps are told.
    pub progress: Progress,
}

/// What is installed in a cloud at its start.
#[derive(Debug, Clone)]
pub struct Install {
    /// The definitions of the optional APIs: Istio, Gateway API, Prometheus operator, Strimzi.
    pub optional_apis: bool,
    /// Objects applied after them, such as Banyan's definitions and RBAC. Workloads among
    /// them are left out: the operator runs beside the cloud, not on its played nodes.
    pub manifests: Vec<Value>,
}

impl Install {
    /// Nothing: a cloud as it is when Kubernetes is new.
    pub fn nothing() -> Self {
        Self { optional_apis: false, manifests: Vec::new() }
    }
}

impl Default for PairOptions {
    fn default() -> Self {
        Self {
            dir: None,
            clouds: [CloudOptions::aws(), CloudOptions::gcp()],
            install: Install { optional_apis: true, manifests: Vec::new() },
            progress: Progress::stderr(),
        }
    }
}

/// Two clouds that run. However this process ends, theirs end, and their folder goes.
#[derive(Debug)]
pub struct Pair {
    /// `aws-us-east-1`.
    pub aws: Cloud,
    /// `gcp-us-central1`.
    pub gcp: Cloud,
    /// What the optional APIs' definitions are, among others.
    pub tools: Tools,
    /// The clouds' own APIs, in which both are known.
    pub ends: CloudEnds,
    dir: PathBuf,
    supervisor: Arc<Supervisor>,
}

impl Pair {
    /// Finds or builds what it takes, and starts both clouds side by side: a few seconds when all is built.
    ///
    /// # Errors
    /// When a tool cannot be built, or a cloud is not ready in 90 s.
    pub async fn start(options: PairOptions) -> Result<Self> {
        let progress = options.progress.clone();
        let supervisor = supervisor(progress.clone()).await?;
        let tools = prepare(supervisor.clone(), progress).await?;
        Self::launch(supervisor, tools, options).await
    }

    /// Starts both clouds with what was prepared. Whoever waits for it can end it with the supervisor.
    ///
    /// # Errors
    /// When a cloud is not ready in 90 s.
    pub async fn launch(supervisor: Arc<Supervisor>, tools: Tools, options: PairOptions) -> Result<Self> {
        let dir = folder(options.dir.as_deref())?;
        supervisor.remove_at_end(&dir)?;
        let ends = CloudEnds::start().await?;
        let [mut aws, mut gcp] = options.clouds;
        let [of_aws, of_gcp] = ends.token_reviews();
        (aws.token_review, gcp.token_review) = (Some(of_aws), Some(of_gcp));
        let install = &options.install;
        let start = |cloud: CloudOptions| {
            let dir = dir.join(&cloud.name);
            let (tools, supervisor, progress) = (&tools, supervisor.clone(), &options.progress);
            async move {
                let cloud = Cloud::start(cloud, &dir, tools, supervisor, progress).await?;
                let step = progress.step(format!("{}: definitions and manifests", cloud.name()));
                let client = cloud.client_admin()?;
                if install.optional_apis {
                    install::definitions(&client, &tools.optional_definitions()?).await?;
                }
                install::apply(&client, &without_workloads(&install.manifests)).await?;
                step.done();
                Ok::<_, Error>(cloud)
            }
        };
        let (aws, gcp) = tokio::try_join!(start(aws), start(gcp))?;
        ends.publish([&aws, &gcp]);
        Ok(Self { aws, gcp, tools, ends, dir, supervisor })
    }

    /// Both clouds.
    pub fn clouds(&self) -> [&Cloud; 2] {
        [&self.aws, &self.gcp]
    }

    /// The folder of both.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What keeps the processes of both.
    pub fn supervisor(&self) -> &Arc<Supervisor> {
        &self.supervisor
    }

    /// Ends all and removes the folder. Dropping a pair does the same without waiting for it.
    ///
    /// # Errors
    /// When something still runs after 20 s.
    pub async fn stop(self) -> Result<()> {
        let supervisor = self.supervisor.clone();
        tokio::task::spawn_blocking(move || supervisor.shutdown(END))
            .await
            .context(|| "stopping the clouds")?
    }
}

/// Starts the supervisor, which is built first where it was not yet.
///
/// # Errors
/// When there is no Go, and the supervisor was not built before.
pub async fn supervisor(progress: Progress) -> Result<Arc<Supervisor>> {
    tokio::task::spawn_blocking(move || Supervisor::start(&tools::supervise(&progress)?).map(Arc::new))
        .await
        .context(|| "preparing the supervisor")?
}

/// Finds or builds all else.
///
/// # Errors
/// When a tool can be neither found nor built, or the supervisor was told to end.
pub async fn prepare(supervisor: Arc<Supervisor>, progress: Progress) -> Result<Tools> {
    tokio::task::spawn_blocking(move || Tools::obtain(&supervisor, &progress))
        .await
        .context(|| "preparing the tools")?
}

/// Leaves out what would run on nodes, and what speaks of that.
pub(super) fn without_workloads(manifests: &[Value]) -> Vec<Value> {
    const LEFT_OUT: [&str; 4] = ["Deployment", "PodDisruptionBudget", "ServiceMonitor", "PrometheusRule"];
    let kind = |object: &Value| object["kind"].as_str().unwrap_or_default().to_owned();
    manifests.iter().filter(|object| !LEFT_OUT.contains(&kind(object).as_str())).cloned().collect()
}

fn folder(wanted: Option<&Path>) -> Result<PathBuf> {
    let dir = match wanted {
        Some(dir) => dir.to_owned(),
        None => {
            // Unique among all processes of this machine and all pairs of this process.
            static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
            let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            std::env::temp_dir().join(format!("banyan-clouds-{}-{number}", std::process::id()))
        }
    };
    std::fs::create_dir_all(&dir).context(|| format!("making the folder {}", dir.display()))?;
    // The supervisor, which removes it, has the same working folder, but nobody need rely on it.
    dir.canonicalize().context(|| format!("finding the folder {}", dir.display()))
}

/// The pair that all tests of a binary share; each test takes namespaces of its own.
/// Its clients belong to the runtime of the test that asks for them, so ask in each.
///
/// # Errors
/// When it does not start. The next call tries again.
pub async fn pair() -> Result<&'static Pair> {
    static PAIR: OnceCell<Pair> = OnceCell::const_new();
    PAIR.get_or_try_init(|| Pair::start(PairOptions::default())).await
}
