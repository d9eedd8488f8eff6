//! What sources are asked: the one door to all of them, which tests play.

use super::subject::{Answer, Subject};

/// Where counters come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SourceKey {
    /// Proxies and pods.
    BuiltIn,
    /// A Prometheus, as the CanaryRollouts of a namespace describe it, in JSON.
    Prometheus {
        /// Where its Secrets are; empty where it needs none.
        namespace: String,
        /// `spec.analysis.source.prometheus`.
        spec: String,
    },
}

/// What a gate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GateReply {
    /// Open.
    Yes,
    /// Closed; the words say what was answered.
    No(String),
    /// Nobody answers; the words say how.
    Nobody(String),
}

/// Asks sources and gates.
pub trait Ask: Send + Sync + 'static {
    /// Asks a source about all its subjects; one answer for each, in order.
    fn counters(
        &self,
        source: &SourceKey,
        subjects: &[Subject],
        now: f64,
    ) -> impl Future<Output = Vec<Answer>> + Send;

    /// Asks a source about queries that gate a step.
    fn queries(&self, source: &SourceKey, queries: &[String]) -> impl Future<Output = Vec<GateReply>> + Send;

    /// Asks a web server.
    fn webhook(&self, url: &str, told: &serde_json::Value) -> impl Future<Output = GateReply> + Send;
}
