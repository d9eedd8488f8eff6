//! The loop of a simulation: something happens, users are served, the source answers, the operator decides.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use jiff::{SignedDuration, Timestamp};

use super::cluster::{Cluster, flag_off};
use super::random::Random;
use super::report::{Line, Report};
use super::story::{ControlState, GateState, Killed, PeerState, SourceState, Story};
use crate::actions::Said;
use crate::api::canaryrollout::From;
use crate::api::canarystatus::Memory;
use crate::api::finservice::Traffic;
use crate::api::network::MeshProvider;
use crate::api::operations::Slo;
use crate::api::units::{display, duration, percent};
use crate::api::{CanaryRolloutStatus, Problem, Severity};
use crate::canary::facts::{Decision, Destination, Facts, RevisionFacts, Role, Routed, Scale, Sharing};
use crate::canary::mark::Mark;
use crate::canary::status::{self, Seen};
use crate::canary::{Policy, decide};
use crate::evidence::Sample;
use crate::judge::Analysis;

/// When a simulated operator is killed beside what its story says: at a look, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crash {
    /// The look.
    pub look: u64,
    /// Whether the weights are written before it dies; else nothing is.
    pub after_weights: bool,
}

/// Virtual time begins here; nothing depends on it.
const EPOCH: i64 = 1_800_000_000;

pub(super) struct World {
    pub(super) story: Story,
    pub(super) policy: Policy,
    pub(super) problems: Vec<Problem>,
    pub(super) cluster: Cluster,
    pub(super) random: Random,
    /// What the next reconcile reads in the status that the API server holds.
    pub(super) memory: Memory,
    pub(super) status: CanaryRolloutStatus,
    /// Each that was written, where somebody wants to know.
    written: Option<Vec<CanaryRolloutStatus>>,
    pub(super) mark: Option<String>,
    pub(super) selector: Option<String>,
    pub(super) current: Option<String>,
    /// UID of the FinService.
    pub(super) uid: String,
    /// Who asked for it, and who changed the policy last.
    pub(super) made_by: Option<String>,
    pub(super) policy_by: Option<String>,
    pub(super) requests: f64,
    pub(super) source: SourceState,
    pub(super) analysis: Option<Analysis>,
    pub(super) dispersion: BTreeMap<String, crate::evidence::Dispersion>,
    pub(super) said: Vec<Said>,
    pub(super) gates: BTreeMap<i32, GateState>,
    pub(super) peers: BTreeMap<String, (PeerState, f64)>,
    pub(super) standby: bool,
    pub(super) frozen: Option<String>,
    pub(super) decision: Decision,
    /// Whether proxies hear of what is decided.
    pub(super) control: ControlState,
    /// What proxies have heard of.
    pub(super) in_force: Decision,
    pub(super) report: Report,
    pub(super) shown: Option<Line>,
}

pub(super) fn at(seconds: f64) -> Timestamp {
    let millis = SignedDuration::from_millis((seconds * 1000.0) as i64);
    Timestamp::from_second(EPOCH).unwrap_or_default().saturating_add(millis).unwrap_or(Timestamp::MAX)
}

pub(super) fn seconds(text: &str) -> f64 {
    duration(text).unwrap_or_default().as_secs_f64()
}

pub(super) fn share(text: &str) -> f64 {
    percent(text).unwrap_or_default() / 100.0
}

/// Tells a story to its end.
pub fn run(story: Story) -> Report {
    run_with(story, None, |_, _| {})
}

/// Tells a story to its end, with one crash more, and shows every decision with its time in seconds.
pub fn run_with(story: Story, crash: Option<Crash>, mut watch: impl FnMut(f64, &Decision)) -> Report {
    let world = tell(World::new(story), crash, |now, decision| {
        watch(now, decision);
        ControlFlow::Continue(())
    });
    world.finish()
}

