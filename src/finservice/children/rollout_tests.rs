//! What holds for the routes of a rollout: goldens, and properties over arbitrary specs and decisions.

use std::collections::BTreeSet;

use expect_test::{ExpectFile, expect_file};
use jiff::SignedDuration;
use proptest::prelude::*;
use serde_json::Value;

use super::routing::{LegacyBackend, legacy_backend};
use super::tests::{defects, is_label_value};
use super::*;
use crate::api::canaryrollout::{Match, NameAndValue};
use crate::api::labels::MARK_ANNOTATION;
use crate::api::network::{MeshProvider, Mtls};
use crate::canary::facts::{Destination, Route};
use crate::canary::mark::{End, Mark};
use crate::canary::policy::Affinity;
use crate::finservice::testing;

const STABLE: &str = "bcdfghjklm";
const CANARY: &str = "nqpqrstvwx";
const PREVIEW: &str = "preview.finflow.example";

fn to(hash: &str) -> Destination {
    Destination::Revision(hash.to_owned())
}

fn pair(name: &str, value: &str) -> Option<NameAndValue> {
    Some(NameAndValue { name: name.to_owned(), value: value.to_owned() })
}

fn mark(weight: i32) -> Mark {
    Mark { attempt: 3, canary: CANARY.to_owned(), stable: STABLE.to_owned(), weight, end: End::Open }
}

/// A canary of that weight beside stable, and as much for a fresh copy of stable if there is one.
fn shared(weight: i32, fresh: bool) -> Route {
    let copy = if fresh { weight.min(100 - weight) } else { 0 };
    let shares = [
        (to(STABLE), 100 - weight - copy),
        (Destination::Baseline(STABLE.to_owned()), copy),
        (to(CANARY), weight),
    ];
    Route { shares: shares.into_iter().filter(|(_, share)| *share > 0).collect(), ..Route::default() }
}

/// The same with everything that a route can do beside weights.
fn full(weight: i32, fresh: bool) -> Route {
    Route {
        matches: vec![
            (Match { header: pair("X-Canary", "always"), ..Match::default() }, to(CANARY)),
            (Match { cookie: pair("tester", "a.b"), ..Match::default() }, to(CANARY)),
        ],
        mirror: Some((to(CANARY), 5)),
        affinity: Some(Affinity {
            cookie: "banyan-revision".to_owned(),
            max_age: SignedDuration::from_hours(1),
        }),
        preview: Some((PREVIEW.to_owned(), to(CANARY))),
        ..shared(weight, fresh)
    }
}

fn of(spec: &FinServiceSpec, weights: &Weights) -> Vec<Child> {
    of_service(&testing::scope(spec), &Routing::new(Some(STABLE), weights))
}

fn is_route(child: &Child) -> bool {
    matches!(child.kind, Kind::VirtualService | Kind::HTTPRoute)
}

fn with(provider: MeshProvider) -> FinServiceSpec {
    let mut spec = testing::rich();
    spec.mesh.as_mut().expect("a mesh").provider = Some(provider);
    spec
}

fn golden(children: &[Child], file: ExpectFile) {
    let documents: Vec<String> =
        children.iter().map(|child| serde_norway::to_string(&child.body).expect("YAML")).collect();
    file.assert_eq(&documents.join("---\n"));
}

/// The routes of the full rollout, and what the canary has for it.
fn rollout(spec: &FinServiceSpec, fresh: bool) -> Vec<Child> {
    let scope = testing::scope(spec);
    let weights = weights_of(&full(10, fresh), Some(&mark(10)), Some(STABLE), 100);
    let mut children = of(spec, &weights);
    children.retain(is_route);
    let input = testing::input(spec);
    let template = template::render(&scope, &input, CANARY);
    let parts = RevisionParts {
        hash: CANARY,
        input: &input,
        template: &template,
        replicas: 1,
        serves: true,
        direct: weights.direct().contains(CANARY),
        least: Some(1),
        secrets_digest: None,
    };
    children.extend(of_revision(&scope, &parts).into_iter().filter(|child| child.kind != Kind::Deployment));
    children
}

#[test]
fn a_rollout_with_istio() {
    let mut spec = with(MeshProvider::Istio);
    // Certificates are asked for, so that the direct Service needs its own DestinationRule.
    spec.mesh.as_mut().expect("a mesh").mtls = Some(Mtls::Strict);
    golden(&rollout(&spec, true), expect_file!["../../../tests/goldens/children/rollout-istio.yaml"]);
}

