//! The floor of the first step: what the cluster takes if a bare loop sends the writes of the operator for the same
//! revisions, waits for the same pods, and then gives the same weights.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use banyan::api::{CanaryRollout, FinService};
use banyan::finservice::children::Kind;
use banyan::finservice::write::act::api_resource;
use banyan::runtime::patch::{applying, scaling};
use banyan::sandbox::audit::Audit;
use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::ground::{self, Failure, Ground};
use crate::rollouts::{self, Key};

/// How long all pods may take to start.
const PATIENCE: Duration = Duration::from_secs(900);

/// What one rollout consists of when its first step stands.
#[derive(Clone, Default)]
struct One {
    /// What was made for the canary's revision.
    made: Vec<(ApiResource, Value)>,
    /// The name of its Deployment, and its pods.
    deployment: (String, i32),
    /// The route, at the first step's weight.
    route: Option<Value>,
    /// Without it no pod is made.
    account: Option<Value>,
    service: Option<Value>,
    policy: Option<Value>,
    /// Writes beside these: of the FinService's status, of the CanaryRollout's, and Events.
    beside: [usize; 3],
}

/// Writes that can be sent again, in namespaces of their own.
pub struct Bare {
    all: Vec<(Key, One)>,
    /// Writes of the loop.
    pub writes: usize,
}

