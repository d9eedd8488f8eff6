//! A story of traffic: what a simulation is given.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use crate::api::CanaryRolloutSpec;
use crate::api::action::Verb;
use crate::api::network::MeshProvider;
use crate::api::operations::LatencySlo;
use crate::api::units::{duration, percent};

/// A story: a policy, a service, and what happens to them.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Story {
    /// What it is about, in one sentence.
    #[serde(default)]
    pub about: String,
    /// The spec of the CanaryRollout.
    pub rollout: CanaryRolloutSpec,
    /// The service.
    #[serde(default)]
    pub service: Service,
    /// Where chance begins. The same seed tells the same story.
    #[serde(default = "one")]
    pub seed: u64,
    /// Time between two looks of the operator. Defaults to 5s.
    #[serde(default = "five_seconds")]
    pub tick: String,
    /// When the story ends.
    pub lasts: String,
    /// The release that serves at the beginning; none, and the first `deploy` is the first revision.
    #[serde(default = "first_release")]
    pub release: Option<String>,
    /// Requests a second at the beginning.
    #[serde(default)]
    pub requests: f64,
    /// Requests a second that others send to the old backend, past this service's routes.
    #[serde(default)]
    pub legacy_requests: f64,
    /// What happens, in the order of time.
    pub events: Vec<Event>,
}

fn one() -> u64 {
    1
}

fn five_seconds() -> String {
    "5s".to_owned()
}

fn first_release() -> Option<String> {
    Some("1.0".to_owned())
}

/// The service.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Service {
    /// Pods, or the autoscaler's least.
    #[serde(default = "four")]
    pub replicas: i32,
    /// The autoscaler's most, if there is one.
    #[serde(default)]
    pub max: Option<i32>,
    /// Requests a second that one pod bears, with an autoscaler. Defaults to 50.
    #[serde(default = "fifty")]
    pub requests_per_pod: f64,
    /// Who carries traffic. Defaults to Istio.
    #[serde(default)]
    pub provider: Option<MeshProvider>,
    /// Whether it fetches its work.
    #[serde(default)]
    pub pulled: bool,
    /// Whether this site has a part of the capacity.
    #[serde(default)]
    pub partial: bool,
    /// `slo.availability` of the FinService.
    #[serde(default)]
    pub availability: Option<String>,
    /// `slo.latency` of the FinService.
    #[serde(default)]
    pub latency: Option<LatencySlo>,
    /// Time from a pod's start until it is Ready. Defaults to 10s.
    #[serde(default = "ten_seconds")]
    pub startup: String,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            replicas: four(),
            max: None,
            requests_per_pod: fifty(),
            provider: None,
            pulled: false,
            partial: false,
            availability: None,
            latency: None,
            startup: ten_seconds(),
        }
    }
}

fn four() -> i32 {
    4
}

fn fifty() -> f64 {
    50.0
}

fn ten_seconds() -> String {
    "10s".to_owned()
}

/// Something that happens.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Event {
    /// When, from the beginning.
    pub at: String,
    /// The FinService asks for this release from now on.
    #[serde(default)]
    pub deploy: Option<String>,
    /// Who asks for the release, or changes the policy. Defaults to mia; of an empty name nobody knows.
    #[serde(default)]
    pub by: Option<String>,
    /// What the FinService asks for cannot be known for now, as when a ConfigMap cannot be read.
    #[serde(default)]
    pub unknown: bool,
    /// Requests a second.
    #[serde(default)]
    pub requests: Option<f64>,
    /// Share of requests that fail, in percent, by release; `legacy` is the old backend.
    #[serde(default)]
    pub errors: Option<BTreeMap<String, String>>,
    /// The release whose pods count none of their requests.
    #[serde(default)]
    pub uncounted: Option<String>,
    /// Share of requests that are slow, in percent, by release.
    #[serde(default)]
    pub slow: Option<BTreeMap<String, String>>,
    /// Share of what a custom metric calls bad, in percent, by release.
    #[serde(default)]
    pub bad: Option<BTreeMap<String, String>>,
    /// Share of requests that are refused with 4xx, in percent, by release.
    #[serde(default)]
    pub refused: Option<BTreeMap<String, String>>,
    /// Something that fails behind every release alike.
    #[serde(default)]
    pub outage: Option<Outage>,
    /// A release that makes every release fail while it has enough weight.
    #[serde(default)]
    pub breaks: Option<Breaks>,
    /// Errors that come only from one pod of a release, for some time.
    #[serde(default)]
    pub blip: Option<Blip>,
    /// What the source of the evidence answers.
    #[serde(default)]
    pub source: Option<SourceState>,
    /// Whether proxies hear of weights from now on.
    #[serde(default)]
    pub control: Option<ControlState>,
    /// Whether pods of a release become, and stay, Ready.
    #[serde(default)]
    pub pods: Option<BTreeMap<String, PodState>>,
    /// Restarts of containers of each pod, by release.
    #[serde(default)]
    pub restarts: Option<BTreeMap<String, u32>>,
    /// Pods that are moved to another node: each starts anew.
    #[serde(default)]
    pub drain: Option<String>,
    /// Somebody says something.
    #[serde(default)]
    pub say: Option<Saying>,
    /// A gate, by its weight, answers from now on.
    #[serde(default)]
    pub gate: Option<BTreeMap<i32, GateState>>,
    /// How the release fares in another cluster from now on.
    #[serde(default)]
    pub peer: Option<BTreeMap<String, PeerState>>,
    /// Whether this site sees traffic from now on.
    #[serde(default)]
    pub standby: Option<bool>,
    /// A Failover freezes all rollouts, with these words; an empty text ends it.
    #[serde(default)]
    pub freeze: Option<String>,
    /// The policy is changed.
    #[serde(default)]
    pub policy: Option<Box<CanaryRolloutSpec>>,
    /// The FinService asks for another number of pods.
    #[serde(default)]
    pub replicas: Option<i32>,
    /// The operator dies.
    #[serde(default)]
    pub killed: Option<Killed>,
    /// Somebody changes the plain Service's selector.
    #[serde(default)]
    pub selector: Option<String>,
}

