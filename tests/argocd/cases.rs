//! States that no story meets. Where the operator's own words can be had without a cluster, they are taken; else they stand
//! here as `decide` of that kind says them.

use std::sync::Arc;

use banyan::actions::{Answered, status::status as of_action};
use banyan::api::action::ActionState;
use banyan::api::{
    Action, AuthorityStatus, CanaryRolloutStatus, CloudClusterStatus, FailoverGroupStatus, FinService,
    Problem,
};
use banyan::finservice::index::Observed;
use banyan::finservice::plan::{Phase, Plan};
use banyan::finservice::status::status as of_service;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::health::Met;
use crate::object;

/// Adds all of them.
pub fn add(met: &mut Met) {
    services(met);
    actions(met);
    rollouts(met);
    groups(met);
    sites(met);
    authorities(met);
}

/// A phase that is new must be named here.
fn phases() -> Vec<Phase> {
    use Phase::{Blocked, Degraded, NotPlaced, Paused, RollingOut, Serving, Starting};
    let all = vec![Paused, NotPlaced, Blocked, Starting, RollingOut, Serving, Degraded];
    for phase in &all {
        match phase {
            Paused | NotPlaced | Blocked | Starting | RollingOut | Serving | Degraded => {}
        }
    }
    all
}

fn services(met: &mut Met) {
    let spec = json!({"owner": "payments", "image": "pay/app:1"});
    let service: FinService = serde_json::from_value(object("FinService", spec.clone(), json!({}))).unwrap();
    let seen = Observed {
        settings: Default::default(),
        legacy_refused: None,
        site: "aws-us-east-1".into(),
        sites: Default::default(),
        authority: None,
        led_away: Default::default(),
        service: Arc::new(service),
        children: Vec::new(),
        strangers: Vec::new(),
        config_maps: Default::default(),
        secrets: Default::default(),
        secrets_hidden: false,
        kinds: Default::default(),
        lost_claims: Vec::new(),
        lost_previews: Vec::new(),
        known_hosts: Default::default(),
        istio_gateway: None,
        absent: Vec::new(),
        nested_claims: Vec::new(),
        pods: None,
        pods_again: None,
        told_topics: Default::default(),
        cycle: None,
        rollout: None,
    };
    let error = Problem::error("spec.image", "the image cannot be pulled", "Correct spec.image.");
    let warning = Problem::warning("spec.scale", "one pod is no pod in a drain", "Ask for two.");
    for phase in phases() {
        let words = format!("why it is {phase:?}");
        for (name, problems) in [
            ("", vec![]),
            (" with an error", vec![error.clone()]),
            (" with a warning", vec![warning.clone()]),
        ] {
            let plan =
                Plan { phase: phase.clone(), problems, reasons: vec![words.clone()], ..Plan::default() };
            let status = of_service(&seen, &plan, None, Timestamp::UNIX_EPOCH);
            met.add(
                "FinService",
                format!("{phase:?}{name}"),
                &object("FinService", spec.clone(), json!(status)),
            );
        }
    }
}

fn actions(met: &mut Met) {
    use ActionState::{Accepted, Done, Refused};
    let spec =
        json!({"target": {"kind": "CanaryRollout", "name": "app"}, "release": "app:2", "verb": "pause"});
    let action: Action = serde_json::from_value(object("Action", spec.clone(), json!({}))).unwrap();
    for state in [Accepted, Refused, Done] {
        let words = match state {
            Accepted => "it is being carried out",
            Refused => "it is paused already",
            Done => "paused at 10 %",
        };
        let answered = Answered { id: "u-1".to_owned(), state, words: words.to_owned() };
        let status = of_action(&action, &answered, Timestamp::UNIX_EPOCH);
        met.add("Action", format!("{state:?}"), &object("Action", spec.clone(), json!(status)));
    }
    // One that this version cannot read has no state.
    let words = "it cannot be read, so nothing is done";
    let status = json!({"conditions": conditions(("False", "Unreadable", words), "False", Some(words)), "message": words});
    met.add("Action", "unreadable".to_owned(), &object("Action", spec, status));
}

/// Ready, and whether Reconciling and Stalled are True, with the same reason.
fn conditions(ready: (&str, &str, &str), reconciling: &str, stalled: Option<&str>) -> Value {
    let (state, reason, message) = ready;
    let condition = |kind: &str, state: &str, message: &str| {
        json!({"type": kind, "status": state, "reason": reason, "message": message, "observedGeneration": 1,
            "lastTransitionTime": "1970-01-01T00:00:00Z"})
    };
    json!([
        condition("Ready", state, message),
        condition("Reconciling", reconciling, message),
        condition("Stalled", if stalled.is_some() { "True" } else { "False" }, stalled.unwrap_or_default()),
    ])
}

