//! A group whose topics MirrorMaker 2 copies, which is played: there and back, its mirrors turn, and are never both let on.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use banyan::api::failover::MoveAction;
use banyan::sandbox::ends::server::{self, Served};
use banyan::sandbox::install;
use kube::Client;
use kube::api::{Api, DynamicObject, PostParams};
use serde_json::json;

use super::super::stage::{AWS, GCP};
use super::field::{Field, Kind, service};
use crate::peers::until;
use crate::strimzi;

/// Its name, and that of its namespace.
const NAME: &str = "mirrors";

/// The page of MirrorMakers that copy: both sites ask for it under one name, as they do in their own clusters.
async fn page() -> Served {
    let count = Arc::new(AtomicU64::new(1));
    let tell = move || {
        let count = count.fetch_add(1, Ordering::SeqCst);
        let metric = |source: &str, name: &str, value: u64| {
            let labels = format!("source=\"{source}\",target=\"here\",topic=\"pay.events\",partition=\"0\",");
            format!("kafka_connect_mirror_mirrorsourceconnector_{name}{{{labels}}} {value}.0\n")
        };
        let of = |source| metric(source, "record_count", count) + &metric(source, "record_age_ms", 200);
        std::future::ready(of("aws") + &of("gcp"))
    };
    server::serve(Router::new().fallback(tell)).await.expect("a server")
}

fn api(admin: &Client) -> Api<DynamicObject> {
    Api::namespaced_with(admin.clone(), NAME, &strimzi::resource())
}

/// Whether the connector of a cloud runs, as the status of its object tells.
async fn runs(field: &Field, place: usize) -> Option<bool> {
    let object = api(&field.admins[place]).get("mirror").await.ok()?;
    let state = object.data["status"]["connectors"][0]["connector"]["state"].as_str()?;
    Some(state == "RUNNING")
}

async fn copies_to(field: &Field, what: &str, place: usize) {
    let waited =
        until(what, async || (runs(field, place).await? && !runs(field, 1 - place).await?).then_some(()));
    if tokio::time::timeout(Duration::from_secs(90), waited).await.is_ok() {
        return;
    }
    let mut seen = Vec::new();
    for place in [AWS, GCP] {
        let object = api(&field.admins[place]).get("mirror").await.map(|object| object.data);
        let group = field.group_named(NAME, place).await.and_then(|group| group.status);
        seen.push((object, group.map(|status| (status.authority, status.checks, status.shown))));
    }
    panic!("waited in vain: {what}: {seen:#?}");
}

/// The site that has authority takes nothing in, the other one does. When authority moves, the new one stops first; the old one
/// waits until that is told, since topics that are called the same at both sites would go round.
pub async fn turn_with_authority(field: &Field) {
    let page = page().await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME}});
    let served = service(Kind { name: NAME, whole: false, standby: 100 }, &field.names);
    let works = Arc::new(AtomicBool::new(true));
    let mut players = Vec::new();
    for (place, source) in [(AWS, "gcp"), (GCP, "aws")] {
        let admin = &field.admins[place];
        strimzi::define(admin).await;
        install::apply(admin, &[namespace.clone(), served.clone()]).await.expect("a namespace");
        let made = async || api(admin).create(&PostParams::default(), &strimzi::mirror(source)).await.ok();
        until("the mirror is made", made).await;
        players.push(strimzi::play(api(admin), Arc::clone(&works)));
    }
    let metrics = json!({"url": format!("{}/metrics", page.url())});
    let group = json!({"apiVersion": "banyan.dev/v1alpha1", "kind": "FailoverGroup",
        "metadata": {"name": NAME, "namespace": "banyan-system"},
        "spec": {"sites": field.names, "initialSite": field.names[AWS], "services": {"namespaces": [NAME]},
            "stores": [{"name": "events", "maxLag": "60s",
                "kafkaMirror": {"connect": format!("{NAME}/mirror"), "metrics": metrics}}],
            "capacity": {"minimumPercent": 50}}});
    for admin in &field.admins {
        install::apply(admin, std::slice::from_ref(&group)).await.expect("a group");
    }
    copies_to(field, "the first site takes nothing in", GCP).await;

    let seen: Mutex<BTreeSet<[bool; 2]>> = Mutex::default();
    let watched = async {
        loop {
            if let (Some(aws), Some(gcp)) = (runs(field, AWS).await, runs(field, GCP).await) {
                seen.lock().expect("no panic").insert([aws, gcp]);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let moved = async {
        for (place, order) in [(GCP, "mirrors-there"), (AWS, "mirrors-back")] {
            field.could_move_named(NAME, place).await;
            field.order_for(NAME, place, MoveAction::Switchover, order).await;
            let status = field.done(place, order).await;
            copies_to(field, "the mirrors have turned", 1 - place).await;
            let waited = status.steps.iter().filter(|step| step.message.starts_with("it waited"));
            let waited: Vec<_> = waited.map(|step| step.message.as_str()).collect();
            println!("{order}: {:?} {waited:?}", status.took);
        }
    };
    tokio::select! {
        () = watched => {}
        () = moved => {}
    }
    let seen = seen.into_inner().expect("no panic");
    assert!(seen.contains(&[false, false]) && !seen.contains(&[true, true]), "{seen:?}");
    players.iter().for_each(tokio::task::JoinHandle::abort);
    field.delete_group(NAME).await;
}
