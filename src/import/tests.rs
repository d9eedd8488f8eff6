//! Manifests that are taken over, and those that are not.

use serde_json::{Value, json};

use super::*;

fn deployment(pod: Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "shop", "namespace": "pay"},
        "spec": {"selector": {"matchLabels": {"app": "shop"}},
            "template": {"metadata": {"labels": {"app": "shop", "team": "a"}}, "spec": pod}},
    })
}

fn container(more: Value) -> Value {
    let mut container =
        json!({"name": "shop", "image": "shop:1", "ports": [{"name": "web", "containerPort": 8080}]});
    container.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
    container
}

fn taken(objects: Vec<Value>) -> Taken {
    let wishes = Wishes { owner: "team".to_owned(), ..Wishes::default() };
    import(objects, &wishes).services.into_iter().next().expect("a FinService")
}

fn lost(taken: &Taken) -> Vec<&str> {
    taken.notes.iter().filter(|note| note.weight == Weight::Lost).map(|note| note.field.as_str()).collect()
}

#[test]
fn what_nobody_understands_is_told_with_its_path() {
    let pod = json!({
        "hostNetwork": true, "dnsPolicy": "ClusterFirst", "runtimeClassName": "gvisor",
        "containers": [container(json!({"stdin": true, "terminationMessagePath": "/dev/termination-log"}))],
    });
    let taken = taken(vec![deployment(pod)]);
    assert_eq!(
        lost(&taken),
        [
            "spec.template.spec.hostNetwork",
            "spec.template.spec.runtimeClassName",
            "spec.template.spec.containers[0].stdin"
        ]
    );
}

#[test]
fn callers_keep_the_name_and_the_port_that_they_know() {
    let service = json!({
        "kind": "Service", "metadata": {"name": "frontend", "namespace": "pay"},
        "spec": {"type": "LoadBalancer", "selector": {"app": "shop"}, "loadBalancerSourceRanges": ["203.0.113.0/24"],
            "ports": [{"name": "grpc-api", "port": 80, "targetPort": "web", "nodePort": 31500}]},
    });
    let taken = taken(vec![deployment(json!({"containers": [container(json!({}))]})), service]);
    assert_eq!(taken.service["metadata"]["name"], "frontend");
    let spec = &taken.service["spec"];
    assert_eq!(
        spec["ports"],
        json!([{"name": "grpc-api", "port": 8080, "protocol": "GRPC", "servicePort": 80, "nodePort": 31500}])
    );
    assert_eq!(spec["service"]["type"], "LoadBalancer");
    assert_eq!(spec["access"]["inbound"], json!([{"cidr": "203.0.113.0/24"}]));
    assert_eq!(spec["podLabels"], json!({"team": "a"}), "the old Service must not select the new pods");
    assert_eq!(lost(&taken), [""; 0]);
}

#[test]
fn who_the_pods_are_is_what_the_container_says_before_its_pod() {
    let pod = json!({
        "securityContext": {"runAsUser": 1, "fsGroup": 3},
        "containers": [container(json!({"securityContext": {"runAsUser": 2, "readOnlyRootFilesystem": true,
            "capabilities": {"add": ["NET_BIND_SERVICE"]}}}))],
    });
    let taken = taken(vec![deployment(pod)]);
    assert_eq!(
        taken.service["spec"]["security"],
        json!({"runAsUser": 2, "fsGroup": 3, "capabilities": ["NET_BIND_SERVICE"]})
    );
    let root =
        json!({"containers": [container(json!({"securityContext": {"runAsUser": 0, "privileged": true}}))]});
    let root = super::tests::taken(vec![deployment(root)]);
    assert_eq!(lost(&root), ["spec.template.spec.securityContext.runAsUser"]);
    assert!(
        root.notes.iter().any(|note| note.field.ends_with("securityContext.privileged")),
        "{:?}",
        root.notes
    );
}

#[test]
fn containers_beside_become_sidecars_that_see_the_same() {
    let pod = json!({
        "containers": [
            container(json!({"volumeMounts": [{"name": "data", "mountPath": "/data"}]})),
            {"name": "proxy", "image": "proxy:1", "volumeMounts": [{"name": "keys", "mountPath": "/keys"}]},
        ],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "disk"}},
            {"name": "keys", "secret": {"secretName": "keys", "defaultMode": 256}}],
    });
    let taken = taken(vec![deployment(pod)]);
    let spec = &taken.service["spec"];
    assert_eq!(
        spec["initContainers"],
        json!([{"name": "proxy", "image": "proxy:1", "restartPolicy": "Always"}])
    );
    assert_eq!(spec["files"], json!([{"mountPath": "/keys", "secret": "keys", "mode": 256}]));
    assert_eq!(
        spec["volumes"],
        json!([{"name": "data", "mountPath": "/data", "persistentVolumeClaim": "disk"}])
    );
    assert_eq!(lost(&taken), [""; 0]);
}

