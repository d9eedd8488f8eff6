//! What people say in mid-course. `abort` always wins: over every other Action of the same moment, over a
//! pause, and without waiting for anything.

use jiff::SignedDuration;

use super::draft::Draft;
use super::facts::{Answered, Said};
use super::policy::GateKind;
use crate::api::action::{ActionState, Verb};
use crate::api::canarystatus::GateMemory;
use crate::api::conditions::short;
use crate::api::units::display;
use crate::runtime::events::Reason;

/// How long an abort that was answered with a warning is remembered.
const SAID_AGAIN: SignedDuration = SignedDuration::from_mins(10);

/// Listens to all Actions that have not been heard yet.
pub(super) fn listen(draft: &mut Draft<'_>) {
    let facts = draft.facts;
    // What says of itself that it is done need not be remembered.
    draft.memory.heard.retain(|id| facts.actions.iter().any(|said| said.id == *id));
    let mut actions: Vec<&Said> = facts.actions.iter().collect();
    actions.sort_by_key(|said| (said.verb != Verb::Abort, said.at, said.id.clone()));
    let mut aborted = false;
    for said in actions {
        if draft.memory.heard.contains(&said.id) {
            // Carried out, but the Action does not say so: it was not written before a crash.
            let words = "carried out".to_owned();
            draft.answered.push(Answered { id: said.id.clone(), state: ActionState::Done, words });
            continue;
        }
        let result = match said.verb {
            Verb::Abort => abort(draft, said).inspect(|_| aborted = true),
            _ if aborted => Err("abort was said at the same time, and wins".to_owned()),
            _ => other(draft, said),
        };
        let (state, words) = match result {
            Ok(words) => (ActionState::Done, words),
            Err(words) => (ActionState::Refused, words),
        };
        if state == ActionState::Refused {
            let note = format!("{} by {} is refused: {words}", said.verb.as_str(), said.who);
            draft.notice(Reason::ActionRefused, note);
        }
        draft.memory.heard.push(said.id.clone());
        draft.answered.push(Answered { id: said.id.clone(), state, words });
    }
    let excess = draft.memory.heard.len().saturating_sub(64);
    draft.memory.heard.drain(..excess);
}

fn by(said: &Said) -> String {
    match &said.words {
        Some(words) => format!("{}: {words}", said.who),
        None => said.who.clone(),
    }
}

/// The release that is meant, if it is another one than that which is here.
fn meant(said: &Said, here: &str) -> Result<(), String> {
    match &said.release {
        Some(release) if release != here => Err(format!("it is meant for {release}, and this is {here}")),
        _ => Ok(()),
    }
}

fn abort(draft: &mut Draft<'_>, said: &Said) -> Result<String, String> {
    let rollout = draft.memory.rollout.as_ref().map(|rollout| rollout.release.clone());
    let warm = draft.memory.warm.as_ref().map(|warm| warm.release.clone());
    let Some(release) = rollout.or(warm) else {
        return Err("nothing is rolling out, and no rollback window is open".to_owned());
    };
    meant(said, &release)?;
    let warned =
        draft.memory.warned_at.take().filter(|warned| draft.now.duration_since(warned.0) < SAID_AGAIN);
    if draft.has_way_back() || warned.is_some() {
        draft.roll_back_anyway(&format!("aborted by {}", by(said)), true);
        return Ok(format!("{release} has no weight any more"));
    }
    draft.memory.warned_at = Some(draft.time());
    let within = display(SAID_AGAIN.unsigned_abs());
    Err(format!(
        "no pod of the revision before it is Ready, so that nobody would answer after this; abort again within {within} \
         to do it all the same"
    ))
}

