//! What is known of the Failovers of this site. Synchronous, without I/O.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use kube::ResourceExt;
use kube::api::DynamicObject;

use super::turn::Other;
use crate::api::failover::{MoveAction, Phase};
use crate::api::{Failover, FailoverStatus};
use crate::runtime::key::{Key, asks_the_same, is_older, missing};
use crate::runtime::raw_object;

/// A Failover as it was last read.
#[derive(Clone, Debug)]
pub enum Known {
    /// It parses.
    Good(Arc<Failover>),
    /// It does not: why.
    Bad(String),
}

impl Known {
    /// Reads an object.
    pub fn read(object: DynamicObject) -> Self {
        let DynamicObject { mut metadata, mut data, .. } = object;
        metadata.managed_fields = None;
        let status: Option<FailoverStatus> = serde_json::from_value(data["status"].take()).ok();
        match raw_object::parse("spec", &data["spec"]) {
            Ok(spec) => Self::Good(Arc::new(Failover { metadata, spec, status })),
            Err(error) => Self::Bad(error.to_string()),
        }
    }
}

/// Whether nothing more is done for it.
pub fn is_over(failover: &Failover) -> bool {
    failover.status.as_ref().and_then(|status| status.phase).is_some_and(|phase| phase.is_over())
}

/// What is known.
#[derive(Debug, Default)]
pub struct Index {
    all: BTreeMap<String, Known>,
    listed: bool,
}

impl Index {
    /// Takes in a Failover, unless a later state of it is known. Returns whether there is something to do: a status is
    /// written here alone, and is no news.
    pub fn put(&mut self, name: &str, known: Known) -> bool {
        let news = match (&known, self.all.get(name)) {
            (Known::Good(new), Some(Known::Good(old))) => {
                if is_older(&new.metadata, &old.metadata) {
                    return false;
                }
                !asks_the_same(&new.metadata, &old.metadata)
            }
            _ => true,
        };
        self.all.insert(name.to_owned(), known);
        news
    }

    /// Takes in that a Failover is gone.
    pub fn gone(&mut self, name: &str) {
        self.all.remove(name);
    }

    /// After a list: forgets those that were not in it.
    pub fn only(&mut self, seen: &HashSet<Key>) {
        self.listed = true;
        missing(self.all.keys(), seen).iter().for_each(|name| self.gone(name));
    }

    /// A Failover.
    pub fn get(&self, name: &str) -> Option<&Known> {
        self.all.get(name)
    }

    fn good(&self) -> impl Iterator<Item = &Arc<Failover>> {
        self.all.values().filter_map(|known| match known {
            Known::Good(failover) => Some(failover),
            Known::Bad(_) => None,
        })
    }

    /// Another one that moves, or rehearses, the same group: the one that has begun, else the older. A rehearsal holds no
    /// move up.
    pub fn before(&self, failover: &Failover) -> Option<String> {
        if failover.spec.action == MoveAction::Plan {
            return None;
        }
        let at = |one: &Failover| {
            let status = one.status.as_ref();
            let begun = status.is_none_or(|status| status.ballot.is_none() && status.grown.is_none());
            (begun, one.metadata.creation_timestamp.as_ref().map(|time| time.0), one.name_any())
        };
        let others = self.good().filter(|other| {
            let same = other.spec.group == failover.spec.group && other.uid() != failover.uid();
            same && other.spec.action.moves() == failover.spec.action.moves()
                && other.spec.action != MoveAction::Plan
                && !is_over(other)
        });
        others.filter(|other| at(other) < at(failover)).map(|other| other.name_any()).next()
    }

    /// The move of the same group before which a rehearsal gives way.
    pub fn gives_way(&self, failover: &Failover) -> Option<String> {
        let moves = |other: &&Arc<Failover>| {
            other.spec.group == failover.spec.group && other.spec.action.moves() && !is_over(other)
        };
        self.good().find(moves).map(|other| other.name_any()).filter(|_| !failover.spec.action.moves())
    }

    /// The moves of other groups whose group does not serve here yet, by group.
    pub fn others(&self, failover: &Failover) -> BTreeMap<String, Other> {
        let phase = |other: &Failover| other.status.as_ref().and_then(|status| status.phase);
        let others = self.good().filter(|other| {
            let serves = phase(other) == Some(Phase::Reprotecting);
            other.spec.group != failover.spec.group && other.spec.action.moves() && !is_over(other) && !serves
        });
        let of = |other: &Arc<Failover>| {
            let claimed = other.status.as_ref().is_some_and(|status| status.ballot.is_some());
            let waits = phase(other) == Some(Phase::Waiting);
            (other.spec.group.clone(), Other { name: other.name_any(), claimed, waits })
        };
        others.map(of).collect()
    }

    /// The names of those that move a group, and are not over.
    pub fn of_group(&self, group: &str) -> Vec<String> {
        let of = self.good().filter(|failover| failover.spec.group == group && !is_over(failover));
        of.map(|failover| failover.name_any()).collect()
    }

    /// UIDs of all that are not over; `None` until they have been listed, or while one cannot be read.
    pub fn at_work(&self) -> Option<BTreeSet<String>> {
        let readable = self.all.values().all(|known| matches!(known, Known::Good(_)));
        let at_work = self.good().filter(|failover| !is_over(failover));
        (self.listed && readable).then(|| at_work.filter_map(|failover| failover.uid()).collect())
    }
}
