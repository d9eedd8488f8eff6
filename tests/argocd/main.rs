//! What ArgoCD makes of each kind: the scripts of `charts/banyan/files/argocd/`, run as ArgoCD runs them, on every status
//! that the stories of `tests/goldens/` meet, and on those that no story meets.
//!
//! `UPDATE_EXPECT=1 cargo test --test argocd` writes the goldens anew; read the difference in review.

mod actions;
mod cases;
mod config_map;
mod health;
mod lua;
#[path = "../support/stories.rs"]
mod stories;
mod told;

use serde_json::{Value, json};

/// An object as the API server holds it, with a status that speaks of its spec of now.
fn object(kind: &str, spec: Value, mut status: Value) -> Value {
    status["observedGeneration"] = json!(1);
    json!({
        "apiVersion": "banyan.dev/v1alpha1", "kind": kind,
        "metadata": {"name": "NAME", "namespace": "NAMESPACE", "uid": "u-1", "generation": 1},
        "spec": spec, "status": status,
    })
}

/// How ArgoCD judges an object: the word, and the message.
fn health(object: &Value) -> (String, String) {
    let kind = object["kind"].as_str().expect("a kind");
    let said = lua::run(&lua::script(&format!("{kind}/health.lua")), object)
        .unwrap_or_else(|error| panic!("{error}\n{object:#}"));
    let word = |field: &str| {
        said[field].as_str().unwrap_or_else(|| panic!("no {field}: {said} of {object:#}")).to_owned()
    };
    let (status, message) = (word("status"), word("message"));
    assert!(["Healthy", "Progressing", "Degraded", "Suspended"].contains(&&*status), "{status}");
    assert!(!message.is_empty(), "{object:#}");
    (status, message)
}
