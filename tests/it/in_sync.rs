//! Whether git and a cluster say the same, as ArgoCD compares them. None of its ways may find a difference, whatever the
//! operator has done: an Application that is OutOfSync for something that nobody changed is healed for ever.

use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use serde_json::Value;

/// Fails where an object that was applied by that manager would be OutOfSync.
pub async fn is_in_sync(client: &Client, manager: &str, git: &Value) {
    assert_eq!(differences(client, manager, git).await, Vec::<String>::new(), "{git:#}");
}

/// What each of the ways finds.
pub async fn differences(client: &Client, manager: &str, git: &Value) -> Vec<String> {
    let word = |path: &str| git.pointer(path).and_then(Value::as_str).expect("it is in the manifest");
    let (group, version) = word("/apiVersion").split_once('/').expect("a group");
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, word("/kind")));
    let api: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), word("/metadata/namespace"), &resource);
    let (kind, name) = (word("/kind"), word("/metadata/name"));

    // Three ways: what git has is there, unchanged.
    let live = serde_json::to_value(api.get(name).await.expect("it is there")).expect("JSON");
    let mut found = Vec::new();
    differs("", git, &live, &mut found);

    // By the server: to apply it again would change nothing.
    let mut dry = PatchParams::apply(manager).force();
    dry.dry_run = true;
    let again = api.patch(name, &dry, &Patch::Apply(git)).await.expect("it would be taken");
    let again = serde_json::to_value(again).expect("JSON");
    if plain(&live) != plain(&again) {
        found.push(format!("applied again: {:#} instead of {:#}", plain(&again), plain(&live)));
    }

    // By structured merge: whoever applied it owns nothing that git does not have; that would be taken away.
    let managed = live.pointer("/metadata/managedFields").and_then(Value::as_array);
    let applied =
        managed.into_iter().flatten().filter(|one| one["manager"] == manager && one["operation"] == "Apply");
    let mut owned = applied.map(|one| &one["fieldsV1"]).peekable();
    assert!(owned.peek().is_some(), "{kind} {name} was not applied by {manager}");
    owned.for_each(|fields| beyond("", fields, git, &mut found));
    found
}

/// Without what is not compared: the status, and who wrote when.
fn plain(object: &Value) -> Value {
    let mut plain = object.clone();
    plain.as_object_mut().expect("an object").remove("status");
    let metadata = plain["metadata"].as_object_mut().expect("metadata");
    metadata.retain(|field, _| !["managedFields", "resourceVersion"].contains(&&**field));
    plain
}

/// Adds the fields of git that the cluster does not have, or has otherwise.
fn differs(path: &str, git: &Value, live: &Value, found: &mut Vec<String>) {
    match (git, live) {
        (Value::Object(git), Value::Object(live)) => {
            for (name, value) in git {
                differs(&format!("{path}.{name}"), value, live.get(name).unwrap_or(&Value::Null), found);
            }
        }
        (Value::Array(git), Value::Array(live)) if git.len() == live.len() => {
            for (place, (git, live)) in git.iter().zip(live).enumerate() {
                differs(&format!("{path}[{place}]"), git, live, found);
            }
        }
        _ if git == live => {}
        _ => found.push(format!("{path}: git has {git}, the cluster {live}")),
    }
}

/// Adds the fields that are owned and that git does not have.
fn beyond(path: &str, owned: &Value, git: &Value, found: &mut Vec<String>) {
    for (name, deeper) in owned.as_object().into_iter().flatten() {
        let here = match name.split_once(':') {
            Some(("f", field)) => git.get(field),
            Some(("k", keys)) => {
                let keys: Value = serde_json::from_str(keys).expect("keys of a list");
                let keys = keys.as_object().expect("keys of a list");
                let mut items = git.as_array().into_iter().flatten();
                items.find(|item| keys.iter().all(|(key, value)| item.get(key) == Some(value)))
            }
            Some(("v", value)) => {
                let value: Value = serde_json::from_str(value).expect("a value of a list");
                git.as_array().into_iter().flatten().find(|item| **item == value)
            }
            _ => continue,
        };
        match here {
            Some(here) => beyond(&format!("{path}/{name}"), deeper, here, found),
            None => found.push(format!("{path}/{name} is owned, and not in git")),
        }
    }
}
