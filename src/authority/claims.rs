//! What becomes of claims: lines 6, 7, 11 and 12 of the protocol. Each is one change of one Authority, which is written over
//! the version that it was made of; so of two that exclude each other, one happens. Pure.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::known::{Decided, Knowledge, Known, StoreShows};
use crate::api::authority::{AuthoritySpec, Claim, ClaimState};

/// Why an Authority does not take a claim, or a claim does not commit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Another site, or another order at this one, has a greater claim that is not given up.
    #[error("{site} has the greater claim {ballot}")]
    Greater {
        /// The site.
        site: String,
        /// Its ballot.
        ballot: i64,
    },
    /// The epoch that the claim was to follow is not the last one any more.
    #[error("epoch {epoch} stands, and the claim was to follow {follows}")]
    Moved {
        /// The epoch that stands.
        epoch: i64,
        /// The one that the claim was to follow.
        follows: i64,
    },
    /// The claim was given up, or a later one of the same site has taken its place.
    #[error("the claim {ballot} is over")]
    Over {
        /// Its ballot.
        ballot: i64,
    },
    /// The claim is being decided at the witness, or is committed: it cannot be given up any more.
    #[error("the claim {ballot} is past the point of no return")]
    Decided {
        /// Its ballot.
        ballot: i64,
    },
    /// The claim is the witness's to decide, and nobody else's.
    #[error("the witness alone decides the claim {ballot}")]
    ByWitness {
        /// Its ballot.
        ballot: i64,
    },
}

/// The claim of a site, as that Authority shows it.
pub fn slot<'a>(of: &'a AuthoritySpec, site: &str) -> Option<&'a Claim> {
    of.claims.iter().find(|claim| claim.site == site)
}

/// Whether a claim may still become an epoch.
pub fn is_alive(claim: &Claim) -> bool {
    claim.state != ClaimState::Withdrawn
}

/// Whether the witness alone decides a claim.
pub fn is_by_witness(claim: &Claim) -> bool {
    claim.by_witness == Some(true)
}

/// Whether two sites show the same claim. An operator that is older keeps nothing of who decides it, and then never asks the
/// witness for itself.
pub fn is_same(one: &Claim, other: &Claim) -> bool {
    let plain = |claim: &Claim| Claim { by_witness: None, ..claim.clone() };
    plain(one) == plain(other)
}

/// Whether a claim that is being decided was made by a holder that takes authority back, and for no order.
pub fn takes_back(claim: &Claim) -> bool {
    claim.failover.is_none() && is_by_witness(claim) && claim.state == ClaimState::Committing
}

/// Whether a Failover of this site is at work: what it has claimed, or committed until all is open.
pub fn is_ordered(site: &str, own: &AuthoritySpec) -> bool {
    slot(own, site).is_some_and(|claim| !takes_back(claim) && is_under_way(claim, own))
}

/// Whether what a claim of this site asks for is still to come: its epoch, or that all is open in it.
pub fn is_under_way(claim: &Claim, own: &AuthoritySpec) -> bool {
    let closed = claim.ballot == own.epoch && own.promoted != Some(own.epoch);
    is_alive(claim) && (claim.ballot > own.epoch || closed)
}

/// Whether the claim of that ballot stands, as an Authority shows it, and has whoever reads it close the stores of the source.
pub fn presses(of: &AuthoritySpec, site: &str, ballot: Option<i64>) -> bool {
    let claim = slot(of, site).filter(|claim| is_alive(claim) && claim.fence == Some(true));
    claim.is_some_and(|claim| Some(claim.ballot) == ballot)
}

/// The claim of another site for which the holder of an Authority closes its stores.
pub fn pressing<'a>(site: &str, own: &'a AuthoritySpec) -> Option<&'a Claim> {
    let presses = |claim: &&Claim| {
        let alive = is_alive(claim) && claim.ballot > own.epoch && claim.follows == own.epoch;
        claim.site != site && alive && claim.fence == Some(true)
    };
    own.claims.iter().filter(presses).max_by_key(|claim| claim.ballot)
}

/// A claim of another site than this that is greater than `ballot`, and alive.
pub fn greater<'a>(of: &'a AuthoritySpec, site: &str, ballot: i64) -> Option<&'a Claim> {
    of.claims.iter().find(|claim| claim.site != site && claim.ballot > ballot && is_alive(claim))
}

fn refuse_greater(of: &AuthoritySpec, site: &str, ballot: i64) -> Result<(), Refused> {
    match greater(of, site, ballot) {
        Some(claim) => Err(Refused::Greater { site: claim.site.clone(), ballot: claim.ballot }),
        None => Ok(()),
    }
}

fn refuse_moved(of: &AuthoritySpec, follows: i64) -> Result<(), Refused> {
    match of.epoch {
        epoch if epoch == follows => Ok(()),
        epoch => Err(Refused::Moved { epoch, follows }),
    }
}

