//! The cache, what client-go calls an informer's store, kept small: all FinServices, a few facts of each child, and who
//! else has a name that we might want. Synchronous, without I/O.

mod canary_objects;
pub(crate) mod child;
pub(crate) mod claims;
pub(crate) mod gateways;
pub(crate) mod graph;
mod holders;
pub mod legacy;
pub(crate) mod named;
mod outside;
mod own_writes;
mod parsed;
pub(crate) mod pod;
pub(crate) mod pod_words;
pub(crate) mod rollouts;
pub(crate) mod slim_pod;
mod snapshot;
mod standing;
pub(crate) mod stranger;
pub(crate) mod topics;
pub(crate) mod uid;

use crate::runtime::key::Key;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::authority::view::Authorities;
use crate::cloudcluster::sites::Sites;
use crate::finservice::children::Kind;
use crate::finservice::plan::{child_digests, revision};
use crate::finservice::settings::Settings;
use crate::runtime::digest;
use child::ChildState;
use claims::Claims;
use graph::CallGraph;
pub use parsed::{Parsed, Readable, Unreadable};
use rollouts::Rollouts;
pub use snapshot::Observed;
use stranger::Stranger;
use topics::Topics;
use uid::Uid;

/// Children that room is made for at once.
const ROOM: usize = 4;

#[derive(Debug, Default)]
struct Entry {
    service: Option<Parsed>,
    version: u64,
    children: Vec<ChildState>,
    references: (Vec<String>, Vec<String>),
    cycle: Option<Arc<str>>,
}

/// What is known of a Secret that somebody refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretState {
    /// UID and resource version, as metadata tell them.
    pub version: Box<str>,
    /// Digest of its contents at that version, once it has been read.
    pub digest: Option<Box<str>>,
}

/// What the operator knows of its cluster.
#[derive(Debug, Default)]
pub struct Index {
    site: Arc<str>,
    /// Whether other FinServices are left out: then whoever is named is taken to be there, and to allow what is asked.
    pub alone: bool,
    /// What the installer says of this cluster: set before anything is observed.
    pub settings: Arc<Settings>,
    sites: Sites,
    authorities: Authorities,
    entries: HashMap<Key, Entry>,
    strangers: BTreeMap<Key, Vec<(Kind, Stranger)>>,
    handed_over: HashMap<Key, BTreeSet<Key>>,
    config_maps: HashMap<Key, Box<str>>,
    secrets: HashMap<Key, SecretState>,
    secrets_hidden: bool,
    readers: HashMap<(bool, Key), BTreeSet<Key>>,
    kinds: BTreeSet<Kind>,
    claims: Claims,
    topics: Topics,
    outside: outside::Outside,
    gateways: gateways::Gateways,
    namers: named::Namers,
    legacies: legacy::Legacies,
    calls: CallGraph,
    calls_changed: bool,
    gone: own_writes::Gone,
    /// CanaryRollouts, what people said, and pods.
    pub rollouts: Rollouts,
}

impl Index {
    /// An empty index for that site. Kubernetes' own kinds are always there.
    pub fn new(site: &str) -> Self {
        let kinds = Kind::ALL.into_iter().filter(|kind| kind.api().is_none()).collect();
        Self { site: site.into(), kinds, ..Self::default() }
    }

    /// Takes in a FinService (or that it is gone). Returns whom it concerns.
    pub fn service(&mut self, key: &Key, version: u64, parsed: Option<Parsed>) -> BTreeSet<Key> {
        let good = match &parsed {
            Some(Parsed::Good(service)) => Some(Arc::clone(service)),
            _ => None,
        };
        let entry = self.entries.entry(key.clone()).or_default();
        if parsed.is_some() && version != 0 && version < entry.version {
            return BTreeSet::new();
        }
        entry.version = version;
        let was_there = entry.service.is_some();
        entry.service = parsed.map(|parsed| parsed.beside(entry.service.as_ref()));
        let comes_or_goes = was_there != entry.service.is_some();
        let references = good.as_deref().map(|s| revision::references(&s.spec)).unwrap_or_default();
        let old = std::mem::replace(&mut entry.references, references.clone());
        if entry.service.is_none() && entry.children.is_empty() {
            self.entries.remove(key);
        }
        if old != references {
            self.reread(key, &old, &references);
        }
        self.calls_changed |= self.calls.update(key, good.as_deref());
        self.legacies.update(key, good.as_deref().map(|service| &service.spec));
        let mut concerned = self.topics.update(key, good.as_deref(), &self.site, &self.settings);
        concerned.extend(self.outside.update(key, good.as_deref(), &self.site));
        concerned.extend(self.claim(key));
        self.namers.update(key, good.as_deref().map(|service| &service.spec));
        concerned.extend(self.namers.of_service(key).filter(|_| comes_or_goes).cloned());
        concerned.insert(key.clone());
        concerned
    }

