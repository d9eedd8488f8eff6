//! What is done to stores: closed at the source, and here caught up, promoted, verified, opened.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use super::super::outcome::{self, Closed};
use super::{Done, Means};
use crate::api::FailoverStatus;
use crate::api::failover::FenceLevel;
use crate::api::hook::HookPoint;
use crate::api::store::Store as Spec;
use crate::authority::claims::greater;
use crate::failovergroup::live;
use crate::failovergroup::sources::servers::make;
use crate::runtime::remote::within;
use crate::stores::reading::{Role, Row};
use crate::stores::{CaughtUp, Fence, Fenced, Promotion, Server, Session, Store, StoreError};

/// How long a source may take to be closed, all tries together: a dead one adds no more than this.
const FENCES: Duration = Duration::from_secs(15);
/// The operator there closes its stores at the same moment, and each ends the sessions of the other: what was ended within
/// that time is tried again at once.
const MEETS: Duration = Duration::from_secs(2);
/// The operator there has CloudNativePG demote a Cluster, which takes it some seconds: it is waited for so long at once, and
/// looked so often.
const CLOSES: Duration = Duration::from_secs(10);
const ASKS: Duration = Duration::from_millis(250);
/// How long it is waited at once for what is still under way between the servers.
const CATCHES_UP: Duration = Duration::from_secs(10);
/// How long lies between two looks.
const LOOK: Duration = Duration::from_millis(50);

impl Means<'_> {
    fn store(&self, name: &str) -> Option<&Spec> {
        self.seen.spec.stores().iter().find(|spec| spec.name == name)
    }

    /// The server of a store at a site.
    async fn server(&self, name: &str, site: &str) -> Result<Server, StoreError> {
        let Some(spec) = self.store(name) else {
            return Err(StoreError::Unsupported {
                message: format!("the group has no store {name} any more"),
                remedy: "put it back, or order anew".to_owned(),
            });
        };
        Ok(make(&self.of_group(), spec, site).await?)
    }

    fn site(&self) -> &str {
        &self.context.site
    }
}

/// Closes stores at the source, over their own wire; a Cluster of CloudNativePG is closed by the operator there, which
/// reads the claim. `None` if one knows of a later order.
pub(super) async fn fence(
    means: &Means<'_>,
    stores: &[String],
    status: &mut FailoverStatus,
    silent: &mut BTreeSet<String>,
) -> Option<Done> {
    let Some(source) = means.seen.source() else { return Some(Done::Again) };
    let begin = Instant::now();
    let found = join_all(stores.iter().map(async |name| {
        let close = async || loop {
            match close(means, name, &source).await {
                Err(error) if error.may_be_done() && begin.elapsed() < MEETS => {
                    tokio::time::sleep(LOOK).await
                }
                Err(StoreError::NotYet { .. }) if begin.elapsed() < CLOSES => tokio::time::sleep(ASKS).await,
                closed => break closed,
            }
        };
        let closing = tokio::time::timeout(FENCES, close());
        let closed = closing.await.unwrap_or_else(|_| {
            Err(StoreError::NotYet { what: "the source is not closed", after: begin.elapsed() })
        });
        (name.as_str(), closed)
    }));
    let fenced = outcome::fenced(&means.of(&source), found.await, status);
    silent.extend(fenced.silent.then_some(source));
    fenced.done
}

/// Closes one; a standby has only older sessions to be ended.
async fn close(means: &Means<'_>, name: &str, source: &str) -> Result<Closed, StoreError> {
    let (ballot, follows) = means.claim;
    let server = means.server(name, source).await?;
    let fence = Fence { ballot, follows };
    if let Server::CloudNativePg(cluster) = &server {
        let fenced = cluster.closed(ballot).await?;
        return Ok(Closed { level: FenceLevel::Acknowledged, fenced, here: None });
    }
    let fenced = match server.fence(fence).await {
        Err(StoreError::IsStandby) => {
            server.fence_standby(fence).await?;
            Fenced::by(ballot)
        }
        closed => closed?,
    };
    let here = if fenced.found.is_some() { row_of_primary(means, name).await } else { None };
    Ok(Closed { level: FenceLevel::StoreAcknowledged, fenced, here })
}

