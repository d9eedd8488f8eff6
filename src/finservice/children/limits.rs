//! What was asked for and cannot be had in the way that was asked: problems that come from the spec
//! alone.

use super::metric_source::MetricSource;
use super::prometheus_rule::{SHORTEST_OBJECTIVE, never_told};
use super::routing::legacy_service;
use super::{Scope, authorization_policy, autoscaler, gateway_pods, outbound, peer_authentication};
use crate::api::network::MeshProvider;
use crate::api::{Problem, units};

/// The problems of the children of this spec, irrespective of what is installed.
pub fn problems(scope: &Scope) -> Vec<Problem> {
    let mut problems = Vec::new();
    let spec = scope.spec;
    let provider = spec.provider();
    let outbound = spec.access.as_ref().and_then(|access| access.outbound.as_ref());
    if provider != MeshProvider::Istio
        && outbound.is_some_and(|o| o.hosts.as_ref().is_some_and(|h| !h.is_empty()))
    {
        problems.push(Problem::warning(
            "spec.access.outbound.hosts",
            "a NetworkPolicy knows no names of hosts: port 443 is open to all addresses",
            "Use mesh.provider Istio, which holds to the names, or name address ranges in access.outbound.addresses instead.",
        ));
    }
    let accounts = spec.access.iter().flat_map(|access| access.inbound.iter().flatten());
    if provider != MeshProvider::Istio && accounts.into_iter().any(|peer| peer.service_account.is_some()) {
        problems.push(Problem::warning(
            "spec.access.inbound",
            "a NetworkPolicy knows no service accounts: all pods of that namespace are let in",
            "Use mesh.provider Istio, or name the FinService that calls.",
        ));
    }
    if provider == MeshProvider::Istio {
        problems.extend(of_mesh(scope));
    }
    problems.extend(gateway_pods::problem(scope));
    if provider == MeshProvider::GatewayAPI
        && let Err(problem) = legacy_service(scope)
    {
        problems.push(problem);
    }
    for (resource, named) in autoscaler::follows(spec) {
        let has = spec.resources.as_ref().is_some_and(|resources| {
            let amounts = [&resources.requests, &resources.limits].into_iter().flatten();
            amounts.into_iter().any(|amounts| amounts.contains_key(resource))
        });
        if !has {
            problems.push(Problem::warning(
                "spec.resources.requests",
                format!("the autoscaler goes by the share of the {named} request, and there is none: it does nothing"),
                format!("Set resources.requests.{resource}."),
            ));
        }
    }
    problems.extend(objectives(scope));
    problems.extend(impossible(scope));
    problems
}

/// Objectives whose burn nobody can be told of as it is usual.
fn impossible(scope: &Scope) -> Vec<Problem> {
    let Some(slo) = &scope.spec.slo else { return Vec::new() };
    let mut problems = Vec::new();
    let window = slo.window.as_deref().and_then(units::duration);
    if window.is_some_and(|window| window < SHORTEST_OBJECTIVE) {
        problems.push(Problem::warning(
            "spec.slo.window",
            "a window of less than an hour holds too few scrapes of metrics: the objective is judged over one hour",
            "Set slo.window to 1h or more; 30d is usual.",
        ));
    }
    let availability = slo.availability.as_deref().map(|percent| ("spec.slo.availability", percent));
    let latency = slo.latency.as_ref().map(|latency| ("spec.slo.latency.percent", latency.percent.as_str()));
    for (field, percent) in availability.into_iter().chain(latency) {
        if never_told(percent).contains(&"page") {
            problems.push(Problem::warning(
                field,
                format!(
                    "with {percent} % nobody is paged: the budget burns six times too fast only if more than all requests are bad"
                ),
                "Promise more than 83.4 %; until then the alert with severity ticket is all that there is.",
            ));
        }
    }
    problems
}

