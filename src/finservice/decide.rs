//! The decision about one FinService: from what is seen to what is to be done. Total, deterministic,
//! without I/O, clock or randomness.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;

use super::children::{self, Child, Kind, RevisionParts, Routing, Scope, Weights};
use super::compare::Comparison;
use super::index::Observed;
use super::index::child::PAUSE_ANNOTATION;
use super::placement::{self, Placed};
use super::plan::{Notice, Op, Over, Phase, Plan};
use super::revision::{References, RevisionInput};
use super::rollout::{self, Retired, Revision};
use super::{secrets, warnings};
use crate::api::finservice::OnSecretChange;
use crate::api::operations::Residency;
use crate::api::{FinServiceSpec, Problem, Severity};
use crate::runtime::events::Reason;

/// What is to be done about a FinService, and why.
pub fn decide(seen: &Observed, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let service = &seen.service;
    let paused = service.metadata.annotations.iter().flatten();
    if paused.into_iter().any(|(key, value)| key == PAUSE_ANNOTATION && value == "true") {
        plan.phase = Phase::Paused;
        plan.reasons.push(format!("nothing is written while {PAUSE_ANNOTATION} is \"true\""));
        remember(seen, &mut plan);
        return plan;
    }
    if service.metadata.deletion_timestamp.is_some() {
        plan.reasons.push("being deleted; its children go with it".to_owned());
        return plan;
    }
    match placement::decide(&service.spec, &seen.site, seen.residency.as_deref()) {
        Placed::Here => place(seen, now, &mut plan),
        Placed::Undeclared(residency) => undeclared(seen, residency, &mut plan),
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
    plan.problems.sort_by_key(|problem| problem.severity);
    plan
}

/// The revision that serves, for the status of a FinService about which nothing is decided.
fn remember(seen: &Observed, plan: &mut Plan) {
    let revisions = rollout::revisions(seen);
    if let Some(stable) = rollout::stable(seen, &revisions) {
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
        format!("its data must stay in {residency:?}, and nobody has said what data {site} may keep; nothing is begun or changed here"),
        format!("Create CloudCluster {site} with spec.residency in the operator's namespace."),
    ));
    remember(seen, plan);
}

/// Nothing of it is to be here.
fn withdraw(seen: &Observed, now: Timestamp, plan: &mut Plan, phase: Phase) {
    plan.phase = phase;
    let deletions = Comparison::new(seen, now, plan, false).finish();
    plan.stages = Stages { delete: deletions, ..Stages::default() }.into_stages();
}

