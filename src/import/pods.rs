//! A pod template: what runs, as whom, and where.

use serde_json::{Map, Value, json};

use super::container;
use super::fields::{Fields, list, put, take};
use super::{Manifests, Object, Weight, mounts};

/// Labels of pods that Banyan writes itself, or that name one template.
const OURS: [&str; 4] = [
    "app.kubernetes.io/name",
    "app.kubernetes.io/version",
    "pod-template-hash",
    "app.kubernetes.io/managed-by",
];

/// Reads the template of a Deployment into `spec`. Returns the ports that its service's container declares.
pub fn read(
    fields: &mut Fields,
    (deployment, name): (&Object, &str),
    selectors: &[&Map<String, Value>],
    manifests: &Manifests,
    spec: &mut Map<String, Value>,
) -> Vec<Value> {
    fields.take("/selector");
    let mut template = fields.take("/template").unwrap_or_default();
    metadata(fields, &mut template, deployment, selectors, spec);
    let mut pod = take(&mut template, "/spec").unwrap_or_default();
    let mut containers = list(&mut pod, "containers");
    let at = containers.iter().position(|one| one["name"] == deployment.name.as_str()).unwrap_or(0);
    let main = if containers.is_empty() { json!({}) } else { containers.remove(at) };
    let mut volumes = list(&mut pod, "volumes");
    let mut context = take(&mut pod, "/securityContext").unwrap_or_else(|| json!({}));

    let mut read = container::read(fields, main, "containers[0]");
    let declared = std::mem::take(&mut read.ports);
    container::security(&mut read.security, &mut context);
    spec.extend(read.fields);
    let mut beside = Vec::new();
    for (index, init) in list(&mut pod, "initContainers").into_iter().enumerate() {
        let path = format!("initContainers[{index}]");
        let sidecar = init["restartPolicy"] == "Always";
        let init = container::read(fields, init, &path);
        beside.push(init.beside(fields, &path, sidecar, &mut read.mounts));
    }
    for (index, sidecar) in containers.into_iter().enumerate() {
        let name = sidecar["name"].as_str().unwrap_or_default().to_owned();
        let path = format!("containers[{}]", index + 1);
        let sidecar = container::read(fields, sidecar, &path);
        beside.push(sidecar.beside(fields, &path, true, &mut read.mounts));
        fields.note(
            Weight::Changed,
            &format!("spec.template.spec.{path}"),
            format!("container {name} becomes a sidecar: an init container with restartPolicy: Always, which starts before the service and stops after it"),
        );
    }
    put(spec, "initContainers", beside);
    mounts::read(fields, &mut volumes, read.mounts, spec);
    security(fields, read.security, context, spec);
    place(fields, &mut pod, spec);
    account(fields, &mut pod, (deployment, name), manifests, spec);
    if let Some(seconds) = take(&mut pod, "/terminationGracePeriodSeconds").and_then(|value| value.as_u64())
        && seconds != 30
    {
        put(spec, "terminationGracePeriod", format!("{seconds}s"));
        // The pause that a FinService has by default would take up all of it.
        if seconds <= 5 && spec.get("preStop").is_none() {
            put(spec, "preStop", json!({"sleep": format!("{}s", seconds / 2)}));
        }
    }
    let secrets = list(&mut pod, "imagePullSecrets");
    put(
        spec,
        "imagePullSecrets",
        secrets.iter().filter_map(|secret| secret.get("name").cloned()).collect::<Vec<_>>(),
    );
    // What is left of the pod is left of the Deployment.
    fields.put_back("template", json!({"spec": pod}));
    declared
}

fn metadata(
    fields: &mut Fields,
    template: &mut Value,
    deployment: &Object,
    selectors: &[&Map<String, Value>],
    spec: &mut Map<String, Value>,
) {
    let mut metadata = take(template, "/metadata").unwrap_or_default();
    let own = deployment.whole.pointer("/spec/selector/matchLabels").and_then(Value::as_object);
    let mut labels = Map::new();
    if let Some(Value::Object(all)) = take(&mut metadata, "/labels") {
        for (key, value) in all {
            // By these the old Service and the old Deployment tell their pods: on new ones they would let the old Service
            // send requests to pods that nobody has compared yet.
            let selects = selectors.iter().copied().chain(own).any(|selector| selector.contains_key(&key));
            if !selects && !OURS.contains(&key.as_str()) && !key.starts_with("banyan.dev/") {
                labels.insert(key, value);
            }
        }
    }
    put(spec, "podLabels", labels);
    if let Some(Value::Object(mut annotations)) = take(&mut metadata, "/annotations") {
        annotations.retain(|key, _| !key.starts_with("kubectl.kubernetes.io/"));
        if annotations.keys().any(|key| key.starts_with("prometheus.io/")) {
            annotations.retain(|key, _| !key.starts_with("prometheus.io/"));
            fields.note(
                Weight::Decide,
                "spec.template.metadata.annotations.prometheus.io",
                "name the port in observability.metrics: Banyan makes a ServiceMonitor for it",
            );
        }
        put(spec, "podAnnotations", annotations);
    }
}