/// Tells a story until that says that it has seen enough of its decisions, each with its time in seconds.
pub fn run_until(story: Story, watch: impl FnMut(f64, &Decision) -> ControlFlow<()>) -> Report {
    tell(World::new(story), None, watch).finish()
}

/// Tells a story to its end, and returns every status that was written in it.
pub fn statuses(story: Story) -> Vec<CanaryRolloutStatus> {
    let world = World { written: Some(Vec::new()), ..World::new(story) };
    tell(world, None, |_, _| ControlFlow::Continue(())).written.unwrap_or_default()
}

fn tell(
    mut world: World,
    crash: Option<Crash>,
    mut watch: impl FnMut(f64, &Decision) -> ControlFlow<()>,
) -> World {
    let tick = seconds(&world.story.tick);
    let looks = (seconds(&world.story.lasts) / tick).floor() as u64;
    let mut next = 0;
    let enough = Cell::new(false);
    let mut watch = |now: f64, decision: &Decision| {
        enough.set(enough.get() || watch(now, decision).is_break());
    };
    for look in 0..=looks {
        let now = look as f64 * tick;
        let mut killed = None;
        while let Some(event) =
            world.story.events.get(next).filter(|event| seconds(&event.at) <= now).cloned()
        {
            killed = world.happen(&event, now).or(killed);
            next += 1;
        }
        if killed == Some(Killed::Between) {
            world.analysis = None;
        }
        world.serve(now, if look == 0 { 0.0 } else { tick });
        world.count(now);
        let extra = crash.filter(|crash| crash.look == look);
        let dies = killed == Some(Killed::BeforeStatus) || extra.is_some();
        let writes = extra.is_none_or(|crash| crash.after_weights);
        world.look(now, dies, writes, &mut watch);
        // A decision that says "look again now" is looked at again now, as the queue does it.
        for _ in 0..8 {
            if world.decision.again_at.is_none_or(|again| again > at(now)) {
                break;
            }
            world.look(now, false, true, &mut watch);
        }
        if enough.get() {
            break;
        }
    }
    world
}

impl World {
    fn new(story: Story) -> Self {
        let mut world = Self {
            policy: Policy::of(&story.rollout, None, Traffic::Requests).0,
            problems: Vec::new(),
            cluster: Cluster::default(),
            random: Random::new(story.seed),
            memory: Memory::default(),
            status: CanaryRolloutStatus::default(),
            written: None,
            mark: None,
            selector: story.release.clone(),
            current: story.release.clone(),
            uid: "u-1".to_owned(),
            made_by: None,
            policy_by: None,
            requests: story.requests,
            source: SourceState::Up,
            analysis: None,
            dispersion: BTreeMap::new(),
            said: Vec::new(),
            gates: BTreeMap::new(),
            peers: BTreeMap::new(),
            standby: false,
            frozen: None,
            decision: Decision::default(),
            control: ControlState::Up,
            in_force: Decision::default(),
            report: Report { about: story.about.clone(), seed: story.seed, ..Report::default() },
            shown: None,
            story,
        };
        world.read_policy(0.0);
        if let Some(release) = world.current.clone() {
            let pods = world.scale().demand();
            world.cluster.stand(&Destination::Revision(release.clone()), &release, pods, 0.0);
            world.decision.stable = Some(release.clone());
            world.decision.route.shares = vec![(Destination::Revision(release), 100)];
        }
        if world.policy.from == From::Legacy {
            world.cluster.stand(&Destination::Legacy, "legacy", 1, 0.0);
            world.decision.route.shares = vec![(Destination::Legacy, 100)];
        }
        world.in_force = world.decision.clone();
        world
    }

    pub(super) fn read_policy(&mut self, now: f64) {
        let availability = self.story.service.availability.clone();
        let latency = self.story.service.latency.clone();
        let promises = availability.is_some() || latency.is_some();
        let slo = promises.then_some(Slo { availability, latency, window: None });
        (self.policy, self.problems) = Policy::of(&self.story.rollout, slo.as_ref(), self.traffic());
        for problem in &self.problems {
            let words = format!("{}: {}. {}", problem.source, problem.message, problem.remedy);
            self.report.lines.push(Line::Story { at: now, words });
        }
    }

