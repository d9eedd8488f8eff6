//! What holds for all children: goldens, and properties over arbitrary specs.

use std::collections::BTreeSet;

use expect_test::{ExpectFile, expect_file};
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::api::network::{MeshProvider, Mtls};
use crate::finservice::testing;

const STABLE: &str = "bcdfghjklm";
const CANARY: &str = "nothashhhh";

/// All children of a service with a stable revision and a canary, and a copy of a ConfigMap.
fn all(spec: &FinServiceSpec, weights: &Weights, replicas: i32) -> Vec<Child> {
    let scope = testing::scope(spec);
    let input = testing::input(spec);
    let routing = Routing::new(Some(STABLE), weights);
    let mut children = of_service(&scope, &routing);
    for (index, hash) in [STABLE, CANARY].into_iter().enumerate() {
        let template = template::render(&scope, &input, hash);
        let data = json!({"a": "b"});
        children.extend(
            input.config_maps.keys().map(|name| config_map::copy(&scope, hash, name, Some(&data), None)),
        );
        let number = i64::try_from(index).unwrap_or_default() + 1;
        children.push(controller_revision::build(&scope, hash, number, &input, &template));
        children.extend(of_revision(
            &scope,
            &RevisionParts {
                hash,
                input: &input,
                template: &template,
                replicas,
                serves: index == 0,
                direct: false,
                least: None,
                secrets_digest: Some("wxzwxzwxzw"),
            },
        ));
    }
    children
}

fn weights(canary: u8, legacy: u8) -> Weights {
    Weights::of_revisions(&[(STABLE, 100 - canary), (CANARY, canary)], legacy)
}

fn golden(children: &[Child], file: ExpectFile) {
    let documents: Vec<String> =
        children.iter().map(|child| serde_norway::to_string(&child.body).expect("YAML")).collect();
    file.assert_eq(&documents.join("---\n"));
}

#[test]
fn a_minimal_service() {
    let spec = testing::minimal();
    golden(&all(&spec, &weights(0, 0), 2), expect_file!["../../../tests/goldens/children/minimal.yaml"]);
}

#[test]
fn a_rich_service_with_istio() {
    let spec = testing::rich();
    golden(&all(&spec, &weights(10, 30), 3), expect_file!["../../../tests/goldens/children/rich-istio.yaml"]);
}

#[test]
fn the_routes_of_a_rich_service_with_gateway_api() {
    let mut spec = testing::rich();
    spec.mesh.as_mut().expect("a mesh").provider = Some(MeshProvider::GatewayAPI);
    let mut children = all(&spec, &weights(10, 30), 3);
    children.retain(|child| matches!(child.kind, Kind::HTTPRoute | Kind::Service | Kind::NetworkPolicy));
    golden(&children, expect_file!["../../../tests/goldens/children/rich-gateway-api.yaml"]);
}

#[test]
fn a_strict_service_behind_istio() {
    let mut spec = testing::rich();
    spec.legacy = None;
    spec.mesh.as_mut().expect("a mesh").mtls = Some(Mtls::Strict);
    let mut children = all(&spec, &weights(0, 0), 3);
    children.retain(|child| {
        matches!(child.kind, Kind::DestinationRule | Kind::PeerAuthentication | Kind::PrometheusRule)
    });
    golden(&children, expect_file!["../../../tests/goldens/children/strict-istio.yaml"]);
}

/// Everything that the API server would drop or refuse in what is applied.
pub(super) fn defects(path: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Null => found.push(format!("{path} is null")),
        Value::Array(items) if items.is_empty() => found.push(format!("{path} is an empty list")),
        // Dropped as a field; kept as an item of a list.
        Value::String(text) if text.is_empty() && !path.ends_with("/group") && !item(path) => {
            found.push(format!("{path} is an empty string"));
        }
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(index, item)| defects(&format!("{path}/{index}"), item, found));
        }
        Value::Object(map) => {
            // These mean something when they are empty; an item of a list is kept as it is.
            let meaningful = ["/emptyDir", "/namespaceSelector", "/podSelector"];
            if map.is_empty() && !item(path) && !meaningful.iter().any(|end| path.ends_with(end)) {
                found.push(format!("{path} is an empty object"));
            }
            map.iter().for_each(|(key, value)| defects(&format!("{path}/{key}"), value, found));
        }
        _ => {}
    }
}

