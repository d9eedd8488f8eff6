//! What was asked for and cannot be had in the way that was asked: problems that come from the spec
//! alone.

use super::metric_source::MetricSource;
use super::routing::legacy_service;
use super::{Scope, autoscaler};
use crate::api::Problem;
use crate::api::network::MeshProvider;

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
            "Use mesh.provider Istio, which holds to the names, or name address ranges in access.outbound.cidrs instead.",
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
        assert_eq!(sources(&testing::rich()), Vec::<String>::new());
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
