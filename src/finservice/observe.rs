//! Gathers what decisions about one FinService need. All of it comes from the index, without a
//! request, but for the contents of a Secret that has changed.

use std::sync::Mutex;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use super::index::child::ChildState;
use super::index::{Index, Key, Observed};
use super::{lock, secrets};
use crate::api::finservice::OnSecretChange;

/// What is known of that FinService, with the digest of each Secret that it reads. `None` if there is
/// none that parses.
///
/// # Errors
/// If a Secret cannot be read; one that is gone is no error.
pub async fn observe(
    client: &Client,
    index: &Mutex<Index>,
    key: &Key,
) -> Result<Option<Observed>, kube::Error> {
    let Some(mut seen) = lock(index).observe(key) else { return Ok(None) };
    if seen.service.spec.on_secret_change == Some(OnSecretChange::Ignore) {
        return Ok(Some(seen));
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
    Ok(Some(seen))
}
