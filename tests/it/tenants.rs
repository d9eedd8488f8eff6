//! Who may create objects in one namespace gains nothing elsewhere by way of the operator: what the chart and the API server
//! do for that. docs/security.md names the other tests.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};

use super::chart::{SITE, find, objects};
use super::world::{World, aws};

/// Faults 4.2: what tenants name is asked from within a NetworkPolicy, and what the installer lists gets through it.
#[tokio::test]
async fn faults_4_2_the_operator_is_behind_a_policy_that_lets_out_what_is_listed() {
    let policy =
        |objects: &[Value]| find(objects, "NetworkPolicy", "banyan").unwrap()["spec"]["egress"].clone();
    let out = policy(&objects(&[SITE]).await);
    assert!(!out.to_string().contains("9090"), "{out}");
    let listed = "evidence.allow={prometheus.monitoring:9090,10.1.0.0/16:9091,*.finflow.example}";
    let metrics = "evidence.gatewayMetrics={http://envoy.projectcontour:8002/stats/prometheus}";
    let objects = objects(&[SITE, listed, metrics]).await;
    let port = |port: u16| json!({"port": port, "protocol": "TCP"});
    let out = policy(&objects);
    assert!(
        out.as_array().unwrap().contains(&json!({"ports": [port(9090), port(9091), port(8002)]})),
        "{out}"
    );
    let deployment = find(&objects, "Deployment", "banyan").unwrap().to_string();
    let value = r#"{"name":"BANYAN_EVIDENCE_ALLOW","value":"prometheus.monitoring:9090,10.1.0.0/16:9091,*.finflow.example"}"#;
    assert!(deployment.contains(value), "{deployment}");
}

fn deployment(namespace: &str, change: impl FnOnce(&mut Value)) -> DynamicObject {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "bounds", "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": "banyan"},
            "ownerReferences": [{"apiVersion": "banyan.dev/v1alpha1", "kind": "FinService", "name": "transaction",
                "uid": "7a1b3b42-0000-4000-8000-000000000000", "controller": true}]},
        "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"serviceAccountName": "transaction",
                    "containers": [{"name": "a", "image": "a", "securityContext": {"allowPrivilegeEscalation": false}}]},
            },
        },
    });
    change(&mut object);
    serde_json::from_value(object).expect("an object")
}

/// Faults 4.12: with the operator's token one gains what it writes, and no more.
#[tokio::test]
async fn faults_4_12_the_operators_own_user_is_bound_to_what_it_writes() {
    let world = World::new("bounds").await;
    let namespace = world.namespace.as_str();
    let kubeconfig = aws().await.kubeconfig_operator().expect("a kubeconfig");
    let kubeconfig = Kubeconfig::from_yaml(&kubeconfig).expect("YAML");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    let operator = Client::try_from(config.expect("a configuration")).expect("a client");
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let create = async |object: DynamicObject| {
        let namespace = object.metadata.namespace.clone().expect("it has one");
        let resource = ApiResource::erase::<Deployment>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(operator.clone(), &namespace, &resource);
        api.create(&dry, &object).await.map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(create(deployment(namespace, |_| {})).await, Ok(()));
    let pod = |path: &'static str, value: Value| {
        move |object: &mut Value| object["spec"]["template"]["spec"][path] = value
    };
    let nothing_is_its_own = |object: &mut Value| object["metadata"]["ownerReferences"] = json!([]);
    for (object, words) in [
        (deployment("kube-system", |_| {}), "nothing in the namespaces of Kubernetes itself"),
        // Both policies refuse it.
        (deployment(namespace, nothing_is_its_own), "FinService"),
        (deployment(namespace, pod("serviceAccountName", json!("admin"))), "the ServiceAccount of its name"),
        (deployment(namespace, pod("hostNetwork", json!(true))), "nothing of their node"),
        (
            deployment(namespace, pod("volumes", json!([{"name": "v", "hostPath": {"path": "/"}}]))),
            "nothing of their node",
        ),
        (
            deployment(namespace, pod("containers", json!([{"name": "a", "image": "a"}]))),
            "have no privileges",
        ),
    ] {
        let answer = create(object).await.unwrap_err();
        assert!(answer.contains(words), "{words}: {answer}");
    }
    // What is somebody else's stays so, also if it is made to look like ours.
    let theirs: Api<ConfigMap> = Api::namespaced(world.client.clone(), namespace);
    let map = serde_json::from_value(json!({"metadata": {"name": "theirs"}, "data": {"a": "1"}}))
        .expect("an object");
    theirs.create(&PostParams::default(), &map).await.expect("a ConfigMap");
    let ours: Api<ConfigMap> = Api::namespaced(operator.clone(), namespace);
    let owner = deployment(namespace, |_| {}).metadata.owner_references;
    let patch = json!({"metadata": {"ownerReferences": owner}, "data": {"a": "2"}});
    let changed = ours.patch("theirs", &PatchParams::default(), &Patch::Merge(&patch)).await;
    let answer = changed.expect_err("it is refused").to_string();
    assert!(answer.contains("changes and deletes nothing of others"), "{answer}");
    let answer =
        ours.delete("theirs", &DeleteParams::default()).await.expect_err("it is refused").to_string();
    assert!(answer.contains("nothing of others") || answer.contains("as its controller"), "{answer}");
}
