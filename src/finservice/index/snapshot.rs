//! All that a decision about one FinService needs, taken from the index at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::child::ChildState;
use super::claims::{Claim, Lost};
use super::gateways::IstioGateway;
use super::named::Named;
use super::pod::{PodsSaid, said};
use super::rollouts::ObservedRollout;
use super::stranger::Stranger;
use super::topics::ToldTopics;
use super::{Entry, Index, Parsed, SecretState, legacy};
use crate::api::FinService;
use crate::authority::view::{LedAway, Standing};
use crate::cloudcluster::sites::Sites;
use crate::finservice::children::Kind;
use crate::finservice::settings::Settings;
use crate::runtime::key::Key;

/// All that decisions about one FinService need, taken from the index at one moment.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The site of this operator.
    pub site: Arc<str>,
    /// What the installer says of this cluster.
    pub settings: Arc<Settings>,
    /// The sites that are described here.
    pub sites: Sites,
    /// How this site stands for its FailoverGroup; `None` if it is in none.
    pub authority: Option<Standing>,
    /// Of which hosts requests are answered by another site.
    pub led_away: LedAway,
    /// The FinService.
    pub service: Arc<FinService>,
    /// Its children.
    pub children: Vec<ChildState>,
    /// Objects of others under names that it may want.
    pub strangers: Vec<(Kind, String, Stranger)>,
    /// Digests of the ConfigMaps that it refers to; `None` if there is none of that name.
    pub config_maps: BTreeMap<String, Option<Box<str>>>,
    /// The Secrets that it refers to; none if this operator may not read Secrets.
    pub secrets: BTreeMap<String, Option<SecretState>>,
    /// Whether this operator may not read Secrets although the FinService refers to some.
    pub secrets_hidden: bool,
    /// Kinds that this cluster has.
    pub kinds: BTreeSet<Kind>,
    /// Hosts and paths that are another's.
    pub lost_claims: Vec<Lost>,
    /// Hosts and paths below its own that others have.
    pub nested_claims: Vec<Claim>,
    /// Hosts and paths that its CanaryRollout would show a revision under, and that another holds.
    pub lost_previews: Vec<Lost>,
    /// What it is told of topics that others name as theirs.
    pub told_topics: ToldTopics,
    /// Hosts outside that an older FinService of the namespace makes known to the mesh.
    pub known_hosts: BTreeSet<(String, u16)>,
    /// What its Gateway of Istio says; `None` if it names none, or nobody knows.
    pub istio_gateway: Option<IstioGateway>,
    /// What it names, and is not there.
    pub absent: Vec<Named>,
    /// Why its old backend is not routed to, if it is not.
    pub legacy_refused: Option<legacy::Refused>,
    /// The call cycle that it is a member of.
    pub cycle: Option<Arc<str>>,
    /// What its pods say; `None` where nobody has asked them.
    pub pods: Option<PodsSaid>,
    /// When they are to be asked again.
    pub pods_again: Option<Timestamp>,
    /// Its CanaryRollout, if it has one.
    pub rollout: Option<ObservedRollout>,
}

impl Index {
    /// All that decisions about that FinService need. `None` if there is none that parses.
    pub fn observe(&self, key: &Key) -> Option<Observed> {
        let entry = self.entries.get(key)?;
        let Some(Parsed::Good(service)) = &entry.service else { return None };
        Some(self.snapshot(key, entry, service))
    }

    /// The same of one that does not parse, with what of it can be read.
    pub fn observe_unreadable(&self, key: &Key) -> Option<Observed> {
        let entry = self.entries.get(key)?;
        let Some(Parsed::Bad(unreadable)) = &entry.service else { return None };
        Some(self.snapshot(key, entry, unreadable.readable.0.as_ref()?))
    }

    /// What it is told of topics that others name as theirs.
    fn told_topics(&self, key: &Key) -> ToldTopics {
        let mut told = self.topics.told(key);
        if self.alone {
            told.may.granted.extend(told.refused.drain(..).map(|refused| (refused.name, refused.way)));
        }
        told
    }

    /// Whether something that is named is known not to be there.
    fn is_absent(&self, named: &Named) -> bool {
        match named {
            _ if self.alone => false,
            Named::Caller(service) | Named::Callee(service) => {
                self.entries.get(service).is_none_or(|entry| entry.service.is_none())
            }
            Named::PullSecret(secret) => !self.secrets_hidden && !self.secrets.contains_key(secret),
        }
    }

    fn snapshot(&self, key: &Key, entry: &Entry, service: &Arc<FinService>) -> Observed {
        let near = |name: &String| Key::new(&key.namespace, name);
        let mut names = BTreeSet::from([key.clone(), near(&format!("{}-kafka", key.name))]);
        // Our other names begin with the service's and a dot, which no FinService's name has.
        let dotted = near(&format!("{}.", key.name))..near(&format!("{}/", key.name));
        names.extend(self.strangers.range(dotted).map(|(name, _)| name.clone()));
        names.extend(self.handed_over.get(key).into_iter().flatten().cloned());
        let topics = service.spec.data.iter().flat_map(|data| data.topics.iter().flatten());
        names.extend(topics.map(|topic| near(&topic.name)));
        let strangers = names
            .iter()
            .filter_map(|name| Some((name, self.strangers.get(name)?)))
            .flat_map(|(key, list)| list.iter().map(|(kind, s)| (*kind, key.name.to_string(), s.clone())))
            .collect();
        let authority = self.authorities.of(&key.namespace, service.metadata.labels.as_ref());
        let described = &self.sites.described;
        let has_gateway = |site: &str| described.get(site).is_some_and(|site| site.gateway.is_some());
        Observed {
            site: Arc::clone(&self.site),
            settings: Arc::clone(&self.settings),
            sites: self.sites.clone(),
            led_away: authority.as_ref().map(|standing| standing.led_away(has_gateway)).unwrap_or_default(),
            authority,
            service: Arc::clone(service),
            children: entry.children.clone(),
            strangers,
            config_maps: (entry.references.0.iter())
                .map(|name| (name.clone(), self.config_maps.get(&near(name)).cloned()))
                .collect(),
            secrets: (entry.references.1.iter())
                .filter(|_| !self.secrets_hidden)
                .map(|name| (name.clone(), self.secrets.get(&near(name)).cloned()))
                .collect(),
            secrets_hidden: self.secrets_hidden && !entry.references.1.is_empty(),
            kinds: self.kinds.clone(),
            lost_claims: self.claims.lost(key, &self.settings.hosts),
            nested_claims: self.claims.nested(key, &self.settings.hosts),
            lost_previews: self.claims.lost_previews(key, &self.settings.hosts),
            told_topics: self.told_topics(key),
            known_hosts: self.outside.known(key),
            istio_gateway: self.gateways.of(&key.namespace, &service.spec),
            absent: self.namers.of(key).iter().filter(|named| self.is_absent(named)).cloned().collect(),
            legacy_refused: legacy::refused(key, &service.spec, |service| self.legacy_for(service)),
            cycle: entry.cycle.clone(),
            pods: self.rollouts.follows_pods.then(|| said(self.rollouts.pods_of(key))),
            pods_again: None,
            rollout: self.rollouts.observe(service),
        }
    }
}
