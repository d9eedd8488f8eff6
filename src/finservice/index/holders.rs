//! Who names which thing as its own, where only one can have it: the first of them.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};

use crate::runtime::key::Key;

/// Each once, in order, in no more room than they need: a set of the standard library takes that of eleven for one.
pub(super) fn in_order<T: Ord>(things: impl Iterator<Item = T>) -> Box<[T]> {
    things.collect::<BTreeSet<T>>().into_iter().collect()
}

/// The FinServices that name each thing, by their rank: the least comes first, of equals the one whose name does.
#[derive(Debug)]
pub(super) struct Holders<T, R>(BTreeMap<T, Vec<(R, Key)>>);

impl<T, R> Default for Holders<T, R> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Ord, R: Ord> Holders<T, R> {
    /// From here on `key` names these. Adds to `concerned` the others that name one of them.
    pub(super) fn add(
        &mut self,
        key: &Key,
        things: impl Iterator<Item = (T, R)>,
        concerned: &mut BTreeSet<Key>,
    ) {
        for (thing, rank) in things {
            concerned.extend(others(self.0.get(&thing).into_iter().flatten(), key));
            self.put(key, thing, rank);
        }
    }

    /// The same of one, where who else names it is no matter: of what ten thousand name, that would be a list of ten thousand
    /// for each of them.
    pub(super) fn put(&mut self, key: &Key, thing: T, rank: R) {
        let holders = self.0.entry(thing).or_default();
        let holder = (rank, key.clone());
        if let Err(place) = holders.binary_search(&holder) {
            if holders.is_empty() {
                // And so it mostly stays.
                holders.reserve_exact(1);
            }
            holders.insert(place, holder);
        }
    }

    /// `key` names these no longer. Adds to `concerned` the others that name one of them.
    pub(super) fn remove(
        &mut self,
        key: &Key,
        things: impl Iterator<Item = (T, R)>,
        concerned: &mut BTreeSet<Key>,
    ) {
        for (thing, rank) in things {
            self.take(key, &thing, rank);
            concerned.extend(others(self.0.get(&thing).into_iter().flatten(), key));
        }
    }

    /// The same of one, where who else names it is no matter.
    pub(super) fn take(&mut self, key: &Key, thing: &T, rank: R) {
        let Some(holders) = self.0.get_mut(thing) else { return };
        if let Ok(place) = holders.binary_search(&(rank, key.clone())) {
            holders.remove(place);
        }
        if holders.is_empty() {
            self.0.remove(thing);
        }
    }

    /// Things that are named, from one of them on.
    pub(super) fn from<'a>(&'a self, thing: &T) -> impl Iterator<Item = &'a T> + use<'a, T, R> {
        self.0.range(thing..).map(|(thing, _)| thing)
    }

    /// Those that name a thing, in their order.
    pub(super) fn of<'a, Q>(&'a self, thing: &Q) -> impl Iterator<Item = &'a Key> + use<'a, T, R, Q>
    where
        T: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.0.get(thing).into_iter().flatten().map(|(_, key)| key)
    }
}

fn others<'a, R: 'a>(holders: impl Iterator<Item = &'a (R, Key)>, key: &Key) -> impl Iterator<Item = Key> {
    holders.filter(move |(_, holder)| holder != key).map(|(_, holder)| holder.clone())
}
