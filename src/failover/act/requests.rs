//! Requests through this site's own gateway, before it gets traffic.

use super::super::outcome;
use super::{Done, Means};
use crate::authority::book::Application;
use crate::runtime::fetch::{builder, is_well};
use crate::runtime::remote::{DEADLINE, within};

/// Sends the request that the group names; without one nothing is tried.
pub(super) async fn send(means: &Means<'_>) -> Done {
    let Some(traffic) = &means.seen.spec.traffic else {
        return Done::Yes("the group has no traffic: nothing is tried".to_owned());
    };
    let Some(probe) = &traffic.probe else {
        return Done::Yes("the group has no traffic.probe: nothing is tried".to_owned());
    };
    let site = &*means.context.site;
    let described = means.seen.group.described.get(site);
    let Some(gateway) = described.and_then(|described| described.gateway.clone()) else {
        return Done::not_yet(
            "NoGateway",
            format!("CloudCluster {site} has no spec.gateway: the application cannot be tried through it"),
            Some(means.command("skip --step try")),
        );
    };
    // What `/authority` asks from then on.
    let host = probe.host(&traffic.hosts).unwrap_or_default();
    let application = Application::new(&gateway, &probe.path, host);
    let url = &application.url;
    let http = builder().build().unwrap_or_default();
    match within(DEADLINE, is_well(application.request(&http))).await {
        Ok(()) => Done::Yes(format!("{url} answers well")),
        Err(error) => outcome::fails(&means.of(""), url, &error.to_string()),
    }
}
