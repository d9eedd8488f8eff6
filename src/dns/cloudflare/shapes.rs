//! Pure. What of Cloudflare's objects matters here, and what stands by them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::dns::problems::LONGEST_LIFETIME;
use crate::dns::stands::{Fallback, Health, Monitor, Oddity, SiteStands, Stands, Weight};
use crate::dns::wanted::{Mark, Wanted};

/// A load balancer.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LoadBalancer {
    pub id: String,
    pub name: String,
    pub description: Option<String>,
    pub enabled: Option<bool>,
    pub ttl: Option<f64>,
    pub proxied: Option<bool>,
    pub steering_policy: Option<String>,
    pub random_steering: Option<RandomSteering>,
    pub rules: Option<Vec<LbRule>>,
    #[serde(flatten)]
    pub shares: Shares,
}

/// How pools share the requests.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Shares {
    pub fallback_pool: Option<String>,
    pub default_pools: Option<Vec<String>>,
    pub region_pools: Option<BTreeMap<String, Vec<String>>>,
    pub country_pools: Option<BTreeMap<String, Vec<String>>>,
    pub pop_pools: Option<BTreeMap<String, Vec<String>>>,
}

/// Weights of pools, from 0 to 1.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RandomSteering {
    pub default_weight: Option<f64>,
    pub pool_weights: Option<BTreeMap<String, f64>>,
}

/// A rule that overrides how pools share.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LbRule {
    pub name: String,
    pub disabled: Option<bool>,
    pub overrides: Option<Shares>,
}

/// A pool.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Pool {
    pub id: String,
    pub name: String,
    pub description: Option<String>,
    pub enabled: Option<bool>,
    pub monitor: Option<String>,
    pub origins: Option<Vec<Origin>>,
}

/// An origin of a pool.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Origin {
    pub address: String,
    pub port: Option<u32>,
}

/// A monitor.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct MonitorShape {
    pub id: String,
    pub path: Option<String>,
    pub expected_codes: Option<String>,
    pub follow_redirects: Option<bool>,
    pub interval: Option<f64>,
}

/// What a pool's checks say, by place.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PoolHealth {
    pub pop_health: Option<BTreeMap<String, PopHealth>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PopHealth {
    pub healthy: Option<bool>,
    pub origins: Option<Vec<BTreeMap<String, OriginHealth>>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct OriginHealth {
    pub failure_reason: Option<String>,
}

/// A DNS record beside the load balancer.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct DnsRecord {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub content: Option<String>,
    pub comment: Option<String>,
}

/// Ids as the group names them; what is not named is found by its name.
#[derive(Clone, Debug, Default)]
pub(super) struct Ids {
    pub load_balancer: Option<String>,
    pub pools: BTreeMap<String, String>,
    pub fallback: Option<String>,
}

/// All that can be set.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    pub load_balancer: Option<LoadBalancer>,
    pub pools: Vec<Pool>,
    pub monitors: Vec<MonitorShape>,
}

impl LoadBalancer {
    pub(super) fn mark(&self) -> Option<Mark> {
        Mark::of_description(self.description.as_deref().unwrap_or_default())
    }

    pub(super) fn weight(&self, pool: &str) -> Weight {
        if self.steering_policy.as_deref() != Some("random") {
            return Weight::ByHealth;
        }
        let steering = self.random_steering.clone().unwrap_or_default();
        let own = steering.pool_weights.and_then(|weights| weights.get(pool).copied());
        let share = own.or(steering.default_weight).unwrap_or(1.0).clamp(0.0, 1.0);
        // Within 0 and 100.
        Weight::Is((share * 100.0).round() as u8)
    }

    /// Each place where requests are shared out, and among which pools.
    fn shared_out(&self) -> Vec<(String, &[String])> {
        let mut all = of_shares("", &self.shares);
        let rules = self.rules.iter().flatten().filter(|rule| rule.disabled != Some(true));
        for (rule, shares) in rules.filter_map(|rule| Some((rule, rule.overrides.as_ref()?))) {
            all.extend(of_shares(&format!("rule {}: ", rule.name), shares));
        }
        all
    }
}

