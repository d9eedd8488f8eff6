//! What FinServices name by its name, and that may not be there: other FinServices in `access`, and Secrets with the
//! credentials of registries.

use std::collections::BTreeMap;

use super::graph::{callees, callers};
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
    let callers = callers(key, spec).map(Named::Caller);
    let callees = callees(key, spec).map(Named::Callee);
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
        let old = self.by_service.remove(key).unwrap_or_default();
        old.iter().for_each(|thing| self.namers.take(key, thing, ()));
        new.iter().for_each(|thing| self.namers.put(key, thing.clone(), ()));
        if !new.is_empty() {
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
