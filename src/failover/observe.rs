//! The snapshot: all that a decision about one move needs, at one moment. Sends nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::rehearse::Rehearsed;
use super::source::{last_served, source_of};
use super::view::{Held, View};
use crate::api::conditions::{Severity, State};
use crate::api::failovergroup::{CheckState, FenceSpec, MovePlan};
use crate::api::record::LastServed;
use crate::api::step::Step;
use crate::api::store::Synchronous;
use crate::api::{FailoverGroupSpec, FailoverStatus, FinServiceSpec};
use crate::authority::decide::Decision as Authority;
use crate::authority::view::Standing;
use crate::failovergroup::checks::found::{Found, Step as CheckedStep};
use crate::failovergroup::checks::sites::may_not_keep;
use crate::failovergroup::checks::stores::LAG_NOT_TOLD;
use crate::failovergroup::decide::decide as decide_group;
use crate::failovergroup::observe::{Ground, Observed, observe as observe_group};
use crate::finservice::plan::placement::{DEFAULT_REPLICAS, scale};
use crate::runtime::lock::lock;

/// All that is known of a move, beside its journal.
pub struct Seen {
    /// The group.
    pub group: Observed,
    /// What it asks for.
    pub spec: FailoverGroupSpec,
    /// What this site is to believe about authority.
    pub authority: Authority,
    /// What a move would do.
    pub plan: Option<MovePlan>,
    preflight: Vec<Held>,
    capacity: Vec<Held>,
    room: Option<Held>,
    surplus: Option<Held>,
    forbidden: Option<Held>,
    checked: Vec<Found>,
    protected: bool,
    /// When the oldest of the looks at stores was, on which `protected` rests.
    looked_at: Option<Timestamp>,
}

/// Takes the snapshot; a sentence where the group cannot be moved at all.
///
/// # Errors
/// If there is no such group, it cannot be read, or it does not have this site.
pub fn observe(ground: &Ground, group: &str) -> Result<Seen, String> {
    let absent = || format!("there is no FailoverGroup {group} in this namespace");
    let observed = observe_group(ground, group).filter(|seen| seen.group.is_some()).ok_or_else(absent)?;
    let decision = decide_group(&observed, jiff::Timestamp::now()).ok_or_else(absent)?;
    let Some(authority) = decision.authority else { return Err(decision.standing.stalled.message) };
    let Some(spec) = observed.spec().cloned() else { return Err(absent()) };
    let site = observed.site.to_string();
    let held = |found: &Found| Held { message: found.message.clone(), remedy: found.remedy.clone() };
    // Whether the size is here is looked at once it has been asked for.
    let (room, bad): (Vec<&Found>, Vec<&Found>) = decision
        .checks
        .iter()
        .filter(|found| found.state.severity().is_some())
        .partition(|found| found.step == CheckedStep::Capacity);
    let bad = bad.into_iter().filter(|found| found.state.severity() == Some(Severity::Error));
    let preflight = bad.map(held).collect();
    let (capacity, surplus) = sizes(ground, &observed, &site);
    Ok(Seen {
        plan: decision.plan,
        preflight,
        capacity,
        room: room.first().map(|found| held(found)),
        surplus,
        forbidden: forbidden(&observed, &spec, &site),
        // No more will ever be told of a Cluster.
        protected: decision.protected.state == State::True || decision.protected.reason == LAG_NOT_TOLD,
        checked: decision.checks,
        looked_at: observed.asked.stores.values().flatten().map(|reading| reading.measured_at).min(),
        authority,
        spec,
        group: observed,
    })
}

/// What this site has not yet of what it must have to serve: Ready pods of each service, as many as it has with authority.
/// And a service that has more of them than a standby, where no autoscaler says how many.
fn sizes(ground: &Ground, seen: &Observed, site: &str) -> (Vec<Held>, Option<Held>) {
    let standing = |claimed: bool| Standing {
        group: seen.name.clone(),
        state: crate::api::authority::AuthorityState::Standby,
        holders: Vec::new().into(),
        claimed,
        moves_to: None,
        hosts: Arc::default(),
        refuses: false,
    };
    let [whole, standby] = [true, false].map(standing);
    let index = lock(&ground.services);
    let (mut held, mut surplus) = (Vec::new(), None);
    for (key, service) in index.services() {
        let Some(facts) = seen.services.get(key).filter(|facts| facts.is_placed(site)) else { continue };
        let (wanted, _) = least(&service.spec, site, &whole);
        if facts.pods < i64::from(wanted) {
            held.push(Held {
                message: format!("{key} has {} Ready pods here, and needs {wanted}", facts.pods),
                remedy: format!("see `kubectl describe finservice {} -n {}`", key.name, key.namespace),
            });
        }
        let (most, fixed) = least(&service.spec, site, &standby);
        if fixed && surplus.is_none() && facts.pods > i64::from(most) {
            surplus = Some(Held {
                message: format!(
                    "{key} has {} Ready pods here still, and has {most} as a standby",
                    facts.pods
                ),
                remedy: format!("see `kubectl describe finservice {} -n {}`", key.name, key.namespace),
            });
        }
    }
    (held, surplus)
}

