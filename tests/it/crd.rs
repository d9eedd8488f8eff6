//! What the API server takes and what it refuses: the definitions themselves, every example, and
//! the invalid objects of `tests/goldens/invalid/` (FinServices), `tests/goldens/invalid-canary/`
//! (CanaryRollouts and Actions), `tests/goldens/invalid-site/` (CloudClusters),
//! `tests/goldens/invalid-group/` (FailoverGroups and Authorities) and `tests/goldens/invalid-move/` (Failovers), each with
//! the message that it is answered with.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use banyan::sandbox::{install, pair};
use expect_test::expect_file;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams, Request};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::{Client, Config};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::OnceCell;

/// An administrator's client of a cloud in which the definitions are installed.
async fn client() -> Client {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    let client = pair().await.expect("a pair of clouds").gcp.client_admin().expect("a client");
    let install = async || {
        let files = banyan::cli::crds::files().expect("definitions");
        let definitions: Vec<Value> =
            files.iter().flat_map(|(name, text)| install::documents(name, text).expect("YAML")).collect();
        install::definitions(&client, &definitions).await.expect("the API server takes the definitions");
    };
    INSTALLED.get_or_init(install).await;
    client
}

/// The same under the name of the operator, for what the chart lets nobody else write.
async fn as_operator() -> Client {
    client().await;
    let text = pair().await.expect("a pair of clouds").gcp.kubeconfig().expect("a kubeconfig");
    let mut kubeconfig: Kubeconfig = serde_norway::from_str(&text).expect("a kubeconfig");
    for user in kubeconfig.auth_infos.iter_mut().filter_map(|user| user.auth_info.as_mut()) {
        user.impersonate = Some("system:serviceaccount:banyan-system:banyan".to_owned());
        user.impersonate_groups = Some(vec!["system:masters".to_owned()]);
    }
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    Client::try_from(config.expect("a configuration")).expect("a client")
}

/// The YAML files of a folder of the repository, in order.
fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    files
}

/// The objects in a file, put into the namespace `default`: a dry run needs one that exists.
fn objects(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    serde_norway::Deserializer::from_str(&text)
        .map(|document| {
            let mut object = Value::deserialize(document).unwrap();
            if object["kind"] != "Namespace" {
                object["metadata"]["namespace"] = "default".into();
            }
            object
        })
        .collect()
}

/// How to reach objects of that kind, in their namespace if they have one.
async fn api(client: &Client, object: &Value) -> kube::Result<Api<DynamicObject>> {
    let field = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let api_version = field("/apiVersion").expect("an object has an apiVersion");
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let gvk = GroupVersionKind::gvk(group, version, field("/kind").expect("an object has a kind"));
    let (resource, _) = kube::discovery::pinned_kind(client, &gvk).await?;
    Ok(match field("/metadata/namespace") {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    })
}

/// Applies an object on the server's side, as the sandbox and ArgoCD do, without keeping it.
async fn apply(client: &Client, object: &Value) -> kube::Result<DynamicObject> {
    let params = PatchParams { dry_run: true, ..PatchParams::apply("crd-test").validation_strict() };
    let name = object["metadata"]["name"].as_str().expect("an object has a name");
    api(client, object).await?.patch(name, &params, &Patch::Apply(object)).await
}

/// Creates an object, as the first `kubectl apply` does, without keeping it.
async fn create(client: &Client, object: &Value) -> kube::Result<DynamicObject> {
    let params = PostParams { dry_run: true, ..PostParams::default() };
    let url = api(client, object).await?.resource_url().to_owned();
    let mut request = Request::new(url).create(&params, object.to_string().into_bytes()).expect("a request");
    // kube has no field for it in `PostParams`; kubectl asks for it always.
    *request.uri_mut() = format!("{}&fieldValidation=Strict", request.uri()).parse().expect("a URI");
    client.request(request).await
}

/// The message of a refusal. Where there are several causes, each has a line, in the order of the
/// alphabet: the API server gives them in the order of a map.
fn refusal(error: kube::Error) -> String {
    let kube::Error::Api(status) = error else { panic!("no answer of the API server: {error}") };
    let causes = status.details.as_ref().map_or(&[][..], |details| &details.causes);
    if causes.len() < 2 {
        return format!("{}\n", status.message);
    }
    let lines: BTreeSet<String> =
        causes.iter().map(|cause| format!("{}: {}\n", cause.field, cause.message)).collect();
    lines.into_iter().collect()
}

/// Each object of a folder, of which there are at least so many, is refused with the message beside it.
async fn all_are_refused(folder: &str, least: usize, what: &str) {
    let client = client().await;
    let cases = files(folder);
    assert!(cases.len() >= least, "only {} invalid {what}", cases.len());
    for path in cases {
        let [object] = objects(&path).try_into().expect("one object in each file");
        match create(&client, &object).await {
            Ok(_) => panic!("{} is accepted", path.display()),
            Err(error) => expect_file![path.with_extension("txt")].assert_eq(&refusal(error)),
        }
    }
}

