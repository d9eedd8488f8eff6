//! The pod template of a revision.

use crate::api::labels::{REVISION_LABEL, SERVICE_LABEL};
use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::json::{filled, list, number, object, strings, text};
use super::{Scope, environment};
use crate::api::finservice::Tier;
use crate::api::quantity;
use crate::api::units;
use crate::api::workload::{Port, Probe, Resources, Scheduling, Spread, Toleration, Volume};
use crate::finservice::plan::revision::{RevisionInput, copy_name};

/// Pause before a pod is told to stop, in seconds, unless the spec says otherwise: the time in which
/// routes forget the pod.
const PRE_STOP_SECONDS: u64 = 5;
/// Kubernetes' own default for the time to stop, in seconds.
const GRACE_SECONDS: u64 = 30;
/// Group that owns claimed volumes: `nonroot` of the distroless images. Without one a fresh volume
/// belongs to root, and a pod that must not be root cannot write to it.
const VOLUME_GROUP: u32 = 65_532;

/// The PodTemplateSpec of a revision.
pub fn render(scope: &Scope, input: &RevisionInput, hash: &str) -> Value {
    let volumes = volumes(scope, input, hash);
    let mounts: Vec<Value> = volumes.iter().map(|(_, mount)| mount.clone()).collect();
    let claimed = input.volumes.iter().flatten().any(|volume| volume.persistent_volume_claim.is_some());
    let grace = input.termination_grace_period.as_deref().map(seconds);
    let mut containers = input.init_containers.iter().flatten().map(|init| {
        object([
            ("name", text(&init.name)),
            ("image", text(&init.image)),
            ("command", strings(init.command.as_ref())),
            ("args", strings(init.args.as_ref())),
            ("env", list(environment::variables(scope, hash, init.env.as_deref().unwrap_or_default()))),
            ("resources", init.resources.as_ref().or(input.resources.as_ref()).and_then(resources)),
            ("volumeMounts", list(mounts.clone())),
            ("securityContext", Some(restricted())),
        ])
    });
    let init: Vec<Value> = containers.by_ref().collect();
    let probes = input.probes.as_ref();
    let main = object([
        ("name", text(scope.name)),
        ("image", text(&input.image)),
        ("command", strings(input.command.as_ref())),
        ("args", strings(input.args.as_ref())),
        ("ports", list(input.ports.iter().map(port).collect())),
        ("env", list(environment::of_service(scope, input, hash))),
        ("envFrom", list(environment::folders(scope, input, hash))),
        ("resources", input.resources.as_ref().and_then(resources)),
        ("volumeMounts", list(mounts)),
        (
            "readinessProbe",
            probes.and_then(|p| p.readiness.as_ref()).map(probe).or_else(|| first_port_opens(input)),
        ),
        ("livenessProbe", probes.and_then(|p| p.liveness.as_ref()).map(probe)),
        ("startupProbe", probes.and_then(|p| p.startup.as_ref()).map(probe)),
        ("lifecycle", pre_stop(input, grace.unwrap_or(GRACE_SECONDS))),
        // The last lines of the log say why a container stopped, where it wrote no message itself.
        ("terminationMessagePolicy", text("FallbackToLogsOnError")),
        ("securityContext", Some(restricted())),
    ]);
    let scheduling = input.scheduling.clone().unwrap_or_default();
    let spec = object([
        ("serviceAccountName", text(scope.name)),
        // Clouds and mesh inject the tokens that they need themselves; see the ServiceAccount.
        ("automountServiceAccountToken", Some(false.into())),
        ("securityContext", Some(pod_security(claimed))),
        ("priorityClassName", text(priority_class(input.tier.unwrap_or_default()))),
        ("terminationGracePeriodSeconds", grace.map(Value::from)),
        (
            "imagePullSecrets",
            list(input.image_pull_secrets.iter().flatten().map(|name| json!({"name": name})).collect()),
        ),
        ("nodeSelector", scheduling.node_selector.as_ref().and_then(|labels| filled(json!(labels)))),
        ("tolerations", list(scheduling.tolerations.iter().flatten().map(toleration).collect())),
        ("topologySpreadConstraints", list(spread(scope, hash, &scheduling))),
        ("initContainers", list(init)),
        ("containers", Some(json!([main]))),
        ("volumes", list(volumes.into_iter().map(|(volume, _)| volume).collect())),
    ]);
    json!({
        "metadata": {"labels": object([
            ("app.kubernetes.io/name", text(scope.name)),
            ("app.kubernetes.io/version", text(&label_value(&input.release))),
            (SERVICE_LABEL, text(scope.name)),
            (REVISION_LABEL, text(hash)),
        ])},
        "spec": spec,
    })
}

