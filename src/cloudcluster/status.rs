//! The status of a CloudCluster, from what its own operator knows. Pure.

use jiff::Timestamp;

use super::peer_error::PeerError;
use crate::api::conditions::{self, State, Wanted, short};
use crate::api::{CloudCluster, CloudClusterStatus};

/// The status of the operator's own site. `version` is that of its API server.
pub fn own(cluster: &CloudCluster, version: &str, now: Timestamp) -> CloudClusterStatus {
    let generation = cluster.metadata.generation;
    let served: Vec<String> =
        cluster.spec.residency.iter().flatten().map(|residency| format!("{residency:?}")).collect();
    let message = match served.as_slice() {
        [] => "the operator of this site follows this object; no data that must stay in a jurisdiction may be kept here".to_owned(),
        served => format!("the operator of this site follows this object; it serves data of {}", served.join(", ")),
    };
    let wanted =
        |kind, state, reason, message: &str| Wanted { kind, state, reason, message: message.to_owned() };
    let wanted = vec![
        wanted("Ready", State::True, "OwnSite", &message),
        wanted("Reconciling", State::False, "Settled", ""),
        wanted("Stalled", State::False, "NoProblem", ""),
    ];
    let old = cluster.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    CloudClusterStatus {
        observed_generation: generation,
        conditions: conditions::merge(old, wanted, generation, now),
        version: Some(version.to_owned()),
    }
}

/// The status of a peer, from what the last round with it was: the version of its API server, if it was asked for
/// that, or why there was no answer. It says nothing that moves while that stays the same.
pub fn peer(
    cluster: &CloudCluster,
    reached: Result<Option<&str>, &PeerError>,
    now: Timestamp,
) -> CloudClusterStatus {
    let generation = cluster.metadata.generation;
    let wanted = |kind, state, reason, message: String| Wanted { kind, state, reason, message };
    let fine = |kind| wanted(kind, State::False, "NoProblem", String::new());
    let wanted = match reached {
        Ok(_) => vec![
            wanted("Ready", State::True, "Reachable", "its API server answers".to_owned()),
            wanted("Reconciling", State::False, "Settled", String::new()),
            fine("Stalled"),
        ],
        Err(error) => {
            let (reason, message) = (error.reason(), short(error.to_string()));
            let (working, stalled) = match error.is_stalled() {
                true => (
                    wanted("Reconciling", State::False, reason, message.clone()),
                    wanted("Stalled", State::True, reason, message.clone()),
                ),
                false => (wanted("Reconciling", State::True, reason, message.clone()), fine("Stalled")),
            };
            vec![wanted("Ready", State::False, reason, message), working, stalled]
        }
    };
    let old = cluster.status.as_ref();
    let conditions = old.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let version = reached.ok().flatten().map(str::to_owned);
    CloudClusterStatus {
        observed_generation: generation,
        conditions: conditions::merge(conditions, wanted, generation, now),
        // The last that is known.
        version: version.or_else(|| old.and_then(|status| status.version.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::CloudClusterSpec;
    use crate::api::operations::Residency;

    #[test]
    fn a_status_says_what_is_served_and_settles() {
        let spec = CloudClusterSpec { residency: Some(vec![Residency::US]), ..CloudClusterSpec::default() };
        let mut cluster = CloudCluster::new("aws-us-east-1", spec);
        let at = |second| Timestamp::from_second(second).expect("in range");
        let first = own(&cluster, "v1.36.3", at(100));
        assert!(first.conditions[0].message.ends_with("it serves data of US"));
        cluster.status = Some(first.clone());
        assert_eq!(own(&cluster, "v1.36.3", at(200)), first, "nothing changes while nothing happens");
    }

    #[test]
    fn a_peer_that_falls_silent_is_working_on_it_and_one_without_a_way_needs_a_person() {
        let mut cluster = CloudCluster::new("gcp", CloudClusterSpec::default());
        let at = |second| Timestamp::from_second(second).expect("in range");
        let words = |status: &CloudClusterStatus| -> Vec<String> {
            status.conditions.iter().map(|c| format!("{}={} {}", c.type_, c.status, c.reason)).collect()
        };
        let well = peer(&cluster, Ok(Some("v1.36.3")), at(100));
        assert_eq!(
            words(&well),
            ["Ready=True Reachable", "Reconciling=False Settled", "Stalled=False NoProblem"]
        );
        cluster.status = Some(well.clone());
        assert_eq!(peer(&cluster, Ok(None), at(200)), well, "nothing changes while nothing happens");
        let silent = peer(&cluster, Err(&PeerError::timeout(std::time::Duration::from_secs(5))), at(300));
        assert_eq!(
            words(&silent),
            ["Ready=False NoAnswer", "Reconciling=True NoAnswer", "Stalled=False NoProblem"]
        );
        assert_eq!(silent.version.as_deref(), Some("v1.36.3"));
        let lost = peer(&cluster, Err(&PeerError::NoWay("gcp".into())), at(400));
        assert_eq!(words(&lost)[2], "Stalled=True NoKubeconfig");
    }
}
