//! Banyan's own program: FinServices under load, and doors into the namespace.

use std::path::Path;

use banyan::sandbox::traffic::Load;
use banyan::sandbox::traffic::relay::Door;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

use crate::runner::{Scenario, scenarios};
use crate::world::{Space, World, until};

/// All of this file.
pub fn scenarios() -> Vec<Scenario> {
    scenarios![a_door_leads_to_the_api_server, a_new_release_of_a_finservice_costs_no_request]
}

impl Space<'_> {
    /// Applies a FinService `app` that the gateway sends this namespace's host to.
    pub async fn finservice(&self, release: &str, replicas: usize) {
        let service: Value = json!({
            "apiVersion": "banyan.dev/v1alpha1", "kind": "FinService",
            "metadata": {"name": "app", "namespace": self.namespace},
            "spec": {
                "owner": "team", "image": self.release(release),
                "ports": [{"name": "http", "port": 8080}, {"name": "metrics", "port": 9090}],
                "scale": {"replicas": replicas},
                "mesh": {"provider": "GatewayAPI"},
                "ingress": {"hosts": [self.host()], "gateway": self.world.gateway.reference()},
                "observability": {"metrics": {"port": "metrics"}},
            },
        });
        banyan::sandbox::install::apply(&self.world.client, &[service]).await.expect("a FinService");
    }
}

/// Both relays of a door are processes here as in the sandbox; what they cross there is a file, as here.
async fn a_door_leads_to_the_api_server(world: &World) {
    let program = Path::new(env!("CARGO_BIN_EXE_banyan"));
    let (cloud, dir) = (&world.cloud, world.cloud.dir());
    let door = Door::make("aws", program, dir).expect("a door");
    door.open(cloud.server(), program, dir, cloud.supervisor()).expect("an open door");
    let kubeconfig = cloud.kubeconfig_at(&format!("https://{}", door.outside)).expect("a kubeconfig");
    let kubeconfig = Kubeconfig::from_yaml(&kubeconfig).expect("a kubeconfig");
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    let client = kube::Client::try_from(config.expect("a configuration")).expect("a client");
    let version =
        until("the API server answers through the door", async || client.apiserver_version().await.ok());
    assert!(version.await.git_version.starts_with('v'));
}

async fn a_new_release_of_a_finservice_costs_no_request(world: &World) {
    let operator = world.operator(&[]).await;
    let space = world.space("release").await;
    space.finservice("app:1", 2).await;
    space.hears_of("app:1").await;
    let load = Load::start(space.load().at(300.0)).expect("a load");
    until("the first release answers", async || (load.tally().answered() > 100).then_some(())).await;
    space.finservice("app:2", 2).await;
    let before = until("all requests go to the second", async || {
        let before = load.tally();
        let tally = Load::exactly(space.load().at(2000.0), 200).await.expect("a load");
        (tally.of(&space.release("app:2")).total() == 200).then_some(before)
    })
    .await;
    until("the load goes on", async || (load.tally().answered() > before.answered() + 300).then_some(()))
        .await;
    let tally = load.stop().await.expect("answers");
    println!("{tally}");
    assert_eq!(tally.failed(), 0, "{tally}");
    assert!(tally.of(&space.release("app:1")).total() > 0, "{tally}");
    operator.check().expect("an operator that runs");
    operator.stop().await.expect("an end");
}
