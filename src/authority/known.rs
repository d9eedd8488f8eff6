//! What one source shows of who has authority. Pure.

use crate::api::authority::{AuthoritySpec, Claim, Seen};

/// Something that was read since this process started, or why not.
#[derive(Clone, Debug, PartialEq)]
pub enum Known<T> {
    /// It was read.
    Read(T),
    /// It was not; a sentence says why.
    NotYet(String),
}

impl<T> Known<T> {
    /// What was read.
    pub fn read(&self) -> Option<&T> {
        match self {
            Self::Read(read) => Some(read),
            Self::NotYet(_) => None,
        }
    }
}

/// What the witness has decided: which epoch came after another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// The epoch before.
    pub after: i64,
    /// The epoch that came.
    pub epoch: i64,
    /// Who has authority in it.
    pub holders: Vec<String>,
}

/// What a store at this site shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreShows {
    /// Whether it takes writes as a primary.
    pub primary: bool,
    /// Whether applications may log in and write.
    pub open: bool,
    /// The epoch for which it was opened last; `None` if no operator ever ordered it.
    pub opened_at: Option<i64>,
    /// The greatest ballot that it was ordered by; `None` as above.
    pub ballot: Option<i64>,
    /// Whether it is a standby that was told to take in nothing.
    pub frozen: bool,
    /// Whether the order of that ballot has begun to close it, and is not done.
    pub closing: bool,
}

/// All that is known about one group at one site.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Knowledge {
    /// What this site's own Authority says; `None` if there is no such object.
    pub own: Option<AuthoritySpec>,
    /// What each other site of the group shows; `None` inside if it has no Authority.
    pub peers: Vec<(String, Known<Option<AuthoritySpec>>)>,
    /// What the witness shows; `None` if the group has none.
    pub witness: Option<Known<Vec<Decided>>>,
    /// What each store shows at this site.
    pub stores: Vec<(String, Known<StoreShows>)>,
    /// The epoch's record in DNS; `None` where there is none to be had.
    pub record: Option<Known<i64>>,
    /// What this site's own operator said of the group last: epoch and holders. It is all that is left where the Authority
    /// was deleted and nobody else can be read.
    pub remembered: Option<(i64, Vec<String>)>,
    /// Why nobody can be sure that all sites mean the same group; `None` if they do.
    pub differs: Option<String>,
    /// The ballot of the claim that presses here, if this process has seen it come and its site has not answered for a
    /// minute.
    pub abandoned: Option<i64>,
    /// Whether a Failover of this site has the group in hand, as far as this process has looked.
    pub ordered: bool,
}

impl Knowledge {
    /// The greatest epoch that each source shows, in words for a status.
    pub fn seen(&self) -> Vec<Seen> {
        let seen = |source: String, epoch: Option<i64>| Seen { source, epoch };
        let peers = self.peers.iter().map(|(site, known)| {
            seen(site.clone(), known.read().map(|spec| spec.as_ref().map_or(0, |spec| spec.epoch)))
        });
        let witness = self.witness.iter().map(|known| {
            let greatest = |all: &Vec<Decided>| all.iter().map(|one| one.epoch).max().unwrap_or(0);
            seen("witness".to_owned(), known.read().map(greatest))
        });
        let stores = self.stores.iter().map(|(name, known)| {
            seen(format!("store {name}"), known.read().map(|shows| shows.opened_at.unwrap_or(0)))
        });
        let record = self.record.iter().map(|known| seen("DNS record".to_owned(), known.read().copied()));
        peers.chain(witness).chain(stores).chain(record).collect()
    }

    /// Whether the group has a witness that cannot be read.
    pub fn witness_is_away(&self) -> bool {
        matches!(self.witness, Some(Known::NotYet(_)))
    }

    /// Whether every other site was read since this process began.
    pub fn all_read(&self) -> bool {
        self.peers.iter().all(|(_, shown)| shown.read().is_some())
    }

    /// The greatest ballot that anybody shows, claims included: the next one must be greater.
    pub fn greatest_ballot(&self) -> i64 {
        let of = |spec: &AuthoritySpec| {
            let claimed = spec.claims.iter().map(|claim| claim.ballot);
            claimed.chain(spec.withdrawn.iter().copied()).chain([spec.epoch]).max().unwrap_or(0)
        };
        let peers = self.peers.iter().filter_map(|(_, known)| known.read()?.as_ref());
        let authorities = self.own.iter().chain(peers).map(of);
        let witness = self.witness.iter().filter_map(Known::read).flatten().map(|one| one.epoch);
        let stores = self.stores.iter().filter_map(|(_, known)| known.read());
        let stores = stores.flat_map(|shows| [shows.opened_at, shows.ballot]).flatten();
        let record = self.record.iter().filter_map(Known::read).copied();
        let record = record.chain(self.remembered.iter().map(|(epoch, _)| *epoch));
        authorities.chain(witness).chain(stores).chain(record).max().unwrap_or(0)
    }
}

/// The further of two claims of one site: the greater ballot, and of the same one whichever has gone further.
pub fn further(one: Claim, other: &Claim) -> Claim {
    let of = |claim: &Claim| (claim.ballot, claim.state, claim.fence == Some(true));
    if of(other) > of(&one) { other.clone() } else { one }
}
