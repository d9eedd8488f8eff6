//! Scenarios of authority: who takes it first, what is copied, and what proves nothing.

use serde_json::json;

use super::*;
use crate::api::authority::{Claim, ClaimState};
use crate::api::failovergroup::{Active, FailoverGroupSpec};

const NOW: i64 = 1_795_000_000;

fn now() -> Timestamp {
    Timestamp::from_second(NOW).expect("a time")
}

fn group() -> FailoverGroupSpec {
    FailoverGroupSpec {
        sites: vec!["a".to_owned(), "b".to_owned()],
        initial_site: Some("a".to_owned()),
        ..FailoverGroupSpec::default()
    }
}

fn names(all: &[&str]) -> Vec<String> {
    all.iter().map(|name| (*name).to_owned()).collect()
}

fn spec(epoch: i64, follows: i64, holders: &[&str]) -> AuthoritySpec {
    let since = Some(Time(now()));
    AuthoritySpec { epoch, follows, holders: names(holders), since, ..AuthoritySpec::default() }
}

fn open_primary() -> StoreShows {
    StoreShows { primary: true, open: true, ..StoreShows::default() }
}

/// Everybody was read, and knows of none.
fn nobody_knows() -> Knowledge {
    Knowledge {
        own: Some(AuthoritySpec::default()),
        peers: vec![("b".to_owned(), Known::Read(None))],
        witness: None,
        stores: vec![("ledger".to_owned(), Known::Read(open_primary()))],
        ..Knowledge::default()
    }
}

fn unread<T>() -> Known<T> {
    Known::NotYet("no answer within 5 s".to_owned())
}

fn decided(known: &Knowledge) -> Decision {
    decide("a", &group(), known, now())
}

/// Carries out what is decided until nothing is left to do.
fn settled(site: &str, group: &FailoverGroupSpec, known: &mut Knowledge) -> Decision {
    for _ in 0..4 {
        let decision = decide(site, group, known, now());
        let Some(write) = decision.write.clone() else { return decision };
        known.own = Some(write);
    }
    panic!("it does not settle: {known:?}");
}

#[test]
fn the_initial_site_claims_once_everybody_was_read_and_knows_of_none() {
    let mut known = nobody_knows();
    let decision = decided(&known);
    assert!(decision.first_claim);
    let write = decision.write.expect("a claim");
    assert_eq!((write.epoch, write.follows, write.promoted), (16, 0, Some(16)));
    assert_eq!(write.holders, ["a"]);
    assert_eq!(settled("a", &group(), &mut known).state, AuthorityState::Held);
    let there = decide(
        "b",
        &group(),
        &Knowledge { peers: vec![("a".to_owned(), Known::Read(Some(write)))], ..nobody_knows() },
        now(),
    );
    assert_eq!(there.state, AuthorityState::Standby);
    assert_eq!(there.write.map(|spec| (spec.epoch, spec.promoted)), Some((16, None)));
}

type Change = Box<dyn Fn(&mut Knowledge)>;

#[test]
fn what_is_not_known_is_waited_for_and_named() {
    let cases: [(&str, Change); 9] = [
        (
            "asks for something else",
            Box::new(|known| known.differs = Some("b asks for something else".into())),
        ),
        ("site b has not been read: no answer", Box::new(|known| known.peers[0].1 = unread())),
        ("the witness has not been read", Box::new(|known| known.witness = Some(unread()))),
        ("store ledger has not been read", Box::new(|known| known.stores[0].1 = unread())),
        (
            "store ledger is no primary here",
            Box::new(|known| known.stores[0].1 = Known::Read(StoreShows::default())),
        ),
        (
            "does not let applications in",
            Box::new(|known| known.stores[0].1 = Known::Read(StoreShows { open: false, ..open_primary() })),
        ),
        (
            "has been ordered by ballot 17",
            Box::new(|known| {
                known.stores[0].1 = Known::Read(StoreShows { ballot: Some(17), ..open_primary() });
            }),
        ),
        (
            "b has claim 17 under way",
            Box::new(|known| {
                let claim = Claim { site: "b".to_owned(), ballot: 17, ..Claim::default() };
                let spec = AuthoritySpec { claims: vec![claim], ..AuthoritySpec::default() };
                known.peers[0].1 = Known::Read(Some(spec));
            }),
        ),
        (
            "store ledger shows epoch 17",
            Box::new(|known| {
                let shows = StoreShows { opened_at: Some(17), ballot: Some(17), ..StoreShows::default() };
                known.stores[0].1 = Known::Read(shows);
            }),
        ),
    ];
    for (words, change) in cases {
        let mut known = nobody_knows();
        change(&mut known);
        let decision = decided(&known);
        assert!(decision.message.contains(words), "{words}: {}", decision.message);
        assert!(!decision.first_claim, "{words}");
        assert!(decision.ask_witness.is_none(), "{words}");
        assert!(decision.write.is_none_or(|spec| spec.epoch == 0), "{words}");
    }
}

