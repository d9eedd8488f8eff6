//! How a release fares in other clusters, and whether this one may follow.

use jiff::Timestamp;

use super::facts::{Fares, Peer};
use super::policy::AfterPolicy;
use crate::api::CanaryRolloutStatus;
use crate::api::canarystatus::Outcome;
use crate::api::units::display;

/// How a release fares where a CanaryRollout has that status.
pub fn fares(status: &CanaryRolloutStatus, release: &str) -> Fares {
    let memory = status.memory.clone().unwrap_or_default();
    if let Some(failed) = memory.failed.first().filter(|failed| failed.release == release) {
        return Fares::RolledBack(failed.message.clone());
    }
    if memory.rollout.as_ref().is_some_and(|rollout| rollout.release == release) {
        return Fares::Running;
    }
    if let Some(warm) = memory.warm.as_ref().filter(|warm| warm.release == release) {
        return Fares::Promoted(warm.promoted_at.0);
    }
    // What was promoted last, unless something else serves by now.
    let last = status.history.iter().find(|past| past.outcome != Outcome::Superseded);
    match last.filter(|past| past.release == release && memory.rollout.is_none()) {
        Some(past) if past.outcome == Outcome::Promoted => Fares::Promoted(past.ended_at.0),
        Some(past) => Fares::RolledBack(past.message.clone()),
        None => Fares::Unseen,
    }
}

/// Whether this cluster may follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Follow {
    /// It may.
    Yes,
    /// Not yet: why, and when time alone may change it.
    Wait(String, Option<Timestamp>),
    /// The release was taken back there.
    No(String),
}

/// Whether all clusters that go first have gone well.
pub fn follow(after: &[AfterPolicy], peers: &[Peer], release: &str, now: Timestamp) -> Follow {
    let mut wait: Option<(String, Option<Timestamp>)> = None;
    for policy in after {
        let cluster = &policy.cluster;
        let fares =
            peers.iter().find(|peer| peer.cluster == *cluster).map_or(&Fares::Unseen, |peer| &peer.fares);
        let next = match fares {
            Fares::RolledBack(why) => return Follow::No(format!("{cluster} took {release} back: {why}")),
            Fares::Promoted(since) => {
                let until = since.saturating_add(policy.bake).unwrap_or(Timestamp::MAX);
                if now >= until {
                    continue;
                }
                let bake = display(policy.bake.unsigned_abs());
                (format!("{cluster} promoted {release} and must stay well for {bake}"), Some(until))
            }
            Fares::Running => {
                (format!("{cluster} goes first, and {release} is still on its way there"), None)
            }
            Fares::Unseen => (format!("{cluster} goes first, and {release} has not been seen there"), None),
            Fares::Unreachable(how) => (format!("{cluster} goes first, and does not answer: {how}"), None),
        };
        wait.get_or_insert(next);
    }
    match wait {
        Some((why, again_at)) => Follow::Wait(why, again_at),
        None => Follow::Yes,
    }
}
