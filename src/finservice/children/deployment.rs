//! The Deployment of a revision.

use crate::api::labels::SECRETS_ANNOTATION;
use crate::canary::facts::HEARD_SECONDS;
use serde_json::{Value, json};

use super::{Child, Kind, Scope};

/// The Deployment that runs `template`, which is the one that the revision's ControllerRevision
/// keeps. `secrets_digest` is that of the Secrets with `onSecretChange: Restart`.
///
/// It never holds `replicas`: those are written through `/scale` alone, since a field once applied
/// and then left out falls to 1.
pub fn build(scope: &Scope, hash: &str, template: &Value, secrets_digest: Option<&str>) -> Child {
    let mut template = template.clone();
    if let Some(digest) = secrets_digest {
        template["metadata"]["annotations"][SECRETS_ANNOTATION] = digest.into();
    }
    scope.child(
        Kind::Deployment,
        scope.revision_name(hash),
        Some(hash),
        json!({"spec": {
            "selector": {"matchLabels": scope.revision_labels(hash)},
            // A template only changes when a Secret does. Pods are then replaced in place, and the
            // revision must not lose capacity by that: new ones first, a quarter at a time.
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"},
            },
            // A pod counts as available once proxies have had time to hear of it.
            "minReadySeconds": HEARD_SECONDS,
            // Ten minutes, Kubernetes' own default.
            "progressDeadlineSeconds": 600,
            // The way back is another revision's Deployment; old ReplicaSets are of no use.
            "revisionHistoryLimit": 0,
            "template": template,
        }}),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finservice::testing;

    #[test]
    fn replicas_are_left_to_scale_and_secrets_restart_in_place() {
        let spec = testing::minimal();
        let scope = testing::scope(&spec);
        let template = json!({"metadata": {"labels": {"a": "b"}}});
        let plain = build(&scope, "bcdfghjklm", &template, None);
        assert_eq!(plain.body["spec"].get("replicas"), None);
        assert_eq!(plain.body["spec"]["template"], template);
        let digested = build(&scope, "bcdfghjklm", &template, Some("xyz"));
        assert_eq!(digested.body["spec"]["template"]["metadata"]["annotations"][SECRETS_ANNOTATION], "xyz");
        assert_eq!(digested.body["spec"]["template"]["metadata"]["labels"]["a"], "b");
    }
}
