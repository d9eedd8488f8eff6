//! What a FinService does on a real API server: configuration, Secrets, scaling, drains, conflicts.

use std::collections::BTreeSet;
use std::time::Duration;

use banyan::api::CloudCluster;
use banyan::sandbox::install;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret};
use kube::api::{EvictParams, ListParams, Patch, PatchParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::world::{World, condition, small, until};

async fn put<K>(world: &World, object: serde_json::Value) -> K
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>
        + serde::de::DeserializeOwned
        + serde::Serialize
        + Clone
        + std::fmt::Debug,
    K::DynamicType: Default,
{
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    let api = world.api::<K>();
    api.patch(&name, &PatchParams::apply("team").force(), &Patch::Apply(&object)).await.unwrap()
}

#[tokio::test]
async fn a_changed_config_map_begins_a_revision_and_the_old_one_keeps_its_copy() {
    let world = World::new("config").await;
    let settings = |value: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"K": value}});
    let mut spec = small();
    spec["envFrom"] = json!([{"configMapRef": {"name": "settings"}}]);
    world.apply("app", spec).await.unwrap();
    let blocked =
        world.status("app", "it waits for its ConfigMap", |s| condition(s, "Stalled") == Some("True")).await;
    assert!(blocked.status.unwrap().problems[0].message.contains("ConfigMap settings does not exist"));
    put::<ConfigMap>(&world, settings("one")).await;
    let first = world.ready("app").await.status.unwrap().revisions.unwrap().stable.unwrap();
    put::<ConfigMap>(&world, settings("two")).await;
    world
        .status("app", "a new revision serves", |service| {
            let revisions = service.status.as_ref().unwrap().revisions.as_ref();
            revisions.is_some_and(|r| r.stable.is_some() && r.stable.as_deref() != Some(&first))
        })
        .await;
    // A pod of the old revision that starts now still reads the old copy.
    let old = world.api::<Deployment>().get(&format!("app-{first}")).await.unwrap();
    let container = &old.spec.unwrap().template.spec.unwrap().containers[0];
    let copy = container.env_from.as_ref().unwrap()[0].config_map_ref.as_ref().unwrap().name.clone();
    assert_ne!(copy, "settings");
    let copy = world.api::<ConfigMap>().get(&copy).await.unwrap();
    assert_eq!((copy.data.unwrap()["K"].as_str(), copy.immutable), ("one", Some(true)));
    // Even if that copy is deleted now that the original says something else.
    let name = copy.metadata.name.unwrap();
    world.api::<ConfigMap>().delete(&name, &Default::default()).await.unwrap();
    let again = until("the copy is made again", async || {
        let now = world.api::<ConfigMap>().get_opt(&name).await.ok()??;
        (now.metadata.uid != copy.metadata.uid).then_some(now)
    })
    .await;
    assert_eq!(again.data.unwrap()["K"], "one");
}

/// Faults 5.9 and 6.1: what scheduler and kubelet say of the first revision, in their own words, with the pod's name.
#[tokio::test]
async fn faults_5_9_what_keeps_pods_from_starting_is_told_in_the_words_of_those_who_know() {
    let world = World::new("words").await;
    let annotated = |value: &str| json!({"sandbox.banyan.dev/fail": value});
    let cases = [
        (
            "pull",
            "podAnnotations",
            annotated("Pull"),
            "spec.image",
            "ErrImagePull: failed to pull and unpack image",
        ),
        ("memory", "podAnnotations", annotated("Memory"), "spec.resources", "exit code 137 (OOMKilled)"),
        (
            "large",
            "resources",
            json!({"requests": {"cpu": "5000"}}),
            "spec.resources, spec.scheduling, spec.volumes",
            "Unschedulable: 0/",
        ),
        (
            "volume",
            "volumes",
            json!([{"name": "j", "mountPath": "/j", "persistentVolumeClaim": "journal"}]),
            "spec.resources, spec.scheduling, spec.volumes",
            "persistentvolumeclaim \"journal\" not found",
        ),
        ("root", "image", json!("nginx:1.29"), "spec.security", "image will run as root"),
    ];
    let begun = std::time::Instant::now();
    for (name, field, value, ..) in &cases {
        let mut spec = small();
        spec[field] = value.clone();
        world.apply(name, spec).await.unwrap();
    }
    for (name, _, _, source, words) in cases {
        let told = world
            .status(name, words, |service| {
                let problems = service.status.iter().flat_map(|status| &status.problems);
                problems.into_iter().any(|problem| problem.message.contains(words))
            })
            .await;
        let problems = told.status.unwrap().problems;
        let problem = problems.iter().find(|problem| problem.message.contains(words)).unwrap();
        assert_eq!(problem.source, source, "{problem:?}");
        assert!(problem.message.starts_with(&format!("pod {name}-")), "{problem:?}");
        assert!(!problem.remedy.contains("serves on"), "there is none before: {problem:?}");
    }
    println!("all are told {:?} after the first was applied", begun.elapsed());
}

