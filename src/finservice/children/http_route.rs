//! Gateway API's HTTPRoutes.
//!
//! Of the rules that match a request the one with the longest path wins, then the one with the most headers,
//! then the first. So rules for what a rollout chooses name all paths again, and stand first.

use serde_json::{Value, json};

use super::json::{list, object};
use super::rollout_route::{self, Chosen, Criterion, Kept, Pattern};
use super::routing::{Away, Routing, legacy_service, residual_port, split_paths};
use super::{Child, Kind, Scope, fresh};
use crate::api::finservice::Traffic;
use crate::api::units;
use crate::authority::residual::{self, ANSWER_HERE};
use crate::canary::facts::Destination;

/// Most matches of one rule, by the definition of HTTPRoutes.
const MATCHES_OF_RULE: usize = 64;

/// One HTTPRoute for each group of hosts of the ingress, from the gateway to the revisions' own
/// Services by weight, and one for the preview of a rollout. A legacy backend that is no Service is left out (see
/// [`legacy_service`]); one in another namespace needs a ReferenceGrant there.
pub fn build(scope: &Scope, routing: &Routing) -> Vec<Child> {
    if scope.spec.traffic() == Traffic::Pulled {
        return Vec::new();
    }
    let groups = routing.groups(scope);
    let mut children: Vec<Child> = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        // A dot keeps these names apart from those of all FinServices, which are DNS labels.
        let name = match index {
            0 => scope.name.to_owned(),
            _ => format!("{}.{}", scope.name, index + 1),
        };
        let rules = rules(scope, routing, &group.paths, group.away).map(|rules| match group.away {
            Away::Led => led_away(scope, &group.paths, rules),
            Away::Named | Away::Never => rules,
        });
        children.extend(rules.and_then(|rules| route(scope, name, json!(group.hosts), rules)));
    }
    children.extend(preview(scope, routing));
    children
}

/// A route from the gateway of the ingress; none without rules.
fn route(scope: &Scope, name: String, hosts: Value, rules: Vec<Value>) -> Option<Child> {
    let (namespace, gateway) = scope.spec.ingress.as_ref()?.gateway_in(scope.namespace);
    let spec = json!({
        "parentRefs": [{
            "group": "gateway.networking.k8s.io",
            "kind": "Gateway",
            "namespace": namespace,
            "name": gateway,
        }],
        "hostnames": hosts,
        "rules": list(rules)?,
    });
    Some(scope.child(Kind::HTTPRoute, name, None, json!({"spec": spec})))
}

/// The rules for hosts with these paths.
fn rules(scope: &Scope, routing: &Routing, paths: &[String], away: Away) -> Option<Vec<Value>> {
    let port = &scope.ingress_port()?.name;
    let (shared, rest) = split_paths(scope, paths);
    let all: Vec<String> = shared.iter().chain(&rest).cloned().collect();
    let (mut kept_rules, mut by_weight) = (Vec::new(), Vec::new());
    for (paths, legacy) in [(shared, true), (rest, false)] {
        // A backend that cannot be named must not keep its share: those requests would fail.
        let legacy = legacy && matches!(legacy_service(scope), Ok(Some(_)));
        let shares = routing.shares(legacy);
        if paths.is_empty() || shares.is_empty() {
            continue;
        }
        let kept = Kept::of(routing.weights, &shares);
        for chosen in kept.iter().flat_map(Kept::chosen) {
            kept_rules.extend(chosen_rules(scope, routing, &paths, &chosen, port)?);
        }
        let mirror = match rollout_route::mirror(routing.weights, &shares) {
            Some((hash, percent)) => {
                let to = service(scope.direct_name(hash), routing.port_number(scope, hash, port)?, None);
                let mirror = json!({"backendRef": to, "percent": percent});
                Some(json!([{"type": "RequestMirror", "requestMirror": mirror}]))
            }
            None => None,
        };
        let mut backends = backends(scope, routing, &shares, kept.as_ref(), port)?;
        if away == Away::Named {
            backends.as_array_mut()?.push(elsewhere(scope, 0));
        }
        by_weight.push(rule(scope, under(&paths), backends, mirror));
    }
    let mut rules = Vec::new();
    if !by_weight.is_empty() {
        // Where requests are led away each path is named once more.
        let led_away = if away == Away::Led { all.len() } else { 0 };
        let mut room = rollout_route::room(all.len(), led_away, routing.weights.affinity.is_some());
        for mut chosen in rollout_route::matched(routing.weights) {
            chosen.criteria.truncate(room);
            room -= chosen.criteria.len();
            rules.extend(chosen_rules(scope, routing, &all, &chosen, port)?);
        }
    }
    rules.extend(kept_rules);
    rules.extend(by_weight);
    Some(rules)
}

