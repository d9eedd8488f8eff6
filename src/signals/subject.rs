//! What a source of evidence is asked for, and what it answers: plain data, the same for every source.

use std::net::IpAddr;

use super::grpc::Speaks;

/// A rollout whose requests are to be counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Subject {
    /// Namespace of the FinService.
    pub namespace: String,
    /// Its name.
    pub service: String,
    /// Who is compared: stable (or its fresh copy, or the old backend) first, then the canary.
    pub arms: [Arm; 2],
    /// What is counted.
    pub metrics: Vec<Counted>,
    /// Where the pods tell their own counters; `None` if they do not.
    pub endpoint: Option<Endpoint>,
    /// Paths that are asked by probes and scrapes: what is sent there is not shared by chance.
    pub not_counted: Vec<String>,
    /// Whether probes ask for some of these over HTTP: requests that do not say what they ask for may be theirs.
    pub probed: bool,
    /// What is spoken at its ports, and so which of the pods' own counters speak of its requests.
    pub speaks: Speaks,
    /// Whether some requests reach an arm otherwise than by chance (matched, mirrored, or kept by a cookie)
    /// and go to the same pods: a source that sees pods alone cannot tell them apart.
    pub chosen: bool,
    /// Whether callers inside the cluster reach stable past the gateway that shares requests: pods count theirs as well, so
    /// that only the gateway's counters compare like with like.
    pub inside: bool,
}

impl Subject {
    /// An arm, in words.
    pub(super) fn arm_name(&self, arm: usize) -> String {
        let role = if arm == 0 { "stable" } else { "the canary" };
        format!("{role} (`{}`)", self.arms[arm].service)
    }
}

/// An arm of a comparison.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Arm {
    /// Namespace of the Service that the route sends its share to.
    pub namespace: String,
    /// Name of that Service: `transaction-bcdfghjklm`.
    pub service: String,
    /// Port of that Service.
    pub port: u16,
    /// Hash of the revision; empty for the old backend.
    pub revision: String,
    /// Its pods; empty for the old backend.
    pub pods: Vec<Pod>,
}

/// A pod of an arm.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// Since when it is Ready, in Unix seconds; `None` while it is not.
    pub ready_since: Option<f64>,
}

/// Where pods tell their counters, in Prometheus' text format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The port's number.
    pub port: u16,
    /// The path: `/metrics`.
    pub path: String,
}

/// A metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Counted {
    /// `error-rate`, `client-errors`, `latency`, or the name of a custom one.
    pub name: String,
    /// What is bad about a request.
    pub what: What,
}

/// What is bad about a request.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// It failed: a status of 5xx, or none; of gRPC, one that is the server's fault.
    Errors,
    /// It was refused for what was asked: a status of 4xx; of gRPC, one that is the caller's fault.
    Refused,
    /// It took longer than that many seconds.
    Slower(f64),
    /// What two queries say: counters, one series for each revision.
    Custom {
        /// Of what is bad.
        bad: String,
        /// Of everything.
        total: String,
    },
}

/// Two counters of one series (a pod, or a proxy's view of an arm) at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// The metric, by its place in [`Subject::metrics`].
    pub metric: usize,
    /// The arm, by its place in [`Subject::arms`].
    pub arm: usize,
    /// The series; see [`crate::evidence::pod_id`].
    pub series: u64,
    /// When it was counted, in Unix seconds.
    pub time: f64,
    /// Since when what it counts has been Ready; for a proxy's view, nearly all pods.
    pub ready_since: Option<f64>,
    /// All requests, since the series began.
    pub requests: f64,
    /// Bad requests, since the series began.
    pub bad: f64,
    /// Requests that were given up before there was an answer, beside those, since the series began: [`crate::evidence::Sample`].
    pub unanswered: f64,
}

/// What a source answers about one subject.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Counters.
    Readings {
        /// What was counted.
        readings: Vec<Reading>,
        /// Whether what was counted is shared between the arms by chance alone.
        comparable: bool,
        /// Whether only what the route shares was counted, by the proxies that share it.
        exact: bool,
        /// Metrics that could not be counted whole, by their place, and why: they hide nothing of the others. What was counted of
        /// them is among the readings.
        missing: Vec<(usize, String)>,
    },
    /// None that can be used: why, in words for people.
    Nothing(String),
}
