//! What a decision about a rollout is made from, gathered from what is seen. Pure.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::actions::hear;
use crate::api::canaryrollout::From;
use crate::api::finservice::Traffic;
use crate::api::labels::HOTFIX_ANNOTATION;
use crate::api::network::MeshProvider;
use crate::api::units;
use crate::api::{CanaryRolloutStatus, FinServiceSpec, Problem, Severity};
use crate::authority::view::Standing;
use crate::canary::Policy;
use crate::canary::facts::{Decision, Facts, Fares, Held, Peer, RevisionFacts, Role, Routed, Scale, Sharing};
use crate::canary::mark::{End, Mark};
use crate::canary::peers::fares;
use crate::finservice::children::routing::{LegacyBackend, legacy_backend};
use crate::finservice::children::{Kind, Scope, fresh, rollout_route, service_monitor};
use crate::finservice::index::Observed;
use crate::finservice::index::child::{ChildState, Facts as ChildFacts};
use crate::finservice::index::pod::PodState;
use crate::finservice::index::rollouts::ObservedRollout;
use crate::finservice::plan::claim_problems;
use crate::finservice::plan::planning::{Asked, Planning, Stopped};
use crate::finservice::plan::revision::RevisionInput;
use crate::finservice::plan::revisions::{self, Revision};
use crate::finservice::watch::unreadable;

/// That nothing will count the requests of a rollout, said before it has any: the canary would wait at its first share.
fn nothing_counts(scope: &Scope, rollout: &ObservedRollout) -> Option<Problem> {
    let spec = &rollout.object.spec;
    let asks = spec.analysis.as_ref().and_then(|analysis| analysis.source.as_ref()).is_some();
    let by_gateway = scope.settings.gateways_count && scope.spec.ingress.is_some();
    let of_requests = scope.spec.traffic() == Traffic::Requests && spec.via.is_none();
    if asks || by_gateway || !of_requests || scope.metrics_port().is_some() {
        return None;
    }
    Some(Problem::warning(
        "spec.analysis.source",
        format!(
            "nothing counts the requests of FinService {}: a release would wait at its first step for a person",
            scope.name
        ),
        "Set observability.metrics in the FinService, or analysis.source here; or have the operator told of the gateway (evidence.gatewayMetrics of its chart).",
    ))
}

/// How long Istio puts changes together before it tells proxies of them, at the longest (`PILOT_DEBOUNCE_MAX`).
const DEBOUNCE: SignedDuration = SignedDuration::from_secs(10);

/// What decisions are made from, beside what [`ObservedRollout`] holds already.
#[derive(Clone, Debug, PartialEq)]
pub struct Gathered {
    policy: Policy,
    /// What is wrong with the policy.
    pub problems: Vec<Problem>,
    pub(crate) sharing: Sharing,
    scale: Scale,
    current: Option<String>,
    release: String,
    stable: Option<String>,
    pub(crate) revisions: Vec<RevisionFacts>,
    baseline: Option<RevisionFacts>,
    routed: Routed,
    peers: Vec<Peer>,
    role: Role,
    /// What a route calls the old backend: the name of its Service, or its host outside of the cluster.
    pub(crate) legacy: Option<String>,
    mark: Option<Mark>,
    pub(crate) unreadable: Option<String>,
    held: Option<Stopped>,
    /// Why rollouts wait for a move of the group.
    frozen: Option<String>,
    made_by: Option<String>,
    changed: Option<String>,
    policy_by: Option<String>,
    service: String,
    /// Whether callers inside the cluster reach stable past the gateway that shares requests.
    pub(crate) has_callers_inside: bool,
}

