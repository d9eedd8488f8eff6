//! Each alert of the chart fires, and not too early: promtool evaluates `charts/banyan/files/alerts.yaml` on what
//! [`Metrics::encode`] tells minute by minute, so that an alert on a metric that is called otherwise is found here.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::key::Key;
use super::metrics::{Metrics, Outcome};
use super::request::RequestInfo;
use crate::api::failover::MoveAction;
use crate::api::stuck::{Stands, of_move};
use crate::api::{
    CanaryRolloutStatus, CloudClusterStatus, FailoverGroupStatus, FailoverStatus, FinServiceStatus,
};

const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/banyan/files/alerts.yaml");
/// How long each story is, in minutes.
const LONG: i64 = 60;
/// Labels that a scrape adds.
const SCRAPED: &str = r#"job="banyan",instance="10.0.0.1:8080""#;

/// What happens until an alert fires.
struct Story {
    alert: &'static str,
    /// A minute in which it does not fire yet, and one in which it does. What is counted over a range may come a minute
    /// sooner or later, by the version of Prometheus.
    fires: (i64, i64),
    /// Its labels, beside its name and its severity.
    labels: &'static [(&'static str, &'static str)],
    summary: &'static str,
    /// What the operator tells in each minute; false where it tells nothing.
    happens: fn(&Metrics, i64) -> bool,
}

/// A status with conditions as `Type=Status Reason`, all of them since the fifth minute, and more.
fn status<S: DeserializeOwned>(conditions: &[&str], mut more: Value) -> S {
    let condition = |words: &&str| {
        let (kind, rest) = words.split_once('=').expect("a condition");
        let (status, reason) = rest.split_once(' ').expect("a reason");
        json!({"type": kind, "status": status, "reason": reason, "message": "",
            "lastTransitionTime": "1970-01-01T00:05:00Z"})
    };
    more["conditions"] = conditions.iter().map(condition).collect();
    serde_json::from_value(more).expect("a status")
}

/// From the fifth minute on, an object has that status.
fn tells(metrics: &Metrics, minute: i64, kind: &str, key: (&str, &str), status: &impl Stands) -> bool {
    well(metrics, minute);
    if minute >= 5 {
        metrics.stuck().set(kind, &Key::new(key.0, key.1), status.stuck());
    }
    true
}

fn rollout(phase: &str, stalled: &str) -> CanaryRolloutStatus {
    let past = json!({"release": "b", "revision": "b", "outcome": "RolledBack", "message": "",
        "startedAt": "1970-01-01T00:01:00Z", "endedAt": "1970-01-01T00:05:00Z"});
    let running = json!({"canary": "b", "release": "b", "startedAt": "1970-01-01T00:05:00Z"});
    let more = json!({"phase": phase, "history": [past], "memory": {"rollout": running}});
    status(&[&format!("Ready=False {phase}"), stalled], more)
}

/// The operator leads and is at work; of many reconciles some fail, as they do, and a watch breaks and comes back.
fn well(metrics: &Metrics, minute: i64) -> bool {
    metrics.set_leader(true);
    metrics.queues().read_from("finservices", || Duration::from_secs(20));
    for _ in 0..50 {
        metrics.reconciled("finservices", Outcome::Unchanged, Duration::from_millis(1));
    }
    metrics.reconciled("finservices", Outcome::Error, Duration::from_millis(1));
    if minute % 5 == 0 {
        requested(metrics, "finservices", "200");
    }
    if minute == 30 {
        (0..20).for_each(|_| requested(metrics, "finservices", "error"));
    }
    true
}

fn requested(metrics: &Metrics, resource: &str, code: &str) {
    let info = RequestInfo { verb: "watch", group: "banyan.dev".into(), resource: resource.into() };
    metrics.requested(info, code, None);
}

