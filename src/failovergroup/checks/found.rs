//! What a check looks at, and what it finds. Pure.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::FailoverGroupSpec;
use crate::api::failovergroup::CheckState;
use crate::authority::decide::Decision;
use crate::failovergroup::observe::Observed;

/// How far a standby may be behind where its store does not say.
pub const MAX_LAG: Duration = Duration::from_secs(30);

/// The step of a move that a check would hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Before anything else.
    Preflight,
    /// Room at this site.
    Capacity,
    /// Authority is claimed.
    Claim,
    /// The stores are promoted.
    Promote,
    /// Traffic comes here.
    Traffic,
    /// The old site becomes the standby.
    Reprotect,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What was checked.
    pub name: String,
    /// How it stands.
    pub state: CheckState,
    /// One word in CamelCase, for conditions and metrics.
    pub reason: &'static str,
    /// What was found.
    pub message: String,
    /// What to do about it; empty where nothing is to be done.
    pub remedy: String,
    /// The step that it would hold.
    pub step: Step,
}

impl Found {
    /// Something is so.
    pub fn new(
        step: Step,
        name: impl Into<String>,
        state: CheckState,
        reason: &'static str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { name: name.into(), state, reason, message: message.into(), remedy: remedy.into(), step }
    }

    /// All is well.
    pub fn passed(
        step: Step,
        name: impl Into<String>,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self::new(step, name, CheckState::Passed, reason, message, "")
    }

    /// It would not succeed.
    pub fn failed(
        step: Step,
        name: impl Into<String>,
        reason: &'static str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(step, name, CheckState::Failed, reason, message, remedy)
    }

    /// Nobody knows.
    pub fn unknown(
        step: Step,
        name: impl Into<String>,
        reason: &'static str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(step, name, CheckState::Unknown, reason, message, remedy)
    }

    /// It would succeed, and something is dangerous.
    pub fn warning(
        step: Step,
        name: impl Into<String>,
        reason: &'static str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(step, name, CheckState::Warning, reason, message, remedy)
    }
}

/// What is looked at.
pub struct Looked<'a> {
    /// The snapshot.
    pub seen: &'a Observed,
    /// The group.
    pub spec: &'a FailoverGroupSpec,
    /// How this site stands.
    pub authority: &'a Decision,
    /// When.
    pub now: Timestamp,
}

impl Looked<'_> {
    /// Who has authority, as far as this site knows.
    pub fn holders(&self) -> &[String] {
        let own = self.authority.own(&self.seen.knowledge);
        own.map(|own| own.holders.as_slice()).unwrap_or_default()
    }

    /// Whether a site has it.
    pub fn holds(&self, site: &str) -> bool {
        self.holders().iter().any(|holder| holder == site)
    }
}

/// Up to five names, and how many more there are.
pub fn names(all: &[String]) -> String {
    let shown = all.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(5) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
