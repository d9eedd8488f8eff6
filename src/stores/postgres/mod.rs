//! PostgreSQL with streaming replication, over its own wire.
//!
//! | file | what it holds |
//! |---|---|
//! | [`credentials`] | what the operator logs in with; pure |
//! | `link` | a session with deadlines |
//! | `failure` | what an error means |
//! | `sql` | text of SQL; pure |
//! | `row` | the authority row and the heartbeat |
//! | `read`, `rights`, `writers` | all that one look finds: state, what our role lacks, who may write |
//! | `fence` | closing, and opening again where it is |
//! | `standby` | receiving nothing more, and how far it is |
//! | `promote` | promotion, a verified write, opening |
//! | `follow` | an old primary becomes a standby, by the agent beside it |
//!
//! What each can and cannot keep out was measured: docs/stores.md.

pub mod credentials;
mod failure;
mod fence;
mod follow;
mod link;
mod promote;
mod read;
mod rights;
mod row;
mod sql;
mod standby;
mod writers;

use std::collections::BTreeMap;
use std::time::Duration;

pub use credentials::Credentials;
pub use promote::PostgresSession;

use self::link::{Link, Target};
use super::agent::client::Agent;
use super::agent::{Action, Order, Source};
use super::{Ballot, CaughtUp, Fence, Fenced, Frozen, Position, Reading, Store, StoreError, Verified};
use crate::api::Problem;
use crate::api::store::Postgres as Spec;
use crate::runtime::remote::DEADLINE;

/// The server of one site of a store. Cheap to make: it connects anew for each call.
#[derive(Clone, Debug)]
pub struct Postgres {
    target: Target,
    roles: Vec<String>,
    /// The path of the store's field, for problems.
    source: String,
    /// By which name each site's server asks for replication.
    names: BTreeMap<String, String>,
    /// Where each site's server is.
    servers: BTreeMap<String, (String, u16)>,
    /// The site of this server.
    site: String,
    agent: Option<Agent>,
}

impl Postgres {
    /// The server at `site`, asked by the operator of the site `asking`. `source` is the path of the store's field, such
    /// as `spec.stores[reports-db].postgres`.
    ///
    /// # Errors
    /// If the store has no server at that site, or lists the operator's own role.
    pub fn new(
        spec: &Spec,
        site: &str,
        asking: &str,
        credentials: Credentials,
        source: &str,
    ) -> Result<Self, Problem> {
        let server = spec.sites.get(site).ok_or_else(|| {
            let field = format!("{source}.sites");
            Problem::error(
                field.clone(),
                format!("{field} names no server at the site {site}"),
                format!("add {site}: {{host: …, credentials: …}} to {field}"),
            )
        })?;
        if spec.roles.contains(&credentials.user) {
            return Err(Problem::error(
                format!("{source}.roles"),
                format!(
                    "roles names {}, the operator's own role: a fence would lock the operator out",
                    credentials.user
                ),
                "give the operator a role of its own, and take this one from roles or from the Secret",
            ));
        }
        let name = |site: &String| {
            let named = spec.sites.get(site).and_then(|server| server.application_name.clone());
            named.unwrap_or_else(|| site.clone())
        };
        Ok(Self {
            target: Target::new(server, credentials, asking, DEADLINE),
            roles: spec.roles.clone(),
            source: source.to_owned(),
            names: spec.sites.keys().map(|site| (site.clone(), name(site))).collect(),
            servers: spec
                .sites
                .iter()
                .map(|(site, server)| (site.clone(), (server.host.clone(), server.port())))
                .collect(),
            site: site.to_owned(),
            agent: None,
        })
    }

