use super::*;
use crate::api::FailoverSpec;
use crate::failover::journal::Journal;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).expect("a time")
}

#[test]
fn a_step_is_begun_once_and_ended_by_the_next_one() {
    let mut status = FailoverStatus::default();
    begin(&mut status, Step::Claim, at(1));
    did(&mut status, Step::Claim, "claimed".to_owned(), Duration::from_millis(20), at(1));
    begin(&mut status, Step::Fence, at(3));
    assert_eq!(status.message.as_deref(), Some("closes the stores of the source"));
    assert_eq!(status.steps[0].ended_at, Some(Time(at(3))));
    assert_eq!(status.steps[0].millis, Some(20));
    begin(&mut status, Step::Claim, at(4));
    assert_eq!((status.steps.len(), &status.steps[0].started_at), (2, &Time(at(1))));
    assert_eq!(status.phase, Some(Phase::Preparing));
    opened(&mut status, Some(at(1)), true, at(9));
    let took = Took {
        until_open: Some(8000),
        without_writes: Some(6000),
        since_outage: None,
        waited_for_people: Some(0),
    };
    assert_eq!(status.took, Some(took));
}

#[test]
fn an_order_that_was_overtaken_before_anybody_looked_was_committed_all_the_same() {
    let own = |epoch, follows| AuthoritySpec { epoch, follows, ..AuthoritySpec::default() };
    let noted = |own: AuthoritySpec| {
        let mut status = FailoverStatus { ballot: Some(400), ..FailoverStatus::default() };
        (commits(&mut status, Some(&own), at(1)), commits(&mut status, Some(&own), at(2)))
    };
    assert_eq!(noted(own(400, 385)), (true, false));
    assert_eq!(noted(own(401, 400)), (true, false));
    assert_eq!(noted(own(385, 384)), (false, false));
}

#[test]
fn what_was_done_at_last_asks_nobody_any_more() {
    let mut status = FailoverStatus::default();
    let wait = Wait { reason: "NotFenced", message: "why".to_owned(), next: Some("assert".to_owned()) };
    waits(&mut status, Step::Fence, &wait, at(1));
    assert_eq!((status.phase, status.next.as_deref()), (Some(Phase::Waiting), Some("assert")));
    did(&mut status, Step::Fence, "closed".to_owned(), Duration::ZERO, at(2));
    assert_eq!((status.phase, status.next, status.reason), (Some(Phase::Fencing), None, None));
}

#[test]
fn the_time_of_people_is_counted_apart_from_that_of_pods() {
    let mut status = FailoverStatus::default();
    let served = crate::api::record::LastServed { at: Time(at(-60)), by: "a heartbeat".to_owned() };
    status.last_served = Some(served);
    let says = |reason, next: Option<&str>| Wait {
        reason,
        message: "why".to_owned(),
        next: next.map(str::to_owned),
    };
    waits(&mut status, Step::Fence, &says("NotFenced", Some("assert")), at(10));
    // Looked at again, and tried once more: it is one wait.
    begin(&mut status, Step::Fence, at(12));
    waits(&mut status, Step::Fence, &says("NotFenced", Some("assert")), at(12));
    assert_eq!(status.reason.as_deref(), Some("NotFenced"));
    assert_eq!(status.waits[0].since, Some(Time(at(10))));
    begin(&mut status, Step::CatchUp, at(30));
    assert_eq!((status.reason.as_deref(), status.waits[0].millis), (None, 20_000));
    waits(&mut status, Step::Capacity, &says("NoCapacity", Some("skip")), at(30));
    waits(&mut status, Step::Fence, &says("NotFenced", Some("assert")), at(90));
    did(&mut status, Step::Fence, "closed".to_owned(), Duration::ZERO, at(95));
    opened(&mut status, Some(at(0)), false, at(100));
    let took = status.took.clone().unwrap_or_default();
    assert_eq!((took.until_open, took.since_outage), (Some(100_000), Some(160_000)));
    assert_eq!(took.waited_for_people, Some(25_000), "{:?}", status.waits);
    assert!(status.waits.iter().all(|wait| wait.since.is_none()));
}

#[test]
fn a_record_that_cannot_be_written_is_a_problem_and_holds_nothing_up() {
    let record = crate::api::record::RecordStatus { error: Some("no room".to_owned()), ..Default::default() };
    let status =
        FailoverStatus { phase: Some(Phase::Fencing), record: Some(record), ..FailoverStatus::default() };
    let status = concluded(&Failover::new("move", FailoverSpec::default()), status, at(1));
    assert!(status.problems[0].message.contains("no room"), "{:?}", status.problems);
    let stalled = status.conditions.iter().find(|one| one.type_ == "Stalled");
    assert_eq!(stalled.map(|one| one.status.as_str()), Some("False"));
}

