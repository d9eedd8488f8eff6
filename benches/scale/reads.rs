//! The floor of a cold start: the same lists in a bare loop, as many at once and in the order that the operator reads, with its
//! rights; what comes is thrown away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use banyan::api::FinService;
use banyan::finservice::LISTS_AT_ONCE;
use banyan::finservice::act::api_resource;
use banyan::finservice::children::Kind;
use banyan::finservice::index::child::MANAGED_BY_LABEL;
use futures::io::{copy, sink};
use kube::Resource;
use kube::api::{ApiResource, DynamicObject, ListParams, Request};

use crate::ground::{self, Failure, Ground};

/// How long it takes to read the FinServices and all their children once.
pub async fn round(ground: &Ground) -> Result<Duration, Failure> {
    let ours = ListParams::default().labels(&format!("{MANAGED_BY_LABEL}=banyan"));
    let mut lists = vec![(ApiResource::erase::<FinService>(&()), ListParams::default())];
    lists.extend(Kind::longest_list_first().map(|kind| (api_resource(kind), ours.clone())));
    let request = |(kind, of): &(_, _)| Request::new(DynamicObject::url_path(kind, None)).list(of);
    let requests: Result<Vec<_>, _> = lists.iter().map(request).collect();
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
