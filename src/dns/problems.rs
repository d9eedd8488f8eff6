//! Pure. What stands in the way of a move, before anybody needs one: each with a reason and a remedy.

use crate::api::{Problem, Severity};

use super::plan::{Refusal, plan};
use super::stands::{Fallback, Oddity, Rights, SiteStands, Stands};
use super::wanted::Wanted;

/// How long an answer may live in resolvers, in seconds, before a move is called slow.
pub const LONGEST_LIFETIME: i64 = 60;
/// Every how many seconds a site should be asked at the most.
pub const SLOWEST_CHECK: u32 = 60;

/// Something that is wrong with a group's traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// One word in CamelCase.
    pub reason: &'static str,
    /// What is wrong, and the way out.
    pub problem: Problem,
}

fn error(reason: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { reason, problem: Problem::error("spec.traffic", message, remedy) }
}

fn warning(reason: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { reason, problem: Problem::warning("spec.traffic", message, remedy) }
}

/// All that is wrong, worst first. `rights` where they were tried.
pub fn problems(stands: &Stands, wanted: &Wanted, rights: Option<&Rights>) -> Vec<Finding> {
    let mut found = Vec::new();
    if wanted.sites.is_empty() {
        found.push(error(
            "NoSites",
            "no site of the group can get traffic: the group has none",
            "name the sites in spec.sites",
        ));
    }
    let none = SiteStands::default();
    for (site, asked) in &wanted.sites {
        of_site(site, asked.off, stands.sites.get(site).unwrap_or(&none), wanted, &mut found);
    }
    of_fallback(stands, &mut found);
    found.extend(stands.oddities.iter().map(of_oddity));
    match plan(wanted, stands) {
        Err(refusal @ Refusal::Superseded { .. }) => found.push(error(
            "Superseded",
            refusal.to_string(),
            "wait until this site has read its peer; where no site knows that epoch, find out who wrote it before anything is moved",
        )),
        Err(refusal @ Refusal::OtherGroup { .. }) => found.push(error(
            "OtherGroup",
            refusal.to_string(),
            "correct the ids in spec.traffic of one of both groups",
        )),
        Ok(_) => {}
    }
    if let Some(rights) = rights {
        of_rights(rights, &mut found);
    }
    found.sort_by_key(|finding| finding.problem.severity);
    found
}

fn of_site(site: &str, off: bool, stands: &SiteStands, wanted: &Wanted, found: &mut Vec<Finding>) {
    if !stands.there {
        found.push(error(
            "PoolMissing",
            format!(
                "the provider has no pool or check for the site {site}: after a move nobody would reach it"
            ),
            format!("make {}, or correct its id in spec.traffic", wanted.name_of(site)),
        ));
        return;
    }
    if !stands.on && !off {
        found.push(error(
            "PinnedOff",
            format!("the site {site} is pinned off: a move to it would need the provider's API"),
            format!(
                "it is switched on by the site with authority; where that does not come, enable {} at the provider",
                wanted.name_of(site)
            ),
        ));
    }
    if stands.on && !stands.as_asked {
        found.push(warning(
            "NotAsAsked",
            format!("target, lifetime or check of the site {site} is not the one of spec.traffic"),
            "it is written by the site with authority; where it comes back, find out who else writes it",
        ));
    }
    match &stands.monitor {
        None => found.push(error(
            "MonitorMissing",
            format!(
                "nothing asks the site {site} whether it has authority: traffic would not move by itself"
            ),
            format!("attach a check of {} that accepts 200 alone to {}", wanted.path(), wanted.name_of(site)),
        )),
        Some(monitor) if monitor.path != wanted.path() => found.push(error(
            "MonitorElsewhere",
            format!(
                "the check of the site {site} asks {}, which does not say who has authority",
                monitor.path
            ),
            format!("let it ask {}", wanted.path()),
        )),
        Some(monitor) if !monitor.strict => found.push(error(
            "MonitorLenient",
            format!("the check of the site {site} takes other answers than 200 for good ones"),
            "let it accept 200 alone, without following redirects and not inverted",
        )),
        Some(monitor) if monitor.every > SLOWEST_CHECK => found.push(warning(
            "MonitorSlow",
            format!("the check of the site {site} asks every {} s only", monitor.every),
            format!("let it ask every {SLOWEST_CHECK} s or more often"),
        )),
        Some(_) => {}
    }
}

