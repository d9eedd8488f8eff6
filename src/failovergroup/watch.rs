//! Fills the index: groups and Authorities here, and at each peer those and its FinServices.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kube::api::ApiResource;
use kube::{Api, Client, Resource};
use tokio::sync::watch::Sender;
use tokio::sync::{Notify, oneshot};
use tokio::task::{AbortHandle, JoinSet};

use super::facts::ServiceFacts;
use super::index::{Group, Index, Own};
use crate::api::authority::AuthoritySpec;
use crate::api::{Authority, FailoverGroup, FinService};
use crate::authority::view::Authorities;
use crate::cloudcluster::handle::SitesHandle;
use crate::runtime::context::Context;
use crate::runtime::follow::{Change, Selection, follow};
use crate::runtime::key::{Key, key_of};
use crate::runtime::lock::lock;
use crate::runtime::permits::Permits;
use crate::runtime::queue::{Lane, Queue};
use crate::runtime::raw_object::RawObject;
use serde::Deserialize;

/// How long until a peer that could not be reached is tried again.
const AGAIN: Duration = Duration::from_secs(10);

/// What the watches share.
#[derive(Clone)]
pub struct Watches {
    /// The process.
    pub context: Context,
    /// What they fill.
    pub index: Arc<Mutex<Index>>,
    /// Where they wake groups.
    pub queue: Queue<Key>,
    /// The view that other reconcilers get.
    pub view: Arc<Sender<Option<Authorities>>>,
    /// Told when the specs of groups have changed.
    pub specs: Arc<Notify>,
}

impl Watches {
    fn wake(&self, name: &str) {
        self.queue.add(Key::new(&self.context.namespace, name), Lane::Normal);
    }

    fn wake_all(&self) {
        let names = lock(&self.index).names();
        names.iter().for_each(|name| self.wake(name));
    }

    /// Tells others how this site stands, if that has changed.
    pub fn tell(&self) {
        let now = lock(&self.index).view();
        self.view.send_if_modified(|known| {
            let news = *known != now;
            if news {
                *known = now;
            }
            news
        });
    }

    /// Follows the groups and Authorities of this site, for ever.
    pub async fn own(self) {
        let groups = {
            let all = self.clone();
            move |change| {
                let mut index = lock(&all.index);
                let woken = match change {
                    Change::Is(RawObject(object)) => {
                        let name = key_of(&object.metadata).name.to_string();
                        let news = index.group(&name, Group::read(object));
                        news.then_some(name).into_iter().collect()
                    }
                    Change::Gone(object) => {
                        let name = key_of(&object.0.metadata).name.to_string();
                        index.group_gone(&name);
                        vec![name]
                    }
                    Change::Relisted(seen) => index.only_groups(&seen),
                };
                drop(index);
                woken.iter().for_each(|name| all.wake(name));
                all.tell();
                all.specs.notify_one();
            }
        };
        let authorities = {
            let all = self.clone();
            move |change| {
                let mut index = lock(&all.index);
                let woken = match change {
                    Change::Is(RawObject(object)) => {
                        let name = key_of(&object.metadata).name.to_string();
                        let news = index.own(&name, Own::read(object));
                        news.then_some(name).into_iter().collect()
                    }
                    Change::Gone(object) => {
                        let name = key_of(&object.0.metadata).name.to_string();
                        index.own_gone(&name);
                        vec![name]
                    }
                    Change::Relisted(seen) => index.only_own(&seen),
                };
                drop(index);
                woken.iter().for_each(|name| all.wake(name));
                all.tell();
            }
        };
        let (client, permits) = (&self.context.client, &*self.context.permits);
        let namespace = Some(&*self.context.namespace);
        tokio::join!(
            follow_kind::<FailoverGroup>(client, namespace, permits, "failovergroups", groups),
            follow_kind::<Authority>(client, namespace, permits, "authorities", authorities),
        );
    }

    /// Follows what each peer shows that some group has, for ever.
    pub async fn peers(self, sites: SitesHandle) {
        let mut tasks: JoinSet<()> = JoinSet::new();
        let mut running: BTreeMap<String, AbortHandle> = BTreeMap::new();
        loop {
            let wanted = lock(&self.index).wanted_peers();
            running.retain(|peer, task| {
                let stays = wanted.contains(peer) && !task.is_finished();
                if !stays {
                    task.abort();
                }
                stays
            });
            for peer in wanted {
                let (all, sites) = (self.clone(), sites.clone());
                running.entry(peer.clone()).or_insert_with(|| tasks.spawn(all.peer(sites, peer)));
            }
            tokio::select! {
                () = self.specs.notified() => {}
                Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
            }
        }
    }

