//! What other controllers get of this one.

use std::sync::Arc;

use kube::Client;
use tokio::sync::watch::Receiver;

use super::links::Links;
use super::peer_error::PeerError;
use super::peers::Peers;
use super::sites::Sites;
use super::view::PeerView;
use crate::clouds::HasNodes;

/// The view of the sites, how rollouts fare at peers, and the link to each peer. Cheap to clone.
#[derive(Clone)]
pub struct SitesHandle {
    /// The sites; `None` until they have been read.
    pub sites: Receiver<Option<Sites>>,
    /// Rollouts of other clusters.
    pub peers: Peers,
    links: Links,
}

impl SitesHandle {
    /// One made of these.
    pub fn new(sites: Receiver<Option<Sites>>, peers: Peers, links: Links) -> Self {
        Self { sites, peers, links }
    }

    /// What is known of a peer; `None` if there is no CloudCluster of that name, or it names no way. It sends nothing.
    /// Only a process that leads asks peers: in another one everything stays unknown.
    pub fn peer(&self, name: &str) -> Option<PeerView> {
        self.links.view(name)
    }

    /// Moves whenever what [`Self::peer`] says of any peer changes.
    pub fn changes(&self) -> Receiver<u64> {
        self.links.changes()
    }

    /// A client of a peer's API server, by the way that works best now; it renews its token by itself. Take it anew for
    /// each round: another way may be better by then. It retries nothing, and waits at most five seconds for each answer
    /// to begin; put a deadline around the call all the same, or use [`Self::ask`].
    ///
    /// # Errors
    /// Why there is none: no CloudCluster, no way, no Secret, no token. A client that is there says nothing about whether
    /// the peer answers.
    pub async fn client(&self, name: &str) -> Result<Client, PeerError> {
        self.links.client(name).await
    }

    /// The cluster of a site in its cloud, to be asked for its nodes. It sends nothing yet, but reads the Secret of the way.
    ///
    /// # Errors
    /// If its CloudCluster names no cloud, or more than one cluster, or the credentials cannot be read.
    pub async fn nodes(&self, site: &str) -> Result<Arc<dyn HasNodes>, PeerError> {
        self.links.nodes(site).await
    }

    /// One call to a peer's API server, for at most five seconds.
    ///
    /// # Errors
    /// Why there is no answer, in words that stay the same while the reason does. Where
    /// [`is_silence`](PeerError::is_silence) holds, what was asked may have been done all the same: read before asking
    /// again.
    pub async fn ask<T, F>(&self, name: &str, call: impl FnOnce(Client) -> F) -> Result<T, PeerError>
    where
        F: Future<Output = kube::Result<T>>,
    {
        self.links.ask(name, call).await
    }
}
