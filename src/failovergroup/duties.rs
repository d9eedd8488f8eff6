//! Does what a site owes its own stores: closes them for who claims or has authority, opens them again, has them follow; and
//! turns its mirrors.

use std::sync::Arc;

use futures::future::join_all;
use jiff::Timestamp;

use super::mirrors::Steer;
use super::observe::{Observed, shows};
use super::sources::group::{OfGroup, Sources};
use super::sources::servers::make;
use super::sources::stores::mirror;
use crate::api::FailoverGroupSpec;
use crate::authority::decide::Decision as Authority;
use crate::authority::duty::{Duty, duties, unfinished};
use crate::stores::{Fence, Server, Store, StoreError};

/// What is owed, by what was found last.
pub fn owed(seen: &Observed, spec: &FailoverGroupSpec, authority: &Authority) -> Vec<Duty> {
    let Some(own) = authority.own(&seen.knowledge) else { return Vec::new() };
    let there = |store: &str, site: &str| {
        let reading = seen.asked.stores.get(&(store.to_owned(), site.to_owned()))?.as_ref().ok()?;
        Some(shows(reading))
    };
    let place = spec.place(&seen.site).unwrap_or_default();
    let mut owed = duties(&seen.site, place, own, authority.state, &seen.knowledge, there);
    owed.extend(unfinished(&seen.site, own, &seen.knowledge, there));
    owed
}

/// Does it, all at once: each is tried again in the next round. Returns whether one is under way.
pub async fn carry_out(
    sources: &Sources,
    seen: &Observed,
    spec: &FailoverGroupSpec,
    owed: Vec<Duty>,
) -> bool {
    let of = OfGroup::new(sources, &seen.name, spec);
    if owed.is_empty() || !of.leads() {
        return false;
    }
    let mut under_way = false;
    let found = join_all(owed.iter().map(async |duty| (duty, one(&of, seen, duty).await))).await;
    for (duty, done) in found {
        match done {
            Ok(()) => tracing::info!(group = seen.name, ?duty, "done at a store of this site"),
            Err(StoreError::NotYet { .. }) => {
                under_way = true;
                tracing::debug!(group = seen.name, ?duty, "under way");
            }
            Err(error) => {
                tracing::warn!(group = seen.name, ?duty, %error, "not done at a store of this site")
            }
        }
    }
    under_way
}

/// Stops the mirrors of this site, or lets them on: each is tried again in the next round.
pub async fn steer(sources: &Sources, seen: &Observed, spec: &FailoverGroupSpec, owed: Vec<Steer>) {
    let of = OfGroup::new(sources, &seen.name, spec);
    if owed.is_empty() || !of.leads() {
        return;
    }
    for Steer { store, copies, epoch } in owed {
        let named = of.spec.stores().iter().find(|spec| spec.name == store);
        let Some(mirror) = named.and_then(|spec| mirror(spec, &of.all.context.client)) else { continue };
        match mirror.steer(epoch, copies).await {
            Ok(mirroring) => {
                tracing::info!(group = seen.name, store, copies, epoch, "the mirror of this site is steered");
                of.found(|asked| {
                    if let Some(Ok(reading)) = asked.mirrors.get_mut(&store) {
                        reading.mirroring = mirroring;
                    }
                });
            }
            Err(error) => {
                tracing::warn!(group = seen.name, store, copies, %error, "the mirror of this site is not steered");
            }
        }
    }
}

fn store_of(duty: &Duty) -> &str {
    match duty {
        Duty::Close { store, .. }
        | Duty::Lift { store, .. }
        | Duty::Open { store, .. }
        | Duty::Thaw { store }
        | Duty::Follow { store, .. } => store,
    }
}

async fn one(of: &OfGroup, seen: &Observed, duty: &Duty) -> Result<(), StoreError> {
    let Some(spec) = of.spec.stores().iter().find(|spec| spec.name == store_of(duty)) else { return Ok(()) };
    let site = Arc::clone(&of.all.context.site);
    let server = make(of, spec, &site).await?;
    match duty {
        Duty::Close { ballot, follows, .. } => {
            server.fence(Fence { ballot: *ballot, follows: *follows }).await.map(drop)?;
        }
        Duty::Lift { ballot, .. } => server.lift(*ballot).await?,
        Duty::Open { epoch, .. } => server.open(*epoch).await?,
        // Promoted meanwhile, it takes in nothing any more.
        Duty::Thaw { .. } => match server.thaw().await {
            Err(StoreError::IsPrimary) => {}
            done => done?,
        },
        Duty::Follow { site, epoch, store, begun } => {
            let there = seen.asked.stores.get(&(store.clone(), site.clone()));
            let timeline = there.and_then(|there| there.as_ref().ok()).map(|there| there.timeline);
            match (begun, &server) {
                (false, _) => server.follow(*epoch, site, timeline).await?,
                (true, Server::Postgres(server)) => server.go_on(*epoch, site, timeline).await?,
                // Nobody stops a Cluster to have it follow.
                (true, Server::CloudNativePg(_)) => {}
            }
        }
    }
    // What the next decision is made of.
    let since = Timestamp::now();
    if let Ok(reading) = server.read().await {
        of.heard(&spec.name, &site, since, Ok(reading));
    }
    Ok(())
}
