//! FailoverGroups as people read them. Pure.

use std::fmt::Write;

use kube::ResourceExt;
use serde::Serialize;

use crate::api::FailoverGroup;
use crate::api::failovergroup::{CheckState, FailoverGroupStatus};
use crate::terminal::table::columns;

/// Shown where nothing is known.
const NOTHING: &str = "-";

/// What a condition says: its status and its message.
fn condition<'a>(status: &'a FailoverGroupStatus, kind: &str) -> (&'a str, &'a str) {
    let found = status.conditions.iter().find(|condition| condition.type_ == kind);
    found.map_or((NOTHING, ""), |condition| (condition.status.as_str(), condition.message.as_str()))
}

/// Whether a failover could be ordered now.
pub fn is_ready(group: &FailoverGroup) -> bool {
    group.status.as_ref().is_some_and(|status| condition(status, "Ready").0 == "True")
}

/// What each column of [`Line`] is called.
pub const HEADS: [&str; 7] = ["GROUP", "READY", "PROTECTED", "HERE", "HOLDERS", "EPOCH", "WHY"];

/// The standing answer about one group at one site, in a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// The group.
    pub group: String,
    /// Whether a failover to this site could be ordered now: `True`, `False`, `Unknown`, or `-` where nothing is known.
    pub ready: String,
    /// Whether a standby follows, in the same words.
    pub protected: String,
    /// How this site stands, or `-`.
    pub here: String,
    /// The sites with authority, with commas between, or `-`.
    pub holders: String,
    /// The epoch; 0 where there is none.
    pub epoch: i64,
    /// Why it is ready or not.
    pub why: String,
}

impl Line {
    /// What the status of a group says.
    pub fn of(group: &FailoverGroup) -> Self {
        let empty = FailoverGroupStatus::default();
        let status = group.status.as_ref().unwrap_or(&empty);
        let (ready, why) = condition(status, "Ready");
        let authority = status.authority.clone().unwrap_or_default();
        let or_nothing = |text: String| if text.is_empty() { NOTHING.to_owned() } else { text };
        Self {
            group: group.name_any(),
            ready: ready.to_owned(),
            protected: condition(status, "Protected").0.to_owned(),
            here: or_nothing(authority.state),
            holders: or_nothing(authority.holders.join(",")),
            epoch: authority.epoch,
            why: if why.is_empty() { "no operator has looked at it yet".to_owned() } else { why.to_owned() },
        }
    }

    /// The columns.
    pub fn cells(&self) -> [String; 7] {
        let Self { group, ready, protected, here, holders, epoch, why } = self.clone();
        [group, ready, protected, here, holders, epoch.to_string(), why]
    }
}

/// A line for each group.
pub fn list(groups: &[FailoverGroup]) -> String {
    let mut rows = vec![HEADS.map(str::to_owned).to_vec()];
    rows.extend(groups.iter().map(|group| Line::of(group).cells().to_vec()));
    columns(&rows, "", 2)
}

/// All that is known of one group.
pub fn one(group: &FailoverGroup) -> String {
    let mut text = format!("FailoverGroup {}\n", group.name_any());
    let Some(status) = &group.status else {
        text.push_str("  nothing is known of it yet: no operator has looked at it\n");
        return text;
    };
    if status.observed_generation != group.metadata.generation {
        text.push_str("  what follows is about an older spec: the operator has not seen the newest yet\n");
    }
    let mut rows = Vec::new();
    let (ready, why) = condition(status, "Ready");
    rows.push(vec!["could fail over here now".to_owned(), format!("{ready}: {why}")]);
    let (protected, why) = condition(status, "Protected");
    rows.push(vec!["a standby follows".to_owned(), format!("{protected}: {why}")]);
    if let Some(authority) = &status.authority {
        let holders = authority.holders.join(", ");
        rows.push(vec![
            "authority".to_owned(),
            format!("{holders}, epoch {} (here: {})", authority.epoch, authority.state),
        ]);
    }
    text.push_str(&columns(&rows, "  ", 2));
    text.push_str("\nChecks\n");
    let mut rows = Vec::new();
    for check in &status.checks {
        let mark = match check.state {
            CheckState::Passed => "ok",
            CheckState::Warning => "!",
            CheckState::Unknown => "?",
            CheckState::Failed => "x",
        };
        rows.push(vec![mark.to_owned(), check.name.clone(), check.message.clone()]);
        if let Some(remedy) = &check.remedy {
            rows.push(vec![String::new(), String::new(), format!("→ {remedy}")]);
        }
    }
    text.push_str(&columns(&rows, "  ", 2));
    if let Some(plan) = &status.plan {
        text.push_str("\nWhat a move to this site would do\n");
        for (place, step) in plan.steps.iter().enumerate() {
            let _ = writeln!(text, "  {}. {}: {}", place + 1, step.name, step.does);
            for held in &step.would_hold {
                let _ = writeln!(text, "     held by: {held}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    fn group() -> FailoverGroup {
        let condition = |kind: &str, status: &str, message: &str| json!({"type": kind, "status": status, "reason": "R", "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let group = json!({
            "apiVersion": "banyan.dev/v1alpha1", "kind": "FailoverGroup",
            "metadata": {"name": "payments", "generation": 1},
            "spec": {"sites": ["aws", "gcp"], "services": {"namespaces": ["payments"]}},
            "status": {
                "observedGeneration": 1,
                "conditions": [condition("Ready", "False", "the witness cannot be read: no answer within 5 s"),
                    condition("Protected", "True", "a standby of every store follows")],
                "authority": {"state": "Standby", "holders": ["aws"], "epoch": 16},
                "checks": [
                    {"name": "witness", "state": "Failed", "message": "the witness cannot be read: no answer within 5 s", "remedy": "see whether the store is up"},
                    {"name": "services", "state": "Passed", "message": "every service is well at this site"},
                ],
                "plan": {"steps": [{"name": "claim", "does": "claims authority", "wouldHold": ["the witness cannot be read"]}]},
            },
        });
        serde_json::from_value(group).expect("a group")
    }

    #[test]
    fn a_group_is_shown_with_what_to_do() {
        expect![[r#"
            GROUP     READY  PROTECTED  HERE     HOLDERS  EPOCH  WHY
            payments  False  True       Standby  aws      16     the witness cannot be read: no answer within 5 s
        "#]]
        .assert_eq(&list(&[group()]));
        expect![[r#"
            FailoverGroup payments
              could fail over here now  False: the witness cannot be read: no answer within 5 s
              a standby follows         True: a standby of every store follows
              authority                 aws, epoch 16 (here: Standby)

            Checks
              x   witness   the witness cannot be read: no answer within 5 s
                            → see whether the store is up
              ok  services  every service is well at this site

            What a move to this site would do
              1. claim: claims authority
                 held by: the witness cannot be read
        "#]]
        .assert_eq(&one(&group()));
        assert!(!is_ready(&group()));
    }
}
