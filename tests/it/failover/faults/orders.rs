//! What a move meets that is no fault of a cloud: an application that is broken, no nodes, git, a provider that is away, an
//! order that is deleted.

use std::time::{Duration, Instant};

use banyan::api::FailoverStatus;
use banyan::api::failover::{MoveAction, Phase};
use banyan::sandbox::ends::server::{Asked, Fault};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::super::stage::{AWS, GCP};
use super::field::{APPLICATION, Field, Group, WRITES, asks, lost, undisturbed, writes};
use super::users::Users;
use crate::peers::until;

/// How often git's state is applied: more often than the five seconds of a hasty controller.
const GIT_EVERY: Duration = Duration::from_millis(500);

/// The application at the target is broken: nothing is shifted, and `abort` goes back. The same if the order is deleted.
pub async fn a_broken_application_holds_the_shift(field: &Field, group: &Group) {
    field.could_move(group, GCP).await;
    let before = field.authority(group, AWS).await.spec;
    let writer = group.postgres.client();
    writes(&writer, 20).await;
    let users = Users::of(field, group);
    let began = Instant::now();
    let broken = |asked: &banyan::sandbox::ends::server::Asked| asked.path == APPLICATION;
    field.gateways[GCP].desk.always(broken, Fault::status(500));
    for (name, deleted) in [("broken-aborted", false), ("broken-deleted", true)] {
        let closed = Instant::now();
        field.order(group, GCP, MoveAction::Switchover, name).await;
        let said = field.comes_to(GCP, name, "it is held", |status| {
            asks("skip --step try")(status).and(status.message.clone())
        });
        let said = said.await;
        assert!(said.contains("the application does not answer well"), "{said}");
        let own = field.authority(group, GCP).await.spec;
        assert_eq!((own.epoch, &own.holders), (before.epoch, &before.holders), "nothing was shifted");
        if deleted {
            field.delete_order(GCP, name).await;
            until("it is gone", async || field.read(GCP, name).await.is_none().then_some(())).await;
        } else {
            field.types(GCP, &["failover", "abort", name]).await;
            let aborted =
                |status: &banyan::api::FailoverStatus| (status.phase == Some(Phase::Aborted)).then_some(());
            field.comes_to(GCP, name, "it is given up", aborted).await;
        }
        writes(&writer, 20).await;
        println!("{name}: written to again {:.1?} after the order", closed.elapsed());
    }
    field.gateways[GCP].desk.behave();
    let after = field.agreed(group).await;
    assert_eq!(after, (AWS, before.epoch));
    let tally = writer.tally();
    assert_eq!(lost(group, AWS, &writer).await, 0);
    println!(
        "a broken application: 0 of {} writes lost, {:.1?} without; answered by {:?}",
        tally.acknowledged.len(),
        tally.longest_gap,
        users.answered(began)
    );
    assert!(!users.answered(began).contains_key(&field.names[GCP]), "nobody was sent there");
}

/// Whether pods find room at a site.
async fn cordon(field: &Field, place: usize, shut: bool) {
    let nodes: Api<Node> = Api::all(field.admins[place].clone());
    for node in nodes.list(&ListParams::default()).await.expect("nodes").items {
        let patch = json!({"spec": {"unschedulable": shut}});
        let name = node.metadata.name.unwrap_or_default();
        nodes.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await.expect("a node");
    }
}

/// There is no room at the target: a Switchover holds before anything is closed, and goes on once there is.
pub async fn no_nodes_hold_before_the_fence(field: &Field, group: &Group) {
    field.could_move(group, GCP).await;
    cordon(field, GCP, true).await;
    let writer = group.postgres.client();
    writes(&writer, 20).await;
    let before = writer.tally();
    let name = "no-nodes";
    field.order(group, GCP, MoveAction::Switchover, name).await;
    let said = field.comes_to(GCP, name, "it holds", |status| {
        asks("skip --step capacity")(status).and(status.message.clone())
    });
    let said = said.await;
    assert!(said.contains("Ready pods here, and needs"), "{said}");
    writes(&writer, 50).await;
    undisturbed(&writer, &before);
    cordon(field, GCP, false).await;
    let status = field.done(GCP, name).await;
    writes(&writer, 20).await;
    assert_eq!(field.agreed(group).await.0, GCP);
    let count = writer.tally().acknowledged.len();
    assert_eq!(lost(group, GCP, &writer).await, 0);
    println!("no nodes: held before the fence, then moved by itself: 0 of {count} lost, {:?}", status.took);
}

