//! What a move does next: the order of its steps, and lines 6 to 14 of the protocol. Pure.
//!
//! A decision is made of what the Authorities show and of the journal; what it answers is one act, which is idempotent, or
//! what is waited for. Whoever carries an act out writes an Authority over the version that was read, so that a decision
//! that was made too long ago does nothing.

use super::hooks;
use super::journal::Journal;
use super::source::{is_primary_here, is_standby_here};
use super::view::{ASSERT, Act, Next, View, untold_words};
use crate::api::authority::{AuthoritySpec, ClaimState, next_ballot};
use crate::api::failover::{FenceLevel, Phase};
use crate::api::failovergroup::{ApprovedStep, NodePools};
use crate::api::hook::HookPoint;
use crate::api::step::Step;
use crate::authority::claims::{greater, is_by_witness, is_same, pressing, slot};
use crate::authority::known::{Known, StoreShows};

/// Who has authority once an order of a site is committed over what stands.
pub(super) fn holders(own: &AuthoritySpec, site: &str, everywhere: bool, planned: bool) -> Vec<String> {
    let before = if everywhere && planned { own.holders.as_slice() } else { &[] };
    before.iter().cloned().chain([site.to_owned()]).collect()
}

/// Decides what comes next.
pub fn decide(view: &View<'_>, journal: &Journal) -> Next {
    if let Some(phase) = journal.over {
        return Next::End(phase, String::new());
    }
    let own = view.own();
    let Some((ballot, follows)) = journal.claim else { return prepare(view, journal, &own) };
    if own.epoch == ballot {
        return committed(view, journal, &own);
    }
    let Some(claim) = slot(&own, view.site).filter(|claim| claim.ballot >= ballot) else {
        // The journal was written, and the claim was not.
        return match own.epoch == follows && !journal.abort {
            true => claim_again(view, journal, &own),
            false => undo(view, journal, ballot),
        };
    };
    if own.epoch > ballot || claim.ballot > ballot || claim.state == ClaimState::Withdrawn {
        return undo(view, journal, ballot);
    }
    claimed(view, journal, &own, ballot)
}

/// Before the claim.
fn prepare(view: &View<'_>, journal: &Journal, own: &AuthoritySpec) -> Next {
    let step = Step::Preflight;
    if journal.abort {
        return Next::End(Phase::Aborted, "it was given up before anything was changed".to_owned());
    }
    let planned = journal.is_planned();
    // Where several sites have authority, a Failover takes it from the others.
    let alone = planned || own.holders.len() == 1;
    if alone && own.is_held_by(view.site) && own.promoted == Some(own.epoch) {
        // One that a move went on without; or another site's claim closes them, whatever was read of them before.
        let left = |(_, shown): &(String, Known<StoreShows>)| {
            shown.read().is_some_and(|shows| !shows.open || !shows.primary)
        };
        if planned || !(pressing(view.site, own).is_some() || view.known.stores.iter().any(left)) {
            let message = format!("{} has authority already: there is nothing to move", view.site);
            return Next::End(Phase::Refused, message);
        }
    }
    // Whoever has authority has the data already.
    if let Some(held) = view.forbidden.filter(|_| !own.is_held_by(view.site)) {
        return Next::End(Phase::Refused, format!("{}; {}", held.message, held.remedy));
    }
    if own.epoch == 0 {
        let message = "nobody ever had authority over the group: set spec.initialSite of the FailoverGroup to the site \
                       that is active now";
        return Next::Wait(step, view.wait("Unclaimed", message, Some("abort")));
    }
    if let Some(paused) = view.paused(journal, step) {
        return paused;
    }
    if let Some((source, epoch)) = later(view, own) {
        let message = format!("{source} shows epoch {epoch}, and this site knows of {}", own.epoch);
        return Next::Wait(step, view.wait("Lost", message, None));
    }
    if planned && let Some(silent) = view.silent.first() {
        let message = format!("{silent} does not answer, and a Switchover needs both sites");
        return Next::Wait(step, view.wait("SourceSilent", message, Some("force")));
    }
    if planned && !view.all_read() {
        return Next::Wait(step, view.wait("NotRead", "the other sites have not been read yet", None));
    }
    // A Failover claims without it, since an assertion counts after the claim alone, and waits before the commit.
    if planned && view.known.witness_is_away() {
        let message = "the witness has not been read: it may know of a later epoch";
        return Next::Wait(step, view.wait("WitnessSilent", message, None));
    }
    let turn = view.turn.map(std::slice::from_ref).unwrap_or_default();
    if let Some(waits) = view.held(journal, Step::Turn, "NotItsTurn", turn) {
        return waits;
    }
    if planned && let Some(held) = view.held(journal, step, "NotReady", view.preflight) {
        return held;
    }
    // The claim of a Failover closes the source at once.
    if !planned && let Some(first) = before_the_fence(view, journal) {
        return first;
    }
    claim_again(view, journal, own)
}

