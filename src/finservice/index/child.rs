//! What is kept of a child: its name, eight bytes of digest, and the few facts that decisions need.

use crate::api::labels::ADOPT_ANNOTATION;
use crate::api::labels::ADOPTED_FROM_ANNOTATION;
use crate::api::labels::MANAGER;
use crate::api::labels::PAUSE_ANNOTATION;
use crate::api::labels::RETIRED_ANNOTATION;
use crate::api::labels::REVISION_LABEL;
use crate::api::labels::SCALER;
use crate::api::labels::SERVICE_LABEL;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use kube::api::DynamicObject;
use serde_json::Value;

use crate::api::conditions::cut;
use crate::api::labels::MARK_ANNOTATION;
use crate::finservice::children::Kind;
use crate::finservice::children::handed_over::{Before, Had};
use crate::finservice::children::observed::{Observed as Route, is_behind, is_unclaimed, observed, refusal};
use crate::finservice::index::uid::Uid;
use crate::runtime::digest::{self, Parts};
use crate::runtime::key::version_of;

/// Bytes of what a gateway says that are kept.
const MOST_OF_A_REFUSAL: usize = 400;
/// Fields that are named at the most.
const FIELDS_SHOWN: usize = 5;

/// A child as it was last seen.
#[derive(Clone, Debug, PartialEq)]
pub struct ChildState {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: Box<str>,
    /// Its UID.
    pub uid: Uid,
    /// Its resource version, to tell an older event from a newer answer. The API promises since 1.35
    /// that these can be compared as numbers.
    pub version: u64,
    /// UID of its controlling owner.
    pub owner: Option<Uid>,
    /// Digest of the fields that we own; `None` if we own none.
    pub digest: Option<u64>,
    /// What this process has written to it, if anything.
    pub written: Option<Box<Written>>,
    /// The manager, other than us, that last changed it.
    pub other: Option<Arc<str>>,
    /// Whether writes are stopped by an annotation.
    pub paused: bool,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether it was somebody else's, and was handed over: then it outlives the FinService.
    pub adopted: bool,
    /// What decisions need to know beside that.
    pub facts: Facts,
}

/// What only memory knows of a child: what this process has written to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// What was last written: the digest that we wanted, and the one that came of it.
    pub applied: Option<(u64, u64)>,
    /// Pods that it was last scaled to.
    pub scaled: Option<i32>,
    /// Times (Unix seconds) at which a change by somebody else was last put right.
    pub repairs: [i64; 3],
}

/// Facts of one kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Facts {
    /// Nothing more.
    None,
    /// Of a Deployment.
    Deployment(Box<DeploymentFacts>),
    /// Of a ControllerRevision.
    Revision(Box<RevisionFacts>),
    /// Of a Service.
    Service(Box<ServiceFacts>),
    /// Of a VirtualService or HTTPRoute.
    Route(Box<Route>),
    /// Of a HorizontalPodAutoscaler.
    Autoscaler(Box<AutoscalerFacts>),
    /// Of a kind of which nothing matters but that it is as it was written; see [`Kind::is_passive`].
    Passive(Box<PassiveFacts>),
}

/// Facts of a kind of which nothing matters but that it is as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassiveFacts {
    /// Its generation.
    pub generation: i64,
    /// Digest of what we own of it beside its metadata.
    pub contents: u64,
}

/// Facts of a Service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceFacts {
    /// The revision that it selects.
    pub selects: Option<Box<str>>,
    /// What its weights mean, where shares are numbers of pods; see [`crate::canary::Mark`].
    pub mark: Option<Box<str>>,
    /// Since when it is there.
    pub since: Option<Timestamp>,
    /// The ports that it had, if it was handed over.
    pub had: Box<[Had]>,
}

/// Facts of a HorizontalPodAutoscaler.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AutoscalerFacts {
    /// Its least number of pods.
    pub min: i32,
    /// Pods that the load of its own pods asks for, whatever its bounds; `None` while it knows no load.
    pub need: Option<i32>,
}

/// Facts of a Deployment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeploymentFacts {
    /// Revision that it runs.
    pub revision: Box<str>,
    /// Pods asked for.
    pub replicas: i32,
    /// Pods Ready.
    pub ready: i32,
    /// Pods of the newest template that are Ready for long enough.
    pub updated_and_available: i32,
    /// Whether its status speaks of its newest spec.
    pub observed: bool,
    /// Why pods cannot be made, or do not become Ready in time.
    pub failure: Option<Box<str>>,
    /// The template's annotation with digests of Secrets.
    pub secrets: Option<Box<str>>,
    /// What somebody else has added to what its pods are to be: who, and which fields.
    pub added: Option<Box<str>>,
}