impl Gathered {
    /// Gathers.
    pub fn new(planning: &Planning<'_>, rollout: &ObservedRollout) -> Self {
        let Planning { scope, seen, revisions, before, asked, .. } = planning;
        let (before, current) = (*before, *asked);
        let spec = scope.spec;
        let (mut policy, mut problems) = Policy::of(&rollout.object.spec, spec.slo.as_ref(), spec.traffic());
        let ladder = rollout.memory.rollout.as_ref().and_then(|rollout| rollout.ladder.as_ref());
        policy = policy.with_ladder(ladder);
        // The same manifest stands in every cluster: the one that it names goes first, and waits for nobody.
        policy.after.retain(|after| after.cluster != scope.site);
        skip_those_without_authority(&mut policy, seen.authority.as_ref(), &mut problems);
        problems.extend(nothing_counts(scope, rollout));
        if policy.from == From::Legacy && spec.legacy.is_none() {
            problems.push(Problem::error(
                "spec.from",
                format!("from: Legacy needs spec.legacy of FinService {}, and there is none", scope.name),
                "Write spec.legacy in the FinService, or remove from.",
            ));
        }
        problems.extend(rollout.unreadable.as_deref().map(unreadable::problem));
        problems.extend(rollout_route::problems(scope, &policy));
        problems
            .extend(seen.lost_previews.iter().map(|lost| claim_problems::of_preview(scope.namespace, lost)));
        problems.extend(looks_too_short(spec, rollout, &policy));
        let sharing = sharing(spec, seen);
        let callers = spec.access.as_ref().and_then(|access| access.inbound.as_ref());
        let has_callers_inside =
            sharing == Sharing::Ingress && callers.is_some_and(|callers| !callers.is_empty());
        if has_callers_inside {
            problems.push(Problem::info(
                "spec.analysis.source",
                "callers in access.inbound of the FinService pass no gateway and see stable alone, so the pods' counters \
                 compare other requests with others: only counters of the gateway judge",
                "Install Banyan with evidence.gatewayMetrics of the chart, or set mesh.provider Istio on the FinService.",
            ));
        }
        let facts = |hash: &str, release: String| {
            let pods = rollout.pods.iter().filter(|pod| &*pod.revision == hash).map(PodState::facts);
            let deployment = revisions.get(hash).and_then(|revision| revision.deployment);
            let available = deployment.map_or(0, |facts| facts.ready);
            RevisionFacts { hash: hash.to_owned(), release, pods: pods.collect(), available }
        };
        let mark = mark_of(seen);
        let release = |revision: &Revision<'_>| {
            revision.parts.as_ref().map(|(input, _)| input.release.clone()).unwrap_or_default()
        };
        let all = revisions.values().map(|revision| facts(revision.hash, release(revision))).collect();
        let memory = &rollout.memory;
        let serves = memory.rollout.as_ref().and_then(|rollout| rollout.stable.as_deref()).or(before);
        let baseline = serves.map(|hash| facts(&fresh::revision(hash), String::new()));
        Self {
            peers: peers(rollout, before, current),
            sharing,
            has_callers_inside,
            scale: scale(spec, seen, revisions, serves),
            current: current.map(|asked| asked.hash.to_owned()),
            release: current.map_or_else(|| spec.release().to_owned(), |asked| asked.release.to_owned()),
            stable: before.map(str::to_owned),
            revisions: all,
            baseline: baseline.filter(|copy| !copy.pods.is_empty()),
            routed: match current {
                _ if route_behind(seen).is_some() => Routed::NotRead,
                Some(asked) if !is_named(seen, &scope.revision_name(asked.hash)) => Routed::NotNamed,
                Some(asked) => pushed_by(planning, asked.hash).map_or(Routed::Yes, Routed::Until),
                None => Routed::Yes,
            },
            role: role(spec, scope.site, seen.authority.as_ref()),
            legacy: legacy_backend(scope).map(|backend| match backend {
                LegacyBackend::Service(_, name) | LegacyBackend::Host(name) => name,
            }),
            mark,
            policy,
            problems,
            unreadable: rollout.unreadable.as_ref().map(ToString::to_string),
            held: planning.stopped.clone(),
            frozen: moving(seen),
            service: seen.service.metadata.uid.clone().unwrap_or_default(),
            made_by: changed_by(seen.service.metadata.annotations.as_ref()),
            changed: only_what_it_reads(planning),
            policy_by: changed_by(rollout.object.metadata.annotations.as_ref()),
        }
    }

    /// The policy, read once.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Clusters whose word is waited for, or may take the release back.
    pub fn asks(&self, decision: &Decision) -> Vec<String> {
        let memory = &decision.memory;
        let waits = memory.rollout.as_ref().is_some_and(|rollout| rollout.weight == 0 && !rollout.skip_after);
        let follows = self.role == Role::Standby && (memory.rollout.is_some() || memory.warm.is_some());
        let after = self.policy.after.iter().filter(|_| waits || follows);
        after.map(|after| after.cluster.clone()).collect()
    }

    /// The facts, for a decision.
    pub fn facts<'a>(&'a self, rollout: &'a ObservedRollout) -> Facts<'a> {
        let metadata = &rollout.object.metadata;
        Facts {
            namespace: metadata.namespace.as_deref().unwrap_or_default(),
            name: metadata.name.as_deref().unwrap_or_default(),
            service: &self.service,
            policy: &self.policy,
            policy_broken: self.problems.iter().any(|problem| problem.severity == Severity::Error),
            unreadable: self.unreadable.as_deref(),
            held: self.held.as_ref().map(|stopped| Held { why: &stopped.why, phase: stopped.phase }),
            sharing: self.sharing,
            scale: self.scale,
            current: self.current.as_deref(),
            release: &self.release,
            made_by: self.made_by.as_deref(),
            changed: self.changed.as_deref(),
            policy_by: self.policy_by.as_deref(),
            stable: self.stable.as_deref(),
            revisions: &self.revisions,
            baseline: self.baseline.as_ref(),
            routed: self.routed,
            evidence: rollout.evidence.as_ref(),
            answers: &rollout.answers,
            actions: &rollout.actions,
            peers: &self.peers,
            role: self.role,
            frozen: self.frozen.as_deref(),
            mark: self.mark.as_ref(),
            memory: &rollout.memory,
        }
    }
}

