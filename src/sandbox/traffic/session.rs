//! Traffic in `banyan sandbox`: a gateway and served pods in each cloud, and doors to them from outside.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::gateway::{NAME, NAMESPACE};
use super::namespace;
use super::relay::{DOORS, Door};
use super::{Gateway, GatewayOptions, PodRunner, TrafficTools};
use crate::sandbox::cloud::Cloud;
use crate::sandbox::cloud_options::CloudOptions;
use crate::sandbox::error::{Context, Result};
use crate::sandbox::pair::{self, Pair};
use crate::sandbox::postgres::PostgresTools;
use crate::sandbox::postgres::tools::is_root;
use crate::terminal::progress::Progress;

/// How long the processes that built something may take to end.
const END: Duration = Duration::from_secs(10);

/// Starts this program anew inside a network namespace, with doors to both clouds; it comes back at once where it is
/// inside already. `stores`: PostgreSQL is to run inside. Where this machine cannot do that, it says why and comes back, too.
///
/// # Errors
/// When the clouds' own tools cannot be built, or a door cannot be made.
pub async fn go_inside(dir: &Path, progress: &Progress, stores: bool) -> Result<()> {
    if namespace::inside() {
        return Ok(());
    }
    // What has to be built or downloaded is, while there is a network.
    let obtained = match namespace::possible() {
        Ok(()) => obtain(progress, stores).await?,
        Err(error) => Err(error),
    };
    if let Err(error) = obtained {
        progress.say(&format!("the sandbox goes on without real traffic: {error}"));
        return Ok(());
    }
    let program = program()?;
    let dir = std::path::absolute(dir).context(|| format!("finding the folder {}", dir.display()))?;
    let mut doors = Vec::new();
    for cloud in [CloudOptions::aws().name, CloudOptions::gcp().name] {
        for name in [cloud.clone(), gateway_of(&cloud)] {
            doors.push(Door::make(&name, &program, &dir)?);
        }
    }
    namespace::enter(&[(DOORS, Door::write(&doors))]).map(drop)
}

/// What both clouds need, which must be there; and what traffic needs, whose absence is told.
async fn obtain(progress: &Progress, stores: bool) -> Result<Result<()>> {
    let supervisor = pair::supervisor(progress.clone()).await?;
    pair::prepare(supervisor.clone(), progress.clone()).await?;
    let progress = progress.clone();
    tokio::task::spawn_blocking(move || {
        let tools = TrafficTools::obtain(&supervisor, &progress).map(drop);
        // Only root's may run inside. Whether there is one is told there.
        if stores && is_root() {
            drop(PostgresTools::obtain(&supervisor, &progress));
        }
        // This process goes on as another program, which knows nothing of this supervisor.
        supervisor.shutdown(END).map(|()| tools)
    })
    .await
    .context(|| "preparing traffic")?
}

fn program() -> Result<PathBuf> {
    std::env::current_exe().context(|| "finding the program banyan")
}

fn gateway_of(cloud: &str) -> String {
    format!("{cloud}-gateway")
}

/// What runs besides the clouds; dropping it leaves pods without an answer.
pub struct Traffic {
    doors: Vec<Door>,
    gateways: Vec<Gateway>,
    runners: Vec<PodRunner>,
}

impl Traffic {
    /// Starts to serve the pods of both clouds, and a gateway in each; `None` outside of a namespace.
    ///
    /// # Errors
    /// When a gateway is not ready in time, or a door cannot be opened.
    pub async fn start(pair: &Pair, progress: &Progress) -> Result<Option<Self>> {
        if !namespace::inside() {
            return Ok(None);
        }
        let tools = {
            let (supervisor, progress) = (pair.supervisor().clone(), progress.clone());
            tokio::task::spawn_blocking(move || TrafficTools::obtain(&supervisor, &progress))
        };
        let tools = tools.await.context(|| "preparing traffic")??;
        let runners = pair.clouds().into_iter().map(PodRunner::start).collect::<Result<_>>()?;
        let start =
            async |cloud: &Cloud| Gateway::start(cloud, &tools, &GatewayOptions::of(cloud), progress).await;
        let gateways = futures::future::try_join_all(pair.clouds().map(start)).await?;
        let traffic = Self { doors: Door::inherited()?, gateways, runners };
        let program = program()?;
        for (cloud, gateway) in pair.clouds().into_iter().zip(&traffic.gateways) {
            let to_gateway = format!("http://{}", gateway.address());
            for (name, to) in
                [(cloud.name().to_owned(), cloud.server()), (gateway_of(cloud.name()), &to_gateway)]
            {
                // There is none for who was inside before, and who needs none.
                if let Some(door) = traffic.door(&name) {
                    door.open(to, &program, pair.dir(), pair.supervisor())?;
                }
            }
        }
        Ok(Some(traffic))
    }

    /// The server that a kubeconfig for outside names: `https://127.0.0.1:…`; `None` where no door leads there.
    pub fn server(&self, cloud: &str) -> Option<String> {
        self.door(cloud).map(|door| format!("https://{}", door.outside))
    }

    /// How to send a request from outside, a line for each cloud, and who answers it.
    pub fn how_to(&self) -> String {
        let line = |door: &Door| {
            format!("  curl --header 'host: HOST' http://{}/    # {}\n", door.outside, door.name)
        };
        let lines: String =
            self.doors.iter().filter(|door| door.name.ends_with("-gateway")).map(line).collect();
        format!(
            "{lines}HOST is one of spec.ingress.hosts of a FinService with mesh.provider GatewayAPI and ingress.gateway \
             {NAMESPACE}/{NAME}.\n"
        )
    }

    /// The gateways, one in each cloud in the order of the pair.
    pub fn gateways(&self) -> &[Gateway] {
        &self.gateways
    }

    /// Who serves the pods, in the same order.
    pub fn runners(&self) -> &[PodRunner] {
        &self.runners
    }

    /// What went wrong with pods so far, in both clouds, as [`PodRunner::problems`] says it.
    pub fn problems(&self) -> Vec<String> {
        self.runners.iter().flat_map(PodRunner::problems).collect()
    }

    fn door(&self, name: &str) -> Option<&Door> {
        self.doors.iter().find(|door| door.name == name)
    }
}