/// Text as the value of a label: at most 63 letters, digits, `-`, `_` and `.`, from a letter or digit
/// to a letter or digit.
pub fn label_value(text: &str) -> String {
    let clean: String = text
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' })
        .take(63)
        .collect();
    clean.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

/// Name of the PriorityClass of a tier; the chart installs them.
fn priority_class(tier: Tier) -> &'static str {
    match tier {
        Tier::Critical => "banyan-critical",
        Tier::Standard => "banyan-standard",
        Tier::Batch => "banyan-batch",
    }
}

/// Whole seconds of a duration, rounded up; the schema has checked that it is one.
fn seconds(duration: &str) -> u64 {
    units::duration(duration).map_or(0, |d| d.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX))
}

fn port(port: &Port) -> Value {
    json!({"name": port.name, "containerPort": port.port, "protocol": "TCP"})
}

/// What the `restricted` Pod Security Standard asks of a container, and a root file system that
/// cannot be changed.
fn restricted() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
    })
}

fn pod_security(claimed: bool) -> Value {
    object([
        ("runAsNonRoot", Some(true.into())),
        ("seccompProfile", Some(json!({"type": "RuntimeDefault"}))),
        ("fsGroup", claimed.then(|| VOLUME_GROUP.into())),
        ("fsGroupChangePolicy", claimed.then(|| "OnRootMismatch".into())),
    ])
}

/// Requests and limits with their quantities in canonical form.
fn resources(resources: &Resources) -> Option<Value> {
    let quantities = |amounts: &Option<std::collections::BTreeMap<_, _>>| {
        let amounts = amounts.as_ref()?;
        filled(Value::Object(
            amounts
                .iter()
                .map(|(name, amount): (&String, &k8s_openapi::apimachinery::pkg::api::resource::Quantity)| {
                    (name.clone(), quantity::canonical(&amount.0).into())
                })
                .collect(),
        ))
    };
    filled(object([("requests", quantities(&resources.requests)), ("limits", quantities(&resources.limits))]))
}

fn probe(probe: &Probe) -> Value {
    object([
        (
            "httpGet",
            probe.http_get.as_ref().map(|get| {
                object([("path", get.path.as_deref().and_then(text)), ("port", Some(json!(get.port)))])
            }),
        ),
        ("tcpSocket", probe.tcp_socket.as_ref().map(|tcp| json!({"port": tcp.port}))),
        (
            "grpc",
            probe.grpc.as_ref().map(|grpc| {
                object([
                    ("port", Some(grpc.port.into())),
                    ("service", grpc.service.as_deref().and_then(text)),
                ])
            }),
        ),
        ("exec", probe.exec.as_ref().map(|exec| json!({"command": exec.command}))),
        ("initialDelaySeconds", number(probe.initial_delay_seconds)),
        ("periodSeconds", number(probe.period_seconds)),
        ("timeoutSeconds", number(probe.timeout_seconds)),
        ("failureThreshold", number(probe.failure_threshold)),
        ("successThreshold", number(probe.success_threshold)),
    ])
}

/// The readiness probe of a service that names none. Five seconds between two tries bound how long
/// a pod that is up waits for its first request.
fn first_port_opens(input: &RevisionInput) -> Option<Value> {
    let port = input.ports.first()?;
    Some(json!({"tcpSocket": {"port": port.name}, "periodSeconds": 5}))
}

