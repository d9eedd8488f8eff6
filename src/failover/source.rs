//! What is known of a store, here and at the source, without asking it. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::record::LastServed;
use crate::authority::claims::greater;
use crate::authority::known::{Knowledge, StoreShows};
use crate::stores::reading::Role;
use crate::stores::{Reading, StoreError};

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

/// When the holders were last known to serve, by what their stores and those of `site` showed last: a primary there that
/// answered, or the last heartbeat of a holder that has arrived here. The latter counts by the clock of the holder's server.
pub fn last_served(
    stores: &BTreeMap<(String, String), Result<Arc<Reading>, StoreError>>,
    site: &str,
    holders: &[String],
) -> Option<LastServed> {
    let holds = |of: &str| of != site && holders.iter().any(|holder| holder == of);
    let mut best: Option<(Timestamp, String)> = None;
    let mut seen = |at: Timestamp, by: String| {
        if best.as_ref().is_none_or(|(before, _)| at > *before) {
            best = Some((at, by));
        }
    };
    for ((store, at), reading) in stores {
        let Ok(reading) = reading else { continue };
        if holds(at) && reading.role == Role::Primary {
            seen(reading.measured_at, format!("store {store} at {at} answered as a primary"));
        }
        if let Some(beat) = reading.heartbeat.as_ref().filter(|beat| at == site && holds(&beat.site)) {
            seen(beat.at, format!("the last heartbeat of {} in store {store} here", beat.site));
        }
    }
    best.map(|(at, by)| LastServed { at: Time(at), by })
}
