//! Route 53's objects in its XML.

use serde::{Deserialize, Serialize};

/// Where all of its elements belong.
pub(super) const NAMESPACE: &str = "https://route53.amazonaws.com/doc/2013-04-01/";

/// A record set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Record {
    /// With a dot at the end, as Route 53 shows it.
    pub name: String,
    /// Its type.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Which of several of that name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set_identifier: Option<String>,
    /// Its share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<i64>,
    /// How long it may be kept, in seconds.
    #[serde(rename = "TTL", skip_serializing_if = "Option::is_none")]
    pub ttl: Option<i64>,
    /// Its values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_records: Option<Values>,
    /// What it stands in for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias_target: Option<AliasTarget>,
    /// What says whether it is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check_id: Option<String>,
}

/// Values of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Values {
    /// One by one.
    pub resource_record: Vec<Value>,
}

/// A value of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Value {
    /// As in a zone file.
    pub value: String,
}

/// What an alias stands in for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AliasTarget {
    /// The zone of the load balancer.
    pub hosted_zone_id: String,
    /// Its name.
    #[serde(rename = "DNSName")]
    pub dns_name: String,
    /// Whether its own health counts.
    pub evaluate_target_health: bool,
}

/// A batch.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ChangeRequest {
    pub change_batch: ChangeBatch,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ChangeBatch {
    pub changes: Changes,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Changes {
    pub change: Vec<Change>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Change {
    pub action: String,
    pub resource_record_set: Record,
}

/// A health check that is to be made.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CheckRequest {
    pub caller_reference: String,
    pub health_check_config: CheckConfig,
}

/// How a health check asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CheckConfig {
    /// The address.
    #[serde(rename = "IPAddress", skip_serializing_if = "Option::is_none")]
    pub ip_address: Option<String>,
    /// The port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// HTTP or HTTPS.
    #[serde(rename = "Type")]
    pub kind: String,
    /// The path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_path: Option<String>,
    /// The host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fully_qualified_domain_name: Option<String>,
    /// Every how many seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_interval: Option<u32>,
    /// After how many answers the verdict changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_threshold: Option<u32>,
    /// Whether the verdict is turned around.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inverted: Option<bool>,
    /// Whether it counts as well without being asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// Whether the name is told in the handshake.
    #[serde(rename = "EnableSNI", skip_serializing_if = "Option::is_none")]
    pub enable_sni: Option<bool>,
}

/// An object under the name of its element.
pub(super) fn element<T: Serialize>(name: &str, object: &T) -> String {
    quick_xml::se::to_string_with_root(name, object).unwrap_or_default()
}

/// Text as it stands between elements.
pub(super) fn text(text: &str) -> String {
    quick_xml::escape::escape(text).into_owned()
}
