//! What can be said in ArgoCD: which of it is offered as things stand, and that what is created is what the API takes.

use std::collections::{BTreeMap, BTreeSet};

use banyan::api::action::{TargetKind, Verb};
use banyan::api::{Action, CanaryRolloutStatus};
use banyan::canary::refusal::{Asked, Standing, accept};
use expect_test::{expect, expect_file};
use serde_json::{Value, json};

use crate::lua::{folder, run, script};
use crate::{object, told};

/// The kinds to which something can be said.
const KINDS: [&str; 3] = ["CanaryRollout", "Failover", "FinService"];

/// Which actions ArgoCD has for a kind, by their folders.
fn scripts(kind: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder().join(kind).join("actions")).unwrap().map(Result::unwrap);
    entries
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Which actions are offered for an object.
fn offered(object: &Value) -> BTreeSet<String> {
    let kind = object["kind"].as_str().unwrap();
    let found = run(&script(&format!("{kind}/actions/discovery.lua")), object).unwrap();
    let found: BTreeMap<String, BTreeMap<String, bool>> = serde_json::from_value(found).unwrap();
    assert_eq!(found.keys().cloned().collect::<BTreeSet<_>>(), scripts(kind), "{kind}");
    assert!(found.values().all(|action| action.keys().eq(["disabled"])), "{found:?}");
    found.into_iter().filter(|(_, action)| !action["disabled"]).map(|(name, _)| name).collect()
}

/// The Action that is created, read as the API server reads it.
fn said(object: &Value, action: &str) -> Action {
    let kind = object["kind"].as_str().unwrap();
    let made = run(&script(&format!("{kind}/actions/{action}/action.lua")), object)
        .unwrap_or_else(|error| panic!("{action}: {error}\n{object:#}"));
    let [made] = made.as_array().unwrap().as_slice() else { panic!("{made}") };
    assert_eq!(made["operation"], "create");
    let resource = &made["resource"];
    let read: Action = serde_json::from_value(resource.clone()).unwrap();
    // Nothing is said that the type does not have.
    assert_eq!(json!(read.spec), resource["spec"]);
    assert_eq!(
        resource["metadata"],
        json!({"generateName": format!("NAME-{action}-"), "namespace": "NAMESPACE"})
    );
    assert_eq!(
        (&resource["apiVersion"], &resource["kind"]),
        (&json!("banyan.dev/v1alpha1"), &json!("Action"))
    );
    assert_eq!(read.spec.verb.as_str(), action);
    assert_eq!(read.spec.target.name, "NAME");
    read
}

#[test]
fn only_kinds_that_are_spoken_to_have_actions() {
    let all = std::fs::read_dir(folder()).unwrap().map(Result::unwrap);
    let with = all.filter(|entry| entry.path().join("actions").is_dir());
    let with: BTreeSet<String> = with.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(with, KINDS.map(str::to_owned).into());
}

/// What each verb is; one that is new must be named here.
fn is_offered(kind: TargetKind, verb: Verb) -> bool {
    match (verb, kind) {
        (Verb::Abort | Verb::Pause | Verb::Resume, _) => true,
        (Verb::Promote | Verb::Retry | Verb::SkipStep | Verb::SkipAfter, kind) => {
            kind == TargetKind::CanaryRollout
        }
        // A person says these in the own name, and ArgoCD is none.
        (Verb::Approve | Verb::Force | Verb::Skip | Verb::AssertFenced | Verb::AcceptDataLoss, _) => false,
    }
}

#[test]
fn what_a_person_vouches_for_is_not_offered() {
    for (name, kind) in [("CanaryRollout", TargetKind::CanaryRollout), ("Failover", TargetKind::Failover)] {
        let expected =
            Verb::ALL.into_iter().filter(|verb| is_offered(kind, *verb)).map(|verb| verb.as_str().to_owned());
        assert_eq!(scripts(name), expected.collect(), "{name}");
    }
}

/// A line for each phase: which sets of actions are offered in it.
#[derive(Default)]
struct Offers(BTreeMap<String, BTreeSet<String>>);

impl Offers {
    fn add(&mut self, phase: &str, offered: &BTreeSet<String>) {
        let words = offered.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        self.0.entry(phase.to_owned()).or_default().insert(words);
    }

    fn table(&self) -> String {
        let words =
            |sets: &BTreeSet<String>| sets.iter().map(|set| format!("[{set}]")).collect::<Vec<_>>().join(" ");
        self.0.iter().map(|(phase, sets)| format!("{phase:<12} {}\n", words(sets))).collect()
    }
}

/// Whether the rollout would take what is said, as its status stands.
fn is_taken(status: &CanaryRolloutStatus, verb: Verb, release: Option<&str>) -> bool {
    let memory = status.memory.clone().unwrap_or_default();
    let failed = status.release.as_deref().filter(|_| status.phase.as_deref() == Some("RolledBack"));
    let stopped = (status.phase.as_deref() == Some("Blocked")).then_some("it has errors");
    let standing = Standing { memory: &memory, failed, approvals: &[], retry: "", stopped };
    accept(&standing, &Asked { verb, release, gate: None }).is_ok()
}

