//! The snapshot: all that a decision about one FinService needs. It comes from the index and from those who are asked
//! beside it, without a request, but for the contents of a Secret that has changed.

use std::sync::Mutex;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use super::index::child::ChildState;
use super::index::{Index, Observed, Parsed};
use super::worker::Seen;
use crate::actions::Actions;
use crate::api::action::TargetKind;
use crate::api::finservice::OnSecretChange;
use crate::cloudcluster::peers::Peers;
use crate::finservice::plan::secrets;
use crate::judge::hub::Hub;
use crate::runtime::key::Key;
use crate::runtime::key::key_of;
use crate::runtime::lock::lock;

/// Those who know something beside the index.
pub struct Beside<'a> {
    /// What people say.
    pub actions: &'a Actions,
    /// What is measured, and what gates answer.
    pub hub: &'a Hub<Key>,
    /// How rollouts fare in other clusters.
    pub peers: &'a Peers,
}

/// What is known of that FinService.
///
/// # Errors
/// If a Secret cannot be read; one that is gone is no error.
pub async fn observe(
    client: &Client,
    index: &Mutex<Index>,
    beside: &Beside<'_>,
    key: &Key,
) -> Result<Seen, kube::Error> {
    let mut seen = {
        let index = lock(index);
        match (index.observe(key), index.parsed(key)) {
            (Some(seen), _) => seen,
            (None, Some(Parsed::Bad(unreadable))) => {
                let mut seen = index.observe_unreadable(key).map(Box::new);
                drop(index);
                seen.iter_mut().for_each(|seen| what_else(beside, key, seen));
                return Ok(Seen::Unreadable(unreadable, seen));
            }
            (None, _) => return Ok(Seen::Gone),
        }
    };
    what_else(beside, key, &mut seen);
    read_secrets(client, index, key, &mut seen).await?;
    Ok(Seen::Whole(Box::new(seen)))
}

/// Fills in what is known of its rollout beside the index.
fn what_else(beside: &Beside<'_>, key: &Key, seen: &mut Observed) {
    let Some(rollout) = &mut seen.rollout else { return };
    rollout.hear(beside.actions.said_to(TargetKind::CanaryRollout, &key_of(&rollout.object.metadata)));
    rollout.measured(beside.hub.known(key));
    rollout.peers = beside.peers.peers(key);
}

/// Fills in the digest of each Secret that the FinService reads.
async fn read_secrets(
    client: &Client,
    index: &Mutex<Index>,
    key: &Key,
    seen: &mut Observed,
) -> Result<(), kube::Error> {
    if seen.service.spec.on_secret_change == Some(OnSecretChange::Ignore) {
        return Ok(());
    }
    let api: Api<Secret> = Api::namespaced(client.clone(), &key.namespace);
    let recorded: Vec<String> = seen
        .children
        .iter()
        .filter_map(ChildState::deployment)
        .filter_map(|facts| facts.secrets.as_deref().map(str::to_owned))
        .collect();
    for (name, state) in &mut seen.secrets {
        let Some(state) = state else { continue };
        if state.digest.is_some() {
            continue;
        }
        // A Deployment may tell what its pods have read at this very version: then no request is
        // needed, as at every start of the operator.
        let known = recorded
            .iter()
            .filter_map(|text| secrets::parse(text).get(name.as_str()).copied())
            .find(|(version, _)| *version == &*state.version)
            .map(|(_, digest)| digest.to_owned());
        let secret = Key::new(&key.namespace, name);
        if let Some(digest) = known {
            lock(index).secret_read(&secret, &state.version, &digest);
            state.digest = Some(digest.into());
        } else if let Some(found) = api.get_opt(name).await? {
            let uid = found.metadata.uid.as_deref().unwrap_or_default();
            let data = found.data.iter().flatten().map(|(key, value)| (key, value.0.as_slice()));
            let digest = secrets::digest(uid, data);
            let version = found.metadata.resource_version.as_deref().unwrap_or_default();
            lock(index).secret_read(&secret, version, &digest);
            state.digest = Some(digest.into());
        }
    }
    Ok(())
}
