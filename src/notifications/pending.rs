//! What is to be told, in groups: of each kind and reason how many, and the first few by name. So it is bounded, whatever
//! happens. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::settings::Severity;
use crate::api::notice::Reason;

/// How many of a group are named.
pub const NAMED: usize = 5;

/// A transition that is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The kind of its object.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Why it is told.
    pub reason: Reason,
    /// One sentence. A tenant may have written a part of it.
    pub note: String,
    /// When it happened.
    pub at: Timestamp,
}

/// Transitions of one kind for one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// How many there are.
    pub count: usize,
    /// The first of them.
    pub named: Vec<Told>,
}

/// All that is to be told with the next message, warnings first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pending(BTreeMap<(bool, &'static str, String), Group>);

impl Pending {
    /// Takes in a transition.
    pub fn add(&mut self, told: Told) {
        let key = (Severity::of(told.reason) != Severity::Warning, told.reason.as_str(), told.kind.clone());
        let group = self.0.entry(key).or_default();
        group.count += 1;
        if group.named.len() < NAMED {
            group.named.push(told);
        }
    }

    /// Takes in what came after this.
    pub fn then(&mut self, later: Self) {
        for (key, Group { count, named }) in later.0 {
            let group = self.0.entry(key).or_default();
            group.count += count;
            let room = NAMED - group.named.len();
            group.named.extend(named.into_iter().take(room));
        }
    }

    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many transitions there are.
    pub fn count(&self) -> usize {
        self.0.values().map(|group| group.count).sum()
    }

    /// When the first of them happened.
    pub fn since(&self) -> Option<Timestamp> {
        self.0.values().flat_map(|group| &group.named).map(|told| told.at).min()
    }

    /// The groups, warnings first.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.0.values()
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A transition of that object.
    pub fn told(kind: &str, name: &str, reason: Reason, note: &str) -> Told {
        Told {
            kind: kind.to_owned(),
            namespace: "pay".to_owned(),
            name: name.to_owned(),
            reason,
            note: note.to_owned(),
            at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_storm_is_counted_and_the_first_few_are_named() {
        let mut pending = Pending::default();
        assert!(pending.is_empty());
        for n in 0..500 {
            pending.add(told("FinService", &n.to_string(), Reason::Stalled, "no node"));
        }
        pending.add(told("FinService", "a", Reason::RevisionPromoted, "1.1"));
        let mut later = Pending::default();
        later.add(told("FinService", "b", Reason::Stalled, "no node"));
        later.add(told("Failover", "move", Reason::NotMoved, "given up"));
        pending.then(later);
        assert_eq!(pending.count(), 503);
        let groups: Vec<(usize, usize, &str)> = pending
            .groups()
            .map(|group| (group.count, group.named.len(), group.named[0].reason.as_str()))
            .collect();
        assert_eq!(groups, [(1, 1, "NotMoved"), (501, NAMED, "Stalled"), (1, 1, "RevisionPromoted")]);
    }
}
