//! What is done to stores: closed at the source, and here caught up, promoted, verified, opened.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use super::super::source::{commits_wait_for, is_primary_here};
use super::super::status;
use super::super::view::ASSERT;
use super::{Done, Means};
use crate::api::FailoverStatus;
use crate::api::failover::FenceLevel;
use crate::api::store::{Store as Spec, Synchronous};
use crate::authority::claims::greater;
use crate::failovergroup::live;
use crate::failovergroup::sources::servers::make;
use crate::runtime::remote::within;
use crate::stores::{CaughtUp, Fence, Fenced, Promotion, Server, Session, Store, StoreError};

/// How long a source may take to be closed, all tries together: a dead one adds no more than this.
const FENCES: Duration = Duration::from_secs(15);
/// The operator there closes its stores at the same moment, and each ends the sessions of the other: what was ended within
/// that time is tried once more at once.
const MEETS: Duration = Duration::from_secs(2);
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

/// What the first of those that failed says.
fn first_error(failed: &[(String, StoreError)], at: &str) -> String {
    let words = failed.iter().map(|(name, error)| format!("{name} at {at}: {error}; {}", error.remedy()));
    words.collect::<Vec<_>>().join(". ")
}

fn remember(status: &mut FailoverStatus, name: &str, error: Option<&StoreError>) {
    status::store(status, name).error = error.map(|error| crate::api::conditions::short(error.to_string()));
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
        let close = async || match close(means, name, &source).await {
            Err(error) if error.may_be_done() && begin.elapsed() < MEETS => {
                tokio::time::sleep(LOOK).await;
                close(means, name, &source).await
            }
            closed => closed,
        };
        let closing = tokio::time::timeout(FENCES, close());
        let closed = closing.await.unwrap_or_else(|_| {
            Err(StoreError::NotYet { what: "the source is not closed", after: begin.elapsed() })
        });
        (name, closed)
    }));
    let (mut failed, mut superseded) = (Vec::new(), false);
    for (name, closed) in found.await {
        remember(status, name, closed.as_ref().err());
        let record = status::store(status, name);
        let known = &means.seen.group.knowledge;
        match closed {
            Ok((level, fenced)) => {
                record.level = Some(level);
                record.sealed = fenced.position.map(|position| position.to_string());
                if fenced.position.is_none() && is_primary_here(known, name) {
                    // The other one is a standby still: nothing was ever written there that is not here.
                    record.complete = Some(true);
                }
                record.evidence = Some(evidence(&fenced));
            }
            Err(error) => {
                superseded |= error.is_superseded();
                let waits = means.store(name).and_then(|spec| spec.postgres.as_ref());
                let required = waits.is_some_and(|spec| spec.synchronous == Some(Synchronous::Required));
                let waits = required && commits_wait_for(known, means.site(), name);
                if !means.planned && waits && !error.is_superseded() {
                    // No commit is acknowledged there that is not here.
                    record.level = Some(FenceLevel::Synchronous);
                    record.evidence = Some("every commit waits for this site".to_owned());
                    continue;
                }
                if error.is_silence() {
                    silent.insert(source.clone());
                }
                failed.push((name.clone(), error));
            }
        }
    }
    if superseded {
        return None;
    }
    if failed.is_empty() {
        return Some(Done::Yes(format!("{} closed at {source}", stores.join(", "))));
    }
    let words = first_error(&failed, &source);
    Some(match means.planned {
        true => Done::not_yet("NotFenced", words, Some(means.command("abort"))),
        false => Done::not_yet(
            "NotFenced",
            format!("{words}. Make sure that nobody writes there, and say so"),
            Some(means.command(ASSERT)),
        ),
    })
}

/// Closes one; a standby has only older sessions to be ended.
async fn close(means: &Means<'_>, name: &str, source: &str) -> Result<(FenceLevel, Fenced), StoreError> {
    let (ballot, follows) = means.claim;
    let server = means.server(name, source).await?;
    let fence = Fence { ballot, follows };
    if let Server::CloudNativePg(_) = &server {
        let row = server.read().await?.row.filter(|row| row.ballot == ballot && !row.open);
        let waits =
            StoreError::NotYet { what: "the operator there has not closed it", after: Duration::ZERO };
        let row = row.ok_or(waits)?;
        let fenced = Fenced { ballot, position: row.sealed, ended: 0, open_to: Vec::new(), left: Vec::new() };
        return Ok((FenceLevel::Acknowledged, fenced));
    }
    match server.fence(fence).await {
        Err(StoreError::IsStandby) => {
            server.fence_standby(fence).await?;
            let (open_to, left) = (Vec::new(), Vec::new());
            Ok((FenceLevel::StoreAcknowledged, Fenced { ballot, position: None, ended: 0, open_to, left }))
        }
        closed => Ok((FenceLevel::StoreAcknowledged, closed?)),
    }
}

