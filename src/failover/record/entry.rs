//! Which entries follow from a change of a Failover's status. Pure.
//!
//! An entry tells of something that happens once, or once for each reason: so a move makes a bounded number of them, however
//! often it is tried.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use serde::Serialize;

use super::size::Size;
use crate::actions::hear::{id, said_by};
use crate::api::action::{FenceEvidence, SkippedStep};
use crate::api::conditions::cut;
use crate::api::failover::{FenceLevel, MoveAction, NodesRecord, Phase, StepRecord, StoreRecord};
use crate::api::failovergroup::CheckState;
use crate::api::labels::SAID_BY_ANNOTATION;
use crate::api::record::LastServed;
use crate::api::step::Step;
use crate::api::{Action, Failover, FailoverStatus};

/// The most checks that an entry names, of each kind.
const MOST_CHECKS: usize = 32;
/// The longest sentence of a check in an entry.
const LONGEST_FOUND: usize = 300;

/// Something that is put on record.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all_fields = "camelCase")]
pub enum Event {
    /// A person ordered a move.
    Ordered {
        /// Who, by the name that the API server wrote; absent where it writes none.
        by: Option<String>,
        /// What.
        action: MoveAction,
        /// Why.
        reason: String,
        /// The ticket.
        ticket: Option<String>,
        /// When.
        ordered_at: Option<String>,
    },
    /// An operator began with it.
    Begun {
        /// The sites that had authority.
        from: Vec<String>,
        /// The site that takes over.
        to: Option<String>,
        /// Digest of the group's spec.
        digest: Option<String>,
        /// When the source was last known to serve.
        last_served: Option<Served>,
    },
    /// What standing readiness found right before the claim.
    Preflight {
        /// The checks that passed.
        passed: Vec<String>,
        /// Those that did not.
        found: Vec<Finding>,
        /// Steps that a person had left out by then.
        skipped: Vec<String>,
    },
    /// A person said something in mid-course.
    Heard {
        /// The Action, by its name.
        action: String,
        /// And by its UID.
        id: String,
        /// Who, by the name that the API server wrote; absent where it writes none.
        by: Option<String>,
        /// What.
        verb: &'static str,
        /// Of which step.
        step: Option<&'static str>,
        /// Of which store.
        store: Option<String>,
        /// How they know.
        evidence: Option<&'static str>,
        /// Which position.
        position: Option<String>,
        /// Why, in their words.
        words: Option<String>,
        /// Whether it was carried out; else it was refused.
        carried_out: bool,
        /// What it was answered.
        answer: String,
    },
    /// A claim is made.
    Claims {
        /// Its ballot.
        ballot: i64,
        /// The epoch that it is to follow.
        follows: Option<i64>,
    },
    /// A step is begun.
    StepBegan {
        /// Its name.
        step: String,
    },
    /// A step is over.
    StepEnded {
        /// Its name.
        step: String,
        /// When it was begun.
        began_at: String,
        /// When it was over.
        ended_at: String,
        /// How long something was being done in it.
        worked_millis: Option<i64>,
        /// What came of it.
        outcome: String,
    },
    /// It waits, for the first time for this reason.
    Waits {
        /// Why, in one word.
        reason: String,
        /// At which step.
        step: String,
        /// Why, in a sentence.
        message: Option<String>,
        /// Whether a person is asked.
        person: bool,
    },
    /// A store of the source counts as closed.
    Fenced {
        /// The store.
        store: String,
        /// By which level.
        level: FenceLevel,
        /// What speaks for it.
        evidence: Option<String>,
        /// Where its log ended.
        sealed: Option<String>,
    },
    /// A store of the source was opened again, after the claim was given up.
    Lifted {
        /// The store.
        store: String,
    },
    /// A store of the source counted as closed since no node was left there, and some are there again.
    NodesBack {
        /// The store.
        store: String,
    },
    /// The nodes of the source, as its cloud told of them first.
    NodesFound {
        /// The site.
        site: String,
        /// Its cluster.
        cluster: String,
        /// Its node groups or node pools, with their sizes.
        pools: Vec<Size>,
    },
    /// It begins to scale them to zero.
    NodesStopping {
        /// The site.
        site: String,
        /// Its cluster.
        cluster: String,
    },
    /// How far a store is here.
    Reached {
        /// The store.
        store: String,
        /// Whether all that was acknowledged at the source is here; absent where nobody knows.
        complete: Option<bool>,
        /// Where it took in no more.
        position: Option<String>,
        /// How old the newest of what is here was.
        lag_millis: Option<i64>,
    },
    /// This site has authority.
    Committed {
        /// The epoch.
        epoch: Option<i64>,
        /// The one before.
        follows: Option<i64>,
    },
    /// A store was promoted here.
    Promoted {
        /// The store.
        store: String,
    },
    /// A store was written to, read back, and opened for applications here.
    StoreOpened {
        /// The store.
        store: String,
    },
    /// All stores are open here: what it took, and what was lost.
    Opened {
        /// From the order, in milliseconds.
        since_order_millis: Option<i64>,
        /// From when the source was last known to serve, where it did not serve until it was closed.
        since_outage_millis: Option<i64>,
        /// From when that was until the order: the time of deciding.
        outage_to_order_millis: Option<i64>,
        /// Of the time since the order, how long it waited for people.
        waited_for_people_millis: Option<i64>,
        /// From the first store that was closed.
        without_writes_millis: Option<i64>,
        /// Whether of each store all that was acknowledged is here.
        complete: bool,
        /// The stores of which that is not known.
        incomplete: Vec<Loss>,
        /// Who accepted that.
        loss_accepted_by: Option<String>,
    },
    /// It is over.
    Over {
        /// How it ended.
        phase: &'static str,
        /// Why.
        message: Option<String>,
        /// Whether this site has authority by it.
        committed: bool,
        /// Steps that people left out.
        skipped: Vec<String>,
        /// What it waited for.
        waited: Vec<Waited>,
    },
    /// Entries were left out, because the record could not be written for too long.
    Missed {
        /// How many.
        count: i64,
    },
}

