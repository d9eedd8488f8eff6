use super::super::state::tests::{cluster, state};
use super::super::token::tests::token;
use super::*;

const ORDER: Fence = Fence { ballot: 33, follows: 16 };

/// The paths that are changed, and to what.
fn shown(changes: &Changes) -> Vec<String> {
    let one = |change: &Value| {
        let (op, path) =
            (change["op"].as_str().unwrap_or_default(), change["path"].as_str().unwrap_or_default());
        let path = path.trim_start_matches("/metadata/annotations/").replace("~1", "/");
        if op == "remove" { format!("-{path}") } else { format!("{path}={}", change["value"]) }
    };
    changes.iter().map(one).filter(|change| !change.starts_with("/metadata/annotations=")).collect()
}

fn ours() -> String {
    token("7421", "3", "0/3000148")
}

/// A Cluster that was closed by ballot 33, with what CloudNativePG has done since.
fn closing(change: impl FnOnce(&mut Value)) -> DynamicObject {
    cluster(|value| {
        value["spec"]["replica"]["primary"] = json!("ledger-gcp");
        value["metadata"]["annotations"] = json!({BALLOT_ANNOTATION: "33", CLOSED: "3", FENCED: ALL});
        change(value);
    })
}

fn standby(change: impl FnOnce(&mut Value)) -> DynamicObject {
    cluster(|value| {
        value["spec"]["replica"] =
            json!({"self": "ledger-gcp", "primary": "ledger-aws", "source": "ledger-aws"});
        value["metadata"]["annotations"] = json!({BALLOT_ANNOTATION: "16"});
        // It was never a primary.
        value["status"]["timelineID"] = json!(0);
        value["status"]["instancesReportedState"] = json!({
            "ledger-1": {"isPrimary": false, "timeLineID": 3}, "ledger-2": {"isPrimary": false},
        });
        change(value);
    })
}

#[test]
fn a_primary_is_to_follow_first_since_cloudnativepg_demotes_only_one_that_runs() {
    let object = cluster(|value| value["spec"]["replica"]["promotionToken"] = json!("used"));
    let changes = fence(&object, &state(&object), ORDER).expect("changes");
    assert_eq!(
        shown(&changes),
        [
            "/spec/replica/primary=\"ledger-gcp\"",
            "-/spec/replica/promotionToken",
            "banyan.dev/ballot=\"33\"",
            "banyan.dev/closed-on-timeline=\"3\"",
        ]
    );
    let waiting = closing(|value| value["metadata"]["annotations"][FENCED] = json!("[]"));
    assert_eq!(fence(&waiting, &state(&waiting), ORDER), Ok(vec![]), "it is not shut down before it is seen");
    let begun = closing(|value| {
        value["metadata"]["annotations"][FENCED] = json!("[]");
        value["status"]["switchReplicaClusterStatus"] = json!({"inProgress": true});
    });
    let changes = fence(&begun, &state(&begun), ORDER).expect("changes");
    assert_eq!(shown(&changes), ["cnpg.io/fencedInstances=\"[\\\"*\\\"]\""]);
    let by_hand = cluster(|value| value["metadata"]["annotations"] = json!({FENCED: ALL}));
    let error = fence(&by_hand, &state(&by_hand), ORDER).expect_err("it would never be demoted");
    assert!(error.remedy().contains("kubectl cnpg fencing off"), "{error:?}");
}

