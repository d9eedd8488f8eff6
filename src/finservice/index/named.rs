//! What FinServices name by its name, and that may not be there: other FinServices in `access`, and Secrets with the
//! credentials of registries.

use std::collections::{BTreeMap, BTreeSet};

use super::holders::{Holders, in_order};
use crate::api::FinServiceSpec;
use crate::runtime::key::Key;

/// Something that is named.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Named {
    /// A FinService that may call it.
    Caller(Key),
    /// A FinService that it calls.
    Callee(Key),
    /// A Secret with the credentials of a registry.
    PullSecret(Key),
}

/// Who names what.
#[derive(Debug, Default)]
pub struct Namers {
    namers: Holders<Named, ()>,
    by_service: BTreeMap<Key, Box<[Named]>>,
}

fn named(key: &Key, spec: &FinServiceSpec) -> Box<[Named]> {
    let of = |name: &str, namespace: &Option<String>| {
        Key::new(namespace.as_deref().unwrap_or(&key.namespace), name)
    };
    let access = spec.access.iter();
    let callers = access.clone().flat_map(|access| access.inbound.iter().flatten());
    let callers =
        callers.filter_map(|peer| Some(Named::Caller(of(peer.service.as_deref()?, &peer.namespace))));
    let callees =
        access.flat_map(|access| access.outbound.iter().flat_map(|to| to.services.iter().flatten()));
    let callees = callees.map(|callee| Named::Callee(of(&callee.service, &callee.namespace)));
    let secrets = spec.image_pull_secrets.iter().flatten();
    let secrets = secrets.map(|name| Named::PullSecret(Key::new(&key.namespace, name)));
    in_order(callers.chain(callees).chain(secrets))
}

impl Namers {
    /// Takes in what a FinService names; `None` forgets it.
    pub fn update(&mut self, key: &Key, spec: Option<&FinServiceSpec>) {
        let new = spec.map(|spec| named(key, spec)).unwrap_or_default();
        if self.of(key) == &*new {
            return;
        }
        // Who else names it is no matter here.
        let mut others = BTreeSet::new();
        let all = |things: &[Named]| things.iter().map(|thing| (thing.clone(), ())).collect::<Vec<_>>();
        if let Some(old) = self.by_service.remove(key) {
            self.namers.remove(key, all(&old).into_iter(), &mut others);
        }
        if !new.is_empty() {
            self.namers.add(key, all(&new).into_iter(), &mut others);
            self.by_service.insert(key.clone(), new);
        }
    }

    /// What a FinService names.
    pub fn of(&self, key: &Key) -> &[Named] {
        self.by_service.get(key).map(|named| &**named).unwrap_or_default()
    }

    /// Who names that FinService.
    pub fn of_service(&self, service: &Key) -> impl Iterator<Item = &Key> {
        let as_caller = self.namers.of(&Named::Caller(service.clone()));
        as_caller.chain(self.namers.of(&Named::Callee(service.clone())))
    }

    /// Who pulls images with that Secret.
    pub fn of_secret(&self, secret: &Key) -> impl Iterator<Item = &Key> {
        self.namers.of(&Named::PullSecret(secret.clone()))
    }
}