/// One Action of each name, which an API server is given in `tests/it/actions.rs`.
fn are_kept(kind: &str, made: BTreeMap<String, Value>) {
    assert_eq!(made.keys().cloned().collect::<BTreeSet<_>>(), scripts(kind), "each is offered in some story");
    let path = format!("{}/tests/goldens/argocd/said-to-{kind}.json", env!("CARGO_MANIFEST_DIR"));
    let all: Vec<Value> = made.into_values().collect();
    expect_file![path].assert_eq(&format!("{:#}\n", json!(all)));
}

#[test]
fn what_is_offered_of_a_rollout_is_what_it_takes() {
    let (mut offers, mut made) = (Offers::default(), BTreeMap::new());
    for told::Rollout { name, policy, statuses } in told::rollouts() {
        for status in statuses {
            let object = object("CanaryRollout", told::spec(policy), json!(status));
            let offered = offered(&object);
            for verb in Verb::ALL.into_iter().filter(|verb| is_offered(TargetKind::CanaryRollout, *verb)) {
                let (action, taken) = (verb.as_str(), is_taken(status, verb, None));
                // Who waits for nobody need not be told to go on without them.
                let expected = taken && (verb != Verb::SkipAfter || policy.after.is_some());
                assert_eq!(offered.contains(action), expected, "{action} in {name}: {status:#?}");
                if expected {
                    let said = said(&object, action);
                    assert_eq!(said.spec.target.kind, TargetKind::CanaryRollout);
                    assert_eq!(said.spec.release.is_none(), verb == Verb::Abort);
                    assert!(is_taken(status, verb, said.spec.release.as_deref()), "{action} in {name}");
                    made.entry(action.to_owned()).or_insert(json!(said));
                }
            }
            offers.add(status.phase.as_deref().unwrap_or_default(), &offered);
        }
    }
    are_kept("CanaryRollout", made);
    expect![[r#"
        Analysing    [abort pause promote] [abort pause promote skip-step]
        Blocked      [abort pause]
        Frozen       [abort pause promote]
        Gated        [abort pause promote] [abort pause promote skip-step]
        Inconclusive [abort pause promote skip-step] [abort promote resume skip-step]
        Paused       [abort promote resume] [abort promote resume skip-step]
        Preparing    [abort pause promote] [abort pause promote skip-after] [abort pause promote skip-step] [abort promote resume skip-step]
        Promoting    [abort pause promote skip-step] [abort promote resume skip-step]
        RolledBack   [retry]
        Settled      []
        Starting     []
        Waiting      [abort pause promote skip-after]
        Warm         [abort skip-step]
    "#]].assert_eq(&offers.table());
}

#[test]
fn what_is_offered_of_a_move_is_what_the_api_takes() {
    let (mut offers, mut made) = (Offers::default(), BTreeMap::new());
    for order in &told::moves().orders {
        let Some(status) = &order.status else { continue };
        let object = object("Failover", json!(order.spec), json!(status));
        let offered = offered(&object);
        for action in &offered {
            let said = said(&object, action);
            assert_eq!(said.spec.target.kind, TargetKind::Failover);
            assert_eq!(said.spec.target.uid.as_deref(), Some("u-1"));
            made.entry(action.clone()).or_insert(json!(said));
        }
        offers.add(status.phase.expect("a phase").as_str(), &offered);
    }
    are_kept("Failover", made);
    expect![[r#"
        Aborted      []
        Done         []
        Fencing      [abort pause]
        Opening      []
        Preparing    [abort pause]
        Refused      []
        Reprotecting []
        Superseded   []
        Undoing      [] [abort pause]
        Waiting      [] [abort pause] [abort resume]
    "#]]
    .assert_eq(&offers.table());
}

#[test]
fn a_service_is_paused_by_its_annotation_alone() {
    let new = object("FinService", json!({"owner": "payments", "image": "app:1"}), json!({}));
    assert_eq!(offered(&new), ["pause".to_owned()].into());
    let act = |object: &Value, action: &str| {
        run(&script(&format!("FinService/actions/{action}/action.lua")), object).unwrap()
    };
    let paused = act(&new, "pause");
    let mut expected = new.clone();
    expected["metadata"]["annotations"] = json!({"banyan.dev/pause": "true"});
    // ArgoCD puts an empty list where Lua has an empty table, and an object was before.
    expected["status"] = paused["status"].clone();
    assert_eq!(paused, expected);
    assert_eq!(offered(&paused), ["resume".to_owned()].into());
    let resumed = act(&paused, "resume");
    assert_eq!(resumed["metadata"]["annotations"], json!([]));
    assert_eq!(offered(&object("FinService", json!({}), json!({}))), ["pause".to_owned()].into());
}
