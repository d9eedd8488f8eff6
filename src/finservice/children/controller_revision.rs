//! The ControllerRevision: what a revision was made from, and what was made of it.

use serde_json::{Value, json};

use super::{Child, Kind, Scope};
use crate::finservice::plan::revision::RevisionInput;

/// Keeps the input and the rendered template of a revision. A later version of the operator repairs
/// the revision from this alone, so that an upgrade restarts nobody's pods. `number` orders the
/// revisions of a service, the first is 1.
pub fn build(scope: &Scope, hash: &str, number: i64, input: &RevisionInput, template: &Value) -> Child {
    let mut data = json!({"input": input, "template": template});
    without_nothing(&mut data);
    scope.child(
        Kind::ControllerRevision,
        scope.revision_name(hash),
        Some(hash),
        json!({"revision": number, "data": data}),
    )
}

/// Takes out nulls: server-side apply would take them for a wish to remove.
fn without_nothing(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(without_nothing);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nothing),
        _ => {}
    }
}
