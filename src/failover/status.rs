//! The status of a Failover, which is its journal: what is written before and after each act. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::view::{Act, Wait};
use crate::api::authority::AuthoritySpec;
use crate::api::conditions::{Says, Standing, short};
use crate::api::failover::{HookRecord, MoveAction, Phase, StepRecord, StoreRecord, Took};
use crate::api::labels::SAID_BY_ANNOTATION;
use crate::api::record::WaitRecord;
use crate::api::step::Step;
use crate::api::{Failover, FailoverGroupSpec, FailoverStatus, Problem};
use crate::failovergroup::measured::Measured;

/// The phase that a step belongs to.
fn phase_of(step: Step) -> Phase {
    match step {
        Step::Preflight | Step::Turn | Step::Claim | Step::Capacity | Step::Approval | Step::BeforeFence => {
            Phase::Preparing
        }
        Step::Fence | Step::CatchUp | Step::Try | Step::Commit => Phase::Fencing,
        Step::Promote | Step::BeforeOpen | Step::Open => Phase::Opening,
        Step::AfterTraffic | Step::Reprotect => Phase::Reprotecting,
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
    let waited = waits_now(status);
    // What is tried once more at the same step still waits for the same.
    if status.step.as_deref() != Some(step.as_str()) {
        goes_on(status, now);
    }
    end_steps(status, waited.as_ref(), Some(step), now);
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

/// What it says that it waits for.
fn waits_now(status: &FailoverStatus) -> Option<String> {
    status.message.clone().filter(|_| status.reason.is_some())
}

/// All steps are done but that one. What the last one waited for is no news any more.
fn end_steps(status: &mut FailoverStatus, waited: Option<&String>, but: Option<Step>, now: Timestamp) {
    let but = but.map(Step::as_str);
    for step in status.steps.iter_mut().filter(|step| step.ended_at.is_none() && Some(&*step.name) != but) {
        step.ended_at = Some(Time(now));
        if waited == Some(&step.message) {
            step.message = short(format!("it waited: {}", step.message));
        }
    }
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
        // It is waited for from here on.
        Act::Call(hook) => {
            self::hook(status, hook, now);
        }
        _ => {}
    }
}

/// What is known of the source was made sure of with the former claim, which is over.
fn claims_anew(status: &mut FailoverStatus) {
    status.assertion = None;
    for store in &mut status.stores {
        (store.level, store.sealed, store.evidence) = (None, None, None);
        // A token speaks for the demotion that the former claim ordered.
        (store.token, store.frozen, store.complete) = (None, None, None);
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
const BY_ITSELF: [&str; 5] = ["HookRunning", "NoCapacity", "NodesStopping", "NotItsTurn", "NotProtected"];

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
    let waited = waits_now(status);
    goes_on(status, now);
    end_steps(status, waited.as_ref(), None, now);
    status.phase = Some(phase);
    status.step = None;
    status.next = None;
    status.paused = None;
    if words.is_empty() {
        return;
    }
    let called: Vec<&str> = status.hooks.iter().map(|hook| &*hook.name).collect();
    status.message = Some(short(match (phase, called.is_empty()) {
        // Nobody is told to undo what hooks did.
        (Phase::Aborted | Phase::Superseded, false) => {
            format!(
                "{words}; hooks were called: what they have stopped must be started again: {}",
                called.join(", ")
            )
        }
        _ => words.to_owned(),
    }));
}

/// The record of a store, made where there is none.
pub fn store<'a>(status: &'a mut FailoverStatus, name: &str) -> &'a mut StoreRecord {
    let place = status.stores.iter().position(|record| record.name == name).unwrap_or_else(|| {
        status.stores.push(StoreRecord { name: name.to_owned(), ..StoreRecord::default() });
        status.stores.len() - 1
    });
    &mut status.stores[place]
}

/// The record of a hook, made where there is none: it is about to be called.
pub fn hook<'a>(status: &'a mut FailoverStatus, name: &str, now: Timestamp) -> &'a mut HookRecord {
    let place = status.hooks.iter().position(|record| record.name == name).unwrap_or_else(|| {
        status.hooks.push(HookRecord {
            name: name.to_owned(),
            started_at: Time(now),
            ended_at: None,
            failed: None,
            message: None,
        });
        status.hooks.len() - 1
    });
    &mut status.hooks[place]
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
    let by_itself =
        [Step::Capacity, Step::BeforeFence, Step::BeforeOpen, Step::AfterTraffic, Step::Reprotect]
            .map(Step::as_str);
    let steps = status.steps.iter().filter_map(|step| {
        let whole = step.ended_at.as_ref().map(|ended| millis(step.started_at.0, ended.0));
        let took = if by_itself.contains(&step.name.as_str()) { whole } else { step.millis.or(Some(0)) };
        Some((step.name.clone(), took?))
    });
    done.then(|| Measured { by: failover.name_any(), at, steps: steps.collect() })
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
