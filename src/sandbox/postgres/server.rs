//! One PostgreSQL server on loopback.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio_postgres::{Config, NoTls, SimpleQueryMessage};

use super::tools::PostgresTools;
use crate::sandbox::error::{Context, Error, Result};
use crate::sandbox::process::{Signal, Spec, Status, Supervisor, tail};

/// How long a server may take to accept sessions, and a program to end. One second is usual.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often that is looked for.
const POLL: Duration = Duration::from_millis(30);
/// How long one statement of ours may take.
const STATEMENT: Duration = Duration::from_secs(20);
/// Who owns the server; it needs no password on loopback.
pub(super) const SUPERUSER: &str = "postgres";

/// What every server is told beside its port. Nothing is synced: when the machine crashes, all is thrown away.
const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
dynamic_shared_memory_type = mmap
max_connections = 60
shared_buffers = 16MB
fsync = off
wal_log_hints = on
wal_keep_size = 256MB
max_wal_senders = 8
wal_retrieve_retry_interval = 200ms
wal_receiver_status_interval = 1s
log_line_prefix = '%m [%p] %u@%d %a '
";

/// Who may log in, and how. An application that is shut out knocks all the time: what a password costs both sides then
/// would be taken from everything else on the machine.
const DOORS: &str = "
host all postgres,app 127.0.0.1/32 trust
host replication all 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 scram-sha-256
";

