//! What a rollout refuses, as it stands: the operator asks before it carries an Action out, and the command line before
//! it creates one. Pure.

use super::policy;
use crate::api::action::Verb;
use crate::api::canarystatus::{Memory, Rollout};

/// What decides about a refusal.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// What is remembered.
    pub memory: &'a Memory,
    /// The release that the FinService asks for, if it was rolled back.
    pub failed: Option<&'a str>,
    /// The weights before which gates of the policy wait for a person.
    pub approvals: &'a [i32],
    /// The command that tries again what was rolled back.
    pub retry: &'a str,
    /// Why nothing goes forward, such as an Error of the policy: what would be done only later is not taken now.
    pub stopped: Option<&'a str>,
}

/// What a person asks for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// What.
    pub verb: Verb,
    /// Of which release; of the one that is there, if none is named.
    pub release: Option<&'a str>,
    /// Of which gate, by the weight that it stands before.
    pub gate: Option<i32>,
}

/// What is not refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The release that it is about.
    pub release: String,
    /// With an approval: the weight that the gate stands before.
    pub gate: Option<i32>,
}

/// Whether a rollout takes what a person asks for.
///
/// # Errors
/// Why it does not, in words.
pub fn accept(standing: &Standing<'_>, asked: &Asked<'_>) -> Result<Accepted, String> {
    let memory = standing.memory;
    let rollout = memory.rollout.as_ref();
    let rolling = rollout.map(|rollout| &*rollout.release);
    let warm = memory.warm.as_ref().map(|warm| &*warm.release);
    let release = match asked.verb {
        Verb::Force | Verb::Skip | Verb::AssertFenced | Verb::AcceptDataLoss => {
            return Err(format!("{} is for a Failover, not for a CanaryRollout", asked.verb.as_str()));
        }
        Verb::Abort => rolling.or(warm).ok_or("nothing is rolling out, and no rollback window is open")?,
        // After a promotion it ends the rollback window.
        Verb::SkipStep => rolling.or(warm).ok_or_else(|| nothing_rolls_out(standing))?,
        Verb::Retry => standing.failed.ok_or("the revision that the FinService asks for has not failed")?,
        Verb::Promote | Verb::Pause | Verb::Resume | Verb::SkipAfter | Verb::Approve => {
            rolling.ok_or_else(|| nothing_rolls_out(standing))?
        }
    };
    if let Some(meant) = asked.release.filter(|meant| *meant != release) {
        return Err(format!("it is meant for {meant}, and this is {release}"));
    }
    let gate = match rollout {
        Some(rollout) => of_rollout(standing, rollout, asked)?,
        None => None,
    };
    Ok(Accepted { release: release.to_owned(), gate })
}

fn nothing_rolls_out(standing: &Standing<'_>) -> String {
    match standing.failed {
        Some(failed) => format!("{failed} was rolled back; run `{}` first", standing.retry),
        None => "nothing is rolling out".to_owned(),
    }
}

/// What the rollout that is under way has against it; with an approval, the gate that it opens.
fn of_rollout(standing: &Standing<'_>, rollout: &Rollout, asked: &Asked<'_>) -> Result<Option<i32>, String> {
    let words = match asked.verb {
        // Said now, it would act at a moment that nobody has chosen: when somebody corrects what stops it.
        Verb::Promote | Verb::SkipStep | Verb::SkipAfter if standing.stopped.is_some() => {
            let why = standing.stopped.unwrap_or_default();
            return Err(format!("nothing goes forward: {why}; correct that, and say it again"));
        }
        Verb::Pause if rollout.paused.is_some() => "it is paused already",
        Verb::Resume if rollout.paused.is_none() => "it is not paused",
        Verb::SkipStep
            if rollout.weight == 0 && !rollout.stepped_back.as_ref().is_some_and(|back| back.asks) =>
        {
            "it has no weight yet, so there is no step to skip; see what it waits for"
        }
        Verb::SkipAfter if rollout.weight > 0 => "it does not wait for other clusters any more",
        Verb::Approve => return waiting_gate(standing, rollout, asked.gate).map(Some),
        _ => return Ok(None),
    };
    Err(words.to_owned())
}