fn put(mut of: AuthoritySpec, claim: Claim) -> AuthoritySpec {
    of.claims.retain(|one| one.site != claim.site);
    of.claims.push(claim);
    of.claims.sort_by(|one, other| one.site.cmp(&other.site));
    of
}

/// Claims at the own site. It ends the former claim of this site, if that is alive.
///
/// # Errors
/// If a ballot as great is known, or the epoch is another one than the claim follows.
pub fn open(own: &AuthoritySpec, claim: Claim) -> Result<AuthoritySpec, Refused> {
    refuse_moved(own, claim.follows)?;
    let as_great = own.claims.iter().find(|known| known.ballot >= claim.ballot);
    if let Some(known) = as_great {
        return Err(Refused::Greater { site: known.site.clone(), ballot: known.ballot });
    }
    let mut next = own.clone();
    if let Some(former) = slot(own, &claim.site) {
        // Where a holder has asked the witness for itself, an order of the same site takes nothing from anybody.
        if former.state == ClaimState::Committing && former.ballot > own.epoch && !takes_back(former) {
            return Err(Refused::Decided { ballot: former.ballot });
        }
        end(&mut next, former.ballot);
    }
    Ok(put(next, claim))
}

/// Has the holder close its stores when it reads the claim.
///
/// # Errors
/// If the claim is over.
pub fn press(own: &AuthoritySpec, site: &str, ballot: i64) -> Result<AuthoritySpec, Refused> {
    let claim = slot(own, site).filter(|claim| claim.ballot == ballot && is_alive(claim));
    let claim = claim.cloned().ok_or(Refused::Over { ballot })?;
    Ok(put(own.clone(), Claim { fence: Some(true), ..claim }))
}

/// Takes a claim of another site into an Authority.
///
/// # Errors
/// If a greater ballot is known there, or the epoch is another one than the claim follows.
pub fn receive(there: &AuthoritySpec, claim: &Claim) -> Result<AuthoritySpec, Refused> {
    refuse_moved(there, claim.follows)?;
    // Also one that was given up: its site may have made a later one that has not arrived.
    let greatest = there.claims.iter().filter(|known| known.site != claim.site);
    if let Some(known) = greatest.max_by_key(|known| known.ballot).filter(|known| known.ballot > claim.ballot)
    {
        return Err(Refused::Greater { site: known.site.clone(), ballot: known.ballot });
    }
    if slot(there, &claim.site).is_some_and(|known| known.ballot > claim.ballot) {
        return Err(Refused::Over { ballot: claim.ballot });
    }
    Ok(put(there.clone(), claim.clone()))
}

/// Gives a claim of the own site up.
///
/// # Errors
/// If it is being decided at the witness, or is committed.
pub fn withdraw(own: &AuthoritySpec, site: &str, ballot: i64) -> Result<AuthoritySpec, Refused> {
    if own.epoch >= ballot {
        return Err(Refused::Decided { ballot });
    }
    let mut next = own.clone();
    match slot(own, site).filter(|claim| claim.ballot == ballot) {
        Some(claim) if claim.state == ClaimState::Committing => return Err(Refused::Decided { ballot }),
        Some(claim) => next = put(next, Claim { state: ClaimState::Withdrawn, ..claim.clone() }),
        // A later one stands there, or it never was written: it is over all the same.
        None => {}
    }
    end(&mut next, ballot);
    Ok(next)
}

/// Gives up a claim that the witness has decided against.
pub fn lose(own: &AuthoritySpec, site: &str, ballot: i64) -> AuthoritySpec {
    let mut next = own.clone();
    if let Some(claim) = slot(own, site).filter(|claim| claim.ballot == ballot) {
        next = put(next, Claim { state: ClaimState::Withdrawn, ..claim.clone() });
    }
    if own.epoch < ballot {
        end(&mut next, ballot);
    }
    next
}

/// Ends every claim that the witness alone decides, and has decided against: another one follows the epoch that it was to
/// follow.
pub fn end_undone(of: &mut AuthoritySpec, site: &str, witness: &[Decided]) {
    let undone = |claim: &Claim| {
        let other = |one: &Decided| one.after == claim.follows && one.epoch != claim.ballot;
        is_alive(claim) && is_by_witness(claim) && witness.iter().any(other)
    };
    let mut ended = Vec::new();
    for claim in of.claims.iter_mut().filter(|claim| undone(claim)) {
        claim.state = ClaimState::Withdrawn;
        ended.extend((claim.site == site).then_some(claim.ballot));
    }
    ended.into_iter().for_each(|ballot| end(of, ballot));
}

