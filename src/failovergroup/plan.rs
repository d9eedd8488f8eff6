//! What a move to this site would do, how long each step took last, and what would hold it. Pure.

use super::checks::found::{Found, Step as Held};
use super::measured::Measured;
use crate::api::conditions::short;
use crate::api::failovergroup::{CheckState, MovePlan, PlannedStep};
use crate::api::step::Step;

/// A step as it is planned: what it does, whether it is there in a group without stores, and the kind of checks
/// that would hold it.
type Row = (Step, &'static str, bool, Option<Held>);

const ROWS: [Row; 10] = [
    (
        Step::Preflight,
        "looks at all that is checked; a Switchover waits for it, a Failover only warns",
        true,
        Some(Held::Preflight),
    ),
    (Step::Claim, "claims authority, which is a licence to fence, and nothing more", true, Some(Held::Claim)),
    (Step::Capacity, "brings the services of this site to full size", true, Some(Held::Capacity)),
    (Step::Fence, "closes the stores of the other site: from here on nobody writes", false, None),
    (Step::CatchUp, "waits until all that was written there is here", false, None),
    (Step::Try, "sends requests through the gateway of this site", true, None),
    (Step::Commit, "changes who has authority: the only point of no return", true, None),
    (Step::Promote, "promotes the stores here", false, Some(Held::Promote)),
    (
        Step::Open,
        "writes to the stores and reads back, opens them, and answers 200 on /authority: traffic comes here without a \
         write at the provider",
        true,
        Some(Held::Traffic),
    ),
    (Step::Reprotect, "makes the other site the standby", false, Some(Held::Reprotect)),
];

/// The plan. What was measured is kept from the last one where no Failover is left that says so.
pub fn plan(
    without_stores: bool,
    checks: &[Found],
    measured: Option<&Measured>,
    last: Option<&MovePlan>,
) -> MovePlan {
    let held = |step: Option<Held>| {
        let of = checks.iter().filter(|found| Some(found.step) == step && found.state < CheckState::Warning);
        of.map(|found| short(found.message.clone())).take(32).collect()
    };
    let took = |name: &str| match measured {
        Some(measured) => measured.steps.iter().find(|(step, _)| step == name).map(|(_, took)| *took),
        None => last?.steps.iter().find(|step| step.name == name)?.expected_millis,
    };
    let steps = ROWS.iter().filter(|(_, _, always, _)| *always || !without_stores);
    let steps: Vec<PlannedStep> = steps
        .map(|(step, does, _, by)| PlannedStep {
            name: step.as_str().to_owned(),
            does: (*does).to_owned(),
            expected_millis: took(step.as_str()),
            would_hold: held(*by),
        })
        .collect();
    let total: i64 = steps.iter().filter_map(|step| step.expected_millis).fold(0, i64::saturating_add);
    MovePlan {
        total_millis: Some(total).filter(|total| *total > 0),
        measured_by: match measured {
            Some(measured) => Some(measured.by.clone()),
            None => last.and_then(|last| last.measured_by.clone()),
        },
        steps,
    }
}

/// What would hold it, of all steps.
pub fn held(plan: &MovePlan) -> Vec<&str> {
    plan.steps.iter().flat_map(|step| &step.would_hold).map(String::as_str).collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn it_says_what_was_measured_and_remembers_it() {
        let steps = vec![("capacity".to_owned(), 3000), ("catch-up".to_owned(), 20)];
        let measured = Measured { by: "rehearsal-1".to_owned(), at: Timestamp::UNIX_EPOCH, steps };
        let first = plan(false, &[], Some(&measured), None);
        assert_eq!((first.steps.len(), first.total_millis), (10, Some(3020)));
        assert_eq!(first.steps[2].expected_millis, Some(3000));
        assert_eq!(plan(false, &[], None, Some(&first)), first);
        let without = plan(true, &[], None, None);
        assert_eq!((without.steps.len(), without.total_millis, without.measured_by), (6, None, None));
    }

    #[test]
    fn it_says_what_would_hold_which_step() {
        let checks = [Found::failed(Held::Promote, "lag db", "Lags", "db is 5m behind", "see why")];
        let plan = plan(false, &checks, None, None);
        assert_eq!(held(&plan), ["db is 5m behind"]);
        assert_eq!(plan.steps.iter().find(|step| step.name == "promote").unwrap().would_hold.len(), 1);
    }
}
