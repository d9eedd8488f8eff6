//! The other cloud is dead, and releases go on where the group is now: a bad one is taken back by evidence, a good one is
//! promoted, though the dead cloud was to go first.

use std::sync::Arc;

use banyan::api::failover::{MoveAction, Phase};
use banyan::sandbox::install;
use serde_json::json;

use super::super::stage::state;
use super::field::Field;
use crate::peers::until;
use crate::played_prometheus::Played;
use crate::stage::{Stage, policy, service};
use crate::world::World;

/// The group, which has no stores.
const GROUP: &str = "released";

/// A service under a rollout that waits for the other cloud, which has authority.
pub async fn behind_the_other_cloud(field: &Field, place: usize) -> Stage {
    let cloud = field.two.pair.clouds()[place];
    let mut definitions = field.two.pair.tools.optional_definitions().expect("definitions");
    definitions
        .retain(|one| one["metadata"]["name"].as_str().is_some_and(|name| name.ends_with(".istio.io")));
    until("Istio's definitions are taken", async || {
        install::definitions(&field.admins[place], &definitions).await.ok()
    })
    .await;
    let first = field.names[1 - place].clone();
    let policy = |played: &Played| {
        let mut policy = policy(played);
        policy["after"] = json!([{"cluster": first, "bake": "1s"}]);
        policy
    };
    let world = World::on(cloud, GROUP).await;
    let stage = Stage::of(world, Arc::new(Played::start().await), service("Istio"), policy).await;
    let group = json!({"apiVersion": "banyan.dev/v1alpha1", "kind": "FailoverGroup",
        "metadata": {"name": GROUP, "namespace": "banyan-system"},
        "spec": {"sites": field.names, "initialSite": first,
            "services": {"namespaces": [stage.world.namespace]}}});
    for admin in &field.admins {
        install::apply(admin, std::slice::from_ref(&group)).await.expect("a group");
    }
    until("it stands by", async || {
        let group = field.group_named(GROUP, place).await?;
        (state(&group) == Some("Standby")).then_some(())
    })
    .await;
    stage
}

/// The other cloud is dead by now.
pub async fn go_on(field: &Field, place: usize, stage: &Stage) {
    let name = "released-here";
    field.order_for(GROUP, place, MoveAction::Failover, name).await;
    let done = |status: &banyan::api::FailoverStatus| (status.phase == Some(Phase::Done)).then_some(());
    field.comes_to(place, name, "it is here", done).await;
    let bad = stage.deploy("2", 20.0).await;
    let status = stage.phase("RolledBack").await;
    let why = status.message.unwrap_or_default();
    let good = stage.deploy("3", 0.1).await;
    let status = stage.status("it is promoted", |status| status.stable.as_deref() == Some(&*good)).await;
    println!(
        "the other cloud is dead: `{why}`; then {:?} was promoted by {:?}",
        status.release,
        stage.weights(&good)
    );
    assert_ne!(bad, good);
    assert!(why.contains("error-rate"), "{why}");
    assert_eq!(stage.weights(&good), [0, 10, 50, 100], "step by step, since it has authority");
}