#[test]
fn the_token_is_kept_the_moment_it_is_seen_and_the_fence_is_put_back() {
    let waiting = closing(|_| ());
    assert_eq!(fence(&waiting, &state(&waiting), ORDER), Ok(vec![]));
    assert!(!is_fenced(&state(&waiting), 33), "without a token it is not known to be closed in order");
    let seen = closing(|value| {
        value["status"]["demotionToken"] = json!(ours());
        value["status"]["switchReplicaClusterStatus"] = json!({"inProgress": true});
    });
    let kept = format!("banyan.dev/demotion-token=\"{}\"", ours());
    assert_eq!(shown(&fence(&seen, &state(&seen), ORDER).expect("changes")), [kept]);
    // CloudNativePG has ended the demotion, and taken the fence away.
    let unfenced = closing(|value| {
        value["metadata"]["annotations"][FENCED] = json!("[]");
        value["metadata"]["annotations"][TOKEN] = json!(ours());
        value["status"]["demotionToken"] = json!(ours());
    });
    assert!(!is_fenced(&state(&unfenced), 33));
    let changes = fence(&unfenced, &state(&unfenced), ORDER).expect("changes");
    assert_eq!(shown(&changes), ["cnpg.io/fencedInstances=\"[\\\"*\\\"]\""]);
    let done = |switching: bool| {
        closing(|value| {
            value["metadata"]["annotations"][TOKEN] = json!(ours());
            value["status"]["switchReplicaClusterStatus"] = json!({"inProgress": switching});
        })
    };
    assert!(is_fenced(&state(&done(false)), 33));
    assert!(!is_fenced(&state(&done(true)), 33), "the fence would be taken away once more");
    assert!(!is_fenced(&state(&done(false)), 34), "it is another claim's");
}

#[test]
fn the_token_of_an_earlier_demotion_is_not_taken_for_this_one() {
    let object = cluster(|value| value["status"]["demotionToken"] = json!(ours()));
    let changes = shown(&fence(&object, &state(&object), ORDER).expect("changes"));
    assert!(changes.contains(&"banyan.dev/closed-on-timeline=\"4\"".to_owned()), "{changes:?}");
    let closed = closing(|value| {
        value["metadata"]["annotations"][CLOSED] = json!("4");
        value["status"]["demotionToken"] = json!(ours());
    });
    assert_eq!(fence(&closed, &state(&closed), ORDER), Ok(vec![]), "it waits for the next one");
}

#[test]
fn a_token_does_not_speak_for_what_was_written_after_it() {
    // Somebody let it go between the end of the demotion and the second fence.
    let let_go = closing(|value| {
        value["spec"]["replica"]["primary"] = json!("ledger-aws");
        value["metadata"]["annotations"][FENCED] = json!("[]");
        value["metadata"]["annotations"][TOKEN] = json!(ours());
    });
    let changes = shown(&fence(&let_go, &state(&let_go), ORDER).expect("changes"));
    assert_eq!(
        changes,
        [
            "/spec/replica/primary=\"ledger-gcp\"",
            "banyan.dev/closed-on-timeline=\"4\"",
            "-banyan.dev/demotion-token",
        ]
    );
    // It was a primary once more, and says so.
    let grown = closing(|value| {
        value["metadata"]["annotations"][TOKEN] = json!(ours());
        value["status"]["timelineID"] = json!(4);
    });
    assert!(!is_fenced(&state(&grown), 33));
    assert_eq!(
        shown(&fence(&grown, &state(&grown), ORDER).expect("changes")),
        ["-banyan.dev/demotion-token"]
    );
    let later = token("7421", "4", "0/4000148");
    let again = closing(|value| {
        value["metadata"]["annotations"][TOKEN] = json!(ours());
        value["status"] = json!({"systemID": "7421", "timelineID": 3, "demotionToken": later});
    });
    assert!(!is_fenced(&state(&again), 33));
    let kept = format!("banyan.dev/demotion-token=\"{later}\"");
    assert_eq!(shown(&fence(&again, &state(&again), ORDER).expect("changes")), [kept]);
}

#[test]
fn what_git_reverts_is_written_again() {
    let reverted = closing(|value| {
        value["spec"]["replica"]["primary"] = json!("ledger-aws");
        value["metadata"]["annotations"][TOKEN] = json!(ours());
    });
    assert!(state(&reverted).fenced, "it is shut down all the same");
    let changes = fence(&reverted, &state(&reverted), ORDER).expect("changes");
    assert_eq!(shown(&changes), ["/spec/replica/primary=\"ledger-gcp\""]);
}