#[test]
fn another_site_and_a_group_without_an_initial_site_only_wait() {
    let there = decide(
        "b",
        &group(),
        &Knowledge { peers: vec![("a".to_owned(), Known::Read(None))], ..nobody_knows() },
        now(),
    );
    assert_eq!((there.state, there.write), (AuthorityState::Unclaimed, None));
    assert_eq!(there.message, "nobody ever had authority; a is to take it");
    let nobody = FailoverGroupSpec { initial_site: None, ..group() };
    let decision = decide("a", &nobody, &nobody_knows(), now());
    assert!(decision.message.contains("set spec.initialSite"), "{}", decision.message);
    assert_eq!(decision.write, None);
}

#[test]
fn with_a_witness_it_is_decided_there_first() {
    let mut known = Knowledge { witness: Some(Known::Read(Vec::new())), ..nobody_knows() };
    let decision = decided(&known);
    let asked = Decided { after: 0, epoch: 16, holders: names(&["a"]) };
    assert_eq!(decision.ask_witness.as_ref(), Some(&asked));
    assert_eq!(decision.write, None, "nothing before that");
    known.witness = Some(Known::Read(vec![asked]));
    let decision = settled("a", &group(), &mut known);
    assert_eq!(decision.state, AuthorityState::Held);
    assert_eq!(known.own.map(|own| own.promoted), Some(Some(16)));
}

#[test]
fn what_was_committed_without_the_witness_is_recorded_there_unless_it_went_another_way() {
    let first = Decided { after: 0, epoch: 16, holders: names(&["a"]) };
    let own = AuthoritySpec { promoted: Some(32), ..spec(32, 16, &["a"]) };
    let row = StoreShows { opened_at: Some(32), ballot: Some(32), ..open_primary() };
    let known = |chain: &[Decided]| Knowledge {
        own: Some(own.clone()),
        witness: Some(Known::Read(chain.to_vec())),
        stores: vec![("ledger".to_owned(), Known::Read(row.clone()))],
        ..nobody_knows()
    };
    let missing = Decided { after: 16, epoch: 32, holders: names(&["a"]) };
    assert_eq!(decided(&known(std::slice::from_ref(&first))).ask_witness, Some(missing.clone()));
    assert_eq!(decided(&known(&[first.clone(), missing])).ask_witness, None);
    let other = Decided { after: 16, epoch: 17, holders: names(&["b"]) };
    assert_eq!(decided(&known(&[first, other])).ask_witness, None, "nothing is asked for ever");
}

#[test]
fn a_group_that_is_active_everywhere_is_claimed_for_all_by_the_first_site() {
    let group = FailoverGroupSpec { active: Some(Active::All), initial_site: None, ..group() };
    let mut here = Knowledge { stores: Vec::new(), ..nobody_knows() };
    assert_eq!(settled("a", &group, &mut here).state, AuthorityState::Held);
    let own = here.own.expect("an Authority");
    assert_eq!(own.holders, ["a", "b"]);
    let mut there =
        Knowledge { peers: vec![("a".to_owned(), Known::Read(Some(own)))], ..here_without(&nobody_knows()) };
    assert_eq!(settled("b", &group, &mut there).state, AuthorityState::Held);
    assert_eq!(there.own.map(|own| own.promoted), Some(Some(16)), "nothing is to be opened");
}

fn here_without(known: &Knowledge) -> Knowledge {
    Knowledge { stores: Vec::new(), ..known.clone() }
}

#[test]
fn a_lost_object_is_rebuilt_from_the_peer_and_serves_again() {
    let mut known = Knowledge {
        own: None,
        peers: vec![("b".to_owned(), Known::Read(Some(spec(16, 0, &["a"]))))],
        ..nobody_knows()
    };
    let decision = settled("a", &group(), &mut known);
    assert_eq!(decision.state, AuthorityState::Held);
    assert_eq!(known.own.map(|own| (own.epoch, own.promoted)), Some((16, Some(16))));
}

#[test]
fn a_lost_object_proves_nothing_while_the_peer_is_silent() {
    let mut known = Knowledge { own: None, peers: vec![("b".to_owned(), unread())], ..nobody_knows() };
    let decision = settled("a", &group(), &mut known);
    assert_eq!(decision.state, AuthorityState::Unclaimed);
    assert!(decision.message.contains("site b has not been read"), "{}", decision.message);
    assert_eq!(decision.stores_open, Some(true), "it goes on serving");
}

