//! The floor of a beginning: the very number and kinds of writes that the operator sent, in a bare loop, on fresh
//! objects.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use banyan::api::{CanaryRollout, FinService};
use banyan::finservice::act::api_resource;
use banyan::finservice::children::Kind;
use banyan::runtime::client::{self, Target};
use banyan::runtime::digest::{MANAGER, SCALER};
use banyan::runtime::metrics::Metrics;
use banyan::sandbox::Part;
use banyan::sandbox::audit::Audit;
use banyan::sandbox::process::Signal;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use crate::ground::{self, Failure, Ground};

/// Annotation that makes each write of one object differ from the one before it.
const TURN: &str = "banyan.dev/floor";

/// What one write was.
#[derive(Clone, Copy, PartialEq)]
enum What {
    Whole,
    Status,
    Scale,
    Event,
}

/// All writes of one object, in their order.
struct Chain {
    resource: ApiResource,
    namespace: String,
    name: String,
    /// As it stood when the operator was done.
    object: Value,
    /// Whether it stood before the operator began.
    stood: bool,
    writes: Vec<What>,
}

/// Writes that can be sent again.
pub struct Replay {
    chains: Vec<Chain>,
    /// How many writes, by verb and resource.
    pub counts: BTreeMap<(String, String), usize>,
    /// Writes of kinds that are not sent again.
    pub left_out: usize,
}

/// How long the bare loop took, and what it sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bare {
    /// From the first request to the last answer.
    pub took: Duration,
    /// Writes.
    pub writes: usize,
    /// Writes of the operator that the loop leaves out.
    pub left_out: usize,
}

impl Replay {
    /// Reads what the objects of the operator's writes look like now. `since` is when the operator began.
    pub async fn record(ground: &Ground, audit: &Audit, since: jiff::Timestamp) -> Result<Self, Failure> {
        let mut kinds: Vec<ApiResource> = Kind::ALL.into_iter().map(api_resource).collect();
        kinds.push(ApiResource::erase::<FinService>(&()));
        kinds.push(ApiResource::erase::<CanaryRollout>(&()));
        let written: Vec<_> = audit.writes().into_iter().filter(|write| write.code < 300).collect();
        let mut objects = HashMap::new();
        for resource in kinds {
            let base = |write: &&&banyan::sandbox::audit::Request| {
                write.resource.split('/').next() == Some(&resource.plural)
            };
            if !written.iter().any(|write| base(&write)) {
                continue;
            }
            let all: Api<DynamicObject> = Api::all_with(ground.client.clone(), &resource);
            for object in all.list(&ListParams::default()).await? {
                let place = (object.namespace().unwrap_or_default(), object.name_any());
                objects.insert((resource.plural.clone(), place), (resource.clone(), object));
            }
        }
        let mut chains: HashMap<(String, String, String), Chain> = HashMap::new();
        let (mut left_out, mut counts) = (0, BTreeMap::new());
        for (turn, write) in written.into_iter().enumerate() {
            *counts.entry((write.verb.clone(), write.resource.clone())).or_default() += 1;
            let (plural, sub) = write.resource.split_once('/').unwrap_or((&write.resource, ""));
            let namespace = write.namespace.replacen("team", "floor", 1);
            let what = match (write.verb.as_str(), plural, sub) {
                (_, "events", "") => What::Event,
                ("patch", _, "") => What::Whole,
                ("patch", _, "status") => What::Status,
                ("patch", "deployments", "scale") => What::Scale,
                _ => {
                    left_out += 1;
                    continue;
                }
            };
            if what == What::Event {
                let name = format!("floor-{turn}");
                let (resource, object) = (event(), json!({}));
                let chain = Chain {
                    resource,
                    namespace,
                    name: name.clone(),
                    object,
                    stood: false,
                    writes: vec![what],
                };
                chains.insert((plural.to_owned(), String::new(), name), chain);
                continue;
            }
            let place = (write.namespace.clone(), write.name.clone());
            let Some((resource, object)) = objects.get(&(plural.to_owned(), place)) else {
                left_out += 1;
                continue;
            };
            let key = (plural.to_owned(), namespace.clone(), write.name.clone());
            let chain = chains.entry(key).or_insert_with(|| Chain {
                resource: resource.clone(),
                namespace: namespace.clone(),
                name: write.name.clone(),
                object: serde_json::to_value(object).unwrap_or_default(),
                stood: what != What::Whole
                    || object.creation_timestamp().is_some_and(|made| made.0.as_second() < since.as_second()),
                writes: Vec::new(),
            });
            chain.writes.push(what);
        }
        Ok(Self { chains: chains.into_values().collect(), counts, left_out })
    }

