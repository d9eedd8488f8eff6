//! Counts the nodes of a peer, and what its pods ask of them: by pages, of which only what is needed is kept.

use jiff::Timestamp;
use kube::api::{ApiResource, ListParams, Object};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::peer_error::remote;
use super::requests::{NodeSpec, NodeStatus, PodSpec, Sum, counts, is_ready, requested};
use super::view::NodesView;
use crate::runtime::remote::{DEADLINE, RemoteError, within};

/// How many objects are asked for at once: a page of pods is some megabytes.
const PAGE: u32 = 500;
/// After so many pages it is given up: a hundred thousand pods, of as many as Kubernetes promises to bear.
const PAGES: usize = 200;

/// Nothing of a part is of interest.
#[derive(Clone, Debug, Default, Deserialize)]
struct Nothing {}

/// Counts nodes and requests.
///
/// # Errors
/// If nodes cannot be listed. Where only pods cannot be, that part is left out.
pub async fn count(client: &Client, at: Timestamp) -> Result<NodesView, RemoteError> {
    let (mut ready, mut total, mut allocatable) = (0, 0, Sum::default());
    each(client, "Node", "", |node: Object<NodeSpec, NodeStatus>| {
        total += 1;
        let status = node.status.unwrap_or_default();
        if is_ready(&node.spec, &status) {
            ready += 1;
            allocatable.add_quantities(&status.allocatable);
        }
    })
    .await?;
    let mut asked = Sum::default();
    // Pods that have ended ask for nothing any more.
    let selector = "status.phase!=Succeeded,status.phase!=Failed";
    let pods = each(client, "Pod", selector, |pod: Object<PodSpec, Nothing>| {
        if counts(&pod.spec) {
            asked.add(requested(&pod.spec));
        }
    });
    let requested = match pods.await {
        Ok(()) => Some(asked.amount()),
        Err(error) if error.is_silence() => return Err(error),
        Err(_) => None,
    };
    Ok(NodesView { ready, total, allocatable: allocatable.amount(), requested, at })
}

/// Lists all objects of a kind of the group without a name, page by page.
async fn each<Sp, St>(
    client: &Client,
    kind: &str,
    fields: &str,
    mut take: impl FnMut(Object<Sp, St>),
) -> Result<(), RemoteError>
where
    Sp: DeserializeOwned + Clone + std::fmt::Debug,
    St: DeserializeOwned + Clone + Default + std::fmt::Debug,
{
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", kind));
    let api: Api<Object<Sp, St>> = Api::all_with(client.clone(), &resource);
    let mut params = ListParams::default().limit(PAGE);
    if !fields.is_empty() {
        params = params.fields(fields);
    }
    for _ in 0..PAGES {
        let page =
            within(DEADLINE, async { api.list(&params).await.map_err(|error| remote(&error)) }).await?;
        page.items.into_iter().for_each(&mut take);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => return Ok(()),
        }
    }
    Err(RemoteError::Unreadable(format!("more than {} objects of kind {kind}", PAGES * PAGE as usize)))
}