    /// Follows what one peer shows, by the way that works best.
    async fn peer(self, sites: SitesHandle, peer: String) {
        let mut changes = sites.changes();
        loop {
            let chosen = sites.peer(&peer).map(|view| view.chosen);
            let Ok(client) = sites.client(&peer).await else {
                tokio::select! {
                    () = tokio::time::sleep(AGAIN) => {}
                    _ = changes.changed() => {}
                }
                continue;
            };
            let other_way = async {
                while sites.peer(&peer).map(|view| view.chosen) == chosen {
                    if changes.changed().await.is_err() {
                        std::future::pending::<()>().await;
                    }
                    // How well it is reached is a check of each group.
                    self.wake_all();
                }
            };
            tokio::select! {
                () = self.follow_peer(&client, &peer) => {}
                () = other_way => {}
            }
        }
    }

    async fn follow_peer(&self, client: &Client, peer: &str) {
        // A list at a peer waits for no list here.
        let permits = Permits::new(1);
        let namespace = Some(&*self.context.namespace);
        let authorities = |change: Change<RawObject>| {
            let mut index = lock(&self.index);
            let known = &mut index.peer(peer).authorities;
            match change {
                Change::Is(RawObject(object)) => {
                    let spec = AuthoritySpec::deserialize(&object.data["spec"]);
                    let name = key_of(&object.metadata).name.to_string();
                    known.so_far.insert(name, spec.map_err(|error| error.to_string()));
                }
                Change::Gone(object) => {
                    known.so_far.remove(&*key_of(&object.0.metadata).name);
                }
                Change::Relisted(seen) => {
                    known.so_far.retain(|name, _| seen.iter().any(|key| *key.name == **name));
                    known.whole = true;
                }
            }
            drop(index);
            self.wake_all();
        };
        let groups = |change: Change<RawObject>| {
            let mut index = lock(&self.index);
            let known = &mut index.peer(peer).groups;
            match change {
                Change::Is(RawObject(object)) => {
                    let digest = object.data["status"]["digest"].as_str().map(str::to_owned);
                    known.so_far.insert(key_of(&object.metadata).name.to_string(), digest);
                }
                Change::Gone(object) => {
                    known.so_far.remove(&*key_of(&object.0.metadata).name);
                }
                Change::Relisted(seen) => {
                    known.so_far.retain(|name, _| seen.iter().any(|key| *key.name == **name));
                    known.whole = true;
                }
            }
            drop(index);
            self.wake_all();
        };
        let services = |change: Change<RawObject>| {
            let mut index = lock(&self.index);
            let known = &mut index.peer(peer).services;
            let news = match change {
                Change::Is(RawObject(object)) => {
                    let key = key_of(&object.metadata);
                    let text = serde_json::json!({"metadata": object.metadata, "spec": object.data["spec"], "status": object.data["status"], "apiVersion": "banyan.dev/v1alpha1", "kind": "FinService"});
                    // One that a newer version wrote is as one that says nothing.
                    let facts =
                        serde_json::from_value::<FinService>(text).map(|service| ServiceFacts::of(&service));
                    let facts = facts.unwrap_or_default();
                    known.so_far.insert(key, facts.clone()).as_ref() != Some(&facts)
                }
                Change::Gone(object) => known.so_far.remove(&key_of(&object.0.metadata)).is_some(),
                Change::Relisted(seen) => {
                    known.so_far.retain(|key, _| seen.contains(key));
                    known.whole = true;
                    true
                }
            };
            drop(index);
            // Releases and the peak are what groups look at.
            if news {
                self.wake_all();
            }
        };
        tokio::join!(
            follow_kind::<Authority>(client, namespace, &permits, "a peer's authorities", authorities),
            follow_kind::<FailoverGroup>(client, namespace, &permits, "a peer's failovergroups", groups),
            follow_kind::<FinService>(client, None, &permits, "a peer's finservices", services),
        );
    }
}

async fn follow_kind<K: Resource<DynamicType = ()>>(
    client: &Client,
    namespace: Option<&str>,
    permits: &Permits,
    what: &'static str,
    on: impl FnMut(Change<RawObject>) + Send,
) {
    let resource = ApiResource::erase::<K>(&());
    let api: Api<RawObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let (first, _) = oneshot::channel();
    follow(api, Selection::default(), permits, what, first, on).await;
}
