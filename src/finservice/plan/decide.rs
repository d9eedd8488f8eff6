//! The decision about one FinService: from what is seen to what is to be done. Total, deterministic,
//! without I/O, clock or randomness.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::api::finservice::Traffic;
use crate::api::labels::PAUSE_ANNOTATION;
use crate::api::operations::Residency;
use crate::api::{Problem, Severity};
use crate::canary;
use crate::finservice::children::{self, Kind, Scope};
use crate::finservice::index::Observed;
use crate::finservice::plan::compare::Comparison;
use crate::finservice::plan::old_backend;
use crate::finservice::plan::placement::{self, Placed};
use crate::finservice::plan::planning::{Planning, Stopped};
use crate::finservice::plan::revisions::{self, Revision};
use crate::finservice::plan::rollout_inputs::route_behind;
use crate::finservice::plan::stages::{Making, Reach, Stages};
use crate::finservice::plan::traffic_split;
use crate::finservice::plan::{Op, Phase, Plan, PlannedRollout};
use crate::finservice::plan::{
    asked_for, gateway_problems, pod_problems, warnings, way_back, what_to_measure,
};

/// What is to be done about a FinService, and why.
pub fn decide(seen: &Observed, now: Timestamp) -> Plan {
    plan(seen, now, Reach::Whole)
}

/// The weights with which the plan of [`decide`] begins, and nothing after them: for when many canaries fail at once.
/// No other child is made for it.
///
/// None where numbers of pods are the weight.
pub fn weights(seen: &Observed, now: Timestamp) -> Plan {
    plan(seen, now, Reach::Weights)
}

/// What takes requests away from a canary of a FinService that cannot be read, and nothing else. `seen` has what can be
/// read of it.
pub fn back(seen: &Observed, unreadable: &str, now: Timestamp) -> Plan {
    let mut plan = Plan { phase: Phase::Blocked, ..Plan::default() };
    let why = format!("the FinService cannot be read: {unreadable}");
    way_back::add(seen, now, Stopped { why, phase: canary::Phase::Blocked }, &mut plan, Reach::Whole);
    plan
}

fn plan(seen: &Observed, now: Timestamp, reach: Reach) -> Plan {
    let mut plan = Plan::default();
    let service = &seen.service;
    let paused = service.metadata.annotations.as_ref().and_then(|all| all.get(PAUSE_ANNOTATION));
    if let Some(value) = paused.filter(|value| *value != "true" && *value != "false") {
        plan.problems.push(Problem::warning(
            "metadata.annotations",
            format!("{PAUSE_ANNOTATION} is \"{value}\", which pauses nothing"),
            "Write \"true\", in small letters, to pause it; or remove the annotation.",
        ));
    }
    if paused.is_some_and(|value| value == "true") {
        plan.phase = Phase::Paused;
        let why = format!("nothing is written while {PAUSE_ANNOTATION} is \"true\"");
        plan.reasons.push(why.clone());
        remember(seen, &mut plan);
        way_back::add(seen, now, Stopped { why, phase: canary::Phase::Paused }, &mut plan, reach);
        return plan;
    }
    if service.metadata.deletion_timestamp.is_some() {
        plan.reasons.push("being deleted; its children go with it".to_owned());
        return plan;
    }
    warnings::of_sites(seen, &mut plan);
    match placement::decide(&service.spec, &seen.site, seen.sites.residency.as_deref()) {
        Placed::Here => match old_backend::problem(seen) {
            Some(problem) => {
                plan.phase = Phase::Blocked;
                plan.problems.push(problem);
                remember(seen, &mut plan);
                way_back::of_blocked(seen, now, &mut plan, reach);
            }
            None => place(seen, now, &mut plan, reach),
        },
        Placed::Undeclared(residency) => {
            undeclared(seen, residency, &mut plan);
            way_back::of_blocked(seen, now, &mut plan, reach);
        }
        // Most likely a slip, which must not take a service away from where it runs.
        Placed::Elsewhere if warnings::nowhere(seen) => {
            plan.phase = Phase::Blocked;
            remember(seen, &mut plan);
            way_back::of_blocked(seen, now, &mut plan, reach);
        }
        Placed::Elsewhere => {
            plan.reasons.push(format!("spec.placement does not name {}", seen.site));
            withdraw(seen, now, &mut plan, Phase::NotPlaced);
        }
        Placed::Forbidden(residency) => {
            let site = &seen.site;
            plan.problems.push(Problem::error(
                "spec.data.residency",
                format!("its data must stay in {residency:?}, which {site} does not serve; it is not placed here"),
                format!("Take {site} out of spec.placement, or add {residency:?} to spec.residency of CloudCluster {site} if that is true."),
            ));
            withdraw(seen, now, &mut plan, Phase::Blocked);
        }
    }
    stands_by(seen, &mut plan);
    plan.problems.sort_by_key(|problem| problem.severity);
    plan
}