/// Facts of a ControllerRevision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RevisionFacts {
    /// Hash of the revision.
    pub hash: Box<str>,
    /// Number in the order of use.
    pub number: i64,
    /// Canonical input, as JSON.
    pub input: Box<str>,
    /// Rendered pod template, as JSON.
    pub template: Box<str>,
    /// Since when it has no traffic.
    pub retired_at: Option<Timestamp>,
}

impl ChildState {
    /// What is kept of an object. The name of its FinService comes beside it; `None` without the
    /// label.
    pub fn read(kind: Kind, object: &DynamicObject) -> Option<(String, Self)> {
        Self::with(kind, object, digest::owned(&object.metadata, &object.data))
    }

    /// The same of an object of which only the metadata were read, and the digest of its contents is on record.
    pub fn on_record(kind: Kind, object: &DynamicObject, contents: u64) -> Option<(String, Self)> {
        let metadata = digest::owned_metadata(&object.metadata);
        Self::with(kind, object, metadata.map(|metadata| Parts { metadata, contents }))
    }

    fn with(kind: Kind, object: &DynamicObject, parts: Option<Parts>) -> Option<(String, Self)> {
        let metadata = &object.metadata;
        let labels = metadata.labels.as_ref()?;
        let service = labels.get(SERVICE_LABEL)?.clone();
        let annotation = |key: &str| metadata.annotations.as_ref().and_then(|map| map.get(key));
        let owner = metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
        let state = Self {
            kind,
            name: metadata.name.as_deref().unwrap_or_default().into(),
            uid: Uid::new(metadata.uid.as_deref().unwrap_or_default()),
            version: version_of(metadata),
            owner: owner.map(|owner| Uid::new(&owner.uid)),
            digest: parts.map(Parts::whole),
            written: None,
            other: newest_other_manager(object),
            paused: annotation(PAUSE_ANNOTATION).is_some_and(|value| value == "true"),
            deleting: metadata.deletion_timestamp.is_some(),
            adopted: annotation(ADOPT_ANNOTATION) == Some(&service),
            facts: match parts.filter(|_| kind.is_passive()) {
                Some(Parts { contents, .. }) => {
                    let generation = metadata.generation.unwrap_or_default();
                    Facts::Passive(Box::new(PassiveFacts { generation, contents }))
                }
                None => facts(kind, object),
            },
        };
        Some((service, state))
    }

    /// Whether applying an object of that digest would change nothing.
    pub fn is_like(&self, wanted: u64) -> bool {
        self.digest == Some(wanted)
            || self.written().applied.is_some_and(|(want, came)| want == wanted && self.digest == Some(came))
    }

    /// Whether it is as this process wrote it last, as far as that is known.
    pub fn is_as_written(&self) -> bool {
        self.written().applied.is_none_or(|(want, came)| [want, came].map(Some).contains(&self.digest))
    }

    /// What this process has written to it.
    pub fn written(&self) -> Written {
        self.written.as_deref().copied().unwrap_or_default()
    }

    /// Keeps what only memory knows when a newer state of the same object arrives.
    pub fn inherit(&mut self, older: &Self) {
        if self.uid == older.uid {
            self.written.clone_from(&older.written);
        }
    }

    /// The facts of a Deployment.
    pub fn deployment(&self) -> Option<&DeploymentFacts> {
        match &self.facts {
            Facts::Deployment(facts) => Some(facts),
            _ => None,
        }
    }

    /// The facts of a ControllerRevision.
    pub fn revision(&self) -> Option<&RevisionFacts> {
        match &self.facts {
            Facts::Revision(facts) => Some(facts),
            _ => None,
        }
    }
}

/// The manager, other than us and than the controllers that write status, that changed the object
/// last.
fn newest_other_manager(object: &DynamicObject) -> Option<Arc<str>> {
    object
        .metadata
        .managed_fields
        .iter()
        .flatten()
        .filter(|entry| {
            let manager = entry.manager.as_deref().unwrap_or_default();
            manager != MANAGER
                && manager != SCALER
                && manager != "kube-controller-manager"
                && entry.subresource.as_deref().unwrap_or_default().is_empty()
        })
        .max_by_key(|entry| entry.time.as_ref().map(|time| time.0))
        .and_then(|entry| entry.manager.as_deref())
        .map(Arc::from)
}