#[test]
fn a_rollout_with_gateway_api() {
    let spec = with(MeshProvider::GatewayAPI);
    golden(&rollout(&spec, true), expect_file!["../../../tests/goldens/children/rollout-gateway-api.yaml"]);
}

/// Rules of a route, whatever kind it is.
fn rules(child: &Child) -> Vec<Value> {
    let lists = ["http", "tcp", "rules"].map(|rules| child.body["spec"][rules].as_array().cloned());
    lists.into_iter().flatten().flatten().collect()
}

/// Names and weights of the destinations of a rule.
fn destinations(rule: &Value) -> Vec<(String, u64)> {
    let lists = ["route", "backendRefs"].map(|list| rule[list].as_array());
    lists
        .into_iter()
        .flatten()
        .flatten()
        .map(|destination| {
            let name =
                destination["destination"]["host"].as_str().or(destination["name"].as_str()).expect("a name");
            let name = name.strip_suffix(".payments.svc.cluster.local").unwrap_or(name);
            (name.to_owned(), destination["weight"].as_u64().expect("a weight"))
        })
        .collect()
}

fn service(hash: &str) -> String {
    format!("{}-{hash}", testing::NAME)
}

fn direct(hash: &str) -> String {
    format!("{}-{hash}-direct", testing::NAME)
}

#[test]
fn what_is_chosen_comes_before_what_is_shared() {
    let weights = weights_of(&full(10, false), None, Some(STABLE), 100);
    for provider in [MeshProvider::Istio, MeshProvider::GatewayAPI] {
        let children = of(&with(provider), &weights);
        let ingress = children
            .iter()
            .rfind(|child| is_route(child) && !child.name.ends_with("preview"))
            .expect("a route");
        let targets: Vec<Vec<String>> = rules(ingress)
            .iter()
            .map(|rule| destinations(rule).into_iter().map(|(name, _)| name).collect())
            .collect();
        let legacy = targets.iter().position(|names| names.iter().any(|name| name.starts_with("monolith")));
        let by_chance = vec![service(STABLE), service(CANARY)];
        assert_eq!(targets.first(), Some(&vec![direct(CANARY)]), "{provider:?}: matched");
        assert_eq!(targets.last(), Some(&by_chance), "{provider:?}: by weight");
        let legacy = legacy.expect("the legacy backend keeps its paths");
        assert_eq!(targets[legacy].len(), 1, "{provider:?}: nobody is kept or mirrored on legacy paths");
        for hash in [STABLE, CANARY] {
            let kept = targets.iter().filter(|names| **names == [direct(hash)]).count();
            assert_eq!(kept, if hash == CANARY { 2 } else { 1 }, "{provider:?} {hash}");
        }
    }
}

#[test]
fn kept_clients_do_not_reach_legacy_paths_by_another_rule() {
    // Istio takes the first rule: one for `/` and a cookie must not stand before that of the legacy backend.
    let mut spec = with(MeshProvider::Istio);
    spec.ingress.as_mut().expect("an ingress").paths = None;
    let weights = weights_of(&full(10, false), None, Some(STABLE), 100);
    let children = of(&spec, &weights);
    let ingress = children.iter().find(|child| child.name == "transaction.ingress").expect("a route");
    let rules = rules(ingress);
    let is_cookie_of_a_revision = |rule: &Value| rule["match"].to_string().contains("banyan-revision");
    let legacy = rules.iter().position(|rule| rule["route"].to_string().contains("monolith"));
    let kept = rules.iter().position(is_cookie_of_a_revision);
    assert!(legacy.expect("a rule for the legacy backend") < kept.expect("a rule for kept clients"));
}

#[test]
fn a_canary_that_failed_keeps_and_mirrors_nobody() {
    let mut route = shared(0, false);
    route.affinity = full(10, false).affinity;
    let weights = weights_of(&route, None, Some(STABLE), 0);
    for provider in [MeshProvider::Istio, MeshProvider::GatewayAPI] {
        for child in of(&with(provider), &weights).iter().filter(|child| is_route(child)) {
            let text = child.body.to_string();
            assert!(!text.contains(CANARY) && !text.contains("ookie"), "{provider:?} {text}");
        }
    }
}