/// Reads a kind; nothing where it is not installed.
async fn read(client: &Client, resource: &ApiResource) -> Result<Vec<DynamicObject>, Failure> {
    let all: Api<DynamicObject> = Api::all_with(client.clone(), resource);
    match all.list(&ListParams::default()).await {
        Ok(list) => Ok(list.items),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// Where the copy of an object of that namespace goes.
fn beside(namespace: &str) -> String {
    namespace.replacen("team", "floor", 1)
}

/// An object as somebody would apply it in another namespace.
fn again(object: &DynamicObject, resource: &ApiResource) -> Value {
    let mut body = serde_json::to_value(object).unwrap_or_default();
    let metadata = json!({
        "name": object.name_any(), "namespace": beside(&object.namespace().unwrap_or_default()),
        "labels": object.labels(), "annotations": object.annotations(),
    });
    body["metadata"] = metadata;
    body["apiVersion"] = json!(resource.api_version);
    body["kind"] = json!(resource.kind);
    let whole = body.as_object_mut().expect("an object");
    whole.remove("status");
    if let Some(spec) = whole.get_mut("spec").and_then(Value::as_object_mut) {
        for given in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            spec.remove(given);
        }
        if resource.plural == "deployments" {
            // As the operator does: replicas are never applied.
            spec.remove("replicas");
        }
    }
    body
}

impl Bare {
    /// Reads what stands now. `written` is what the operator sent for it.
    pub async fn record(
        ground: &Ground,
        revisions: &HashMap<Key, [String; 2]>,
        written: &Audit,
    ) -> Result<Self, Failure> {
        let client = &ground.client;
        let mut all: BTreeMap<Key, One> = BTreeMap::new();
        let canary_of = |key: &Key| revisions.get(key).map(|[_, canary]| canary.as_str());
        for kind in Kind::ALL {
            let resource = api_resource(kind);
            for object in read(client, &resource).await? {
                let name = object.name_any();
                let owner = object.metadata.owner_references.iter().flatten().next();
                let Some(owner) = owner.filter(|owner| owner.kind == "FinService") else { continue };
                let key = (object.namespace().unwrap_or_default(), owner.name.clone());
                let Some(canary) = canary_of(&key) else { continue };
                let one = all.entry(key).or_default();
                if kind == Kind::VirtualService && !name.contains(canary) {
                    one.route = Some(again(&object, &resource));
                } else if kind == Kind::ServiceAccount {
                    one.account = Some(again(&object, &resource));
                } else if name.contains(canary) {
                    if kind == Kind::Deployment {
                        let pods = object.data["spec"]["replicas"].as_i64().unwrap_or(1);
                        one.deployment = (name, i32::try_from(pods).unwrap_or(1));
                    }
                    one.made.push((resource.clone(), again(&object, &resource)));
                }
            }
        }
        let policies = ApiResource::erase::<CanaryRollout>(&());
        for resource in [&ApiResource::erase::<FinService>(&()), &policies] {
            for object in read(client, resource).await? {
                let key = (object.namespace().unwrap_or_default(), object.name_any());
                let one = all.entry(key).or_default();
                let place = if resource == &policies { &mut one.policy } else { &mut one.service };
                *place = Some(again(&object, resource));
            }
        }
        let made: usize = all.values().map(|one| one.made.len() + 2).sum();
        let mut spread = [0usize; 3];
        for write in written.writes().iter().filter(|write| write.code < 300) {
            match write.resource.as_str() {
                "finservices/status" => spread[0] += 1,
                "canaryrollouts/status" => spread[1] += 1,
                "events" => spread[2] += 1,
                _ => {}
            }
        }
        let count = all.len().max(1);
        for (place, one) in all.values_mut().enumerate() {
            one.beside = spread.map(|all| all * (place + 1) / count - all * place / count);
        }
        let writes = made + spread.iter().sum::<usize>();
        Ok(Self { all: all.into_iter().collect(), writes })
    }

    /// Sends all of it, with the operator's rights and as many writes under way at once; the FinServices come as their
    /// teams send them. No operator may run.
    ///
    /// # Errors
    /// If the API server refuses a write, or the pods do not start.
    pub async fn run(self, ground: &Ground, concurrency: usize) -> Result<Duration, Failure> {
        ground.namespaces("floor", ground.services).await?;
        let operator = ground.operator_client().await?;
        let all = Arc::new(self.all);
        let (before, admin) = (Arc::clone(&all), ground.client.clone());
        ground::each(all.len(), concurrency, move |number| {
            let (all, admin) = (Arc::clone(&before), admin.clone());
            async move { stand(&admin, &all[number].1).await }
        })
        .await?;

        let began = Instant::now();
        let shifted = tokio::spawn(shift(
            ground.cloud.client_admin()?,
            operator.clone(),
            Arc::clone(&all),
            concurrency,
        ));
        let (of_teams, admin) = (Arc::clone(&all), ground.client.clone());
        let teams = ground::each(all.len(), concurrency, move |number| {
            let (all, admin) = (Arc::clone(&of_teams), admin.clone());
            async move {
                let service = all[number].1.service.as_ref().ok_or("a rollout without a FinService")?;
                let mut service = service.clone();
                service["spec"]["image"] = json!("registry.example/service:3");
                ground::apply(&admin, &service).await
            }
        });
        let of_operator = Arc::clone(&all);
        let made = ground::each(all.len(), concurrency, move |number| {
            let (all, operator) = (Arc::clone(&of_operator), operator.clone());
            async move { make(&operator, &all[number].1).await }
        });
        let (teams, made) = tokio::join!(teams, made);
        teams.and(made)?;
        shifted.await??;
        Ok(began.elapsed())
    }
}

/// What stood before the release: the service, its policy, its account, its route.
async fn stand(admin: &Client, one: &One) -> Result<(), Failure> {
    if let Some(service) = &one.service {
        ground::apply(admin, service).await?;
    }
    if let Some(policy) = &one.policy {
        apply(admin, &ApiResource::erase::<CanaryRollout>(&()), policy).await?;
    }
    if let Some(account) = &one.account {
        apply(admin, &api_resource(Kind::ServiceAccount), account).await?;
    }
    if let Some(route) = &one.route {
        let mut route = route.clone();
        route["metadata"]["annotations"]["banyan.dev/floor"] = json!("before");
        apply(admin, &api_resource(Kind::VirtualService), &route).await?;
    }
    Ok(())
}

async fn make(operator: &Client, one: &One) -> Result<(), Failure> {
    for (resource, body) in &one.made {
        apply(operator, resource, body).await?;
        if resource.plural == "deployments" && one.deployment.1 != 1 {
            let namespace = body["metadata"]["namespace"].as_str().unwrap_or_default();
            let api: Api<Deployment> = Api::namespaced(operator.clone(), namespace);
            let patch = Patch::Merge(json!({"spec": {"replicas": one.deployment.1}}));
            api.patch_scale(&one.deployment.0, &scaling(), &patch).await?;
        }
    }
    let [services, policies, events] = one.beside;
    let statuses = [
        (ApiResource::erase::<FinService>(&()), &one.service, services),
        (ApiResource::erase::<CanaryRollout>(&()), &one.policy, policies),
    ];
    for (resource, object, count) in statuses {
        let Some(object) = object else { continue };
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let api: Api<DynamicObject> = Api::namespaced_with(operator.clone(), namespace, &resource);
        for turn in 0..count {
            let body = json!({
                "apiVersion": resource.api_version, "kind": resource.kind,
                "status": {"observedGeneration": turn + 1},
            });
            api.patch_status(name, &applying(true), &Patch::Apply(&body)).await?;
        }
    }
    if let Some(service) = &one.service {
        for _ in 0..events {
            announce(operator, service).await?;
        }
    }
    Ok(())
}

async fn announce(operator: &Client, about: &Value) -> Result<(), Failure> {
    let namespace = about["metadata"]["namespace"].as_str().unwrap_or_default();
    let event = serde_json::from_value(json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {"generateName": "floor-", "namespace": namespace},
        "eventTime": "2026-01-01T00:00:00.000000Z", "type": "Normal", "reason": "Floor", "action": "Measure",
        "note": "sent in a bare loop", "reportingController": "banyan.dev/floor", "reportingInstance": "floor",
        "regarding": {"kind": "FinService", "namespace": namespace, "name": about["metadata"]["name"]},
    }))?;
    let api: Api<k8s_openapi::api::events::v1::Event> = Api::namespaced(operator.clone(), namespace);
    api.create(&PostParams::default(), &event).await?;
    Ok(())
}