    fn reread(&mut self, key: &Key, old: &(Vec<String>, Vec<String>), new: &(Vec<String>, Vec<String>)) {
        for (secret, old, new) in [(false, &old.0, &new.0), (true, &old.1, &new.1)] {
            for name in old {
                let of = (secret, Key::new(&key.namespace, name));
                if let Some(readers) = self.readers.get_mut(&of) {
                    readers.remove(key);
                    if readers.is_empty() {
                        self.readers.remove(&of);
                    }
                }
            }
            for name in new {
                let of = (secret, Key::new(&key.namespace, name));
                self.readers.entry(of).or_default().insert(key.clone());
            }
        }
    }

    /// Takes in a child. An event that is older than what is known is passed over. Returns whether
    /// anything changed.
    pub fn child(&mut self, key: &Key, mut state: ChildState) -> bool {
        if self.gone.is_over(&state) {
            return false;
        }
        if state.kind == Kind::KafkaTopic {
            // It may have been another's: who does not know that it is no more would delete it one day.
            for other in self.topics.namers(&key.namespace, &state.name).iter().filter(|other| *other != key)
            {
                self.child_gone(other, state.kind, &state.name, None);
            }
        }
        let entry = self.entries.entry(key.clone()).or_default();
        let known = entry.children.iter_mut().find(|c| c.kind == state.kind && c.name == state.name);
        match known {
            Some(known) => {
                if state.uid == known.uid && state.version < known.version {
                    return false;
                }
                state.inherit(known);
                let changed = *known != state;
                *known = state;
                changed
            }
            None => {
                // Doubling would leave close to half of the room unused, for each of many thousands.
                if entry.children.len() == entry.children.capacity() {
                    entry.children.reserve_exact(ROOM);
                }
                entry.children.push(state);
                true
            }
        }
    }

    /// Takes in that a child is gone. An answer that came after the deletion is known by its UID.
    pub fn child_gone(&mut self, key: &Key, kind: Kind, name: &str, uid: Option<&Uid>) -> bool {
        let Some(entry) = self.entries.get_mut(key) else { return false };
        let before = entry.children.len();
        entry.children.retain(|child| {
            child.kind != kind || &*child.name != name || uid.is_some_and(|uid| child.uid != *uid)
        });
        let gone = entry.children.len() != before;
        if entry.children.is_empty() && entry.service.is_none() {
            self.entries.remove(key);
        }
        gone
    }

    /// After a relist of a kind: forgets the children that were not in it. Returns whom it concerns.
    pub fn retain_children(&mut self, kind: Kind, seen: &HashSet<Key>) -> BTreeSet<Key> {
        let mut concerned = BTreeSet::new();
        self.entries.retain(|key, entry| {
            let before = entry.children.len();
            entry
                .children
                .retain(|child| child.kind != kind || seen.contains(&Key::new(&key.namespace, &child.name)));
            if entry.children.len() != before {
                concerned.insert(key.clone());
            }
            entry.service.is_some() || !entry.children.is_empty()
        });
        concerned
    }

    /// After a relist of FinServices: forgets those that were not in it. Returns whom it concerns.
    pub fn retain_services(&mut self, seen: &HashSet<Key>) -> BTreeSet<Key> {
        let gone: Vec<Key> = self
            .entries
            .iter()
            .filter(|(key, entry)| entry.service.is_some() && !seen.contains(*key))
            .map(|(key, _)| key.clone())
            .collect();
        gone.iter().flat_map(|key| self.service(key, 0, None)).collect()
    }

