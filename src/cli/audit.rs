//! `banyan audit`, as a plugin `kubectl banyan audit`: the record of what moves of a FailoverGroup did, and whether it is whole.

use std::io::Read;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use serde_json::json;

use super::api_error::words;
use super::cluster::OperatorArgs;
use crate::failover::record::document::{Document, NotRead};
use crate::failover::record::parts::{lines, read};
use crate::failover::record::verify::{Broken, Whole, verify};
use crate::runtime::client::{self, ClientError};
use crate::runtime::metrics::Metrics;
use crate::terminal::output::Output;

/// What is asked, and where.
#[derive(Clone, Debug, Args)]
pub struct AuditOptions {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    operator: OperatorArgs,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Prints the record of what moves of a FailoverGroup to this cluster did, as JSON
    Export {
        /// The FailoverGroup
        group: String,
    },
    /// Says whether an exported record is whole, without a cluster. Ends with 0 if it is, with 3 if not
    Verify {
        /// The file; `-` is standard input
        #[arg(default_value = "-")]
        file: PathBuf,
        /// The hash of an entry that must be there: of the last one, as it was kept elsewhere
        #[arg(long, value_name = "HASH")]
        head: Option<String>,
        /// How it is printed
        #[arg(long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
}

/// Why it could not be shown, or is not whole.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// There is no way to the API server.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The API server does not answer as it should.
    #[error("reading the record of {group} in namespace {namespace}: {}", words(.source))]
    Api {
        /// Of which group.
        group: String,
        /// Where.
        namespace: String,
        /// What it says.
        source: Box<kube::Error>,
    },
    /// There is none.
    #[error(
        "nothing is on record of FailoverGroup {group} in namespace {namespace}: no Failover of it was ever ordered in this cluster, or it is another cluster's (--context). Those that are there: `kubectl get configmaps -n {namespace} -l banyan.dev/record`"
    )]
    Absent {
        /// What was asked for.
        group: String,
        /// Where.
        namespace: String,
    },
    /// The file cannot be read.
    #[error("cannot read {file}: {source}; name a file that `banyan audit export` has written")]
    File {
        /// Its name.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// The record is not whole; it has been printed why.
    #[error("the record is not whole")]
    Broken,
}

impl AuditError {
    /// What the program ends with: 3 if the record is not whole, else 1.
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Self::Broken) { 3 } else { 1 }
    }
}

/// Carries out the command.
///
/// # Errors
/// If it cannot be shown, or the record is not whole.
pub async fn main(options: AuditOptions) -> Result<(), AuditError> {
    match &options.command {
        Command::Export { group } => {
            print!("{}", export(&options, group).await?.text());
            Ok(())
        }
        Command::Verify { file, head, output } => {
            let found = judge(&text(file)?, head.as_deref());
            println!("{}", said(&found, *output));
            found.map(drop).map_err(|_| AuditError::Broken)
        }
    }
}

async fn export(options: &AuditOptions, group: &str) -> Result<Document, AuditError> {
    let client = client::connect(&options.operator.cluster.target(), Metrics::new()).await?;
    let namespace = || options.operator.namespace.clone();
    let api: Api<ConfigMap> = Api::namespaced(client, &options.operator.namespace);
    let parts = read(&api, group).await.map_err(|source| AuditError::Api {
        group: group.to_owned(),
        namespace: namespace(),
        source: Box::new(source),
    })?;
    if parts.is_empty() {
        return Err(AuditError::Absent { group: group.to_owned(), namespace: namespace() });
    }
    Ok(Document::of(group, &lines(&parts)))
}

/// What a file says. Bytes that are no text are none of a record, and are found as such.
fn text(file: &PathBuf) -> Result<String, AuditError> {
    let read = match file.as_os_str() == "-" {
        true => {
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes).map(|_| bytes)
        }
        false => std::fs::read(file),
    };
    let bytes = read.map_err(|source| AuditError::File { file: file.display().to_string(), source })?;
    Ok(String::from_utf8(bytes).unwrap_or_else(|error| format!("no text: {error}")))
}

fn judge(text: &str, head: Option<&str>) -> Result<Whole, Broken> {
    let document = Document::read(text).map_err(|error: NotRead| Broken { entry: 0, why: error.to_string() });
    verify(&document?, head)
}

fn said(found: &Result<Whole, Broken>, output: Output) -> String {
    match (found, output) {
        (Ok(whole), Output::Json) => json!({"whole": true, "has": whole}).to_string(),
        (Err(broken), Output::Json) => json!({"whole": false, "broken": broken}).to_string(),
        (Ok(Whole { group, entries: 0, .. }), Output::Table) => format!("{group}: no entries"),
        (Ok(whole), Output::Table) => {
            let or_none = |text: &Option<String>| text.clone().unwrap_or_default();
            format!(
                "{} at {}: whole. {} entries of {} moves, the last of {}\nhead {}",
                whole.group,
                or_none(&whole.site),
                whole.entries,
                whole.moves,
                or_none(&whole.until),
                or_none(&whole.head)
            )
        }
        (Err(Broken { entry: 0, why }), Output::Table) => format!("not whole: {why}"),
        (Err(Broken { entry, why }), Output::Table) => {
            format!("broken at entry {entry}: {why}\nwhat stands before it is as it was written")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failover::record::line::{Last, Of, lines as added};

    fn exported() -> String {
        let of = Of { group: "payments", site: "gcp", failover: "move", uid: "u-1" };
        let pending = [1, 2].map(|number| {
            json!({"number": number, "at": "2026-01-01T00:00:00.000Z", "event": "StepBegan", "step": "fence"})
                .to_string()
        });
        let lines = added(&mut Last::none(), &of, &pending);
        Document::of("payments", &lines.iter().map(String::as_str).collect::<Vec<_>>()).text()
    }

    #[test]
    fn it_says_whether_a_record_is_whole_and_where_it_is_not() {
        let text = exported();
        let whole = judge(&text, None);
        let head = whole.clone().unwrap().head.unwrap();
        let words = said(&whole, Output::Table);
        assert_eq!(
            words,
            format!(
                "payments at gcp: whole. 2 entries of 1 moves, the last of 2026-01-01T00:00:00.000Z\nhead {head}"
            )
        );
        let changed = judge(&text.replacen("fence", "claim", 1), None);
        assert!(said(&changed, Output::Table).starts_with("broken at entry 1: it was changed"));
        assert!(said(&changed, Output::Json).starts_with(r#"{"broken":{"entry":1,"why":"it was changed"#));
        assert!(said(&judge(&text, Some("other")), Output::Table).starts_with("not whole: no entry has"));
        assert!(said(&judge("no", None), Output::Table).starts_with("not whole: it is no JSON"));
    }
}
