//! Processes that never outlive this one.
//!
//! They are children of a small supervisor (`tests/controlplane/supervise`), which
//! stops them when its standard input ends. The kernel closes that pipe however this
//! process ends, SIGKILL included, so nothing depends on a hook that may not run.
//! On Linux the kernel also kills them should the supervisor itself be killed.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::error::{Context, Error, Result};

/// How long the supervisor may take for one command before it counts as broken.
const ANSWER: Duration = Duration::from_secs(10);

/// A program to start.
#[derive(Debug, Clone)]
pub struct Spec {
    /// A name that is unique within the supervisor, such as `aws-us-east-1/etcd`.
    pub name: String,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Variables added to this process's own environment.
    pub env: Vec<(String, String)>,
    /// The working folder; this process's own where there is none.
    pub dir: Option<PathBuf>,
    /// The file that takes standard output and standard error.
    pub log: PathBuf,
    /// Higher stages are stopped first, each wholly before the next.
    pub stage: u8,
    /// The time between SIGTERM and SIGKILL; zero means SIGKILL at once.
    pub grace: Duration,
}

/// Signals that tests send to break things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Ends it at once.
    Kill,
    /// Asks it to end.
    Term,
    /// Has it read its configuration again (SIGHUP).
    Reload,
    /// Suspends it: its connections stay open and silent.
    Stop,
    /// Lets a suspended one go on.
    Cont,
}

impl Signal {
    fn number(self) -> i32 {
        // SIGSTOP and SIGCONT have other numbers on the BSDs, macOS among them.
        let linux = cfg!(target_os = "linux");
        match self {
            Self::Reload => 1,
            Self::Kill => 9,
            Self::Term => 15,
            Self::Stop if linux => 19,
            Self::Stop => 17,
            Self::Cont if linux => 18,
            Self::Cont => 19,
        }
    }
}

/// Where a process is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// It runs, with this process id.
    Running(u32),
    /// It has ended; the words are the operating system's, such as `exit status 1`.
    Ended {
        /// Its exit code; -1 where a signal ended it.
        code: i32,
        /// The same in words.
        text: String,
    },
}

#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct Order<'a> {
    op: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    argv: &'a [String],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    env: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dir: Option<&'a Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<&'a Path>,
    stage: u8,
    grace_ms: u64,
    signal: i32,
}

#[derive(Deserialize)]
struct Event {
    event: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    pid: u32,
    #[serde(default)]
    code: i32,
    #[serde(default)]
    text: String,
}

