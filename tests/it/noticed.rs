//! What a running operator does so that somebody notices: it names what is stuck, and tells whoever is to be told.

use std::net::TcpListener;

use banyan::api::FinService;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::world::{World, alone_with, rich, small, until};

#[tokio::test]
async fn what_is_stuck_is_named_and_told_once_until_it_is_well_or_gone() {
    let (tell, mut told) = mpsc::unbounded_channel::<Value>();
    let take = axum::routing::post(async move |axum::Json(body): axum::Json<Value>| {
        tell.send(body).expect("the test listens");
    });
    let hook = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", hook.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(hook, axum::Router::new().route("/hook", take)).await });
    let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let notifications = json!([{"name": "ops", "format": "JSON", "url": url}]).to_string();
    let alone = alone_with("noticed", |options| {
        options.listen = listen;
        options.notifications = notifications.parse().expect("notifications");
    })
    .await;
    let world = World::on(&alone.cloud, "noticed").await;
    let metrics = async || reqwest::get(format!("http://{listen}/metrics")).await.ok()?.text().await.ok();
    let stuck = async |name: &str| {
        let labels =
            format!(r#"kind="FinService",namespace="{}",name="{name}",reason="Problem""#, world.namespace);
        metrics().await.map(|text| text.contains(&format!("banyan_stuck_since_seconds{{{labels}}}")))
    };

    // Both name a ConfigMap and a Secret that are not there.
    world.apply("mended", rich()).await.unwrap();
    world.apply("deleted", rich()).await.unwrap();
    world.apply("well", small()).await.unwrap();
    for name in ["mended", "deleted"] {
        until(&format!("{name} is named"), async || stuck(name).await?.then_some(())).await;
    }
    assert_eq!(stuck("well").await, Some(false));
    let mut names = Vec::new();
    while names.len() < 2 {
        let body = told.recv().await.unwrap();
        let groups = body["groups"].as_array().unwrap().iter();
        for object in groups.filter(|group| group["reason"] == "Stalled").flat_map(|group| {
            assert_eq!(group["kind"], "FinService");
            group["objects"].as_array().unwrap().clone()
        }) {
            assert!(object["message"].as_str().unwrap().contains("settings"), "{object}");
            names.push(object["name"].as_str().unwrap().to_owned());
        }
    }
    names.sort();
    assert_eq!(names, ["deleted", "mended"]);

    world.api::<FinService>().delete("deleted", &DeleteParams::default()).await.unwrap();
    until("what is gone is not stuck", async || (!stuck("deleted").await?).then_some(())).await;
    world.references().await;
    until("what is mended is not stuck", async || (!stuck("mended").await?).then_some(())).await;
    alone.stop().await;
    while let Ok(body) = told.try_recv() {
        assert!(!body.to_string().contains("Stalled"), "each is told once: {body}");
    }
}
