//! One cloud: a real control plane, nodes in three zones, and all that is asked of it kept in folders of its own.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::config::AuthInfo;
use kube::{Client, Config};

use super::argv::{Argv, TOKEN_REVIEW};
use super::audit::{self, Audit, Mark};
use super::cloud_options::CloudOptions;
use super::credentials::{Credentials, OPERATOR_USER, PEER_USER, kubeconfig, write_private};
use super::ends::token_review;
use super::error::{Context, Error, Result};
use super::process::{Signal, Spec, Status, Supervisor, tail};
use super::tools::Tools;
use super::{install, nodes};
use crate::terminal::progress::Progress;

/// How long a control plane may take to be ready. Four seconds are usual; a loaded laptop takes longer.
const READY: Duration = Duration::from_secs(90);
/// How often readiness is asked for.
const POLL: Duration = Duration::from_millis(50);
/// Two clouds at once may pick the same free port; then the start is repeated with others.
const ATTEMPTS: usize = 3;

/// The processes of a cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The store.
    Etcd,
    /// The API server.
    ApiServer,
    /// Its controllers.
    ControllerManager,
    /// Its scheduler.
    Scheduler,
    /// What plays the kubelets.
    Kwok,
}

impl Part {
    const ALL: [Self; 5] =
        [Self::Etcd, Self::ApiServer, Self::ControllerManager, Self::Scheduler, Self::Kwok];

    fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Kwok => "kwok",
        }
    }
}

/// A cloud that runs.
#[derive(Debug)]
pub struct Cloud {
    options: CloudOptions,
    dir: PathBuf,
    server: String,
    credentials: Credentials,
    supervisor: Arc<Supervisor>,
}

