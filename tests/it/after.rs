//! `after` over two clouds: an operator in each, and the same manifests in both, as GitOps brings them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use banyan::api::{CanaryRolloutStatus, CloudCluster};
use banyan::sandbox::{Cloud, install};
use kube::Client;
use kube::api::Api;
use serde_json::{Value, json};

use crate::played_prometheus::Played;
use crate::stage::{Stage, service, staying};
use crate::world::{World, alone, aws, optional_definitions};

/// The cloud that goes first.
const FIRST: &str = "aws-us-east-1";
/// Who the operator of the second cloud is in the first one.
const PEER: &str = "peer-of-after";

/// The way from the second cloud to the first: a CloudCluster, and its kubeconfig in a Secret.
struct Way {
    second: Client,
    kubeconfig: Value,
}

impl Way {
    async fn make(first: &Cloud, second: &Cloud) -> Self {
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": PEER},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "banyan-peer"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": PEER}],
        });
        install::apply(&first.client_admin().unwrap(), &[binding]).await.expect("a binding");
        let mut kubeconfig: Value = serde_norway::from_str(&first.kubeconfig().unwrap()).unwrap();
        kubeconfig["users"][0]["user"]["as"] = PEER.into();
        let way = Self { second: second.client_admin().unwrap(), kubeconfig };
        way.lead_to(first.server()).await;
        let site = json!({"apiVersion": "banyan.dev/v1alpha1", "kind": "CloudCluster",
            "metadata": {"name": FIRST, "namespace": "banyan-system"},
            "spec": {"access": [{"kubeconfig": {"secretRef": {"name": "first"}}}]}});
        install::apply(&way.second, &[site]).await.expect("a CloudCluster");
        way
    }

    /// From here on the Secret names that address.
    async fn lead_to(&self, server: &str) {
        let mut kubeconfig = self.kubeconfig.clone();
        kubeconfig["clusters"][0]["cluster"]["server"] = server.into();
        let secret = json!({"apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "first", "namespace": "banyan-system"},
            "stringData": {"kubeconfig": kubeconfig.to_string()}});
        install::apply(&self.second, &[secret]).await.expect("a Secret");
    }

    /// Waits until the second cloud says so of the first one. It reads a Secret that works every half minute, and
    /// believes silence after another one.
    async fn told(&self, reason: &str) {
        let sites: Api<CloudCluster> = Api::namespaced(self.second.clone(), "banyan-system");
        let began = Instant::now();
        loop {
            let status = sites.get(FIRST).await.ok().and_then(|site| site.status);
            let conditions = status.map(|status| status.conditions).unwrap_or_default();
            if conditions.iter().any(|c| c.type_ == "Ready" && c.reason == reason) {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(240), "{FIRST} is not {reason}: {conditions:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Whether the status says that it waits, and begins so.
fn waits(status: &CanaryRolloutStatus, words: &str) -> bool {
    status.phase.as_deref() == Some("Waiting")
        && status.message.as_ref().is_some_and(|message| message.starts_with(words))
}

#[tokio::test]
async fn the_second_cloud_waits_for_the_first_follows_it_and_never_begins_what_was_taken_back_there() {
    let alone = alone("second").await;
    let (here, there) = (aws().await, &alone.cloud);
    install::definitions(&there.client_admin().unwrap(), &optional_definitions().await)
        .await
        .expect("definitions are taken");
    let way = Way::make(here, there).await;
    let policy = |played: &Played| {
        let mut policy = staying(played);
        policy["after"] = json!([{"cluster": FIRST, "bake": "1s"}]);
        policy
    };
    let world = World::on(here, "after").await;
    let beside = World::named(there, &world.namespace).await;
    let played = Arc::new(Played::start().await);
    let (first, second) = tokio::join!(
        Stage::of(world, Arc::clone(&played), service("Istio"), policy),
        Stage::of(beside, played, service("Istio"), policy),
    );
    assert_eq!(first.first, second.first, "the same words make the same revision");
    let both = async |version: &str, failing: f64| {
        let (one, other) = tokio::join!(first.deploy(version, failing), second.deploy(version, failing));
        assert_eq!(one, other);
        one
    };

    // It waits while the first one is on its way, says so, and goes when that one is well.
    let new = both("2", 0.1).await;
    first.at(10).await;
    let words = format!(
        "{FIRST} goes first, and 2 is still on its way there; to go without it, run `kubectl banyan canary skip-after app \
         -n {}`",
        second.world.namespace
    );
    let status = second.status("it waits", |status| waits(status, &words)).await;
    let reconciling = status.conditions.iter().find(|c| c.type_ == "Reconciling").expect("a condition");
    assert_eq!(
        (&*reconciling.status, &*reconciling.reason, &*reconciling.message),
        ("True", "Waiting", &*words)
    );
    assert_eq!(second.weights(&new), [0], "it stays at its start");
    first.say("promote", "2", "go").await;
    first.status("the first has promoted", |status| status.stable.as_deref() == Some(&*new)).await;
    second.at(10).await;
    second.say("promote", "2", "go").await;
    second.phase("Settled").await;
    assert_eq!(second.weights(&new), [0, 10, 100]);

    // What was taken back in the first one never begins in the second, which says why.
    let bad = both("3", 20.0).await;
    first.phase("RolledBack").await;
    let status =
        second.status("it says why", |status| waits(status, &format!("{FIRST} took 3 back: "))).await;
    let message = status.message.clone().unwrap();
    assert!(message.contains("error-rate") && message.contains("skip-after"), "{message}");
    let stalled = status.conditions.iter().find(|c| c.type_ == "Stalled").expect("a condition");
    assert_eq!((&*stalled.status, &*stalled.reason), ("True", "PeerRolledBack"));
    let service = second
        .world
        .status("app", "its FinService says so too", |service| {
            let conditions = &service.status.as_ref().unwrap().conditions;
            conditions.iter().any(|condition| condition.message.contains(&format!("{FIRST} took 3 back")))
        })
        .await;
    assert_eq!(service.status.unwrap().revisions.unwrap().stable.as_deref(), Some(&*new));

    // The API server of the first one is away: the second holds and says so, and goes on when it is back.
    way.lead_to("https://127.0.0.1:1").await;
    way.told("Unreachable").await;
    let third = both("4", 0.1).await;
    first.at(10).await;
    first.say("promote", "4", "go").await;
    first.status("the first has promoted", |status| status.stable.as_deref() == Some(&*third)).await;
    let words = format!("{FIRST} goes first, and nothing is heard from it: the connection is refused");
    let status = second.status("it says that nobody answers", |status| waits(status, &words)).await;
    assert!(status.conditions.iter().any(|c| c.type_ == "Stalled" && c.status == "False"), "{status:?}");
    assert_eq!(second.weights(&bad), [0], "it was never begun");
    assert_eq!(second.weights(&third), [0]);
    way.lead_to(here.server()).await;
    second.at(10).await;
    second.say("promote", "4", "go").await;
    second.phase("Settled").await;
    assert_eq!(second.weights(&third), [0, 10, 100]);
    way.told("Reachable").await;
    // Each of these was said once, in Events too.
    let events = second.events().await;
    let said = |reason: &str, words: &str| {
        events.iter().filter(|(have, note)| have == reason && note.starts_with(words)).count()
    };
    for version in [2, 3, 4] {
        let words = format!("{version} waits at its start until it serves well in {FIRST}");
        assert_eq!(said("RolloutHeld", &words), 1, "{events:?}");
    }
    assert_eq!(
        said("Stalled", &format!("3 does not begin: {FIRST} took 3 back: error-rate")),
        1,
        "{events:?}"
    );
    drop((first, second));
    alone.stop().await;
}
