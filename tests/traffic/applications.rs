//! Whole applications, of the shape of public ones, move in service by service under requests, and back out.

use std::collections::{BTreeMap, BTreeSet};

use banyan::sandbox::install;
use banyan::sandbox::traffic::{Load, LoadOptions};
use futures::{StreamExt, stream};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::runner::{Scenario, scenarios};
use crate::world::{PATIENCE, Space, World, until};

/// Requests a second to each service of an application.
const RATE: f64 = 5.0;
/// Kinds that are taken from the manifests: their routes are for gateways of their own.
const KINDS: [&str; 5] = ["ConfigMap", "ServiceAccount", "Deployment", "Service", "StatefulSet"];

/// All of this file.
pub fn scenarios() -> Vec<Scenario> {
    scenarios![Pods: a_bank_moves_in_and_out, a_shop_that_speaks_grpc_moves_in_and_out, a_shop_at_low_ports_moves_in_and_out]
}

async fn a_bank_moves_in_and_out(world: &World) {
    moves(world, "bank", include_str!("../import/bank.yaml"), &[], &[], 7).await;
}

async fn a_shop_that_speaks_grpc_moves_in_and_out(world: &World) {
    let beside = [("frontend-external", "frontend")];
    moves(world, "boutique", include_str!("../import/boutique.yaml"), &["redis-cart"], &beside, 11).await;
}

async fn a_shop_at_low_ports_moves_in_and_out(world: &World) {
    let stay = ["carts-db", "orders-db", "user-db", "catalogue-db", "session-db", "rabbitmq"];
    moves(world, "socks", include_str!("../import/socks.yaml"), &stay, &[], 8).await;
}

impl Space<'_> {
    /// The manifests in this namespace, and a Secret of each name that they mount. Returns its Services by name, as far as
    /// pods that are to move are behind them.
    async fn grow(&self, name: &str, manifests: &str, stay: &[&str]) -> BTreeMap<String, Value> {
        let mut objects = install::documents(name, manifests).expect("YAML");
        objects.retain(|object| object["kind"].as_str().is_some_and(|kind| KINDS.contains(&kind)));
        let mut needed: Vec<Value> = Vec::new();
        for object in &mut objects {
            object["metadata"]["namespace"] = self.namespace.clone().into();
            // Manifests of an application do not bring all that they name.
            named(object, &mut |kind, name| {
                let metadata = json!({"name": name, "namespace": self.namespace});
                needed.push(json!({"apiVersion": "v1", "kind": kind, "metadata": metadata}));
            });
        }
        let deployments: Vec<&Value> = objects
            .iter()
            .filter(|object| object["kind"] == "Deployment")
            .filter(|object| object["metadata"]["name"].as_str().is_some_and(|name| !stay.contains(&name)))
            .collect();
        let is_behind = |service: &Value| {
            let selector = service["spec"]["selector"].as_object();
            deployments.iter().any(|deployment| {
                let labels = &deployment["spec"]["template"]["metadata"]["labels"];
                selector.is_some_and(|selector| selector.iter().all(|(key, value)| labels[key] == *value))
            })
        };
        let services = objects.iter().filter(|object| object["kind"] == "Service" && is_behind(object));
        let services = services.map(|service| {
            (
                service["metadata"]["name"].as_str().expect("a name").to_owned(),
                service["spec"]["ports"][0]["port"].clone(),
            )
        });
        let ports: BTreeMap<String, Value> = services.collect();
        let there = |object: &Value| [&object["kind"], &object["metadata"]["name"]].map(Value::to_string);
        let known: BTreeSet<[String; 2]> = objects.iter().map(there).collect();
        objects.extend(needed.into_iter().filter(|object| !known.contains(&there(object))));
        let reference = self.world.gateway.reference().to_owned();
        let (of, gateway) = reference.split_once('/').expect("a reference");
        objects.extend(ports.iter().map(|(name, port)| {
            json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
                "metadata": {"name": format!("to-{name}"), "namespace": self.namespace},
                "spec": {"parentRefs": [{"namespace": of, "name": gateway}], "hostnames": [self.host_of(name)],
                    "rules": [{"backendRefs": [{"name": name, "port": port}]}]}})
        }));
        install::apply(&self.world.client, &objects).await.expect("an application");
        self.services(ports.keys()).await
    }

    fn host_of(&self, service: &str) -> String {
        format!("{service}.{}", self.host())
    }

    async fn services(&self, names: impl Iterator<Item = &String>) -> BTreeMap<String, Value> {
        let mut services = BTreeMap::new();
        for name in names {
            let service = self.api("v1", "Service").get(name).await.expect("a Service");
            services.insert(name.clone(), service.data["spec"].clone());
        }
        services
    }

    /// Changes whom a Service selects.
    async fn select(&self, service: &str, selector: &Value) {
        let patch = Patch::Json::<()>(
            serde_json::from_value(json!([{"op": "replace", "path": "/spec/selector", "value": selector}]))
                .expect("a patch"),
        );
        self.api("v1", "Service").patch(service, &PatchParams::default(), &patch).await.expect("a Service");
    }

    /// Waits for a FinService; what status says of it tells why it was in vain.
    async fn comes_to(&self, name: &str, what: &str, ask: impl AsyncFnMut() -> Option<()>) {
        let what = format!("FinService {name}: {what}");
        if tokio::time::timeout(PATIENCE * 9 / 10, until(&what, ask)).await.is_err() {
            panic!("{what}: waited in vain\n{}", self.banyan(&["status", name]).await);
        }
    }

    /// Hands over what has that name, if there is any.
    async fn hand_over(&self, kind: (&str, &str), name: &str) {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {"banyan.dev/adopt": name}}}));
        match self.api(kind.0, kind.1).patch(name, &PatchParams::default(), &patch).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => panic!("{name} is not handed over: {error}"),
        }
    }

    async fn pods_of(&self, deployment: &str) -> [u64; 2] {
        let found = self.api("apps/v1", "Deployment").get_opt(deployment).await.ok().flatten();
        let data = found.map(|found| found.data).unwrap_or_default();
        [&data["spec"]["replicas"], &data["status"]["readyReplicas"]]
            .map(|number| number.as_u64().unwrap_or_default())
    }
}