fn other(draft: &mut Draft<'_>, said: &Said) -> Result<String, String> {
    if said.verb == Verb::Retry {
        return retry(draft, said);
    }
    let Some(release) = draft.memory.rollout.as_ref().map(|rollout| rollout.release.clone()) else {
        let failed = draft.facts.current.and_then(|current| draft.failed(current));
        return Err(match failed {
            Some(failed) => format!("{} was rolled back; say retry first", failed.release),
            None => "nothing is rolling out".to_owned(),
        });
    };
    meant(said, &release)?;
    if said.verb == Verb::Approve {
        return approve(draft, said);
    }
    let Some(rollout) = draft.memory.rollout.as_mut() else {
        return Err("nothing is rolling out".to_owned());
    };
    let weight = rollout.weight;
    match said.verb {
        Verb::Pause if rollout.paused.is_some() => Err("it is paused already".to_owned()),
        Verb::Pause => {
            rollout.paused = Some(short(by(said)));
            draft.notice(Reason::RolloutPaused, format!("{release} is paused at {weight} % by {}", by(said)));
            Ok(format!("paused at {weight} %"))
        }
        Verb::Resume => match rollout.paused.take() {
            Some(_) => {
                draft.notice(
                    Reason::RolloutPaused,
                    format!("{release} goes on from {weight} %, says {}", by(said)),
                );
                Ok(format!("goes on from {weight} %"))
            }
            None => Err("it is not paused".to_owned()),
        },
        Verb::Promote => {
            rollout.promote = true;
            rollout.paused = None;
            Ok("what is left of holds, verdicts and gates is skipped".to_owned())
        }
        Verb::SkipStep if weight == 0 => {
            Err("it has no weight yet, so there is no step to skip; see what it waits for".to_owned())
        }
        Verb::SkipStep => {
            rollout.skip = weight;
            Ok(format!("does not wait any longer at {weight} %"))
        }
        Verb::SkipAfter if weight > 0 => Err("it does not wait for other clusters any more".to_owned()),
        Verb::SkipAfter => {
            rollout.skip_after = true;
            Ok("does not wait for other clusters".to_owned())
        }
        Verb::Abort | Verb::Retry | Verb::Approve => Err("it was dealt with before".to_owned()),
        Verb::AssertFenced | Verb::AcceptDataLoss => Err("it is for a Failover".to_owned()),
    }
}

fn retry(draft: &mut Draft<'_>, said: &Said) -> Result<String, String> {
    let Some(current) = draft.facts.current.filter(|current| draft.failed(current).is_some()) else {
        return Err("the revision that the FinService asks for has not failed".to_owned());
    };
    meant(said, draft.facts.release)?;
    draft.begin_again(current, &by(said));
    Ok("starts over from zero weight with fresh evidence".to_owned())
}

fn approve(draft: &mut Draft<'_>, said: &Said) -> Result<String, String> {
    let policy = draft.facts.policy;
    let now = draft.time();
    let Some(rollout) = draft.memory.rollout.as_mut() else {
        return Err("nothing is rolling out".to_owned());
    };
    let closed =
        |index: usize| !rollout.gates.iter().any(|memory| memory.gate == index as i32 && memory.open);
    let found = policy.gates.iter().enumerate().find(|(index, gate)| {
        gate.kind == GateKind::Approval
            && gate.at > rollout.weight
            && said.gate.is_none_or(|at| at == gate.at)
            && closed(*index)
    });
    let Some((index, gate)) = found else {
        return Err(match said.gate {
            Some(at) => format!("no gate before {at} % waits for a person"),
            None => "no gate waits for a person".to_owned(),
        });
    };
    let (at, index) = (gate.at, index as i32);
    match rollout.gates.iter_mut().find(|memory| memory.gate == index) {
        Some(memory) => memory.open = true,
        None => rollout.gates.push(GateMemory {
            gate: index,
            reached_at: now,
            true_since: None,
            unanswered_since: None,
            open: true,
        }),
    }
    draft.notice(Reason::GateOpened, format!("the gate before {at} % is opened by {}", by(said)));
    Ok(format!("the gate before {at} % is open"))
}
