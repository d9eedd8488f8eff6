//! From the objects that people make to what they said. Pure.
//!
//! Who said something is in an annotation that the admission policies of the chart write; nobody can write
//! another's name there (see the chart's README). Where those policies are off, it is absent.

use crate::api::labels::CHANGED_BY_ANNOTATION;
use crate::api::labels::SAID_BY_ANNOTATION;
use crate::runtime::key::Key;
use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use crate::api::Action;
use crate::api::action::{ActionState, TargetKind, Verb};

/// How long an Action waits for what it is said to: both may be applied at once, in any order.
const ORPHAN_FOR: SignedDuration = SignedDuration::from_secs(60);
/// How long an Action that is over is kept.
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(30 * 24);

/// What a person said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// UID of the Action, or its name: what it is remembered by.
    pub id: String,
    /// Who said it, if that is known; else the Action's name.
    pub who: String,
    /// Who said it, as admission wrote it.
    pub by: Option<String>,
    /// What.
    pub verb: Verb,
    /// Of which release.
    pub release: Option<String>,
    /// Of which gate, by its weight.
    pub gate: Option<i32>,
    /// Why.
    pub words: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// What became of what a person said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The Action's id.
    pub id: String,
    /// What became of it.
    pub state: ActionState,
    /// Why.
    pub words: String,
}

/// What an Action is remembered by: its UID; its name where it has none.
pub fn id(action: &Action) -> String {
    action.uid().unwrap_or_else(|| action.name_any())
}

/// What an Action is said to: its kind, and its key.
pub fn target(action: &Action) -> (TargetKind, Key) {
    let namespace = action.metadata.namespace.as_deref().unwrap_or_default();
    (action.spec.target.kind, Key::new(namespace, &action.spec.target.name))
}

/// Whether an Action has been carried out or refused.
pub fn is_over(action: &Action) -> bool {
    let state = action.status.as_ref().and_then(|status| status.state);
    matches!(state, Some(ActionState::Done | ActionState::Refused))
}

/// When an Action was created; the beginning of time where the API server has not said so.
pub(super) fn created(action: &Action) -> Timestamp {
    action.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

/// The user who created an Action, if that is known.
pub fn said_by(action: &Action) -> Option<&str> {
    action.annotations().get(SAID_BY_ANNOTATION).map(String::as_str).filter(|name| !name.is_empty())
}

/// How Kubernetes names ServiceAccounts among users.
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// The person who agrees to something, by the name that admission wrote into the Action. A program is none.
///
/// # Errors
/// Why it is not known to be a person, with the remedy.
pub fn person(by: Option<&str>) -> Result<&str, String> {
    match by {
        None => Err(
            "approve needs a second person, and nobody knows who says this: the Action bears no name; turn \
                     on admission.stampAuthors of the chart and create it again"
                .to_owned(),
        ),
        Some(by) if by.starts_with(SERVICE_ACCOUNT) => {
            Err(format!("approve needs a person, and {by} is a ServiceAccount; say it in your own name"))
        }
        Some(by) => Ok(by),
    }
}

/// The user who changed the spec of a FinService or a CanaryRollout last, from its annotations, if that is known.
pub fn changed_by(annotations: &BTreeMap<String, String>) -> Option<&str> {
    annotations.get(CHANGED_BY_ANNOTATION).map(String::as_str).filter(|name| !name.is_empty())
}

/// What an Action says. `None` if it is over.
pub fn said(action: &Action) -> Option<Said> {
    if is_over(action) {
        return None;
    }
    let spec = &action.spec;
    Some(Said {
        id: id(action),
        who: said_by(action).map_or_else(|| action.name_any(), str::to_owned),
        by: said_by(action).map(str::to_owned),
        verb: spec.verb,
        release: spec.release.clone(),
        gate: spec.gate,
        words: spec.words.clone(),
        at: created(action),
    })
}

/// What becomes of an Action that is said to what does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Orphan {
    /// It may still come; look again then.
    Wait(Timestamp),
    /// It is refused.
    Refuse(Answered),
}

/// What becomes of an Action that is said to what does not exist, or whose kind no controller of this version listens
/// to (`heard` is false). `None` if it is over.
pub fn orphan(action: &Action, heard: bool, now: Timestamp) -> Option<Orphan> {
    if is_over(action) {
        return None;
    }
    let until = created(action).saturating_add(ORPHAN_FOR).unwrap_or(Timestamp::MAX);
    if now < until {
        return Some(Orphan::Wait(until));
    }
    let (kind, key) = target(action);
    let words = match heard {
        true => format!(
            "there is no {kind:?} {} in namespace {}; create the Action in the namespace of the one that is meant",
            key.name, key.namespace
        ),
        false => format!(
            "this version of Banyan does nothing that is said to a {kind:?}; run `kubectl delete action {} -n {}`, and \
             upgrade Banyan with `helm upgrade`",
            action.name_any(),
            key.namespace
        ),
    };
    Some(Orphan::Refuse(Answered { id: id(action), state: ActionState::Refused, words }))
}

