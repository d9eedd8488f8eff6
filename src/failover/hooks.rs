//! Hooks: which one is called next, and what comes of a call. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::journal::Journal;
use super::outcome::Done;
use super::status;
use super::view::{Act, Next, View, command};
use crate::api::conditions::short;
use crate::api::hook::{Hook, HookPoint};
use crate::api::units::display;
use crate::api::{Failover, FailoverStatus};

/// What a hook answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is done.
    Done(String),
    /// It is at work.
    AtWork,
    /// It failed, or nobody answers.
    Failed(String),
}

/// The call of the next hook at a point of the way; `None` once all are over, or skipped.
pub(super) fn next(view: &View<'_>, journal: &Journal, at: HookPoint) -> Option<Next> {
    let open = |hook: &&Hook| hook.at == at && !journal.hooked.contains(&hook.name);
    let hook = view.hooks.iter().find(open).filter(|_| !journal.skipped.contains(&at.step()))?;
    Some(Next::Do(at.step(), Act::Call(hook.name.clone())))
}

/// What is told to a hook.
pub(super) fn told(failover: &Failover, status: &FailoverStatus, hook: &Hook) -> Value {
    json!({
        "hook": hook.name,
        "at": hook.at,
        "group": failover.spec.group,
        "failover": failover.metadata.name,
        "uid": failover.metadata.uid,
        "action": status.action(failover.spec.action),
        "reason": failover.spec.reason,
        "from": status.from,
        "to": status.to,
        "ballot": status.ballot,
        "committed": status.committed_at.is_some(),
    })
}

/// What comes of a call that was answered so. `name` is that of the move.
pub(crate) fn answered(
    hook: &Hook,
    reply: Reply,
    status: &mut FailoverStatus,
    name: &str,
    now: Timestamp,
) -> Done {
    let record = status::hook(status, &hook.name, now);
    let (deadline, called) = (hook.deadline(), &hook.name);
    let until = record.started_at.0.checked_add(deadline).unwrap_or(Timestamp::MAX);
    let why = match reply {
        Reply::Done(words) => {
            record.ended_at = Some(Time(now));
            record.failed = None;
            record.message = Some(short(words.clone()));
            return Done::Yes(format!("hook {called} is done: {words}"));
        }
        Reply::AtWork => "it says that it is at work".to_owned(),
        Reply::Failed(why) => why,
    };
    record.message = Some(short(why.clone()));
    let skip = Some(command(&format!("skip --step {}", hook.at.step().as_str()), name));
    if now < until {
        // To the second, as it is on record.
        let until = Timestamp::from_second(until.as_second()).unwrap_or(until);
        let message = format!("hook {called} is not done: {why}; the move waits for it until {until}");
        return Done::not_yet("HookRunning", message, skip);
    }
    record.failed = Some(true);
    let late = format!("hook {called} was not done within {}: {why}", display(deadline));
    if hook.is_optional() {
        record.ended_at = Some(Time(now));
        return Done::Yes(format!("{late}; the move goes on without it (onFailure: Continue)"));
    }
    Done::not_yet("HookFailed", format!("{late}; it is called again and again"), skip)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::hook::{HookServer, OnFailure};
    use crate::failover::journal::Journal;

    fn hook(on_failure: Option<OnFailure>) -> Hook {
        let webhook = HookServer { url: "http://batch.ops/pause".to_owned(), auth: None };
        let deadline = Some("30s".to_owned());
        Hook { name: "batch".to_owned(), at: HookPoint::BeforeFence, webhook, deadline, on_failure }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn failed() -> Reply {
        Reply::Failed("status 503 (Service Unavailable)".to_owned())
    }

    /// What is said, and whether the move goes on.
    fn said(done: Done) -> (String, bool) {
        match done {
            Done::Yes(words) => (words, true),
            Done::NotYet(wait) => {
                (format!("{}: {} -> {}", wait.reason, wait.message, wait.next.unwrap_or_default()), false)
            }
            Done::Again => panic!("it is decided anew"),
        }
    }

    #[test]
    fn it_is_called_until_it_is_done_and_remembered_then() {
        let (hook, mut status) = (hook(None), FailoverStatus::default());
        let (words, goes_on) = said(answered(&hook, failed(), &mut status, "move", at(0)));
        assert!(!goes_on);
        assert_eq!(
            words,
            "HookRunning: hook batch is not done: status 503 (Service Unavailable); the move waits for it until 1970-01-01T00:00:30Z -> \
             kubectl banyan failover skip --step before-fence move"
        );
        let journal = |status: &FailoverStatus| Journal::of(Default::default(), status, |_| None);
        assert!(journal(&status).hooked.is_empty());
        let (words, _) = said(answered(&hook, Reply::AtWork, &mut status, "move", at(29)));
        assert!(words.contains("it says that it is at work"), "{words}");
        let done = Reply::Done("status 200 (OK)".to_owned());
        assert_eq!(
            said(answered(&hook, done, &mut status, "move", at(40))),
            ("hook batch is done: status 200 (OK)".to_owned(), true)
        );
        assert!(journal(&status).hooked.contains("batch"));
        assert_eq!((status.hooks.len(), status.hooks[0].failed), (1, None));
    }

    #[test]
    fn after_its_deadline_the_move_waits_for_a_person_or_goes_on_as_the_group_says() {
        let mut status = FailoverStatus::default();
        said(answered(&hook(None), failed(), &mut status, "move", at(0)));
        let (words, goes_on) = said(answered(&hook(None), failed(), &mut status, "move", at(30)));
        assert!(!goes_on && words.starts_with("HookFailed: hook batch was not done within 30s"), "{words}");
        assert_eq!(status.hooks[0].failed, Some(true));
        let optional = hook(Some(OnFailure::Continue));
        let (words, goes_on) = said(answered(&optional, failed(), &mut status, "move", at(30)));
        assert!(goes_on && words.ends_with("the move goes on without it (onFailure: Continue)"), "{words}");
        assert!(status.hooks[0].ended_at.is_some());
    }
}