/// Kills a process that is no child of the supervisor's, and waits until it is gone.
async fn end(pid: u32) -> Result<()> {
    let killed = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
    killed.context(|| format!("killing process {pid}"))?;
    let deadline = Instant::now() + PATIENCE;
    while std::path::Path::new(&format!("/proc/{pid}")).exists() {
        if Instant::now() > deadline {
            return Err(Error::new(format!("process {pid} does not end")));
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// A server, running or not. It ends with its supervisor.
#[derive(Debug)]
pub struct Server {
    name: String,
    data: PathBuf,
    port: u16,
    log: PathBuf,
    tools: PostgresTools,
    supervisor: Arc<Supervisor>,
    /// How many programs were run for it: their names are unique.
    runs: AtomicU32,
}

impl Server {
    /// A server that will have its data below `dir`, and listen at `port`. Nothing is done yet.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub(super) fn new(
        name: &str,
        dir: &Path,
        port: u16,
        tools: PostgresTools,
        supervisor: Arc<Supervisor>,
    ) -> Result<Self> {
        std::fs::create_dir_all(dir).context(|| format!("making the folder {}", dir.display()))?;
        tools.give(dir)?;
        Ok(Self {
            name: format!("postgres/{name}"),
            data: dir.join("data"),
            port,
            log: dir.join("log"),
            tools,
            supervisor,
            runs: AtomicU32::new(0),
        })
    }

    /// Its port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of its data.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Its log.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Makes a new cluster, with data checksums.
    pub(super) async fn init(&self) -> Result<()> {
        let data = self.data.display().to_string();
        let options = ["-D", &data, "-U", SUPERUSER, "-A", "trust", "-k", "--no-sync", "-E", "UTF8"];
        self.run("initdb", &[&options[..], &["--no-locale"]].concat()).await?;
        let settings = self.data.join("postgresql.conf");
        let doing = || format!("writing {}", settings.display());
        let mut text = std::fs::read_to_string(&settings).context(doing)?;
        text.push_str(SETTINGS);
        std::fs::write(&settings, text).context(doing)?;
        let hba = self.data.join("pg_hba.conf");
        std::fs::write(&hba, DOORS).context(|| format!("writing {}", hba.display()))
    }

    /// Copies a running server, to follow it. What was here before is thrown away.
    pub(super) async fn copy(&self, source: &str) -> Result<()> {
        if self.data.exists() {
            std::fs::remove_dir_all(&self.data).context(|| format!("removing {}", self.data.display()))?;
        }
        let data = self.data.display().to_string();
        self.run(
            "pg_basebackup",
            &["-D", &data, "-d", source, "-R", "-c", "fast", "-X", "stream", "--no-sync"],
        )
        .await
    }

    /// Starts it and waits until it accepts sessions.
    ///
    /// # Errors
    /// When it ends, or is not ready in a minute; the end of its log is in the error.
    pub async fn start(&self) -> Result<()> {
        let (data, port) = (self.data.display().to_string(), self.port.to_string());
        self.supervisor.spawn(&Spec {
            name: self.name.clone(),
            argv: self.tools.command("postgres", &["-D", &data, "-p", &port]),
            env: vec![("LC_ALL".into(), "C".into())],
            dir: None,
            log: self.log.clone(),
            stage: 3,
            grace: Duration::from_secs(2),
        })?;
        let deadline = Instant::now() + PATIENCE;
        while self.sql("select 1").await.is_err() {
            let ended = self.pid().is_none();
            if ended || Instant::now() > deadline {
                let so = if ended { "ended" } else { "is not ready in time" };
                return Err(Error::new(format!(
                    "{} {so}; the end of its log:\n{}",
                    self.name,
                    tail(&self.log, 15)
                )));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Its process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        match self.supervisor.status(&self.name) {
            Some(Status::Running(pid)) => Some(pid),
            _ => None,
        }
    }

    /// Stops it as is right before another one is promoted: sessions are ended, and standbys have all that was written.
    ///
    /// # Errors
    /// When it does not stop.
    pub async fn stop(&self) -> Result<()> {
        let data = self.data.display().to_string();
        self.run("pg_ctl", &["-D", &data, "stop", "-m", "fast", "-w", "-s"]).await?;
        self.gone().await
    }

    /// Ends it at once, as the loss of its machine would.
    ///
    /// # Errors
    /// When the supervisor is gone.
    pub async fn kill(&self) -> Result<()> {
        match self.postmaster() {
            // An agent has started it anew: it is a child of nobody here.
            Some(pid) if self.pid() != Some(pid) => end(pid).await,
            _ => {
                self.supervisor.signal(&self.name, Signal::Kill)?;
                self.gone().await
            }
        }
    }

    /// The process that its data belong to, by PostgreSQL's own file.
    fn postmaster(&self) -> Option<u32> {
        let text = std::fs::read_to_string(self.data.join("postmaster.pid")).ok()?;
        let pid: u32 = text.lines().next()?.trim().parse().ok()?;
        std::path::Path::new(&format!("/proc/{pid}")).exists().then_some(pid)
    }

    /// All its processes, the one that began them first: none where it does not run.
    pub fn processes(&self) -> Vec<u32> {
        let Some(postmaster) = self.postmaster() else { return Vec::new() };
        let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let all = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let is_child = |pid: &u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // The name, in parentheses, may hold anything.
            let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
            parent == Some(&*postmaster.to_string())
        };
        std::iter::once(postmaster).chain(all.filter(is_child)).collect()
    }

    async fn gone(&self) -> Result<()> {
        let (supervisor, name) = (Arc::clone(&self.supervisor), self.name.clone());
        let ended = tokio::task::spawn_blocking(move || supervisor.wait(&name, PATIENCE)).await;
        match ended.context(|| format!("waiting for {}", self.name))? {
            true => Ok(()),
            false => Err(Error::new(format!("{} does not end", self.name))),
        }
    }

    /// Runs one of PostgreSQL's programs to its end.
    pub(super) async fn run(&self, program: &str, arguments: &[&str]) -> Result<()> {
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}/{program}/{number}", self.name);
        let log = self.log.with_file_name(format!("{program}-{number}.log"));
        let spec = Spec {
            name: name.clone(),
            argv: self.tools.command(program, arguments),
            env: vec![("LC_ALL".into(), "C".into())],
            dir: self.log.parent().map(Path::to_owned),
            log: log.clone(),
            stage: 4,
            grace: Duration::ZERO,
        };
        let supervisor = Arc::clone(&self.supervisor);
        let doing = || format!("running {program} for {}", self.name);
        let status = tokio::task::spawn_blocking(move || {
            // A program that fails at once is told by spawn already.
            supervisor.spawn(&spec)?;
            supervisor.wait(&name, PATIENCE);
            Ok::<_, Error>(supervisor.status(&name))
        });
        match status.await.context(doing)?? {
            Some(Status::Ended { code: 0, .. }) => Ok(()),
            Some(Status::Ended { text, .. }) => {
                Err(Error::new(format!("{}: {text}\n{}", doing(), tail(&log, 15))))
            }
            _ => Err(Error::new(format!("{}: it does not end", doing()))),
        }
    }

    /// Runs a program beside it, as the same user, until its supervisor ends.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn beside(&self, name: &str, argv: Vec<String>) -> Result<PathBuf> {
        let log = self.log.with_file_name(format!("{name}.log"));
        self.supervisor.spawn(&Spec {
            name: format!("{}/{name}", self.name),
            argv: self.tools.as_user(argv),
            env: Vec::new(),
            dir: self.log.parent().map(Path::to_owned),
            log: log.clone(),
            stage: 4,
            grace: Duration::ZERO,
        })?;
        Ok(log)
    }

    /// Writes a file beside its data, readable by its user alone.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn file(&self, name: &str, text: &str) -> Result<PathBuf> {
        use std::os::unix::fs::PermissionsExt;
        let path = self.log.with_file_name(name);
        let doing = || format!("writing {}", path.display());
        std::fs::write(&path, text).context(doing)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).context(doing)?;
        self.tools.give(&path)?;
        Ok(path)
    }

    /// The folder of PostgreSQL's programs.
    pub fn bin(&self) -> &Path {
        self.tools.bin()
    }

    /// Runs statements as the superuser, and returns the rows.
    ///
    /// # Errors
    /// When the server is not there, or refuses a statement.
    pub async fn sql(&self, statements: &str) -> Result<Vec<Vec<String>>> {
        let doing = || format!("asking {}", self.name);
        let asked = async {
            let (client, connection) = self.config(SUPERUSER, "").connect(NoTls).await.context(doing)?;
            let connection = tokio::spawn(async move { drop(connection.await) });
            let answer = client.simple_query(statements).await;
            connection.abort();
            answer.map_err(|error| {
                let words = error.as_db_error().map(|error| error.message().to_owned());
                Error::new(format!("{}: {}", doing(), words.unwrap_or_else(|| error.to_string())))
            })
        };
        let answer = tokio::time::timeout(STATEMENT, asked).await.context(doing)??;
        let row = |message: SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|i| row.get(i).unwrap_or_default().to_owned()).collect())
            }
            _ => None,
        };
        Ok(answer.into_iter().filter_map(row).collect())
    }

    /// How a role logs in.
    pub fn config(&self, user: &str, password: &str) -> Config {
        let mut config = Config::new();
        config
            .host("127.0.0.1")
            .port(self.port)
            .dbname("postgres")
            .user(user)
            .password(password)
            .connect_timeout(Duration::from_secs(5));
        config
    }
}
