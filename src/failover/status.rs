//! The status of a Failover, which is its journal: what is written before and after each act. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::view::{Act, Wait};
use crate::api::authority::AuthoritySpec;
use crate::api::conditions::{Says, Standing, short};
use crate::api::failover::{MoveAction, Phase, StepRecord, StoreRecord, Took};
use crate::api::labels::SAID_BY_ANNOTATION;
use crate::api::record::WaitRecord;
use crate::api::step::Step;
use crate::api::{Failover, FailoverGroupSpec, FailoverStatus, Problem};
use crate::failovergroup::measured::Measured;

/// The phase that a step belongs to.
fn phase_of(step: Step) -> Phase {
    match step {
        Step::Preflight | Step::Turn | Step::Claim | Step::Capacity | Step::Approval => Phase::Preparing,
        Step::Fence | Step::CatchUp | Step::Try | Step::Commit => Phase::Fencing,
        Step::Promote | Step::Open => Phase::Opening,
        Step::Reprotect => Phase::Reprotecting,
        Step::Undo | Step::Shrink => Phase::Undoing,
    }
}

fn millis(from: Timestamp, to: Timestamp) -> i64 {
    i64::try_from(to.duration_since(from).as_millis()).unwrap_or(i64::MAX).max(0)
}

/// The record of a step, begun where it was not.
fn record(status: &mut FailoverStatus, step: Step, now: Timestamp) -> &mut StepRecord {
    let name = step.as_str();
    let place = status.steps.iter().position(|record| record.name == name).unwrap_or_else(|| {
        let begun = StepRecord {
            name: name.to_owned(),
            message: String::new(),
            started_at: Time(now),
            ended_at: None,
            millis: None,
        };
        status.steps.push(begun);
        status.steps.len() - 1
    });
    &mut status.steps[place]
}

/// What is remembered from the beginning: from where and where to, who ordered it, and from when on it is late.
pub fn begun(
    status: &mut FailoverStatus,
    failover: &Failover,
    (site, group): (&str, &FailoverGroupSpec),
    own: Option<&AuthoritySpec>,
) {
    let ordered = failover.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let late = ordered.and_then(|ordered| ordered.checked_add(group.deadline()).ok());
    status.late_at = late.map(Time).filter(|_| failover.spec.action.moves());
    let notes = failover.metadata.annotations.as_ref();
    status.by = notes.and_then(|all| all.get(SAID_BY_ANNOTATION)).cloned();
    status.to = Some(site.to_owned());
    status.from = own.iter().flat_map(|own| own.holders.clone()).collect();
}

/// Takes down that it is committed, by what this site's Authority shows; true the first time. Also where the witness had
/// decided, and the reconciler of the group was first to write that down; and where the epoch that followed was there before
/// anybody looked.
pub fn commits(status: &mut FailoverStatus, own: Option<&AuthoritySpec>, now: Timestamp) -> bool {
    let was_epoch = |ballot: i64| own.is_some_and(|own| own.epoch == ballot || own.follows == ballot);
    let news = status.committed_at.is_none() && status.ballot.is_some_and(was_epoch);
    if news {
        status.committed_at = Some(Time(now));
    }
    news
}

/// A step is taken, or taken on: those before it are done.
pub fn begin(status: &mut FailoverStatus, step: Step, now: Timestamp) {
    // What is tried once more at the same step still waits for the same.
    if status.step.as_deref() != Some(step.as_str()) {
        goes_on(status, now);
    }
    for before in &mut status.steps {
        if before.name != step.as_str() && before.ended_at.is_none() {
            before.ended_at = Some(Time(now));
        }
    }
    let record = record(status, step, now);
    record.ended_at = None;
    if status.step.as_deref() != Some(step.as_str()) {
        // What was said last is of another step.
        status.message = Some(step.doing().to_owned());
    }
    status.step = Some(step.as_str().to_owned());
    status.phase = Some(phase_of(step));
    status.next = None;
}

/// An act is written down before it is carried out. What is tried once more while it waits for a person stands there already,
/// and what that person is to type stays.
pub fn begins(status: &mut FailoverStatus, step: Step, act: &Act, now: Timestamp) {
    if !is_tried_again(status, step) {
        begin(status, step, now);
    }
    match act {
        Act::Claim { ballot, follows, .. } => {
            if status.ballot.is_some_and(|former| former != *ballot) {
                claims_anew(status);
            }
            (status.ballot, status.follows) = (Some(*ballot), Some(*follows));
        }
        // Whoever gives the move up later must know that the source is without nodes by it.
        Act::Stop => status.nodes.iter_mut().for_each(|nodes| {
            nodes.ordered_at.get_or_insert(Time(now));
        }),
        _ => {}
    }
}