fn stories() -> Vec<Story> {
    const NO_PROBLEM: &str = "Stalled=False NoProblem";
    vec![
        Story {
            alert: "BanyanServiceStuck",
            fires: (20, 21),
            labels: &[("namespace", "pay"), ("name", "ledger"), ("reason", "Degraded")],
            summary: "FinService pay/ledger has not been well for 16m 0s: Degraded",
            happens: |metrics, minute| {
                let status: FinServiceStatus = status(&["Ready=False Degraded", NO_PROBLEM], json!({}));
                tells(metrics, minute, "FinService", ("pay", "ledger"), &status)
            },
        },
        Story {
            alert: "BanyanRolloutWaits",
            fires: (15, 16),
            labels: &[("namespace", "pay"), ("name", "ledger"), ("reason", "Inconclusive")],
            summary: "CanaryRollout pay/ledger does not move on without a person: Inconclusive",
            happens: |metrics, minute| {
                let status = rollout("Inconclusive", "Stalled=True Inconclusive");
                tells(metrics, minute, "CanaryRollout", ("pay", "ledger"), &status)
            },
        },
        Story {
            alert: "BanyanRolloutRolledBack",
            fires: (4, 5),
            labels: &[("namespace", "pay"), ("name", "ledger"), ("reason", "RolledBack")],
            summary: "CanaryRollout pay/ledger was rolled back 0s ago",
            happens: |metrics, minute| {
                let status = rollout("RolledBack", NO_PROBLEM);
                tells(metrics, minute, "CanaryRollout", ("pay", "ledger"), &status)
            },
        },
        Story {
            alert: "BanyanFailoverWaits",
            fires: (7, 8),
            labels: &[("namespace", "banyan-system"), ("name", "move"), ("reason", "NotFenced")],
            summary: "Failover move has waited for 3m 0s: NotFenced",
            happens: |metrics, minute| {
                well(metrics, minute);
                let wait = json!({"reason": "NotFenced", "step": "fence", "millis": 0,
                    "since": "1970-01-01T00:05:00Z"});
                let more = json!({"phase": "Waiting", "reason": "NotFenced", "waits": [wait]});
                let status: FailoverStatus = status(&[], more);
                let stuck = of_move(MoveAction::Failover, &status, false);
                metrics.stuck().set("Failover", &Key::new("banyan-system", "move"), stuck);
                true
            },
        },
        Story {
            alert: "BanyanFailoverNotReady",
            fires: (20, 21),
            labels: &[("namespace", "banyan-system"), ("name", "pay"), ("reason", "LagTooGreat")],
            summary: "FailoverGroup pay could not fail over for 16m 0s: LagTooGreat",
            happens: |metrics, minute| {
                let said = ["Ready=False LagTooGreat", "Protected=True Follows"];
                let status: FailoverGroupStatus = status(&said, json!({}));
                tells(metrics, minute, "FailoverGroup", ("banyan-system", "pay"), &status)
            },
        },
        Story {
            alert: "BanyanFailoverUnprotected",
            fires: (15, 16),
            labels: &[("namespace", "banyan-system"), ("name", "pay"), ("reason", "NobodyFollows")],
            summary: "No standby has followed FailoverGroup pay for 11m 0s",
            happens: |metrics, minute| {
                let said = ["Ready=True CouldFailOver", "Protected=False NobodyFollows"];
                let status: FailoverGroupStatus = status(&said, json!({}));
                tells(metrics, minute, "FailoverGroup", ("banyan-system", "pay"), &status)
            },
        },
        Story {
            alert: "BanyanSiteUnreachable",
            fires: (15, 16),
            labels: &[("namespace", "banyan-system"), ("name", "gcp"), ("reason", "NoAnswer")],
            summary: "Site gcp has not been reachable for 11m 0s: NoAnswer",
            happens: |metrics, minute| {
                let status: CloudClusterStatus = status(&["Ready=False NoAnswer", NO_PROBLEM], json!({}));
                tells(metrics, minute, "CloudCluster", ("banyan-system", "gcp"), &status)
            },
        },
        Story {
            alert: "BanyanOperatorDown",
            fires: (24, 25),
            labels: &[],
            summary: "Nothing has been heard of the Banyan operator of this cluster for ten minutes",
            happens: |metrics, minute| minute < 15 && well(metrics, minute),
        },
        Story {
            alert: "BanyanNoLeader",
            fires: (24, 25),
            labels: &[("job", "banyan")],
            summary: "No replica of the Banyan operator has led for five minutes",
            happens: |metrics, minute| {
                well(metrics, minute);
                metrics.set_leader(minute < 20);
                true
            },
        },
        Story {
            alert: "BanyanQueueStands",
            fires: (21, 22),
            labels: &[("job", "banyan"), ("resource", "finservices")],
            summary: "One of the finservices has waited for the operator for 10m 1s",
            happens: |metrics, minute| {
                well(metrics, minute);
                if minute >= 20 {
                    metrics.queues().read_from("finservices", || Duration::from_secs(601));
                }
                true
            },
        },
        Story {
            alert: "BanyanReconcileErrors",
            fires: (13, 17),
            labels: &[("job", "banyan"), ("resource", "cloudclusters")],
            summary: "15 reconciles of cloudclusters failed within 15 minutes",
            happens: |metrics, minute| {
                well(metrics, minute);
                metrics.reconciled("cloudclusters", Outcome::Error, Duration::from_millis(1));
                true
            },
        },
        Story {
            alert: "BanyanNotificationsFail",
            fires: (9, 12),
            labels: &[("job", "banyan"), ("destination", "ops")],
            summary: "Notifications to ops are not taken",
            happens: |metrics, minute| {
                well(metrics, minute);
                metrics.notified("ops", "dropped", usize::from(minute == 11));
                metrics.notification_failures("ops", u64::from(minute % 10 == 1));
                true
            },
        },
        Story {
            alert: "BanyanWatchBroken",
            fires: (21, 24),
            labels: &[("job", "banyan"), ("group", "banyan.dev"), ("resource", "canaryrollouts")],
            summary: "The operator cannot follow canaryrollouts",
            happens: |metrics, minute| {
                well(metrics, minute);
                let code = if minute < 10 { "200" } else { "403" };
                requested(metrics, "canaryrollouts", code);
                true
            },
        },
    ]
}

