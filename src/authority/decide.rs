//! What a site is to believe about authority over a group, and how it stands. Pure.
//!
//! Lines 1 to 5 of the protocol: epochs are copied from whoever shows a greater one; what is missing or older proves
//! nothing; the first claim is made once every other site and the witness have been read and know of none.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::claims::{self, end_undone, is_alive, is_by_witness, is_ordered, pressing, slot, takes_back};
use super::known::{Decided, Knowledge, Known, StoreShows, further};
use crate::api::FailoverGroupSpec;
use crate::api::authority::{AuthoritySpec, AuthorityState, BALLOTS_PER_TERM, next_ballot};
use crate::api::units::whole_seconds;

/// What is to be done about an Authority.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// How this site stands.
    pub state: AuthorityState,
    /// Why, in one sentence.
    pub message: String,
    /// What the Authority is to say; `None` if it says so already.
    pub write: Option<AuthoritySpec>,
    /// Whether what is to be written is a first claim. It is decided on once more, on what is read at that moment.
    pub first_claim: bool,
    /// What the witness is to be asked to decide, before anything is written.
    pub ask_witness: Option<Decided>,
    /// Whether each store is an open primary here; `None` if that is not known.
    pub stores_open: Option<bool>,
}

impl Decision {
    /// What the Authority of this site says once this is carried out; `None` while there is none.
    pub fn own<'a>(&'a self, known: &'a Knowledge) -> Option<&'a AuthoritySpec> {
        self.write.as_ref().or(known.own.as_ref())
    }
}

/// Decides about the Authority of a group at `site`, which must be one of its sites.
pub fn decide(site: &str, group: &FailoverGroupSpec, known: &Knowledge, now: Timestamp) -> Decision {
    let own = known.own.clone().unwrap_or_default();
    let stores_open = stores_open(known);
    let mut next = adopt(site, group, own.clone(), known, now);
    copy_claims(&mut next, known);
    settle(site, group, &mut next, known);
    if let Some(decided) = known.witness.as_ref().and_then(Known::read) {
        end_undone(&mut next, site, decided);
    }
    let mut decision = stand(site, &next, known);
    if decision.state == AuthorityState::Unclaimed {
        claim_first(site, group, known, &mut next, &mut decision);
    }
    if let Some(unknown) = not_recorded(site, &next, known).filter(|_| decision.state == AuthorityState::Held)
    {
        decision.ask_witness = Some(unknown);
    }
    if decision.state == AuthorityState::Held {
        take_back(site, group, known, &mut next, &mut decision);
    }
    decision.stores_open = stores_open;
    decision.write = (known.own.as_ref() != Some(&next)).then_some(next);
    decision
}

/// What this site has committed while the witness was away: it hears of it as soon as it answers.
fn not_recorded(site: &str, own: &AuthoritySpec, known: &Knowledge) -> Option<Decided> {
    let decided = known.witness.as_ref()?.read()?;
    let last = decided.iter().map(|one| one.epoch).max().unwrap_or(0);
    let first = own.holders.first().is_some_and(|holder| holder == site);
    // Where another epoch stands in its place there, nobody can write it down: whoever asked the witness went another way.
    let taken = decided.iter().any(|one| one.after == own.follows);
    (first && own.epoch > last && !taken).then(|| Decided {
        after: own.follows,
        epoch: own.epoch,
        holders: own.holders.clone(),
    })
}

/// Line 17: stores of this site are closed for a claim whose site is gone. Where the witness alone decides that claim, it is
/// asked to decide for this site: first that is written here, over the version that was read, so that whoever tells this
/// site of another claim in the meantime comes first or hears of it; then the witness is asked. It decides once, so that
/// nothing is taken from a claimant that was faster.
fn take_back(
    site: &str,
    group: &FailoverGroupSpec,
    known: &Knowledge,
    next: &mut AuthoritySpec,
    decision: &mut Decision,
) {
    let Some(decided) = known.witness.as_ref().and_then(Known::read) else { return };
    if decided.iter().any(|one| one.after == next.epoch) || known.stores.is_empty() {
        return;
    }
    let presses = pressing(site, next);
    // A claim that is not the witness's alone may have been committed without it.
    if presses.is_some_and(|claim| !is_by_witness(claim)) {
        return;
    }
    let abandoned = presses.is_some_and(|claim| known.abandoned == Some(claim.ballot));
    let mine = slot(next, site).filter(|claim| is_alive(claim) && claim.ballot > next.epoch);
    match (mine, presses) {
        // A process that began later may not know of a claim that others have committed meanwhile: it reads them first.
        (Some(mine), _) if takes_back(mine) && (abandoned || known.all_read()) => {
            let (epoch, holders) = (mine.ballot, vec![site.to_owned()]);
            decision.message =
                format!("the witness is asked whether this site has authority in epoch {epoch}");
            decision.ask_witness = Some(Decided { after: next.epoch, epoch, holders });
        }
        (None, Some(claim)) if abandoned => {
            let ballot = next_ballot(known.greatest_ballot(), group.place(site).unwrap_or_default());
            if let Ok(marked) = claims::take_back(next, site, ballot) {
                decision.message = format!(
                    "{} claimed epoch {}, and does not answer any more: the witness is asked whether this site goes on",
                    claim.site, claim.ballot
                );
                *next = marked;
            }
        }
        _ => {}
    }
}