#[tokio::test]
async fn every_example_is_accepted_with_strict_validation() {
    let client = client().await;
    let mut seen = 0;
    for path in ["examples/minimal", "examples/finflow", "examples/canary"].into_iter().flat_map(files) {
        for object in objects(&path) {
            if let Err(error) = apply(&client, &object).await {
                panic!("{}: {} is refused: {error}", path.display(), object["metadata"]["name"]);
            }
            seen += 1;
        }
    }
    assert!(seen > 20, "only {seen} objects in examples/");
}

#[tokio::test]
async fn every_invalid_service_is_refused_with_its_message() {
    all_are_refused("tests/goldens/invalid", 40, "FinServices").await;
}

/// The messages of all rules in a schema.
fn messages(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            let rules = fields.get("x-kubernetes-validations").and_then(Value::as_array);
            found.extend(
                rules.into_iter().flatten().filter_map(|r| Some(r.get("message")?.as_str()?.to_owned())),
            );
            fields.values().for_each(|inner| messages(inner, found));
        }
        Value::Array(items) => items.iter().for_each(|inner| messages(inner, found)),
        _ => {}
    }
}

/// The rules of a kind that no file of a folder breaks.
fn untried(kind: &str, folder: &str) -> BTreeSet<String> {
    let mut untried = BTreeSet::new();
    let definition = banyan::api::crds().into_iter().find(|crd| crd.spec.names.kind == kind);
    messages(&serde_json::to_value(definition).unwrap(), &mut untried);
    assert!(!untried.is_empty());
    for path in files(folder) {
        let golden = std::fs::read_to_string(path.with_extension("txt")).unwrap();
        untried.retain(|message| !golden.contains(message.as_str()));
    }
    untried
}

#[test]
fn every_rule_has_a_case() {
    assert_eq!(untried("FinService", "tests/goldens/invalid"), BTreeSet::new());
    assert_eq!(untried("CloudCluster", "tests/goldens/invalid-site"), BTreeSet::new());
    // Those two are about changes, and tried by `what_was_said_stays`.
    let changes = |message: &String| message.contains("cannot be changed");
    for kind in ["CanaryRollout", "Action"] {
        let left = untried(kind, "tests/goldens/invalid-canary");
        assert!(left.iter().all(changes) && left.len() == 1, "{kind}: {left:?}");
    }
    let left = untried("Failover", "tests/goldens/invalid-move");
    assert!(left.iter().all(changes) && left.len() == 1, "{left:?}");
    // What is left is about changes, and tried by `what_a_group_and_its_authority_were_stays`.
    let left = untried("FailoverGroup", "tests/goldens/invalid-group");
    assert!(
        left.iter().all(|message| message.contains("can only be added to")) && left.len() == 1,
        "{left:?}"
    );
    let left = untried("Authority", "tests/goldens/invalid-group");
    let changes = ["must not fall", "keeps", "stays", "not opened again", "never left to"];
    let is_change = |message: &String| changes.iter().any(|words| message.contains(words));
    assert!(left.iter().all(is_change) && left.len() == 9, "{left:?}");
}

#[tokio::test]
async fn every_invalid_rollout_is_refused_with_its_message() {
    all_are_refused("tests/goldens/invalid-canary", 40, "CanaryRollouts and Actions").await;
}

#[tokio::test]
async fn every_invalid_site_is_refused_with_its_message() {
    all_are_refused("tests/goldens/invalid-site", 4, "CloudClusters").await;
}

#[tokio::test]
async fn every_invalid_group_is_refused_with_its_message() {
    all_are_refused("tests/goldens/invalid-group", 70, "FailoverGroups and Authorities").await;
}

#[tokio::test]
async fn every_invalid_move_is_refused_with_its_message() {
    all_are_refused("tests/goldens/invalid-move", 8, "Failovers").await;
}