fn facts(kind: Kind, object: &DynamicObject) -> Facts {
    let data = &object.data;
    let text = |pointer: &str| data.pointer(pointer).and_then(Value::as_str).map(Box::<str>::from);
    let number = |pointer: &str| data.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    let count = |pointer: &str| i32::try_from(number(pointer)).unwrap_or(i32::MAX);
    let label = |key: &str| {
        object
            .metadata
            .labels
            .as_ref()
            .and_then(|map| map.get(key))
            .map(|v| v.as_str().into())
            .unwrap_or_default()
    };
    match kind {
        Kind::Deployment => Facts::Deployment(Box::new(DeploymentFacts {
            revision: label(REVISION_LABEL),
            replicas: count("/spec/replicas"),
            ready: count("/status/readyReplicas"),
            updated_and_available: count("/status/updatedReplicas").min(count("/status/availableReplicas")),
            observed: number("/status/observedGeneration") >= object.metadata.generation.unwrap_or(0),
            failure: failure(data),
            secrets: text("/spec/template/metadata/annotations/banyan.dev~1secrets"),
            added: added(&object.metadata).map(String::into_boxed_str),
        })),
        Kind::ControllerRevision => Facts::Revision(Box::new(RevisionFacts {
            hash: label(REVISION_LABEL),
            number: number("/revision"),
            input: data.pointer("/data/input").map(|v| v.to_string().into()).unwrap_or_default(),
            template: data.pointer("/data/template").map(|v| v.to_string().into()).unwrap_or_default(),
            retired_at: object
                .metadata
                .annotations
                .as_ref()
                .and_then(|map| map.get(RETIRED_ANNOTATION))
                .and_then(|text| text.parse().ok()),
        })),
        Kind::Service => Facts::Service(Box::new(ServiceFacts {
            selects: text("/spec/selector/banyan.dev~1revision"),
            mark: own_mark(&object.metadata).map(|mark| mark.as_str().into()),
            since: object.metadata.creation_timestamp.as_ref().map(|time| time.0),
            had: had(&object.metadata),
        })),
        Kind::VirtualService | Kind::HTTPRoute => {
            let generation = object.metadata.generation.unwrap_or_default();
            let behind = is_behind(data, generation);
            let refused = refusal(data, generation).map(|words| cut(words, MOST_OF_A_REFUSAL).into());
            let made = object.metadata.creation_timestamp.as_ref().map(|time| time.0);
            let unclaimed_since = made.filter(|_| kind == Kind::HTTPRoute && is_unclaimed(data));
            let mark = own_mark(&object.metadata);
            let mark = mark.map(|mark| BTreeMap::from([(MARK_ANNOTATION.to_owned(), mark.clone())]));
            observed(kind, data, mark.as_ref()).map_or(Facts::None, |route| {
                Facts::Route(Box::new(Route { behind, refused, unclaimed_since, ..route }))
            })
        }
        Kind::HorizontalPodAutoscaler => {
            Facts::Autoscaler(Box::new(AutoscalerFacts { min: count("/spec/minReplicas"), need: need(data) }))
        }
        _ => Facts::None,
    }
}

/// Fields that somebody else has added to the pods that an object makes, and who. What we own as well is ours.
fn added(metadata: &ObjectMeta) -> Option<String> {
    let of = |entry: &ManagedFieldsEntry| -> Option<Value> {
        let pods = entry.fields_v1.as_ref()?.0.pointer("/f:spec/f:template/f:spec")?;
        Some(pods.clone())
    };
    let entries = || metadata.managed_fields.iter().flatten();
    let is_ours = |entry: &&ManagedFieldsEntry| entry.manager.as_deref() == Some(MANAGER);
    let ours = entries().filter(is_ours).find_map(of).unwrap_or_default();
    let others = entries().filter(|entry| {
        let manager = entry.manager.as_deref().unwrap_or_default();
        ![MANAGER, SCALER, "kube-controller-manager"].contains(&manager)
            && entry.subresource.as_deref().unwrap_or_default().is_empty()
    });
    let mut fields = Vec::new();
    let mut who = None;
    for entry in others {
        let Some(theirs) = of(entry) else { continue };
        let before = fields.len();
        beyond(&theirs, &ours, String::new(), &mut fields);
        if fields.len() > before {
            who.get_or_insert(entry.manager.as_deref().unwrap_or("somebody"));
        }
    }
    let who = who?;
    fields.truncate(FIELDS_SHOWN);
    Some(format!("{who} has added {}", fields.join(", ")))
}

/// Fields that are in `theirs` and not in `ours`, by their paths.
fn beyond(theirs: &Value, ours: &Value, path: String, fields: &mut Vec<String>) {
    for (key, value) in theirs.as_object().into_iter().flatten().filter(|(key, _)| *key != ".") {
        let name = key.trim_start_matches("f:");
        let path = match (path.is_empty(), name.strip_prefix("k:")) {
            (true, _) => name.to_owned(),
            (false, Some(key)) => {
                let named: Value = serde_json::from_str(key).unwrap_or_default();
                format!("{path}[{}]", named["name"].as_str().unwrap_or(key))
            }
            (false, None) => format!("{path}.{name}"),
        };
        match ours.get(key) {
            None => fields.push(path),
            Some(ours) => beyond(value, ours, path, fields),
        }
    }
}