/// Whether each store is an open primary here.
fn stores_open(known: &Knowledge) -> Option<bool> {
    let open =
        |(_, store): &(String, Known<StoreShows>)| store.read().map(|shows| shows.primary && shows.open);
    // One that is known to be closed decides, whatever is not known of others.
    let all: Vec<Option<bool>> = known.stores.iter().map(open).collect();
    if all.contains(&Some(false)) {
        return Some(false);
    }
    (!all.contains(&None)).then_some(true)
}

/// Copies the greatest epoch that is shown together with its holders.
fn adopt(
    site: &str,
    group: &FailoverGroupSpec,
    own: AuthoritySpec,
    known: &Knowledge,
    now: Timestamp,
) -> AuthoritySpec {
    let peers = known.peers.iter().filter_map(|(_, shown)| shown.read()?.as_ref());
    let peers = peers.map(|spec| (spec.epoch, spec.follows, spec.holders.clone(), spec.since.clone()));
    let witness = known.witness.iter().filter_map(Known::read).flatten();
    let witness = witness.map(|one| (one.epoch, one.after, one.holders.clone(), None));
    // A primary that was opened here for a greater epoch: this object is an old backup, or was made anew.
    let rows = known.stores.iter().filter_map(|(_, shown)| shown.read());
    let rows = rows.filter(|shows| shows.primary && shows.open).filter_map(|shows| shows.opened_at);
    let rows = rows.filter(|epoch| place_of(group, *epoch) == Some(site));
    let rows = rows.map(|epoch| (epoch, own.epoch.min(epoch - 1), vec![site.to_owned()], None));
    // The first of the greatest wins: a peer tells more than the witness, and the witness more than a row.
    let mut best: Option<(i64, i64, Vec<String>, Option<Time>)> = None;
    // What was said here last is as good as an Authority of that time: it may be older than others, and never newer.
    let remembered = known.remembered.iter().filter(|(_, holders)| !holders.is_empty());
    let remembered =
        remembered.map(|(epoch, holders)| (*epoch, own.epoch.min(epoch - 1), holders.clone(), None));
    for shown in peers.chain(witness).chain(rows).chain(remembered) {
        if shown.0 > best.as_ref().map_or(own.epoch, |best| best.0) {
            best = Some(shown);
        }
    }
    let Some((epoch, follows, holders, since)) = best else { return own };
    // A group without stores has nothing to open; one with stores is settled below.
    let holds = holders.iter().any(|holder| holder == site);
    let promoted = if holds && known.stores.is_empty() { Some(epoch) } else { own.promoted };
    let withdrawn = own.withdrawn.iter().copied().filter(|ballot| *ballot >= epoch).collect();
    // The first epoch of all has no beginning: nothing that runs is refused for having been scheduled before it.
    let since = since.or_else(|| (follows > 0).then(|| Time(whole_seconds(now))));
    AuthoritySpec { epoch, follows, holders, since, promoted, withdrawn, claims: own.claims }
}

/// Says that the stores are open here where they are: this object was lost, or made anew, and each of them was opened for
/// this epoch; or for the first epoch of all by nobody's order. What an order has promoted is open as soon as the order has
/// opened it, though it was never closed: until then its commits may wait for a site that is gone. Where the group has a
/// request sent that writes, the order alone says so: it sends it first.
fn settle(site: &str, group: &FailoverGroupSpec, next: &mut AuthoritySpec, known: &Knowledge) {
    if !next.is_held_by(site)
        || known.stores.is_empty()
        || next.promoted.is_some_and(|promoted| promoted >= next.epoch)
        || (tries_writes(group) && known.ordered && is_ordered(site, next))
    {
        return;
    }
    let claimed = next.claims.iter().any(|claim| claim.ballot == next.epoch);
    let by_order = next.follows > 0 || claimed;
    let fits = |shows: &StoreShows| {
        let ordered = by_order || shows.opened_at.is_some() || shows.ballot.is_some();
        shows.primary && shows.open && (!ordered || shows.opened_at == Some(next.epoch))
    };
    if known.stores.iter().all(|(_, shown)| shown.read().is_some_and(fits)) {
        next.promoted = Some(next.epoch);
    }
}

/// Whether a move tries to write through the application before users come.
fn tries_writes(group: &FailoverGroupSpec) -> bool {
    let probe = group.traffic.as_ref().and_then(|traffic| traffic.probe.as_ref());
    probe.is_some_and(|probe| probe.write.is_some())
}

/// The site whose ballot that is.
pub fn place_of(group: &FailoverGroupSpec, ballot: i64) -> Option<&str> {
    let place = usize::try_from(ballot.rem_euclid(BALLOTS_PER_TERM)).ok()?;
    group.sites.get(place).map(String::as_str)
}

