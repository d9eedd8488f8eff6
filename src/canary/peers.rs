//! How a release fares in other clusters, and whether this one may follow.

use jiff::Timestamp;

use super::facts::{Fares, Peer};
use super::policy::AfterPolicy;
use crate::api::CanaryRolloutStatus;
use crate::api::canarystatus::Outcome;
use crate::api::units::display;

/// How a release fares where a CanaryRollout has that status.
///
/// `beside` is the revision beside which the release begins here. Revisions are named by what is asked for: a peer on
/// which that one serves has not promoted what is meant, even if it was called by the same name, as it is where a
/// variable changes and neither `spec.version` nor the image does.
pub fn fares(status: &CanaryRolloutStatus, release: &str, beside: Option<&str>) -> Fares {
    match by_name(status, release) {
        Fares::Promoted(_) if beside.is_some() && status.stable.as_deref() == beside => Fares::Unseen,
        fares => fares,
    }
}

fn by_name(status: &CanaryRolloutStatus, release: &str) -> Fares {
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
            Fares::Unreachable(how) => {
                (format!("{cluster} goes first, and nothing is heard from it: {how}"), None)
            }
        };
        wait.get_or_insert(next);
    }
    match wait {
        Some((why, again_at)) => Follow::Wait(why, again_at),
        None => Follow::Yes,
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::api::canarystatus::{Failed, Memory, Past};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn past(release: &str, outcome: Outcome) -> Past {
        let (revision, message) = ("r".to_owned(), "why".to_owned());
        let (started_at, ended_at) = (Time(at(1)), Time(at(2)));
        Past { release: release.to_owned(), revision, outcome, message, started_at, ended_at }
    }

    #[test]
    fn the_status_of_a_peer_says_how_a_release_fares_there() {
        let mut status = CanaryRolloutStatus::default();
        let fares = |status: &CanaryRolloutStatus, release: &str| fares(status, release, Some("old"));
        assert_eq!(fares(&status, "b"), Fares::Unseen);
        status.history = vec![past("b", Outcome::Promoted)];
        assert_eq!(fares(&status, "b"), Fares::Promoted(at(2)));
        assert_eq!(fares(&status, "a"), Fares::Unseen);
        status.history.insert(0, past("c", Outcome::Promoted));
        assert_eq!(fares(&status, "b"), Fares::Unseen, "something else serves by now");
        let failed = Failed {
            revision: "r".into(),
            release: "c".into(),
            attempt: 3,
            weight: 100,
            message: "burning".into(),
            aborted: false,
            made_by: None,
            unsigned: None,
            at: Time(at(9)),
        };
        status.memory = Some(Memory { failed: vec![failed], ..Memory::default() });
        assert_eq!(fares(&status, "c"), Fares::RolledBack("burning".into()), "regretted after its promotion");
    }

    #[test]
    fn a_name_that_was_promoted_before_is_not_what_begins_now() {
        let mut status =
            CanaryRolloutStatus { history: vec![past("2", Outcome::Promoted)], ..Default::default() };
        status.stable = Some("before".to_owned());
        assert_eq!(
            fares(&status, "2", Some("before")),
            Fares::Unseen,
            "it still serves there what it does here"
        );
        status.stable = Some("new".to_owned());
        assert_eq!(fares(&status, "2", Some("before")), Fares::Promoted(at(2)));
        assert_eq!(
            fares(&status, "2", None),
            Fares::Promoted(at(2)),
            "in the rollback window nothing is beside it"
        );
    }

    #[test]
    fn all_clusters_must_have_gone_well_for_their_time() {
        let after = |cluster: &str, bake| AfterPolicy {
            cluster: cluster.into(),
            bake: SignedDuration::from_secs(bake),
        };
        let peer = |cluster: &str, fares| Peer { cluster: cluster.into(), fares };
        let policy = [after("aws", 60), after("gcp", 0)];
        let both = |aws, gcp, now| follow(&policy, &[peer("aws", aws), peer("gcp", gcp)], "b", at(now));
        assert_eq!(both(Fares::Promoted(at(0)), Fares::Promoted(at(0)), 60), Follow::Yes);
        let Follow::Wait(_, again_at) = both(Fares::Promoted(at(0)), Fares::Promoted(at(0)), 59) else {
            panic!("it must bake")
        };
        assert_eq!(again_at, Some(at(60)));
        assert!(matches!(both(Fares::Promoted(at(0)), Fares::Running, 99), Follow::Wait(_, None)));
        let one_back = both(Fares::Running, Fares::RolledBack("x".into()), 99);
        assert!(matches!(one_back, Follow::No(_)), "a failure anywhere says no, whatever else is waited for");
        assert!(matches!(follow(&policy, &[], "b", at(0)), Follow::Wait(..)), "nobody is asked yet");
    }
}