#[test]
fn an_older_ballot_and_a_void_claim_are_refused() {
    let object = cluster(|value| value["metadata"]["annotations"] = json!({BALLOT_ANNOTATION: "48"}));
    let refused = StoreError::Refused { asked: 33, known: 48 };
    let read = state(&object);
    assert_eq!(fence(&object, &read, ORDER), Err(refused.clone()));
    assert_eq!(open(&object, &read, 33), Err(refused.clone()));
    let promotion = Promotion { ballot: 33, row: Some(48) };
    assert_eq!(promote(&object, &read, promotion, None), Err(refused.clone()));
    assert_eq!(follow(&object, &read, 33), Err(refused));
    assert_eq!(lift(&object, &read, 33), Changes::new(), "what another claim closed stays closed");
    let opened = cluster(|value| value["metadata"]["annotations"] = json!({OPENED: "32"}));
    let void = StoreError::OpenedSince { asked: 33, follows: 16, opened: 32 };
    assert_eq!(fence(&opened, &state(&opened), ORDER), Err(void));
}

#[test]
fn a_greater_claim_takes_over_what_is_closed_and_keeps_its_token() {
    let closed = closing(|value| value["metadata"]["annotations"][TOKEN] = json!(ours()));
    let changes = fence(&closed, &state(&closed), Fence { ballot: 49, follows: 33 }).expect("changes");
    assert_eq!(shown(&changes), ["banyan.dev/ballot=\"49\""]);
    // In the middle of the demotion, while the fence is away.
    let between = closing(|value| {
        value["metadata"]["annotations"][FENCED] = json!("[]");
        value["status"]["switchReplicaClusterStatus"] = json!({"inProgress": true});
    });
    let changes = fence(&between, &state(&between), Fence { ballot: 49, follows: 33 }).expect("changes");
    assert_eq!(shown(&changes), ["banyan.dev/ballot=\"49\"", "cnpg.io/fencedInstances=\"[\\\"*\\\"]\""]);
}

#[test]
fn a_standby_is_not_closed_and_a_primary_is_no_standby() {
    let object = standby(|value| value["status"]["demotionToken"] = json!(ours()));
    assert_eq!(fence(&object, &state(&object), ORDER), Err(StoreError::IsStandby));
    let changes = fence_standby(&object, &state(&object), ORDER).expect("changes");
    assert_eq!(shown(&changes), ["banyan.dev/ballot=\"33\""]);
    assert_eq!(lift(&object, &state(&object), 16), Changes::new(), "lifting promotes no standby");
    let primary = cluster(|_| ());
    assert_eq!(fence_standby(&primary, &state(&primary), ORDER), Err(StoreError::IsPrimary));
    let promotion = Promotion { ballot: 33, row: None };
    assert_eq!(promote(&primary, &state(&primary), promotion, None), Err(StoreError::IsPrimary));
}

