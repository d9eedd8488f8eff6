//! What the chart does so that somebody notices: alerts, and notifications.

use serde_json::Value;

use crate::chart::{SITE, find, objects, render};

const ENABLED: &str = "metrics.prometheusRule.enabled=true";

/// Each rule of the PrometheusRule.
fn rules(objects: &[Value]) -> Vec<Value> {
    let groups = &find(objects, "PrometheusRule", "banyan").unwrap()["spec"]["groups"];
    groups.as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

#[tokio::test]
async fn alerts_are_those_of_the_file_with_links_to_where_the_pages_are() {
    let text = include_str!("../../charts/banyan/files/alerts.yaml");
    let file: Value = serde_norway::from_str(text).unwrap();
    let plain = objects(&[SITE, "crds.install=false", ENABLED]).await;
    assert_eq!(find(&plain, "PrometheusRule", "banyan").unwrap()["spec"], file);
    let values = [
        SITE,
        "crds.install=false",
        ENABLED,
        "metrics.prometheusRule.runbooks=https://wiki.example/banyan/",
        "metrics.prometheusRule.labels.release=monitoring",
    ];
    let linked = objects(&values).await;
    let rules = rules(&linked);
    assert!(rules.len() >= 12);
    for rule in &rules {
        let link = rule["annotations"]["runbook_url"].as_str().unwrap();
        assert!(link.starts_with("https://wiki.example/banyan/") && link.ends_with(".md"), "{link}");
    }
    let labels = &find(&linked, "PrometheusRule", "banyan").unwrap()["metadata"]["labels"];
    assert_eq!(labels["release"], "monitoring");
    let without = objects(&[SITE, "crds.install=false"]).await;
    assert!(find(&without, "PrometheusRule", "banyan").is_none());
}

/// Two names for one thing in a metric would hide what is stuck behind the operator's own namespace.
#[tokio::test]
async fn scrapes_keep_the_namespace_of_what_is_stuck() {
    let objects = objects(&[SITE, "crds.install=false", "metrics.serviceMonitor.enabled=true"]).await;
    let monitor = find(&objects, "ServiceMonitor", "banyan").unwrap();
    assert_eq!(monitor["spec"]["endpoints"][0]["honorLabels"], true);
}

/// The destination `ops` with a Secret, and `audit` at that URL.
fn destinations(url: &str) -> Vec<String> {
    let audit = format!("notifications[1].url={url}");
    let values = [
        SITE,
        "crds.install=false",
        "notifications[0].name=ops",
        "notifications[0].format=Slack",
        "notifications[0].urlFrom.secret=banyan-slack",
        "notifications[0].urlFrom.key=url",
        "notifications[1].name=audit",
        "notifications[1].format=JSON",
        &audit,
        "notifications[1].kinds={Failover,FailoverGroup}",
        "notifications[1].reasons={MoveWaits,Moved}",
    ];
    values.map(str::to_owned).to_vec()
}

async fn deployed(values: &[String]) -> Vec<Value> {
    objects(&values.iter().map(String::as_str).collect::<Vec<_>>()).await
}

/// The address of a Slack channel is a secret: it is mounted, and stands in no object of the chart.
#[tokio::test]
async fn addresses_of_notifications_are_mounted_and_let_out() {
    let objects = deployed(&destinations("https://events.example:8443/banyan")).await;
    let pod = &find(&objects, "Deployment", "banyan").unwrap()["spec"]["template"]["spec"];
    let source = &pod["volumes"][0]["projected"]["sources"][0]["secret"];
    assert_eq!((&source["name"], &source["optional"]), (&"banyan-slack".into(), &true.into()));
    assert_eq!(source["items"][0], serde_json::json!({"key": "url", "path": "ops"}));
    let mount = &pod["containers"][0]["volumeMounts"][0];
    assert_eq!(mount["mountPath"], "/var/run/secrets/notifications");
    let policy = find(&objects, "NetworkPolicy", "banyan").unwrap()["spec"]["egress"].to_string();
    assert!(policy.contains(r#""port":8443"#), "{policy}");
    for (value, named) in [
        ("notifications[0].format=Mail", "/notifications/0/format"),
        ("notifications[0].kinds={Pod}", "/notifications/0/kinds/0"),
        ("notifications[0].url=https://a", "/notifications/0"),
        ("notifications[0].channel=ops", "channel"),
    ] {
        let mut values = destinations("https://a");
        values.push(value.to_owned());
        let error = render(&values.iter().map(String::as_str).collect::<Vec<_>>()).await.unwrap_err();
        assert!(error.contains(named), "{value}: {error}");
    }
}

/// What the chart passes, the program reads; and whoever tries a destination out hears whether it works.
#[tokio::test]
async fn a_destination_of_the_chart_can_be_tried_out() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let take = axum::routing::post(async move |body: String| {
        tell.send(body).unwrap();
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().route("/hook", take)).await });
    let objects = deployed(&destinations(&url)).await;
    let container =
        &find(&objects, "Deployment", "banyan").unwrap()["spec"]["template"]["spec"]["containers"][0];
    let passed =
        container["env"].as_array().unwrap().iter().find(|one| one["name"] == "BANYAN_NOTIFICATIONS");
    let passed = passed.unwrap()["value"].as_str().unwrap().to_owned();
    let test = async |name: &str| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_banyan"));
        command.args(["notifications", "test", name]).env("BANYAN_NOTIFICATIONS", &passed);
        command.env("BANYAN_SITE", "aws-us-east-1").output().await.unwrap()
    };
    let output = test("audit").await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let body: Value = serde_json::from_str(&told.recv().await.unwrap()).unwrap();
    assert_eq!((&body["test"], &body["site"]), (&true.into(), &"aws-us-east-1".into()));
    for (name, said) in [("ops", "create the Secret"), ("nobody", "has ops, audit")] {
        let output = test(name).await;
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && words.contains(said), "{words}");
    }
}
