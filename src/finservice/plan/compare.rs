//! What is wanted against what is there: the writes that make the second the first. Pure.

use jiff::{SignedDuration, Timestamp};

use crate::api::Problem;
use crate::api::notice::Notice;
use crate::api::notice::Reason;
use crate::finservice::children::handed_over::keep_names;
use crate::finservice::children::{Api, Child, Kind};
use crate::finservice::index::Observed;
use crate::finservice::index::child::{ChildState, Facts};
use crate::finservice::index::stranger::Stranger;
use crate::finservice::index::uid::Uid;
use crate::finservice::plan::{Op, Over, Plan};
use crate::runtime::digest;

/// Repairs of one object within this time that are taken for a war.
const WAR_WITHIN_SECONDS: i64 = 60;
/// The same of numbers of pods: autoscalers look every 15 s or so, and wait for minutes before they scale down.
const RESCALED_WITHIN_SECONDS: i64 = 600;
/// How long a war is given up for.
const TRUCE: SignedDuration = SignedDuration::from_mins(10);

/// Goes through what is wanted and gathers writes and problems.
pub struct Comparison<'a> {
    seen: &'a Observed,
    now: Timestamp,
    plan: &'a mut Plan,
    /// Whether traffic may be moved away from what was handed over: the new pods are Ready.
    may_take_traffic: bool,
    wanted: Vec<(Kind, String)>,
    missing: Vec<Kind>,
}

/// That an object of a name that is wanted is somebody else's, and stays so until it is handed over.
pub fn belongs_to(seen: &Observed, kind: Kind, name: &str, stranger: &Stranger) -> Problem {
    let (kind, whose) = (kind.name(), &stranger.whose);
    let service = seen.service.metadata.name.as_deref().unwrap_or_default();
    let namespace = seen.service.metadata.namespace.as_deref().unwrap_or_default();
    Problem::error(
        format!("{kind} {name}"),
        format!("{kind} {namespace}/{name} exists already and belongs to {whose}; it is left alone"),
        format!(
            "Hand it over with `kubectl -n {namespace} annotate {} {name} banyan.dev/adopt={service}`, or rename one of both.",
            kind.to_lowercase()
        ),
    )
}

impl<'a> Comparison<'a> {
    /// Begins.
    pub fn new(seen: &'a Observed, now: Timestamp, plan: &'a mut Plan, may_take_traffic: bool) -> Self {
        Self { seen, now, plan, may_take_traffic, wanted: Vec::new(), missing: Vec::new() }
    }

