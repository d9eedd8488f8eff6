//! What was asked for and cannot be had in the way that was asked: problems that come from the spec
//! alone.

use super::Scope;
use super::metric_source::MetricSource;
use super::routing::legacy_service;
use crate::api::Problem;
use crate::api::network::MeshProvider;

/// The problems of the children of this spec, irrespective of what is installed.
pub fn problems(scope: &Scope) -> Vec<Problem> {
    let mut problems = Vec::new();
    let spec = scope.spec;
    let provider = spec.provider();
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
    let retries = spec.mesh.as_ref().and_then(|mesh| mesh.retries.as_ref());
    if provider != MeshProvider::Istio && retries.is_some_and(|retries| retries.attempts > 0) {
        problems.push(Problem::warning(
            "spec.mesh.retries",
            "an HTTPRoute has no retries in Gateway API's standard channel: none are made",
            "Use mesh.provider Istio, or set attempts to 0.",
        ));
    }
    let autoscaled = spec.scale.as_ref().is_some_and(|scale| scale.max.is_some());
    let cpu = spec.resources.as_ref().is_some_and(|resources| {
        [&resources.requests, &resources.limits]
            .into_iter()
            .flatten()
            .any(|amounts| amounts.contains_key("cpu"))
    });
    if autoscaled && !cpu {
        problems.push(Problem::warning(
            "spec.resources.requests",
            "the autoscaler goes by the share of the CPU request, and there is none: it does nothing",
            "Set resources.requests.cpu.",
        ));
    }
    problems.extend(objectives(scope));
    problems
}

fn objectives(scope: &Scope) -> Option<Problem> {
    let latency = scope.spec.slo.as_ref()?.latency.as_ref()?;
    let istio = scope.spec.provider() == MeshProvider::Istio;
    (istio && scope.metrics_port().is_none() && !MetricSource::istio_has(&latency.threshold)).then(|| {
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
    use crate::api::network::{Access, Peer};
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
        let peer = Peer {
            namespace: Some("a".to_owned()),
            service_account: Some("b".to_owned()),
            ..Peer::default()
        };
        spec.access = Some(Access { inbound: Some(vec![peer]), ..Access::default() });
        spec.scale = Some(Scale { min: Some(2), max: Some(4), ..Scale::default() });
        assert_eq!(sources(&spec), ["spec.access.inbound", "spec.resources.requests"]);
        let mut spec = testing::rich();
        spec.observability = None;
        assert_eq!(sources(&spec), ["spec.slo.latency.threshold"]);
    }
}