/// Copies each site's claim, and what has become of it.
fn copy_claims(next: &mut AuthoritySpec, known: &Knowledge) {
    let peers = known.peers.iter().filter_map(|(_, shown)| shown.read()?.as_ref());
    for claim in peers.flat_map(|spec| &spec.claims) {
        match next.claims.iter_mut().find(|own| own.site == claim.site) {
            Some(own) => *own = further(std::mem::take(own), claim),
            None => next.claims.push(claim.clone()),
        }
    }
    next.claims.sort_by(|one, other| one.site.cmp(&other.site));
}

/// How the site stands.
fn stand(site: &str, next: &AuthoritySpec, known: &Knowledge) -> Decision {
    let greater = known.seen().into_iter().filter_map(|seen| Some((seen.source, seen.epoch?)));
    let greater = greater.filter(|(_, epoch)| *epoch > next.epoch).max_by_key(|(_, epoch)| *epoch);
    let (state, message) = match greater {
        Some((source, epoch)) => (
            AuthorityState::Lost,
            format!(
                "{source} shows epoch {epoch}, and this site knows of {}: nothing is claimed here until a site that \
                 knows more can be read",
                next.epoch
            ),
        ),
        None if next.epoch == 0 => (AuthorityState::Unclaimed, String::new()),
        None if next.is_held_by(site) => {
            (AuthorityState::Held, format!("this site has authority in epoch {}", next.epoch))
        }
        None => (
            AuthorityState::Standby,
            format!("{} has authority in epoch {}", next.holders.join(", "), next.epoch),
        ),
    };
    Decision { state, message, write: None, first_claim: false, ask_witness: None, stores_open: None }
}

/// The first claim, or what it waits for.
fn claim_first(
    site: &str,
    group: &FailoverGroupSpec,
    known: &Knowledge,
    next: &mut AuthoritySpec,
    decision: &mut Decision,
) {
    let everywhere = group.is_active_everywhere();
    let claimant = if everywhere { group.sites.first() } else { group.initial_site.as_ref() };
    let Some(claimant) = claimant else {
        decision.message =
            "nobody ever had authority; set spec.initialSite of the FailoverGroup to the site that is \
                            active now"
                .to_owned();
        return;
    };
    if claimant != site {
        decision.message = format!("nobody ever had authority; {claimant} is to take it");
        return;
    }
    if let Some(why) = waits_for(known) {
        decision.message =
            format!("nobody ever had authority; this site takes it once that is certain: {why}");
        return;
    }
    let place = group.place(site).unwrap_or_default();
    let epoch = next_ballot(known.greatest_ballot(), place);
    let holders = if everywhere { group.sites.clone() } else { vec![site.to_owned()] };
    if known.witness.is_some() {
        decision.message = "nobody ever had authority; the witness is asked to decide".to_owned();
        decision.ask_witness = Some(Decided { after: 0, epoch, holders });
        return;
    }
    let (claims, withdrawn) = (std::mem::take(&mut next.claims), std::mem::take(&mut next.withdrawn));
    *next =
        AuthoritySpec { epoch, follows: 0, holders, since: None, promoted: Some(epoch), claims, withdrawn };
    decision.first_claim = true;
    decision.state = AuthorityState::Held;
    decision.message = format!("this site has authority in epoch {epoch}");
}

/// What is not known yet, or speaks against a first claim.
fn waits_for(known: &Knowledge) -> Option<String> {
    if let Some(why) = &known.differs {
        return Some(why.clone());
    }
    for (peer, shown) in &known.peers {
        match shown {
            Known::NotYet(why) => return Some(format!("site {peer} has not been read: {why}")),
            Known::Read(Some(spec)) => {
                if let Some(claim) = spec.claims.iter().find(|claim| is_alive(claim)) {
                    return Some(format!("{} has claim {} under way", claim.site, claim.ballot));
                }
            }
            Known::Read(None) => {}
        }
    }
    if let Some(claim) = known.own.iter().flat_map(|own| &own.claims).find(|claim| is_alive(claim)) {
        return Some(format!("{} has claim {} under way", claim.site, claim.ballot));
    }
    if let Some(Known::NotYet(why)) = &known.witness {
        return Some(format!("the witness has not been read: {why}"));
    }
    for (name, shown) in &known.stores {
        match shown {
            Known::NotYet(why) => return Some(format!("store {name} has not been read: {why}")),
            Known::Read(shows) if !shows.primary => return Some(format!("store {name} is no primary here")),
            Known::Read(shows) if !shows.open => {
                return Some(format!("store {name} does not let applications in"));
            }
            Known::Read(shows) if shows.ballot.is_some() => {
                return Some(format!(
                    "store {name} has been ordered by ballot {}: somebody had authority before",
                    shows.ballot.unwrap_or_default()
                ));
            }
            Known::Read(_) => {}
        }
    }
    None
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