async fn apply(client: &Client, resource: &ApiResource, body: &Value) -> Result<(), Failure> {
    rollouts::apply(client, &applying(true), resource, body).await
}

/// Gives each canary its weight once its pods are Ready, until all have it.
async fn shift(
    eyes: Client,
    operator: Client,
    all: Arc<Vec<(Key, One)>>,
    concurrency: usize,
) -> Result<(), Failure> {
    let waiting: HashMap<Key, usize> = all
        .iter()
        .enumerate()
        .map(|(place, ((namespace, _), one))| ((beside(namespace), one.deployment.0.clone()), place))
        .collect();
    let waiting = Mutex::new(waiting);
    let turns = Arc::new(Semaphore::new(concurrency));
    let mut writes = JoinSet::<Result<(), Failure>>::new();
    let deployments: Api<Deployment> = Api::all(eyes);
    let mut stream = std::pin::pin!(watcher(deployments, watcher::Config::default()).applied_objects());
    let all_ready = async {
        while let Some(deployment) = stream.next().await {
            let deployment = deployment?;
            let status = deployment.status.clone().unwrap_or_default();
            let ready = status.ready_replicas.unwrap_or_default();
            let key = (deployment.namespace().unwrap_or_default(), deployment.name_any());
            let mut waiting = waiting.lock().expect("nobody panics");
            let Some(place) = waiting.get(&key).copied().filter(|place| ready >= all[*place].1.deployment.1)
            else {
                continue;
            };
            waiting.remove(&key);
            let (operator, all, turns) = (operator.clone(), Arc::clone(&all), Arc::clone(&turns));
            writes.spawn(async move {
                let _turn = turns.acquire().await;
                match &all[place].1.route {
                    Some(route) => apply(&operator, &api_resource(Kind::VirtualService), route).await,
                    None => Ok(()),
                }
            });
            if waiting.is_empty() {
                break;
            }
        }
        Ok::<(), Failure>(())
    };
    tokio::time::timeout(PATIENCE, all_ready)
        .await
        .map_err(|_| "the floor's pods did not start in fifteen minutes")??;
    while let Some(write) = writes.join_next().await {
        write??;
    }
    Ok(())
}
