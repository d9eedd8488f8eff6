//! What is known of FailoverGroups: the groups and Authorities here, what each peer shows, and what was last found by
//! asking. Synchronous, without I/O.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::DynamicObject;
use serde::Deserialize;

use super::facts::{ServiceFacts, Services};
use super::listed::Listed;
use super::measured::Measured;
use crate::api::authority::{AuthoritySpec, AuthorityState, AuthorityStatus};
use crate::api::traffic::Residual;
use crate::api::{FailoverGroupSpec, FailoverGroupStatus, Problem};
use crate::authority::abandoned::{ABANDONED_AFTER, Watched};
use crate::authority::claims::{is_alive, slot};
use crate::authority::known::Known;
use crate::authority::view::{Authorities, GroupView, moves_to};
use crate::clouds::nodes::Other;
use crate::dns::Finding;
use crate::runtime::key::{Key, asks_the_same, is_older, missing};
use crate::stores::kafka::MirrorReading;
use crate::stores::reading::Role;
use crate::stores::{Reading, StoreError};
use crate::witness::Decision;

/// A FailoverGroup as it was last read.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// What it asks for, or why that cannot be read.
    pub spec: Result<FailoverGroupSpec, String>,
    /// Its status.
    pub status: Option<FailoverGroupStatus>,
}

impl Group {
    /// Reads an object.
    pub fn read(object: DynamicObject) -> Self {
        let DynamicObject { mut metadata, mut data, .. } = object;
        metadata.managed_fields = None;
        let status = serde_json::from_value(data["status"].take()).ok();
        let spec = serde_path_to_error::deserialize(data["spec"].take());
        let spec = spec.map_err(|error: serde_path_to_error::Error<serde_json::Error>| {
            let path = error.path().to_string();
            format!("spec.{path}: {}", error.inner())
        });
        Self { metadata, spec, status }
    }
}

/// An Authority of this site.
#[derive(Clone, Debug, PartialEq)]
pub struct Own {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// What it says, or why that cannot be read.
    pub spec: Result<AuthoritySpec, String>,
    /// Its status.
    pub status: Option<AuthorityStatus>,
    /// Who else than this operator writes its spec.
    pub foreign: Vec<String>,
}

impl Own {
    /// Reads an object.
    pub fn read(object: DynamicObject) -> Self {
        let DynamicObject { mut metadata, mut data, .. } = object;
        let writes_spec = |fields: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry| {
            fields.fields_v1.as_ref().is_some_and(|fields| !fields.0["f:spec"].is_null())
        };
        let managers = metadata.managed_fields.take().unwrap_or_default();
        let managers = managers.into_iter().filter(writes_spec).filter_map(|fields| fields.manager);
        let foreign: BTreeSet<String> = managers.filter(|name| name != crate::api::labels::MANAGER).collect();
        let status = serde_json::from_value(data["status"].take()).ok();
        let spec = AuthoritySpec::deserialize(&data["spec"]).map_err(|error| error.to_string());
        Self { metadata, spec, status, foreign: foreign.into_iter().collect() }
    }
}

/// What a peer shows.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// Its Authorities, by group.
    pub authorities: Listed<String, Result<AuthoritySpec, String>>,
    /// What its groups say, by name.
    pub groups: Listed<String, GroupShown>,
    /// Its FinServices.
    pub services: Listed<Key, ServiceFacts>,
}

/// What the status of a group at a peer says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupShown {
    /// Digest of what it asks for; `None` where its operator has not said one yet.
    pub digest: Option<String>,
    /// Which mirrors copy nothing to that site.
    pub intake: Intake,
}

impl GroupShown {
    /// Reads an object.
    pub fn read(object: &DynamicObject) -> Self {
        let status = &object.data["status"];
        let mirrors = status["shown"]["mirrors"].as_array().into_iter().flatten();
        let stopped = mirrors.filter(|mirror| mirror["stopped"] == true);
        Self {
            digest: status["digest"].as_str().map(str::to_owned),
            intake: Intake {
                epoch: status["authority"]["epoch"].as_i64().unwrap_or_default(),
                stopped: stopped.filter_map(|mirror| mirror["name"].as_str().map(str::to_owned)).collect(),
            },
        }
    }
}

/// Mirrors that copy nothing to a site, in an epoch that it knows of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intake {
    /// The epoch.
    pub epoch: i64,
    /// The names of their stores.
    pub stopped: Vec<String>,
}

/// The object of a group at a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum GroupThere {
    /// It has not been read.
    #[default]
    NotRead,
    /// There is none.
    Absent,
    /// Its operator has not said yet what it asks for.
    Unsaid,
    /// It asks for what has this digest.
    Asks(String),
}

