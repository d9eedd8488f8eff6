//! `banyan pg-agent`: beside a PostgreSQL, for what SQL cannot do.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::stores::agent::programs::Programs;
use crate::stores::agent::server;
use crate::stores::agent::work::Worker;

/// Where the server is, and who may give orders.
#[derive(Clone, Debug, Args)]
pub struct PgAgentOptions {
    /// The folder of PostgreSQL's programs, such as /usr/lib/postgresql/15/bin
    #[arg(long, value_name = "DIR")]
    bin: PathBuf,
    /// The folder of the server's data; what the agent remembers lies beside it
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// What the server is started with, such as "-p 5433"
    #[arg(long, value_name = "OPTIONS", default_value = "", allow_hyphen_values = true)]
    options: String,
    /// Where orders are heard
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8543")]
    listen: SocketAddr,
    /// The agent's certificate
    #[arg(long, value_name = "FILE")]
    tls_cert: PathBuf,
    /// Its key
    #[arg(long, value_name = "FILE")]
    tls_key: PathBuf,
    /// The CA of those who may give orders
    #[arg(long, value_name = "FILE")]
    client_ca: PathBuf,
    /// A file with the connection string by which the agent reads the authority row of its own server
    #[arg(long, value_name = "FILE")]
    local: PathBuf,
    /// A file with the words of a connection string by which the server replicates: user and password, no host
    #[arg(long, value_name = "FILE")]
    replicate_as: PathBuf,
    /// The same for pg_rewind; --replicate-as where it is left out
    #[arg(long, value_name = "FILE")]
    rewind_as: Option<PathBuf>,
}

/// Why the agent does not run.
#[derive(Debug, thiserror::Error)]
pub enum PgAgentError {
    /// A file cannot be used.
    #[error("{}: {why}; see --{option}", path.display())]
    File {
        /// The option that names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// It cannot listen, or cannot remember.
    #[error("{0}")]
    Other(String),
}

/// Runs the agent.
///
/// # Errors
/// If a file cannot be used, or the address cannot be listened at.
pub async fn main(options: PgAgentOptions) -> Result<(), PgAgentError> {
    let wrong = |option, path: &Path, why: String| PgAgentError::File { option, path: path.to_owned(), why };
    let read =
        |option, path: &Path| std::fs::read(path).map_err(|error| wrong(option, path, error.to_string()));
    if !options.bin.join("pg_ctl").is_file() {
        return Err(wrong("bin", &options.bin, "it has no pg_ctl".to_owned()));
    }
    read("local", &options.local)?;
    read("replicate-as", &options.replicate_as)?;
    let certificate = read("tls-cert", &options.tls_cert)?;
    let key = read("tls-key", &options.tls_key)?;
    let ca = read("client-ca", &options.client_ca)?;
    let tls =
        server::tls(&certificate, &key, &ca).map_err(|why| wrong("tls-cert", &options.tls_cert, why))?;
    let programs = Programs {
        bin: options.bin,
        data: options.data,
        options: options.options,
        replicate_as: options.replicate_as,
        rewind_as: options.rewind_as,
    };
    let worker = Worker::new(programs, options.local).map_err(PgAgentError::Other)?;
    server::serve(options.listen, tls, worker).await.map_err(PgAgentError::Other)
}
