//! From who gets what to writes: the children of the service and of its revisions, against what is there. Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use crate::api::FinServiceSpec;
use crate::api::finservice::OnSecretChange;
use crate::finservice::children::weights::{Weights, weights_of};
use crate::finservice::children::{self, Child, Kind, RevisionParts, Routing, Scope, fresh};
use crate::finservice::index::Observed;
use crate::finservice::index::child::{ChildState, DeploymentFacts, Facts};
use crate::finservice::index::claims::Lost;
use crate::finservice::plan::compare::Comparison;
use crate::finservice::plan::planning::Planning;
use crate::finservice::plan::revision::RevisionInput;
use crate::finservice::plan::revisions::{self, Retired, Revision};
use crate::finservice::plan::rollout_inputs::route_behind;
use crate::finservice::plan::secrets;
use crate::finservice::plan::traffic_split::Shift;
use crate::finservice::plan::{Op, Over, Stage};

/// Writes, by what they are for; they go in this order.
#[derive(Debug, Default)]
pub struct Stages {
    /// Weights, where all that they name stands: they wait for nothing.
    pub weights: Vec<Op>,
    /// Autoscalers that go: they would scale back.
    pub first: Vec<Op>,
    /// Records of revisions.
    pub record: Vec<Op>,
    /// What is made.
    pub make: Vec<Op>,
    /// Pods that come.
    pub scale: Vec<Op>,
    /// Routes that name what is made in the same plan.
    pub routes: Vec<Op>,
    /// Pods that go.
    pub shrink: Vec<Op>,
    /// What goes.
    pub delete: Vec<Op>,
}

impl Stages {
    /// The weights, and the other stages in their order, without empty ones.
    pub fn into_parts(self) -> (Stage, Vec<Stage>) {
        // A weight is taken away before anything else is done. An autoscaler goes before anything is scaled; a
        // revision is recorded before anything of it is made; a route names what stands; what breaks comes last.
        let Self { weights, first, record, make, scale, routes, shrink, delete } = self;
        let rest = [first, record, make, scale, routes, shrink, delete];
        (weights, rest.into_iter().filter(|stage| !stage.is_empty()).collect())
    }
}

/// How much of a plan is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All of it.
    Whole,
    /// The weights that routes carry.
    Weights,
}

/// Gathers the writes of one plan.
pub struct Making<'a> {
    planning: &'a Planning<'a>,
    shift: &'a Shift,
    weights: Weights,
    comparison: Comparison<'a>,
    stages: Stages,
    /// Revisions whose pods would go, had the gateway read that they have no requests any more.
    pub kept_for_route: Vec<String>,
    /// When pods may go although nothing changes until then.
    pub again_at: Option<Timestamp>,
}

/// Pods of a revision, and what they are for.
#[derive(Clone, Copy)]
struct Pods {
    /// Pods that it is scaled to; `None` leaves them as they are.
    wanted: Option<i32>,
    /// Whether it has requests.
    serves: bool,
}

/// Revisions that routes name although they may have no share: those that may soon have one, and those that
/// may still answer, as far as their Services stand. What does not stand yet is named in a later plan: weights wait
/// for nothing.
fn named(scope: &Scope<'_>, seen: &Observed, shift: &Shift) -> BTreeSet<String> {
    let stands = |hash: &str| {
        let name = scope.revision_name(hash);
        seen.children.iter().any(|c| c.kind == Kind::Service && *c.name == *name && !c.deleting)
    };
    let has_pods = seen.children.iter().filter_map(ChildState::deployment).filter(|facts| facts.replicas > 0);
    let mut hashes: BTreeSet<String> = has_pods.map(|facts| facts.revision.to_string()).collect();
    hashes.extend(shift.next.clone());
    hashes.retain(|hash| stands(hash) && !fresh::is_copy(hash));
    hashes
}

/// Hosts and paths, as the spec writes them, that another FinService holds.
fn refused(spec: &FinServiceSpec, seen: &Observed) -> BTreeSet<(String, String)> {
    let all = vec!["/".to_owned()];
    let paths = spec.ingress.as_ref().and_then(|ingress| ingress.paths.as_ref()).unwrap_or(&all);
    let plain = |path: &str| path.trim_end_matches('/').to_owned();
    let lost = seen.lost_claims.iter().chain(&seen.lost_previews).flat_map(|Lost { claim, .. }| {
        let same = paths.iter().filter(move |path| plain(path) == plain(&claim.path));
        same.map(move |path| (claim.host.clone(), path.clone()))
    });
    lost.collect()
}

fn has_pods(revision: &Revision<'_>) -> bool {
    revision.deployment.is_some_and(|facts| facts.replicas > 0)
}

