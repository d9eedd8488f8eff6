//! A group that every site serves (`active: All`): one leaves, and comes back.

use std::time::Duration;

use banyan::api::Authority;
use banyan::api::failover::{MoveAction, Phase};
use banyan::sandbox::install;
use kube::api::Api;
use serde_json::json;

use super::super::stage::{AWS, GCP};
use super::field::{Field, Kind, service};
use crate::peers::until;

/// Its name, and that of its namespace.
const NAME: &str = "everywhere";

/// What each site answers on `/authority`.
async fn answers(field: &Field) -> [u16; 2] {
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let mut statuses = [0; 2];
    for (status, gateway) in statuses.iter_mut().zip(&field.gateways) {
        let answer = http.get(format!("{}/authority/{NAME}", gateway.url())).send().await;
        *status = answer.map(|answer| answer.status().as_u16()).unwrap_or_default();
    }
    statuses
}

async fn are(field: &Field, what: &str, wanted: [u16; 2]) {
    until(what, async || (answers(field).await == wanted).then_some(())).await;
}

/// Who has authority, as a site shows it.
async fn holders(field: &Field, place: usize) -> Vec<String> {
    let api: Api<Authority> = Api::namespaced(field.admins[place].clone(), "banyan-system");
    api.get(NAME).await.map(|authority| authority.spec.holders).unwrap_or_default()
}

/// One site cannot be reached: a Failover takes authority from it, and asks nobody anything, since nothing is lost. It hears of
/// that once it can. A Switchover takes it in again, beside the other one.
pub async fn a_site_leaves_and_comes_back(field: &Field) {
    let group = json!({"apiVersion": "banyan.dev/v1alpha1", "kind": "FailoverGroup",
        "metadata": {"name": NAME, "namespace": "banyan-system"},
        "spec": {"sites": field.names, "active": "All", "services": {"namespaces": [NAME]}}});
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME}});
    let served = service(Kind { name: NAME, whole: false, standby: 100 }, &field.names);
    for place in [AWS, GCP] {
        let objects = [namespace.clone(), served.clone(), group.clone()];
        install::apply(&field.admins[place], &objects).await.expect("a group");
    }
    until("every site has authority", async || {
        (holders(field, AWS).await == field.names && holders(field, GCP).await == field.names).then_some(())
    })
    .await;
    are(field, "every site serves", [200, 200]).await;

    field.doors.iter().for_each(|door| door.silence());
    field.order_for(NAME, GCP, MoveAction::Failover, "alone").await;
    let status = field
        .comes_to(GCP, "alone", "it is done", |status| {
            (status.phase == Some(Phase::Done)).then(|| status.clone())
        })
        .await;
    let alone = [field.names[GCP].clone()];
    assert!(status.waits.iter().all(|wait| wait.person.is_none()), "nobody is asked: {:?}", status.waits);
    assert_eq!(holders(field, GCP).await, alone);
    assert_eq!(answers(field).await[GCP], 200);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(holders(field, AWS).await, field.names, "it cannot know");
    field.doors.iter().for_each(|door| door.heal());
    are(field, "who was away hears of it", [503, 200]).await;
    // Its operator, which asks apart from what answers, too.
    until("its operator has read it", async || (holders(field, AWS).await == alone).then_some(())).await;

    field.order_for(NAME, AWS, MoveAction::Switchover, "together").await;
    field
        .comes_to(AWS, "together", "it is done", |status| (status.phase == Some(Phase::Done)).then_some(()))
        .await;
    are(field, "every site serves again", [200, 200]).await;
    let mut both = holders(field, GCP).await;
    both.sort_unstable();
    let mut named = field.names.to_vec();
    named.sort_unstable();
    assert_eq!(both, named);
    println!("active everywhere: one site left after {:?}, and came back", status.took);
    field.delete_group(NAME).await;
}