/// What must wake nobody: all is well, or waits as it should, or is a standby's.
fn quiet(metrics: &Metrics, minute: i64) -> bool {
    let service = |reason: &str| -> FinServiceStatus {
        status(&[&format!("Ready=Unknown {reason}"), "Stalled=False NoProblem"], json!({}))
    };
    tells(metrics, minute, "FinService", ("pay", "paused"), &service("Paused"));
    let well = "Stalled=False NoProblem";
    for phase in ["Gated", "Paused", "Waiting", "Frozen", "Analysing"] {
        tells(metrics, minute, "CanaryRollout", ("pay", phase), &rollout(phase, well));
    }
    let mut aborted = rollout("RolledBack", well);
    aborted.history[0].outcome = crate::api::canarystatus::Outcome::Aborted;
    tells(metrics, minute, "CanaryRollout", ("pay", "aborted"), &aborted);
    let not_asked: CloudClusterStatus = status(&["Ready=Unknown NotAsked"], json!({}));
    tells(metrics, minute, "CloudCluster", ("banyan-system", "gcp"), &not_asked);
    // One that is not well for a while, and then is.
    let degraded: FinServiceStatus = status(&["Ready=False Degraded", well], json!({}));
    let serving: FinServiceStatus = status(&["Ready=True Serving", well], json!({}));
    let now = if minute < 19 { &degraded } else { &serving };
    tells(metrics, minute, "FinService", ("pay", "heals"), now)
}

