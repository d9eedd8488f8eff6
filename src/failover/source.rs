//! What is known of a store, here and at the source, without asking it. Pure.

use crate::authority::claims::greater;
use crate::authority::known::{Knowledge, StoreShows};

fn shown<'a>(known: &'a Knowledge, store: &str) -> Option<&'a StoreShows> {
    known.stores.iter().find(|(name, _)| name == store)?.1.read()
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
/// Opening a store for an epoch ends that, since whoever is waited for may be gone. So it is so only as long as nobody has
/// opened the source by an order, and nobody else's claim is under way that may have.
pub fn commits_wait_for(known: &Knowledge, site: &str, store: &str) -> bool {
    let outbid = known.own.as_ref().is_none_or(|own| greater(own, site, own.epoch).is_some());
    shown(known, store).is_some_and(|shows| !shows.primary && shows.opened_at.is_none()) && !outbid
}
