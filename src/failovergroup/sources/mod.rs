//! Asks what no watch tells of: stores, the witness, the traffic provider and the outside. Each at its own pace, so that
//! nothing is asked more often than its answer can matter, and each by itself, so that one that is silent delays no other.
//!
//! [`group`] is what they have in common; [`servers`] says how the server of a store is reached.
//!
//! | file | who is asked | how often |
//! |---|---|---|
//! | [`stores`] | each store at each site, and the heartbeat that the holder writes | 10 s |
//! | [`witness`] | the witness | 60 s |
//! | [`traffic`] | the traffic provider | 5 min, 60 s while something is wrong |
//! | [`nodes`] | this site's nodes and pods | 60 s, while there is a group |
//! | [`pools`] | the cloud of the site with authority, where the group has `fence` | 1 h, 5 min while it cannot be asked |
//! | [`hooks`] | the servers of the group's hooks, and the Secrets for them, without authority | 5 min, 60 s while something is wrong |
//! | [`outside`] | the group's own checks | as it says, 5 min unless it says otherwise |

pub mod group;
pub mod hooks;
pub mod nodes;
pub mod outside;
pub mod pools;
pub mod servers;
pub mod stores;
pub mod traffic;
pub mod witness;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::{AbortHandle, JoinSet};

use self::group::{OfGroup, Sources};
use super::index::Asked;
use crate::api::FailoverGroupSpec;

/// Asks for every group, until the process ends.
pub async fn run(mut all: Sources) {
    let mut tasks: JoinSet<()> = JoinSet::new();
    let mut running: BTreeMap<String, (FailoverGroupSpec, Vec<AbortHandle>)> = BTreeMap::new();
    loop {
        let specs = Arc::clone(&all.specs.borrow_and_update());
        running.retain(|name, (spec, tasks)| {
            let stays = specs.get(name) == Some(spec);
            if !stays {
                tasks.iter().for_each(AbortHandle::abort);
            }
            stays
        });
        for (name, spec) in &*specs {
            running.entry(name.clone()).or_insert_with(|| {
                let of = OfGroup::new(&all, name, spec);
                // What was found for another spec says nothing of this one.
                of.found(|asked| *asked = Asked::default());
                let handles = vec![
                    tasks.spawn(stores::run(of.clone())),
                    tasks.spawn(witness::run(of.clone())),
                    tasks.spawn(traffic::run(of.clone())),
                    tasks.spawn(pools::run(of.clone())),
                    tasks.spawn(hooks::run(of.clone())),
                    tasks.spawn(outside::run(of)),
                ];
                (spec.clone(), handles)
            });
        }
        tokio::select! {
            // The sender lives as long as the controller.
            _ = all.specs.changed() => {}
            // Each ends where there is nothing to ask.
            Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
        }
    }
}
