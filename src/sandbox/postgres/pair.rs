//! Two servers as two sites have them: the second follows the first, through a door that can be shut.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::client::{Client, TABLE};
use super::server::Server;
use super::tools::PostgresTools;
use crate::api::store::{
    Postgres, PostgresCredentials, PostgresSecret, PostgresSite, PostgresTls, Synchronous,
};
use crate::sandbox::cloud::free_port;
use crate::sandbox::ends::proxy::Proxy;
use crate::sandbox::error::{Context, Error, Result};
use crate::sandbox::process::Supervisor;
use crate::terminal::progress::Progress;

/// How long the second may take to stream.
const PATIENCE: Duration = Duration::from_secs(60);
/// The role by which one server follows the other.
pub(super) const REPLICATOR: &str = "replicator";
/// The role of the operators.
pub const OPERATOR: &str = "banyan";
/// The role of applications.
pub const APPLICATION: &str = "app";

/// What a pair is like.
#[derive(Debug, Clone)]
pub struct PostgresPairOptions {
    /// The folder that takes both; it is removed at the end.
    pub dir: PathBuf,
    /// The names of the sites; the first has the primary.
    pub sites: [String; 2],
}

/// Two servers that run. They end with their supervisor.
pub struct PostgresPair {
    /// Both servers, in the order of the sites.
    pub servers: [Server; 2],
    /// The door of each server for the other site: for its operator, and for replication.
    pub doors: [Proxy; 2],
    sites: [String; 2],
    password: String,
    /// How many clients have been started: none may write under the number of another.
    clients: AtomicI32,
}

impl PostgresPair {
    /// Finds or downloads PostgreSQL, and starts the pair: three seconds where it is there.
    ///
    /// # Errors
    /// When there is no PostgreSQL to be had, or a server does not start.
    pub async fn start(
        options: PostgresPairOptions,
        supervisor: Arc<Supervisor>,
        progress: &Progress,
    ) -> Result<Self> {
        let tools = {
            let (supervisor, progress) = (Arc::clone(&supervisor), progress.clone());
            let obtained =
                tokio::task::spawn_blocking(move || PostgresTools::obtain(&supervisor, &progress)).await;
            obtained.context(|| "looking for PostgreSQL")??
        };
        Self::with(&tools, options, supervisor).await
    }

    /// Starts the pair with these programs.
    ///
    /// # Errors
    /// When a server does not start.
    pub async fn with(
        tools: &PostgresTools,
        options: PostgresPairOptions,
        supervisor: Arc<Supervisor>,
    ) -> Result<Self> {
        let PostgresPairOptions { dir, sites } = options;
        std::fs::create_dir_all(&dir).context(|| format!("making the folder {}", dir.display()))?;
        supervisor.remove_at_end(&dir)?;
        let server = |site: &String| {
            let name = format!("{}/{site}", dir.display());
            Server::new(&name, &dir.join(site), free_port()?, tools.clone(), Arc::clone(&supervisor))
        };
        let servers = [server(&sites[0])?, server(&sites[1])?];
        let doors = [Proxy::to(servers[0].port()).await?, Proxy::to(servers[1].port()).await?];
        let salt = format!("{}{}", dir.display(), jiff::Timestamp::now().as_nanosecond());
        let password: String =
            Sha256::digest(salt).iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        let pair = Self { servers, doors, sites, password, clients: AtomicI32::new(0) };
        pair.servers[0].init().await?;
        pair.servers[0].start().await?;
        pair.servers[0].sql(&pair.roles().await?).await?;
        pair.join(1, 0).await?;
        Ok(pair)
    }

    /// The roles and what they may: what readiness asks for is granted by the same words.
    async fn roles(&self) -> Result<String> {
        let password = &self.password;
        let mut text = format!(
            "create role {REPLICATOR} login replication password '{password}';
             create role {APPLICATION} login password '{password}';
             create role {OPERATOR} login createrole password '{password}';
             grant pg_monitor, pg_signal_backend to {OPERATOR};
             grant create on database postgres to {OPERATOR};
             grant execute on function pg_promote(boolean, integer), pg_reload_conf() to {OPERATOR};
             grant alter system on parameter synchronous_standby_names, primary_conninfo to {OPERATOR};
             {TABLE}
             grant select, insert on ledger to {APPLICATION};"
        );
        let version =
            self.servers[0].sql("select current_setting('server_version_num')::int >= 160000").await?;
        let is =
            |rows: Vec<Vec<String>>| rows.first().and_then(|row| row.first()).is_some_and(|is| is == "t");
        let newer =
            self.servers[0].sql("select current_setting('server_version_num')::int >= 150000").await?;
        if is(newer) {
            text.push_str(&format!("grant pg_checkpoint to {OPERATOR};"));
        }
        if is(version) {
            text.push_str(&format!(
                "grant {APPLICATION} to {OPERATOR} with admin true, inherit false, set false;"
            ));
        }
        Ok(text)
    }

    /// Has one server begin anew as a standby of the other, and waits until it streams.
    ///
    /// # Errors
    /// When it cannot be copied, or does not stream in a minute.
    pub async fn join(&self, standby: usize, primary: usize) -> Result<()> {
        let server = &self.servers[standby];
        if server.pid().is_some() {
            server.stop().await?;
        }
        let source = format!(
            "host=127.0.0.1 port={} user={REPLICATOR} password={} application_name={}",
            self.doors[primary].port(),
            self.password,
            self.sites[standby]
        );
        server.copy(&source).await?;
        server.start().await?;
        self.streams(primary).await
    }

    /// Waits until the other server streams from this one.
    ///
    /// # Errors
    /// When it does not in a minute.
    pub async fn streams(&self, primary: usize) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let query = "select 1 from pg_stat_replication where state = 'streaming'";
        while self.servers[primary].sql(query).await?.is_empty() {
            if Instant::now() > deadline {
                return Err(Error::new(format!("nobody streams from the server of {}", self.sites[primary])));
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        Ok(())
    }

    /// The names of the sites.
    pub fn sites(&self) -> &[String; 2] {
        &self.sites
    }

    /// The password of all roles but the superuser, who needs none.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The store as the operator of one site sees it: its own server directly, the other one by its door. `secret` is
    /// the name of the Secret that both name.
    pub fn spec(&self, asking: usize, secret: &str) -> Postgres {
        let server = |site: usize| PostgresSite {
            host: "127.0.0.1".to_owned(),
            port: Some(if site == asking {
                i32::from(self.servers[site].port())
            } else {
                i32::from(self.doors[site].port())
            }),
            tls: Some(PostgresTls::DisableOnLoopback),
            credentials: PostgresCredentials {
                secret_ref: PostgresSecret { name: secret.to_owned(), ..PostgresSecret::default() },
            },
            ..PostgresSite::default()
        };
        let sites = [0, 1].map(|site| (self.sites[site].clone(), server(site)));
        Postgres {
            sites: BTreeMap::from(sites),
            roles: vec![APPLICATION.to_owned()],
            synchronous: Some(Synchronous::Never),
            agent: None,
        }
    }

    /// An application that writes, under a number of its own, to whichever server lets it in, and reads.
    pub fn client(&self) -> Client {
        let writer = self.clients.fetch_add(1, Ordering::Relaxed) + 1;
        let targets = [0, 1].map(|site| self.servers[site].config(APPLICATION, &self.password));
        Client::start(writer, targets.into())
    }
}
