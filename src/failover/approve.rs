//! Who agrees to a move: people other than whoever ordered it, each once. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::actions::hear::{person, said_by};
use crate::api::failover::Statement;
use crate::api::{Action, FailoverStatus};

/// Takes in that somebody agrees. `people` is how many must; `None` where the group asks for nobody.
///
/// # Errors
/// Why it does not count.
pub fn approve(
    status: &mut FailoverStatus,
    action: &Action,
    people: Option<usize>,
    now: Timestamp,
) -> Result<String, String> {
    let Some(people) = people else {
        return Err("the FailoverGroup asks for no approval: spec.approval is not set".to_owned());
    };
    if status.committed_at.is_some() {
        return Err("it is committed: there is nothing to agree to any more".to_owned());
    }
    let who = person(said_by(action))?;
    let Some(by) = status.by.as_deref() else {
        return Err("nobody knows who ordered it, so that nobody can be another person; turn on admission.stampAuthors of \
                    the chart, and order it anew"
            .to_owned());
    };
    if who == by {
        return Err(format!("{who} ordered it: another person must agree"));
    }
    if !status.approvals.iter().any(|one| one.by == who) {
        let words = action.spec.words.clone().unwrap_or_else(|| "approved".to_owned());
        status.approvals.push(Statement { by: who.to_owned(), words, at: Time(now) });
    }
    let has = status.approvals.len();
    Ok(format!("{has} of {people} approvals are there"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::action::{ActionSpec, Target, TargetKind, Verb};
    use crate::api::labels::SAID_BY_ANNOTATION;

    fn said(who: Option<&str>) -> Action {
        let target = Target { kind: TargetKind::Failover, name: "move".to_owned(), uid: None };
        let spec = ActionSpec {
            target,
            verb: Verb::Approve,
            release: None,
            gate: None,
            step: None,
            store: None,
            evidence: None,
            position: None,
            words: None,
        };
        let mut action = Action::new("said", spec);
        let named = who.map(|who| (SAID_BY_ANNOTATION.to_owned(), who.to_owned()));
        action.metadata.annotations = Some(named.into_iter().collect());
        action
    }

    #[test]
    fn people_other_than_who_ordered_it_count_once_each() {
        let mut status = FailoverStatus { by: Some("jo".to_owned()), ..FailoverStatus::default() };
        let mut says = |who, people| approve(&mut status, &said(who), people, Timestamp::UNIX_EPOCH);
        assert!(says(Some("kim"), None).unwrap_err().contains("spec.approval"));
        assert!(says(Some("jo"), Some(2)).unwrap_err().contains("another person"));
        assert!(says(None, Some(2)).unwrap_err().contains("stampAuthors"));
        let program = "system:serviceaccount:argocd:controller";
        assert!(says(Some(program), Some(2)).unwrap_err().contains("is a ServiceAccount"));
        assert_eq!(says(Some("kim"), Some(2)).unwrap(), "1 of 2 approvals are there");
        assert_eq!(says(Some("kim"), Some(2)).unwrap(), "1 of 2 approvals are there");
        assert_eq!(says(Some("lee"), Some(2)).unwrap(), "2 of 2 approvals are there");
    }

    #[test]
    fn where_names_are_not_known_it_stays_closed() {
        let mut status = FailoverStatus::default();
        assert!(approve(&mut status, &said(Some("kim")), Some(1), Timestamp::UNIX_EPOCH).is_err());
        assert!(status.approvals.is_empty());
    }
}
