//! What `banyan authority` knows: the last state of each Authority, group and site, and what other sites answered.
//! Synchronous, without I/O.

use std::collections::{BTreeMap, HashSet};

use kube::api::DynamicObject;
use serde::Deserialize;

use super::answer::{Answer, Asked, answer};
use super::residual::{ANSWER_HERE, Arriving};
use crate::api::authority::{AuthoritySpec, AuthorityStatus};
use crate::api::traffic::{Probe, Residual};
use crate::runtime::key::{Key, missing};

/// A request to the application, through the gateway of this site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    /// The URL.
    pub url: String,
    /// The host that is asked for.
    pub host: String,
}

impl Application {
    /// That path of that host, at the gateway.
    pub fn new(gateway: &str, path: &str, host: &str) -> Self {
        Self { url: format!("{}{path}", gateway.trim_end_matches('/')), host: host.to_owned() }
    }

    /// The request, which no gateway sends on.
    pub fn request(&self, http: &reqwest::Client, method: reqwest::Method) -> reqwest::RequestBuilder {
        let (header, here) = ANSWER_HERE;
        http.request(method, &self.url).header(http::header::HOST, &self.host).header(header, here)
    }
}

/// What of a group matters here.
#[derive(Clone, Debug, Default, PartialEq)]
struct Group {
    sites: Vec<String>,
    /// The hosts under which users reach it.
    hosts: Vec<String>,
    /// What becomes of requests that arrive without authority.
    residual: Residual,
    /// Path and host of the request to the application.
    probe: Option<(String, String)>,
}

/// What is known.
#[derive(Debug, Default)]
pub struct Book {
    site: String,
    authorities: BTreeMap<String, (AuthoritySpec, Option<AuthorityStatus>)>,
    groups: BTreeMap<String, Group>,
    gateways: BTreeMap<String, String>,
    peers: BTreeMap<String, Vec<Answer>>,
}

impl Book {
    /// An empty one of that site.
    pub fn new(site: &str) -> Self {
        Self { site: site.to_owned(), ..Self::default() }
    }

    /// Takes in an Authority. One that cannot be read, which a newer version may have written, changes nothing: the last
    /// answer stands. Returns whether it could be read.
    pub fn authority(&mut self, name: &str, object: &DynamicObject) -> bool {
        let Ok(spec) = AuthoritySpec::deserialize(&object.data["spec"]) else { return false };
        let status = AuthorityStatus::deserialize(&object.data["status"]).ok();
        let known = self.authorities.get(name).map_or(0, |(spec, _)| spec.epoch);
        // An older backup of the API server takes nothing back.
        if spec.epoch >= known {
            self.authorities.insert(name.to_owned(), (spec, status));
        }
        true
    }

    /// Takes in a group: how its application is asked.
    pub fn group(&mut self, name: &str, object: &DynamicObject) {
        let spec = &object.data["spec"];
        let sites = Vec::<String>::deserialize(&spec["sites"]).unwrap_or_default();
        let probe = Probe::deserialize(&spec["traffic"]["probe"]).ok();
        let hosts = Vec::<String>::deserialize(&spec["traffic"]["hosts"]).unwrap_or_default();
        let probe = probe.and_then(|probe| Some((probe.path.clone(), probe.host(&hosts)?.to_owned())));
        let residual = Residual::deserialize(&spec["traffic"]["residual"]).unwrap_or_default();
        self.groups.insert(name.to_owned(), Group { sites, hosts, residual, probe });
    }

    /// Takes in a site: the address of its gateway.
    pub fn site(&mut self, name: &str, object: &DynamicObject) {
        match object.data["spec"]["gateway"]["address"].as_str() {
            Some(address) => {
                self.gateways.insert(name.to_owned(), address.trim_end_matches('/').to_owned());
            }
            None => self.site_gone(name),
        }
    }

    /// A site is gone.
    pub fn site_gone(&mut self, name: &str) {
        self.gateways.remove(name);
        self.peers.remove(name);
    }

    /// A group is gone: its application is asked no more. What its Authority says stands until that is gone too.
    pub fn group_gone(&mut self, name: &str) {
        self.groups.remove(name);
    }

