//! The KafkaMirrorMaker2 of Strimzi: what it says, and how its copying is stopped and let on. Pure.
//!
//! `spec.mirrors` is one list without keys, which server-side apply can only take as a whole. So the one field that a
//! failover writes, `state` of the connector that copies, is written by a JSON patch on the version that was read.

use kube::api::DynamicObject;
use kube::core::GroupVersionKind;
use serde_json::{Value, json};

use super::super::owners::{Written, would_undo};
use crate::api::store::MirrorPolicy;
use crate::api::{Problem, Severity};

/// Where the field lies. The list is owned as one thing.
const STATE: Written<'_> = Written {
    path: &["spec", "mirrors"],
    shown: "spec.mirrors[0].sourceConnector.state",
    jq: ".spec.mirrors[].sourceConnector.state",
};
/// The name of the policy that keeps names as they are, without its package.
const IDENTITY: &str = "IdentityReplicationPolicy";

/// The kind, in the version that Strimzi serves since 1.0.
pub fn kind() -> GroupVersionKind {
    GroupVersionKind::gvk("kafka.strimzi.io", "v1", "KafkaMirrorMaker2")
}

/// Its plural.
pub const PLURAL: &str = "kafkamirrormaker2s";

/// Whether the connector copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copying {
    /// It does.
    Running,
    /// It does not, and keeps its tasks.
    Paused,
    /// It does not, and has no tasks.
    Stopped,
}

impl Copying {
    fn of(text: &str) -> Option<Self> {
        Some(match text.to_ascii_lowercase().as_str() {
            "running" => Self::Running,
            "paused" => Self::Paused,
            "stopped" => Self::Stopped,
            _ => return None,
        })
    }
}

/// What a KafkaMirrorMaker2 says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirroring {
    /// The alias of the cluster that is copied from; `None` if it has none or several mirrors.
    pub source: Option<String>,
    /// What is asked of the connector that copies.
    pub asked: Copying,
    /// What the connector does; `None` where its status does not say so, or speaks of an older spec.
    pub does: Option<Copying>,
    /// Tasks of it that do not do the same.
    pub astray: Vec<String>,
    /// What must be set before the group can be failed over.
    pub problems: Vec<Problem>,
}

impl Mirroring {
    /// Whether nothing is copied any more: it was asked for, and the connector and all of its tasks have stopped.
    pub fn is_frozen(&self) -> bool {
        let stopped = |state| matches!(state, Copying::Paused | Copying::Stopped);
        stopped(self.asked) && self.does.is_some_and(stopped) && self.astray.is_empty()
    }