/// Faults 5.3: pods that are Ready, and that nobody in the mesh can call.
#[tokio::test]
async fn faults_5_3_pods_without_a_proxy_are_told_also_where_all_are_ready() {
    let world = World::new("bare").await;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    let without = Patch::Merge(json!({"metadata": {"labels": {"istio-injection": null}}}));
    namespaces.patch(&world.namespace, &PatchParams::default(), &without).await.unwrap();
    let mut spec = small();
    spec["mesh"] = json!({"provider": "Istio", "mtls": "Strict"});
    world.apply("app", spec).await.unwrap();
    let told = world
        .status("app", "its pods have no proxy", |service| {
            let problems = service.status.iter().flat_map(|status| &status.problems);
            problems.into_iter().any(|problem| problem.message.contains("have no proxy of Istio"))
        })
        .await;
    assert_eq!(condition(&told, "Ready"), Some("False"));
}

#[tokio::test]
async fn a_changed_secret_restarts_pods_in_place_or_begins_a_revision_or_does_nothing() {
    let world = World::new("secret").await;
    let secret = |value: &str, label: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db", "labels": {"l": label}},
            "stringData": {"password": value}})
    };
    put::<Secret>(&world, secret("one", "a")).await;
    for on in ["Restart", "Rollout", "Ignore"] {
        let mut spec = small();
        spec["onSecretChange"] = json!(on);
        spec["env"] =
            json!([{"name": "P", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}]);
        world.apply(&format!("on-{}", on.to_lowercase()), spec).await.unwrap();
    }
    let stable =
        async |name: &str| world.ready(name).await.status.unwrap().revisions.unwrap().stable.unwrap();
    let before = [stable("on-restart").await, stable("on-rollout").await, stable("on-ignore").await];
    let replica_sets = async |name: &str| -> usize {
        let list = ListParams::default().labels(&format!("banyan.dev/service={name}"));
        world.api::<ReplicaSet>().list(&list).await.unwrap().items.len()
    };
    // A label is no content.
    put::<Secret>(&world, secret("one", "b")).await;
    put::<Secret>(&world, secret("two", "b")).await;
    until("the pods of on-restart are replaced in place", async || {
        (replica_sets("on-restart").await == 2).then_some(())
    })
    .await;
    until("on-rollout begins a revision", async || (stable("on-rollout").await != before[1]).then_some(()))
        .await;
    assert_eq!(stable("on-restart").await, before[0], "in the same revision");
    assert_eq!((stable("on-ignore").await, replica_sets("on-ignore").await), (before[2].clone(), 1));
}

#[tokio::test]
async fn between_autoscaler_and_fixed_number_pods_never_pass_through_one() {
    let world = World::new("scale").await;
    let mut spec = small();
    spec["scale"] = json!({"replicas": 4});
    world.apply("app", spec.clone()).await.unwrap();
    let stable = world.ready("app").await.status.unwrap().revisions.unwrap().stable.unwrap();
    let deployments = world.api::<Deployment>();
    let name = format!("app-{stable}");
    let version = deployments.get(&name).await.unwrap().resource_version().unwrap();
    let field = WatchParams::default().fields(&format!("metadata.name={name}")).timeout(120);
    let mut events = deployments.watch(&field, &version).await.unwrap().boxed();
    spec["scale"] = json!({"min": 3, "max": 8});
    world.apply("app", spec.clone()).await.unwrap();
    let hpas = world.dynamic("autoscaling/v2", "HorizontalPodAutoscaler");
    until("the autoscaler is there", async || hpas.get_opt(&name).await.ok()?.map(|_| ())).await;
    world.ready("app").await;
    spec["scale"] = json!({"replicas": 5});
    world.apply("app", spec.clone()).await.unwrap();
    until("the autoscaler is gone", async || hpas.get_opt(&name).await.ok()?.is_none().then_some(())).await;
    let mut seen = BTreeSet::new();
    while let Some(event) = events.try_next().await.unwrap() {
        if let WatchEvent::Modified(deployment) = event {
            let replicas = deployment.spec.unwrap().replicas.unwrap();
            seen.insert(replicas);
            if replicas == 5 {
                break;
            }
        }
    }
    assert!(seen.iter().all(|replicas| *replicas >= 3), "{seen:?}");
}

