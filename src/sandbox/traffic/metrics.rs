//! What a server says of its requests and calls: OpenTelemetry's histograms of durations, as its exporters write them
//! for Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// The histogram of requests of HTTP.
pub const DURATION: &str = "http_server_request_duration_seconds";
/// The histogram of calls of gRPC.
pub const CALL_DURATION: &str = "rpc_server_call_duration_seconds";
/// Upper bounds of its buckets, in seconds: those that OpenTelemetry's conventions name.
const BOUNDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// How many routes are told apart; a server whose paths have no end must not run out of memory.
const ROUTES: usize = 32;
/// The route of all others.
const OTHER: &str = "/*";

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Request { method: String, status: u16, route: String },
    Call { method: String, failed: bool },
}

impl Key {
    fn failed(&self) -> bool {
        match self {
            Key::Request { status, .. } => *status >= 500,
            Key::Call { failed, .. } => *failed,
        }
    }

    /// The name of the histogram, and the labels in it.
    fn series(&self) -> (&'static str, String) {
        match self {
            Key::Request { method, status, route } => (
                DURATION,
                format!(
                    "http_request_method=\"{}\",http_response_status_code=\"{status}\",http_route=\"{}\"",
                    escaped(method),
                    escaped(route)
                ),
            ),
            Key::Call { method, failed } => {
                let status = if *failed { "UNAVAILABLE" } else { "OK" };
                let method = escaped(method);
                (CALL_DURATION, format!("rpc_method=\"{method}\",rpc_response_status_code=\"{status}\""))
            }
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Series {
    // Each value is in one bucket here; they add up in the text.
    buckets: [u64; BOUNDS.len() + 1],
    sum: f64,
}

/// The counters of one server.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    series: BTreeMap<Key, Series>,
    routes: Vec<String>,
}

impl Metrics {
    /// Notes one request that was answered.
    pub fn record(&mut self, method: &str, path: &str, status: u16, took: Duration) {
        let (method, route) = (method.to_owned(), self.route(path));
        self.add(Key::Request { method, status, route }, took);
    }

    /// Notes one call that was answered, by its path.
    pub fn record_call(&mut self, path: &str, failed: bool, took: Duration) {
        let method = self.route(path).trim_start_matches('/').to_owned();
        self.add(Key::Call { method, failed }, took);
    }

    /// The path, as long as there are not too many.
    fn route(&mut self, path: &str) -> String {
        let known = self.routes.iter().any(|route| route == path);
        if !known && self.routes.len() < ROUTES {
            self.routes.push(path.to_owned());
        }
        let route = if known || self.routes.last().is_some_and(|route| route == path) { path } else { OTHER };
        route.to_owned()
    }

    fn add(&mut self, key: Key, took: Duration) {
        let seconds = took.as_secs_f64();
        let series = self.series.entry(key).or_default();
        series.buckets[BOUNDS.partition_point(|bound| *bound < seconds)] += 1;
        series.sum += seconds;
    }

    /// How many requests and calls were answered, and how many of them failed.
    pub fn requests(&self) -> (u64, u64) {
        let count = |series: &Series| series.buckets.iter().sum::<u64>();
        let all = self.series.values().map(count).sum();
        let failed =
            self.series.iter().filter(|(key, _)| key.failed()).map(|(_, series)| count(series)).sum();
        (all, failed)
    }

    /// The text that Prometheus scrapes.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut last = "";
        for (key, series) in &self.series {
            let (name, labels) = key.series();
            // Writing to a String cannot fail.
            if name != last {
                let _ = writeln!(text, "# TYPE {name} histogram");
                last = name;
            }
            let mut count = 0;
            let bounds = BOUNDS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
            for (bound, bucket) in bounds.zip(series.buckets) {
                count += bucket;
                let _ = writeln!(text, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}");
            }
            let _ = writeln!(text, "{name}_sum{{{labels}}} {}", series.sum);
            let _ = writeln!(text, "{name}_count{{{labels}}} {count}");
        }
        text
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_add_up_in_buckets() {
        let mut metrics = Metrics::default();
        metrics.record("GET", "/pay", 200, Duration::from_millis(5));
        metrics.record("GET", "/pay", 200, Duration::from_millis(6));
        metrics.record("GET", "/pay", 200, Duration::from_secs(11));
        metrics.record("GET", "/pay", 500, Duration::ZERO);
        assert_eq!(metrics.requests(), (4, 1));
        let text = metrics.text();
        let labels = "http_request_method=\"GET\",http_response_status_code=\"200\",http_route=\"/pay\"";
        for (name, value) in [
            (format!("_bucket{{{labels},le=\"0.005\"}}"), "1"),
            (format!("_bucket{{{labels},le=\"0.01\"}}"), "2"),
            (format!("_bucket{{{labels},le=\"10\"}}"), "2"),
            (format!("_bucket{{{labels},le=\"+Inf\"}}"), "3"),
            (format!("_sum{{{labels}}}"), "11.011"),
            (format!("_count{{{labels}}}"), "3"),
        ] {
            let line = format!("{DURATION}{name} {value}");
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn calls_stand_in_a_histogram_of_their_own() {
        let mut metrics = Metrics::default();
        metrics.record("GET", "/pay", 200, Duration::ZERO);
        metrics.record_call("/pay.v1.Ledger/Post", false, Duration::from_millis(6));
        metrics.record_call("/pay.v1.Ledger/Post", true, Duration::ZERO);
        assert_eq!(metrics.requests(), (3, 1));
        let text = metrics.text();
        assert_eq!(text.lines().filter(|line| line.starts_with("# TYPE")).count(), 2);
        let labels = "rpc_method=\"pay.v1.Ledger/Post\",rpc_response_status_code=\"UNAVAILABLE\"";
        let line = format!("{CALL_DURATION}_count{{{labels}}} 1");
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }

    #[test]
    fn paths_without_end_are_put_together() {
        let mut metrics = Metrics::default();
        for number in 0..1000 {
            metrics.record("GET", &format!("/{number}"), 200, Duration::ZERO);
        }
        metrics.record("GET", "/0", 200, Duration::ZERO);
        assert_eq!(metrics.series.len(), ROUTES + 1);
        assert_eq!(metrics.requests(), (1001, 0));
        assert!(metrics.text().contains("http_route=\"/*\""));
        assert!(metrics.text().contains("http_route=\"/0\",le=\"+Inf\"} 2\n"));
    }
}
