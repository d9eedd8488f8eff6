//! Who gets which share of the requests, and how many pods: by the FinService's CanaryRollout, or without one by
//! the simplest policy, in which a new revision takes over once it is Ready. Pure.

use crate::api::Problem;
use crate::api::action::{self, Verb};
use crate::api::canaryrollout::From;
use crate::api::notice::Notice;
use crate::api::notice::Reason;
use crate::canary::decide;
use crate::canary::facts::{Decision, Destination, Phase, Route};
use crate::canary::mark::{End, Mark};
use crate::finservice::children::Scope;
use crate::finservice::index::rollouts::ObservedRollout;
use crate::finservice::plan::Plan;
use crate::finservice::plan::planning::Planning;
use crate::finservice::plan::revisions;
use crate::finservice::plan::rollout_inputs::{Gathered, is_named, mark_of, pushed_by, route_behind};

/// Who gets what.
#[derive(Debug, Default)]
pub struct Shift {
    /// Hash of the revision that serves.
    pub stable: Option<String>,
    /// Hash of the revision that is on its way in.
    pub next: Option<String>,
    /// Where requests go.
    pub route: Route,
    /// Share of the legacy backend on its paths, in percent.
    pub legacy: u8,
    /// What is written on the route.
    pub mark: Option<Mark>,
    /// Pods of the fresh copy of stable.
    pub fresh_pods: i32,
    /// What was decided, if there is a CanaryRollout.
    pub decision: Option<Decision>,
    /// What it was decided from.
    pub gathered: Option<Gathered>,
}

impl Shift {
    /// Whether a revision has, or is to have, a share of the requests.
    pub fn has_share(&self, hash: &str) -> bool {
        let is = |to: &Destination| matches!(to, Destination::Revision(other) if other == hash);
        self.route.shares.iter().any(|(to, percent)| *percent > 0 && is(to))
    }

    /// Pods that the CanaryRollout wants of a revision; `None` where it wants none, or there is none.
    pub fn pods_of(&self, hash: &str) -> Option<i32> {
        let pods = &self.decision.as_ref()?.pods;
        pods.iter().find(|(named, _)| named == hash).map(|(_, pods)| *pods)
    }

    /// Whether a rollout is under way, or the old revision is kept warm.
    pub fn is_moving(&self) -> bool {
        self.decision
            .as_ref()
            .is_some_and(|decision| decision.memory.rollout.is_some() || decision.memory.warm.is_some())
    }

    /// Whether some requests reach a revision otherwise than by chance.
    pub fn has_chosen(&self) -> bool {
        let route = &self.route;
        !route.matches.is_empty()
            || route.mirror.is_some()
            || route.affinity.is_some()
            || route.preview.is_some()
    }

    /// Whether the plain Service is to select the pods of all revisions: where shares are numbers of pods, and
    /// not all are stable's.
    pub fn selects_all(&self) -> bool {
        let Some(decision) = self.decision.as_ref().filter(|_| self.route.by_pods) else { return false };
        let stable = decision.stable.clone().map(|hash| vec![(Destination::Revision(hash), 100)]);
        let shared = stable.is_none_or(|all| all != self.route.shares);
        // What failed keeps its pods while stable has none: even a bad answer is more than none.
        shared || (decision.memory.rollout.is_none() && decision.pods.len() > 1)
    }
}

/// Who gets what.
pub fn shift(planning: &Planning<'_>, plan: &mut Plan) -> Shift {
    let Planning { scope, seen, now, .. } = planning;
    let current = planning.asked_hash();
    match &seen.rollout {
        Some(rollout) => {
            let gathered = Gathered::new(planning, rollout);
            let mut decision = decide(&gathered.facts(rollout), *now);
            tell(&decision, plan);
            plan.problems.extend(unreadable(rollout, &decision, current));
            let mut route = std::mem::take(&mut decision.route);
            let legacy = legacy_share(scope, rollout.object.spec.from.unwrap_or_default(), &route);
            if route.shares.iter().all(|(to, _)| *to == Destination::Legacy) {
                // On paths that are not the old backend's, somebody must answer.
                let serves = decision.stable.clone().or(current.map(str::to_owned));
                route.shares = serves.map(|hash| (Destination::Revision(hash), 100)).into_iter().collect();
            }
            route.shares.retain(|(to, _)| *to != Destination::Legacy);
            Shift {
                stable: decision.stable.clone().or(current.map(str::to_owned)),
                next: decision.canary.clone(),
                legacy,
                mark: decision.mark.clone(),
                fresh_pods: decision.baseline_pods,
                route,
                decision: Some(decision),
                gathered: Some(gathered),
            }
        }
        None => simple(planning, plan),
    }
}

/// The old backend's share of its own paths.
fn legacy_share(scope: &Scope<'_>, from: From, route: &Route) -> u8 {
    if scope.spec.legacy.is_none() {
        return 0;
    }
    let share = route.shares.iter().find(|(to, _)| *to == Destination::Legacy).map(|(_, percent)| *percent);
    match (share, from) {
        (Some(percent), _) => u8::try_from(percent).unwrap_or(100).min(100),
        // It has given up everything.
        (None, From::Legacy) => 0,
        // Nobody has said that it is to give up anything.
        (None, From::Stable) => 100,
    }
}

/// What the FinService itself says of its rollout.
fn tell(decision: &Decision, plan: &mut Plan) {
    if decision.memory.rollout.is_some() {
        let why = decision.reasons.first().map(String::as_str).unwrap_or("at work");
        let release =
            decision.memory.rollout.as_ref().map(|rollout| rollout.release.as_str()).unwrap_or_default();
        plan.reasons.push(format!("{release} has {} % of the requests: {why}", decision.weight));
    }
    if decision.phase == Phase::RolledBack
        && let Some((_, words)) = &decision.stalled
    {
        plan.problems.push(Problem::error(
            "spec",
            format!("the release that is asked for does not serve: {words}"),
            "See the CanaryRollout for its evidence. The revision before it serves on.",
        ));
    }
    if let Some(at) = decision.again_at {
        plan.look_again(at);
    }
}

