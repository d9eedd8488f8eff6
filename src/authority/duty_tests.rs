use super::*;
use crate::api::authority::{Claim, ClaimState};
use crate::authority::known::Known;

fn held(by: &str, epoch: i64) -> AuthoritySpec {
    AuthoritySpec { epoch, holders: vec![by.to_owned()], promoted: Some(epoch), ..AuthoritySpec::default() }
}

fn claim(site: &str, ballot: i64, state: ClaimState, fence: bool) -> Claim {
    let fence = fence.then_some(true);
    Claim { site: site.to_owned(), ballot, follows: 16, fence, state, ..Claim::default() }
}

fn shows(primary: bool, open: bool, opened_at: i64, ballot: i64) -> StoreShows {
    let some = |number: i64| (number > 0).then_some(number);
    StoreShows { primary, open, opened_at: some(opened_at), ballot: some(ballot), ..StoreShows::default() }
}

fn known(store: StoreShows, peer: Option<AuthoritySpec>) -> Knowledge {
    Knowledge {
        own: None,
        peers: vec![("b".to_owned(), Known::Read(peer))],
        witness: None,
        stores: vec![("db".to_owned(), Known::Read(store))],
        ..Knowledge::default()
    }
}

fn owed(own: &AuthoritySpec, store: StoreShows, there: Option<StoreShows>) -> Vec<Duty> {
    duties("a", 0, own, AuthorityState::Held, &known(store, None), |_, _| there.clone())
}

fn db() -> String {
    "db".to_owned()
}

#[test]
fn a_holder_closes_for_a_claim_that_fences_and_for_no_other() {
    let open = shows(true, true, 16, 16);
    let with = |one: Claim| AuthoritySpec { claims: vec![one], ..held("a", 16) };
    let pressed = with(claim("b", 17, ClaimState::Open, true));
    assert_eq!(owed(&pressed, open.clone(), None), [Duty::Close { store: db(), ballot: 17, follows: 16 }]);
    assert_eq!(owed(&pressed, shows(true, false, 16, 17), None), [], "it is closed already");
    for other in [
        claim("b", 17, ClaimState::Open, false),
        claim("b", 17, ClaimState::Withdrawn, true),
        Claim { follows: 0, ..claim("b", 17, ClaimState::Open, true) },
        claim("a", 32, ClaimState::Open, true),
    ] {
        assert_eq!(owed(&with(other.clone()), open.clone(), None), [], "{other:?}");
    }
    assert_eq!(owed(&AuthoritySpec::default(), open, None), [], "nobody ever had authority");
}

#[test]
fn what_takes_several_orders_to_be_closed_is_asked_again_until_it_is_and_is_opened_where_the_claim_is_given_up()
 {
    let closing = StoreShows { closing: true, ..shows(true, true, 16, 17) };
    let pressed = AuthoritySpec { claims: vec![claim("b", 17, ClaimState::Open, true)], ..held("a", 16) };
    let close = [Duty::Close { store: db(), ballot: 17, follows: 16 }];
    assert_eq!(owed(&pressed, closing.clone(), None), close);
    assert_eq!(owed(&held("b", 17), closing.clone(), None), close, "another site has authority meanwhile");
    let given_up = AuthoritySpec { withdrawn: vec![17], ..held("a", 16) };
    assert_eq!(owed(&given_up, closing, None), [Duty::Lift { store: db(), ballot: 17 }]);
    assert_eq!(owed(&given_up, shows(true, true, 16, 17), None), [], "it was lifted");
}

#[test]
fn whoever_was_away_opens_nothing_before_the_others_were_read() {
    let given_up = AuthoritySpec { withdrawn: vec![17], ..held("a", 16) };
    let taken_over = held("a", 32);
    let mut unread = known(shows(true, false, 16, 17), None);
    for own in [given_up, taken_over] {
        let owed = |known: &Knowledge| duties("a", 0, &own, AuthorityState::Held, known, |_, _| None);
        unread.peers[0].1 = Known::Read(None);
        assert_eq!(owed(&unread).len(), 1, "{own:?}");
        unread.peers[0].1 = Known::NotYet("no answer within 5 s".to_owned());
        assert_eq!(owed(&unread), [], "{own:?}");
    }
}

#[test]
fn what_a_claim_closed_is_opened_once_that_claim_was_given_up_and_not_before() {
    let closed = shows(true, false, 16, 17);
    let with = |one: Claim| AuthoritySpec { claims: vec![one], ..held("a", 16) };
    assert_eq!(owed(&held("a", 16), closed.clone(), None), [], "nobody shows that it is over");
    let over = with(claim("b", 17, ClaimState::Withdrawn, true));
    assert_eq!(owed(&over, closed.clone(), None), [Duty::Lift { store: db(), ballot: 17 }]);
    // The claimant has claimed anew since: what is over stands in its list.
    let peer = AuthoritySpec { withdrawn: vec![17], ..held("a", 16) };
    let knows = known(closed.clone(), Some(peer));
    let lift = [Duty::Lift { store: db(), ballot: 17 }];
    assert_eq!(duties("a", 0, &held("a", 16), AuthorityState::Held, &knows, |_, _| None), lift);
    assert_eq!(duties("a", 0, &held("a", 16), AuthorityState::Lost, &knows, |_, _| None), []);
    // It holds a later epoch than what closed it.
    assert_eq!(owed(&held("a", 32), closed.clone(), None), [Duty::Open { store: db(), epoch: 32 }]);
    // Its own claim is its Failover's business.
    let mine = AuthoritySpec { promoted: Some(16), ..held("a", 32) };
    let mine = AuthoritySpec {
        claims: vec![Claim { ballot: 32, ..claim("a", 32, ClaimState::Open, true) }],
        ..mine
    };
    assert_eq!(owed(&mine, closed, None), []);
}