impl<'a> Making<'a> {
    /// Begins.
    pub fn new(planning: &'a Planning<'a>, shift: &'a Shift, comparison: Comparison<'a>) -> Self {
        let Planning { scope, seen, .. } = planning;
        let stable = shift.stable.as_deref();
        let mut weights = weights_of(&shift.route, shift.mark.as_ref(), stable, shift.legacy);
        weights.by_pods = shift.selects_all();
        weights.named = named(scope, seen, shift);
        weights.names_legacy = scope.spec.legacy.is_some();
        let (stages, kept_for_route) = (Stages::default(), Vec::new());
        Self { planning, shift, weights, comparison, stages, kept_for_route, again_at: None }
    }

    /// What the service has once, with its routes; or only those and the plain Service.
    pub fn routes(&mut self, reach: Reach) {
        let Planning { scope, seen, revisions, .. } = self.planning;
        let weights = self.weights.clone();
        let mut routing = Routing::new(self.shift.stable.as_deref(), &weights);
        let parts = revisions.values().filter_map(|revision| Some((revision.hash, revision.parts.as_ref()?)));
        routing.ports = parts.map(|(hash, (input, _))| (hash, input.ports.as_slice())).collect();
        routing.refused = refused(scope.spec, seen);
        routing.led_away = seen.led_away.clone();
        for claim in &seen.nested_claims {
            routing.nested.entry(claim.host.clone()).or_default().insert(claim.path.clone());
        }
        let stands = self.shift.decision.is_some() && self.all_stands();
        let elsewhere: BTreeSet<&str> = seen.told_topics.lost.iter().map(|lost| lost.name.as_str()).collect();
        let children = match reach {
            Reach::Whole => children::of_service(scope, &routing),
            Reach::Weights => {
                let (plain, routes) = children::ways(scope, &routing);
                std::iter::once(plain).chain(routes).collect()
            }
        };
        for child in children {
            if child.kind == Kind::KafkaTopic && elsewhere.contains(child.name.as_str()) {
                // The older FinService makes it. Kept, since who ceases to want it must not delete it.
                self.comparison.keep(child.kind, &child.name);
                continue;
            }
            let carries_weights =
                matches!(child.kind, Kind::VirtualService | Kind::HTTPRoute | Kind::Service);
            let op = self.comparison.want(child);
            let known = matches!(&op, Some(Op::Apply { over: Over::Ours | Over::Drifted, .. }));
            match carries_weights {
                true if stands && known => self.stages.weights.extend(op),
                true => self.stages.routes.extend(op),
                false => self.stages.make.extend(op),
            }
        }
    }

    /// Whether all Services that the routes name stand.
    fn all_stands(&self) -> bool {
        let shared = self
            .weights
            .revisions
            .iter()
            .filter_map(|(to, _)| fresh::label(to))
            .map(|label| self.planning.scope.revision_name(&label));
        let direct = self.weights.direct().into_iter().map(|hash| self.planning.scope.direct_name(hash));
        shared.chain(direct).all(|name: String| {
            self.comparison.child(Kind::Service, &name).is_some_and(|child| !child.deleting)
        })
    }

    /// The revisions: the one that the spec asks for, if it is new, and those that exist.
    pub fn revisions(&mut self) {
        let Planning { scope, seen, revisions, current, now, .. } = self.planning;
        let (asked, now) = (self.planning.asked_hash(), *now);
        let newest = revisions.values().map(|revision| revision.facts.number).max().unwrap_or(0);
        if let Some((hash, input)) = current
            && !revisions.contains_key(hash.as_str())
        {
            self.begin(hash, input, newest + 1);
        }
        let stable = self.shift.stable.as_deref();
        let kept = revisions::kept(revisions, &[stable, self.shift.next.as_deref(), asked]);
        for revision in revisions.values() {
            let hash = revision.hash;
            let serves = stable == Some(hash) || self.shift.has_share(hash);
            let enters = match &self.shift.decision {
                Some(_) => self.shift.pods_of(hash).is_some() && !serves,
                None => {
                    self.shift.next.as_deref() == Some(hash)
                        || (asked == Some(hash) && !serves && self.shift.mark.is_none())
                }
            };
            if !serves && !enters && asked != Some(hash) && !kept.contains(&hash) {
                continue;
            }
            let number = match asked == Some(hash) && revision.facts.number < newest {
                true => newest + 1,
                false => revision.facts.number,
            };
            let retired_at = (!serves && !enters).then(|| revision.facts.retired_at.unwrap_or(now));
            let wanted = match retired_at {
                Some(_) if self.shift.route.by_pods => Some(0),
                Some(since) => match revisions::retired(scope.spec, since, now) {
                    Retired::Zero if has_pods(revision) && route_behind(seen).is_some() => {
                        self.kept_for_route.push(hash.to_owned());
                        None
                    }
                    Retired::Zero => Some(0),
                    Retired::Until(at) => {
                        self.again_at = Some(self.again_at.map_or(at, |before| before.min(at)));
                        None
                    }
                },
                None => self.pods(hash, revision.deployment, serves),
            };
            if number != revision.facts.number || retired_at != revision.facts.retired_at {
                let name = self.planning.scope.revision_name(hash);
                self.stages.record.push(Op::Mark { name, number, retired_at });
            }
            self.keep(revision, Pods { wanted, serves });
            self.scale(hash, revision.deployment, wanted);
        }
    }