/// Git's state is applied with force all the while, and the provider's API is away. And the application does not write at first:
/// nobody is sent to it before it does.
pub async fn git_takes_nothing_back_and_no_provider_is_needed(field: &Field, group: &Group) {
    let holder = field.agreed(group).await.0;
    let to = 1 - holder;
    field.could_move(group, to).await;
    let writer = group.postgres.client();
    writes(&writer, 20).await;
    let users = Users::of(field, group);
    let objects = field.in_git(group);
    let git = async {
        loop {
            for place in [AWS, GCP] {
                for object in &objects {
                    apply(field, place, object).await;
                }
            }
            tokio::time::sleep(GIT_EVERY).await;
        }
    };
    let moved = async {
        tokio::time::sleep(GIT_EVERY * 2).await;
        field.cloudflare.api.desk.always(|_| true, Fault::status(503));
        // Until it is known that it is away.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let name = "git-and-no-provider";
        let writes_there = |asked: &Asked| asked.path == WRITES;
        field.gateways[to].desk.always(writes_there, Fault::status(500));
        let ordered = Instant::now();
        field.order(group, to, MoveAction::Switchover, name).await;
        let held = |status: &FailoverStatus| {
            let fails = asks("skip --step try")(status).and(status.message.clone())?;
            status.committed_at.is_some().then_some(fails)
        };
        let said = field.comes_to(to, name, "it cannot be written to", held).await;
        assert!(said.contains("POST") && said.contains(WRITES), "{said}");
        assert!(!users.answered(ordered).contains_key(&field.names[to]), "nobody is sent there");
        field.gateways[to].desk.behave();
        let status = field.done(to, name).await;
        let open = Instant::now();
        writes(&writer, 20).await;
        // It stays so, though git goes on.
        tokio::time::sleep(GIT_EVERY * 10).await;
        let (place, epoch) = field.agreed(group).await;
        assert_eq!((place, Some(epoch)), (to, status.ballot));
        (status, open)
    };
    let (status, open) = tokio::select! {
        moved = moved => moved,
        never = git => never,
    };
    field.cloudflare.api.desk.behave();
    let answered = users.answered(open);
    let count = writer.tally().acknowledged.len();
    assert_eq!(lost(group, to, &writer).await, 0);
    println!(
        "git every {GIT_EVERY:?}, no provider: 0 of {count} lost, {:?}; since it was done, answered by {answered:?}",
        status.took
    );
    assert!(answered.contains_key(&field.names[to]), "{answered:?}");
    let at_last = answered.get(&field.names[holder]).map_or(0.0, |(_, last)| *last);
    assert!(at_last < 5.0, "traffic has moved: {answered:?}");
}

/// As ArgoCD does with server-side apply and force.
async fn apply(field: &Field, place: usize, object: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (group, version) = {
        let api = text(&object["apiVersion"]);
        let (group, version) = api.split_once('/').unwrap_or(("", &api));
        (group.to_owned(), version.to_owned())
    };
    let gvk = kube::core::GroupVersionKind::gvk(&group, &version, &text(&object["kind"]));
    let resource = kube::core::ApiResource::from_gvk(&gvk);
    let namespace = text(&object["metadata"]["namespace"]);
    let api: Api<kube::api::DynamicObject> =
        Api::namespaced_with(field.admins[place].clone(), &namespace, &resource);
    let params = PatchParams::apply("argocd-controller").force();
    api.patch(&text(&object["metadata"]["name"]), &params, &Patch::Apply(object))
        .await
        .expect("git's state is taken");
}

/// An order that is deleted after its commit goes to its end.
pub async fn an_order_that_is_deleted_after_its_commit_goes_on(field: &Field, group: &Group) {
    let place = 1 - field.agreed(group).await.0;
    field.could_move(group, place).await;
    let writer = group.postgres.client();
    writes(&writer, 20).await;
    let name = "deleted-late";
    field.order(group, place, MoveAction::Switchover, name).await;
    let ballot = field
        .comes_to(place, name, "it is committed", |status| status.committed_at.as_ref().and(status.ballot))
        .await;
    field.delete_order(place, name).await;
    until("it is gone", async || field.read(place, name).await.is_none().then_some(())).await;
    assert_eq!(field.agreed(group).await, (place, ballot));
    writes(&writer, 20).await;
    let tally = writer.tally();
    assert_eq!(lost(group, place, &writer).await, 0);
    println!(
        "deleted after the commit: went to its end; 0 of {} lost, {:.1?} without",
        tally.acknowledged.len(),
        tally.longest_gap
    );
}

/// Data may not be kept here: nothing is done.
pub async fn residency_forbids_it(field: &Field, group: &Group) {
    let (holder, epoch) = field.agreed(group).await;
    let place = 1 - holder;
    let groups: Api<banyan::api::FailoverGroup> =
        Api::namespaced(field.admins[place].clone(), "banyan-system");
    let set = async |residency: Value| {
        let patch = json!({"spec": {"residency": residency}});
        groups.patch(group.kind.name, &PatchParams::default(), &Patch::Merge(&patch)).await.expect("a group");
    };
    set(json!("EU")).await;
    until("it is read", async || {
        let status = field.status(group, place).await?.status?;
        let found = status.checks.into_iter().find(|check| check.name == "residency")?;
        found.message.contains("may not be kept").then_some(())
    })
    .await;
    for (name, action) in
        [("exiled-planned", MoveAction::Switchover), ("exiled-unplanned", MoveAction::Failover)]
    {
        field.order(group, place, action, name).await;
        let said = field
            .comes_to(place, name, "it is refused", |status| {
                (status.phase == Some(Phase::Refused)).then(|| status.message.clone().unwrap_or_default())
            })
            .await;
        println!("{name}: {said}");
        assert!(said.contains("EU") && said.contains("spec.residency"), "{said}");
    }
    let own = field.authority(group, place).await.spec;
    assert!(own.epoch == epoch && own.claims.iter().all(|claim| claim.ballot <= epoch), "{own:?}");
    set(Value::Null).await;
    field.could_move(group, place).await;
}
