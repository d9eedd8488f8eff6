//! What a live route says: its mark and its weights, read back from the object.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::Kind;
use crate::api::labels::MARK_ANNOTATION;

/// What ends the full name in the cluster's DNS of a Service.
const CLUSTER: &str = ".svc.cluster.local";

/// What a live route, or the plain Service, says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The mark, as it stands in the annotation.
    pub mark: Option<Box<str>>,
    /// How the rules share requests by chance, each way once, in the order of the rules: names of Services
    /// (hosts, where they are outside of the cluster) and their shares in percent. Rules for requests that
    /// are chosen are left out.
    pub shares: Vec<Vec<(Box<str>, u8)>>,
    /// Whether some controller that says how far it has read the route has not read its newest state: its proxies still
    /// follow an older one. Not every controller says so.
    pub behind: bool,
    /// What its gateway says against its newest state, in its own words.
    pub refused: Option<Box<str>>,
    /// Since when the route is there without a gateway that has said anything of it; `None` once one has, and for kinds of
    /// which nobody need say anything.
    pub unclaimed_since: Option<Timestamp>,
}

impl Observed {
    /// Whether a rule for requests that are shared by chance names a Service, be it at zero.
    pub fn names(&self, service: &str) -> bool {
        self.shares.iter().flatten().any(|(name, _)| **name == *service)
    }

    /// The share in percent that a Service has beside another, such as the canary's beside stable's or beside
    /// the legacy backend's: zero where only the other one has any; `None` where no rule names either.
    ///
    /// The legacy backend's paths are shared in another way than the rest, so that the share of a Service
    /// alone means nothing.
    pub fn share(&self, service: &str, beside: &str) -> Option<u8> {
        let names = |shares: &&Vec<(Box<str>, u8)>| {
            shares.iter().any(|(name, _)| **name == *service || **name == *beside)
        };
        let shares = self.shares.iter().find(names)?;
        Some(shares.iter().find(|(name, _)| **name == *service).map_or(0, |(_, share)| *share))
    }
}

/// Reads a VirtualService, an HTTPRoute or a Service: `object` is what it holds beside its metadata. `None`
/// for other kinds, and for a Service without a mark.
pub fn observed(
    kind: Kind,
    object: &Value,
    annotations: Option<&BTreeMap<String, String>>,
) -> Option<Observed> {
    let mark = annotations.and_then(|all| all.get(MARK_ANNOTATION)).map(|mark| mark.as_str().into());
    let (rules, destinations): (&[&str], &str) = match kind {
        Kind::VirtualService => (&["http", "tcp"], "route"),
        Kind::HTTPRoute => (&["rules"], "backendRefs"),
        Kind::Service => {
            mark.as_ref()?;
            return Some(Observed { mark, ..Observed::default() });
        }
        _ => return None,
    };
    let mut shares: Vec<Vec<(Box<str>, u8)>> = Vec::new();
    for rule in rules.iter().filter_map(|rules| object["spec"][rules].as_array()).flatten() {
        let read = by_chance(rule[destinations].as_array().map_or(&[], Vec::as_slice));
        if !read.is_empty() && !shares.contains(&read) {
            shares.push(read);
        }
    }
    Some(Observed { mark, shares, ..Observed::default() })
}

/// Whether somebody who says how far they have read a route has not read this generation of it: of an HTTPRoute each
/// parent, of a VirtualService Istio, where it is told to (`PILOT_ENABLE_STATUS`).
pub fn is_behind(object: &Value, generation: i64) -> bool {
    let status = &object["status"];
    let generation_of = |said: &Value| said["observedGeneration"].as_i64();
    let parents = status["parents"].as_array().into_iter().flatten();
    // What a controller that is gone has left there would stand for ever.
    let named = |parent: &&Value| {
        let refs = object["spec"]["parentRefs"].as_array().into_iter().flatten();
        refs.into_iter().any(|named| named["name"] == parent["parentRef"]["name"])
    };
    // There is an entry for each controller too: whoever served the parent before may have left its own.
    let mut newest: BTreeMap<[&str; 2], i64> = BTreeMap::new();
    for parent in parents.filter(named) {
        let read = parent["conditions"].as_array().into_iter().flatten().filter_map(generation_of).max();
        let Some(read) = read else { continue };
        let reference =
            ["name", "sectionName"].map(|field| parent["parentRef"][field].as_str().unwrap_or_default());
        let newest = newest.entry(reference).or_insert(read);
        *newest = read.max(*newest);
    }
    newest.into_values().chain(generation_of(status)).any(|read| read < generation)
}