/// What comes before anything is closed: who has to agree, and then what the group has called.
fn before_the_fence(view: &View<'_>, journal: &Journal) -> Option<Next> {
    let waits = view.unapproved(journal, ApprovedStep::Fence);
    waits.or_else(|| hooks::next(view, journal, HookPoint::BeforeFence))
}

/// Claims, with a ballot above all that is known.
fn claim_again(view: &View<'_>, journal: &Journal, own: &AuthoritySpec) -> Next {
    // It was promoted for an epoch that nobody shows any more, perhaps, and the claim of that would be ended by a new one:
    // the former source would open its own again.
    let serves = |(_, shown): &&(String, Known<StoreShows>)| {
        !own.is_held_by(view.site) && shown.read().is_none_or(|shows| shows.primary && shows.open)
    };
    if let Some((store, shown)) = view.known.stores.iter().find(serves) {
        let message = match shown {
            Known::NotYet(why) => format!("store {store} has not been read here: {why}"),
            Known::Read(_) => {
                format!("store {store} is an open primary here, without authority: it is to be closed first")
            }
        };
        return Next::Wait(Step::Preflight, view.wait("StoreOpen", message, None));
    }
    let ballot = next_ballot(view.known.greatest_ballot(), view.place);
    let by_witness = matches!(view.known.witness, Some(Known::Read(_)));
    let fence = !journal.is_planned();
    Next::Do(Step::Claim, Act::Claim { ballot, follows: own.epoch, fence, by_witness })
}

/// Who shows a later epoch than this site knows.
fn later(view: &View<'_>, own: &AuthoritySpec) -> Option<(String, i64)> {
    let seen = view.known.seen().into_iter().filter_map(|seen| Some((seen.source, seen.epoch?)));
    seen.filter(|(_, epoch)| *epoch > own.epoch).max_by_key(|(_, epoch)| *epoch)
}

/// The claim stands, and is not committed.
fn claimed(view: &View<'_>, journal: &Journal, own: &AuthoritySpec, ballot: i64) -> Next {
    let Some(claim) = slot(own, view.site) else { return undo(view, journal, ballot) };
    if claim.state == ClaimState::Committing {
        // It cannot be given up any more, and cannot be lost: whoever asks the witness again hears the same.
        return Next::Do(Step::Commit, Act::Decide);
    }
    let over = greater(own, view.site, ballot).is_some() || own.epoch != claim.follows;
    if journal.abort || over {
        return Next::Do(Step::Undo, Act::Withdraw);
    }
    let planned = journal.is_planned();
    let pressed = claim.fence == Some(true);
    if !planned && !pressed {
        return before_the_fence(view, journal).unwrap_or(Next::Do(Step::Claim, Act::Press));
    }
    let mut untold = Vec::new();
    for (peer, shown) in &view.known.peers {
        let there = shown.read().and_then(|spec| spec.as_ref());
        let told = there.and_then(|spec| slot(spec, view.site)).is_some_and(|told| is_same(told, claim));
        if told || there.is_none_or(|spec| spec.epoch >= ballot) && shown.read().is_some() {
            continue;
        }
        match view.silent.contains(peer) || shown.read().is_none() {
            false => return Next::Do(Step::Claim, Act::Tell(peer.clone())),
            true => untold.push(peer.as_str()),
        }
    }
    if planned && let Some(peer) = untold.first() {
        let message = format!("{peer} does not answer, and has not taken the claim");
        return Next::Wait(Step::Claim, view.wait("SourceSilent", message, Some("force")));
    }
    if planned && !pressed {
        // As long as nothing is closed.
        let step = Step::Capacity;
        let waits = view.paused(journal, step).or_else(|| view.changed(step));
        let waits = waits.or_else(|| view.too_small(journal));
        let first = waits.or_else(|| before_the_fence(view, journal));
        return first.unwrap_or(Next::Do(Step::Fence, Act::Press));
    }
    fenced(view, journal, own, &untold)
}

