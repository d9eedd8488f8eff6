//! Istio's RequestAuthentication: whose tokens are checked, and by which keys.

use serde_json::json;

use super::json::{object, strings, text};
use super::{Child, Kind, Scope};

/// The check of tokens; none unless the spec asks for it. It refuses wrong tokens only: that there
/// must be one is the AuthorizationPolicy's to say.
pub fn build(scope: &Scope) -> Option<Child> {
    let jwt = scope.spec.access.as_ref()?.jwt.as_ref()?;
    let rule = object([
        ("issuer", text(&jwt.issuer)),
        ("jwksUri", text(&jwt.jwks_uri)),
        ("audiences", strings(jwt.audiences.as_ref())),
        // The service may want to read the claims too.
        ("forwardOriginalToken", Some(true.into())),
    ]);
    Some(scope.child(
        Kind::RequestAuthentication,
        scope.name.to_owned(),
        None,
        json!({"spec": {"selector": {"matchLabels": scope.service_labels()}, "jwtRules": [rule]}}),
    ))
}
