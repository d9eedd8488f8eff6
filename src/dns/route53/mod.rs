//! Route 53: weighted records with a health check for each site, and a text record with the mark of the last writer.
//!
//! Each write is one batch that deletes the mark that was read and creates the next one. So of two writers one is refused;
//! it reads, and finds either a greater epoch or what is still to be done.

mod client;
mod ensure;
mod records;

use std::collections::BTreeSet;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;

use crate::api::traffic::Route53Traffic;
use crate::runtime::aws;
use crate::runtime::remote::{DEADLINE, RemoteError};

use super::error::{DnsError, Doing};
use super::plan::plan;
use super::provider::{Applied, TOTAL, TRIES};
use super::secret::Hidden;
use super::stands::{Rights, Stands};
use super::wanted::{Mark, Wanted};
use client::Client;
use records::{Check, Edit, Read};

/// Route 53 is one service for the whole world, and signs for this region.
const REGION: &str = "us-east-1";
/// How long it is waited until all of Route 53's servers have a change. They mostly have it within a minute.
const IN_SYNC: Duration = Duration::from_secs(60);
/// How often that is asked.
const LOOK: Duration = Duration::from_secs(2);

/// Access keys of AWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessKeys {
    /// The id, which is no secret.
    pub id: String,
    /// The secret.
    pub secret: Hidden,
    /// The token of a session, where there is one.
    pub session: Option<Hidden>,
}

impl AccessKeys {
    /// Those of a Secret, of which `read` gives the value of a key: `accessKeyId`, `secretAccessKey`, and `sessionToken`
    /// where there is one.
    ///
    /// # Errors
    /// If one of the first two is missing.
    pub fn of_secret(read: impl Fn(&str) -> Option<String>) -> Result<Self, DnsError> {
        let needed = |key: &str| {
            read(key).ok_or_else(|| {
                DnsError::Unusable(format!("the Secret of route53.credentials has no key {key}: add it"))
            })
        };
        Ok(Self {
            id: needed("accessKeyId")?.trim().to_owned(),
            secret: Hidden::new(&needed("secretAccessKey")?),
            session: read("sessionToken").map(|session| Hidden::new(&session)),
        })
    }
}

/// A group's traffic at Route 53. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Route53 {
    client: Client,
    traffic: Route53Traffic,
    /// What lends this Pod its credentials, where it asks with those.
    pod: Option<SharedCredentialsProvider>,
    /// How long it is waited for all servers, and how often they are asked.
    in_sync: (Duration, Duration),
}

impl Route53 {
    /// As the group says, with these access keys, or those of this pod's own environment where there are none.
    pub async fn new(traffic: &Route53Traffic, keys: Option<&AccessKeys>, endpoint: Option<&str>) -> Self {
        Self::with_deadline(traffic, keys, endpoint, DEADLINE, (IN_SYNC, LOOK)).await
    }

    /// The same, with another deadline for each call, and other times for the wait for all servers.
    pub async fn with_deadline(
        traffic: &Route53Traffic,
        keys: Option<&AccessKeys>,
        endpoint: Option<&str>,
        deadline: Duration,
        in_sync: (Duration, Duration),
    ) -> Self {
        let (mut hidden, mut pod) = (Vec::new(), None);
        let credentials = match keys {
            Some(keys) => {
                hidden.push(keys.secret.clone());
                hidden.extend(keys.session.clone());
                let session = keys.session.as_ref().map(|session| session.shown().to_owned());
                let own = Credentials::new(&keys.id, keys.secret.shown(), session, None, "secret");
                SharedCredentialsProvider::new(own)
            }
            None => pod.insert(aws::of_pod(REGION).await).clone(),
        };
        let client = Client::new(&traffic.zone_id, credentials, hidden, endpoint, deadline);
        Self { client, traffic: traffic.clone(), pod, in_sync }
    }

    /// Where this Pod has no credentials, that is told and not what came of it.
    async fn explained<T>(&self, found: Result<T, DnsError>) -> Result<T, DnsError> {
        let (Err(DnsError::Remote { .. }), Some(pod)) = (&found, &self.pod) else { return found };
        match aws::credentials(pod).await {
            Ok(_) => found,
            Err(none) => Err(DnsError::Unusable(format!("{none}; {} route53.credentials", aws::REMEDY))),
        }
    }

    /// The reference by which a health check of ours is known. Theirs may be 64 characters long, our names longer.
    fn reference(&self, wanted: &Wanted, site: &str, number: u32) -> String {
        use sha2::{Digest, Sha256};
        let digest = Sha256::digest(format!("{}/{site}", wanted.group));
        let hex: String = digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        format!("banyan-{hex}-{number}")
    }

    /// All that can be set.
    async fn settings(&self, wanted: &Wanted) -> Result<Read, DnsError> {
        let mut read =
            Read { zone: self.client.zone_name().await.doing("reading the hosted zone")?, ..Read::default() };
        let mut names: BTreeSet<String> =
            self.traffic.records.iter().map(|record| record.name.clone()).collect();
        names.insert(records::mark_name(&wanted.group, &read.zone));
        for name in names {
            read.records.extend(self.client.records(&name).await.doing("reading records")?);
        }
        let named = self.traffic.health_checks.clone().unwrap_or_default();
        for (site, id) in named.iter().filter(|(site, _)| wanted.sites.contains_key(*site)) {
            if let Some(check) = self.client.check(id).await.doing("reading a health check")? {
                read.checks.insert(site.clone(), check);
            }
        }
        if wanted.sites.keys().any(|site| !named.contains_key(site)) {
            let all = self.client.checks().await.doing("reading health checks")?;
            for site in wanted.sites.keys().filter(|site| !named.contains_key(*site)) {
                if let Some(check) = self.own_check(&all, wanted, site) {
                    read.checks.insert(site.clone(), check);
                }
            }
        }
        Ok(read)
    }

