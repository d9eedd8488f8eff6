//! Hooks: nothing is closed while one fails, and each is called once it is its turn.

use axum::Router;
use banyan::api::FailoverGroup;
use banyan::api::failover::MoveAction;
use banyan::api::failovergroup::CheckState;
use banyan::sandbox::ends::server::{self, Asked, Fault};
use banyan::sandbox::install;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use super::super::stage::{AWS, GCP, check};
use super::field::{Field, Group, asks, lost, undisturbed, writes};
use crate::peers::until;

/// Has the group call these, at both sites.
async fn set(field: &Field, group: &Group, hooks: Value) {
    for place in [AWS, GCP] {
        let groups: Api<FailoverGroup> = Api::namespaced(field.admins[place].clone(), "banyan-system");
        let patch = Patch::Merge(json!({"spec": {"hooks": hooks}}));
        groups.patch(group.kind.name, &PatchParams::default(), &patch).await.expect("a group");
    }
}

/// Readiness tells that the Secret of a hook is not there, and that it is.
async fn is_told_without_its_secret(field: &Field, group: &Group, to: usize) {
    let why = until("readiness tells what is missing", async || {
        let object = field.group_named(group.kind.name, to).await?;
        let found = check(&object, "hook reconcile").filter(|check| check.state == CheckState::Failed)?;
        Some(found.message.clone())
    });
    let why = why.await;
    assert!(why.contains("hooks[reconcile].webhook.auth.bearer: there is no Secret hook-token"), "{why}");
    for admin in &field.admins {
        let token = json!({"apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "hook-token", "namespace": "banyan-system"}, "stringData": {"token": "of the hook"}});
        install::apply(admin, &[token]).await.expect("a Secret");
    }
    field.could_move(group, to).await;
}

/// A hook fails for longer than its deadline: the source serves on. It is well again, and the move goes on by itself. One that
/// is at work for a while is waited for, and one that nobody has to wait for holds nothing.
pub async fn nothing_is_closed_while_one_fails(field: &Field, group: &Group) {
    let holder = field.agreed(group).await.0;
    let to = 1 - holder;
    let ops = server::serve(Router::new().fallback(|| async { "done" })).await.expect("a server");
    let hook = |name: &str, at: &str, more: Value| {
        let mut hook = json!({"name": name, "at": at, "webhook": {"url": format!("{}/{name}", ops.url())}});
        hook.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        hook
    };
    let mut hooks = json!([
        hook("stop-batch", "BeforeFence", json!({"deadline": "2s"})),
        hook("reconcile", "BeforeOpen", json!({})),
        hook("tell", "AfterTraffic", json!({"deadline": "1s", "onFailure": "Continue"})),
    ]);
    hooks[1]["webhook"]["auth"] = json!({"bearer": {"secret": "hook-token", "key": "token"}});
    set(field, group, hooks).await;
    is_told_without_its_secret(field, group, to).await;
    let calls = |name: &'static str| move |asked: &Asked| asked.path == format!("/{name}");
    ops.desk.always(calls("stop-batch"), Fault::status(503));
    let writer = group.postgres.client();
    writes(&writer, 20).await;
    let before = writer.tally();
    let name = "hooks";
    field.order(group, to, MoveAction::Switchover, name).await;
    let said = field
        .comes_to(to, name, "a hook holds it", |status| {
            let late = status.reason.as_deref() == Some("HookFailed");
            asks("skip --step before-fence")(status).filter(|_| late).and(status.message.clone())
        })
        .await;
    assert!(said.contains("hook stop-batch was not done within 2s") && said.contains("status 503"), "{said}");
    writes(&writer, 20).await;
    undisturbed(&writer, &before);
    ops.desk.behave();
    ops.desk.next(calls("reconcile"), [202, 500].map(Fault::status));
    ops.desk.always(calls("tell"), Fault::status(404));
    let status = field.done(to, name).await;
    writes(&writer, 20).await;
    assert_eq!(field.agreed(group).await.0, to);
    let count = writer.tally().acknowledged.len();
    assert_eq!(lost(group, to, &writer).await, 0);

    let asked = ops.desk.take();
    let of = |name: &str| -> Vec<Value> {
        let of = asked.iter().filter(|asked| asked.path == format!("/{name}"));
        of.map(|asked| serde_json::from_slice(&asked.body).expect("JSON")).collect()
    };
    let (stop, reconcile, tell) = (of("stop-batch"), of("reconcile"), of("tell"));
    assert!(stop.len() > 2 && reconcile.len() == 3 && !tell.is_empty(), "{stop:?} {reconcile:?} {tell:?}");
    assert_eq!(
        (&stop[0]["committed"], &stop[0]["group"], &stop[0]["to"]),
        (&json!(false), &json!(group.kind.name), &json!(field.names[to]))
    );
    assert_eq!((&reconcile[0]["committed"], &reconcile[0]["ballot"]), (&json!(true), &json!(status.ballot)));
    let called: Vec<_> = status.hooks.iter().map(|hook| (hook.name.as_str(), hook.failed)).collect();
    assert_eq!(called, [("stop-batch", None), ("reconcile", None), ("tell", Some(true))]);
    assert!(status.hooks.iter().all(|hook| hook.ended_at.is_some()), "{:?}", status.hooks);
    println!("hooks: held before the fence, then moved by itself: 0 of {count} lost, {:?}", status.took);
    set(field, group, Value::Null).await;
}
