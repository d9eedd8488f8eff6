//! What the operator and its peers asked of an API server, read from its audit log.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use jiff::Timestamp;
use serde::Deserialize;

use super::error::{Context, Result};

/// The policy: the requests of these users by their metadata, and nobody else's.
pub(super) fn policy(users: &[&str]) -> String {
    let users = users.iter().map(|user| format!("\"{user}\"")).collect::<Vec<_>>().join(", ");
    format!(
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n\
         - level: Metadata\n  users: [{users}]\n- level: None\n"
    )
}

/// A place in an audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark(u64);

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The verb, such as `patch`.
    pub verb: String,
    /// The resource in the plural, with its subresource: `deployments/scale`. The path, for what is no resource.
    pub resource: String,
    /// The object's namespace; empty where there is none.
    pub namespace: String,
    /// The object's name; empty where there is none.
    pub name: String,
    /// The answer's HTTP status; zero where there was none.
    pub code: u16,
    /// Who sent it: the User-Agent header.
    pub user_agent: String,
    /// When it was answered, by the API server's clock.
    pub answered: Option<Timestamp>,
}

/// The requests of one user since a mark.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audit {
    /// In the order in which they were answered; a watch counts when it begins.
    pub requests: Vec<Request>,
}

impl Audit {
    /// How many requests there were of each (verb, resource).
    pub fn counts(&self) -> BTreeMap<(String, String), usize> {
        let mut counts = BTreeMap::new();
        for request in &self.requests {
            *counts.entry((request.verb.clone(), request.resource.clone())).or_default() += 1;
        }
        counts
    }

    /// The requests that an idle operator does not send: all but watches, and what keeps its Lease.
    pub fn not_idle(&self) -> Vec<&Request> {
        self.requests
            .iter()
            .filter(|request| request.verb != "watch" && request.resource != "leases")
            .collect()
    }

    /// The requests that change something, the Lease's aside.
    pub fn writes(&self) -> Vec<&Request> {
        self.not_idle()
            .into_iter()
            .filter(|request| !matches!(request.verb.as_str(), "get" | "list"))
            .collect()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    stage: String,
    verb: String,
    #[serde(rename = "requestURI")]
    uri: String,
    #[serde(default)]
    user: User,
    #[serde(default)]
    user_agent: String,
    object_ref: Option<ObjectRef>,
    response_status: Option<ResponseStatus>,
    stage_timestamp: Option<Timestamp>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct User {
    username: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ObjectRef {
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Deserialize)]
struct ResponseStatus {
    #[serde(default)]
    code: u16,
}

/// The end of a log as it is now.
pub(super) fn mark(log: &Path) -> Mark {
    // There is no log before the operator's first request.
    Mark(std::fs::metadata(log).map_or(0, |metadata| metadata.len()))
}

/// What one user asked since a mark.
pub(super) fn since(log: &Path, mark: Mark, user: &str) -> Result<Audit> {
    let doing = || format!("reading {}", log.display());
    if !log.exists() {
        return Ok(Audit::default());
    }
    let mut file = std::fs::File::open(log).context(doing)?;
    file.seek(SeekFrom::Start(mark.0)).context(doing)?;
    let mut text = String::new();
    file.read_to_string(&mut text).context(doing)?;
    parse(&text, user)
}

fn parse(text: &str, user: &str) -> Result<Audit> {
    let mut audit = Audit::default();
    for line in text.split_inclusive('\n') {
        // The API server may be in the middle of the last one.
        let Some(line) = line.strip_suffix('\n') else {
            break;
        };
        let line: Line = serde_json::from_str(line).context(|| "reading a line of the audit log")?;
        // A watch is told of twice: when it begins and when it ends.
        let counts = if line.verb == "watch" {
            line.stage == "ResponseStarted"
        } else {
            line.stage != "ResponseStarted"
        };
        if !counts || line.user.username != user {
            continue;
        }
        let object = line.object_ref.unwrap_or_default();
        let resource = match (object.resource.as_str(), object.subresource.as_str()) {
            ("", _) => line.uri.split('?').next().unwrap_or_default().to_owned(),
            (resource, "") => resource.to_owned(),
            (resource, sub) => format!("{resource}/{sub}"),
        };
        audit.requests.push(Request {
            verb: line.verb,
            resource,
            namespace: object.namespace,
            name: object.name,
            code: line.response_status.map_or(0, |status| status.code),
            user_agent: line.user_agent,
            answered: line.stage_timestamp,
        });
    }
    Ok(audit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(stage: &str, verb: &str, resource: &str, sub: &str) -> String {
        format!(
            r#"{{"stage":"{stage}","verb":"{verb}","requestURI":"/x?watch=1","user":{{"username":"u"}},"userAgent":"t","objectRef":{{"resource":"{resource}","subresource":"{sub}","namespace":"n","name":"o"}},"responseStatus":{{"code":200}}}}"#
        ) + "\n"
    }

    #[test]
    fn a_watch_counts_once_and_an_unfinished_line_not_yet() {
        let text = [
            line("ResponseStarted", "watch", "pods", ""),
            line("ResponseComplete", "watch", "pods", ""),
            line("ResponseComplete", "patch", "deployments", "scale"),
            line("ResponseComplete", "update", "leases", ""),
            line("ResponseComplete", "list", "pods", ""),
        ]
        .concat();
        let audit = parse(&(text + r#"{"stage":"Resp"#), "u").unwrap();
        let counts = audit.counts();
        assert_eq!(counts[&("watch".into(), "pods".into())], 1);
        assert_eq!(counts[&("patch".into(), "deployments/scale".into())], 1);
        assert_eq!(audit.requests.len(), 4);
        assert_eq!(audit.not_idle().len(), 2);
        assert_eq!(audit.writes().len(), 1);
    }

    #[test]
    fn each_user_has_requests_of_its_own() {
        let text = line("ResponseComplete", "list", "pods", "");
        assert_eq!(parse(&text, "u").unwrap().requests.len(), 1);
        assert_eq!(parse(&text, "v").unwrap().requests, []);
    }

    #[test]
    fn what_is_no_resource_goes_by_its_path() {
        let text = r#"{"stage":"ResponseComplete","verb":"get","requestURI":"/apis?timeout=1"}"#;
        let audit = parse(&format!("{text}\n"), "").unwrap();
        assert_eq!(audit.requests[0].resource, "/apis");
    }
}