/// The nodes of the source are to be scaled to zero, where the group has that done: once its databases could not be closed for
/// a while, once it is noted how many nodes there were, and not before those agree who have to agree to anything.
fn stops(view: &View<'_>, journal: &Journal) -> Option<Next> {
    let lacks = !view.stores(journal, |_, of| of.level.is_none()).is_empty();
    let asks = view.node_pools == Some(NodePools::Stop) && !journal.is_planned() && !journal.asserted;
    if !(asks && lacks && journal.nodes.due && !journal.nodes.failed) {
        return None;
    }
    let step = Step::Fence;
    let waits = view.paused(journal, step).or_else(|| view.changed(step));
    let waits = waits.or_else(|| view.unapproved(journal, ApprovedStep::Fence));
    let waits = waits.or_else(|| view.unapproved(journal, ApprovedStep::Commit));
    Some(waits.unwrap_or(Next::Do(step, Act::Stop)))
}

/// Whether the witness alone decides the claim of this site, and cannot be read.
fn lacks_its_witness(view: &View<'_>, own: &AuthoritySpec) -> bool {
    view.known.witness_is_away() && slot(own, view.site).is_some_and(is_by_witness)
}

/// The source is being closed.
fn fenced(view: &View<'_>, journal: &Journal, own: &AuthoritySpec, untold: &[&str]) -> Next {
    if lacks_its_witness(view, own) && !untold.is_empty() && !journal.asserted {
        // Before a person is asked: what is said before that would have to be said once more.
        return claim_again(view, journal, own);
    }
    let is_primary = |store: &str| is_primary_here(view.known, store);
    if let Some(next) = stops(view, journal) {
        return next;
    }
    // A primary stays closed by its row. Of a standby only the sessions of now are ended: a promotion that is ordered there
    // later is stopped by the claim alone, which must stand there first.
    let early = view.stores(journal, |store, of| {
        let told = untold.is_empty();
        // A standby there was closed before it could be read here who leads; which of both does is seen now.
        let leads = is_primary(store) && of.is_closed() && !of.sealed && of.complete.is_none();
        (of.level.is_none() && (told || is_standby_here(view.known, store))) || (leads && told)
    });
    if !early.is_empty() && !journal.asserted {
        return Next::Do(Step::Fence, Act::Fence(early));
    }
    let late = view.stores(journal, |_, of| of.level.is_none());
    if let Some(peer) = untold.first()
        && !late.is_empty()
        && !journal.asserted
    {
        if !journal.is_planned() && view.node_pools.is_some() {
            // Where no node is left nobody promotes anything.
            return Next::Do(Step::Fence, Act::Confirm { peer: (*peer).to_owned(), stores: late });
        }
        let message =
            format!("{}. Make sure that nobody there writes, and say so", untold_words(peer, &late));
        return Next::Wait(Step::Fence, view.wait("ClaimNotTold", message, Some(ASSERT)));
    }
    // Until the other site has taken the claim, an order there could open again what was closed over the wire.
    let by_wire = view.stores(journal, |_, of| of.is_closed());
    if let Some(peer) = untold.first()
        && !by_wire.is_empty()
        && !journal.asserted
    {
        let message = format!(
            "{} is closed over the wire, but {peer} has not taken the claim: an order there could open it again. Make \
             sure that nobody there writes, and say so",
            by_wire.join(", ")
        );
        return Next::Wait(Step::Fence, view.wait("ClaimNotTold", message, Some(ASSERT)));
    }
    let behind = view.stores(journal, |store, of| {
        of.is_closed() && !is_primary(store) && of.complete.is_none() && !of.frozen
    });
    if !behind.is_empty() {
        return Next::Do(Step::CatchUp, Act::CatchUp(behind));
    }
    let unknown = view.stores(journal, |store, of| !of.is_closed() && !is_primary(store) && !of.frozen);
    if !unknown.is_empty() {
        return Next::Do(Step::CatchUp, Act::Freeze(unknown));
    }
    let lossy = view.stores(journal, |store, of| {
        // A primary of a site without authority may be an old one: the other site may have written since. And where the
        // other server was closed, it is known whether that was a primary too.
        let leads = is_primary(store) && own.is_held_by(view.site) && !of.is_closed();
        let whole = leads || of.complete == Some(true) || of.level == Some(FenceLevel::Synchronous);
        !whole && !of.lag_allowed
    });
    if !lossy.is_empty() && !journal.accepts_loss {
        let message = format!(
            "of {} it is not known that all writes are here: see status.stores for how far it is",
            lossy.join(", ")
        );
        return Next::Wait(Step::CatchUp, view.wait("DataLoss", message, Some("accept-data-loss")));
    }
    before_the_commit(view, journal, own, untold)
}