/// The first gate that waits for a person; of those before that weight, if one is named. What was asked for under way is
/// asked for until the end.
fn waiting_gate(standing: &Standing<'_>, rollout: &Rollout, named: Option<i32>) -> Result<i32, String> {
    let is_open = |at: i32| {
        let what = policy::approval(at);
        rollout.gates.iter().any(|memory| memory.open && memory.what == what)
    };
    let all = standing.approvals.iter().chain(&rollout.approvals).copied();
    let waiting =
        all.filter(|at| *at > rollout.weight && named.is_none_or(|named| named == *at) && !is_open(*at));
    waiting.min().ok_or_else(|| match named {
        Some(at) => format!("no gate before {at} % waits for a person"),
        None => "no gate waits for a person".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rollout(weight: i32, paused: Option<&str>, open: bool) -> Memory {
        let mut rollout = json!({
            "canary": "b", "stable": "a", "release": "app:2", "attempt": 1, "startedAt": "2026-01-01T00:00:00Z",
            "weight": weight,
            "gates": [{"what": "approval 50", "reachedAt": "2026-01-01T00:00:00Z", "open": open}],
        });
        if let Some(paused) = paused {
            rollout["paused"] = json!(paused);
        }
        serde_json::from_value(json!({"rollout": rollout})).expect("what is remembered")
    }

    fn say(memory: &Memory, failed: Option<&str>, verb: Verb, gate: Option<i32>) -> Result<Accepted, String> {
        let approvals = [50, 100];
        let standing = Standing { memory, failed, approvals: &approvals, retry: "again", stopped: None };
        accept(&standing, &Asked { verb, release: None, gate })
    }

    #[test]
    fn while_nothing_rolls_out_only_what_failed_is_tried_again() {
        let none = Memory::default();
        for verb in Verb::ALL {
            assert!(say(&none, None, verb, None).is_err(), "{verb:?}");
            let after_a_failure = say(&none, Some("app:2"), verb, None);
            assert_eq!(after_a_failure.is_ok(), verb == Verb::Retry, "{verb:?}: {after_a_failure:?}");
        }
        let refused = say(&none, Some("app:2"), Verb::Promote, None).unwrap_err();
        assert_eq!(refused, "app:2 was rolled back; run `again` first");
    }

    #[test]
    fn what_has_no_weight_has_no_step_to_skip_and_what_has_one_waits_for_nobody() {
        let refuses = |memory: &Memory| {
            let refused = Verb::ALL.into_iter().filter(|verb| say(memory, None, *verb, None).is_err());
            refused.map(Verb::as_str).collect::<Vec<_>>()
        };
        let failover = ["force", "skip", "assert-fenced", "accept-data-loss"];
        let with = |more: &[&'static str]| [more, &failover].concat();
        assert_eq!(refuses(&rollout(0, None, false)), with(&["resume", "retry", "skip-step"]));
        assert_eq!(refuses(&rollout(10, None, false)), with(&["resume", "retry", "skip-after"]));
        assert_eq!(refuses(&rollout(10, Some("jo"), false)), with(&["pause", "retry", "skip-after"]));
        assert_eq!(refuses(&rollout(100, None, false)), with(&["resume", "retry", "skip-after", "approve"]));
    }

    #[test]
    fn an_approval_opens_the_first_gate_that_waits_or_the_one_that_is_named() {
        let gate = |open, named| say(&rollout(10, None, open), None, Verb::Approve, named).map(|it| it.gate);
        assert_eq!(gate(false, None), Ok(Some(50)));
        assert_eq!(gate(true, None), Ok(Some(100)));
        assert_eq!(gate(false, Some(100)), Ok(Some(100)));
        assert_eq!(gate(true, Some(50)), Err("no gate before 50 % waits for a person".to_owned()));
    }

    #[test]
    fn what_is_stopped_takes_nothing_that_would_go_forward_later() {
        let memory = rollout(10, None, false);
        let stopped = Some("the CanaryRollout has errors");
        let standing = Standing { memory: &memory, failed: None, approvals: &[50], retry: "", stopped };
        let say = |verb| accept(&standing, &Asked { verb, release: None, gate: None });
        assert_eq!(
            say(Verb::Promote),
            Err("nothing goes forward: the CanaryRollout has errors; correct that, and say it again"
                .to_owned())
        );
        assert!(say(Verb::SkipStep).is_err());
        for verb in [Verb::Abort, Verb::Pause, Verb::Approve] {
            assert!(say(verb).is_ok(), "{verb:?}");
        }
    }

    #[test]
    fn what_is_meant_for_another_release_is_refused() {
        let memory = rollout(10, None, false);
        let standing = Standing { memory: &memory, failed: None, approvals: &[], retry: "", stopped: None };
        let abort = |release| accept(&standing, &Asked { verb: Verb::Abort, release, gate: None });
        assert_eq!(abort(Some("app:2")).map(|it| it.release), Ok("app:2".to_owned()));
        assert_eq!(abort(Some("app:1")), Err("it is meant for app:1, and this is app:2".to_owned()));
    }
}