#[test]
fn a_deleted_object_is_rebuilt_from_what_was_said_last_and_does_not_claim_anew() {
    let mut known = Knowledge {
        own: None,
        peers: vec![("b".to_owned(), unread())],
        remembered: Some((33, names(&["b"]))),
        ..nobody_knows()
    };
    let decision = settled("a", &group(), &mut known);
    assert_eq!(decision.state, AuthorityState::Standby);
    assert_eq!(known.own.map(|own| own.epoch), Some(33));
    let mut both_gone = Knowledge { own: None, remembered: Some((16, names(&["a"]))), ..nobody_knows() };
    assert_eq!(settled("a", &group(), &mut both_gone).state, AuthorityState::Held);
    assert_eq!(
        both_gone.own.map(|own| (own.epoch, own.promoted)),
        Some((16, Some(16))),
        "no second first claim"
    );
}

#[test]
fn an_old_backup_is_rebuilt_from_the_own_primary() {
    let shows = StoreShows { opened_at: Some(32), ballot: Some(32), ..open_primary() };
    let mut known = Knowledge {
        own: Some(spec(16, 0, &["a"])),
        peers: vec![("b".to_owned(), unread())],
        stores: vec![("ledger".to_owned(), Known::Read(shows))],
        ..nobody_knows()
    };
    let decision = settled("a", &group(), &mut known);
    assert_eq!(decision.state, AuthorityState::Held);
    let own = known.own.expect("an Authority");
    assert_eq!((own.epoch, own.holders, own.promoted), (32, names(&["a"]), Some(32)));
}

#[test]
fn a_greater_epoch_that_cannot_be_copied_is_lost_and_nothing_is_claimed() {
    // The standby's row was replicated from a primary that was opened for an epoch of the other site.
    let row = StoreShows { opened_at: Some(33), ballot: Some(33), ..StoreShows::default() };
    let by_row = Knowledge {
        own: Some(spec(16, 0, &["a"])),
        peers: vec![("b".to_owned(), unread())],
        stores: vec![("ledger".to_owned(), Known::Read(row))],
        ..nobody_knows()
    };
    let by_record = Knowledge { record: Some(Known::Read(33)), stores: Vec::new(), ..by_row.clone() };
    for known in [by_row, by_record] {
        let decision = decided(&known);
        assert_eq!(decision.state, AuthorityState::Lost);
        assert_eq!(decision.write, None);
        assert!(decision.message.contains("shows epoch 33"), "{}", decision.message);
    }
}

#[test]
fn the_witness_is_believed_where_the_peer_is_silent() {
    let decided = vec![
        Decided { after: 0, epoch: 16, holders: names(&["a"]) },
        Decided { after: 16, epoch: 33, holders: names(&["b"]) },
    ];
    let mut known = Knowledge {
        own: Some(spec(16, 0, &["a"])),
        peers: vec![("b".to_owned(), unread())],
        witness: Some(Known::Read(decided)),
        ..nobody_knows()
    };
    let decision = settled("a", &group(), &mut known);
    assert_eq!(decision.state, AuthorityState::Standby);
    let own = known.own.expect("an Authority");
    assert_eq!((own.epoch, own.follows, own.holders), (33, 16, names(&["b"])));
}

#[test]
fn claims_and_their_ends_are_copied_and_never_undone() {
    let claim =
        |ballot, state| Claim { site: "b".to_owned(), ballot, follows: 16, state, ..Claim::default() };
    let there = |claim| AuthoritySpec { claims: vec![claim], ..spec(16, 0, &["a"]) };
    let with = |own: AuthoritySpec, there: AuthoritySpec| Knowledge {
        own: Some(own),
        peers: vec![("b".to_owned(), Known::Read(Some(there)))],
        ..nobody_knows()
    };
    let copied = |known: &Knowledge| decided(known).write.map(|own| own.claims);
    let open = there(claim(17, ClaimState::Open));
    assert_eq!(copied(&with(spec(16, 0, &["a"]), open.clone())), Some(vec![claim(17, ClaimState::Open)]));
    let ended = there(claim(17, ClaimState::Withdrawn));
    assert_eq!(
        copied(&with(AuthoritySpec { promoted: Some(16), ..open.clone() }, ended.clone())),
        Some(vec![claim(17, ClaimState::Withdrawn)])
    );
    // An old backup of the other site shows the claim open again.
    let known = with(AuthoritySpec { promoted: Some(16), ..ended }, open);
    assert_eq!(decided(&known).write, None);
    assert_eq!(known.greatest_ballot(), 17);
}