/// Why no release of the service rolls out: its group is on its way to another site, and what moves must not change
/// meanwhile. A hotfix is not held up.
fn moving(seen: &Observed) -> Option<String> {
    let standing = seen.authority.as_ref()?;
    let site = standing.moves_to.as_ref()?;
    let notes = seen.service.metadata.annotations.as_ref();
    let is_hotfix = notes.and_then(|notes| notes.get(HOTFIX_ANNOTATION)).is_some_and(|value| value == "true");
    (!is_hotfix).then(|| format!("FailoverGroup {} moves to {site}", standing.group))
}

/// Who changed an object last, as admission wrote it.
fn changed_by(annotations: Option<&BTreeMap<String, String>>) -> Option<String> {
    annotations.and_then(hear::changed_by).map(str::to_owned)
}

/// What the revision that the spec asks for reads that was changed, where it differs from the one before in nothing that
/// somebody wrote into the FinService.
fn only_what_it_reads(planning: &Planning<'_>) -> Option<String> {
    let (hash, now) = planning.current?;
    let others = planning.revisions.values().filter(|revision| revision.hash != hash);
    let (before, _) = others.max_by_key(|revision| revision.facts.number)?.parts.as_ref()?;
    let words = |input: &RevisionInput| RevisionInput {
        config_maps: BTreeMap::new(),
        secrets: BTreeMap::new(),
        ..input.clone()
    };
    if words(before) != words(now) {
        return None;
    }
    let changed = |kind: &str, now: &BTreeMap<String, String>, before: &BTreeMap<String, String>| {
        let news = now.iter().filter(|(name, digest)| before.get(*name) != Some(digest));
        news.map(|(name, _)| format!("{kind} {name}")).collect::<Vec<_>>()
    };
    let mut all = changed("ConfigMap", &now.config_maps, &before.config_maps);
    all.extend(changed("Secret", &now.secrets, &before.secrets));
    Some(if all.is_empty() { "what it reads".to_owned() } else { all.join(", ") })
}

/// A site without authority over the group has no requests by which a release could be judged: nothing is waited for there.
fn skip_those_without_authority(
    policy: &mut Policy,
    standing: Option<&Standing>,
    problems: &mut Vec<Problem>,
) {
    let Some(standing) = standing.filter(|standing| !standing.holders.is_empty()) else { return };
    policy.after.retain(|after| {
        let holds = standing.holders.contains(&after.cluster);
        if !holds {
            problems.push(Problem::info(
                "spec.after",
                format!(
                    "{} has no authority over FailoverGroup {}, so nothing is waited for there",
                    after.cluster, standing.group
                ),
                "Nothing is to be done: it counts again once it has authority.",
            ));
        }
        holds
    });
}

/// Looks that are shorter than the time between two scrapes: what both arms share may then seem to be one arm's alone.
fn looks_too_short(spec: &FinServiceSpec, rollout: &ObservedRollout, policy: &Policy) -> Option<Problem> {
    let source = rollout.object.spec.analysis.as_ref()?.source.as_ref()?;
    source.prometheus.as_ref()?;
    let metrics = spec.observability.as_ref()?.metrics.as_ref()?;
    let scrape = metrics.interval.as_deref().and_then(units::duration).filter(|scrape| !scrape.is_zero());
    let scrape = scrape.unwrap_or(service_monitor::INTERVAL);
    let look = policy.interval.unsigned_abs();
    (look < scrape).then(|| {
        Problem::warning(
            "spec.analysis.interval",
            format!(
                "looks of {} are shorter than the {} between two scrapes: an outage that both revisions share may seem to \
                 be the canary's alone",
                units::display(look),
                units::display(scrape)
            ),
            "Raise it, or lower observability.metrics.interval of the FinService.",
        )
    })
}

/// How the release fares in the clusters that go first: the one that the FinService asks for; while the one that
/// serves is in its rollback window, that one. `before` is the revision that serves here.
fn peers(rollout: &ObservedRollout, before: Option<&str>, current: Option<Asked<'_>>) -> Vec<Peer> {
    let warm = rollout.memory.warm.as_ref();
    let warm =
        warm.filter(|warm| current.is_none_or(|asked| asked.hash == warm.new)).map(|warm| &*warm.release);
    let release = warm.or(current.map(|asked| asked.release)).unwrap_or_default();
    let begun = rollout.memory.rollout.as_ref();
    let beside = match warm {
        Some(_) => None,
        None => begun.map_or(before, |rollout| rollout.stable.as_deref()),
    };
    let fares = |status: &Result<CanaryRolloutStatus, String>| match status {
        Ok(status) => fares(status, release, beside),
        Err(how) => Fares::Unreachable(how.clone()),
    };
    let known = rollout.peers.iter();
    known.map(|(cluster, status)| Peer { cluster: cluster.clone(), fares: fares(status) }).collect()
}