#[tokio::test]
async fn draining_a_node_honours_budgets_and_never_blocks_at_one_replica() {
    let world = World::new("drain").await;
    let mut three = small();
    three["scale"] = json!({"replicas": 3});
    let mut one = small();
    one["scale"] = json!({"replicas": 1});
    world.apply("three", three).await.unwrap();
    world.apply("one", one).await.unwrap();
    world.ready("three").await;
    world.ready("one").await;
    let pods = world.api::<Pod>();
    let ready = |pod: &&Pod| {
        let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        pod.metadata.deletion_timestamp.is_none()
            && conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
    };
    let of = |service: &str| ListParams::default().labels(&format!("banyan.dev/service={service}"));
    let nodes: BTreeSet<String> = pods
        .list(&ListParams::default())
        .await
        .unwrap()
        .into_iter()
        .filter_map(|pod| pod.spec?.node_name)
        .collect();
    let mut evicted = 0;
    for node in nodes {
        let on_node = ListParams::default().fields(&format!("spec.nodeName={node}"));
        for pod in pods.list(&on_node).await.unwrap() {
            until(&format!("{} can be evicted", pod.name_any()), async || {
                match pods.evict(&pod.name_any(), &EvictParams::default()).await {
                    Ok(_) => Some(()),
                    // The budget allows no more just now: 429, and the drain tries again.
                    Err(kube::Error::Api(status)) if status.code == 429 => None,
                    Err(kube::Error::Api(status)) if status.code == 404 => Some(()),
                    Err(error) => panic!("{error}"),
                }
            })
            .await;
            evicted += 1;
            let left = pods.list(&of("three")).await.unwrap();
            assert!(left.items.iter().filter(ready).count() >= 2, "the budget holds two of three");
        }
    }
    assert!(evicted >= 4, "{evicted}");
    world.ready("three").await;
    world.ready("one").await;
}

#[tokio::test]
async fn two_services_cannot_claim_one_host_and_path() {
    let world = World::new("claims").await;
    let host = format!("{}.finflow.example", world.namespace);
    let with = |paths: serde_json::Value| {
        let mut spec = small();
        spec["mesh"] = json!({"provider": "Istio"});
        spec["ingress"] = json!({"hosts": [host], "paths": paths, "gateway": "istio-system/public"});
        spec
    };
    world.apply("older", with(json!(["/pay"]))).await.unwrap();
    world.ready("older").await;
    tokio::time::sleep(Duration::from_millis(1100)).await; // creation times are whole seconds
    world.apply("younger", with(json!(["/pay", "/other"]))).await.unwrap();
    let younger = world.status("younger", "it is refused", |s| condition(s, "Stalled") == Some("True")).await;
    let problem = &younger.status.unwrap().problems[0];
    assert!(
        problem.message.contains(&format!("belongs to FinService {}/older, which is older", world.namespace)),
        "{problem:?}"
    );
    world.ready("older").await;
    // The way out that the remedy names.
    world.apply("younger", with(json!(["/other"]))).await.unwrap();
    world.ready("younger").await;
}

#[tokio::test]
async fn a_call_cycle_is_reported_on_each_member() {
    let world = World::new("cycle").await;
    for (name, callee) in [("fraud", "account"), ("account", "notification"), ("notification", "fraud")] {
        let mut spec = small();
        spec["access"] = json!({"outbound": {"services": [{"service": callee}]}});
        world.apply(name, spec).await.unwrap();
    }
    for name in ["fraud", "account", "notification"] {
        let service = world
            .status(name, "the ring is reported", |service| {
                service.status.as_ref().unwrap().problems.iter().any(|p| p.message.contains("ring"))
            })
            .await;
        let problems = service.status.unwrap().problems;
        let ring = problems.iter().find(|problem| problem.message.contains("ring")).unwrap();
        assert!(ring.message.contains(&format!("{name} → ")), "{ring:?}");
    }
    world.apply("notification", small()).await.unwrap();
    for name in ["fraud", "account", "notification"] {
        world
            .status(name, "the ring is broken", |service| {
                service.status.as_ref().unwrap().problems.iter().all(|p| !p.message.contains("ring"))
            })
            .await;
    }
}