/// When a source was last known to serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Served {
    /// When.
    pub at: String,
    /// By what that is known.
    pub by: String,
}

/// A check that did not pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was checked.
    pub name: String,
    /// How it stood.
    pub state: &'static str,
    /// What was found.
    pub message: String,
}

/// A store of which not all may be here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Loss {
    /// The store.
    pub store: String,
    /// Up to where it is here.
    pub position: Option<String>,
    /// How old the newest of what is here was.
    pub lag_millis: Option<i64>,
}

/// What was waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Waited {
    /// Why, in one word.
    pub reason: String,
    /// How long, in milliseconds; to the second.
    pub millis: i64,
    /// Whether a person was asked.
    pub person: bool,
}

/// A moment, to the second, as a status has it.
fn moment(time: &Time) -> String {
    time.0.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn served(seen: &LastServed) -> Served {
    Served { at: moment(&seen.at), by: seen.by.clone() }
}

/// The entry for a check list: what `checks` found, by name, state and message.
pub fn preflight<'a>(
    checks: impl Iterator<Item = (&'a str, CheckState, &'a str)>,
    status: &FailoverStatus,
) -> Event {
    let (passed, found): (Vec<_>, Vec<_>) = checks.partition(|(_, state, _)| *state == CheckState::Passed);
    let finding = |(name, state, message): (&str, CheckState, &str)| Finding {
        name: name.to_owned(),
        state: state.as_str(),
        message: cut(message.to_owned(), LONGEST_FOUND),
    };
    Event::Preflight {
        passed: passed.into_iter().take(MOST_CHECKS).map(|(name, ..)| name.to_owned()).collect(),
        found: found.into_iter().take(MOST_CHECKS).map(finding).collect(),
        skipped: status.skipped.clone(),
    }
}

