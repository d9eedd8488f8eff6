//! The floor: a bare loop of the very server-side applies that the operator sends for the same
//! FinServices, with the same rights over the same kind of connection, on the same API server.
//!
//! Their bodies come from the operator's own decision and are ready before the clock starts; the loop
//! reads the answers and throws them away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use banyan::api::FinService;
use banyan::cloudcluster::sites::Sites;
use banyan::finservice::children::{Child, Kind};
use banyan::finservice::index::{Index, Parsed};
use banyan::finservice::plan::Op;
use banyan::finservice::plan::decide::decide;
use banyan::finservice::status;
use banyan::finservice::write::act::api_resource;
use banyan::runtime::key::Key;
use banyan::runtime::patch::{applying, scaling};
use jiff::Timestamp;
use kube::Resource;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, Request};
use serde_json::{Value, json};

use crate::ground::{self, Failure, Ground};

type Wire = http::Request<Vec<u8>>;

/// How often a request that deletes is sent.
const ATTEMPTS: usize = 5;

/// What the operator writes for one FinService when it is new.
pub struct Recipe {
    site: String,
    /// The children.
    pub children: Vec<Child>,
}

/// How long one round took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Round {
    /// For how many FinServices.
    pub services: u32,
    /// The FinServices themselves, which are not the operator's writes but those of their teams.
    pub finservices: Duration,
    /// All children.
    pub children: Duration,
    /// One status of each FinService.
    pub statuses: Duration,
    /// CPU of the API server and of etcd in all three.
    pub cpu: Duration,
}

impl Round {
    /// All three parts.
    pub fn all(&self) -> Duration {
        self.finservices + self.children + self.statuses
    }
}

impl Recipe {
    /// The recipe of the FinServices that are measured with.
    pub fn of_service(site: &str) -> Result<Self, Failure> {
        let mut recipe = Self { site: site.to_owned(), children: Vec::new() };
        let (ops, _) = recipe.decide(ground::finservice("team", 0))?;
        recipe.children = children(&ops).cloned().collect();
        Ok(recipe)
    }

    /// How many children a FinService has.
    pub fn len(&self) -> usize {
        self.children.len()
    }

    /// How many children of each kind a FinService has.
    pub fn kinds(&self) -> BTreeMap<Kind, usize> {
        let mut kinds = BTreeMap::new();
        for child in &self.children {
            *kinds.entry(child.kind).or_default() += 1;
        }
        kinds
    }

    /// The children of a FinService.
    pub fn children_of(&self, service: Value) -> Result<Vec<Child>, Failure> {
        let (ops, _) = self.decide(service)?;
        Ok(children(&ops).cloned().collect())
    }

    /// The writes for a FinService of which nothing exists yet, and its first status.
    fn decide(&self, mut service: Value) -> Result<(Vec<Op>, Value), Failure> {
        service["metadata"]["uid"] = json!("00000000-0000-4000-8000-000000000000");
        service["metadata"]["generation"] = json!(1);
        let service: FinService = serde_json::from_value(service)?;
        let (namespace, name) = (service.metadata.namespace.as_deref(), service.metadata.name.as_deref());
        let key = Key::new(namespace.unwrap_or_default(), name.unwrap_or_default());
        let mut index = Index::new(&self.site);
        for kind in Kind::ALL {
            index.kind(kind, true);
        }
        let residency = Some([banyan::api::operations::Residency::US].as_slice().into());
        index.set_sites(Sites { residency, ..Sites::default() });
        index.service(&key, 1, Some(Parsed::Good(Arc::new(service))));
        let seen = index.observe(&key).ok_or("the service of the bench is not in the index")?;
        let now = Timestamp::now();
        let plan = decide(&seen, now);
        if let Some(problem) = plan.problems.first() {
            return Err(format!("the service of the bench has a problem: {}", problem.message).into());
        }
        let status = serde_json::to_value(status::status(&seen, &plan, None, now))?;
        Ok((plan.ops().cloned().collect(), status))
    }

