//! What a start reads: of children whose contents are on record their metadata alone, and others as a whole.

use std::collections::BTreeSet;

use banyan::finservice::children::Kind;
use banyan::sandbox::{Cloud, install};
use kube::ResourceExt;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::world::{World, alone, optional_definitions, start_operator, until};

/// A service with children of many passive kinds.
fn meshed() -> Value {
    json!({
        "owner": "team", "image": "registry.example/app:1", "scale": {"replicas": 1},
        "ports": [{"name": "http", "port": 8080}, {"name": "metrics", "port": 9090}],
        "mesh": {"provider": "Istio", "circuitBreaker": {"maxConnections": 200}},
        "access": {"outbound": {"services": [{"service": "ledger"}]}},
        "observability": {"metrics": {"port": "metrics"}},
        "slo": {"availability": "99.9"},
    })
}

struct Running(CancellationToken, std::thread::JoinHandle<()>);

impl Running {
    fn start(cloud: &Cloud, name: &str) -> Self {
        let shutdown = CancellationToken::new();
        Self(shutdown.clone(), start_operator(cloud, shutdown, name))
    }

    async fn end(self) {
        self.0.cancel();
        tokio::task::spawn_blocking(move || self.1.join()).await.expect("joined").expect("no panic");
    }
}

#[tokio::test]
async fn what_was_changed_while_no_operator_ran_is_read_and_put_right_and_nothing_else_is_read() {
    let alone = alone("starts").await.end_operator().await;
    let cloud = &alone.cloud;
    let world = World::on(cloud, "starts").await;
    install::definitions(&world.client, &optional_definitions().await).await.unwrap();
    let first = Running::start(cloud, "first");
    for number in 0..8 {
        world.apply(&format!("app-{number}"), meshed()).await.unwrap();
    }
    for number in 0..8 {
        let service = world.ready(&format!("app-{number}")).await;
        let record = service.status.and_then(|status| status.record).expect("a record");
        for kind in ["DestinationRule", "PeerAuthentication", "Sidecar", "ServiceMonitor", "PrometheusRule"] {
            assert!(record.contains(kind), "{kind}: {record}");
        }
    }
    first.end().await;

    // Contents are changed; a label is; a child is replaced by another of its name; one is deleted.
    let api = |kind: Kind| world.dynamic(&kind.api_version(), kind.name());
    let merge = |kind, name: &'static str, patch: Value| {
        let api = api(kind);
        async move { api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap() }
    };
    merge(Kind::PrometheusRule, "app-0", json!({"spec": {"groups": []}})).await;
    merge(Kind::Sidecar, "app-1", json!({"metadata": {"labels": {"app.kubernetes.io/name": "stolen"}}}))
        .await;
    let peers = api(Kind::PeerAuthentication);
    let mut forged = peers.get("app-2").await.unwrap();
    peers.delete("app-2", &DeleteParams::default()).await.unwrap();
    forged.metadata.uid = None;
    forged.metadata.resource_version = None;
    forged.data["spec"]["mtls"]["mode"] = "DISABLE".into();
    // As if it were ours and had never been changed.
    peers
        .create(&PostParams { field_manager: Some("banyan".into()), ..PostParams::default() }, &forged)
        .await
        .unwrap();
    let rules = api(Kind::DestinationRule);
    let all = rules.list(&Default::default()).await.unwrap();
    let gone = all.iter().map(ResourceExt::name_any).find(|name| name.starts_with("app-3-")).expect("a rule");
    rules.delete(&gone, &DeleteParams::default()).await.unwrap();

    let mark = cloud.audit_mark();
    let second = Running::start(cloud, "second");
    let right = |what: &'static str, kind: Kind, name: String, is: fn(&DynamicObject) -> bool| {
        let api = api(kind);
        async move {
            until(what, async || api.get_opt(&name).await.ok()?.filter(&is).map(drop)).await;
        }
    };
    right("the rules are restored", Kind::PrometheusRule, "app-0".into(), |rule| {
        rule.data["spec"]["groups"].as_array().is_some_and(|groups| !groups.is_empty())
    })
    .await;
    right("the label is restored", Kind::Sidecar, "app-1".into(), |sidecar| {
        sidecar.labels().get("app.kubernetes.io/name").is_some_and(|name| name == "app-1")
    })
    .await;
    right("certificates are asked for again", Kind::PeerAuthentication, "app-2".into(), |peer| {
        peer.data["spec"]["mtls"]["mode"] != "DISABLE"
    })
    .await;
    right("the deleted one is made again", Kind::DestinationRule, gone, |_| true).await;
    second.end().await;

    let audit = cloud.audit_since(mark).unwrap();
    let passive: BTreeSet<&str> =
        Kind::ALL.into_iter().filter(|kind| kind.is_passive()).map(|kind| kind.resource().3).collect();
    let read: BTreeSet<(&str, &str)> = (audit.requests.iter())
        .filter(|request| request.verb == "get" && passive.contains(&*request.resource))
        .map(|request| (&*request.resource, &*request.name))
        .collect();
    assert_eq!(read, BTreeSet::from([("peerauthentications", "app-2"), ("prometheusrules", "app-0")]));
    for resource in ["prometheusrules", "sidecars", "peerauthentications", "destinationrules"] {
        let lists = audit.counts().get(&("list".to_owned(), resource.to_owned())).copied();
        assert_eq!(lists, Some(2), "{resource}: ours and others', once each");
    }

    // Nothing differs any more: nothing is written.
    let mark = cloud.audit_mark();
    let third = Running::start(cloud, "third");
    until("it has read all", async || {
        let audit = cloud.audit_since(mark).ok()?;
        audit
            .requests
            .iter()
            .any(|request| request.verb == "watch" && request.resource == "prometheusrules")
            .then_some(())
    })
    .await;
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    let audit = cloud.audit_since(mark).unwrap();
    assert!(audit.writes().is_empty(), "{:?}", audit.writes());
    third.end().await;
    alone.stop().await;
}