/// What a gateway says against this generation of an HTTPRoute: that it does not accept it, or finds no backend.
pub fn refusal(object: &Value, generation: i64) -> Option<String> {
    let parents = object["status"]["parents"].as_array().into_iter().flatten();
    let conditions = parents.flat_map(|parent| parent["conditions"].as_array().into_iter().flatten());
    let mut bad = conditions.filter(|condition| {
        let newest = condition["observedGeneration"].as_i64().is_none_or(|read| read == generation);
        let kind = condition["type"].as_str().unwrap_or_default();
        newest && ["Accepted", "ResolvedRefs"].contains(&kind) && condition["status"] == "False"
    });
    let bad = bad.next()?;
    let [kind, reason, message] =
        ["type", "reason", "message"].map(|field| bad[field].as_str().unwrap_or_default());
    Some(format!("{kind} is False ({reason}): {message}"))
}

/// Whether no gateway has said anything of an HTTPRoute.
pub fn is_unclaimed(object: &Value) -> bool {
    object["status"]["parents"].as_array().is_none_or(Vec::is_empty)
}

/// Names and shares of the destinations of a rule; none if it is for requests that are chosen.
fn by_chance(destinations: &[Value]) -> Vec<(Box<str>, u8)> {
    let all: Vec<(&str, u64)> = destinations.iter().filter_map(named).collect();
    let sum: u64 = all.iter().fold(0, |sum, (_, weight)| sum.saturating_add(*weight));
    if sum == 0 || all.iter().all(|(name, _)| is_direct(name)) {
        return Vec::new();
    }
    // Whoever else writes them may write proportions that do not add up to 100.
    let share = |weight: u64| u8::try_from(weight.saturating_mul(100).saturating_add(sum / 2) / sum);
    all.into_iter().map(|(name, weight)| (name.into(), share(weight).unwrap_or(100))).collect()
}

/// Name and weight of a destination.
fn named(destination: &Value) -> Option<(&str, u64)> {
    let name = destination["destination"]["host"].as_str().or(destination["name"].as_str())?;
    let name = name.strip_suffix(CLUSTER).and_then(|name| name.split('.').next()).unwrap_or(name);
    // Istio's default for a destination that stands alone; Gateway API's for any.
    Some((name, destination["weight"].as_u64().unwrap_or(1)))
}

