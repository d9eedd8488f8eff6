//! The copy that a revision keeps of a ConfigMap.

use crate::api::labels::COPY_OF_ANNOTATION;
use serde_json::{Value, json};

use super::json::{filled, object};
use super::{Child, Kind, Scope};
use crate::finservice::plan::revision::copy_name;

/// A copy of the ConfigMap `source` for one revision: a pod of the old revision that restarts still
/// reads what it was rolled out with. `data` and `binary_data` are those of the source, as they are
/// in the API. Only contents are copied, never labels or annotations.
///
/// It is immutable, which also spares the kubelets their watches.
pub fn copy(
    scope: &Scope,
    hash: &str,
    source: &str,
    data: Option<&Value>,
    binary_data: Option<&Value>,
) -> Child {
    let mut child = scope.child(
        Kind::ConfigMap,
        copy_name(scope.name, hash, source),
        Some(hash),
        object([
            ("immutable", Some(true.into())),
            ("data", data.cloned().and_then(filled)),
            ("binaryData", binary_data.cloned().and_then(filled)),
        ]),
    );
    // The name of the source may be longer than a label's value.
    child.body["metadata"]["annotations"] = json!({COPY_OF_ANNOTATION: source});
    child
}