#[test]
fn a_try_that_failed_is_none_whatever_is_waited_for_next() {
    let mut status = FailoverStatus::default();
    let fails = Wait { reason: "ApplicationFails", message: "500".to_owned(), next: Some("skip".to_owned()) };
    begin(&mut status, Step::Try, at(1));
    waits(&mut status, Step::Try, &fails, at(1));
    let pods = Wait { reason: "NoCapacity", message: "a pod is gone".to_owned(), next: None };
    waits(&mut status, Step::Capacity, &pods, at(2));
    assert!(status.steps[0].ended_at.is_some(), "it is not the step that is taken");
    assert!(!Journal::of(MoveAction::Failover, &status, |_| None).tried);
}

#[test]
fn a_move_that_takes_longer_than_its_group_allows_is_late_until_it_serves() {
    let mut status = FailoverStatus { late_at: Some(Time(at(60))), ..FailoverStatus::default() };
    begin(&mut status, Step::Fence, at(1));
    let failover = Failover::new("move", FailoverSpec::default());
    let said = |status: &FailoverStatus, now: i64| concluded(&failover, status.clone(), at(now));
    assert_eq!(lateness(Some(&said(&status, 59))), None);
    let words = said(&status, 61);
    assert!(lateness(Some(&words)).is_some_and(|words| words.contains("is at fence")));
    begin(&mut status, Step::Reprotect, at(62));
    assert_eq!(lateness(Some(&said(&status, 63))), None, "it serves");
}

#[test]
fn what_is_measured_is_of_moves_and_rehearsals_that_are_done() {
    let mut status = FailoverStatus::default();
    begin(&mut status, Step::Capacity, at(1));
    did(&mut status, Step::Capacity, "asked for".to_owned(), Duration::from_millis(5), at(1));
    begin(&mut status, Step::CatchUp, at(4));
    did(&mut status, Step::CatchUp, "it is here".to_owned(), Duration::from_millis(30), at(4));
    let spec = FailoverSpec { action: MoveAction::Rehearsal, ..FailoverSpec::default() };
    let failover = Failover::new("rehearsed", spec);
    assert_eq!(measured(&failover, &status), None);
    over(&mut status, Phase::Done, "rehearsed", at(5));
    let measured = measured(&failover, &status).expect("it was measured");
    assert_eq!((measured.by.as_str(), measured.at), ("rehearsed", at(5)));
    assert_eq!(measured.steps, [("capacity".to_owned(), 3000), ("catch-up".to_owned(), 30)]);
    let plan = Failover::new("plan", FailoverSpec { action: MoveAction::Plan, ..FailoverSpec::default() });
    assert_eq!(super::measured(&plan, &status), None);
}

#[test]
fn who_waits_for_a_person_says_what_to_type() {
    let mut status = FailoverStatus::default();
    let wait = Wait { reason: "DataLoss", message: "it lacks".to_owned(), next: Some("type".to_owned()) };
    waits(&mut status, Step::CatchUp, &wait, at(1));
    let mut comes = FailoverStatus::default();
    waits(&mut comes, Step::Capacity, &Wait { reason: "NoCapacity", ..wait.clone() }, at(1));
    assert_eq!((comes.phase, comes.next.as_deref()), (Some(Phase::Preparing), Some("type")));
    let status = concluded(&Failover::new("move", FailoverSpec::default()), status, at(1));
    assert_eq!(status.phase, Some(Phase::Waiting));
    assert_eq!(status.problems[0].remedy, "type `type`");
    let stalled = status.conditions.iter().find(|one| one.type_ == "Stalled");
    assert_eq!(stalled.map(|one| one.status.as_str()), Some("True"));
    let mut status = status;
    over(&mut status, Phase::Done, "all is here", at(2));
    let status = concluded(&Failover::new("move", FailoverSpec::default()), status, at(2));
    assert!(status.problems.is_empty() && status.steps[0].ended_at.is_some());
}

#[test]
fn what_a_step_waited_for_is_no_news_once_it_is_over_and_hooks_that_were_called_are_named() {
    let mut status = FailoverStatus::default();
    begin(&mut status, Step::Capacity, at(1));
    let wait = Wait { reason: "NoCapacity", message: "ledger needs 3".to_owned(), next: None };
    waits(&mut status, Step::Capacity, &wait, at(2));
    begin(&mut status, Step::Claim, at(3));
    assert_eq!(status.steps[0].message, "it waited: ledger needs 3");
    hook(&mut status, "drain", at(4));
    let mut done = status.clone();
    over(&mut done, Phase::Done, "gcp serves", at(5));
    assert_eq!(done.message.as_deref(), Some("gcp serves"));
    over(&mut status, Phase::Aborted, "it was given up", at(5));
    let said = status.message.unwrap_or_default();
    assert!(said.starts_with("it was given up; hooks were called") && said.ends_with(": drain"), "{said}");
}

#[test]
fn a_token_of_a_former_claim_promotes_nobody() {
    let mut status = FailoverStatus { ballot: Some(17), ..FailoverStatus::default() };
    store(&mut status, "db").token = Some("left for 17".to_owned());
    let act = Act::Claim { ballot: 33, follows: 16, fence: true, by_witness: false };
    begins(&mut status, Step::Claim, &act, at(1));
    assert_eq!((status.ballot, &status.stores[0].token), (Some(33), &None));
}
