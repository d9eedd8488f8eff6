//! Groups that move together, in their order; and a group of many services: what the operator's own part of its move takes,
//! beside the same writes in a bare loop.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::{Duration, Instant};

use banyan::api::{Failover, FinService};
use banyan::sandbox::audit::Mark;
use banyan::sandbox::install;
use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::{Value, json};

use super::stage::{AWS, GCP, GROUP, Stage, is_ready, typed};
use crate::world::until_within;

/// How many services; `BANYAN_MANY` instead, where that is set.
const MANY: usize = 10;
/// Writes under way at once in the bare loop, as many as the operator has.
const AT_ONCE: usize = 32;
const NAME: &str = "many";

/// A second more for each service is waited than for a few.
async fn until<T>(what: &str, ask: impl AsyncFnMut() -> Option<T>) -> T {
    let patience = Duration::from_secs(240 + many() as u64);
    until_within(patience, Duration::from_millis(200), what, ask).await
}

fn many() -> usize {
    super::number("BANYAN_MANY").map_or(MANY, |many| many as usize)
}

fn service(stage: &Stage, number: usize) -> Value {
    let percent =
        |place: usize, percent: i32| json!({"cluster": stage.names[place], "capacityPercent": percent});
    json!({"apiVersion": "banyan.dev/v1alpha1", "kind": "FinService",
    "metadata": {"name": format!("service-{number}"), "namespace": NAME},
    "spec": {
        "owner": "team", "image": "registry.example/many/app:1", "ports": [{"name": "http", "port": 8080}],
        "scale": {"replicas": 2}, "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}},
        "placement": [percent(AWS, 100), percent(GCP, 50)],
    }})
}

/// The same writes in a bare loop, on Deployments that nobody looks after. They have the same pods behind as many Services as those
/// of the group: what follows from a write shares the machine with the next.
async fn floor(stage: &Stage, many: usize) -> Duration {
    let bare = "bare";
    let client = stage.admin(GCP);
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": bare}});
    install::apply(&client, &[namespace]).await.expect("a namespace");
    let (pod, services) = like_ours(stage).await;
    for number in 0..many {
        let name = format!("bare-{number}");
        let labels = json!({"app": name});
        let metadata = |name: &str| json!({"name": name, "namespace": bare});
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata(&name), "spec": {
            "replicas": 1, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod}}});
        let services = (0..services).map(|one| {
            json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata(&format!("{name}-{one}")),
                "spec": {"selector": labels, "ports": [{"port": 8080}]}})
        });
        let all: Vec<Value> = services.chain([deployment]).collect();
        install::apply(&client, &all).await.expect("they are made");
    }
    let api: Api<Deployment> = Api::namespaced(client, bare);
    until("they have a pod each", async || {
        let all = api.list(&ListParams::default()).await.ok()?.items;
        let ready =
            |one: &Deployment| one.status.as_ref().and_then(|status| status.ready_replicas) == Some(1);
        all.iter().all(ready).then_some(())
    })
    .await;
    let began = Instant::now();
    let patch = json!({"spec": {"replicas": 2}});
    let writes = futures::stream::iter(0..many).for_each_concurrent(AT_ONCE, async |number| {
        let name = format!("bare-{number}");
        api.patch_scale(&name, &PatchParams::default(), &Patch::Merge(&patch)).await.expect("it is scaled");
    });
    writes.await;
    began.elapsed()
}

/// What a pod of the group is made of, and how many Services select it.
async fn like_ours(stage: &Stage) -> (Value, usize) {
    let deployments: Api<Deployment> = Api::namespaced(stage.admin(GCP), NAME);
    let one = deployments.list(&ListParams::default().limit(1)).await.expect("Deployments").items.pop();
    let template = one.and_then(|one| one.spec).expect("a Deployment").template;
    let labels = template.metadata.and_then(|metadata| metadata.labels).unwrap_or_default();
    let services: Api<Service> = Api::namespaced(stage.admin(GCP), NAME);
    let selects = |service: &Service| {
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        selector.is_some_and(|all| all.iter().all(|(key, value)| labels.get(key) == Some(value)))
    };
    let services = services.list(&ListParams::default()).await.expect("Services").items;
    let mut pod = serde_json::to_value(template.spec).expect("JSON");
    // It stands in the other namespace.
    for account in ["serviceAccount", "serviceAccountName"] {
        pod.as_object_mut().expect("a pod").remove(account);
    }
    (pod, services.iter().filter(|service| selects(service)).count())
}

