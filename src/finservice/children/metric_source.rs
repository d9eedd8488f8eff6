//! Which metrics tell of a service's requests: PromQL that rules, dashboard and objectives share.

use super::Scope;
use super::peer_authentication::strict;
use crate::api::finservice::Traffic;
use crate::api::network::MeshProvider;
use crate::api::units;
use crate::signals::grpc::{self, Family, Speaks};
use crate::signals::pods::{FAMILY as HTTP, STATUS};

/// Bounds of Istio's histogram of durations, in milliseconds.
const ISTIO_BOUNDS: [u128; 18] = [
    1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 600_000,
    1_800_000, 3_600_000,
];

/// PromQL about one service.
#[derive(Clone, Debug)]
pub struct MetricSource {
    istio: Option<String>,
    own: String,
    speaks: Speaks,
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
            speaks: scope.speaks(),
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
            None => self.counted("sum", window),
        }
    }

    /// Requests that failed, as a rate over `window`; zero where there are none.
    pub fn errors(&self, window: &str) -> String {
        let Some(labels) = &self.istio else {
            let http = format!(r#"sum(rate({HTTP}_count{{{},{STATUS}=~"5.."}}[{window}]))"#, self.own);
            let calls = || calls("sum", window, |family| family.failures(&self.own));
            return match self.speaks {
                Speaks::Http => format!("({http} or vector(0))"),
                // Where calls are counted, HTTP is what scrapes and probes speak.
                Speaks::Grpc => {
                    format!("({} or ({http} unless ({})) or vector(0))", calls(), self.calls("sum", window))
                }
                Speaks::Both => format!("(sum({} or {}) or vector(0))", calls(), apart(&http)),
            };
        };
        let http = format!(
            r#"(sum(rate(istio_requests_total{{{labels},response_code=~"5.."}}[{window}])) or vector(0))"#
        );
        if self.speaks == Speaks::Http {
            return http;
        }
        // A gRPC call that fails mostly has the HTTP status 200.
        format!(
            r#"({http} + (sum(rate(istio_requests_total{{{labels},response_code!~"5..",grpc_response_status=~"{}"}}[{window}])) or vector(0)))"#,
            grpc::faults()
        )
    }

    /// Requests that took at most `threshold`, and those that it is a share of, as rates over
    /// `window`. The pods' own histogram is asked where Istio's has no such bound. A histogram that has
    /// no such bound either gives no answer: zero would count every request as slow, and page.
    pub fn fast(&self, threshold: &str, window: &str) -> (String, String) {
        let millis = units::duration(threshold).unwrap_or_default().as_millis();
        if let Some(labels) = self.istio.as_ref().filter(|_| ISTIO_BOUNDS.contains(&millis)) {
            return (
                format!(
                    r#"sum(rate(istio_request_duration_milliseconds_bucket{{{labels},le=~"{millis}([.]0)?"}}[{window}]))"#
                ),
                format!("sum(rate(istio_request_duration_milliseconds_count{{{labels}}}[{window}]))"),
            );
        }
        let bound = |to_a_second: f64| match to_a_second {
            1.0 => seconds(millis),
            _ => format!("{millis}([.]0)?"),
        };
        let http = format!(r#"sum(rate({HTTP}_bucket{{{},le=~"{}"}}[{window}]))"#, self.own, bound(1.0));
        if self.speaks == Speaks::Http {
            return (http, self.http("sum", window));
        }
        let fast = calls("sum", window, |family| {
            family.calls("_bucket", &format!(r#"{},le=~"{}""#, self.own, bound(family.to_a_second)))
        });
        if self.speaks == Speaks::Grpc {
            return (format!("({fast} or {http})"), self.counted("sum", window));
        }
        // Only those whose histogram has the bound are what it is a share of.
        let calls = format!("({}) and ({fast})", self.calls("sum", window));
        let requests = apart(&format!("{} and {http}", self.http("sum", window)));
        (format!("sum({fast} or {})", apart(&http)), format!("sum(({calls}) or {requests})"))
    }

    /// Duration that a share `quantile` of requests stays under, in seconds, over `window`; of calls where both HTTP
    /// and gRPC are spoken.
    pub fn quantile(&self, quantile: &str, window: &str) -> String {
        let of = |buckets: &str| {
            format!("histogram_quantile({quantile}, sum by (le) (rate({buckets}[{window}])))")
        };
        if let Some(labels) = &self.istio {
            return format!(
                "{} / 1000",
                of(&format!("istio_request_duration_milliseconds_bucket{{{labels}}}"))
            );
        }
        let http = of(&format!("{HTTP}_bucket{{{}}}", self.own));
        if self.speaks == Speaks::Http {
            return http;
        }
        let calls = grpc::first_of(|family| {
            let seconds = of(&family.calls("_bucket", &self.own));
            if family.to_a_second == 1.0 { seconds } else { format!("{seconds} / {}", family.to_a_second) }
        });
        format!("{calls} or {http}")
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
            None => (self.counted("sum by (banyan_dev_revision) ", window), "{{banyan_dev_revision}}"),
        }
    }

    /// Requests that the pods count, as a rate.
    fn counted(&self, sum: &str, window: &str) -> String {
        let http = self.http(sum, window);
        match self.speaks {
            Speaks::Http => http,
            Speaks::Grpc => format!("({} or {http})", self.calls(sum, window)),
            Speaks::Both => format!("{sum}({} or {})", self.calls(sum, window), apart(&http)),
        }
    }

    fn calls(&self, sum: &str, window: &str) -> String {
        calls(sum, window, |family| family.calls("_count", &self.own))
    }

    fn http(&self, sum: &str, window: &str) -> String {
        format!("{sum}(rate({HTTP}_count{{{}}}[{window}]))", self.own)
    }

    /// Whether a threshold is among Istio's bounds.
    pub fn istio_has(threshold: &str) -> bool {
        units::duration(threshold).is_some_and(|threshold| ISTIO_BOUNDS.contains(&threshold.as_millis()))
    }
}

/// Calls of gRPC that `select` selects of a family, as a rate: of the first family that there is.
fn calls(sum: &str, window: &str, select: impl Fn(&Family) -> String) -> String {
    grpc::first_of(|family| format!("{sum}(rate({}[{window}]))", select(family)))
}

/// Requests of HTTP with a label that keeps them apart from calls in a union.
fn apart(http: &str) -> String {
    format!(r#"label_replace({http}, "spoken", "http", "", "")"#)
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
