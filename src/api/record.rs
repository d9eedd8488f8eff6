//! What a Failover keeps for the record of its group: what it has waited for, when the source was seen last, and the entries
//! that are not in the record yet.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What of a move has gone into the record of its group, and what has not yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecordStatus {
    /// How many entries this move has made.
    #[schemars(range(min = 0))]
    pub made: i64,
    /// Entries that are not in the record yet, each as JSON. They are written together with what they tell of, so that
    /// none is lost where the operator ends in between.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 65536)))]
    pub pending: Vec<String>,
    /// How many entries were left out because too many were waiting: the record says so too.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub missed: Option<i64>,
    /// How many entries the record had when it was last written for this move.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub entries: Option<i64>,
    /// The hash of the last of them: whoever keeps it can tell later whether entries were cut off
    /// (`banyan audit verify --head`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub head: Option<String>,
    /// Why the record could not be written; the move goes on, and it is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub error: Option<String>,
}

/// What a move has waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaitRecord {
    /// Why, in one word: the name of its page in `docs/runbooks`.
    #[schemars(length(min = 1, max = 63))]
    pub reason: String,
    /// The step that it waited at first.
    #[schemars(length(min = 1, max = 63))]
    pub step: String,
    /// Since when it waits; absent while it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// How long it has waited for this before, in milliseconds; to the second.
    #[schemars(range(min = 0))]
    pub millis: i64,
    /// Whether a person was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub person: Option<bool>,
}

/// When the source was last known to serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastServed {
    /// When.
    pub at: Time,
    /// By what that is known.
    #[schemars(length(max = 1024))]
    pub by: String,
}
