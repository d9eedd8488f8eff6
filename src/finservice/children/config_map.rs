//! The copy that a revision keeps of a ConfigMap.

use serde_json::json;

use super::{Child, Kind, Scope};
use crate::finservice::revision::copy_name;

/// The copy of the ConfigMap `source` for one revision, without its contents, which are put in when
/// it is made: a pod of the old revision that restarts still reads what it was rolled out with. Only
/// contents are copied, never labels or annotations.
///
/// It is immutable, which also spares the kubelets their watches.
pub fn copy(scope: &Scope, hash: &str, source: &str) -> Child {
    let name = copy_name(scope.name, hash, source);
    let mut child = scope.child(Kind::ConfigMap, name, Some(hash), json!({"immutable": true}));
    // The name of the source may be longer than a label's value.
    child.body["metadata"]["annotations"] = json!({"banyan.dev/copy-of": source});
    child
}