#[derive(Debug, Default)]
struct State {
    processes: HashMap<String, Status>,
    failures: HashMap<String, String>,
    detached: Option<String>,
    ended: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// Starts, watches and ends processes; dropping it ends all that it started.
#[derive(Debug)]
pub struct Supervisor {
    stdin: Mutex<Option<ChildStdin>>,
    shared: Arc<Shared>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is guarded is whole after every statement, so a panic elsewhere does no harm.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Supervisor {
    /// Starts the supervisor from its binary (see [`super::tools::supervise`]).
    ///
    /// # Errors
    /// When the binary cannot be run.
    pub fn start(binary: &Path) -> Result<Self> {
        let mut child = Command::new(binary)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Ctrl-C on the terminal is for us; the supervisor ends when we say so.
            .process_group(0)
            .spawn()
            .context(|| format!("starting the supervisor {}", binary.display()))?;
        let stdin = child.stdin.take();
        let stdout =
            child.stdout.take().ok_or_else(|| Error::new("the supervisor has no standard output"))?;
        let shared = Arc::new(Shared::default());
        let reader = shared.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(line) = line else { break };
                if let Ok(event) = serde_json::from_str::<Event>(&line) {
                    reader.note(event);
                }
            }
            // Reaps it; how it ended tells nothing that the end itself does not.
            let _ = child.wait();
            lock(&reader.state).ended = true;
            reader.changed.notify_all();
        });
        Ok(Self { stdin: Mutex::new(stdin), shared })
    }

    /// Starts a program and returns its process id.
    ///
    /// # Errors
    /// When it cannot be started: there is no such file, its log cannot be written, its name is taken.
    pub fn spawn(&self, spec: &Spec) -> Result<u32> {
        let doing = || format!("starting {}", spec.name);
        {
            let mut state = lock(&self.shared.state);
            state.failures.remove(&spec.name);
            if !matches!(state.processes.get(&spec.name), Some(Status::Running(_))) {
                state.processes.remove(&spec.name);
            }
        }
        self.order(&Order {
            op: "start",
            name: &spec.name,
            argv: &spec.argv,
            env: spec.env.iter().map(|(key, value)| format!("{key}={value}")).collect(),
            dir: spec.dir.as_deref(),
            log: Some(&spec.log),
            stage: spec.stage,
            grace_ms: spec.grace.as_millis() as u64,
            signal: 0,
        })
        .context(doing)?;
        self.wait_for(ANSWER, |state| {
            if let Some(failure) = state.failures.get(&spec.name) {
                return Some(Err(Error::new(format!("{}: {failure}", doing()))));
            }
            match state.processes.get(&spec.name) {
                Some(Status::Running(pid)) => Some(Ok(*pid)),
                Some(Status::Ended { text, .. }) => {
                    Some(Err(Error::new(format!("{}: {text}\n{}", doing(), tail(&spec.log, 15)))))
                }
                None => None,
            }
        })
        .unwrap_or_else(|| Err(Error::new(format!("{}: the supervisor does not answer", doing()))))
    }

    /// What is known of a process; `None` for a name that never ran.
    pub fn status(&self, name: &str) -> Option<Status> {
        let state = lock(&self.shared.state);
        match state.processes.get(name) {
            Some(Status::Running(_)) if state.ended => {
                Some(Status::Ended { code: -1, text: "its supervisor has ended".into() })
            }
            status => status.cloned(),
        }
    }

    /// Waits for a process to end; `false` where it still runs when the time is up. Blocks this thread.
    pub fn wait(&self, name: &str, limit: Duration) -> bool {
        self.wait_for(limit, |state| match state.processes.get(name) {
            Some(Status::Running(_)) if !state.ended => None,
            _ => Some(()),
        })
        .is_some()
    }

    /// Sends a signal to a process and all that it started. After [`Signal::Stop`] each of its threads is suspended
    /// when this returns: until the first of them was scheduled, the others would go on for as long as the machine is
    /// busy, and could still answer. Blocks this thread for that long.
    ///
    /// # Errors
    /// When the supervisor is gone, or the process is not suspended within ten seconds.
    pub fn signal(&self, name: &str, signal: Signal) -> Result<()> {
        self.order(&Order { op: "signal", name, signal: signal.number(), ..Order::default() })?;
        let Some(Status::Running(pid)) = self.status(name).filter(|_| signal == Signal::Stop) else {
            return Ok(());
        };
        let end = Instant::now() + ANSWER;
        while !suspended(pid) {
            if Instant::now() > end {
                return Err(Error::new(format!("{name} is not suspended")));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Ends a process: SIGTERM, then SIGKILL when its time of grace is up. Blocks this thread until it is gone.
    ///
    /// # Errors
    /// When it is still there after its grace and ten seconds.
    pub fn stop(&self, name: &str, grace: Duration) -> Result<()> {
        self.order(&Order { op: "stop", name, ..Order::default() })?;
        if self.wait(name, grace + ANSWER) { Ok(()) } else { Err(Error::new(format!("{name} does not end"))) }
    }

    /// Has a folder removed when all has ended, however this process ends.
    ///
    /// # Errors
    /// When the supervisor is gone.
    pub fn remove_at_end(&self, dir: &Path) -> Result<()> {
        self.order(&Order { op: "remove", dir: Some(dir), ..Order::default() })
    }

    /// Lets all go on after this process has ended, until somebody calls [`stop_detached`] with what this returns.
    ///
    /// # Errors
    /// When the supervisor cannot make its socket.
    pub fn detach(&self) -> Result<String> {
        self.order(&Order { op: "detach", ..Order::default() })?;
        self.wait_for(ANSWER, |state| state.detached.clone())
            .ok_or_else(|| Error::new("the supervisor does not let go"))
    }

    /// Ends all, the later stages first, and removes the folders that were named. Blocks this thread.
    ///
    /// # Errors
    /// When something is still there after `limit`.
    pub fn shutdown(&self, limit: Duration) -> Result<()> {
        drop(lock(&self.stdin).take());
        self.wait_for(limit, |state| state.ended.then_some(())).ok_or_else(|| {
            Error::new(format!(
                "processes still run {} after they were told to end",
                crate::terminal::progress::seconds(limit)
            ))
        })
    }

    fn order(&self, order: &Order<'_>) -> Result<()> {
        let mut line = serde_json::to_vec(order).context(|| "writing an order for the supervisor")?;
        line.push(b'\n');
        lock(&self.stdin)
            .as_mut()
            .ok_or_else(|| Error::new("the supervisor was shut down"))?
            .write_all(&line)
            .context(|| "the supervisor does not listen")
    }

    fn wait_for<T>(&self, limit: Duration, mut found: impl FnMut(&State) -> Option<T>) -> Option<T> {
        let until = Instant::now() + limit;
        let mut state = lock(&self.shared.state);
        loop {
            if let Some(found) = found(&state) {
                return Some(found);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || state.ended {
                return None;
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Whether no thread of it runs any more: all are suspended, or it has ended. Only Linux tells; elsewhere it is believed.
fn suspended(pid: u32) -> bool {
    if !cfg!(target_os = "linux") {
        return true;
    }
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The state is the first letter after the program's name, which stands in brackets and may hold anything.
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['T', 't', 'Z', 'X']))
    })
}

impl Shared {
    fn note(&self, event: Event) {
        let mut state = lock(&self.state);
        match event.event.as_str() {
            "started" => {
                state.processes.insert(event.name, Status::Running(event.pid));
            }
            "exited" => {
                let ended = Status::Ended { code: event.code, text: event.text };
                state.processes.insert(event.name, ended);
            }
            "failed" => {
                state.failures.insert(event.name, event.text);
            }
            "detached" => state.detached = Some(event.text),
            _ => {}
        }
        drop(state);
        self.changed.notify_all();
    }
}

/// Ends what was detached and waits until all of it is gone. `false` where nothing listens there any more.
pub fn stop_detached(address: &str, limit: Duration) -> bool {
    use std::io::Read;
    let Ok(mut stream) = std::os::unix::net::UnixStream::connect(address) else {
        return false;
    };
    // The connection ends with the supervisor; what is read, or why reading fails, does not matter.
    let _ = stream.set_read_timeout(Some(limit));
    let _ = stream.read(&mut [0u8; 1]);
    true
}

/// The last lines of a log, for an error's sake; empty where there is no such file.
pub fn tail(log: &Path, lines: usize) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    let from = all.len().saturating_sub(lines);
    all[from..].iter().map(|line| format!("    {line}\n")).collect()
}