/// What runs before the stop. A pause of zero is none, and one that outlasts the time to stop is
/// refused by the API server and would be cut off there anyhow.
fn pre_stop(input: &RevisionInput, grace: u64) -> Option<Value> {
    if let Some(exec) = input.pre_stop.as_ref().and_then(|stop| stop.exec.as_ref()) {
        return Some(json!({"preStop": {"exec": {"command": exec.command}}}));
    }
    let asked = input.pre_stop.as_ref().and_then(|stop| stop.sleep.as_deref());
    let pause = asked.map_or(PRE_STOP_SECONDS, seconds).min(grace);
    (pause > 0).then(|| json!({"preStop": {"sleep": {"seconds": pause}}}))
}

fn toleration(toleration: &Toleration) -> Value {
    let field = |value: &Option<String>| value.as_deref().and_then(text);
    object([
        ("key", field(&toleration.key)),
        ("operator", field(&toleration.operator)),
        ("value", field(&toleration.value)),
        ("effect", field(&toleration.effect)),
    ])
}

/// Pods of one revision are spread over zones, and over nodes.
fn spread(scope: &Scope, hash: &str, scheduling: &Scheduling) -> Vec<Value> {
    let unsatisfiable = match scheduling.spread.unwrap_or_default() {
        Spread::Preferred => "ScheduleAnyway",
        Spread::Required => "DoNotSchedule",
        Spread::None => return Vec::new(),
    };
    ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
        .into_iter()
        .map(|key| {
            json!({
                "topologyKey": key,
                "maxSkew": 1,
                "whenUnsatisfiable": unsatisfiable,
                "labelSelector": {"matchLabels": scope.revision_labels(hash)},
                // A cordoned node counts as empty otherwise, and a drain would leave pods pending.
                "nodeTaintsPolicy": "Honor",
            })
        })
        .collect()
}

