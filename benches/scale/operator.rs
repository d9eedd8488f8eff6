//! The operator as a process of its own: the very program that is released.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use banyan::sandbox::process::{Spec, Status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::ground::{Failure, Ground};

/// How long the operator may take for anything before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(1800);
/// How long nothing must happen until the operator counts as having come to rest.
const QUIET: Duration = Duration::from_secs(2);
/// Kernel clock ticks per second: 100 on every Linux, by its user ABI.
const TICKS: u64 = 100;

/// An operator that runs.
pub struct Operator<'a> {
    ground: &'a Ground,
    name: String,
    log: PathBuf,
    port: u16,
    /// Its process.
    pub pid: u32,
    /// When it was started.
    pub began: Instant,
    /// From then until it led with its caches filled, as `/readyz` says.
    pub ready_after: Duration,
}

/// What a process uses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Resident memory in bytes.
    pub resident: u64,
    /// The most that was ever resident, in bytes.
    pub peak: u64,
    /// CPU so far, user and system.
    pub cpu: Duration,
}

impl<'a> Operator<'a> {
    /// Starts it under the chart's rights and waits until it leads with its caches filled.
    pub async fn start(ground: &'a Ground, identity: &str, concurrency: u16) -> Result<Self, Failure> {
        let kubeconfig = ground.cloud.dir().join("kubeconfig-operator");
        std::fs::write(&kubeconfig, ground.cloud.kubeconfig_operator()?)?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let name = format!("operator-{identity}");
        let log = ground.cloud.dir().join("logs").join(format!("{name}.log"));
        let arguments = [
            env!("CARGO_BIN_EXE_banyan").to_owned(),
            "run".to_owned(),
            format!("--site={}", ground.cloud.name()),
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--listen=127.0.0.1:{port}"),
            "--log-format=json".to_owned(),
            format!("--concurrency={concurrency}"),
            format!("--identity={identity}"),
        ];
        let spec = Spec {
            name: name.clone(),
            argv: arguments.to_vec(),
            env: ground.environment.clone(),
            dir: None,
            log: log.clone(),
            stage: 3,
            grace: Duration::from_secs(20),
        };
        let began = Instant::now();
        let pid = ground.cloud.supervisor().spawn(&spec)?;
        let mut operator = Self { ground, name, log, port, pid, began, ready_after: Duration::ZERO };
        // A replica that stands by is ready as well; this one is to lead, with its caches filled.
        while !operator.get("/readyz").await.is_some_and(|(_, answer)| answer.ends_with("\nleading\n")) {
            operator.lives()?;
            if began.elapsed() > PATIENCE {
                return Err("the operator does not become ready".into());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        operator.ready_after = began.elapsed();
        Ok(operator)
    }

    /// Asks it to end and waits until it has.
    pub async fn stop(self) -> Result<(), Failure> {
        let supervisor = std::sync::Arc::clone(self.ground.cloud.supervisor());
        let name = self.name.clone();
        tokio::task::spawn_blocking(move || supervisor.stop(&name, Duration::from_secs(20))).await??;
        Ok(())
    }

    /// Memory and CPU.
    pub fn usage(&self) -> Result<Usage, Failure> {
        usage(self.pid).ok_or_else(|| "the operator has ended".into())
    }

    /// Waits until all children have been written, `children` for each of the FinServices, and each has
    /// its first status.
    pub async fn until_written(&self, services: u32, children: usize) -> Result<(), Failure> {
        let services = services as usize;
        self.until("all is written", |figures| {
            let status = figures.sum("banyan_api_requests_total", &["resource=\"finservices/status\""]);
            let good = figures.sum("banyan_api_requests_total", &["verb=\"apply\"", "code=\"20"]);
            let waiting = figures.sum("banyan_queue_depth", &[]);
            status >= services && good >= status + services * children && waiting == 0
        })
        .await
    }

    /// Waits until each FinService has been looked at.
    pub async fn until_reconciled(&self, services: u32) -> Result<(), Failure> {
        self.until("each has been looked at", |figures| {
            figures.sum("banyan_reconciles_total", &[]) >= services as usize
        })
        .await
    }

    /// Waits until nothing is reconciled and nothing but the Lease is asked for.
    pub async fn until_quiet(&self) -> Result<(), Failure> {
        let began = Instant::now();
        let mut last = (0, 0);
        let mut since = Instant::now();
        loop {
            let figures = self.figures().await?;
            let leases = figures.sum("banyan_api_requests_total", &["resource=\"leases\""]);
            let now = (
                figures.sum("banyan_reconciles_total", &[]),
                figures.sum("banyan_api_requests_total", &[]) - leases,
            );
            if now != last {
                (last, since) = (now, Instant::now());
            }
            if since.elapsed() > QUIET && figures.sum("banyan_queue_depth", &[]) == 0 {
                return Ok(());
            }
            if began.elapsed() > PATIENCE {
                return Err("the operator does not come to rest".into());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// How many requests it has sent, by verb and resource; watches and the Lease are left out.
    pub async fn requests(&self) -> Result<BTreeMap<(String, String), usize>, Failure> {
        let mut requests = BTreeMap::new();
        for (labels, count) in self.figures().await?.of("banyan_api_requests_total") {
            let label = |name: &str| {
                let rest = labels.split(&format!("{name}=\"")).nth(1)?;
                rest.split('"').next().map(str::to_owned)
            };
            let (Some(verb), Some(resource)) = (label("verb"), label("resource")) else { continue };
            if verb != "watch" && resource != "leases" {
                *requests.entry((verb, resource)).or_default() += count;
            }
        }
        Ok(requests)
    }

    /// How many reconciles it has done.
    pub async fn reconciles(&self) -> Result<usize, Failure> {
        Ok(self.figures().await?.sum("banyan_reconciles_total", &[]))
    }

    async fn until(&self, what: &str, so: impl Fn(&Figures) -> bool) -> Result<(), Failure> {
        let began = Instant::now();
        while !so(&self.figures().await?) {
            if began.elapsed() > PATIENCE {
                return Err(format!("waited {PATIENCE:?} in vain: {what}").into());
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        Ok(())
    }

    /// Fails if the process has ended; the end of its log is in the error.
    fn lives(&self) -> Result<(), Failure> {
        match self.ground.cloud.supervisor().status(&self.name) {
            Some(Status::Ended { text, .. }) => {
                let tail = banyan::sandbox::process::tail(&self.log, 20);
                Err(format!("the operator ended: {text}\n{tail}").into())
            }
            _ => Ok(()),
        }
    }

    async fn figures(&self) -> Result<Figures, Failure> {
        loop {
            match self.get("/metrics").await {
                Some((200, text)) => return Ok(Figures(text)),
                Some((code, _)) => return Err(format!("/metrics answers {code}").into()),
                None => self.lives()?,
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let code = answer.split(' ').nth(1)?.parse().ok()?;
        Some((code, answer))
    }
}

/// What `/metrics` says.
struct Figures(String);

impl Figures {
    fn of(&self, metric: &str) -> impl Iterator<Item = (&str, usize)> {
        self.0.lines().filter_map(move |line| {
            let rest = line.strip_prefix(metric)?.strip_prefix('{')?;
            let (labels, value) = rest.rsplit_once("} ")?;
            Some((labels, value.parse::<f64>().ok()? as usize))
        })
    }

    fn sum(&self, metric: &str, labels: &[&str]) -> usize {
        let all = |have: &str| labels.iter().all(|label| have.contains(label));
        self.of(metric).filter(|(have, _)| all(have)).map(|(_, value)| value).sum()
    }
}

/// What a process uses; `None` if there is none of that number.
pub fn usage(pid: u32) -> Option<Usage> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let fields: Vec<&str> = stat.get(stat.rfind(')')? + 1..)?.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let bytes = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
    };
    Some(Usage {
        resident: bytes("VmRSS:")?,
        peak: bytes("VmHWM:")?,
        cpu: Duration::from_millis(ticks * 1000 / TICKS),
    })
}

/// CPU that all processes of the machine have used so far.
pub fn machine_busy() -> Duration {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<u64> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|field| field.parse().ok())
        .collect();
    // user, nice, system, (idle, iowait), irq, softirq; guests are in user already.
    let busy: u64 =
        fields.iter().enumerate().filter(|(i, _)| matches!(i, 0..=2 | 5..=7)).map(|(_, t)| t).sum();
    Duration::from_millis(busy * 1000 / TICKS)
}