/// Something that fails behind every release alike.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Outage {
    /// Share of requests that fail, in percent.
    pub errors: String,
    /// For how long.
    pub r#for: String,
}

/// A release that breaks what stands behind every release.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Breaks {
    /// Which.
    pub release: String,
    /// With how many percent of the requests, and more.
    pub from: i32,
    /// Share of all requests that fail then, in percent.
    pub errors: String,
}

/// Errors of one pod.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Blip {
    /// Of which release.
    pub release: String,
    /// Share of that pod's requests that fail, in percent.
    pub errors: String,
    /// For how long.
    pub r#for: String,
}

/// What the source of the evidence answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum SourceState {
    /// What it counted.
    #[default]
    Up,
    /// It does not answer.
    Down,
    /// It answers without any series.
    Empty,
    /// It answers NaN.
    NaN,
    /// It repeats what it said last.
    Stale,
}

/// The control plane of the mesh or of the gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum ControlState {
    /// Proxies hear of weights at once.
    #[default]
    Up,
    /// They go on with what they heard last.
    Down,
}

/// Whether pods become, and stay, Ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum PodState {
    /// They do, after their start.
    #[default]
    Ready,
    /// They do not.
    NotReady,
}

/// Something that somebody says.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Saying {
    /// What.
    pub verb: Verb,
    /// Who. Defaults to anna.
    #[serde(default)]
    pub who: Option<String>,
    /// Of which release. Defaults to the one that the FinService asks for.
    #[serde(default)]
    pub release: Option<String>,
    /// Of which gate.
    #[serde(default)]
    pub gate: Option<i32>,
    /// Why.
    #[serde(default)]
    pub words: Option<String>,
}

/// What a gate answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum GateState {
    /// Open.
    Open,
    /// Closed.
    Closed,
    /// Nobody answers.
    Silent,
}

/// How a release fares elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum PeerState {
    /// It was promoted, now.
    Promoted,
    /// It was taken back.
    RolledBack,
    /// It is on its way.
    Running,
    /// The cluster does not answer.
    Unreachable,
}

/// When the operator dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Killed {
    /// Between two reconciles.
    Between,
    /// In its next reconcile, after the weights are written and before the status is.
    BeforeStatus,
}

/// What is wrong with a story.
#[derive(Debug, thiserror::Error)]
pub enum StoryError {
    /// It is no story.
    #[error("{0}; see docs/canary.md for what a story looks like")]
    Form(#[from] serde_norway::Error),
    /// A time or share cannot be read.
    #[error("{field}: {text:?} is no {what}")]
    Value {
        /// Where.
        field: String,
        /// What stands there.
        text: String,
        /// What should.
        what: &'static str,
    },
    /// The story is too long.
    #[error("lasts {lasts} at a tick of {tick} is over a million looks; raise tick")]
    TooLong {
        /// How long.
        lasts: String,
        /// The tick.
        tick: String,
    },
}

impl Story {
    /// Reads a story.
    ///
    /// # Errors
    /// If it is none, or one of its times or shares cannot be.
    pub fn parse(text: &str) -> Result<Self, StoryError> {
        let mut story: Self = serde_norway::from_str(text)?;
        let tick = time("tick", &story.tick)?;
        let lasts = time("lasts", &story.lasts)?;
        time("service.startup", &story.service.startup)?;
        if tick.is_zero() || lasts.as_millis() / tick.as_millis().max(1) > 1_000_000 {
            return Err(StoryError::TooLong { lasts: story.lasts, tick: story.tick });
        }
        for (index, event) in story.events.iter().enumerate() {
            let field = format!("events[{index}]");
            time(&format!("{field}.at"), &event.at)?;
            let shares = [&event.errors, &event.slow, &event.bad, &event.refused];
            for text in shares.into_iter().flatten().flat_map(BTreeMap::values) {
                share(&field, text)?;
            }
            if let Some(outage) = &event.outage {
                share(&format!("{field}.outage.errors"), &outage.errors)?;
                time(&format!("{field}.outage.for"), &outage.r#for)?;
            }
            if let Some(breaks) = &event.breaks {
                share(&format!("{field}.breaks.errors"), &breaks.errors)?;
            }
            if let Some(blip) = &event.blip {
                share(&format!("{field}.blip.errors"), &blip.errors)?;
                time(&format!("{field}.blip.for"), &blip.r#for)?;
            }
        }
        story.events.sort_by_key(|event| duration(&event.at));
        Ok(story)
    }
}

fn time(field: &str, text: &str) -> Result<Duration, StoryError> {
    let what = "duration such as 30s or 5m";
    duration(text).ok_or_else(|| StoryError::Value { field: field.to_owned(), text: text.to_owned(), what })
}

fn share(field: &str, text: &str) -> Result<f64, StoryError> {
    let what = "percentage such as \"0.5\"";
    percent(text).ok_or_else(|| StoryError::Value { field: field.to_owned(), text: text.to_owned(), what })
}
