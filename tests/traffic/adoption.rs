//! A Deployment and its Service, as somebody else made them, become a FinService under requests, and are given back.

use std::path::PathBuf;

use banyan::sandbox::install;
use banyan::sandbox::traffic::Load;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::runner::{Scenario, scenarios};
use crate::stage::lost;
use crate::world::{Space, World, until};

/// All of this file.
pub fn scenarios() -> Vec<Scenario> {
    scenarios![Pods: what_is_handed_over_and_given_back_costs_no_request]
}

impl Space<'_> {
    /// The program, on this cloud.
    pub async fn banyan(&self, args: &[&str]) -> String {
        let kubeconfig = PathBuf::from(self.world.cloud.dir()).join("admin.kubeconfig");
        // Several may be asked at once, and none must read half of it.
        let unfinished = kubeconfig.with_extension(format!("{}-{}", self.namespace, args.join("-")));
        std::fs::write(&unfinished, self.world.cloud.kubeconfig().expect("a kubeconfig")).expect("a file");
        std::fs::rename(&unfinished, &kubeconfig).expect("a file");
        // Not a thread's time: `give-back` waits for half a minute, and all that is played here runs on these threads.
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_banyan"));
        command.args(args).args(["-n", &self.namespace]).env("BANYAN_KUBECONFIG", kubeconfig);
        let output = command.output().await.expect("a program that runs");
        let (said, wrong) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "banyan {args:?}: {said}{wrong}");
        said.into_owned()
    }

    /// What Helm or kubectl would have made: three pods, a Service whose port is another than theirs, a route to it.
    async fn grown(&self) {
        let reference = self.world.gateway.reference().to_owned();
        let (namespace, gateway) = reference.split_once('/').expect("a reference");
        let metadata = json!({"name": "app", "namespace": self.namespace});
        let objects = [
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {
            "replicas": 3, "selector": {"matchLabels": {"app": "grown"}},
            "template": {"metadata": {"labels": {"app": "grown", "team": "a"}}, "spec": {
                "securityContext": {"runAsUser": 1000, "runAsNonRoot": true},
                "containers": [{"name": "app", "image": self.release("app:1"),
                    "ports": [{"name": "web", "containerPort": 8080}],
                    "lifecycle": {"preStop": {"sleep": {"seconds": 5}}}}],
            }}}}),
            json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {
                "type": "NodePort", "selector": {"app": "grown"},
                "ports": [{"name": "http", "port": 80, "targetPort": "web"}]}}),
            json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": metadata, "spec": {
                "parentRefs": [{"namespace": namespace, "name": gateway}], "hostnames": [self.host()],
                "rules": [{"backendRefs": [{"name": "app", "port": 80}]}]}}),
        ];
        install::apply(&self.world.client, &objects).await.expect("a workload");
        self.hears_of("app:1").await;
    }

    async fn only(&self, release: &str) {
        until(&format!("all requests go to {release}"), async || {
            let tally = Load::exactly(self.load().at(2000.0), 200).await.expect("a load");
            (tally.of(&self.release(release)).total() == 200).then_some(())
        })
        .await;
    }

    async fn service(&self) -> Value {
        let service = self.api("v1", "Service").get("app").await.expect("a Service");
        serde_json::to_value(service).expect("JSON")
    }

    async fn annotate(&self, kind: (&str, &str)) {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {"banyan.dev/adopt": "app"}}}));
        self.api(kind.0, kind.1).patch("app", &PatchParams::default(), &patch).await.expect("a patch");
    }
}

/// Rows 6.3 and 6.5: callers keep the Service with its address, its port and its node port, there and back.
async fn what_is_handed_over_and_given_back_costs_no_request(world: &World) {
    let space = world.space("adoption").await;
    space.grown().await;
    let before = space.service().await;
    let load = Load::start(space.load().at(300.0)).expect("a load");
    until("the old pods answer", async || (load.tally().answered() > 100).then_some(())).await;

    let said: Value =
        serde_json::from_str(&space.banyan(&["import", "--owner", "team", "--output", "json"]).await)
            .expect("JSON");
    let taken = &said["services"][0];
    let notes = taken["notes"].as_array().expect("notes");
    assert!(notes.iter().all(|note| note["weight"] != "Lost"), "{notes:#?}");
    let mut service = taken["service"].clone();
    // Another release, so that answers tell who gave them.
    service["spec"]["image"] = space.release("app:2").into();
    install::apply(&world.client, &[service]).await.expect("a FinService");
    space.annotate(("apps/v1", "Deployment")).await;
    space.annotate(("v1", "Service")).await;
    // Asked for before there is a burst of requests: it would go on until the new pods are Ready.
    let taken = async || space.service().await["spec"]["selector"].get("app").is_none().then_some(());
    until("the Service selects the new pods", taken).await;
    space.only("app:2").await;
    until("the old pods go", async || space.pods("app:1").is_empty().then_some(())).await;
    let adopted = space.service().await;
    assert_eq!(adopted["metadata"].get("ownerReferences"), None, "it outlives the FinService");
    let port = |service: &Value| ["port", "nodePort"].map(|field| service["spec"]["ports"][0][field].clone());
    assert_eq!(port(&adopted), port(&before));
    assert_eq!(adopted["spec"]["clusterIP"], before["spec"]["clusterIP"]);

    let tree = space.banyan(&["status", "app"]).await;
    assert!(tree.contains("stable: 3 of 3 pods Ready"), "{tree}");
    println!("{tree}");

    let words = space.banyan(&["give-back", "app", "--delete"]).await;
    assert!(words.contains("Deployment app is scaled to 3"), "{words}");
    space.only("app:1").await;
    let services = space.api("banyan.dev/v1alpha1", "FinService");
    until("the FinService is gone", async || services.get_opt("app").await.ok()?.is_none().then_some(()))
        .await;
    until("so are its pods", async || space.pods("app:2").is_empty().then_some(())).await;
    let back = space.service().await;
    for field in ["selector", "ports", "type", "clusterIP"] {
        let plain = |service: &Value| service["spec"][field].clone();
        assert_eq!(plain(&back), plain(&before), "{field}");
    }
    let tally = load.stop().await.expect("answers");
    println!("{tally}");
    assert_eq!(lost(&tally, &space, &[]), 0, "{tally}");
}
