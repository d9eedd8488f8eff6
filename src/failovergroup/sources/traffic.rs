//! Asks the traffic provider of a group: what stands there, and what would be in the way of a move. The site with authority
//! makes what is missing there.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::group::{Ends, OfGroup, SECRETS_EVERY};
use crate::api::traffic::Traffic as Spec;
use crate::api::{Problem, Severity};
use crate::dns::provider::{AT_REST, LOOK_AGAIN, TRY_RIGHTS};
use crate::dns::{
    AccessKeys, Cloudflare, DnsError, Finding, Gateway, Provider, Rights, Route53, SiteWanted, Stands,
    Wanted, cloudflare,
};
use crate::failovergroup::index::Traffic;

/// How soon it is asked again after it failed, or stood otherwise than wanted.
const AGAIN: Duration = Duration::from_secs(60);

/// Asks for ever; ends where the group has no provider of ours.
pub async fn run(of: OfGroup) {
    let Some(spec) = of.spec.traffic.clone().filter(|spec| spec.external.is_none()) else { return };
    let mut made: Option<Provider> = None;
    let mut rights: Option<(Instant, Rights)> = None;
    let mut round = 0u32;
    loop {
        round = round.wrapping_add(1);
        if made.is_none() || round.is_multiple_of(SECRETS_EVERY) {
            match make(&of, &spec).await {
                Ok(provider) => made = Some(provider),
                Err(problem) => {
                    let failed = format!("{}; {}", problem.message, problem.remedy);
                    of.found(|asked| {
                        asked.traffic = Some(Traffic::unreadable(asked.traffic.take(), failed));
                    });
                    of.all.rest(AGAIN, round).await;
                    continue;
                }
            }
        }
        let Some(provider) = &made else { continue };
        let (wanted, holds) = wanted(&of, &spec);
        if rights.as_ref().is_none_or(|(at, _)| at.elapsed() > TRY_RIGHTS) {
            let tried = provider.rights(&wanted).await.ok();
            rights = tried.map(|rights| (Instant::now(), rights));
        }
        let found = look(provider, &wanted, holds, rights.as_ref().map(|(_, rights)| rights)).await;
        let well = found.as_ref().is_ok_and(|found| found.findings.is_empty());
        if found.is_err() {
            made = None;
        }
        of.found(|asked| {
            asked.traffic = Some(match found {
                Ok(found) => found,
                Err(error) => Traffic::unreadable(asked.traffic.take(), error.to_string()),
            });
        });
        of.all.rest(if well { AT_REST } else { AGAIN }, round).await;
    }
}

/// What stands. Whoever has authority also makes what is missing, and leaves the mark of the epoch: all stands before
/// anybody needs it, and a move needs no write.
async fn look(
    provider: &Provider,
    wanted: &Wanted,
    holds: bool,
    rights: Option<&Rights>,
) -> Result<Traffic, DnsError> {
    let found = |stands: &Stands| Traffic {
        findings: provider.problems(stands, wanted, rights),
        epoch: stands.mark.as_ref().map(|mark| mark.epoch),
        failed: None,
        read: true,
    };
    let stands = provider.read(wanted).await?;
    let marked = stands.mark.as_ref().map(|mark| mark.epoch);
    let first = found(&stands);
    let lacks = first.findings.iter().any(|finding| finding.problem.severity == Severity::Error);
    if !holds || (!lacks && marked == wanted.epoch) {
        return Ok(first);
    }
    let made = async {
        provider.ensure(wanted).await?;
        provider.settle(wanted, LOOK_AGAIN).await?;
        provider.read(wanted).await
    };
    Ok(match made.await {
        Ok(stands) => found(&stands),
        // What was read before is what is known.
        Err(error) => {
            let problem = Problem::error(
                "spec.traffic",
                format!("what is missing at the traffic provider could not be made: {error}"),
                "see what its credentials may write, or make it by hand",
            );
            let mut first = first;
            first.findings.push(Finding { reason: "NotMade", problem });
            first
        }
    })
}

/// How the traffic is to stand, by the Authority of this site; and whether this site is the one that writes.
fn wanted(of: &OfGroup, spec: &Spec) -> (Wanted, bool) {
    let own = of.own();
    let epoch = own.as_ref().map(|own| own.epoch);
    // Where several have authority, the first one writes.
    let first = own.as_ref().and_then(|own| own.holders.first());
    let holds = first.is_some_and(|holder| **holder == *of.all.context.site) && of.leads();
    let sites = of.spec.sites.iter().map(|site| {
        let gateway = of.described(site).and_then(|site| Gateway::of_url(&site.gateway?));
        // Whose checks are well gets the traffic: all have the same weight, so that a move needs no write.
        (site.clone(), SiteWanted { weight: 100, off: false, gateway })
    });
    let wanted = Wanted {
        group: of.name.to_string(),
        hosts: spec.hosts.clone(),
        epoch,
        sites: sites.collect::<BTreeMap<_, _>>(),
    };
    (wanted, holds)
}

async fn make(of: &OfGroup, spec: &Spec) -> Result<Provider, Problem> {
    let Ends { cloudflare: at_cloudflare, route53: at_route53, .. } = &of.all.ends;
    if let Some(traffic) = &spec.cloudflare {
        let source = "spec.traffic.cloudflare.token";
        let secret = &traffic.token.secret_ref;
        let data = of.secret(source, &secret.name).await?;
        let missing = || {
            Problem::error(
                source,
                format!("the Secret {} has no key {}", secret.name, secret.key()),
                format!("kubectl create secret generic {} --from-literal={}=…", secret.name, secret.key()),
            )
        };
        let token = data.get(secret.key()).ok_or_else(missing)?;
        let token = std::str::from_utf8(&token.0).map_err(|_| missing())?.trim();
        let base = at_cloudflare.as_deref().unwrap_or(cloudflare::CLOUDFLARE);
        let made = Cloudflare::new(traffic, token, base);
        return made
            .map(Provider::Cloudflare)
            .map_err(|error| Problem::error("spec.traffic.cloudflare", error.to_string(), "correct it"));
    }
    if let Some(traffic) = &spec.route53 {
        let keys = match &traffic.credentials {
            None => None,
            Some(named) => {
                let data = of.secret("spec.traffic.route53.credentials", &named.secret_ref.name).await?;
                let text = |key: &str| Some(std::str::from_utf8(&data.get(key)?.0).ok()?.to_owned());
                let keys = AccessKeys::of_secret(text);
                Some(keys.map_err(|error| {
                    let words = "put the keys of AWS into the Secret";
                    Problem::error("spec.traffic.route53.credentials", error.to_string(), words)
                })?)
            }
        };
        return Ok(Provider::Route53(Route53::new(traffic, keys.as_ref(), at_route53.as_deref()).await));
    }
    Ok(Provider::External)
}