proptest::proptest! {
    /// What is written never breaks the transition rules of the definition, whatever is shown; and it settles.
    #[test]
    fn epochs_only_rise_and_it_settles(
        own in proptest::option::of(0i64..70),
        peer in proptest::option::of(proptest::option::of(0i64..70)),
        opened in proptest::option::of(16i64..70),
        primary: bool,
        witness in proptest::option::of(0i64..70),
        record in proptest::option::of(0i64..70),
        site in 0usize..2,
    ) {
        let of = |epoch: i64| match epoch {
            ..16 => AuthoritySpec::default(),
            epoch => spec(epoch, epoch - 16, &[if epoch % 2 == 0 { "a" } else { "b" }]),
        };
        let (here, there) = [("a", "b"), ("b", "a")][site];
        let shows = StoreShows { primary, open: primary, opened_at: opened, ballot: opened, frozen: false, closing: false };
        let decided = |epoch: i64| Decided { after: 0, epoch, holders: of(epoch).holders };
        let mut known = Knowledge {
            own: own.map(of),
            peers: vec![(there.to_owned(), peer.map_or_else(unread, |peer| Known::Read(peer.map(of))))],
            witness: witness.map(|epoch| Known::Read(if epoch < 16 { Vec::new() } else { vec![decided(epoch)] })),
            stores: vec![("ledger".to_owned(), Known::Read(shows))],
            record: record.map(Known::Read),
            remembered: own.filter(|epoch| *epoch >= 16).map(|epoch| (epoch, of(epoch).holders)),
            differs: None,
            abandoned: None,
            ordered: false,
        };
        let before = known.own.clone().unwrap_or_default();
        for _ in 0..4 {
            let decision = decide(here, &group(), &known, now());
            let Some(next) = decision.write else { return Ok(()) };
            proptest::prop_assert!(next.epoch >= before.epoch);
            proptest::prop_assert!(next.epoch != before.epoch || next.holders == before.holders);
            proptest::prop_assert!(next.promoted.unwrap_or(0) <= next.epoch);
            proptest::prop_assert_eq!(next.epoch == 0, next.holders.is_empty());
            known.own = Some(next);
        }
        proptest::prop_assert!(false, "it does not settle: {known:?}");
    }
}

/// This site has claimed epoch 32 and has it, and its store was opened for that.
fn opened_by_an_order() -> Knowledge {
    let claim = Claim { site: "a".to_owned(), ballot: 32, follows: 17, ..Claim::default() };
    let own = AuthoritySpec { claims: vec![claim], promoted: Some(16), ..spec(32, 17, &["a"]) };
    let mut known = Knowledge { own: Some(own), ..nobody_knows() };
    let opened = StoreShows { opened_at: Some(32), ballot: Some(32), ..open_primary() };
    known.stores[0].1 = Known::Read(opened);
    known
}

#[test]
fn what_an_order_has_promoted_is_open_once_the_order_has_opened_it() {
    let known = opened_by_an_order();
    assert_eq!(decided(&known).write.and_then(|own| own.promoted), Some(32));
    // Nobody closed it, and nobody has opened it: its commits may wait for a site that is gone.
    let known = Knowledge { stores: nobody_knows().stores, ..known };
    assert_eq!(decided(&known).write, None);
}

#[test]
fn where_a_request_that_writes_is_sent_first_the_order_says_that_users_may_come() {
    let probe = json!({"path": "/", "write": {"path": "/canary"}});
    let traffic = json!({"hosts": ["pay.example"], "external": {}, "probe": probe});
    let group = FailoverGroupSpec { traffic: serde_json::from_value(traffic).unwrap(), ..group() };
    let mut known = Knowledge { ordered: true, ..opened_by_an_order() };
    assert_eq!(decide("a", &group, &known, now()).write, None);
    // This Authority was made anew, or restored: that order is over.
    known.ordered = false;
    assert_eq!(decide("a", &group, &known, now()).write.and_then(|own| own.promoted), Some(32));
}

/// This site has epoch 16, and was closed for claim 17 of `b`, which is gone; the witness alone decides that claim.
fn closed_for_who_is_gone() -> Knowledge {
    let claim = Claim {
        site: "b".to_owned(),
        ballot: 17,
        follows: 16,
        fence: Some(true),
        by_witness: Some(true),
        failover: Some("uid".to_owned()),
        ..Claim::default()
    };
    let there = AuthoritySpec { claims: vec![claim], ..spec(16, 0, &["a"]) };
    let closed = StoreShows { open: false, opened_at: Some(16), ballot: Some(17), ..open_primary() };
    Knowledge {
        own: Some(AuthoritySpec { promoted: Some(16), ..there.clone() }),
        peers: vec![("b".to_owned(), Known::Read(Some(there)))],
        witness: Some(Known::Read(vec![Decided { after: 0, epoch: 16, holders: names(&["a"]) }])),
        stores: vec![("ledger".to_owned(), Known::Read(closed))],
        abandoned: Some(17),
        ..nobody_knows()
    }
}