/// It is to run here.
fn place(seen: &Observed, now: Timestamp, plan: &mut Plan) {
    let name = seen.service.metadata.name.as_deref().unwrap_or_default();
    let spec = placement::effective(&seen.service.spec, &seen.site);
    warnings::of_spec(&spec, seen, plan);
    let scope = Scope {
        namespace: seen.service.metadata.namespace.as_deref().unwrap_or_default(),
        name,
        uid: seen.service.metadata.uid.as_deref().unwrap_or_default(),
        site: &seen.site,
        spec: &spec,
    };
    let revisions = rollout::revisions(seen);
    let current = current(&spec, seen, plan);
    let mut stages = Stages::default();

    plan.problems.extend(children::limits::problems(&scope));

    // Who serves, and who is on its way in.
    let before = rollout::stable(seen, &revisions);
    // While the spec cannot be followed, what was on its way in stays so.
    let current_hash = match &current {
        Some((hash, _)) => Some(hash.as_str()),
        None => rollout::newest(&revisions),
    };
    let (stable, next) = takeover(&scope, &revisions, before, current_hash, plan);
    let ready = stable
        .and_then(|hash| revisions.get(hash)?.deployment)
        .is_some_and(|facts| rollout::is_ready(facts, rollout::base(&spec).min(facts.replicas.max(1))));

    let mut comparison = Comparison::new(seen, now, plan, ready);
    let mut routes = Vec::new();
    let weights = weights(&spec, stable);
    let mut routing = Routing::new(stable, &weights);
    let parts = revisions.values().filter_map(|revision| Some((revision.hash, revision.parts.as_ref()?)));
    routing.ports = parts.map(|(hash, (input, _))| (hash, input.ports.as_slice())).collect();
    routing.refused = refused(&spec, seen);
    for child in children::of_service(&scope, &routing) {
        let is_route = matches!(child.kind, Kind::VirtualService | Kind::HTTPRoute | Kind::Service);
        let op = comparison.want(child);
        if is_route { routes.extend(op) } else { stages.make.extend(op) }
    }

    // The revision that the spec asks for, if it is new.
    let newest = revisions.values().map(|revision| revision.facts.number).max().unwrap_or(0);
    if let Some((hash, input)) = &current
        && !revisions.contains_key(hash.as_str())
    {
        let template = children::template::render(&scope, input, hash);
        begin(&scope, hash, input, &template, newest + 1, &mut comparison, &mut stages);
        let stable_facts = stable.and_then(|hash| revisions.get(hash)?.deployment);
        let pods = if stable == Some(hash) {
            rollout::base(&spec)
        } else {
            rollout::replicas_of_next(&spec, stable_facts)
        };
        let is_stable = stable == Some(hash);
        make_revision(
            &scope,
            seen,
            hash,
            input,
            &template,
            (pods, is_stable),
            None,
            &mut comparison,
            &mut stages,
        );
        stages.scale.push(Op::Scale { name: scope.revision_name(hash), replicas: pods });
    }

    // The revisions that exist.
    let in_play = [stable, next, current_hash];
    let kept = rollout::kept(&revisions, &in_play);
    let mut again: Option<Timestamp> = None;
    for revision in revisions.values() {
        let serves = stable == Some(revision.hash);
        let enters = next == Some(revision.hash) || (current_hash == Some(revision.hash) && !serves);
        if !serves && !enters && !kept.contains(&revision.hash) {
            continue;
        }
        let number = match current_hash == Some(revision.hash) && revision.facts.number < newest {
            true => newest + 1,
            false => revision.facts.number,
        };
        let retired_at = (!serves && !enters).then(|| revision.facts.retired_at.unwrap_or(now));
        let pods = if serves {
            rollout::replicas_of_stable(&spec, revision.deployment)
        } else if enters {
            let stable = stable.and_then(|hash| revisions.get(hash)?.deployment);
            Some(rollout::replicas_of_next(&spec, stable))
        } else {
            match rollout::retired(&spec, retired_at.unwrap_or(now), now) {
                Retired::Zero => Some(0),
                Retired::Until(at) => {
                    again = Some(again.map_or(at, |before: Timestamp| before.min(at)));
                    None
                }
            }
        };
        if number != revision.facts.number || retired_at != revision.facts.retired_at {
            let name = scope.revision_name(revision.hash);
            stages.record.push(Op::Mark { name, number, retired_at });
        }
        keep_revision(&scope, seen, revision, (pods, serves), &mut comparison, &mut stages);
        let have = revision.deployment.map(|facts| facts.replicas);
        if let Some(pods) = pods
            && have != Some(pods)
            && (have.is_some() || pods > 0)
        {
            let op = Op::Scale { name: scope.revision_name(revision.hash), replicas: pods };
            if serves || enters { stages.scale.push(op) } else { stages.shrink.push(op) }
        }
    }
    let deletions = comparison.finish();
    let (first, last): (Vec<_>, Vec<_>) = deletions
        .into_iter()
        .partition(|op| matches!(op, Op::Delete { kind: Kind::HorizontalPodAutoscaler, .. }));
    stages.first = first;
    stages.routes = routes;
    stages.delete = last;
    stages.shrink.extend(hand_over(seen, now, ready, plan, &mut again));

    if let Some(at) = again {
        plan.look_again(at);
    }
    plan.stable = stable.map(str::to_owned);
    plan.next = next.map(str::to_owned);
    plan.stages = stages.into_stages();
    describe(&revisions, plan);
    conclude(&spec, &revisions, plan);
}

/// Writes, by what they are for; they go in this order.
#[derive(Default)]
struct Stages {
    first: Vec<Op>,
    record: Vec<Op>,
    make: Vec<Op>,
    scale: Vec<Op>,
    routes: Vec<Op>,
    shrink: Vec<Op>,
    delete: Vec<Op>,
}

impl Stages {
    fn into_stages(self) -> Vec<Vec<Op>> {
        // An autoscaler goes before anything is scaled, or it would scale back; a revision is recorded
        // before anything of it is made; a route names what stands; what breaks comes last.
        let all = [self.first, self.record, self.make, self.scale, self.routes, self.shrink, self.delete];
        all.into_iter().filter(|stage| !stage.is_empty()).collect()
    }
}

