//! Requests through this site's own gateway, before it gets traffic.

use reqwest::Method;

use super::super::outcome;
use super::{Done, Means};
use crate::api::FailoverStatus;
use crate::api::step::Step;
use crate::api::traffic::{Probe, Traffic, WriteMethod};
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
    // What `/authority` asks from then on.
    ask(means, traffic, probe, &probe.path, Method::GET).await
}

/// Sends the request that writes, once the stores are open here; `None` where the group names none, or it is skipped.
pub(super) async fn write(means: &Means<'_>, status: &FailoverStatus) -> Option<Done> {
    let traffic = means.seen.spec.traffic.as_ref()?;
    let probe = traffic.probe.as_ref()?;
    let write =
        probe.write.as_ref().filter(|_| !status.skipped.iter().any(|step| step == Step::Try.as_str()))?;
    let method = match write.method.unwrap_or_default() {
        WriteMethod::Post => Method::POST,
        WriteMethod::Put => Method::PUT,
        WriteMethod::Patch => Method::PATCH,
    };
    Some(ask(means, traffic, probe, &write.path, method).await)
}

/// Sends one.
async fn ask(means: &Means<'_>, traffic: &Traffic, probe: &Probe, path: &str, method: Method) -> Done {
    let site = &*means.context.site;
    let described = means.seen.group.described.get(site);
    let Some(gateway) = described.and_then(|described| described.gateway.clone()) else {
        return Done::not_yet(
            "NoGateway",
            format!("CloudCluster {site} has no spec.gateway: the application cannot be tried through it"),
            Some(means.command("skip --step try")),
        );
    };
    let host = probe.host(&traffic.hosts).unwrap_or_default();
    let application = Application::new(&gateway, path, host);
    let asked = match method == Method::GET {
        true => application.url.clone(),
        false => format!("{method} {}", application.url),
    };
    let http = builder().build().unwrap_or_default();
    match within(DEADLINE, is_well(application.request(&http, method))).await {
        Ok(()) => Done::Yes(format!("{asked} answers well")),
        Err(error) => outcome::fails(&means.of(""), &asked, &error.to_string()),
    }
}
