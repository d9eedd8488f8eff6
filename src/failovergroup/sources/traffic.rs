//! Asks the traffic provider of a group: what stands there, and what would be in the way of a move. The site with authority
//! makes what is missing there, and pins off a site that may not know that it has lost authority.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::group::{Ends, OfGroup, SECRETS_EVERY};
use crate::api::traffic::Traffic as Spec;
use crate::api::{AuthoritySpec, Problem, Severity};
use crate::authority::known::Known;
use crate::dns::provider::{AT_REST, LOOK_AGAIN, TRY_RIGHTS};
use crate::dns::{
    AccessKeys, Cloudflare, DnsError, Finding, Gateway, Provider, Rights, Route53, SiteWanted, Stands,
    Wanted, cloudflare,
};
use crate::failovergroup::index::Traffic;

/// How soon it is asked again after it failed, or stood otherwise than wanted.
const AGAIN: Duration = Duration::from_secs(60);
/// How soon it is noticed that somebody else has authority, or has heard of it. Nobody is asked for that.
const NOTICED: Duration = Duration::from_secs(2);

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
        let steering = wanted(&of, &spec);
        if rights.as_ref().is_none_or(|(at, _)| at.elapsed() > TRY_RIGHTS) {
            let tried = provider.rights(&steering.wanted).await.ok();
            rights = tried.map(|rights| (Instant::now(), rights));
        }
        let found = look(provider, &steering, rights.as_ref().map(|(_, rights)| rights)).await;
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
        let rest = of.all.rest(if well { AT_REST } else { AGAIN }, round);
        tokio::select! {
            () = rest => {}
            // Who has authority, and who has heard of it, is known without a request.
            () = changes(&of, &spec, &steering) => {}
        }
    }
}

/// Until somebody else is to get traffic than was asked for.
async fn changes(of: &OfGroup, spec: &Spec, steering: &Steering) {
    loop {
        tokio::time::sleep(of.all.ends.every(NOTICED)).await;
        if wanted(of, spec) != *steering {
            return;
        }
    }
}

