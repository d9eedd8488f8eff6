//! The ServiceAccount: who the pods are, to the mesh and to the cloud.

use serde_json::{Value, json};

use super::json::{filled, object};
use super::{Child, Kind, Scope};

/// The ServiceAccount of the service, named as the service is: policies of the mesh rely on that.
pub fn build(scope: &Scope) -> Child {
    // Pods do not talk to the API server. Neither EKS (IRSA) nor GKE (Workload Identity) nor Istio
    // needs this token: the first and the last project tokens of their own, the second asks the node.
    let mut child = scope.child(
        Kind::ServiceAccount,
        scope.name.to_owned(),
        None,
        json!({"automountServiceAccountToken": false}),
    );
    if let Some(identity) = &scope.spec.identity
        && let Some(annotations) = filled(object([
            ("eks.amazonaws.com/role-arn", identity.aws_role_arn.clone().map(Value::from)),
            ("iam.gke.io/gcp-service-account", identity.gcp_service_account.clone().map(Value::from)),
        ]))
    {
        child.body["metadata"]["annotations"] = annotations;
    }
    child
}