/// The last that is looked at before the point of no return.
fn before_the_commit(view: &View<'_>, journal: &Journal, own: &AuthoritySpec, untold: &[&str]) -> Next {
    let planned = journal.is_planned();
    let mut waits = view.changed(Step::Commit);
    if !planned {
        waits = waits.or_else(|| view.paused(journal, Step::Commit)).or_else(|| view.too_small(journal));
        waits = waits.or_else(|| view.unapproved(journal, ApprovedStep::Commit));
    }
    if let Some(waits) = waits {
        return waits;
    }
    if !journal.tried && !journal.skipped.contains(&Step::Try) {
        return Next::Do(Step::Try, Act::Try);
    }
    match view.known.witness {
        Some(Known::NotYet(_)) => without_witness(view, journal, own, untold),
        // Once it is to decide, the claim cannot be given up any more.
        Some(_) => Next::Do(Step::Commit, Act::Mark),
        None => Next::Do(Step::Commit, Act::Commit),
    }
}

/// The witness is away that is to decide. Where a person says that the source is fenced, it is decided here, and the witness
/// hears of it later.
///
/// A holder that was closed for a claim which the witness alone decides may ask it for authority itself. So the commit needs
/// another claim, which stands before the person speaks; and of that claim the operator there has heard, or none runs there.
fn without_witness(view: &View<'_>, journal: &Journal, own: &AuthoritySpec, untold: &[&str]) -> Next {
    let planned = journal.is_planned();
    if !planned && lacks_its_witness(view, own) {
        return claim_again(view, journal, own);
    }
    let wait =
        |message: String, next| Next::Wait(Step::Commit, view.wait("WitnessSilent", message, Some(next)));
    let asks = |(_, shown): &&(String, Known<Option<AuthoritySpec>>)| {
        let claims =
            shown.read().and_then(Option::as_ref).map(|there| there.claims.as_slice()).unwrap_or_default();
        claims.iter().any(|claim| {
            claim.site != view.site && claim.state == ClaimState::Committing && claim.follows == own.epoch
        })
    };
    if let Some((peer, _)) = view.known.peers.iter().find(asks) {
        let message =
            format!("the witness does not answer, and {peer} has asked it to decide: it may have authority");
        return wait(message, "abort");
    }
    let message = "the witness does not answer, and is to decide";
    match untold.first() {
        _ if planned => wait(message.to_owned(), "abort"),
        Some(peer) if !journal.stopped => wait(
            format!(
                "{message}. {peer} has not taken this claim: as long as its operator runs, that may ask the witness for \
                 authority. Stop all nodes there, and say so, to commit without the witness"
            ),
            ASSERT,
        ),
        None if !journal.asserted => wait(
            format!(
                "{message}. Make sure that nobody writes at the source, and say so, to commit without it"
            ),
            ASSERT,
        ),
        _ => Next::Do(Step::Commit, Act::Commit),
    }
}

