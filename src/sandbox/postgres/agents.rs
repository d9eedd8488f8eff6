//! `banyan pg-agent` beside each server of a pair: what SQL cannot do to a PostgreSQL.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};

use super::super::cloud::free_port;
use super::super::error::{Context, Result};
use super::pair::{OPERATOR, PostgresPair, REPLICATOR};
use crate::api::store::{AgentSecret, Postgres, PostgresAgent};

/// The agents of a pair. They end with its supervisor.
pub struct Agents {
    ports: [u16; 2],
    /// By what an operator is known to them, and knows them.
    certificate: String,
    key: String,
    ca: String,
}

/// Who issues the certificates of agents and operators.
pub type Issuer = CertifiedIssuer<'static, KeyPair>;

/// A new one.
///
/// # Errors
/// When no key can be made.
pub fn issuer() -> Result<Issuer> {
    let doing = || "making the certificates of PostgreSQL's agents";
    let mut params = CertificateParams::new(Vec::new()).context(doing)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().context(doing)?).context(doing)
}

/// A certificate for 127.0.0.1 and its key.
///
/// # Errors
/// When no key can be made.
pub fn papers(issuer: &Issuer) -> Result<(String, String)> {
    let doing = || "making a certificate of PostgreSQL's agents";
    let key = KeyPair::generate().context(doing)?;
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).context(doing)?;
    Ok((params.signed_by(&key, issuer).context(doing)?.pem(), key.serialize_pem()))
}

/// Starts an agent beside the server of a site; `rewinds` says whether it knows a role that may rewind. Answers with its
/// port and its log.
///
/// # Errors
/// When no port or certificate can be had, or it cannot be started.
pub fn beside(
    pair: &PostgresPair,
    site: usize,
    binary: &Path,
    issuer: &Issuer,
    rewinds: bool,
) -> Result<(u16, PathBuf)> {
    let server = &pair.servers[site];
    let (port, password, (certificate, key)) = (free_port()?, pair.password(), papers(issuer)?);
    let file = |name: &str, text: &str| Ok(server.file(name, text)?.display().to_string());
    let local =
        format!("host=127.0.0.1 port={} dbname=postgres user={OPERATOR} password={password}", server.port());
    let mut argv = vec![binary.display().to_string(), "pg-agent".to_owned()];
    for (option, value) in [
        ("--bin", server.bin().display().to_string()),
        ("--data", server.data().display().to_string()),
        ("--options", format!("-p {}", server.port())),
        ("--listen", format!("127.0.0.1:{port}")),
        ("--tls-cert", file("agent.crt", &certificate)?),
        ("--tls-key", file("agent.key", &key)?),
        ("--client-ca", file("agent-ca.crt", &issuer.pem())?),
        ("--local", file("agent-local", &local)?),
        ("--replicate-as", file("agent-replicate", &format!("user={REPLICATOR} password={password}"))?),
    ] {
        argv.extend([option.to_owned(), value]);
    }
    if rewinds {
        argv.extend(["--rewind-as".to_owned(), file("agent-rewind", "user=postgres")?]);
    }
    Ok((port, server.beside("pg-agent", argv)?))
}

impl Agents {
    /// Starts one beside each server; `binary` is `banyan` itself.
    ///
    /// # Errors
    /// When no port or certificate can be had, or one cannot be started.
    pub fn start(pair: &PostgresPair, binary: &Path) -> Result<Self> {
        let issuer = issuer()?;
        let (certificate, key) = papers(&issuer)?;
        let [one, other] = [0, 1].map(|site| beside(pair, site, binary, &issuer, true));
        Ok(Self { ports: [one?.0, other?.0], certificate, key, ca: issuer.pem() })
    }

    /// What the Secret of an operator holds by which it is known to them.
    pub fn secret(&self) -> Value {
        json!({"tls.crt": self.certificate, "tls.key": self.key, "ca.crt": self.ca})
    }

    /// The store with its agents, whose Secret has that name.
    pub fn with(&self, pair: &PostgresPair, mut store: Postgres, secret: &str) -> Postgres {
        store.agent = Some(PostgresAgent { port: None, secret_ref: AgentSecret { name: secret.to_owned() } });
        for (site, port) in pair.sites().iter().zip(self.ports) {
            if let Some(server) = store.sites.get_mut(site) {
                server.agent_port = Some(i32::from(port));
            }
        }
        store
    }
}