fn security(fields: &mut Fields, mut of_container: Value, mut of_pod: Value, spec: &mut Map<String, Value>) {
    let mut security = Map::new();
    for key in ["runAsUser", "runAsGroup"] {
        let value =
            take(&mut of_container, &format!("/{key}")).or_else(|| take(&mut of_pod, &format!("/{key}")));
        take(&mut of_pod, &format!("/{key}"));
        if key == "runAsUser" && value == Some(json!(0)) {
            fields.note(
                Weight::Lost,
                "spec.template.spec.securityContext.runAsUser",
                "it runs as root, which a FinService may not: set security.runAsUser to a user that the image can run as",
            );
            continue;
        }
        put(&mut security, key, value.unwrap_or_default());
    }
    put(&mut security, "fsGroup", take(&mut of_pod, "/fsGroup").unwrap_or_default());
    // A root that can be written to is what Kubernetes gives unless it is said otherwise, and programs rely on it.
    if take(&mut of_container, "/readOnlyRootFilesystem") != Some(json!(true)) {
        security.insert("readOnlyRootFilesystem".to_owned(), false.into());
    }
    let kept =
        take(&mut of_container, "/capabilities").map(|mut kept| list(&mut kept, "add")).unwrap_or_default();
    let (allowed, others): (Vec<Value>, Vec<Value>) =
        kept.into_iter().partition(|kept| kept == "NET_BIND_SERVICE");
    put(&mut security, "capabilities", allowed);
    for other in others {
        fields.note(
            Weight::Lost,
            "spec.template.spec.containers[0].securityContext.capabilities.add",
            format!(
                "{other} is not kept: the restricted Pod Security Standard allows NET_BIND_SERVICE alone"
            ),
        );
    }
    put(spec, "security", security);
    for context in [&mut of_container, &mut of_pod] {
        for (key, as_it_is) in [
            ("runAsNonRoot", json!(true)),
            ("allowPrivilegeEscalation", json!(false)),
            ("privileged", json!(false)),
            ("seccompProfile", json!({"type": "RuntimeDefault"})),
            ("fsGroupChangePolicy", json!("OnRootMismatch")),
        ] {
            let pointer = format!("/{key}");
            if let Some(value) = take(context, &pointer)
                && value != as_it_is
            {
                fields.note(
                    Weight::Changed,
                    &format!("spec.template.spec.securityContext.{key}"),
                    format!("{value} becomes {as_it_is}, as the restricted Pod Security Standard wants it"),
                );
            }
        }
    }
    fields.leave("securityContext", of_container);
    fields.leave("securityContext", of_pod);
}

fn place(fields: &mut Fields, pod: &mut Value, spec: &mut Map<String, Value>) {
    let mut scheduling = Map::new();
    put(&mut scheduling, "nodeSelector", take(pod, "/nodeSelector").unwrap_or_default());
    let mut tolerations = list(pod, "tolerations");
    for toleration in &mut tolerations {
        if take(toleration, "/tolerationSeconds").is_some() {
            let field = "spec.template.spec.tolerations[].tolerationSeconds";
            fields.note(
                Weight::Lost,
                field,
                "a FinService has no word for it: pods stay for as long as the taint does",
            );
        }
    }
    put(&mut scheduling, "tolerations", tolerations);
    let hard = |constraint: &Value| constraint["whenUnsatisfiable"] == "DoNotSchedule";
    let spread = list(pod, "topologySpreadConstraints");
    if spread.iter().any(hard) {
        scheduling.insert("spread".to_owned(), "Required".into());
    }
    let anti = take(pod, "/affinity/podAntiAffinity");
    if !spread.is_empty() || anti.is_some() {
        fields.note(
            Weight::Changed,
            "spec.template.spec.topologySpreadConstraints",
            "Banyan spreads the pods of each revision over zones and nodes: see scheduling.spread",
        );
    }
    put(spec, "scheduling", scheduling);
    if let Some(class) = take(pod, "/priorityClassName") {
        let message =
            format!("{class} becomes the class of spec.tier: Critical, Standard (the default) or Batch");
        fields.note(Weight::Decide, "spec.template.spec.priorityClassName", message);
    }
    take(pod, "/priority");
}

fn account(
    fields: &mut Fields,
    pod: &mut Value,
    (deployment, own_name): (&Object, &str),
    manifests: &Manifests,
    spec: &mut Map<String, Value>,
) {
    let named = take(pod, "/serviceAccountName");
    let name = named.or_else(|| take(pod, "/serviceAccount"));
    take(pod, "/serviceAccount");
    let Some(name) = name.as_ref().and_then(Value::as_str).filter(|name| *name != "default") else { return };
    let account =
        manifests.accounts.iter().find(|one| one.namespace == deployment.namespace && one.name == name);
    let annotation =
        |key: &str| account.and_then(|account| account.whole["metadata"]["annotations"].get(key)).cloned();
    let mut identity = Map::new();
    put(&mut identity, "awsRoleArn", annotation("eks.amazonaws.com/role-arn").unwrap_or_default());
    put(&mut identity, "gcpServiceAccount", annotation("iam.gke.io/gcp-service-account").unwrap_or_default());
    let has_role = !identity.is_empty();
    put(spec, "identity", identity);
    if name == own_name {
        fields.note(
            Weight::Decide,
            "spec.template.spec.serviceAccountName",
            format!("hand the account over as well: `kubectl -n {} annotate serviceaccount {name} banyan.dev/adopt={name}`", deployment.namespace),
        );
        return;
    }
    let rest = match has_role {
        true => {
            "its role is taken over into spec.identity, and must trust the new account, or all of the namespace (StringLike on \
             system:serviceaccount:NAMESPACE:* with EKS, principalSet://…/namespace/NAMESPACE with GKE)"
        }
        false => {
            "if a cloud's role hangs on it, set spec.identity; if it has rights in the cluster (RoleBindings), bind them to the new account"
        }
    };
    fields.note(
        Weight::Decide,
        "spec.template.spec.serviceAccountName",
        format!("the pods run as a ServiceAccount of their own, named as the FinService, instead of {name}: {rest}"),
    );
}