#[test]
fn who_has_lost_authority_closes_and_follows_who_was_opened_later() {
    let lost = held("b", 17);
    let close = [Duty::Close { store: db(), ballot: 17, follows: 16 }];
    assert_eq!(owed(&lost, shows(true, true, 16, 16), None), close);
    let unordered = shows(true, true, 0, 0);
    assert_eq!(owed(&lost, unordered.clone(), None), close, "the first claim had ordered nothing");
    // Its Authority was lost since, and made anew from what the other site shows: the epoch before was this site's.
    let anew = AuthoritySpec { promoted: None, follows: 16, ..lost.clone() };
    assert_eq!(owed(&anew, unordered.clone(), None), close);
    // It never had authority: two primaries are told, and nobody's sessions are ended.
    let never = AuthoritySpec { promoted: None, ..lost.clone() };
    assert_eq!(owed(&never, unordered, None), []);
    let closed = shows(true, false, 16, 17);
    let opened = shows(true, true, 17, 17);
    let follow = [Duty::Follow { store: db(), site: "b".to_owned(), epoch: 17, begun: false }];
    assert_eq!(owed(&lost, closed.clone(), Some(opened.clone())), follow);
    assert_eq!(owed(&lost, closed.clone(), None), [], "nobody knows how it is there");
    assert_eq!(owed(&lost, closed.clone(), Some(shows(true, false, 16, 17))), [], "it is not open yet");
    assert_eq!(owed(&lost, shows(true, false, 17, 17), Some(opened.clone())), [], "both were opened for it");
    assert_eq!(owed(&lost, shows(false, true, 16, 17), Some(opened)), [], "it follows already");
}

#[test]
fn a_standby_takes_in_again_once_no_claim_of_its_site_is_alive() {
    let frozen = StoreShows { frozen: true, ..shows(false, true, 16, 16) };
    let with =
        |one: Claim, epoch| AuthoritySpec { claims: vec![one], promoted: Some(16), ..held("b", epoch) };
    let mine = claim("a", 32, ClaimState::Open, true);
    assert_eq!(owed(&with(mine.clone(), 16), frozen.clone(), None), []);
    let committed = AuthoritySpec { holders: vec!["a".to_owned()], ..with(mine, 32) };
    assert_eq!(owed(&committed, frozen.clone(), None), [], "it is about to be promoted");
    let over = with(claim("a", 32, ClaimState::Withdrawn, true), 16);
    assert_eq!(owed(&over, frozen, None), [Duty::Thaw { store: db() }]);
}

#[test]
fn nothing_is_opened_while_another_site_serves() {
    let over = claim("b", 17, ClaimState::Withdrawn, true);
    let own = AuthoritySpec { claims: vec![over], ..held("a", 16) };
    let closed = shows(true, false, 16, 17);
    // It was promoted for 17, and its Authority is an old backup: it gave the claim up that it had committed.
    assert_eq!(owed(&own, closed.clone(), Some(shows(true, true, 0, 0))), []);
    let lift = [Duty::Lift { store: db(), ballot: 17 }];
    assert_eq!(owed(&own, closed.clone(), Some(shows(true, false, 16, 16))), lift);
    assert_eq!(owed(&own, closed, Some(shows(false, true, 16, 16))), lift);
}

#[test]
fn a_standby_that_was_promoted_for_what_nobody_shows_is_closed() {
    let close = [Duty::Close { store: db(), ballot: 17, follows: 17 }];
    assert_eq!(owed(&held("b", 17), shows(true, true, 17, 17), None), close);
    assert_eq!(owed(&held("b", 17), shows(true, true, 32, 32), None), [], "it knows of a later one");
}

#[test]
fn what_was_stopped_to_follow_and_cannot_be_read_is_gone_on_with() {
    let serving = |_: &str, site: &str| (site == "b").then(|| shows(true, true, 33, 33));
    let unread = Knowledge {
        stores: vec![("db".to_owned(), Known::NotYet("refused".to_owned()))],
        ..known(shows(true, false, 16, 33), None)
    };
    let follow = Duty::Follow { store: db(), site: "b".to_owned(), epoch: 33, begun: true };
    assert_eq!(unfinished("a", &held("b", 33), &unread, serving), [follow]);
    assert_eq!(unfinished("a", &held("a", 33), &unread, serving), [], "it has authority itself");
    assert_eq!(unfinished("a", &held("b", 49), &unread, serving), [], "it does not serve yet there");
    let read = known(shows(true, false, 16, 33), None);
    assert_eq!(unfinished("a", &held("b", 33), &read, serving), [], "it can be read");
    assert_eq!(duties("a", 0, &held("b", 33), AuthorityState::Standby, &unread, serving), []);
}
