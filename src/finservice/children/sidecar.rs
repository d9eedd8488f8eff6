//! Istio's Sidecar: what the pods' proxies let out.

use serde_json::json;

use super::{Child, Kind, Scope};

/// Holds the pods to what the mesh knows: its own services and the hosts of the ServiceEntries. Only
/// for a service that says what it calls (`access.outbound`); ServiceEntries alone hold nobody back
/// in a mesh that lets everything out, which is Istio's default.
pub fn build(scope: &Scope) -> Option<Child> {
    scope.spec.access.as_ref()?.outbound.as_ref()?;
    let spec = json!({
        "workloadSelector": {"labels": scope.service_labels()},
        "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"},
    });
    Some(scope.child(Kind::Sidecar, scope.name.to_owned(), None, json!({"spec": spec})))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::network::{Access, Outbound};
    use crate::finservice::testing;

    #[test]
    fn only_a_service_that_says_what_it_calls_is_held_to_it() {
        let mut spec = testing::minimal();
        spec.access = Some(Access::default());
        assert_eq!(build(&testing::scope(&spec)), None);
        spec.access = Some(Access { outbound: Some(Outbound::default()), ..Access::default() });
        let sidecar = build(&testing::scope(&spec)).expect("a Sidecar");
        assert_eq!(sidecar.body["spec"]["outboundTrafficPolicy"], json!({"mode": "REGISTRY_ONLY"}));
        assert_eq!(
            sidecar.body["spec"]["workloadSelector"]["labels"],
            json!({"banyan.dev/service": "transaction"})
        );
    }
}