    /// Takes in an object of somebody else (or that it is gone). Returns the FinService whose name
    /// it bears, or that it is handed over to.
    pub fn stranger(&mut self, kind: Kind, object: &Key, stranger: Option<Stranger>) -> BTreeSet<Key> {
        let list = self.strangers.entry(object.clone()).or_default();
        let receiver = |service: &str| Key::new(&object.namespace, service);
        let receivers = |list: &[(Kind, Stranger)]| -> BTreeSet<Key> {
            list.iter().filter_map(|(_, stranger)| stranger.adopt.as_deref().map(receiver)).collect()
        };
        let before = receivers(list);
        list.retain(|(have, _)| *have != kind);
        list.extend(stranger.map(|stranger| (kind, stranger)));
        let after = receivers(list);
        if list.is_empty() {
            self.strangers.remove(object);
        }
        for service in before.difference(&after) {
            if let Some(objects) = self.handed_over.get_mut(service) {
                objects.remove(object);
                if objects.is_empty() {
                    self.handed_over.remove(service);
                }
            }
        }
        for service in after.difference(&before) {
            self.handed_over.entry(service.clone()).or_default().insert(object.clone());
        }
        let mut concerned: BTreeSet<Key> = before.into_iter().chain(after).collect();
        concerned.insert(object.clone());
        // Names of our own that are longer than the service's: `transaction.dashboard`, `transaction-kafka`.
        let longer = object.name.split_once('.').map(|(service, _)| service);
        concerned.extend(longer.or(object.name.strip_suffix("-kafka")).map(receiver));
        concerned.extend(self.legacies.users(object).filter(|_| kind == Kind::Service).cloned());
        concerned.retain(|key| self.entries.contains_key(key));
        concerned
    }

    /// For whom the owner of a Service gives it; `None` if there is none.
    fn legacy_for(&self, service: &Key) -> Option<&str> {
        let found = self.strangers.get(service).into_iter().flatten();
        let mut found = found.filter(|(kind, _)| *kind == Kind::Service);
        let theirs = found.next().map(|(_, stranger)| stranger.legacy_for.as_deref().unwrap_or_default());
        // That of another FinService is given to nobody.
        theirs.or_else(|| self.entries.contains_key(service).then_some(""))
    }

    /// After a relist of somebody else's objects: forgets those that were not in it.
    pub fn retain_strangers(&mut self, kind: Kind, seen: &HashSet<Key>) -> BTreeSet<Key> {
        let gone: Vec<Key> = self
            .strangers
            .iter()
            .filter(|(key, list)| list.iter().any(|(have, _)| *have == kind) && !seen.contains(*key))
            .map(|(key, _)| key.clone())
            .collect();
        gone.iter().flat_map(|key| self.stranger(kind, key, None)).collect()
    }

    /// Takes in the digest of a ConfigMap (or that it is gone). Returns its readers.
    pub fn config_map(&mut self, key: &Key, digest: Option<Box<str>>) -> BTreeSet<Key> {
        let old = match digest.clone() {
            Some(digest) => self.config_maps.insert(key.clone(), digest),
            None => self.config_maps.remove(key),
        };
        if old == digest { BTreeSet::new() } else { self.readers_of(false, key) }
    }

    /// Takes in the version of a Secret (or that it is gone). Returns its readers.
    pub fn secret(&mut self, key: &Key, version: Option<Box<str>>) -> BTreeSet<Key> {
        let (was_there, is_there) = (self.secrets.contains_key(key), version.is_some());
        match version {
            Some(version) if self.secrets.get(key).is_some_and(|have| have.version == version) => {
                return BTreeSet::new();
            }
            Some(version) => {
                self.secrets.insert(key.clone(), SecretState { version, digest: None });
            }
            None => {
                self.secrets.remove(key);
            }
        }
        let mut concerned = self.readers_of(true, key);
        concerned.extend(self.namers.of_secret(key).filter(|_| was_there != is_there).cloned());
        concerned
    }

    /// Notes that this operator may not read Secrets, as its installer has chosen.
    pub fn hide_secrets(&mut self) {
        self.secrets_hidden = true;
    }

