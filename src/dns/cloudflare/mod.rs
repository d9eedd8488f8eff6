//! Cloudflare: one load balancer, a pool for each site, monitors on `/authority/<group>`.
//!
//! Cloudflare has no compare-and-set. So a write is preceded by a look at the mark in the load balancer's description,
//! carries its own mark, and is read back at once and once more a little later: whoever writes late is corrected by the
//! one with the greater epoch.

mod client;
mod ensure;
mod shapes;
mod write;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::api::traffic::CloudflareTraffic;
use crate::runtime::remote::{DEADLINE, RemoteError};

use super::error::{DnsError, Doing};
use super::plan::plan;
use super::provider::{Applied, TOTAL, TRIES};
use super::secret::Hidden;
use super::stands::{Health, Rights, Stands};
use super::wanted::Wanted;
use client::Client;
use shapes::{DnsRecord, Ids, LoadBalancer, PoolHealth, Settings};

/// Where Cloudflare answers.
pub const CLOUDFLARE: &str = "https://api.cloudflare.com/client/v4";
/// An id that nothing has: to change it shows whether the token might.
const NOBODY: &str = "00000000000000000000000000000000";

/// A group's traffic at Cloudflare. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cloudflare {
    client: Client,
    account: String,
    zone: String,
    ids: Ids,
    /// Host that gives a fixed answer.
    fallback: Option<String>,
}

impl Cloudflare {
    /// As the group says, with the token that its Secret holds, at `base` (see [`CLOUDFLARE`]).
    ///
    /// # Errors
    /// If `base` is no URL, or the certificates of this machine cannot be used.
    pub fn new(traffic: &CloudflareTraffic, token: &str, base: &str) -> Result<Self, DnsError> {
        Self::with_deadline(traffic, token, base, DEADLINE)
    }

