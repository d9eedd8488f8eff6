//! A pair of servers, and what the operators of both sites see of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use banyan::sandbox::pair::supervisor;
use banyan::sandbox::postgres::{APPLICATION, OPERATOR, PostgresPair, PostgresPairOptions, PostgresTools};
use banyan::sandbox::process::Supervisor;
use banyan::stores::postgres::{Credentials, Postgres};
use banyan::stores::{Ballot, CaughtUp, Fence, Position, Promotion, Session, Store, StoreError};
use banyan::terminal::progress::Progress;
use tokio::sync::OnceCell;
use tokio_postgres::{Client, NoTls};

/// How long anything may take that is waited for. Only a bound.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The site that has the primary at first, and the other one.
pub const A: usize = 0;
/// See [`A`].
pub const B: usize = 1;

/// A pair, and the stores as either operator sees them.
pub struct World {
    /// Both servers.
    pub pair: PostgresPair,
}

/// A session of somebody.
pub struct Login(pub Client);

/// A pair of its own for a test; `None` where there is no PostgreSQL, which is said.
pub async fn world() -> Option<World> {
    static KEPT: OnceCell<Result<PostgresTools, String>> = OnceCell::const_new();
    of(KEPT.get_or_init(|| found(PostgresTools::obtain)).await).await
}

/// The same with the PostgreSQL that comes in a package, of a later version.
pub async fn packaged() -> Option<World> {
    of(&found(PostgresTools::packaged).await).await
}

/// What keeps all servers of this process.
async fn keeper() -> Arc<Supervisor> {
    static KEPT: OnceCell<Arc<Supervisor>> = OnceCell::const_new();
    let start = async || supervisor(Progress::stderr()).await.expect("a supervisor");
    Arc::clone(KEPT.get_or_init(start).await)
}

async fn found(
    obtain: fn(&Supervisor, &Progress) -> banyan::sandbox::Result<PostgresTools>,
) -> Result<PostgresTools, String> {
    let keeper = keeper().await;
    let tools = tokio::task::spawn_blocking(move || obtain(&keeper, &Progress::stderr()));
    tools.await.expect("it does not panic").map_err(|error| error.to_string())
}

async fn of(tools: &Result<PostgresTools, String>) -> Option<World> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let tools = match tools {
        Ok(tools) => tools,
        Err(why) => {
            assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "{why}");
            println!("skipped: {why}");
            return None;
        }
    };
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("banyan-stores-{}-{number}", std::process::id()));
    let sites = ["aws-us-east-1", "gcp-us-central1"].map(str::to_owned);
    let pair = PostgresPair::with(tools, PostgresPairOptions { dir, sites }, keeper().await).await;
    Some(World { pair: pair.expect("a pair of servers") })
}

impl World {
    /// What the operator of one site sees of the server at another.
    pub fn store(&self, asking: usize, site: usize) -> Postgres {
        let sites = self.pair.sites();
        let credentials = Credentials::new(OPERATOR, self.pair.password(), None);
        let spec = self.pair.spec(asking, "ledger");
        Postgres::new(&spec, &sites[site], &sites[asking], credentials, "spec.stores[ledger].postgres")
            .expect("a store")
    }

    /// The operator of the second site, which is to take over, and its view of both servers.
    pub fn seen_from_b(&self) -> (Postgres, Postgres) {
        (self.store(B, A), self.store(B, B))
    }

    /// A session of a role.
    pub async fn login(&self, site: usize, user: &str) -> Result<Login, String> {
        let config = self.pair.servers[site].config(user, self.pair.password());
        let (client, connection) = config.connect(NoTls).await.map_err(|error| words(&error))?;
        tokio::spawn(async move { drop(connection.await) });
        Ok(Login(client))
    }

    /// A session of the application.
    pub async fn app(&self, site: usize) -> Result<Login, String> {
        self.login(site, APPLICATION).await
    }

    /// The one value of a query of the superuser.
    pub async fn value(&self, site: usize, query: &str) -> String {
        let rows = self.pair.servers[site].sql(query).await.expect("an answer");
        rows.first().and_then(|row| row.first()).cloned().unwrap_or_default()
    }

    /// Runs statements as the superuser.
    pub async fn sql(&self, site: usize, statements: &str) {
        self.pair.servers[site].sql(statements).await.expect("it is done");
    }

    /// How many rows of the ledger have this writer.
    pub async fn rows(&self, site: usize, writer: i32) -> u32 {
        let count = self.value(site, &format!("select count(*) from ledger where writer = {writer}")).await;
        count.parse().expect("a number")
    }

    /// The timeline: how often was promoted, and one.
    pub async fn timeline(&self, site: usize) -> u32 {
        self.store(site, site).read().await.expect("a reading").timeline
    }
}

impl Login {
    /// Runs statements; the server's words where it refuses.
    pub async fn run(&self, statements: &str) -> Result<(), String> {
        let run = tokio::time::timeout(PATIENCE, self.0.batch_execute(statements)).await;
        run.expect("an answer in time").map_err(|error| words(&error))
    }

    /// Writes a row.
    pub async fn write(&self, writer: i32) -> Result<(), String> {
        self.run(&insert(writer)).await
    }
}

/// A row of this writer, with a number that nobody has.
pub fn insert(writer: i32) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("insert into ledger (writer, number, checksum) values ({writer}, {number}, '')")
}

fn words(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned())
}

/// Waits until a standby has the fence.
pub async fn caught_up(store: &Postgres, ballot: Ballot, position: Option<Position>) {
    let begin = Instant::now();
    while store.caught_up(ballot, position).await.expect("an answer") != CaughtUp::Yes {
        assert!(begin.elapsed() < PATIENCE, "the standby does not catch up");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Promotes by a session of its own.
pub async fn promote(
    store: &Postgres,
    ballot: Ballot,
    row: Option<Ballot>,
) -> Result<Option<Position>, StoreError> {
    store.session().await?.promote(Promotion { ballot, row }).await
}

/// A claim that follows no epoch.
pub fn claim(ballot: Ballot) -> Fence {
    Fence { ballot, follows: 0 }
}
