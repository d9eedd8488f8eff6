//! Operators as processes of their own, each beside its cloud and under the rights that the chart gives.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cloud::free_port;
use super::credentials::write_private;
use super::error::{Context, Error, Result};
use super::process::{Signal, Spec, Status, Supervisor, tail};

/// The operator's own namespace.
pub const NAMESPACE: &str = "banyan-system";
/// The networks in which everything of a sandbox listens.
const HERE: &str = "127.0.0.0/8,::1";
/// How long an operator may take until its `/readyz` says yes.
const READY: Duration = Duration::from_secs(30);
/// How long an operator may take to end: it gives its Lease back first.
const GRACE: Duration = Duration::from_secs(5);
/// How often it is asked.
const POLL: Duration = Duration::from_millis(50);

/// How an operator is started.
#[derive(Debug, Clone)]
pub struct OperatorOptions {
    /// The program, `banyan` itself.
    pub binary: PathBuf,
    /// The site whose operator it is.
    pub site: String,
    /// The kubeconfig that it gets, as YAML.
    pub kubeconfig: String,
    /// A folder for its kubeconfig and its log.
    pub dir: PathBuf,
    /// Tells several of one site apart.
    pub replica: usize,
    /// More arguments of `banyan run`, or of what is started in its place.
    pub args: Vec<String>,
    /// Variables added to this process's own environment.
    pub env: Vec<(String, String)>,
}

/// An operator that was started.
#[derive(Debug)]
pub struct Operator {
    name: String,
    log: PathBuf,
    url: String,
    supervisor: Arc<Supervisor>,
}

impl Operator {
    /// Starts an operator: `banyan run --site … --kubeconfig … --namespace banyan-system --listen 127.0.0.1:…`.
    ///
    /// # Errors
    /// When the program cannot be run.
    pub fn start(options: &OperatorOptions, supervisor: Arc<Supervisor>) -> Result<Self> {
        let listen = format!("127.0.0.1:{}", free_port()?);
        let mut options = options.clone();
        // Prometheus and web servers of a sandbox are on this machine, which is nobody's to ask elsewhere.
        options.args.extend(["--evidence-allow".into(), HERE.into()]);
        Self::spawn(&options, ["run", "operator"], &listen, GRACE, supervisor)
    }

    /// Starts what answers load balancers in the operator's place: `banyan authority` at that address, which is that of
    /// the site's gateway. Requests that are to be sent on arrive at a port of its own, unless `--forward` is among the
    /// arguments.
    ///
    /// # Errors
    /// When the program cannot be run.
    pub fn start_authority(
        options: &OperatorOptions,
        listen: &str,
        supervisor: Arc<Supervisor>,
    ) -> Result<Self> {
        let mut options = options.clone();
        if !options.args.iter().any(|arg| arg == "--forward") {
            options.args.extend(["--forward".to_owned(), format!("127.0.0.1:{}", free_port()?)]);
        }
        // It would linger for those who are still sent here, and here is nobody.
        Self::spawn(&options, ["authority", "authority"], listen, Duration::ZERO, supervisor)
    }

    fn spawn(
        options: &OperatorOptions,
        [command, label]: [&str; 2],
        listen: &str,
        grace: Duration,
        supervisor: Arc<Supervisor>,
    ) -> Result<Self> {
        let dir = &options.dir;
        std::fs::create_dir_all(dir).context(|| format!("making the folder {}", dir.display()))?;
        let label = format!("{label}-{}-{}", options.site, options.replica);
        let kubeconfig = dir.join(format!("{label}.kubeconfig"));
        write_private(&kubeconfig, &options.kubeconfig)?;
        let mut argv = vec![options.binary.display().to_string(), command.into()];
        for (flag, value) in [
            ("--site", options.site.as_str()),
            ("--kubeconfig", &kubeconfig.display().to_string()),
            ("--namespace", NAMESPACE),
            ("--listen", listen),
        ] {
            argv.extend([flag.to_owned(), value.to_owned()]);
        }
        argv.extend(options.args.iter().cloned());
        let operator = Self {
            name: format!("{}/{label}", options.site),
            log: dir.join(format!("{label}.log")),
            url: format!("http://{listen}"),
            supervisor,
        };
        operator.supervisor.spawn(&Spec {
            name: operator.name.clone(),
            argv,
            env: options.env.clone(),
            dir: None,
            log: operator.log.clone(),
            stage: 3,
            grace,
        })?;
        Ok(operator)
    }

    /// Waits until `/readyz` says yes.
    ///
    /// # Errors
    /// When it ends before, or is not ready in 30 s; the end of its log is in the error.
    pub async fn ready(&self) -> Result<()> {
        let deadline = Instant::now() + READY;
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(2))
            .build()
            .context(|| "making an HTTP client")?;
        loop {
            let answer = client.get(format!("{}/readyz", self.url)).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            self.check()?;
            if Instant::now() > deadline {
                return Err(Error::new(format!(
                    "{} is not ready after {} s; the end of its log {}:\n{}",
                    self.name,
                    READY.as_secs(),
                    self.log.display(),
                    tail(&self.log, 20)
                )));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Looks whether it still runs.
    ///
    /// # Errors
    /// When it has ended; the end of its log is in the error.
    pub fn check(&self) -> Result<()> {
        match self.supervisor.status(&self.name) {
            Some(Status::Running(_)) => Ok(()),
            Some(Status::Ended { text, .. }) => Err(Error::new(format!(
                "{} ended ({text}); the end of its log {}:\n{}",
                self.name,
                self.log.display(),
                tail(&self.log, 20)
            ))),
            None => Err(Error::new(format!("{} never ran", self.name))),
        }
    }

    /// Where it listens, such as `http://127.0.0.1:40123`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its log.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its process id; `None` once it has ended.
    pub fn pid(&self) -> Option<u32> {
        match self.supervisor.status(&self.name) {
            Some(Status::Running(pid)) => Some(pid),
            _ => None,
        }
    }

    /// Sends it a signal: `Kill` is a crash, `Stop` a pause in which its Lease runs out.
    ///
    /// # Errors
    /// When the supervisor is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.supervisor.signal(&self.name, signal)
    }

    /// Ends it as Kubernetes would: SIGTERM, and SIGKILL five seconds later.
    ///
    /// # Errors
    /// When it is still there after that.
    pub async fn stop(self) -> Result<()> {
        tokio::task::spawn_blocking(move || self.supervisor.stop(&self.name, GRACE))
            .await
            .context(|| "stopping an operator")?
    }
}