/// Fails where the type has no such field.
fn exact<T: DeserializeOwned + Serialize>(status: Value) -> Value {
    let read: T = serde_json::from_value(status.clone()).unwrap();
    assert_eq!(json!(read), status);
    status
}

fn rollouts(met: &mut Met) {
    let resting = [
        ("Paused", "Unknown", "nothing is written while banyan.dev/pause is \"true\"", None),
        ("NotPlaced", "True", "spec.placement does not name this site", None),
        ("Blocked", "False", "data that must stay in the EU may not be kept here", None),
        (
            "Ignored",
            "False",
            "CanaryRollout older has the same service",
            Some("CanaryRollout older has the same service"),
        ),
        (
            "Unreadable",
            "False",
            "the spec cannot be read: spec.via",
            Some("the spec cannot be read: spec.via"),
        ),
    ];
    for (phase, ready, words, stalled) in resting {
        let conditions = conditions((ready, phase, words), "False", stalled);
        let status = json!({"phase": phase, "message": words, "conditions": conditions});
        let status = exact::<CanaryRolloutStatus>(status);
        met.add(
            "CanaryRollout",
            format!("{phase} at rest"),
            &object("CanaryRollout", json!({"service": "app"}), status),
        );
    }
}

fn groups(met: &mut Met) {
    let problem = json!({"source": "peer gcp-us-central1", "severity": "Error", "message": "no answer",
        "remedy": "Look at CloudCluster gcp-us-central1."});
    let cases = [
        (
            "CouldFailOver",
            ("True", "CouldFailOver", "a failover to this site could be ordered now"),
            "False",
            None,
        ),
        ("a check fails", ("False", "NoAnswer", "no answer"), "False", None),
        ("a check is not known", ("Unknown", "NotAsked", "not asked yet"), "True", None),
        ("OtherSites", ("False", "OtherSites", "spec.sites does not name aws-us-east-1"), "False", None),
        (
            "Unreadable",
            ("False", "Unreadable", "the group cannot be read"),
            "False",
            Some("the group cannot be read"),
        ),
    ];
    for (name, ready, reconciling, stalled) in cases {
        let mut status = json!({"conditions": conditions(ready, reconciling, stalled)});
        if name.starts_with("a check") {
            status["problems"] = json!([problem]);
        }
        met.add(
            "FailoverGroup",
            name.to_owned(),
            &object("FailoverGroup", json!({}), exact::<FailoverGroupStatus>(status)),
        );
    }
}

fn sites(met: &mut Met) {
    let cases = [
        ("OwnSite", ("True", "OwnSite", "the operator of this site follows this object"), "False", None),
        ("Reachable", ("True", "Reachable", "its API server answers"), "False", None),
        (
            "Reachable, of which a field is not read",
            ("True", "Reachable", "its API server answers"),
            "False",
            Some("spec.residency[1] cannot be read"),
        ),
        ("NoAnswer", ("False", "NoAnswer", "no answer within 5 s"), "True", None),
        ("NotAsked", ("Unknown", "NotAsked", "it has not been asked yet"), "True", None),
        (
            "Unauthorized",
            ("False", "Unauthorized", "renew the kubeconfig"),
            "False",
            Some("renew the kubeconfig"),
        ),
    ];
    for (name, ready, reconciling, stalled) in cases {
        let status =
            exact::<CloudClusterStatus>(json!({"conditions": conditions(ready, reconciling, stalled)}));
        met.add("CloudCluster", name.to_owned(), &object("CloudCluster", json!({}), status));
    }
    let mut unasked = object("CloudCluster", json!({"residency": ["US"]}), json!({}));
    unasked.as_object_mut().unwrap().remove("status");
    met.add("CloudCluster", "without a way".to_owned(), &unasked);
}

fn authorities(met: &mut Met) {
    for (state, words) in [
        ("Unclaimed", "nobody has authority yet"),
        ("Lost", "witness shows epoch 33, and nobody who holds it was read"),
    ] {
        let status = exact::<AuthorityStatus>(json!({"state": state, "message": words}));
        met.add("Authority", state.to_owned(), &object("Authority", json!({}), status));
    }
    let foreign = json!({"source": "spec", "severity": "Error", "message": "argocd-controller writes it too, and would undo a failover",
        "remedy": "Authorities are written by operators alone: take it out of git."});
    let status = json!({"state": "Held", "message": "this site may write", "problems": [foreign]});
    met.add(
        "Authority",
        "Held, and in git".to_owned(),
        &object("Authority", json!({}), exact::<AuthorityStatus>(status)),
    );
}
