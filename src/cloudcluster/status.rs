//! The status of a CloudCluster, from the decision. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::decide::Decision;
use super::index::Site;
use super::requests;
use super::view::WayView;
use crate::api::CloudClusterStatus;
use crate::api::cloudcluster::WayStatus;
use crate::api::conditions::{self, short};

/// The status that follows.
pub fn status(site: &Site, decision: Decision, now: Timestamp) -> CloudClusterStatus {
    let (old, generation) = (site.status.as_ref(), site.metadata.generation);
    let current = old.map(|status| status.conditions.as_slice()).unwrap_or_default();
    // What was known last stays, as long as nothing else is known: also when another process has begun to ask.
    let known = old.map(|status| status.ways.as_slice()).unwrap_or_default();
    let ways = match &decision.ways {
        Some(ways) => {
            ways.iter().enumerate().filter_map(|(place, way)| way_status(way, known.get(place))).collect()
        }
        None if site.access.is_empty() => Vec::new(),
        None => known.to_vec(),
    };
    let nodes = old.and_then(|status| status.nodes.clone()).filter(|_| !site.access.is_empty());
    CloudClusterStatus {
        observed_generation: generation,
        conditions: decision.standing.conditions(current, generation, now),
        problems: decision.problems,
        version: decision.version.or_else(|| old.and_then(|status| status.version.clone())),
        ways,
        nodes: decision.nodes.map(|view| requests::said(&view, nodes.as_ref())).or(nodes),
    }
}

/// What is said of a way; the old words where nothing is known yet.
fn way_status(way: &WayView, old: Option<&WayStatus>) -> Option<WayStatus> {
    let old = old.filter(|old| old.kind == way.kind);
    let Some(reachable) = way.reachable else { return old.cloned() };
    // The API keeps whole seconds; anything finer would differ from what is read back.
    let since = Timestamp::from_second(way.since.as_second()).unwrap_or(way.since);
    let since = old.filter(|old| old.reachable == reachable).map_or(Time(since), |old| old.since.clone());
    let (reason, message) = match reachable {
        true => ("Reachable", None),
        false => (way.why.reason(), Some(short(way.why.to_string()))),
    };
    Some(WayStatus { kind: way.kind, reachable, since, reason: reason.to_owned(), message })
}

