//! How the server of a store at a site is reached: its address, its credentials, its agent.

use super::group::OfGroup;
use crate::api::Problem;
use crate::api::store::{Postgres as PostgresSpec, Store as Spec};
use crate::stores::Server;
use crate::stores::agent::client::Agent;
use crate::stores::cloudnativepg::CloudNativePg;
use crate::stores::postgres::{Credentials, Postgres};

/// The server of a store at a site, with its agent where the group names one.
///
/// # Errors
/// If its credentials cannot be read, or the way to the site is not there.
pub(crate) async fn make(of: &OfGroup, store: &Spec, site: &str) -> Result<Server, Problem> {
    let source = format!("spec.stores[{}]", store.name);
    if let Some(cluster) = &store.cloudnativepg {
        let client = if site == &*of.all.context.site {
            of.all.context.client.clone()
        } else {
            of.all.peers.client(site).await.map_err(|error| {
                Problem::error(
                    &source,
                    format!("{site} is not reached: {error}"),
                    format!("see `kubectl describe cloudcluster {site}`"),
                )
            })?
        };
        return Ok(Server::CloudNativePg(CloudNativePg::new(
            cluster,
            site,
            client,
            &format!("{source}.cloudnativepg"),
        )));
    }
    let Some(postgres) = &store.postgres else {
        return Err(Problem::error(
            &source,
            "it is a store of a kind that this version does not know",
            "upgrade the operator of this site",
        ));
    };
    let source = format!("{source}.postgres");
    let credentials = match postgres.sites.get(site) {
        None => Credentials::new("", "", None),
        Some(server) => {
            let source = format!("{source}.sites[{site}].credentials");
            let data = of.secret(&source, &server.credentials.secret_ref.name).await?;
            Credentials::from_secret(server, &data, &source)?
        }
    };
    let made = Postgres::new(postgres, site, &of.all.context.site, credentials, &source)?;
    Ok(Server::Postgres(match agent(of, postgres, site, &format!("{source}.agent")).await? {
        Some(agent) => made.with_agent(agent),
        None => made,
    }))
}

/// The agent beside a server, if the group names one.
async fn agent(
    of: &OfGroup,
    postgres: &PostgresSpec,
    site: &str,
    source: &str,
) -> Result<Option<Agent>, Problem> {
    let Some((agent, server)) = postgres.agent.as_ref().zip(postgres.sites.get(site)) else {
        return Ok(None);
    };
    let source = format!("{source}.secretRef");
    let name = &agent.secret_ref.name;
    let data = of.secret(source.trim_end_matches(".secretRef"), name).await?;
    let remedy = "put tls.crt, tls.key and ca.crt into it, in PEM";
    let part = |key: &str| {
        let part = data.get(key).map(|part| part.0.as_slice());
        part.ok_or_else(|| Problem::error(&source, format!("the Secret {name} has no {key}"), remedy))
    };
    let made =
        Agent::new(&server.host, agent.port(server), part("tls.crt")?, part("tls.key")?, part("ca.crt")?);
    let unfit = |why| {
        let message = format!("the Secret {name} holds no certificate with its key and CA: {why}");
        Problem::error(&source, message, remedy)
    };
    made.map(Some).map_err(unfit)
}
