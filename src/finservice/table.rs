//! FinServices as people read them, a line for each. Pure.

use kube::api::DynamicObject;
use serde::Serialize;
use serde_json::Value;

use crate::terminal::table::fitted;

/// Shown where nothing is known.
const NOTHING: &str = "-";
/// The reason of one that nobody has looked at as it is specified now.
const NOT_SEEN: &str = "NotSeen";

/// One FinService in a line. Texts are empty where its status does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whether it is Ready as it is specified now, not as it was before.
    pub ready: bool,
    /// Why it is Ready or not: the condition's reason; `NotSeen` where no operator has looked at the spec of now.
    pub reason: String,
    /// The hash of its stable revision.
    pub revision: String,
    /// The release that serves.
    pub release: String,
    /// Ready pods and wanted ones, as `3/3`.
    pub replicas: String,
    /// Its first problem, which is the worst; else what a service that is not Ready waits for.
    pub problem: String,
    /// What to do about its first problem.
    pub remedy: String,
}

impl Line {
    /// What its status says, however that is formed: one that cannot be read is listed like all others.
    pub fn of(object: &DynamicObject) -> Self {
        let text = |pointer: &str| {
            object.data.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let number = |pointer: &str| object.data.pointer(pointer).and_then(Value::as_i64);
        let condition = object
            .data
            .pointer("/status/conditions")
            .and_then(Value::as_array)
            .and_then(|conditions| conditions.iter().find(|condition| condition["type"] == "Ready"))
            .unwrap_or(&Value::Null);
        let observed =
            condition["observedGeneration"].as_i64().or_else(|| number("/status/observedGeneration"));
        let is_current = !condition.is_null() && observed == object.metadata.generation;
        let ready = condition["status"] == "True" && is_current;
        let said = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
        let (first, remedy) = (text("/status/problems/0/message"), text("/status/problems/0/remedy"));
        // What was said of an older spec would contradict that it is not Ready.
        let (reason, problem, remedy) = match (condition.is_null(), is_current) {
            (true, _) => (NOT_SEEN.to_owned(), "no operator has looked at it yet".to_owned(), String::new()),
            (_, false) => (
                NOT_SEEN.to_owned(),
                "no operator has looked at its newest spec yet".to_owned(),
                String::new(),
            ),
            _ if !first.is_empty() => (said("reason"), first, remedy),
            _ if ready => (said("reason"), String::new(), String::new()),
            _ => (said("reason"), said("message"), String::new()),
        };
        let replicas = match (number("/status/replicas/ready"), number("/status/replicas/desired")) {
            (None, None) => String::new(),
            (ready, desired) => format!("{}/{}", ready.unwrap_or(0), desired.unwrap_or(0)),
        };
        Self {
            namespace: object.metadata.namespace.clone().unwrap_or_default(),
            name: object.metadata.name.clone().unwrap_or_default(),
            ready,
            reason,
            revision: text("/status/revisions/stable"),
            release: text("/status/release"),
            replicas,
            problem,
            remedy,
        }
    }

    /// Whether it is Ready, in a word.
    pub fn state(&self) -> &'static str {
        if self.ready { "True" } else { "False" }
    }

    /// Its problem, and what to do about it.
    pub fn words(&self) -> String {
        match self.remedy.is_empty() {
            true => self.problem.clone(),
            false => format!("{} → {}", self.problem, self.remedy),
        }
    }
}

/// A text, or the sign for nothing.
pub fn or_nothing(text: &str) -> String {
    if text.is_empty() { NOTHING.to_owned() } else { text.to_owned() }
}

