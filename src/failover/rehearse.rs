//! What a rehearsal does next: all of a move that takes nothing from anybody. Nothing is claimed, closed or promoted. Pure.

use super::journal::Journal;
use super::view::{Act, Held, Next, View};
use crate::api::failover::Phase;
use crate::api::step::Step;

/// What a rehearsal looks at, beside what a move does.
#[derive(Clone, Copy, Debug)]
pub struct Rehearsed<'a> {
    /// What the nodes of this site have no room for: a rehearsal must not put out anybody.
    pub room: Option<&'a Held>,
    /// What is larger here still than a standby is.
    pub surplus: Option<&'a Held>,
    /// The order that moves the same group: it goes before.
    pub gives_way: Option<&'a str>,
}

/// Decides what comes next.
pub fn decide(view: &View<'_>, more: Rehearsed<'_>, journal: &Journal) -> Next {
    if let Some(phase) = journal.over {
        return Next::End(phase, String::new());
    }
    let ends = match more.gives_way {
        Some(other) => {
            Some((Phase::Superseded, format!("Failover {other} moves the group, and goes before")))
        }
        None if journal.abort => Some((Phase::Aborted, "it was given up; all is as before".to_owned())),
        None if view.own().is_held_by(view.site) => {
            let message =
                format!("{} has authority: order the rehearsal at the site that would take over", view.site);
            Some((Phase::Refused, message))
        }
        None => None,
    };
    match (journal.grown, ends) {
        (Some(true), Some(_)) => return Next::Do(Step::Shrink, Act::Shrink),
        (_, Some((phase, words))) => return Next::End(phase, words),
        (Some(false), None) => return ended(view, more),
        (_, None) => {}
    }
    if journal.grown.is_none() {
        return prepare(view, more, journal);
    }
    let waits = view.paused(journal, Step::Capacity);
    if let Some(waits) = waits.or_else(|| view.held(journal, Step::Capacity, "NoCapacity", view.capacity)) {
        return waits;
    }
    let behind = view.stores(journal, |_, of| !of.replayed);
    if !behind.is_empty() {
        return Next::Do(Step::CatchUp, Act::Replay(behind));
    }
    match journal.tried || journal.skipped.contains(&Step::Try) {
        false => Next::Do(Step::Try, Act::Try),
        true => Next::Do(Step::Shrink, Act::Shrink),
    }
}

/// Before anything is asked for.
fn prepare(view: &View<'_>, more: Rehearsed<'_>, journal: &Journal) -> Next {
    let step = Step::Preflight;
    if let Some(paused) = view.paused(journal, step) {
        return paused;
    }
    if let Some(silent) = view.silent.first() {
        let message = format!("{silent} does not answer, and a rehearsal measures how this site follows it");
        return Next::Wait(step, view.wait("SourceSilent", message, Some("abort")));
    }
    if let Some(held) = view.held(journal, step, "NotReady", view.preflight) {
        return held;
    }
    if let Some(room) = more.room {
        // Whoever is of a lower class would be put out: that is worth a failover, and no rehearsal.
        let message = format!("{}; {}", room.message, room.remedy);
        return Next::Wait(Step::Capacity, view.wait("NoRoom", message, Some("abort")));
    }
    Next::Do(Step::Capacity, Act::Grow)
}

/// All was tried, and is given back.
fn ended(view: &View<'_>, more: Rehearsed<'_>) -> Next {
    match more.surplus {
        Some(surplus) => {
            let message = format!("{}; {}", surplus.message, surplus.remedy);
            Next::Wait(Step::Shrink, view.wait("TooLarge", message, None))
        }
        None => {
            let words = format!(
                "rehearsed: {} could take over, and is a standby as before; see status.plan of the FailoverGroup for what \
                 each step took",
                view.site
            );
            Next::End(Phase::Done, words)
        }
    }
}

#[cfg(test)]
#[path = "rehearse_tests.rs"]
mod tests;