    /// The state of a child, if it exists.
    pub fn child(&self, kind: Kind, name: &str) -> Option<&'a ChildState> {
        self.seen.children.iter().find(|child| child.kind == kind && &*child.name == name)
    }

    /// Keeps a child as it is.
    pub fn keep(&mut self, kind: Kind, name: &str) {
        self.wanted.push((kind, name.to_owned()));
    }

    /// Wants an object. Returns the write that it takes, if any.
    pub fn want(&mut self, mut child: Child) -> Option<Op> {
        let (digest, over) = self.judge(&mut child)?;
        Some(Op::Apply { child, digest, over })
    }

    /// Wants an object whose contents are not known here; `make` gives the write.
    pub fn want_with(&mut self, mut child: Child, make: impl FnOnce(Child, u64, Over) -> Op) -> Option<Op> {
        let (digest, over) = self.judge(&mut child)?;
        Some(make(child, digest, over))
    }

    fn judge(&mut self, child: &mut Child) -> Option<(u64, Over)> {
        if !self.seen.kinds.contains(&child.kind) {
            self.missing.push(child.kind);
            return None;
        }
        let state = self.child(child.kind, &child.name);
        let stranger = if state.is_none() { self.stranger(child.kind, &child.name) } else { None };
        // What somebody has handed over is not ours to take along: without an owner it outlives the FinService.
        let handed_over = state.is_some_and(|state| state.adopted)
            || stranger.is_some_and(|theirs| self.is_handed_over(theirs));
        if let Some(metadata) = child.body["metadata"].as_object_mut().filter(|_| handed_over) {
            metadata.remove("ownerReferences");
        }
        if let Some(Facts::Service(facts)) = state.map(|state| &state.facts) {
            keep_names(&mut child.body, &facts.had);
        }
        let (kind, name) = (child.kind, child.name.as_str());
        self.wanted.push((kind, name.to_owned()));
        let wanted = digest::wanted(&child.body);
        match (state, stranger) {
            (Some(state), _) => self.judge_ours(state, wanted),
            (None, Some(theirs)) => self.judge_theirs(kind, name, theirs),
            (None, None) => Some(Over::Nothing),
        }
        .map(|over| (wanted, over))
    }

    /// Somebody else's object of that name.
    fn stranger(&self, kind: Kind, name: &str) -> Option<&'a Stranger> {
        let mut strangers = self.seen.strangers.iter();
        strangers.find(|(have, bears, _)| *have == kind && bears == name).map(|(_, _, stranger)| stranger)
    }

    /// Whether its owner hands it over to this FinService.
    fn is_handed_over(&self, theirs: &Stranger) -> bool {
        let service = self.seen.service.metadata.name.as_deref();
        service.is_some() && theirs.adopt.as_deref() == service
    }

    fn judge_ours(&mut self, state: &ChildState, wanted: u64) -> Option<Over> {
        let (kind, name) = (state.kind.name(), &state.name);
        if state.deleting {
            self.plan.reasons.push(format!("waiting for {kind} {name} to be gone, to make it again"));
            return None;
        }
        if state.is_like(wanted) {
            return None;
        }
        if state.paused {
            self.plan.problems.push(Problem::info(
                format!("{kind} {name}"),
                format!(
                    "{kind} {name} differs from what is wanted and is left alone: it has the annotation banyan.dev/pause"
                ),
                "Remove the annotation banyan.dev/pause from it to have it put right.",
            ));
            return None;
        }
        let written = state.written();
        if written.applied.is_none_or(|(want, _)| want != wanted) {
            return Some(Over::Ours);
        }
        let other = state.other.as_deref().unwrap_or("somebody").to_owned();
        if let Some(truce_ends) = self.truce(state, WAR_WITHIN_SECONDS) {
            self.plan.problems.push(Problem::error(
                format!("{kind} {name}"),
                format!("{other} keeps changing {kind} {name}: put right three times within a minute, now left as {other} wants it"),
                format!("Make {other} leave {kind} {name} alone, or stop Banyan's writes to it with the annotation banyan.dev/pause: \"true\". Tried again in ten minutes."),
            ));
            self.plan.look_again(truce_ends);
            return None;
        }
        self.plan.notices.push(Notice {
            reason: Reason::DriftRepaired,
            note: format!("{kind} {name} was changed by {other} and is put right"),
        });
        Some(Over::Drifted)
    }

    /// Until when a child is left as somebody else wants it, if it was put right three times within so many seconds.
    fn truce(&self, state: &ChildState, within: i64) -> Option<Timestamp> {
        let [first, _, last] = state.written().repairs;
        let at = |second| Timestamp::from_second(second).unwrap_or(self.now);
        let ends = at(last).saturating_add(TRUCE).unwrap_or(Timestamp::MAX);
        (first > 0 && last - first <= within && self.now < ends).then_some(ends)
    }

    /// Whether a Deployment may be scaled to so many pods: somebody else who keeps scaling it is named, and then let be. No
    /// pods at all are no matter of taste.
    pub fn may_scale(&mut self, name: &str, pods: i32) -> bool {
        let Some(state) = self.child(Kind::Deployment, name) else { return true };
        let have = state.deployment().map_or(pods, |facts| facts.replicas);
        if state.written().scaled != Some(pods) || have == pods || pods == 0 {
            return true;
        }
        let who = "somebody else, such as an autoscaler of its own or `kubectl scale`,";
        if let Some(truce_ends) = self.truce(state, RESCALED_WITHIN_SECONDS) {
            self.plan.problems.push(Problem::error(
                format!("Deployment {name}"),
                format!("{who} keeps scaling Deployment {name} to {have} pods: put right three times, now left so; {pods} are asked for"),
                "Delete that autoscaler (`kubectl get hpa,scaledobject`), or set scale.min and scale.max of the FinService, which makes one. Tried again in ten minutes.",
            ));
            self.plan.look_again(truce_ends);
            return false;
        }
        self.plan.notices.push(Notice {
            reason: Reason::DriftRepaired,
            note: format!(
                "Deployment {name} was scaled to {have} pods by {who} and is scaled back to {pods}"
            ),
        });
        true
    }

    fn judge_theirs(&mut self, kind: Kind, name: &str, stranger: &Stranger) -> Option<Over> {
        if self.is_handed_over(stranger) {
            let moves_traffic = matches!(kind, Kind::Service | Kind::VirtualService | Kind::HTTPRoute);
            if moves_traffic && !self.may_take_traffic {
                let kind = kind.name();
                self.plan.reasons.push(format!("{kind} {name} is taken over once pods are Ready"));
                return None;
            }
            self.plan.notices.push(Notice {
                reason: Reason::Adopted,
                note: format!(
                    "{} {name} was handed over by {} and is taken over",
                    kind.name(),
                    stranger.whose
                ),
            });
            return Some(Over::HandedOver);
        }
        self.plan.problems.push(belongs_to(self.seen, kind, name, stranger));
        None
    }

    /// Ends: the deletions of what is ours and no longer wanted, autoscalers first, and a problem
    /// for each API that is missing.
    pub fn finish(self) -> Vec<Op> {
        let uid = self.seen.service.metadata.uid.as_deref().map(Uid::new);
        let mut deletions: Vec<Op> = self
            .seen
            .children
            .iter()
            // What we do not own we do not delete: a topic that is to outlive its FinService.
            .filter(|child| child.owner == uid && !child.deleting && !child.paused)
            .filter(|child| {
                !self.wanted.iter().any(|(kind, name)| *kind == child.kind && **name == *child.name)
            })
            .map(|child| Op::Delete {
                kind: child.kind,
                name: child.name.to_string(),
                uid: child.uid.clone(),
            })
            .collect();
        deletions.sort_by_key(|op| match op {
            Op::Delete { kind, name, .. } => (*kind, name.clone()),
            _ => (Kind::ServiceAccount, String::new()),
        });
        let mut missing = self.missing;
        missing.sort_unstable();
        missing.dedup();
        for api in [Api::Istio, Api::GatewayApi, Api::PrometheusOperator, Api::Strimzi] {
            let kinds: Vec<_> = missing.iter().filter(|kind| kind.api() == Some(api)).collect();
            if !kinds.is_empty() {
                let names: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
                let (source, remedy) = match api {
                    Api::Istio => ("spec.mesh.provider", "set mesh.provider to None"),
                    Api::GatewayApi => ("spec.mesh.provider", "set mesh.provider to None"),
                    Api::PrometheusOperator => ("spec.observability", "remove observability.metrics and slo"),
                    Api::Strimzi => ("spec.data.topics", "remove data.topics"),
                };
                self.plan.problems.push(Problem::warning(
                    source,
                    format!(
                        "{} is not installed in this cluster, so there is no {}",
                        api.title(),
                        names.join(", ")
                    ),
                    format!("Install {} (it is noticed without a restart), or {remedy}.", api.title()),
                ));
            }
        }
        deletions
    }
}
