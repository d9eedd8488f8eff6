//! A Cluster of CloudNativePG at each site, steered by the fields of its object: CloudNativePG's own operator does what
//! they say.
//!
//! | file | what it holds |
//! |---|---|
//! | [`token`] | what a demoted Cluster leaves behind; pure |
//! | [`state`] | what a Cluster says of itself; pure |
//! | [`steps`] | from that to what is written into it; pure |
//! | `session` | a promotion that a later fence stops |
//!
//! What the object does not tell (how far the log is, who is logged in) is not known here; `docs/stores.md` says what
//! follows from that.

mod session;
pub mod state;
pub mod steps;
pub mod token;

use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use kube::api::DynamicObject;

pub use session::CloudNativePgSession;
pub use state::State;
pub use token::Token;

use self::steps::Changes;
use super::object::Object;
use super::reading::{Archive, Role, Row};
use super::{Ballot, CaughtUp, Fence, Fenced, Frozen, Position, Reading, Store, StoreError, Verified};
use crate::api::store::CloudNativePg as Spec;
use crate::runtime::remote::RemoteError;

/// So often a change is tried on a newer version of the object: CloudNativePG writes its status often.
const TRIES: usize = 10;

/// The Cluster of one site of a store.
#[derive(Clone, Debug)]
pub struct CloudNativePg {
    object: Object,
    source: String,
    patience: Duration,
}

impl CloudNativePg {
    /// The Cluster at `site`, to whose API server `client` leads. `source` is the path of the store's field, such as
    /// `spec.stores[ledger-db].cloudnativepg`.
    pub fn new(spec: &Spec, site: &str, client: Client, source: &str) -> Self {
        let (namespace, name) = spec.at(site);
        let object = Object::new(client, &state::kind(), state::PLURAL, namespace, name);
        Self { object, source: source.to_owned(), patience: Duration::from_secs(10) }
    }