    /// The same, with another deadline for each call.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_deadline(
        traffic: &CloudflareTraffic,
        token: &str,
        base: &str,
        deadline: Duration,
    ) -> Result<Self, DnsError> {
        let fallback = traffic.fallback.clone().unwrap_or_default();
        Ok(Self {
            client: Client::new(base, Hidden::new(token), deadline)?,
            account: traffic.account.clone(),
            zone: traffic.zone.clone(),
            ids: Ids {
                load_balancer: traffic.load_balancer.clone(),
                pools: traffic.pools.clone().unwrap_or_default(),
                fallback: fallback.pool,
            },
            fallback: fallback.address,
        })
    }

    fn pools(&self) -> [&str; 4] {
        ["accounts", &self.account, "load_balancers", "pools"]
    }

    fn monitors(&self) -> [&str; 4] {
        ["accounts", &self.account, "load_balancers", "monitors"]
    }

    fn balancers(&self) -> [&str; 3] {
        ["zones", &self.zone, "load_balancers"]
    }

    fn pool<'a>(&'a self, id: &'a str) -> [&'a str; 5] {
        ["accounts", &self.account, "load_balancers", "pools", id]
    }

    fn balancer<'a>(&'a self, id: &'a str) -> [&'a str; 4] {
        ["zones", &self.zone, "load_balancers", id]
    }

    async fn load_balancer(&self, wanted: &Wanted) -> Result<Option<LoadBalancer>, RemoteError> {
        match &self.ids.load_balancer {
            Some(id) => match self.client.get(&self.balancer(id)).await {
                Ok(found) => Ok(Some(found)),
                Err(RemoteError::NotFound) => Ok(None),
                Err(error) => Err(error),
            },
            None => {
                let all: Vec<LoadBalancer> = self.client.list(&self.balancers(), &[]).await?;
                Ok(all.into_iter().find(|balancer| balancer.name == wanted.host()))
            }
        }
    }

    /// All that can be set, in three requests.
    async fn settings(&self, wanted: &Wanted) -> Result<Settings, DnsError> {
        Ok(Settings {
            load_balancer: self.load_balancer(wanted).await.doing("reading the load balancer")?,
            pools: self.client.list(&self.pools(), &[]).await.doing("reading pools")?,
            monitors: self.client.list(&self.monitors(), &[]).await.doing("reading monitors")?,
        })
    }

    /// What stands, with health and other people's records.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn read(&self, wanted: &Wanted) -> Result<Stands, DnsError> {
        let settings = self.settings(wanted).await?;
        let mut health: BTreeMap<String, Health> = BTreeMap::new();
        for site in wanted.sites.keys() {
            let Some(pool) = settings.pool(site, wanted, &self.ids) else { continue };
            let path = ["accounts", &self.account, "load_balancers", "pools", &pool.id, "health"];
            match self.client.get::<PoolHealth>(&path).await {
                Ok(found) => drop(health.insert(site.clone(), found.health())),
                Err(RemoteError::NotFound) => {}
                Err(error) => return Err(DnsError::Remote { doing: "reading the health of pools", error }),
            }
        }
        let mut stands = settings.stands(wanted, &self.ids, &health);
        stands.oddities.extend(self.keepers(wanted).await.doing("reading DNS records")?);
        Ok(stands)
    }

    async fn keepers(&self, wanted: &Wanted) -> Result<Vec<super::stands::Oddity>, RemoteError> {
        let path = ["zones", &self.zone, "dns_records"];
        let mut at_hosts = Vec::new();
        for host in &wanted.hosts {
            let found: Vec<DnsRecord> = self.client.list(&path, &[("name", host.as_str())]).await?;
            at_hosts.extend(found);
        }
        let query = [("type", "TXT"), ("content.contains", "heritage=external-dns"), ("per_page", "1000")];
        let registry: Vec<DnsRecord> = self.client.list(&path, &query).await?;
        Ok(shapes::keepers(&wanted.hosts, &at_hosts, &registry))
    }

    /// Makes it so, and reads it back. What others set stays as it is. An answer that is lost is made up for by reading,
    /// and nothing is written that stands already.
    ///
    /// # Errors
    /// If it is not so afterwards, as far as anybody can tell.
    pub async fn apply(&self, wanted: &Wanted) -> Result<Applied, DnsError> {
        let all = tokio::time::timeout(TOTAL, self.apply_in_time(wanted)).await;
        all.unwrap_or(Err(DnsError::Remote { doing: "writing weights", error: RemoteError::NoAnswer(TOTAL) }))
    }

    async fn apply_in_time(&self, wanted: &Wanted) -> Result<Applied, DnsError> {
        let mut done = Applied::default();
        for left in (0..=TRIES).rev() {
            let settings = self.settings(wanted).await?;
            let stands = settings.stands(wanted, &self.ids, &BTreeMap::new());
            let changes = plan(wanted, &stands)?;
            if changes.is_empty() {
                return Ok(done.standing(stands));
            }
            let (Some(balancer), true) = (&settings.load_balancer, left > 0) else { break };
            for write in write::writes(&settings, balancer, wanted, &self.ids, &changes) {
                match self.write(balancer, &write, wanted).await {
                    Ok(true) => done.requests += 1,
                    // Somebody else wrote in between: what is to be done follows from what they left.
                    Ok(false) => break,
                    Err(error) if error.remote().is_some_and(RemoteError::may_be_done) => {
                        done.requests += 1;
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
            done.changes.extend(
                changes.into_iter().filter(|change| !done.changes.contains(change)).collect::<Vec<_>>(),
            );
        }
        Err(DnsError::Contended(TRIES))
    }

    /// One write, unless the mark is another than the one that was read, and is not our own.
    async fn write(
        &self,
        balancer: &LoadBalancer,
        write: &write::Write,
        wanted: &Wanted,
    ) -> Result<bool, DnsError> {
        let now: LoadBalancer =
            self.client.get(&self.balancer(&balancer.id)).await.doing("reading the load balancer")?;
        if now.mark() != write.after && now.mark().as_ref() != Some(&write.mark) {
            let theirs = now.mark().filter(|mark| Some(mark.epoch) > wanted.epoch);
            return match theirs {
                Some(mark) => Err(super::plan::Refusal::Superseded {
                    ours: wanted.epoch.unwrap_or_default(),
                    theirs: mark.epoch,
                }
                .into()),
                None => Ok(false),
            };
        }
        match &write.pool {
            None => {
                self.client.patch(&self.balancer(&balancer.id), &write.body).await.doing("writing weights")?
            }
            Some(id) => self.client.patch(&self.pool(id), &write.body).await.doing("writing a pool")?,
        }
        Ok(true)
    }

    /// What the token is good for. Nothing is changed: what is asked to be changed does not exist, so that a token with
    /// the right is told so (404), and one without it is refused (403).
    ///
    /// # Errors
    /// If Cloudflare does not answer.
    pub async fn rights(&self) -> Result<Rights, DnsError> {
        let mut rights = Rights { accepted: true, ..Rights::default() };
        match self.client.get::<Value>(&["user", "tokens", "verify"]).await {
            // A token of the account itself is none of a user's.
            Err(RemoteError::Unauthorized | RemoteError::Forbidden) => {
                let own = self.client.get::<Value>(&["accounts", &self.account, "tokens", "verify"]).await;
                if matches!(own, Err(RemoteError::Unauthorized | RemoteError::Forbidden)) {
                    return Ok(Rights::default());
                }
                own.doing("verifying the token")?;
            }
            verified => drop(verified.doing("verifying the token")?),
        }
        let empty = Value::Object(serde_json::Map::new());
        let tried = [
            ("load balancers of the zone", self.client.patch(&self.balancer(NOBODY), &empty).await),
            ("pools of the account", self.client.patch(&self.pool(NOBODY), &empty).await),
        ];
        for (what, tried) in tried {
            match tried {
                Err(RemoteError::Forbidden | RemoteError::Unauthorized) => {
                    rights.cannot_write.push(what.to_owned());
                }
                Ok(()) | Err(RemoteError::NotFound | RemoteError::Refused { .. }) => {}
                Err(error) => return Err(DnsError::Remote { doing: "trying the token", error }),
            }
        }
        match self.client.page::<Value>(&["zones"], &[("per_page", "5")]).await {
            Ok(page) => {
                let zones = page.total.unwrap_or(page.items.len() as u64);
                if zones > 1 {
                    rights.sees_too_much.push(format!("they see {zones} zones, and one is needed"));
                }
            }
            Err(RemoteError::Forbidden | RemoteError::Unauthorized) => {}
            Err(error) => return Err(DnsError::Remote { doing: "listing zones", error }),
        }
        Ok(rights)
    }
}

#[cfg(test)]
#[path = "cloudflare_tests.rs"]
mod tests;
