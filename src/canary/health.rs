//! What the pods themselves say: restarts and lost readiness are evidence of their own, without statistics.

use super::facts::RevisionFacts;
use crate::api::canarystatus::RestartCounts;

/// Restarts of the canary's containers from which it counts as crashing: one may be chance, and two the same
/// chance twice; Kubernetes itself begins to wait longer and longer from the third on.
pub const CRASHES: i64 = 3;

/// What the pods say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Nothing against the canary.
    Fine,
    /// No pod is Ready: whatever is sent there fails.
    NoneReady,
    /// Its containers crash, and stable's do not.
    Crashing(String),
}

/// What the pods of the canary say, beside those of stable.
pub fn judge(
    canary: Option<&RevisionFacts>,
    stable: Option<&RevisionFacts>,
    before: RestartCounts,
) -> Health {
    let count = |revision: Option<&RevisionFacts>, before: i64| {
        let restarts = revision.map_or(0, |revision| (revision.restarts() - before).max(0));
        (restarts, revision.map_or(1, |revision| revision.pods.len().max(1)) as i64)
    };
    let (restarts, pods) = count(canary, before.canary);
    let (beside, beside_pods) = count(stable, before.stable);
    // Per pod, without a division: a node that fails takes both arms with it.
    if restarts >= CRASHES && restarts * beside_pods > beside * pods {
        return Health::Crashing(format!(
            "its containers restarted {restarts} times since the rollout began, stable's {beside} times"
        ));
    }
    if canary.is_none_or(|revision| revision.ready() == 0) {
        return Health::NoneReady;
    }
    Health::Fine
}

/// Restarts of both arms now, to be counted from.
pub fn counts(canary: Option<&RevisionFacts>, stable: Option<&RevisionFacts>) -> RestartCounts {
    RestartCounts {
        canary: canary.map_or(0, RevisionFacts::restarts),
        stable: stable.map_or(0, RevisionFacts::restarts),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::canary::facts::PodFacts;

    fn revision(restarts: &[u32], ready: bool) -> RevisionFacts {
        let pod = |restarts| PodFacts { ready_since: ready.then_some(Timestamp::UNIX_EPOCH), restarts };
        RevisionFacts { pods: restarts.iter().map(|count| pod(*count)).collect(), ..Default::default() }
    }

    #[test]
    fn crashes_count_only_beside_a_stable_that_does_not_crash() {
        let before = RestartCounts::default();
        let judge = |canary: &[u32], stable: &[u32]| {
            judge(Some(&revision(canary, true)), Some(&revision(stable, true)), before)
        };
        assert_eq!(judge(&[2], &[0, 0]), Health::Fine);
        assert!(matches!(judge(&[3], &[0, 0]), Health::Crashing(_)));
        assert_eq!(judge(&[3], &[3, 3]), Health::Fine, "both crash alike");
        assert!(matches!(judge(&[4], &[3, 3]), Health::Crashing(_)));
    }

    #[test]
    fn restarts_of_an_earlier_attempt_do_not_count() {
        let before = RestartCounts { canary: 9, stable: 0 };
        assert_eq!(judge(Some(&revision(&[9], true)), None, before), Health::Fine);
    }

    #[test]
    fn nobody_ready_is_seen() {
        assert_eq!(judge(Some(&revision(&[0], false)), None, RestartCounts::default()), Health::NoneReady);
        assert_eq!(judge(None, None, RestartCounts::default()), Health::NoneReady);
    }
}
