//! Four eyes: who may open a gate that waits for a person. Pure.
//!
//! Who asked for a revision is written down when its rollout begins: whoever changes something else of the FinService
//! later hides nobody. Gates that are changed under way close again, and an approval that was asked for once is asked
//! for until the rollout ends. Where nobody is on record, such a gate stays closed, and says why.

use super::draft::Draft;
use super::facts::{Facts, name_of};
use super::policy::{GateKind, GatePolicy};
use crate::actions::Said;
use crate::actions::hear::person;
use crate::api::canarystatus::Rollout;
use crate::api::notice::Reason;

/// Approvals that stand at once, at the most.
const APPROVALS: usize = 32;

/// The gates that stand: those of the policy with their places, and approvals that were asked for under way and are not
/// among them any more.
pub(super) fn gates_that_stand(facts: &Facts<'_>, rollout: &Rollout) -> Vec<(Option<usize>, GatePolicy)> {
    let of_policy = facts.policy.gates.iter().enumerate();
    let mut all: Vec<_> = of_policy.map(|(place, gate)| (Some(place), gate.clone())).collect();
    for at in &rollout.approvals {
        let same = |(_, gate): &(_, GatePolicy)| gate.kind == GateKind::Approval && gate.at == *at;
        if !all.iter().any(same) {
            all.push((None, GatePolicy::approval(*at)));
        }
    }
    all
}

/// Takes in the gates of the policy: approvals that were given for other ones are void.
pub(super) fn follow_gates(draft: &mut Draft<'_>) {
    let facts = draft.facts;
    // What cannot be read has not been changed.
    if facts.unreadable.is_some() {
        return;
    }
    let Some(rollout) = draft.memory.rollout.as_mut() else { return };
    let now: Vec<String> = facts.policy.gates.iter().map(GatePolicy::name).collect();
    for gate in facts.policy.gates.iter().filter(|gate| gate.kind == GateKind::Approval) {
        if !rollout.approvals.contains(&gate.at) {
            rollout.approvals.push(gate.at);
        }
    }
    // What is passed is asked for no more; and no policy has more gates than that, however often it changes.
    let weight = rollout.weight;
    rollout.approvals.retain(|at| *at > weight);
    rollout.approvals.truncate(APPROVALS);
    let stand: Vec<String> = gates_that_stand(facts, rollout).iter().map(|(_, gate)| gate.name()).collect();
    rollout.gates.retain(|memory| stand.contains(&memory.what));
    let before = std::mem::replace(&mut rollout.gates_seen, now);
    // A rollout that has just begun has seen none.
    if before == rollout.gates_seen || before.is_empty() {
        return;
    }
    rollout.gates_by = facts.policy_by.map(name_of);
    let opened = rollout.gates.iter().any(|memory| memory.open);
    rollout.gates.iter_mut().for_each(|memory| memory.open = false);
    if opened || !rollout.approvals.is_empty() {
        let who = facts.policy_by.unwrap_or("somebody");
        let note = format!(
            "spec.gates was changed by {who} while {} rolls out: approvals are asked for again, and those that were \
             taken out are still asked for",
            rollout.release
        );
        draft.notice(Reason::GateReached, note);
    }
}

/// Why somebody may not open a gate, if so.
pub(super) fn objection(rollout: &Rollout, said: &Said) -> Option<String> {
    let by = match person(said.by.as_deref()) {
        Ok(by) => by,
        Err(why) => return Some(why),
    };
    // As it is written down.
    let by = name_of(by);
    match (&rollout.made_by, &rollout.unsigned) {
        (_, Some(why)) => Some(format!("approve needs a second person: {why}")),
        (None, None) => Some(
            "approve needs a second person, and nobody wrote down who asked for this revision; ask for another \
             spec.version"
                .to_owned(),
        ),
        (Some(made), None) if *made == by => {
            Some(format!("approve needs a second person: {by} asked for this revision"))
        }
        (Some(_), None) if rollout.gates_by.as_ref() == Some(&by) => {
            Some(format!("approve needs a second person: {by} changed spec.gates while this rolls out"))
        }
        (Some(_), None) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::action::Verb;

    fn rollout(more: serde_json::Value) -> Rollout {
        let mut rollout =
            json!({"canary": "b", "stable": "a", "release": "app:2", "startedAt": "2026-01-01T00:00:00Z"});
        rollout.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        serde_json::from_value(rollout).expect("a rollout")
    }

    fn said(by: Option<&str>) -> Said {
        Said {
            id: "1".into(),
            who: "x".into(),
            by: by.map(str::to_owned),
            verb: Verb::Approve,
            release: None,
            gate: None,
            words: None,
            at: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn an_approval_needs_a_second_person_who_is_known() {
        let by_ann = rollout(json!({"madeBy": "ann"}));
        let objects = |rollout: &Rollout, by| objection(rollout, &said(by)).unwrap_or_default();
        assert_eq!(objects(&by_ann, Some("ben")), "");
        assert_eq!(
            objects(&by_ann, Some("ann")),
            "approve needs a second person: ann asked for this revision"
        );
        assert!(objects(&by_ann, None).contains("admission.stampAuthors"));
        assert!(objects(&by_ann, Some("system:serviceaccount:pay:default")).contains("is a ServiceAccount"));
        let changed = rollout(json!({"madeBy": "ann", "gatesBy": "ben"}));
        assert!(objects(&changed, Some("ben")).contains("ben changed spec.gates"));
        assert_eq!(objects(&changed, Some("cem")), "");
    }

    #[test]
    fn where_nobody_is_on_record_nobody_can_be_the_second() {
        let unsigned = rollout(json!({"unsigned": "nobody is on record for ConfigMap fees"}));
        let words = objection(&unsigned, &said(Some("ben"))).expect("it is refused");
        assert!(words.ends_with("ConfigMap fees"), "{words}");
        assert!(objection(&rollout(json!({})), &said(Some("ben"))).is_some(), "of an older version");
    }
}