    /// Notes the digest of a Secret's contents at a version.
    pub fn secret_read(&mut self, key: &Key, version: &str, digest: &str) {
        if let Some(state) = self.secrets.get_mut(key)
            && &*state.version == version
        {
            state.digest = Some(digest.into());
        }
    }

    /// After a relist: the known ConfigMaps (or Secrets, or strangers' ConfigMaps) not in `seen`.
    pub fn missing_config_maps(&self, seen: &HashSet<Key>) -> Vec<Key> {
        self.config_maps.keys().filter(|key| !seen.contains(*key)).cloned().collect()
    }

    /// After a relist: the known Secrets that are not in `seen`.
    pub fn missing_secrets(&self, seen: &HashSet<Key>) -> Vec<Key> {
        self.secrets.keys().filter(|key| !seen.contains(*key)).cloned().collect()
    }

    fn readers_of(&self, secret: bool, key: &Key) -> BTreeSet<Key> {
        self.readers.get(&(secret, key.clone())).cloned().unwrap_or_default()
    }

    /// Takes in the sites. Returns whom it concerns: all, if they are news.
    pub fn set_sites(&mut self, sites: Sites) -> BTreeSet<Key> {
        let news = self.sites != sites;
        self.sites = sites;
        if news { self.keys() } else { BTreeSet::new() }
    }

    /// Takes in whether the cluster has a kind. Returns whom it concerns: all, if that is news.
    pub fn kind(&mut self, kind: Kind, there: bool) -> BTreeSet<Key> {
        let news = if there { self.kinds.insert(kind) } else { self.kinds.remove(&kind) };
        if news { self.keys() } else { BTreeSet::new() }
    }

    /// Works out the call cycles anew if any call changed. Returns whom it concerns.
    pub fn refresh_cycles(&mut self) -> BTreeSet<Key> {
        if !std::mem::take(&mut self.calls_changed) {
            return BTreeSet::new();
        }
        let mut cycles = self.calls.cycles();
        let mut concerned = BTreeSet::new();
        for (key, entry) in &mut self.entries {
            let cycle = cycles.remove(key).map(|path| {
                let near = |member: &Key| {
                    if member.namespace == key.namespace {
                        member.name.to_string()
                    } else {
                        member.to_string()
                    }
                };
                Arc::<str>::from(path.iter().map(near).collect::<Vec<_>>().join(" → "))
            });
            if entry.cycle != cycle {
                entry.cycle = cycle;
                concerned.insert(key.clone());
            }
        }
        concerned
    }

    /// Keys of all FinServices.
    pub fn keys(&self) -> BTreeSet<Key> {
        self.entries.iter().filter(|(_, entry)| entry.service.is_some()).map(|(key, _)| key.clone()).collect()
    }

    /// The digest of the contents of a child, if its FinService has it on record; see [`record`].
    pub fn on_record(&self, key: &Key, kind: Kind, metadata: &ObjectMeta) -> Option<u64> {
        let Some(Parsed::Good(service)) = &self.entries.get(key)?.service else { return None };
        let record = service.status.as_ref()?.record.as_deref()?;
        let seal = digest::seal(metadata.uid.as_deref()?, metadata.generation?);
        child_digests::contents(record, &key.name, kind, metadata.name.as_deref()?, seal)
    }

    /// The FinService of that name as it was last read.
    pub fn parsed(&self, key: &Key) -> Option<Parsed> {
        self.entries.get(key)?.service.clone()
    }

    /// Brings what was seen up to date: the children, and the FinService itself. `false` if that has news for
    /// which it is to be looked at from the start; whoever brought the news wakes for it. The echo of a status
    /// that was written before is none: nobody wakes for it, so that to look anew is up to the caller.
    pub fn renew(&self, seen: &mut Observed) -> bool {
        let metadata = &seen.service.metadata;
        let (namespace, name) = (metadata.namespace.as_deref(), metadata.name.as_deref());
        let key = Key::new(namespace.unwrap_or_default(), name.unwrap_or_default());
        let Some(entry) = self.entries.get(&key) else { return false };
        let Some(Parsed::Good(service)) = &entry.service else { return false };
        if parsed::differ(&seen.service, service) {
            return false;
        }
        seen.service = Arc::clone(service);
        seen.children.clone_from(&entry.children);
        true
    }
}