/// The same rules for requests that say that this site is to answer, and one that leads all others to who has authority. Of
/// two rules with the same path that with more headers wins.
fn led_away(scope: &Scope, paths: &[String], mut rules: Vec<Value>) -> Vec<Value> {
    let (header, here) = ANSWER_HERE;
    let answered_here = json!({"type": "Exact", "name": header, "value": here});
    for matched in rules.iter_mut().filter_map(|rule| rule["matches"].as_array_mut()).flatten() {
        match matched["headers"].as_array_mut() {
            Some(headers) => headers.push(answered_here.clone()),
            None => matched["headers"] = json!([answered_here]),
        }
    }
    let (shared, rest) = split_paths(scope, paths);
    let all: Vec<String> = shared.into_iter().chain(rest).collect();
    rules.push(rule(scope, under(&all), json!([elsewhere(scope, 100)]), None));
    rules
}

/// Who sends requests on to the site that has authority.
fn elsewhere(scope: &Scope, weight: u8) -> Value {
    let namespace = scope.settings.own_namespace.as_str().into();
    let mut backend = service(residual::SERVICE.to_owned(), residual_port(scope), Some(namespace));
    backend["weight"] = weight.into();
    backend
}

/// What can be seen of a revision before it serves: all paths of the ingress, under another host.
fn preview(scope: &Scope, routing: &Routing) -> Option<Child> {
    let preview = rollout_route::preview(scope, routing)?;
    let backends = direct(scope, routing, preview.hash, &scope.ingress_port()?.name)?;
    let rules = vec![rule(scope, under(&preview.paths), backends, None)];
    route(scope, rollout_route::preview_name(scope), json!([preview.host]), rules)
}

/// The rules for requests under these paths that are chosen.
fn chosen_rules(
    scope: &Scope,
    routing: &Routing,
    paths: &[String],
    chosen: &Chosen,
    port: &str,
) -> Option<Vec<Value>> {
    let mut matches = Vec::new();
    for Criterion { header, pattern } in &chosen.criteria {
        let (kind, value) = match pattern {
            Pattern::Exact(text) => ("Exact", text),
            Pattern::Regex(expression) => ("RegularExpression", expression),
        };
        let headers = json!([{"type": kind, "name": header, "value": value}]);
        for mut matched in under(paths) {
            matched["headers"] = headers.clone();
            matches.push(matched);
        }
    }
    let backends = direct(scope, routing, chosen.hash, port)?;
    let rules = matches.chunks(MATCHES_OF_RULE);
    Some(rules.map(|matches| rule(scope, matches.to_vec(), backends.clone(), None)).collect())
}

/// What matches these path prefixes.
fn under(paths: &[String]) -> Vec<Value> {
    paths.iter().map(|path| json!({"path": {"type": "PathPrefix", "value": path}})).collect()
}

fn rule(scope: &Scope, matches: Vec<Value>, backends: Value, filters: Option<Value>) -> Value {
    let timeout = scope.spec.mesh.as_ref().and_then(|mesh| mesh.timeout.as_deref()).and_then(units::duration);
    object([
        ("matches", list(matches)),
        ("filters", filters),
        ("backendRefs", Some(backends)),
        // Zero is no limit. Written out, since implementations have limits of their own: Envoy's is
        // 15 s.
        ("timeouts", Some(json!({"request": units::display(timeout.unwrap_or_default())}))),
    ])
}

/// A Service, in this namespace unless another one is named.
fn service(name: String, port: u16, namespace: Option<Value>) -> Value {
    object([
        ("group", Some("".into())),
        ("kind", Some("Service".into())),
        ("name", Some(name.into())),
        ("namespace", namespace),
        ("port", Some(port.into())),
    ])
}

/// The direct Service of a revision, alone.
fn direct(scope: &Scope, routing: &Routing, hash: &str, port: &str) -> Option<Value> {
    let mut backend = service(scope.direct_name(hash), routing.port_number(scope, hash, port)?, None);
    backend["weight"] = 100.into();
    Some(json!([backend]))
}

