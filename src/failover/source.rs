//! What is known of a store, here and at the source, without asking it. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::FailoverGroupSpec;
use crate::api::authority::AuthoritySpec;
use crate::api::record::LastServed;
use crate::authority::claims::greater;
use crate::authority::known::{Knowledge, StoreShows};
use crate::stores::{Reading, StoreError};

fn shown<'a>(known: &'a Knowledge, store: &str) -> Option<&'a StoreShows> {
    known.stores.iter().find(|(name, _)| name == store)?.1.read()
}

/// The site from which a group moves to `site`: who has authority; where this one has it, the one that claims against it.
pub fn source_of(site: &str, own: Option<&AuthoritySpec>, group: &FailoverGroupSpec) -> Option<String> {
    let own = own?;
    let holder = own.holders.iter().find(|holder| **holder != *site).cloned();
    let claims = || own.claims.iter().find(|claim| claim.site != *site).map(|claim| claim.site.clone());
    holder.or_else(claims).or_else(|| group.peers(site).next().map(str::to_owned))
}

/// Whether the server here was seen to be a primary.
pub fn is_primary_here(known: &Knowledge, store: &str) -> bool {
    shown(known, store).is_some_and(|shows| shows.primary)
}

/// Whether the server here was seen to be a standby; so that the other one is the primary, if there is one.
pub fn is_standby_here(known: &Knowledge, store: &str) -> bool {
    shown(known, store).is_some_and(|shows| !shows.primary)
}

/// Whether each commit at the source waits for this site, where the group says so of that store.
///
/// Opening a store for an epoch ends that, since whoever is waited for may be gone. So it is so only in the first epoch, as
/// long as nobody has opened the source by an order, and nobody else's claim is under way that may have. The row here alone
/// does not tell: replication may have stood still since then. And a witness that is away may have given the source
/// authority back.
pub fn commits_wait_for(known: &Knowledge, site: &str, store: &str) -> bool {
    let first = |own: &AuthoritySpec| own.follows == 0 && greater(own, site, own.epoch).is_none();
    !known.witness_is_away()
        && known.own.as_ref().is_some_and(first)
        && shown(known, store).is_some_and(|shows| !shows.primary && shows.opened_at.is_none())
}

/// When the holders were last known to serve: when a store there answered last as a primary (`primaries`), or the last
/// heartbeat of a holder that has arrived at `site`. The latter counts by the clock of the holder's server.
pub fn last_served(
    stores: &BTreeMap<(String, String), Result<Arc<Reading>, StoreError>>,
    primaries: &BTreeMap<(String, String), Timestamp>,
    site: &str,
    holders: &[String],
) -> Option<LastServed> {
    let holds = |of: &str| of != site && holders.iter().any(|holder| holder == of);
    let answered = primaries.iter().filter(|((_, at), _)| holds(at));
    let answered =
        answered.map(|((store, at), when)| (*when, format!("store {store} at {at} answered as a primary")));
    let here = stores.iter().filter(|((_, at), _)| at == site);
    let beats = here.filter_map(|((store, _), reading)| {
        let beat = reading.as_ref().ok()?.heartbeat.as_ref().filter(|beat| holds(&beat.site))?;
        Some((beat.at, format!("the last heartbeat of {} in store {store} here", beat.site)))
    });
    let (at, by) = answered.chain(beats).max_by_key(|(at, _)| *at)?;
    Some(LastServed { at: Time(at), by })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::authority::Claim;
    use crate::authority::known::Known;

    #[test]
    fn what_a_source_showed_last_is_known_where_it_shows_nothing_any_more() {
        let key = |site: &str| ("db".to_owned(), site.to_owned());
        let at = |second| Timestamp::from_second(second).expect("a time");
        let stores =
            BTreeMap::from([(key("a"), Err(StoreError::IsStandby)), (key("b"), Err(StoreError::IsStandby))]);
        let primaries = BTreeMap::from([(key("a"), at(50)), (key("b"), at(90))]);
        let served = |holders: &[&str]| {
            let holders: Vec<String> = holders.iter().map(|holder| (*holder).to_owned()).collect();
            last_served(&stores, &primaries, "b", &holders)
        };
        let seen = served(&["a"]).expect("it answered once");
        assert_eq!((seen.at, seen.by.as_str()), (Time(at(50)), "store db at a answered as a primary"));
        assert_eq!(served(&["b"]), None, "this site is no source");
        assert_eq!(last_served(&stores, &BTreeMap::new(), "b", &["a".to_owned()]), None);
    }

    #[test]
    fn commits_wait_for_a_standby_until_somebody_opens_the_source_anew() {
        let holders = vec!["a".to_owned()];
        let own = AuthoritySpec { epoch: 16, holders, ..AuthoritySpec::default() };
        let knows = |own: &AuthoritySpec, shows: &StoreShows| Knowledge {
            own: Some(own.clone()),
            peers: vec![("a".to_owned(), Known::Read(Some(own.clone())))],
            witness: None,
            stores: vec![("db".to_owned(), Known::Read(shows.clone()))],
            ..Knowledge::default()
        };
        let waits = |own: &AuthoritySpec, shows: &StoreShows| commits_wait_for(&knows(own, shows), "b", "db");
        let never = StoreShows { open: true, ..StoreShows::default() };
        let since = StoreShows { opened_at: Some(16), ballot: Some(16), ..never.clone() };
        assert!(!waits(&own, &since), "it was opened for 16, and waits for nobody since");
        assert!(waits(&own, &never));
        let opposing = Claim { site: "a".to_owned(), ballot: 32, follows: 16, ..Claim::default() };
        let claimed = AuthoritySpec { claims: vec![opposing], ..own.clone() };
        assert!(!waits(&claimed, &never), "it may be opened by that");
        let ordered = AuthoritySpec { epoch: 32, follows: 16, ..own.clone() };
        assert!(!waits(&ordered, &never), "an order has opened it, and replication has stood still since");
        let away = Knowledge { witness: Some(Known::NotYet("silence".to_owned())), ..knows(&own, &never) };
        assert!(!commits_wait_for(&away, "b", "db"), "it may have been given authority back");
        assert!(!waits(&own, &StoreShows { primary: true, ..never }), "it is no standby");
    }
}
