//! A promotion that a later fence stops. The object is read when the session is opened; it is changed only where it bears
//! the same ballot still, and every fence writes another one.

use std::time::Duration;

use kube::api::DynamicObject;

use super::super::object::Object;
use super::super::{Position, Promotion, Session, StoreError};
use super::TRIES;
use super::state::State;
use super::steps;
use super::token::Token;
use crate::runtime::remote::RemoteError;

/// How often it is looked whether a Cluster is promoted.
const LOOK: Duration = Duration::from_millis(500);

/// A session over which a promotion may be ordered.
#[derive(Clone, Debug)]
pub struct CloudNativePgSession {
    object: Object,
    source: String,
    patience: Duration,
    read: DynamicObject,
    token: Option<Token>,
}

impl CloudNativePgSession {
    pub(super) async fn open(object: Object, source: &str, patience: Duration) -> Result<Self, StoreError> {
        let read = object.read().await?;
        Ok(Self { object, source: source.to_owned(), patience, read, token: None })
    }

    /// Promotes with the token of the one that was demoted: CloudNativePG then waits until all that it had is replayed
    /// here. Without one, what was not received is lost.
    #[must_use]
    pub fn with_token(self, token: Option<Token>) -> Self {
        Self { token, ..self }
    }

    fn state(&self) -> Result<State, StoreError> {
        State::of(&self.read, &self.source)
    }

    /// Writes the order, unless it stands.
    async fn order(&mut self, promotion: Promotion) -> Result<State, StoreError> {
        let opened = self.state()?;
        let mut last = StoreError::Locked;
        for _ in 0..TRIES {
            let state = self.state()?;
            let changes = steps::promote(&self.read, &state, promotion, self.token.as_ref())?;
            if changes.is_empty() {
                return Ok(state);
            }
            match self.object.change(&self.read, changes).await {
                Ok(object) => {
                    self.read = object;
                    return self.state();
                }
                Err(error @ StoreError::Remote(RemoteError::Conflict(_))) => last = error,
                Err(error) => return Err(error),
            }
            // Most of what changes is its status. Where a fence has written, it is over.
            self.read = self.object.read().await?;
            let found = self.state()?.ballot;
            if found != opened.ballot {
                return Err(match found.filter(|known| *known > promotion.ballot) {
                    Some(known) => StoreError::Refused { asked: promotion.ballot, known },
                    None => StoreError::OtherRow { expected: opened.ballot, found },
                });
            }
        }
        Err(last)
    }
}

impl Session for CloudNativePgSession {
    async fn promote(&mut self, promotion: Promotion) -> Result<Option<Position>, StoreError> {
        let begin = tokio::time::Instant::now();
        let mut state = self.order(promotion).await?;
        loop {
            if steps::is_promoted(&state, promotion.ballot) {
                return Ok(None);
            }
            if let Some(known) = state.ballot.filter(|known| *known > promotion.ballot) {
                return Err(StoreError::Refused { asked: promotion.ballot, known });
            }
            let after = begin.elapsed();
            if after >= self.patience {
                return Err(StoreError::NotYet { what: "the Cluster is not promoted", after });
            }
            tokio::time::sleep(LOOK).await;
            self.read = self.object.read().await?;
            state = self.state()?;
        }
    }
}
