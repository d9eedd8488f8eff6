//! What is mounted into pods: ConfigMaps and Secrets as files, and volumes. All of it is part of a revision.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::patterns;

/// A ConfigMap or Secret as a folder of files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.configMap) != has(self.secret)")
    .message("set exactly one of configMap, secret"))]
#[x_kube(validation = Rule::new("!has(self.subPath) || !has(self.items) || self.items.exists(i, i.path == self.subPath)")
    .message("subPath must be the path of one of items, or a key where items is left out"))]
pub struct Files {
    /// Absolute path of the folder; with `subPath`, of the file.
    #[schemars(length(min = 2, max = 512), regex(pattern = patterns::MOUNT_PATH))]
    pub mount_path: String,
    /// Name of the ConfigMap.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::OBJECT_NAME))]
    pub config_map: Option<String>,
    /// Name of the Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::OBJECT_NAME))]
    pub secret: Option<String>,
    /// The keys that become files, and how they are called there. Defaults to all keys under their own names.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["path".into()]))]
    pub items: Option<Vec<FileItem>>,
    /// One file instead of a folder: `mountPath` is then the file's own path, and what else lies beside it in the image stays.
    /// Such a file does not change while the pod lives.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::RELATIVE_PATH))]
    pub sub_path: Option<String>,
    /// Permissions of the files, such as 0400 (in JSON 256). Defaults to 0644.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 511))]
    pub mode: Option<i32>,
    /// Whether pods may start without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// A key that becomes a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FileItem {
    /// The key.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::KEY))]
    pub key: String,
    /// Path of the file in the folder.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::RELATIVE_PATH))]
    pub path: String,
    /// Permissions of this file, such as 0400 (in JSON 256).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 511))]
    pub mode: Option<i32>,
}

/// A volume and where it is mounted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.emptyDir), has(self.persistentVolumeClaim), has(self.serviceAccountToken)].filter(x, x).size() == 1")
    .message("set exactly one of emptyDir, persistentVolumeClaim, serviceAccountToken"))]
pub struct Volume {
    /// Name of the volume, a DNS label.
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::LABEL))]
    pub name: String,
    /// Absolute path where it is mounted.
    #[schemars(length(min = 2, max = 512), regex(pattern = patterns::MOUNT_PATH))]
    pub mount_path: String,
    /// Whether it is mounted read-only. Defaults to false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
    /// Scratch space that lives as long as the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub empty_dir: Option<EmptyDir>,
    /// Name of a PersistentVolumeClaim in the same namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::OBJECT_NAME))]
    pub persistent_volume_claim: Option<String>,
    /// A token of the service's account for somebody who checks such tokens, such as Vault. It is renewed while the pod lives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_token: Option<ServiceAccountToken>,
    /// A folder in the volume that is mounted instead of all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::RELATIVE_PATH))]
    pub sub_path: Option<String>,
}

/// A token of the service's account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountToken {
    /// Whom it is for. It must not be the API server: pods that need that are not services.
    #[schemars(length(min = 1, max = 253))]
    pub audience: String,
    /// Name of the file. Defaults to `token`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::RELATIVE_PATH))]
    pub path: Option<String>,
    /// How long it is good for, in seconds. Defaults to 3600, Kubernetes' own default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 600, max = 86400))]
    pub expiration_seconds: Option<i64>,
}

/// Scratch space.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmptyDir {
    /// How large it may grow.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("isQuantity(string(self)) && quantity(string(self)).compareTo(quantity('0')) > 0")
        .message("must be a quantity greater than zero, such as 512Mi"))]
    pub size_limit: Option<Quantity>,
    /// In memory instead of on the node's disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<bool>,
}