/// That another site has authority, which is why there are fewer pods here, or none.
fn stands_by(seen: &Observed, plan: &mut Plan) {
    let Some(standing) = seen.authority.as_ref().filter(|standing| standing.stands_by()) else { return };
    let holders = standing.holders.join(", ");
    plan.problems.push(Problem::info(
        "metadata.labels",
        format!(
            "it stands by here: {holders} has authority over FailoverGroup {}{}",
            standing.group,
            led_away(seen, standing.refuses)
        ),
        "Nothing is to be done: it comes to its full size with a failover to this site.",
    ));
}

/// What becomes of requests that arrive here all the same.
fn led_away(seen: &Observed, refuses: bool) -> String {
    let ingress = seen.service.spec.ingress.iter().flat_map(|ingress| &ingress.hosts);
    let led = ingress.filter(|host| seen.led_away.now && seen.led_away.hosts.contains(host));
    let hosts = led.map(String::as_str).collect::<Vec<_>>().join(", ");
    match (hosts.is_empty(), refuses) {
        (true, _) => String::new(),
        (false, true) => format!("; requests for {hosts} that arrive here are answered 503"),
        (false, false) => format!("; requests for {hosts} that arrive here are sent on to its gateway"),
    }
}

/// The revision that serves, for the status of a FinService about which nothing is decided.
fn remember(seen: &Observed, plan: &mut Plan) {
    let revisions = revisions::revisions(seen);
    if let Some(stable) = revisions::stable(seen, &revisions) {
        plan.stable = Some(stable.to_owned());
        describe(&revisions, plan);
    }
}

fn describe(revisions: &BTreeMap<&str, Revision<'_>>, plan: &mut Plan) {
    let Some(stable) = plan.stable.as_deref().and_then(|hash| revisions.get(hash)) else { return };
    plan.release = stable.parts.as_ref().map(|(input, _)| input.release.clone());
    plan.pods = stable.deployment.map(|facts| (facts.replicas, facts.ready));
}

/// Nobody has said what data may be kept here: nothing is begun, and what runs is left as it is. A
/// CloudCluster that was deleted by mistake must not take its services with it.
fn undeclared(seen: &Observed, residency: Residency, plan: &mut Plan) {
    let site = &seen.site;
    plan.phase = Phase::Blocked;
    plan.problems.push(Problem::error(
        "spec.data.residency",
        format!("its data must stay in {residency:?}, and no CloudCluster says what data {site} may keep; nothing is begun or changed here"),
        format!("Create CloudCluster {site} with spec.residency in the operator's namespace."),
    ));
    remember(seen, plan);
}

/// Nothing of it is to be here.
fn withdraw(seen: &Observed, now: Timestamp, plan: &mut Plan, phase: Phase) {
    plan.phase = phase;
    let deletions = Comparison::new(seen, now, plan, false).finish();
    plan.stages = Stages { delete: deletions, ..Stages::default() }.into_parts().1;
}

