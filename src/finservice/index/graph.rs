//! Call cycles: services that call each other in a ring, so that one slow member stalls them all.

use std::collections::{BTreeMap, BTreeSet};

use super::holders::in_order;
use crate::api::{FinService, FinServiceSpec};
use crate::runtime::key::Key;

/// Who calls whom, as `access` of all FinServices says.
#[derive(Debug, Default)]
pub struct CallGraph {
    /// What each FinService says: edges (caller, callee), in order.
    said: BTreeMap<Key, Box<[(Key, Key)]>>,
}

impl CallGraph {
    /// Takes in what a FinService says; `None` forgets it. Returns whether anything changed.
    pub fn update(&mut self, key: &Key, service: Option<&FinService>) -> bool {
        let edges = service.map(|service| edges(key, service)).unwrap_or_default();
        if edges.is_empty() {
            self.said.remove(key).is_some()
        } else if self.said.get(key) == Some(&edges) {
            false
        } else {
            self.said.insert(key.clone(), edges);
            true
        }
    }

    /// One shortest cycle through each member of a cycle, beginning and ending with that member.
    pub fn cycles(&self) -> BTreeMap<Key, Vec<Key>> {
        let mut calls: BTreeMap<&Key, BTreeSet<&Key>> = BTreeMap::new();
        for (caller, callee) in self.said.values().flat_map(|edges| edges.iter()) {
            calls.entry(caller).or_default().insert(callee);
        }
        let mut cycles = BTreeMap::new();
        for component in components(&calls) {
            for member in &component {
                if let Some(path) = shortest_cycle(member, &calls, &component) {
                    cycles.insert((*member).clone(), path.into_iter().cloned().collect());
                }
            }
        }
        cycles
    }
}

/// The FinServices that `access` lets call this one.
pub(super) fn callers<'a>(key: &'a Key, spec: &'a FinServiceSpec) -> impl Iterator<Item = Key> + 'a {
    let peers = spec.access.iter().flat_map(|access| access.inbound.iter().flatten());
    peers.filter_map(|peer| Some(named(key, peer.service.as_deref()?, &peer.namespace)))
}

/// The FinServices that this one calls, as `access` says.
pub(super) fn callees<'a>(key: &'a Key, spec: &'a FinServiceSpec) -> impl Iterator<Item = Key> + 'a {
    let outbound = spec.access.iter().flat_map(|access| &access.outbound);
    let services = outbound.flat_map(|outbound| outbound.services.iter().flatten());
    services.map(|callee| named(key, &callee.service, &callee.namespace))
}

fn named(own: &Key, name: &str, namespace: &Option<String>) -> Key {
    Key::new(namespace.as_deref().unwrap_or(&own.namespace), name)
}

fn edges(key: &Key, service: &FinService) -> Box<[(Key, Key)]> {
    let callers = callers(key, &service.spec).map(|caller| (caller, key.clone()));
    let callees = callees(key, &service.spec).map(|callee| (key.clone(), callee));
    in_order(callers.chain(callees))
}

