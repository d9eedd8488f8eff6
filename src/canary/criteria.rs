//! What a canary is judged by: its metrics, their margins and limits, from the policy and from what its FinService promises.
//! Pure.

use super::fields::Reader;
use crate::api::canaryrollout::Via;
use crate::api::finservice::Traffic;
use crate::api::operations::Slo;
use crate::api::units::percent;
use crate::api::{CanaryRolloutSpec, Problem};
use crate::evidence::Budget;
use crate::judge::Metric;

/// The burn rate at which an SLO pages at its fastest (*The Site Reliability Workbook*, table 5-8).
const PAGING_BURN: f64 = 14.4;
/// The highest limit that is taken from an SLO. An availability under 96.5 % pages only where more than half of all
/// requests fail, or never: that is no limit for a release.
const HIGHEST_OF_SLO: f64 = 0.5;

/// The error budget of a target in percent, if it is one.
fn budget(target: &str) -> Option<Budget> {
    Budget::of(percent(target)? / 100.0).ok()
}

/// The bad rate at which an SLO pages.
fn pages_at(budget: Budget) -> Option<f64> {
    Some(PAGING_BURN * budget.share()).filter(|limit| *limit <= HIGHEST_OF_SLO)
}

impl Reader {
    /// What is compared, and the limits of it.
    pub fn metrics(&mut self, spec: &CanaryRolloutSpec, slo: Option<&Slo>, traffic: Traffic) -> Vec<Metric> {
        let none = Default::default();
        let analysis = spec.analysis.as_ref().unwrap_or(&none);
        let mut metrics = Vec::new();
        let errors = analysis.error_rate.as_ref();
        // A flag's variants are answered by the same pods, and what fetches its work has no requests to count: there the
        // service's own metrics stand for it.
        let replaced = spec.via == Some(Via::FeatureFlag) || traffic == Traffic::Pulled;
        // Both variants of a flag are answered by the same pods, so what these count is not shared by the flag.
        let counts_requests = spec.via != Some(Via::FeatureFlag);
        let by_default = !replaced || (analysis.latency.is_none() && analysis.custom.is_none());
        if errors.map_or(by_default, |errors| errors.enabled.unwrap_or(true)) {
            let field = "spec.analysis.errorRate.maxIncrease";
            let max_increase = self.share(field, errors.and_then(|e| e.max_increase.as_ref()), 0.005);
            let mut limit = errors.and_then(|e| e.limit.as_deref()).and_then(percent).map(|p| p / 100.0);
            if let Some(budget) = slo.and_then(|slo| budget(slo.availability.as_deref()?)) {
                limit = limit.or(pages_at(budget));
                if let Err(over) = budget.check(max_increase) {
                    let remedy =
                        "Lower it, or accept that a release that passes may use up the error budget.";
                    self.problems.push(Problem::warning(field, over.to_string(), remedy));
                }
            }
            metrics.push(Metric {
                name: "error-rate".to_owned(),
                max_increase,
                limit,
                counts_requests,
                sums: false,
                asks: false,
                optional: false,
            });
        }
        let refused = analysis.client_errors.as_ref();
        if refused.map_or(!replaced, |refused| refused.enabled.unwrap_or(true)) {
            let field = "spec.analysis.clientErrors.maxIncrease";
            metrics.push(Metric {
                name: "client-errors".to_owned(),
                max_increase: self.share(
                    field,
                    refused.and_then(|refused| refused.max_increase.as_ref()),
                    0.02,
                ),
                limit: None,
                // How requests are shared is told by the others.
                counts_requests: false,
                sums: false,
                asks: true,
                optional: refused.is_none(),
            });
        }
        // What the service promises is judged, whoever writes it down.
        let promised = slo.and_then(|slo| slo.latency.as_ref()).filter(|_| !replaced);
        if analysis.latency.is_some() || promised.is_some() {
            let latency = analysis.latency.as_ref();
            let field = "spec.analysis.latency.maxIncrease";
            let max_increase =
                self.share(field, latency.and_then(|latency| latency.max_increase.as_ref()), 0.01);
            let limit =
                latency.and_then(|latency| latency.limit.as_deref()).and_then(percent).map(|p| p / 100.0);
            let of_slo = || promised.and_then(|promised| budget(&promised.percent)).and_then(pages_at);
            metrics.push(Metric {
                name: "latency".to_owned(),
                max_increase,
                limit: if latency.is_some() { limit } else { of_slo() },
                counts_requests,
                sums: false,
                asks: false,
                optional: latency.is_none(),
            });
        }
        for custom in analysis.custom.iter().flatten() {
            let field = format!("spec.analysis.custom[{}].maxIncrease", custom.name);
            let max_increase = self.share(&field, custom.max_increase.as_ref(), 0.005);
            metrics.push(Metric {
                name: custom.name.clone(),
                max_increase,
                limit: None,
                // What a flag shares is counted by metrics of the service's own; else these may count anything.
                counts_requests: spec.via == Some(Via::FeatureFlag),
                sums: true,
                asks: false,
                optional: false,
            });
        }
        metrics
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::operations::LatencySlo;
    use crate::canary::Policy;

    #[test]
    fn the_error_rate_is_judged_unless_it_is_switched_off_by_name() {
        let names = |analysis: serde_json::Value, more: serde_json::Value, traffic| {
            let mut spec = json!({"service": "a", "strategy": {"blueGreen": {}}, "analysis": analysis});
            spec.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            let spec: CanaryRolloutSpec = serde_json::from_value(spec).expect("a spec");
            let availability = Some("99.9".to_owned());
            let slo = Slo { availability, latency: None, window: None };
            let (policy, _) = Policy::of(&spec, Some(&slo), traffic);
            let limited = |metric: &Metric| {
                format!("{}{}", metric.name, if metric.limit.is_some() { " limited" } else { "" })
            };
            policy.metrics.iter().map(limited).collect::<Vec<_>>()
        };
        let requests = |analysis| names(analysis, json!({}), Traffic::Requests);
        let latency = json!({"threshold": "200ms"});
        let custom = json!([{"name": "double", "bad": "a", "total": "b"}]);
        assert_eq!(requests(json!({"latency": latency})), ["error-rate limited", "client-errors", "latency"]);
        assert_eq!(requests(json!({"custom": custom})), ["error-rate limited", "client-errors", "double"]);
        assert_eq!(
            requests(json!({"latency": latency, "errorRate": {"enabled": false}})),
            ["client-errors", "latency"]
        );
        assert_eq!(
            requests(json!({"latency": latency, "errorRate": {}})),
            ["error-rate limited", "client-errors", "latency"]
        );
        let not_asked = json!({"clientErrors": {"enabled": false}});
        assert_eq!(requests(not_asked), ["error-rate limited"]);
        let flag = json!({"via": "FeatureFlag"});
        assert_eq!(names(json!({"custom": custom}), flag, Traffic::Requests), ["double"]);
        // The pods of a flag answer both variants: what they count tells nothing of its percentage.
        let spec = json!({
            "service": "a", "strategy": {"blueGreen": {}}, "via": "FeatureFlag",
            "analysis": {"custom": custom, "errorRate": {"limit": "5"}, "latency": latency},
        });
        let spec: CanaryRolloutSpec = serde_json::from_value(spec).expect("a spec");
        let metrics = Policy::of(&spec, None, Traffic::Requests).0.metrics;
        let shared = metrics.iter().map(|metric| (metric.name.as_str(), metric.counts_requests));
        assert_eq!(shared.collect::<Vec<_>>(), [("error-rate", false), ("latency", false), ("double", true)]);
        assert_eq!(names(json!({"custom": custom}), json!({}), Traffic::Pulled), ["double"]);
        assert_eq!(names(json!({}), json!({}), Traffic::Pulled), ["error-rate limited"]);
    }

    fn of_slo(availability: Option<&str>, latency: Option<&str>, analysis: serde_json::Value) -> Vec<Metric> {
        let spec = json!({"service": "a", "strategy": {"blueGreen": {}}, "analysis": analysis});
        let spec: CanaryRolloutSpec = serde_json::from_value(spec).expect("a spec");
        let latency =
            latency.map(|percent| LatencySlo { threshold: "200ms".into(), percent: percent.into() });
        let slo = Slo { availability: availability.map(str::to_owned), latency, window: None };
        Policy::of(&spec, Some(&slo), Traffic::Requests).0.metrics
    }

    #[test]
    fn an_slo_that_pages_hardly_ever_is_no_limit_for_a_release() {
        let limit = |availability| of_slo(Some(availability), None, json!({}))[0].limit;
        assert!(limit("99").is_some_and(|limit| (limit - 0.144).abs() < 1e-9));
        assert_eq!((limit("96"), limit("93"), limit("50")), (None, None, None));
    }

    #[test]
    fn a_promised_latency_is_judged_unless_something_else_is_asked_for() {
        let promised = of_slo(None, Some("99"), json!({}));
        assert_eq!((promised[2].name.as_str(), promised[2].optional), ("latency", true));
        assert!(promised[2].limit.is_some_and(|limit| (limit - 0.144).abs() < 1e-9));
        let asked = of_slo(None, Some("99"), json!({"latency": {"threshold": "1s"}}));
        assert_eq!((asked[2].optional, asked[2].limit), (false, None));
        assert_eq!(of_slo(None, None, json!({})).len(), 2);
    }
}
