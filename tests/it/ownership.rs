//! Whose an object is: drift is put right, strangers are left alone, what is handed over is taken
//! over without a gap, and a war is not fought.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use banyan::finservice::children::Kind;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::world::{World, condition, rich, small, until};

/// All children of a service, of every kind.
async fn children(world: &World, service: &str) -> Vec<(Kind, DynamicObject)> {
    let mut found = Vec::new();
    for kind in Kind::ALL {
        let api = world.dynamic(&kind.api_version(), kind.name());
        let list = ListParams::default().labels(&format!("banyan.dev/service={service}"));
        found.extend(api.list(&list).await.unwrap().items.into_iter().map(|object| (kind, object)));
    }
    found
}

#[tokio::test]
async fn every_child_that_is_deleted_or_edited_by_hand_is_restored() {
    let world = World::new("drift").await;
    world.references().await;
    world.apply("app", rich()).await.unwrap();
    world.ready("app").await;
    let all = children(&world, "app").await;
    let kinds: BTreeSet<&str> = all.iter().map(|(kind, _)| kind.name()).collect();
    assert!(kinds.len() >= 14, "the rich example has children of most kinds: {kinds:?}");
    let mut slowest = Duration::ZERO;
    for (kind, object) in &all {
        let api = world.dynamic(&kind.api_version(), kind.name());
        let name = object.name_any();
        // Edited: our label is overwritten by somebody else.
        let patch = json!({"metadata": {"labels": {"banyan.dev/service": "app", "app.kubernetes.io/name": "stolen"}}});
        let began = Instant::now();
        api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
        until(&format!("the label of {} {name} is restored", kind.name()), async || {
            let now = api.get_opt(&name).await.ok()??;
            (now.labels().get("app.kubernetes.io/name")? == "app").then_some(())
        })
        .await;
        slowest = slowest.max(began.elapsed());
        // Deleted.
        let began = Instant::now();
        api.delete(&name, &DeleteParams::background()).await.unwrap();
        until(&format!("{} {name} is made again", kind.name()), async || {
            let now = api.get_opt(&name).await.ok()??;
            (now.uid() != object.uid() && now.metadata.deletion_timestamp.is_none()).then_some(())
        })
        .await;
        slowest = slowest.max(began.elapsed());
    }
    println!("{} children of {} kinds restored, the slowest in {slowest:?}", all.len(), kinds.len());
    world.ready("app").await;
}

#[tokio::test]
async fn deletion_leaves_nothing_but_topics_that_are_to_stay() {
    let world = World::new("deletion").await;
    world.references().await;
    world.apply("app", rich()).await.unwrap();
    world.ready("app").await;
    let api = world.api::<banyan::api::FinService>();
    api.delete("app", &DeleteParams::default()).await.unwrap();
    until("all children are gone but the topic", async || {
        let left = children(&world, "app").await;
        left.iter().all(|(kind, _)| *kind == Kind::KafkaTopic).then_some(())
    })
    .await;
    let topics = children(&world, "app").await;
    assert_eq!(topics.iter().map(|(_, topic)| topic.name_any()).collect::<Vec<_>>(), ["payments-kept"]);
}

#[tokio::test]
async fn strangers_are_left_alone_and_named() {
    let world = World::new("strangers").await;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "app", "annotations": {
            "meta.helm.sh/release-name": "shop"}},
        "spec": {"selector": {"app": "old"}, "ports": [{"port": 80}]},
    });
    let route = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "app"},
        "spec": {"hosts": ["old"], "http": [{"route": [{"destination": {"host": "old"}}]}]},
    });
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "app"}});
    let mut before = Vec::new();
    for object in [service, route, account] {
        let api = world.dynamic(object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        before.push((api.clone(), api.create(&PostParams::default(), &object).await.unwrap()));
    }
    let mut spec = small();
    spec["mesh"] = json!({"provider": "Istio"});
    world.apply("app", spec).await.unwrap();
    let service = world
        .status("app", "its problems name three strangers", |service| {
            condition(service, "Stalled") == Some("True")
                && service.status.as_ref().unwrap().problems.len() >= 3
        })
        .await;
    let messages: Vec<String> = service.status.unwrap().problems.into_iter().map(|p| p.message).collect();
    assert!(
        messages.iter().any(|m| m.contains("Service") && m.contains("the Helm release shop")),
        "{messages:?}"
    );
    assert!(messages.iter().any(|m| m.contains("VirtualService")), "{messages:?}");
    for (api, old) in before {
        let now = api.get("app").await.unwrap();
        assert_eq!((now.uid(), now.data.clone()), (old.uid(), old.data.clone()), "it is as it was");
        assert!(now.owner_references().is_empty());
    }
}