/// A site that the operator knows by name.
const ELSEWHERE: &str = "aws-eu-central-1";

/// Describes that site.
async fn describe_elsewhere(world: &World) {
    let site = json!({"apiVersion": "banyan.dev/v1alpha1", "kind": "CloudCluster",
        "metadata": {"name": ELSEWHERE, "namespace": "banyan-system"}, "spec": {"residency": ["EU"]}});
    install::apply(&world.client, &[site]).await.expect("a CloudCluster");
}

#[tokio::test]
async fn a_slip_in_the_name_of_a_site_is_told_and_takes_no_service_away() {
    let world = World::new("slip").await;
    describe_elsewhere(&world).await;
    let mut spec = small();
    world.apply("app", spec.clone()).await.unwrap();
    world.ready("app").await;
    spec["placement"] = json!([{"cluster": "aws-eu-centrall-1"}]);
    world.apply("app", spec.clone()).await.unwrap();
    let service = world.status("app", "it is told", |s| condition(s, "Stalled") == Some("True")).await;
    let problem = &service.status.unwrap().problems[0];
    assert!(problem.message.contains("no CloudCluster aws-eu-centrall-1"), "{problem:?}");
    assert!(problem.message.contains(ELSEWHERE), "{problem:?}");
    let deployments = world.api::<Deployment>();
    let standing = deployments.list(&ListParams::default()).await.unwrap().items;
    assert!(standing.len() == 1 && standing[0].metadata.deletion_timestamp.is_none(), "{standing:?}");
    spec["placement"] = json!([{"cluster": ELSEWHERE}]);
    world.apply("app", spec).await.unwrap();
    until("it goes where it is to be", async || {
        deployments.list(&ListParams::default()).await.ok()?.items.is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn data_that_must_stay_elsewhere_is_not_placed_here() {
    let world = World::new("residency").await;
    describe_elsewhere(&world).await;
    let mut spec = small();
    spec["data"] = json!({"residency": "EU"});
    world.apply("app", spec.clone()).await.unwrap();
    let service = world.status("app", "it is refused", |s| condition(s, "Stalled") == Some("True")).await;
    let problem = &service.status.unwrap().problems[0];
    assert!(problem.message.contains("must stay in EU, which aws-us-east-1 does not serve"), "{problem:?}");
    let deployments = world.api::<Deployment>();
    assert!(deployments.list(&ListParams::default()).await.unwrap().items.is_empty());
    spec["placement"] = json!([{"cluster": ELSEWHERE}]);
    world.apply("app", spec).await.unwrap();
    let service = world.ready("app").await;
    let conditions = service.status.unwrap().conditions;
    assert!(conditions.iter().any(|c| c.type_ == "Ready" && c.reason == "NotPlaced"), "{conditions:?}");
}

#[tokio::test]
async fn the_operator_speaks_for_its_own_site() {
    let world = World::new("site").await;
    let sites: Api<CloudCluster> = Api::namespaced(world.client.clone(), "banyan-system");
    let status = until("the site has a status", async || sites.get("aws-us-east-1").await.ok()?.status).await;
    assert!(status.version.unwrap().starts_with("v1."));
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("True", "OwnSite"));
    assert!(ready.message.ends_with("it serves data of US"), "{ready:?}");
}

#[tokio::test]
async fn nothing_is_asked_of_the_api_server_while_nothing_changes() {
    let cloud = crate::world::alone("idle").await;
    let world = World::on(&cloud.cloud, "idle").await;
    for number in 0..20 {
        world.apply(&format!("app-{number}"), small()).await.unwrap();
    }
    for number in 0..20 {
        world.ready(&format!("app-{number}")).await;
    }
    // Node heartbeats and endpoint controllers end their first rounds.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mark = cloud.cloud.audit_mark();
    tokio::time::sleep(Duration::from_secs(15)).await;
    let audit = cloud.cloud.audit_since(mark).unwrap();
    let busy = audit.not_idle();
    assert!(busy.is_empty(), "{busy:?}");
    cloud.stop().await;
}
