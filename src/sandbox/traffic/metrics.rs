//! What a server says of its requests: OpenTelemetry's histogram of durations, as its exporters write it for Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// The histogram's name.
pub const DURATION: &str = "http_server_request_duration_seconds";
/// Upper bounds of its buckets, in seconds: those that OpenTelemetry's conventions name.
const BOUNDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// How many routes are told apart; a server whose paths have no end must not run out of memory.
const ROUTES: usize = 32;
/// The route of all others.
const OTHER: &str = "/*";

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    method: String,
    status: u16,
    route: String,
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
        let known = self.routes.iter().any(|route| route == path);
        if !known && self.routes.len() < ROUTES {
            self.routes.push(path.to_owned());
        }
        let route = if known || self.routes.last().is_some_and(|route| route == path) { path } else { OTHER };
        let key = Key { method: method.to_owned(), status, route: route.to_owned() };
        let seconds = took.as_secs_f64();
        let series = self.series.entry(key).or_default();
        series.buckets[BOUNDS.partition_point(|bound| *bound < seconds)] += 1;
        series.sum += seconds;
    }

    /// How many requests were answered, and how many of them with 500 or more.
    pub fn requests(&self) -> (u64, u64) {
        let count = |series: &Series| series.buckets.iter().sum::<u64>();
        let all = self.series.values().map(count).sum();
        let failed =
            self.series.iter().filter(|(key, _)| key.status >= 500).map(|(_, series)| count(series)).sum();
        (all, failed)
    }

    /// The text that Prometheus scrapes.
    pub fn text(&self) -> String {
        let mut text =
            format!("# HELP {DURATION} Duration of HTTP server requests.\n# TYPE {DURATION} histogram\n");
        for (key, series) in &self.series {
            let labels = format!(
                "http_request_method=\"{}\",http_response_status_code=\"{}\",http_route=\"{}\"",
                escaped(&key.method),
                key.status,
                escaped(&key.route)
            );
            let mut count = 0;
            let bounds = BOUNDS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
            // Writing to a String cannot fail.
            for (bound, bucket) in bounds.zip(series.buckets) {
                count += bucket;
                let _ = writeln!(text, "{DURATION}_bucket{{{labels},le=\"{bound}\"}} {count}");
            }
            let _ = writeln!(text, "{DURATION}_sum{{{labels}}} {}", series.sum);
            let _ = writeln!(text, "{DURATION}_count{{{labels}}} {count}");
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
