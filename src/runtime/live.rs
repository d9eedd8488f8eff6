//! Numbers of the rollouts that are under way, for `/metrics`. They are read when somebody scrapes, and cost nothing
//! otherwise. Here a metric bears the name of an object: there are as many as rollouts are under way, and none at rest.

use crate::runtime::lock::lock;
use std::fmt::{Debug, Error, Formatter};
use std::sync::{Arc, Mutex};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

/// Numbers of one metric of a rollout.
#[derive(Clone, Debug, PartialEq)]
pub struct Live {
    /// Namespace of the FinService.
    pub namespace: String,
    /// Its name.
    pub service: String,
    /// The metric: `error-rate`, `client-errors`, `latency`, or a custom one's name.
    pub metric: String,
    /// The weight that is judged, in percent.
    pub weight: i32,
    /// Requests that stable and the canary answered at this weight.
    pub requests: [u64; 2],
    /// Evidence that the canary is worse.
    pub evidence: f64,
    /// The evidence that fails it.
    pub limit: f64,
}

type Read = Box<dyn Fn() -> Vec<Live> + Send>;

/// Where the numbers are read from, once that is known. Cheap to clone.
#[derive(Clone, Default)]
pub struct LiveNumbers(Arc<Mutex<Option<Read>>>);

impl Debug for LiveNumbers {
    fn fmt(&self, out: &mut Formatter<'_>) -> std::fmt::Result {
        out.write_str("LiveNumbers")
    }
}

impl LiveNumbers {
    /// Reads them from there.
    pub fn read_from(&self, read: impl Fn() -> Vec<Live> + Send + 'static) {
        *lock(&self.0) = Some(Box::new(read));
    }

    fn now(&self) -> Vec<Live> {
        lock(&self.0).as_ref().map(|read| read()).unwrap_or_default()
    }
}

impl Collector for LiveNumbers {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        let all = self.now();
        if all.is_empty() {
            return Ok(());
        }
        let mut gauge = |name: &str, help: &str, value: &dyn Fn(&Live) -> f64| {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for live in &all {
                let labels =
                    [("namespace", &*live.namespace), ("service", &*live.service), ("metric", &*live.metric)];
                metric.encode_family(&labels)?.encode_gauge(&value(live))?;
            }
            Ok::<(), Error>(())
        };
        gauge("banyan_rollout_weight", "The canary's weight that is judged, in percent", &|live| {
            f64::from(live.weight)
        })?;
        gauge("banyan_rollout_stable_requests", "Requests that stable answered at this weight", &|live| {
            live.requests[0] as f64
        })?;
        gauge(
            "banyan_rollout_canary_requests",
            "Requests that the canary answered at this weight",
            &|live| live.requests[1] as f64,
        )?;
        gauge("banyan_rollout_evidence", "Evidence that the canary is worse (an e-value)", &|live| {
            live.evidence
        })?;
        gauge("banyan_rollout_evidence_limit", "The evidence that fails the canary", &|live| live.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::metrics::Metrics;

    #[test]
    fn numbers_are_told_while_something_rolls_out_and_only_then() {
        let metrics = Metrics::new();
        assert!(!metrics.encode().expect("text").contains("banyan_rollout"));
        let live = Live {
            namespace: "pay".into(),
            service: "app".into(),
            metric: "error-rate".into(),
            weight: 10,
            requests: [900, 100],
            evidence: 2.5,
            limit: 100.0,
        };
        metrics.live().read_from(move || vec![live.clone()]);
        let text = metrics.encode().expect("text");
        let labels = r#"{namespace="pay",service="app",metric="error-rate"}"#;
        for line in [
            format!("banyan_rollout_weight{labels} 10.0"),
            format!("banyan_rollout_stable_requests{labels} 900.0"),
            format!("banyan_rollout_canary_requests{labels} 100.0"),
            format!("banyan_rollout_evidence{labels} 2.5"),
            format!("banyan_rollout_evidence_limit{labels} 100.0"),
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is not in\n{text}");
        }
        metrics.live().read_from(Vec::new);
        assert!(!metrics.encode().expect("text").contains("banyan_rollout"));
    }
}