/// Volumes, each with its mount.
fn volumes(scope: &Scope, input: &RevisionInput, hash: &str) -> Vec<(Value, Value)> {
    let own: Vec<&Volume> = input.volumes.iter().flatten().collect();
    let taken: BTreeSet<&str> = own.iter().map(|volume| volume.name.as_str()).collect();
    let free = |base: String| {
        let mut name = base;
        while taken.contains(name.as_str()) {
            name.push_str("-0");
        }
        name
    };
    let mut volumes: Vec<(Value, Value)> = Vec::new();
    for volume in &own {
        let source = match (&volume.persistent_volume_claim, &volume.empty_dir) {
            (Some(claim), _) => ("persistentVolumeClaim", json!({"claimName": claim})),
            (None, empty_dir) => {
                let empty_dir = empty_dir.clone().unwrap_or_default();
                let limit = empty_dir.size_limit.map(|limit| quantity::canonical(&limit.0).into());
                let medium = empty_dir.memory.unwrap_or(false).then(|| "Memory".into());
                ("emptyDir", object([("medium", medium), ("sizeLimit", limit)]))
            }
        };
        volumes.push((
            object([("name", text(&volume.name)), (source.0, Some(source.1))]),
            object([
                ("name", text(&volume.name)),
                ("mountPath", text(&volume.mount_path)),
                ("readOnly", volume.read_only.filter(|read_only| *read_only).map(Value::from)),
            ]),
        ));
    }
    for (index, files) in input.files.iter().flatten().enumerate() {
        let name = free(format!("files-{index}"));
        let source = match (&files.config_map, &files.secret) {
            (Some(config_map), _) => ("configMap", json!({"name": copy_name(scope.name, hash, config_map)})),
            (None, secret) => ("secret", json!({"secretName": secret.as_deref().unwrap_or_default()})),
        };
        volumes.push((
            object([("name", text(&name)), (source.0, Some(source.1))]),
            json!({"name": name, "mountPath": files.mount_path, "readOnly": true}),
        ));
    }
    // The root file system cannot be written to, and most programs want a place for scratch files.
    if volumes
        .iter()
        .all(|(_, mount)| mount["mountPath"].as_str().map(|path| path.trim_end_matches('/')) != Some("/tmp"))
    {
        let name = free("tmp".to_owned());
        volumes.push((json!({"name": name, "emptyDir": {}}), json!({"name": name, "mountPath": "/tmp"})));
    }
    volumes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::workload::{PreStop, Probes};
    use crate::finservice::testing;

    fn rendered(change: impl FnOnce(&mut RevisionInput)) -> Value {
        let spec = testing::minimal();
        let mut input = testing::input(&spec);
        change(&mut input);
        render(&testing::scope(&spec), &input, "bcdfghjklm")["spec"].clone()
    }

    #[test]
    fn labels_take_any_release() {
        assert_eq!(label_value("bank/transaction:1.4.2"), "bank_transaction_1.4.2");
        assert_eq!(label_value("app@sha256:0123"), "app_sha256_0123");
        assert_eq!(label_value("-_x_-"), "x");
        assert_eq!(label_value("___"), "");
        assert_eq!(label_value(&"a".repeat(100)).len(), 63);
    }

    #[test]
    fn the_pause_before_the_stop_fits_into_the_time_to_stop() {
        let pause = |sleep: Option<&str>, grace: Option<&str>| {
            let spec = rendered(|input| {
                input.pre_stop = sleep.map(|s| PreStop { sleep: Some(s.to_owned()), exec: None });
                input.termination_grace_period = grace.map(str::to_owned);
            });
            spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64()
        };
        assert_eq!(pause(None, None), Some(5));
        assert_eq!(pause(Some("1500ms"), None), Some(2));
        assert_eq!(pause(None, Some("3s")), Some(3));
        assert_eq!(pause(Some("1m"), None), Some(30));
        assert_eq!(pause(Some("1m"), Some("90s")), Some(60));
        assert_eq!(pause(Some("0s"), None), None);
        assert_eq!(pause(None, Some("0s")), None);
    }

    #[test]
    fn zeros_that_the_api_server_drops_are_not_written() {
        let spec = rendered(|input| {
            input.probes = Some(Probes {
                liveness: Some(Probe {
                    exec: Some(crate::api::workload::Exec { command: vec!["true".to_owned()] }),
                    initial_delay_seconds: Some(0),
                    period_seconds: Some(3),
                    ..Probe::default()
                }),
                ..Probes::default()
            });
        });
        assert_eq!(
            spec["containers"][0]["livenessProbe"],
            json!({"exec": {"command": ["true"]}, "periodSeconds": 3})
        );
    }

    #[test]
    fn a_volume_of_the_user_keeps_its_name_and_place() {
        let spec = rendered(|input| {
            input.volumes = Some(vec![
                Volume { name: "tmp".to_owned(), mount_path: "/data".to_owned(), ..Volume::default() },
                Volume {
                    name: "files-0".to_owned(),
                    mount_path: "/claim".to_owned(),
                    persistent_volume_claim: Some("disk".to_owned()),
                    ..Volume::default()
                },
            ]);
            input.files = Some(vec![crate::api::workload::Files {
                mount_path: "/etc/app".to_owned(),
                config_map: Some("app".to_owned()),
                secret: None,
            }]);
        });
        let names: BTreeSet<&str> =
            spec["volumes"].as_array().into_iter().flatten().filter_map(|v| v["name"].as_str()).collect();
        assert_eq!(names, BTreeSet::from(["tmp", "files-0", "files-0-0", "tmp-0"]));
        assert_eq!(spec["securityContext"]["fsGroup"], 65_532);
        let own = rendered(|input| {
            input.volumes = Some(vec![Volume {
                name: "scratch".to_owned(),
                mount_path: "/tmp/".to_owned(),
                ..Volume::default()
            }]);
        });
        assert_eq!(own["volumes"].as_array().map(Vec::len), Some(1));
        assert_eq!(own["securityContext"].get("fsGroup"), None);
    }

    #[test]
    fn spreading_can_be_asked_for_or_left() {
        let policy = |spread| {
            let spec = rendered(|input| {
                input.scheduling = Some(Scheduling { spread: Some(spread), ..Scheduling::default() });
            });
            spec["topologySpreadConstraints"][0]["whenUnsatisfiable"].as_str().map(str::to_owned)
        };
        assert_eq!(policy(Spread::Preferred).as_deref(), Some("ScheduleAnyway"));
        assert_eq!(policy(Spread::Required).as_deref(), Some("DoNotSchedule"));
        assert_eq!(policy(Spread::None), None);
    }
}
