//! People on a real API server: who said what, who may say it, what the command line says, and what peers answer.

use std::process::Output;

use banyan::actions::{Answered, hear, status};
use banyan::api::action::{ActionState, Verb};
use banyan::api::cloudcluster::Access;
use banyan::api::labels::{CHANGED_BY_ANNOTATION, SAID_BY_ANNOTATION};
use banyan::api::{Action, CanaryRollout, FinService};
use banyan::cloudcluster::links::Links;
use banyan::cloudcluster::peers::Peers;
use banyan::cloudcluster::way::Pace;
use banyan::clouds::Addresses;
use banyan::runtime::key::Key;
use banyan::sandbox::{Cloud, install, pair};
use k8s_openapi::api::admissionregistration::v1::MutatingAdmissionPolicyBinding;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::chart;
use crate::world::{World, alone, aws, prepare, small, until};

/// The cloud without an operator: nobody else answers Actions there.
pub async fn gcp() -> &'static Cloud {
    static PREPARED: OnceCell<()> = OnceCell::const_new();
    let cloud = &pair().await.expect("a pair of clouds").gcp;
    PREPARED.get_or_init(|| prepare(cloud)).await;
    cloud
}

/// A client of a person, with the rights of a deployer in the namespace.
pub async fn person(cloud: &Cloud, namespace: &str, name: &str, groups: &[&str]) -> Client {
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "banyan-deployer"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}],
    });
    install::apply(&cloud.client_admin().expect("a client"), &[binding]).await.expect("a binding");
    let kubeconfig = Kubeconfig::from_yaml(&cloud.kubeconfig().expect("a kubeconfig")).expect("YAML");
    let options = KubeConfigOptions::default();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await.expect("a config");
    config.auth_info.impersonate = Some(name.to_owned());
    config.auth_info.impersonate_groups = Some(groups.iter().map(|group| (*group).to_owned()).collect());
    config.default_retry = false;
    Client::try_from(config).expect("a client")
}

fn action(verb: &str, stamp: Option<&str>) -> Action {
    let mut object = json!({
        "apiVersion": "banyan.dev/v1alpha1", "kind": "Action", "metadata": {"generateName": "said-"},
        "spec": {"target": {"kind": "CanaryRollout", "name": "app"}, "release": "app:1", "verb": verb},
    });
    if let Some(stamp) = stamp {
        object["metadata"]["annotations"] = json!({SAID_BY_ANNOTATION: stamp});
    }
    serde_json::from_value(object).expect("an Action")
}

fn said_by(action: &Action) -> Option<String> {
    hear::said_by(action).map(str::to_owned)
}

/// What the scripts for ArgoCD made in `tests/argocd`, from whoever has the right that the chart gives it.
#[tokio::test]
async fn what_is_said_in_argocd_is_taken() {
    let cloud = aws().await;
    let world = World::on(cloud, "argocd").await;
    let mut said = Vec::new();
    for golden in [
        include_str!("../goldens/argocd/said-to-CanaryRollout.json"),
        include_str!("../goldens/argocd/said-to-Failover.json"),
    ] {
        let text = golden.replace("NAMESPACE", &world.namespace).replace("NAME", "app");
        said.extend(serde_json::from_str::<Vec<Action>>(&text).expect("Actions"));
    }
    assert_eq!(said.len(), 10);
    let name = "system:serviceaccount:argocd:argocd-server";
    let api: Api<Action> =
        Api::namespaced(person(cloud, &world.namespace, name, &[]).await, &world.namespace);
    for action in said {
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        let made = until("the Action is taken", async || match api.create(&dry, &action).await {
            Err(kube::Error::Api(status)) if status.code == 503 => None,
            answered => Some(answered.unwrap_or_else(|error| panic!("{error}: {action:#?}"))),
        });
        assert_eq!(said_by(&made.await).as_deref(), Some(name));
    }
}

#[tokio::test]
async fn the_api_server_writes_who_said_it_whatever_is_claimed() {
    let cloud = aws().await;
    let world = World::on(cloud, "said").await;
    let namespace = &world.namespace;
    let ann: Api<Action> = Api::namespaced(person(cloud, namespace, "ann", &[]).await, namespace);
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    until("the policies are in force", async || {
        let made = ann.create(&dry, &action("pause", None)).await.ok()?;
        (said_by(&made)? == "ann").then_some(())
    })
    .await;
    let made = ann.create(&PostParams::default(), &action("pause", Some("bob"))).await.expect("taken");
    assert_eq!(said_by(&made).as_deref(), Some("ann"), "a claim is overwritten");

    // Deployers cannot change what was said; not even an administrator can change who said it.
    let claim = Patch::Merge(json!({"metadata": {"annotations": {SAID_BY_ANNOTATION: "bob", "x": "y"}}}));
    let refused = ann.patch(&made.name_any(), &PatchParams::default(), &claim).await.expect_err("no right");
    assert!(refused.to_string().contains("cannot patch"), "{refused}");
    let api = world.api::<Action>();
    let changed = api.patch(&made.name_any(), &PatchParams::default(), &claim).await.expect("taken");
    assert_eq!((said_by(&changed).as_deref(), changed.annotations()["x"].as_str()), (Some("ann"), "y"));
}