    fn own_check(&self, all: &[Check], wanted: &Wanted, site: &str) -> Option<Check> {
        let first = self.reference(wanted, site, 1);
        let begin = first.trim_end_matches('1');
        all.iter().find(|check| check.reference.starts_with(begin)).cloned()
    }

    /// What stands, with health and other people's records.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn read(&self, wanted: &Wanted) -> Result<Stands, DnsError> {
        self.explained(self.look(wanted).await).await
    }

    async fn look(&self, wanted: &Wanted) -> Result<Stands, DnsError> {
        let mut read = self.settings(wanted).await?;
        for (site, check) in &read.checks {
            match self.client.health(&check.id).await {
                Ok(health) => drop(read.health.insert(site.clone(), health)),
                Err(RemoteError::NotFound) => {}
                Err(error) => return Err(DnsError::Remote { doing: "reading the health of a site", error }),
            }
        }
        for record in &self.traffic.records {
            let name = format!("{}-{}", record.kind.as_str().to_ascii_lowercase(), record.name);
            read.registry.extend(self.client.records(&name).await.doing("reading records of others")?);
        }
        Ok(read.stands(wanted, &self.traffic))
    }

    /// Makes it so, and reads it back. What others set stays as it is. An answer that is lost is made up for by reading,
    /// and a batch that was refused is not sent again before it was read why.
    ///
    /// # Errors
    /// If it is not so afterwards, as far as anybody can tell.
    pub async fn apply(&self, wanted: &Wanted) -> Result<Applied, DnsError> {
        let all = tokio::time::timeout(TOTAL, self.write(wanted)).await;
        let silence = DnsError::Remote { doing: "writing records", error: RemoteError::NoAnswer(TOTAL) };
        let (mut done, change) = self.explained(all.unwrap_or(Err(silence))).await?;
        if let Some(change) = change {
            done.everywhere = Some(self.wait(&change).await);
        }
        Ok(done)
    }

    async fn write(&self, wanted: &Wanted) -> Result<(Applied, Option<String>), DnsError> {
        let mut done = Applied::default();
        let mut accepted = None;
        for left in (0..=TRIES).rev() {
            let read = self.settings(wanted).await?;
            let stands = read.stands(wanted, &self.traffic);
            let changes = plan(wanted, &stands)?;
            if changes.is_empty() {
                return Ok((done.standing(stands), accepted));
            }
            if left == 0 {
                break;
            }
            let edits = read.batch(wanted, &self.traffic, &changes);
            let comment = format!("FailoverGroup {}", wanted.group);
            match self.client.change(&edits, &comment).await {
                Ok(change) => {
                    accepted = Some(change);
                    done.requests += 1;
                    done.changes.extend(changes);
                }
                // It does not stand as it was read: what is to be done follows from what stands now.
                Err(RemoteError::Conflict(_)) => {}
                Err(error) if error.may_be_done() => {
                    done.requests += 1;
                    done.changes.extend(changes);
                }
                Err(error) => return Err(DnsError::Remote { doing: "writing records", error }),
            }
        }
        Err(DnsError::Contended(TRIES))
    }

    /// Whether all servers have the change before the wait is over.
    async fn wait(&self, change: &str) -> bool {
        let (longest, look) = self.in_sync;
        let seen = async {
            loop {
                if self.client.in_sync(change).await.unwrap_or(false) {
                    return;
                }
                tokio::time::sleep(look).await;
            }
        };
        tokio::time::timeout(longest, seen).await.is_ok()
    }

    /// What the credentials are good for. Nothing is changed: a mark is to be deleted that nobody ever wrote, which who
    /// may write is told does not stand, and who may not is refused.
    ///
    /// # Errors
    /// If Route 53 does not answer.
    pub async fn rights(&self, wanted: &Wanted) -> Result<Rights, DnsError> {
        self.explained(self.try_rights(wanted).await).await
    }

    async fn try_rights(&self, wanted: &Wanted) -> Result<Rights, DnsError> {
        let mut rights = Rights { accepted: true, ..Rights::default() };
        let zone = match self.client.zone_name().await {
            Err(RemoteError::Unauthorized) => return Ok(Rights::default()),
            zone => zone.doing("reading the hosted zone")?,
        };
        let nobody = Mark { epoch: -1, change: 0, group: wanted.group.clone() };
        let edits = [Edit::Delete(records::mark_record(&nobody, &zone))];
        match self.client.change(&edits, "tries whether these credentials may write").await {
            Ok(_) | Err(RemoteError::Conflict(_)) => {}
            Err(RemoteError::Forbidden) => rights.cannot_write.push("records of the zone".to_owned()),
            Err(error) => return Err(DnsError::Remote { doing: "trying the credentials", error }),
        }
        if self.client.zones().await.doing("listing zones")? > 1 {
            rights
                .sees_too_much
                .push("they list all hosted zones of the account, and one is needed".to_owned());
        }
        Ok(rights)
    }
}

#[cfg(test)]
#[path = "route53_tests.rs"]
mod tests;
