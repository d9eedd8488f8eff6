//! The pod template of a revision.

use crate::api::labels::{REVISION_LABEL, SERVICE_LABEL};

use serde_json::{Value, json};

use super::json::{filled, list, number, object, strings, text};
use super::{Scope, environment, mounts};
use crate::api::finservice::Tier;
use crate::api::probes::{Probe, Probes};
use crate::api::quantity;
use crate::api::units;
use crate::api::workload::{Port, Resources, Scheduling, Security, Spread, Toleration};
use crate::finservice::plan::revision::RevisionInput;

/// Pause before a pod is told to stop, in seconds, unless the spec says otherwise: the time in which
/// routes forget the pod.
pub const PRE_STOP_SECONDS: u64 = 5;
/// Kubernetes' own default for the time to stop, in seconds.
const GRACE_SECONDS: u64 = 30;
/// Group that owns claimed volumes: `nonroot` of the distroless images. Without one a fresh volume
/// belongs to root, and a pod that must not be root cannot write to it.
const VOLUME_GROUP: i64 = 65_532;

/// The PodTemplateSpec of a revision.
pub fn render(scope: &Scope, input: &RevisionInput, hash: &str) -> Value {
    let volumes = mounts::volumes(scope, input, hash);
    let mounts: Vec<Value> = volumes.iter().map(|(_, mount)| mount.clone()).collect();
    let claimed = input.volumes.iter().flatten().any(|volume| volume.persistent_volume_claim.is_some());
    let grace = input.termination_grace_period.as_deref().map(seconds);
    let security = input.security.clone().unwrap_or_default();
    let mut containers = input.init_containers.iter().flatten().map(|init| {
        object([
            ("name", text(&init.name)),
            ("image", text(&init.image)),
            ("command", strings(init.command.as_ref())),
            ("args", strings(init.args.as_ref())),
            ("restartPolicy", init.restart_policy.map(|_| "Always".into())),
            ("env", list(environment::variables(scope, hash, init.env.as_deref().unwrap_or_default()))),
            (
                "envFrom",
                list(environment::folders(scope, hash, init.env_from.as_deref().unwrap_or_default())),
            ),
            ("resources", init.resources.as_ref().or(input.resources.as_ref()).and_then(resources)),
            ("volumeMounts", list(mounts.clone())),
            ("readinessProbe", asked(init.probes.as_ref(), |probes| probes.readiness.as_ref())),
            ("livenessProbe", asked(init.probes.as_ref(), |probes| probes.liveness.as_ref())),
            ("startupProbe", asked(init.probes.as_ref(), |probes| probes.startup.as_ref())),
            ("securityContext", Some(restricted(&security))),
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
        ("envFrom", list(environment::folders(scope, hash, input.env_from.as_deref().unwrap_or_default()))),
        ("resources", input.resources.as_ref().and_then(resources)),
        ("volumeMounts", list(mounts)),
        (
            "readinessProbe",
            asked(probes, |probes| probes.readiness.as_ref()).or_else(|| first_port_opens(input)),
        ),
        ("livenessProbe", asked(probes, |probes| probes.liveness.as_ref())),
        ("startupProbe", asked(probes, |probes| probes.startup.as_ref())),
        ("lifecycle", pre_stop(input, grace.unwrap_or(GRACE_SECONDS))),
        // The last lines of the log say why a container stopped, where it wrote no message itself.
        ("terminationMessagePolicy", text("FallbackToLogsOnError")),
        ("securityContext", Some(restricted(&security))),
    ]);
    let scheduling = input.scheduling.clone().unwrap_or_default();
    let spec = object([
        ("serviceAccountName", text(scope.name)),
        // Clouds and mesh inject the tokens that they need themselves; see the ServiceAccount.
        ("automountServiceAccountToken", Some(false.into())),
        ("securityContext", Some(pod_security(claimed, &security))),
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
    let mut labels = json!(input.pod_labels.clone().unwrap_or_default());
    let ours = object([
        ("app.kubernetes.io/name", text(scope.name)),
        ("app.kubernetes.io/version", text(&label_value(&input.release))),
        (SERVICE_LABEL, text(scope.name)),
        (REVISION_LABEL, text(hash)),
    ]);
    for (key, value) in ours.as_object().into_iter().flatten() {
        labels[key] = value.clone();
    }
    let annotations = input.pod_annotations.as_ref().and_then(|annotations| filled(json!(annotations)));
    json!({
        "metadata": object([("labels", Some(labels)), ("annotations", annotations)]),
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
fn restricted(security: &Security) -> Value {
    let kept = list(security.capabilities.iter().flatten().map(|kept| json!(kept)).collect());
    json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": security.read_only_root_filesystem.unwrap_or(true),
        "capabilities": object([("drop", Some(json!(["ALL"]))), ("add", kept)]),
    })
}

fn pod_security(claimed: bool, security: &Security) -> Value {
    let group = security.fs_group.or_else(|| claimed.then_some(VOLUME_GROUP));
    object([
        ("runAsNonRoot", Some(true.into())),
        ("runAsUser", security.run_as_user.map(Value::from)),
        ("runAsGroup", security.run_as_group.map(Value::from)),
        ("seccompProfile", Some(json!({"type": "RuntimeDefault"}))),
        ("fsGroup", group.map(Value::from)),
        ("fsGroupChangePolicy", group.map(|_| "OnRootMismatch".into())),
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

fn asked(probes: Option<&Probes>, which: impl Fn(&Probes) -> Option<&Probe>) -> Option<Value> {
    probes.and_then(which).map(probe)
}

fn probe(probe: &Probe) -> Value {
    object([
        (
            "httpGet",
            probe.http_get.as_ref().map(|get| {
                let headers = get.http_headers.iter().flatten();
                object([
                    ("path", get.path.as_deref().and_then(text)),
                    ("port", Some(json!(get.port))),
                    ("scheme", get.scheme.map(|scheme| json!(scheme))),
                    ("httpHeaders", list(headers.map(|header| json!(header)).collect())),
                ])
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::workload::PreStop;
    use crate::finservice::testing::{self, rendered};

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
                    exec: Some(crate::api::probes::Exec { command: vec!["true".to_owned()] }),
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

    /// Row 6.1: images that name no user, and volumes that root owns.
    #[test]
    fn faults_6_1_pods_run_as_who_they_are_said_to_be() {
        let spec = rendered(|input| {
            input.security = Some(Security {
                run_as_user: Some(1000),
                run_as_group: Some(1001),
                fs_group: Some(1002),
                read_only_root_filesystem: Some(false),
                capabilities: Some(vec![crate::api::workload::Capability::NET_BIND_SERVICE]),
            });
        });
        let pod = &spec["securityContext"];
        assert_eq!(
            (&pod["runAsUser"], &pod["runAsGroup"], &pod["fsGroup"]),
            (&json!(1000), &json!(1001), &json!(1002))
        );
        assert_eq!(pod["runAsNonRoot"], true, "no root, whatever is said");
        let container = &spec["containers"][0]["securityContext"];
        assert_eq!(container["capabilities"], json!({"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}));
        assert_eq!(
            (&container["readOnlyRootFilesystem"], &container["allowPrivilegeEscalation"]),
            (&json!(false), &json!(false))
        );
    }

    #[test]
    fn faults_6_6_labels_and_annotations_are_passed_on() {
        let mut spec = testing::rich();
        // Ours stay, whatever came by without the schema.
        let labels = spec.pod_labels.as_mut().expect("labels");
        labels.insert("banyan.dev/revision".to_owned(), "another".to_owned());
        let input = testing::input(&spec);
        let template = render(&testing::scope(&spec), &input, "bcdfghjklm");
        assert_eq!(template["metadata"]["labels"]["finflow.example/cost-centre"], "4711");
        assert_eq!(template["metadata"]["labels"]["banyan.dev/revision"], "bcdfghjklm");
        assert!(template["metadata"]["annotations"]["proxy.istio.io/config"].is_string());
    }

    #[test]
    fn faults_6_14_probes_send_the_headers_that_are_asked_for() {
        let spec = testing::rich();
        let template = render(&testing::scope(&spec), &testing::input(&spec), "bcdfghjklm");
        let containers = template["spec"]["containers"].as_array().expect("containers");
        let own = containers.iter().find(|container| container["name"] == testing::NAME).expect("its own");
        assert_eq!(
            own["readinessProbe"]["httpGet"]["httpHeaders"],
            json!([{"name": "X-Probe", "value": "kubelet"}])
        );
    }

    #[test]
    fn faults_6_7_sidecars_and_tokens_are_passed_on() {
        let spec = testing::rich();
        let input = testing::input(&spec);
        let template = render(&testing::scope(&spec), &input, "bcdfghjklm");
        let proxy = &template["spec"]["initContainers"][2];
        assert_eq!(
            (&proxy["restartPolicy"], &proxy["startupProbe"]["tcpSocket"]["port"]),
            (&json!("Always"), &json!(5432))
        );
        assert_eq!(proxy["envFrom"], json!([{"secretRef": {"name": "ledger-db"}}]));
        assert_eq!(template["spec"]["initContainers"][0].get("restartPolicy"), None);
        let volumes = template["spec"]["volumes"].as_array().expect("volumes");
        let token = volumes.iter().find(|volume| volume["name"] == "vault").expect("a token");
        assert_eq!(
            token["projected"]["sources"],
            json!([{"serviceAccountToken": {"audience": "vault", "path": "token", "expirationSeconds": 7200}}])
        );
    }
}
