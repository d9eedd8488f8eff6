//! Hooks: web servers that a move calls on its way, and waits for.

use std::time::Duration;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::analysis::Auth;
use super::patterns;
use super::step::Step;
use super::units;

/// How long a move waits for a hook that does not say.
const DEADLINE: Duration = Duration::from_secs(60);

/// A web server that a Switchover or a Failover calls on its way, and waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hook {
    /// What it is called.
    #[schemars(length(min = 1, max = 40), regex(pattern = patterns::LABEL))]
    pub name: String,
    /// Where on the way.
    pub at: HookPoint,
    /// What is called.
    pub webhook: HookServer,
    /// How long the move waits, from the first call on, until it answers that it is done. Defaults to 60s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = patterns::POSITIVE_DURATION))]
    pub deadline: Option<String>,
    /// What the move does where it has not answered so by then. Defaults to Hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
}

impl Hook {
    /// How long the move waits for it.
    pub fn deadline(&self) -> Duration {
        self.deadline.as_deref().and_then(units::duration).unwrap_or(DEADLINE)
    }

    /// Whether the move goes on without it once the deadline is over.
    pub fn is_optional(&self) -> bool {
        self.on_failure == Some(OnFailure::Continue)
    }
}

/// Where on the way of a move a hook is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum HookPoint {
    /// Before anything is closed at the source: of a Failover before its claim, whose reader closes it.
    BeforeFence,
    /// Once the stores are promoted here, and before applications may write to them: nobody writes meanwhile.
    BeforeOpen,
    /// Once this site serves, and answers 200 on `/authority`, which turns the traffic to it.
    AfterTraffic,
}

impl HookPoint {
    /// The step in which they are called.
    pub fn step(self) -> Step {
        match self {
            Self::BeforeFence => Step::BeforeFence,
            Self::BeforeOpen => Step::BeforeOpen,
            Self::AfterTraffic => Step::AfterTraffic,
        }
    }
}

/// What a hook calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HookServer {
    /// Where a POST is sent with the move as JSON. 202 says that it is at work, and it is asked again; any other 2xx that it
    /// is done; anything else that it failed, and it is tried again until the deadline. It may be called more than once for
    /// one move, each time with the same `Idempotency-Key`.
    #[schemars(length(min = 1, max = 2048), regex(pattern = patterns::URL))]
    #[x_kube(validation = Rule::new("isURL(self)")
        .message("url must be an address, such as https://drain.example/pools"))]
    pub url: String,
    /// What is presented to it, from a Secret of the operator's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
}

/// What a move does without the answer of a hook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnFailure {
    /// It waits, a Failover too, until the hook answers or a person skips it.
    #[default]
    Hold,
    /// It goes on, and its record says so.
    Continue,
}