pub async fn groups_move_together_in_their_order(stage: &Stage) {
    let many = many();
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME}});
    let group = json!({"apiVersion": "banyan.dev/v1alpha1", "kind": "FailoverGroup",
        "metadata": {"name": NAME, "namespace": "banyan-system"},
        "spec": {"sites": stage.names, "initialSite": stage.names[AWS], "services": {"namespaces": [NAME]},
            "traffic": {"hosts": ["many.example"], "external": {}}, "after": [GROUP],
            "capacity": {"minimumPercent": 50}}});
    for place in [AWS, GCP] {
        let mut objects = vec![namespace.clone()];
        objects.extend((0..many).map(|number| service(stage, number)));
        install::apply(&stage.admin(place), &objects).await.expect("they are taken");
    }
    for place in [AWS, GCP] {
        let services: Api<FinService> = Api::namespaced(stage.admin(place), NAME);
        until("all services are Ready", async || {
            let all = services.list(&ListParams::default()).await.ok()?.items;
            let ready = |one: &FinService| {
                let conditions = one.status.iter().flat_map(|status| &status.conditions);
                conditions
                    .into_iter()
                    .any(|condition| condition.type_ == "Ready" && condition.status == "True")
            };
            (all.len() == many && all.iter().all(ready)).then_some(())
        })
        .await;
        install::apply(&stage.admin(place), std::slice::from_ref(&group)).await.expect("the group is taken");
    }
    until("the new group could move", async || {
        let groups: Api<banyan::api::FailoverGroup> = Api::namespaced(stage.admin(GCP), "banyan-system");
        is_ready(&groups.get(NAME).await.ok()?)
    })
    .await;
    stage.told(GCP, "the old group could move", is_ready).await;

    let mark = stage.two.pair.clouds()[GCP].audit_mark();
    let order = ["failover", "start", "--all", "--from", &stage.names[AWS], "--reason", "a drill", "--wait"];
    let mut typed = tokio::process::Command::from(typed(stage, GCP, &order));
    let looks = async {
        let scaled = all_asked(stage, many, mark).await;
        (scaled, all_whole(stage, many).await)
    };
    let (output, (scaled, ready)) = tokio::join!(typed.output(), looks);
    let output = output.expect("the command ends");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{text}");
    let (first, second) = (moved(stage, GROUP).await, moved(stage, NAME).await);
    let (opened, claimed) = (step(&first, "open").1, step(&second, "claim").0);
    assert!(claimed >= opened, "{NAME} claims after {GROUP} serves: {claimed} {opened}\n{text}");
    let (claim, open) = (claimed, step(&second, "open").1);
    let own = scaled.duration_since(claim) + open.duration_since(ready);
    let floor = floor(stage, many).await;
    println!(
        "{many} services: {:?} from its claim until it serves, of which {own:?} are the operator's own: {:?} until all asked \
         for their full size, and {:?} once they had it (the rest: pods become Ready); the same writes in a bare loop: \
         {floor:?}",
        open.duration_since(claim),
        scaled.duration_since(claim),
        open.duration_since(ready),
    );
    let services: Api<FinService> = Api::namespaced(stage.admin(GCP), NAME);
    assert!(services.list(&ListParams::default()).await.is_ok_and(|all| all.items.len() == many));
}

/// When all Deployments had been asked to have their full size, as the API server wrote down: whoever watches a thousand of them
/// meanwhile takes the machine from whom is measured.
async fn all_asked(stage: &Stage, many: usize, mark: Mark) -> jiff::Timestamp {
    until("all are asked for their full size", async || {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let audit = stage.two.pair.clouds()[GCP].audit_since(mark).ok()?;
        let mut asked: BTreeMap<&str, jiff::Timestamp> = BTreeMap::new();
        for one in &audit.requests {
            if one.resource == "deployments/scale" && one.namespace == NAME && one.code == 200 {
                asked.entry(&one.name).or_insert(one.answered?);
            }
        }
        (asked.len() == many).then(|| asked.into_values().max())?
    })
    .await
}

/// When all Deployments have their full size. They are watched: to list a thousand again and again would take as much.
async fn all_whole(stage: &Stage, many: usize) -> jiff::Timestamp {
    let api: Api<Deployment> = Api::namespaced(stage.admin(GCP), NAME);
    let mut changes = pin!(watcher(api, watcher::Config::default()).applied_objects());
    let mut whole = BTreeSet::new();
    while let Some(change) = changes.next().await {
        let Ok(one) = change else { continue };
        if one.status.as_ref().and_then(|status| status.ready_replicas) == Some(2) {
            whole.insert(one.name_any());
        }
        if whole.len() == many {
            return jiff::Timestamp::now();
        }
    }
    unreachable!("a watcher never ends")
}

/// The move of a group that is done.
async fn moved(stage: &Stage, group: &str) -> Failover {
    let api: Api<Failover> = Api::namespaced(stage.admin(GCP), "banyan-system");
    let mut all = api.list(&ListParams::default()).await.expect("Failovers").items;
    all.retain(|one| one.spec.group == group && one.spec.action.moves());
    all.sort_by_key(|one| one.metadata.creation_timestamp.as_ref().map(|time| time.0));
    all.pop().unwrap_or_else(|| panic!("{group} was ordered to move"))
}

/// When a step began and ended.
fn step(failover: &Failover, name: &str) -> (jiff::Timestamp, jiff::Timestamp) {
    let steps = failover.status.iter().flat_map(|status| &status.steps);
    let found = steps.into_iter().find(|step| step.name == name);
    let step = found.unwrap_or_else(|| panic!("{} has no step {name}", failover.name_any()));
    (step.started_at.0, step.ended_at.as_ref().expect("it is over").0)
}
