//! FinServices on a real API server: what a team sees.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::api::ListParams;
use serde_json::json;

use crate::world::{World, small, until};

#[tokio::test]
async fn a_service_becomes_ready_and_a_new_image_takes_over() {
    let world = World::new("takeover").await;
    world.apply("app", small()).await.unwrap();
    let first = world.ready("app").await.status.unwrap();
    let one = first.revisions.unwrap().stable.unwrap();
    assert_eq!(first.replicas.unwrap().summary, "2/2");
    assert_eq!(first.release.as_deref(), Some("app:1"));

    let mut spec = small();
    spec["image"] = json!("registry.example/app:2");
    world.apply("app", spec).await.unwrap();
    let second = world
        .status("app", "the new revision serves", |service| {
            service.status.as_ref().unwrap().revisions.as_ref().unwrap().stable.as_deref() != Some(&one)
        })
        .await;
    assert_eq!(second.status.unwrap().release.as_deref(), Some("app:2"));
    let selected = world.api::<Service>().get("app").await.unwrap().spec.unwrap().selector.unwrap();
    assert_ne!(selected["banyan.dev/revision"], one);
    // The old one keeps its pods for the grace, then has none, and stays.
    let deployments = world.api::<Deployment>();
    until("the old revision is at zero", async || {
        let old = deployments.get(&format!("app-{one}")).await.ok()?;
        (old.spec?.replicas == Some(0)).then_some(())
    })
    .await;
    assert_eq!(deployments.list(&ListParams::default()).await.unwrap().items.len(), 2);
}
