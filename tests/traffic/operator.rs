//! Banyan's own program: FinServices under load, and doors into the namespace.

use std::path::Path;

use banyan::sandbox::traffic::relay::Door;
use banyan::sandbox::traffic::{Behaviour, Load};
use kube::api::{ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

use crate::runner::{Scenario, scenarios};
use crate::world::{Space, World, until};

/// All of this file.
pub fn scenarios() -> Vec<Scenario> {
    scenarios![Gateway:
        a_door_leads_to_the_api_server,
        a_new_release_of_a_finservice_costs_no_request,
        rules_and_dashboards_speak_of_what_was_sent
    ]
}

impl Space<'_> {
    /// Applies a FinService `app` that the gateway sends this namespace's host to.
    pub async fn finservice(&self, release: &str, replicas: usize) {
        self.finservice_speaking(release, replicas, "HTTP").await;
    }

    /// The same with another protocol.
    pub async fn finservice_speaking(&self, release: &str, replicas: usize, protocol: &str) {
        let service: Value = json!({
            "apiVersion": "banyan.dev/v1alpha1", "kind": "FinService",
            "metadata": {"name": "app", "namespace": self.namespace},
            "spec": {
                "owner": "team", "image": self.release(release),
                "ports": [
                    {"name": "app", "port": 8080, "protocol": protocol}, {"name": "metrics", "port": 9090},
                ],
                "scale": {"replicas": replicas},
                "mesh": {"provider": "GatewayAPI"},
                "ingress": {"hosts": [self.host()], "gateway": self.world.gateway.reference()},
                "observability": {"metrics": {"port": "metrics"}},
            },
        });
        banyan::sandbox::install::apply(&self.world.client, &[service]).await.expect("a FinService");
    }
}

/// Both relays of a door are processes here as in the sandbox; what they cross there is a file, as here.
async fn a_door_leads_to_the_api_server(world: &World) {
    let program = Path::new(env!("CARGO_BIN_EXE_banyan"));
    let (cloud, dir) = (&world.cloud, world.cloud.dir());
    let door = Door::make("aws", program, dir).expect("a door");
    door.open(cloud.server(), program, dir, cloud.supervisor()).expect("an open door");
    let kubeconfig = cloud.kubeconfig_at(&format!("https://{}", door.outside)).expect("a kubeconfig");
    let kubeconfig = Kubeconfig::from_yaml(&kubeconfig).expect("a kubeconfig");
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    let client = kube::Client::try_from(config.expect("a configuration")).expect("a client");
    let version =
        until("the API server answers through the door", async || client.apiserver_version().await.ok());
    assert!(version.await.git_version.starts_with('v'));
}

async fn a_new_release_of_a_finservice_costs_no_request(world: &World) {
    let space = world.space("release").await;
    space.finservice("app:1", 2).await;
    space.hears_of("app:1").await;
    let load = Load::start(space.load().at(300.0)).expect("a load");
    until("the first release answers", async || (load.tally().answered() > 100).then_some(())).await;
    space.finservice("app:2", 2).await;
    let before = until("all requests go to the second", async || {
        let before = load.tally();
        let tally = Load::exactly(space.load().at(2000.0), 200).await.expect("a load");
        (tally.of(&space.release("app:2")).total() == 200).then_some(before)
    })
    .await;
    until("the load goes on", async || (load.tally().answered() > before.answered() + 300).then_some(()))
        .await;
    let tally = load.stop().await.expect("answers");
    println!("{tally}");
    assert_eq!(tally.failed(), 0, "{tally}");
    assert!(tally.of(&space.release("app:1")).total() > 0, "{tally}");
}