#[test]
fn connections_of_tcp_ports_are_shared_by_weight_alone() {
    let weights = weights_of(&full(10, false), None, Some(STABLE), 0);
    let children = of(&with(MeshProvider::Istio), &weights);
    let in_mesh = children.iter().find(|child| is_route(child)).expect("a route");
    let tcp = in_mesh.body["spec"]["tcp"].as_array().expect("rules for TCP");
    assert_eq!(tcp.len(), 1);
    assert_eq!(destinations(&tcp[0]), [(service(STABLE), 90), (service(CANARY), 10)]);
    assert_eq!(tcp[0]["match"], json!([{"port": 8583}]));
    assert_eq!(tcp[0]["route"][0].get("headers"), None);
}

#[test]
fn every_rule_has_the_timeout_and_the_retries() {
    let weights = weights_of(&full(10, true), None, Some(STABLE), 100);
    for child in of(&with(MeshProvider::Istio), &weights).iter().filter(|child| is_route(child)) {
        for rule in child.body["spec"]["http"].as_array().expect("rules") {
            assert_eq!((&rule["timeout"], &rule["retries"]), (&json!("2s"), &json!({"attempts": 0})));
        }
    }
    for child in of(&with(MeshProvider::GatewayAPI), &weights).iter().filter(|child| is_route(child)) {
        for rule in rules(child) {
            assert_eq!(rule["timeouts"]["request"], "2s");
        }
    }
}

/// Routes at a weight, without who gets how much.
fn without_shares(spec: &FinServiceSpec, weight: i32) -> Vec<Value> {
    let weights = weights_of(&full(weight, false), None, Some(STABLE), 100);
    let mut routes: Vec<Value> =
        of(spec, &weights).into_iter().filter(is_route).map(|child| child.body).collect();
    for route in &mut routes {
        for list in ["http", "tcp", "rules"] {
            for rule in route["spec"][list].as_array_mut().into_iter().flatten() {
                for shares in ["route", "backendRefs"] {
                    for share in rule[shares].as_array_mut().into_iter().flatten() {
                        assert!(share["weight"].take().is_u64());
                    }
                }
            }
        }
    }
    routes
}

#[test]
fn at_every_weight_all_else_of_the_route_is_the_same() {
    for provider in [MeshProvider::Istio, MeshProvider::GatewayAPI] {
        let spec = with(provider);
        let first = without_shares(&spec, 1);
        assert!(!first.is_empty());
        for weight in 2..100 {
            assert_eq!(without_shares(&spec, weight), first, "{provider:?} at {weight} %");
        }
    }
}

#[test]
fn the_preview_is_a_route_of_its_own() {
    let mut spec = with(MeshProvider::Istio);
    let weights = weights_of(&full(10, false), None, Some(STABLE), 0);
    let previews = |spec: &FinServiceSpec| -> Vec<Child> {
        of(spec, &weights).into_iter().filter(|child| child.name == "transaction.preview").collect()
    };
    let preview = &previews(&spec)[0];
    assert_eq!(preview.body["spec"]["hosts"], json!([PREVIEW]));
    assert_eq!(destinations(&rules(preview)[0]), [(direct(CANARY), 100)]);
    spec.mesh.as_mut().expect("a mesh").provider = Some(MeshProvider::GatewayAPI);
    assert_eq!(previews(&spec)[0].body["spec"]["hostnames"], json!([PREVIEW]));
    // A host that serves the service is none to look at something else under.
    spec.ingress.as_mut().expect("an ingress").hosts.push(PREVIEW.to_owned());
    assert_eq!(previews(&spec), []);
    spec.ingress = None;
    assert_eq!(previews(&spec), []);
}

#[test]
fn a_httproute_holds_no_more_than_it_may() {
    let mut spec = with(MeshProvider::GatewayAPI);
    let ingress = spec.ingress.as_mut().expect("an ingress");
    ingress.paths = Some((0..16).map(|number| format!("/{number}")).collect());
    let mut route = full(10, false);
    route.matches = vec![route.matches[0].clone(); 8];
    for affinity in [true, false] {
        let route = Route { affinity: route.affinity.clone().filter(|_| affinity), ..route.clone() };
        let weights = weights_of(&route, None, Some(STABLE), 0);
        let children = of(&spec, &weights);
        let route = children.iter().find(|child| child.kind == Kind::HTTPRoute).expect("a route");
        let counts: Vec<usize> =
            rules(route).iter().map(|rule| rule["matches"].as_array().expect("matches").len()).collect();
        assert!(counts.len() <= 16 && counts.iter().all(|count| *count <= 64), "{counts:?}");
        assert!(counts.iter().sum::<usize>() <= 128, "{counts:?}");
        assert!(destinations(&rules(route)[0]) == [(direct(CANARY), 100)], "some matches are there");
    }
}