    /// The same with another limit for each request; five seconds otherwise.
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.target.deadline = deadline;
        self
    }

    /// The same with the agent beside the server.
    pub fn with_agent(mut self, agent: Agent) -> Self {
        self.agent = Some(agent);
        self
    }

    /// Stops the server, which is fenced, so that it can follow the new primary without rewinding. It may be asked again:
    /// done is success.
    ///
    /// # Errors
    /// If there is no agent, it refuses, or it is not done yet.
    pub async fn shut_down(&self, ballot: Ballot) -> Result<(), StoreError> {
        let agent = self.agent.as_ref().ok_or_else(|| follow::without_agent(&self.site))?;
        let id = format!("shutdown-{ballot}");
        follow::ordered(agent, Order { id, ballot, action: Action::Shutdown }, &self.source).await
    }

    /// Goes on with what was begun to have the server follow for that epoch, where it could not be rewound or started: it
    /// answers nobody then. Done is success; a server that nobody has stopped for that is left alone.
    ///
    /// # Errors
    /// If there is no agent, it refuses, or it is not done yet.
    pub async fn go_on(&self, epoch: Ballot, site: &str, timeline: Option<u32>) -> Result<(), StoreError> {
        let (agent, source) = self.led_by(site, timeline)?;
        follow::go_on(agent, epoch, source, &self.source).await
    }

    /// Its agent, and the server of a site that it is to follow.
    fn led_by(&self, site: &str, timeline: Option<u32>) -> Result<(&Agent, Source), StoreError> {
        let agent = self.agent.as_ref().ok_or_else(|| follow::without_agent(site))?;
        let (host, port) = self.servers.get(site).cloned().ok_or_else(|| {
            let field = format!("{}.sites", self.source);
            let message = format!("{field} names no server at the site {site}");
            let remedy = format!("add {site}: {{host: …, credentials: …}} to {field}");
            StoreError::from(Problem::error(field, message, remedy))
        })?;
        let application_name = self.names.get(&self.site).unwrap_or(&self.site).clone();
        let source = Source { host, port, application_name, timeline };
        Ok((agent, source))
    }

    async fn link(&self) -> Result<Link, StoreError> {
        self.target.open().await
    }
}

impl Store for Postgres {
    type Session = PostgresSession;

    async fn read(&self) -> Result<Reading, StoreError> {
        read::read(&self.link().await?, &self.roles, &self.source).await
    }

    async fn beat(&self, site: &str) -> Result<(), StoreError> {
        row::beat(&self.link().await?, site).await
    }

    async fn fence(&self, fence: Fence) -> Result<Fenced, StoreError> {
        let link = self.link().await?;
        fence::fence(&link, fence, &self.roles).await.map_err(|error| error.of_store(&self.source))
    }

    async fn fence_standby(&self, fence: Fence) -> Result<(), StoreError> {
        fence::fence_standby(&self.link().await?, fence).await
    }

    async fn lift(&self, ballot: Ballot) -> Result<(), StoreError> {
        fence::lift(&self.link().await?, ballot).await
    }

    async fn open(&self, epoch: Ballot) -> Result<(), StoreError> {
        promote::open(&self.link().await?, epoch, &self.roles).await?;
        // Nobody waits for it: it makes that an old primary can be rewound at once.
        let target = self.target.clone();
        tokio::spawn(async move {
            if let Ok(link) = target.open().await
                && let Err(error) = link.ask("checkpoint").await
            {
                tracing::debug!(%error, "no checkpoint was asked for: the old primary is rewound after the next one");
            }
        });
        Ok(())
    }

    async fn freeze(&self, ballot: Ballot) -> Result<Frozen, StoreError> {
        standby::freeze(&self.link().await?, ballot).await
    }

    async fn thaw(&self) -> Result<(), StoreError> {
        standby::thaw(&self.link().await?).await
    }

    async fn caught_up(&self, ballot: Ballot, position: Option<Position>) -> Result<CaughtUp, StoreError> {
        standby::caught_up(&self.link().await?, ballot, position).await
    }

    async fn session(&self) -> Result<PostgresSession, StoreError> {
        Ok(PostgresSession::new(self.link().await?))
    }

    async fn verify(&self, ballot: Ballot) -> Result<Option<Verified>, StoreError> {
        let token = uuid::Uuid::from_u128(jiff::Timestamp::now().as_nanosecond().unsigned_abs()).to_string();
        promote::write(&self.link().await?, ballot, &token).await?;
        promote::read_back(&self.link().await?, ballot, &token).await.map(Some)
    }

    async fn protect(&self, epoch: Ballot, site: Option<&str>) -> Result<(), StoreError> {
        let name = site.map(|site| self.names.get(site).map_or(site, String::as_str));
        promote::protect(&self.link().await?, epoch, name).await
    }

    async fn follow(&self, epoch: Ballot, site: &str, timeline: Option<u32>) -> Result<(), StoreError> {
        let (agent, source) = self.led_by(site, timeline)?;
        follow::follow(agent, epoch, source, &self.source).await
    }
}
