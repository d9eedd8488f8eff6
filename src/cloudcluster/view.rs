//! What others are told of a peer. Pure.

use jiff::Timestamp;

use super::peer_error::PeerError;
use crate::api::cloudcluster::WayKind;
use crate::runtime::remote::RemoteError;

/// A peer, as it is known now.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerView {
    /// Whether its API server answers to our requests by any way; `None` until that is known.
    pub reachable: Option<bool>,
    /// Whether it was asked and has given no sign of life for half a minute by any way. A refusal is a sign of life, and
    /// a cloud that gives no token says nothing: so this can be false while nothing is reachable.
    pub silent: bool,
    /// Since when `reachable` is so.
    pub since: Timestamp,
    /// Its ways in the order of `spec.access`.
    pub ways: Vec<WayView>,
    /// Which of them is used.
    pub chosen: usize,
    /// The version of its API server, once it has told it.
    pub version: Option<String>,
    /// Its nodes, once they have been counted. They stay as they were last counted, also while nobody answers.
    pub nodes: Option<NodesView>,
    /// Why they could not be counted when that was tried last, other than that nobody answered.
    pub uncounted: Option<RemoteError>,
}

/// A way to a peer, as it is known now.
#[derive(Clone, Debug, PartialEq)]
pub struct WayView {
    /// What kind of way it is.
    pub kind: WayKind,
    /// Whether the API server answers by it; `None` until that is known.
    pub reachable: Option<bool>,
    /// Since when that is so.
    pub since: Timestamp,
    /// Why it does not; [`PeerError::NotYet`] where it does or that is not known yet.
    pub why: PeerError,
}

/// The nodes of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodesView {
    /// Nodes that are Ready and take pods.
    pub ready: usize,
    /// All nodes.
    pub total: usize,
    /// What the ready ones have for pods.
    pub allocatable: Amount,
    /// What the pods that are placed ask for; `None` where that cannot be read.
    pub requested: Option<Amount>,
    /// When they were counted.
    pub at: Timestamp,
}

/// An amount of compute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// In thousandths of a core.
    pub cpu: i64,
    /// In bytes.
    pub memory: i64,
}

impl PeerView {
    /// The way that is used.
    pub fn way(&self) -> Option<&WayView> {
        self.ways.get(self.chosen)
    }
}