/// What stands. Whoever has authority also makes what is missing, and leaves the mark of the epoch: all stands before
/// anybody needs it, and a move needs no write.
async fn look(
    provider: &Provider,
    steering: &Steering,
    rights: Option<&Rights>,
) -> Result<Traffic, DnsError> {
    let stands = provider.read(&steering.wanted).await?;
    let wanted = &steering.beside(&stands);
    let found = |stands: &Stands| Traffic {
        findings: provider.problems(stands, wanted, rights),
        epoch: stands.mark.as_ref().map(|mark| mark.epoch),
        failed: None,
        read: true,
    };
    let marked = stands.mark.as_ref().map(|mark| mark.epoch);
    let first = found(&stands);
    let lacks = first.findings.iter().any(|finding| finding.problem.severity == Severity::Error);
    let pins = wanted.sites.iter().any(|(site, wanted)| {
        stands.sites.get(site).is_some_and(|stands| stands.there && stands.on == wanted.off)
    });
    if !steering.holds || (!lacks && !pins && marked == wanted.epoch) {
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

/// How the traffic is to stand, by the Authority of this site.
#[derive(Clone, Debug, PartialEq)]
struct Steering {
    wanted: Wanted,
    /// Whether this site is the one that writes.
    holds: bool,
    /// The sites of which nothing is known: they take part, or do not, as it stands.
    unknown: Vec<String>,
}

impl Steering {
    /// The same, with what is not known as it stands.
    fn beside(&self, stands: &Stands) -> Wanted {
        let mut wanted = self.wanted.clone();
        for site in &self.unknown {
            let off = stands.sites.get(site).is_some_and(|stands| stands.there && !stands.on);
            wanted.sites.entry(site.clone()).and_modify(|wanted| wanted.off = off);
        }
        wanted
    }
}

/// Whether another site is to take part: once it knows of the epoch of this one it sends users away by itself. Until then its
/// checks may be well, as in a partition between the sites. `None` where nothing is known of it.
fn takes_part(own: &AuthoritySpec, site: &str, shows: &Known<Option<AuthoritySpec>>) -> Option<bool> {
    // Before the first move nobody has lost anything; and a site that does not serve yet takes nobody's users away.
    if own.follows == 0 || own.promoted != Some(own.epoch) || own.is_held_by(site) {
        return Some(true);
    }
    match shows {
        Known::Read(Some(there)) => Some(there.epoch >= own.epoch),
        // Its `/authority` answers 404.
        Known::Read(None) => Some(true),
        Known::NotYet(_) => None,
    }
}

fn wanted(of: &OfGroup, spec: &Spec) -> Steering {
    let own = of.own();
    let epoch = own.as_ref().map(|own| own.epoch);
    // Where several have authority, the first one writes.
    let first = own.as_ref().and_then(|own| own.holders.first());
    let holds = first.is_some_and(|holder| **holder == *of.all.context.site) && of.leads();
    let mut unknown = Vec::new();
    let sites = of.spec.sites.iter().map(|site| {
        let here = **site == *of.all.context.site;
        let part = match &own {
            Some(own) if holds && !here => takes_part(own, site, &of.shows(site)),
            _ => Some(true),
        };
        if part.is_none() {
            unknown.push(site.clone());
        }
        let gateway = of.described(site).and_then(|site| Gateway::of_url(&site.gateway?));
        // Whose checks are well gets the traffic: all have the same weight, so that a move needs no write.
        (site.clone(), SiteWanted { weight: 100, off: part == Some(false), gateway })
    });
    let wanted = Wanted {
        group: of.name.to_string(),
        hosts: spec.hosts.clone(),
        epoch,
        sites: sites.collect::<BTreeMap<_, _>>(),
    };
    Steering { wanted, holds, unknown }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::stands::SiteStands;

    fn held(by: &str, epoch: i64, follows: i64) -> AuthoritySpec {
        AuthoritySpec {
            epoch,
            follows,
            holders: vec![by.to_owned()],
            promoted: Some(epoch),
            ..AuthoritySpec::default()
        }
    }

    #[test]
    fn a_site_that_may_not_know_of_the_epoch_is_pinned_off_until_it_does() {
        let own = held("b", 33, 16);
        let shows = |epoch: i64| Known::Read(Some(held("a", epoch, 0)));
        assert_eq!(takes_part(&own, "a", &shows(16)), Some(false), "it serves on in a partition");
        assert_eq!(takes_part(&own, "a", &shows(33)), Some(true), "it answers 503 by itself");
        assert_eq!(takes_part(&own, "a", &Known::Read(None)), Some(true));
        assert_eq!(takes_part(&own, "a", &Known::NotYet("no answer".to_owned())), None);
        let opening = AuthoritySpec { promoted: Some(16), ..own.clone() };
        assert_eq!(takes_part(&opening, "a", &shows(16)), Some(true), "nobody is served here yet");
        assert_eq!(takes_part(&held("b", 17, 0), "a", &shows(0)), Some(true), "nobody has lost anything");
    }

    #[test]
    fn a_site_of_which_nothing_is_known_stays_as_it_stands() {
        let site = |off: bool| SiteWanted { weight: 100, off, gateway: None };
        let sites = BTreeMap::from([("a".to_owned(), site(false)), ("b".to_owned(), site(false))]);
        let wanted = Wanted { group: "pay".to_owned(), hosts: Vec::new(), epoch: Some(33), sites };
        let steering = Steering { wanted, holds: true, unknown: vec!["a".to_owned()] };
        for (there, on, off) in [(true, true, false), (true, false, true), (false, false, false)] {
            let stands = SiteStands { there, on, ..SiteStands::default() };
            let stands = Stands { sites: BTreeMap::from([("a".to_owned(), stands)]), ..Stands::default() };
            let beside = steering.beside(&stands);
            assert_eq!((beside.sites["a"].off, beside.sites["b"].off), (off, false), "{there} {on}");
        }
    }
}
