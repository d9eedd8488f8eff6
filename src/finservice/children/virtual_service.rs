//! Istio's VirtualServices: requests to the plain name, and requests from the outside, go to the
//! revisions' own Services by weight. What a rollout chooses goes to their direct ones.
//!
//! Istio takes the first rule that matches: requests that are chosen come first, then the legacy backend's
//! paths, and before each rule that shares by chance those for the clients that are kept there.

use serde_json::{Value, json};

use super::json::{list, object, text};
use super::rollout_route::{self, Chosen, Criterion, Kept, Pattern};
use super::routing::{Away, HostGroup, LegacyBackend, Routing, legacy_backend, residual_port, split_paths};
use super::{Child, Kind, Scope, fresh, path_regex};
use crate::api::finservice::Traffic;
use crate::api::units;
use crate::api::workload::Protocol;
use crate::authority::residual::{self, ANSWER_HERE};
use crate::canary::facts::Destination;

/// What is retried unless the spec says otherwise: failures before the request reached the service.
const RETRY_ON: &str = "connect-failure,refused-stream";

/// The VirtualServices: one on the plain name for callers in the mesh, one for each group of hosts at the
/// ingress gateway, and one for the preview of a rollout.
///
/// They are apart since FinServices may share a host: Istio merges VirtualServices of one host at a
/// gateway, but not in the sidecars. None is made while there is nowhere to send anything, nor for
/// a service that fetches its work.
pub fn build(scope: &Scope, routing: &Routing) -> Vec<Child> {
    if scope.spec.traffic() == Traffic::Pulled {
        return Vec::new();
    }
    let mut children: Vec<Child> = in_mesh(scope, routing).into_iter().collect();
    let groups = routing.groups(scope);
    children.extend(
        groups.iter().enumerate().filter_map(|(index, group)| at_gateway(scope, routing, group, index)),
    );
    children.extend(preview(scope, routing));
    children
}

fn in_mesh(scope: &Scope, routing: &Routing) -> Option<Child> {
    let shares = routing.shares(false);
    if shares.is_empty() {
        return None;
    }
    let (mut http, mut tcp) = (Vec::new(), Vec::new());
    for port in routing.plain_ports(scope) {
        let base = [json!({"port": scope.service_port(port)})];
        if port.protocol() == Protocol::TCP {
            let route = destinations(scope, routing, &shares, None, &port.name)?;
            tcp.push(json!({"match": base, "route": route}));
            continue;
        }
        for chosen in rollout_route::matched(routing.weights) {
            http.push(chosen_rule(scope, routing, &base, &chosen, &port.name)?);
        }
        http.extend(by_chance(scope, routing, &base, &shares, &port.name)?);
    }
    if http.is_empty() && tcp.is_empty() {
        return None;
    }
    let spec = object([
        ("hosts", Some(json!([scope.host(scope.name)]))),
        ("gateways", Some(json!(["mesh"]))),
        ("http", list(http)),
        ("tcp", list(tcp)),
    ]);
    Some(scope.child(Kind::VirtualService, scope.name.to_owned(), None, json!({"spec": spec})))
}

fn at_gateway(scope: &Scope, routing: &Routing, group: &HostGroup, index: usize) -> Option<Child> {
    let port = scope.ingress_port()?;
    let (shared, rest) = split_paths(scope, &group.paths);
    let all: Vec<String> = shared.iter().chain(&rest).cloned().collect();
    let mut rules = Vec::new();
    // The legacy backend's paths are the more specific ones.
    for (paths, legacy) in [(shared, true), (rest, false)] {
        let shares = routing.shares(legacy);
        if !paths.is_empty() && !shares.is_empty() {
            rules.extend(by_chance(scope, routing, &under(paths, &group.nested), &shares, &port.name)?);
            if group.away == Away::Named
                && let Some(route) = rules.last_mut().and_then(|rule| rule["route"].as_array_mut())
            {
                route.push(elsewhere(scope, 0));
            }
        }
    }
    if !rules.is_empty() {
        let base = under(all.clone(), &group.nested);
        let matched = rollout_route::matched(routing.weights);
        let chosen = matched.iter().map(|chosen| chosen_rule(scope, routing, &base, chosen, &port.name));
        rules.splice(0..0, chosen.collect::<Option<Vec<_>>>()?);
    }
    if group.away == Away::Led {
        lead_away(scope, all, &group.nested, &mut rules);
    }
    // A dot keeps these names apart from those of all FinServices, which are DNS labels.
    let name = match index {
        0 => format!("{}.ingress", scope.name),
        _ => format!("{}.ingress-{}", scope.name, index + 1),
    };
    let spec = json!({"hosts": group.hosts, "gateways": [gateway(scope)?], "http": list(rules)?});
    Some(scope.child(Kind::VirtualService, name, None, json!({"spec": spec})))
}

