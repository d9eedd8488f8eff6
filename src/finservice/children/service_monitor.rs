//! The Prometheus operator's ServiceMonitor.

use crate::api::labels::{REVISION_LABEL, SERVICE_LABEL, VERSION_LABEL};
use serde_json::json;

use super::{Child, Kind, Scope};
use crate::api::units;

/// Path of the metrics unless the spec says otherwise.
pub const PATH: &str = "/metrics";
/// Time between two scrapes unless the spec says otherwise.
pub const INTERVAL: std::time::Duration = std::time::Duration::from_secs(15);

/// Scrapes the pods of all revisions; none unless the spec names a metrics port.
///
/// It goes by the revisions' Services and not by the plain one, with which stable would be scraped
/// twice and a canary not at all.
pub fn build(scope: &Scope) -> Option<Child> {
    let metrics = scope.spec.observability.as_ref()?.metrics.as_ref()?;
    let interval =
        metrics.interval.as_deref().and_then(units::duration).filter(|i| !i.is_zero()).unwrap_or(INTERVAL);
    Some(scope.child(
        Kind::ServiceMonitor,
        scope.name.to_owned(),
        None,
        json!({"spec": {
            "jobLabel": "app.kubernetes.io/name",
            "selector": {
                "matchLabels": scope.service_labels(),
                "matchExpressions": [{"key": REVISION_LABEL, "operator": "Exists"}],
            },
            // They become the labels banyan_dev_service and so on, which rules and evidence use.
            "podTargetLabels": [SERVICE_LABEL, REVISION_LABEL, VERSION_LABEL],
            "endpoints": [{
                "port": metrics.port,
                "path": metrics.path.as_deref().unwrap_or(PATH),
                "interval": units::display(interval),
            }],
        }}),
    ))
}
