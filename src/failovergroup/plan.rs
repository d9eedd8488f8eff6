//! What a move to this site would do, how long each step took last, and what would hold it. Pure.

use super::checks::found::{Found, Step as Held};
use super::measured::Measured;
use crate::api::FailoverGroupSpec;
use crate::api::conditions::short;
use crate::api::failovergroup::{CheckState, MovePlan, PlannedStep};
use crate::api::hook::HookPoint;
use crate::api::step::Step;

/// Which groups have a step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    /// All.
    All,
    /// Those with stores.
    Stores,
    /// Those with hooks there.
    Hooks(HookPoint),
}

/// A step as it is planned: what it does, which groups have it, and the kind of checks that would hold it.
type Row = (Step, &'static str, Of, Option<Held>);

const ROWS: [Row; 13] = [
    (
        Step::Preflight,
        "looks at all that is checked; a Switchover waits for it, a Failover only warns",
        Of::All,
        Some(Held::Preflight),
    ),
    (
        Step::Claim,
        "claims authority, which is a licence to fence, and nothing more",
        Of::All,
        Some(Held::Claim),
    ),
    (Step::Capacity, "brings the services of this site to full size", Of::All, Some(Held::Capacity)),
    (
        Step::BeforeFence,
        "calls the hooks that come before anything is closed; a Failover calls them before its claim",
        Of::Hooks(HookPoint::BeforeFence),
        None,
    ),
    (Step::Fence, "closes the stores of the other site: from here on nobody writes", Of::Stores, None),
    (Step::CatchUp, "waits until all that was written there is here", Of::Stores, None),
    (Step::Try, "sends requests through the gateway of this site", Of::All, None),
    (Step::Commit, "changes who has authority: the only point of no return", Of::All, None),
    (Step::Promote, "promotes the stores here", Of::Stores, Some(Held::Promote)),
    (
        Step::BeforeOpen,
        "calls the hooks that come before applications may write: nobody writes meanwhile",
        Of::Hooks(HookPoint::BeforeOpen),
        None,
    ),
    (
        Step::Open,
        "writes to the stores and reads back, opens them, and answers 200 on /authority: traffic comes here without a \
         write at the provider",
        Of::All,
        Some(Held::Traffic),
    ),
    (
        Step::AfterTraffic,
        "calls the hooks that come once this site serves",
        Of::Hooks(HookPoint::AfterTraffic),
        None,
    ),
    (Step::Reprotect, "makes the other site the standby", Of::Stores, Some(Held::Reprotect)),
];

/// The plan. What was measured is kept from the last one where no Failover is left that says so.
pub fn plan(
    spec: &FailoverGroupSpec,
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
    let is_there = |of: Of| match of {
        Of::All => true,
        Of::Stores => !spec.stores().is_empty(),
        Of::Hooks(at) => spec.has_hooks(at),
    };
    let steps = ROWS.iter().filter(|(_, _, of, _)| is_there(*of));
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
    use serde_json::json;

    use super::*;
    use crate::api::store::Store;

    fn group(more: serde_json::Value) -> FailoverGroupSpec {
        let mut spec = json!({"sites": ["a", "b"], "services": {"namespaces": ["pay"]}});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    fn with_store() -> FailoverGroupSpec {
        FailoverGroupSpec {
            stores: Some(vec![Store { name: "db".to_owned(), ..Store::default() }]),
            ..group(json!({}))
        }
    }

    #[test]
    fn it_says_what_was_measured_and_remembers_it() {
        let steps = vec![("capacity".to_owned(), 3000), ("catch-up".to_owned(), 20)];
        let measured = Measured { by: "rehearsal-1".to_owned(), at: Timestamp::UNIX_EPOCH, steps };
        let first = plan(&with_store(), &[], Some(&measured), None);
        assert_eq!((first.steps.len(), first.total_millis), (10, Some(3020)));
        assert_eq!(first.steps[2].expected_millis, Some(3000));
        assert_eq!(plan(&with_store(), &[], None, Some(&first)), first);
        let without = plan(&group(json!({})), &[], None, None);
        assert_eq!((without.steps.len(), without.total_millis, without.measured_by), (6, None, None));
    }

    #[test]
    fn it_says_where_hooks_are_called() {
        let hook = |name: &str, at: &str| json!({"name": name, "at": at, "webhook": {"url": "http://ops/x"}});
        let hooks = json!({"hooks": [hook("tell", "AfterTraffic"), hook("stop", "BeforeFence"), hook("more", "BeforeFence")]});
        let plan = plan(&group(hooks), &[], None, None);
        let names: Vec<&str> = plan.steps.iter().map(|step| step.name.as_str()).collect();
        let expected =
            ["preflight", "claim", "capacity", "before-fence", "try", "commit", "open", "after-traffic"];
        assert_eq!(names, expected);
    }

    #[test]
    fn it_says_what_would_hold_which_step() {
        let checks = [Found::failed(Held::Promote, "lag db", "Lags", "db is 5m behind", "see why")];
        let plan = plan(&with_store(), &checks, None, None);
        assert_eq!(held(&plan), ["db is 5m behind"]);
        assert_eq!(plan.steps.iter().find(|step| step.name == "promote").unwrap().would_hold.len(), 1);
    }
}
