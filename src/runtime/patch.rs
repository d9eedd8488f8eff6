//! How this operator writes: under which field manager, and what the API server need not look at.

use kube::api::PatchParams;

use crate::api::labels::{MANAGER, SCALER};

/// A server-side apply of ours. `force` takes over fields that others own.
///
/// The API server does not look for fields that are given twice (`fieldValidation=Ignore`). For that it would read
/// the body a second time, as YAML, and answer with a warning that nobody hears (`applyPatcher` in
/// `k8s.io/apiserver`, `pkg/endpoints/handlers/patch.go`). A field that does not exist is refused all the same, and
/// `tests/it/children.rs` has all children checked.
pub fn applying(force: bool) -> PatchParams {
    PatchParams { force, ..PatchParams::apply(MANAGER).validation_ignore() }
}

/// A patch of what is never applied: replicas, and notes on what others made.
pub fn scaling() -> PatchParams {
    PatchParams { field_manager: Some(SCALER.to_owned()), ..PatchParams::default() }
}
