//! Makes what is missing at Route 53. What is there is left as it is, whoever made it.

use crate::dns::error::{DnsError, Doing};
use crate::dns::wanted::Wanted;
use crate::runtime::remote::RemoteError;

use super::Route53;
use super::records::{Check, Edit};

/// How often a health check may have been deleted and made anew: Route 53 remembers the references of those deleted.
const MOST_MADE: u32 = 8;

impl Route53 {
    /// Makes health checks and records where they are missing. Answers with their names.
    ///
    /// # Errors
    /// If something is missing that cannot be made.
    pub async fn ensure(&self, wanted: &Wanted) -> Result<Vec<String>, DnsError> {
        let mut read = self.settings(wanted).await?;
        let mut made = Vec::new();
        for (site, asked) in &wanted.sites {
            if read.checks.contains_key(site) {
                continue;
            }
            let what = format!("the health check of the site {site}");
            if self.traffic.health_checks.as_ref().is_some_and(|named| named.contains_key(site)) {
                let remedy = "correct its id in route53.healthChecks, or leave the site out there";
                return Err(DnsError::CannotMake { what, remedy });
            }
            let Some(gateway) = &asked.gateway else {
                let remedy = "set spec.gateway.address of its CloudCluster";
                return Err(DnsError::CannotMake { what, remedy });
            };
            let check = self.make_check(wanted, site, gateway).await?;
            read.checks.insert(site.clone(), check);
            made.push(format!("health check of {site}"));
        }
        let missing = read.missing(wanted, &self.traffic);
        if missing.is_empty() {
            return Ok(made);
        }
        made.extend(missing.iter().map(|set| {
            format!("record {} {} of {}", set.kind, set.name, set.set.as_deref().unwrap_or_default())
        }));
        let edits: Vec<Edit> = missing.into_iter().map(Edit::Create).collect();
        let comment = format!("FailoverGroup {}", wanted.group);
        let Err(error) = self.client.change(&edits, &comment).await else { return Ok(made) };
        // Somebody else may have been first, or the answer was lost: it counts what stands.
        if error.may_be_done() || matches!(error, RemoteError::Conflict(_)) {
            let checks = read.checks;
            let mut read = self.settings(wanted).await?;
            read.checks.extend(checks);
            if read.missing(wanted, &self.traffic).is_empty() {
                return Ok(made);
            }
        }
        Err(DnsError::Remote { doing: "making records", error })
    }

    /// Makes the health check of a site. To ask again with the same reference makes no second one.
    async fn make_check(
        &self,
        wanted: &Wanted,
        site: &str,
        gateway: &crate::dns::wanted::Gateway,
    ) -> Result<Check, DnsError> {
        let path = wanted.path();
        for number in 1..=MOST_MADE {
            let reference = self.reference(wanted, site, number);
            let ask = || self.client.make_check(&reference, gateway, wanted.host(), &path);
            let made = match ask().await {
                Err(error) if error.may_be_done() => ask().await,
                made => made,
            };
            match made {
                Err(RemoteError::Conflict(_)) => {
                    let all = self.client.checks().await.doing("reading health checks")?;
                    if let Some(check) = self.own_check(&all, wanted, site) {
                        return Ok(check);
                    }
                }
                made => return made.doing("making a health check"),
            }
        }
        let what = format!("the health check of the site {site}");
        Err(DnsError::CannotMake { what, remedy: "make one by hand and name its id in route53.healthChecks" })
    }
}
