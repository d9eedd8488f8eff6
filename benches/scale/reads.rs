//! The floor of a cold start: the same lists in a bare loop, as many at once and in the order that the operator reads, with its
//! rights; what comes is thrown away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use banyan::api::FinService;
use banyan::api::labels::MANAGED_BY_LABEL;
use banyan::finservice::children::Kind;
use banyan::finservice::write::act::api_resource;
use banyan::runtime::permits::LISTS_AT_ONCE;
use futures::io::{copy, sink};
use kube::Resource;
use kube::api::{ApiResource, DynamicObject, ListParams, Request};

use crate::ground::{self, Failure, Ground};

/// How long it takes to read the FinServices and all their children once.
pub async fn round(ground: &Ground) -> Result<Duration, Failure> {
    let ours = ListParams::default().labels(&format!("{MANAGED_BY_LABEL}=banyan"));
    let path = |resource: &ApiResource| Request::new(DynamicObject::url_path(resource, None));
    let services = path(&ApiResource::erase::<FinService>(&())).list(&ListParams::default());
    // Of passive ones only the metadata are read, once the FinServices have said what is on record.
    let children = Kind::reading_order().map(|kind| match kind.is_passive() {
        true => path(&api_resource(kind)).list_metadata(&ours),
        false => path(&api_resource(kind)).list(&ours),
    });
    let requests: Result<Vec<_>, _> = [services].into_iter().chain(children).collect();
    let (requests, client) = (Arc::new(requests?), ground.operator_client().await?);
    let began = Instant::now();
    ground::each(requests.len(), LISTS_AT_ONCE, move |number| {
        let (client, request) = (client.clone(), requests[number].clone());
        async move {
            copy(client.request_stream(request).await?, &mut sink()).await?;
            Ok(())
        }
    })
    .await?;
    Ok(began.elapsed())
}
