//! Where the proxies of the ingress gateway run, who are let in for it. Pure.
//!
//! The Gateway object says nothing of it: its proxies may be in its own namespace or in another one, or outside of the
//! cluster. The installer says where (the chart's `gateways`). Where nothing is said they are looked for in the namespace of
//! the Gateway; if that is the service's own, only by the label that implementations put on the pods that they make for one.

use serde_json::{Value, json};

use super::Scope;
use super::peer::{addresses, labelled, namespace};
use crate::api::Problem;
use crate::api::network::MeshProvider;
use crate::finservice::settings;

/// The label of the pods that are made for a Gateway (Gateway API, GEP-1762).
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

/// Where the proxies of a Gateway are.
enum Proxies<'a> {
    /// Where the installer says.
    Said(&'a settings::Proxies),
    /// In the namespace of the Gateway.
    Beside(&'a str),
    /// In that namespace, which is the service's own, where others run too: those with the label of that Gateway.
    Labelled(&'a str, &'a str),
}

fn proxies<'a>(scope: &'a Scope<'_>) -> Option<Proxies<'a>> {
    let (of, name) = scope.spec.ingress.as_ref()?.gateway_in(scope.namespace);
    Some(match scope.settings.gateways.of(of, name) {
        Some(said) => Proxies::Said(said),
        None if of == scope.namespace => Proxies::Labelled(of, name),
        None => Proxies::Beside(of),
    })
}

/// The proxies, as peers of a NetworkPolicy; none if there is no ingress.
pub fn peers(scope: &Scope) -> Vec<Value> {
    match proxies(scope) {
        None => Vec::new(),
        Some(Proxies::Said(settings::Proxies { namespace, pod_labels, cidrs, .. })) => {
            let labels = || pod_labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
            let pods = namespace.iter().map(|namespace| labelled(namespace, labels()));
            cidrs.iter().filter_map(|cidr| addresses(cidr)).chain(pods).collect()
        }
        Some(Proxies::Beside(of)) => vec![namespace(of)],
        Some(Proxies::Labelled(of, name)) => vec![labelled(of, [(GATEWAY_NAME, name)])],
    }
}

/// The proxies, as sources of an AuthorizationPolicy: the field, and its values.
pub fn sources(scope: &Scope) -> Vec<(&'static str, Value)> {
    match proxies(scope) {
        None => Vec::new(),
        Some(Proxies::Said(settings::Proxies { namespace, cidrs, .. })) => {
            let namespace = namespace.iter().map(|name| ("namespaces", json!([name])));
            let cidrs = (!cidrs.is_empty()).then(|| ("ipBlocks", json!(cidrs)));
            namespace.chain(cidrs).collect()
        }
        Some(Proxies::Beside(of) | Proxies::Labelled(of, _)) => vec![("namespaces", json!([of]))],
    }
}

/// Whether proxies outside of the mesh, which have no certificate, are let in by their addresses.
pub fn outside(scope: &Scope) -> bool {
    matches!(proxies(scope), Some(Proxies::Said(said)) if !said.cidrs.is_empty())
}

/// That nobody has said where they are, where that matters.
pub fn problem(scope: &Scope) -> Option<Problem> {
    let Some(Proxies::Labelled(of, name)) = proxies(scope) else { return None };
    let istio = scope.spec.provider() == MeshProvider::Istio;
    // Istio's own Gateways choose their proxies by labels, in whatever namespace.
    let problem = if istio { Problem::warning } else { Problem::info };
    Some(problem(
        "spec.ingress.gateway",
        format!(
            "nobody has said where the proxies of Gateway {of}/{name} run: only pods of namespace {of} with the label \
             {GATEWAY_NAME}={name} are let in"
        ),
        format!(
            "Nothing to do if they run there. If not, have them listed in gateways of the operator's chart, as \
             {{gateway: {of}/{name}, namespace: istio-system, podLabels: {{istio: ingressgateway}}}}."
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finservice::settings::Settings;
    use crate::finservice::testing;

    #[test]
    fn faults_5_2_no_namespace_of_a_team_is_let_in_for_its_gateway() {
        let mut spec = testing::rich();
        spec.ingress.as_mut().expect("an ingress").gateway = "public".to_owned();
        let scope = testing::scope(&spec);
        let own = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": testing::NAMESPACE}},
            "podSelector": {"matchLabels": {GATEWAY_NAME: "public"}}});
        assert_eq!(peers(&scope), [own]);
        assert!(problem(&scope).is_some_and(|problem| problem.message.contains("payments/public")));
        let gateways = r#"[{"gateway": "payments/public", "namespace": "contour", "podLabels": {"app": "envoy"}, "cidrs": ["35.191.0.0/16"]}]"#;
        let settings = Settings { gateways: gateways.parse().expect("gateways"), ..Settings::default() };
        let said = Scope { settings: &settings, ..scope };
        assert_eq!(problem(&said), None);
        let (all, by_mesh) = (Value::from(peers(&said)).to_string(), sources(&said));
        assert!(
            all.contains("contour") && all.contains("35.191.0.0/16") && !all.contains("payments"),
            "{all}"
        );
        assert_eq!(by_mesh, [("namespaces", json!(["contour"])), ("ipBlocks", json!(["35.191.0.0/16"]))]);
    }

    #[test]
    fn the_proxies_of_a_gateway_elsewhere_are_looked_for_beside_it() {
        let mut spec = testing::rich();
        spec.ingress.as_mut().expect("an ingress").gateway = "edge/public".to_owned();
        let scope = testing::scope(&spec);
        let edge = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "edge"}}});
        assert_eq!((peers(&scope), problem(&scope)), (vec![edge], None));
        assert_eq!(sources(&scope), [("namespaces", json!(["edge"]))]);
    }
}
