//! Stores: data that is replicated from the site that may write to the others. What is read of a store, how it is
//! fenced, promoted and opened; who orders it and when is decided elsewhere.
//!
//! | file | what it holds |
//! |---|---|
//! | `mod` | the trait that every kind of store has |
//! | [`reading`] | what a look at a store finds, and what follows from two of them; pure |
//! | [`position`] | a position in the log of a database; pure |
//! | [`error`] | why a store did not do what was asked |
//! | [`postgres`] | PostgreSQL, over its own wire |
//! | [`cloudnativepg`] | Clusters of CloudNativePG, steered by their objects |
//! | [`kafka`] | topics that MirrorMaker 2 copies: a gate |
//! | [`server`] | a store at one site, whatever its kind |
//! | [`object`] | objects of others that a store is steered by |
//! | [`owners`] | who else writes a field that a failover writes; pure |
//! | [`agent`] | what SQL cannot do to a PostgreSQL, done beside it |
//!
//! All calls are idempotent and bounded. Where an answer is lost ([`StoreError::may_be_done`]), the same call may be made
//! again: it reads first what stands. **An order with an older ballot is refused by the store itself**, in the same
//! transaction that would carry it out, so that a caller who was paused between deciding and asking does no harm.

pub mod agent;
pub mod cloudnativepg;
pub mod error;
pub mod kafka;
pub mod object;
pub mod owners;
pub mod position;
pub mod postgres;
pub mod reading;
pub mod server;

pub use error::StoreError;
pub use position::Position;
pub use reading::Reading;
pub use server::Server;

/// The number of a claim: greater is later. Zero is nobody's.
pub type Ballot = i64;

/// What a fence is ordered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The claim that closes the store.
    pub ballot: Ballot,
    /// The epoch that the claim follows. A store that was opened for a later one refuses: the claim is void.
    pub follows: Ballot,
}

/// A store that is closed: its row and its roles were read back, and no session that could write was left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fenced {
    /// The claim that closed it.
    pub ballot: Ballot,
    /// Nothing that was acknowledged lies beyond it.
    pub position: Option<Position>,
    /// How many sessions were ended.
    pub ended: u32,
    /// Who could still log in and write: roles that are not in `roles`, superusers aside. Readiness names them beforehand;
    /// whoever counts the fence as evidence says them.
    pub open_to: Vec<String>,
    /// Sessions of superusers that are there still: only a superuser may end them, and they may come again.
    pub left: Vec<String>,
    /// The row of a primary that this one was written over, where it closed that already.
    pub found: Option<reading::Row>,
    /// What the store left when it was closed, and another one asks for before it is promoted.
    pub token: Option<String>,
}

impl Fenced {
    /// Of a server of which there is nothing to be said: a standby, until a position is.
    pub fn by(ballot: Ballot) -> Self {
        Self {
            ballot,
            position: None,
            ended: 0,
            open_to: Vec::new(),
            left: Vec::new(),
            found: None,
            token: None,
        }
    }
}

/// A standby that takes in no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// All that it received, and has replayed; `None` where the store does not tell.
    pub position: Option<Position>,
}

/// Whether a standby has all that a fenced primary has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaughtUp {
    /// It has: the row of that ballot, and all that was written before the primary was closed, are replayed here.
    Yes,
    /// Not yet.
    No {
        /// How far it is.
        replayed: Option<Position>,
    },
}

/// What the authority row of a standby must say for a promotion to be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promotion {
    /// The claim that promotes.
    pub ballot: Ballot,
    /// The ballot of the row as it was read here: that of the claim itself where the fence was replayed here, an older
    /// one where the primary could not be fenced over the wire, `None` where there is no row. It never is a greater one.
    pub row: Option<Ballot>,
}

/// A write that was read back over another session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Where the log stood after it.
    pub position: Option<Position>,
}

/// One store at one site.
pub trait Store: Send + Sync {
    /// A session that was opened before it was read who may promote.
    type Session: Session;

    /// All that can be known without changing anything.
    fn read(&self) -> impl Future<Output = Result<Reading, StoreError>> + Send;

    /// Tells the standbys what time it is: at the primary, by the operator of the site that holds the epoch, every few
    /// seconds. Makes what the store needs of its own the first time. It changes nothing that belongs to anybody else.
    fn beat(&self, site: &str) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Closes a primary: nobody but the operator can write there afterwards, and what was acknowledged stays.
    fn fence(&self, fence: Fence) -> impl Future<Output = Result<Fenced, StoreError>> + Send;

    /// Ends all older sessions of operators at a standby, so that no order that was given before can still arrive.
    fn fence_standby(&self, fence: Fence) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Opens again what that claim closed, where it is: the claim was withdrawn. Whatever was closed by another claim
    /// stays closed. Nothing to do is success.
    fn lift(&self, ballot: Ballot) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Opens a promoted primary for applications under that epoch. No commit waits for a standby until
    /// [`Self::protect`].
    fn open(&self, epoch: Ballot) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Has a standby take in nothing more, and replay all that it has. Nothing to do where its promotion does the same.
    fn freeze(&self, ballot: Ballot) -> impl Future<Output = Result<Frozen, StoreError>> + Send;

    /// Lets a frozen standby take in again.
    fn thaw(&self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Whether a standby has replayed the fence of that ballot and all before `position`.
    fn caught_up(
        &self,
        ballot: Ballot,
        position: Option<Position>,
    ) -> impl Future<Output = Result<CaughtUp, StoreError>> + Send;

    /// Opens the session over which a promotion will be ordered: before it is read who may promote.
    fn session(&self) -> impl Future<Output = Result<Self::Session, StoreError>> + Send;

    /// Writes, and reads it back over another session. Needs no role to be open. `None` of a store that nothing can be written to
    /// from here.
    fn verify(&self, ballot: Ballot) -> impl Future<Output = Result<Option<Verified>, StoreError>> + Send;

    /// Has commits wait for the site again, once it follows. `None`: they wait for nobody.
    fn protect(
        &self,
        epoch: Ballot,
        site: Option<&str>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Makes an old primary follow the new one: rewinds it, or copies it anew. `timeline` is that of the new one, where it
    /// is known.
    fn follow(
        &self,
        epoch: Ballot,
        site: &str,
        timeline: Option<u32>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// A session over which a promotion may be ordered. A fence with a greater ballot ends it, and with it the order.
pub trait Session: Send {
    /// Promotes the standby if its row says what the promotion expects, and waits until it can write. A standby that is a
    /// primary by then is one that is promoted.
    fn promote(
        &mut self,
        promotion: Promotion,
    ) -> impl Future<Output = Result<Option<Position>, StoreError>> + Send;
}
