use super::*;
use crate::api::FailoverSpec;
use crate::api::action::{ActionSpec, Target, TargetKind};

fn says(verb: Verb, status: &mut FailoverStatus, stands: &Stands) -> Result<String, String> {
    let spec = FailoverSpec { action: MoveAction::Failover, ..FailoverSpec::default() };
    says_to(&Failover::new("move", spec), verb, status, stands)
}

fn says_to(
    failover: &Failover,
    verb: Verb,
    status: &mut FailoverStatus,
    stands: &Stands,
) -> Result<String, String> {
    let target = Target { kind: TargetKind::Failover, name: "move".to_owned(), uid: None };
    let spec = ActionSpec {
        target,
        verb,
        release: None,
        gate: None,
        step: None,
        store: None,
        evidence: Some(FenceEvidence::NodesStopped),
        position: None,
        words: None,
    };
    hear(failover, status, &Action::new("said", spec), stands, Timestamp::UNIX_EPOCH)
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

#[test]
fn what_changes_nothing_is_refused_rather_than_noted() {
    let mut status = FailoverStatus::default();
    let said = |verb: Verb, status: &mut FailoverStatus| says(verb, status, &Stands::default()).unwrap_err();
    assert!(said(Verb::Resume, &mut status).contains("nobody has paused it"));
    assert!(said(Verb::AcceptDataLoss, &mut status).contains("no loss to accept"));
    // A Switchover that is committed needs its source for nothing: it would be on record as one after an outage.
    status.committed_at = Some(Time(Timestamp::UNIX_EPOCH));
    let switchover = Failover::new("move", FailoverSpec::default());
    let refused = says_to(&switchover, Verb::Force, &mut status, &Stands::default()).unwrap_err();
    assert!(refused.contains("does not wait for the source") && status.forced.is_none(), "{refused}");
}

#[test]
fn a_store_is_left_out_after_the_commit_and_only_where_the_group_says_that_it_may() {
    let named = ["cards", "ledger"].map(str::to_owned).to_vec();
    let stands = Stands { stores: named, optional: vec!["cards".to_owned()], ..Stands::default() };
    let mut status = FailoverStatus::default();
    let mut skip = |committed: bool, store: &str| {
        status.committed_at = committed.then_some(Time(Timestamp::UNIX_EPOCH));
        skip_store(&mut status, store, committed, &stands)
    };
    assert!(skip(false, "cards").unwrap_err().contains("until the commit"));
    assert!(skip(true, "ledger").unwrap_err().contains("required: false"));
    assert!(skip(true, "gone").unwrap_err().contains("it has cards, ledger"));
    assert!(skip(true, "cards").is_ok_and(|words| words.contains("order a Failover here")));
    assert_eq!(status.stores[0].skipped, Some(true));
    status.stores[0].opened = Some(true);
    assert!(skip_store(&mut status, "cards", true, &stands).unwrap_err().contains("open here already"));
}
