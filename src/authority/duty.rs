//! What a site owes its own stores, whoever ordered what: lines 8, 16 and 20 of the protocol. Pure.
//!
//! A store is closed on positive knowledge of a greater claim or epoch, and opened on positive knowledge that what closed it
//! is over; never by a restart, a time-out alone, or something missing.

use super::claims::{is_ordered, is_withdrawn, pressing, slot, takes_back};
use super::known::{Knowledge, StoreShows};
use crate::api::authority::{AuthoritySpec, AuthorityState, BALLOTS_PER_TERM};

/// Something that the operator of a site does to a store of its own site. Each may be done again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Duty {
    /// Close it: another site claims, and fences; or has authority.
    Close {
        /// The store.
        store: String,
        /// What closes it.
        ballot: i64,
        /// A store that was opened for a later epoch refuses.
        follows: i64,
    },
    /// Open what that ballot closed: the claim was given up.
    Lift {
        /// The store.
        store: String,
        /// What closed it.
        ballot: i64,
    },
    /// Open it: this site has authority.
    Open {
        /// The store.
        store: String,
        /// The epoch for which.
        epoch: i64,
    },
    /// Have it take in again what its primary sends: no claim of this site is alive that had stopped it.
    Thaw {
        /// The store.
        store: String,
    },
    /// Have it follow the store of the site that has authority now.
    Follow {
        /// The store.
        store: String,
        /// That site.
        site: String,
        /// The epoch for which it was opened there.
        epoch: i64,
        /// Whether it cannot be read here, so that only what was begun with it for this epoch is gone on with.
        begun: bool,
    },
}

/// What this site, which has that place in its group, owes its stores, as the Authority `own` has it, which may not be written yet. `there` tells what a store
/// shows at another site.
pub fn duties(
    site: &str,
    place: usize,
    own: &AuthoritySpec,
    state: AuthorityState,
    known: &Knowledge,
    there: impl Fn(&str, &str) -> Option<StoreShows>,
) -> Vec<Duty> {
    if own.epoch == 0 {
        return Vec::new();
    }
    let read = known.stores.iter().filter_map(|(name, shown)| Some((name.as_str(), shown.read()?)));
    let duty = |(store, shows): (&str, &StoreShows)| match (shows.primary, own.is_held_by(site)) {
        (true, true) => of_holder(site, own, state, known, store, shows)
            .filter(|duty| matches!(duty, Duty::Close { .. }) || !serves_elsewhere(known, store, &there)),
        (true, false) => of_former(place, own, store, shows, &there),
        (false, _) => {
            (shows.frozen && !is_ordered(site, own)).then(|| Duty::Thaw { store: store.to_owned() })
        }
    };
    read.filter_map(duty).collect()
}

/// Whether the store is an open primary at another site: then it is not opened here, whatever is on record. An Authority that
/// was restored from a backup there may not know that it was promoted.
fn serves_elsewhere(
    known: &Knowledge,
    store: &str,
    there: &impl Fn(&str, &str) -> Option<StoreShows>,
) -> bool {
    let serves = |site: &str| there(store, site).is_some_and(|shows| shows.primary && shows.open);
    known.peers.iter().any(|(site, _)| serves(site))
}

fn of_holder(
    site: &str,
    own: &AuthoritySpec,
    state: AuthorityState,
    known: &Knowledge,
    store: &str,
    shows: &StoreShows,
) -> Option<Duty> {
    let (store, row) = (store.to_owned(), shows.ballot.unwrap_or(0));
    if let Some(claim) = pressing(site, own) {
        let close = Duty::Close { store, ballot: claim.ballot, follows: own.epoch };
        let begun = shows.closing && row == claim.ballot;
        return (begun || (shows.open && row < claim.ballot)).then_some(close);
    }
    // Line 5: whoever was away may not know that others went on without this site, by a person's word.
    if !known.all_read() {
        return None;
    }
    // It was opened for the epoch before while the witness decided that this site goes on.
    let taken_back = slot(own, site).is_some_and(|claim| takes_back(claim) && claim.ballot == own.epoch);
    if shows.open && taken_back && row < own.epoch && state == AuthorityState::Held {
        return Some(Duty::Open { store, epoch: own.epoch });
    }
    // What this site's own Failover has in hand is its business.
    if (shows.open && !shows.closing) || is_ordered(site, own) || state == AuthorityState::Lost {
        return None;
    }
    if row <= own.epoch {
        return Some(Duty::Open { store, epoch: own.epoch });
    }
    let peers = known.peers.iter().filter_map(|(_, shown)| shown.read()?.as_ref());
    is_withdrawn(peers.chain([own]), row).then_some(Duty::Lift { store, ballot: row })
}

fn of_former(
    place: usize,
    own: &AuthoritySpec,
    store: &str,
    shows: &StoreShows,
    there: impl Fn(&str, &str) -> Option<StoreShows>,
) -> Option<Duty> {
    let name = store.to_owned();
    // A primary that nobody ever ordered, at a site that never had authority, was no part of this group when it began: two
    // sites that both write are a readiness check, and no session of a running platform is ended for it.
    let made_here = own.follows > 0 && own.follows.rem_euclid(BALLOTS_PER_TERM) == place as i64;
    if shows.ballot.is_none() && shows.opened_at.is_none() && own.promoted.is_none() && !made_here {
        return None;
    }
    if shows.open && shows.ballot.unwrap_or(0) <= own.epoch {
        // Whatever it was opened for before: that is over. One that has the row of this epoch was a standby of who has
        // authority, and was promoted for a claim that nobody shows as committed: an Authority was restored since.
        let follows = shows.opened_at.unwrap_or(0).max(own.epoch - 1);
        return Some(Duty::Close { store: name, ballot: own.epoch, follows });
    }
    if shows.open {
        return None;
    }
    let holder = own.holders.first()?;
    let leads = there(store, holder)?;
    let later = leads.opened_at.unwrap_or(0) > shows.opened_at.unwrap_or(0);
    let serves = leads.primary && leads.open && leads.opened_at == Some(own.epoch);
    let follow = || Duty::Follow { store: name, site: holder.clone(), epoch: own.epoch, begun: false };
    (serves && later).then(follow)
}

/// Stores of this site that cannot be read, while another site has authority and its own serves: whoever stopped one to have
/// it follow, and could not start it again, is asked to go on. A server that was stopped tells nobody what it is.
pub fn unfinished(
    site: &str,
    own: &AuthoritySpec,
    known: &Knowledge,
    there: impl Fn(&str, &str) -> Option<StoreShows>,
) -> Vec<Duty> {
    let Some(holder) = own.holders.first().filter(|_| own.epoch > 0 && !own.is_held_by(site)) else {
        return Vec::new();
    };
    let serves = |store: &str| {
        let shows = there(store, holder);
        shows.is_some_and(|shows| shows.primary && shows.open && shows.opened_at == Some(own.epoch))
    };
    let unread = known.stores.iter().filter(|(name, shown)| shown.read().is_none() && serves(name));
    let follow = |(store, _): &(String, _)| Duty::Follow {
        store: store.clone(),
        site: holder.clone(),
        epoch: own.epoch,
        begun: true,
    };
    unread.map(follow).collect()
}

#[cfg(test)]
#[path = "duty_tests.rs"]
mod tests;