/// Whether a Service is a direct one: `<service>-<hash>-direct`, in the letters of hashes.
fn is_direct(name: &str) -> bool {
    let Some(hash) = name.strip_suffix("-direct").and_then(|name| name.rsplit('-').next()) else {
        return false;
    };
    hash.len() == 10 && hash.bytes().all(|letter| matches!(letter, b'b'..=b'z' | b'2'..=b'9'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_route_that_its_gateway_has_not_read_is_told() {
        let said = |generation: i64| json!([{"type": "Accepted", "observedGeneration": generation}, {"type": "Other"}]);
        let parent =
            |name: &str, generation| json!({"parentRef": {"name": name}, "conditions": said(generation)});
        let route =
            |parents: Value| json!({"spec": {"parentRefs": [{"name": "a"}]}, "status": {"parents": parents}});
        assert!(!is_behind(&route(json!([parent("a", 7)])), 7));
        assert!(is_behind(&route(json!([parent("a", 6)])), 7));
        assert!(
            !is_behind(&route(json!([parent("gone", 6), parent("a", 7)])), 7),
            "it is no parent any more"
        );
        let by = |controller: &str, generation: i64| {
            let mut parent = parent("a", generation);
            parent["controllerName"] = json!(controller);
            parent
        };
        let moved = json!([by("example.org/before", 6), by("example.org/now", 7)]);
        assert!(!is_behind(&route(moved), 7), "the Gateway has another controller by now");
        assert!(!is_behind(&route(json!([])), 7), "nobody says how far it has been read");
        assert!(!is_behind(&json!({"spec": {}}), 7));
        assert!(is_behind(&json!({"status": {"observedGeneration": 2}}), 3), "a VirtualService");
    }

    #[test]
    fn weights_are_read_whoever_wrote_them() {
        let route = json!({"spec": {"rules": [
            {"backendRefs": [{"name": "a-direct", "weight": 3}, {"name": "b", "weight": 1}, {"name": "c", "weight": 0}]},
            {"backendRefs": [{"name": "b"}]},
            {"backendRefs": [{"name": "b"}]},
            {"backendRefs": [{"name": "b", "weight": 0}]},
            {"filters": []},
        ]}});
        let seen = observed(Kind::HTTPRoute, &route, None).expect("a route");
        let named = |name: &str, share| (Box::from(name), share);
        assert_eq!(
            seen.shares,
            [vec![named("a-direct", 75), named("b", 25), named("c", 0)], vec![named("b", 100)]]
        );
    }

    #[test]
    fn nonsense_is_read_as_nothing() {
        for route in [
            json!(null),
            json!({"spec": 1}),
            json!({"spec": {"http": {}}}),
            json!({"spec": {"http": [1, {"route": [{"destination": 2, "weight": -1}]}]}}),
        ] {
            assert_eq!(observed(Kind::VirtualService, &route, None), Some(Observed::default()), "{route}");
        }
        let huge = json!({"spec": {"tcp": [{"route": [
            {"destination": {"host": "a"}, "weight": u64::MAX}, {"destination": {"host": "b"}, "weight": u64::MAX},
        ]}]}});
        assert!(observed(Kind::VirtualService, &huge, None).is_some());
    }

    #[test]
    fn only_routes_and_marked_services_are_read() {
        let marked = BTreeMap::from([(MARK_ANNOTATION.to_owned(), "1 a b 0 settled".to_owned())]);
        assert_eq!(observed(Kind::Deployment, &json!({}), Some(&marked)), None);
        assert_eq!(observed(Kind::Service, &json!({}), None), None);
        let seen = observed(Kind::Service, &json!({}), Some(&marked)).expect("a mark");
        assert_eq!((seen.mark.as_deref(), seen.shares), (Some("1 a b 0 settled"), vec![]));
    }

    #[test]
    fn direct_services_are_told_by_the_letters_of_hashes() {
        assert!(is_direct("transaction-bcdfghjklm-direct"));
        assert!(!is_direct("monolith-direct"));
        assert!(!is_direct("transaction-bcdfghjklm"));
        assert!(!is_direct("direct"));
    }

    #[test]
    fn a_gateways_refusal_is_of_the_newest_state_alone() {
        let route = |kind: &str, status: &str, generation: i64| {
            let condition = json!({"type": kind, "status": status, "reason": "R", "message": "m", "observedGeneration": generation});
            json!({"status": {"parents": [{"conditions": [condition]}]}})
        };
        assert_eq!(refusal(&route("Accepted", "False", 2), 2).as_deref(), Some("Accepted is False (R): m"));
        assert_eq!(
            refusal(&route("ResolvedRefs", "False", 2), 2).as_deref(),
            Some("ResolvedRefs is False (R): m")
        );
        assert_eq!(refusal(&route("Accepted", "False", 1), 2), None, "it may have been put right");
        assert_eq!(refusal(&route("Accepted", "True", 2), 2), None);
        assert_eq!(refusal(&route("Programmed", "False", 2), 2), None);
        assert!(is_unclaimed(&json!({})) && !is_unclaimed(&route("Accepted", "True", 1)));
    }
}
