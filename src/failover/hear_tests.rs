use super::*;
use crate::api::FailoverSpec;
use crate::api::action::{ActionSpec, Target, TargetKind};

fn says(verb: Verb, status: &mut FailoverStatus, stands: &Stands) -> Result<String, String> {
    let spec = FailoverSpec { action: MoveAction::Failover, ..FailoverSpec::default() };
    let failover = Failover::new("move", spec);
    let target = Target { kind: TargetKind::Failover, name: "move".to_owned(), uid: None };
    let spec = ActionSpec {
        target,
        verb,
        release: None,
        gate: None,
        step: None,
        evidence: Some(FenceEvidence::NodesStopped),
        position: None,
        words: None,
    };
    hear(&failover, status, &Action::new("said", spec), stands, Timestamp::UNIX_EPOCH)
}

#[test]
fn an_assertion_counts_once_the_claim_stands_and_closes_the_source() {
    let mut status = FailoverStatus { ballot: Some(17), follows: Some(16), ..FailoverStatus::default() };
    let stores = vec!["db".to_owned()];
    // A source that returned now, and read this site, would serve on.
    let early = Stands { stores: stores.clone(), ..Stands::default() };
    assert!(says(Verb::AssertFenced, &mut status, &early).unwrap_err().contains("say it again"));
    assert!(status.assertion.is_none() && status.stores.is_empty());
    says(Verb::AssertFenced, &mut status, &Stands { presses: true, ..early }).unwrap();
    assert_eq!(status.stores[0].level, Some(FenceLevel::Asserted));
}

#[test]
fn after_the_commit_only_a_greater_claim_lets_it_be_given_up() {
    let committed_at = Some(Time(Timestamp::UNIX_EPOCH));
    let mut status = FailoverStatus { committed_at, ..FailoverStatus::default() };
    assert!(says(Verb::Abort, &mut status, &Stands::default()).is_err());
    says(Verb::Abort, &mut status, &Stands { outbid: true, ..Stands::default() }).unwrap();
    assert_eq!(status.aborted, Some(true));
}
