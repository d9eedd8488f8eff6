//! What is kept of a child: its name, eight bytes of digest, and the few facts that decisions need.

use crate::api::labels::ADOPT_ANNOTATION;
use crate::api::labels::HANDED_OVER_ANNOTATION;
use crate::api::labels::MANAGED_BY_LABEL;
use crate::api::labels::MANAGER;
use crate::api::labels::PAUSE_ANNOTATION;
use crate::api::labels::RETIRED_ANNOTATION;
use crate::api::labels::REVISION_LABEL;
use crate::api::labels::SCALER;
use crate::api::labels::SERVICE_LABEL;
use std::sync::Arc;

use jiff::Timestamp;
use kube::api::DynamicObject;
use serde_json::Value;

use crate::api::labels::MARK_ANNOTATION;
use crate::finservice::children::Kind;
use crate::finservice::children::observed::{Observed as Route, is_behind, observed};
use crate::finservice::index::uid::Uid;
use crate::runtime::digest::{self, Parts};
use crate::runtime::key::version_of;

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
    /// What decisions need to know beside that.
    pub facts: Facts,
}

/// What only memory knows of a child: what this process has written to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// What was last written: the digest that we wanted, and the one that came of it.
    pub applied: Option<(u64, u64)>,
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
    let annotation = |key: &str| {
        object.metadata.annotations.as_ref().and_then(|map| map.get(key)).map(|text| text.as_str().into())
    };
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
            mark: annotation(MARK_ANNOTATION),
        })),
        Kind::VirtualService | Kind::HTTPRoute => {
            let behind = is_behind(data, object.metadata.generation.unwrap_or_default());
            observed(kind, data, object.metadata.annotations.as_ref())
                .map_or(Facts::None, |route| Facts::Route(Box::new(Route { behind, ..route })))
        }
        Kind::HorizontalPodAutoscaler => {
            Facts::Autoscaler(Box::new(AutoscalerFacts { min: count("/spec/minReplicas"), need: need(data) }))
        }
        _ => Facts::None,
    }
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

/// An object of somebody else that bears a name which we might want.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stranger {
    /// Whose it is: the tool or person that wrote it, as far as its metadata tell.
    pub whose: Box<str>,
    /// The FinService that it is handed over to.
    pub adopt: Option<Box<str>>,
    /// Since when it has no traffic, as we have noted on it.
    pub retired_at: Option<Timestamp>,
    /// Whether we have already scaled it to zero.
    pub handed_over: bool,
}

impl Stranger {
    /// What is kept of somebody else's object.
    pub fn read(metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Self {
        let label = |key: &str| metadata.labels.as_ref().and_then(|map| map.get(key));
        let annotation = |key: &str| metadata.annotations.as_ref().and_then(|map| map.get(key));
        let owner = metadata.owner_references.iter().flatten().next();
        let manager = metadata
            .managed_fields
            .iter()
            .flatten()
            .filter(|entry| entry.subresource.as_deref().unwrap_or_default().is_empty())
            .filter_map(|entry| entry.manager.as_deref())
            .find(|manager| *manager != "kube-controller-manager");
        let whose = if let Some(owner) = owner {
            format!("{} {}", owner.kind, owner.name)
        } else if let Some(application) = annotation("argocd.argoproj.io/tracking-id") {
            format!("the ArgoCD application {}", application.split(':').next().unwrap_or(application))
        } else if let Some(release) = annotation("meta.helm.sh/release-name") {
            format!("the Helm release {release}")
        } else if let Some(by) = label(MANAGED_BY_LABEL) {
            by.clone()
        } else {
            manager.unwrap_or("somebody else").to_owned()
        };
        Self {
            whose: whose.into(),
            adopt: annotation(ADOPT_ANNOTATION).map(|service| service.as_str().into()),
            retired_at: annotation(RETIRED_ANNOTATION).and_then(|text| text.parse().ok()),
            handed_over: annotation(HANDED_OVER_ANNOTATION).is_some(),
        }
    }
}