    /// Sends all again, for fresh objects, with the operator's rights and as many under way at once.
    ///
    /// What plays the rest of the cluster stands still meanwhile, so that the loop has the machine for itself; no
    /// operator may run.
    pub async fn bare(self, ground: &Ground, concurrency: usize) -> Result<Bare, Failure> {
        for part in [Part::ControllerManager, Part::Scheduler, Part::Kwok] {
            ground.cloud.signal(part, Signal::Stop)?;
        }
        ground.namespaces("floor", ground.services).await?;
        let kubeconfig = ground.cloud.dir().join("kubeconfig-floor");
        std::fs::write(&kubeconfig, ground.cloud.kubeconfig_operator()?)?;
        let target = Target { kubeconfig: Some(kubeconfig), context: None };
        let client = client::connect(&target, Metrics::new()).await?;
        let (chains, left_out) = (Arc::new(self.chains), self.left_out);
        let writes = chains.iter().map(|chain| chain.writes.len()).sum();
        let (before, admin) = (Arc::clone(&chains), ground.client.clone());
        ground::each(chains.len(), concurrency, move |number| {
            let (chains, admin) = (Arc::clone(&before), admin.clone());
            async move {
                let chain = &chains[number];
                if chain.stood { chain.send(&admin, What::Whole, usize::MAX).await } else { Ok(()) }
            }
        })
        .await?;
        let (count, began) = (chains.len(), Instant::now());
        ground::each(count, concurrency, move |number| {
            let (chains, client) = (Arc::clone(&chains), client.clone());
            async move {
                for (turn, what) in chains[number].writes.iter().enumerate() {
                    chains[number].send(&client, *what, turn).await?;
                }
                Ok(())
            }
        })
        .await?;
        let bare = Bare { took: began.elapsed(), writes, left_out };
        for part in [Part::ControllerManager, Part::Scheduler, Part::Kwok] {
            ground.cloud.signal(part, Signal::Cont)?;
        }
        Ok(bare)
    }
}

impl Chain {
    async fn send(&self, client: &Client, what: What, turn: usize) -> Result<(), Failure> {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &self.namespace, &self.resource);
        let apply = PatchParams::apply(MANAGER).force();
        match what {
            What::Whole => drop(api.patch(&self.name, &apply, &Patch::Apply(self.whole(turn))).await?),
            What::Status => {
                drop(api.patch_status(&self.name, &apply, &Patch::Apply(self.status(turn))).await?)
            }
            What::Scale => {
                let by = PatchParams { field_manager: Some(SCALER.into()), ..PatchParams::default() };
                let patch = Patch::Merge(json!({"spec": {"replicas": 2 + turn}}));
                api.patch_scale(&self.name, &by, &patch).await?;
            }
            What::Event => {
                let event = json!({
                    "apiVersion": "events.k8s.io/v1", "kind": "Event",
                    "metadata": {"name": self.name, "namespace": self.namespace},
                    "eventTime": "2026-01-01T00:00:00.000000Z", "type": "Normal", "reason": "Floor",
                    "action": "Measure", "note": "sent in a bare loop",
                    "reportingController": "banyan.dev/floor", "reportingInstance": "floor",
                    "regarding": {"kind": "FinService", "namespace": self.namespace, "name": self.name},
                });
                api.create(&PostParams::default(), &serde_json::from_value(event)?).await?;
            }
        }
        Ok(())
    }

    /// The object as one applies it: nothing of what the API server adds to its identity.
    fn whole(&self, turn: usize) -> Value {
        let mut body = self.object.clone();
        body["apiVersion"] = json!(self.resource.api_version);
        body["kind"] = json!(self.resource.kind);
        let mut metadata = json!({"name": self.name, "namespace": self.namespace});
        for kept in ["labels", "annotations"] {
            if let Some(words) = self.object["metadata"].get(kept) {
                metadata[kept] = words.clone();
            }
        }
        metadata["annotations"][TURN] = json!(turn.to_string());
        body["metadata"] = metadata;
        if let Some(fields) = body.as_object_mut() {
            fields.remove("status");
        }
        if self.resource.kind == "Service"
            && let Some(spec) = body["spec"].as_object_mut()
        {
            spec.retain(|field, _| !field.starts_with("clusterIP"));
        }
        body
    }

    fn status(&self, turn: usize) -> Value {
        let mut status = self.object["status"].clone();
        if status["conditions"][0].is_object() {
            status["conditions"][0]["message"] = json!(format!("written {turn} times before"));
        }
        json!({"apiVersion": self.resource.api_version, "kind": self.resource.kind, "status": status})
    }
}

fn event() -> ApiResource {
    ApiResource {
        group: "events.k8s.io".into(),
        version: "v1".into(),
        api_version: "events.k8s.io/v1".into(),
        kind: "Event".into(),
        plural: "events".into(),
    }
}