/// Whether two statuses say the same.
pub fn same(one: &CloudClusterStatus, other: &CloudClusterStatus) -> bool {
    let plain = |status: &CloudClusterStatus| CloudClusterStatus { conditions: Vec::new(), ..status.clone() };
    conditions::same(&one.conditions, &other.conditions) && plain(one) == plain(other)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::api::cloudcluster::WayKind;
    use crate::api::schema::beyond_bounds;
    use crate::cloudcluster::decide::decide;
    use crate::cloudcluster::observe::{Observed, Way};
    use crate::cloudcluster::peer_error::PeerError;
    use crate::cloudcluster::view::{Amount, NodesView, PeerView};
    use crate::runtime::remote::RemoteError;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn site(spec: Value, status: Option<CloudClusterStatus>) -> Arc<Site> {
        let object = json!({"metadata": {"name": "gcp"}, "spec": spec});
        let site = Site::read(serde_json::from_value(object).expect("an object"));
        Arc::new(Site { status, ..site })
    }

    fn after(spec: Value, way: Way, old: Option<CloudClusterStatus>, second: i64) -> CloudClusterStatus {
        let site = site(spec, old);
        let decision = decide(&Observed { site: Arc::clone(&site), way }).expect("something is to be said");
        let status = status(&site, decision, at(second));
        assert_eq!(beyond_bounds("CloudCluster", &status), Vec::<String>::new());
        status
    }

    fn words(status: &CloudClusterStatus) -> Vec<String> {
        status.conditions.iter().map(|c| format!("{}={} {}", c.type_, c.status, c.reason)).collect()
    }

    #[test]
    fn a_status_says_what_is_served_and_settles() {
        let own = || Way::Own("v1.36.3".to_owned());
        let first = after(json!({"residency": ["US"]}), own(), None, 100);
        assert!(first.conditions[0].message.ends_with("it serves data of US"));
        let again = after(json!({"residency": ["US"]}), own(), Some(first.clone()), 200);
        assert_eq!(again, first, "nothing changes while nothing happens");
        assert!(same(&again, &first));
    }

    #[test]
    fn what_cannot_be_read_of_the_own_site_is_told_and_the_rest_is_followed() {
        let own = Way::Own("v1.36.3".to_owned());
        let status = after(json!({"residency": ["US", "APAC"]}), own, None, 100);
        assert_eq!(
            words(&status),
            ["Ready=True OwnSite", "Reconciling=False Settled", "Stalled=True Unreadable"]
        );
        assert_eq!(status.problems[0].source, "spec.residency[1]");
        assert!(status.problems[0].message.contains("APAC"), "{:?}", status.problems);
    }

    /// What is known of a peer with those ways.
    fn peer(ways: &[Result<(), PeerError>]) -> PeerView {
        let way = |heard: &Result<(), PeerError>| WayView {
            kind: WayKind::Kubeconfig,
            reachable: Some(heard.is_ok()),
            since: at(50),
            why: heard.as_ref().err().cloned().unwrap_or(PeerError::NotYet),
        };
        let reachable = Some(ways.iter().any(Result::is_ok));
        let version = reachable.filter(|is| *is).map(|_| "v1.36.3".to_owned());
        let ways = ways.iter().map(way).collect();
        PeerView {
            reachable,
            silent: false,
            since: at(50),
            ways,
            chosen: 0,
            version,
            nodes: None,
            uncounted: None,
        }
    }

    /// A spec with so many ways.
    fn access(count: usize) -> Value {
        let way = json!({"kubeconfig": {"secretRef": {"name": "gcp"}}});
        json!({"residency": ["US"], "access": vec![way; count]})
    }

    fn silence() -> PeerError {
        PeerError::timeout(std::time::Duration::from_secs(5))
    }

    fn refusal() -> PeerError {
        PeerError::answered(RemoteError::Unauthorized, "renew the kubeconfig")
    }

    #[test]
    fn a_peer_that_falls_silent_is_worked_on_and_one_that_refuses_us_needs_a_person() {
        let reached = |heard: Result<(), PeerError>, old: Option<&CloudClusterStatus>, second| {
            after(access(1), Way::Peer(Some(peer(&[heard]))), old.cloned(), second)
        };
        let well = reached(Ok(()), None, 100);
        assert_eq!(
            words(&well),
            ["Ready=True Reachable", "Reconciling=False Settled", "Stalled=False NoProblem"]
        );
        assert_eq!(reached(Ok(()), Some(&well), 200), well, "nothing changes while nothing happens");
        let silent = reached(Err(silence()), Some(&well), 300);
        assert_eq!(
            words(&silent),
            ["Ready=False NoAnswer", "Reconciling=True NoAnswer", "Stalled=False NoProblem"]
        );
        assert_eq!(silent.version.as_deref(), Some("v1.36.3"));
        assert_eq!((silent.ways[0].reachable, &*silent.ways[0].reason), (false, "NoAnswer"));
        assert_eq!(silent.ways[0].message.as_deref(), Some("no answer within 5 s"));
        let refused = reached(Err(refusal()), Some(&well), 400);
        assert_eq!(words(&refused)[2], "Stalled=True Unauthorized");
        assert_eq!(refused.problems, [], "the conditions say it");
    }

    #[test]
    fn a_way_that_is_broken_beside_one_that_works_is_a_problem() {
        let well = after(access(2), Way::Peer(Some(peer(&[Err(refusal()), Ok(())]))), None, 100);
        assert_eq!(words(&well)[0], "Ready=True Reachable");
        let problem = &well.problems[0];
        assert_eq!(problem.source, "spec.access[0].kubeconfig");
        assert!(problem.message.ends_with("renew the kubeconfig"), "{problem:?}");
        let both = after(access(2), Way::Peer(Some(peer(&[Err(refusal()), Err(silence())]))), None, 100);
        assert_eq!(words(&both)[0], "Ready=False NoAnswer");
        assert_eq!(both.problems.len(), 2);
    }

    #[test]
    fn another_process_writes_nothing_until_it_knows_and_since_stays() {
        let first = after(access(1), Way::Peer(Some(peer(&[Ok(())]))), None, 100);
        let mut view = peer(&[Ok(())]);
        (view.reachable, view.ways[0].reachable) = (None, None);
        let site = site(access(1), Some(first.clone()));
        assert_eq!(decide(&Observed { site, way: Way::Peer(Some(view)) }), None);
        let mut later = peer(&[Ok(())]);
        (later.since, later.ways[0].since) = (at(999), at(999));
        let again = after(access(1), Way::Peer(Some(later)), Some(first.clone()), 1000);
        assert_eq!(again, first);
    }

    #[test]
    fn nodes_stay_as_they_were_last_counted() {
        let amount = |cores: i64| Amount { cpu: cores * 1000, memory: cores << 32 };
        let mut view = peer(&[Ok(())]);
        let nodes = NodesView { ready: 5, total: 6, allocatable: amount(96), requested: None, at: at(1) };
        view.nodes = Some(nodes);
        let first = after(access(1), Way::Peer(Some(view)), None, 100);
        let said = first.nodes.clone().expect("nodes");
        assert_eq!((said.ready, said.total, &*said.allocatable.cpu), (5, 6, "96"));
        assert_eq!(after(access(1), Way::Peer(Some(peer(&[Ok(())]))), Some(first.clone()), 200), first);
        let own = after(json!({}), Way::Own("v1".to_owned()), Some(first), 300);
        assert_eq!((own.nodes, own.ways), (None, Vec::new()), "of the own site nothing is said");
    }

    #[test]
    fn who_may_not_count_is_told_what_to_bind() {
        let view = PeerView { uncounted: Some(RemoteError::Forbidden), ..peer(&[Ok(())]) };
        let status = after(access(1), Way::Peer(Some(view)), None, 100);
        assert_eq!(words(&status)[0], "Ready=True Reachable");
        assert!(status.problems[0].remedy.contains("banyan-peer"), "{:?}", status.problems);
    }

    #[test]
    fn what_cannot_be_read_of_a_peer_is_told_too() {
        let spec = json!({"residency": ["US", "APAC"], "access": access(1)["access"]});
        let said = |view: Option<PeerView>| words(&after(spec.clone(), Way::Peer(view), None, 100));
        assert_eq!(said(None)[2], "Stalled=True Unreadable");
        assert_eq!(
            said(Some(peer(&[Ok(())]))),
            ["Ready=True Reachable", "Reconciling=False Settled", "Stalled=True Unreadable"]
        );
        // Who cannot be reached at all is told of first.
        assert_eq!(said(Some(peer(&[Err(refusal())])))[2], "Stalled=True Unauthorized");
    }

    #[test]
    fn the_older_words_are_read_and_the_new_ones_shown() {
        let spec = json!({"kubeconfig": {"secretRef": {"name": "gcp"}}});
        let unknown = after(spec.clone(), Way::Peer(None), None, 100);
        assert_eq!(words(&unknown)[0], "Ready=Unknown NotAsked");
        let status = after(spec, Way::Peer(Some(peer(&[Ok(())]))), Some(unknown), 200);
        assert_eq!(words(&status)[0], "Ready=True Reachable");
        assert_eq!(status.problems[0].source, "spec.kubeconfig");
        assert!(status.problems[0].remedy.contains("access: [{kubeconfig"), "{:?}", status.problems);
    }

    #[test]
    fn of_a_peer_without_a_way_nothing_is_said() {
        let site = site(json!({"residency": ["US"]}), None);
        assert_eq!(decide(&Observed { site, way: Way::Peer(None) }), None);
    }
}
