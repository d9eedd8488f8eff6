//! What the pods themselves say: restarts and lost readiness are evidence of their own, without statistics.

use super::facts::RevisionFacts;
use crate::api::canarystatus::RestartCounts;

/// Restarts of a pod's containers from which it counts as crashing: one may be chance, and two the same
/// chance twice; Kubernetes itself begins to wait longer and longer from the third on.
pub const CRASHES: u32 = 3;
/// The part of an arm's pods that must be crashing: one in so many. A few of many pods may crash for their nodes' sake.
const ONE_IN: usize = 4;
/// The same where no arm with traffic runs beside it: what restarts them may be what all have in common.
const ONE_IN_ALONE: usize = 2;

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

/// What the pods of the canary say, beside those of stable. A stable that has no traffic (`alone`) is compared with
/// nothing.
pub fn judge(
    canary: Option<&RevisionFacts>,
    stable: Option<&RevisionFacts>,
    before: RestartCounts,
    alone: bool,
) -> Health {
    let crashing = |revision: Option<&RevisionFacts>| {
        let pods = revision.map(|revision| revision.pods.as_slice()).unwrap_or_default();
        (pods.iter().filter(|pod| pod.restarts >= CRASHES).count(), pods.len().max(1))
    };
    let ((of_canary, pods), (of_stable, beside)) = (crashing(canary), crashing(stable));
    let since = canary.map_or(0, RevisionFacts::restarts) - before.canary;
    let many = of_canary * if alone { ONE_IN_ALONE } else { ONE_IN } >= pods;
    // Shares, without a division: a node that fails takes both arms with it.
    let more = alone || of_canary * beside > of_stable * pods;
    if of_canary > 0 && since >= i64::from(CRASHES) && many && more {
        let words = format!("containers of {of_canary} of its {pods} pods restarted {CRASHES} times or more");
        return Health::Crashing(match alone {
            true => format!("{words}; nothing with traffic runs beside it"),
            false => format!("{words}, of stable's those of {of_stable} of {beside}"),
        });
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

    fn said(canary: &[u32], stable: &[u32], alone: bool) -> Health {
        let before = RestartCounts::default();
        judge(Some(&revision(canary, true)), Some(&revision(stable, true)), before, alone)
    }

    #[test]
    fn crashes_count_only_beside_a_stable_that_does_not_crash() {
        assert_eq!(said(&[2], &[0, 0], false), Health::Fine);
        assert!(matches!(said(&[3], &[0, 0], false), Health::Crashing(_)));
        assert_eq!(said(&[3], &[3, 3], false), Health::Fine, "both crash alike");
        assert!(matches!(said(&[4], &[3, 0], false), Health::Crashing(_)));
    }

    #[test]
    fn restarts_count_by_pod_and_by_share_of_pods() {
        assert_eq!(said(&[1; 30], &[0; 30], false), Health::Fine, "each once, in an outage that all share");
        let mut few = [0; 30];
        few[..3].fill(9);
        assert_eq!(said(&few, &[0; 30], false), Health::Fine, "three nodes of thirty");
        few[..8].fill(9);
        assert!(matches!(said(&few, &[0; 30], false), Health::Crashing(_)));
    }

    #[test]
    fn nothing_is_compared_with_a_stable_that_has_no_traffic() {
        assert_eq!(said(&[3, 0, 0, 0], &[0; 4], true), Health::Fine);
        let Health::Crashing(words) = said(&[3, 3, 0, 0], &[3; 4], true) else {
            panic!("a half of them crash")
        };
        assert!(words.ends_with("nothing with traffic runs beside it"), "{words}");
    }

    #[test]
    fn restarts_of_an_earlier_attempt_do_not_count() {
        let before = RestartCounts { canary: 9, stable: 0 };
        assert_eq!(judge(Some(&revision(&[9], true)), None, before, false), Health::Fine);
    }

    #[test]
    fn nobody_ready_is_seen() {
        assert_eq!(
            judge(Some(&revision(&[0], false)), None, RestartCounts::default(), false),
            Health::NoneReady
        );
        assert_eq!(judge(None, None, RestartCounts::default(), false), Health::NoneReady);
    }
}