fn of_shares<'a>(before: &str, shares: &'a Shares) -> Vec<(String, &'a [String])> {
    let mut all = Vec::new();
    if let Some(pools) = &shares.default_pools {
        all.push((format!("{before}default_pools"), pools.as_slice()));
    }
    let maps = [
        ("region_pools", &shares.region_pools),
        ("country_pools", &shares.country_pools),
        ("pop_pools", &shares.pop_pools),
    ];
    for (name, map) in maps {
        let places = map.iter().flatten();
        all.extend(places.map(|(place, pools)| (format!("{before}{name}.{place}"), pools.as_slice())));
    }
    all
}

impl Settings {
    /// The pool of a site.
    pub(super) fn pool(&self, site: &str, wanted: &Wanted, ids: &Ids) -> Option<&Pool> {
        match ids.pools.get(site) {
            Some(id) => self.pools.iter().find(|pool| pool.id == *id),
            None => self.pools.iter().find(|pool| pool.name == wanted.name_of(site)),
        }
    }

    /// The pool that gives a fixed answer.
    pub(super) fn fallback(&self, wanted: &Wanted, ids: &Ids) -> Option<&Pool> {
        match &ids.fallback {
            Some(id) => self.pools.iter().find(|pool| pool.id == *id),
            None => self.pools.iter().find(|pool| pool.name == wanted.name_of("fallback")),
        }
    }

    fn who(&self, pool: &str) -> String {
        let found = self.pools.iter().find(|known| known.id == pool);
        format!("the pool {}", found.map_or(pool, |pool| pool.name.as_str()))
    }

    fn monitor(&self, pool: &Pool) -> Option<Monitor> {
        let id = pool.monitor.as_deref().filter(|id| !id.is_empty())?;
        let monitor = self.monitors.iter().find(|monitor| monitor.id == id)?;
        Some(Monitor {
            path: monitor.path.clone().unwrap_or_else(|| "/".to_owned()),
            every: monitor.interval.unwrap_or(60.0).clamp(0.0, 86_400.0) as u32,
            strict: monitor.expected_codes.as_deref() == Some("200")
                && monitor.follow_redirects != Some(true),
        })
    }

    /// What stands, in the words of all providers.
    pub(super) fn stands(&self, wanted: &Wanted, ids: &Ids, health: &BTreeMap<String, Health>) -> Stands {
        let mut stands = Stands::default();
        let ours: BTreeMap<&str, &Pool> = wanted
            .sites
            .keys()
            .filter_map(|site| Some((site.as_str(), self.pool(site, wanted, ids)?)))
            .collect();
        for (site, pool) in &ours {
            let one = SiteStands {
                there: self.load_balancer.is_some(),
                on: pool.enabled != Some(false),
                weight: self.load_balancer.as_ref().map_or(Weight::ByHealth, |lb| lb.weight(&pool.id)),
                as_asked: true,
                health: health.get(*site).cloned().unwrap_or_default(),
                monitor: self.monitor(pool),
            };
            stands.sites.insert((*site).to_owned(), one);
        }
        let Some(balancer) = &self.load_balancer else {
            let what = format!("the load balancer {}", wanted.host());
            stands.oddities.push(Oddity::Missing { what });
            return stands;
        };
        stands.mark = balancer.mark();
        stands.fallback = self.who_falls_back(balancer, wanted, ids, &ours);
        self.odd(balancer, wanted, &ours, &mut stands.oddities);
        stands
    }