fn evidence(fenced: &Fenced) -> String {
    let mut words = match fenced.position {
        Some(position) => format!("closed at {position}, {} sessions ended", fenced.ended),
        None => "a standby there, whose older orders were ended".to_owned(),
    };
    for (what, who) in [("may still write", &fenced.open_to), ("superusers are logged in", &fenced.left)] {
        if !who.is_empty() {
            words.push_str(&format!("; {what}: {}", who.join(", ")));
        }
    }
    crate::api::conditions::short(words)
}

/// Whether what was closed over the wire is closed still. `None` if it is.
pub(super) async fn still_closed(means: &Means<'_>, status: &FailoverStatus) -> Option<Done> {
    let source = means.seen.source()?;
    let closed = status.stores.iter().filter(|store| {
        store.level.is_some_and(FenceLevel::is_closed)
            // A standby at the source has no row of its own to be closed.
            && store.sealed.is_some()
    });
    let looked = join_all(closed.map(async |store| {
        let read = async { means.server(&store.name, &source).await?.read().await };
        (store.name.clone(), read.await)
    }));
    for (name, read) in looked.await {
        let why = match read {
            Ok(reading) => match reading.row {
                Some(row) if row.ballot == means.ballot() && !row.open => continue,
                Some(row) if row.ballot > means.ballot() => {
                    format!("{name} at {source} was ordered by ballot {} since", row.ballot)
                }
                _ => format!("{name} at {source} is not closed any more"),
            },
            Err(_) if status.assertion.is_some() => continue,
            Err(error) => format!("{name} at {source} cannot be read just before the commit: {error}"),
        };
        let verb = if means.planned { "abort" } else { "assert-fenced --evidence DatabaseStopped" };
        return Some(Done::not_yet("NotFenced", why, Some(means.command(verb))));
    }
    None
}

/// Waits until all that was acknowledged at the source is here.
pub(super) async fn catch_up(means: &Means<'_>, stores: &[String], status: &mut FailoverStatus) -> Done {
    let begin = Instant::now();
    let found = join_all(stores.iter().map(async |name| {
        let sealed = status.stores.iter().find(|store| store.name == *name);
        let sealed = sealed.and_then(|store| store.sealed.as_ref()?.parse().ok());
        let server = match means.server(name, means.site()).await {
            Ok(server) => server,
            Err(error) => return (name, Err(error)),
        };
        loop {
            match server.caught_up(means.ballot(), sealed).await {
                Ok(CaughtUp::Yes) => return (name, Ok(None)),
                Ok(CaughtUp::No { replayed }) if begin.elapsed() > CATCHES_UP => {
                    return (name, Ok(Some(replayed)));
                }
                Ok(CaughtUp::No { .. }) => tokio::time::sleep(LOOK).await,
                Err(error) => return (name, Err(error)),
            }
        }
    }))
    .await;
    let (mut failed, mut behind) = (Vec::new(), Vec::new());
    for (name, done) in found {
        remember(status, name, done.as_ref().err());
        match done {
            Ok(None) => status::store(status, name).complete = Some(true),
            Ok(Some(replayed)) => {
                let at = replayed.map_or_else(|| "an unknown position".to_owned(), |at| at.to_string());
                let sealed = status::store(status, name).sealed.clone().unwrap_or_default();
                behind.push((name.clone(), format!("{name} is at {at} here, and was closed at {sealed}")));
            }
            Err(error) => failed.push((name.clone(), error)),
        }
    }
    if !failed.is_empty() {
        let words = first_error(&failed, means.site());
        return Done::not_yet("NotCaughtUp", words, Some(means.command("abort")));
    }
    if behind.is_empty() {
        return Done::Yes(format!("all that was acknowledged is here: {}", stores.join(", ")));
    }
    let words = behind.iter().map(|(_, words)| words.clone()).collect::<Vec<_>>().join(". ");
    if means.planned {
        return Done::not_yet("NotCaughtUp", words, Some(means.command("abort")));
    }
    // What has not come by now may never come: what is missing is named, and a person decides.
    let names: Vec<String> = behind.into_iter().map(|(name, _)| name).collect();
    freeze(means, &names, status).await
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
                    return Ok(begin.elapsed());
                }
                if begin.elapsed() > CATCHES_UP {
                    let what = "what was written at the source is not here";
                    return Err(StoreError::NotYet { what, after: begin.elapsed() });
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        (name, replayed.await)
    }));
    let mut failed: Vec<(String, StoreError)> = Vec::new();
    for (name, done) in found.await {
        remember(status, name, done.as_ref().err());
        match done {
            Ok(took) => {
                let took = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
                status::store(status, name).replayed_millis = Some(took);
            }
            Err(error) => failed.push((name.clone(), error)),
        }
    }
    match failed.is_empty() {
        true => Done::Yes(format!("what was written at {source} is here: {}", stores.join(", "))),
        false => {
            Done::not_yet("NotCaughtUp", first_error(&failed, means.site()), Some(means.command("abort")))
        }
    }
}

