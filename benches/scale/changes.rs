//! How soon the operator answers a change of a FinService, and a change of a child by hand.

use std::time::{Duration, Instant};

use banyan::finservice::children::{Child, Kind};
use banyan::finservice::write::act::api_resource;
use futures::StreamExt;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::task::JoinSet;

use crate::floor::Recipe;
use crate::ground::{self, Failure, Ground};

/// How long one answer may take until it counts as missing.
const PATIENCE: Duration = Duration::from_secs(60);
/// Kinds whose objects are changed by hand. The others either cannot be told apart by one label, or
/// (Deployment, ControllerRevision) take more writes than one to make anew.
const BY_HAND: [Kind; 5] = [
    Kind::Service,
    Kind::PodDisruptionBudget,
    Kind::NetworkPolicy,
    Kind::VirtualService,
    Kind::DestinationRule,
];
/// The label that is changed by hand; the operator owns it.
const LABEL: &str = "app.kubernetes.io/name";

/// A child as a watch has just shown it.
#[derive(Clone, Debug)]
struct Glimpse {
    kind: Kind,
    namespace: String,
    name: String,
    uid: String,
    label: Option<String>,
    at: Instant,
}

/// Watches of the children, by which the measurement sees what the operator has written.
pub struct Eyes {
    seen: broadcast::Sender<Glimpse>,
    _watches: JoinSet<()>,
}

impl Eyes {
    /// Opens the watches and waits until all lists have been read.
    pub async fn open(ground: &Ground, recipe: &Recipe) -> Result<Self, Failure> {
        let (seen, _) = broadcast::channel(65_536);
        let mut watches = JoinSet::new();
        let mut firsts = Vec::new();
        for kind in recipe.kinds().into_keys().filter(|kind| BY_HAND.contains(kind)) {
            let all: Api<PartialObjectMeta<DynamicObject>> =
                Api::all_with(ground.client.clone(), &api_resource(kind));
            let config = watcher::Config::default().labels("banyan.dev/service");
            let (first, read) = tokio::sync::oneshot::channel();
            firsts.push(read);
            let seen = seen.clone();
            watches.spawn(async move {
                let mut first = Some(first);
                let mut stream = std::pin::pin!(watcher(all, config).default_backoff());
                while let Some(event) = stream.next().await {
                    match event {
                        Ok(watcher::Event::InitDone) => {
                            first.take().map(|first| first.send(()));
                        }
                        Ok(watcher::Event::Apply(object)) => {
                            let metadata = object.metadata;
                            let label = metadata.labels.and_then(|labels| labels.get(LABEL).cloned());
                            // Nobody may be waiting.
                            let _ = seen.send(Glimpse {
                                kind,
                                namespace: metadata.namespace.unwrap_or_default(),
                                name: metadata.name.unwrap_or_default(),
                                uid: metadata.uid.unwrap_or_default(),
                                label,
                                at: Instant::now(),
                            });
                        }
                        _ => {}
                    }
                }
            });
        }
        for first in firsts {
            first.await?;
        }
        Ok(Self { seen, _watches: watches })
    }

    /// When a child is seen that is as wanted.
    async fn until(
        mut seen: broadcast::Receiver<Glimpse>,
        child: &Child,
        is: impl Fn(&Glimpse) -> bool,
    ) -> Result<Instant, Failure> {
        let namespace = child.body["metadata"]["namespace"].as_str().unwrap_or_default();
        let looking = async {
            loop {
                let glimpse = seen.recv().await?;
                let same = glimpse.kind == child.kind && glimpse.name == child.name;
                if same && glimpse.namespace == namespace && is(&glimpse) {
                    return Ok(glimpse.at);
                }
            }
        };
        match tokio::time::timeout(PATIENCE, looking).await {
            Ok(at) => at,
            Err(_) => {
                let (kind, name) = (child.kind.name(), &child.name);
                Err(format!("{kind} {namespace}/{name} was not written within {PATIENCE:?}").into())
            }
        }
    }
}

/// From sending a change of a FinService to seeing the write of the one child that it changes, one
/// FinService after the other, spread over all of them.
pub async fn change(ground: &Ground, eyes: &Eyes, samples: usize) -> Result<Vec<Duration>, Failure> {
    let recipe = Recipe::of_service(ground.cloud.name())?;
    let mut took = Vec::new();
    for number in spread(ground.services, samples) {
        let before = ground::finservice("team", number);
        let mut after = before.clone();
        after["spec"]["mesh"]["circuitBreaker"]["maxConnections"] = json!(100);
        let child = the_one_that_differs(&recipe, before, after.clone())?;
        let seen = eyes.seen.subscribe();
        let began = Instant::now();
        ground::apply(&ground.client, &after).await?;
        took.push(Eyes::until(seen, &child, |_| true).await?.duration_since(began));
    }
    Ok(took)
}

/// From sending a deletion or a change of a child to seeing it as it was, one child after the other:
/// every second one is deleted.
pub async fn repair(
    ground: &Ground,
    eyes: &Eyes,
    recipe: &Recipe,
    samples: usize,
) -> Result<Vec<Duration>, Failure> {
    let mut took = Vec::new();
    for (turn, number) in spread(ground.services, samples).into_iter().enumerate() {
        let children = recipe.children_of(ground::finservice("team", number))?;
        let children: Vec<&Child> = children.iter().filter(|child| BY_HAND.contains(&child.kind)).collect();
        let child = children[turn / 2 % children.len()];
        let namespace = child.body["metadata"]["namespace"].as_str().unwrap_or_default();
        let api = ground::children(&ground.client, child.kind, namespace);
        let old = api.get_metadata(&child.name).await?.metadata.uid.unwrap_or_default();
        let label = child.body["metadata"]["labels"][LABEL].as_str().map(str::to_owned);
        let seen = eyes.seen.subscribe();
        let began = Instant::now();
        let at = if turn % 2 == 0 {
            api.delete(&child.name, &DeleteParams::background()).await?;
            Eyes::until(seen, child, |glimpse| glimpse.uid != old).await?
        } else {
            let edit = json!({"metadata": {"labels": {LABEL: "changed-by-hand"}}});
            let by_hand = PatchParams { field_manager: Some("by-hand".into()), ..PatchParams::default() };
            api.patch(&child.name, &by_hand, &Patch::Merge(&edit)).await?;
            // The edit itself is seen as well, and passed over.
            Eyes::until(seen, child, |glimpse| glimpse.label == label).await?
        };
        took.push(at.duration_since(began));
    }
    Ok(took)
}

/// Numbers of FinServices, spread evenly over all.
fn spread(services: u32, samples: usize) -> Vec<u32> {
    let samples = u32::try_from(samples).unwrap_or(u32::MAX).min(services);
    (0..samples).map(|turn| (u64::from(turn) * u64::from(services) / u64::from(samples)) as u32).collect()
}

/// The child in which two forms of a FinService differ.
fn the_one_that_differs(recipe: &Recipe, before: Value, after: Value) -> Result<Child, Failure> {
    let (before, after) = (recipe.children_of(before)?, recipe.children_of(after)?);
    let mut changed = after.iter().filter(|child| !before.contains(child));
    match (changed.next(), changed.next()) {
        (Some(child), None) => Ok(child.clone()),
        (one, two) => Err(format!(
            "the change is to alter one child, and alters {:?}, {:?}",
            one.map(|child| &child.name),
            two.map(|child| &child.name)
        )
        .into()),
    }
}
