//! What is to be done about a group: who has authority, what standing readiness finds, what a move would do. Pure.

use jiff::Timestamp;

use super::checks;
use super::checks::found::{Found, Looked};
use super::observe::Observed;
use super::peak::sampled;
use super::plan::plan;
use crate::api::conditions::{Says, Standing, State};
use crate::api::failovergroup::{CheckState, MovePlan, Peak};
use crate::authority::decide::{self as authority, Decision as Authority};

/// What is to be done, and said.
#[derive(Clone, Debug)]
pub struct Decision {
    /// How the site stands, and what its Authority is to say; `None` where the group cannot be read, or has not this site.
    pub authority: Option<Authority>,
    /// Ready, Reconciling and Stalled.
    pub standing: Standing,
    /// Whether a standby follows.
    pub protected: Says,
    /// What was checked, worst first.
    pub checks: Vec<Found>,
    /// What a failover to this site would do.
    pub plan: Option<MovePlan>,
    /// The peak of the site that serves.
    pub peak: Option<Peak>,
}

impl Decision {
    fn stuck(reason: &'static str, message: &str) -> Self {
        Self {
            authority: None,
            standing: Standing::stuck(reason, message),
            protected: Says::new(State::Unknown, reason, message),
            checks: Vec::new(),
            plan: None,
            peak: None,
        }
    }
}

/// Decides about a group; `None` if it is gone.
pub fn decide(seen: &Observed, now: Timestamp) -> Option<Decision> {
    let group = seen.group.as_ref()?;
    let spec = match &group.spec {
        Ok(spec) => spec,
        Err(error) => {
            let message = format!(
                "the group cannot be read: {error}. Upgrade the operator of this site, or correct the field"
            );
            return Some(Decision::stuck("Unreadable", &message));
        }
    };
    if !spec.sites.iter().any(|site| **site == *seen.site) {
        let message =
            format!("spec.sites does not name {}: nothing of this group concerns this site", seen.site);
        return Some(Decision {
            standing: Standing {
                ready: Says::no("OtherSites", &message),
                reconciling: Says::no("OtherSites", ""),
                stalled: Says::no_problem(),
            },
            ..Decision::stuck("OtherSites", &message)
        });
    }
    if let Some(Err(error)) = seen.own.as_ref().map(|own| &own.spec) {
        let message =
            format!("Authority {} cannot be read: {error}. Upgrade the operator of this site", seen.name);
        return Some(Decision::stuck("Unreadable", &message));
    }
    let authority = authority::decide(&seen.site, spec, &seen.knowledge, now);
    let looked = Looked { seen, spec, authority: &authority, now };
    let checks = checks::all(&looked);
    let holds = looked.holds(&seen.site);
    let protected = checks::stores::protected(&looked);
    let source = looked.holders().iter().find(|holder| **holder != *seen.site);
    let peak = source.and_then(|source| {
        let peer = seen.peers.iter().find(|peer| peer.name == *source)?;
        sampled(seen.status().and_then(|status| status.peak.as_ref()), peer.services.as_ref()?, now)
    });
    let peak = peak.or_else(|| seen.status().and_then(|status| status.peak.clone()));
    Some(Decision {
        standing: standing(&checks, holds),
        protected,
        plan: Some(plan(
            spec,
            &checks,
            seen.measured.as_ref(),
            seen.status().and_then(|status| status.plan.as_ref()),
        )),
        checks,
        peak,
        authority: Some(authority),
    })
}

fn standing(checks: &[Found], holds: bool) -> Standing {
    let bad: Vec<&Found> =
        checks.iter().filter(|found| found.state.severity() == Some(crate::api::Severity::Error)).collect();
    let well = if holds {
        "this site has authority, and nothing stands in the way of another one's taking over that can be seen from here"
    } else {
        "a failover to this site could be ordered now"
    };
    let ready = match bad.first() {
        None => Says::yes("CouldFailOver", well),
        Some(first) => {
            let more = match bad.len() - 1 {
                0 => String::new(),
                more => format!(" (and {more} more: see status.checks)"),
            };
            let words = format!("{}{more}", first.message);
            let state = if first.state == CheckState::Failed { State::False } else { State::Unknown };
            Says::new(state, first.reason, words)
        }
    };
    let reconciling = match bad.iter().find(|found| found.state == CheckState::Unknown) {
        Some(found) => Says::yes(found.reason, found.message.clone()),
        None => Says::no("Settled", ""),
    };
    Standing { ready, reconciling, stalled: Says::no_problem() }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "decide_fence_tests.rs"]
mod fence_tests;
#[cfg(test)]
#[path = "decide_hooks_tests.rs"]
mod hooks_tests;
#[cfg(test)]
#[path = "decide_mirrors_tests.rs"]
mod mirrors_tests;
#[cfg(test)]
#[path = "decide_stores_tests.rs"]
mod stores_tests;
