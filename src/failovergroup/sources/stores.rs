//! Asks the stores of a group: what they are at each site, how far they are, and who may write. Where this site has
//! authority it also tells the standbys what time it is.

use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use kube::Client;
use tokio::time::{MissedTickBehavior, interval};

use super::group::{OfGroup, SECRETS_EVERY};
use super::servers::make;
use crate::api::Problem;
use crate::api::store::Store as Spec;
use crate::runtime::remote::RemoteError;
use crate::stores::kafka::Mirror;
use crate::stores::reading::Role;
use crate::stores::{Reading, Server, Store, StoreError};

/// How often. A lag is known to some ten seconds, which is what `maxLag` is compared with.
const EVERY: Duration = Duration::from_secs(10);

/// Asks for ever, each store at each site by itself; ends where the group has no store.
pub async fn run(of: OfGroup) {
    let (mirrors, databases): (Vec<&Spec>, Vec<&Spec>) =
        of.spec.stores().iter().partition(|store| store.kafka_mirror.is_some());
    let databases = databases.iter().flat_map(|store| of.spec.sites.iter().map(move |site| (*store, site)));
    let databases = join_all(databases.map(|(store, site)| read_database(&of, store, site)));
    let mirrors = join_all(mirrors.iter().map(|spec| read_mirror(&of, spec)));
    tokio::join!(databases, mirrors);
}

async fn read_mirror(of: &OfGroup, spec: &Spec) {
    let Some(mirror) = mirror(spec, &of.all.context.client) else { return };
    for round in 0u32.. {
        let found = mirror.read(Timestamp::now()).await;
        of.found(|asked| {
            asked.mirrors.insert(spec.name.clone(), found);
        });
        of.all.rest(EVERY, round).await;
    }
}

/// The mirror of this site, which copies from the other one.
pub(in crate::failovergroup) fn mirror(spec: &Spec, client: &Client) -> Option<Mirror> {
    let source = format!("spec.stores[{}].kafkaMirror", spec.name);
    Some(Mirror::new(spec.kafka_mirror.as_ref()?, client.clone(), &source))
}

async fn read_database(of: &OfGroup, store: &Spec, site: &str) {
    // All sites at the same moments, so that what two of them show can be compared; one that is silent misses some.
    let mut turns = interval(of.all.ends.every(EVERY));
    turns.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut made = None;
    for round in 0u32.. {
        turns.tick().await;
        if round.is_multiple_of(SECRETS_EVERY) {
            made = None;
        }
        let since = Timestamp::now();
        let (server, answer) = ask(of, store, site, made.as_ref()).await;
        // Credentials that are refused may have been renewed.
        let refused = matches!(answer, Err(StoreError::Remote(RemoteError::Unauthorized)));
        made = server.filter(|_| !refused);
        of.heard(&store.name, site, since, answer);
    }
}

async fn ask(
    of: &OfGroup,
    store: &Spec,
    site: &str,
    made: Option<&Server>,
) -> (Option<Server>, Result<Reading, StoreError>) {
    let server = match made {
        Some(server) => Ok(server.clone()),
        None => make(of, store, site).await,
    };
    let server = match server {
        Ok(server) => server,
        Err(problem) => return (None, Err(problem.into())),
    };
    let mut answer = server.read().await;
    if let (Server::Postgres(postgres), Ok(reading)) = (&server, &mut answer)
        && site == &*of.all.context.site
        && reading.role == Role::Primary
        // Only who has authority changes anything in a store.
        && of.leads()
        && of.holds()
        && let Err(error) = postgres.beat(site).await
    {
        reading.problems.push(Problem::warning(
            format!("spec.stores[{}]", store.name),
            format!("the heartbeat cannot be written, so that the lag in time is not known: {error}"),
            error.remedy(),
        ));
    }
    // The way to a peer may be another one next time.
    let keep = matches!(server, Server::Postgres(_)) || site == &*of.all.context.site;
    (keep.then_some(server), answer)
}