#[tokio::test]
async fn the_api_server_writes_who_changed_a_service_and_only_for_its_spec() {
    let cloud = aws().await;
    let world = World::on(cloud, "changed").await;
    let namespace = &world.namespace;
    let ann: Api<FinService> = Api::namespaced(person(cloud, namespace, "ann", &[]).await, namespace);
    let bob: Api<FinService> = Api::namespaced(person(cloud, namespace, "bob", &[]).await, namespace);
    let by = |service: &FinService| hear::changed_by(service.annotations()).map(str::to_owned);
    let whole = |spec: Value| {
        json!({"apiVersion": "banyan.dev/v1alpha1", "kind": "FinService",
            "metadata": {"name": "app", "namespace": namespace}, "spec": spec})
    };
    let team = PatchParams::apply("team").force();
    until("the policies are in force", async || {
        let dry = PatchParams { dry_run: true, ..team.clone() };
        let made = ann.patch("app", &dry, &Patch::Apply(whole(small()))).await.ok()?;
        (by(&made)? == "ann").then_some(())
    })
    .await;
    let made = ann.patch("app", &team, &Patch::Apply(whole(small()))).await.expect("taken");
    assert_eq!(by(&made).as_deref(), Some("ann"));

    let merge = async |api: &Api<FinService>, patch: Value| {
        let patched = api.patch("app", &PatchParams::default(), &Patch::Merge(patch)).await.expect("taken");
        by(&patched)
    };
    let ann_still = Some("ann".to_owned());
    assert_eq!(merge(&bob, json!({"metadata": {"annotations": {"x": "y"}}})).await, ann_still);
    assert_eq!(
        merge(&bob, json!({"metadata": {"annotations": {CHANGED_BY_ANNOTATION: "carol"}}})).await,
        ann_still
    );
    assert_eq!(
        merge(&bob, json!({"metadata": {"annotations": {CHANGED_BY_ANNOTATION: null}}})).await,
        ann_still
    );
    let image = json!({"spec": {"image": "registry.example/app:2"}, "metadata": {"annotations": {CHANGED_BY_ANNOTATION: "ann"}}});
    assert_eq!(merge(&bob, image).await.as_deref(), Some("bob"));
    // Applying the same again changes nothing, also not the name.
    let mut spec = small();
    spec["image"] = "registry.example/app:2".into();
    let same = ann.patch("app", &team, &Patch::Apply(whole(spec.clone()))).await.expect("taken");
    assert_eq!(by(&same).as_deref(), Some("bob"));
    spec["owner"] = "another".into();
    let other = ann.patch("app", &team, &Patch::Apply(whole(spec))).await.expect("taken");
    assert_eq!(by(&other).as_deref(), Some("ann"));
}

