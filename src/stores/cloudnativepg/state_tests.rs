use serde_json::json;

use super::super::token::tests::token;
use super::*;

/// A Cluster at one of two sites, as its owner would write it.
pub fn cluster(change: impl FnOnce(&mut Value)) -> DynamicObject {
    let mut value = json!({
        "apiVersion": "postgresql.cnpg.io/v1", "kind": "Cluster",
        "metadata": {"name": "ledger", "namespace": "payments", "resourceVersion": "7"},
        "spec": {
            "instances": 3, "imageName": "ghcr.io/cloudnative-pg/postgresql:17.5",
            "replica": {"self": "ledger-aws", "primary": "ledger-aws", "source": "ledger-gcp"},
            "externalClusters": [{"name": "ledger-aws"}, {"name": "ledger-gcp"}],
        },
        "status": {"systemID": "7421", "timelineID": 3, "currentPrimary": "ledger-1", "readyInstances": 3},
    });
    change(&mut value);
    serde_json::from_value(value).expect("an object")
}

pub fn state(object: &DynamicObject) -> State {
    State::of(object, "spec.stores[ledger-db].cloudnativepg").expect("a state")
}

#[test]
fn a_primary_and_its_replica_are_told_apart() {
    let primary = state(&cluster(|_| ()));
    assert!(!primary.is_replica() && !primary.waits_for_promotion() && !primary.fenced);
    assert_eq!((primary.own.as_str(), primary.peer.as_deref()), ("ledger-aws", Some("ledger-gcp")));
    assert_eq!((primary.system, primary.timeline, primary.ready), (Some(7421), Some(3), 3));
    assert_eq!(primary.problems, Vec::new());
    let replica = state(&cluster(|value| value["spec"]["replica"]["primary"] = json!("ledger-gcp")));
    assert!(replica.is_replica());
    let standby = state(&cluster(|value| {
        value["spec"]["replica"]["primary"] = json!("ledger-gcp");
        value["status"] = json!({"systemID": "7421", "instancesReportedState": {
            "ledger-1": {"isPrimary": false, "timeLineID": 5}, "ledger-2": {"isPrimary": false, "timeLineID": 4},
        }});
    }));
    assert_eq!((standby.timeline, standby.told), (None, Some(5)), "only a primary's is that of the Cluster");
    let silent = state(&cluster(|value| {
        value["spec"]["replica"]["primary"] = json!("ledger-gcp");
        value["metadata"]["annotations"] = json!({CLOSED: "3", TOKEN: token("7421", "3", "0/3000148")});
        value["status"] = json!({"systemID": "", "timelineID": 3});
    }));
    assert_eq!(
        (silent.system, silent.told),
        (Some(7421), None),
        "shut down, its token tells which one it is"
    );
    let unnamed = state(&cluster(|value| {
        value["spec"]["replica"] = json!({"primary": "ledger", "source": "ledger-gcp"});
    }));
    assert!(!unnamed.is_replica(), "its name counts where self is left out");
}

#[test]
fn a_promotion_that_waits_is_none_yet() {
    let waits = |change: fn(&mut Value)| state(&cluster(change)).waits_for_promotion();
    assert!(waits(|value| value["spec"]["replica"]["promotionToken"] = json!("a")));
    assert!(!waits(|value| {
        value["spec"]["replica"]["promotionToken"] = json!("a");
        value["status"]["lastPromotionToken"] = json!("a");
    }));
    assert!(waits(|value| value["metadata"]["annotations"] = json!({PROMOTED_FROM: "3"})));
    assert!(!waits(|value| value["metadata"]["annotations"] = json!({PROMOTED_FROM: "2"})));
}

#[test]
fn a_token_counts_only_if_it_is_of_this_demotion() {
    let (ours, earlier) = (token("7421", "3", "0/3000148"), token("7421", "2", "0/2000148"));
    let read = |own: &str, kept: Option<&str>| {
        state(&cluster(|value| {
            value["spec"]["replica"]["primary"] = json!("ledger-gcp");
            value["status"]["demotionToken"] = json!(own);
            value["metadata"]["annotations"] = json!({CLOSED: "3"});
            if let Some(kept) = kept {
                value["metadata"]["annotations"][TOKEN] = json!(kept);
            }
        }))
        .token()
    };
    assert_eq!(read(&ours, None).expect("read").expect("a token").timeline, 3);
    assert_eq!(read("", Some(&ours)).expect("read").expect("a token").text, ours, "CloudNativePG forgot it");
    assert_eq!(read(&earlier, None), Ok(None), "it is that of an earlier demotion");
    assert!(read("nonsense", None).is_err());
    let open = cluster(|value| value["status"]["demotionToken"] = json!(ours));
    assert_eq!(state(&open).token(), Ok(None), "nobody has closed it");
}

#[test]
fn what_is_not_prepared_is_named_with_the_field_to_set() {
    let said = |change: fn(&mut Value)| {
        let problems = state(&cluster(change)).problems;
        problems
            .into_iter()
            .map(|problem| format!("{}; {}", problem.message, problem.remedy))
            .collect::<Vec<_>>()
    };
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 6] = [
        (|value| value["spec"]["replica"] = Value::Null, "replicated to nobody"),
        (|value| value["spec"]["replica"]["enabled"] = json!(false), "spec.replica.enabled"),
        (|value| value["spec"]["replica"]["source"] = json!(""), "does not say who is primary"),
        (|value| value["spec"]["replica"]["source"] = json!("ledger-aws"), "it would follow itself"),
        (|value| value["spec"]["externalClusters"] = json!([{"name": "ledger-aws"}]), "has no ledger-gcp"),
        (|value| value["spec"]["replica"]["minApplyDelay"] = json!("1h"), "forbids a promotion with a token"),
    ];
    for (change, words) in cases {
        let said = said(change);
        assert!(said.len() == 1 && said[0].contains(words), "{words}: {said:?}");
    }
    let owned = said(|value| {
        value["metadata"]["managedFields"] = json!([{"manager": "argocd-controller", "operation": "Apply",
            "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replica": {"f:primary": {}}},
                "f:metadata": {"f:annotations": {"f:cnpg.io/fencedInstances": {}}}}}]);
    });
    assert!(owned.len() == 1 && owned[0].contains("git would undo it"), "{owned:?}");
    assert!(
        owned[0].contains("'.spec.replica.primary', '.metadata.annotations.\"cnpg.io/fencedInstances\"'")
    );
}

#[test]
fn an_archive_is_told_by_where_it_lies() {
    let archive = |change: fn(&mut Value)| state(&cluster(change)).archive;
    assert_eq!(archive(|_| ()), None);
    let barman = archive(|value| {
        value["spec"]["backup"]["barmanObjectStore"] =
            json!({"destinationPath": "s3://wal/", "serverName": "a"});
    });
    assert_eq!(barman.as_deref(), Some("s3://wal/a"));
    let plugin = archive(|value| {
        value["spec"]["plugins"] = json!([{"name": "barman-cloud.cloudnative-pg.io", "isWALArchiver": true,
            "parameters": {"barmanObjectName": "wal", "serverName": "a"}}]);
    });
    assert_eq!(plugin.as_deref(), Some("wal/a"));
}

#[test]
fn an_annotation_that_somebody_overwrote_is_not_taken_for_none() {
    let object = cluster(|value| value["metadata"]["annotations"] = json!({"banyan.dev/ballot": "many"}));
    let error = State::of(&object, "").expect_err("no number");
    assert!(error.to_string().contains("banyan.dev/ballot is no number"), "{error}");
}
