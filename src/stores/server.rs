//! A store at one site, whatever its kind.

use super::cloudnativepg::token::Token;
use super::cloudnativepg::{CloudNativePg, CloudNativePgSession};
use super::postgres::{Postgres, PostgresSession};
use super::{
    Ballot, CaughtUp, Fence, Fenced, Frozen, Position, Promotion, Reading, Session, Store, StoreError,
    Verified,
};
use crate::runtime::remote::RemoteError;

/// A store with a single writer, at one site.
#[derive(Clone, Debug)]
pub enum Server {
    /// PostgreSQL.
    Postgres(Postgres),
    /// A Cluster of CloudNativePG.
    CloudNativePg(CloudNativePg),
}

/// A session of either.
pub enum AnySession {
    /// PostgreSQL.
    Postgres(PostgresSession),
    /// A Cluster of CloudNativePG.
    CloudNativePg(Box<CloudNativePgSession>),
}

/// The same call at whichever kind it is.
macro_rules! either {
    ($server:expr, $store:ident => $call:expr) => {
        match $server {
            Server::Postgres($store) => $call,
            Server::CloudNativePg($store) => $call,
        }
    };
}

impl Store for Server {
    type Session = AnySession;

    async fn read(&self) -> Result<Reading, StoreError> {
        either!(self, store => store.read().await)
    }

    async fn beat(&self, site: &str) -> Result<(), StoreError> {
        either!(self, store => store.beat(site).await)
    }

    async fn fence(&self, fence: Fence) -> Result<Fenced, StoreError> {
        either!(self, store => store.fence(fence).await)
    }

    async fn fence_standby(&self, fence: Fence) -> Result<(), StoreError> {
        either!(self, store => store.fence_standby(fence).await)
    }

    async fn lift(&self, ballot: Ballot) -> Result<(), StoreError> {
        either!(self, store => store.lift(ballot).await)
    }

    async fn open(&self, epoch: Ballot) -> Result<(), StoreError> {
        either!(self, store => store.open(epoch).await)
    }

    async fn freeze(&self, ballot: Ballot) -> Result<Frozen, StoreError> {
        either!(self, store => store.freeze(ballot).await)
    }

    async fn thaw(&self) -> Result<(), StoreError> {
        either!(self, store => store.thaw().await)
    }

    async fn caught_up(&self, ballot: Ballot, position: Option<Position>) -> Result<CaughtUp, StoreError> {
        either!(self, store => store.caught_up(ballot, position).await)
    }

    async fn session(&self) -> Result<AnySession, StoreError> {
        Ok(match self {
            Self::Postgres(store) => AnySession::Postgres(store.session().await?),
            Self::CloudNativePg(store) => AnySession::CloudNativePg(Box::new(store.session().await?)),
        })
    }

    async fn verify(&self, ballot: Ballot) -> Result<Option<Verified>, StoreError> {
        either!(self, store => store.verify(ballot).await)
    }

    async fn protect(&self, epoch: Ballot, site: Option<&str>) -> Result<(), StoreError> {
        either!(self, store => store.protect(epoch, site).await)
    }

    async fn follow(&self, epoch: Ballot, site: &str, timeline: Option<u32>) -> Result<(), StoreError> {
        either!(self, store => store.follow(epoch, site, timeline).await)
    }
}

impl AnySession {
    /// Promotes with what the closed one left, where it is of a kind that leaves something.
    ///
    /// # Errors
    /// If that is no token.
    pub fn with_token(self, token: Option<&str>) -> Result<Self, StoreError> {
        match (self, token) {
            (Self::CloudNativePg(session), Some(token)) => {
                let token = Token::decode(token).map_err(RemoteError::Unreadable)?;
                Ok(Self::CloudNativePg(Box::new(session.with_token(Some(token)))))
            }
            (session, _) => Ok(session),
        }
    }
}

impl Session for AnySession {
    async fn promote(&mut self, promotion: Promotion) -> Result<Option<Position>, StoreError> {
        match self {
            Self::Postgres(session) => session.promote(promotion).await,
            Self::CloudNativePg(session) => session.promote(promotion).await,
        }
    }
}
