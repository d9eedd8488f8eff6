//! What becomes of a FinService whose old backend is not its own to publish. Pure.

use crate::api::Problem;
use crate::api::labels::LEGACY_FOR_ANNOTATION;
use crate::finservice::index::Observed;
use crate::finservice::index::legacy::Refused;

/// The problem of an old backend to which no route may lead. Then nothing is begun or changed: without the old backend its
/// paths would go to the FinService all at once.
pub fn problem(seen: &Observed) -> Option<Problem> {
    let refused = seen.legacy_refused.as_ref()?;
    let host = &seen.service.spec.legacy.as_ref()?.host;
    let namespace = seen.service.metadata.namespace.as_deref().unwrap_or_default();
    let (why, remedy) = match refused {
        Refused::NotGiven(service) => (
            format!("{host} is a Service of namespace {}, whose owner has not given it", service.namespace),
            format!(
                "Have its owner say so: `kubectl -n {} annotate service {} {LEGACY_FOR_ANNOTATION}={namespace}`.",
                service.namespace, service.name
            ),
        ),
        Refused::NameOfTheCluster => (
            format!("{host} is a name of this cluster's that does not tell whose it is"),
            "Write it in full, as name.namespace.svc.cluster.local.".to_owned(),
        ),
        Refused::Address => (
            format!("{host} is an address: whose it is nobody can tell"),
            "Name a host, or make a Service in the namespace of the FinService and name that.".to_owned(),
        ),
    };
    let message = format!("{why}; nothing is begun or changed here");
    Some(Problem::error("spec.legacy.host", message, remedy))
}
