//! A watch of the routes: when which weight stood at the API server.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use banyan::finservice::children::Kind;
use banyan::finservice::children::observed::observed;
use banyan::finservice::write::act;
use futures::StreamExt;
use kube::api::DynamicObject;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use tokio::sync::Notify;

use crate::ground::{Failure, Ground};
use crate::rollouts::{Key, Rollouts};

/// How long anything may take before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(900);

/// The canary's weight, and since when.
type Weights = HashMap<Key, (i32, Instant)>;

/// The routes as they stand.
pub struct Routes {
    weights: Arc<Mutex<Weights>>,
    changed: Arc<Notify>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Routes {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Routes {
    /// Begins to watch.
    pub async fn watch(ground: &Ground) -> Result<Self, Failure> {
        let client = ground.cloud.client_admin()?;
        let api: Api<DynamicObject> = Api::all_with(client, &act::api_resource(Kind::VirtualService));
        let (weights, changed) = (Arc::new(Mutex::new(Weights::new())), Arc::new(Notify::new()));
        let (filled, tell) = (Arc::clone(&weights), Arc::clone(&changed));
        let task = tokio::spawn(async move {
            let mut stream =
                std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff().applied_objects());
            while let Some(event) = stream.next().await {
                // A watch that breaks is opened anew.
                let Ok(route) = event else { continue };
                let at = Instant::now();
                let key = (route.namespace().unwrap_or_default(), route.name_any());
                let weight = weight(&route);
                let mut weights = filled.lock().unwrap_or_else(PoisonError::into_inner);
                let known = weights.entry(key).or_insert((weight, at));
                if known.0 != weight {
                    *known = (weight, at);
                }
                drop(weights);
                tell.notify_waiters();
            }
        });
        Ok(Self { weights, changed, task })
    }

    /// The weight of one, and since when.
    pub fn of(&self, key: &Key) -> Option<(i32, Instant)> {
        self.weights.lock().unwrap_or_else(PoisonError::into_inner).get(key).copied()
    }

    /// Waits until the weight of every canary is so; since when it is.
    pub async fn until(
        &self,
        rollouts: &Rollouts<'_>,
        is: impl Fn(i32) -> bool,
    ) -> Result<HashMap<Key, Instant>, Failure> {
        let began = Instant::now();
        loop {
            let changed = self.changed.notified();
            let found: HashMap<Key, Instant> = {
                let weights = self.weights.lock().unwrap_or_else(PoisonError::into_inner);
                let so = weights.iter().filter(|(_, (weight, _))| is(*weight));
                so.map(|(key, (_, since))| (key.clone(), *since)).collect()
            };
            if found.len() >= rollouts.len() {
                return Ok(found);
            }
            if began.elapsed() > PATIENCE {
                return Err(
                    format!("waited {PATIENCE:?} in vain: {} of {}", found.len(), rollouts.len()).into()
                );
            }
            let _ = tokio::time::timeout(Duration::from_secs(1), changed).await;
        }
    }
}

/// The canary's weight: what does not go to the largest share, and zero where one has everything.
fn weight(route: &DynamicObject) -> i32 {
    let seen = observed(Kind::VirtualService, &route.data, route.metadata.annotations.as_ref());
    let shares = seen.map(|seen| seen.shares).unwrap_or_default();
    shares.first().map_or(0, |shares| {
        let largest = shares.iter().map(|(_, share)| *share).max().unwrap_or(100);
        100 - i32::from(largest)
    })
}
