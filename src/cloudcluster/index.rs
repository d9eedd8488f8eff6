//! What is known of CloudClusters: the objects as they were last read. Synchronous, without I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::DynamicObject;
use serde::Deserialize;
use serde_json::Value;

use super::sites::{Described, Sites};
use crate::api::CloudClusterStatus;
use crate::api::cloudcluster::{Access, KubeconfigSource};
use crate::api::operations::Residency;
use crate::runtime::key::{asks_the_same, is_older};

/// A CloudCluster as far as it can be read: what one part says that this version does not know hides no other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Site {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// Jurisdictions whose data may be kept there, of those that this version knows.
    pub residency: Vec<Residency>,
    /// Ways to its API server, of those that this version knows, each with its place in `spec.access`.
    pub access: Vec<(usize, Access)>,
    /// The address of its gateway.
    pub gateway: Option<String>,
    /// Whether the way is said by the older `spec.kubeconfig`.
    pub is_older: bool,
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
        let gateway = spec["gateway"]["address"].as_str().map(str::to_owned);
        let mut access = ways(&spec["access"], &mut unreadable);
        let is_older = access.is_empty() && !spec["kubeconfig"].is_null();
        if is_older {
            match KubeconfigSource::deserialize(&spec["kubeconfig"]) {
                Ok(kubeconfig) => {
                    access.push((0, Access { kubeconfig: Some(kubeconfig), ..Access::default() }))
                }
                Err(error) => unreadable.push(("spec.kubeconfig".to_owned(), error.to_string())),
            }
        }
        let status = serde_json::from_value(data["status"].take()).ok();
        Self { metadata, residency, access, gateway, is_older, unreadable, status }
    }
}

/// Reads `spec.access`, way by way.
fn ways(access: &Value, unreadable: &mut Vec<(String, String)>) -> Vec<(usize, Access)> {
    let mut ways = Vec::new();
    for (place, value) in access.as_array().into_iter().flatten().enumerate() {
        let field = || format!("spec.access[{place}]");
        match Access::deserialize(value) {
            Ok(way) if way.kind().is_some() => ways.push((place, way)),
            Ok(_) => {
                unreadable.push((field(), "it is a way of a kind that this version does not know".to_owned()))
            }
            Err(error) => unreadable.push((field(), error.to_string())),
        }
    }
    if !matches!(access, Value::Null | Value::Array(_)) {
        unreadable.push(("spec.access".to_owned(), "it is no list".to_owned()));
    }
    ways
}

/// What is known of CloudClusters, by name.
#[derive(Debug, Default)]
pub struct Index {
    own: Arc<str>,
    sites: BTreeMap<String, Arc<Site>>,
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
    }

    /// After a relist: forgets the objects that were not in it.
    pub fn retain(&mut self, seen: &BTreeSet<&str>) {
        self.sites.retain(|name, _| seen.contains(name.as_str()));
    }

    /// An object; `None` if there is none of that name.
    pub fn observe(&self, name: &str) -> Option<Arc<Site>> {
        self.sites.get(name).map(Arc::clone)
    }

    /// The ways to each peer.
    pub fn ways(&self) -> BTreeMap<String, Vec<Access>> {
        let peers = self.sites.iter().filter(|(name, _)| **name != *self.own);
        let ways = |site: &Site| site.access.iter().map(|(_, access)| access.clone()).collect();
        peers.map(|(name, site)| (name.clone(), ways(site))).collect()
    }

    /// The view of the sites that other reconcilers get.
    pub fn sites(&self) -> Sites {
        let own = self.sites.get(&*self.own);
        let peers = self.sites.keys().filter(|name| **name != *self.own).cloned().collect();
        let described = self.sites.iter().map(|(name, site)| {
            let kinds = site.access.iter().filter_map(|(_, way)| way.kind()).collect();
            let (residency, gateway) = (site.residency.clone(), site.gateway.clone());
            (name.clone(), Described { residency, gateway, kinds })
        });
        Sites {
            residency: own.map(|own| own.residency.as_slice().into()),
            peers: Arc::new(peers),
            described: Arc::new(described.collect()),
        }
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
        assert!(read.is_older && read.access.len() == 1);
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
    fn a_way_that_this_version_does_not_know_hides_no_other() {
        let secret = json!({"secretRef": {"name": "a"}});
        let eks = json!({"name": "prod", "region": "us-east-1"});
        let access = json!([{"aks": {"name": "x"}}, {"kubeconfig": secret}, {"eks": 7}, {"eks": eks}]);
        let read = site(1, json!({"access": access, "kubeconfig": secret}));
        assert!(!read.is_older, "the newer words count");
        assert_eq!(read.access.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [1, 3]);
        let fields: Vec<&str> = read.unreadable.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(fields, ["spec.access[0]", "spec.access[2]"]);
        let mut index = Index::new("here");
        index.put("here", site(1, json!({"access": access})));
        index.put("there", read);
        assert_eq!(index.ways().keys().collect::<Vec<_>>(), ["there"], "nobody is linked to itself");
        assert_eq!(index.ways()["there"].len(), 2);
    }
}
