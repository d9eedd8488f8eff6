//! Whose turn it is where several groups move. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::view::Held;

/// How many groups move at once, from their claims until all is open: each brings its services to full size, and the nodes
/// of a site come by and by.
pub const AT_ONCE: usize = 8;

/// Another move of this site that is not over, and whose group does not serve here yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// The name of the order.
    pub name: String,
    /// Whether it has claimed.
    pub claimed: bool,
    /// Whether it waits for a person.
    pub waits: bool,
}

/// Why it is not yet the turn of a group. `others` are the other moves, by group; `after` says which groups go before one.
pub fn waits_for(
    group: &str,
    others: &BTreeMap<String, Other>,
    after: impl Fn(&str) -> Vec<String>,
) -> Option<Held> {
    let first = after(group).into_iter().find(|before| {
        // Where two come after each other, nobody is waited for: there is no order in a circle.
        others.contains_key(before) && !comes_after(before, group, &after)
    });
    if let Some(other) = first.and_then(|before| others.get_key_value(&before)) {
        let (before, Other { name, waits, .. }) = other;
        let state = if *waits { "which waits for a person" } else { "which is on its way" };
        return Some(Held {
            message: format!("group {before} moves first (spec.after), by Failover {name}, {state}"),
            remedy: format!("see `kubectl banyan failover status {name}`"),
        });
    }
    let at_work = others.values().filter(|other| other.claimed && !other.waits).count();
    (at_work >= AT_ONCE).then(|| Held {
        message: format!("{at_work} groups are on their way to this site, and no more move at once"),
        remedy: "wait, or see `kubectl banyan failover status` for one that hangs".to_owned(),
    })
}

/// Whether a group comes after another one, directly or by others.
fn comes_after(group: &str, other: &str, after: &impl Fn(&str) -> Vec<String>) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![group.to_owned()];
    while let Some(next) = open.pop() {
        for before in after(&next) {
            if before == other {
                return true;
            }
            if seen.insert(before.clone()) {
                open.push(before);
            }
        }
    }
    false
}

/// Groups in the order in which they are to be ordered: none before one that moves first.
pub fn sorted(groups: &BTreeSet<String>, after: impl Fn(&str) -> Vec<String>) -> Vec<String> {
    let mut left = groups.clone();
    let mut all = Vec::new();
    while !left.is_empty() {
        let free = |group: &&String| {
            !after(group).iter().any(|before| left.contains(before) && !comes_after(before, group, &after))
        };
        let next = left.iter().find(free).or_else(|| left.first()).cloned();
        let Some(next) = next else { break };
        left.remove(&next);
        all.push(next);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn other(name: &str, claimed: bool, waits: bool) -> Other {
        Other { name: name.to_owned(), claimed, waits }
    }

    fn after<'a>(pairs: &'a [(&'a str, &'a [&'a str])]) -> impl Fn(&str) -> Vec<String> + 'a {
        move |group| {
            let found = pairs.iter().find(|(name, _)| *name == group).map(|(_, after)| *after);
            found.unwrap_or_default().iter().map(|name| (*name).to_owned()).collect()
        }
    }

    #[test]
    fn a_group_waits_for_those_before_it_that_move_too() {
        let order = after(&[("payments", &["edge", "ledger"]), ("ledger", &["edge"])]);
        let moving = |names: &[&str]| {
            names
                .iter()
                .map(|name| ((*name).to_owned(), other(name, true, false)))
                .collect::<BTreeMap<_, _>>()
        };
        assert!(waits_for("payments", &moving(&[]), &order).is_none());
        assert!(waits_for("edge", &moving(&["payments", "ledger"]), &order).is_none());
        let held = waits_for("payments", &moving(&["ledger"]), &order).expect("it waits");
        assert!(held.message.starts_with("group ledger moves first"), "{}", held.message);
        assert!(waits_for("ledger", &moving(&["payments"]), &order).is_none());
    }

    #[test]
    fn nobody_is_waited_for_in_a_circle() {
        let order = after(&[("a", &["b"]), ("b", &["c"]), ("c", &["a"])]);
        let moving = BTreeMap::from([("b".to_owned(), other("b", false, false))]);
        assert!(waits_for("a", &moving, &order).is_none());
        let all = BTreeSet::from(["a".to_owned(), "b".to_owned(), "c".to_owned()]);
        assert_eq!(sorted(&all, &order).len(), 3);
    }

    #[test]
    fn no_more_than_so_many_move_at_once_and_who_waits_for_a_person_holds_nobody() {
        let order = after(&[]);
        let moving = |waits: bool| {
            let all = (0..AT_ONCE).map(|n| (format!("g{n}"), other("m", true, waits)));
            all.collect::<BTreeMap<_, _>>()
        };
        assert!(waits_for("x", &moving(false), &order).is_some());
        assert!(waits_for("x", &moving(true), &order).is_none());
    }

    #[test]
    fn groups_are_ordered_as_they_come_after_each_other() {
        let order = after(&[("a", &["z"]), ("m", &["a"])]);
        let all = ["m", "a", "z", "b"].map(str::to_owned).into_iter().collect();
        assert_eq!(sorted(&all, &order), ["b", "z", "a", "m"]);
    }
}