/// What a scrape of each minute tells, as promtool takes it.
fn input(happens: fn(&Metrics, i64) -> bool) -> Value {
    let metrics = Metrics::new();
    let mut series: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for minute in 0..LONG {
        let told = happens(&metrics, minute);
        let text = metrics.encode().expect("text");
        for line in text.lines().filter(|line| told && line.starts_with("banyan_")) {
            let (name, value) = line.rsplit_once(' ').expect("a sample");
            let (name, labels) = name.split_once('{').unwrap_or((name, "}"));
            let comma = if labels == "}" { "" } else { "," };
            let values = series.entry(format!("{name}{{{SCRAPED}{comma}{labels}")).or_default();
            values.resize(minute as usize, "_".to_owned());
            values.push(value.to_owned());
        }
        // What is told no more is gone at once, as after a scrape.
        for values in series.values_mut().filter(|values| values.len() == minute as usize) {
            values.push("stale".to_owned());
        }
    }
    let row = |(series, values): (String, Vec<String>)| json!({"series": series, "values": values.join(" ")});
    series.into_iter().map(row).collect()
}

fn rules() -> Vec<Value> {
    let text = std::fs::read_to_string(RULES).expect("the rules");
    let rules: Value = serde_norway::from_str(&text).expect("YAML");
    let groups = rules["groups"].as_array().expect("groups").iter();
    groups.flat_map(|group| group["rules"].as_array().expect("rules").clone()).collect()
}

/// All alerts that fire in a minute are these.
fn firing(minute: i64, alerts: &[String]) -> Value {
    let samples = alerts.iter().map(|labels| json!({"labels": labels, "value": 1}));
    json!({"expr": r#"ALERTS{alertstate="firing"}"#, "eval_time": format!("{minute}m"),
        "exp_samples": samples.collect::<Vec<_>>()})
}

/// A story as promtool tests it: it fires as it should, alone, and not before.
fn tested(story: &Story, rule: &Value) -> Value {
    let mut labels: BTreeMap<&str, &str> = story.labels.iter().copied().collect();
    labels.insert("severity", rule["labels"]["severity"].as_str().expect("a severity"));
    let mut all = labels.clone();
    all.extend([("alertname", story.alert), ("alertstate", "firing")]);
    let pairs: Vec<String> = all.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    let (not_yet, at) = story.fires;
    let fires = format!("ALERTS{{{}}}", pairs.join(","));
    let mut annotations = rule["annotations"].clone();
    annotations["summary"] = story.summary.into();
    json!({
        "name": story.alert,
        "interval": "1m",
        "input_series": input(story.happens),
        "promql_expr_test": [firing(not_yet, &[]), firing(at, &[fires])],
        "alert_rule_test": [{
            "eval_time": format!("{at}m"),
            "alertname": story.alert,
            "exp_alerts": [{"exp_labels": labels, "exp_annotations": annotations}],
        }],
    })
}

#[test]
fn faults_6_16_each_alert_fires_when_it_should_and_no_other_does() {
    let (rules, stories) = (rules(), stories());
    let named = |rule: &Value| rule["alert"].as_str().expect("a name").to_owned();
    let told: BTreeSet<String> = stories.iter().map(|story| story.alert.to_owned()).collect();
    assert_eq!(told, rules.iter().map(named).collect::<BTreeSet<_>>(), "a story for each alert");
    let rule = |story: &Story| rules.iter().find(|rule| named(rule) == story.alert).expect("it is there");
    let mut tests: Vec<Value> = stories.iter().map(|story| tested(story, rule(story))).collect();
    let minutes = (0..LONG).map(|minute| firing(minute, &[]));
    tests.push(json!({"name": "quiet", "interval": "1m", "input_series": input(quiet),
        "promql_expr_test": minutes.collect::<Vec<_>>()}));
    let file = json!({"rule_files": [RULES], "evaluation_interval": "1m", "tests": tests});

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("alerts_test.yaml");
    std::fs::write(&path, serde_norway::to_string(&file).expect("YAML")).expect("a file");
    let output = match Command::new("promtool").args(["test", "rules"]).arg(&path).output() {
        Ok(output) => output,
        Err(error) => {
            println!("skipped: promtool: {error}; it comes with the package prometheus");
            assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "promtool is not installed");
            return;
        }
    };
    let words = [output.stdout, output.stderr].map(|words| String::from_utf8_lossy(&words).into_owned());
    assert!(output.status.success(), "{}{}", words[0], words[1]);
}