    fn traffic(&self) -> Traffic {
        if self.story.service.pulled { Traffic::Pulled } else { Traffic::Requests }
    }

    fn scale(&self) -> Scale {
        let service = &self.story.service;
        let need = service.max.map(|_| (self.requests / service.requests_per_pod).ceil() as i32);
        Scale { least: service.replicas, most: service.max.unwrap_or(service.replicas), need }
    }

    fn sharing(&self) -> Sharing {
        match self.story.service.provider.unwrap_or(MeshProvider::Istio) {
            _ if self.story.service.pulled => Sharing::Pods,
            MeshProvider::Istio => Sharing::Mesh,
            MeshProvider::GatewayAPI => Sharing::Ingress,
            MeshProvider::None => Sharing::Pods,
        }
    }

    /// A gateway says how far it has read its route; Istio, as it mostly is, does not.
    fn routed(&self) -> Routed {
        let (read, written) = (&self.in_force, &self.decision);
        let is_behind = read.canary != written.canary || read.route != written.route;
        match self.sharing() {
            Sharing::Ingress if self.control == ControlState::Down && is_behind => Routed::NotRead,
            _ => Routed::Yes,
        }
    }

    fn serve(&mut self, now: f64, tick: f64) {
        let startup = seconds(&self.story.service.startup);
        self.cluster.pods(now, startup);
        if !self.standby {
            let requests = self.requests * tick;
            if self.control == ControlState::Up {
                self.in_force = self.decision.clone();
            }
            self.cluster.serve(&self.in_force, requests, now, &mut self.random);
            self.cluster.serve_others(self.story.legacy_requests * tick);
        }
    }

    /// The source answers, if something is to be counted.
    fn count(&mut self, now: f64) {
        let gone = std::mem::take(&mut self.cluster.gone);
        let Some(sampling) = self.decision.sampling.clone() else {
            if let Some(analysis) = self.analysis.take() {
                let known = analysis.dispersions().map(|(name, known)| (name.to_owned(), known.clone()));
                self.dispersion.extend(known);
            }
            return;
        };
        if self.analysis.as_ref().is_none_or(|analysis| analysis.attempt() != sampling.attempt) {
            let known = &self.dispersion;
            let made =
                Analysis::new(&self.policy.standard(), &sampling.comparison(), "stable", "canary", now);
            self.analysis = made.ok().map(|made| made.with_dispersion(|name| known.get(name).cloned()));
        }
        let Some(analysis) = &mut self.analysis else { return };
        analysis.follow(&sampling.comparison(), now);
        // Proxies count; without a route, pods do.
        analysis.set_exact(!self.decision.route.by_pods);
        gone.into_iter().for_each(|pod| analysis.forget(pod));
        match self.source {
            SourceState::Up => {}
            SourceState::Down => return analysis.no_answer("connection refused"),
            SourceState::Empty => return analysis.no_answer("it answers without any series"),
            SourceState::NaN => {}
            SourceState::Stale => {
                let _ = analysis.close(now);
                return;
            }
        }
        let stable = if self.decision.flag.is_some() { flag_off() } else { sampling.stable.clone() };
        let mut refused = None;
        for (arm, revision) in [(&stable, "stable"), (&sampling.canary, "canary")] {
            let arm = self.cluster.arms.get(arm);
            let counts = arm.is_some_and(|arm| self.cluster.uncounted.as_ref() != Some(&arm.release));
            let pods = arm.map(|arm| arm.pods.as_slice()).unwrap_or_default();
            for pod in pods {
                let counters = if counts { pod.counters } else { [0; 5] };
                for (place, metric) in self.policy.metrics.iter().enumerate() {
                    let kind = match metric.name.as_str() {
                        "error-rate" => 1,
                        "latency" => 2,
                        "client-errors" => 4,
                        _ => 3,
                    };
                    let requests =
                        if self.source == SourceState::NaN { f64::NAN } else { counters[0] as f64 };
                    let sample = Sample {
                        revision,
                        pod: pod.id,
                        time: now,
                        ready_since: pod.ready_since,
                        requests,
                        bad: counters[kind] as f64,
                        unanswered: 0.0,
                    };
                    let taken = analysis.sample(&self.policy.metrics[place].name, sample);
                    refused = refused.or(taken.err());
                }
            }
        }
        if let Some(refused) = refused.filter(|_| self.source == SourceState::NaN) {
            analysis.no_answer(&refused.to_string());
        }
        // Virtual time goes in ticks: who would ask sooner asks at the next one.
        let _ = analysis.close(now);
    }

