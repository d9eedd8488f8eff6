//! Asks the stores of a group: what they are at each site, how far they are, and who may write. Where this site has
//! authority it also tells the standbys what time it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use kube::Client;

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

/// Asks for ever; ends where the group has no store.
pub async fn run(of: OfGroup) {
    let (mirrors, databases): (Vec<&Spec>, Vec<&Spec>) =
        of.spec.stores().iter().partition(|store| store.kafka_mirror.is_some());
    let read_databases = async {
        let mut made = BTreeMap::new();
        let mut round = 0u32;
        while !databases.is_empty() {
            if round.is_multiple_of(SECRETS_EVERY) {
                made.clear();
            }
            ask_databases(&of, &databases, &mut made).await;
            of.all.rest(EVERY, round).await;
            round = round.wrapping_add(1);
        }
    };
    let read_mirrors = async {
        let client = &of.all.context.client;
        let made: Vec<(&Spec, Mirror)> =
            mirrors.iter().filter_map(|spec| Some((*spec, mirror(spec, client)?))).collect();
        let mut round = 0u32;
        while !made.is_empty() {
            let asked = made
                .iter()
                .map(async |(spec, mirror)| (spec.name.clone(), mirror.read(Timestamp::now()).await));
            let found = join_all(asked).await.into_iter().collect();
            of.found(|asked| asked.mirrors = found);
            of.all.rest(EVERY, round).await;
            round = round.wrapping_add(1);
        }
    };
    tokio::join!(read_databases, read_mirrors);
}

/// The mirror of this site, which copies from the other one.
fn mirror(spec: &Spec, client: &Client) -> Option<Mirror> {
    let source = format!("spec.stores[{}].kafkaMirror", spec.name);
    Some(Mirror::new(spec.kafka_mirror.as_ref()?, client.clone(), &source))
}

/// One round with all databases at all sites.
async fn ask_databases(of: &OfGroup, stores: &[&Spec], made: &mut BTreeMap<(String, String), Server>) {
    let wanted = stores.iter().flat_map(|store| of.spec.sites.iter().map(move |site| (*store, site)));
    let asked =
        wanted.map(|(store, site)| ask(of, store, site, made.get(&(store.name.clone(), site.clone()))));
    let mut found = BTreeMap::new();
    for (key, server, answer) in join_all(asked).await {
        match server {
            // Credentials that are refused may have been renewed.
            Some(server) if !matches!(answer, Err(StoreError::Remote(RemoteError::Unauthorized))) => {
                made.insert(key.clone(), server);
            }
            _ => {
                made.remove(&key);
            }
        }
        found.insert(key, answer.map(Arc::new));
    }
    let primaries: Vec<_> = found
        .iter()
        .filter_map(|(key, read)| {
            let reading = read.as_ref().ok().filter(|reading| reading.role == Role::Primary)?;
            Some((key.clone(), reading.measured_at))
        })
        .collect();
    of.found(|asked| {
        asked.primaries.extend(primaries);
        asked.stores = found;
    });
}

type Answer = ((String, String), Option<Server>, Result<Reading, StoreError>);

async fn ask(of: &OfGroup, store: &Spec, site: &str, made: Option<&Server>) -> Answer {
    let key = (store.name.clone(), site.to_owned());
    let server = match made {
        Some(server) => Ok(server.clone()),
        None => make(of, store, site).await,
    };
    let server = match server {
        Ok(server) => server,
        Err(problem) => return (key, None, Err(problem.into())),
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
    (key, keep.then_some(server), answer)
}
