//! The many: services with a CanaryRollout each.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use banyan::api::{Action, CanaryRollout};
use banyan::finservice::children::Kind;
use banyan::finservice::write::act::api_resource;
use banyan::runtime::patch::applying;
use banyan::sandbox::audit::Audit;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use crate::ground::{self, Failure, Ground};
use crate::report::Times;
use crate::routes::Routes;

/// Namespace and name.
pub type Key = (String, String);

/// How long anything may take before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(900);

/// The many.
pub struct Rollouts<'a> {
    ground: &'a Ground,
    count: u32,
    concurrency: usize,
}

impl<'a> Rollouts<'a> {
    /// That many, of which nothing exists yet.
    pub fn new(ground: &'a Ground, count: u32, concurrency: usize) -> Self {
        Self { ground, count, concurrency }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Creates all: version 1, and the policy.
    pub async fn create(&self, prometheus: &str, interval: &str) -> Result<(), Failure> {
        let (prometheus, interval) = (prometheus.to_owned(), interval.to_owned());
        self.each(move |client, number| {
            let (prometheus, interval) = (prometheus.clone(), interval.clone());
            async move {
                let (namespace, name) = ground::place("team", number);
                let policy = json!({
                    "apiVersion": "banyan.dev/v1alpha1", "kind": "CanaryRollout",
                    "metadata": {"name": name, "namespace": namespace},
                    "spec": {
                        "service": name,
                        "strategy": {"canary": {
                            "steps": [{"weight": 10}, {"weight": 50}, {"weight": 100}], "minHold": "1h", "maxHold": "2h",
                        }},
                        "analysis": {
                            "source": {"prometheus": {"url": prometheus}}, "interval": interval, "warmup": "0s",
                            "errorRate": {"maxIncrease": "2"},
                        },
                    },
                });
                apply(&client, &PatchParams::apply("team").force(), &ApiResource::erase::<CanaryRollout>(&()), &policy).await?;
                ground::apply(&client, &service(number, 1)).await
            }
        })
        .await
    }

    /// Gives all another image.
    pub async fn change(&self) -> Result<(), Failure> {
        self.each(|client, number| async move { ground::apply(&client, &service(number, 2)).await }).await
    }

    /// Waits until every first revision serves.
    pub async fn until_settled(&self) -> Result<(), Failure> {
        self.until("Settled", self.len()).await
    }

    /// Waits until all have gone back; those that were aborted are among them.
    pub async fn until_rolled_back(&self) -> Result<(), Failure> {
        self.until("RolledBack", self.len()).await
    }

    async fn until(&self, phase: &str, count: usize) -> Result<(), Failure> {
        let began = Instant::now();
        loop {
            let all = self.all().await?;
            let so = |rollout: &&CanaryRollout| {
                let status = rollout.status.as_ref();
                status.is_some_and(|status| status.phase.as_deref() == Some(phase) && status.stable.is_some())
            };
            let found = all.iter().filter(so).count();
            if found >= count {
                return Ok(());
            }
            if began.elapsed() > PATIENCE {
                return Err(format!("waited {PATIENCE:?} in vain: {found} of {count} are {phase}").into());
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    async fn all(&self) -> Result<Vec<CanaryRollout>, Failure> {
        let api: Api<CanaryRollout> = Api::all(self.ground.client.clone());
        Ok(api.list(&ListParams::default()).await?.items)
    }

    /// Hashes of stable and canary.
    pub async fn revisions(&self) -> Result<HashMap<Key, [String; 2]>, Failure> {
        let mut revisions = HashMap::new();
        for rollout in self.all().await? {
            let key = (rollout.namespace().unwrap_or_default(), rollout.name_any());
            let status = rollout.status.unwrap_or_default();
            let (Some(stable), Some(canary)) = (status.stable, status.canary) else {
                return Err(format!("{}/{} has no canary", key.0, key.1).into());
            };
            revisions.insert(key, [stable, canary]);
        }
        Ok(revisions)
    }

    /// The time within which the pods of all canaries became Ready, from the creation of the first of them: what
    /// the cluster itself takes.
    pub async fn pods_ready_within(&self) -> Result<Duration, Failure> {
        let api: Api<Pod> = Api::all(self.ground.client.clone());
        let revisions = self.revisions().await?;
        let canaries: std::collections::HashSet<&str> =
            revisions.values().map(|[_, canary]| &**canary).collect();
        let (mut created, mut ready) = (Vec::new(), Vec::new());
        for pod in api.list(&ListParams::default()).await? {
            if !pod.labels().get("banyan.dev/revision").is_some_and(|hash| canaries.contains(hash.as_str())) {
                continue;
            }
            created.extend(pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
            let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
            let of = conditions.filter(|condition| condition.type_ == "Ready" && condition.status == "True");
            ready.extend(
                of.filter_map(|condition| condition.last_transition_time.as_ref().map(|time| time.0)),
            );
        }
        let (Some(first), Some(last)) = (created.iter().min(), ready.iter().max()) else {
            return Err("no pod of a canary is Ready".into());
        };
        Ok(last.duration_since(*first).unsigned_abs())
    }

    /// Aborts some, one after the other, and times each.
    pub async fn abort(&self, routes: &Routes, count: u32) -> Result<Times, Failure> {
        let mut times = Vec::new();
        for number in 0..count {
            let (namespace, name) = ground::place("team", number);
            let action: Action = serde_json::from_value(json!({
                "apiVersion": "banyan.dev/v1alpha1", "kind": "Action",
                "metadata": {"name": format!("abort-{name}"), "namespace": namespace},
                "spec": {"target": {"kind": "CanaryRollout", "name": name}, "verb": "abort"},
            }))?;
            let api: Api<Action> = Api::namespaced(self.ground.client.clone(), &namespace);
            let key = (namespace, name);
            let began = Instant::now();
            api.create(&PostParams::default(), &action).await?;
            let at = loop {
                match routes.of(&key) {
                    Some((0, at)) => break at,
                    _ if began.elapsed() > PATIENCE => return Err(format!("{} is not aborted", key.1).into()),
                    _ => tokio::time::sleep(Duration::from_millis(2)).await,
                }
            };
            times.push(at.saturating_duration_since(began));
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(Times::of(times))
    }

    /// A bare loop of writes of the same routes, each of which takes a weight away, at the operator's concurrency.
    pub async fn floor(&self) -> Result<Duration, Failure> {
        let resource = api_resource(Kind::VirtualService);
        let all: Api<DynamicObject> = Api::all_with(self.ground.client.clone(), &resource);
        let mut bodies = Vec::new();
        for route in all.list(&ListParams::default()).await? {
            bodies.push(json!({
                "apiVersion": Kind::VirtualService.api_version(), "kind": Kind::VirtualService.name(),
                "metadata": {
                    "name": route.name_any(), "namespace": route.namespace(),
                    "annotations": {"banyan.dev/rollout": "the floor"},
                },
                "spec": route.data["spec"],
            }));
        }
        let (bodies, client) = (Arc::new(bodies), self.ground.client.clone());
        let began = Instant::now();
        ground::each(bodies.len(), self.concurrency, move |number| {
            let (bodies, client, resource) = (Arc::clone(&bodies), client.clone(), resource.clone());
            async move { apply(&client, &applying(true), &resource, &bodies[number]).await }
        })
        .await?;
        Ok(began.elapsed())
    }

    async fn each<F, D>(&self, make: F) -> Result<(), Failure>
    where
        F: Fn(Client, u32) -> D + Clone + Send + 'static,
        D: Future<Output = Result<(), Failure>> + Send,
    {
        let client = self.ground.client.clone();
        ground::each(self.len(), self.concurrency, move |number| make(client.clone(), number as u32)).await
    }
}

/// A service with a route of its own and two pods.
fn service(number: u32, version: u32) -> Value {
    let (namespace, name) = ground::place("team", number);
    json!({
        "apiVersion": "banyan.dev/v1alpha1", "kind": "FinService",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "owner": "team", "image": format!("registry.example/service:{version}"),
            "ports": [{"name": "http", "port": 8080}], "scale": {"replicas": 2},
            "mesh": {"provider": "Istio"},
        },
    })
}

/// From a moment until the API server first answered a write of the route of each, of those that were written.
pub fn first_answers<'a>(
    audit: &Audit,
    of: impl Iterator<Item = &'a &'a Key>,
    from: Timestamp,
) -> Vec<Duration> {
    let writes = audit.writes().into_iter().filter(|request| request.resource == "virtualservices");
    let mut first: HashMap<(&str, &str), Timestamp> = HashMap::new();
    for request in writes {
        let Some(at) = request.answered else { continue };
        let known = first.entry((&request.namespace, &request.name)).or_insert(at);
        *known = at.min(*known);
    }
    let answered = of.filter_map(|key| first.get(&(key.0.as_str(), key.1.as_str())));
    answered.filter_map(|at| Duration::try_from(at.duration_since(from)).ok()).collect()
}

/// Applies an object.
pub async fn apply(
    client: &Client,
    parameters: &PatchParams,
    resource: &ApiResource,
    object: &Value,
) -> Result<(), Failure> {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), text("namespace"), resource);
    api.patch(text("name"), parameters, &Patch::Apply(object)).await?;
    Ok(())
}