/// What each group asks for, by name: of those that can be read and have this site.
pub type Specs = BTreeMap<String, FailoverGroupSpec>;

/// What was found by asking something outside of the API servers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asked {
    /// Each store, by its name and the site.
    pub stores: BTreeMap<(String, String), Result<Arc<Reading>, StoreError>>,
    /// When each of them answered last as a primary. It stays where none answers any more.
    pub primaries: BTreeMap<(String, String), Timestamp>,
    /// Each mirror of this site, by the name of its store.
    pub mirrors: BTreeMap<String, Result<MirrorReading, StoreError>>,
    /// What the witness has decided, or why it cannot be relied on, with the remedy.
    pub witness: Option<Result<BTreeMap<i64, Decision>, (String, String)>>,
    /// What is wrong with where the witness stands.
    pub witness_ground: Option<Problem>,
    /// What is wrong with the traffic provider, and the epoch that it shows.
    pub traffic: Option<Traffic>,
    /// Whether the cloud of whoever has authority can be asked for its nodes, where the group asks for that.
    pub pools: Option<PoolsAsked>,
    /// Its hooks, by name: why a move to this site could not call one.
    pub hooks: BTreeMap<String, Result<(), Problem>>,
    /// The group's own checks, by name: when the last one was made, and what came of it.
    pub own: BTreeMap<String, (Timestamp, Result<(), String>)>,
}

impl Asked {
    /// Takes in what a store at a site answered that was asked at `since`. An answer that took its time says nothing against
    /// what was read later: who has closed or opened the store meanwhile has read it again. Returns whether the store is
    /// in another state than before: positions and times move with every answer.
    pub fn hear(
        &mut self,
        key: (String, String),
        since: Timestamp,
        answer: Result<Arc<Reading>, StoreError>,
    ) -> bool {
        let known = self.stores.get(&key);
        if known.and_then(|known| known.as_ref().ok()).is_some_and(|known| known.measured_at > since) {
            return false;
        }
        let changed = match (known, &answer) {
            (Some(Ok(known)), Ok(answer)) => !known.is_in_the_state_of(answer),
            (Some(Err(known)), Err(answer)) => known != answer,
            _ => true,
        };
        if let Some(primary) = answer.as_ref().ok().filter(|reading| reading.role == Role::Primary) {
            self.primaries.insert(key.clone(), primary.measured_at);
        }
        self.stores.insert(key, answer);
        changed
    }
}

/// What came of asking the cloud of a site for the nodes of its cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolsAsked {
    /// The site.
    pub site: String,
    /// Why it can never be known by its node pools that none is left; or why nothing was told, with the remedy.
    pub found: Result<Option<Other>, Other>,
}

/// What was found at the traffic provider.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Traffic {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// The epoch of the last writer; `None` if nobody ever wrote.
    pub epoch: Option<i64>,
    /// Why nothing could be read now.
    pub failed: Option<String>,
    /// Whether it was read since this process began: what was found then is what is known.
    pub read: bool,
}

impl Traffic {
    /// What is known once it cannot be read any more.
    pub fn unreadable(before: Option<Self>, why: String) -> Self {
        Self { failed: Some(why), ..before.unwrap_or_default() }
    }
}

/// What is known.
#[derive(Debug, Default)]
pub struct Index {
    site: Arc<str>,
    groups: BTreeMap<String, Group>,
    authorities: BTreeMap<String, Own>,
    peers: BTreeMap<String, Peer>,
    asked: BTreeMap<String, Asked>,
    listed: (bool, bool),
    measured: BTreeMap<String, Measured>,
    /// What this process has seen of claims that close this site, by group.
    watched: BTreeMap<String, Watched>,
    /// How long a site is silent until its claim is abandoned.
    patience: SignedDuration,
    /// Failovers of this site that are at work, and the group that each has in hand.
    ordered: BTreeMap<String, String>,
    /// Groups that a Failover rehearses, and its name: their services here are at full size.
    rehearsed: BTreeMap<String, String>,
}

impl Index {
    /// An empty one of that site.
    pub fn new(site: &str) -> Self {
        Self { site: site.into(), patience: ABANDONED_AFTER, ..Self::default() }
    }

    /// The same with another time until a claim is abandoned.
    pub fn with_patience(self, patience: SignedDuration) -> Self {
        Self { patience, ..self }
    }

    /// Takes in a group. Returns whether it is news.
    pub fn group(&mut self, name: &str, group: Group) -> bool {
        let known = self.groups.get(name);
        if known.is_some_and(|known| is_older(&group.metadata, &known.metadata)) {
            return false;
        }
        let news = !known.is_some_and(|known| {
            asks_the_same(&known.metadata, &group.metadata)
                && known.status == group.status
                && known.spec == group.spec
        });
        self.groups.insert(name.to_owned(), group);
        news
    }

