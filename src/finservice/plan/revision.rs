//! What a revision is: the part of a FinService that becomes a pod template, in canonical form, and
//! its hash.
//!
//! The hash is over what the user wrote and never over what is made of it, so that a new version of
//! the operator restarts nobody's pods.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::api::FinServiceSpec;
use crate::api::finservice::{OnSecretChange, Tier};
use crate::api::mounts::{Files, Volume};
use crate::api::operations::Tracing;
use crate::api::probes::Probes;
use crate::api::workload::{
    EnvFrom, EnvVar, Identity, InitContainer, Port, PreStop, Resources, Scheduling, Security,
};

/// Letters of a hash: no vowels, so that no words appear, and nothing that is read as something else.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// Length of a hash. 27^10 is over 2^47: among a million revisions of one service the chance of two
/// alike is under 1 %, and then the ControllerRevision's input tells them apart.
const HASH_LENGTH: usize = 10;

/// All that makes a pod template, as the user wrote it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionInput {
    /// Container image.
    pub image: String,
    /// Name of the release.
    pub release: String,
    /// Ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// Environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<EnvVar>>,
    /// Environment by the folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env_from: Option<Vec<EnvFrom>>,
    /// Files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<Files>>,
    /// Entry point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// Volumes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volumes: Option<Vec<Volume>>,
    /// Containers that run first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_containers: Option<Vec<InitContainer>>,
    /// Before the stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pre_stop: Option<PreStop>,
    /// Time to stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub termination_grace_period: Option<String>,
    /// Credentials of registries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_secrets: Option<Vec<String>>,
    /// Who the processes are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security: Option<Security>,
    /// Labels beside ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_labels: Option<BTreeMap<String, String>>,
    /// Annotations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_annotations: Option<BTreeMap<String, String>>,
    /// Identity in the cloud, which is injected when a pod is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// Requests and limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Probes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probes: Option<Probes>,
    /// Place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduling: Option<Scheduling>,
    /// Rank.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<Tier>,
    /// Traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracing: Option<Tracing>,
    /// Digests of the contents of the ConfigMaps that it reads, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config_maps: BTreeMap<String, String>,
    /// Digests of the contents of Secrets, by name; only with `onSecretChange: Rollout`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
}

impl RevisionInput {
    /// The input of a spec into which the site's overrides have been merged, given digests of what
    /// it refers to.
    pub fn of(
        spec: &FinServiceSpec,
        config_maps: BTreeMap<String, String>,
        secrets: BTreeMap<String, String>,
    ) -> Self {
        let rollout = spec.on_secret_change == Some(OnSecretChange::Rollout);
        Self {
            image: spec.image.clone(),
            release: spec.release().to_owned(),
            // What callers see of a port is no matter of the pods.
            ports: spec
                .ports
                .iter()
                .map(|port| Port { service_port: None, node_port: None, ..port.clone() })
                .collect(),
            env: spec.env.clone(),
            env_from: spec.env_from.clone(),
            files: spec.files.clone(),
            command: spec.command.clone(),
            args: spec.args.clone(),
            volumes: spec.volumes.clone(),
            init_containers: spec.init_containers.clone(),
            pre_stop: spec.pre_stop.clone(),
            termination_grace_period: spec.termination_grace_period.clone(),
            image_pull_secrets: spec.image_pull_secrets.clone(),
            security: spec.security.clone(),
            pod_labels: spec.pod_labels.clone(),
            pod_annotations: spec.pod_annotations.clone(),
            identity: spec.identity.clone(),
            resources: spec.resources.clone(),
            probes: spec.probes.clone(),
            scheduling: spec.scheduling.clone(),
            tier: spec.tier,
            tracing: spec.observability.as_ref().and_then(|o| o.tracing.clone()),
            config_maps,
            secrets: if rollout { secrets } else { BTreeMap::new() },
        }
    }

    /// Ten letters that name the revision.
    pub fn hash(&self) -> String {
        // serde_json writes the keys of a Value in order, and `None` is never written: the same
        // words give the same bytes, also in a later version that knows more fields.
        let canonical = serde_json::to_value(self).map(|value| value.to_string()).unwrap_or_default();
        letters(canonical.as_bytes(), HASH_LENGTH)
    }
}

/// The name of the copy that a revision keeps of a ConfigMap.
pub fn copy_name(service: &str, hash: &str, config_map: &str) -> String {
    format!("{service}-{hash}-{}", letters(config_map.as_bytes(), 6))
}

/// The first letters of a digest of these bytes.
pub fn letters(bytes: &[u8], length: usize) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().take(length).map(|byte| ALPHABET[usize::from(*byte) % ALPHABET.len()] as char).collect()
}

/// The ConfigMaps and the Secrets that pods of a spec read, by name, and whether pods cannot start
/// without them.
#[derive(Debug, Default)]
pub struct References<'a> {
    /// ConfigMaps.
    pub config_maps: BTreeMap<&'a str, bool>,
    /// Secrets.
    pub secrets: BTreeMap<&'a str, bool>,
}

impl<'a> References<'a> {
    /// Those of a spec. What is read in several places is required if it is in one of them.
    pub fn of(spec: &'a FinServiceSpec) -> Self {
        let mut found = Self::default();
        let note = |map: &mut BTreeMap<&'a str, bool>, name: &'a str, optional: Option<bool>| {
            *map.entry(name).or_default() |= optional != Some(true);
        };
        let init = spec.init_containers.iter().flatten().flat_map(|container| container.env.iter().flatten());
        for source in spec.env.iter().flatten().chain(init).filter_map(|env| env.value_from.as_ref()) {
            if let Some(key) = &source.config_map_key_ref {
                note(&mut found.config_maps, &key.name, key.optional);
            }
            if let Some(key) = &source.secret_key_ref {
                note(&mut found.secrets, &key.name, key.optional);
            }
        }
        let init =
            spec.init_containers.iter().flatten().flat_map(|container| container.env_from.iter().flatten());
        for from in spec.env_from.iter().flatten().chain(init) {
            if let Some(object) = &from.config_map_ref {
                note(&mut found.config_maps, &object.name, object.optional);
            }
            if let Some(object) = &from.secret_ref {
                note(&mut found.secrets, &object.name, object.optional);
            }
        }
        for files in spec.files.iter().flatten() {
            if let Some(name) = &files.config_map {
                note(&mut found.config_maps, name, files.optional);
            }
            if let Some(name) = &files.secret {
                note(&mut found.secrets, name, files.optional);
            }
        }
        found
    }
}

/// Names of the ConfigMaps and of the Secrets that pods of this spec read, in order.
pub fn references(spec: &FinServiceSpec) -> (Vec<String>, Vec<String>) {
    let References { config_maps, secrets } = References::of(spec);
    let names = |map: BTreeMap<&str, bool>| map.into_keys().map(str::to_owned).collect();
    (names(config_maps), names(secrets))
}
