//! Standing readiness: what must be so for a failover to this site to succeed, checked all the time. Pure.
//!
//! A message stays the same while nothing happens: figures that move by themselves are metrics. What is not known is no
//! good news. docs/readiness.md explains each check.
//!
//! | file | what is checked |
//! |---|---|
//! | [`found`] | what a check looks at, and what it finds |
//! | [`sites`] | authority, ways to peers, the same group everywhere, residency, the witness |
//! | [`fence`] | whether the cloud of a source tells of its nodes |
//! | [`hooks`] | whether a move to this site could call the group's hooks |
//! | [`services`] | the set, placement, releases, what is missing here, capacity |
//! | [`stores`] | lag, ancestry, rewinding, archives, roles |
//! | [`mirrors`] | topics that MirrorMaker 2 copies to this site |
//! | [`traffic`] | the provider; the group's own checks |

pub mod fence;
pub mod found;
pub mod hooks;
pub mod mirrors;
pub mod services;
pub mod sites;
pub mod stores;
pub mod traffic;

use self::found::{Found, Looked};

/// Everything that is checked, worst first.
pub fn all(looked: &Looked<'_>) -> Vec<Found> {
    let mut found = sites::check(looked);
    found.extend(fence::check(looked));
    found.extend(services::check(looked));
    found.extend(stores::check(looked));
    found.extend(mirrors::check(looked));
    found.extend(traffic::check(looked));
    found.extend(hooks::check(looked));
    found.sort_by(|one, other| (one.state, &one.name).cmp(&(other.state, &other.name)));
    found
}
