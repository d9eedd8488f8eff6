//! What people say in mid-course. `abort` always wins: over every other Action of the same moment, over a
//! pause, and without waiting for anything.

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::approval;
use super::draft::Draft;
use super::policy::{self, GateKind};
use super::proceed::close_window;
use super::refusal::{self, Accepted, Asked, Standing};
use super::shares;
use crate::actions::{Answered, Said};
use crate::api::action::{ActionState, Verb};
use crate::api::canarystatus::{GateMemory, Rollout};
use crate::api::conditions::short;
use crate::api::notice::Reason;
use crate::api::units::display;

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
            verb if aborted && verb != Verb::Abort => {
                Err("an abort came at the same time, and wins".to_owned())
            }
            _ => accepted(draft, said).and_then(|accepted| carry_out(draft, said, accepted)),
        };
        aborted |= said.verb == Verb::Abort && result.is_ok();
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

/// Whether an Action makes sense as the rollout stands by now.
fn accepted(draft: &Draft<'_>, said: &Said) -> Result<Accepted, String> {
    let facts = draft.facts;
    let gates = facts.policy.gates.iter().filter(|gate| gate.kind == GateKind::Approval);
    let approvals: Vec<i32> = gates.map(|gate| gate.at).collect();
    let failed = facts.current.filter(|current| draft.failed(current).is_some());
    let standing = Standing {
        memory: &draft.memory,
        failed: failed.map(|_| facts.release),
        approvals: &approvals,
        retry: &facts.command(Verb::Retry),
        stopped: facts.stopped(),
    };
    let asked = Asked { verb: said.verb, release: said.release.as_deref(), gate: said.gate };
    let accepted = refusal::accept(&standing, &asked)?;
    let rollout = draft.memory.rollout.as_ref().filter(|_| said.verb == Verb::Approve);
    match rollout.and_then(|rollout| approval::objection(rollout, said)) {
        Some(objection) => Err(objection),
        None => Ok(accepted),
    }
}

/// Carries out what was accepted. Returns what was done, in words.
fn carry_out(draft: &mut Draft<'_>, said: &Said, accepted: Accepted) -> Result<String, String> {
    let Accepted { release, gate } = accepted;
    match said.verb {
        Verb::Abort => return abort(draft, said, &release),
        Verb::Retry => return Ok(retry(draft, said)),
        _ => {}
    }
    let now = draft.time();
    if let (Verb::SkipStep, None, Some(warm)) = (said.verb, &draft.memory.rollout, &draft.memory.warm) {
        let old = warm.old.clone();
        close_window(draft);
        return Ok(format!("revision {old} is not kept warm any more"));
    }
    let Some(rollout) = draft.memory.rollout.as_mut() else {
        return Err("nothing is rolling out".to_owned());
    };
    let weight = rollout.weight;
    match said.verb {
        Verb::Pause => {
            rollout.paused = Some(short(by(said)));
            draft.notice(Reason::RolloutPaused, format!("{release} is paused at {weight} % by {}", by(said)));
            Ok(format!("paused at {weight} %"))
        }
        Verb::Resume => {
            rollout.paused = None;
            let note = format!("{release} goes on from {weight} %, says {}", by(said));
            draft.notice(Reason::RolloutPaused, note);
            Ok(format!("goes on from {weight} %"))
        }
        Verb::Promote => {
            rollout.promote = true;
            rollout.paused = None;
            let waits = rollout.gates_seen.iter().any(|gate| gate.starts_with("approval"));
            let skipped = match waits || !rollout.approvals.is_empty() {
                true => {
                    "what is left of holds, verdicts and gates is skipped, but gates that wait for a person stand"
                }
                false => "what is left of holds, verdicts and gates is skipped",
            };
            Ok(match shares::observed(draft).differs() {
                true => format!(
                    "{skipped}; but the weight does not follow yet, and that is waited for: to go on all the same, run \
                     `{}`",
                    draft.facts.command(Verb::SkipStep)
                ),
                false => skipped.to_owned(),
            })
        }
        Verb::SkipStep => {
            rollout.skip = weight;
            if let Some(back) = &mut rollout.stepped_back {
                back.asks = false;
            }
            Ok(format!("does not wait any longer at {weight} %"))
        }
        Verb::SkipAfter => {
            rollout.skip_after = true;
            Ok("does not wait for other clusters".to_owned())
        }
        Verb::Approve => {
            let Some(at) = gate else { return Err("no gate waits for a person".to_owned()) };
            open(rollout, policy::approval(at), now);
            draft.notice(Reason::GateOpened, format!("the gate before {at} % is opened by {}", by(said)));
            Ok(format!("the gate before {at} % is open"))
        }
        Verb::Abort | Verb::Retry | Verb::Force | Verb::Skip | Verb::AssertFenced | Verb::AcceptDataLoss => {
            Err(format!("{} changes no rollout that is under way", said.verb.as_str()))
        }
    }
}

fn abort(draft: &mut Draft<'_>, said: &Said, release: &str) -> Result<String, String> {
    // Only what was answered before counts as a warning: two people may say the same at once.
    let warned = draft.facts.memory.warned_at.as_ref();
    let warned = warned.is_some_and(|warned| draft.now.duration_since(warned.0) < SAID_AGAIN);
    if draft.has_way_back() || warned {
        draft.memory.warned_at = None;
        draft.roll_back_anyway(&format!("aborted by {}", by(said)), true);
        return Ok(format!("{release} has no weight any more"));
    }
    draft.memory.warned_at = Some(draft.time());
    let within = display(SAID_AGAIN.unsigned_abs());
    Err(format!(
        "no pod of the revision before it is Ready, so no request would be answered after this; to do it all the same, \
         abort again within {within}"
    ))
}

fn retry(draft: &mut Draft<'_>, said: &Said) -> String {
    if let Some(current) = draft.facts.current {
        draft.begin_again(current, &by(said));
    }
    "starts over from zero weight with fresh evidence".to_owned()
}

/// Remembers that a person opened a gate.
fn open(rollout: &mut Rollout, gate: String, now: Time) {
    match rollout.gates.iter_mut().find(|memory| memory.what == gate) {
        Some(memory) => memory.open = true,
        None => rollout.gates.push(GateMemory {
            what: gate,
            reached_at: now,
            true_since: None,
            unanswered_since: None,
            open: true,
        }),
    }
}