/// Has stores take in no more, and reads how far they are.
pub(super) async fn freeze(means: &Means<'_>, stores: &[String], status: &mut FailoverStatus) -> Done {
    let found = join_all(stores.iter().map(async |name| {
        let frozen = async {
            let server = means.server(name, means.site()).await?;
            let frozen = server.freeze(means.ballot()).await?;
            let reading = server.read().await?;
            let age = reading.heartbeat.as_ref().map(|beat| reading.server_time.duration_since(beat.at));
            Ok((frozen, age))
        };
        (name, frozen.await)
    }));
    let mut failed: Vec<(String, StoreError)> = Vec::new();
    for (name, done) in found.await {
        remember(status, name, done.as_ref().err());
        match done {
            Ok((frozen, age)) => {
                let record = status::store(status, name);
                record.frozen = Some(frozen.position.to_string());
                // When this site heard last: what was acknowledged since then may be missing.
                record.lag_millis = age.map(|age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX).max(0));
            }
            // It was promoted in an earlier try.
            Err(StoreError::IsPrimary) => status::store(status, name).complete = Some(true),
            Err(error) => failed.push((name.clone(), error)),
        }
    }
    match failed.is_empty() {
        true => Done::Yes(format!("{} take in no more; see status.stores", stores.join(", "))),
        false => Done::not_yet("NotFrozen", first_error(&failed, means.site()), Some(means.command("abort"))),
    }
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
            let session = server.session().await?;
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
    let several = means.seen.stores().len() > 1;
    let promoted = join_all(opened.into_iter().map(async |(name, session)| {
        let done = async {
            let (server, mut session, row) = session?;
            session.promote(Promotion { ballot, row }).await?;
            if several && row != Some(ballot) {
                // Its roles were never closed, and it must not be written to before all are promoted.
                server.fence(Fence { ballot, follows }).await?;
            }
            Ok(())
        };
        (name, done.await)
    }))
    .await;
    Ok(taken(means, status, promoted, "NotPromoted", "promoted", |record| record.promoted = Some(true)))
}

/// Verifies stores by a write, and opens them.
pub(super) async fn open(means: &Means<'_>, stores: &[String], status: &mut FailoverStatus) -> Done {
    let opened = join_all(stores.iter().map(async |name| {
        let done = async {
            let server = means.server(name, means.site()).await?;
            server.verify(means.ballot()).await?;
            server.open(means.ballot()).await
        };
        (name, done.await)
    }))
    .await;
    taken(means, status, opened, "NotOpened", "written to, read back and opened", |record| {
        record.verified = Some(true);
        record.opened = Some(true);
    })
}

/// Takes in what came of something that is done to each store here.
fn taken(
    means: &Means<'_>,
    status: &mut FailoverStatus,
    found: Vec<(&String, Result<(), StoreError>)>,
    reason: &'static str,
    what: &str,
    done: impl Fn(&mut crate::api::failover::StoreRecord),
) -> Done {
    let (mut failed, mut well) = (Vec::new(), Vec::new());
    for (name, result) in found {
        remember(status, name, result.as_ref().err());
        match result {
            Ok(()) => {
                done(status::store(status, name));
                well.push(name.as_str());
            }
            Err(error) => failed.push((name.clone(), error)),
        }
    }
    match failed.is_empty() {
        true => Done::Yes(format!("{} {what} here", well.join(", "))),
        // It goes on by itself; nothing is open before all are.
        false => Done::not_yet(reason, first_error(&failed, means.site()), None),
    }
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
            match within(FENCES, async { Ok(there.lift(means.ballot()).await) })
                .await
                .unwrap_or_else(|error| Err(error.into()))
            {
                // It was closed, or not, by somebody else since; or is a standby, of which nothing was closed.
                Err(error) if error.is_superseded() || error == StoreError::IsStandby => Ok(()),
                // Whoever is gone is waited for by nobody: a site that returns reads that the claim was given up.
                Err(error) if error.is_silence() => Ok(()),
                done => done,
            }
        };
        (name, done.await)
    }));
    let mut failed = Vec::new();
    for (name, done) in lifted.await {
        remember(status, name, done.as_ref().err());
        match done {
            Ok(()) => {
                let record = status::store(status, name);
                (record.level, record.frozen, record.complete) = (None, None, None);
            }
            Err(error) => failed.push((name.clone(), error)),
        }
    }
    match failed.is_empty() {
        true => Done::Yes(format!("{} open again at {source}", stores.join(", "))),
        // The operator there reads that the claim was given up, and opens them too.
        false => Done::not_yet("NotLifted", first_error(&failed, &source), None),
    }
}