/// The row of the server here, if that is a primary and answers.
async fn row_of_primary(means: &Means<'_>, name: &str) -> Option<Row> {
    let reading = async { means.server(name, means.site()).await?.read().await }.await.ok()?;
    reading.row.filter(|_| reading.role == Role::Primary)
}

/// Whether what was closed over the wire is closed still. `None` if it is.
pub(super) async fn still_closed(means: &Means<'_>, status: &FailoverStatus) -> Option<Done> {
    let source = means.seen.source()?;
    let looked = join_all(outcome::closed(status).map(async |name| {
        let read = async { Ok(means.server(name, &source).await?.read().await?.row) };
        (name, read.await)
    }));
    outcome::still_closed(&means.of(&source), looked.await, status)
}

/// Waits until all that was acknowledged at the source is here.
pub(super) async fn catch_up(means: &Means<'_>, stores: &[String], status: &mut FailoverStatus) -> Done {
    let begin = Instant::now();
    let found = join_all(stores.iter().map(async |name| {
        let sealed = status.stores.iter().find(|store| store.name == *name);
        let sealed = sealed.and_then(|store| store.sealed.as_ref()?.parse().ok());
        let server = match means.server(name, means.site()).await {
            Ok(server) => server,
            Err(error) => return (name.as_str(), Err(error)),
        };
        loop {
            match server.caught_up(means.ballot(), sealed).await {
                Ok(CaughtUp::Yes) => return (name.as_str(), Ok(None)),
                Ok(CaughtUp::No { replayed }) if begin.elapsed() > CATCHES_UP => {
                    return (name.as_str(), Ok(Some(replayed)));
                }
                Ok(CaughtUp::No { .. }) => tokio::time::sleep(LOOK).await,
                Err(error) => return (name.as_str(), Err(error)),
            }
        }
    }))
    .await;
    match outcome::caught_up(&means.of(""), found, status) {
        Ok(done) => done,
        Err(behind) => {
            let behind: Vec<String> = behind.into_iter().map(str::to_owned).collect();
            freeze(means, &behind, status).await
        }
    }
}