/// Strongly connected components that hold a cycle (Tarjan 1972, with a stack of our own: a chain
/// of 10 000 services must not overflow the thread's).
fn components<'a>(calls: &BTreeMap<&'a Key, BTreeSet<&'a Key>>) -> Vec<BTreeSet<&'a Key>> {
    #[derive(Clone, Copy)]
    struct Mark {
        index: usize,
        low: usize,
        on_stack: bool,
    }
    let none = BTreeSet::new();
    let mut marks: BTreeMap<&Key, Mark> = BTreeMap::new();
    let mut stack: Vec<&Key> = Vec::new();
    let mut found = Vec::new();
    for root in calls.keys().copied() {
        if marks.contains_key(root) {
            continue;
        }
        let enter = |key: &'a Key, marks: &mut BTreeMap<&'a Key, Mark>, stack: &mut Vec<&'a Key>| {
            let index = marks.len();
            marks.insert(key, Mark { index, low: index, on_stack: true });
            stack.push(key);
        };
        enter(root, &mut marks, &mut stack);
        let mut work = vec![(root, calls.get(root).unwrap_or(&none).iter())];
        while let Some((key, next)) = work.last_mut() {
            let key = *key;
            if let Some(callee) = next.next().copied() {
                match marks.get(callee).copied() {
                    None => {
                        enter(callee, &mut marks, &mut stack);
                        work.push((callee, calls.get(callee).unwrap_or(&none).iter()));
                    }
                    Some(mark) if mark.on_stack => lower(&mut marks, key, mark.index),
                    Some(_) => {}
                }
                continue;
            }
            work.pop();
            let mark = marks[key];
            if let Some((caller, _)) = work.last() {
                lower(&mut marks, caller, mark.low);
            }
            if mark.low == mark.index {
                let mut component = BTreeSet::new();
                while let Some(member) = stack.pop() {
                    if let Some(mark) = marks.get_mut(member) {
                        mark.on_stack = false;
                    }
                    component.insert(member);
                    if member == key {
                        break;
                    }
                }
                let calls_itself = calls.get(key).is_some_and(|callees| callees.contains(key));
                if component.len() > 1 || calls_itself {
                    found.push(component);
                }
            }
        }
    }
    return found;

    fn lower<'a>(marks: &mut BTreeMap<&'a Key, Mark>, key: &'a Key, low: usize) {
        if let Some(mark) = marks.get_mut(key) {
            mark.low = mark.low.min(low);
        }
    }
}

fn shortest_cycle<'a>(
    start: &'a Key,
    calls: &BTreeMap<&'a Key, BTreeSet<&'a Key>>,
    within: &BTreeSet<&'a Key>,
) -> Option<Vec<&'a Key>> {
    let mut came_from: BTreeMap<&Key, &Key> = BTreeMap::new();
    let mut front = vec![start];
    while !front.is_empty() {
        let mut next = Vec::new();
        for caller in front {
            for callee in calls.get(caller)?.iter().copied().filter(|callee| within.contains(callee)) {
                if callee == start {
                    let mut path = vec![start];
                    let mut at = caller;
                    while at != start {
                        path.push(at);
                        at = came_from.get(at)?;
                    }
                    path.push(start);
                    path.reverse();
                    return Some(path);
                }
                if !came_from.contains_key(callee) {
                    came_from.insert(callee, caller);
                    next.push(callee);
                }
            }
        }
        front = next;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &str)]) -> CallGraph {
        let key = |name: &str| Key::new("a", name);
        let mut said = BTreeMap::<Key, Vec<_>>::new();
        for (caller, callee) in edges {
            said.entry(key(caller)).or_default().push((key(caller), key(callee)));
        }
        CallGraph { said: said.into_iter().map(|(key, edges)| (key, edges.into())).collect() }
    }

    fn names(graph: &CallGraph) -> Vec<String> {
        let path = |keys: &Vec<Key>| keys.iter().map(|k| &*k.name).collect::<Vec<_>>().join(" → ");
        graph.cycles().values().map(path).collect()
    }

    #[test]
    fn a_ring_is_found_from_each_of_its_members() {
        let ring = graph(&[
            ("gateway", "fraud"),
            ("fraud", "account"),
            ("account", "notification"),
            ("notification", "fraud"),
        ]);
        assert_eq!(
            names(&ring),
            [
                "account → notification → fraud → account",
                "fraud → account → notification → fraud",
                "notification → fraud → account → notification"
            ]
        );
    }

    #[test]
    fn a_chain_is_no_ring_however_long() {
        let mut graph = CallGraph::default();
        for i in 0..20_000 {
            let (caller, callee) = (Key::new("a", &format!("s{i}")), Key::new("a", &format!("s{}", i + 1)));
            graph.said.insert(caller.clone(), [(caller, callee)].into());
        }
        assert!(graph.cycles().is_empty());
    }

    #[test]
    fn calling_oneself_is_a_ring() {
        assert_eq!(names(&graph(&[("a", "a"), ("a", "b")])), ["a → a"]);
    }
}
