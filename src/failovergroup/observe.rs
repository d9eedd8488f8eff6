//! The snapshot: all that a decision about one group needs, at one moment. Sends nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::facts::{ServiceFacts, Services};
use super::index::{Asked, Group, GroupThere, Index, Intake, Own};
use super::measured::Measured;
use crate::api::{FailoverGroupSpec, FailoverGroupStatus};
use crate::authority::known::{Decided, Knowledge, Known, StoreShows};
use crate::cloudcluster::handle::SitesHandle;
use crate::cloudcluster::health::Thresholds;
use crate::cloudcluster::sites::Described;
use crate::cloudcluster::view::{NodesView, PeerView};
use crate::finservice;
use crate::runtime::key::Key;
use crate::runtime::lock::lock;
use crate::stores::Reading;
use crate::stores::reading::Role;

/// Where a snapshot is taken from.
#[derive(Clone)]
pub struct Ground {
    /// The site of this operator.
    pub site: Arc<str>,
    /// What is known of groups.
    pub index: Arc<Mutex<Index>>,
    /// What is known of FinServices.
    pub services: Arc<Mutex<finservice::index::Index>>,
    /// The sites and their peers.
    pub sites: SitesHandle,
    /// The nodes of this site, once they have been counted.
    pub nodes: watch::Receiver<Option<NodesView>>,
}

/// A peer, as a group sees it.
#[derive(Clone, Debug)]
pub struct PeerSeen {
    /// Its name.
    pub name: String,
    /// How it is reached; `None` if nobody says how.
    pub view: Option<PeerView>,
    /// Its own object of this group.
    pub group: GroupThere,
    /// Which mirrors copy nothing to it; `None` until that has been read.
    pub intake: Option<Intake>,
    /// The group's FinServices there; `None` until they have been read.
    pub services: Option<Services>,
}

/// All that is known of one group.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The site of this operator.
    pub site: Arc<str>,
    /// The name of the group.
    pub name: String,
    /// The group; `None` if it is gone and its Authority is left.
    pub group: Option<Group>,
    /// Its Authority here.
    pub own: Option<Own>,
    /// What everybody shows of who has authority.
    pub knowledge: Knowledge,
    /// Digest of the group's spec.
    pub digest: String,
    /// The other sites.
    pub peers: Vec<PeerSeen>,
    /// What is said of each site.
    pub described: Arc<BTreeMap<String, Described>>,
    /// The group's FinServices here.
    pub services: Services,
    /// Those that another group has too, and that one.
    pub shared: Vec<(Key, String)>,
    /// What was found by asking.
    pub asked: Asked,
    /// The nodes of this site.
    pub nodes: Option<NodesView>,
    /// What the last move here, or rehearsal, took.
    pub measured: Option<Measured>,
}

impl Observed {
    /// What the group asks for, if it can be read.
    pub fn spec(&self) -> Option<&FailoverGroupSpec> {
        self.group.as_ref()?.spec.as_ref().ok()
    }

    /// What was said of the group last.
    pub fn status(&self) -> Option<&FailoverGroupStatus> {
        self.group.as_ref()?.status.as_ref()
    }
}

/// Takes the snapshot of a group; `None` if neither it nor its Authority is there.
pub fn observe(ground: &Ground, name: &str) -> Option<Observed> {
    let site = Arc::clone(&ground.site);
    let index = lock(&ground.index);
    // The own Authority is looked at before the peers: what is written is bound to this version of it.
    let (group, own, asked) = index.observe(name);
    if group.is_none() && own.is_none() {
        return None;
    }
    let spec = group.as_ref().and_then(|group| group.spec.as_ref().ok());
    let sites = spec.map(|spec| spec.peers(&site).map(str::to_owned).collect::<Vec<_>>()).unwrap_or_default();
    let mut peers = Vec::new();
    let mut shown = Vec::new();
    for peer in sites {
        let (authority, group, intake) = index.peer_shows(&peer, name);
        let services = spec.and_then(|spec| index.peer_services(&peer, spec));
        let view = ground.sites.peer(&peer);
        shown.push((peer.clone(), explained(authority, view.as_ref())));
        peers.push(PeerSeen { name: peer, view, group, intake, services });
    }
    let others: Vec<(String, FailoverGroupSpec)> =
        index.specs().into_iter().filter(|(other, _)| other != name).collect();
    let measured = index.measured(name).cloned();
    // A cloud that gives no token says nothing of its cluster, and a refusal is a sign of life.
    let silent = |site: &str| {
        let view = peers.iter().find(|peer| peer.name == site)?.view.as_ref()?;
        let since = (view.silent && view.reachable == Some(false)).then_some(view.since)?;
        since.checked_sub(Thresholds::default().ill_for).ok()
    };
    let abandoned = index.abandoned(name, silent, Timestamp::now());
    let ordered = index.has_order(name);
    drop(index);
    let (services, shared) = spec.map(|spec| of_group(ground, spec, &others)).unwrap_or_default();
    let digest = spec.map(digest).unwrap_or_default();
    let knowledge = Knowledge {
        own: own.as_ref().and_then(|own| own.spec.as_ref().ok()).cloned(),
        peers: shown,
        witness: spec.and_then(|spec| spec.witness.as_ref()).map(|_| witness(&asked)),
        stores: spec.map(|spec| stores(spec, &site, &asked)).unwrap_or_default(),
        record: record(&asked),
        remembered: remembered(group.as_ref()),
        differs: differs(&digest, &peers),
        abandoned,
        ordered,
    };
    let described = ground.sites.sites.borrow().as_ref().map(|sites| Arc::clone(&sites.described));
    Some(Observed {
        name: name.to_owned(),
        digest,
        group,
        own,
        knowledge,
        peers,
        described: described.unwrap_or_default(),
        services,
        shared,
        asked,
        nodes: ground.nodes.borrow().clone(),
        measured,
        site,
    })
}