#[test]
fn calls_are_read_from_where_names_stand_and_from_nowhere_else() {
    let service = |name: &str| {
        json!({"kind": "Service", "metadata": {"name": name, "namespace": "pay"},
            "spec": {"selector": {"app": name}, "ports": [{"port": 5432}]}})
    };
    let called = |value: &str| {
        let env = json!({"env": [{"name": "A", "value": value}]});
        let pod = json!({"containers": [container(env)]});
        let taken = taken(vec![deployment(pod), service("db"), service("db-2")]);
        let pods =
            taken.service["spec"]["access"]["outbound"]["pods"].as_array().cloned().unwrap_or_default();
        pods.iter()
            .map(|pod| pod["labels"]["app"].as_str().unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
    };
    for value in [
        "db",
        "db:5432",
        "postgresql://user:pw@db:5432/x",
        "http://db/",
        "jdbc:x://db.pay.svc/y",
        "tcp(db:3306)",
    ] {
        assert_eq!(called(value), ["db"], "{value}");
    }
    for value in ["mydb", "db.elsewhere", "my-db:1", "the db of old", "db_1:3"] {
        assert_eq!(called(value), [""; 0], "{value}");
    }
    assert_eq!(called("db-2:5432"), ["db-2"]);
}

#[test]
fn a_service_that_is_named_in_full_and_was_not_read_is_told() {
    let env = json!({"env": [{"name": "A", "value": "postgres://u:p@ledger.data.svc.cluster.local:5432/x,db.pay.svc:1"}]});
    let db = json!({"kind": "Service", "metadata": {"name": "db", "namespace": "pay"}, "spec": {"selector": {"app": "db"}}});
    let taken = taken(vec![deployment(json!({"containers": [container(env)]})), db]);
    let told: Vec<&str> = taken
        .notes
        .iter()
        .filter(|note| note.field == "spec.access.outbound")
        .map(|note| note.message.as_str())
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("it names Service ledger of namespace data, which was not read"), "{told:?}");
}

#[test]
fn hosts_outside_are_those_that_are_called_with_tls() {
    let env = json!({"env": [{"name": "A", "value": "https://api.stripe.com/v1,https://db.pay.svc/,http://plain.example,https://10.0.0.1/"}]});
    let taken = taken(vec![deployment(json!({"containers": [container(env)]}))]);
    assert_eq!(taken.service["spec"]["access"]["outbound"]["hosts"], json!(["api.stripe.com"]));
}

#[test]
fn routes_become_ingress_where_it_is_said_who_carries_traffic() {
    let service = json!({"kind": "Service", "metadata": {"name": "shop", "namespace": "pay"},
        "spec": {"selector": {"app": "shop"}, "ports": [{"port": 80, "targetPort": 8080}]}});
    let ingress = json!({"kind": "Ingress", "metadata": {"name": "all", "namespace": "pay"}, "spec": {"rules": [
        {"host": "shop.example", "http": {"paths": [{"path": "/shop", "backend": {"service": {"name": "shop"}}}]}},
        {"host": "other.example", "http": {"paths": [{"path": "/", "backend": {"service": {"name": "other"}}}]}},
    ]}});
    let objects =
        || vec![deployment(json!({"containers": [container(json!({}))]})), service.clone(), ingress.clone()];
    assert_eq!(taken(objects()).service["spec"].get("ingress"), None);
    let wishes = Wishes {
        owner: "team".to_owned(),
        provider: Some("GatewayAPI".to_owned()),
        gateway: Some("edge/public".to_owned()),
        ..Wishes::default()
    };
    let with = import(objects(), &wishes).services.remove(0);
    assert_eq!(
        with.service["spec"]["ingress"],
        json!({"hosts": ["shop.example"], "paths": ["/shop"], "gateway": "edge/public"})
    );
}

#[test]
fn one_service_of_several_deployments_becomes_that_of_one() {
    let named = |name: &str| {
        let mut deployment = deployment(json!({"containers": [container(json!({}))]}));
        deployment["metadata"]["name"] = name.into();
        deployment
    };
    let service = json!({"kind": "Service", "metadata": {"name": "shop", "namespace": "pay"},
        "spec": {"selector": {"app": "shop"}, "ports": [{"port": 80, "targetPort": 8080}]}});
    let wishes = Wishes { owner: "team".to_owned(), ..Wishes::default() };
    let imported = import(vec![named("shop-canary"), named("shop"), service], &wishes);
    let names: Vec<&Value> =
        imported.services.iter().map(|taken| &taken.service["metadata"]["name"]).collect();
    assert_eq!(names, ["shop-canary", "shop"]);
    let told = &imported.services[0].notes;
    assert!(
        told.iter().any(|note| note.message.contains("leads to pods of several Deployments")),
        "{told:?}"
    );
}

#[test]
fn what_must_never_run_twice_is_told() {
    let mut deployment = deployment(json!({"containers": [container(json!({"env": [
        {"name": "CPUS", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}}]}))]}));
    deployment["spec"]["strategy"] = json!({"type": "Recreate"});
    assert_eq!(
        lost(&taken(vec![deployment])),
        [
            "spec.strategy.type",
            "spec.template.spec.containers[0].env[CPUS].valueFrom.resourceFieldRef.divisor"
        ]
    );
}
