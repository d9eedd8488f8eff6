use super::*;

fn claim(site: &str, ballot: i64, follows: i64) -> Claim {
    Claim { site: site.to_owned(), ballot, follows, failover: Some("uid".to_owned()), ..Claim::default() }
}

fn held(by: &str, epoch: i64) -> AuthoritySpec {
    AuthoritySpec { epoch, holders: vec![by.to_owned()], promoted: Some(epoch), ..AuthoritySpec::default() }
}

fn since() -> Time {
    Time(jiff::Timestamp::UNIX_EPOCH)
}

#[test]
fn a_claim_changes_no_epoch_and_its_commit_does() {
    let own = open(&held("a", 16), claim("b", 17, 16)).unwrap();
    assert_eq!((own.epoch, own.holders.as_slice()), (16, ["a".to_owned()].as_slice()));
    let own = press(&own, "b", 17).unwrap();
    assert_eq!(slot(&own, "b").and_then(|claim| claim.fence), Some(true));
    let own = commit(&own, "b", 17, vec!["b".to_owned()], since()).unwrap();
    assert_eq!((own.epoch, own.follows, own.promoted), (17, 16, Some(16)));
    assert!(own.is_held_by("b") && own.since.is_some());
    assert_eq!(promoted(&own, 17).promoted, Some(17));
    assert_eq!(withdraw(&own, "b", 17), Err(Refused::Decided { ballot: 17 }), "there is no way back");
}

#[test]
fn of_abort_and_commit_one_happens() {
    let own = open(&held("a", 16), claim("b", 17, 16)).unwrap();
    let given_up = withdraw(&own, "b", 17).unwrap();
    assert_eq!(given_up.withdrawn, [17]);
    let refused = commit(&given_up, "b", 17, vec!["b".to_owned()], since());
    assert_eq!(refused, Err(Refused::Over { ballot: 17 }));
    assert_eq!(press(&given_up, "b", 17), Err(Refused::Over { ballot: 17 }));
    assert_eq!(withdraw(&given_up, "b", 17).unwrap(), given_up, "given up twice is given up");
    let marked = mark(&own, "b", 17).unwrap();
    assert_eq!(withdraw(&marked, "b", 17), Err(Refused::Decided { ballot: 17 }));
    assert_eq!(lose(&marked, "b", 17).withdrawn, [17]);
}

#[test]
fn a_greater_claim_or_another_epoch_refuses() {
    let own = open(&held("a", 16), claim("b", 17, 16)).unwrap();
    let there = receive(&held("a", 16), slot(&own, "b").unwrap()).unwrap();
    assert_eq!(slot(&there, "b").map(|claim| claim.ballot), Some(17));
    // The holder orders against it.
    let there = open(&there, claim("a", 32, 16)).unwrap();
    let greater = Refused::Greater { site: "a".to_owned(), ballot: 32 };
    assert_eq!(receive(&there, slot(&own, "b").unwrap()), Err(greater.clone()));
    let own = receive(&own, slot(&there, "a").unwrap()).unwrap();
    assert_eq!(commit(&own, "b", 17, vec!["b".to_owned()], since()), Err(greater));
    // The greater one is given up: the smaller goes on.
    let over = Claim { state: ClaimState::Withdrawn, ..claim("a", 32, 16) };
    let own = receive(&own, &over).unwrap();
    assert!(commit(&own, "b", 17, vec!["b".to_owned()], since()).is_ok());
    let moved = Refused::Moved { epoch: 33, follows: 16 };
    assert_eq!(open(&held("a", 33), claim("b", 49, 16)), Err(moved.clone()));
    assert_eq!(receive(&held("a", 33), &claim("b", 49, 16)), Err(moved));
    assert_eq!(open(&own, claim("b", 17, 16)).unwrap_err().to_string(), "a has the greater claim 32");
}

#[test]
fn a_new_claim_ends_the_former_one() {
    let own = open(&held("a", 16), claim("b", 17, 16)).unwrap();
    let own = open(&own, claim("b", 33, 16)).unwrap();
    assert_eq!(own.withdrawn, [17]);
    assert!(is_withdrawn([&own], 17) && !is_withdrawn([&own], 33));
    let marked = mark(&own, "b", 33).unwrap();
    assert_eq!(open(&marked, claim("b", 49, 16)), Err(Refused::Decided { ballot: 33 }));
}

#[test]
fn a_claim_is_nobodys_once_its_order_is_gone_unless_a_store_serves_for_it() {
    let with = |store: Known<StoreShows>| Knowledge {
        own: Some(open(&held("a", 16), claim("b", 17, 16)).unwrap()),
        peers: Vec::new(),
        witness: None,
        stores: vec![("db".to_owned(), store)],
        ..Knowledge::default()
    };
    let of = |store, uids: &[&str]| {
        let at_work = uids.iter().map(|uid| (*uid).to_owned()).collect();
        orphan(&with(store), "b", &at_work).map(|claim| claim.ballot)
    };
    let standby = || Known::Read(StoreShows { open: true, ..StoreShows::default() });
    assert_eq!((of(standby(), &[]), of(standby(), &["uid"])), (Some(17), None));
    // An old backup: it was committed, and promoted; who has authority by this object would open its own as well.
    let serves = StoreShows { primary: true, open: true, ..StoreShows::default() };
    assert_eq!(of(Known::Read(serves.clone()), &[]), None);
    assert_eq!(of(Known::NotYet("not yet".to_owned()), &[]), None);
    assert_eq!(of(Known::Read(StoreShows { open: false, ..serves }), &[]), Some(17));
}