/// What is known of the source was made sure of with the former claim, which is over.
fn claims_anew(status: &mut FailoverStatus) {
    status.assertion = None;
    for store in &mut status.stores {
        (store.level, store.sealed, store.evidence) = (None, None, None);
        (store.frozen, store.complete) = (None, None);
    }
}

/// Whether it waits for a person, and a step that was begun before is only tried once more.
fn is_tried_again(status: &FailoverStatus, step: Step) -> bool {
    let begun = status.steps.iter().any(|record| record.name == step.as_str());
    status.phase == Some(Phase::Waiting) && begun
}

/// Something of a step was done, which took so long.
pub fn did(status: &mut FailoverStatus, step: Step, words: String, took: Duration, now: Timestamp) {
    let words = short(words);
    goes_on(status, now);
    let record = record(status, step, now);
    let took = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
    record.millis = Some(record.millis.unwrap_or(0).saturating_add(took));
    record.message.clone_from(&words);
    status.message = Some(words);
    // Whatever it waited for at this step is over.
    status.phase = Some(phase_of(step));
    status.next = None;
}

/// What usually comes by itself. A person may leave it out, and is not waited for.
const BY_ITSELF: [&str; 4] = ["NoCapacity", "NodesStopping", "NotItsTurn", "NotProtected"];

/// It waits for nothing any more.
fn goes_on(status: &mut FailoverStatus, now: Timestamp) {
    for wait in &mut status.waits {
        if let Some(since) = wait.since.take() {
            wait.millis = wait.millis.saturating_add(millis(since.0, now));
        }
    }
    status.reason = None;
}

/// It waits for this, or goes on doing so.
fn waits_for(status: &mut FailoverStatus, step: Step, reason: &str, person: bool, now: Timestamp) {
    if status.reason.as_deref() != Some(reason) {
        goes_on(status, now);
        status.reason = Some(reason.to_owned());
    }
    let place = status.waits.iter().position(|wait| wait.reason == reason).unwrap_or_else(|| {
        let (reason, step) = (reason.to_owned(), step.as_str().to_owned());
        status.waits.push(WaitRecord { reason, step, since: None, millis: 0, person: None });
        status.waits.len() - 1
    });
    let wait = &mut status.waits[place];
    wait.since.get_or_insert(Time(now));
    wait.person = wait.person.or(person.then_some(true));
}

/// It waits.
pub fn waits(status: &mut FailoverStatus, step: Step, wait: &Wait, now: Timestamp) {
    begin(status, step, now);
    let message = short(wait.message.clone());
    record(status, step, now).message.clone_from(&message);
    status.message = Some(message);
    status.next.clone_from(&wait.next);
    let person = wait.next.is_some() && !BY_ITSELF.contains(&wait.reason);
    if person {
        status.phase = Some(Phase::Waiting);
    }
    waits_for(status, step, wait.reason, person, now);
}

/// It is over.
pub fn over(status: &mut FailoverStatus, phase: Phase, words: &str, now: Timestamp) {
    goes_on(status, now);
    for step in status.steps.iter_mut().filter(|step| step.ended_at.is_none()) {
        step.ended_at = Some(Time(now));
    }
    status.phase = Some(phase);
    status.step = None;
    status.next = None;
    status.paused = None;
    if !words.is_empty() {
        status.message = Some(short(words));
    }
}

/// The record of a store, made where there is none.
pub fn store<'a>(status: &'a mut FailoverStatus, name: &str) -> &'a mut StoreRecord {
    let place = status.stores.iter().position(|record| record.name == name).unwrap_or_else(|| {
        status.stores.push(StoreRecord { name: name.to_owned(), ..StoreRecord::default() });
        status.stores.len() - 1
    });
    &mut status.stores[place]
}

/// All stores are open here: what it took since the order, since the first store was closed, and, where the source was not
/// there to be closed, since it was last known to serve.
pub fn opened(status: &mut FailoverStatus, ordered: Option<Timestamp>, planned: bool, now: Timestamp) {
    let fenced = status.steps.iter().find(|step| step.name == Step::Fence.as_str());
    let without_writes = fenced.map(|step| millis(step.started_at.0, now));
    let served = status.last_served.as_ref().filter(|_| !planned);
    let asked = status.waits.iter().filter(|wait| wait.person == Some(true));
    let waited: i64 = asked
        .map(|wait| wait.millis.saturating_add(wait.since.as_ref().map_or(0, |since| millis(since.0, now))))
        .sum();
    status.took = Some(Took {
        until_open: ordered.map(|ordered| millis(ordered, now)),
        without_writes,
        since_outage: served.map(|served| millis(served.at.0, now)),
        waited_for_people: Some(waited),
    });
}