#[test]
fn a_promotion_takes_the_token_that_fits() {
    let object = standby(|_| ());
    let read = state(&object);
    let promotion = Promotion { ballot: 33, row: Some(16) };
    let fits = Token::decode(&ours()).expect("a token");
    let changes = promote(&object, &read, promotion, Some(&fits)).expect("changes");
    let with_token = format!("/spec/replica/promotionToken=\"{}\"", ours());
    assert_eq!(
        shown(&changes),
        [
            "/spec/replica/primary=\"ledger-gcp\"",
            &with_token,
            "banyan.dev/ballot=\"33\"",
            "banyan.dev/promoted-from-timeline=\"3\"",
        ]
    );
    let ahead = Token::decode(&token("7421", "4", "0/3000148")).expect("a token");
    let changes = promote(&object, &read, promotion, Some(&ahead)).expect("changes");
    let from = "banyan.dev/promoted-from-timeline=\"4\"".to_owned();
    assert!(
        shown(&changes).contains(&from),
        "what its instances tell is late, and CloudNativePG waits: {changes:?}"
    );
    let once = standby(|value| value["status"]["timelineID"] = json!(2));
    let changes = promote(&once, &state(&once), promotion, None).expect("changes");
    assert!(shown(&changes).contains(&"banyan.dev/promoted-from-timeline=\"3\"".to_owned()), "{changes:?}");
    let stranger = Token::decode(&token("1", "3", "0/3000148")).expect("a token");
    let error = promote(&object, &read, promotion, Some(&stranger)).expect_err("never");
    assert!(
        matches!(&error, StoreError::Problem(problem) if problem.message.contains("never one")),
        "{error:?}"
    );
    let other = Promotion { ballot: 33, row: Some(17) };
    let error = promote(&object, &read, other, Some(&fits)).expect_err("another row");
    assert_eq!(error, StoreError::OtherRow { expected: Some(17), found: Some(16) });
    let without = promote(&object, &read, promotion, None).expect("changes");
    assert!(!shown(&without).iter().any(|change| change.contains("promotionToken")));
    // What another claim closed is promoted again where the other site is gone for good: nobody there answers.
    let closed = closing(|value| {
        value["metadata"]["annotations"][TOKEN] = json!(ours());
        value["status"] = json!({"systemID": "", "timelineID": 3});
    });
    let promotion_of_it = Promotion { ballot: 49, row: Some(33) };
    let changes = promote(&closed, &state(&closed), promotion_of_it, None).expect("changes");
    assert!(shown(&changes).contains(&"-cnpg.io/fencedInstances".to_owned()), "{changes:?}");
    let new = standby(|value| value["status"] = json!({}));
    assert_eq!(promote(&new, &state(&new), promotion, None), Err(StoreError::Starting));
}

#[test]
fn a_promotion_is_done_when_the_timeline_has_grown_and_the_token_is_checked() {
    let promoted = |timeline: u64, last: &str| {
        state(&standby(|value| {
            value["spec"]["replica"]["primary"] = json!("ledger-gcp");
            value["spec"]["replica"]["promotionToken"] = json!(ours());
            value["metadata"]["annotations"] = json!({BALLOT_ANNOTATION: "33", PROMOTED_FROM: "3"});
            value["status"]["timelineID"] = json!(timeline);
            value["status"]["lastPromotionToken"] = json!(last);
        }))
    };
    assert!(is_promoted(&promoted(4, &ours()), 33));
    assert!(!is_promoted(&promoted(3, &ours()), 33));
    assert!(!is_promoted(&promoted(4, ""), 33));
    assert!(!is_promoted(&promoted(4, &ours()), 32));
}

#[test]
fn lifting_gives_back_what_the_claim_has_closed_with_its_own_token() {
    let object = closing(|value| value["metadata"]["annotations"][TOKEN] = json!(ours()));
    let changes = lift(&object, &state(&object), 33);
    let token = format!("/spec/replica/promotionToken=\"{}\"", ours());
    assert_eq!(
        shown(&changes),
        [
            "/spec/replica/primary=\"ledger-aws\"",
            &token,
            "-cnpg.io/fencedInstances",
            "-banyan.dev/demotion-token",
            "-banyan.dev/closed-on-timeline",
        ]
    );
    let early = closing(|_| ());
    let changes = lift(&early, &state(&early), 33);
    assert!(!shown(&changes).iter().any(|change| change.contains("promotionToken")), "there was none yet");
}

#[test]
fn a_demoted_cluster_follows_and_one_that_was_not_shut_down_in_order_does_not() {
    let object = closing(|value| value["metadata"]["annotations"][TOKEN] = json!(ours()));
    let changes = follow(&object, &state(&object), 33).expect("changes");
    assert_eq!(
        shown(&changes),
        ["-cnpg.io/fencedInstances", "-banyan.dev/demotion-token", "-banyan.dev/closed-on-timeline"]
    );
    let torn = closing(|_| ());
    let error = follow(&torn, &state(&torn), 33).expect_err("no token");
    assert!(error.remedy().contains("pg_basebackup"), "{error:?}");
    let following = standby(|_| ());
    assert_eq!(follow(&following, &state(&following), 33), Ok(vec![]));
}
