//! After a crash between two writes the status is older than the route: the mark on the route says what was
//! meant, and the decision goes on from there.

use super::draft::Draft;
use super::mark::{End, Mark};
use crate::api::canarystatus::Rollout;

/// Brings what is remembered up to what the route says, and finds out who serves.
pub(super) fn catch_up(draft: &mut Draft<'_>) {
    if let Some(mark) = draft.facts.mark {
        if mark.attempt > draft.memory.attempt {
            adopt(draft, mark);
        } else if mark.attempt == draft.memory.attempt {
            follow(draft, mark);
        }
    }
    let remembered = match (&draft.memory.rollout, &draft.memory.warm) {
        // With a flag the revision is out, and stable, before its percentage moves.
        (Some(rollout), _) if !draft.by_flag() && !draft.takes_from_legacy() => rollout.stable.clone(),
        (None, Some(warm)) => Some(warm.new.clone()),
        (None, None) => {
            let mark = draft.facts.mark.filter(|mark| mark.attempt >= draft.memory.attempt);
            mark.map(|mark| mark.stable.clone())
        }
        _ => None,
    };
    // What somebody did to the plain Service's selector is no promotion; but a revision that is gone cannot
    // serve, whatever is remembered.
    if let Some(hash) = remembered.filter(|hash| draft.revision(hash).is_some()) {
        draft.stable = Some(hash);
    }
}

/// The route is of an attempt that the status has not heard of.
fn adopt(draft: &mut Draft<'_>, mark: &Mark) {
    if draft.revision(&mark.stable).is_some() {
        draft.stable = Some(mark.stable.clone());
    }
    let release = draft.revision(&mark.canary).map(|revision| revision.release.clone());
    let release = release.unwrap_or_else(|| draft.facts.release.to_owned());
    let (made_by, unsigned) = draft.facts.on_record();
    draft.memory.attempt = mark.attempt;
    draft.memory.warm = None;
    let stable = draft.stable.clone().filter(|_| !draft.takes_from_legacy());
    draft.memory.rollout = Some(Rollout {
        weight: mark.weight,
        entered_at: (mark.weight > 0).then(|| draft.time()),
        preparing: mark.weight,
        made_by,
        unsigned,
        ..Rollout::begun(mark.canary.clone(), stable, release, draft.time())
    });
    follow(draft, mark);
}

/// The route is of the attempt that the status speaks of, perhaps further on.
fn follow(draft: &mut Draft<'_>, mark: &Mark) {
    match &mark.end {
        End::Open => {
            let (now, alone) = (draft.time(), draft.stable_is_down());
            if let Some(rollout) = &mut draft.memory.rollout
                && rollout.canary == mark.canary
                && mark.weight > rollout.weight
            {
                if alone && rollout.alone_from.is_none() {
                    rollout.alone_from = Some(rollout.weight);
                }
                rollout.weight = mark.weight;
                rollout.preparing = rollout.preparing.max(mark.weight);
                rollout.entered_at = Some(now);
            }
        }
        End::Failed(why) | End::Aborted(why) => {
            let rolling = draft.memory.rollout.as_ref().is_some_and(|rollout| rollout.canary == mark.canary);
            let warm = draft.memory.warm.as_ref().is_some_and(|warm| warm.new == mark.canary);
            if rolling || warm {
                draft.roll_back(why, matches!(mark.end, End::Aborted(_)));
            }
        }
        End::Settled => {
            let promoted = draft
                .memory
                .rollout
                .as_ref()
                .map(|rollout| mark.stable == rollout.canary && rollout.weight > 0);
            match promoted {
                Some(true) => draft.promote(),
                Some(false) => draft.cancel(),
                None => {
                    if draft.memory.warm.as_ref().is_some_and(|warm| warm.old == mark.stable) {
                        draft.memory.warm = None;
                    }
                }
            }
        }
    }
}