    /// Takes in that a group is gone.
    pub fn group_gone(&mut self, name: &str) {
        self.groups.remove(name);
        self.asked.remove(name);
    }

    /// After a list of groups: forgets those that were not in it. Returns who has gone.
    pub fn only_groups(&mut self, seen: &HashSet<Key>) -> Vec<String> {
        self.listed.0 = true;
        let gone = missing(self.groups.keys(), seen);
        gone.iter().for_each(|name| self.group_gone(name));
        gone
    }

    /// Takes in an Authority of this site. Returns whether it is news.
    pub fn own(&mut self, name: &str, own: Own) -> bool {
        let known = self.authorities.get(name);
        if known.is_some_and(|known| is_older(&own.metadata, &known.metadata)) {
            return false;
        }
        let news = !known.is_some_and(|known| {
            (&known.spec, &known.status, &known.foreign) == (&own.spec, &own.status, &own.foreign)
        });
        let watched = self.watched.entry(name.to_owned()).or_default();
        watched.look(&self.site, own.spec.as_ref().ok(), Timestamp::now());
        self.authorities.insert(name.to_owned(), own);
        news
    }

    /// The ballot of the claim that closes this site, if that is abandoned. `silent_since` tells since when a site does not
    /// answer; `None` if it does.
    pub fn abandoned(
        &self,
        name: &str,
        silent_since: impl FnOnce(&str) -> Option<Timestamp>,
        now: Timestamp,
    ) -> Option<i64> {
        self.watched.get(name)?.abandoned(silent_since, self.patience, now)
    }

    /// Takes in that an Authority of this site is gone.
    pub fn own_gone(&mut self, name: &str) {
        self.authorities.remove(name);
        self.watched.remove(name);
    }

    /// After a list of this site's Authorities.
    pub fn only_own(&mut self, seen: &HashSet<Key>) -> Vec<String> {
        self.listed.1 = true;
        let gone = missing(self.authorities.keys(), seen);
        gone.iter().for_each(|name| self.own_gone(name));
        gone
    }

    /// What a peer shows, to be changed.
    pub fn peer(&mut self, site: &str) -> &mut Peer {
        self.peers.entry(site.to_owned()).or_default()
    }

    /// What was found by asking for a group, to be changed; `None` if the group is gone.
    pub fn asked(&mut self, group: &str) -> Option<&mut Asked> {
        self.groups.contains_key(group).then(|| self.asked.entry(group.to_owned()).or_default())
    }

    /// What is known of a group and its Authority; `None` if there is neither.
    pub fn observe(&self, name: &str) -> (Option<Group>, Option<Own>, Asked) {
        let asked = self.asked.get(name).cloned().unwrap_or_default();
        (self.groups.get(name).cloned(), self.authorities.get(name).cloned(), asked)
    }

    /// What a peer shows of a group: its Authority, and the group's object there.
    pub fn peer_shows(
        &self,
        site: &str,
        name: &str,
    ) -> (Known<Option<AuthoritySpec>>, GroupThere, Option<Intake>) {
        let peer = self.peers.get(site);
        let authority = match peer.and_then(|peer| peer.authorities.all()) {
            None => Known::NotYet("its Authorities have not been read yet".to_owned()),
            Some(all) => match all.get(name) {
                None => Known::Read(None),
                Some(Ok(spec)) => Known::Read(Some(spec.clone())),
                Some(Err(error)) => Known::NotYet(format!("its Authority cannot be read: {error}")),
            },
        };
        let shown = peer.and_then(|peer| peer.groups.all()).map(|all| all.get(name));
        let group = match shown.map(|shown| shown.map(|shown| shown.digest.as_ref())) {
            None => GroupThere::NotRead,
            Some(None) => GroupThere::Absent,
            Some(Some(None)) => GroupThere::Unsaid,
            Some(Some(Some(digest))) => GroupThere::Asks(digest.clone()),
        };
        (authority, group, shown.flatten().map(|shown| shown.intake.clone()))
    }

    /// What this site's Authority of a group says, if there is one that can be read and anybody ever had authority.
    pub fn own_spec(&self, name: &str) -> Option<&AuthoritySpec> {
        self.authorities.get(name)?.spec.as_ref().ok().filter(|own| own.epoch > 0)
    }