#[test]
fn the_mark_is_on_every_route_and_else_on_the_plain_service() {
    let weights = weights_of(&full(10, false), Some(&mark(10)), Some(STABLE), 0);
    let marked = |spec: &FinServiceSpec, weights: &Weights| -> Vec<(Kind, String)> {
        let text = weights.mark.clone();
        let children = of(spec, weights).into_iter();
        children
            .filter(|child| {
                let annotations = &child.body["metadata"]["annotations"];
                annotations.is_object() && annotations[MARK_ANNOTATION].as_str() == text.as_deref()
            })
            .map(|child| (child.kind, child.name))
            .collect()
    };
    let istio = with(MeshProvider::Istio);
    let routes: Vec<_> =
        of(&istio, &weights).into_iter().filter(is_route).map(|c| (c.kind, c.name)).collect();
    assert_eq!(routes.len(), 3);
    assert_eq!(marked(&istio, &weights), routes);
    let plain = vec![(Kind::Service, testing::NAME.to_owned())];
    assert_eq!(marked(&with(MeshProvider::None), &weights), plain);
    let mut pulled = istio.clone();
    pulled.traffic = Some(crate::api::finservice::Traffic::Pulled);
    assert_eq!(marked(&pulled, &weights), plain);
    let mut inside = with(MeshProvider::GatewayAPI);
    inside.ingress = None;
    assert_eq!(marked(&inside, &weights), plain, "without a gateway there is no route");
    let unmarked = weights_of(&full(10, false), None, Some(STABLE), 0);
    for child in of(&istio, &unmarked) {
        assert_eq!(child.body["metadata"]["annotations"].get(MARK_ANNOTATION), None, "{}", child.name);
    }
}

