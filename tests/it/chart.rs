//! The Helm chart, rendered by Helm: what it grants, what it refuses, and that the API server takes it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use banyan::finservice::children::Kind;
use banyan::sandbox::install::{apply, documents};
use banyan::sandbox::{pair, tools};
use expect_test::expect_file;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/banyan");

/// Helm: `$BANYAN_HELM`, else built once from its Go module.
async fn helm_path() -> &'static Path {
    static HELM: OnceCell<PathBuf> = OnceCell::const_new();
    HELM.get_or_init(|| async {
        if let Some(path) = std::env::var_os("BANYAN_HELM") {
            return path.into();
        }
        let supervisor = pair().await.unwrap().supervisor().clone();
        let progress = banyan::terminal::progress::Progress::stderr();
        tokio::task::spawn_blocking(move || tools::obtain(&tools::HELM, &supervisor, &progress))
            .await
            .unwrap()
            .unwrap()
    })
    .await
}

/// What Helm makes of the chart with these values, or what it says against them.
pub async fn render(values: &[&str]) -> Result<String, String> {
    let mut command = Command::new(helm_path().await);
    command.args(["template", "banyan", CHART, "--namespace", "banyan-system"]);
    // A Helm that was not linked with a version of Kubernetes takes an old one for granted.
    command.args(["--kube-version", tools::KUBERNETES]);
    for value in values {
        command.args(["--set", value]);
    }
    let output = command.output().unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// The objects that Helm makes of the chart with these values.
pub async fn objects(values: &[&str]) -> Vec<Value> {
    documents("the chart", &render(values).await.unwrap()).unwrap()
}

pub fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> Option<&'a Value> {
    objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().map(|list| list.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

/// Every rule of every role among the objects, with the role's name.
fn rules(objects: &[Value]) -> Vec<(&str, &Value)> {
    objects
        .iter()
        .filter(|object| matches!(object["kind"].as_str(), Some("ClusterRole" | "Role")))
        .flat_map(|role| {
            let name = role["metadata"]["name"].as_str().unwrap();
            role["rules"].as_array().unwrap().iter().map(move |rule| (name, rule))
        })
        .collect()
}

/// The one value that is required.
pub const SITE: &str = "site=aws-us-east-1";
const EVERYTHING: &[&str] = &[
    SITE,
    "evidence.allow={prometheus.monitoring:9090,*.finflow.example}",
    "metrics.serviceMonitor.enabled=true",
    "metrics.prometheusRule.enabled=true",
    "tracing.otlpEndpoint=https://collector.example",
    "argocd.enabled=true",
    "notifications[0].name=ops",
    "notifications[0].format=Slack",
    "notifications[0].urlFrom.secret=banyan-slack",
    "notifications[0].urlFrom.key=url",
];

/// The sandbox gives the operator the rights of this file.
#[tokio::test]
async fn what_is_rendered_is_what_is_kept() {
    let rendered = render(&[SITE, "crds.install=false"]).await.unwrap();
    expect_file!["../goldens/chart/rendered.yaml"].assert_eq(&rendered);
}

#[tokio::test]
async fn definitions_are_those_of_the_types_and_stay_when_the_chart_goes() {
    let objects = objects(&[SITE]).await;
    for expected in banyan::api::crds() {
        let name = expected.metadata.name.clone().unwrap();
        let found = find(&objects, "CustomResourceDefinition", &name).unwrap();
        assert_eq!(found["metadata"]["annotations"]["helm.sh/resource-policy"], "keep", "{name}");
        let found: CustomResourceDefinition = serde_json::from_value(found.clone()).unwrap();
        assert_eq!(found.spec, expected.spec, "{name}");
    }
    let without = self::objects(&[SITE, "crds.keep=false"]).await;
    assert!(find(&without, "CustomResourceDefinition", "finservices.banyan.dev").unwrap()["metadata"]["annotations"].is_null());
}

#[tokio::test]
async fn nothing_that_is_granted_leads_to_more() {
    let objects = objects(EVERYTHING).await;
    let rules = rules(&objects);
    assert!(rules.len() > 20);
    for (role, rule) in &rules {
        let text = rule.to_string();
        assert!(!text.contains('*'), "{role}: {text}");
        assert!(rule.get("nonResourceURLs").is_none(), "{role}: {text}");
        for verb in strings(&rule["verbs"]) {
            assert!(
                !matches!(verb, "escalate" | "bind" | "impersonate" | "deletecollection"),
                "{role}: {text}"
            );
        }
        for resource in strings(&rule["resources"]) {
            let writes =
                strings(&rule["verbs"]).iter().any(|verb| !matches!(*verb, "get" | "list" | "watch"));
            let never = [
                "secrets",
                "nodes",
                "namespaces",
                "pods",
                "pods/exec",
                "roles",
                "clusterroles",
                "rolebindings",
                "clusterrolebindings",
                "serviceaccounts/token",
                "customresourcedefinitions",
                "validatingwebhookconfigurations",
                "mutatingwebhookconfigurations",
            ];
            assert!(!(writes && never.contains(&resource)), "{role}: {text}");
        }
    }
    for object in &objects {
        if matches!(object["kind"].as_str(), Some("ClusterRoleBinding" | "RoleBinding")) {
            let account = match object["roleRef"]["name"].as_str().unwrap() {
                "banyan-operator" => "banyan",
                "banyan-authority" => "banyan-authority",
                other => panic!("{other} is bound"),
            };
            assert_eq!(
                object["subjects"],
                json!([{"kind": "ServiceAccount", "name": account, "namespace": "banyan-system"}])
            );
        }
    }
}

#[tokio::test]
async fn the_operator_may_write_the_kinds_that_it_writes_and_no_others() {
    let objects = objects(&[SITE]).await;
    let role = find(&objects, "ClusterRole", "banyan-operator").unwrap().clone();
    let mut granted = BTreeSet::new();
    for (_, rule) in rules(&[role]) {
        // Of Banyan's own kinds it deletes Actions alone, when they are old.
        let own = strings(&rule["apiGroups"]) == ["banyan.dev"];
        if own && strings(&rule["verbs"]).contains(&"delete") {
            assert_eq!(strings(&rule["resources"]), ["actions"]);
        } else if strings(&rule["apiGroups"]) == ["admissionregistration.k8s.io"] {
            // Not a child of a FinService: one for each FailoverGroup, of a policy that the chart has.
            assert_eq!(strings(&rule["resources"]), ["validatingadmissionpolicybindings"]);
        } else if strings(&rule["verbs"]).contains(&"delete") {
            assert_eq!(strings(&rule["verbs"]), ["get", "list", "watch", "create", "patch", "delete"]);
            for group in strings(&rule["apiGroups"]) {
                for resource in strings(&rule["resources"]) {
                    granted.insert((group.to_owned(), resource.to_owned()));
                }
            }
        }
    }
    let written: BTreeSet<_> = Kind::ALL
        .iter()
        .map(|kind| kind.resource())
        .map(|(group, _, _, plural)| (group.to_owned(), plural.to_owned()))
        .collect();
    assert_eq!(granted, written);
}

/// (group, resources, verbs) of each row of the README's tables.
fn documented() -> BTreeSet<(String, BTreeSet<String>, BTreeSet<String>)> {
    let text = std::fs::read_to_string(Path::new(CHART).join("README.md")).unwrap();
    let words = |cell: &str| cell.split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>();
    text.lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [group, resources, verbs, why] = cells[..] else { return None };
            if group == "API group" || group.starts_with("--") {
                return None;
            }
            assert!(!why.is_empty(), "{line}");
            let group = if group == "core" { "" } else { group };
            Some((group.to_owned(), words(resources), words(verbs)))
        })
        .collect()
}

