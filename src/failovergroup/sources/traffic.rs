//! Asks the traffic provider of a group: what stands there, and what would be in the way of a move. Nothing is written.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;

use super::group::{Ends, OfGroup, SECRETS_EVERY, rest};
use crate::api::Problem;
use crate::api::traffic::Traffic as Spec;
use crate::dns::{
    AccessKeys, Cloudflare, Gateway, Hidden, Provider, Rights, Route53, SiteWanted, Wanted, cloudflare,
    problems,
};
use crate::failovergroup::index::Traffic;
use crate::runtime::lock::lock;

/// How often. Health checks of the provider itself are what shifts traffic; this only looks whether they could.
const EVERY: Duration = Duration::from_secs(60);
/// After so many rounds it is tried anew what the credentials are good for.
const RIGHTS_EVERY: u32 = 60;

/// Asks for ever; ends where the group has no provider of ours.
pub async fn run(of: OfGroup) {
    let Some(spec) = of.spec.traffic.clone().filter(|spec| spec.external.is_none()) else { return };
    let mut made: Option<Provider> = None;
    let mut rights: Option<Rights> = None;
    for round in 0u32.. {
        if made.is_none() || round % SECRETS_EVERY == 0 {
            match make(&of, &spec).await {
                Ok(provider) => made = Some(provider),
                Err(problem) => {
                    let failed = Some(format!("{}; {}", problem.message, problem.remedy));
                    of.found(|asked| asked.traffic = Some(Traffic { failed, ..Traffic::default() }));
                    rest(EVERY, round).await;
                    continue;
                }
            }
        }
        let Some(provider) = &made else { continue };
        let wanted = wanted(&of, &spec);
        if rights.is_none() || round % RIGHTS_EVERY == 0 {
            rights = provider.rights(&wanted).await.ok();
        }
        let found = match provider.read(&wanted).await {
            Ok(stands) => Traffic {
                findings: problems(&stands, &wanted, rights.as_ref()),
                epoch: stands.mark.as_ref().map(|mark| mark.epoch),
                failed: None,
            },
            Err(error) => Traffic { failed: Some(error.to_string()), ..Traffic::default() },
        };
        if found.failed.is_some() {
            made = None;
        }
        of.found(|asked| asked.traffic = Some(found));
        rest(EVERY, round).await;
    }
}

/// How the traffic is to stand, by the Authority of this site.
fn wanted(of: &OfGroup, spec: &Spec) -> Wanted {
    let index = lock(&of.all.index);
    let (_, own, _) = index.observe(&of.name);
    let epoch = own.and_then(|own| own.spec.ok()).map(|own| own.epoch).filter(|epoch| *epoch > 0);
    drop(index);
    let sites = of.spec.sites.iter().map(|site| {
        let gateway = of.described(site).and_then(|site| Gateway::of_url(&site.gateway?));
        // Whose checks are well gets the traffic: all have the same weight, so that a move needs no write.
        (site.clone(), SiteWanted { weight: 100, off: false, gateway })
    });
    Wanted {
        group: of.name.to_string(),
        hosts: spec.hosts.clone(),
        epoch,
        sites: sites.collect::<BTreeMap<_, _>>(),
    }
}

async fn make(of: &OfGroup, spec: &Spec) -> Result<Provider, Problem> {
    let Ends { cloudflare: at_cloudflare, route53: at_route53 } = &of.all.ends;
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
                let source = "spec.traffic.route53.credentials";
                let data = of.secret(source, &named.secret_ref.name).await?;
                Some(keys(&data).ok_or_else(|| {
                    Problem::error(
                        source,
                        format!("the Secret {} holds no keys of AWS", named.secret_ref.name),
                        "put AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY there",
                    )
                })?)
            }
        };
        return Ok(Provider::Route53(Route53::new(traffic, keys.as_ref(), at_route53.as_deref()).await));
    }
    Ok(Provider::External)
}

/// Keys of AWS, under the names that its own tools use.
fn keys(data: &BTreeMap<String, ByteString>) -> Option<AccessKeys> {
    let text = |key: &str| {
        let text = std::str::from_utf8(&data.get(key)?.0).ok()?.trim();
        (!text.is_empty()).then(|| text.to_owned())
    };
    Some(AccessKeys {
        id: text("AWS_ACCESS_KEY_ID")?,
        secret: Hidden::new(&text("AWS_SECRET_ACCESS_KEY")?),
        session: text("AWS_SESSION_TOKEN").map(|token| Hidden::new(&token)),
    })
}
