//! Fills the index: groups and Authorities here, and at each peer those and its FinServices.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kube::Client;
use kube::api::DynamicObject;
use serde::Deserialize;
use tokio::sync::oneshot;
use tokio::sync::watch::Sender;
use tokio::task::{AbortHandle, JoinSet};

use super::facts::ServiceFacts;
use super::index::{Group, GroupShown, Index, Own, Specs};
use crate::api::authority::AuthoritySpec;
use crate::api::{Authority, FailoverGroup, FinService};
use crate::authority::view::Authorities;
use crate::cloudcluster::handle::SitesHandle;
use crate::runtime::context::Context;
use crate::runtime::follow::{Change, follow_kind};
use crate::runtime::key::{Key, key_of};
use crate::runtime::lock::lock;
use crate::runtime::permits::Permits;
use crate::runtime::queue::{Lane, Queue};
use crate::runtime::raw_object::RawObject;

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
    /// What each group asks for, for those who ask others on its behalf.
    pub specs: Arc<Sender<Arc<Specs>>>,
}

/// How the index takes in a kind of this site.
struct Kind {
    is: fn(&mut Index, &str, DynamicObject) -> bool,
    gone: fn(&mut Index, &str),
    only: fn(&mut Index, &HashSet<Key>) -> Vec<String>,
}

impl Watches {
    fn wake(&self, name: &str) {
        self.queue.add(Key::new(&self.context.namespace, name), Lane::Normal);
    }

    fn wake_all(&self) {
        let names = lock(&self.index).names();
        names.iter().for_each(|name| self.wake(name));
    }

    /// Tells others how this site stands, and what groups ask for, where that has changed.
    pub fn tell(&self) {
        // Held until both are told, so that nobody tells what is older after what is newer.
        let index = lock(&self.index);
        let (view, specs) = (index.view(), index.specs());
        self.view.send_if_modified(|known| {
            let news = *known != view;
            *known = view;
            news
        });
        self.specs.send_if_modified(|known| {
            let news = **known != specs;
            *known = Arc::new(specs);
            news
        });
    }

    /// Follows the groups and Authorities of this site, for ever.
    pub async fn own(self) {
        let groups = Kind {
            is: |index, name, object| index.group(name, Group::read(object)),
            gone: Index::group_gone,
            only: Index::only_groups,
        };
        let authorities = Kind {
            is: |index, name, object| index.own(name, Own::read(object)),
            gone: Index::own_gone,
            only: Index::only_own,
        };
        let (client, permits) = (&self.context.client, &*self.context.permits);
        let namespace = Some(&*self.context.namespace);
        // Who waits for the first lists waits for the view.
        let first = || oneshot::channel().0;
        let [groups, authorities] = [groups, authorities].map(|kind| move_on(self.clone(), kind));
        tokio::join!(
            follow_kind::<FailoverGroup>(client, namespace, permits, "failovergroups", first(), groups),
            follow_kind::<Authority>(client, namespace, permits, "authorities", first(), authorities),
        );
    }

    /// Follows what each peer shows that some group has, for ever.
    pub async fn peers(self, sites: SitesHandle) {
        let mut specs = self.specs.subscribe();
        let mut tasks: JoinSet<()> = JoinSet::new();
        let mut running: BTreeMap<String, AbortHandle> = BTreeMap::new();
        loop {
            let now = Arc::clone(&specs.borrow_and_update());
            let site = &*self.context.site;
            let wanted: BTreeSet<&str> = now.values().flat_map(|spec| spec.peers(site)).collect();
            running.retain(|peer, task| {
                let stays = wanted.contains(peer.as_str()) && !task.is_finished();
                if !stays {
                    task.abort();
                }
                stays
            });
            for peer in wanted {
                let follow = || tasks.spawn(self.clone().peer(sites.clone(), peer.to_owned()));
                running.entry(peer.to_owned()).or_insert_with(follow);
            }
            tokio::select! {
                // The sender lives as long as `self`.
                _ = specs.changed() => {}
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
        let permits = &Permits::new(1);
        let namespace = Some(&*self.context.namespace);
        let name = |key: &Key| key.name.to_string();
        let wake = |news: bool| {
            if news {
                self.wake_all();
            }
        };
        let authorities = |change| {
            let read = |object: DynamicObject| {
                AuthoritySpec::deserialize(&object.data["spec"]).map_err(|error| error.to_string())
            };
            let news = lock(&self.index).peer(peer).authorities.take(change, name, read);
            wake(news);
        };
        let groups = |change| {
            let read = |object: DynamicObject| GroupShown::read(&object);
            let news = lock(&self.index).peer(peer).groups.take(change, name, read);
            wake(news);
        };
        let services = |change| {
            // The first list is what readiness waits for. Else the groups look at each FinService of both sites every few
            // seconds: where a thousand of them move, each would have a thousand looked at.
            let first = matches!(change, Change::Relisted(_));
            let news = lock(&self.index).peer(peer).services.take(change, Key::clone, facts);
            wake(news && first);
        };
        let first = || oneshot::channel().0;
        tokio::join!(
            follow_kind::<Authority>(
                client,
                namespace,
                permits,
                "a peer's authorities",
                first(),
                authorities
            ),
            follow_kind::<FailoverGroup>(
                client,
                namespace,
                permits,
                "a peer's failovergroups",
                first(),
                groups
            ),
            follow_kind::<FinService>(client, None, permits, "a peer's finservices", first(), services),
        );
    }
}

/// Takes changes into the index, and wakes the groups that they concern.
fn move_on(all: Watches, kind: Kind) -> impl FnMut(Change<RawObject>) + Send {
    move |change| {
        let mut index = lock(&all.index);
        let woken = match change {
            Change::Is(RawObject(object)) => {
                let name = key_of(&object.metadata).name.to_string();
                let news = (kind.is)(&mut index, &name, object);
                news.then_some(name).into_iter().collect()
            }
            Change::Gone(object) => {
                let name = key_of(&object.0.metadata).name.to_string();
                (kind.gone)(&mut index, &name);
                vec![name]
            }
            Change::Relisted(seen) => (kind.only)(&mut index, &seen),
        };
        drop(index);
        woken.iter().for_each(|name| all.wake(name));
        all.tell();
    }
}

/// What matters of a FinService at a peer. One that a newer version wrote is as one that says nothing.
fn facts(object: DynamicObject) -> ServiceFacts {
    let DynamicObject { metadata, mut data, .. } = object;
    let [spec, status] = ["spec", "status"].map(|part| data[part].take());
    let service = serde_json::json!({"metadata": metadata, "spec": spec, "status": status,
        "apiVersion": "banyan.dev/v1alpha1", "kind": "FinService"});
    let service = serde_json::from_value::<FinService>(service);
    service.map(|service| ServiceFacts::of(&service)).unwrap_or_default()
}
