//! The children of a FinService: one small builder per kind. Pure.
//!
//! A builder writes only what Banyan means to own, and writes out every default that the API server
//! would add inside of an atomic list, so that what is applied is what is read back.

pub(crate) mod assemble;
pub(crate) mod authorization_policy;
pub(crate) mod autoscaler;
pub(crate) mod budget;
pub(crate) mod config_map;
pub(crate) mod controller_revision;
pub(crate) mod dashboard;
pub(crate) mod deployment;
pub(crate) mod destination_rule;
pub(crate) mod environment;
pub(crate) mod exposed;
pub(crate) mod fresh;
pub(crate) mod gateway_pods;
pub mod handed_over;
pub(crate) mod http_route;
mod json;
pub(crate) mod kafka;
pub(crate) mod kind;
pub(crate) mod limits;
pub(crate) mod metric_source;
mod mounts;
pub(crate) mod network_policy;
pub mod observed;
pub(crate) mod outbound;
#[cfg(test)]
mod outbound_tests;
mod path_regex;
pub(crate) mod peer;
pub(crate) mod peer_authentication;
pub(crate) mod prometheus_rule;
pub(crate) mod request_authentication;
pub(crate) mod rollout_route;
#[cfg(test)]
mod rollout_tests;
pub(crate) mod routing;
pub(crate) mod service;
pub(crate) mod service_account;
pub(crate) mod service_entry;
pub(crate) mod service_monitor;
pub(crate) mod sidecar;
pub(crate) mod template;
#[cfg(test)]
mod tests;
pub(crate) mod virtual_service;
pub(crate) mod weights;

use std::collections::BTreeSet;

use crate::api::labels::{REVISION_LABEL, SERVICE_LABEL};
use serde_json::{Value, json};

pub use assemble::{RevisionParts, of_revision, of_service, ways};
pub use kind::{Api, Kind};
pub use routing::Routing;
pub use weights::{Weights, weights_of};

use crate::api::FinServiceSpec;
use crate::api::workload::Port;
use crate::finservice::settings::Settings;
use crate::signals::grpc::Speaks;

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
    /// What the installer says of this cluster.
    pub settings: &'a Settings,
    /// Hosts outside, with their ports, that an older FinService of the namespace makes known to the mesh for all of them.
    pub known_hosts: &'a BTreeSet<(String, u16)>,
    /// What it may do with topics that others name as theirs.
    pub topics: &'a Topics,
}

/// What a FinService may do with topics that others name as theirs, by their names in Kafka.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topics {
    /// Those that it names as its own, and that are an older one's of another namespace: it may nothing but what is granted.
    pub lost: BTreeSet<String>,
    /// What it asks for, and their owners allow.
    pub granted: BTreeSet<(String, Way)>,
}

/// What somebody does with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// Fetches its messages.
    Read,
    /// Sends messages.
    Write,
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

impl Scope<'_> {
    /// Name of the children of one revision.
    pub fn revision_name(&self, hash: &str) -> String {
        format!("{}-{hash}", self.name)
    }

    /// Name of the Service of a revision to which requests go that reach it otherwise than by chance.
    pub fn direct_name(&self, hash: &str) -> String {
        format!("{}-{hash}-direct", self.name)
    }

    /// Labels that all pods of the service have, and only they.
    pub fn service_labels(&self) -> Value {
        json!({SERVICE_LABEL: self.name})
    }

    /// Labels that all pods of one revision have, and only they.
    pub fn revision_labels(&self, hash: &str) -> Value {
        json!({SERVICE_LABEL: self.name, REVISION_LABEL: hash})
    }

    /// The full name in the cluster's DNS of a Service in this namespace.
    pub fn host(&self, service: &str) -> String {
        format!("{service}.{}.svc.cluster.local", self.namespace)
    }

    /// The namespace of the ingress gateway, if there is an ingress.
    pub fn gateway_namespace(&self) -> Option<&str> {
        Some(self.spec.ingress.as_ref()?.gateway_in(self.namespace).0)
    }

    /// The port that the ingress sends requests to: the one that it names, else the first.
    pub fn ingress_port(&self) -> Option<&Port> {
        let ports = &self.spec.ports;
        let named = self.spec.ingress.as_ref().and_then(|ingress| ingress.port.as_ref());
        match named {
            Some(name) => ports.iter().find(|port| port.name == *name),
            None => ports.first(),
        }
    }

    /// A port of stable as callers see it: the spec says that, whatever stable was made from.
    pub fn seen_as(&self, port: &Port) -> Option<&Port> {
        self.spec.ports.iter().find(|seen| seen.name == port.name)
    }

    /// Number of the port of the plain Service for a port of stable.
    pub fn service_port(&self, port: &Port) -> u16 {
        self.seen_as(port).and_then(|seen| seen.service_port).unwrap_or(port.port)
    }

    /// The port that metrics are scraped at.
    pub fn metrics_port(&self) -> Option<&Port> {
        let metrics = self.spec.observability.as_ref()?.metrics.as_ref()?;
        self.spec.ports.iter().find(|port| port.name == metrics.port)
    }

    /// What requests of it are: the port that serves metrics alone takes none.
    pub fn speaks(&self) -> Speaks {
        let metrics = self.own_metrics_port().map(|port| &port.name);
        let ports = self.spec.ports.iter().filter(|port| Some(&port.name) != metrics);
        Speaks::of(ports.map(Port::protocol))
    }

    /// The metrics port where it serves nothing else: it is neither the first port nor the one of
    /// the ingress, or the service takes no requests at all. Only then is it left out of mTLS.
    pub fn own_metrics_port(&self) -> Option<&Port> {
        let port = self.metrics_port()?;
        let first = self.spec.ports.first().is_some_and(|first| first.name == port.name);
        let ingress = self.ingress_port().is_some_and(|ingress| ingress.name == port.name);
        let pulled = self.spec.traffic() == crate::api::finservice::Traffic::Pulled;
        ((!first && !ingress) || pulled).then_some(port)
    }

    /// The skeleton of a child: type, metadata with labels and owner, and `rest` beside them.
    /// `revision` is set for what belongs to one revision.
    pub fn child(&self, kind: Kind, name: String, revision: Option<&str>, rest: Value) -> Child {
        let mut labels = json!({
            "app.kubernetes.io/name": self.name,
            "app.kubernetes.io/managed-by": "banyan",
            SERVICE_LABEL: self.name,
        });
        if let Some(revision) = revision {
            labels[REVISION_LABEL] = revision.into();
        }
        let mut body = json!({
            "apiVersion": kind.api_version_in(self.settings),
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
