//! The statuses of a group and of its Authority, from the decision. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::checks::found::Found;
use super::decide::Decision;
use super::observe::{Observed, shows};
use crate::api::authority::{AuthorityState, AuthorityStatus};
use crate::api::conditions::{self, Says, Standing, State, Wanted, cut, merge, short};
use crate::api::failovergroup::{AuthorityCopy, Check, FailoverGroupStatus};
use crate::api::shown::{MirrorShown, PeerShown, Shown, StoreShown, WitnessShown};
use crate::api::units::whole_seconds;
use crate::api::{Problem, Severity};
use crate::authority::decide::Decision as Authority;
use crate::authority::known::Known;
use crate::stores::StoreError;
use crate::stores::kafka::MirrorReading;

/// The status of a group.
pub fn group(seen: &Observed, decision: Decision, now: Timestamp) -> FailoverGroupStatus {
    let old = seen.status();
    let generation = seen.group.as_ref().and_then(|group| group.metadata.generation);
    let current = old.map(|old| old.conditions.as_slice()).unwrap_or_default();
    let Says { state, reason, message } = decision.protected;
    let protected =
        merge(current, vec![Wanted { kind: "Protected", state, reason, message }], generation, now);
    let ready = decision.standing.conditions(current, generation, now);
    let problems = decision.checks.iter().filter_map(|found| {
        let severity = found.state.severity()?;
        Some(Problem::new(severity, format!("checks[{}]", found.name), &found.message, &found.remedy))
    });
    let checks = old.map(|old| old.checks.as_slice()).unwrap_or_default();
    let authority = decision.authority.as_ref().map(|authority| copy(seen, authority));
    FailoverGroupStatus {
        observed_generation: generation,
        conditions: ready.into_iter().chain(protected).collect(),
        problems: problems.take(64).collect(),
        // Remembered where it is not known any more: by it a site goes on that has lost its Authority.
        authority: authority
            .filter(|copy| copy.epoch > 0)
            .or_else(|| old.and_then(|old| old.authority.clone())),
        digest: Some(seen.digest.clone()).filter(|digest| !digest.is_empty()),
        checks: decision.checks.iter().take(128).map(|found| check(found, checks, now)).collect(),
        plan: decision.plan,
        peak: decision.peak,
        shown: seen.spec().map(|_| shown(seen)),
    }
}

/// What this site has read of the other ones, of the stores and of the witness.
fn shown(seen: &Observed) -> Shown {
    let peer = |(site, known): &(String, Known<Option<crate::api::AuthoritySpec>>)| {
        let (error, authority) = match known {
            Known::Read(read) => (None, read.as_ref().map(Into::into)),
            Known::NotYet(why) => (Some(short(why.clone())), None),
        };
        PeerShown { site: site.clone(), error, authority }
    };
    let witness = |known: &Known<Vec<crate::authority::known::Decided>>| match known {
        Known::NotYet(why) => WitnessShown { error: Some(short(why.clone())), ..WitnessShown::default() },
        Known::Read(decided) => {
            let last = decided.iter().max_by_key(|one| one.epoch);
            WitnessShown {
                error: None,
                epoch: Some(last.map_or(0, |one| one.epoch)),
                after: last.map(|one| one.after),
                holders: last.map(|one| one.holders.clone()).unwrap_or_default(),
            }
        }
    };
    let sites = seen.spec().map(|spec| spec.sites.as_slice()).unwrap_or_default();
    let places =
        seen.knowledge.stores.iter().flat_map(|(name, _)| sites.iter().map(move |site| (name, site)));
    Shown {
        site: seen.site.to_string(),
        peers: seen.knowledge.peers.iter().map(peer).collect(),
        stores: places.map(|(name, site)| store(seen, name, site)).collect(),
        mirrors: seen.asked.mirrors.iter().filter_map(mirror).collect(),
        witness: seen.knowledge.witness.as_ref().map(witness),
    }
}

