//! Which way the mirrors of a group copy: to where nobody may write, and never in a circle. Pure.

use super::observe::Observed;
use crate::api::FailoverGroupSpec;
use crate::api::authority::{AuthoritySpec, AuthorityState};
use crate::api::store::{KafkaMirror, MirrorPolicy};
use crate::authority::decide::Decision as Authority;
use crate::stores::kafka::Copying;

/// The mirror of this site is to be let on, or stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steer {
    /// The store.
    pub store: String,
    /// Whether it is to copy to this site.
    pub copies: bool,
    /// The epoch for which.
    pub epoch: i64,
}

/// What is to be done with the mirrors of this site, by what was read of them last: none copies to the site that has authority,
/// and each copies to one that stands by. Where every site has authority, all copy as they do.
pub fn owed(seen: &Observed, spec: &FailoverGroupSpec, authority: &Authority) -> Vec<Steer> {
    let Some(own) = authority.own(&seen.knowledge) else { return Vec::new() };
    let copies = match authority.state {
        AuthorityState::Held => false,
        AuthorityState::Standby => true,
        AuthorityState::Unclaimed | AuthorityState::Lost => return Vec::new(),
    };
    if own.epoch == 0 || spec.is_active_everywhere() {
        return Vec::new();
    }
    let mirrors = spec.stores().iter().filter_map(|store| Some((&store.name, store.kafka_mirror.as_ref()?)));
    let differs = mirrors.filter(|(name, _)| {
        let read = seen.asked.mirrors.get(*name).and_then(|read| read.as_ref().ok());
        // One that cannot be told from others is a readiness check.
        read.filter(|read| read.mirroring.source.is_some())
            .is_some_and(|read| (read.mirroring.asked == Copying::Running) != copies)
    });
    let may = differs.filter(|(name, mirror)| !copies || would_go_round(seen, own, name, mirror).is_none());
    may.map(|(name, _)| Steer { store: name.clone(), copies, epoch: own.epoch }).collect()
}

/// The site whose own mirror of that store still copies, as far as is known, so that records would be sent to and fro without an
/// end. Topics that have the name of their source before them are recognised by MirrorMaker itself.
pub fn would_go_round(
    seen: &Observed,
    own: &AuthoritySpec,
    store: &str,
    mirror: &KafkaMirror,
) -> Option<String> {
    if mirror.policy.unwrap_or_default() == MirrorPolicy::Default {
        return None;
    }
    let stopped = |holder: &str| {
        let there = seen.peers.iter().find(|peer| peer.name == holder).and_then(|peer| peer.intake.as_ref());
        there.is_some_and(|there| there.epoch == own.epoch && there.stopped.iter().any(|one| one == store))
    };
    own.holders.iter().find(|holder| !stopped(holder)).cloned()
}