/// The least number of pods of a service, and whether it never has more.
fn least(spec: &FinServiceSpec, site: &str, standing: &Standing) -> (i32, bool) {
    let scale = scale(spec, site, Some(standing)).unwrap_or_default();
    (scale.replicas.or(scale.min).unwrap_or(DEFAULT_REPLICAS), scale.max.is_none())
}

/// Why this site may not have the data, where somebody has said what it may keep.
fn forbidden(seen: &Observed, spec: &FailoverGroupSpec, site: &str) -> Option<Held> {
    let (data, described) = (spec.residency?, seen.described.get(site)?);
    let (message, remedy) = may_not_keep(data, site);
    (!described.residency.contains(&data)).then_some(Held { message, remedy })
}

impl Seen {
    /// The same for a rehearsal.
    pub fn rehearsed<'a>(&'a self, gives_way: Option<&'a str>) -> Rehearsed<'a> {
        Rehearsed { room: self.room.as_ref(), surplus: self.surplus.as_ref(), gives_way }
    }

    /// The site from which it moves.
    pub fn source(&self) -> Option<String> {
        source_of(&self.group.site, self.group.knowledge.own.as_ref(), &self.spec)
    }

    /// All that is checked: name, state, message.
    pub fn checked(&self) -> impl Iterator<Item = (&str, CheckState, &str)> {
        self.checked.iter().map(|found| (&*found.name, found.state, &*found.message))
    }

    /// When the sites with authority were last known to serve.
    pub fn last_served(&self) -> Option<LastServed> {
        let holders = self.group.knowledge.own.as_ref().map(|own| own.holders.as_slice()).unwrap_or_default();
        let asked = &self.group.asked;
        last_served(&asked.stores, &asked.primaries, &self.group.site, holders)
    }

    /// The stores of which no commit may be acknowledged that is not at both sites.
    pub fn required(&self) -> Vec<&str> {
        let required = self.spec.stores().iter().filter(|store| {
            let postgres = store.postgres.as_ref();
            postgres.is_some_and(|spec| spec.synchronous == Some(Synchronous::Required))
        });
        required.map(|store| store.name.as_str()).collect()
    }

    /// The stores that a move may go on without.
    pub fn optional(&self) -> Vec<&str> {
        let optional = self.spec.stores().iter().filter(|store| !store.required());
        optional.map(|store| store.name.as_str()).collect()
    }

    /// The names of the stores with a single writer.
    pub fn stores(&self) -> Vec<String> {
        self.group.knowledge.stores.iter().map(|(name, _)| name.clone()).collect()
    }

    /// The peers that do not answer, as far as is known.
    pub fn silent(&self) -> BTreeSet<String> {
        let away = self.group.peers.iter().filter(|peer| {
            let way = peer.view.as_ref().and_then(|view| view.way());
            way.is_none_or(|way| way.reachable == Some(false))
        });
        away.map(|peer| peer.name.clone()).collect()
    }

    /// The same for a decision. What was seen of stores before they were opened here says nothing of who follows now.
    pub fn view<'a>(
        &'a self,
        name: &'a str,
        status: &FailoverStatus,
        silent: &'a [String],
        turn: Option<&'a Held>,
    ) -> View<'a> {
        let digest = status.digest.as_ref();
        let open = status.steps.iter().find(|step| step.name == Step::Open.as_str());
        let since_then =
            open.is_none_or(|open| self.looked_at.is_some_and(|at| is_after(at, open.started_at.0)));
        let site = &*self.group.site;
        View {
            site,
            place: self.spec.place(site).unwrap_or_default(),
            name,
            known: &self.group.knowledge,
            silent,
            changed: digest.is_some_and(|digest| *digest != self.group.digest),
            preflight: &self.preflight,
            capacity: &self.capacity,
            turn,
            approval: self.spec.approval.as_ref(),
            hooks: self.spec.hooks(),
            node_pools: self.spec.fence.as_ref().map(FenceSpec::node_pools),
            forbidden: self.forbidden.as_ref(),
            protected: self.protected && since_then,
        }
    }
}

/// Whether something was seen after a moment that is on record, where times are to the second: what was seen within that
/// second may have been seen before.
fn is_after(seen: Timestamp, recorded: Timestamp) -> bool {
    seen.duration_since(recorded) >= SignedDuration::from_secs(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_just_before_a_step_began_says_nothing_of_what_came_of_it() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        // It began 0.7 s into that second, and was written down so.
        let recorded = at("2026-01-01T00:00:34Z");
        assert!(!is_after(at("2026-01-01T00:00:34.300Z"), recorded));
        assert!(!is_after(at("2026-01-01T00:00:33.900Z"), recorded));
        assert!(is_after(at("2026-01-01T00:00:35.000Z"), recorded));
    }
}