    /// One reconcile of the operator.
    fn look(&mut self, now: f64, dies: bool, writes: bool, watch: &mut impl FnMut(f64, &Decision)) {
        let revisions: Vec<RevisionFacts> = self
            .cluster
            .arms
            .keys()
            .filter(|to| matches!(to, Destination::Revision(_)))
            .filter_map(|to| self.cluster.facts(to, at))
            .collect();
        let baseline = self
            .decision
            .stable
            .clone()
            .and_then(|hash| self.cluster.facts(&Destination::Baseline(hash), at));
        let evidence = self.analysis.as_ref().map(|analysis| analysis.evidence(now));
        let answers = self.answers();
        let peers = self.fares();
        let ladder = self.memory.rollout.as_ref().and_then(|rollout| rollout.ladder.as_ref());
        let policy = self.policy.clone().with_ladder(ladder);
        let mark = self.mark.as_deref().and_then(Mark::parse);
        let facts = Facts {
            namespace: "NAMESPACE",
            name: "NAME",
            service: &self.uid,
            policy: &policy,
            unreadable: None,
            held: None,
            policy_broken: self.problems.iter().any(|problem| problem.severity == Severity::Error),
            sharing: self.sharing(),
            scale: self.scale(),
            current: self.current.as_deref(),
            release: self.current.as_deref().unwrap_or_default(),
            made_by: self.made_by.as_deref(),
            changed: None,
            policy_by: self.policy_by.as_deref(),
            stable: self.selector.as_deref(),
            revisions: &revisions,
            baseline: baseline.as_ref(),
            routed: self.routed(),
            evidence: evidence.as_ref(),
            answers: &answers,
            actions: &self.said,
            peers: &peers,
            role: match (self.standby, self.story.service.partial) {
                (true, _) => Role::Standby,
                (false, true) => Role::Partial,
                (false, false) => Role::Active,
            },
            frozen: self.frozen.as_deref(),
            mark: mark.as_ref(),
            memory: &self.memory,
        };
        let decision = decide(&facts, at(now));
        watch(now, &decision);
        if dies && !writes {
            self.analysis = None;
            return;
        }
        let seen = Seen {
            old: Some(&self.status),
            observed_weight: Some(self.in_force.weight),
            problems: &self.problems,
            ..Seen::default()
        };
        let status = status::status(&facts, &decision, &seen, at(now));
        self.mark = decision.mark.as_ref().map(Mark::to_string);
        self.selector = decision.stable.clone().or(self.selector.take());
        self.cluster.follow(&decision, now);
        self.show(&decision, &revisions, now);
        self.decision = decision;
        if dies {
            self.analysis = None;
            return;
        }
        if status.memory.as_ref() != Some(&self.memory) {
            self.memory = read_back(&status);
        }
        if let Some(written) = self.written.as_mut().filter(|_| !status::same(&self.status, &status)) {
            written.push(status.clone());
        }
        self.status = status;
        let answered = &self.decision.answered;
        self.said.retain(|said| !answered.iter().any(|answered| answered.id == said.id));
    }