fn of_fallback(stands: &Stands, found: &mut Vec<Finding>) {
    let remedy = "name something that gives a fixed answer (a page that says 503) in spec.traffic: cloudflare.fallback or route53.fallback";
    match &stands.fallback {
        Fallback::FixedAnswer | Fallback::Unknown => {}
        Fallback::Site(site) => found.push(error(
            "LiveFallback",
            format!(
                "while no site answers well, requests go to the site {site} all the same, whose stores may be closed"
            ),
            remedy,
        )),
        Fallback::AllSites => found.push(warning(
            "LiveFallback",
            "while no site answers well, requests go to all of them all the same",
            remedy,
        )),
        Fallback::Unnamed(what) => found.push(warning(
            "UnknownFallback",
            format!("while no site answers well, requests go to {what}, of which the group says nothing"),
            remedy,
        )),
    }
}

fn of_oddity(oddity: &Oddity) -> Finding {
    match oddity {
        Oddity::Missing { what } => {
            error("NotThere", format!("{what} is not there"), "make it, or correct its id in spec.traffic")
        }
        Oddity::Disabled { what } => {
            error("Disabled", format!("{what} is switched off"), "switch it on at the provider")
        }
        Oddity::Leak { to, at } => error(
            "ResidencyLeak",
            format!(
                "{to} may get requests of the group by {at}, and is none of its sites: data could leave its residency"
            ),
            format!("take it out of {at}, or add its site to spec.sites"),
        ),
        Oddity::LeftOut { site, at } => error(
            "SiteLeftOut",
            format!("{at} leaves out the site {site}: after a move its requests would reach nobody"),
            format!("add the pool of {site} to {at}"),
        ),
        Oddity::Lifetime { name, seconds } => warning(
            "LivesTooLong",
            format!("resolvers may keep {name} for {seconds} s, and users stay at the old site as long"),
            format!("set its TTL to {LONGEST_LIFETIME} s or less, or let Cloudflare proxy it"),
        ),
        Oddity::Keeper { name, who } => error(
            "OtherController",
            format!("{who} keeps records of {name} as well, and would undo a move"),
            format!(
                "take {name} from it: with external-dns, annotate its source external-dns.alpha.kubernetes.io/controller: none, and remove the records that it made"
            ),
        ),
        Oddity::OtherName { name } => error(
            "OtherName",
            format!("the load balancer is for {name}, which is none of the group's hosts"),
            "correct spec.traffic.hosts or cloudflare.loadBalancer",
        ),
    }
}

fn of_rights(rights: &Rights, found: &mut Vec<Finding>) {
    if !rights.accepted {
        found.push(error(
            "NotAccepted",
            "the provider does not accept the credentials (traffic moves by health all the same)",
            "put valid ones into the Secret that spec.traffic names",
        ));
        return;
    }
    for what in &rights.cannot_write {
        found.push(error(
            "CannotWrite",
            format!("the credentials may not write {what}: the old site could not be pinned off"),
            "give them the right to write it: for Cloudflare Load Balancers: Edit on the zone and Load Balancing: Monitors And Pools: Edit on the account; for Route 53 route53:ChangeResourceRecordSets on the zone",
        ));
    }
    for what in &rights.sees_too_much {
        found.push(Finding {
            reason: "SeesTooMuch",
            problem: Problem::new(
                Severity::Warning,
                "spec.traffic",
                format!("the credentials reach further than the group: {what}"),
                "make credentials for this zone and account alone, and revoke these",
            ),
        });
    }
}

#[cfg(test)]
#[path = "problems_tests.rs"]
mod tests;