impl Cloud {
    /// Starts a cloud in a folder of its own and waits until its nodes are Ready.
    ///
    /// # Errors
    /// When one of its processes ends or is not ready in 90 s; the end of its log is in the error.
    pub async fn start(
        options: CloudOptions,
        dir: &Path,
        tools: &Tools,
        supervisor: Arc<Supervisor>,
        progress: &Progress,
    ) -> Result<Self> {
        // A second call finds the provider installed, which is as good.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut attempt = 1;
        loop {
            let cloud = Self::prepare(options.clone(), dir, supervisor.clone())?;
            match cloud.bring_up(tools, progress).await {
                Ok(()) => return Ok(cloud),
                Err(error) if attempt < ATTEMPTS && error.to_string().contains("address already in use") => {
                    attempt += 1;
                    cloud.stop_processes().await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn prepare(options: CloudOptions, dir: &Path, supervisor: Arc<Supervisor>) -> Result<Self> {
        let doing = || format!("making the folder of {}", options.name);
        if dir.exists() {
            std::fs::remove_dir_all(dir).context(doing)?;
        }
        std::fs::create_dir_all(dir.join("logs")).context(doing)?;
        // The API server and its like run elsewhere as far as paths go.
        let dir = dir.canonicalize().context(doing)?;
        let credentials = Credentials::make(&dir, &options.name)?;
        let server = format!("https://127.0.0.1:{}", free_port()?);
        Ok(Self { options, dir, server, credentials, supervisor })
    }

    async fn bring_up(&self, tools: &Tools, progress: &Progress) -> Result<()> {
        let step = progress.step(format!("{}: control plane", self.name()));
        let files = [
            ("audit-policy.yaml", audit::policy(&[OPERATOR_USER, PEER_USER])),
            ("kubeconfig", self.kubeconfig()?),
            ("stages.yaml", nodes::stages(self.options.served)?),
        ];
        for (name, text) in files {
            write_private(&self.dir.join(name), &text)?;
        }
        if let Some(url) = &self.options.token_review {
            write_private(&self.dir.join(TOKEN_REVIEW), &token_review::config(url)?)?;
        }
        let etcd = format!("http://127.0.0.1:{}", free_port()?);
        let argv = Argv { options: &self.options, dir: &self.dir, server: &self.server, tools };
        self.spawn(Part::Etcd, argv.etcd(&etcd))?;
        self.spawn(Part::ApiServer, argv.apiserver(&etcd))?;
        let client = self.client_admin()?;
        self.until("the API server is ready", async || {
            client.request_text(get("/readyz")?).await.context(|| "asking /readyz")?;
            Ok(true)
        })
        .await?;
        step.done();
        let step = progress.step(format!("{}: nodes", self.name()));
        self.spawn(Part::ControllerManager, argv.controller_manager())?;
        self.spawn(Part::Scheduler, argv.scheduler())?;
        self.spawn(Part::Kwok, argv.kwok())?;
        let wanted = nodes::create(
            &client,
            &self.options.region,
            &self.options.zones,
            self.options.nodes_per_zone,
            self.options.subnet,
        )
        .await?;
        install::apply(&client, &nodes::injector()?).await?;
        self.until("the nodes are Ready", async || Ok(nodes::ready(&client).await? == wanted)).await?;
        step.done();
        Ok(())
    }

    /// Asks until the answer is yes. An error of the question is no answer yet; a process that ends is the end.
    async fn until(&self, what: &str, mut ask: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + READY;
        loop {
            let answer = match tokio::time::timeout(Duration::from_secs(5), ask()).await {
                Ok(answer) => answer,
                Err(_) => Err(Error::new("no answer in 5 s")),
            };
            if matches!(answer, Ok(true)) {
                return Ok(());
            }
            for part in Part::ALL {
                if let Some(Status::Ended { text, .. }) = self.supervisor.status(&self.process(part)) {
                    return Err(Error::new(format!(
                        "{}: {} ended before {what} ({text}); the end of its log:\n{}",
                        self.name(),
                        part.name(),
                        tail(&self.log(part), 20)
                    )));
                }
            }
            if Instant::now() > deadline {
                let why = answer.err().map(|error| format!(" ({error})")).unwrap_or_default();
                let logs: String = Part::ALL
                    .iter()
                    .map(|part| format!("{}:\n{}", part.name(), tail(&self.log(*part), 5)))
                    .collect();
                return Err(Error::new(format!(
                    "{}: after {} s it is not so that {what}{why}; the ends of the logs:\n{logs}",
                    self.name(),
                    READY.as_secs()
                )));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Its name, which is also the site's.
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// What it is like.
    pub fn options(&self) -> &CloudOptions {
        &self.options
    }

    /// The address of its API server.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Its folder: data, logs, credentials. It goes with the cloud.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What keeps its processes; others may be started beside them.
    pub fn supervisor(&self) -> &Arc<Supervisor> {
        &self.supervisor
    }

    /// A new client with all rights. Clients belong to the runtime that made them, so tests that
    /// have one each call this each.
    ///
    /// # Errors
    /// When the client cannot be built.
    pub fn client_admin(&self) -> Result<Client> {
        self.client(&self.credentials.admin)
    }

    /// A new client with the rights that the chart gives to the operator.
    ///
    /// # Errors
    /// When the client cannot be built.
    pub fn client_operator(&self) -> Result<Client> {
        self.client(&self.credentials.operator)
    }

    fn client(&self, token: &str) -> Result<Client> {
        let doing = || format!("making a client of {}", self.name());
        let mut config = Config::new(self.server.parse().context(doing)?);
        config.root_cert = Some(vec![self.credentials.ca_der.clone()]);
        config.auth_info = AuthInfo { token: Some(token.to_owned().into()), ..AuthInfo::default() };
        // Whoever waits here has a deadline; retries of minutes would hide it.
        config.default_retry = false;
        Client::try_from(config).context(doing)
    }

    /// A kubeconfig with all rights, as YAML.
    ///
    /// # Errors
    /// When it cannot be written as YAML, which would be a defect.
    pub fn kubeconfig(&self) -> Result<String> {
        self.kubeconfig_at(&self.server)
    }

    /// The same for another address of its API server, which must be of 127.0.0.1: that is whom its certificate names.
    ///
    /// # Errors
    /// When it cannot be written as YAML, which would be a defect.
    pub fn kubeconfig_at(&self, server: &str) -> Result<String> {
        kubeconfig(self.name(), server, &self.credentials.ca_pem, &self.credentials.admin)
    }

    /// A kubeconfig with the operator's rights, as YAML.
    ///
    /// # Errors
    /// When it cannot be written as YAML, which would be a defect.
    pub fn kubeconfig_operator(&self) -> Result<String> {
        kubeconfig(self.name(), &self.server, &self.credentials.ca_pem, &self.credentials.operator)
    }

    /// A kubeconfig with the rights of a peer, as YAML, once the role `banyan-peer` is bound.
    ///
    /// # Errors
    /// When it cannot be written as YAML, which would be a defect.
    pub fn kubeconfig_peer(&self) -> Result<String> {
        kubeconfig(self.name(), &self.server, &self.credentials.ca_pem, &self.credentials.peer)
    }

    /// The certificate of the authority that signed the API server's, as PEM.
    pub fn ca_pem(&self) -> &str {
        &self.credentials.ca_pem
    }

    /// The end of the audit log as it is now.
    pub fn audit_mark(&self) -> Mark {
        audit::mark(&self.audit_log())
    }

    /// What the operator has asked since a mark.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn audit_since(&self, mark: Mark) -> Result<Audit> {
        audit::since(&self.audit_log(), mark, OPERATOR_USER)
    }

    /// What operators of other sites have asked since a mark.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn audit_of_peers_since(&self, mark: Mark) -> Result<Audit> {
        audit::since(&self.audit_log(), mark, PEER_USER)
    }

    fn audit_log(&self) -> PathBuf {
        self.dir.join("audit.log")
    }

    /// Sends a signal to one of its processes: `Stop` makes an API server silent, `Kill` makes it refuse.
    ///
    /// # Errors
    /// When the processes are gone.
    pub fn signal(&self, part: Part, signal: Signal) -> Result<()> {
        self.supervisor.signal(&self.process(part), signal)
    }

    /// Ends all its processes at once: what it held is gone.
    ///
    /// # Errors
    /// When the supervisor is gone.
    pub fn kill(&self) -> Result<()> {
        // The store last, which all others ask.
        Part::ALL.iter().rev().try_for_each(|part| self.signal(*part, Signal::Kill))
    }

    /// The process id of a part; `None` where it does not run.
    pub fn pid(&self, part: Part) -> Option<u32> {
        match self.supervisor.status(&self.process(part)) {
            Some(Status::Running(pid)) => Some(pid),
            _ => None,
        }
    }

    /// The log of one of its processes.
    pub fn log(&self, part: Part) -> PathBuf {
        self.dir.join("logs").join(format!("{}.log", part.name()))
    }

    fn process(&self, part: Part) -> String {
        format!("{}/{}", self.name(), part.name())
    }

    async fn stop_processes(&self) -> Result<()> {
        let supervisor = self.supervisor.clone();
        let names: Vec<String> = Part::ALL.iter().map(|part| self.process(*part)).collect();
        tokio::task::spawn_blocking(move || {
            names.iter().rev().try_for_each(|name| supervisor.stop(name, Duration::from_secs(1)))
        })
        .await
        .context(|| "stopping a cloud")?
    }

    fn spawn(&self, part: Part, argv: Vec<String>) -> Result<()> {
        let spec = Spec {
            name: self.process(part),
            argv,
            env: vec![("GOGC".into(), self.options.gogc.to_string())],
            dir: Some(self.dir.clone()),
            log: self.log(part),
            stage: match part {
                Part::Etcd => 0,
                Part::ApiServer => 1,
                _ => 2,
            },
            // What they hold is thrown away, so there is nothing that they would have to finish.
            grace: Duration::ZERO,
        };
        self.supervisor.spawn(&spec).map(drop)
    }
}

fn get(path: &str) -> Result<http::Request<Vec<u8>>> {
    http::Request::get(path).body(Vec::new()).context(|| format!("asking {path}"))
}

/// A port that is free now.
pub(super) fn free_port() -> Result<u16> {
    let doing = || "looking for a free port";
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context(doing)?;
    Ok(listener.local_addr().context(doing)?.port())
}
