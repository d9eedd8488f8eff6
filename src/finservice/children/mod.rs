//! The children of a FinService: one small pure builder per kind.
//!
//! A builder writes only what Banyan means to own, and writes out every default that the API server
//! would add inside of an atomic list, so that what is applied is what is read back.

pub mod kind;

use serde_json::{Value, json};

pub use kind::{Api, Kind};

use crate::api::FinServiceSpec;

/// What every builder is told of the service.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// Namespace of the FinService and of all its children.
    pub namespace: &'a str,
    /// Name of the FinService.
    pub name: &'a str,
    /// Its UID, for owner references.
    pub uid: &'a str,
    /// The site of this operator.
    pub site: &'a str,
    /// The spec, into which the overrides of the site have been merged.
    pub spec: &'a FinServiceSpec,
}

/// An object as it ought to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Child {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// The whole object, in the form of a server-side apply.
    pub body: Value,
}

/// How requests are shared: weights in percent, which add up to 100.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Weights {
    /// By revision hash; those with weight zero may be left out.
    pub revisions: Vec<(String, u8)>,
    /// Share of the legacy backend on its paths. The revisions share the rest.
    pub legacy: u8,
}

impl Scope<'_> {
    /// The skeleton of a child: type, metadata with labels and owner, and `rest` beside them.
    /// `revision` is set for what belongs to one revision.
    pub fn child(&self, kind: Kind, name: String, revision: Option<&str>, rest: Value) -> Child {
        let mut labels = json!({
            "app.kubernetes.io/name": self.name,
            "app.kubernetes.io/managed-by": "banyan",
            "banyan.dev/service": self.name,
        });
        if let Some(revision) = revision {
            labels["banyan.dev/revision"] = revision.into();
        }
        let mut body = json!({
            "apiVersion": kind.api_version(),
            "kind": kind.name(),
            "metadata": {
                "name": name,
                "namespace": self.namespace,
                "labels": labels,
                "ownerReferences": [{
                    "apiVersion": "banyan.dev/v1alpha1",
                    "kind": "FinService",
                    "name": self.name,
                    "uid": self.uid,
                    "controller": true,
                    "blockOwnerDeletion": true,
                }],
            },
        });
        if let (Value::Object(body), Value::Object(rest)) = (&mut body, rest) {
            body.extend(rest);
        }
        Child { kind, name, body }
    }
}

// The plainest children; the rest follow.
#[allow(missing_docs)]
#[derive(Clone, Debug)]
pub struct RevisionParts<'a> {
    pub hash: &'a str,
    pub input: &'a crate::finservice::revision::RevisionInput,
    pub template: &'a Value,
    pub replicas: i32,
    pub serves: bool,
    pub secrets_digest: Option<&'a str>,
}
#[allow(missing_docs)]
pub mod template {
    use super::*;
    pub fn render(
        scope: &Scope<'_>,
        input: &crate::finservice::revision::RevisionInput,
        hash: &str,
    ) -> Value {
        json!({"metadata": {"labels": {"banyan.dev/service": scope.name, "banyan.dev/revision": hash}},
            "spec": {"containers": [{"name": scope.name, "image": input.image}]}})
    }
}
#[allow(missing_docs)]
pub mod controller_revision {
    use super::*;
    pub fn build(
        scope: &Scope<'_>,
        hash: &str,
        number: i64,
        input: &crate::finservice::revision::RevisionInput,
        template: &Value,
    ) -> Child {
        scope.child(
            Kind::ControllerRevision,
            format!("{}-{hash}", scope.name),
            Some(hash),
            json!({"revision": number, "data": {"input": input, "template": template}}),
        )
    }
}
#[allow(missing_docs)]
pub mod config_map {
    use super::*;
    pub fn copy(scope: &Scope<'_>, hash: &str, of: &str) -> Child {
        scope.child(
            Kind::ConfigMap,
            crate::finservice::revision::copy_name(scope.name, hash, of),
            Some(hash),
            json!({"immutable": true}),
        )
    }
}
#[allow(missing_docs)]
pub fn of_service(scope: &Scope<'_>, stable: Option<&str>, _weights: &Weights) -> Vec<Child> {
    let mut selector = json!({"banyan.dev/service": scope.name});
    if let Some(s) = stable {
        selector["banyan.dev/revision"] = s.into();
    }
    vec![scope.child(Kind::ServiceAccount, scope.name.into(), None, json!({})),
        scope.child(Kind::Service, scope.name.into(), None, json!({"spec": {"selector": selector, "ports": scope.spec.ports.iter().map(|p| json!({"name": p.name, "port": p.port, "protocol": "TCP", "targetPort": p.port})).collect::<Vec<_>>()}}))]
}
#[allow(missing_docs)]
pub fn of_revision(scope: &Scope<'_>, parts: &RevisionParts<'_>) -> Vec<Child> {
    let labels = json!({"banyan.dev/service": scope.name, "banyan.dev/revision": parts.hash});
    let mut template = parts.template.clone();
    if let Some(d) = parts.secrets_digest {
        template["metadata"]["annotations"] = json!({"banyan.dev/secrets": d});
    }
    vec![scope.child(
        Kind::Deployment,
        format!("{}-{}", scope.name, parts.hash),
        Some(parts.hash),
        json!({"spec": {"selector": {"matchLabels": labels}, "template": template}}),
    )]
}