    /// Pods that a revision in play is scaled to; `None` leaves them to its autoscaler.
    fn pods(&self, hash: &str, facts: Option<&DeploymentFacts>, serves: bool) -> Option<i32> {
        let spec = self.planning.scope.spec;
        let is_stable = self.shift.stable.as_deref() == Some(hash);
        let Some(wanted) = self.shift.pods_of(hash).filter(|_| !is_stable || self.shift.is_moving()) else {
            if serves {
                return revisions::replicas_of_stable(spec, facts);
            }
            return Some(revisions::replicas_of_next(spec, self.stable_deployment()));
        };
        let have = facts.map_or(0, |facts| facts.replicas);
        if !revisions::is_autoscaled(spec) || have < wanted || wanted == 0 {
            return Some(wanted);
        }
        // Above that it is its autoscaler's. What has none is let shrink only where it is much too large: the need
        // is measured anew every few seconds.
        (!serves && have > wanted + wanted / 4 + 1).then_some(wanted)
    }

    fn scale(&mut self, hash: &str, facts: Option<&DeploymentFacts>, wanted: Option<i32>) {
        let Some(pods) = wanted else { return };
        let have = facts.map(|facts| facts.replicas);
        if have == Some(pods) || (have.is_none() && pods == 0) {
            return;
        }
        let name = self.planning.scope.revision_name(hash);
        // Where there is an autoscaler of ours, whose number it is cannot be told.
        if !revisions::is_autoscaled(self.planning.scope.spec) && !self.comparison.may_scale(&name, pods) {
            return;
        }
        let op = Op::Scale { name, replicas: pods };
        let less = have.is_some_and(|have| pods < have);
        match less {
            // Where numbers of pods are the weight, fewer pods are less weight, which waits for nothing.
            true if self.shift.route.by_pods && self.shift.decision.is_some() => {
                self.stages.weights.push(op);
            }
            true if pods == 0 => self.stages.shrink.push(op),
            _ => self.stages.scale.push(op),
        }
    }

    /// The Deployment of the revision that serves.
    fn stable_deployment(&self) -> Option<&DeploymentFacts> {
        let stable = self.shift.stable.as_deref()?;
        self.planning.revisions.get(stable)?.deployment
    }

    /// Makes a revision that is new.
    fn begin(&mut self, hash: &str, input: &RevisionInput, number: i64) {
        let scope = self.planning.scope;
        let template = children::template::render(self.planning.scope, input, hash);
        let record =
            children::controller_revision::build(self.planning.scope, hash, number, input, &template);
        let digests: Vec<_> = input.config_maps.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        self.stages.record.extend(self.comparison.want_with(record, |child, digest, over| match over {
            Over::Nothing => Op::Record { child, config_maps: digests },
            over => Op::Apply { child, digest, over },
        }));
        let serves = self.shift.stable.as_deref() == Some(hash);
        let pods = match &self.shift.decision {
            Some(_) => self.shift.pods_of(hash).unwrap_or(0),
            None if serves => revisions::base(self.planning.scope.spec),
            None => revisions::replicas_of_next(scope.spec, self.stable_deployment()),
        };
        self.revision(hash, input, &template, None, (pods, serves));
        self.stages.scale.push(Op::Scale { name: self.planning.scope.revision_name(hash), replicas: pods });
    }

    /// Keeps a revision that exists as it was made.
    fn keep(&mut self, revision: &Revision<'_>, pods: Pods) {
        let hash = revision.hash;
        let Some((input, template)) = &revision.parts else {
            // Written by a version that knew more than this one: it is left as it is.
            for child in &self.planning.seen.children {
                if child.name.contains(hash) {
                    self.comparison.keep(child.kind, &child.name);
                }
            }
            return;
        };
        let number = revision.facts.number;
        let record = children::controller_revision::build(self.planning.scope, hash, number, input, template);
        self.stages.record.extend(self.comparison.want(record));
        let replicas = pods.wanted.or(revision.deployment.map(|facts| facts.replicas)).unwrap_or(0);
        let recorded = revision.deployment.and_then(|facts| facts.secrets.as_deref());
        self.revision(hash, input, template, recorded, (replicas, pods.serves));
    }