    /// The requests for one FinService: those for its children in order, and the one for its status.
    fn requests(&self, service: Value) -> Result<(Vec<Wire>, Wire), Failure> {
        let namespace = service["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        let name = service["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let (ops, status) = self.decide(service)?;
        let mut requests = Vec::new();
        for op in &ops {
            requests.push(match op {
                Op::Apply { child, .. } | Op::Record { child, .. } => to(
                    &api_resource(child.kind),
                    &namespace,
                )
                .patch(&child.name, &applying(false), &Patch::Apply(&child.body))?,
                Op::Scale { name, replicas } => {
                    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
                    to(&api_resource(Kind::Deployment), &namespace).patch_subresource(
                        "scale",
                        name,
                        &scaling(),
                        &patch,
                    )?
                }
                other => return Err(format!("the floor cannot {}", other.words()).into()),
            });
        }
        let body = json!({
            "apiVersion": FinService::api_version(&()), "kind": FinService::kind(&()), "status": status,
        });
        let status = to(&ApiResource::erase::<FinService>(&()), &namespace).patch_subresource(
            "status",
            &name,
            &applying(true),
            &Patch::Apply(&body),
        )?;
        Ok((requests, status))
    }
}

fn children(ops: &[Op]) -> impl Iterator<Item = &Child> {
    ops.iter().filter_map(|op| match op {
        Op::Apply { child, .. } | Op::Record { child, .. } | Op::CopyConfigMap { child, .. } => Some(child),
        _ => None,
    })
}

fn to(resource: &ApiResource, namespace: &str) -> Request {
    Request::new(DynamicObject::url_path(resource, Some(namespace)))
}

/// One round of the floor, for that many services. What it wrote stays until [`remove`].
///
/// No operator may run meanwhile: it would write as well.
pub async fn round(
    ground: &Ground,
    recipe: &Recipe,
    name: &str,
    services: u32,
    concurrency: usize,
) -> Result<Round, Failure> {
    let prefix = format!("floor-{name}");
    ground.namespaces(&prefix, services).await?;
    let mut writes = Vec::new();
    let mut statuses = Vec::new();
    for number in 0..services {
        let (children, status) = recipe.requests(ground::finservice(&prefix, number))?;
        writes.push(children);
        statuses.push(vec![status]);
    }
    let client = ground.operator_client().await?;
    let mut round = Round { services, ..Round::default() };

    let cpu = ground.control_plane_cpu();
    let began = Instant::now();
    let admin = ground.client.clone();
    let of = prefix.clone();
    ground::each(services as usize, concurrency, move |number| {
        let (admin, service) = (admin.clone(), ground::finservice(&of, number as u32));
        async move { ground::apply(&admin, &service).await }
    })
    .await?;
    round.finservices = began.elapsed();
    for (requests, took) in [(writes, &mut round.children), (statuses, &mut round.statuses)] {
        let (requests, client) = (Arc::new(requests), client.clone());
        let began = Instant::now();
        ground::each(services as usize, concurrency, move |number| {
            let (requests, client) = (Arc::clone(&requests), client.clone());
            async move {
                for request in &requests[number] {
                    client.request_text(request.clone()).await?;
                }
                Ok(())
            }
        })
        .await?;
        *took = began.elapsed();
    }
    round.cpu = ground.control_plane_cpu().saturating_sub(cpu);
    let Round { finservices, children, statuses, .. } = round;
    eprintln!(
        "{services} FinServices in {finservices:.1?}, their children in {children:.1?}, statuses in {statuses:.1?}"
    );
    Ok(round)
}

/// Whether a request that failed so may be answered the next time: it broke off, or took the API server too long.
fn passes(error: &kube::Error) -> bool {
    match error {
        kube::Error::Service(_) => true,
        kube::Error::Api(status) => status.code >= 500,
        _ => false,
    }
}

/// Deletes what a round of that name wrote, so that the operator does not find it.
pub async fn remove(
    ground: &Ground,
    recipe: &Recipe,
    name: &str,
    services: u32,
    concurrency: usize,
) -> Result<(), Failure> {
    let prefix = format!("floor-{name}");
    let mut resources: Vec<_> = recipe.kinds().into_keys().map(api_resource).collect();
    resources.push(ApiResource::erase::<FinService>(&()));
    let work: Vec<(String, ApiResource)> = ground::namespaces(&prefix, services)
        .flat_map(|namespace| resources.iter().map(move |resource| (namespace.clone(), resource.clone())))
        .collect();
    // Deleting a hundred objects in one request may take longer than the deadline of the other client.
    let (work, client) = (Arc::new(work), ground.cloud.client_admin()?);
    ground::each(work.len(), concurrency, move |number| {
        let (namespace, resource) = work[number].clone();
        let client = client.clone();
        async move {
            let request = to(&resource, &namespace)
                .delete_collection(&DeleteParams::background(), &ListParams::default())?;
            // A busy API server may break such a request off; deleting goes on where it stood.
            let mut attempt = 1;
            loop {
                match client.request_text(request.clone()).await {
                    Err(error) if attempt < ATTEMPTS && passes(&error) => attempt += 1,
                    answer => return answer.map(drop).map_err(Failure::from),
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    })
    .await
}