/// The revision that the spec asks for: its hash and its input. `None` while that cannot be known.
fn current(spec: &FinServiceSpec, seen: &Observed, plan: &mut Plan) -> Option<(String, RevisionInput)> {
    let needed = References::of(spec);
    let mut known = true;
    for (name, digest) in &seen.config_maps {
        if digest.is_none() && needed.config_maps.get(name.as_str()) == Some(&true) {
            known = false;
            plan.problems.push(Problem::error(
                "spec.env, spec.envFrom, spec.files",
                format!("ConfigMap {name} does not exist, so no new revision can begin"),
                format!(
                    "Create ConfigMap {name} in this namespace, or remove the reference or make it optional."
                ),
            ));
        }
    }
    for (name, state) in &seen.secrets {
        if state.is_none() && needed.secrets.get(name.as_str()) == Some(&true) {
            plan.problems.push(Problem::error(
                "spec.env, spec.envFrom, spec.files",
                format!("Secret {name} does not exist, so pods that read it cannot start"),
                format!(
                    "Create Secret {name} in this namespace, or remove the reference or make it optional."
                ),
            ));
        }
    }
    if !known {
        return None;
    }
    let config_maps = seen
        .config_maps
        .iter()
        .filter_map(|(name, digest)| Some((name.clone(), digest.as_deref()?.to_owned())))
        .collect();
    let mut digests = BTreeMap::new();
    if spec.on_secret_change == Some(OnSecretChange::Rollout) {
        for (name, state) in &seen.secrets {
            match state.as_ref().map(|state| state.digest.as_deref()) {
                Some(Some(digest)) => {
                    digests.insert(name.clone(), digest.to_owned());
                }
                Some(None) => {
                    plan.reasons.push(format!("waiting to read Secret {name}"));
                    return None;
                }
                None => {}
            }
        }
    }
    let input = RevisionInput::of(spec, config_maps, digests);
    Some((input.hash(), input))
}

/// Who serves and who is on its way in. A new revision takes over once it is Ready.
fn takeover<'a>(
    scope: &Scope<'_>,
    revisions: &BTreeMap<&'a str, Revision<'a>>,
    before: Option<&'a str>,
    current: Option<&'a str>,
    plan: &mut Plan,
) -> (Option<&'a str>, Option<&'a str>) {
    let (Some(stable), Some(current)) = (before, current) else { return (before.or(current), None) };
    if stable == current {
        return (Some(stable), None);
    }
    let relieved = revisions.get(stable).and_then(|revision| revision.deployment);
    let wanted = rollout::replicas_of_next(scope.spec, relieved);
    let facts = revisions.get(current).and_then(|revision| revision.deployment);
    if facts.is_some_and(|facts| facts.replicas >= wanted && rollout::is_ready(facts, wanted)) {
        plan.notices.push(Notice {
            reason: Reason::RevisionPromoted,
            note: format!("revision {current} is Ready and takes over from {stable}"),
        });
        return (Some(current), None);
    }
    let ready = facts.map_or(0, |facts| facts.ready);
    plan.reasons.push(format!("revision {current} has {ready} of {wanted} pods Ready; {stable} serves"));
    (Some(stable), Some(current))
}

/// Hosts and paths, as the spec writes them, that an older FinService holds.
fn refused(spec: &FinServiceSpec, seen: &Observed) -> BTreeSet<(String, String)> {
    let all = vec!["/".to_owned()];
    let paths = spec.ingress.as_ref().and_then(|ingress| ingress.paths.as_ref()).unwrap_or(&all);
    let plain = |path: &str| path.trim_end_matches('/').to_owned();
    let lost = seen.lost_claims.iter().flat_map(|(claim, _)| {
        let same = paths.iter().filter(move |path| plain(path) == plain(&claim.path));
        same.map(move |path| (claim.host.clone(), path.clone()))
    });
    lost.collect()
}

/// How requests are shared. The legacy backend keeps its paths until a CanaryRollout moves them.
fn weights(spec: &FinServiceSpec, stable: Option<&str>) -> Weights {
    let stable: Vec<_> = stable.map(|hash| (hash, 100)).into_iter().collect();
    Weights::of_revisions(&stable, if spec.legacy.is_some() { 100 } else { 0 })
}

/// Records a new revision.
fn begin(
    scope: &Scope<'_>,
    hash: &str,
    input: &RevisionInput,
    template: &Value,
    number: i64,
    comparison: &mut Comparison<'_>,
    stages: &mut Stages,
) {
    let record = children::controller_revision::build(scope, hash, number, input, template);
    let digests: Vec<_> = input.config_maps.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    stages.record.extend(comparison.want_with(record, |child, digest, over| match over {
        Over::Nothing => Op::Record { child, config_maps: digests },
        over => Op::Apply { child, digest, over },
    }));
}

/// What belongs to a revision beside its ControllerRevision.
#[allow(clippy::too_many_arguments)]
fn make_revision(
    scope: &Scope<'_>,
    seen: &Observed,
    hash: &str,
    input: &RevisionInput,
    template: &Value,
    (replicas, serves): (i32, bool),
    secrets_recorded: Option<&str>,
    comparison: &mut Comparison<'_>,
    stages: &mut Stages,
) {
    for name in input.config_maps.keys() {
        let child: Child = children::config_map::copy(scope, hash, name, None, None);
        let (revision, of) = (hash.to_owned(), name.clone());
        let copy = |child, digest, over| Op::CopyConfigMap { child, revision, of, digest, over };
        stages.make.extend(comparison.want_with(child, copy));
    }
    let digest = match scope.spec.on_secret_change.unwrap_or_default() {
        OnSecretChange::Restart => secrets::annotation(secrets_recorded, &seen.secrets),
        // What stands in the template stays: taking it away would restart pods.
        OnSecretChange::Rollout | OnSecretChange::Ignore => secrets_recorded.map(str::to_owned),
    };
    let parts = RevisionParts {
        hash,
        input,
        template,
        replicas,
        serves,
        direct: false,
        least: None,
        secrets_digest: digest.as_deref(),
    };
    for child in children::of_revision(scope, &parts) {
        stages.make.extend(comparison.want(child));
    }
}