/// Says why a peer has not been read, where that is known better.
fn explained<T>(known: Known<T>, view: Option<&PeerView>) -> Known<T> {
    match (known, view) {
        (Known::NotYet(_), None) => {
            Known::NotYet("no CloudCluster says how its API server is reached".to_owned())
        }
        (Known::NotYet(words), Some(view)) => Known::NotYet(match view.way() {
            Some(way) if way.reachable == Some(false) => way.why.to_string(),
            _ => words,
        }),
        (read, _) => read,
    }
}

/// The FinServices of a group here, and those that another group has too.
fn of_group(
    ground: &Ground,
    spec: &FailoverGroupSpec,
    others: &[(String, FailoverGroupSpec)],
) -> (Services, Vec<(Key, String)>) {
    let index = lock(&ground.services);
    let mut all = Services::new();
    let mut shared = Vec::new();
    for (key, service) in index.services() {
        let labels = service.metadata.labels.as_ref();
        if !spec.services.contains(&key.namespace, labels) {
            continue;
        }
        let other = others.iter().find(|(_, other)| other.services.contains(&key.namespace, labels));
        shared.extend(other.map(|(name, _)| (key.clone(), name.clone())));
        let mut facts = ServiceFacts::of(service);
        // A move waits for pods, and not for a status of each service that tells of them.
        facts.pods = index.ready_pods(key).map_or(facts.pods, i64::from);
        all.insert(key.clone(), facts);
    }
    shared.sort();
    (all, shared)
}

/// What this operator said last of who has authority.
fn remembered(group: Option<&Group>) -> Option<(i64, Vec<String>)> {
    let copy = group?.status.as_ref()?.authority.as_ref()?;
    (copy.epoch > 0).then(|| (copy.epoch, copy.holders.clone()))
}

/// Why it is not certain that each peer means the same group.
fn differs(own: &str, peers: &[PeerSeen]) -> Option<String> {
    peers.iter().find_map(|peer| match &peer.group {
        GroupThere::Asks(digest) if digest == own => None,
        GroupThere::Asks(_) => Some(format!("the group asks for something else at {}", peer.name)),
        GroupThere::Unsaid => {
            Some(format!("the operator of {} has not said yet what its group asks for", peer.name))
        }
        GroupThere::Absent => Some(format!("the group is not there at {}", peer.name)),
        GroupThere::NotRead => Some(format!("the groups of {} have not been read", peer.name)),
    })
}

fn witness(asked: &Asked) -> Known<Vec<Decided>> {
    match &asked.witness {
        None => Known::NotYet("it has not been asked yet".to_owned()),
        Some(Err((why, _))) => Known::NotYet(why.clone()),
        Some(Ok(decisions)) => Known::Read(
            decisions
                .iter()
                .map(|(after, one)| Decided { after: *after, epoch: one.epoch, holders: one.holders.clone() })
                .collect(),
        ),
    }
}

/// What each store with a single writer shows at this site.
fn stores(spec: &FailoverGroupSpec, site: &str, asked: &Asked) -> Vec<(String, Known<StoreShows>)> {
    let single = spec.stores().iter().filter(|store| store.kafka_mirror.is_none());
    let of = |name: &str| match asked.stores.get(&(name.to_owned(), site.to_owned())) {
        None => Known::NotYet("it has not been asked yet".to_owned()),
        Some(Err(error)) => Known::NotYet(error.to_string()),
        Some(Ok(reading)) => Known::Read(shows(reading)),
    };
    single.map(|store| (store.name.clone(), of(&store.name))).collect()
}

/// What of a reading matters to who has authority.
pub fn shows(reading: &Reading) -> StoreShows {
    let row = reading.row;
    StoreShows {
        primary: reading.role == Role::Primary,
        open: row.is_none_or(|row| row.open),
        opened_at: row.map(|row| row.opened_at).filter(|epoch| *epoch > 0),
        ballot: row.map(|row| row.ballot).filter(|ballot| *ballot > 0),
        frozen: reading.frozen,
        closing: row.is_some_and(|row| row.closing),
    }
}

/// The epoch that the traffic provider shows. One that could not be read shows nothing, and forbids nothing.
fn record(asked: &Asked) -> Option<Known<i64>> {
    let traffic = asked.traffic.as_ref().filter(|traffic| traffic.failed.is_none())?;
    traffic.epoch.map(Known::Read)
}

/// The digest of a spec, by which sites see that they have the same one.
pub fn digest(spec: &FailoverGroupSpec) -> String {
    let text = serde_json::to_vec(spec).unwrap_or_default();
    let digest = Sha256::digest(text);
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