    /// An Authority is gone. If its group still stands it was lost, and the last answer stands: whoever deletes it, moves
    /// no traffic.
    pub fn authority_gone(&mut self, name: &str) {
        if !self.groups.contains_key(name) {
            self.authorities.remove(name);
        }
    }

    /// After a new list of Authorities.
    pub fn only_authorities(&mut self, seen: &HashSet<Key>) {
        missing(self.authorities.keys(), seen).iter().for_each(|name| self.authority_gone(name));
    }

    /// After a new list of groups.
    pub fn only_groups(&mut self, seen: &HashSet<Key>) {
        missing(self.groups.keys(), seen).iter().for_each(|name| self.group_gone(name));
    }

    /// After a new list of sites.
    pub fn only_sites(&mut self, seen: &HashSet<Key>) {
        missing(self.gateways.keys(), seen).iter().for_each(|name| self.site_gone(name));
    }

    /// Takes in what another site answered. Its last answer stands while it is silent.
    pub fn peer(&mut self, site: &str, answers: Vec<Answer>) {
        self.peers.insert(site.to_owned(), answers);
    }

    /// Which sites are to be asked, and where: those that share a group with this one for which it would answer that
    /// traffic is to come here. Who stands by learns nothing by asking.
    pub fn whom_to_ask(&self) -> Vec<(String, String)> {
        let active =
            self.groups.iter().filter(|(name, _)| self.answer(name, None).is_some_and(|said| said.active));
        let mut sites: Vec<&String> = active.flat_map(|(_, group)| &group.sites).collect();
        sites.sort_unstable();
        sites.dedup();
        let others = sites.into_iter().filter(|site| **site != self.site);
        others.filter_map(|site| Some((site.clone(), self.gateways.get(site)?.clone()))).collect()
    }

    /// What becomes of a request for that host, with or without its port, that has arrived here to be sent on.
    pub fn arriving(&self, host: &str) -> Arriving {
        let name = host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
        let name = name.map_or(host, |(name, _)| name);
        let is = |group: &Group| group.hosts.iter().any(|host| host.eq_ignore_ascii_case(name));
        let Some((group, asks)) = self.groups.iter().find(|(_, group)| is(group)) else {
            return Arriving::Unknown;
        };
        let refuse = |why: String| Arriving::Refuse { group: group.clone(), why };
        let holders = self.answer(group, None).map(|said| said.holders).unwrap_or_default();
        // It was given authority, and its routes have not heard of it yet.
        let here = holders.iter().find(|holder| **holder == self.site);
        let Some(holder) = here.or(holders.first()) else {
            return refuse(format!("nobody has authority over FailoverGroup {group}"));
        };
        let has_it = format!("{holder} has authority over FailoverGroup {group}");
        if asks.residual == Residual::Refuse && here.is_none() {
            return refuse(format!("{has_it}: come again, and look its name up anew"));
        }
        let gateway = match here {
            Some(site) => self.gateways.get(site),
            None => holders.iter().find_map(|site| self.gateways.get(site)),
        };
        match gateway {
            Some(gateway) => Arriving::SendOn { group: group.clone(), gateway: gateway.clone() },
            None => refuse(format!("{has_it}, and its CloudCluster has no spec.gateway.address")),
        }
    }

    /// How the application of a group is asked; `None` if it is not.
    pub fn application(&self, group: &str) -> Option<Application> {
        let (path, host) = self.groups.get(group)?.probe.as_ref()?;
        let gateway = self.gateways.get(&self.site)?;
        Some(Application::new(gateway, path, host))
    }

    /// The answer about a group; `None` if no Authority of that name is known.
    pub fn answer(&self, group: &str, application: Option<&Result<(), String>>) -> Option<Answer> {
        let (spec, status) = self.authorities.get(group)?;
        let peers =
            self.peers.values().flatten().filter(|peer| peer.group == group && peer.site != self.site);
        let peers: Vec<Answer> = peers.cloned().collect();
        let (site, status) = (self.site.as_str(), status.as_ref());
        Some(answer(&Asked { site, group, spec, status, peers: &peers, application }))
    }

