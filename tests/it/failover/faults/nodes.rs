//! A source that cannot be closed: its cloud scales its nodes to zero, and says that none is left. Nobody asserts anything.

use std::time::Instant;

use banyan::api::FailoverGroup;
use banyan::api::failover::{FenceLevel, MoveAction};
use banyan::sandbox::Part;
use banyan::sandbox::process::Signal;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::field::{Field, Group, lost, writes};
use super::gate::signal;
use crate::failover::stage::{AWS, GCP};

/// Has the group ask the clouds for nodes, at both sites, and stop them.
async fn stops_nodes(field: &Field, group: &Group) {
    for place in [AWS, GCP] {
        let api: Api<FailoverGroup> = Api::namespaced(field.admins[place].clone(), "banyan-system");
        let patch = json!({"spec": {"fence": {"nodePools": "Stop"}}});
        let patched = api.patch(group.kind.name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        patched.expect("the group is taken");
    }
}

/// The source's API server and its database stand still. After half a minute its nodes are scaled to zero.
pub async fn of_a_source_that_cannot_be_closed(field: &Field, name: &str) {
    let group = field.group(name);
    stops_nodes(field, group).await;
    let (holder, _) = field.agreed(group).await;
    let place = 1 - holder;
    field.could_move(group, place).await;
    let writer = group.postgres.client();
    writes(&writer, 20).await;
    field.keeper.kill(holder).await;
    field.two.pair.clouds()[holder].signal(Part::ApiServer, Signal::Stop).unwrap();
    let door = &group.postgres.doors[holder];
    door.silence();
    let processes = group.postgres.servers[holder].processes();
    processes.iter().for_each(|pid| signal(*pid, "STOP"));

    let (order, began) = ("nodes-gone", Instant::now());
    field.order(group, place, MoveAction::Failover, order).await;
    let waits = |status: &banyan::api::FailoverStatus| {
        (status.reason.as_deref() == Some("NodesStopping")).then_some(())
    };
    field.comes_to(place, order, "its nodes are to be stopped", waits).await;
    let opened = |status: &banyan::api::FailoverStatus| {
        let opened = status.took.as_ref().is_some_and(|took| took.until_open.is_some());
        opened.then(|| status.clone())
    };
    let status = field.comes_to(place, order, "it is open", opened).await;
    let took = began.elapsed();
    assert_eq!(status.stores[0].level, Some(FenceLevel::Stopped), "{status:#?}");
    assert!(
        status.assertion.is_none() && status.accepted_loss.is_none(),
        "nobody said anything: {status:#?}"
    );
    let nodes = status.nodes.expect("they are noted");
    assert!(
        nodes.ordered_at.is_some() && nodes.pools.iter().all(|pool| pool.at_zero && pool.nodes > 0),
        "{nodes:#?}"
    );
    assert!(nodes.pools.iter().all(|pool| pool.restore.is_some()), "{nodes:#?}");
    writes(&writer, 20).await;
    let (count, missing) = (writer.tally().acknowledged.len(), lost(group, place, &writer).await);
    writer.stop();

    // Its nodes are brought back, and it stands by.
    let [aws, gcp] = field.two.pair.clouds();
    let [to_aws, to_gcp] = [AWS, GCP].map(|place| format!("https://{}", field.doors[place].address));
    field.two.pair.ends.publish_at([(aws, &to_aws), (gcp, &to_gcp)]);
    field.two.pair.clouds()[holder].signal(Part::ApiServer, Signal::Cont).unwrap();
    field.start_again(holder).await;
    processes.iter().for_each(|pid| signal(*pid, "CONT"));
    door.heal();
    field.done(place, order).await;
    assert_eq!(field.agreed(group).await.0, place);
    println!(
        "the source cannot be closed: its nodes were stopped, and it was open elsewhere after {took:.1?}; {missing} of {count} \
         that were under way are not there, within maxLag"
    );
}