/// Whatever a service speaks, a real Prometheus takes each expression of its rules and its dashboard, its objective
/// sees the fifth of the requests that failed, and the alert of that objective fires, alone.
async fn rules_and_dashboards_speak_of_what_was_sent(world: &World) {
    let Some(prometheus) = world.prometheus_or_skip() else { return };
    for (name, protocol, more) in
        [("speaks-http", "HTTP", None), ("speaks-grpc", "GRPC", None), ("speaks-both", "GRPC", Some("HTTP"))]
    {
        let space = world.space(name).await;
        space.finservice_speaking("app:1", 2, protocol).await;
        let mut ports = vec![
            json!({"name": "app", "port": 8080, "protocol": protocol}),
            json!({"name": "metrics", "port": 9090}),
        ];
        ports.extend(more.map(|protocol| json!({"name": "more", "port": 8081, "protocol": protocol})));
        let slo = json!({"availability": "99.9", "latency": {"threshold": "250ms", "percent": "99"}});
        let observability = json!({"metrics": {"port": "metrics"}, "dashboards": true});
        let spec = json!({"ports": ports, "slo": slo, "observability": observability});
        let patch = Patch::Merge(json!({"spec": spec}));
        let services = space.api("banyan.dev/v1alpha1", "FinService");
        services.patch("app", &PatchParams::default(), &patch).await.expect("a FinService");
        space.hears_of("app:1").await;
        world.pods.behave(&space.release("app:1"), Some(Behaviour::failing(20.0)));
        let load = Load::start(space.load_speaking(protocol)).expect("a load");

        let rules = space.api("monitoring.coreos.com/v1", "PrometheusRule");
        let rule = until("the rules are written", async || rules.get("app").await.ok()).await;
        let dashboards = space.api("v1", "ConfigMap");
        let selected = ListParams::default().labels("grafana_dashboard=1");
        let dashboard = until("the dashboard is written", async || {
            dashboards.list(&selected).await.ok()?.items.into_iter().next()
        })
        .await;
        let texts = dashboard.data["data"].as_object().expect("files").values();
        let panels = texts.map(|text| serde_json::from_str(text.as_str().expect("a text")).expect("JSON"));
        let mut expressions = Vec::new();
        [rule.data.clone()].into_iter().chain(panels).for_each(|value| exprs(&value, &mut expressions));
        assert_eq!(expressions.len(), 20, "{expressions:?}");
        for expression in &expressions {
            let answer = prometheus.query(&expression.replace("$__rate_interval", "1m")).await;
            assert!(answer.is_ok(), "{name}: {answer:?}");
        }
        prometheus.evaluate(name, &rule.data["spec"]).expect("rules");
        let of = |slo: &str| format!(r#"{{namespace="{}",service="app",slo="{slo}"}}"#, space.namespace);
        for (slo, at_least, at_most) in [("availability", 0.1, 0.3), ("latency", 0.0, 0.05)] {
            let of = of(slo);
            let bad = format!("banyan:slo_bad_requests:rate5m{of} / banyan:slo_requests:rate5m{of}");
            until(&format!("{name}: {bad} is from {at_least} to {at_most}"), async || {
                let answer = prometheus.query(&bad).await.expect("an answer");
                answer.first().filter(|(_, value)| (at_least..=at_most).contains(value)).map(drop)
            })
            .await;
        }
        for severity in ["page", "ticket"] {
            let alert = until(&format!("{name}: the alert fires as a {severity}"), async || {
                let alerts = format!(
                    r#"ALERTS{{alertstate="firing",namespace="{}",severity="{severity}"}}"#,
                    space.namespace
                );
                prometheus.query(&alerts).await.expect("an answer").into_iter().next()
            })
            .await;
            assert_eq!(alert.0["slo"], "availability", "{alert:?}");
            assert_eq!(
                (&alert.0["service"], &alert.0["alertname"]),
                (&json!("app"), &json!("BanyanErrorBudgetBurn"))
            );
        }
        let slow = prometheus.query(&format!("ALERTS{}", of("latency"))).await.expect("an answer");
        assert!(slow.is_empty(), "{slow:?}");
        load.stop().await.expect("answers");
        world.pods.behave(&space.release("app:1"), None);
    }
}

/// All expressions in rules or panels.
fn exprs(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            into.extend(map.get("expr").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|value| exprs(value, into));
        }
        Value::Array(list) => list.iter().for_each(|value| exprs(value, into)),
        _ => {}
    }
}