/// As on Kubernetes before 1.36: nobody writes the names, and nobody can write another's.
#[tokio::test]
async fn where_names_cannot_be_written_they_cannot_be_forged_and_verbs_have_their_groups() {
    let alone = alone("actions").await;
    let world = World::on(&alone.cloud, "forged").await;
    let (client, namespace) = (&world.client, &world.namespace);
    let mut policies = chart::objects(&[
        chart::SITE,
        "crds.install=false",
        "admission.verbs.promote.groups[0]=release-managers",
        "admission.verbs.promote.groups[1]=sre",
    ])
    .await;
    policies
        .retain(|object| object["kind"].as_str().is_some_and(|kind| kind.starts_with("ValidatingAdmission")));
    assert_eq!(
        policies.len(),
        21,
        "four for names, two for verbs, two for the operator's own user, one for Authorities, one for records, their bindings; and one for Jobs"
    );
    install::apply(client, &policies).await.expect("policies are taken");
    let bindings: Api<MutatingAdmissionPolicyBinding> = Api::all(client.clone());
    for binding in bindings.list(&ListParams::default()).await.expect("a list") {
        bindings.delete(&binding.name_any(), &DeleteParams::default()).await.expect("deleted");
    }
    let ann: Api<Action> = Api::namespaced(person(&alone.cloud, namespace, "ann", &["sre"]).await, namespace);
    let bob: Api<Action> =
        Api::namespaced(person(&alone.cloud, namespace, "bob", &["staff"]).await, namespace);
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let words = "only release-managers, sre may say promote; ask one of them";
    until("names are not written and verbs are limited", async || {
        let unsigned = said_by(&ann.create(&dry, &action("pause", None)).await.ok()?).is_none();
        let limited = bob.create(&dry, &action("promote", None)).await.err()?.to_string().contains(words);
        (unsigned && limited).then_some(())
    })
    .await;
    ann.create(&dry, &action("promote", None)).await.expect("she is of that group");
    bob.create(&dry, &action("abort", None)).await.expect("abort is free");
    let own = ann.create(&dry, &action("pause", Some("ann"))).await.expect("one's own name");
    assert_eq!(said_by(&own).as_deref(), Some("ann"));
    let forged = ann.create(&dry, &action("pause", Some("bob"))).await.expect_err("another's name");
    let words = "the annotation banyan.dev/said-by of an Action says who created it: leave it out";
    assert!(forged.to_string().contains(words), "{forged}");

    let services = world.api::<FinService>();
    let mut service = json!({"apiVersion": "banyan.dev/v1alpha1", "kind": "FinService",
        "metadata": {"name": "app", "namespace": namespace, "annotations": {CHANGED_BY_ANNOTATION: "carol"}}, "spec": small()});
    let team = PatchParams { dry_run: true, ..PatchParams::apply("team").force() };
    let forged = services.patch("app", &team, &Patch::Apply(&service)).await.expect_err("another's name");
    assert!(forged.to_string().contains("says who changed its spec last: leave it out"), "{forged}");
    service["metadata"]["annotations"] = json!({});
    services.patch("app", &team, &Patch::Apply(&service)).await.expect("without a name it is taken");
    alone.stop().await;
}

/// A CanaryRollout of which this test says how it stands.
async fn rollout(client: &Client, namespace: &str, name: &str, status: Value) {
    let object = json!({
        "apiVersion": "banyan.dev/v1alpha1", "kind": "CanaryRollout", "metadata": {"name": name, "namespace": namespace},
        "spec": {"service": name, "strategy": {"canary": {"steps": [{"weight": 10}, {"weight": 100}]}}},
    });
    install::apply(client, std::slice::from_ref(&object)).await.expect("a CanaryRollout");
    let api: Api<CanaryRollout> = Api::namespaced(client.clone(), namespace);
    let status = Patch::Merge(json!({"status": status}));
    api.patch_status(name, &PatchParams::default(), &status).await.expect("a status");
}

fn analysing() -> Value {
    json!({"phase": "Analysing", "step": "1/2", "release": "app:2", "weight": {"asked": 10, "observed": 10},
        "memory": {"attempt": 1, "rollout": {"canary": "b", "stable": "a", "release": "app:2", "weight": 10,
            "startedAt": "2026-11-25T10:00:00Z"}}})
}

