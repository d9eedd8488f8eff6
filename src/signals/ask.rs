//! What sources are asked: the one door to all of them, which tests play.

use super::subject::{Answer, Subject};
use crate::api::canaryrollout::WebhookGate;

/// Where counters come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SourceKey {
    /// Proxies and pods.
    BuiltIn,
    /// A Prometheus, as the CanaryRollouts of a namespace describe it, in JSON.
    Prometheus {
        /// The namespace that asks: its Secrets are presented, and whoever else asks the same server is asked apart, since
        /// a query may spoil the question that it is part of.
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
    /// Asks a source about all its subjects. One answer for each is handed over, by its place; those that come later hold
    /// up none that are there.
    fn counters(
        &self,
        source: &SourceKey,
        subjects: &[Subject],
        now: f64,
        answered: impl FnMut(Vec<(usize, Answer)>) + Send,
    ) -> impl Future<Output = ()> + Send;

    /// Asks a source about queries that gate a step.
    fn queries(&self, source: &SourceKey, queries: &[String]) -> impl Future<Output = Vec<GateReply>> + Send;

    /// Asks a web server that a namespace names.
    fn webhook(
        &self,
        namespace: &str,
        server: &WebhookGate,
        told: &serde_json::Value,
    ) -> impl Future<Output = GateReply> + Send;
}