fn backends(
    scope: &Scope,
    routing: &Routing,
    shares: &[(Destination<&str>, u8)],
    kept: Option<&Kept>,
    port: &str,
) -> Option<Value> {
    let of_revision = |revision: &str, hash: &str| {
        let number = routing.port_number(scope, hash, port)?;
        let mut backend = service(scope.revision_name(revision), number, None);
        if let Some(kept) = kept {
            // Added, since the service may set cookies of its own.
            let cookie = json!({"add": [{"name": "Set-Cookie", "value": kept.cookie(hash)}]});
            backend["filters"] =
                json!([{"type": "ResponseHeaderModifier", "responseHeaderModifier": cookie}]);
        }
        Some(backend)
    };
    let one = |(target, share): &(Destination<&str>, u8)| {
        let mut backend = match target {
            Destination::Revision(hash) => of_revision(hash, hash)?,
            Destination::Baseline(hash) => of_revision(&fresh::revision(hash), hash)?,
            Destination::Legacy => {
                let (namespace, name, port) = legacy_service(scope).ok()??;
                let elsewhere = (namespace != scope.namespace).then(|| namespace.into());
                service(name, port, elsewhere)
            }
        };
        backend["weight"] = (*share).into();
        Some(backend)
    };
    shares.iter().map(one).collect::<Option<Vec<Value>>>().map(Value::Array)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::view::LedAway;
    use crate::finservice::children::Weights;
    use crate::finservice::testing;

    fn routed(spec: &crate::api::FinServiceSpec, legacy: u8) -> Value {
        let weights = Weights::of_revisions(&[("aaaaaaaaaa", 100)], legacy);
        build(&testing::scope(spec), &Routing::new(None, &weights))[0].body["spec"].clone()
    }

    #[test]
    fn legacy_takes_its_share_from_its_own_namespace() {
        let spec = testing::rich();
        let backends = routed(&spec, 30)["rules"][0]["backendRefs"].clone();
        assert_eq!((&backends[0]["weight"], &backends[1]["weight"]), (&json!(70), &json!(30)));
        assert_eq!((&backends[1]["name"], &backends[1]["namespace"]), (&json!("monolith"), &json!("legacy")));
    }

    #[test]
    fn a_legacy_host_outside_gets_nothing_and_a_problem_says_so() {
        let mut spec = testing::rich();
        spec.legacy.as_mut().expect("legacy").host = "old.finflow.example".to_owned();
        assert_eq!(routed(&spec, 30)["rules"][0]["backendRefs"][0]["weight"], 100);
        assert!(legacy_service(&testing::scope(&spec)).is_err());
    }

    #[test]
    fn requests_are_led_away_unless_they_say_that_this_site_is_to_answer() {
        let spec = testing::rich();
        let weights = Weights::of_revisions(&[("aaaaaaaaaa", 100)], 30);
        let led = |host: &str, now| LedAway { hosts: vec![host.to_owned()].into(), now };
        let mut routing = Routing::new(None, &weights);
        let before = build(&testing::scope(&spec), &routing).remove(0).body["spec"]["rules"].clone();
        routing.led_away = led("api.finflow.example", true);
        let rules = build(&testing::scope(&spec), &routing).remove(0).body["spec"]["rules"].clone();
        let (away, here) = rules.as_array().and_then(|rules| rules.split_last()).expect("rules");
        assert_eq!(here.len(), before.as_array().map_or(0, Vec::len));
        let marked = json!({"type": "Exact", "name": "x-banyan-answer", "value": "here"});
        for rule in here {
            for matched in rule["matches"].as_array().expect("matches") {
                assert!(matched["headers"].as_array().is_some_and(|all| all.contains(&marked)), "{matched}");
            }
        }
        let paths = |rule: &Value| rule["matches"].as_array().map(|all| all.len());
        assert_eq!(paths(away), Some(here.iter().filter_map(paths).sum()), "each path is led away");
        assert!(!away.to_string().contains("x-banyan-answer"));
        let backend = &away["backendRefs"][0];
        let to = (&backend["namespace"], &backend["name"], &backend["port"]);
        assert_eq!(to, (&json!("banyan-system"), &json!("banyan-authority"), &json!(8081)));
        // What is no host of the group is answered as ever.
        routing.led_away = led("other.example", true);
        assert_eq!(build(&testing::scope(&spec), &routing).remove(0).body["spec"]["rules"], before);
        // While it has authority the way is named.
        routing.led_away = led("api.finflow.example", false);
        let mut named = build(&testing::scope(&spec), &routing).remove(0).body["spec"]["rules"].clone();
        for rule in named.as_array_mut().expect("rules") {
            let last = rule["backendRefs"].as_array_mut().and_then(Vec::pop).expect("a backend");
            assert_eq!((&last["name"], &last["weight"]), (&json!("banyan-authority"), &json!(0)));
        }
        assert_eq!(named, before);
    }

    #[test]
    fn no_limit_is_written_as_none() {
        let mut spec = testing::rich();
        assert_eq!(routed(&spec, 0)["rules"][0]["timeouts"]["request"], "2s");
        spec.mesh.as_mut().expect("a mesh").timeout = None;
        assert_eq!(routed(&spec, 0)["rules"][0]["timeouts"]["request"], "0s");
    }
}