#[tokio::test]
async fn the_command_line_shows_says_and_waits() {
    let cloud = gcp().await;
    let world = World::on(cloud, "cli").await;
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    std::fs::write(&kubeconfig, cloud.kubeconfig().unwrap()).unwrap();
    // As kubectl calls its plugins.
    let plugin = folder.path().join("kubectl-banyan");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_banyan"), &plugin).unwrap();
    let banyan = async |arguments: &str| -> (i32, String, String) {
        let mut command = tokio::process::Command::new(&plugin);
        command.args(["canary", "--kubeconfig"]).arg(&kubeconfig).args(["-n", &world.namespace]);
        let Output { status, stdout, stderr } =
            command.args(arguments.split_whitespace()).output().await.expect("it runs");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (status.code().expect("a code"), text(stdout), text(stderr))
    };
    until("the kinds are served", async || {
        world.api::<CanaryRollout>().list(&ListParams::default()).await.ok()?;
        world.api::<Action>().list(&ListParams::default()).await.ok()
    })
    .await;
    let (code, _, error) = banyan("status").await;
    assert!(code == 1 && error.contains("there is no CanaryRollout in namespace"), "{code} {error}");
    rollout(&world.client, &world.namespace, "app", analysing()).await;
    let (code, text, error) = banyan("status").await;
    assert!(
        code == 0 && text.contains("phase    Analysing") && text.contains("weight   10 %"),
        "{text} {error}"
    );
    let (code, text, _) = banyan("list --output json").await;
    let listed: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((code, &listed[0]["status"]["phase"]), (0, &json!("Analysing")));

    let (code, _, error) = banyan("resume app").await;
    assert!(code == 1 && error.contains("resume of") && error.contains("it is not paused"), "{error}");
    // While a definition is new, its API server may say that it is not ready for lists.
    let said = async || {
        let listed = async || world.api::<Action>().list(&ListParams::default()).await.ok();
        until("a list", listed).await.items
    };
    assert!(said().await.is_empty(), "nothing was said");
    let (code, text, error) = banyan("abort --words it-burns").await;
    assert!(code == 0 && text.contains("said abort of app:2"), "{text} {error}");
    let said = said().await.remove(0);
    let (spec, release) = (&said.spec, said.spec.release.as_deref());
    assert_eq!((spec.verb, release, spec.words.as_deref()), (Verb::Abort, Some("app:2"), Some("it-burns")));
    let (code, _, error) = banyan("pause --wait --timeout 1s").await;
    assert!(code == 1 && error.contains("no operator has answered the Action app-pause-"), "{error}");

    // Somebody who answers: pause is done, promote is refused.
    let actions_api = world.api::<Action>();
    let answering = tokio::spawn(async move {
        loop {
            for action in actions_api.list(&ListParams::default()).await.into_iter().flatten() {
                let Some(said) = hear::said(&action) else { continue };
                let (state, words) = match said.verb {
                    Verb::Pause => (ActionState::Done, "paused at 10 %"),
                    _ => (ActionState::Refused, "not today"),
                };
                let answered = Answered { id: said.id, state, words: words.to_owned() };
                let status = status::status(&action, &answered, jiff::Timestamp::now());
                let patch = Patch::Merge(json!({"status": status}));
                actions_api
                    .patch_status(&action.name_any(), &PatchParams::default(), &patch)
                    .await
                    .expect("taken");
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    });
    let (code, text, error) = banyan("pause --wait").await;
    assert_eq!((code, text.as_str()), (0, "pause of app:2: paused at 10 %\n"), "{error}");
    let (code, _, error) = banyan("promote app --wait").await;
    assert!(code == 1 && error.contains("promote of") && error.contains("is refused: not today"), "{error}");
    answering.abort();

    rollout(&world.client, &world.namespace, "other", analysing()).await;
    let (code, _, error) = banyan("abort").await;
    assert!(
        code == 2 && error.contains("name the CanaryRollout that is meant: app, other"),
        "{code} {error}"
    );
    assert_eq!(banyan("approve --gate 0").await.0, 2);
}

#[tokio::test]
async fn a_peer_is_read_with_the_operators_rights_here_and_a_peers_rights_there() {
    let (here, there) = (aws().await, gcp().await);
    let world = World::on(there, "peer").await;
    rollout(&world.client, &world.namespace, "app", analysing()).await;
    // The peer's operator acts there as a user who has no right yet.
    let mut kubeconfig: Value = serde_norway::from_str(&there.kubeconfig().unwrap()).unwrap();
    kubeconfig["users"][0]["user"]["as"] = "peer-of-a-test".into();
    let admin = here.client_admin().unwrap();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "peer-of-a-test", "namespace": "banyan-system"},
        "stringData": {"kubeconfig": kubeconfig.to_string()}});
    install::apply(&admin, &[secret]).await.unwrap();

    // As the operator does it, with its rights.
    let operator = here.client_operator().unwrap();
    let links = Links::new(operator, "banyan-system", Addresses::default(), Pace::default());
    let way = json!({"kubeconfig": {"secretRef": {"name": "peer-of-a-test"}}});
    let access: Access = serde_json::from_value(way).unwrap();
    links.set([("peer-of-a-test".to_owned(), vec![access])].into());
    let peers = Peers::new(links.clone());
    let (key, shutdown) = (Key::new("payments", "app"), CancellationToken::new());
    let running = tokio::spawn({
        let (links, peers, shutdown) = (links.clone(), peers.clone(), shutdown.clone());
        async move { tokio::join!(links.run(shutdown.clone()), peers.run(shutdown, |_| ())) }
    });
    peers.want(&key, vec![("peer-of-a-test".to_owned(), world.namespace.clone(), "app".to_owned())]);
    until("it has no right", async || {
        let (_, answer) = peers.peers(&key).pop()?;
        answer.err().filter(|words| words.contains("bind the ClusterRole banyan-peer"))
    })
    .await;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "peer-of-a-test"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "banyan-peer"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "peer-of-a-test"}],
    });
    install::apply(&world.client, &[binding]).await.unwrap();
    until("it answers", async || {
        let (_, answer) = peers.peers(&key).pop()?;
        answer.ok()?.release.filter(|release| release == "app:2")
    })
    .await;
    let view = links.view("peer-of-a-test").expect("a peer");
    assert!(view.version.is_some_and(|version| version.starts_with("v1.")));
    shutdown.cancel();
    running.await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(admin, "banyan-system");
    secrets.delete("peer-of-a-test", &DeleteParams::default()).await.unwrap();
}