/// Keeps a revision that exists as it was made.
fn keep_revision(
    scope: &Scope<'_>,
    seen: &Observed,
    revision: &Revision<'_>,
    (pods, serves): (Option<i32>, bool),
    comparison: &mut Comparison<'_>,
    stages: &mut Stages,
) {
    let hash = revision.hash;
    let Some((input, template)) = &revision.parts else {
        // Written by a version that knew more than this one: it is left as it is.
        for child in &seen.children {
            if child.name.contains(hash) {
                comparison.keep(child.kind, &child.name);
            }
        }
        return;
    };
    let record = children::controller_revision::build(scope, hash, revision.facts.number, input, template);
    stages.record.extend(comparison.want(record));
    let replicas = pods.or(revision.deployment.map(|facts| facts.replicas)).unwrap_or(0);
    let recorded = revision.deployment.and_then(|facts| facts.secrets.as_deref());
    make_revision(scope, seen, hash, input, template, (replicas, serves), recorded, comparison, stages);
}

/// Deployments that were handed over: once the new pods serve and the grace is over, they are scaled
/// to zero; they are never deleted.
fn hand_over(
    seen: &Observed,
    now: Timestamp,
    ready: bool,
    plan: &mut Plan,
    again: &mut Option<Timestamp>,
) -> Vec<Op> {
    let name = seen.service.metadata.name.as_deref();
    let service_is_ours = seen.children.iter().any(|c| c.kind == Kind::Service && Some(&*c.name) == name);
    let mut ops = Vec::new();
    for (_, bears, stranger) in seen.strangers.iter().filter(|(kind, ..)| *kind == Kind::Deployment) {
        if stranger.adopt.as_deref() != name || stranger.handed_over {
            continue;
        }
        if !ready || !service_is_ours {
            plan.reasons
                .push(format!("Deployment {bears} keeps its pods until those of the FinService serve"));
            continue;
        }
        let retired_at = stranger.retired_at.unwrap_or(now);
        let until = retired_at.saturating_add(rollout::RETIRE_GRACE).unwrap_or(Timestamp::MAX);
        let to_zero = until <= now;
        if !to_zero {
            *again = Some(again.map_or(until, |before| before.min(until)));
        }
        if to_zero || stranger.retired_at.is_none() {
            ops.push(Op::HandOver { name: bears.clone(), retired_at, to_zero });
        }
    }
    ops
}

/// Where it stands, from the pods and the problems.
fn conclude(spec: &FinServiceSpec, revisions: &BTreeMap<&str, Revision<'_>>, plan: &mut Plan) {
    let in_play: BTreeSet<&str> =
        [&plan.stable, &plan.next].into_iter().flatten().map(String::as_str).collect();
    for hash in in_play {
        let facts = revisions.get(hash).and_then(|revision| revision.deployment);
        if let Some(failure) = facts.and_then(|facts| facts.failure.as_deref()) {
            plan.problems.push(Problem::error(
                "spec.image, spec.resources, spec.probes",
                format!("revision {hash} does not get its pods: {failure}"),
                format!("See `kubectl describe pods -l banyan.dev/revision={hash}`; the revision before it serves on."),
            ));
        }
    }
    let facts = plan.stable.as_deref().and_then(|hash| revisions.get(hash)?.deployment);
    let wanted = rollout::replicas_of_stable(spec, facts);
    let ready = facts.is_some_and(|facts| rollout::is_ready(facts, wanted.unwrap_or(facts.replicas)));
    let errors = plan.problems.iter().any(|problem| problem.severity == Severity::Error);
    plan.phase = match (ready, plan.next.is_some()) {
        (_, false) if plan.stable.is_none() && errors => Phase::Blocked,
        (_, true) => Phase::RollingOut,
        (true, false) => Phase::Serving,
        (false, false) if facts.is_some_and(|facts| facts.ready > 0) => Phase::Degraded,
        (false, false) => Phase::Starting,
    };
    if let (Phase::Degraded | Phase::Starting, Some(facts)) = (&plan.phase, facts) {
        let wanted = wanted.unwrap_or(facts.replicas);
        plan.reasons.push(format!("{} of {wanted} pods are Ready", facts.ready));
    }
}
