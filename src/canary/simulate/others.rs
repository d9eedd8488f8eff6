//! What gates and other clusters say in a story.

use super::story::{GateState, PeerState};
use super::world::{World, at};
use crate::canary::facts::{Fares, Peer};
use crate::judge::GateAnswer;
use crate::signals::GateReply;

impl World {
    pub(super) fn answers(&self) -> Vec<GateAnswer> {
        let asked = self.policy.gates.iter().enumerate();
        let answers = asked.filter_map(|(gate, policy)| {
            let answer = match self.gates.get(&policy.at)? {
                GateState::Open => GateReply::Yes,
                GateState::Closed => GateReply::No("no".to_owned()),
                GateState::Silent => GateReply::Nobody("connection refused".to_owned()),
            };
            Some(GateAnswer { gate, answer })
        });
        answers.collect()
    }

    pub(super) fn fares(&self) -> Vec<Peer> {
        let peers = self.peers.iter().map(|(cluster, (state, since))| Peer {
            cluster: cluster.clone(),
            fares: match state {
                PeerState::Promoted => Fares::Promoted(at(*since)),
                PeerState::RolledBack => Fares::RolledBack("error-rate: the canary is worse".to_owned()),
                PeerState::Running => Fares::Running,
                PeerState::Unreachable => Fares::Unreachable("timed out after 5s".to_owned()),
            },
        });
        peers.collect()
    }
}