#[tokio::test]
async fn every_rule_of_the_operator_is_documented_and_no_other() {
    let objects = objects(&[SITE]).await;
    let granted: BTreeSet<_> = rules(&objects)
        .iter()
        .filter(|(role, _)| *role == "banyan-operator")
        .map(|(_, rule)| {
            let words =
                |value: &Value| strings(value).iter().map(|s| (*s).to_owned()).collect::<BTreeSet<_>>();
            let group = strings(&rule["apiGroups"])[0].to_owned();
            let mut resources = words(&rule["resources"]);
            resources.extend(strings(&rule["resourceNames"]).iter().map(|name| format!("({name})")));
            (group, resources, words(&rule["verbs"]))
        })
        .collect();
    assert_eq!(granted, documented());
}

#[tokio::test]
async fn secrets_can_be_kept_from_the_operator() {
    let secrets = async |values: &[&str]| {
        let objects = objects(values).await;
        let granted = rules(&objects).into_iter().filter(|(_, rule)| rule.to_string().contains("secrets"));
        granted.map(|(_, rule)| strings(&rule["verbs"]).join(" ")).collect::<Vec<_>>()
    };
    // The kubeconfigs of peers, in the operator's own namespace alone.
    let mut own = objects(&[SITE, "rbac.readSecrets=false", "crds.install=false"]).await;
    own.retain(|object| object["kind"] == "Role");
    own.retain(|object| object.to_string().contains("secrets"));
    assert!(own.len() == 1 && own[0]["metadata"]["name"] == "banyan-operator");
    assert_eq!(secrets(&[SITE, "rbac.readSecrets=false", "crds.install=false"]).await, ["get"]);
    assert_eq!(secrets(&[SITE, "crds.install=false"]).await, ["get list watch", "get"]);
}