    /// Puts down what changed.
    fn show(&mut self, decision: &Decision, revisions: &[RevisionFacts], now: f64) {
        for notice in &decision.notices {
            let (reason, note) = (notice.reason.as_str().to_owned(), notice.note.clone());
            self.report.lines.push(Line::Event { at: now, reason, note });
        }
        let wanted: BTreeMap<&str, i32> =
            decision.pods.iter().map(|(hash, pods)| (hash.as_str(), *pods)).collect();
        let mut pods: Vec<String> = Vec::new();
        for revision in revisions
            .iter()
            .filter(|revision| !revision.pods.is_empty() || wanted.contains_key(revision.hash.as_str()))
        {
            let wanted = wanted.get(revision.hash.as_str()).map_or("-".to_owned(), i32::to_string);
            pods.push(format!("{} {}/{wanted}", revision.hash, revision.ready()));
        }
        if decision.baseline_pods > 0 {
            pods.push(format!("fresh copy /{}", decision.baseline_pods));
        }
        let line = Line::Decision {
            at: now,
            phase: decision.phase.as_str().to_owned(),
            route: route(decision),
            pods: pods.join(", "),
            verdict: decision.verdict.map(|verdict| verdict.to_string()),
            reasons: decision.reasons.iter().cloned().chain(warnings(decision)).collect(),
            stalled: decision.stalled.as_ref().map(|(reason, _)| (*reason).to_owned()),
        };
        if self.shown.as_ref().is_none_or(|shown| differs(shown, &line)) {
            self.shown = Some(line.clone());
            self.report.lines.push(line);
        }
    }

    fn finish(mut self) -> Report {
        self.report.phase = self.decision.phase.as_str().to_owned();
        self.report.stable = self.decision.stable.clone().unwrap_or_else(|| "nobody".to_owned());
        self.report.weight = self.decision.weight;
        self.report.users = self.cluster.users;
        self.report
    }
}

/// Whether more than a number in a sentence has changed.
fn differs(one: &Line, other: &Line) -> bool {
    let plain = |line: &Line| match line.clone() {
        Line::Decision { phase, route, pods, verdict, stalled, .. } => {
            Some((phase, route, pods, verdict, stalled))
        }
        Line::Story { .. } | Line::Event { .. } => None,
    };
    plain(one) != plain(other)
}

fn warnings(decision: &Decision) -> impl Iterator<Item = String> {
    let problems = decision.problems.iter().filter(|problem| problem.severity != Severity::Error);
    problems.map(|problem| format!("({}: {})", problem.source, problem.message))
}

fn route(decision: &Decision) -> String {
    let name = |to: &Destination| match to {
        Destination::Revision(hash) => hash.clone(),
        Destination::Baseline(hash) => format!("fresh {hash}"),
        Destination::Legacy => "legacy".to_owned(),
    };
    let route = &decision.route;
    let mut parts: Vec<String> =
        route.shares.iter().map(|(to, percent)| format!("{} {percent} %", name(to))).collect();
    parts.extend(decision.flag.map(|percent| format!("flag {percent} %")));
    if !route.matches.is_empty() {
        parts.push(format!("{} matched", route.matches.len()));
    }
    parts.extend(route.mirror.as_ref().map(|(to, percent)| format!("mirror {percent} % to {}", name(to))));
    if let Some(affinity) = &route.affinity {
        parts.push(format!("kept {} by {}", display(affinity.max_age.unsigned_abs()), affinity.cookie));
    }
    parts.extend(route.preview.as_ref().map(|(host, to)| format!("{host} shows {}", name(to))));
    parts.join(", ")
}

/// What is read in a status after it was written as JSON: whatever JSON does not say is lost.
fn read_back(status: &CanaryRolloutStatus) -> Memory {
    let written = serde_json::to_string(status).unwrap_or_default();
    let read: CanaryRolloutStatus = serde_json::from_str(&written).unwrap_or_default();
    read.memory.unwrap_or_default()
}