    /// With another deadline for each call.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { object: self.object.with_deadline(deadline), ..self }
    }

    /// With another time for which a promotion is waited for at once; ten seconds otherwise.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// What the Cluster says of itself.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn state(&self) -> Result<State, StoreError> {
        State::of(&self.object.read().await?, &self.source)
    }

    /// What its own operator has closed for that claim, with the token that it left: that goes into the journal, and with it
    /// the other site is promoted. It changes nothing.
    ///
    /// # Errors
    /// If it cannot be read, or is not closed yet.
    pub async fn closed(&self, ballot: Ballot) -> Result<Fenced, StoreError> {
        let state = self.state().await?;
        if let Some(known) = state.ballot.filter(|known| *known > ballot) {
            return Err(StoreError::Refused { asked: ballot, known });
        }
        if !steps::is_fenced(&state, ballot) {
            return Err(not_fenced(&state, ballot));
        }
        Ok(fenced_by(ballot, state.token().map_err(RemoteError::Unreadable)?))
    }

    /// Changes the object by what follows from how it stands. Where it was changed meanwhile, that is judged anew.
    async fn change(
        &self,
        decide: impl Fn(&DynamicObject, &State) -> Result<Changes, StoreError>,
    ) -> Result<State, StoreError> {
        let mut last = StoreError::Locked;
        for _ in 0..TRIES {
            let object = self.object.read().await?;
            let state = State::of(&object, &self.source)?;
            let changes = decide(&object, &state).map_err(|error| error.of_store(&self.source))?;
            if changes.is_empty() {
                return Ok(state);
            }
            match self.object.change(&object, changes).await {
                Ok(object) => return State::of(&object, &self.source),
                Err(error @ StoreError::Remote(RemoteError::Conflict(_))) => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }
}

/// How far one is that is to be closed for a claim.
fn not_fenced(state: &State, ballot: Ballot) -> StoreError {
    let what = match (state.ballot == Some(ballot), state.switching || state.fenced) {
        (false, _) => "the operator there has not begun to close it",
        (true, false) => "CloudNativePG has not begun to demote the Cluster",
        (true, true) => "the Cluster is not demoted",
    };
    StoreError::NotYet { what, after: Duration::ZERO }
}

fn fenced_by(ballot: Ballot, token: Option<Token>) -> Fenced {
    let position = token.as_ref().map(|token| token.position);
    Fenced { position, token: token.map(|token| token.text), ..Fenced::by(ballot) }
}

fn cannot(message: &str, remedy: &str) -> StoreError {
    StoreError::Unsupported { message: message.to_owned(), remedy: remedy.to_owned() }
}

impl Store for CloudNativePg {
    type Session = CloudNativePgSession;

    async fn read(&self) -> Result<Reading, StoreError> {
        let state = self.state().await?;
        let now = Timestamp::now();
        // One that a claim closes is a primary until it may follow, as every other server.
        let is_primary = state.closed.is_some() || (!state.is_replica() && !state.waits_for_promotion());
        let is_closed = state.ballot.is_some_and(|ballot| steps::is_fenced(&state, ballot));
        let closing = state.closed.is_some() && !is_closed;
        let token = state.token().ok().flatten();
        // The last primary's may be of long ago where it follows, and nobody answers where it is shut down.
        let timeline = match is_primary {
            true => state.timeline.max(state.told).or(state.shut_down_on()),
            false => state.told.or(state.shut_down_on()),
        };
        let (Some(system), Some(timeline)) = (state.system, timeline) else {
            return Err(StoreError::Starting);
        };
        let row = state.ballot.map(|ballot| Row {
            ballot,
            opened_at: state.opened_at,
            open: closing || (is_primary && state.closed.is_none() && !state.fenced),
            closing,
            sealed: token.as_ref().map(|token| token.position),
        });
        Ok(Reading {
            measured_at: now,
            // The object has no clock of its own.
            server_time: now,
            version: state.image.rsplit(':').next().unwrap_or_default().to_owned(),
            role: if is_primary { Role::Primary } else { Role::Standby },
            system,
            timeline,
            position: token.map(|token| token.position),
            replayed: None,
            upstream: None,
            downstream: Vec::new(),
            waits_for: String::new(),
            // CloudNativePG initialises with checksums or hints, and rewinds by itself.
            can_rewind: true,
            archive: Archive { archives: state.archive.is_some(), archive: state.archive, restore: None },
            row,
            heartbeat: None,
            open_roles: Vec::new(),
            unlisted_writers: Vec::new(),
            superusers: Vec::new(),
            frozen: false,
            problems: state.problems,
        })
    }

    /// There is nothing to beat: CloudNativePG writes nothing of ours.
    async fn beat(&self, _site: &str) -> Result<(), StoreError> {
        Ok(())
    }

    async fn fence(&self, fence: Fence) -> Result<Fenced, StoreError> {
        let state = self.change(|object, state| steps::fence(object, state, fence)).await?;
        if !steps::is_fenced(&state, fence.ballot) {
            return Err(not_fenced(&state, fence.ballot));
        }
        let token = state.token().map_err(RemoteError::Unreadable)?;
        Ok(fenced_by(fence.ballot, token))
    }

    async fn fence_standby(&self, fence: Fence) -> Result<(), StoreError> {
        self.change(|object, state| steps::fence_standby(object, state, fence)).await.map(|_| ())
    }

    async fn lift(&self, ballot: Ballot) -> Result<(), StoreError> {
        self.change(|object, state| Ok(steps::lift(object, state, ballot))).await.map(|_| ())
    }

    async fn open(&self, epoch: Ballot) -> Result<(), StoreError> {
        self.change(|object, state| steps::open(object, state, epoch)).await.map(|_| ())
    }

    /// Its promotion ends what it takes in, and nobody tells how far it is.
    async fn freeze(&self, _ballot: Ballot) -> Result<Frozen, StoreError> {
        Ok(Frozen { position: None })
    }

    async fn thaw(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Where it was shut down in order, its token sees to that: CloudNativePG promotes nobody who does not have all before it.
    async fn caught_up(&self, _ballot: Ballot, position: Option<Position>) -> Result<CaughtUp, StoreError> {
        if position.is_some() {
            return Ok(CaughtUp::Yes);
        }
        Err(cannot(
            "the Cluster does not say how far it has replayed",
            "promote it with the token: CloudNativePG waits until all that the other one had is replayed",
        ))
    }

    async fn session(&self) -> Result<CloudNativePgSession, StoreError> {
        CloudNativePgSession::open(self.object.clone(), &self.source, self.patience).await
    }

    /// Over its object nothing can be written into its database: `traffic.probe.write` does, through the application.
    async fn verify(&self, _ballot: Ballot) -> Result<Option<Verified>, StoreError> {
        Ok(None)
    }

    async fn protect(&self, _epoch: Ballot, site: Option<&str>) -> Result<(), StoreError> {
        match site {
            None => Ok(()),
            Some(_) => Err(cannot(
                "a Cluster of CloudNativePG does not wait for one at another site",
                "leave synchronous out for this store",
            )),
        }
    }

    async fn follow(&self, epoch: Ballot, _: &str, _: Option<u32>) -> Result<(), StoreError> {
        self.change(|object, state| steps::follow(object, state, epoch)).await.map(|_| ())
    }
}
