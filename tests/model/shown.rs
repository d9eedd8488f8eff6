//! From the small state to what the operator's own functions take, and back.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use banyan::api::FailoverGroupSpec;
use banyan::api::authority::{AuthoritySpec, Claim};
use banyan::authority::known::{Decided, Knowledge, Known, StoreShows};
use banyan::failover::journal::{Journal, StoreJournal};

use super::world::{Auth, Ballot, Move, Place, SITES, Server, Slot, bit, of_bit};

/// The only store.
pub const STORE: &str = "db";

/// What the group asks for.
pub static GROUP: LazyLock<FailoverGroupSpec> = LazyLock::new(|| {
    serde_json::from_value(serde_json::json!({
        "sites": SITES, "initialSite": SITES[0], "services": {"namespaces": ["shop"]},
    }))
    .expect("a group")
});

fn small(ballot: i64) -> Ballot {
    Ballot::try_from(ballot).expect("bounds keep ballots small")
}

fn place(site: &str) -> Place {
    SITES.iter().position(|name| *name == site).expect("a site")
}

fn claim(site: Place, slot: &Slot) -> Claim {
    Claim {
        site: SITES[site].to_owned(),
        ballot: slot.ballot.into(),
        follows: slot.follows.into(),
        fence: slot.fence.then_some(true),
        state: slot.state,
        failover: (slot.order > 0).then(|| slot.order.to_string()),
        by_witness: slot.by_witness.then_some(true),
    }
}

/// A claim that an order makes.
pub fn new_claim(
    site: Place,
    (ballot, follows): (Ballot, Ballot),
    (fence, by_witness): (bool, bool),
    order: u8,
) -> Claim {
    claim(site, &Slot { ballot, follows, fence, state: Default::default(), order, by_witness })
}

impl Auth {
    /// The object.
    pub fn spec(&self) -> AuthoritySpec {
        let claims = self.claims.iter().enumerate();
        let holders = (self.epoch > 0).then(|| SITES[usize::from(self.holder)].to_owned());
        AuthoritySpec {
            epoch: self.epoch.into(),
            follows: self.follows.into(),
            holders: holders.into_iter().collect(),
            // Time is not modelled.
            since: None,
            promoted: (self.promoted > 0).then(|| self.promoted.into()),
            claims: claims.filter_map(|(site, slot)| Some(claim(site, slot.as_ref()?))).collect(),
            withdrawn: (0..32).filter(|at| self.withdrawn & 1 << at != 0).map(of_bit).collect(),
        }
    }

    /// From the object.
    pub fn of(spec: &AuthoritySpec) -> Self {
        let mut claims = [None; 2];
        for claim in &spec.claims {
            let order = claim.failover.as_ref().and_then(|order| order.parse().ok()).unwrap_or_default();
            claims[place(&claim.site)] = Some(Slot {
                ballot: small(claim.ballot),
                follows: small(claim.follows),
                fence: claim.fence == Some(true),
                state: claim.state,
                order,
                by_witness: claim.by_witness == Some(true),
            });
        }
        Self {
            epoch: small(spec.epoch),
            follows: small(spec.follows),
            holder: spec.holders.first().map_or(0, |holder| place(holder) as u8),
            promoted: small(spec.promoted.unwrap_or(0)),
            claims,
            withdrawn: spec.withdrawn.iter().fold(0, |bits, ballot| bits | bit(*ballot)),
        }
    }
}

impl Server {
    /// What a look at it finds.
    pub fn shows(&self) -> StoreShows {
        let some = |ballot: Ballot| (ballot > 0).then(|| i64::from(ballot));
        StoreShows {
            primary: self.primary,
            open: self.open,
            opened_at: some(self.opened_at),
            ballot: some(self.ballot),
            frozen: !self.primary && self.frozen,
            closing: false,
        }
    }
}

impl Move {
    /// Its journal.
    pub fn journal(&self) -> Journal {
        let store = StoreJournal {
            level: self.level,
            sealed: self.sealed,
            frozen: self.frozen,
            complete: self.complete,
            lag_allowed: false,
            replayed: false,
            promoted: self.promoted,
            opened: self.opened,
            skipped: false,
        };
        Journal {
            action: self.action,
            over: self.over,
            abort: self.abort,
            committed: self.committed,
            paused: false,
            claim: self.claim.map(|(ballot, follows)| (ballot.into(), follows.into())),
            stores: BTreeMap::from([(STORE.to_owned(), store)]),
            // No group of the model asks a cloud.
            nodes: Default::default(),
            asserted: self.asserted == Some(true),
            stopped: self.asserted == Some(true) && self.stopped,
            accepts_loss: self.accepts_loss,
            // The groups of the model have none.
            hooked: Default::default(),
            skipped: Default::default(),
            approvals: 0,
            grown: None,
            // Requests through the own gateway change nothing between the sites.
            tried: true,
            // When that was noted changes nothing either.
            served: true,
        }
    }
}

/// All that the operator of a site can know at one moment. Decisions are made of nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sight {
    pub site: Place,
    pub own: Option<Auth>,
    /// `None` if the other site's Authority was not read since the process began.
    pub peer: Option<Option<Auth>>,
    /// `None` without a witness; `None` inside if it does not answer.
    pub witness: Option<Option<super::world::Chain>>,
    /// `None` if it was not looked at yet.
    pub server: Option<Server>,
    /// `None` if it does not answer.
    pub server_there: Option<Server>,
    pub silent: bool,
    /// The claim that closes this site, where this process has seen it come.
    pub came: Ballot,
    pub order: Option<Move>,
}

impl Sight {
    /// What everybody shows.
    pub fn knowledge(&self) -> Knowledge {
        let away = || "silence".to_owned();
        let known = |read: Option<Option<Auth>>| match read {
            None => Known::NotYet(away()),
            Some(auth) => Known::Read(auth.map(|auth| auth.spec())),
        };
        let decided = |chain: super::world::Chain| {
            let all = chain.into_iter().flatten().map(|(after, epoch, holder)| Decided {
                after: after.into(),
                epoch: epoch.into(),
                holders: vec![SITES[usize::from(holder)].to_owned()],
            });
            Known::Read(all.collect())
        };
        let witness = self.witness.map(|read| read.map_or_else(|| Known::NotYet(away()), decided));
        let server = self.server.map_or_else(|| Known::NotYet(away()), |server| Known::Read(server.shows()));
        Knowledge {
            own: self.own.map(|own| own.spec()),
            peers: vec![(SITES[1 - self.site].to_owned(), known(self.peer))],
            witness,
            stores: vec![(STORE.to_owned(), server)],
            record: None,
            remembered: None,
            differs: None,
            abandoned: (self.silent && self.came > 0).then_some(i64::from(self.came)),
            // No group of the model sends requests.
            ordered: false,
        }
    }
}