/// Finds the ConfigMaps, Secrets and ServiceAccounts that an object names, by their kinds.
fn named(value: &Value, found: &mut impl FnMut(&str, &str)) {
    let kinds = [
        ("configMapRef", "name", "ConfigMap"),
        ("configMapKeyRef", "name", "ConfigMap"),
        ("secretRef", "name", "Secret"),
        ("secretKeyRef", "name", "Secret"),
        ("secret", "secretName", "Secret"),
        ("configMap", "name", "ConfigMap"),
    ];
    for (key, value) in value.as_object().into_iter().flatten() {
        let kind = kinds.iter().find(|(field, ..)| field == key);
        if let Some((name, kind)) = kind.and_then(|(_, field, kind)| Some((value[*field].as_str()?, kind))) {
            found(kind, name);
        }
        if let ("serviceAccountName", Some(name)) = (key.as_str(), value.as_str()) {
            found("ServiceAccount", name);
        }
        named(value, found);
    }
    value.as_array().into_iter().flatten().for_each(|item| named(item, found));
}

/// The whole way of `name`, and back: everything that moves is asked all the time, and nothing is lost.
///
/// `beside` are Services that lead to the pods of another one too; import says what to do with their selectors.
async fn moves(
    world: &World,
    name: &str,
    manifests: &str,
    stay: &[&str],
    beside: &[(&str, &str)],
    count: usize,
) {
    let space = world.space(name).await;
    let before = space.grow(name, manifests, stay).await;
    assert!(before.len() >= 6, "{before:?}");
    // All of it is there before anything is counted: while a gateway hears of twelve Services at once, it answers for none.
    let to = |service: &String| LoadOptions { host: space.host_of(service), ..space.load().at(RATE) };
    for service in before.keys() {
        until(&format!("{service} answers"), async || {
            let tally = Load::exactly(to(service).at(100.0), 20).await.ok()?;
            (tally.failed() == 0).then_some(())
        })
        .await;
    }
    let loads: Vec<(&String, Load)> =
        before.keys().map(|service| (service, Load::start(to(service)).expect("a load"))).collect();

    let mut args = vec!["import", "--owner", "team", "--output", "json"];
    stay.iter().for_each(|name| args.extend(["--except", name]));
    let said: Value = serde_json::from_str(&space.banyan(&args).await).expect("JSON");
    let taken = said["services"].as_array().expect("FinServices");
    let lost = taken.iter().flat_map(|taken| taken["notes"].as_array().into_iter().flatten());
    let lost: Vec<&Value> = lost.filter(|note| note["weight"] == "Lost").collect();
    assert_eq!((taken.len(), lost), (count, Vec::new()));
    let services: Vec<Value> = taken.iter().map(|taken| taken["service"].clone()).collect();
    install::apply(&world.client, &services).await.expect("FinServices");
    let names: Vec<&str> =
        services.iter().filter_map(|service| service["metadata"]["name"].as_str()).collect();
    // No pod starts before these are theirs: it would have somebody's rights, or do somebody's work once more.
    for service in &services {
        let name = service["metadata"]["name"].as_str().unwrap_or_default();
        space.hand_over(("v1", "ServiceAccount"), name).await;
        if service["spec"]["traffic"] == "Pulled" {
            space.hand_over(("apps/v1", "Deployment"), name).await;
        }
    }
    let status = async |name: &str| {
        let found = space.api("banyan.dev/v1alpha1", "FinService").get_opt(name).await.ok().flatten();
        found.map(|found| found.data["status"].clone()).unwrap_or_default()
    };
    for name in &names {
        space
            .comes_to(name, "its pods are Ready", async || {
                let replicas = status(name).await["replicas"].clone();
                (replicas["ready"].as_u64() > Some(0) && replicas["ready"] == replicas["desired"])
                    .then_some(())
            })
            .await;
        for (service, _) in beside.iter().filter(|(_, of)| of == name) {
            space.select(service, &json!({"banyan.dev/service": name})).await;
        }
        space.hand_over(("apps/v1", "Deployment"), name).await;
        space.hand_over(("v1", "Service"), name).await;
    }
    for name in &names {
        space
            .comes_to(name, "it serves, and the old pods are gone", async || {
                let conditions = status(name).await["conditions"].clone();
                let ready = conditions
                    .as_array()?
                    .iter()
                    .any(|one| one["type"] == "Ready" && one["status"] == "True");
                (ready && space.pods_of(name).await == [0, 0]).then_some(())
            })
            .await;
    }
    for (service, spec) in space.services(before.keys()).await {
        assert_eq!(spec["clusterIP"], before[&service]["clusterIP"], "{service}");
        assert_eq!(spec["ports"][0]["port"], before[&service]["ports"][0]["port"], "{service}");
    }

    // The old pods first; then whoever else leads to them; and the new ones go last.
    let (shared, own): (Vec<&str>, Vec<&str>) =
        names.iter().partition(|name| beside.iter().any(|(_, of)| of == *name));
    give_back(&space, &shared, &[]).await;
    for (service, _) in beside {
        space.select(service, &before[*service]["selector"]).await;
    }
    give_back(&space, &own, &["--delete"]).await;
    for name in shared {
        let services = space.api("banyan.dev/v1alpha1", "FinService");
        services.delete(name, &Default::default()).await.expect("a FinService that is deleted");
    }
    let left = space.api("banyan.dev/v1alpha1", "FinService");
    until("the FinServices are gone", async || {
        left.list(&Default::default()).await.ok()?.items.is_empty().then_some(())
    })
    .await;
    for (service, spec) in space.services(before.keys()).await {
        let plain =
            |spec: &Value| ["selector", "ports", "type", "clusterIP"].map(|field| spec[field].clone());
        assert_eq!(plain(&spec), plain(&before[&service]), "{service}");
    }
    let mut all = 0;
    for (service, load) in loads {
        let tally = load.stop().await.expect("answers");
        assert_eq!(tally.failed(), 0, "{service}: {tally}");
        all += tally.answered();
    }
    println!(
        "{name}: {} FinServices there and back, {all} requests to {} Services, none lost",
        names.len(),
        before.len()
    );
}

/// A few at a time, since each waits until proxies have heard of it.
async fn give_back(space: &Space<'_>, names: &[&str], more: &[&str]) {
    let all = stream::iter(names).map(async |name| {
        let args: Vec<&str> = ["give-back", name].into_iter().chain(more.iter().copied()).collect();
        space.banyan(&args).await
    });
    let words: Vec<String> = all.buffer_unordered(4).collect().await;
    assert_eq!(words.len(), names.len());
}
