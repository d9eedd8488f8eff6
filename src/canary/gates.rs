//! Gates: what else must be so before a step begins.
//!
//! A gate is asked from the moment the step before it has its weight, beside the analysis, so that forty-eight
//! hours of a query begin at once. A person's approval stays; the answer of a query or of a web server must
//! be there when the step begins.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::policy::{GateKind, GatePolicy};
use crate::api::canaryrollout::WebhookGate;
use crate::api::canarystatus::GateMemory;
use crate::api::units::display;
use crate::signals::GateReply;

/// What a gate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Whether it is open now.
    pub open: bool,
    /// What it waits for.
    pub words: String,
    /// When time alone may change it.
    pub again_at: Option<Timestamp>,
    /// Whether it has been waited for longer than its timeout.
    pub overdue: bool,
}

/// What a gate says now, and what is to be remembered of it. `approve` is the command that opens one that waits for a
/// person.
pub fn ask(
    policy: &GatePolicy,
    memory: &mut GateMemory,
    answer: Option<&GateReply>,
    approve: &str,
    now: Timestamp,
) -> Gate {
    let after =
        |since: Timestamp, length: SignedDuration| since.saturating_add(length).unwrap_or(Timestamp::MAX);
    let deadline = after(memory.reached_at.0, policy.timeout);
    let at = policy.at;
    let (open, words, again_at) = match &policy.kind {
        GateKind::Approval => {
            (memory.open, format!("the gate before {at} % waits for a person: run `{approve}`"), None)
        }
        GateKind::Webhook(WebhookGate { url, .. }) => match answer {
            Some(GateReply::Yes) => (true, String::new(), None),
            Some(GateReply::No(words)) => {
                (false, format!("the gate before {at} %: {url} says {words}"), None)
            }
            Some(GateReply::Nobody(words)) => {
                (false, format!("the gate before {at} %: {url} does not answer: {words}"), None)
            }
            None => (false, format!("the gate before {at} %: {url} has not been asked yet"), None),
        },
        GateKind::Promql { query, r#for } => promql(at, query, *r#for, memory, answer, now),
    };
    let overdue = !open && now >= deadline;
    let again_at =
        if open || overdue { None } else { Some(again_at.map_or(deadline, |at| at.min(deadline))) };
    let words = match overdue {
        true => format!("{words} (since {}, which is its timeout)", display(policy.timeout.unsigned_abs())),
        false => words,
    };
    Gate { open, words, again_at, overdue }
}

fn promql(
    at: i32,
    query: &str,
    r#for: SignedDuration,
    memory: &mut GateMemory,
    answer: Option<&GateReply>,
    now: Timestamp,
) -> (bool, String, Option<Timestamp>) {
    match answer {
        Some(GateReply::Yes) => {
            // Time without an answer does not count: what was true before it is carried over to its end.
            let gap = memory.unanswered_since.take().map(|since| now.duration_since(since.0));
            let since = match (&memory.true_since, gap) {
                (Some(since), Some(gap)) => since.0.saturating_add(gap).unwrap_or(now),
                (Some(since), None) => since.0,
                (None, _) => now,
            };
            memory.true_since = Some(Time(since));
            let until = since.saturating_add(r#for).unwrap_or(Timestamp::MAX);
            let length = display(r#for.unsigned_abs());
            let words = format!("the gate before {at} %: {query} is true and must stay so for {length}");
            (now >= until, words, Some(until))
        }
        Some(GateReply::No(words)) => {
            memory.true_since = None;
            memory.unanswered_since = None;
            (false, format!("the gate before {at} %: {query} is not true: {words}"), None)
        }
        Some(GateReply::Nobody(words)) => {
            memory.unanswered_since.get_or_insert(Time(now));
            (false, format!("the gate before {at} %: no answer to {query}: {words}"), None)
        }
        None => {
            memory.unanswered_since.get_or_insert(Time(now));
            (false, format!("the gate before {at} %: {query} has not been asked yet"), None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn memory() -> GateMemory {
        GateMemory {
            what: String::new(),
            reached_at: Time(at(0)),
            true_since: None,
            unanswered_since: None,
            open: false,
        }
    }

    fn policy() -> GatePolicy {
        let secs = SignedDuration::from_secs;
        let kind = GateKind::Promql { query: "q == 0".to_owned(), r#for: secs(100) };
        GatePolicy { at: 100, timeout: secs(1000), kind }
    }

    fn answer(memory: &mut GateMemory, second: i64, answer: GateReply) -> Gate {
        ask(&policy(), memory, Some(&answer), "approve", at(second))
    }

    #[test]
    fn a_query_must_be_true_without_a_break() {
        let mut memory = memory();
        assert!(!answer(&mut memory, 0, GateReply::Yes).open);
        assert!(!answer(&mut memory, 60, GateReply::No("3".into())).open);
        assert!(!answer(&mut memory, 70, GateReply::Yes).open);
        assert!(!answer(&mut memory, 169, GateReply::Yes).open);
        assert!(answer(&mut memory, 170, GateReply::Yes).open);
    }

    #[test]
    fn no_answer_neither_counts_nor_breaks_the_time() {
        let mut memory = memory();
        answer(&mut memory, 0, GateReply::Yes);
        answer(&mut memory, 50, GateReply::Nobody("refused".into()));
        let late = answer(&mut memory, 120, GateReply::Nobody("refused".into()));
        assert!(!late.open && late.words.contains("refused"), "{}", late.words);
        assert!(!answer(&mut memory, 150, GateReply::Yes).open, "only 50 s were true");
        assert!(answer(&mut memory, 200, GateReply::Yes).open);
    }

    #[test]
    fn a_gate_is_not_waited_at_for_ever_in_silence() {
        let mut memory = memory();
        let gate = answer(&mut memory, 1000, GateReply::No("3".into()));
        assert!(gate.overdue && !gate.open && gate.words.contains("timeout"), "{gate:?}");
    }
}
