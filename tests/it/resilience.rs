//! What harms nobody else: an object that does not parse, an API that is not there yet, an operator
//! that is killed and one that is upgraded.

use std::time::Duration;

use banyan::sandbox::install;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::world::{World, alone, condition, small, start_operator, until};

/// One cloud for all of these, since they change what the whole cluster has.
#[tokio::test]
async fn what_is_broken_or_missing_harms_only_itself() {
    let cloud = alone("resilience").await;
    let world = World::on(&cloud.cloud, "resilience").await;

    // Istio is not installed: a problem says so, and all else works.
    let mut meshed = small();
    meshed["mesh"] = json!({"provider": "Istio"});
    world.apply("meshed", meshed).await.unwrap();
    let service = world.ready("meshed").await;
    let problems = service.status.unwrap().problems;
    assert!(problems.iter().any(|p| p.message.contains("Istio is not installed")), "{problems:?}");

    // A definition that lets through what this operator cannot read, as a newer one might.
    let crds: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    let whole = crds.get("finservices.banyan.dev").await.unwrap();
    let mut lax = serde_json::to_value(strip(whole.clone())).unwrap();
    lax["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] =
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let replace = json!({"spec": {"versions": lax["spec"]["versions"]}});
    crds.patch("finservices.banyan.dev", &PatchParams::default(), &Patch::Merge(&replace)).await.unwrap();
    let bad = json!({"owner": "team", "image": "registry.example/app:1", "ports": "eighty"});
    let object = json!({"apiVersion": "banyan.dev/v1alpha1", "kind": "FinService",
        "metadata": {"name": "bad"}, "spec": bad});
    let dynamic = world.dynamic("banyan.dev/v1alpha1", "FinService");
    until("the bad object is taken", async || {
        dynamic.patch("bad", &PatchParams::apply("team").force(), &Patch::Apply(&object)).await.ok()
    })
    .await;
    let refused = until("it says that it cannot be read", async || {
        let now: DynamicObject = dynamic.get("bad").await.ok()?;
        let problem = now.data.pointer("/status/problems/0/message")?.as_str()?.to_owned();
        Some(problem)
    })
    .await;
    assert!(refused.contains("the spec cannot be read") && refused.contains("eighty"), "{refused}");
    world.apply("good", small()).await.unwrap();
    world.ready("good").await;
    // Corrected, it is like any other.
    world.apply("bad", small()).await.unwrap();
    world.ready("bad").await;
    let back = json!({"spec": {"versions": strip(whole).spec.versions}});
    crds.patch("finservices.banyan.dev", &PatchParams::default(), &Patch::Merge(&back)).await.unwrap();

    // The optional APIs come later: used without a restart.
    let definitions = crate::world::optional_definitions().await;
    install::definitions(&world.client, &definitions).await.unwrap();
    let service = world
        .status("meshed", "Istio is used", |service| {
            service.status.as_ref().unwrap().problems.iter().all(|p| !p.message.contains("not installed"))
        })
        .await;
    assert_eq!(condition(&service, "Ready"), Some("True"));
    let routes = world.dynamic("networking.istio.io/v1", "VirtualService");
    until("the route is there", async || routes.get_opt("meshed").await.ok()?.map(|_| ())).await;

    // The operator is ended and another begins: nothing is written, no pod is restarted.
    world.ready("meshed").await;
    let pods: Api<Pod> = world.api();
    let uids = async || {
        let mut uids: Vec<_> =
            pods.list(&ListParams::default()).await.unwrap().iter().filter_map(ResourceExt::uid).collect();
        uids.sort();
        uids
    };
    let before = uids().await;
    let cloud = cloud.end_operator().await;
    let mark = cloud.cloud.audit_mark();
    let shutdown = CancellationToken::new();
    let operator = start_operator(&cloud.cloud, shutdown.clone(), "second");
    tokio::time::sleep(Duration::from_secs(20)).await;
    let audit = cloud.cloud.audit_since(mark).unwrap();
    let writes: Vec<_> = audit.writes().into_iter().filter(|request| request.resource != "leases").collect();
    assert!(audit.requests.iter().any(|request| request.resource == "finservices"), "it has begun");
    assert!(writes.is_empty(), "{writes:?}");
    assert_eq!(uids().await, before);
    shutdown.cancel();
    tokio::task::spawn_blocking(move || operator.join()).await.unwrap().unwrap();
    cloud.stop().await;
}

fn strip(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    crd.metadata.resource_version = None;
    crd.metadata.managed_fields = None;
    crd.status = None;
    crd
}
