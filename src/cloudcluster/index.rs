//! What is known of CloudClusters: the objects as they were last read, and how their API servers were last reached.
//! Synchronous, without I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::DynamicObject;
use serde_json::Value;

use super::peer_error::PeerError;
use super::sites::Sites;
use crate::api::CloudClusterStatus;
use crate::api::operations::Residency;
use crate::runtime::key::{asks_the_same, is_older};

/// A CloudCluster as far as it can be read: what one part says that this version does not know hides no other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Site {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// Jurisdictions whose data may be kept there, of those that this version knows.
    pub residency: Vec<Residency>,
    /// Whether others need a way to it: it has a kubeconfig.
    pub has_kubeconfig: bool,
    /// What cannot be read of its spec: the field, and why.
    pub unreadable: Vec<(String, String)>,
    /// Its status; none where another version wrote it in another form.
    pub status: Option<CloudClusterStatus>,
}

impl Site {
    /// Reads an object.
    pub fn read(object: DynamicObject) -> Self {
        let mut metadata = object.metadata;
        metadata.managed_fields = None;
        let mut data = object.data;
        let spec = &data["spec"];
        let (mut residency, mut unreadable) = (Vec::new(), Vec::new());
        let said = spec["residency"].as_array().map(Vec::as_slice).unwrap_or_default();
        for (place, value) in said.iter().enumerate() {
            match serde_json::from_value(value.clone()) {
                Ok(known) => residency.push(known),
                Err(error) => unreadable.push((format!("spec.residency[{place}]"), error.to_string())),
            }
        }
        if !matches!(spec["residency"], Value::Null | Value::Array(_)) {
            unreadable.push(("spec.residency".to_owned(), "it is no list".to_owned()));
        }
        let has_kubeconfig = spec["kubeconfig"].is_object();
        let status = serde_json::from_value(data["status"].take()).ok();
        Self { metadata, residency, has_kubeconfig, unreadable, status }
    }
}

/// How a peer's API server was last reached: its version if it was asked for that, or why there was no answer.
pub type Reached = Result<Option<String>, PeerError>;

/// What is known of CloudClusters, by name.
#[derive(Debug, Default)]
pub struct Index {
    own: Arc<str>,
    sites: BTreeMap<String, Arc<Site>>,
    reached: BTreeMap<String, Reached>,
}

impl Index {
    /// An empty one for the operator of that site.
    pub fn new(own: &str) -> Self {
        Self { own: own.into(), ..Self::default() }
    }

    /// Takes in an object. Returns whether it is news.
    pub fn put(&mut self, name: &str, site: Site) -> bool {
        let known = self.sites.get(name);
        if known.is_some_and(|known| is_older(&site.metadata, &known.metadata)) {
            return false;
        }
        let same = |known: &Arc<Site>| {
            let version = known.metadata.resource_version.clone();
            let metadata = ObjectMeta { resource_version: version, ..site.metadata.clone() };
            **known == Site { metadata, ..site.clone() }
        };
        let news = !known.is_some_and(same);
        self.sites.insert(name.to_owned(), Arc::new(site));
        news
    }

    /// Takes in the object with which the write of its status was answered. If it has gone meanwhile, or a person has
    /// changed it, that is left to the watch, which wakes whom it concerns.
    pub fn answered(&mut self, name: &str, site: Site) {
        if self.sites.get(name).is_some_and(|known| asks_the_same(&known.metadata, &site.metadata)) {
            self.put(name, site);
        }
    }

    /// Takes in that an object is gone.
    pub fn gone(&mut self, name: &str) {
        self.sites.remove(name);
        self.reached.remove(name);
    }

    /// After a relist: forgets the objects that were not in it.
    pub fn retain(&mut self, seen: &BTreeSet<&str>) {
        self.sites.retain(|name, _| seen.contains(name.as_str()));
        self.reached.retain(|name, _| seen.contains(name.as_str()));
    }

    /// Takes in how a peer was reached. Returns whether that is news.
    pub fn reached(&mut self, name: &str, reached: Reached) -> bool {
        self.reached.insert(name.to_owned(), reached.clone()).as_ref() != Some(&reached)
    }

    /// An object, and how its API server was last reached; `None` if there is none of that name.
    pub fn observe(&self, name: &str) -> Option<(Arc<Site>, Option<Reached>)> {
        Some((Arc::clone(self.sites.get(name)?), self.reached.get(name).cloned()))
    }

    /// The view of the sites that other reconcilers get.
    pub fn sites(&self) -> Sites {
        let own = self.sites.get(&*self.own);
        let peers = self.sites.keys().filter(|name| **name != *self.own).cloned().collect();
        Sites { residency: own.map(|own| own.residency.as_slice().into()), peers: Arc::new(peers) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn site(version: u64, spec: Value) -> Site {
        let object = json!({"metadata": {"name": "here", "uid": "u", "resourceVersion": version.to_string()}, "spec": spec});
        Site::read(serde_json::from_value(object).expect("an object"))
    }

    #[test]
    fn what_a_newer_version_says_hides_nothing_else() {
        let read =
            site(1, json!({"residency": ["US", "APAC", "EU"], "kubeconfig": {"secretRef": {"name": "a"}}}));
        assert_eq!(read.residency, [Residency::US, Residency::EU]);
        assert!(read.has_kubeconfig);
        let fields: Vec<&str> = read.unreadable.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(fields, ["spec.residency[1]"]);
        assert_eq!(site(1, json!({"residency": "US"})).unreadable.len(), 1);
        assert_eq!(site(1, json!({})).unreadable, []);
    }

    #[test]
    fn an_answer_brings_nothing_back_and_hides_no_change() {
        let mut index = Index::new("here");
        index.answered("there", site(1, json!({})));
        assert_eq!(index.observe("there"), None, "it is gone");
        index.put("there", site(1, json!({"residency": ["EU"]})));
        let mut changed = site(3, json!({"residency": ["US"]}));
        changed.metadata.generation = Some(2);
        index.answered("there", changed.clone());
        assert!(index.put("there", changed), "the watch has news");
    }

    #[test]
    fn the_view_has_the_own_site_and_the_names_of_the_others() {
        let mut index = Index::new("here");
        assert_eq!(index.sites(), Sites::default());
        assert!(index.put("there", site(1, json!({"residency": ["EU"]}))));
        assert_eq!(index.sites().residency, None, "nobody has said what may be kept here");
        assert!(index.put("here", site(2, json!({"residency": ["US"]}))));
        assert!(!index.put("here", site(3, json!({"residency": ["US"]}))), "its version alone is no news");
        assert!(!index.put("here", site(2, json!({"residency": ["EU"]}))), "it is older");
        let sites = index.sites();
        assert_eq!(sites.residency.as_deref(), Some([Residency::US].as_slice()));
        assert_eq!(*sites.peers, BTreeSet::from(["there".to_owned()]));
        index.retain(&["here"].into());
        assert!(index.sites().peers.is_empty());
        index.gone("here");
        assert_eq!(index.sites(), Sites::default());
    }

    #[test]
    fn how_a_peer_is_reached_is_news_only_when_it_changes() {
        let mut index = Index::new("here");
        assert!(index.reached("there", Ok(None)));
        assert!(!index.reached("there", Ok(None)));
        assert!(index.reached("there", Err(PeerError::NotYet)));
    }
}