/// That its CanaryRollout cannot be read, where that keeps back what the FinService asks for.
fn unreadable(rollout: &ObservedRollout, decision: &Decision, current: Option<&str>) -> Option<Problem> {
    let unreadable = rollout.unreadable.as_ref()?;
    let name = rollout.object.metadata.name.as_deref().unwrap_or_default();
    let held = match &decision.memory.rollout {
        Some(rollout) => format!("{} stays at {} %", rollout.release, decision.weight),
        None if current.is_some() && current != decision.stable.as_deref() => {
            "the revision that is asked for does not take over".to_owned()
        }
        None => return None,
    };
    Some(Problem::error(
        "CanaryRollout",
        format!("CanaryRollout {name} cannot be read, so {held}: {unreadable}"),
        format!(
            "Correct {} of CanaryRollout {name}, or delete it: then stable has everything.",
            unreadable.field
        ),
    ))
}

/// Without a CanaryRollout a new revision takes over once it is Ready.
fn simple(planning: &Planning<'_>, plan: &mut Plan) -> Shift {
    let Planning { scope, seen, .. } = planning;
    let mut shift = Shift { legacy: if scope.spec.legacy.is_some() { 100 } else { 0 }, ..Shift::default() };
    let held = mark_of(seen).and_then(|mark| held(planning, mark));
    let (stable, next) = match &held {
        Some(mark) => {
            plan.reasons.push(format!("revision {} serves: {}", mark.stable, why(mark)));
            plan.problems.push(Problem::error(
                "spec",
                format!("the revision that is asked for does not serve: {}", why(mark)),
                format!(
                    "Change the FinService; or create a CanaryRollout for it, and run `{}`.",
                    action::command(Verb::Retry, scope.namespace, "NAME")
                ),
            ));
            (Some(mark.stable.clone()), None)
        }
        None => takeover(planning, plan),
    };
    shift.route.shares = stable.clone().map(|hash| (Destination::Revision(hash), 100)).into_iter().collect();
    (shift.stable, shift.next, shift.mark) = (stable, next, held);
    shift
}

fn why(mark: &Mark) -> String {
    match &mark.end {
        End::Failed(why) | End::Aborted(why) => why.clone(),
        End::Open | End::Settled => "it is not known why".to_owned(),
    }
}

/// The mark of a rollout whose CanaryRollout is gone: what it had not let pass does not take over by itself.
fn held(planning: &Planning<'_>, mark: Mark) -> Option<Mark> {
    let revisions = &planning.revisions;
    let of_current = planning.asked_hash() == Some(mark.canary.as_str()) && mark.stable != mark.canary;
    if !of_current || !revisions.contains_key(mark.stable.as_str()) {
        return None;
    }
    let answers = |hash: &str| {
        revisions.get(hash).and_then(|revision| revision.deployment).is_some_and(|facts| facts.ready > 0)
    };
    match mark.end {
        End::Settled => None,
        // Nobody answers in what it would go back to.
        End::Open if mark.weight > 0 && !answers(&mark.stable) && answers(&mark.canary) => None,
        End::Failed(_) | End::Aborted(_) => Some(Mark { weight: 0, ..mark }),
        End::Open => {
            let why = format!("its CanaryRollout was deleted while it had {} %", mark.weight);
            Some(Mark { weight: 0, end: End::Aborted(why), ..mark })
        }
    }
}

/// Who serves and who is on its way in. A new revision takes over once it is Ready.
fn takeover(planning: &Planning<'_>, plan: &mut Plan) -> (Option<String>, Option<String>) {
    let Planning { scope, seen, revisions, before, .. } = planning;
    let owned = |hash: &str| Some(hash.to_owned());
    let (Some(stable), Some(current)) = (*before, planning.asked_hash()) else {
        return (before.or(planning.asked_hash()).and_then(owned), None);
    };
    if stable == current {
        return (owned(stable), None);
    }
    let relieved = revisions.get(stable).and_then(|revision| revision.deployment);
    // Where nobody answers, one pod is better than none.
    let down = relieved.is_some_and(|facts| facts.observed && facts.ready == 0);
    let wanted = revisions::replicas_of_next(scope.spec, relieved);
    let wanted = if down { wanted.min(1) } else { wanted };
    let facts = revisions.get(current).and_then(|revision| revision.deployment);
    let is_ready = facts.is_some_and(|facts| facts.replicas >= wanted && revisions::is_ready(facts, wanted));
    let unread = route_behind(seen).is_some() && !down;
    if is_ready && (unread || !is_named(seen, &scope.revision_name(current))) {
        plan.reasons.push(format!("revision {current} is Ready; proxies must hear of it before it serves"));
        return (owned(stable), owned(current));
    }
    if let Some(at) = pushed_by(planning, current).filter(|_| is_ready && !down) {
        plan.reasons
            .push(format!("revision {current} is Ready; the mesh must hear of its Service before it serves"));
        plan.look_again(at);
        return (owned(stable), owned(current));
    }
    if is_ready {
        plan.notices.push(Notice {
            reason: Reason::RevisionPromoted,
            note: format!("revision {current} is Ready and takes over from {stable}"),
        });
        return (owned(current), None);
    }
    let ready = facts.map_or(0, |facts| facts.ready);
    plan.reasons.push(format!("revision {current} has {ready} of {wanted} pods Ready; {stable} serves"));
    (owned(stable), owned(current))
}
