//! Hosts and paths that are another's. Pure.

use crate::api::Problem;
use crate::finservice::index::claims::{Claim, Holder, Lost};

/// What is told to a FinService whose ingress claims it.
pub fn of_ingress(namespace: &str, lost: &Lost) -> Problem {
    let (words, remedy) = told(namespace, lost);
    let remedy = remedy
        .unwrap_or_else(|| "Choose another host or path, or remove it from the other FinService.".to_owned());
    let older = if matches!(lost.to, Holder::Service(_)) { ", which is older" } else { "" };
    Problem::error("spec.ingress", format!("{words}{older}; it is not routed here"), remedy)
}

/// What is told to a CanaryRollout whose preview claims it.
pub fn of_preview(namespace: &str, lost: &Lost) -> Problem {
    let (words, remedy) = told(namespace, lost);
    let remedy =
        remedy.unwrap_or_else(|| "Choose a host that nothing else is served or shown under.".to_owned());
    Problem::error(
        "spec.strategy.blueGreen.previewHost",
        format!("{words}: no preview is made there"),
        remedy,
    )
}

/// Whose it is; and what there is to be done, if it is more than to choose another one.
fn told(namespace: &str, Lost { claim, to }: &Lost) -> (String, Option<String>) {
    let Claim { gateway, host, path } = claim;
    match to {
        Holder::Service(holder) => {
            (format!("{host}{path} at gateway {gateway} belongs to FinService {holder}"), None)
        }
        Holder::Namespace(first) => (
            format!(
                "host {host} at gateway {gateway} belongs to namespace {}, whose FinService {} was the first to claim it",
                first.namespace, first.name
            ),
            Some(format!(
                "Choose another host; or have the installer give it to both in hosts of the operator's chart, as {{host: \
                 {host}, namespaces: [{}, {namespace}]}}.",
                first.namespace
            )),
        ),
        Holder::Given(namespaces) => (
            format!("host {host} is given to namespaces {}, and not to {namespace}", namespaces.join(", ")),
            Some(format!(
                "Choose another host; or have the installer add {namespace} to namespaces of {host} in hosts of the operator's \
                 chart."
            )),
        ),
    }
}