    /// The answers about all groups, without their applications: what other sites ask for.
    pub fn all(&self) -> Vec<Answer> {
        self.authorities.keys().filter_map(|group| self.answer(group, None)).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: serde_json::Value) -> DynamicObject {
        serde_json::from_value(value).expect("an object")
    }

    fn authority(epoch: i64, holder: &str) -> DynamicObject {
        object(json!({"metadata": {"name": "pay"}, "spec":
            {"epoch": epoch, "follows": 0, "holders": [holder], "promoted": epoch}}))
    }

    fn book() -> Book {
        let mut book = Book::new("a");
        let probe = json!({"path": "/healthz"});
        let spec = json!({"sites": ["a", "b"], "traffic": {"hosts": ["api.example"], "probe": probe}});
        book.group("pay", &object(json!({"metadata": {}, "spec": spec})));
        for site in ["a", "b"] {
            let address = format!("https://gw.{site}.example/");
            book.site(site, &object(json!({"metadata": {}, "spec": {"gateway": {"address": address}}})));
        }
        assert!(book.authority("pay", &authority(16, "a")));
        book
    }

    fn active(book: &Book) -> Option<bool> {
        book.answer("pay", None).map(|said| said.active)
    }

    #[test]
    fn what_is_lost_or_older_or_unreadable_moves_nothing() {
        let mut book = book();
        assert_eq!(active(&book), Some(true));
        book.authority_gone("pay");
        assert_eq!(active(&book), Some(true), "its group stands");
        assert!(!book.authority("pay", &object(json!({"metadata": {}, "spec": {"epoch": "many"}}))));
        assert_eq!(active(&book), Some(true));
        assert!(book.authority("pay", &authority(33, "b")));
        assert!(book.authority("pay", &authority(16, "a")));
        assert_eq!(active(&book), Some(false), "an older backup takes nothing back");
        book.group_gone("pay");
        book.authority_gone("pay");
        assert_eq!(active(&book), None);
    }

    #[test]
    fn the_application_is_asked_at_this_sites_gateway() {
        let asked = book().application("pay").expect("an application");
        assert_eq!(
            (asked.url.as_str(), asked.host.as_str()),
            ("https://gw.a.example/healthz", "api.example")
        );
        assert_eq!(book().application("other"), None);
    }

    #[test]
    fn what_arrives_is_sent_to_who_has_authority() {
        let mut book = book();
        assert!(book.authority("pay", &authority(33, "b")));
        let to = |gateway: &str| Arriving::SendOn { group: "pay".to_owned(), gateway: gateway.to_owned() };
        for host in ["api.example", "API.example:8443"] {
            assert_eq!(book.arriving(host), to("https://gw.b.example"), "{host}");
        }
        assert_eq!(book.arriving("other.example"), Arriving::Unknown);
        let refused = |book: &Book| match book.arriving("api.example") {
            Arriving::Refuse { why, .. } => why,
            other => panic!("{other:?}"),
        };
        book.site_gone("b");
        assert!(refused(&book).contains("its CloudCluster has no spec.gateway.address"));
        assert!(book.authority("pay", &authority(48, "a")));
        assert_eq!(book.arriving("api.example"), to("https://gw.a.example"), "its own routes are late");
        let traffic = json!({"hosts": ["api.example"], "residual": "Refuse"});
        let spec = json!({"sites": ["a", "b"], "traffic": traffic});
        book.group("pay", &object(json!({"metadata": {}, "spec": spec})));
        assert_eq!(book.arriving("api.example"), to("https://gw.a.example"), "it serves");
        assert!(book.authority("pay", &authority(65, "b")));
        assert!(refused(&book).contains("b has authority"));
    }

    #[test]
    fn only_who_would_say_yes_asks_others() {
        let mut book = book();
        assert_eq!(book.whom_to_ask(), [("b".to_owned(), "https://gw.b.example".to_owned())]);
        let there = Answer {
            group: "pay".into(),
            site: "b".into(),
            active: true,
            epoch: 33,
            holders: vec!["b".into()],
            why: String::new(),
        };
        book.peer("b", vec![there]);
        assert_eq!(active(&book), Some(false));
        assert_eq!(book.whom_to_ask(), []);
    }
}