/// What Istio does not do in the way that was asked.
fn of_mesh(scope: &Scope) -> Vec<Problem> {
    let mut problems = Vec::new();
    let access = scope.spec.access.as_ref();
    if outbound::any_port(scope.spec) {
        problems.push(Problem::info(
            "spec.access.outbound.cidrs",
            "Istio knows no ranges of addresses without ports: its proxies let everything out, and the NetworkPolicy alone holds the pods to what is named",
            "Name the ranges in access.outbound.addresses, with their ports: - {cidr: 10.3.0.0/16, ports: [5432]}.",
        ));
    }
    let inbound = access.and_then(|access| access.inbound.as_deref()).unwrap_or_default();
    let by_address = inbound.iter().any(|peer| peer.cidr.is_some());
    if (by_address || gateway_pods::outside(scope)) && peer_authentication::strict(scope) {
        let source = if by_address { "spec.access.inbound" } else { "spec.ingress.gateway" };
        problems.push(Problem::warning(
            source,
            "who is told by an address has no certificate of the mesh, and mTLS is Strict: such callers are refused",
            "Set mesh.mtls to Permissive; or name the callers by service, or by namespace, if they are in the mesh.",
        ));
    }
    let tcp: Vec<&str> = authorization_policy::tcp_ports(scope).map(|port| port.name.as_str()).collect();
    if access.is_some_and(|access| access.jwt.is_some()) && !tcp.is_empty() {
        problems.push(Problem::warning(
            "spec.access.jwt",
            format!(
                "port {} has no requests that could carry a token (protocol TCP): whoever may call is let in there without one",
                tcp.join(", ")
            ),
            "Nothing to do if that is meant; else set the port's protocol to HTTP, HTTP2 or GRPC.",
        ));
    }
    problems
}

fn objectives(scope: &Scope) -> Option<Problem> {
    let slo = scope.spec.slo.as_ref()?;
    let watched = scope.metrics_port().is_some();
    if scope.spec.provider() != MeshProvider::Istio && !watched {
        return Some(Problem::warning(
            "spec.slo",
            "nothing counts the requests of this service: its objectives are never judged",
            "Set observability.metrics, so that the service's own metrics are scraped, or use mesh.provider Istio.",
        ));
    }
    let latency = slo.latency.as_ref()?;
    (!watched && !MetricSource::istio_has(&latency.threshold)).then(|| {
        Problem::warning(
            "spec.slo.latency.threshold",
            format!(
                "{} is no bound of Istio's histogram, and the service's own is not scraped",
                latency.threshold
            ),
            "Choose one of its bounds, such as 100ms, 250ms, 500ms or 1s, or set observability.metrics.",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::network::{Access, Outbound};
    use crate::api::operations::Slo;
    use crate::api::workload::Scale;
    use crate::finservice::testing;

    fn sources(spec: &crate::api::FinServiceSpec) -> Vec<String> {
        problems(&testing::scope(spec)).into_iter().map(|problem| problem.source).collect()
    }

    #[test]
    fn a_plain_service_has_no_problems() {
        assert_eq!(sources(&testing::minimal()), Vec::<String>::new());
        // Both are told, and meant.
        assert_eq!(sources(&testing::rich()), ["spec.access.outbound.cidrs", "spec.access.jwt"]);
    }

    #[test]
    fn what_cannot_be_had_is_said() {
        let mut spec = testing::minimal();
        spec.access = Some(Access {
            outbound: Some(Outbound {
                hosts: Some(vec!["api.stripe.com".to_owned()]),
                ..Outbound::default()
            }),
            ..Access::default()
        });
        spec.scale = Some(Scale { min: Some(2), max: Some(4), ..Scale::default() });
        spec.slo = Some(Slo { availability: Some("99.9".to_owned()), ..Slo::default() });
        assert_eq!(sources(&spec), ["spec.access.outbound.hosts", "spec.resources.requests", "spec.slo"]);
    }
}
