//! What a tour reads: the rollout's status, its route, and what the gateway has counted.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::api::{DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use serde_json::Value;

use super::event::{Moment, Seen};
use super::script::Script;
use crate::api::{CanaryRollout, CanaryRolloutStatus};
use crate::runtime::exposition::visit;
use crate::sandbox::error::{Context, Result};
use crate::sandbox::traffic::Tally;

/// Envoy's counter of answers, by class of their status.
const CLASSES: &str = "envoy_cluster_upstream_rq_xx";
/// How long the gateway may take to tell its counters.
const ANSWER: Duration = Duration::from_secs(5);

/// Answers that the gateway counted, and those of status 500 or more among them.
pub(super) type Counted = (u64, u64);

/// Where it is read.
pub(super) struct Source {
    rollout: String,
    rollouts: Api<CanaryRollout>,
    routes: Api<DynamicObject>,
    http: reqwest::Client,
    stats_url: String,
    /// How the Services of revisions begin, and how the gateway calls them.
    backend: String,
    cluster: String,
}

impl Source {
    pub(super) fn new(client: &Client, script: &Script, stats_url: String) -> Result<Self> {
        let route =
            ApiResource::from_gvk(&GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "HTTPRoute"));
        let http = reqwest::Client::builder().no_proxy().timeout(ANSWER).build();
        let backend = format!("{}-", script.service);
        Ok(Self {
            rollout: script.rollout.clone(),
            rollouts: Api::namespaced(client.clone(), &script.namespace),
            routes: Api::namespaced_with(client.clone(), &script.namespace, &route),
            http: http.context(|| "making an HTTP client")?,
            stats_url,
            cluster: format!("{}_{backend}", script.namespace),
            backend,
        })
    }

    /// What the operator says; what it says of an older spec is not of use.
    pub(super) async fn status(&self) -> Result<Option<CanaryRolloutStatus>> {
        let found = self.rollouts.get(&self.rollout).await.context(|| "reading the CanaryRollout")?;
        let generation = found.metadata.generation;
        Ok(found.status.filter(|status| status.observed_generation == generation))
    }

    /// The weight of a revision in the routes.
    pub(super) async fn weight(&self, revision: &str) -> Result<i64> {
        let routes = self.routes.list(&ListParams::default()).await.context(|| "reading the routes")?;
        let backend = format!("{}{revision}", self.backend);
        Ok(routes.iter().map(|route| weight_of(&route.data, &backend)).max().unwrap_or(0))
    }

    /// What the gateway counted for each revision that it knows now.
    pub(super) async fn counted(&self) -> Result<BTreeMap<String, Counted>> {
        let reading = || "reading the gateway's counters";
        let answer = self.http.get(&self.stats_url).send().await.context(reading)?;
        let text = answer.error_for_status().context(reading)?.text().await.context(reading)?;
        counted(&text, &self.cluster)
    }
}

/// The largest weight of a backend among a route's rules; zero where none names it.
fn weight_of(route: &Value, backend: &str) -> i64 {
    let rules = route["spec"]["rules"].as_array().into_iter().flatten();
    let backends = rules.flat_map(|rule| rule["backendRefs"].as_array().into_iter().flatten());
    let named = backends.filter(|found| found["name"] == backend);
    // Gateway API takes a weight that is left out for one.
    named.map(|found| found["weight"].as_i64().unwrap_or(1)).max().unwrap_or(0)
}

/// Counts by revision: the gateway's names are `<namespace>_<service>-<revision>_<port>`.
fn counted(text: &str, prefix: &str) -> Result<BTreeMap<String, Counted>> {
    let mut counted: BTreeMap<String, Counted> = BTreeMap::new();
    visit(text, &[CLASSES], |sample| {
        let name = sample.label("envoy_cluster_name").unwrap_or_default();
        let revision = name.strip_prefix(prefix).and_then(|rest| Some(rest.rsplit_once('_')?.0));
        let Some(revision) = revision else { return };
        let value = sample.value.max(0.0) as u64;
        let (answers, failed) = counted.entry(revision.to_owned()).or_default();
        *answers += value;
        if sample.label("envoy_response_code_class").as_deref() == Some("5") {
            *failed += value;
        }
    })
    .context(|| "reading the gateway's counters")?;
    Ok(counted)
}

/// Where the rollout stands, as users and operator see it.
pub(super) fn moment(status: &CanaryRolloutStatus, tally: &Tally) -> Moment {
    Moment {
        phase: status.phase.clone().unwrap_or_default(),
        step: status.step.clone().unwrap_or_default(),
        asked: status.weight.as_ref().map(|weight| weight.asked).unwrap_or_default(),
        observed: status.weight.as_ref().and_then(|weight| weight.observed),
        verdict: status.verdict.clone(),
        message: status.message.clone().unwrap_or_default(),
        metrics: status.metrics.clone(),
        users: tally.releases.keys().map(|image| seen(tally, image)).collect(),
        broken: tally.broken.values().sum(),
    }
}

/// What users saw of an image.
pub(super) fn seen(tally: &Tally, image: &str) -> Seen {
    let answers = tally.of(image);
    Seen { release: Script::short(image).to_owned(), answers: answers.total(), failed: answers.failed() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_weight_is_that_of_the_revisions_own_service() {
        let backends = json!([{"name": "app-a", "weight": 90}, {"name": "app-b", "weight": 10}]);
        let route = json!({"spec": {"rules": [
            {"backendRefs": [{"name": "app-b-direct"}]}, {"backendRefs": backends},
        ]}});
        assert_eq!(weight_of(&route, "app-b"), 10);
        assert_eq!(weight_of(&route, "app-b-direct"), 1);
        assert_eq!((weight_of(&route, "app-c"), weight_of(&Value::Null, "app-b")), (0, 0));
    }

    #[test]
    fn the_gateway_counts_by_revision() {
        let line = |cluster: &str, class: u32, value: u32| {
            format!(
                "{CLASSES}{{envoy_response_code_class=\"{class}\",envoy_cluster_name=\"{cluster}\"}} {value}\n"
            )
        };
        let text = [
            line("shop_app-a_8080", 2, 90),
            line("shop_app-b_8080", 2, 8),
            line("shop_app-b_8080", 5, 3),
            line("shop_other-b_8080", 5, 7),
        ]
        .concat();
        let found = counted(&text, "shop_app-").unwrap();
        assert_eq!(found, BTreeMap::from([("a".to_owned(), (90, 0)), ("b".to_owned(), (11, 3))]));
        assert!(counted("envoy_cluster_upstream_rq_xx{", "shop_app-").is_err());
    }
}