#[tokio::test]
async fn what_is_handed_over_is_taken_over_without_deletion_and_without_a_gap() {
    let world = World::new("adopt").await;
    // What was there before: a Deployment and its Service, as somebody applied them.
    let labels = json!({"app": "old"});
    let deployment: Deployment = serde_json::from_value(json!({
        "metadata": {"name": "app"},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "old", "image": "registry.example/old:1"}]}}},
    }))
    .unwrap();
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": "app"},
        "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]},
    }))
    .unwrap();
    let deployments = world.api::<Deployment>();
    let services = world.api::<Service>();
    deployments.create(&PostParams::default(), &deployment).await.unwrap();
    let old = services.create(&PostParams::default(), &service).await.unwrap();
    until("the old pods are Ready", async || {
        (deployments.get("app").await.ok()?.status?.ready_replicas? == 2).then_some(())
    })
    .await;
    // From now on there is to be a Ready endpoint at every moment.
    let stop = Arc::new(AtomicBool::new(false));
    let looks = Arc::new(AtomicUsize::new(0));
    let watcher = tokio::spawn({
        let (client, namespace) = (world.client.clone(), world.namespace.clone());
        let (stop, looks) = (Arc::clone(&stop), Arc::clone(&looks));
        async move {
            let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
            let services: Api<Service> = Api::namespaced(client, &namespace);
            let mut gaps = 0;
            while !stop.load(Ordering::Relaxed) {
                let selector = services.get("app").await.unwrap().spec.unwrap().selector.unwrap();
                let selector: Vec<String> = selector.iter().map(|(k, v)| format!("{k}={v}")).collect();
                let found = pods.list(&ListParams::default().labels(&selector.join(","))).await.unwrap();
                let ready = |pod: &Pod| {
                    let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
                    conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
                        && pod.metadata.deletion_timestamp.is_none()
                };
                gaps += usize::from(!found.items.iter().any(ready));
                looks.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            gaps
        }
    });
    world.apply("app", small()).await.unwrap();
    let handed = Patch::Merge(json!({"metadata": {"annotations": {"banyan.dev/adopt": "app"}}}));
    deployments.patch("app", &PatchParams::default(), &handed).await.unwrap();
    services.patch("app", &PatchParams::default(), &handed).await.unwrap();
    world.ready("app").await;
    let taken = until("the Service selects the new pods", async || {
        let now = services.get("app").await.ok()?;
        now.spec.as_ref()?.selector.as_ref()?.contains_key("banyan.dev/revision").then_some(now)
    })
    .await;
    assert_eq!(taken.uid(), old.uid(), "it was not deleted");
    let ports: BTreeSet<i32> = taken.spec.unwrap().ports.unwrap().iter().map(|port| port.port).collect();
    assert_eq!(ports, BTreeSet::from([80, 8080]), "callers keep the port that they know");
    until("the old Deployment is at zero", async || {
        (deployments.get("app").await.ok()?.spec?.replicas? == 0).then_some(())
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    assert_eq!(watcher.await.unwrap(), 0, "of {} looks", looks.load(Ordering::Relaxed));
}

#[tokio::test]
async fn a_manager_that_never_gives_in_is_named_and_left() {
    let world = World::new("war").await;
    world.apply("app", small()).await.unwrap();
    world.ready("app").await;
    let services = world.api::<Service>();
    let stop = Arc::new(AtomicBool::new(false));
    let rival = tokio::spawn({
        let (services, stop) = (services.clone(), Arc::clone(&stop));
        async move {
            let mut writes = 0;
            while !stop.load(Ordering::Relaxed) {
                let now = services.get("app").await.unwrap();
                if now.labels().get("app.kubernetes.io/name").is_none_or(|name| name != "mine") {
                    let patch = json!({"metadata": {"labels": {"app.kubernetes.io/name": "mine"}}});
                    let rival = PatchParams { field_manager: Some("rival".into()), ..PatchParams::default() };
                    services.patch("app", &rival, &Patch::Merge(&patch)).await.unwrap();
                    writes += 1;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            writes
        }
    });
    let service = world
        .status("app", "the rival is named", |service| {
            service
                .status
                .as_ref()
                .unwrap()
                .problems
                .iter()
                .any(|p| p.message.contains("rival keeps changing"))
        })
        .await;
    assert_eq!(condition(&service, "Stalled"), Some("True"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    stop.store(true, Ordering::Relaxed);
    // Ours: the first apply after each of its writes, three or four times (the first may be taken for
    // a change of ours), and then no more.
    let writes: i32 = rival.await.unwrap();
    assert!((3..=5).contains(&writes), "{writes} writes of the rival");
    let now: Service = services.get("app").await.unwrap();
    assert_eq!(now.labels()["app.kubernetes.io/name"], "mine");
}