/// Has these rules be for requests that say that this site is to answer; all others go to who has authority.
fn lead_away(scope: &Scope, paths: Vec<String>, nested: &[String], rules: &mut Vec<Value>) {
    let (header, here) = ANSWER_HERE;
    for matched in rules.iter_mut().filter_map(|rule| rule["match"].as_array_mut()).flatten() {
        matched["headers"][header] = json!({"exact": here});
    }
    rules.push(http_rule(scope, under(paths, nested), json!([elsewhere(scope, 100)]), None));
}

/// Who sends requests on to the site that has authority.
fn elsewhere(scope: &Scope, weight: u8) -> Value {
    let host = format!("{}.{}.svc.cluster.local", residual::SERVICE, scope.settings.own_namespace);
    json!({"destination": {"host": host, "port": {"number": residual_port(scope)}}, "weight": weight})
}

/// The gateway of the ingress, with its namespace.
fn gateway(scope: &Scope) -> Option<String> {
    let (namespace, gateway) = scope.spec.ingress.as_ref()?.gateway_in(scope.namespace);
    Some(format!("{namespace}/{gateway}"))
}

/// What can be seen of a revision before it serves: all paths of the ingress, under another host.
fn preview(scope: &Scope, routing: &Routing) -> Option<Child> {
    let preview = rollout_route::preview(scope, routing)?;
    let route = direct(scope, routing, preview.hash, &scope.ingress_port()?.name)?;
    let rule = http_rule(scope, under(preview.paths, &[]), route, None);
    let spec = json!({"hosts": [preview.host], "gateways": [gateway(scope)?], "http": [rule]});
    let name = rollout_route::preview_name(scope);
    Some(scope.child(Kind::VirtualService, name, None, json!({"spec": spec})))
}

/// The rule for what is shared by chance, with its mirror, and before it those for the clients that are
/// kept.
fn by_chance(
    scope: &Scope,
    routing: &Routing,
    base: &[Value],
    shares: &[(Destination<&str>, u8)],
    port: &str,
) -> Option<Vec<Value>> {
    let kept = Kept::of(routing.weights, shares);
    let chosen = kept.iter().flat_map(Kept::chosen);
    let mut rules: Vec<Value> =
        chosen.map(|chosen| chosen_rule(scope, routing, base, &chosen, port)).collect::<Option<_>>()?;
    let route = destinations(scope, routing, shares, kept.as_ref(), port)?;
    let mirror = match rollout_route::mirror(routing.weights, shares) {
        Some((hash, percent)) => {
            Some((destination(scope, routing, &scope.direct_name(hash), hash, port)?, percent))
        }
        None => None,
    };
    rules.push(http_rule(scope, base.to_vec(), route, mirror));
    Some(rules)
}

/// The rule for requests that are chosen, among those that `base` matches.
fn chosen_rule(
    scope: &Scope,
    routing: &Routing,
    base: &[Value],
    chosen: &Chosen,
    port: &str,
) -> Option<Value> {
    let mut matches = Vec::new();
    for Criterion { header, pattern } in &chosen.criteria {
        let pattern = match pattern {
            Pattern::Exact(text) => json!({"exact": text}),
            Pattern::Regex(expression) => json!({"regex": expression}),
        };
        for matched in base {
            let mut matched = matched.clone();
            matched["headers"][header] = pattern.clone();
            matches.push(matched);
        }
    }
    Some(http_rule(scope, matches, direct(scope, routing, chosen.hash, port)?, None))
}

