//! All that is true of two sites at one moment, kept small: millions of these are looked at.

use banyan::api::authority::{BALLOTS_PER_TERM, ClaimState};
use banyan::api::failover::{FenceLevel, MoveAction, Phase};

/// A ballot, or an epoch; 0 is none.
pub type Ballot = u8;
/// A site, by its place in the group.
pub type Place = usize;

/// What the sites are called.
pub const SITES: [&str; 2] = ["a", "b"];

/// A claim in an Authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    pub ballot: Ballot,
    pub follows: Ballot,
    pub fence: bool,
    pub state: ClaimState,
    /// For which order it was made; 0 where a holder takes authority back.
    pub order: u8,
    /// Whether the witness alone decides it.
    pub by_witness: bool,
}

/// What an Authority says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Auth {
    pub epoch: Ballot,
    pub follows: Ballot,
    /// Who has authority, if there is an epoch.
    pub holder: u8,
    /// 0: never.
    pub promoted: Ballot,
    pub claims: [Option<Slot>; 2],
    /// A bit for each ballot that was given up.
    pub withdrawn: u32,
}

/// The bit of a ballot among those that were given up.
pub fn bit(ballot: i64) -> u32 {
    1 << (2 * (ballot / BALLOTS_PER_TERM) + ballot % BALLOTS_PER_TERM)
}

/// The ballot of a bit.
pub fn of_bit(at: u32) -> i64 {
    i64::from(at / 2) * BALLOTS_PER_TERM + i64::from(at % 2)
}

/// What an operator knows of the other site's Authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// It was not read since this process began.
    NotRead,
    /// It follows it.
    Followed,
    /// It followed it, and cannot any more: this was the last.
    Last(Option<Auth>),
}

/// The server of the group's only store at one site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    pub primary: bool,
    /// Whether it is a standby that follows the other server.
    pub follows: bool,
    /// Whether it takes in nothing.
    pub frozen: bool,
    /// Whether commits wait for the other site.
    pub sync: bool,
    /// The row: what ordered it last, what it was opened for, whether it is open, and what was given up.
    pub ballot: Ballot,
    pub opened_at: Ballot,
    pub open: bool,
    pub lifted: Ballot,
    /// A bit for each write that it has.
    pub log: u8,
}

/// What a running order remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Move {
    /// Which of all orders it is: its UID.
    pub order: u8,
    pub action: MoveAction,
    pub over: Option<Phase>,
    pub abort: bool,
    pub claim: Option<(Ballot, Ballot)>,
    pub level: Option<FenceLevel>,
    /// Whether a primary was closed, whose position was read.
    pub sealed: bool,
    pub frozen: bool,
    pub complete: Option<bool>,
    pub promoted: bool,
    pub opened: bool,
    /// Whether a person asserted, and whether that was since this process began.
    pub asserted: Option<bool>,
    /// Whether that is so because nothing runs there.
    pub stopped: bool,
    pub accepts_loss: bool,
    pub committed: bool,
}

impl Move {
    /// One that was just ordered.
    pub fn new(order: u8, action: MoveAction) -> Self {
        Self {
            order,
            action,
            over: None,
            abort: false,
            claim: None,
            level: None,
            sealed: false,
            frozen: false,
            complete: None,
            promoted: false,
            opened: false,
            asserted: None,
            stopped: false,
            accepts_loss: false,
            committed: false,
        }
    }

    /// Whether nothing that was acknowledged may be lost: nobody said that it may, and nobody's word is the evidence.
    pub fn promises_all(&self) -> bool {
        self.level != Some(FenceLevel::Asserted) && !self.accepts_loss
    }
}

/// Something that an operator has decided on, and has not done yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Deed {
    /// Writes its Authority; a first claim is looked at once more.
    Write {
        next: Auth,
        first: bool,
    },
    /// Has the witness record a decision: the first claim, or a commit that it missed.
    Record {
        after: Ballot,
        epoch: Ballot,
        holder: u8,
    },
    /// What it owes its own store.
    Close {
        ballot: Ballot,
        follows: Ballot,
    },
    Reopen {
        ballot: Ballot,
    },
    OpenHeld {
        epoch: Ballot,
    },
    ThawOwn,
    Follow {
        epoch: Ballot,
    },
    /// The acts of an order.
    Claim {
        ballot: Ballot,
        follows: Ballot,
        fence: bool,
        by_witness: bool,
    },
    Tell,
    Press,
    Fence,
    CatchUp,
    Freeze,
    Mark {
        seen: Option<Option<Auth>>,
    },
    /// The second half of Mark and Commit: all was read once more.
    MarkRead,
    Decide,
    /// The second half of Decide: what the witness says is written down.
    Decided {
        epoch: Ballot,
    },
    Commit {
        seen: Option<Option<Auth>>,
    },
    CommitRead,
    Promote,
    /// The further parts of Promote: a session is open; and it was read that this site may promote.
    PromoteSession {
        row: Ballot,
    },
    PromoteRead {
        row: Ballot,
    },
    Open,
    Serve,
    Withdraw,
    Lift,
    /// Nothing more is done.
    End(Phase),
}

