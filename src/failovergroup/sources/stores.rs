//! Asks the stores of a group, at each site: what they are, how far they are, and who may write. Where this site has
//! authority it also tells the standbys what time it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use super::{OfGroup, SECRETS_EVERY, rest};
use crate::api::Problem;
use crate::api::store::Store as Spec;
use crate::runtime::lock::lock;
use crate::runtime::remote::RemoteError;
use crate::stores::postgres::{Credentials, Postgres};
use crate::stores::reading::Role;
use crate::stores::{Reading, Store, StoreError};

/// How often. A lag is known to some ten seconds, which is what `maxLag` is compared with.
const EVERY: Duration = Duration::from_secs(10);

/// The servers that could be made of the spec and its Secrets.
type Made = BTreeMap<(String, String), Postgres>;

/// Asks for ever; ends where the group has no store.
pub async fn run(of: OfGroup) {
    if of.spec.stores().is_empty() {
        return;
    }
    let mut made = Made::new();
    for round in 0u32.. {
        if round % SECRETS_EVERY == 0 {
            made.clear();
        }
        let wanted =
            of.spec.stores().iter().flat_map(|store| of.spec.sites.iter().map(move |site| (store, site)));
        let asked = join_all(
            wanted.map(|(store, site)| ask(&of, store, site, made.get(&(store.name.clone(), site.clone())))),
        );
        let mut found = BTreeMap::new();
        for (key, server, answer) in asked.await {
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
        of.found(|asked| asked.stores = found);
        rest(EVERY, round).await;
    }
}

type Answer = ((String, String), Option<Postgres>, Result<Reading, StoreError>);

async fn ask(of: &OfGroup, store: &Spec, site: &str, made: Option<&Postgres>) -> Answer {
    let key = (store.name.clone(), site.to_owned());
    let server = match made {
        Some(server) => Ok(server.clone()),
        None => make(of, store, site).await,
    };
    match server {
        Err(problem) => (key, None, Err(StoreError::Problem(Box::new(problem)))),
        Ok(server) => {
            let mut answer = server.read().await;
            if site == &*of.all.context.site
                && has_authority(of)
                && matches!(&answer, Ok(reading) if reading.role == Role::Primary)
                && let Err(error) = server.beat(site).await
                && let Ok(reading) = &mut answer
            {
                reading.problems.push(Problem::warning(
                    format!("spec.stores[{}]", store.name),
                    format!("the heartbeat cannot be written, so that the lag in time is not known: {error}"),
                    error.remedy(),
                ));
            }
            (key, Some(server), answer)
        }
    }
}

/// Only who has authority changes anything in a store.
fn has_authority(of: &OfGroup) -> bool {
    let site = &*of.all.context.site;
    let (_, own, _) = lock(&of.all.index).observe(&of.name);
    let spec = own.and_then(|own| own.spec.ok());
    of.all.context.leadership.is_leader()
        && spec.is_some_and(|spec| spec.epoch > 0 && spec.holders.iter().any(|holder| holder == site))
}

async fn make(of: &OfGroup, store: &Spec, site: &str) -> Result<Postgres, Problem> {
    let Some(postgres) = &store.postgres else {
        return Err(Problem::error(
            format!("spec.stores[{}]", store.name),
            "this version reads stores of kind postgres only",
            "use postgres, or upgrade the operator",
        ));
    };
    let source = format!("spec.stores[{}].postgres", store.name);
    let credentials = match postgres.sites.get(site) {
        None => Credentials::new("", "", None),
        Some(server) => {
            let source = format!("{source}.sites[{site}].credentials");
            let data = of.secret(&source, &server.credentials.secret_ref.name).await?;
            Credentials::from_secret(server, &data, &source)?
        }
    };
    Postgres::new(postgres, site, &of.all.context.site, credentials, &source)
}
