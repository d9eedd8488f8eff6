//! A group whose data lies in Clusters of CloudNativePG, which are played: there and back, and away from a cloud that is silent.

use banyan::api::FailoverStatus;
use banyan::api::failover::{FenceLevel, MoveAction};
use banyan::sandbox::install;
use serde_json::json;

use super::super::stage::{AWS, GCP};
use super::field::{Field, Kind, asks, service};
use crate::cnpg::player::{Pair, Played};
use crate::peers::until;

/// Its name, and that of its namespace.
const NAME: &str = "clusters";

/// All is told of the store that is: how it was closed, with which token, and that nobody wrote into it from here.
fn told(status: &FailoverStatus, level: Option<FenceLevel>) {
    let store = &status.stores[0];
    assert_eq!((store.level, store.token.is_some()), (level, level.is_some()), "{status:#?}");
    assert_eq!((store.promoted, store.opened, store.verified), (Some(true), Some(true), None), "{status:#?}");
}

/// Whoever was the primary follows, and says so.
async fn follows(old: &Played, new: &Played) {
    until("the old primary follows", async || {
        (!old.can_write() && new.can_write() && old.is_up() && old.position() + 0x4000 > new.position())
            .then_some(())
    })
    .await;
}

/// A Switchover there and back loses nothing, under a client that writes; a Failover away from a cloud that is silent asks
/// whether nobody writes there, and whether what is not known may be lost. Once it is heard again, it closes and follows.
pub async fn of_cloudnativepg_move(field: &Field) {
    let site = |place: usize| field.names[place].clone();
    let stores = json!([{"name": "db", "cloudnativepg": {"cluster": format!("{NAME}/ledger-aws"),
        "sites": {site(GCP): format!("{NAME}/ledger-gcp")}}}]);
    let group = json!({"apiVersion": "banyan.dev/v1alpha1", "kind": "FailoverGroup",
        "metadata": {"name": NAME, "namespace": "banyan-system"},
        "spec": {"sites": field.names, "initialSite": site(AWS), "services": {"namespaces": [NAME]},
            "stores": stores, "capacity": {"minimumPercent": 50}}});
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME}});
    for admin in &field.admins {
        install::apply(admin, std::slice::from_ref(&namespace)).await.expect("a namespace");
    }
    let pair = Pair::of([&field.admins[AWS], &field.admins[GCP]], NAME.to_owned()).await;
    let clusters = [&pair.aws, &pair.gcp];
    let served = service(Kind { name: NAME, whole: false, standby: 100 }, &field.names);
    for admin in &field.admins {
        install::apply(admin, &[served.clone(), group.clone()]).await.expect("a group");
    }
    let client = pair.client_that_writes();

    for (place, order) in [(GCP, "clusters-there"), (AWS, "clusters-back")] {
        field.could_move_named(NAME, place).await;
        let (old, new) = (clusters[1 - place], clusters[place]);
        let promotions = new.promotions();
        field.order_for(NAME, place, MoveAction::Switchover, order).await;
        let status = field.done(place, order).await;
        told(&status, Some(FenceLevel::Acknowledged));
        assert_eq!(new.promotions(), promotions + 1, "{status:#?}");
        let sealed = status.stores[0].sealed.clone().expect("a position");
        assert_eq!(
            sealed,
            banyan::stores::Position(new.promoted_at()).to_string(),
            "all of it was here, and no more"
        );
        follows(old, new).await;
        println!("{order}: closed and promoted at {sealed}, {:?}", status.took);
    }

    field.could_move_named(NAME, GCP).await;
    field.doors.iter().for_each(|door| door.silence());
    pair.link(false);
    let order = "clusters-away";
    field.order_for(NAME, GCP, MoveAction::Failover, order).await;
    let next = field.comes_to(GCP, order, "it asks whether nobody writes there", asks("assert-fenced")).await;
    assert!(!pair.gcp.can_write());
    field.types_next(GCP, &next).await;
    let next = field.comes_to(GCP, order, "it asks whether that may be lost", asks("accept-data-loss")).await;
    assert!(!pair.gcp.can_write());
    field.types_next(GCP, &next).await;
    let opened =
        |status: &FailoverStatus| (status.stores.first()?.opened == Some(true)).then(|| status.clone());
    let status = field.comes_to(GCP, order, "it is open", opened).await;
    assert!(pair.gcp.can_write(), "{status:#?}");
    assert!(status.stores[0].token.is_none(), "{status:#?}");
    field.doors.iter().for_each(|door| door.heal());
    pair.link(true);
    field.done(GCP, order).await;
    follows(&pair.aws, &pair.gcp).await;
    drop(client);
    println!("{order}: {:?}", status.took);
    field.delete_group(NAME).await;
}