/// The ports that a Service had when it was handed over, as we noted on it then.
fn had(metadata: &ObjectMeta) -> Box<[Had]> {
    let kept = metadata.annotations.as_ref().and_then(|all| all.get(ADOPTED_FROM_ANNOTATION));
    let before: Before = kept.and_then(|kept| serde_json::from_str(kept).ok()).unwrap_or_default();
    before.had()
}

/// The mark of an object, as we wrote it. Whoever may write routes must not promote a canary by an annotation.
fn own_mark(metadata: &ObjectMeta) -> Option<&String> {
    let mark = metadata.annotations.as_ref()?.get(MARK_ANNOTATION)?;
    let field = format!("f:{MARK_ANNOTATION}");
    let ours = metadata.managed_fields.iter().flatten().filter(|entry| {
        entry.manager.as_deref() == Some(MANAGER) && entry.operation.as_deref() == Some("Apply")
    });
    let mut fields = ours.filter_map(|entry| entry.fields_v1.as_ref());
    fields.any(|fields| fields.0["f:metadata"]["f:annotations"].get(&field).is_some()).then_some(mark)
}

/// Pods that the load asks for, by the autoscaler's own formula: pods times what they use, over what is aimed at.
/// Its own wish is bounded by its minimum, which follows from this number; so that wish must not be read here.
fn need(data: &Value) -> Option<i32> {
    let pods = data.pointer("/status/currentReplicas")?.as_i64()?;
    let used = data.pointer("/status/currentMetrics/0/resource/current/averageUtilization")?.as_i64()?;
    let aim = data.pointer("/spec/metrics/0/resource/target/averageUtilization")?.as_i64()?;
    i32::try_from((pods * used + aim - 1).checked_div(aim)?).ok()
}

fn failure(data: &Value) -> Option<Box<str>> {
    let conditions = data.pointer("/status/conditions")?.as_array()?;
    let find = |kind: &str, status: &str, reason: Option<&str>| {
        conditions.iter().find(|condition| {
            condition["type"] == kind
                && condition["status"] == status
                && reason.is_none_or(|reason| condition["reason"] == reason)
        })
    };
    let condition = find("ReplicaFailure", "True", None)
        .or_else(|| find("Progressing", "False", Some("ProgressDeadlineExceeded")))?;
    condition["message"].as_str().map(Box::from)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_somebody_else_adds_to_pods_is_told_and_what_is_ours_as_well_is_not() {
        let entry = |manager: &str, fields: Value| json!({"manager": manager, "operation": "Update", "fieldsV1": {"f:spec": {"f:template": fields}}});
        let added_by = |manager: &str, template: Value| {
            let container =
                json!({"f:containers": {"k:{\"name\":\"app\"}": {".": {}, "f:image": {}, "f:name": {}}}});
            let metadata: ObjectMeta = serde_json::from_value(json!({"managedFields": [
                entry("banyan", json!({"f:spec": container})), entry(manager, template),
            ]}))
            .expect("metadata");
            added(&metadata)
        };
        let env = json!({"k:{\"name\":\"app\"}": {".": {}, "f:image": {}, "f:env": {"k:{\"name\":\"DEBUG\"}": {}}}});
        let spec = json!({"f:spec": {"f:containers": env, "f:hostNetwork": {}}});
        assert_eq!(
            added_by("kubectl-set", spec.clone()).as_deref(),
            Some("kubectl-set has added containers[app].env, hostNetwork")
        );
        assert_eq!(added_by("kube-controller-manager", spec), None);
        let restarted = json!({"f:metadata": {"f:annotations": {"f:kubectl.kubernetes.io/restartedAt": {}}}});
        assert_eq!(added_by("kubectl-rollout", restarted), None);
        let same = json!({"f:spec": {"f:containers": {"k:{\"name\":\"app\"}": {"f:image": {}}}}});
        assert_eq!(added_by("helm", same), None);
    }

    #[test]
    fn a_mark_is_believed_only_from_our_own_manager() {
        let mark = |manager: &str, operation: &str| {
            let fields = json!({"f:metadata": {"f:annotations": {"f:banyan.dev/rollout": {}}}});
            let object = json!({
                "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
                "metadata": {"name": "app", "labels": {"banyan.dev/service": "app"},
                    "annotations": {"banyan.dev/rollout": "1 a b 0 settled"},
                    "managedFields": [{"manager": manager, "operation": operation, "fieldsV1": fields}]},
                "spec": {},
            });
            let object = serde_json::from_value(object).expect("an object");
            match ChildState::read(Kind::VirtualService, &object).expect("a child").1.facts {
                Facts::Route(route) => route.mark,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(mark("banyan", "Apply").as_deref(), Some("1 a b 0 settled"));
        assert_eq!(mark("kubectl", "Update"), None);
        assert_eq!(mark("banyan", "Update"), None);
    }
}