/// The entry for an Action that was answered.
pub fn heard(action: &Action, answer: &Result<String, String>) -> Event {
    let spec = &action.spec;
    Event::Heard {
        action: action.name_any(),
        id: id(action),
        by: said_by(action).map(str::to_owned),
        verb: spec.verb.as_str(),
        step: spec.step.map(SkippedStep::as_str),
        store: spec.store.clone(),
        evidence: spec.evidence.map(FenceEvidence::as_str),
        position: spec.position.clone(),
        words: spec.words.clone(),
        carried_out: answer.is_ok(),
        answer: answer.clone().unwrap_or_else(|refused| refused),
    }
}

/// The entry with which each move begins.
pub fn ordered(failover: &Failover) -> Event {
    let spec = &failover.spec;
    Event::Ordered {
        by: failover.annotations().get(SAID_BY_ANNOTATION).cloned(),
        action: spec.action,
        reason: spec.reason.clone(),
        ticket: spec.ticket.clone(),
        ordered_at: failover.metadata.creation_timestamp.as_ref().map(moment),
    }
}

fn over_phase(status: &FailoverStatus) -> Option<Phase> {
    status.phase.filter(|phase| phase.is_over())
}

/// What happened between two statuses of a Failover, of which the second is about to be written over the first.
pub fn follow(failover: &Failover, old: &FailoverStatus, new: &FailoverStatus) -> Vec<Event> {
    let mut events = Vec::new();
    if old.digest.is_none() && new.digest.is_some() {
        events.push(Event::Begun {
            from: new.from.clone(),
            to: new.to.clone(),
            digest: new.digest.clone(),
            last_served: new.last_served.as_ref().map(served),
        });
    }
    if let Some(ballot) = new.ballot.filter(|ballot| old.ballot != Some(*ballot)) {
        events.push(Event::Claims { ballot, follows: new.follows });
    }
    let known = |name: &str| old.steps.iter().any(|step| step.name == name);
    let began = new.steps.iter().filter(|step| !known(&step.name));
    events.extend(began.map(|step| Event::StepBegan { step: step.name.clone() }));
    let waited = |reason: &str| old.waits.iter().any(|wait| wait.reason == reason);
    events.extend(new.waits.iter().filter(|wait| !waited(&wait.reason)).map(|wait| Event::Waits {
        reason: wait.reason.clone(),
        step: wait.step.clone(),
        message: new.message.clone(),
        person: wait.person == Some(true),
    }));
    events.extend(of_nodes(old.nodes.as_ref(), new.nodes.as_ref()));
    let undone = new.step.as_deref() == Some(Step::Undo.as_str());
    for store in &new.stores {
        let before = old.stores.iter().find(|before| before.name == store.name);
        events.extend(of_store(before.unwrap_or(&StoreRecord::default()), store, undone));
    }
    if old.committed_at.is_none() && new.committed_at.is_some() {
        // What leads to the commit does not begin again after it.
        events.extend(new.steps.iter().filter(|step| leads_to_commit(step)).filter_map(ended));
        events.push(Event::Committed { epoch: new.ballot, follows: new.follows });
    }
    if old.took.is_none() && new.took.is_some() {
        events.push(opened(failover, new));
    }
    if let (None, Some(phase)) = (over_phase(old), over_phase(new)) {
        let untold = |step: &&StepRecord| new.committed_at.is_none() || !leads_to_commit(step);
        events.extend(new.steps.iter().filter(untold).filter_map(ended));
        let waited = new.waits.iter().map(|wait| Waited {
            reason: wait.reason.clone(),
            millis: wait.millis,
            person: wait.person == Some(true),
        });
        events.push(Event::Over {
            phase: phase.as_str(),
            message: new.message.clone(),
            committed: new.committed_at.is_some(),
            skipped: new.skipped.clone(),
            waited: waited.collect(),
        });
    }
    events
}