/// What becomes of an Action of a namespace that has said more at once than is heard.
pub fn too_many(action: &Action) -> Answered {
    let words = "more Actions of this namespace wait for an answer than are heard; create it again when the others are \
                 answered"
        .to_owned();
    Answered { id: id(action), state: ActionState::Refused, words }
}

/// Whether an Action is over and so old that it is removed.
pub fn is_old(action: &Action, now: Timestamp) -> bool {
    is_over(action)
        && action.metadata.creation_timestamp.is_some()
        && now.duration_since(created(action)) >= KEPT_FOR
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::json;

    use super::*;
    use crate::actions::status::status;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn action(verb: &str, by: Option<&str>) -> Action {
        let mut action: Action = serde_json::from_value(json!({
            "apiVersion": "banyan.dev/v1alpha1", "kind": "Action",
            "metadata": {"name": "one", "namespace": "payments", "uid": "u-1", "generation": 1},
            "spec": {"target": {"kind": "CanaryRollout", "name": "app"}, "release": "app:2", "verb": verb, "gate": 50,
                "words": "looks fine"},
        }))
        .expect("an Action");
        action.metadata.creation_timestamp = Some(Time(at(100)));
        if let Some(by) = by {
            action.annotations_mut().insert(SAID_BY_ANNOTATION.to_owned(), by.to_owned());
        }
        action
    }

    fn answered(state: ActionState, words: &str) -> Answered {
        Answered { id: "u-1".into(), state, words: words.into() }
    }

    fn over(verb: &str, state: ActionState) -> Action {
        let mut action = action(verb, None);
        action.status = Some(status(&action, &answered(state, "why"), at(101)));
        action
    }

    #[test]
    fn an_action_is_what_somebody_said() {
        let said = said(&action("approve", Some("ann"))).expect("it is open");
        let expected = Said {
            id: "u-1".into(),
            who: "ann".into(),
            by: Some("ann".into()),
            verb: Verb::Approve,
            release: Some("app:2".into()),
            gate: Some(50),
            words: Some("looks fine".into()),
            at: at(100),
        };
        assert_eq!(said, expected);
        let unsigned = super::said(&action("pause", None)).expect("it is open");
        assert_eq!(unsigned.who, "one", "the name of the Action, where nobody wrote who it was");
        assert_eq!(target(&action("abort", None)), (TargetKind::CanaryRollout, Key::new("payments", "app")));
    }

    #[test]
    fn what_is_over_is_not_said_again() {
        assert_eq!(said(&over("pause", ActionState::Done)), None);
        assert_eq!(said(&over("pause", ActionState::Refused)), None);
        assert!(said(&over("pause", ActionState::Accepted)).is_some());
    }

    #[test]
    fn an_action_without_its_rollout_waits_a_minute_and_is_refused() {
        assert_eq!(orphan(&action("pause", None), true, at(159)), Some(Orphan::Wait(at(160))));
        let Some(Orphan::Refuse(refused)) = orphan(&action("pause", None), true, at(160)) else {
            panic!("it waited long enough")
        };
        assert_eq!(refused.state, ActionState::Refused);
        assert!(
            refused.words.starts_with("there is no CanaryRollout app in namespace payments"),
            "{refused:?}"
        );
        assert_eq!(orphan(&over("pause", ActionState::Done), true, at(999)), None);
    }

    #[test]
    fn what_is_said_to_a_kind_that_nothing_listens_to_is_refused() {
        let Some(Orphan::Refuse(refused)) = orphan(&action("pause", None), false, at(160)) else {
            panic!("it waited long enough")
        };
        assert!(refused.words.contains("kubectl delete action"), "{refused:?}");
    }

    #[test]
    fn only_what_is_over_grows_old() {
        let month = 30 * 24 * 3600;
        assert!(!is_old(&over("pause", ActionState::Done), at(100 + month - 1)));
        assert!(is_old(&over("pause", ActionState::Done), at(100 + month)));
        assert!(is_old(&over("pause", ActionState::Refused), at(100 + month)));
        assert!(!is_old(&over("pause", ActionState::Accepted), at(100 + month)));
        assert!(!is_old(&action("pause", None), at(100 + month)));
    }
}