/// This site has authority.
fn committed(view: &View<'_>, journal: &Journal, own: &AuthoritySpec) -> Next {
    // When it began to serve is noted, too where the commit said so, as in a group without stores, and where the operator ended
    // before it could note it.
    if own.promoted == Some(own.epoch) {
        return match journal.served {
            true => serving(view, journal),
            false => Next::Do(Step::Open, Act::Serve),
        };
    }
    if let Some(claim) = greater(own, view.site, own.epoch) {
        if journal.abort {
            let words = format!("it gives way to the claim {} of {}", claim.ballot, claim.site);
            return Next::End(Phase::Superseded, words);
        }
        let message = format!(
            "{} has the greater claim {}: nothing is promoted here unless that is given up",
            claim.site, claim.ballot
        );
        // Whoever is gone gives nothing up. The way on is a new order here, with a claim that is greater still.
        let next = view.silent.contains(&claim.site).then_some("abort");
        return Next::Wait(Step::Promote, view.wait("GreaterClaim", message, next));
    }
    if !view.all_read() && !journal.asserted {
        let message = "the other site has not been read since this operator started: it may have gone on without this \
                       one. Make sure that nobody there writes, and say so";
        return Next::Wait(Step::Promote, view.wait("NotRead", message, Some(ASSERT)));
    }
    let standby = view.stores(journal, |_, of| !of.promoted && !of.skipped);
    if !standby.is_empty() {
        return Next::Do(Step::Promote, Act::Promote(standby));
    }
    if let Some(call) = hooks::next(view, journal, HookPoint::BeforeOpen) {
        return call;
    }
    let closed = view.stores(journal, |_, of| !of.opened && !of.skipped);
    if !closed.is_empty() {
        return Next::Do(Step::Open, Act::Open(closed));
    }
    Next::Do(Step::Open, Act::Serve)
}

/// All is open here.
fn serving(view: &View<'_>, journal: &Journal) -> Next {
    if let Some(call) = hooks::next(view, journal, HookPoint::AfterTraffic) {
        return call;
    }
    if view.protected || view.known.stores.is_empty() || journal.skipped.contains(&Step::Reprotect) {
        return Next::End(Phase::Done, format!("{} has authority, and serves", view.site));
    }
    let message = match journal.nodes.ordered {
        false => "this site serves; the other one does not follow it yet",
        true => {
            "this site serves; the other one does not follow it yet: its nodes were scaled to zero, and status.nodes has the \
             commands that bring them back"
        }
    };
    let skip = Some("skip --step reprotect");
    Next::Wait(Step::Reprotect, view.wait("NotProtected", message, skip))
}

/// The claim is over: what it closed is opened again.
fn undo(view: &View<'_>, journal: &Journal, ballot: i64) -> Next {
    let own = view.own();
    // Whoever has a later epoch opens or closes by that. And where this site has authority already, what it closed
    // elsewhere was closed for good before.
    let mine = own.epoch < ballot && !own.is_held_by(view.site);
    let stores = view.stores(journal, |_, of| of.level.is_some() || of.frozen);
    if mine && !stores.is_empty() {
        return Next::Do(Step::Undo, Act::Lift(stores));
    }
    if journal.committed && own.epoch > ballot {
        let message = format!(
            "it was committed in epoch {ballot}, and {} took over in epoch {} before all was open here",
            own.holders.join(", "),
            own.epoch
        );
        return Next::End(Phase::Superseded, message);
    }
    // Nobody but a person scales them up: that may be just what must not happen.
    let stopped =
        "it has scaled the nodes of the source to zero: status.nodes has the commands that bring them back";
    let (phase, words, left) = match journal.abort {
        true => (Phase::Aborted, "it was given up", "the source serves as before"),
        false => (Phase::Superseded, "another order was faster", "this one changes nothing"),
    };
    Next::End(
        phase,
        match (journal.nodes.ordered, journal.abort) {
            (true, _) => format!("{words}; {stopped}"),
            (false, true) => format!("{words}; {left}"),
            (false, false) => format!("{words}, and {left}"),
        },
    )
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "decide_nodes_tests.rs"]
mod nodes_tests;