#[test]
fn a_holder_whose_claimant_is_gone_asks_the_witness_and_goes_on_by_its_word() {
    let mut known = closed_for_who_is_gone();
    let marked = decided(&known);
    assert_eq!(marked.ask_witness, None, "it is written down first");
    known.own = marked.write;
    let mine = slot(known.own.as_ref().unwrap(), "a").cloned().expect("a claim of its own");
    assert_eq!((mine.ballot, mine.follows, mine.state), (32, 16, ClaimState::Committing));
    let asked = decided(&known);
    assert_eq!(asked.write, None);
    let wanted = Decided { after: 16, epoch: 32, holders: names(&["a"]) };
    assert_eq!(asked.ask_witness, Some(wanted.clone()));
    // It won.
    let Some(Known::Read(chain)) = &mut known.witness else { unreachable!() };
    chain.push(wanted);
    let own = decided(&known).write.expect("its epoch");
    assert_eq!((own.epoch, own.follows, own.holders.as_slice()), (32, 16, &names(&["a"])[..]));
    assert_eq!(slot(&own, "b").map(|claim| claim.state), Some(ClaimState::Withdrawn), "that one is undone");
    known.own = Some(own);
    let opened = StoreShows { opened_at: Some(32), ballot: Some(32), ..open_primary() };
    known.stores[0].1 = Known::Read(opened);
    assert_eq!(decided(&known).write.and_then(|own| own.promoted), Some(32));
}

#[test]
fn a_holder_whose_claimant_was_faster_stays_closed() {
    let mut known = closed_for_who_is_gone();
    known.own = decided(&known).write;
    let Some(Known::Read(chain)) = &mut known.witness else { unreachable!() };
    chain.push(Decided { after: 16, epoch: 17, holders: names(&["b"]) });
    let lost = settled("a", &group(), &mut known);
    assert_eq!((lost.state, lost.ask_witness), (AuthorityState::Standby, None));
    let own = known.own.expect("its Authority");
    assert_eq!((own.epoch, own.holders.as_slice()), (17, &names(&["b"])[..]));
    assert_eq!(slot(&own, "a").map(|claim| claim.state), Some(ClaimState::Withdrawn));
}

#[test]
fn nothing_is_taken_back_of_which_that_is_not_certain() {
    fn claim(known: &mut Knowledge) -> &mut Claim {
        &mut known.own.as_mut().unwrap().claims[0]
    }
    let cases: [(&str, Change); 7] = [
        ("its site answers, or it was there before this process", Box::new(|known| known.abandoned = None)),
        ("there is no witness", Box::new(|known| known.witness = None)),
        ("the witness is away", Box::new(|known| known.witness = Some(unread()))),
        ("others may decide it", Box::new(|known| claim(known).by_witness = None)),
        ("it closes nothing", Box::new(|known| claim(known).fence = None)),
        ("it was given up", Box::new(|known| claim(known).state = ClaimState::Withdrawn)),
        (
            "an order of this site is at work",
            Box::new(|known| {
                let mine = Claim { site: "a".to_owned(), ballot: 32, follows: 16, ..Claim::default() };
                known.own.as_mut().unwrap().claims.insert(0, mine);
            }),
        ),
    ];
    for (why, change) in cases {
        let mut known = closed_for_who_is_gone();
        known.peers[0].1 = Known::Read(None);
        change(&mut known);
        let decision = decided(&known);
        assert_eq!((decision.write, decision.ask_witness), (None, None), "{why}");
    }
}

#[test]
fn a_process_that_began_later_reads_the_others_before_it_asks_the_witness_again() {
    let mut known = closed_for_who_is_gone();
    known.own = decided(&known).write;
    (known.abandoned, known.peers[0].1) = (None, unread());
    assert_eq!(decided(&known).ask_witness, None);
    known.peers[0].1 = closed_for_who_is_gone().peers.remove(0).1;
    assert!(decided(&known).ask_witness.is_some());
    // Others may have committed a claim of which this site has heard since.
    let own = known.own.as_mut().unwrap();
    let later = Claim { by_witness: None, ballot: 33, ..own.claims[1].clone() };
    own.claims[1] = later;
    assert_eq!(decided(&known).ask_witness, None);
}
