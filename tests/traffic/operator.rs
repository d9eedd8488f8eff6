//! FinServices under load, with an operator that runs as a process of its own.

use banyan::sandbox::traffic::Load;
use serde_json::{Value, json};

use crate::runner::{Scenario, scenarios};
use crate::world::{Space, World, until};

/// All of this file.
pub fn scenarios() -> Vec<Scenario> {
    scenarios![a_new_release_of_a_finservice_takes_over_under_load]
}

impl Space<'_> {
    /// Applies a FinService `app` that the gateway sends this namespace's host to.
    async fn finservice(&self, release: &str, replicas: usize) {
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

async fn a_new_release_of_a_finservice_takes_over_under_load(world: &World) {
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
    // No pod failed, and no connection broke. The gateway itself may answer 503 for a moment, since the route changes
    // from one Service to another in one write.
    assert_eq!(tally.failed(), tally.of("").total(), "{tally}");
    assert!(tally.of("").total() * 20 < tally.sent, "{tally}");
    assert!(tally.of(&space.release("app:1")).total() > 0, "{tally}");
    operator.check().expect("an operator that runs");
    operator.stop().await.expect("an end");
}