#[tokio::test]
async fn wrong_values_are_refused_by_name() {
    let cases: &[(&str, &str)] = &[
        ("site=AWS", "/site"),
        ("site=a.b", "/site"),
        ("replicas=0", "/replicas"),
        ("replicas=two", "/replicas"),
        ("concurrency=1000", "/concurrency"),
        ("log.format=xml", "/log/format"),
        ("log.level=info", "level"),
        ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
        ("image.repository=a/b:1", "/image/repository"),
        ("image.digest=sha256:1", "/image/digest"),
        ("tracing.otlpEndpoint=collector:4317", "/tracing/otlpEndpoint"),
        ("rbac.readSecrets=perhaps", "/rbac/readSecrets"),
        ("admission.verbs.promote.groups[0]=a b", "/admission/verbs/promote/groups/0"),
        ("admission.verbs.dance.groups[0]=a", "dance"),
        ("admission.stampAuthors=perhaps", "/admission/stampAuthors"),
        ("argocd.enabled=perhaps", "/argocd/enabled"),
        ("metrics.serviceMonitor.interval=often", "/metrics/serviceMonitor/interval"),
        ("metrics.prometheusRule.runbooks=", "/metrics/prometheusRule/runbooks"),
        ("networkPolicy.apiServerPorts[0]=0", "/networkPolicy/apiServerPorts/0"),
        ("replica=2", "replica"),
    ];
    for (value, named) in cases {
        let error = render(&[SITE, value]).await.unwrap_err();
        assert!(error.contains("schema") && error.contains(named), "{value}: {error}");
    }
    let error = render(&[]).await.unwrap_err();
    assert!(error.contains("site is required"), "{error}");
}

#[tokio::test]
async fn two_replicas_are_guarded_and_one_never_blocks_a_drain() {
    let objects = objects(&[SITE, "crds.install=false"]).await;
    let deployment = find(&objects, "Deployment", "banyan").unwrap();
    assert_eq!(deployment["spec"]["replicas"], 2);
    let budget = find(&objects, "PodDisruptionBudget", "banyan").unwrap();
    assert_eq!(budget["spec"]["maxUnavailable"], 1);
    assert_eq!(budget["spec"]["selector"], deployment["spec"]["selector"]);
    let labels = deployment["spec"]["template"]["metadata"]["labels"].as_object().unwrap();
    for (key, value) in deployment["spec"]["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(labels.get(key), Some(value));
    }
    let one = self::objects(&[SITE, "crds.install=false", "replicas=1"]).await;
    assert!(find(&one, "PodDisruptionBudget", "banyan").is_none());
}

/// The keys are those of the example, whose scripts `tests/argocd` runs.
#[tokio::test]
async fn argocd_gets_health_and_actions_of_every_kind_if_it_is_asked_for() {
    let example = std::fs::read_to_string(format!("{CHART}/../../examples/argocd/argocd-cm.yaml")).unwrap();
    let example = documents("the example", &example).unwrap().remove(0);
    let objects = objects(&[SITE, "crds.install=false", "argocd.enabled=true"]).await;
    assert_eq!(find(&objects, "ConfigMap", "banyan-argocd").unwrap()["data"], example["data"]);
    let without = self::objects(&[SITE, "crds.install=false"]).await;
    assert!(find(&without, "ConfigMap", "banyan-argocd").is_none());
}