/// What matches these path prefixes, the longest first, and nothing that is `nested` below them.
fn under(mut paths: Vec<String>, nested: &[String]) -> Vec<Value> {
    paths.sort_by_key(|path| std::cmp::Reverse(path.len()));
    let one = |path: &String| {
        let prefix = format!("{}/", path.trim_end_matches('/'));
        let below: Vec<&str> =
            nested.iter().map(String::as_str).filter(|nested| nested.starts_with(&prefix)).collect();
        match below.is_empty() {
            true => path_matches(path),
            false => vec![json!({"uri": {"regex": path_regex::but(path, &below)}})],
        }
    };
    paths.iter().flat_map(one).collect()
}

/// A prefix that ends at a slash, as Gateway API understands prefixes; Istio's `prefix` alone would
/// send `/payments` to who asked for `/pay`.
fn path_matches(path: &str) -> Vec<Value> {
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() {
        return vec![json!({"uri": {"prefix": "/"}})];
    }
    vec![json!({"uri": {"exact": trimmed}}), json!({"uri": {"prefix": format!("{trimmed}/")}})]
}

/// A rule. `mirror` is a destination, and the share of the requests, in percent, that it gets as well.
fn http_rule(scope: &Scope, matches: Vec<Value>, route: Value, mirror: Option<(Value, u8)>) -> Value {
    let mesh = scope.spec.mesh.clone().unwrap_or_default();
    let retries = mesh.retries.unwrap_or_default();
    let retries = if retries.attempts == 0 {
        // Written out: Istio retries twice where nothing is said.
        json!({"attempts": 0})
    } else {
        object([
            ("attempts", Some(retries.attempts.into())),
            ("perTryTimeout", retries.per_try_timeout.as_deref().and_then(duration)),
            ("retryOn", text(retries.on.as_deref().unwrap_or(RETRY_ON))),
        ])
    };
    let (mirror, percent) = mirror.unzip();
    object([
        ("match", list(matches)),
        ("route", Some(route)),
        ("mirror", mirror),
        ("mirrorPercentage", percent.map(|percent| json!({"value": percent}))),
        ("timeout", mesh.timeout.as_deref().and_then(duration)),
        ("retries", Some(retries)),
    ])
}

/// A duration in Istio's form; zero, which Istio refuses here, means the same as none.
fn duration(text: &str) -> Option<Value> {
    units::duration(text).filter(|d| !d.is_zero()).map(|d| units::display(d).into())
}

/// A Service of a revision, which has that revision's ports.
fn destination(scope: &Scope, routing: &Routing, service: &str, hash: &str, port: &str) -> Option<Value> {
    let number = routing.port_number(scope, hash, port)?;
    Some(json!({"host": scope.host(service), "port": {"number": number}}))
}

/// The direct Service of a revision, alone.
fn direct(scope: &Scope, routing: &Routing, hash: &str, port: &str) -> Option<Value> {
    let destination = destination(scope, routing, &scope.direct_name(hash), hash, port)?;
    Some(json!([{"destination": destination, "weight": 100}]))
}

