//! A client that writes: who it is, a number that rises, and a checksum of both. What was acknowledged must be there for
//! ever; what was not may be there or not.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tokio::task::AbortHandle;
use tokio_postgres::{Config, NoTls};

use super::server::Server;
use crate::sandbox::error::Result;

/// The table that it writes to.
pub(super) const TABLE: &str = "create table ledger (writer integer, number bigint, checksum text not null, \
                                at timestamptz not null default clock_timestamp(), primary key (writer, number));";

/// How long one write may take before it is given up.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long lies between two writes, and after one that failed.
const PAUSE: Duration = Duration::from_millis(5);
const AFTER_FAILURE: Duration = Duration::from_millis(50);

/// What became of its writes so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// The numbers that were acknowledged.
    pub acknowledged: Vec<i64>,
    /// How many were begun and not acknowledged.
    pub unanswered: u64,
    /// How many reads brought a wrong checksum, or lacked what had been acknowledged over the same session.
    pub wrong_reads: u64,
    /// How many reads brought what was expected.
    pub reads: u64,
    /// The longest time between two acknowledgements.
    pub longest_gap: Duration,
    /// When the last one came.
    pub last: Option<Instant>,
}

impl Tally {
    /// For how long none was acknowledged; zero before the first.
    pub fn since_last(&self) -> Duration {
        self.last.map(|last| last.elapsed()).unwrap_or_default()
    }
}

/// What of the acknowledged writes a server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// How many were acknowledged.
    pub acknowledged: usize,
    /// How many of them are not there, or with a wrong checksum.
    pub lost: usize,
}

/// A client that writes until it is stopped or dropped.
pub struct Client {
    writer: i32,
    tally: Arc<Mutex<Tally>>,
    task: AbortHandle,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Client {
    /// Starts it. It goes from one target to the next until one lets it write, as applications do.
    pub(super) fn start(writer: i32, targets: Vec<Config>) -> Self {
        let tally = Arc::new(Mutex::new(Tally::default()));
        let task = tokio::spawn(write(writer, targets, Arc::clone(&tally))).abort_handle();
        Self { writer, tally, task }
    }

    /// What became of its writes so far.
    pub fn tally(&self) -> Tally {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes no more.
    pub fn stop(&self) {
        self.task.abort();
    }

    /// What of its acknowledged writes a server has.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn kept(&self, server: &Server) -> Result<Kept> {
        let acknowledged = self.tally().acknowledged;
        let query = format!("select number, checksum from ledger where writer = {}", self.writer);
        let rows = server.sql(&query).await?;
        let there: std::collections::HashMap<&str, &str> =
            rows.iter().filter_map(|row| Some((row.first()?.as_str(), row.get(1)?.as_str()))).collect();
        let is_there =
            |number: &i64| there.get(number.to_string().as_str()) == Some(&&*checksum(self.writer, *number));
        let lost = acknowledged.iter().filter(|number| !is_there(number)).count();
        Ok(Kept { acknowledged: acknowledged.len(), lost })
    }
}

/// What a row must say.
fn checksum(writer: i32, number: i64) -> String {
    Sha256::digest(format!("{writer}/{number}")).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

async fn write(writer: i32, targets: Vec<Config>, tally: Arc<Mutex<Tally>>) {
    let note =
        |change: &dyn Fn(&mut Tally)| change(&mut tally.lock().unwrap_or_else(PoisonError::into_inner));
    let mut number = 0;
    let mut last = Instant::now();
    for target in targets.iter().cycle() {
        let connected = tokio::time::timeout(DEADLINE, target.connect(NoTls)).await;
        let Ok(Ok((client, connection))) = connected else {
            tokio::time::sleep(AFTER_FAILURE).await;
            continue;
        };
        let connection = tokio::spawn(async move { drop(connection.await) });
        loop {
            number += 1;
            let text = checksum(writer, number);
            let insert = format!(
                "insert into ledger (writer, number, checksum) values ({writer}, {number}, '{text}')"
            );
            let written = tokio::time::timeout(DEADLINE, client.batch_execute(&insert)).await;
            if !matches!(written, Ok(Ok(()))) {
                note(&|tally| tally.unanswered += 1);
                break;
            }
            let gap = last.elapsed();
            last = Instant::now();
            note(&|tally| {
                tally.acknowledged.push(number);
                tally.longest_gap = tally.longest_gap.max(gap);
                tally.last = Some(last);
            });
            let select = format!("select checksum from ledger where writer = {writer} and number = {number}");
            let read = tokio::time::timeout(DEADLINE, client.simple_query(&select)).await;
            let Ok(Ok(read)) = read else { break };
            let right = read.iter().any(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0) == Some(text.as_str()),
                _ => false,
            });
            note(&|tally| if right { tally.reads += 1 } else { tally.wrong_reads += 1 });
            tokio::time::sleep(PAUSE).await;
        }
        connection.abort();
        tokio::time::sleep(AFTER_FAILURE).await;
    }
}
