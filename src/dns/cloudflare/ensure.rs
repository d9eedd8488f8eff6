//! Makes what is missing at Cloudflare. What is there is left as it is, whoever made it.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::dns::error::{DnsError, Doing};
use crate::dns::wanted::{Gateway, Wanted};
use crate::runtime::remote::RemoteError;

use super::shapes::{LoadBalancer, Pool};
use super::{Cloudflare, write};

/// How often a new monitor asks, in seconds: what every plan of Cloudflare allows.
const EVERY: u32 = 60;

impl Cloudflare {
    /// Makes monitors, pools and the load balancer where they are missing. Answers with their names.
    ///
    /// # Errors
    /// If something is missing that cannot be made.
    pub async fn ensure(&self, wanted: &Wanted) -> Result<Vec<String>, DnsError> {
        let settings = self.settings(wanted).await?;
        let mut made = Vec::new();
        let mut pools: BTreeMap<String, String> = BTreeMap::new();
        for (site, asked) in &wanted.sites {
            if let Some(pool) = settings.pool(site, wanted, &self.ids) {
                pools.insert(site.clone(), pool.id.clone());
                continue;
            }
            let name = wanted.name_of(site);
            if self.ids.pools.contains_key(site) {
                let remedy = "correct its id in cloudflare.pools, or leave the site out there";
                return Err(DnsError::CannotMake { what: format!("the pool of the site {site}"), remedy });
            }
            let Some(gateway) = &asked.gateway else {
                let remedy = "set spec.gateway.address of its CloudCluster";
                return Err(DnsError::CannotMake { what: format!("the pool {name}"), remedy });
            };
            let monitor = self.monitor_for(wanted, gateway, &mut made).await?;
            let mut body = pool_body(&name, gateway, wanted.host());
            body["monitor"] = json!(monitor);
            let pool: Pool =
                self.made("making a pool", &self.pools(), &body, |pool: &Pool| pool.name == name).await?;
            pools.insert(site.clone(), pool.id);
            made.push(format!("pool {name}"));
        }
        if settings.load_balancer.is_some() {
            return Ok(made);
        }
        if self.ids.load_balancer.is_some() {
            let what = "the load balancer with the id of the group".to_owned();
            let remedy = "correct cloudflare.loadBalancer, or leave it out";
            return Err(DnsError::CannotMake { what, remedy });
        }
        let fallback = match (settings.fallback(wanted, &self.ids), &self.fallback) {
            (Some(pool), _) => pool.id.clone(),
            (None, Some(address)) => {
                let name = wanted.name_of("fallback");
                let gateway = Gateway { tls: true, host: address.clone(), port: 443 };
                let body = pool_body(&name, &gateway, address);
                let pool: Pool =
                    self.made("making a pool", &self.pools(), &body, |pool: &Pool| pool.name == name).await?;
                made.push(format!("pool {name}"));
                pool.id
            }
            (None, None) => {
                let what = format!("the load balancer {}", wanted.host());
                let remedy = "name a host that gives a fixed answer in cloudflare.fallback.address";
                return Err(DnsError::CannotMake { what, remedy });
            }
        };
        let body = json!({
            "name": wanted.host(),
            "description": format!("of the FailoverGroup {}", wanted.group),
            "enabled": true,
            "proxied": true,
            "default_pools": pools.values().collect::<Vec<_>>(),
            "fallback_pool": fallback,
            "steering_policy": "random",
            "random_steering": {"default_weight": 1.0, "pool_weights": write::first_weights(wanted, &pools)},
        });
        let name = wanted.host();
        let _: LoadBalancer = self
            .made("making the load balancer", &self.balancers(), &body, |found: &LoadBalancer| {
                found.name == name
            })
            .await?;
        made.push(format!("load balancer {name}"));
        Ok(made)
    }

    /// The monitor of the group, made if there is none that asks the right question in the right way.
    async fn monitor_for(
        &self,
        wanted: &Wanted,
        gateway: &Gateway,
        made: &mut Vec<String>,
    ) -> Result<String, DnsError> {
        let kind = if gateway.tls { "https" } else { "http" };
        let description = format!("{} over {kind}", wanted.path());
        let ours = |monitor: &Value| monitor["description"] == json!(description);
        let id = |monitor: &Value| monitor["id"].as_str().unwrap_or_default().to_owned();
        let known: Vec<Value> = self.client.list(&self.monitors(), &[]).await.doing("reading monitors")?;
        if let Some(monitor) = known.iter().find(|monitor| ours(monitor)) {
            return Ok(id(monitor));
        }
        let body = json!({
            "type": kind,
            "description": description,
            "method": "GET",
            "path": wanted.path(),
            "port": gateway.port,
            "header": {"Host": [wanted.host()]},
            "expected_codes": "200",
            "follow_redirects": false,
            "allow_insecure": false,
            "interval": EVERY,
            "timeout": 5,
            "retries": 1,
        });
        let monitor = self.made("making a monitor", &self.monitors(), &body, ours).await?;
        made.push(format!("monitor {description}"));
        Ok(id(&monitor))
    }

    /// Makes one. Where the answer is lost, or somebody else was first, it is looked for before it is asked for again.
    async fn made<T: DeserializeOwned>(
        &self,
        doing: &'static str,
        path: &[&str],
        body: &Value,
        is_it: impl Fn(&T) -> bool,
    ) -> Result<T, DnsError> {
        let mut again = true;
        loop {
            let error = match self.client.post(path, body).await {
                Ok(made) => return Ok(made),
                Err(error) => error,
            };
            let unclear = error.may_be_done()
                || matches!(error, RemoteError::Conflict(_) | RemoteError::Refused { code: 400, .. });
            if unclear {
                let all: Vec<T> = self.client.list(path, &[]).await.doing(doing)?;
                if let Some(found) = all.into_iter().find(&is_it) {
                    return Ok(found);
                }
            }
            if !(again && error.may_be_done()) {
                return Err(DnsError::Remote { doing, error });
            }
            again = false;
        }
    }
}

fn pool_body(name: &str, gateway: &Gateway, host: &str) -> Value {
    json!({
        "name": name,
        "enabled": true,
        "minimum_origins": 1,
        "origins": [{
            "name": "gateway",
            "address": gateway.host,
            "port": gateway.port,
            "enabled": true,
            "weight": 1,
            "header": {"Host": [host]},
        }],
    })
}