fn destinations(
    scope: &Scope,
    routing: &Routing,
    shares: &[(Destination<&str>, u8)],
    kept: Option<&Kept>,
    port: &str,
) -> Option<Value> {
    let of_revision = |revision: &str, hash: &str, share: u8| {
        let destination = destination(scope, routing, &scope.revision_name(revision), hash, port)?;
        // Added, since the service may set cookies of its own.
        let cookie = kept.map(|kept| json!({"response": {"add": {"Set-Cookie": kept.cookie(hash)}}}));
        Some(object([
            ("destination", Some(destination)),
            ("weight", Some(share.into())),
            ("headers", cookie),
        ]))
    };
    let one = |(target, share): &(Destination<&str>, u8)| match target {
        Destination::Revision(hash) => of_revision(hash, hash, *share),
        Destination::Baseline(hash) => of_revision(&fresh::revision(hash), hash, *share),
        Destination::Legacy => {
            let host = match legacy_backend(scope)? {
                LegacyBackend::Service(namespace, name) => format!("{name}.{namespace}.svc.cluster.local"),
                LegacyBackend::Host(host) => host,
            };
            let port = scope.spec.legacy.as_ref()?.port;
            Some(json!({"destination": {"host": host, "port": {"number": port}}, "weight": share}))
        }
    };
    shares.iter().map(one).collect::<Option<Vec<Value>>>().map(Value::Array)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::network::Retries;
    use crate::authority::view::LedAway;
    use crate::finservice::children::Weights;
    use crate::finservice::testing;

    fn weights() -> Weights {
        Weights::of_revisions(&[("aaaaaaaaaa", 90), ("bbbbbbbbbb", 10)], 0)
    }

    #[test]
    fn retries_are_off_unless_asked() {
        let mut spec = testing::rich();
        let rule = |spec: &crate::api::FinServiceSpec| {
            build(&testing::scope(spec), &Routing::new(None, &weights()))[0].body["spec"]["http"][0]["retries"].clone()
        };
        spec.mesh.as_mut().expect("a mesh").retries = None;
        assert_eq!(rule(&spec), json!({"attempts": 0}));
        spec.mesh.as_mut().expect("a mesh").retries = Some(Retries { attempts: 2, ..Retries::default() });
        assert_eq!(rule(&spec), json!({"attempts": 2, "retryOn": RETRY_ON}));
    }

    #[test]
    fn prefixes_do_not_swallow_their_neighbours() {
        assert_eq!(
            path_matches("/pay"),
            [json!({"uri": {"exact": "/pay"}}), json!({"uri": {"prefix": "/pay/"}})]
        );
        assert_eq!(path_matches("/pay/"), path_matches("/pay"));
        assert_eq!(path_matches("/"), [json!({"uri": {"prefix": "/"}})]);
    }

    #[test]
    fn faults_8_4_a_shorter_prefix_takes_nothing_from_a_longer_one() {
        let mut spec = testing::rich();
        spec.legacy = None;
        let weights = weights();
        let mut routing = Routing::new(None, &weights);
        let matched = |routing: &Routing| {
            let children = build(&testing::scope(&spec), routing);
            children[1].body["spec"]["http"][0]["match"].clone()
        };
        assert!(!matched(&routing).to_string().contains("regex"));
        routing.nested.insert("api.finflow.example".to_owned(), ["/refunds/admin".to_owned()].into());
        let found = matched(&routing);
        assert_eq!(found[0], json!({"uri": {"exact": "/transactions"}}), "{found}");
        let expression = found[2]["uri"]["regex"].as_str().expect("an expression");
        assert_eq!(expression, path_regex::but("/refunds", &["/refunds/admin"]));
    }

    #[test]
    fn requests_are_led_away_unless_they_say_that_this_site_is_to_answer() {
        let spec = testing::rich();
        let (weights, none) = (weights(), Weights::default());
        let rules = |weights, now| {
            let mut routing = Routing::new(None, weights);
            routing.led_away = LedAway { hosts: vec!["api.finflow.example".to_owned()].into(), now };
            let children = build(&testing::scope(&spec), &routing);
            let at_gateway = children.into_iter().find(|child| child.name.ends_with(".ingress"));
            at_gateway.expect("a route at the gateway").body["spec"]["http"].clone()
        };
        let all = rules(&weights, true);
        let (away, here) = all.as_array().and_then(|rules| rules.split_last()).expect("rules");
        for matched in here.iter().flat_map(|rule| rule["match"].as_array()).flatten() {
            assert_eq!(matched["headers"]["x-banyan-answer"], json!({"exact": "here"}));
        }
        assert!(!here.is_empty() && !away["match"].to_string().contains("headers"), "{away}");
        let to =
            json!({"host": "banyan-authority.banyan-system.svc.cluster.local", "port": {"number": 8081}});
        assert_eq!(away["route"], json!([{"destination": to, "weight": 100}]));
        assert_eq!(rules(&none, true).as_array().map(Vec::len), Some(1), "also where nothing runs here");
        // While it has authority the way is named.
        let last = &rules(&weights, false)[0]["route"].as_array().and_then(|route| route.last().cloned());
        assert!(last.as_ref().is_some_and(
            |last| last["weight"] == 0 && last["destination"] == away["route"][0]["destination"]
        ));
    }

    #[test]
    fn a_route_without_a_target_is_not_made() {
        let spec = testing::rich();
        assert_eq!(build(&testing::scope(&spec), &Routing::new(None, &Weights::default())), []);
    }

    #[test]
    fn callers_in_the_mesh_never_reach_the_legacy_backend() {
        let spec = testing::rich();
        let mut weights = weights();
        weights.legacy = 40;
        let children = build(&testing::scope(&spec), &Routing::new(None, &weights));
        assert!(!children[0].body.to_string().contains("monolith"));
        assert!(children[1].body.to_string().contains("monolith"));
    }
}