/// Waits until what stands in the source's log now is replayed here, and notes how long that took. It changes nothing.
pub(super) async fn replay(means: &Means<'_>, stores: &[String], status: &mut FailoverStatus) -> Done {
    let Some(source) = means.seen.source() else { return Done::Again };
    let found = join_all(stores.iter().map(async |name| {
        let replayed = async {
            let there = means.server(name, &source).await?.read().await?;
            let here = means.server(name, means.site()).await?;
            let begin = Instant::now();
            loop {
                let now = here.read().await?;
                let replayed = now.replayed.or(now.position);
                if there.position.is_none_or(|end| replayed.is_some_and(|at| at >= end)) {
                    return Ok(i64::try_from(begin.elapsed().as_millis()).unwrap_or(i64::MAX));
                }
                if begin.elapsed() > CATCHES_UP {
                    let what = "what was written at the source is not here";
                    return Err(StoreError::NotYet { what, after: begin.elapsed() });
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        (name.as_str(), replayed.await)
    }));
    let found = found.await;
    outcome::replayed(&means.of(&source), found, status)
}

/// Has stores take in no more, and reads how far they are.
pub(super) async fn freeze(means: &Means<'_>, stores: &[String], status: &mut FailoverStatus) -> Done {
    let found = join_all(stores.iter().map(async |name| {
        let frozen = async {
            let server = means.server(name, means.site()).await?;
            // Where nobody tells how far it is, a person accepts what is lost.
            let Some(position) = server.freeze(means.ballot()).await?.position else {
                return Ok((None, None));
            };
            let reading = server.read().await?;
            let age = reading.heartbeat.as_ref().map(|beat| reading.server_time.duration_since(beat.at));
            Ok((Some(position), age))
        };
        (name.as_str(), frozen.await)
    }));
    let found = found.await;
    outcome::frozen(&means.of(""), found, status)
}

/// Promotes stores here. The sessions are opened before it is read who may promote: a later fence ends them.
pub(super) async fn promote(
    means: &Means<'_>,
    stores: &[String],
    status: &mut FailoverStatus,
) -> Result<Done, kube::Error> {
    let opened = join_all(stores.iter().map(async |name| {
        let session = async {
            let server = means.server(name, means.site()).await?;
            let token = status.stores.iter().find(|store| store.name == **name);
            let token = token.and_then(|store| store.token.as_deref());
            let session = server.session().await?.with_token(token)?;
            let row = server.read().await?.row.map(|row| row.ballot);
            Ok::<_, StoreError>((server, session, row))
        };
        (name, session.await)
    }))
    .await;
    let (ground, group) = (&means.shared.ground, &*means.seen.group.name);
    if let Err(error) = live::own(means.context, ground, group).await {
        let words = format!("this cluster's API server does not answer: {error}");
        return Ok(Done::not_yet("NotPromoted", words, None));
    }
    let own = crate::runtime::lock::lock(&ground.index).own_spec(group).cloned().unwrap_or_default();
    if own.epoch != means.ballot() || greater(&own, means.site(), own.epoch).is_some() {
        return Ok(Done::Again);
    }
    let (ballot, follows) = means.claim;
    let closed = means.seen.stores().len() > 1 || means.seen.spec.has_hooks(HookPoint::BeforeOpen);
    let promoted = join_all(opened.into_iter().map(async |(name, session)| {
        let done = async {
            let (server, mut session, row) = session?;
            session.promote(Promotion { ballot, row }).await?;
            // To close a Cluster is to demote it.
            if closed && row != Some(ballot) && !matches!(server, Server::CloudNativePg(_)) {
                // Its roles were never closed, and it must not be written to yet.
                server.fence(Fence { ballot, follows }).await?;
            }
            Ok(())
        };
        (name.as_str(), done.await)
    }))
    .await;
    Ok(outcome::promoted(&means.of(""), promoted, status))
}

/// Verifies stores by a write, and opens them.
pub(super) async fn open(means: &Means<'_>, stores: &[String], status: &mut FailoverStatus) -> Done {
    let opened = join_all(stores.iter().map(async |name| {
        let done = async {
            let server = means.server(name, means.site()).await?;
            let verified = server.verify(means.ballot()).await?;
            server.open(means.ballot()).await.map(|()| verified.is_some())
        };
        (name.as_str(), done.await)
    }))
    .await;
    outcome::opened(&means.of(""), opened, status)
}

/// Opens stores at the source again, and has those here take in what it sends.
pub(super) async fn lift(means: &Means<'_>, stores: &[String], status: &mut FailoverStatus) -> Done {
    let Some(source) = means.seen.source() else { return Done::Again };
    let lifted = join_all(stores.iter().map(async |name| {
        let done = async {
            // Whether this site's own standby can be reached must not keep the source closed: that it takes in again is a
            // duty as well, and done later where it is not done now.
            let thawed = async { means.server(name, means.site()).await?.thaw().await };
            if let Err(error) = thawed.await {
                tracing::info!(store = name, %error, "the standby here does not take in yet");
            }
            let there = means.server(name, &source).await?;
            if let Server::CloudNativePg(_) = &there {
                // Its own operator opens it, on reading that the claim was given up.
                return Ok(());
            }
            within(FENCES, async { Ok(there.lift(means.ballot()).await) }).await?
        };
        (name.as_str(), done.await)
    }));
    let lifted = lifted.await;
    outcome::lifted(&means.of(&source), lifted, status)
}
