//! Which metrics tell of a service's requests: PromQL that rules, dashboard and objectives share.

use super::Scope;
use super::peer_authentication::strict;
use crate::api::finservice::Traffic;
use crate::api::network::MeshProvider;
use crate::api::units;
use crate::api::workload::Protocol;

/// Bounds of Istio's histogram of durations, in milliseconds.
const ISTIO_BOUNDS: [u128; 18] = [
    1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 600_000,
    1_800_000, 3_600_000,
];
/// Statuses of gRPC that are the server's fault: unknown, deadline exceeded, unimplemented,
/// internal, unavailable, data loss. They are those that OpenTelemetry counts as errors of a server.
const GRPC_ERRORS: &str = "2|4|12|13|14|15";

/// PromQL about one service.
#[derive(Clone, Debug)]
pub struct MetricSource {
    istio: Option<String>,
    own: String,
    grpc: bool,
}

impl MetricSource {
    /// With Istio its proxies count, since pods miss their own crashes and refusals; else the pods'
    /// own OpenTelemetry metrics do. What fetches its work is never called through a proxy.
    pub fn of(scope: &Scope) -> Self {
        let proxied =
            scope.spec.provider() == MeshProvider::Istio && scope.spec.traffic() == Traffic::Requests;
        let istio = proxied.then(|| {
            // All callers have a proxy where they must present a certificate. Elsewhere only the
            // pods' own proxies see all requests.
            let reporter = if strict(scope) { "source" } else { "destination" };
            // The revisions' Services are `<service>-<hash>`, in the letters of hashes.
            format!(
                r#"reporter="{reporter}",destination_service_namespace="{}",destination_service_name=~"{}(-[b-z2-9]{{10}}(-direct|-fresh)?)?""#,
                scope.namespace, scope.name
            )
        });
        Self {
            istio,
            own: format!(r#"namespace="{}",banyan_dev_service="{}""#, scope.namespace, scope.name),
            grpc: scope.spec.ports.iter().any(|port| port.protocol() == Protocol::GRPC),
        }
    }

    /// Labels that select the pods' own series.
    pub fn own(&self) -> &str {
        &self.own
    }

    /// Requests, as a rate over `window`.
    pub fn requests(&self, window: &str) -> String {
        match &self.istio {
            Some(labels) => format!("sum(rate(istio_requests_total{{{labels}}}[{window}]))"),
            None => {
                format!("sum(rate(http_server_request_duration_seconds_count{{{}}}[{window}]))", self.own)
            }
        }
    }

    /// Requests that failed, as a rate over `window`; zero where there are none.
    pub fn errors(&self, window: &str) -> String {
        let Some(labels) = &self.istio else {
            return format!(
                r#"(sum(rate(http_server_request_duration_seconds_count{{{},http_response_status_code=~"5.."}}[{window}])) or vector(0))"#,
                self.own
            );
        };
        let http = format!(
            r#"(sum(rate(istio_requests_total{{{labels},response_code=~"5.."}}[{window}])) or vector(0))"#
        );
        if !self.grpc {
            return http;
        }
        // A gRPC call that fails mostly has the HTTP status 200.
        format!(
            r#"({http} + (sum(rate(istio_requests_total{{{labels},response_code!~"5..",grpc_response_status=~"{GRPC_ERRORS}"}}[{window}])) or vector(0)))"#
        )
    }

    /// Requests that took at most `threshold`, and those that it is a share of, as rates over
    /// `window`. The pods' own histogram is asked where Istio's has no such bound. A histogram that has
    /// no such bound either gives no answer: zero would count every request as slow, and page.
    pub fn fast(&self, threshold: &str, window: &str) -> (String, String) {
        let millis = units::duration(threshold).unwrap_or_default().as_millis();
        match &self.istio {
            Some(labels) if ISTIO_BOUNDS.contains(&millis) => (
                format!(
                    r#"sum(rate(istio_request_duration_milliseconds_bucket{{{labels},le=~"{millis}([.]0)?"}}[{window}]))"#
                ),
                format!("sum(rate(istio_request_duration_milliseconds_count{{{labels}}}[{window}]))"),
            ),
            _ => (
                format!(
                    r#"sum(rate(http_server_request_duration_seconds_bucket{{{},le=~"{}"}}[{window}]))"#,
                    self.own,
                    seconds(millis)
                ),
                format!("sum(rate(http_server_request_duration_seconds_count{{{}}}[{window}]))", self.own),
            ),
        }
    }

    /// Duration that a share `quantile` of requests stays under, in seconds, over `window`.
    pub fn quantile(&self, quantile: &str, window: &str) -> String {
        match &self.istio {
            Some(labels) => format!(
                "histogram_quantile({quantile}, sum by (le) (rate(istio_request_duration_milliseconds_bucket{{{labels}}}[{window}]))) / 1000"
            ),
            None => format!(
                "histogram_quantile({quantile}, sum by (le) (rate(http_server_request_duration_seconds_bucket{{{}}}[{window}])))",
                self.own
            ),
        }
    }

    /// Requests by revision, as a rate over `window`.
    pub fn by_revision(&self, window: &str) -> (String, &'static str) {
        match &self.istio {
            Some(labels) => (
                format!(
                    "sum by (destination_service_name) (rate(istio_requests_total{{{labels}}}[{window}]))"
                ),
                "{{destination_service_name}}",
            ),
            None => (
                format!(
                    "sum by (banyan_dev_revision) (rate(http_server_request_duration_seconds_count{{{}}}[{window}]))",
                    self.own
                ),
                "{{banyan_dev_revision}}",
            ),
        }
    }

    /// Whether a threshold is among Istio's bounds.
    pub fn istio_has(threshold: &str) -> bool {
        units::duration(threshold).is_some_and(|threshold| ISTIO_BOUNDS.contains(&threshold.as_millis()))
    }
}

/// Milliseconds as the bound of a histogram in seconds: a regular expression, since clients write
/// whole numbers with and without `.0`.
fn seconds(millis: u128) -> String {
    let (whole, fraction) = (millis / 1000, millis % 1000);
    if fraction == 0 {
        format!("{whole}([.]0)?")
    } else {
        format!("{whole}[.]{}", format!("{fraction:03}").trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_written_as_clients_do() {
        assert_eq!(seconds(200), "0[.]2");
        assert_eq!(seconds(1000), "1([.]0)?");
        assert_eq!(seconds(2500), "2[.]5");
        assert_eq!(seconds(5), "0[.]005");
    }
}