#[test]
fn shares_are_read_beside_whom_they_are_shared_with() {
    let spec = with(MeshProvider::Istio);
    let share = |route: Route, legacy: u8, beside: &str| {
        let weights = weights_of(&route, None, Some(STABLE), legacy);
        let children = of(&spec, &weights);
        let child = children.iter().find(|child| child.name == "transaction.ingress").expect("a route");
        observed::observed(child.kind, &child.body, None).expect("a route").share(&service(CANARY), beside)
    };
    let stable = service(STABLE);
    assert_eq!(share(full(10, false), 100, &stable), Some(10));
    assert_eq!(share(shared(0, false), 100, &stable), Some(0));
    assert_eq!(share(shared(100, false), 100, &stable), Some(100));
    let from = |weight: i32| {
        let shares = vec![(Destination::Legacy, 100 - weight), (to(CANARY), weight)];
        Route { shares: shares.into_iter().filter(|(_, share)| *share > 0).collect(), ..Route::default() }
    };
    for weight in [0, 30, 100] {
        assert_eq!(share(from(weight), 0, "monolith"), Some(weight as u8), "{weight}");
    }
    assert_eq!(share(shared(0, false), 100, "nobody"), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn every_rule_adds_up_and_names_only_what_was_decided(
        spec in testing::spec(),
        weight in 0_i32..=100,
        fresh: bool,
        everything: bool,
        legacy in 0_u8..=100,
    ) {
        let route = if everything { full(weight, fresh) } else { shared(weight, fresh) };
        let weights = weights_of(&route, Some(&mark(weight)), Some(STABLE), legacy);
        let mut decided: BTreeSet<String> = weights.revisions.iter().filter_map(|(to, _)| Some(service(&fresh::label(to)?))).collect();
        decided.extend(weights.direct().into_iter().map(direct));
        decided.extend(legacy_backend(&testing::scope(&spec)).map(|legacy| match legacy {
            LegacyBackend::Service(namespace, name) if namespace == testing::NAMESPACE => name,
            LegacyBackend::Service(namespace, name) if spec.provider() == MeshProvider::Istio => {
                format!("{name}.{namespace}.svc.cluster.local")
            }
            LegacyBackend::Service(_, name) | LegacyBackend::Host(name) => name,
        }));
        let children = of(&spec, &weights);
        for child in children.iter().filter(|child| is_route(child)) {
            for rule in rules(child) {
                let destinations = destinations(&rule);
                prop_assert_eq!(destinations.iter().map(|(_, share)| *share).sum::<u64>(), 100);
                for (name, share) in destinations {
                    prop_assert!(share > 0);
                    prop_assert!(decided.contains(&name), "{} is not in {:?}", name, decided);
                }
            }
            // A canary without a share gets nothing by chance.
            let seen = observed::observed(child.kind, &child.body, None).expect("a route");
            let canary = service(CANARY);
            let named = seen.shares.iter().flatten().any(|(name, _)| **name == *canary);
            prop_assert!(weight > 0 || !named);
        }
    }

    #[test]
    fn what_a_rollout_makes_is_kept_as_it_is_and_named_as_kubernetes_allows(
        spec in testing::spec(), weight in 0_i32..=100, fresh: bool, replicas in 0..20,
    ) {
        let scope = testing::scope(&spec);
        let input = testing::input(&spec);
        let weights = weights_of(&full(weight, fresh), Some(&mark(weight)), Some(STABLE), 0);
        let mut children = of(&spec, &weights);
        for hash in [STABLE, CANARY] {
            let template = template::render(&scope, &input, hash);
            let parts = RevisionParts {
                hash,
                input: &input,
                template: &template,
                replicas,
                serves: true,
                direct: weights.direct().contains(hash),
                least: Some(replicas),
                secrets_digest: None,
            };
            children.extend(of_revision(&scope, &parts));
        }
        let template = template::render(&scope, &input, STABLE);
        children.extend(fresh::build(&scope, STABLE, &input, &template, replicas, None));
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        for child in &children {
            defects(&format!("{}/{}", child.kind.name(), child.name), &child.body, &mut found);
            prop_assert!(seen.insert((child.kind, child.name.clone())), "{:?} {} twice", child.kind, child.name);
            prop_assert!(child.name.len() <= 63, "{}", child.name);
            for value in child.body["metadata"]["labels"].as_object().into_iter().flat_map(|all| all.values()) {
                prop_assert!(value.as_str().is_some_and(is_label_value), "{value}");
            }
        }
        prop_assert_eq!(found, Vec::<String>::new());
        // Whatever a route names of ours stands.
        let services: BTreeSet<&str> =
            children.iter().filter(|child| child.kind == Kind::Service).map(|child| child.name.as_str()).collect();
        for rule in children.iter().filter(|child| is_route(child)).flat_map(rules) {
            for (name, _) in destinations(&rule) {
                let ours = name.starts_with(&format!("{}-", testing::NAME));
                prop_assert!(!ours || services.contains(name.as_str()), "{} is missing", name);
            }
        }
    }

    #[test]
    fn what_was_written_is_read_back(
        spec in testing::spec(), weight in 0_i32..=100, fresh: bool, everything: bool,
    ) {
        let route = if everything { full(weight, fresh) } else { shared(weight, fresh) };
        let weights = weights_of(&route, Some(&mark(weight)), Some(STABLE), 0);
        for child in of(&spec, &weights) {
            let annotations =
                serde_json::from_value(child.body["metadata"]["annotations"].clone()).unwrap_or_default();
            let Some(seen) = observed::observed(child.kind, &child.body, Some(&annotations)) else { continue };
            prop_assert_eq!(seen.mark.as_deref().and_then(Mark::parse), Some(mark(weight)), "{}", child.name);
            if child.name.ends_with(".preview") || child.kind == Kind::Service {
                prop_assert!(seen.shares.is_empty(), "nothing is shared by chance there: {:?}", seen.shares);
                continue;
            }
            prop_assert_eq!(seen.shares.len(), 1, "all rules share alike: {:?}", seen.shares);
            prop_assert_eq!(seen.share(&service(CANARY), &service(STABLE)), u8::try_from(weight).ok());
            let read: Vec<(String, u8)> =
                seen.shares[0].iter().map(|(name, share)| (name.to_string(), *share)).collect();
            let written: Vec<(String, u8)> =
                weights.revisions.iter().filter_map(|(to, share)| Some((service(&fresh::label(to)?), *share))).collect();
            prop_assert_eq!(read, written);
        }
    }
}
