//! One link to each peer, made of its ways: each way is tried by itself, and the best one is used.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use jiff::Timestamp;
use kube::Client;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::health::choose;
use super::nodes;
use super::peer_error::PeerError;
use super::secrets::Secrets;
use super::view::{NodesView, PeerView};
use super::way::{Ground, Pace, Way};
use crate::api::cloudcluster::Access;
use crate::clouds::{Addresses, HasNodes};
use crate::runtime::lock::lock;
use crate::runtime::remote::{DEADLINE, RemoteError};

/// Counting takes at most so much of the time, as one part of so many: a list of 30 000 pods takes seconds.
const COUNTING: u32 = 50;

/// Told when what is known of a peer has changed.
type OnChange = Box<dyn Fn(&str) + Send + Sync>;

/// The links to all peers. Cheap to clone.
#[derive(Clone)]
pub struct Links {
    inner: Arc<Inner>,
}

struct Inner {
    ground: Arc<Ground>,
    links: Mutex<BTreeMap<String, Arc<Link>>>,
    set: Notify,
    changes: watch::Sender<u64>,
    on_change: OnceLock<OnChange>,
}

/// The link to one peer.
struct Link {
    ways: Vec<Arc<Way>>,
    /// Moves after each round of any way.
    rounds: watch::Sender<u64>,
    state: Mutex<State>,
}

struct State {
    view: PeerView,
}

impl Links {
    /// No peer is known yet. Secrets lie in `namespace`.
    pub fn new(client: Client, namespace: &str, addresses: Addresses, pace: Pace) -> Self {
        let secrets = Secrets { client, namespace: namespace.into() };
        let ground = Arc::new(Ground { secrets, addresses, pace });
        let (links, set) = (Mutex::default(), Notify::new());
        let (changes, on_change) = (watch::Sender::new(0), OnceLock::new());
        Self { inner: Arc::new(Inner { ground, links, set, changes, on_change }) }
    }

    /// Who is told which peer there is news of. The first one stays.
    pub fn on_change(&self, on_change: impl Fn(&str) + Send + Sync + 'static) {
        let _ = self.inner.on_change.set(Box::new(on_change));
    }

    /// Moves whenever what is known of any peer changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// Says which peers there are, and which ways lead to each. What stays as it was goes on undisturbed.
    pub fn set(&self, peers: BTreeMap<String, Vec<Access>>) {
        let mut links = lock(&self.inner.links);
        let mut before = std::mem::take(&mut *links);
        for (name, wanted) in peers {
            let old = before.remove(&name);
            let is_same = |link: &Arc<Link>| link.ways.iter().map(|way| &way.access).eq(&wanted);
            let link = match old {
                Some(link) if is_same(&link) => link,
                old => {
                    let kept = |access: &Access| {
                        let mut ways = old.iter().flat_map(|link| &link.ways);
                        ways.find(|way| way.access == *access).map(Arc::clone)
                    };
                    let make = |access: Access| {
                        kept(&access).or_else(|| {
                            Some(Arc::new(Way::new(&name, access, Arc::clone(&self.inner.ground))?))
                        })
                    };
                    Arc::new(Link::new(wanted.into_iter().filter_map(make).collect()))
                }
            };
            links.insert(name, link);
        }
        drop(links);
        self.inner.set.notify_one();
    }

    fn link(&self, peer: &str) -> Option<Arc<Link>> {
        lock(&self.inner.links).get(peer).map(Arc::clone)
    }

    /// What is known of a peer; `None` if there is no CloudCluster of that name, or it names no way.
    pub fn view(&self, peer: &str) -> Option<PeerView> {
        let link = self.link(peer).filter(|link| !link.ways.is_empty())?;
        let view = lock(&link.state).view.clone();
        Some(view)
    }

