//! What keeps an object from being well, or from moving on, by what its status says: for metrics and alerts. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::Value;

use super::canarystatus::{Outcome, Rollout};
use super::failover::MoveAction;
use super::{
    ActionStatus, AuthorityStatus, CanaryRolloutStatus, CloudClusterStatus, FailoverGroupStatus,
    FailoverStatus, FinServiceStatus,
};

/// One thing that an object waits for, or suffers from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stuck {
    /// One word in CamelCase. There are few of them: each stands in the code.
    pub reason: String,
    /// Since when; where only a time before that is known, that one.
    pub since: Timestamp,
}

impl Stuck {
    /// Stuck for that reason, since then.
    pub fn new(reason: &str, since: Timestamp) -> Self {
        Self { reason: reason.to_owned(), since }
    }

    /// Its spec cannot be read, which was found then.
    pub fn unreadable(since: Timestamp) -> Self {
        Self::new("Unreadable", since)
    }
}

/// A status that says how its object stands.
pub trait Stands {
    /// Why the object is not well or does not move on; nothing where it does, or where others say so for it.
    fn stuck(&self) -> Vec<Stuck>;
}

/// A FailoverGroup of other sites, of which nothing concerns this one.
const OTHER_SITES: &str = "OtherSites";
/// Phases of a rollout that does not move on, and is no failure.
const WAITS: [&str; 6] = ["Blocked", "Frozen", "Gated", "Inconclusive", "Paused", "Waiting"];
/// The phase of a rollout that was taken back.
const ROLLED_BACK: &str = "RolledBack";

fn find<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// Stalled if it is so, else Ready if that is not.
fn standing(conditions: &[Condition]) -> Option<Stuck> {
    let stalled = find(conditions, "Stalled").filter(|stalled| stalled.status == "True");
    let ready = || find(conditions, "Ready").filter(|ready| ready.status != "True");
    let said = stalled.or_else(ready).filter(|said| said.reason != OTHER_SITES)?;
    Some(Stuck::new(&said.reason, said.last_transition_time.0))
}

impl Stands for FinServiceStatus {
    fn stuck(&self) -> Vec<Stuck> {
        standing(&self.conditions).into_iter().collect()
    }
}

impl Stands for CloudClusterStatus {
    fn stuck(&self) -> Vec<Stuck> {
        standing(&self.conditions).into_iter().collect()
    }
}

impl Stands for FailoverGroupStatus {
    /// Ready, and Protected where it is known that nobody follows.
    fn stuck(&self) -> Vec<Stuck> {
        let open = find(&self.conditions, "Protected").filter(|protected| protected.status == "False");
        let open = open.map(|open| Stuck::new(&open.reason, open.last_transition_time.0));
        standing(&self.conditions).into_iter().chain(open).collect()
    }
}

/// Since when a rollout has been where it is: at its weight, else since it began.
fn since(rollout: &Rollout) -> Timestamp {
    rollout.entered_at.as_ref().unwrap_or(&rollout.started_at).0
}

impl Stands for CanaryRolloutStatus {
    /// One that rolls out as it should is not Ready either; so the phase counts, and that it is stalled.
    fn stuck(&self) -> Vec<Stuck> {
        let phase = self.phase.as_deref().unwrap_or_default();
        let ended = self.history.iter().find(|past| past.outcome != Outcome::Superseded);
        if let Some(past) = ended.filter(|_| phase == ROLLED_BACK) {
            let reason = if past.outcome == Outcome::Aborted { "Aborted" } else { ROLLED_BACK };
            return vec![Stuck::new(reason, past.ended_at.0)];
        }
        if let Some(stalled) = find(&self.conditions, "Stalled").filter(|stalled| stalled.status == "True") {
            return vec![Stuck::new(&stalled.reason, stalled.last_transition_time.0)];
        }
        if !WAITS.contains(&phase) && phase != ROLLED_BACK {
            return Vec::new();
        }
        let rollout = self.memory.as_ref().and_then(|memory| memory.rollout.as_ref()).map(since);
        let ready = find(&self.conditions, "Ready").map(|ready| ready.last_transition_time.0);
        rollout.or(ready).map(|since| Stuck::new(phase, since)).into_iter().collect()
    }
}

/// The status of an object whose spec cannot be read.
impl Stands for Value {
    fn stuck(&self) -> Vec<Stuck> {
        let conditions: Vec<Condition> =
            serde_json::from_value(self["conditions"].clone()).unwrap_or_default();
        standing(&conditions).into_iter().collect()
    }
}

/// What it means for a site says its FailoverGroup.
impl Stands for AuthorityStatus {
    fn stuck(&self) -> Vec<Stuck> {
        Vec::new()
    }
}

/// What it is about says so itself.
impl Stands for ActionStatus {
    fn stuck(&self) -> Vec<Stuck> {
        Vec::new()
    }
}

