//! A Prometheus of the machine that scrapes the pods and the gateways.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::sandbox::cloud::free_port;
use crate::sandbox::error::{Context, Error, Result};
use crate::sandbox::process::{Signal, Spec, Status, Supervisor, tail};

/// How long it may take to be ready. One second is usual.
const READY: Duration = Duration::from_secs(60);
/// How often that is asked for.
const POLL: Duration = Duration::from_millis(50);
/// How long it may take to end; what it has is thrown away.
const GRACE: Duration = Duration::ZERO;

/// What it scrapes.
#[derive(Debug, Clone)]
pub struct PrometheusOptions {
    /// Its program.
    pub program: PathBuf,
    /// A folder for its data and its log.
    pub dir: PathBuf,
    /// Tells several of one supervisor apart.
    pub name: String,
    /// Files that name pods, each as [`super::PodRunner::targets`] keeps one.
    pub targets: Vec<PathBuf>,
    /// Envoys, as `host:port` of their counters.
    pub gateways: Vec<String>,
    /// Time between two scrapes of a target.
    pub interval: Duration,
}

/// A Prometheus that runs. It ends with its supervisor.
#[derive(Debug)]
pub struct PrometheusServer {
    name: String,
    rules: PathBuf,
    log: PathBuf,
    url: String,
    supervisor: Arc<Supervisor>,
}

impl PrometheusServer {
    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// When it ends or is not ready in 60 s; the end of its log is in the error.
    pub async fn start(options: &PrometheusOptions, supervisor: Arc<Supervisor>) -> Result<Self> {
        let dir = &options.dir;
        let rules = rules_of(options);
        std::fs::create_dir_all(&rules).context(|| format!("making the folder {}", rules.display()))?;
        let config = dir.join("prometheus.yml");
        let text =
            serde_norway::to_string(&config_of(options)).context(|| "writing Prometheus' configuration")?;
        std::fs::write(&config, text).context(|| format!("writing {}", config.display()))?;
        let listen = format!("127.0.0.1:{}", free_port()?);
        let server = Self {
            name: format!("prometheus/{}", options.name),
            rules,
            log: dir.join("prometheus.log"),
            url: format!("http://{listen}"),
            supervisor,
        };
        server.supervisor.spawn(&Spec {
            name: server.name.clone(),
            argv: vec![
                options.program.display().to_string(),
                format!("--config.file={}", config.display()),
                format!("--storage.tsdb.path={}", dir.join("data").display()),
                format!("--web.listen-address={listen}"),
                "--log.level=warn".into(),
            ],
            env: Vec::new(),
            dir: Some(dir.clone()),
            log: server.log.clone(),
            stage: 3,
            grace: GRACE,
        })?;
        server.ready().await?;
        Ok(server)
    }

    async fn ready(&self) -> Result<()> {
        let http = client()?;
        let deadline = Instant::now() + READY;
        loop {
            let answer = http.get(format!("{}/-/ready", self.url)).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            let ended = self.pid().is_none();
            if ended || Instant::now() > deadline {
                let so = if ended { "ended" } else { "is not ready in time" };
                let log = tail(&self.log, 15);
                return Err(Error::new(format!("Prometheus {so}; the end of its log:\n{log}")));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Where it answers, such as `http://127.0.0.1:40123`.
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

    /// Sends it a signal: `Stop` makes it silent, `Kill` makes it refuse.
    ///
    /// # Errors
    /// When the supervisor is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.supervisor.signal(&self.name, signal)
    }

    /// Has it evaluate groups of rules, given as the `spec` of a PrometheusRule; those given before by this name are
    /// replaced.
    ///
    /// # Errors
    /// When they cannot be written, or the supervisor is gone. Of rules that it does not take its log tells.
    pub fn evaluate(&self, name: &str, spec: &Value) -> Result<()> {
        let file = self.rules.join(format!("{name}.yml"));
        let text = serde_norway::to_string(spec).context(|| "writing rules")?;
        std::fs::write(&file, text).context(|| format!("writing {}", file.display()))?;
        self.signal(Signal::Reload)
    }

    /// Asks a question that has a vector for an answer: the labels of each series and its value.
    ///
    /// # Errors
    /// When it does not answer, or says that the question is none.
    pub async fn query(&self, promql: &str) -> Result<Vec<(Value, f64)>> {
        let doing = || format!("asking Prometheus for {promql}");
        let answer = client()?
            .get(format!("{}/api/v1/query", self.url))
            .query(&[("query", promql)])
            .send()
            .await
            .context(doing)?;
        let answer: Value = answer.json().await.context(doing)?;
        if answer["status"] != "success" {
            return Err(Error::new(format!("{}: {}", doing(), answer["error"])));
        }
        let series = answer["data"]["result"].as_array().cloned().unwrap_or_default();
        Ok(series
            .into_iter()
            .filter_map(|one| Some((one["metric"].clone(), one["value"][1].as_str()?.parse().ok()?)))
            .collect())
    }

    /// Ends it.
    ///
    /// # Errors
    /// When it is still there after SIGKILL.
    pub async fn stop(self) -> Result<()> {
        tokio::task::spawn_blocking(move || self.supervisor.stop(&self.name, GRACE))
            .await
            .context(|| "stopping Prometheus")?
    }
}

fn client() -> Result<reqwest::Client> {
    reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(10))
        .build()
        .context(|| "making an HTTP client")
}

fn rules_of(options: &PrometheusOptions) -> PathBuf {
    options.dir.join("rules")
}

fn config_of(options: &PrometheusOptions) -> Value {
    let interval = format!("{}ms", options.interval.as_millis());
    // A scrape may not take longer than the time to the next.
    let timeout = format!("{}ms", options.interval.as_millis().min(10_000));
    json!({
        "global": {"scrape_interval": interval, "scrape_timeout": timeout, "evaluation_interval": interval},
        "rule_files": [rules_of(options).join("*.yml")],
        "scrape_configs": [
            // Only the pods that have a revision's Service before them would be found by a ServiceMonitor; here all are.
            {"job_name": "pods", "file_sd_configs": [{"files": options.targets, "refresh_interval": "1s"}]},
            {
                "job_name": "gateways",
                "metrics_path": "/stats/prometheus",
                "static_configs": [{"targets": options.gateways}],
            },
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_ends_before_the_next_begins() {
        let mut options = PrometheusOptions {
            program: "prometheus".into(),
            dir: "/x".into(),
            name: "a".into(),
            targets: vec!["/x/targets.json".into()],
            gateways: vec!["127.0.1.1:8002".into()],
            interval: Duration::from_millis(500),
        };
        let config = config_of(&options);
        assert_eq!(
            config["global"],
            json!({"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"})
        );
        assert_eq!(config["scrape_configs"][0]["file_sd_configs"][0]["files"][0], "/x/targets.json");
        options.interval = Duration::from_secs(60);
        assert_eq!(config_of(&options)["global"]["scrape_timeout"], "10000ms");
    }
}