fn mirror((name, read): (&String, &Result<MirrorReading, StoreError>)) -> Option<MirrorShown> {
    let stopped = read.as_ref().ok()?.mirroring.is_frozen();
    Some(MirrorShown { name: name.clone(), stopped })
}

fn store(seen: &Observed, name: &str, site: &str) -> StoreShown {
    let shown = StoreShown { name: name.to_owned(), site: site.to_owned(), ..StoreShown::default() };
    match seen.asked.stores.get(&(name.to_owned(), site.to_owned())) {
        None => shown,
        Some(Err(error)) => StoreShown { error: Some(short(error.to_string())), ..shown },
        Some(Ok(reading)) => {
            let shows = shows(reading);
            StoreShown {
                primary: Some(shows.primary),
                open: Some(shows.open),
                opened_at: shows.opened_at,
                ballot: shows.ballot,
                frozen: shows.frozen.then_some(true),
                ..shown
            }
        }
    }
}

fn copy(seen: &Observed, authority: &Authority) -> AuthorityCopy {
    let own = authority.own(&seen.knowledge);
    AuthorityCopy {
        state: authority.state.as_str().to_owned(),
        holders: own.map(|own| own.holders.clone()).unwrap_or_default(),
        epoch: own.map_or(0, |own| own.epoch),
    }
}

fn check(found: &Found, old: &[Check], now: Timestamp) -> Check {
    let name = cut(found.name.clone(), 128);
    let since =
        old.iter().find(|old| old.name == name && old.state == found.state).and_then(|old| old.since.clone());
    Check {
        since: since.or_else(|| Some(Time(whole_seconds(now)))),
        name,
        state: found.state,
        message: short(found.message.clone()),
        remedy: Some(short(found.remedy.clone())).filter(|remedy| !remedy.is_empty()),
    }
}

/// Whether two statuses of a group say the same.
pub fn same_group(one: &FailoverGroupStatus, other: &FailoverGroupStatus) -> bool {
    let plain =
        |status: &FailoverGroupStatus| FailoverGroupStatus { conditions: Vec::new(), ..status.clone() };
    conditions::same(&one.conditions, &other.conditions) && plain(one) == plain(other)
}

/// The status of an Authority.
pub fn authority(seen: &Observed, decision: &Authority, now: Timestamp) -> AuthorityStatus {
    let old = seen.own.as_ref().and_then(|own| own.status.as_ref());
    let generation = seen.own.as_ref().and_then(|own| own.metadata.generation);
    let current = old.map(|old| old.conditions.as_slice()).unwrap_or_default();
    let message = short(decision.message.clone());
    let known = matches!(decision.state, AuthorityState::Held | AuthorityState::Standby);
    let reason = decision.state.as_str();
    let standing = Standing {
        ready: Says::new(if known { State::True } else { State::False }, reason, message.clone()),
        reconciling: Says::new(if known { State::False } else { State::True }, reason, message.clone()),
        stalled: Says::no_problem(),
    };
    let foreign = seen.own.iter().flat_map(|own| &own.foreign).map(|manager| {
        Problem::new(
            Severity::Error,
            "spec",
            format!("{manager} writes it too, and would undo a failover"),
            "Authorities are written by operators alone: take it out of git.",
        )
    });
    AuthorityStatus {
        observed_generation: generation,
        conditions: standing.conditions(current, generation, now),
        problems: foreign.take(32).collect(),
        state: Some(decision.state),
        message: Some(message),
        stores_open: decision.stores_open,
        seen: seen.knowledge.seen().into_iter().take(32).collect(),
    }
}

/// Whether two statuses of an Authority say the same.
pub fn same_authority(one: &AuthorityStatus, other: &AuthorityStatus) -> bool {
    let plain =
        |status: &AuthorityStatus| AuthorityStatus { conditions: Vec::<Condition>::new(), ..status.clone() };
    conditions::same(&one.conditions, &other.conditions) && plain(one) == plain(other)
}
