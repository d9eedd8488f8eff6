//! Old backends that FinServices name in other namespaces, and whether those who own them give them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::api::FinServiceSpec;
use crate::api::network::MeshProvider;
use crate::runtime::key::Key;

/// Why an old backend is not routed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is a Service of another namespace, and its owner does not give it.
    NotGiven(Key),
    /// It is a name of the cluster's, in a form that does not tell whose it is.
    NameOfTheCluster,
    /// It is an address, and not a name.
    Address,
}

/// What the host of an old backend is.
#[derive(Debug, PartialEq, Eq)]
enum Host {
    /// A Service, in the full form.
    Service(Key),
    /// A name that, looked for in the cluster, may be one of this Service's.
    Perhaps(Key),
    /// A name of the cluster's in another form.
    Other,
    Address,
    Own,
}

fn host(namespace: &str, host: &str) -> Host {
    if host.parse::<IpAddr>().is_ok() {
        return Host::Address;
    }
    let labels: Vec<&str> = host.split('.').collect();
    match labels[..] {
        [_] => return Host::Own,
        [_, own, "svc"] | [_, own, "svc", "cluster", "local"] if own == namespace => return Host::Own,
        [name, other, "svc"] | [name, other, "svc", "cluster", "local"] => {
            return Host::Service(Key::new(other, name));
        }
        [.., "svc" | "pod"] | [.., "svc" | "pod", "cluster"] | [.., "cluster", "local"] => {
            return Host::Other;
        }
        _ => {}
    }
    // Proxies look for `name.namespace` in the cluster first, and for what lies below it.
    let [.., name, namespace] = labels[..] else { return Host::Own };
    Host::Perhaps(Key::new(namespace, name))
}

/// The Service of another namespace that a FinService in `namespace` names as its old backend, if it names one.
pub fn named(namespace: &str, spec: &FinServiceSpec) -> Option<Key> {
    match host(namespace, &spec.legacy.as_ref()?.host) {
        Host::Service(service) | Host::Perhaps(service) => Some(service),
        Host::Other | Host::Address | Host::Own => None,
    }
}

/// Which FinServices name which Service of another namespace.
#[derive(Debug, Default)]
pub(super) struct Legacies {
    users: BTreeMap<Key, BTreeSet<Key>>,
    named: BTreeMap<Key, Key>,
}

impl Legacies {
    /// Takes in what a FinService names (or that it is gone).
    pub fn update(&mut self, key: &Key, spec: Option<&FinServiceSpec>) {
        if let Some(old) = self.named.remove(key)
            && let Some(users) = self.users.get_mut(&old)
        {
            users.remove(key);
            if users.is_empty() {
                self.users.remove(&old);
            }
        }
        if let Some(service) = spec.and_then(|spec| named(&key.namespace, spec)) {
            self.users.entry(service.clone()).or_default().insert(key.clone());
            self.named.insert(key.clone(), service);
        }
    }

    /// The FinServices that name a Service.
    pub fn users(&self, service: &Key) -> impl Iterator<Item = &Key> {
        self.users.get(service).into_iter().flatten()
    }
}

/// Why the old backend of a FinService is not routed to, if it is not. `gives` says of a Service for whom its owner gives
/// it; `None` if there is none.
///
/// With Gateway API the gateway itself asks for the owner's ReferenceGrant.
pub(super) fn refused<'s>(
    key: &Key,
    spec: &FinServiceSpec,
    gives: impl FnOnce(&Key) -> Option<&'s str>,
) -> Option<Refused> {
    let legacy = spec.legacy.as_ref().filter(|_| spec.provider() == MeshProvider::Istio)?;
    match host(&key.namespace, &legacy.host) {
        Host::Own => None,
        Host::Address => Some(Refused::Address),
        Host::Other => Some(Refused::NameOfTheCluster),
        Host::Perhaps(service) => gives(&service).map(|_| Refused::NameOfTheCluster),
        Host::Service(service) => {
            let given = gives(&service).is_some_and(|to| is_given(to, key));
            (!given).then_some(Refused::NotGiven(service))
        }
    }
}

/// Whether an annotation gives to a FinService: it names its namespace, or `namespace/name`.
fn is_given(to: &str, key: &Key) -> bool {
    let full = key.to_string();
    to.split(',').map(str::trim).any(|to| *to == *key.namespace || to == full)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finservice::testing;

    #[test]
    fn faults_4_3_and_4_4_whose_an_old_backend_is() {
        let service = |namespace: &str, name: &str| Host::Service(Key::new(namespace, name));
        for (name, expected) in [
            ("monolith", Host::Own),
            ("monolith.pay.svc", Host::Own),
            ("monolith.pay.svc.cluster.local", Host::Own),
            ("ledger.bank.svc", service("bank", "ledger")),
            ("ledger.bank.svc.cluster.local", service("bank", "ledger")),
            ("db-0.ledger.bank.svc.cluster.local", Host::Other),
            ("10-0-0-1.bank.pod", Host::Other),
            ("ledger.bank.svc.cluster", Host::Other),
            ("anything.cluster.local", Host::Other),
            ("10.0.0.1", Host::Address),
            ("169.254.169.254", Host::Address),
            ("ledger.bank", Host::Perhaps(Key::new("bank", "ledger"))),
            ("db-0.ledger.bank", Host::Perhaps(Key::new("bank", "ledger"))),
            ("old.finflow.example", Host::Perhaps(Key::new("example", "finflow"))),
        ] {
            assert_eq!(host("pay", name), expected, "{name}");
        }
    }

    #[test]
    fn faults_4_3_a_service_of_another_namespace_is_its_owners_to_give() {
        let mut spec = testing::rich();
        let key = Key::new("pay", "app");
        let found = |spec: &FinServiceSpec, gives: Option<&'static str>| refused(&key, spec, |_| gives);
        let not_given = Some(Refused::NotGiven(Key::new("legacy", "monolith")));
        for nobody in [None, Some(""), Some("payments"), Some("pay/other")] {
            assert_eq!(found(&spec, nobody), not_given, "{nobody:?}");
        }
        assert_eq!(found(&spec, Some("bank, pay")), None);
        assert_eq!(found(&spec, Some("pay/app")), None);
        spec.legacy.as_mut().expect("it has one").host = "monolith.legacy".to_owned();
        assert_eq!(found(&spec, Some("pay")), Some(Refused::NameOfTheCluster), "there is such a Service");
        assert_eq!(found(&spec, None), None, "it is a host outside");
        spec.mesh.as_mut().expect("it has one").provider = Some(MeshProvider::GatewayAPI);
        assert_eq!(found(&spec, Some("")), None);
    }
}