fn leads_to_commit(step: &StepRecord) -> bool {
    Step::named(&step.name).is_some_and(|step| step < Step::Commit)
}

/// The entry of a step that is over; `None` if it is not.
fn ended(step: &StepRecord) -> Option<Event> {
    Some(Event::StepEnded {
        step: step.name.clone(),
        began_at: moment(&step.started_at),
        ended_at: moment(step.ended_at.as_ref()?),
        worked_millis: step.millis,
        outcome: step.message.clone(),
    })
}

fn of_nodes(old: Option<&NodesRecord>, new: Option<&NodesRecord>) -> Vec<Event> {
    let Some(new) = new else { return Vec::new() };
    let (site, cluster, mut events) = (&new.site, &new.cluster, Vec::new());
    if old.is_none_or(|old| old.pools.is_empty()) && !new.pools.is_empty() {
        let pools = new.pools.iter().map(Size::of).collect();
        events.push(Event::NodesFound { site: site.clone(), cluster: cluster.clone(), pools });
    }
    if old.is_none_or(|old| old.ordered_at.is_none()) && new.ordered_at.is_some() {
        events.push(Event::NodesStopping { site: site.clone(), cluster: cluster.clone() });
    }
    events
}

fn of_store(old: &StoreRecord, new: &StoreRecord, undone: bool) -> Vec<Event> {
    let (store, mut events) = (&new.name, Vec::new());
    match new.level {
        Some(level) if old.level != Some(level) => events.push(Event::Fenced {
            store: store.clone(),
            level,
            evidence: new.evidence.clone(),
            sealed: new.sealed.clone(),
        }),
        None if old.level == Some(FenceLevel::Stopped) && !undone => {
            events.push(Event::NodesBack { store: store.clone() });
        }
        None if old.level.is_some() => events.push(Event::Lifted { store: store.clone() }),
        _ => {}
    }
    let at = |record: &StoreRecord| (record.complete, record.frozen.clone());
    if at(new) != at(old) && at(new) != (None, None) {
        events.push(Event::Reached {
            store: store.clone(),
            complete: new.complete,
            position: new.frozen.clone().or_else(|| new.sealed.clone()),
            lag_millis: new.lag_millis,
        });
    }
    if new.promoted == Some(true) && old.promoted != Some(true) {
        events.push(Event::Promoted { store: store.clone() });
    }
    if new.opened == Some(true) && old.opened != Some(true) {
        events.push(Event::StoreOpened { store: store.clone() });
    }
    events
}

fn opened(failover: &Failover, new: &FailoverStatus) -> Event {
    let took = new.took.clone().unwrap_or_default();
    // What every commit waited for is here, whatever was written there.
    let lacks =
        |store: &&StoreRecord| store.complete != Some(true) && store.level != Some(FenceLevel::Synchronous);
    let incomplete: Vec<Loss> = new
        .stores
        .iter()
        .filter(lacks)
        .map(|store| Loss {
            store: store.name.clone(),
            position: store.frozen.clone(),
            lag_millis: store.lag_millis,
        })
        .collect();
    let ordered = failover.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let served = new.last_served.as_ref().filter(|_| took.since_outage.is_some()).map(|served| served.at.0);
    let between = |(served, ordered): (Timestamp, Timestamp)| {
        i64::try_from(ordered.duration_since(served).as_millis()).unwrap_or(i64::MAX).max(0)
    };
    Event::Opened {
        since_order_millis: took.until_open,
        since_outage_millis: took.since_outage,
        outage_to_order_millis: served.zip(ordered).map(between),
        waited_for_people_millis: took.waited_for_people,
        without_writes_millis: took.without_writes,
        complete: incomplete.is_empty(),
        incomplete,
        loss_accepted_by: new.accepted_loss.as_ref().map(|said| said.by.clone()),
    }
}

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;
