//! Reads at this moment what watches tell a moment later: before something is written that cannot be taken back.

use kube::Api;
use kube::api::ApiResource;
use serde::Deserialize;

use super::index::Own;
use super::observe::Ground;
use crate::api::AuthoritySpec;
use crate::authority::known::Known;
use crate::cloudcluster::peer_error::{PeerError, remote};
use crate::runtime::context::Context;
use crate::runtime::lock::lock;
use crate::runtime::raw_object::RawObject;
use crate::runtime::remote::{DEADLINE, RemoteError, within};

/// The Authority of a group at a peer, as an object; `None` if there is none.
///
/// # Errors
/// If the peer does not answer.
pub async fn object(
    ground: &Ground,
    namespace: &str,
    peer: &str,
    group: &str,
) -> Result<Option<RawObject>, PeerError> {
    let resource = ApiResource::erase::<crate::api::Authority>(&());
    let asked = ground.sites.ask(peer, |client| {
        let api: Api<RawObject> = Api::namespaced_with(client, namespace, &resource);
        async move { api.get_opt(group).await }
    });
    asked.await
}

/// What the Authority of a group says at a peer.
pub async fn peer(ground: &Ground, namespace: &str, peer: &str, group: &str) -> Known<Option<AuthoritySpec>> {
    match object(ground, namespace, peer, group).await {
        Ok(None) => Known::Read(None),
        Ok(Some(object)) => match AuthoritySpec::deserialize(&object.0.data["spec"]) {
            Ok(spec) => Known::Read(Some(spec)),
            Err(error) => Known::NotYet(error.to_string()),
        },
        Err(error) => Known::NotYet(error.to_string()),
    }
}

/// Reads this site's own Authority of a group into the index.
///
/// # Errors
/// If the API server does not answer.
pub async fn own(context: &Context, ground: &Ground, group: &str) -> Result<(), RemoteError> {
    let resource = ApiResource::erase::<crate::api::Authority>(&());
    let api: Api<RawObject> = Api::namespaced_with(context.client.clone(), &context.namespace, &resource);
    let read = within(DEADLINE, async { api.get_opt(group).await.map_err(|error| remote(&error)) }).await?;
    if let Some(object) = read {
        lock(&ground.index).own(group, Own::read(object.0));
    }
    Ok(())
}