/// An epoch never falls, and an ended claim stays ended, whoever writes.
#[tokio::test]
async fn what_a_group_and_its_authority_were_stays() {
    let client = as_operator().await;
    let params = PatchParams::apply("crd-test").validation_strict();
    let object = |kind: &str, spec: Value| {
        serde_json::json!({"apiVersion": "banyan.dev/v1alpha1", "kind": kind,
            "metadata": {"name": "stays", "namespace": "default"}, "spec": spec})
    };
    let services = serde_json::json!({"namespaces": ["pay"]});
    let group =
        |sites: &[&str]| object("FailoverGroup", serde_json::json!({"sites": sites, "services": services}));
    let groups = api(&client, &group(&["a", "b"])).await.expect("a kind");
    let put = async |api: &Api<DynamicObject>, object: &Value| {
        api.patch("stays", &params.clone().force(), &Patch::Apply(object)).await
    };
    put(&groups, &group(&["a", "b"])).await.expect("the first is taken");
    let error = put(&groups, &group(&["b", "a"])).await.expect_err("the places stay").to_string();
    assert!(error.contains("sites can only be added to"), "{error}");
    put(&groups, &group(&["a", "b", "c"])).await.expect("one is added at the end");
    groups.delete("stays", &Default::default()).await.expect("deleted");

    let claim = |ballot: i64, state: &str| serde_json::json!([{"site": "b", "ballot": ballot, "follows": 16, "state": state}]);
    let authority = |change: Value| {
        let mut spec = serde_json::json!({"epoch": 16, "follows": 0, "holders": ["a"], "promoted": 16,
            "claims": claim(33, "Withdrawn"), "withdrawn": [32]});
        for (key, value) in change.as_object().expect("fields") {
            spec[key] = value.clone();
        }
        object("Authority", spec)
    };
    let first = authority(serde_json::json!({}));
    let authorities = api(&client, &first).await.expect("a kind");
    put(&authorities, &first).await.expect("the first is taken");
    let mut by_witness = claim(33, "Withdrawn");
    by_witness[0]["byWitness"] = true.into();
    let refused = [
        (serde_json::json!({"epoch": 15}), "epoch must not fall"),
        (serde_json::json!({"holders": ["b"]}), "the same epoch keeps its holders"),
        (serde_json::json!({"follows": 1}), "the same epoch keeps what it follows"),
        (serde_json::json!({"promoted": 0}), "promoted must not fall"),
        (serde_json::json!({"claims": []}), "a slot of claims stays"),
        (serde_json::json!({"claims": claim(17, "Open")}), "its ballot must not fall"),
        (serde_json::json!({"claims": claim(33, "Open")}), "an ended claim stays ended"),
        (serde_json::json!({"claims": by_witness}), "is never left to the witness alone"),
        (serde_json::json!({"withdrawn": []}), "withdrawn keeps each ballot"),
    ];
    for (change, words) in refused {
        let error = put(&authorities, &authority(change)).await.expect_err(words).to_string();
        assert!(error.contains(words), "{words}: {error}");
    }
    let committing = authority(serde_json::json!({"claims": claim(49, "Committing")}));
    put(&authorities, &committing).await.expect("a greater claim");
    let error = put(&authorities, &authority(serde_json::json!({"claims": claim(49, "Open")}))).await;
    let error = error.expect_err("it goes on").to_string();
    assert!(error.contains("is not opened again"), "{error}");
    let next = serde_json::json!({"epoch": 49, "follows": 16, "holders": ["b"], "claims": claim(49, "Committing"), "withdrawn": []});
    put(&authorities, &authority(next))
        .await
        .expect("a greater epoch has other holders, and forgets what is older");
    // The operator releases it once its group is gone.
    let released = serde_json::json!({"metadata": {"annotations": {"banyan.dev/released": "true"}}});
    authorities.patch("stays", &PatchParams::default(), &Patch::Merge(&released)).await.expect("released");
    authorities.delete("stays", &Default::default()).await.expect("deleted");
}

#[tokio::test]
async fn the_policy_of_every_story_is_accepted() {
    let client = client().await;
    let mut seen = 0;
    for path in files("tests/goldens/canary") {
        let story: Value = serde_norway::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let object = serde_json::json!({
            "apiVersion": "banyan.dev/v1alpha1", "kind": "CanaryRollout",
            "metadata": {"name": "story", "namespace": "default"}, "spec": story["rollout"],
        });
        if let Err(error) = create(&client, &object).await {
            panic!("{}: {error}", path.display());
        }
        seen += 1;
    }
    assert!(seen >= 40, "only {seen} stories");
}

#[tokio::test]
async fn what_was_said_stays() {
    let client = client().await;
    let params = PatchParams::apply("crd-test").validation_strict();
    let refused = async |first: Value, second: Value, words: &str| {
        let api = api(&client, &first).await.expect("a kind");
        let name = first["metadata"]["name"].as_str().expect("a name");
        api.patch(name, &params, &Patch::Apply(&first)).await.expect("the first is taken");
        let error = api.patch(name, &params, &Patch::Apply(&second)).await.expect_err("it cannot be changed");
        assert!(error.to_string().contains(words), "{error}");
        api.delete(name, &Default::default()).await.expect("deleted");
    };
    let action = |verb: &str| {
        serde_json::json!({
            "apiVersion": "banyan.dev/v1alpha1", "kind": "Action",
            "metadata": {"name": "what-was-said-stays", "namespace": "default"},
            "spec": {"target": {"kind": "CanaryRollout", "name": "app"}, "release": "app:1", "verb": verb},
        })
    };
    refused(action("pause"), action("promote"), "an Action cannot be changed: create another").await;
    let rollout = |service: &str| {
        serde_json::json!({
            "apiVersion": "banyan.dev/v1alpha1", "kind": "CanaryRollout",
            "metadata": {"name": "what-was-said-stays", "namespace": "default"},
            "spec": {"service": service, "strategy": {"blueGreen": {}}},
        })
    };
    refused(rollout("one"), rollout("two"), "service cannot be changed").await;
    let order = |action: &str| {
        serde_json::json!({
            "apiVersion": "banyan.dev/v1alpha1", "kind": "Failover",
            "metadata": {"name": "what-was-said-stays", "namespace": "default"},
            "spec": {"group": "payments", "action": action, "reason": "a drill"},
        })
    };
    refused(order("Switchover"), order("Failover"), "a Failover cannot be changed").await;
}
