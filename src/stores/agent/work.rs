//! Orders: one at a time, each once, none with an older ballot.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_postgres::{Config, NoTls};

use super::programs::{Programs, write};
use super::{Action, Order, Progress, Refusal, State, Status};
use crate::stores::Ballot;

/// How long the authority row may take to be read.
const DEADLINE: Duration = Duration::from_secs(4);

/// What the agent remembers across its own restarts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Memory {
    ballot: Ballot,
    last: Option<Progress>,
}

/// Carries out orders. Cheap to clone.
#[derive(Clone)]
pub struct Worker {
    programs: Arc<Programs>,
    /// A file with the connection string by which the row is read.
    local: Arc<PathBuf>,
    memory: Arc<Mutex<Memory>>,
    /// One order is looked at at a time.
    door: Arc<tokio::sync::Mutex<()>>,
}

impl Worker {
    /// With what was remembered. An order that was being carried out when the agent ended has failed.
    ///
    /// # Errors
    /// If what was remembered cannot be read.
    pub fn new(programs: Programs, local: PathBuf) -> Result<Self, String> {
        let file = programs.beside("agent.json");
        let mut memory = match std::fs::read(&file) {
            Ok(text) => serde_json::from_slice::<Memory>(&text)
                .map_err(|error| format!("reading {}: {error}", file.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Memory::default(),
            Err(error) => return Err(format!("reading {}: {error}", file.display())),
        };
        if let Some(last) = memory.last.as_mut().filter(|last| last.state == State::Running) {
            last.state = State::Failed;
            last.words = "the agent ended meanwhile: give the order again".to_owned();
        }
        Ok(Self {
            programs: Arc::new(programs),
            local: Arc::new(local),
            memory: Arc::new(Mutex::new(memory)),
            door: Arc::default(),
        })
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // What is guarded is whole after every statement.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is remembered, on the disk first.
    fn remember(&self, change: impl FnOnce(&mut Memory)) -> Result<(), String> {
        let mut memory = self.memory();
        let mut next = memory.clone();
        change(&mut next);
        let text = serde_json::to_vec(&next).map_err(|error| error.to_string())?;
        write(&self.programs.beside("agent.json"), &text)?;
        *memory = next;
        Ok(())
    }

    /// How the server stands, and the last order.
    pub async fn status(&self) -> Status {
        let running = self.programs.runs().await;
        if running && let Ok(Some(row)) = self.row().await {
            // So that it is known when the server does not run any more.
            let known = self.memory().ballot;
            if row > known && self.remember(|memory| memory.ballot = row).is_err() {
                tracing::warn!("the agent cannot remember the ballot {row}: its folder is not writable");
            }
        }
        let control = self.programs.control().await.unwrap_or_default();
        let Memory { ballot, last } = self.memory().clone();
        Status {
            running,
            state: control.state,
            system: control.system,
            timeline: control.timeline,
            ballot,
            last,
        }
    }

    /// The ballot of the authority row of the server, which runs.
    async fn row(&self) -> Result<Option<Ballot>, String> {
        let file = self.local.as_path();
        let text =
            std::fs::read_to_string(file).map_err(|error| format!("reading {}: {error}", file.display()))?;
        // What the parser says may quote what it read.
        let config = Config::from_str(text.trim())
            .map_err(|_| format!("{} holds no connection string", file.display()))?;
        let read = async {
            let (client, connection) = config.connect(NoTls).await?;
            let connection = tokio::spawn(async move { drop(connection.await) });
            let made = "select to_regclass('banyan.authority') is not null";
            let row = match client.query_one_scalar::<bool, _>(made, &[]).await? {
                true => client.query_opt_scalar::<i64, _>("select ballot from banyan.authority", &[]).await?,
                false => None,
            };
            connection.abort();
            Ok::<_, tokio_postgres::Error>(row)
        };
        match tokio::time::timeout(DEADLINE, read).await {
            Ok(read) => read.map_err(|error| {
                let words = error.as_db_error().map(|error| error.message().to_owned());
                words.unwrap_or_else(|| error.to_string())
            }),
            Err(_) => Err(format!("no answer within {} s", DEADLINE.as_secs())),
        }
    }

    /// Takes an order, and says how it fares. It goes on when nobody listens any more.
    ///
    /// # Errors
    /// If it is not begun.
    pub async fn take(&self, order: Order) -> Result<Progress, Refusal> {
        let _door = self.door.lock().await;
        if order.id.is_empty() || order.id.len() > 128 {
            return Err(Refusal::Wrong { why: "id must have 1 to 128 characters".to_owned() });
        }
        let last = self.memory().last.clone();
        match last {
            Some(last) if last.state == State::Running && last.id != order.id => {
                return Err(Refusal::Busy { id: last.id });
            }
            Some(last) if last.id == order.id && last.state != State::Failed => return Ok(last),
            _ => {}
        }
        let mut known = self.memory().ballot;
        if self.programs.runs().await {
            let row = self.row().await.map_err(|why| Refusal::Unknown { why })?;
            known = known.max(row.unwrap_or_default());
        }
        if known > order.ballot {
            return Err(Refusal::Greater { known });
        }
        let progress = Progress { id: order.id.clone(), state: State::Running, words: "begun".to_owned() };
        self.remember(|memory| {
            memory.ballot = order.ballot;
            memory.last = Some(progress.clone());
        })
        .map_err(|why| Refusal::Wrong { why })?;
        let worker = self.clone();
        tokio::spawn(async move {
            let done = worker.carry_out(&order).await;
            let ended = match done {
                Ok(()) => Progress { id: order.id, state: State::Done, words: String::new() },
                Err(why) => Progress { id: order.id, state: State::Failed, words: why },
            };
            // Where that fails it is still running for all who ask, and failed after a restart of the agent.
            if let Err(why) = worker.remember(|memory| memory.last = Some(ended)) {
                tracing::error!("the agent cannot remember how the order ended: {why}");
            }
        });
        Ok(progress)
    }

    async fn carry_out(&self, order: &Order) -> Result<(), String> {
        let programs = &self.programs;
        match &order.action {
            Action::Shutdown => programs.stop().await,
            Action::Start => programs.start().await,
            Action::Rewind(source) => {
                programs.stop().await?;
                programs.rewind(source).await?;
                programs.follow(source)?;
                programs.start().await
            }
            Action::Copy(source) => {
                programs.stop().await?;
                programs.copy(source, order.ballot).await?;
                programs.follow(source)?;
                programs.start().await
            }
        }
    }
}
