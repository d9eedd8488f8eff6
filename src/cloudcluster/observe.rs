//! Gathers what a decision about one CloudCluster needs: from the index and the links, but for the version of this
//! cluster's own API server, which is asked for.

use std::sync::{Arc, Mutex};

use kube::Client;

use super::index::{Index, Site};
use super::links::Links;
use super::view::PeerView;
use crate::runtime::key::Key;
use crate::runtime::lock::lock;

/// All that a decision about one CloudCluster needs.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The object.
    pub site: Arc<Site>,
    /// How its API server is reached.
    pub way: Way,
}

/// How a site is reached.
#[derive(Clone, Debug)]
pub enum Way {
    /// It is the operator's own; the version of its API server.
    Own(String),
    /// It is another one; what is known of it, if there is a way to it.
    Peer(Option<PeerView>),
}

/// What is known of that CloudCluster; `None` if there is none.
///
/// # Errors
/// If this cluster's own API server does not tell its version.
pub async fn observe(
    client: &Client,
    index: &Mutex<Index>,
    links: &Links,
    own: &str,
    key: &Key,
) -> Result<Option<Observed>, kube::Error> {
    let Some(site) = lock(index).observe(&key.name) else { return Ok(None) };
    let way = match *key.name == *own {
        true => Way::Own(client.apiserver_version().await?.git_version),
        false => Way::Peer(links.view(&key.name)),
    };
    Ok(Some(Observed { site, way }))
}
