//! The status of a CloudCluster, from what its own operator knows. Pure.

use jiff::Timestamp;

use crate::api::conditions::{self, State, Wanted};
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::CloudClusterSpec;
    use crate::api::operations::Residency;

    #[test]
    fn a_status_says_what_is_served_and_settles() {
        let spec = CloudClusterSpec { residency: Some(vec![Residency::US]) };
        let mut cluster = CloudCluster::new("aws-us-east-1", spec);
        let at = |second| Timestamp::from_second(second).expect("in range");
        let first = own(&cluster, "v1.36.3", at(100));
        assert!(first.conditions[0].message.ends_with("it serves data of US"));
        cluster.status = Some(first.clone());
        assert_eq!(own(&cluster, "v1.36.3", at(200)), first, "nothing changes while nothing happens");
    }
}