/// What an order that moves a group waits for, or since when it is late. Who rehearses or plans holds nobody up.
pub fn of_move(action: MoveAction, status: &FailoverStatus, is_late: bool) -> Vec<Stuck> {
    if !action.moves() || status.phase.is_some_and(super::failover::Phase::is_over) {
        return Vec::new();
    }
    let waits = status.waits.iter().filter(|wait| Some(&wait.reason) == status.reason.as_ref());
    let waits = waits.filter_map(|wait| Some(Stuck::new(&wait.reason, wait.since.as_ref()?.0)));
    let late = status.late_at.as_ref().filter(|_| is_late).map(|at| Stuck::new("Late", at.0));
    waits.chain(late).take(1).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::json;

    use super::*;
    use crate::api::failover::Phase;
    use crate::api::record::WaitRecord;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    /// Conditions as `Type=Status Reason`, of which the place is the second of the transition.
    fn conditions(said: &[&str]) -> serde_json::Value {
        let condition = |(place, words): (usize, &&str)| {
            let (kind, rest) = words.split_once('=').expect("a condition");
            let (status, reason) = rest.split_once(' ').expect("a reason");
            let since = at(place as i64).to_string();
            json!({"type": kind, "status": status, "reason": reason, "message": "", "lastTransitionTime": since})
        };
        said.iter().enumerate().map(condition).collect()
    }

    fn of<S: serde::de::DeserializeOwned + Stands>(said: &[&str], mut more: serde_json::Value) -> Vec<Stuck> {
        more["conditions"] = conditions(said);
        serde_json::from_value::<S>(more).expect("a status").stuck()
    }

    #[test]
    fn what_a_person_must_mend_is_said_first_and_what_is_well_is_not_said() {
        let service = |said: &[&str]| of::<FinServiceStatus>(said, json!({}));
        assert_eq!(service(&["Ready=True Serving", "Stalled=False NoProblem"]), []);
        assert_eq!(service(&["Ready=False Degraded", "Stalled=False NoProblem"])[0].reason, "Degraded");
        let both = service(&["Ready=False Problem", "Stalled=True Problem"]);
        assert_eq!(both, [Stuck::new("Problem", at(1))]);
        let unread: Value = json!({"conditions": conditions(&["Stalled=True Unreadable"])});
        assert_eq!(unread.stuck(), [Stuck::new("Unreadable", at(0))]);
        assert_eq!(json!(null).stuck(), []);
        let site = of::<CloudClusterStatus>(&["Ready=Unknown NotAsked"], json!({}));
        assert_eq!(site[0].reason, "NotAsked");
    }

    #[test]
    fn a_group_says_whether_it_could_fail_over_and_whether_somebody_follows() {
        let group = |said: &[&str]| of::<FailoverGroupStatus>(said, json!({}));
        let words = |found: Vec<Stuck>| found.into_iter().map(|stuck| stuck.reason).collect::<Vec<_>>();
        assert_eq!(
            words(group(&["Ready=False LagTooGreat", "Protected=False NobodyFollows"])),
            ["LagTooGreat", "NobodyFollows"]
        );
        assert_eq!(words(group(&["Ready=True CouldFailOver", "Protected=Unknown NotTold"])), [""; 0]);
        assert_eq!(
            words(group(&["Ready=False OtherSites", "Protected=Unknown OtherSites"])),
            [""; 0],
            "it is none of ours"
        );
    }

    #[test]
    fn a_rollout_is_stuck_where_it_waits_and_where_it_was_taken_back() {
        let rollout = |phase: &str, stalled: &str| {
            let history = |second: i64, outcome: &str| {
                json!({"release": "b", "revision": "b", "outcome": outcome, "message": "",
                    "startedAt": at(1).to_string(), "endedAt": at(second).to_string()})
            };
            let memory = json!({"rollout": {"canary": "b", "release": "b", "startedAt": at(100).to_string(),
                "enteredAt": at(200).to_string()}});
            let more = json!({"phase": phase, "memory": memory,
                "history": [history(9, "Superseded"), history(8, "RolledBack")]});
            of::<CanaryRolloutStatus>(&[&format!("Ready=False {phase}"), stalled], more)
        };
        let well = "Stalled=False NoProblem";
        assert_eq!(rollout("Analysing", well), []);
        assert_eq!(rollout("Preparing", well), []);
        assert_eq!(rollout("Gated", well), [Stuck::new("Gated", at(200))]);
        assert_eq!(rollout("Gated", "Stalled=True GateTimedOut"), [Stuck::new("GateTimedOut", at(1))]);
        assert_eq!(rollout("RolledBack", well), [Stuck::new("RolledBack", at(8))]);
        let ignored = of::<CanaryRolloutStatus>(
            &["Ready=False Ignored", "Stalled=True Ignored"],
            json!({"phase": "Ignored"}),
        );
        assert_eq!(ignored[0].reason, "Ignored");
    }

    #[test]
    fn a_move_is_stuck_while_it_waits_or_is_late_and_a_rehearsal_never() {
        let wait = |reason: &str, since: Option<i64>| WaitRecord {
            reason: reason.to_owned(),
            step: "fence".to_owned(),
            since: since.map(|since| Time(at(since))),
            millis: 0,
            person: None,
        };
        let status = FailoverStatus {
            phase: Some(Phase::Waiting),
            reason: Some("NotFenced".to_owned()),
            waits: vec![wait("NoCapacity", None), wait("NotFenced", Some(7))],
            late_at: Some(Time(at(60))),
            ..FailoverStatus::default()
        };
        let waits = [Stuck::new("NotFenced", at(7))];
        assert_eq!(of_move(MoveAction::Switchover, &status, true), waits);
        assert_eq!(of_move(MoveAction::Rehearsal, &status, true), []);
        let goes_on = FailoverStatus { reason: None, phase: Some(Phase::Fencing), ..status.clone() };
        assert_eq!(of_move(MoveAction::Failover, &goes_on, false), []);
        assert_eq!(of_move(MoveAction::Failover, &goes_on, true), [Stuck::new("Late", at(60))]);
        let done = FailoverStatus { phase: Some(Phase::Refused), ..status };
        assert_eq!(of_move(MoveAction::Failover, &done, true), []);
    }
}