    /// A client by the way that works best now. Where none has been tried yet it waits for the first round, for at most
    /// five seconds.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn client(&self, peer: &str) -> Result<Client, PeerError> {
        Ok(self.way(peer).await?.1)
    }

    /// A call to a peer by the way that works best now, for at most five seconds.
    ///
    /// # Errors
    /// Why there is no answer. A peer that gives none is tried anew at once, so that another way is found.
    pub async fn ask<T, F>(&self, peer: &str, call: impl FnOnce(Client) -> F) -> Result<T, PeerError>
    where
        F: Future<Output = kube::Result<T>>,
    {
        let (way, client) = self.way(peer).await?;
        let answer = way.ask(call(client)).await;
        if answer.as_ref().is_err_and(|error| !error.is_answer()) {
            way.poke();
        }
        answer
    }

    async fn way(&self, peer: &str) -> Result<(Arc<Way>, Client), PeerError> {
        let link = self.link(peer).ok_or_else(|| PeerError::NoSite {
            cluster: peer.to_owned(),
            namespace: self.inner.ground.secrets.namespace.to_string(),
        })?;
        if link.ways.is_empty() {
            return Err(PeerError::NoWay(peer.to_owned()));
        }
        let mut rounds = link.rounds.subscribe();
        let found = async {
            loop {
                match link.best() {
                    Err(PeerError::NotYet) => {}
                    answered => return answered,
                }
                if rounds.changed().await.is_err() {
                    return Err(PeerError::NotYet);
                }
            }
        };
        tokio::time::timeout(DEADLINE, found).await.unwrap_or(Err(PeerError::NotYet))
    }

    /// The cluster of a peer in its cloud, to be asked for its nodes. Whether the peer itself answers does not matter.
    ///
    /// # Errors
    /// If no way leads through a cloud, or they name more than one cluster, or the credentials cannot be read.
    pub async fn nodes(&self, peer: &str) -> Result<Arc<dyn HasNodes>, PeerError> {
        let link = self.link(peer).ok_or_else(|| PeerError::NoSite {
            cluster: peer.to_owned(),
            namespace: self.inner.ground.secrets.namespace.to_string(),
        })?;
        let mut ways = link.ways.iter().filter_map(|way| Some((way, way.names()?)));
        let no_cloud = || PeerError::NoCloud(peer.to_owned());
        let (first, named) = ways.next().ok_or_else(no_cloud)?;
        if ways.any(|(_, other)| other != named) {
            return Err(no_cloud());
        }
        first.nodes().await
    }

    /// Keeps all links until `shutdown`.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut running: BTreeMap<String, (Arc<Link>, JoinSet<()>)> = BTreeMap::new();
        loop {
            let wanted = lock(&self.inner.links).clone();
            running
                .retain(|name, (link, _)| wanted.get(name).is_some_and(|wanted| Arc::ptr_eq(wanted, link)));
            for (name, link) in wanted {
                running.entry(name.clone()).or_insert_with(|| (Arc::clone(&link), self.begin(&name, link)));
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.inner.set.notified() => {}
            }
        }
    }

    /// Begins the tasks of one peer: one for each way, and one that counts. They end when the set is dropped.
    fn begin(&self, name: &str, link: Arc<Link>) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for (place, way) in link.ways.iter().enumerate() {
            let (links, name, way, link) =
                (self.clone(), name.to_owned(), Arc::clone(way), Arc::clone(&link));
            tasks.spawn(async move {
                let is_used = || lock(&link.state).view.chosen == place;
                way.run(is_used, || links.look(&name, &link)).await;
            });
        }
        if !link.ways.is_empty() {
            tasks.spawn(self.clone().count(name.to_owned(), link));
        }
        tasks
    }

    async fn count(self, name: String, link: Arc<Link>) {
        let pace = &self.inner.ground.pace;
        let mut rounds = link.rounds.subscribe();
        loop {
            // Nothing is asked of a peer that is known to be away.
            let works = |link: &Link| link.ways.iter().any(|way| way.well_for().is_some());
            while !works(&link) {
                if rounds.changed().await.is_err() {
                    return;
                }
            }
            let began = tokio::time::Instant::now();
            if let Ok((_, client)) = link.best() {
                let counted = nodes::count(&client, Timestamp::now()).await;
                if link.counted(counted) {
                    self.tell(&name);
                }
            }
            tokio::time::sleep(pace.nodes.max(began.elapsed() * COUNTING)).await;
        }
    }

    /// After a round of a way.
    fn look(&self, name: &str, link: &Link) {
        if link.look(&self.inner.ground.pace) {
            self.tell(name);
        }
        link.rounds.send_modify(|rounds| *rounds += 1);
    }

    fn tell(&self, name: &str) {
        self.inner.changes.send_modify(|changes| *changes += 1);
        if let Some(on_change) = self.inner.on_change.get() {
            on_change(name);
        }
    }
}

impl Link {
    fn new(ways: Vec<Arc<Way>>) -> Self {
        let views = ways.iter().map(|way| way.view()).collect();
        let view = PeerView {
            reachable: None,
            silent: false,
            since: Timestamp::now(),
            ways: views,
            chosen: 0,
            version: None,
            nodes: None,
            uncounted: None,
        };
        Self { ways, rounds: watch::Sender::new(0), state: Mutex::new(State { view }) }
    }

    /// The way that is used, and its client.
    fn best(&self) -> Result<(Arc<Way>, Client), PeerError> {
        let chosen = lock(&self.state).view.chosen;
        let ways = self.ways.iter().skip(chosen).chain(self.ways.iter().take(chosen));
        let mut last = PeerError::NotYet;
        for way in ways {
            match (way.client(), way.last_error()) {
                // One that was never tried has no client.
                (Some(client), _) => return Ok((Arc::clone(way), client)),
                (None, error) if last == PeerError::NotYet => last = error,
                (None, _) => {}
            }
        }
        Err(last)
    }

    /// Takes in how counting went, and says whether others are to be told something new.
    fn counted(&self, counted: Result<NodesView, RemoteError>) -> bool {
        let mut state = lock(&self.state);
        let view = &mut state.view;
        match counted {
            Ok(nodes) => (view.nodes, view.uncounted) = (Some(nodes), None),
            // That is told of by the ways.
            Err(error) if error.is_silence() => return false,
            Err(error) => view.uncounted = Some(error),
        }
        true
    }

    /// Chooses the way, and says whether others are to be told something new.
    fn look(&self, pace: &Pace) -> bool {
        let well: Vec<_> = self.ways.iter().map(|way| way.well_for()).collect();
        let ways: Vec<_> = self.ways.iter().map(|way| way.view()).collect();
        let mut asked = self.ways.iter().filter_map(|way| way.silent_for()).peekable();
        let silent = asked.peek().is_some() && asked.all(|silent| silent >= pace.thresholds.ill_for);
        let reachable = match () {
            () if ways.iter().any(|way| way.reachable == Some(true)) => Some(true),
            () if ways.iter().all(|way| way.reachable == Some(false)) => Some(false),
            () => None,
        };
        let mut state = lock(&self.state);
        let old = &state.view;
        let chosen = choose(old.chosen, &well, &pace.thresholds);
        let version = self.ways.get(chosen).and_then(|way| way.version()).or_else(|| old.version.clone());
        let since = if old.reachable == reachable { old.since } else { Timestamp::now() };
        let (nodes, uncounted) = (old.nodes.clone(), old.uncounted.clone());
        let view = PeerView { reachable, silent, since, ways, chosen, version, nodes, uncounted };
        let is_news = view != state.view;
        state.view = view;
        is_news
    }
}

#[cfg(test)]
#[path = "links_tests.rs"]
mod tests;