/// The arguments and variables of the container are those that the program knows.
#[tokio::test]
async fn the_program_understands_what_the_deployment_passes() {
    let objects = objects(EVERYTHING).await;
    let container =
        &find(&objects, "Deployment", "banyan").unwrap()["spec"]["template"]["spec"]["containers"][0];
    let args = strings(&container["args"]);
    let help = Command::new(env!("CARGO_BIN_EXE_banyan")).args(&args).arg("--help").output().unwrap();
    assert!(help.status.success());
    let help = String::from_utf8(help.stdout).unwrap();
    let variables: Vec<&str> =
        container["env"].as_array().unwrap().iter().map(|v| v["name"].as_str().unwrap()).collect();
    assert!(variables.contains(&"BANYAN_SITE") && variables.contains(&"OTEL_EXPORTER_OTLP_ENDPOINT"));
    for variable in variables {
        // These two are read by the log filter and by the allocator, not by the command line.
        let known =
            matches!(variable, "BANYAN_LOG" | "_RJEM_MALLOC_CONF") || help.contains(&format!("{variable}="));
        assert!(known, "{variable} is not in {help}");
    }
}

/// Kubernetes before 1.36 does not know the kind, and must not be given it.
#[tokio::test]
async fn an_older_cluster_is_given_only_what_it_knows() {
    let kinds = async |version: &str| {
        let mut command = Command::new(helm_path().await);
        command.args(["template", "banyan", CHART, "--kube-version", version, "--set", SITE]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let objects = documents("the chart", &String::from_utf8(output.stdout).unwrap()).unwrap();
        let count = |kind: &str| objects.iter().filter(|object| object["kind"] == kind).count();
        (count("MutatingAdmissionPolicy"), count("ValidatingAdmissionPolicy"))
    };
    assert_eq!(kinds("v1.35.9").await, (0, 10));
    assert_eq!(kinds("v1.36.0").await, (4, 10));
    let off = objects(&[SITE, "admission.stampAuthors=false"]).await;
    let policies = off.iter().filter(|object| object["kind"].as_str().unwrap().contains("Admission"));
    let names: BTreeSet<&str> = policies.map(|object| object["metadata"]["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        BTreeSet::from([
            "banyan-authority",
            "banyan-authority-writers",
            "banyan-operator-children",
            "banyan-operator-pods",
            "banyan-record",
            "banyan-verb-approve"
        ])
    );
}

/// A real API server takes everything, and a namespace that enforces the restricted standard takes the Pod.
#[tokio::test]
async fn an_api_server_takes_it_and_restricted_namespaces_take_its_pods() {
    let cloud = &pair().await.unwrap().aws;
    let client = cloud.client_admin().unwrap();
    let namespace = "chart-restricted";
    let mut objects = objects(EVERYTHING).await;
    objects.retain(|object| object["kind"] != "CustomResourceDefinition");
    let deployment = find(&objects, "Deployment", "banyan").unwrap().clone();
    // The operator's own namespace belongs to other tests: everything moves to one of its own.
    for object in &mut objects {
        if !object["metadata"]["namespace"].is_null() {
            object["metadata"]["namespace"] = namespace.into();
        }
    }
    objects.retain(|object| object["kind"] != "Deployment");
    objects.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": namespace, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}));
    apply(&client, &objects).await.unwrap();

    let template = &deployment["spec"]["template"];
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "banyan", "labels": template["metadata"]["labels"]},
        "spec": template["spec"],
    });
    let pods: Api<Pod> = Api::namespaced(client, namespace);
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    pods.create(&dry, &serde_json::from_value(pod.clone()).unwrap()).await.unwrap();

    // The namespace does enforce it: each of these settings is needed.
    let needed = [
        ("/spec/securityContext/seccompProfile", "seccompProfile"),
        ("/spec/containers/0/securityContext/allowPrivilegeEscalation", "allowPrivilegeEscalation"),
        ("/spec/containers/0/securityContext/capabilities", "unrestricted capabilities"),
    ];
    for (pointer, named) in needed {
        let mut worse = pod.clone();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        worse.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(field).unwrap();
        let error = pods.create(&dry, &serde_json::from_value(worse).unwrap()).await.unwrap_err().to_string();
        assert!(error.contains("restricted") && error.contains(named), "{pointer}: {error}");
    }
    assert_eq!(pod["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"], true);
}