    fn who_falls_back(
        &self,
        balancer: &LoadBalancer,
        wanted: &Wanted,
        ids: &Ids,
        ours: &BTreeMap<&str, &Pool>,
    ) -> Fallback {
        let Some(id) = &balancer.shares.fallback_pool else { return Fallback::Unknown };
        let origins = |pool: &Pool| -> BTreeSet<(String, Option<u32>)> {
            pool.origins.iter().flatten().map(|origin| (origin.address.clone(), origin.port)).collect()
        };
        let fallback = self.pools.iter().find(|pool| pool.id == *id);
        let same = |pool: &Pool| {
            pool.id == *id || fallback.is_some_and(|fallback| !origins(fallback).is_disjoint(&origins(pool)))
        };
        if let Some((site, _)) = ours.iter().find(|(_, pool)| same(pool)) {
            return Fallback::Site((*site).to_owned());
        }
        match self.fallback(wanted, ids) {
            Some(named) if named.id == *id => Fallback::FixedAnswer,
            _ => Fallback::Unnamed(self.who(id)),
        }
    }

    fn odd(
        &self,
        balancer: &LoadBalancer,
        wanted: &Wanted,
        ours: &BTreeMap<&str, &Pool>,
        odd: &mut Vec<Oddity>,
    ) {
        let name = balancer.name.clone();
        if balancer.enabled == Some(false) {
            odd.push(Oddity::Disabled { what: format!("the load balancer {name}") });
        }
        // An answer of the proxy names the proxy: it may live as long as it likes.
        let seconds = balancer.ttl.unwrap_or(30.0).clamp(0.0, 1e9) as i64;
        if balancer.proxied != Some(true) && seconds > LONGEST_LIFETIME {
            odd.push(Oddity::Lifetime { name: name.clone(), seconds });
        }
        for (at, pools) in balancer.shared_out() {
            let stranger = |id: &&String| !ours.values().any(|pool| pool.id == **id);
            let to = pools.iter().filter(stranger).map(|id| self.who(id));
            odd.extend(to.map(|to| Oddity::Leak { to, at: at.clone() }));
            let missing = ours.iter().filter(|(_, pool)| !pools.contains(&pool.id));
            odd.extend(missing.map(|(site, _)| Oddity::LeftOut { site: (*site).to_owned(), at: at.clone() }));
        }
        if !wanted.hosts.contains(&name) {
            odd.push(Oddity::OtherName { name });
        }
    }
}

impl PoolHealth {
    /// Healthy if it is from anywhere: a place that cannot reach it speaks of the way.
    pub(super) fn health(&self) -> Health {
        let places: Vec<&PopHealth> = self.pop_health.iter().flat_map(BTreeMap::values).collect();
        if places.is_empty() {
            return Health::Unknown;
        }
        if places.iter().any(|place| place.healthy == Some(true)) {
            return Health::Healthy;
        }
        let origins =
            places.iter().flat_map(|place| place.origins.iter().flatten()).flat_map(BTreeMap::values);
        let mut reasons = origins.filter_map(|origin| origin.failure_reason.clone());
        Health::Unhealthy(reasons.find(|reason| reason != "No failures").unwrap_or_default())
    }
}

/// Who else keeps records of the hosts. `at_hosts` are the records of these names, `registry` those by which external-dns
/// remembers what is its own.
pub(super) fn keepers(hosts: &[String], at_hosts: &[DnsRecord], registry: &[DnsRecord]) -> Vec<Oddity> {
    let mut found = BTreeSet::new();
    for host in hosts {
        for record in registry.iter().chain(at_hosts) {
            let content = record.content.as_deref().unwrap_or_default();
            if let Some(who) = crate::dns::keeper::of_registry(&record.name, content, host) {
                found.insert(Oddity::Keeper { name: host.clone(), who });
            }
        }
        for record in at_hosts.iter().filter(|record| record.name == *host) {
            if ["A", "AAAA", "CNAME"].contains(&record.kind.as_str()) {
                let comment = record.comment.as_deref().filter(|comment| !comment.is_empty());
                let comment = comment.map(|comment| format!(" ({comment})")).unwrap_or_default();
                let who =
                    format!("whoever made the {} record beside the load balancer{comment}", record.kind);
                found.insert(Oddity::Keeper { name: host.clone(), who });
            }
        }
    }
    found.into_iter().collect()
}