    /// Reads the object. `source` is the path of the store's field, for problems; `groups` are those whose offsets are
    /// wanted.
    pub fn of(object: &DynamicObject, policy: MirrorPolicy, groups: &[String], source: &str) -> Self {
        let spec = &object.data["spec"];
        let mirrors = spec["mirrors"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut problems = Vec::new();
        let mut problem = |message: String, remedy: String| {
            problems.push(Problem::error(source, message, remedy));
        };
        let name = object.metadata.name.as_deref().unwrap_or_default();
        if mirrors.len() != 1 {
            problem(
                format!("the KafkaMirrorMaker2 {name} has {} mirrors: which one is meant cannot be told", mirrors.len()),
                "give it exactly one entry in spec.mirrors, that of the other site; put others into a KafkaMirrorMaker2 of their own".to_owned(),
            );
        }
        let mirror = if mirrors.len() == 1 { &mirrors[0] } else { &Value::Null };
        let copier = &mirror["sourceConnector"];
        let config = |connector: &str, key: &str| match &mirror[connector]["config"][key] {
            Value::String(text) => Some(text.clone()),
            Value::Null => None,
            other => Some(other.to_string()),
        };
        let identity = |connector: &str| {
            config(connector, "replication.policy.class").is_some_and(|class| class.ends_with(IDENTITY))
        };
        let wanted = policy == MirrorPolicy::Identity;
        if mirrors.len() == 1 {
            for connector in ["sourceConnector", "checkpointConnector"] {
                if !mirror[connector].is_null() && identity(connector) != wanted {
                    let (is, policy) = match wanted {
                        true => ("puts the source's name before topics", "Default"),
                        false => ("keeps the names of topics", "Identity"),
                    };
                    problem(
                        format!(
                            "{connector} of the KafkaMirrorMaker2 {name} {is}, and policy says otherwise"
                        ),
                        format!(
                            "set spec.mirrors[0].{connector}.config[replication.policy.class] to org.apache.kafka.connect.mirror.{}, or policy: {policy}",
                            if wanted { IDENTITY } else { "DefaultReplicationPolicy" }
                        ),
                    );
                }
            }
            let synced = config("checkpointConnector", "sync.group.offsets.enabled");
            if !groups.is_empty() && synced.as_deref() != Some("true") {
                problem(
                    format!("offsets of consumer groups are not copied by the KafkaMirrorMaker2 {name}"),
                    "set spec.mirrors[0].checkpointConnector.config[sync.group.offsets.enabled] to \"true\", or leave groups out".to_owned(),
                );
            }
        }
        // Whoever brings the object owns the list, also where it leaves the one field alone: that cannot be told apart.
        let undone = would_undo(object, &[STATE], source);
        problems.extend(undone.map(|problem| Problem { severity: Severity::Warning, ..problem }));
        let (does, astray) = status(object);
        Self {
            source: mirror["source"]["alias"].as_str().map(str::to_owned),
            asked: copier["state"].as_str().and_then(Copying::of).unwrap_or(Copying::Running),
            does,
            astray,
            problems,
        }
    }
}

/// What the connector that copies does, and its tasks that do something else.
fn status(object: &DynamicObject) -> (Option<Copying>, Vec<String>) {
    let status = &object.data["status"];
    if status["observedGeneration"].as_i64() != object.metadata.generation {
        return (None, Vec::new());
    }
    let connectors = status["connectors"].as_array().map(Vec::as_slice).unwrap_or_default();
    let copier = connectors.iter().find(|connector| {
        connector["name"].as_str().is_some_and(|name| name.ends_with("MirrorSourceConnector"))
    });
    let Some(copier) = copier else { return (None, Vec::new()) };
    let state = copier["connector"]["state"].as_str().unwrap_or_default();
    let tasks = copier["tasks"].as_array().map(Vec::as_slice).unwrap_or_default();
    let astray = tasks.iter().filter(|task| task["state"].as_str() != Some(state)).map(|task| {
        let state = task["state"].as_str().unwrap_or("unknown").to_ascii_lowercase();
        format!("task {} is {}", task["id"], state.chars().take(32).collect::<String>())
    });
    (Copying::of(state), astray.take(8).collect())
}

/// The changes of a JSON patch that stop the copying or let it on; none if it is so already.
///
/// # Errors
/// If there is not exactly one mirror.
pub fn steered(object: &DynamicObject, copies: bool) -> Result<Vec<Value>, Problem> {
    let mirrors = object.data["spec"]["mirrors"].as_array().map(Vec::as_slice).unwrap_or_default();
    let [mirror] = mirrors else {
        let message =
            format!("the KafkaMirrorMaker2 has {} mirrors: which one is meant cannot be told", mirrors.len());
        return Err(Problem::error("", message, "give it exactly one entry in spec.mirrors"));
    };
    let copier = &mirror["sourceConnector"];
    let asked = copier["state"].as_str().and_then(Copying::of).unwrap_or(Copying::Running);
    if (asked == Copying::Running) == copies {
        return Ok(Vec::new());
    }
    let state = if copies { "running" } else { "paused" };
    Ok(vec![match copier {
        Value::Object(_) => {
            json!({"op": "add", "path": "/spec/mirrors/0/sourceConnector/state", "value": state})
        }
        _ => json!({"op": "add", "path": "/spec/mirrors/0/sourceConnector", "value": {"state": state}}),
    }])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(change: impl FnOnce(&mut Value)) -> DynamicObject {
        let mut value = json!({
            "apiVersion": "kafka.strimzi.io/v1", "kind": "KafkaMirrorMaker2",
            "metadata": {"name": "mirror", "namespace": "kafka", "generation": 3},
            "spec": {"mirrors": [{
                "source": {"alias": "aws"},
                "sourceConnector": {"config": {"replication.policy.class": "org.apache.kafka.connect.mirror.IdentityReplicationPolicy"}},
                "checkpointConnector": {"config": {
                    "replication.policy.class": "org.apache.kafka.connect.mirror.IdentityReplicationPolicy",
                    "sync.group.offsets.enabled": "true",
                }},
            }]},
            "status": {"observedGeneration": 3, "connectors": [
                {"name": "aws->gcp.MirrorCheckpointConnector", "connector": {"state": "RUNNING"}, "tasks": []},
                {"name": "aws->gcp.MirrorSourceConnector", "connector": {"state": "RUNNING"},
                    "tasks": [{"id": 0, "state": "RUNNING"}, {"id": 1, "state": "RUNNING"}]},
            ]},
        });
        change(&mut value);
        serde_json::from_value(value).expect("an object")
    }

    fn read(object: &DynamicObject) -> Mirroring {
        Mirroring::of(
            object,
            MirrorPolicy::Identity,
            &["fraud".to_owned()],
            "spec.stores[events].kafkaMirror",
        )
    }

    #[test]
    fn a_mirror_that_runs_is_read() {
        let mirroring = read(&object(|_| ()));
        assert_eq!(mirroring.source.as_deref(), Some("aws"));
        assert_eq!((mirroring.asked, mirroring.does), (Copying::Running, Some(Copying::Running)));
        assert_eq!((mirroring.astray, mirroring.problems), (vec![], vec![]));
    }

    #[test]
    fn frozen_is_what_was_asked_for_and_what_all_of_it_does() {
        let pause = |value: &mut Value| {
            value["spec"]["mirrors"][0]["sourceConnector"]["state"] = json!("paused");
            let copier = &mut value["status"]["connectors"][1];
            copier["connector"]["state"] = json!("PAUSED");
            copier["tasks"] = json!([{"id": 0, "state": "PAUSED"}, {"id": 1, "state": "PAUSED"}]);
        };
        assert!(read(&object(pause)).is_frozen());
        let cases: [(&str, Value, &str); 5] = [
            ("/spec/mirrors/0/sourceConnector/state", json!("running"), "it is not asked for"),
            ("/status/observedGeneration", json!(2), "the status speaks of an older spec"),
            ("/status/connectors/1/connector/state", json!("RUNNING"), "the connector runs"),
            ("/status/connectors/1/tasks/1/state", json!("RUNNING"), "a task runs"),
            ("/status/connectors/1/name", json!("other"), "there is no status of it"),
        ];
        for (pointer, wrong, why) in cases {
            let object = object(|value| {
                pause(value);
                *value.pointer_mut(pointer).expect(pointer) = wrong;
            });
            assert!(!read(&object).is_frozen(), "{why}");
        }
        let stopped = object(|value| {
            pause(value);
            value["spec"]["mirrors"][0]["sourceConnector"]["state"] = json!("stopped");
            value["status"]["connectors"][1]["connector"]["state"] = json!("STOPPED");
            value["status"]["connectors"][1]["tasks"] = json!([]);
        });
        assert!(read(&stopped).is_frozen());
    }

    #[test]
    fn what_is_not_prepared_is_named_with_the_field_to_set() {
        let said = |change: fn(&mut Value)| {
            let problems = read(&object(change)).problems;
            problems
                .into_iter()
                .map(|problem| format!("{}; {}", problem.message, problem.remedy))
                .collect::<Vec<_>>()
        };
        let policy = said(|value| value["spec"]["mirrors"][0]["sourceConnector"]["config"] = json!({}));
        assert!(
            policy.len() == 1 && policy[0].contains("puts the source's name before topics"),
            "{policy:?}"
        );
        assert!(policy[0].contains("org.apache.kafka.connect.mirror.IdentityReplicationPolicy"));
        let offsets = said(|value| {
            value["spec"]["mirrors"][0]["checkpointConnector"]["config"]["sync.group.offsets.enabled"] =
                json!(false);
        });
        assert!(offsets.len() == 1 && offsets[0].contains("sync.group.offsets.enabled"), "{offsets:?}");
        let two = said(|value| {
            let mirror = value["spec"]["mirrors"][0].clone();
            value["spec"]["mirrors"] = json!([mirror, mirror]);
        });
        assert!(two.len() == 1 && two[0].contains("has 2 mirrors"), "{two:?}");
        let owned = said(|value| {
            value["metadata"]["managedFields"] = json!([{"manager": "argocd-controller", "operation": "Apply",
                "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:mirrors": {}}}}]);
        });
        assert!(
            owned.len() == 1 && owned[0].contains("'.spec.mirrors[].sourceConnector.state'"),
            "{owned:?}"
        );
    }

    #[test]
    fn only_the_state_is_written_and_only_where_it_differs() {
        let running = object(|_| ());
        assert_eq!(steered(&running, true), Ok(vec![]));
        let pause = json!({"op": "add", "path": "/spec/mirrors/0/sourceConnector/state", "value": "paused"});
        assert_eq!(steered(&running, false), Ok(vec![pause]));
        let stopped =
            object(|value| value["spec"]["mirrors"][0]["sourceConnector"]["state"] = json!("stopped"));
        assert_eq!(steered(&stopped, false), Ok(vec![]), "what is stopped copies nothing");
        let bare = object(|value| value["spec"]["mirrors"][0] = json!({"source": {"alias": "aws"}}));
        let made =
            json!({"op": "add", "path": "/spec/mirrors/0/sourceConnector", "value": {"state": "paused"}});
        assert_eq!(steered(&bare, false), Ok(vec![made]));
        let none = object(|value| value["spec"]["mirrors"] = json!([]));
        assert!(steered(&none, false).is_err());
    }
}