/// A deed under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Doing {
    pub deed: Deed,
    /// The Authority that was seen: it is written over this version.
    pub over: Option<Auth>,
    /// The ballot of the order's claim, and the epoch that it follows.
    pub claim: (Ballot, Ballot),
    /// Whether the order was a Switchover then.
    pub planned: bool,
    /// For which order.
    pub order: u8,
    /// Whether the session to the own server has been ended meanwhile.
    pub ended: bool,
}

/// One site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Site {
    pub alive: bool,
    pub auth: Option<Auth>,
    /// What its operator knows of the other site.
    pub peer: Peer,
    /// Whether its operator has looked at its own store since it started.
    pub looked: bool,
    /// The claim that closes this site, if it came while this process ran; 0 otherwise.
    pub came: Ballot,
    pub server: Server,
    /// A person promised that nothing writes here until the operator has read the claim.
    pub kept_still: bool,
    pub order: Option<Move>,
    pub doing: Option<Doing>,
    /// What a former leader, or a slow task, has in hand still.
    pub late: Option<Doing>,
}

/// What may go wrong, and how often it still may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Left {
    pub cuts: u8,
    pub witness_cuts: u8,
    pub deaths: u8,
    pub orders: u8,
    pub aborts: u8,
    pub forces: u8,
    pub assertions: u8,
    pub false_assertions: u8,
    /// Assertions of a site that lives, and is kept still.
    pub kept: u8,
    pub pauses: u8,
    pub crashes: u8,
    pub restores: u8,
    pub deletions: u8,
    pub removals: u8,
    pub writes: u8,
}

/// Decisions of the witness: what follows an epoch, that epoch, who has authority.
pub type Chain = [Option<(Ballot, Ballot, u8)>; 8];

/// Everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub sites: [Site; 2],
    /// Whether the sites reach each other.
    pub link: bool,
    /// Whether each site reaches the witness, if there is one.
    pub witness: Option<[bool; 2]>,
    pub chain: Chain,
    /// A bit for each write that was acknowledged, and how many there were.
    pub acked: u8,
    pub written: u8,
    /// How many orders were given.
    pub ordered: u8,
    pub left: Left,
    /// The rule that was broken on the way here.
    pub broken: Option<&'static str>,
    /// The faults have ended: nothing heals, nobody returns, and a person does what is asked of him.
    pub calm: bool,
}

impl World {
    /// Whether the other site's API server and store can be reached from here.
    pub fn reach(&self) -> bool {
        self.link && self.sites[0].alive && self.sites[1].alive
    }

    /// Whether the witness can be reached from a site.
    pub fn reaches_witness(&self, site: Place) -> bool {
        self.witness.is_some_and(|reaches| reaches[site])
    }

    /// Whether a store accepts writes and acknowledges them.
    pub fn acknowledges(&self, site: Place) -> bool {
        let (here, there) = (&self.sites[site], &self.sites[1 - site]);
        let server = &here.server;
        if !here.alive || !server.primary || !server.open || here.kept_still {
            return false;
        }
        let standby = &there.server;
        !server.sync || self.reach() && !standby.primary && standby.follows && !standby.frozen
    }

    /// Whether a site has authority, or nobody ever had, and its store serves.
    pub fn serves(&self, site: Place) -> bool {
        let here = &self.sites[site];
        let auth = here.auth.unwrap_or_default();
        let held = usize::from(auth.holder) == site && auth.promoted == auth.epoch;
        (auth.epoch == 0 || held) && self.acknowledges(site) && !here.is_moving()
    }
}

impl Site {
    /// The order that is under way.
    pub fn moving(&self) -> Option<&Move> {
        self.order.as_ref().filter(|order| order.over.is_none())
    }

    /// Whether one is.
    pub fn is_moving(&self) -> bool {
        self.moving().is_some()
    }

    /// The claim of the other site that closes this one, which is at that place; 0 if there is none.
    pub fn presses(&self, site: Place) -> Ballot {
        let auth = self.auth.unwrap_or_default();
        let claim = auth.claims[1 - site].filter(|claim| {
            claim.fence
                && claim.state != ClaimState::Withdrawn
                && claim.follows == auth.epoch
                && claim.ballot > auth.epoch
        });
        claim.map_or(0, |claim| claim.ballot)
    }

    /// Whether this site has committed, and its stores are not open yet.
    pub fn is_committed(&self, site: Place) -> bool {
        self.auth.is_some_and(|auth| usize::from(auth.holder) == site && auth.promoted < auth.epoch)
    }

    /// The numbers of all orders that are on record here.
    pub fn numbers(&self) -> Vec<u8> {
        let claims = self.auth.into_iter().flat_map(|auth| auth.claims).flatten();
        claims.map(|claim| claim.order).chain(self.order.map(|order| order.order)).collect()
    }

    /// Ends the sessions of operators to the server here.
    pub fn end_sessions(&mut self) {
        for doing in [&mut self.doing, &mut self.late].into_iter().flatten() {
            if matches!(doing.deed, Deed::PromoteSession { .. } | Deed::PromoteRead { .. }) {
                doing.ended = true;
            }
        }
    }

    /// A new process begins: what it knew is gone, and what was asserted before does not count any more. Which claims have
    /// come it may know: the replica that leads now has watched as well.
    pub fn restart(&mut self) {
        (self.peer, self.looked, self.doing) = (Peer::NotRead, false, None);
        if let Some(order) = &mut self.order {
            order.asserted = order.asserted.map(|_| false);
        }
    }
}