    /// What belongs to a revision beside its ControllerRevision.
    fn revision(
        &mut self,
        hash: &str,
        input: &RevisionInput,
        template: &Value,
        secrets_recorded: Option<&str>,
        (replicas, serves): (i32, bool),
    ) {
        for name in input.config_maps.keys() {
            let child: Child = children::config_map::copy(self.planning.scope, hash, name, None, None);
            let (revision, of) = (hash.to_owned(), name.clone());
            let copy = |child, digest, over| Op::CopyConfigMap { child, revision, of, digest, over };
            self.stages.make.extend(self.comparison.want_with(child, copy));
        }
        let digest = match self.planning.scope.spec.on_secret_change.unwrap_or_default() {
            OnSecretChange::Restart => secrets::annotation(secrets_recorded, &self.planning.seen.secrets),
            // What stands in the template stays: taking it away would restart pods.
            OnSecretChange::Rollout | OnSecretChange::Ignore => secrets_recorded.map(str::to_owned),
        };
        let parts = RevisionParts {
            hash,
            input,
            template,
            replicas,
            serves,
            secrets_digest: digest.as_deref(),
            least: self.least(hash, serves),
            direct: self.direct(hash),
        };
        for child in children::of_revision(self.planning.scope, &parts) {
            self.stages.make.extend(self.comparison.want(child));
        }
        let is_stable = self.shift.stable.as_deref() == Some(hash);
        if is_stable && self.shift.fresh_pods > 0 {
            self.fresh(&parts);
        }
    }

    /// Whether a revision has its Service for requests that do not reach it by chance: while the rollout or its
    /// rollback window lasts, so that proxies have heard of the route without it before it goes.
    fn direct(&self, hash: &str) -> bool {
        let policy = self.shift.gathered.as_ref().map(|gathered| gathered.policy());
        let chooses = policy.is_some_and(|policy| {
            !policy.matches.is_empty()
                || policy.mirror_percent.is_some()
                || policy.affinity.is_some()
                || policy.preview.is_some()
        });
        self.weights.direct().contains(hash)
            || (chooses && self.shift.is_moving() && self.shift.pods_of(hash).is_some())
    }

    /// The fresh copy of stable.
    fn fresh(&mut self, parts: &RevisionParts<'_>) {
        let pods = self.shift.fresh_pods;
        let name = self.planning.scope.revision_name(&fresh::revision(parts.hash));
        let RevisionParts { hash, input, template, secrets_digest, .. } = *parts;
        for child in fresh::build(self.planning.scope, hash, input, template, pods, secrets_digest) {
            self.stages.make.extend(self.comparison.want(child));
        }
        let have = self.comparison.child(Kind::Deployment, &name).and_then(|child| child.deployment());
        if have.is_none_or(|facts| facts.replicas != pods) {
            self.stages.scale.push(Op::Scale { name, replicas: pods });
        }
    }

    /// The least number of pods of a revision's autoscaler while something rolls out: it never falls before the
    /// end, since each change is a write, and too much room does no harm. `None` is the spec's.
    fn least(&self, hash: &str, serves: bool) -> Option<i32> {
        if !serves || !self.shift.is_moving() || !revisions::is_autoscaled(self.planning.scope.spec) {
            return None;
        }
        let wanted = self.shift.pods_of(hash)?;
        let name = self.planning.scope.revision_name(hash);
        let stands = match &self.comparison.child(Kind::HorizontalPodAutoscaler, &name)?.facts {
            Facts::Autoscaler(facts) => facts.min,
            _ => 0,
        };
        Some(wanted.max(stands))
    }

    /// The weights alone. None where numbers of pods are the weight: then more than routes carries it.
    pub fn weights(self) -> Stages {
        let weights = if self.shift.route.by_pods { Vec::new() } else { self.stages.weights };
        Stages { weights, ..Stages::default() }
    }

    /// What takes requests away from a canary, and nothing else: weights; where numbers of pods are the weight, pods.
    pub fn back(mut self) -> Stages {
        if !self.shift.route.by_pods {
            return self.weights();
        }
        self.revisions();
        let Stages { weights, scale, .. } = self.stages;
        Stages { weights, scale, ..Stages::default() }
    }

    /// The writes, with the deletions of what is no longer wanted.
    pub fn finish(self) -> Stages {
        let mut stages = self.stages;
        let deletions = self.comparison.finish();
        let (first, last): (Vec<_>, Vec<_>) = deletions
            .into_iter()
            .partition(|op| matches!(op, Op::Delete { kind: Kind::HorizontalPodAutoscaler, .. }));
        stages.first = first;
        stages.delete = last;
        stages
    }
}