/// How traffic can be shared here.
fn sharing(spec: &FinServiceSpec, seen: &Observed) -> Sharing {
    let has = |kind| seen.kinds.contains(&kind);
    match spec.provider() {
        _ if spec.traffic() == Traffic::Pulled || spec.ports.is_empty() => Sharing::Pods,
        MeshProvider::Istio if has(Kind::VirtualService) => Sharing::Mesh,
        MeshProvider::GatewayAPI if has(Kind::HTTPRoute) && spec.ingress.is_some() => Sharing::Ingress,
        _ => Sharing::Pods,
    }
}

/// How many pods are needed. An autoscaler says what the load asks for by its own formula (used over aimed at,
/// times pods), here summed over all revisions: one alone sees only its share.
fn scale(
    spec: &FinServiceSpec,
    seen: &Observed,
    revisions: &BTreeMap<&str, Revision<'_>>,
    stable: Option<&str>,
) -> Scale {
    let least = revisions::base(spec);
    if !revisions::is_autoscaled(spec) {
        return Scale { least, most: least, need: None };
    }
    let most = spec.scale.as_ref().and_then(|scale| scale.max).unwrap_or(least).max(least);
    let known: Vec<i32> = seen
        .children
        .iter()
        .filter_map(|child| match &child.facts {
            ChildFacts::Autoscaler(facts) => facts.need,
            _ => None,
        })
        .collect();
    let standing = stable.and_then(|hash| revisions.get(hash)?.deployment).map(|facts| facts.replicas);
    let need = if known.is_empty() { standing } else { Some(known.iter().sum()) };
    Scale { least, most, need }
}

/// Who stands by follows from authority. A site that `placement` gives less than the whole capacity may have traffic, or
/// none.
fn role(spec: &FinServiceSpec, site: &str, standing: Option<&Standing>) -> Role {
    match standing {
        Some(standing) if standing.is_held() => return Role::Active,
        Some(standing) if standing.stands_by() => return Role::Standby,
        _ => {}
    }
    let placed = spec.placement.iter().flatten().find(|placed| placed.cluster == site);
    match placed.and_then(|placed| placed.capacity_percent) {
        Some(percent) if percent < 100 => Role::Partial,
        _ => Role::Active,
    }
}

/// Whether all routes that share requests by chance name a Service, be it at zero.
pub fn is_named(seen: &Observed, service: &str) -> bool {
    let mut routes = seen.children.iter().filter_map(|child| match &child.facts {
        ChildFacts::Route(route) if !route.shares.is_empty() => Some(route),
        _ => None,
    });
    routes.all(|route| route.names(service))
}

/// Until when the proxies of a mesh may not have heard of a revision's Service, if they may not yet: Istio leaves
/// destinations without weight out of routes, so that naming it at zero names nothing there.
pub fn pushed_by(planning: &Planning<'_>, hash: &str) -> Option<Timestamp> {
    let Planning { scope, seen, now, .. } = planning;
    let name = scope.revision_name(hash);
    let service = seen.children.iter().find(|child| child.kind == Kind::Service && *child.name == *name)?;
    let ChildFacts::Service(facts) = &service.facts else { return None };
    let at = facts.since?.saturating_add(DEBOUNCE).ok()?;
    (scope.spec.provider() == MeshProvider::Istio && at > *now).then_some(at)
}

/// The route whose newest state its gateway has not read, if there is one: requests may go where an older one says.
pub fn route_behind(seen: &Observed) -> Option<&ChildState> {
    seen.children.iter().find(|child| matches!(&child.facts, ChildFacts::Route(route) if route.behind))
}

/// The mark that the routes carry. Where they differ, after a crash between two writes, the one that is further
/// on holds.
pub fn mark_of(seen: &Observed) -> Option<Mark> {
    // What somebody else has changed meanwhile may say anything.
    let as_written = seen.children.iter().filter(|child| child.is_as_written());
    let marks = as_written.filter_map(|child| match &child.facts {
        ChildFacts::Route(facts) => facts.mark.as_deref(),
        ChildFacts::Service(facts) => facts.mark.as_deref(),
        _ => None,
    });
    marks.filter_map(Mark::parse).max_by_key(|mark| (mark.attempt, mark.end != End::Open, mark.weight))
}