fn end(of: &mut AuthoritySpec, ballot: i64) {
    if ballot > of.epoch && !of.withdrawn.contains(&ballot) {
        of.withdrawn.push(ballot);
        of.withdrawn.sort_unstable();
    }
}

/// Whether the claim may commit, by this Authority alone.
///
/// # Errors
/// If it is over, a greater one is alive, or the epoch is another one than it follows.
fn may_commit<'a>(own: &'a AuthoritySpec, site: &str, ballot: i64) -> Result<&'a Claim, Refused> {
    let claim = slot(own, site).filter(|claim| claim.ballot == ballot && is_alive(claim));
    let claim = claim.ok_or(Refused::Over { ballot })?;
    refuse_greater(own, site, ballot)?;
    refuse_moved(own, claim.follows)?;
    Ok(claim)
}

/// Has the witness decide for the holder, whose stores were closed for a claim that is abandoned. It ends a claim of its own
/// that nobody has in hand.
///
/// # Errors
/// If an own claim is being decided already, or this site has no authority.
pub fn take_back(own: &AuthoritySpec, site: &str, ballot: i64) -> Result<AuthoritySpec, Refused> {
    let claim = Claim {
        site: site.to_owned(),
        ballot,
        follows: own.epoch,
        fence: None,
        state: ClaimState::Committing,
        failover: None,
        by_witness: Some(true),
    };
    open(own, claim)
}

/// Leaves the decision to the witness.
///
/// # Errors
/// As [`commit`].
pub fn mark(own: &AuthoritySpec, site: &str, ballot: i64) -> Result<AuthoritySpec, Refused> {
    let claim = may_commit(own, site, ballot)?.clone();
    Ok(put(own.clone(), Claim { state: ClaimState::Committing, ..claim }))
}

/// Commits without a witness: the only point of no return.
///
/// # Errors
/// If the claim is over, a greater one is alive, the epoch is another one than it follows, or the witness alone decides it.
pub fn commit(
    own: &AuthoritySpec,
    site: &str,
    ballot: i64,
    holders: Vec<String>,
    since: Time,
) -> Result<AuthoritySpec, Refused> {
    if is_by_witness(may_commit(own, site, ballot)?) {
        return Err(Refused::ByWitness { ballot });
    }
    Ok(decided(own, ballot, holders, since))
}

/// What the witness has decided, whatever stands here.
pub fn decided(own: &AuthoritySpec, ballot: i64, holders: Vec<String>, since: Time) -> AuthoritySpec {
    let withdrawn = own.withdrawn.iter().copied().filter(|one| *one >= ballot).collect();
    let (claims, promoted) = (own.claims.clone(), own.promoted);
    AuthoritySpec {
        epoch: ballot,
        follows: own.epoch,
        holders,
        since: Some(since),
        promoted,
        claims,
        withdrawn,
    }
}

/// All stores are open here.
pub fn promoted(own: &AuthoritySpec, epoch: i64) -> AuthoritySpec {
    AuthoritySpec { promoted: Some(epoch.max(own.promoted.unwrap_or(0))), ..own.clone() }
}

/// The same as soon as it is committed, of a group that has no stores: there is nothing to open, and users are not sent away
/// first.
pub fn opened_if_empty(committed: AuthoritySpec, known: &Knowledge) -> AuthoritySpec {
    if known.stores.is_empty() { promoted(&committed, committed.epoch) } else { committed }
}

/// Whether a ballot was given up, by what anybody shows of it.
pub fn is_withdrawn<'a>(shown: impl IntoIterator<Item = &'a AuthoritySpec>, ballot: i64) -> bool {
    let over = |of: &AuthoritySpec| {
        let slot = of.claims.iter().any(|claim| claim.ballot == ballot && !is_alive(claim));
        slot || of.withdrawn.contains(&ballot)
    };
    shown.into_iter().any(over)
}

/// A claim of this site that is nobody's, and is to be given up: it was made for none of these Failovers.
///
/// Where this object is an old backup, a peer may show as open what was committed here: then a store here is an open primary
/// though another site has authority, and the former source would open its own as well. So all of them must have been read,
/// and such a one is closed first.
pub fn orphan<'a>(known: &'a Knowledge, site: &str, at_work: &BTreeSet<String>) -> Option<&'a Claim> {
    let own = known.own.as_ref()?;
    let claim = slot(own, site)?;
    let open = claim.state == ClaimState::Open && claim.ballot > own.epoch;
    if !open || claim.failover.as_ref().is_some_and(|uid| at_work.contains(uid)) {
        return None;
    }
    let serves = |shown: &Known<StoreShows>| {
        shown.read().is_none_or(|shows| shows.primary && shows.open && !own.is_held_by(site))
    };
    (!known.stores.iter().any(|(_, shown)| serves(shown))).then_some(claim)
}

#[cfg(test)]
#[path = "claims_tests.rs"]
mod tests;
