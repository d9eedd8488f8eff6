//! The half of `banyan failover` that shows FailoverGroups: whether one could move to this cluster now, and what that would do.

use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};

use super::failover_error::FailoverError;
use crate::api::FailoverGroup;
use crate::api::authority::AuthorityState;
use crate::api::failovergroup::Active;
use crate::failovergroup::plan::held;
use crate::failovergroup::table::{is_ready, list, one, planned};
use crate::terminal::output::Output;

/// What is done, as errors say it.
const WHAT: &str = "reading FailoverGroups";

/// Shows whether a group, or all of them, could move here now.
///
/// # Errors
/// If they cannot be read, or one could not.
pub async fn ready(
    client: Client,
    namespace: &str,
    group: Option<String>,
    output: Output,
) -> Result<(), FailoverError> {
    let groups = match &group {
        Some(group) => vec![one_of(&client, namespace, group).await?],
        None => all_of(&client, namespace).await?,
    };
    match (output, &*groups, &group) {
        (Output::Json, [only], Some(_)) => println!("{}", serde_json::to_string_pretty(only)?),
        (Output::Json, all, _) => println!("{}", serde_json::to_string_pretty(all)?),
        (Output::Table, [only], Some(_)) => print!("{}", one(only)),
        (Output::Table, [], _) => println!("There is no FailoverGroup in namespace {namespace}."),
        (Output::Table, all, _) => print!("{}", list(all)),
    }
    let unready: Vec<String> =
        groups.iter().filter(|group| !is_ready(group)).map(ResourceExt::name_any).collect();
    if unready.is_empty() { Ok(()) } else { Err(FailoverError::NotReady(unready.join(", "))) }
}

/// Shows what a move of a group to this cluster would do.
///
/// # Errors
/// If it cannot be read, or something would hold it.
pub async fn plan(client: Client, namespace: &str, group: &str, output: Output) -> Result<(), FailoverError> {
    let found = one_of(&client, namespace, group).await?;
    not_here_already(&found)?;
    let plan = found.status.and_then(|status| status.plan).ok_or_else(|| {
        FailoverError::Usage(format!(
            "no operator of this cluster has said what a move of {group} would do: see `kubectl banyan failover ready {group}`"
        ))
    })?;
    match output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&plan)?),
        Output::Table => print!("What a move of {group} to this cluster would do\n{}", planned(&plan)),
    }
    match held(&plan).is_empty() {
        true => Ok(()),
        false => Err(FailoverError::NotReady(group.to_owned())),
    }
}

/// Whether there is something to be moved to this cluster, by what its operator says.
///
/// # Errors
/// If this cluster has authority over the group, and no other site may have it too.
pub fn not_here_already(group: &FailoverGroup) -> Result<(), FailoverError> {
    let state = group.status.as_ref().and_then(|status| status.authority.as_ref());
    let held = state.is_some_and(|authority| authority.state == AuthorityState::Held.as_str());
    if held && group.spec.active.unwrap_or_default() == Active::One {
        let name = group.name_any();
        return Err(FailoverError::Usage(format!(
            "this cluster has authority over {name}: there is nothing to move; type it in the cluster that is to take over"
        )));
    }
    Ok(())
}

/// The FailoverGroup of that name.
///
/// # Errors
/// If it cannot be read, or there is none.
pub async fn one_of(client: &Client, namespace: &str, name: &str) -> Result<FailoverGroup, FailoverError> {
    let api: Api<FailoverGroup> = Api::namespaced(client.clone(), namespace);
    let found = api.get_opt(name).await.map_err(FailoverError::api(WHAT, namespace))?;
    let mut found = found.ok_or_else(|| FailoverError::absent("FailoverGroup", name, namespace))?;
    found.metadata.managed_fields = None;
    Ok(found)
}

/// All FailoverGroups of a namespace.
///
/// # Errors
/// If they cannot be read.
pub async fn all_of(client: &Client, namespace: &str) -> Result<Vec<FailoverGroup>, FailoverError> {
    let api: Api<FailoverGroup> = Api::namespaced(client.clone(), namespace);
    let listed = api.list(&ListParams::default()).await.map_err(FailoverError::api(WHAT, namespace))?;
    let mut all = listed.items;
    all.iter_mut().for_each(|group| group.metadata.managed_fields = None);
    Ok(all)
}