/// A line for each in their order, with namespaces where more than one is shown, on a terminal of that width.
pub fn list(lines: &[Line], namespaces: bool, width: Option<usize>) -> String {
    let heads = ["NAMESPACE", "NAME", "READY", "REASON", "PODS", "RELEASE", "PROBLEM"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    rows.extend(lines.iter().map(|line| {
        let words = line.words();
        let cells = [
            line.namespace.as_str(),
            &line.name,
            line.state(),
            &line.reason,
            &line.replicas,
            &line.release,
            &words,
        ];
        cells.map(or_nothing).to_vec()
    }));
    if !namespaces {
        rows.iter_mut().for_each(|row| drop(row.remove(0)));
    }
    let release = if namespaces { 5 } else { 4 };
    fitted(&rows, "", 3, &[release], width)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    fn object(name: &str, generation: i64, status: Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "banyan.dev/v1alpha1",
            "kind": "FinService",
            "metadata": {"name": name, "namespace": "payments", "generation": generation},
            "status": status,
        }))
        .expect("an object")
    }

    fn serving(observed: i64) -> Value {
        json!({
            "conditions": [{"type": "Ready", "status": "True", "reason": "Serving", "message": "all pods asked for are Ready",
                "observedGeneration": observed}],
            "revisions": {"stable": "6f5d8c9b7x"},
            "release": "fraud:2.0",
            "replicas": {"ready": 3, "desired": 3},
        })
    }

    #[test]
    fn faults_6_15_a_line_never_contradicts_itself() {
        let now = Line::of(&object("fraud", 2, serving(2)));
        assert!(now.ready);
        assert_eq!((now.replicas.as_str(), now.problem.as_str()), ("3/3", ""));
        let old = Line::of(&object("fraud", 3, serving(2)));
        assert!(!old.ready);
        assert_eq!(
            (old.reason.as_str(), old.problem.as_str()),
            ("NotSeen", "no operator has looked at its newest spec yet")
        );
    }

    #[test]
    fn what_has_no_status_says_so() {
        let line = Line::of(&object("fraud", 1, Value::Null));
        assert!(!line.ready);
        assert_eq!(line.problem, "no operator has looked at it yet");
    }

    #[test]
    fn the_first_problem_is_shown_also_of_a_ready_one() {
        let status = json!({
            "conditions": [{"type": "Ready", "status": "True", "observedGeneration": 1}],
            "problems": [{"message": "Istio is not installed", "remedy": "Install it."}, {"message": "other"}],
        });
        let line = Line::of(&object("fraud", 1, status));
        assert!(line.ready);
        assert_eq!(line.words(), "Istio is not installed → Install it.");
    }

    #[test]
    fn status_of_another_shape_is_no_panic() {
        let status = json!({"conditions": "none", "problems": 3, "replicas": []});
        assert!(!Line::of(&object("fraud", 1, status)).ready);
    }

    #[test]
    fn faults_6_15_a_list_keeps_reason_and_remedy_at_any_width() {
        let stuck = json!({
            "conditions": [{"type": "Ready", "status": "False", "reason": "Problem", "message": "…", "observedGeneration": 1}],
            "release": "transaction:1.5",
            "replicas": {"ready": 1, "desired": 1},
            "problems": [{
                "message": "pod transaction-6f5d8c9b7x-abcde of revision 6f5d8c9b7x: ErrImagePull: manifest unknown",
                "remedy": "Correct spec.image; for a registry that asks for credentials, name their Secret in spec.imagePullSecrets.",
            }],
        });
        let lines = [
            Line::of(&object("fraud", 2, serving(2))),
            Line::of(&object("ledger", 1, Value::Null)),
            Line::of(&object("transaction", 1, stuck)),
        ];
        expect![[r#"
            NAMESPACE   NAME          READY   REASON    PODS   RELEASE           PROBLEM
            payments    fraud         True    Serving   3/3    fraud:2.0         -
            payments    ledger        False   NotSeen   -      -                 no operator has looked at it yet
            payments    transaction   False   Problem   1/1    transaction:1.5   pod transaction-6f5d8c9b7x-abcde of revision
                                                                                 6f5d8c9b7x: ErrImagePull: manifest unknown →
                                                                                 Correct spec.image; for a registry that asks for
                                                                                 credentials, name their Secret in
                                                                                 spec.imagePullSecrets.
        "#]].assert_eq(&list(&lines, true, Some(120)));
        expect![[r#"
            NAMESPACE  NAME         READY  REASON   PODS  RELEASE
                PROBLEM
            payments   fraud        True   Serving  3/3   fraud:2.0
            payments   ledger       False  NotSeen  -     -
                no operator has looked at it yet
            payments   transaction  False  Problem  1/1   transaction:1.5
                pod transaction-6f5d8c9b7x-abcde of revision 6f5d8c9b7x: ErrImagePull:
                manifest unknown → Correct spec.image; for a registry that asks for
                credentials, name their Secret in spec.imagePullSecrets.
        "#]]
        .assert_eq(&list(&lines, true, Some(80)));
        expect![[r#"
            NAME     READY   REASON    PODS   RELEASE     PROBLEM
            fraud    True    Serving   3/3    fraud:2.0   -
            ledger   False   NotSeen   -      -           no operator has looked at it yet
        "#]]
        .assert_eq(&list(&lines[..2], false, None));
    }
}