/// The conditions and problems that follow from the rest.
pub fn concluded(failover: &Failover, mut status: FailoverStatus, now: Timestamp) -> FailoverStatus {
    let words = status.message.clone().unwrap_or_default();
    let phase = status.phase.unwrap_or(Phase::Preparing);
    let reason = phase.as_str();
    let standing = match phase {
        Phase::Done | Phase::Aborted | Phase::Superseded => Standing {
            ready: Says::yes(reason, words.clone()),
            reconciling: Says::no(reason, ""),
            stalled: Says::no_problem(),
        },
        Phase::Refused | Phase::Waiting => Standing {
            ready: Says::no(reason, words.clone()),
            reconciling: Says::no(reason, ""),
            stalled: Says::yes(reason, words.clone()),
        },
        _ => Standing {
            ready: Says::no(reason, words.clone()),
            reconciling: Says::yes(reason, words.clone()),
            stalled: Says::no_problem(),
        },
    };
    let generation = failover.metadata.generation;
    let old = failover.status.as_ref().map(|old| old.conditions.as_slice()).unwrap_or_default();
    status.conditions = standing.conditions(old, generation, now);
    status.observed_generation = generation;
    status.problems = match (&status.next, phase) {
        (Some(next), Phase::Waiting) => {
            let step = status.step.clone().unwrap_or_default();
            vec![Problem::error(format!("status.steps[{step}]"), words, format!("type `{next}`"))]
        }
        _ => Vec::new(),
    };
    status.problems.extend(late(&status, phase, now));
    let unwritten = status.record.as_ref().and_then(|record| record.error.as_ref());
    status.problems.extend(unwritten.map(|error| {
        let remedy = "see docs/audit.md; the move goes on without it, what is missing is kept in status.record.pending, \
                      and it is tried again";
        Problem::warning("status.record", format!("the record of the group is not written: {error}"), remedy)
    }));
    status
}

/// What a problem is about that says that a move is late.
const LATE: &str = "status.lateAt";

/// What is said of a move that takes longer than its group allows.
fn late(status: &FailoverStatus, phase: Phase, now: Timestamp) -> Option<Problem> {
    let since = status.late_at.as_ref().filter(|at| at.0 <= now)?;
    // Once this site serves, what is left holds nobody up.
    if phase.is_over() || phase == Phase::Reprotecting {
        return None;
    }
    let step = status.step.as_deref().unwrap_or("the first step");
    let message = format!(
        "it is late since {}: it should have been done within spec.deadline of the FailoverGroup, and is at {step}",
        since.0
    );
    let remedy = match &status.next {
        Some(next) => format!("type `{next}` if its sentence is true"),
        None => "see status.message for what it waits for".to_owned(),
    };
    Some(Problem::warning(LATE, message, remedy))
}

/// What was said of a move that is late, in this status.
pub fn lateness(status: Option<&FailoverStatus>) -> Option<&str> {
    let problems = status.map(|status| status.problems.as_slice()).unwrap_or_default();
    problems.iter().find(|problem| problem.source == LATE).map(|problem| problem.message.as_str())
}

/// How long each step took, of an order that is done; `None` of one that measured nothing.
pub fn measured(failover: &Failover, status: &FailoverStatus) -> Option<Measured> {
    let at = status.steps.iter().filter_map(|step| step.ended_at.as_ref()).map(|at| at.0).max()?;
    let done = status.phase == Some(Phase::Done) && failover.spec.action != MoveAction::Plan;
    // What is waited for by itself belongs to these; at others people were waited for.
    let by_itself = [Step::Capacity.as_str(), Step::Reprotect.as_str()];
    let steps = status.steps.iter().filter_map(|step| {
        let whole = step.ended_at.as_ref().map(|ended| millis(step.started_at.0, ended.0));
        let took = if by_itself.contains(&step.name.as_str()) { whole } else { step.millis.or(Some(0)) };
        Some((step.name.clone(), took?))
    });
    done.then(|| Measured { by: failover.name_any(), at, steps: steps.collect() })
}

#[cfg(test)]
mod tests {
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
        let record =
            crate::api::record::RecordStatus { error: Some("no room".to_owned()), ..Default::default() };
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
        let fails =
            Wait { reason: "ApplicationFails", message: "500".to_owned(), next: Some("skip".to_owned()) };
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
        let plan =
            Failover::new("plan", FailoverSpec { action: MoveAction::Plan, ..FailoverSpec::default() });
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
}
