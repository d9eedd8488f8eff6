//! What gateways say of the routes, where that is no good news. Pure.

use jiff::{SignedDuration, Timestamp};

use crate::api::{FinServiceSpec, Problem};
use crate::finservice::index::child::Facts;
use crate::finservice::index::gateways::IstioGateway;
use crate::finservice::index::{Observed, legacy};
use crate::finservice::plan::Plan;
use crate::runtime::key::Key;

/// How long a gateway may take until it says something of a route.
const TAKEN_WITHIN: SignedDuration = SignedDuration::from_secs(10);

/// Adds what gateways say of the routes, and of themselves, where that is no good news.
pub fn add(seen: &Observed, now: Timestamp, plan: &mut Plan) {
    let spec = &seen.service.spec;
    let namespace = seen.service.metadata.namespace.as_deref().unwrap_or_default();
    let Some((of, gateway)) = spec.ingress.as_ref().map(|ingress| ingress.gateway_in(namespace)) else {
        return;
    };
    plan.problems.extend(seen.istio_gateway.as_ref().and_then(|said| of_istio(of, gateway, said)));
    for child in &seen.children {
        let Facts::Route(route) = &child.facts else { continue };
        let (kind, name) = (child.kind.name(), &child.name);
        let look = format!(
            "See `kubectl -n {namespace} get {} {name} -o yaml`, status.parents.",
            kind.to_lowercase()
        );
        if let Some(words) = &route.refused {
            let problem = match words.starts_with("Accepted") {
                true => Problem::error,
                false => Problem::warning,
            };
            let grant = grant(spec, namespace).filter(|_| words.contains("RefNotPermitted"));
            plan.problems.push(problem(
                "spec.ingress.gateway",
                format!("Gateway {of}/{gateway} says of {kind} {name}: {words}"),
                grant.unwrap_or(look),
            ));
        } else if let Some(since) = route.unclaimed_since {
            let until = since.saturating_add(TAKEN_WITHIN).unwrap_or(Timestamp::MAX);
            if until > now {
                plan.look_again(until);
                continue;
            }
            plan.problems.push(Problem::warning(
                "spec.ingress.gateway",
                format!("no gateway has taken {kind} {name}: nobody from outside reaches the service by it"),
                format!("Look whether there is a Gateway {gateway} and its controller runs: `kubectl -n {of} get gateway {gateway}`; or correct spec.ingress.gateway."),
            ));
        }
    }
}

/// What is wrong with a Gateway of Istio.
fn of_istio(of: &str, gateway: &str, said: &IstioGateway) -> Option<Problem> {
    let (message, remedy) = match said {
        IstioGateway::Serves => return None,
        IstioGateway::Absent => (
            format!("there is no Gateway {of}/{gateway} of Istio: nobody from outside reaches the service"),
            format!(
                "Create it, or correct spec.ingress.gateway; `kubectl get gateways.networking.istio.io -n {of}` lists those \
                 that there are."
            ),
        ),
        IstioGateway::Lacks(hosts) => {
            let hosts = hosts.join(", ");
            (
                format!(
                    "Gateway {of}/{gateway} has no server for {hosts}: nobody from outside reaches the service there"
                ),
                format!(
                    "Add {hosts} to spec.servers of Gateway {of}/{gateway}, or correct spec.ingress.hosts."
                ),
            )
        }
    };
    Some(Problem::warning("spec.ingress.gateway", message, remedy))
}

/// What the owner of the legacy backend's namespace has to apply, so that a route of ours may lead there.
fn grant(spec: &FinServiceSpec, namespace: &str) -> Option<String> {
    let Key { namespace: of, name, .. } = legacy::named(namespace, spec)?;
    let grant = serde_json::json!({
        "apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "ReferenceGrant",
        "metadata": {"name": format!("{namespace}-{name}"), "namespace": of},
        "spec": {
            "from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": namespace}],
            "to": [{"group": "", "kind": "Service", "name": name}],
        },
    });
    Some(format!("Let the owner of namespace {of} apply this with `kubectl apply -f -`: {grant}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn faults_5_6_the_grant_for_a_backend_elsewhere_is_there_to_be_pasted() {
        let mut spec = crate::finservice::testing::rich();
        spec.legacy.as_mut().expect("a backend").host = "monolith.legacy.svc.cluster.local".to_owned();
        let remedy = grant(&spec, "pay").expect("a grant");
        let (words, grant) = remedy.split_once(": ").expect("a grant");
        assert!(words.contains("owner of namespace legacy"), "{words}");
        let grant: serde_json::Value = serde_json::from_str(grant).expect("JSON");
        assert_eq!(grant["spec"]["from"][0]["namespace"], "pay");
        assert_eq!(
            (&grant["metadata"]["namespace"], &grant["spec"]["to"][0]["name"]),
            (&json!("legacy"), &json!("monolith"))
        );
    }
}
