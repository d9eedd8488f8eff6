//! The small view that other reconcilers get: does this site have authority over that service? Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::api::authority::AuthorityState;
use crate::api::failovergroup::Services;

/// How this site stands for one group.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupView {
    /// The group.
    pub name: String,
    /// The services that it holds.
    pub services: Services,
    /// How this site stands.
    pub state: AuthorityState,
    /// Who has authority, as far as is known here.
    pub holders: Vec<String>,
    /// The epoch.
    pub epoch: i64,
    /// Whether this site claims it: it is made as large as it must be to serve.
    pub claimed: bool,
}

/// Every group of this site.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Authorities(Arc<[GroupView]>);

/// How this site stands for one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The group.
    pub group: String,
    /// How this site stands.
    pub state: AuthorityState,
    /// Who has authority; empty where that is not known.
    pub holders: Arc<[String]>,
    /// Whether this site is taking over.
    pub claimed: bool,
}

impl Standing {
    /// Whether another site has authority, and this one has not: the service stands by here. While nobody ever had
    /// authority, and while it is not certain who has, all goes on as it was.
    pub fn stands_by(&self) -> bool {
        self.state == AuthorityState::Standby
    }

    /// Whether this site has it.
    pub fn is_held(&self) -> bool {
        self.state == AuthorityState::Held
    }

    /// Whether this site is to be as large as it must be to serve: it does, or it is taking over.
    pub fn is_whole(&self) -> bool {
        self.is_held() || self.claimed
    }
}

impl Authorities {
    /// Of these groups, in any order.
    pub fn new(mut groups: Vec<GroupView>) -> Self {
        groups.sort_by(|one, other| one.name.cmp(&other.name));
        Self(groups.into())
    }

    /// All groups, by name.
    pub fn groups(&self) -> &[GroupView] {
        &self.0
    }

    /// How this site stands for a FinService; `None` if it is in no group. One that is in several follows the first, by
    /// name; each of them says that this must not be.
    pub fn of(&self, namespace: &str, labels: Option<&BTreeMap<String, String>>) -> Option<Standing> {
        let group = self.0.iter().find(|group| group.services.contains(namespace, labels))?;
        Some(Standing {
            group: group.name.clone(),
            state: group.state,
            holders: group.holders.clone().into(),
            claimed: group.claimed,
        })
    }

    /// The groups of which another view says something else, or of which it knows nothing.
    pub fn changed<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a GroupView> {
        let gone = before.0.iter().filter(|group| !self.0.iter().any(|now| now.name == group.name));
        let new = self.0.iter().filter(|group| !before.0.contains(group));
        let old = before.0.iter().filter(|group| !self.0.contains(group));
        new.chain(old.filter(|group| self.0.iter().any(|now| now.name == group.name))).chain(gone)
    }
}