/// It is to run here.
fn place(seen: &Observed, now: Timestamp, plan: &mut Plan, reach: Reach) {
    let name = seen.service.metadata.name.as_deref().unwrap_or_default();
    let spec = placement::effective(&seen.service.spec, &seen.site, seen.authority.as_ref());
    warnings::of_spec(&spec, seen, plan);
    let scope = Scope {
        namespace: seen.service.metadata.namespace.as_deref().unwrap_or_default(),
        name,
        uid: seen.service.metadata.uid.as_deref().unwrap_or_default(),
        site: &seen.site,
        spec: &spec,
        settings: &seen.settings,
        known_hosts: &seen.known_hosts,
        topics: &seen.told_topics.may,
    };
    let current = asked_for::revision(&spec, seen, now, plan);
    plan.problems.extend(children::limits::problems(&scope));
    plan.problems.extend(children::exposed::problems(&scope));
    let planning = Planning::new(&scope, seen, current.as_ref(), now);
    let revisions = &planning.revisions;

    // Who serves, and who is on its way in.
    let shift = traffic_split::shift(&planning, plan);
    let stable = shift.stable.as_deref();
    let ready = stable
        .and_then(|hash| revisions.get(hash)?.deployment)
        .is_some_and(|facts| revisions::is_ready(facts, revisions::base(&spec).min(facts.replicas.max(1))));

    let comparison = Comparison::new(seen, now, plan, ready);
    let mut making = Making::new(&planning, &shift, comparison);
    making.routes(reach);
    let (stages, follow) = match reach {
        Reach::Weights => (making.weights(), None),
        Reach::Whole => {
            making.revisions();
            let (kept, again_at) = (std::mem::take(&mut making.kept_for_route), making.again_at);
            let mut stages = making.finish();
            again_at.into_iter().for_each(|at| plan.look_again(at));
            gateway_behind(&kept, seen, plan);
            gateway_problems::add(seen, now, plan);
            stages.shrink.extend(hand_over(seen, now, ready, plan));
            (stages, what_to_measure::of(&planning, &shift))
        }
    };
    (plan.weights, plan.stages) = stages.into_parts();
    let stable_pods = shift.stable.as_deref().and_then(|hash| shift.pods_of(hash));
    let made = shift.decision.zip(shift.gathered);
    plan.rollout = made.map(|(decision, gathered)| Box::new(PlannedRollout { decision, gathered, follow }));
    (plan.stable, plan.next) = (shift.stable, shift.next);
    describe(revisions, plan);
    conclude(&planning, stable_pods, plan);
}

/// Whether it has served before, by what its status says.
fn has_served(seen: &Observed) -> bool {
    let conditions = seen.service.status.iter().flat_map(|status| &status.conditions);
    let ready = conditions.filter(|condition| condition.type_ == "Ready");
    ready.into_iter().any(|ready| ["Serving", "RollingOut", "Degraded"].contains(&ready.reason.as_str()))
}

/// Deployments that were handed over: once the new pods serve and the grace is over, they are scaled
/// to zero; those that fetch their work, at once. They are never deleted.
fn hand_over(seen: &Observed, now: Timestamp, ready: bool, plan: &mut Plan) -> Vec<Op> {
    let name = seen.service.metadata.name.as_deref();
    let service_is_ours = seen.children.iter().any(|c| c.kind == Kind::Service && Some(&*c.name) == name);
    let pulled = seen.service.spec.traffic() == Traffic::Pulled;
    let begun = asked_for::has_begun(seen);
    let mut ops = Vec::new();
    for (_, bears, stranger) in seen.strangers.iter().filter(|(kind, ..)| *kind == Kind::Deployment) {
        if stranger.adopt.as_deref() != name || stranger.handed_over {
            continue;
        }
        // What fetches its work stops before ours starts: done twice is worse than done later.
        if pulled && !begun {
            ops.push(Op::HandOver { name: bears.clone(), retired_at: now, to_zero: true });
            continue;
        }
        if !ready || !service_is_ours {
            plan.reasons
                .push(format!("Deployment {bears} keeps its pods until those of the FinService serve"));
            continue;
        }
        let retired_at = stranger.retired_at.unwrap_or(now);
        let until = retired_at.saturating_add(revisions::RETIRE_GRACE).unwrap_or(Timestamp::MAX);
        let to_zero = until <= now && route_behind(seen).is_none();
        if !to_zero && until > now {
            plan.look_again(until);
        }
        if to_zero || stranger.retired_at.is_none() {
            ops.push(Op::HandOver { name: bears.clone(), retired_at, to_zero });
        }
    }
    ops
}