    /// The FinServices of a group at a peer; `None` until they have been listed.
    pub fn peer_services(&self, site: &str, spec: &FailoverGroupSpec) -> Option<Services> {
        let all = self.peers.get(site)?.services.all()?;
        let of_group =
            all.iter().filter(|(key, facts)| spec.services.contains(&key.namespace, facts.labels.as_ref()));
        Some(of_group.map(|(key, facts)| (key.clone(), facts.clone())).collect())
    }

    /// Names of all groups, and of Authorities that are left of groups.
    pub fn names(&self) -> BTreeSet<String> {
        self.groups.keys().chain(self.authorities.keys()).cloned().collect()
    }

    /// What each group asks for.
    pub fn specs(&self) -> Specs {
        let read = self
            .groups
            .iter()
            .filter_map(|(name, group)| Some((name.clone(), group.spec.as_ref().ok()?.clone())));
        read.filter(|(_, spec)| spec.sites.iter().any(|site| **site == *self.site)).collect()
    }

    /// The view that other reconcilers get; `None` until groups and Authorities have been listed.
    pub fn view(&self) -> Option<Authorities> {
        if self.listed != (true, true) {
            return None;
        }
        let groups = self.specs().into_iter().map(|(name, spec)| {
            let (state, holders, epoch) = self.standing(&name);
            let claimed = self.is_claimed(&name) || self.rehearsed.contains_key(&name);
            let moves_to = self.own_spec(&name).and_then(|own| moves_to(own, &self.site));
            let traffic = spec.traffic.unwrap_or_default();
            let refuses = traffic.residual == Some(Residual::Refuse);
            let (services, hosts) = (spec.services, traffic.hosts.into());
            GroupView { name, services, state, holders, epoch, claimed, moves_to, hosts, refuses }
        });
        Some(Authorities::new(groups.collect()))
    }

    /// The groups that move before one, where several move.
    pub fn after(&self, group: &str) -> Vec<String> {
        let spec = self.groups.get(group).and_then(|group| group.spec.as_ref().ok());
        spec.and_then(|spec| spec.after.clone()).unwrap_or_default()
    }

    /// Takes in which group a Failover of this site has in hand, if it is at work.
    pub fn order(&mut self, failover: &str, group: Option<&str>) {
        match group {
            Some(group) => self.ordered.insert(failover.to_owned(), group.to_owned()),
            None => self.ordered.remove(failover),
        };
    }

    /// Whether a Failover of this site has any group in hand.
    pub fn has_orders(&self) -> bool {
        !self.ordered.is_empty()
    }

    /// Whether a Failover of this site has a group in hand.
    pub fn has_order(&self, group: &str) -> bool {
        self.ordered.values().any(|ordered| ordered == group)
    }

    /// Takes in whether a Failover rehearses a group, which brings its services here to full size.
    pub fn rehearse(&mut self, failover: &str, group: Option<&str>) {
        self.rehearsed.retain(|_, by| by != failover);
        self.rehearsed.extend(group.map(|group| (group.to_owned(), failover.to_owned())));
    }

    /// Takes in what a move, or a rehearsal, took, unless a later one is known.
    pub fn measure(&mut self, group: &str, measured: Measured) {
        if self.measured.get(group).is_none_or(|known| known.at < measured.at) {
            self.measured.insert(group.to_owned(), measured);
        }
    }

    /// What the last move of a group, or rehearsal, took; `None` where no Failover is left that says so.
    pub fn measured(&self, group: &str) -> Option<&Measured> {
        self.measured.get(group)
    }

    /// The names of those of which this site has a claim that may still become an epoch.
    pub fn claimed(&self) -> Vec<String> {
        self.authorities.keys().filter(|name| self.is_claimed(name)).cloned().collect()
    }

    fn is_claimed(&self, name: &str) -> bool {
        let claims = |own: &AuthoritySpec| {
            slot(own, &self.site).is_some_and(|claim| is_alive(claim) && claim.ballot > own.epoch)
        };
        self.own_spec(name).is_some_and(claims)
    }

    /// How this site stands, by its own Authority. Where that is lost, it goes on as its group's status remembers.
    fn standing(&self, name: &str) -> (AuthorityState, Vec<String>, i64) {
        let (holders, epoch) = match self.own_spec(name) {
            Some(own) => (own.holders.clone(), own.epoch),
            None => {
                let copy = self.groups.get(name).and_then(|group| group.status.as_ref()?.authority.as_ref());
                copy.map(|copy| (copy.holders.clone(), copy.epoch)).unwrap_or_default()
            }
        };
        let state = match () {
            () if epoch == 0 => AuthorityState::Unclaimed,
            () if holders.iter().any(|holder| **holder == *self.site) => AuthorityState::Held,
            () => AuthorityState::Standby,
        };
        (state, holders, epoch)
    }
}
