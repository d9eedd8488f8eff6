//! A session with a server. Every request has a deadline, ours and the server's; a session that is dropped is closed.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::task::AbortHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage, SimpleQueryRow, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::credentials::Credentials;
use super::failure;
use crate::api::store::PostgresSite;
use crate::runtime::remote::{RemoteError, within};
use crate::stores::StoreError;

/// Where a server is, and how one logs in there.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) database: String,
    pub(super) plain: bool,
    pub(super) credentials: Credentials,
    /// How long one request may take.
    pub(super) deadline: Duration,
    /// The site that asks, for the server's list of sessions.
    pub(super) asking: String,
}

/// A session. Dropping it closes it.
pub(super) struct Link {
    client: Client,
    connection: AbortHandle,
    deadline: Duration,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// What begins the `application_name` of all our sessions.
pub(super) const NAMED: &str = "banyan/";

impl Target {
    pub(super) fn new(
        site: &PostgresSite,
        credentials: Credentials,
        asking: &str,
        deadline: Duration,
    ) -> Self {
        Self {
            host: site.host.clone(),
            port: site.port(),
            database: site.database().to_owned(),
            plain: site.is_plain(),
            credentials,
            deadline,
            asking: asking.to_owned(),
        }
    }

    fn config(&self) -> Config {
        let mut config = Config::new();
        // The server gives up before we do: what is still locked when we have gone would stand in everybody's way.
        // Functions of others must not be found by our names.
        let limit = self.deadline.as_millis() * 4 / 5;
        let options = format!(
            "-c statement_timeout={limit} -c lock_timeout={} -c idle_in_transaction_session_timeout={limit} \
             -c default_transaction_read_only=off -c search_path=pg_catalog -c tcp_user_timeout=10000",
            limit / 4
        );
        config
            .host(&self.host)
            .port(self.port)
            .dbname(&self.database)
            .user(&self.credentials.user)
            .password(&self.credentials.password)
            .application_name(format!("{NAMED}{}", self.asking))
            .options(options)
            .connect_timeout(self.deadline)
            .ssl_mode(if self.plain { SslMode::Disable } else { SslMode::Require });
        config
    }

    /// Opens a session.
    pub(super) async fn open(&self) -> Result<Link, StoreError> {
        if self.plain {
            return self.connect(NoTls).await;
        }
        let unreadable = |why: String| StoreError::Remote(RemoteError::Unreachable(why));
        let mut roots = rustls::RootCertStore::empty();
        let ca = self.credentials.ca.as_deref().unwrap_or_default();
        for certificate in CertificateDer::pem_slice_iter(ca) {
            let added = certificate.ok().and_then(|certificate| roots.add(certificate).ok());
            added.ok_or_else(|| unreadable("the CA in the Secret is no certificate in PEM".to_owned()))?;
        }
        if roots.is_empty() {
            return Err(unreadable("the CA in the Secret is no certificate in PEM".to_owned()));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unreadable(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        self.connect(MakeRustlsConnect::new(config)).await
    }

    async fn connect<T>(&self, tls: T) -> Result<Link, StoreError>
    where
        T: MakeTlsConnect<Socket>,
        T::Stream: Send + 'static,
    {
        let config = self.config();
        let connected =
            bounded(self.deadline, async { config.connect(tls).await.map_err(|error| failure::of(&error)) });
        let (client, connection) = connected.await?;
        // How it ended is told by what was asked over it.
        let connection = tokio::spawn(async move { drop(connection.await) }).abort_handle();
        Ok(Link { client, connection, deadline: self.deadline })
    }
}

/// A step that has an end.
async fn bounded<T>(
    deadline: Duration,
    step: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    within(deadline, async { Ok(step.await) }).await?
}

impl Link {
    /// Sends statements at once, and returns the rows of all of them.
    pub(super) async fn ask(&self, sql: &str) -> Result<Vec<Found>, StoreError> {
        let asked = bounded(self.deadline, async {
            self.client.simple_query(sql).await.map_err(|error| failure::of(&error))
        });
        let row = |message| match message {
            SimpleQueryMessage::Row(row) => Some(Found(row)),
            _ => None,
        };
        Ok(asked.await?.into_iter().filter_map(row).collect())
    }

    /// Sends a statement that has one row.
    pub(super) async fn one(&self, sql: &str) -> Result<Found, StoreError> {
        self.ask(sql).await?.pop().ok_or_else(|| unreadable("there is no row"))
    }
}

/// A row of an answer.
pub(super) struct Found(SimpleQueryRow);

impl Found {
    /// A value, or nothing where it is null.
    pub(super) fn get(&self, column: &str) -> Option<&str> {
        self.0.try_get(column).ok().flatten()
    }

    /// A value that is never null.
    pub(super) fn text(&self, column: &str) -> Result<String, StoreError> {
        self.get(column).map(str::to_owned).ok_or_else(|| unreadable(column))
    }

    /// A value of a type that can be read from text, where it is not null.
    pub(super) fn maybe<T: std::str::FromStr>(&self, column: &str) -> Result<Option<T>, StoreError> {
        self.get(column).map(|text| text.parse().map_err(|_| unreadable(column))).transpose()
    }

    /// The same, never null.
    pub(super) fn value<T: std::str::FromStr>(&self, column: &str) -> Result<T, StoreError> {
        self.maybe(column)?.ok_or_else(|| unreadable(column))
    }

    /// Yes or no; what is null is no.
    pub(super) fn is(&self, column: &str) -> bool {
        self.get(column) == Some("t")
    }
}

fn unreadable(what: &str) -> StoreError {
    StoreError::Remote(RemoteError::Unreadable(format!("{what} is missing or is not what it should be")))
}
