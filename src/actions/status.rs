//! The status of an Action: what became of it. Pure.

use jiff::Timestamp;

use super::hear::Answered;
use super::index::Unreadable;
use crate::api::action::ActionState;
use crate::api::conditions::{self, Says, Standing, short};
use crate::api::{Action, ActionStatus};

/// The status that says what became of an Action.
pub fn status(action: &Action, answered: &Answered, now: Timestamp) -> ActionStatus {
    let message = short(&answered.words);
    let (yes, no) = (|reason| Says::yes(reason, &message), |reason| Says::no(reason, &message));
    let standing = match answered.state {
        ActionState::Done => {
            Standing { ready: yes("Done"), reconciling: no("Done"), stalled: Says::no_problem() }
        }
        ActionState::Accepted => {
            Standing { ready: no("Accepted"), reconciling: yes("Accepted"), stalled: Says::no_problem() }
        }
        // Nothing more happens by itself: who wants it must say something else.
        ActionState::Refused => Standing::stuck("Refused", &message),
    };
    let old = action.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let generation = action.metadata.generation;
    ActionStatus {
        observed_generation: generation,
        conditions: standing.conditions(old, generation, now),
        state: Some(answered.state),
        message: Some(message),
    }
}

/// The status of an Action that cannot be read. It is not over: a version that can read it may carry it out.
pub fn unreadable(unreadable: &Unreadable, now: Timestamp) -> ActionStatus {
    let message = short(format!(
        "it cannot be read, so nothing is done: {}; create it again as `kubectl banyan canary` does, or run one version of \
         Banyan in all clusters",
        unreadable.why
    ));
    let old = unreadable.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    ActionStatus {
        observed_generation: unreadable.generation,
        conditions: Standing::stuck("Unreadable", &message).conditions(old, unreadable.generation, now),
        state: None,
        message: Some(message),
    }
}

/// Whether two statuses say the same.
pub fn same(one: &ActionStatus, other: &ActionStatus) -> bool {
    let plain = |status: &ActionStatus| ActionStatus { conditions: Vec::new(), ..status.clone() };
    conditions::same(&one.conditions, &other.conditions) && plain(one) == plain(other)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn action(verb: &str) -> Action {
        let mut action: Action = serde_json::from_value(json!({
            "apiVersion": "banyan.dev/v1alpha1", "kind": "Action",
            "metadata": {"name": "one", "namespace": "payments", "uid": "u-1", "generation": 1},
            "spec": {"target": {"kind": "CanaryRollout", "name": "app"}, "release": "app:2", "verb": verb},
        }))
        .expect("an Action");
        action.metadata.creation_timestamp = Some(Time(at(100)));
        action
    }

    fn answered(state: ActionState, words: &str) -> Answered {
        Answered { id: "u-1".into(), state, words: words.into() }
    }

    fn over(verb: &str, state: ActionState) -> Action {
        let mut action = action(verb);
        action.status = Some(status(&action, &answered(state, "why"), at(101)));
        action
    }

    #[test]
    fn one_that_cannot_be_read_says_so_and_is_not_over() {
        let bad =
            Unreadable { why: "spec.verb: unknown variant `leap`".into(), generation: Some(1), status: None };
        let status = unreadable(&bad, at(100));
        assert_eq!(status.state, None);
        assert!(status.message.as_deref().is_some_and(|words| words.contains("leap")), "{status:?}");
        assert_eq!(crate::api::schema::beyond_bounds("Action", &status), Vec::<String>::new());
        let again = unreadable(&Unreadable { status: Some(status.clone()), ..bad }, at(200));
        assert!(same(&again, &status) && again == status, "nothing changes while nothing happens");
    }

    #[test]
    fn a_status_follows_the_rules_of_kstatus_and_settles() {
        let words = |state| {
            let action = over("pause", state);
            let conditions = &action.status.as_ref().expect("it has one").conditions;
            conditions.iter().map(|c| format!("{}={} {}", c.type_, c.status, c.reason)).collect::<Vec<_>>()
        };
        assert_eq!(
            words(ActionState::Done),
            ["Ready=True Done", "Reconciling=False Done", "Stalled=False NoProblem"]
        );
        assert_eq!(
            words(ActionState::Accepted),
            ["Ready=False Accepted", "Reconciling=True Accepted", "Stalled=False NoProblem"]
        );
        assert_eq!(
            words(ActionState::Refused),
            ["Ready=False Refused", "Reconciling=False Refused", "Stalled=True Refused"]
        );
        let action = over("pause", ActionState::Refused);
        let again = status(&action, &answered(ActionState::Refused, "why"), at(500));
        assert_eq!(Some(again), action.status, "nothing changes while nothing happens");
        let long = status(&action, &answered(ActionState::Refused, &"ä".repeat(3000)), at(500));
        assert_eq!(long.message.map(|message| message.chars().count()), Some(1000));
    }
}
