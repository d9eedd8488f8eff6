//! Health, of what the stories meet: one line for each state that a kind can be in.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use banyan::api::authority::AuthorityState;
use banyan::api::failover::Phase as MovePhase;
use banyan::canary::Phase;
use expect_test::expect_file;
use serde_json::{Value, json};

use crate::{cases, health, object, told};

/// What was met: by kind, state and word of ArgoCD, the first message.
#[derive(Default)]
pub struct Met(BTreeMap<(&'static str, String, String), String>);

impl Met {
    /// Judges an object, whose state is told by these words.
    pub fn add(&mut self, kind: &'static str, state: String, object: &Value) {
        let (status, message) = health(object);
        follows_kstatus(object, &status);
        self.0.entry((kind, state, status)).or_insert(message);
    }

    fn states(&self, kind: &str) -> BTreeSet<&str> {
        let of_kind = self.0.keys().filter(|(of, ..)| *of == kind);
        of_kind.map(|(_, state, _)| state.split(' ').next().unwrap_or_default()).collect()
    }

    fn table(&self) -> String {
        let mut text = String::new();
        for ((kind, state, status), message) in &self.0 {
            let _ = writeln!(text, "{kind:<14} {state:<34} {status:<12} {message}");
        }
        text
    }
}

/// What holds of every kind: who is stalled is not called well, and who is at work, or not ready, is not Healthy.
fn follows_kstatus(object: &Value, status: &str) {
    let is = |kind: &str, word: &str| {
        let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
        conditions.filter(|condition| condition["type"] == kind).any(|condition| condition["status"] == word)
    };
    assert!(!is("Stalled", "True") || ["Degraded", "Suspended"].contains(&status), "{status}: {object:#}");
    assert!(!is("Reconciling", "True") || status != "Healthy", "{status}: {object:#}");
    assert!(status != "Progressing" || !is("Reconciling", "False"), "{status}: {object:#}");
}

/// One condition of a status, as its type and reason; nothing where it is not True.
fn when(status: &Value, kind: &str) -> String {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let mut found = conditions.filter(|condition| condition["type"] == kind && condition["status"] == "True");
    found.next().map_or_else(String::new, |condition| {
        format!(" {}", condition["reason"].as_str().unwrap_or_default())
    })
}

fn met_by_rollouts(met: &mut Met) {
    for rollout in told::rollouts() {
        for status in &rollout.statuses {
            let status = json!(status);
            let state =
                format!("{}{}", status["phase"].as_str().unwrap_or_default(), when(&status, "Stalled"));
            met.add("CanaryRollout", state, &object("CanaryRollout", told::spec(&rollout.policy), status));
        }
    }
}

fn met_by_moves(met: &mut Met) {
    let told = told::moves();
    for order in &told.orders {
        let Some(status) = &order.status else { continue };
        let reason = status.reason.as_ref().map(|reason| format!(" {reason}")).unwrap_or_default();
        let state = format!("{}{reason}", status.phase.expect("a phase").as_str());
        met.add("Failover", state, &object("Failover", told::spec(&order.spec), json!(status)));
    }
    for (state, status) in &told.authorities {
        met.add("Authority", (*state).to_owned(), &object("Authority", json!({}), json!(status)));
    }
}

/// All variants of an enum; one that is new does not compile until it is named here, and must be met.
macro_rules! all {
    ($of:ident: $($variant:ident),+) => {{
        let named = |one: $of| match one {
            $($of::$variant)|+ => one,
        };
        [$($of::$variant),+].map(named)
    }};
}

#[test]
fn faults_6_17_every_state_of_every_kind_has_its_word() {
    let mut met = Met::default();
    met_by_rollouts(&mut met);
    met_by_moves(&mut met);
    cases::add(&mut met);
    let phases = all!(Phase: Starting, Settled, Waiting, Preparing, Analysing, Gated, Inconclusive, Paused, Promoting, Warm,
        RolledBack, Frozen, Blocked, Unreadable);
    for phase in phases {
        assert!(
            met.states("CanaryRollout").contains(phase.as_str()),
            "no case has a rollout that is {phase:?}"
        );
    }
    let phases = all!(MovePhase: Preparing, Fencing, Opening, Undoing, Reprotecting, Waiting, Done, Aborted, Superseded, Refused);
    for phase in phases {
        assert!(met.states("Failover").contains(phase.as_str()), "no case has a move that is {phase:?}");
    }
    for state in all!(AuthorityState: Unclaimed, Held, Standby, Lost) {
        assert!(
            met.states("Authority").contains(state.as_str()),
            "no case has an Authority that is {state:?}"
        );
    }
    let path = format!("{}/tests/goldens/argocd/health.txt", env!("CARGO_MANIFEST_DIR"));
    expect_file![path].assert_eq(&met.table());
}

#[test]
fn every_kind_has_its_script_and_waits_until_it_was_looked_at() {
    let kinds: BTreeSet<String> = banyan::api::crds().into_iter().map(|crd| crd.spec.names.kind).collect();
    let folders = std::fs::read_dir(crate::lua::folder()).unwrap();
    let folders: BTreeSet<String> =
        folders.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(folders, kinds);
    for kind in kinds {
        let mut new = object(&kind, json!({"access": []}), json!({}));
        new.as_object_mut().unwrap().remove("status");
        assert_eq!(health(&new).0, "Progressing", "{kind}");
        // Of the spec before it was all well. An Action cannot be changed.
        let ready = json!({"type": "Ready", "status": "True", "reason": "Serving", "message": "well"});
        let status = json!({"conditions": [ready], "phase": "Done", "state": "Held", "message": "well"});
        let mut changed = object(&kind, json!({"access": []}), status);
        changed["metadata"]["generation"] = json!(2);
        assert_eq!(health(&changed).0, "Progressing", "{kind}");
    }
}
