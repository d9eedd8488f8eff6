//! The traffic provider, and the group's own checks. Pure.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use super::found::{Found, Looked, Step, names};
use crate::api::Severity;
use crate::api::failovergroup::CheckFrom;

/// Checks them.
pub fn check(looked: &Looked<'_>) -> Vec<Found> {
    let mut found = provider(looked);
    found.extend(gateways(looked));
    found.extend(own(looked));
    found
}

fn provider(looked: &Looked<'_>) -> Vec<Found> {
    if looked.spec.traffic.as_ref().is_none_or(|traffic| traffic.external.is_some()) {
        return Vec::new();
    }
    let Some(traffic) = &looked.seen.asked.traffic else {
        return vec![Found::unknown(
            Step::Traffic,
            "traffic",
            "NotAsked",
            "the traffic provider has not been asked yet",
            "wait some seconds",
        )];
    };
    let mut away = None;
    if let Some(failed) = &traffic.failed {
        let message =
            |last: &str| format!("what stands at the traffic provider is not known{last}: {failed}");
        let remedy = "see the provider's status page and the Secret with its credentials. A move needs no write there: traffic moves all the same if all stood well before";
        if !traffic.read {
            let found = Found::unknown(Step::Traffic, "traffic", "ProviderUnreadable", message(""), remedy);
            return vec![found];
        }
        // What stood there moves traffic without the provider's API.
        let message = message(" any more; what was read last counts");
        away = Some(Found::warning(Step::Traffic, "traffic", "ProviderUnreadable", message, remedy));
    }
    // One check for each kind of finding: its first words, worst first.
    let mut by_reason: BTreeMap<&'static str, Found> = BTreeMap::new();
    for finding in &traffic.findings {
        let problem = &finding.problem;
        let (message, remedy) = (problem.message.clone(), problem.remedy.clone());
        let name = format!("traffic {}", finding.reason);
        let found = match problem.severity {
            Severity::Error => Found::failed(Step::Traffic, name, finding.reason, message, remedy),
            Severity::Warning => Found::warning(Step::Traffic, name, finding.reason, message, remedy),
            Severity::Info => continue,
        };
        by_reason.entry(finding.reason).or_insert(found);
    }
    if by_reason.is_empty() && away.is_none() {
        return vec![Found::passed(
            Step::Traffic,
            "traffic",
            "Stands",
            "all that carries traffic stands at the provider",
        )];
    }
    away.into_iter().chain(by_reason.into_values()).collect()
}

/// Whether each site has a gateway to which the others forward.
fn gateways(looked: &Looked<'_>) -> Option<Found> {
    looked.spec.traffic.as_ref()?;
    let has =
        |site: &&String| looked.seen.described.get(*site).is_none_or(|described| described.gateway.is_none());
    let missing: Vec<String> = looked.spec.sites.iter().filter(has).cloned().collect();
    Some(if missing.is_empty() {
        Found::passed(Step::Traffic, "gateways", "Described", "every site says where its gateway is")
    } else {
        let sites = names(&missing);
        Found::warning(
            Step::Traffic,
            "gateways",
            "NoGateway",
            format!(
                "no gateway is said for {sites}: the other site could not forward what still arrives there, nor ask it who has authority"
            ),
            format!("set spec.gateway.address in the CloudCluster of each of them: {sites}"),
        )
    })
}

/// The group's own checks.
fn own(looked: &Looked<'_>) -> Vec<Found> {
    let holds = looked.holds(&looked.seen.site);
    let due = |from: Option<CheckFrom>| from == Some(CheckFrom::Everywhere) || !holds;
    let checks = looked.spec.checks.iter().flatten().filter(|check| due(check.from));
    let one = |check: &crate::api::failovergroup::OwnCheck| {
        let name = format!("check {}", check.name);
        let field = format!("spec.checks[{}]", check.name);
        match looked.seen.asked.own.get(&check.name) {
            None => Found::unknown(
                Step::Preflight,
                name,
                "NotAsked",
                format!("{field} has not been made yet"),
                "wait some seconds",
            ),
            Some((at, _)) if looked.now.duration_since(*at) > stale(check) => Found::unknown(
                Step::Preflight,
                name,
                "MadeLongAgo",
                format!("{field} has not been made for a long time"),
                "see the operator's log",
            ),
            Some((_, Ok(()))) => {
                Found::passed(Step::Preflight, name, "Answers", format!("{field} answers from this site"))
            }
            Some((_, Err(error))) => Found::failed(
                Step::Preflight,
                name,
                "CheckFails",
                format!("{field} does not answer from this site: {error}"),
                "see whether the partner's firewall knows the addresses of this site (spec.egress of its CloudCluster)",
            ),
        }
    };
    checks.map(one).collect()
}

/// Three rounds in which it was not made.
fn stale(check: &crate::api::failovergroup::OwnCheck) -> SignedDuration {
    SignedDuration::try_from(check.every() * 3).unwrap_or(SignedDuration::MAX)
}
