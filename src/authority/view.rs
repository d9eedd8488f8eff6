//! The small view that other reconcilers get: does this site have authority over that service? Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::claims::{is_alive, is_under_way};
use crate::api::authority::{AuthoritySpec, AuthorityState, Claim};
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
    /// The site that it is moving to, as far as that concerns this site.
    pub moves_to: Option<String>,
    /// The hosts under which users reach it; empty where nothing leads them.
    pub hosts: Arc<[String]>,
    /// Whether requests that arrive without authority are refused, and not sent on.
    pub refuses: bool,
}

/// Every group of this site.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Authorities(Arc<[GroupView]>);

/// The hosts of which requests may have to be answered by another site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedAway {
    /// The hosts.
    pub hosts: Arc<[String]>,
    /// Whether it is so now. Where not, routes name who sends them on, at zero: a gateway that hears of it for the first time
    /// when it is needed fails the first requests.
    pub now: bool,
}

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
    /// The site that the group is moving to, as far as that concerns this site.
    pub moves_to: Option<String>,
    /// The hosts under which users reach the group.
    pub hosts: Arc<[String]>,
    /// Whether requests that arrive without authority are refused, and not sent on.
    pub refuses: bool,
}

impl Standing {
    /// What becomes of requests that arrive here, given which sites say where their gateway is: they are led away while another
    /// site has authority, unless they could neither be sent on nor are to be refused.
    pub fn led_away(&self, has_gateway: impl Fn(&str) -> bool) -> LedAway {
        let can = self.refuses || self.holders.iter().any(|holder| has_gateway(holder));
        let hosts = || Arc::clone(&self.hosts);
        match self.state {
            AuthorityState::Standby if can => LedAway { hosts: hosts(), now: true },
            AuthorityState::Held => LedAway { hosts: hosts(), now: false },
            _ => LedAway::default(),
        }
    }

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

/// The site that a group is moving to, by what the Authority of `site` says: this one, from its claim on until its stores are
/// open; another one, as soon as it has this site close its stores. `None` once that is over.
pub fn moves_to(own: &AuthoritySpec, site: &str) -> Option<String> {
    let moves = |claim: &&Claim| match claim.site == site {
        true => is_under_way(claim, own),
        false => claim.ballot > own.epoch && claim.follows == own.epoch && claim.fence == Some(true),
    };
    let moving = own.claims.iter().filter(|claim| is_alive(claim)).filter(moves);
    moving.max_by_key(|claim| claim.ballot).map(|claim| claim.site.clone())
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
            moves_to: group.moves_to.clone(),
            hosts: Arc::clone(&group.hosts),
            refuses: group.refuses,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::authority::ClaimState;

    #[test]
    fn a_group_moves_from_its_claim_until_it_serves_and_from_its_source_once_that_is_closed() {
        let claim = |ballot: i64, fence: bool, state: ClaimState| Claim {
            site: "b".to_owned(),
            ballot,
            follows: 16,
            fence: fence.then_some(true),
            state,
            ..Claim::default()
        };
        let own = |epoch: i64, promoted: Option<i64>, claim: Claim| AuthoritySpec {
            epoch,
            promoted,
            claims: vec![claim],
            ..AuthoritySpec::default()
        };
        let open = own(16, Some(16), claim(17, false, ClaimState::Open));
        assert_eq!((moves_to(&open, "b").as_deref(), moves_to(&open, "a")), (Some("b"), None));
        let closing = own(16, Some(16), claim(17, true, ClaimState::Open));
        assert_eq!(moves_to(&closing, "a").as_deref(), Some("b"));
        let given_up = own(16, Some(16), claim(17, true, ClaimState::Withdrawn));
        assert_eq!((moves_to(&given_up, "a"), moves_to(&given_up, "b")), (None, None));
        let committed = own(17, None, claim(17, true, ClaimState::Open));
        assert_eq!((moves_to(&committed, "b").as_deref(), moves_to(&committed, "a")), (Some("b"), None));
        let serves = own(17, Some(17), claim(17, true, ClaimState::Open));
        assert_eq!(moves_to(&serves, "b"), None);
    }
}