/// What the kept rendering comes to, asked of the API server as the operator.
#[tokio::test]
async fn the_operator_may_do_its_work_and_nothing_else() {
    let cloud = &pair().await.unwrap().gcp;
    let kept = include_str!("../goldens/chart/rendered.yaml");
    let mut rbac = documents("the rendered chart", kept).unwrap();
    rbac.retain(|object| {
        let kind = object["kind"].as_str().unwrap();
        kind.contains("Role") || kind == "ServiceAccount"
    });
    rbac.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "banyan-system"}}));
    apply(&cloud.client_admin().unwrap(), &rbac).await.unwrap();

    let api: Api<SelfSubjectAccessReview> = Api::all(cloud.client_operator().unwrap());
    let may = async |verb: &str, group: &str, resource: &str, namespace: &str| {
        let (resource, subresource) = match resource.split_once('/') {
            Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
            None => (resource, None),
        };
        let attributes = ResourceAttributes {
            verb: Some(verb.into()),
            group: Some(group.into()),
            resource: Some(resource.into()),
            subresource,
            namespace: Some(namespace.into()),
            name: (resource == "leases" && verb != "create").then(|| "banyan".into()),
            ..ResourceAttributes::default()
        };
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() },
            ..SelfSubjectAccessReview::default()
        };
        api.create(&PostParams::default(), &review).await.unwrap().status.unwrap().allowed
    };
    let mut wrong = BTreeMap::new();
    for kind in Kind::ALL {
        let (group, _, _, plural) = kind.resource();
        for verb in ["list", "watch", "create", "patch", "delete"] {
            wrong.insert(format!("{verb} {plural}"), !may(verb, group, plural, "payments").await);
        }
        wrong.insert(format!("update {plural}"), may("update", group, plural, "payments").await);
    }
    let yes = [
        ("patch", "banyan.dev", "finservices/status", "payments"),
        ("update", "banyan.dev", "finservices/finalizers", "payments"),
        ("patch", "apps", "deployments/scale", "payments"),
        ("watch", "", "secrets", "payments"),
        ("create", "events.k8s.io", "events", "payments"),
        ("update", "coordination.k8s.io", "leases", "banyan-system"),
        ("watch", "banyan.dev", "cloudclusters", "banyan-system"),
        ("get", "", "secrets", "banyan-system"),
        ("patch", "banyan.dev", "canaryrollouts/status", "payments"),
        ("patch", "banyan.dev", "actions/status", "payments"),
        ("delete", "banyan.dev", "actions", "payments"),
        ("list", "", "nodes", ""),
        ("update", "banyan.dev", "authorities", "banyan-system"),
        ("patch", "banyan.dev", "failovergroups/status", "banyan-system"),
        ("create", "admissionregistration.k8s.io", "validatingadmissionpolicybindings", ""),
    ];
    let no = [
        ("patch", "banyan.dev", "finservices", "payments"),
        ("delete", "banyan.dev", "finservices", "payments"),
        ("patch", "banyan.dev", "canaryrollouts", "payments"),
        ("create", "banyan.dev", "actions", "payments"),
        ("patch", "banyan.dev", "actions", "payments"),
        ("watch", "banyan.dev", "cloudclusters", "payments"),
        ("update", "coordination.k8s.io", "leases", "kube-system"),
        ("create", "", "secrets", "payments"),
        ("patch", "", "secrets", "payments"),
        ("create", "", "pods", "payments"),
        ("create", "", "pods/exec", "payments"),
        ("create", "", "serviceaccounts/token", "payments"),
        ("create", "rbac.authorization.k8s.io", "rolebindings", "payments"),
        ("patch", "apiextensions.k8s.io", "customresourcedefinitions", ""),
        ("patch", "", "nodes", ""),
        ("delete", "banyan.dev", "authorities", "banyan-system"),
        ("patch", "banyan.dev", "failovergroups", "banyan-system"),
        ("create", "admissionregistration.k8s.io", "validatingadmissionpolicies", ""),
    ];
    for (verb, group, resource, namespace) in yes {
        wrong.insert(format!("{verb} {resource}"), !may(verb, group, resource, namespace).await);
    }
    for (verb, group, resource, namespace) in no {
        let name = format!("{verb} {resource} in {namespace:?}");
        wrong.insert(name, may(verb, group, resource, namespace).await);
    }
    let wrong: Vec<_> = wrong.into_iter().filter_map(|(name, wrong)| wrong.then_some(name)).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}
