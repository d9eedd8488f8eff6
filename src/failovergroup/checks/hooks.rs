//! The hooks of a group: whether a move to this site could call them. Pure.

use super::found::{Found, Looked, Step};
use crate::api::failovergroup::CheckState;
use crate::api::hook::{Hook, HookPoint};

/// Checks them, at a site without authority: a move calls them from where it goes to.
pub fn check(looked: &Looked<'_>) -> Vec<Found> {
    if looked.holds(&looked.seen.site) {
        return Vec::new();
    }
    looked.spec.hooks().iter().map(|hook| one(looked, hook)).collect()
}

fn one(looked: &Looked<'_>, hook: &Hook) -> Found {
    let (step, name) = (step(hook.at), format!("hook {}", hook.name));
    match looked.seen.asked.hooks.get(&hook.name) {
        None => {
            let message = format!("whether hook {} could be called has not been looked at yet", hook.name);
            Found::unknown(step, name, "NotAsked", message, "wait some seconds")
        }
        Some(Ok(())) => {
            let message = "its server takes connections from this site; whether it does what it is for is seen only in a move";
            Found::passed(step, name, "Reachable", message)
        }
        Some(Err(why)) => {
            let state = if hook.is_optional() { CheckState::Warning } else { CheckState::Failed };
            let message = format!("{}: {}", why.source, why.message);
            Found::new(step, name, state, "HookUnreachable", message, why.remedy.clone())
        }
    }
}

/// The step that it would hold.
fn step(at: HookPoint) -> Step {
    match at {
        HookPoint::BeforeFence => Step::Claim,
        HookPoint::BeforeOpen => Step::Promote,
        HookPoint::AfterTraffic => Step::Traffic,
    }
}