/// Whether a path ends in an index.
fn item(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|last| last.parse::<usize>().is_ok())
}

pub(super) fn is_label_value(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let outer = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    text.len() <= 63 && text.chars().all(inner) && outer(text.chars().next()) && outer(text.chars().last())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn children_hold_nothing_that_the_api_server_would_drop(
        spec in testing::spec(), canary in 0_u8..=100, legacy in 0_u8..=100, replicas in 0..20,
    ) {
        let children = all(&spec, &weights(canary, legacy), replicas);
        let mut found = Vec::new();
        for child in &children {
            // What a ConfigMap or a revision holds is the user's, and kept as it is.
            let skipped = if child.kind == Kind::ControllerRevision { "input" } else { "" };
            let mut body = child.body.clone();
            if let Some(data) = body.get_mut("data").and_then(Value::as_object_mut) {
                data.remove(skipped);
            }
            defects(&format!("{}/{}", child.kind.name(), child.name), &body, &mut found);
        }
        prop_assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn children_are_named_and_labelled_as_kubernetes_allows(spec in testing::spec(), canary in 0_u8..=100) {
        let children = all(&spec, &weights(canary, 0), 3);
        let mut seen = BTreeSet::new();
        for child in &children {
            prop_assert!(seen.insert((child.kind, child.name.clone())), "{:?} {} twice", child.kind, child.name);
            prop_assert!(child.name.len() <= 63, "{}", child.name);
            prop_assert_eq!(child.body["metadata"]["name"].as_str(), Some(child.name.as_str()));
            let template = &child.body["spec"]["template"]["metadata"]["labels"];
            for labels in [&child.body["metadata"]["labels"], template] {
                for value in labels.as_object().into_iter().flat_map(|labels| labels.values()) {
                    prop_assert!(value.as_str().is_some_and(is_label_value), "{value}");
                }
            }
            prop_assert_eq!(&child.body["metadata"]["labels"]["app.kubernetes.io/managed-by"], "banyan");
        }
    }

    #[test]
    fn weights_of_every_route_add_up(
        spec in testing::spec(), canary in 0_u8..=100, legacy in 0_u8..=100,
    ) {
        for child in all(&spec, &weights(canary, legacy), 3) {
            for (rules, destinations) in [("http", "route"), ("tcp", "route"), ("rules", "backendRefs")] {
                if !matches!(child.kind, Kind::VirtualService | Kind::HTTPRoute) {
                    continue;
                }
                for rule in child.body["spec"][rules].as_array().into_iter().flatten() {
                    let weights: Vec<u64> = rule[destinations]
                        .as_array()
                        .into_iter()
                        .flatten()
                        .filter_map(|destination| destination["weight"].as_u64())
                        .collect();
                    prop_assert_eq!(weights.iter().sum::<u64>(), 100);
                    prop_assert!(weights.iter().all(|weight| *weight > 0));
                }
            }
        }
    }

    #[test]
    fn problems_and_templates_are_found_for_any_spec(spec in testing::spec()) {
        let scope = testing::scope(&spec);
        let input = testing::input(&spec);
        limits::problems(&scope);
        // Read back and rendered again, a revision is the same.
        let kept: crate::finservice::plan::revision::RevisionInput =
            serde_json::from_value(serde_json::to_value(&input).expect("JSON")).expect("an input");
        prop_assert_eq!(kept.hash(), input.hash());
        prop_assert_eq!(template::render(&scope, &kept, STABLE), template::render(&scope, &input, STABLE));
    }
}
