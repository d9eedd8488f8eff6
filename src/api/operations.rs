//! How the service is watched, what it promises, what data it keeps and where it may be.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::network::ServiceRef;
use super::patterns;
use super::workload::{EnvVar, Resources, Scale};

/// Metrics, traces and logs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Observability {
    /// Where metrics are scraped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
    /// Where traces go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracing: Option<Tracing>,
    /// What is alerted on in logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logs: Option<Logs>,
}

/// Where metrics are scraped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metrics {
    /// Name of the port. A port that serves nothing else is left out of mTLS, so that a scraper
    /// outside of the mesh reaches it.
    #[schemars(length(min = 1, max = 15))]
    pub port: String,
    /// Path. Defaults to `/metrics`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = patterns::PATH))]
    pub path: Option<String>,
    /// Time between two scrapes. Defaults to `15s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = patterns::POSITIVE_DURATION))]
    pub interval: Option<String>,
}

/// Where traces go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tracing {
    /// OTLP endpoint.
    #[schemars(length(min = 1, max = 512), regex(pattern = patterns::URL))]
    pub endpoint: String,
    /// Share of traces kept, in percent. Defaults to 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub sample_percent: Option<i32>,
}

/// What is alerted on in logs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Logs {
    /// Whether a rise of error lines raises an alert.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_rate_alert: Option<bool>,
}

/// What the service promises.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.availability) || has(self.latency)")
    .message("set availability, latency or both"))]
pub struct Slo {
    /// Share of requests that do not fail, in percent, such as `"99.99"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = patterns::PERCENT))]
    #[x_kube(validation = Rule::new("!self.startsWith('100') && self.matches('[1-9]')")
        .message("availability must be above 0 and below 100: with no error budget every failure would be an alert"))]
    pub availability: Option<String>,
    /// Share of requests that are fast enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<LatencySlo>,
    /// Over how long. Defaults to `30d`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = patterns::POSITIVE_DURATION))]
    pub window: Option<String>,
}

/// Share of requests that are fast enough.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LatencySlo {
    /// What is fast enough, such as `200ms`. Must be a bound of the histogram's buckets.
    #[schemars(length(max = 32), regex(pattern = patterns::POSITIVE_DURATION))]
    pub threshold: String,
    /// Share of requests, in percent, such as `"99"`.
    #[schemars(length(max = 16), regex(pattern = patterns::PERCENT))]
    #[x_kube(validation = Rule::new("!self.startsWith('100') && self.matches('[1-9]')")
        .message("percent must be above 0 and below 100: with no error budget every slow request would be an alert"))]
    pub percent: String,
}

/// What data the service keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Data {
    /// Where the data must stay. Any place where left out. A site that does not serve it does not
    /// run the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub residency: Option<Residency>,
    /// What kind of data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classification: Option<Classification>,
    /// Databases, by their name in the FailoverGroup.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub stores: Option<Vec<StoreRef>>,
    /// Kafka topics that the service owns.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub topics: Option<Vec<Topic>>,
    /// Topics of other FinServices that it reads, by their names in Kafka. Whose they are must say so in `readers`, unless it is
    /// of this namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 249), regex(pattern = patterns::TOPIC_NAME)))]
    pub reads: Option<Vec<String>>,
    /// Topics of other FinServices that it writes; the same with `writers`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 249), regex(pattern = patterns::TOPIC_NAME)))]
    pub writes: Option<Vec<String>>,
    /// The Kafka cluster (Strimzi's) of the topics. Defaults to `kafka`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::LABEL))]
    pub kafka_cluster: Option<String>,
}

/// A jurisdiction that data must stay in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Residency {
    /// The United States.
    US,
    /// The European Union.
    EU,
}

/// What kind of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Classification {
    /// Anybody may see it.
    Public,
    /// For the company.
    Internal,
    /// Personal data (GDPR).
    Personal,
    /// Cardholder data (PCI-DSS).
    PCI,
}

/// A database, by its name in the FailoverGroup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoreRef {
    /// Its name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
}

/// A Kafka topic that the service owns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Topic {
    /// Its name, which is also that of its KafkaTopic.
    #[schemars(length(min = 1, max = 249), regex(pattern = patterns::OBJECT_NAME))]
    pub name: String,
    /// Its name in Kafka, such as `Payments_v2`, where that cannot be the name of an object. Defaults to `name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 249), regex(pattern = patterns::TOPIC_NAME))]
    pub topic_name: Option<String>,
    /// FinServices of other namespaces that may read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub readers: Option<Vec<ServiceRef>>,
    /// FinServices of other namespaces that may write it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub writers: Option<Vec<ServiceRef>>,
    /// Partitions.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub partitions: Option<i32>,
    /// Copies. Defaults to 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 32))]
    pub replicas: Option<i32>,
    /// How long messages are kept, such as `7d`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = patterns::POSITIVE_DURATION))]
    pub retention: Option<String>,
    /// What becomes of it with the FinService. Defaults to Retain: a topic holds data, and deleting
    /// its object deletes that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_delete: Option<OnDelete>,
}

impl Topic {
    /// Its name in Kafka.
    pub fn in_kafka(&self) -> &str {
        self.topic_name.as_deref().unwrap_or(&self.name)
    }
}

/// What becomes of an object that holds data when its FinService is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnDelete {
    /// It stays.
    #[default]
    Retain,
    /// It goes, and its data with it.
    Delete,
}

/// A site that the service runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// Name of the site, as the operator there was told with `--site`.
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::LABEL))]
    pub cluster: String,
    /// Size in percent of the configured number of pods, rounded up. Defaults to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub capacity_percent: Option<i32>,
}

/// What is different at one site.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SiteOverride {
    /// Variables that are added, or replace those of the same name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Option<Vec<EnvVar>>,
    /// Requests and limits instead of the service's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Number of pods instead of the service's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<Scale>,
}
