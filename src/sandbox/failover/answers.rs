//! What each site says of each FailoverGroup, as people and as programs read it.

use kube::Client;
use kube::api::{Api, ListParams};
use serde::Serialize;

use super::super::error::{Context, Result};
use super::super::operators::NAMESPACE;
use crate::api::FailoverGroup;
use crate::api::Severity;
use crate::failovergroup::table::{HEADS, Line};
use crate::terminal::table::fitted;

/// What one site says of one group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// The cloud.
    pub cloud: String,
    /// The answer, as `banyan failover ready` gives it.
    #[serde(flatten)]
    pub line: Line,
    /// Whether it is about the group as it is specified now.
    pub current: bool,
    /// The first check that holds, and what to do about it; empty where none does.
    pub holds: String,
}

/// Reads the groups of a cloud.
///
/// # Errors
/// When the API server does not answer, or has no FailoverGroups.
pub async fn read(client: &Client, cloud: &str) -> Result<Vec<Answer>> {
    let api: Api<FailoverGroup> = Api::namespaced(client.clone(), NAMESPACE);
    let list = api.list(&ListParams::default()).await;
    let list = list.context(|| format!("listing the FailoverGroups of {cloud}"))?;
    Ok(list.iter().map(|group| of(cloud, group)).collect())
}

fn of(cloud: &str, group: &FailoverGroup) -> Answer {
    let status = group.status.as_ref();
    let mut checks = status.iter().flat_map(|status| &status.checks);
    let first = checks.find(|check| check.state.severity() == Some(Severity::Error));
    let holds = first.map(|check| {
        let remedy = check.remedy.iter().map(|remedy| format!("; {remedy}")).collect::<String>();
        format!("{}: {}{remedy}", check.name, check.message)
    });
    Answer {
        cloud: cloud.to_owned(),
        line: Line::of(group),
        current: status.is_some_and(|status| status.observed_generation == group.metadata.generation),
        holds: holds.unwrap_or_default(),
    }
}

/// A line for each group at each site, by name, on a terminal of that width, every one ended; nothing where there is no group.
pub fn render(answers: &[&Answer], width: Option<usize>) -> String {
    // The epoch; what a move needs is told by `banyan failover ready` as well.
    const SPARE: [usize; 1] = [6];
    if answers.is_empty() {
        return String::new();
    }
    let mut answers = answers.to_vec();
    answers.sort_by_key(|answer| (&answer.line.group, &answer.cloud));
    let row = |cells: [String; 7], cloud: String| {
        let mut row = cells.to_vec();
        row.insert(1, cloud);
        row
    };
    let mut rows = vec![row(HEADS.map(str::to_owned), "CLOUD".to_owned())];
    rows.extend(answers.into_iter().map(|answer| row(answer.line.cells(), answer.cloud.clone())));
    fitted(&rows, "", 3, &SPARE, width)
}

/// Whether one site has authority over a group, and every other one could take over.
///
/// # Errors
/// What stands in the way, as a clause that names the site and the check.
pub fn stands(answers: &[Answer], group: &str) -> std::result::Result<(), String> {
    let of: Vec<&Answer> = answers.iter().filter(|answer| answer.line.group == group).collect();
    let is = |answer: &&&Answer, state: &str| answer.current && answer.line.here == state;
    let because = |answer: &Answer| match (answer.current, answer.holds.is_empty()) {
        (false, _) => "its operator has not looked at the group yet".to_owned(),
        (true, false) => format!("the check `{}`", answer.holds),
        (true, true) => answer.line.why.clone(),
    };
    let Some(holder) = of.iter().find(|answer| is(answer, "Held")) else {
        let why = of.first().map(|answer| format!(": {}: {}", answer.cloud, because(answer)));
        return Err(format!("no site has authority{}", why.unwrap_or_default()));
    };
    let others = of.iter().filter(|answer| answer.cloud != holder.cloud);
    let unfit = others.clone().find(|answer| !is(answer, "Standby") || answer.line.ready != "True");
    match unfit {
        Some(answer) => {
            Err(format!("a failover to {} could not be ordered: {}", answer.cloud, because(answer)))
        }
        None if others.count() == 0 => Err(format!("{} is the only site that has the group", holder.cloud)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn answer(cloud: &str, state: &str, ready: &str, check: Value) -> Answer {
        let group = json!({
            "apiVersion": "banyan.dev/v1alpha1", "kind": "FailoverGroup",
            "metadata": {"name": "payments", "generation": 1},
            "spec": {"sites": ["aws", "gcp"], "services": {"namespaces": ["payments"]}},
            "status": {
                "observedGeneration": 1,
                "conditions": [{"type": "Ready", "status": ready, "reason": "R", "message": "words",
                    "lastTransitionTime": "2026-01-01T00:00:00Z"}],
                "authority": {"state": state, "holders": ["aws"], "epoch": 16},
                "checks": [{"name": "git", "state": "Passed", "message": "well"}, check],
            },
        });
        of(cloud, &serde_json::from_value(group).unwrap())
    }

    #[test]
    fn the_check_that_holds_is_named() {
        let well = json!({"name": "witness", "state": "Warning", "message": "on the same ground"});
        let ill =
            json!({"name": "witness", "state": "Failed", "message": "no answer", "remedy": "see to it"});
        let held = answer("aws", "Held", "True", well.clone());
        let standby = answer("gcp", "Standby", "True", well);
        assert_eq!(stands(&[held.clone(), standby.clone()], "payments"), Ok(()));
        let unfit = answer("gcp", "Standby", "False", ill.clone());
        let said = stands(&[held.clone(), unfit.clone()], "payments").unwrap_err();
        assert_eq!(said, "a failover to gcp could not be ordered: the check `witness: no answer; see to it`");
        let said =
            stands(&[answer("aws", "Unclaimed", "False", ill), standby.clone()], "payments").unwrap_err();
        assert_eq!(said, "no site has authority: aws: the check `witness: no answer; see to it`");
        let older = Answer { current: false, ..standby.clone() };
        assert!(stands(&[held.clone(), older], "payments").unwrap_err().contains("has not looked"));
        assert!(stands(std::slice::from_ref(&held), "payments").is_err());
        assert!(stands(&[held.clone(), standby.clone()], "other").is_err());
        assert_eq!(
            render(&[&unfit, &held], None),
            "GROUP      CLOUD   READY   PROTECTED   HERE      HOLDERS   EPOCH   WHY\n\
             payments   aws     True    -           Held      aws       16      words\n\
             payments   gcp     False   -           Standby   aws       16      words\n"
        );
        assert_eq!(render(&[], None), "");
    }
}