/// That pods stay because the gateway has not read the route that takes their requests away.
fn gateway_behind(kept: &[String], seen: &Observed, plan: &mut Plan) {
    let (Some(route), false) = (route_behind(seen), kept.is_empty()) else { return };
    let (kind, name) = (route.kind.name(), &route.name);
    let revisions = kept.join(", ");
    plan.problems.push(Problem::error(
        "spec.ingress.gateway",
        format!("{kind} {name} has not been read by its gateway since it was changed, so requests may still go to revision {revisions}, which keeps its pods"),
        format!("Look at the gateway's controller, and at status.parents in `kubectl get {} {name} -o yaml`.", kind.to_lowercase()),
    ));
}

/// Where it stands, from the pods and the problems. `stable_pods` is how many the rollout asks of stable.
fn conclude(planning: &Planning<'_>, stable_pods: Option<i32>, plan: &mut Plan) {
    let Planning { scope, revisions, seen, .. } = planning;
    let in_play: BTreeSet<&str> =
        [&plan.stable, &plan.next].into_iter().flatten().map(String::as_str).collect();
    for hash in in_play {
        let facts = revisions.get(hash).and_then(|revision| revision.deployment);
        if let Some(failure) = facts.and_then(|facts| facts.failure.as_deref()) {
            let Scope { namespace, name, .. } = scope;
            let serves_on = match &plan.stable {
                Some(stable) if stable != hash => format!(" Revision {stable} serves on."),
                _ => String::new(),
            };
            let cni = pod_problems::cni(failure);
            plan.problems.push(Problem::error(
                "spec.image, spec.resources, spec.probes",
                format!("revision {hash} does not get its pods: {failure}"),
                format!(
                    "See `kubectl -n {namespace} describe deployment {name}-{hash}` and `kubectl -n {namespace} \
                     describe pods -l banyan.dev/revision={hash}`.{cni}{serves_on}"
                ),
            ));
        }
    }
    pod_problems::add(scope, seen, plan);
    for (hash, revision) in revisions {
        let Some(added) = revision.deployment.and_then(|facts| facts.added.as_deref()) else { continue };
        let Scope { namespace, name, .. } = scope;
        plan.problems.push(Problem::error(
            format!("Deployment {name}-{hash}"),
            format!("{added} to Deployment {name}-{hash}: its pods are not what revision {hash} says"),
            format!(
                "Write it into the FinService, which begins a new revision, and take it out of the Deployment: `kubectl -n \
                 {namespace} edit deployment {name}-{hash}`."
            ),
        ));
    }
    let facts = plan.stable.as_deref().and_then(|hash| revisions.get(hash)?.deployment);
    let wanted = revisions::replicas_of_stable(scope.spec, facts);
    let ready = facts.is_some_and(|facts| revisions::is_ready(facts, wanted.unwrap_or(facts.replicas)));
    let errors = plan.problems.iter().any(|problem| problem.severity == Severity::Error);
    // Whoever is on its way in, what is to serve until then does not.
    let down = plan.stable != plan.next
        && stable_pods.or(wanted).is_some_and(|pods| pods > 0)
        && facts.is_some_and(|facts| facts.observed && facts.ready == 0);
    plan.phase = match (ready, plan.next.is_some()) {
        (_, false) if plan.stable.is_none() && errors => Phase::Blocked,
        (_, true) if down => Phase::Degraded,
        (_, true) => Phase::RollingOut,
        (true, false) => Phase::Serving,
        // One that has lost all its pods does not start.
        (false, false) if facts.is_some_and(|facts| facts.ready > 0) || has_served(seen) => Phase::Degraded,
        (false, false) => Phase::Starting,
    };
    if let (Phase::Degraded | Phase::Starting, Some(facts)) = (&plan.phase, facts) {
        let wanted = wanted.unwrap_or(facts.replicas);
        // A pod that has just become Ready does not count yet: proxies must hear of it.
        let ready = facts.ready.min(facts.updated_and_available);
        plan.reasons.push(format!("{ready} of {wanted} pods are Ready"));
    }
}
