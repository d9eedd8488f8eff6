//! The policy of a CanaryRollout, read once: durations, shares and defaults instead of strings and `None`.

use jiff::SignedDuration;

use super::fields::Reader;
use crate::api::analysis::{Baseline, OnInsufficient};
use crate::api::canaryrollout::{From, Gate, Match, Via, WebhookGate};
use crate::api::canarystatus::Ladder;
use crate::api::finservice::Traffic;
use crate::api::operations::Slo;
use crate::api::units::display;
use crate::api::{CanaryRolloutSpec, Problem};
use crate::evidence::pod_id;
use crate::judge::{Metric, Standard};

/// The shortest look: what its two readings lie apart, and how the requests of a moment fall, is then still small beside it.
const SHORTEST_INTERVAL: SignedDuration = SignedDuration::from_millis(250);
/// The longest look: a bad canary would have its traffic for two of them.
const LONGEST_INTERVAL: SignedDuration = SignedDuration::from_secs(15);
/// The steps where the policy names none, and nobody knows what the service answers.
pub const UNKNOWN: [i32; 3] = [10, 50, 100];
/// The most steps under 100 that are chosen where the policy names none.
pub const MOST_CHOSEN: u32 = 3;
/// How long a good release may take where the policy names no steps.
const PACE: SignedDuration = SignedDuration::from_mins(20);
/// How long a gate is waited at before it is called stalled.
const GATE_TIMEOUT: SignedDuration = SignedDuration::from_hours(7 * 24);
/// The policy of a CanaryRollout.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The steps; the last has weight 100.
    pub steps: Vec<PolicyStep>,
    /// Where the policy leaves the steps out: how long a good release may take. They are chosen when a rollout begins.
    pub pace: Option<SignedDuration>,
    /// Whether steps that were chosen wait for a verdict for as long as it may take: nobody wrote how long.
    pub waits_as_needed: bool,
    /// With blue-green: how the preview is done.
    pub preview: Option<Preview>,
    /// What carries the shares.
    pub via: Via,
    /// Who has the traffic before.
    pub from: From,
    /// How long the old revision stays warm.
    pub window: SignedDuration,
    /// How large it stays, in percent of the pods that serve.
    pub window_percent: i32,
    /// How long pods may take.
    pub progress_deadline: SignedDuration,
    /// Requests that always see the canary.
    pub matches: Vec<Match>,
    /// Share of stable's requests that is mirrored, in percent.
    pub mirror_percent: Option<i32>,
    /// How clients are kept.
    pub affinity: Option<Affinity>,
    /// What is compared: `error-rate`, `latency`, and custom ones by their names.
    pub metrics: Vec<Metric>,
    /// How long a pod must be Ready before it counts.
    pub warmup: SignedDuration,
    /// Time between looks.
    pub interval: SignedDuration,
    /// What the canary is compared with.
    pub baseline: Baseline,
    /// Chance of a false alarm over the whole rollout.
    pub false_alarm: f64,
    /// What happens at `maxHold`.
    pub on_insufficient: OnInsufficient,
    /// Gates, in the order of the spec.
    pub gates: Vec<GatePolicy>,
    /// Clusters that go first.
    pub after: Vec<AfterPolicy>,
}

/// A step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyStep {
    /// Weight in percent.
    pub weight: i32,
    /// How long it lasts at the least.
    pub min_hold: SignedDuration,
    /// How long it waits for a verdict.
    pub max_hold: SignedDuration,
}

/// How blue-green shows the new revision before the switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// Under which host.
    pub host: Option<String>,
    /// For how long at the least.
    pub at_least: SignedDuration,
}

/// How clients are kept on the revision that they met first: both revisions hand out a cookie, so that
/// neither drains the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affinity {
    /// Name of the cookie; its value is the revision's hash.
    pub cookie: String,
    /// How long it lasts.
    pub max_age: SignedDuration,
}

/// A gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatePolicy {
    /// Weight of the step that it stands before.
    pub at: i32,
    /// After how long it is called stalled.
    pub timeout: SignedDuration,
    /// What opens it.
    pub kind: GateKind,
}

/// The name of a gate that waits for a person before that weight.
pub fn approval(at: i32) -> String {
    format!("approval {at}")
}

impl GatePolicy {
    /// One that waits for a person before that weight, with the default timeout.
    pub fn approval(at: i32) -> Self {
        Self { at, timeout: GATE_TIMEOUT, kind: GateKind::Approval }
    }

    /// What it is, by which it is remembered: whatever its place among others, and whoever moves it.
    pub fn name(&self) -> String {
        let at = self.at;
        match &self.kind {
            GateKind::Approval => approval(at),
            GateKind::Promql { query, r#for } => {
                format!("promql {at} {:016x}", pod_id(&format!("{} {query}", r#for.as_secs())))
            }
            GateKind::Webhook(server) => format!("webhook {at} {:016x}", pod_id(&server.url)),
        }
    }
}

/// What opens a gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GateKind {
    /// A person.
    Approval,
    /// A query that has been true for so long.
    Promql {
        /// The query.
        query: String,
        /// For how long.
        r#for: SignedDuration,
    },
    /// A web server.
    Webhook(WebhookGate),
}

/// A cluster that goes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AfterPolicy {
    /// Its name.
    pub cluster: String,
    /// How long it must have stayed well.
    pub bake: SignedDuration,
}

impl Reader {
    fn steps(&mut self, spec: &CanaryRolloutSpec) -> Vec<PolicyStep> {
        let Some(canary) = &spec.strategy.canary else {
            let zero = SignedDuration::ZERO;
            return vec![PolicyStep { weight: 100, min_hold: zero, max_hold: zero }];
        };
        let field = "spec.strategy.canary.minHold";
        let min = self.duration(field, canary.min_hold.as_ref(), SignedDuration::from_mins(1));
        let field = "spec.strategy.canary.maxHold";
        let max = self.duration(field, canary.max_hold.as_ref(), SignedDuration::from_mins(30).max(min));
        if canary.steps.is_empty() {
            let step = |weight| PolicyStep { weight, min_hold: min, max_hold: max };
            return UNKNOWN.map(step).into();
        }
        let mut steps = Vec::new();
        for (index, step) in canary.steps.iter().enumerate() {
            let field = format!("spec.strategy.canary.steps[{index}]");
            let min_hold = self.duration(&format!("{field}.minHold"), step.min_hold.as_ref(), min);
            // Only the default follows a long minHold; what somebody wrote stands, and is refused.
            let most = if canary.max_hold.is_none() { max.max(min_hold) } else { max };
            let max_hold = self.duration(&format!("{field}.maxHold"), step.max_hold.as_ref(), most);
            if max_hold < min_hold {
                self.problems.push(Problem::error(
                    format!("{field}.maxHold"),
                    "maxHold is shorter than minHold",
                    "Raise maxHold or lower minHold.",
                ));
            }
            steps.push(PolicyStep { weight: step.weight.clamp(1, 100), min_hold, max_hold });
        }
        // The schema holds this; an object that came by without it must not make the machine stumble.
        let rising = steps.windows(2).all(|pair| pair[0].weight < pair[1].weight);
        if !rising || steps.last().is_none_or(|step| step.weight != 100) || steps.len() < 2 {
            self.problems.push(Problem::error(
                "spec.strategy.canary.steps",
                "the weights must rise, from at least one under 100 to 100",
                "Write steps such as [{weight: 1}, {weight: 10}, {weight: 50}, {weight: 100}].",
            ));
            steps = vec![PolicyStep { weight: 100, min_hold: min, max_hold: max }];
        }
        steps
    }

    fn gate(&mut self, index: usize, gate: &Gate) -> Option<GatePolicy> {
        let field = format!("spec.gates[{index}]");
        let kind = if gate.approval.is_some() {
            GateKind::Approval
        } else if let Some(promql) = &gate.promql {
            let r#for =
                self.duration(&format!("{field}.promql.for"), promql.r#for.as_ref(), SignedDuration::ZERO);
            GateKind::Promql { query: promql.query.clone(), r#for }
        } else {
            GateKind::Webhook(gate.webhook.clone()?)
        };
        let timeout = self.duration(&format!("{field}.timeout"), gate.timeout.as_ref(), GATE_TIMEOUT);
        let timeout = match &kind {
            GateKind::Promql { r#for, .. } if gate.timeout.is_none() => timeout.saturating_add(*r#for),
            GateKind::Promql { r#for, .. } if timeout < *r#for => {
                self.problems.push(Problem::error(
                    format!("{field}.timeout"),
                    "timeout is shorter than promql.for, so the gate could never open in time",
                    "Raise timeout above promql.for.",
                ));
                timeout
            }
            _ => timeout,
        };
        Some(GatePolicy { at: gate.at, timeout, kind })
    }
}

impl Policy {
    /// The policy of a spec, with what its FinService promises and how work reaches that, and what is wrong with it.
    /// While one of the problems is an error, nothing moves but back.
    pub fn of(spec: &CanaryRolloutSpec, slo: Option<&Slo>, traffic: Traffic) -> (Self, Vec<Problem>) {
        let mut reader = Reader { problems: Vec::new() };
        let none = Default::default();
        let analysis = spec.analysis.as_ref().unwrap_or(&none);
        let window = spec.rollback_window.clone().unwrap_or_default();
        let blue_green = spec.strategy.blue_green.as_ref();
        let delay = blue_green.and_then(|blue_green| blue_green.scale_down_delay.as_ref());
        let secs = SignedDuration::from_secs;
        let mins = SignedDuration::from_mins;
        let false_alarm = analysis.false_alarm.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0.01);
        // A look must not be shorter than the time between two scrapes: the arms would speak of different moments.
        let by_prometheus = analysis.source.as_ref().is_some_and(|source| source.prometheus.is_some());
        let default = if by_prometheus { secs(15) } else { secs(5) };
        let interval = reader.duration("spec.analysis.interval", analysis.interval.as_ref(), default);
        if !(SHORTEST_INTERVAL..=LONGEST_INTERVAL).contains(&interval) {
            reader.problems.push(Problem::error(
                "spec.analysis.interval",
                format!(
                    "{} is not within {} to {}",
                    display(interval.unsigned_abs()),
                    display(SHORTEST_INTERVAL.unsigned_abs()),
                    display(LONGEST_INTERVAL.unsigned_abs())
                ),
                "Set it to 5s; with Prometheus to the time between two scrapes, such as 15s.",
            ));
        }
        let policy = Self {
            steps: reader.steps(spec),
            pace: spec
                .strategy
                .canary
                .as_ref()
                .filter(|canary| canary.steps.is_empty())
                .map(|canary| reader.duration("spec.strategy.canary.pace", canary.pace.as_ref(), PACE)),
            preview: blue_green.map(|blue_green| Preview {
                host: blue_green.preview_host.clone(),
                at_least: reader.duration(
                    "spec.strategy.blueGreen.previewFor",
                    blue_green.preview_for.as_ref(),
                    SignedDuration::ZERO,
                ),
            }),
            waits_as_needed: spec.strategy.canary.as_ref().is_some_and(|canary| canary.max_hold.is_none()),
            via: spec.via.unwrap_or_default(),
            from: spec.from.unwrap_or_default(),
            window: reader.duration("spec.rollbackWindow.for", delay.or(window.r#for.as_ref()), mins(15)),
            window_percent: window.capacity_percent.unwrap_or(100).clamp(1, 100),
            progress_deadline: reader.duration(
                "spec.progressDeadline",
                spec.progress_deadline.as_ref(),
                mins(10),
            ),
            matches: spec.matches.clone().unwrap_or_default(),
            mirror_percent: spec.mirror_percent,
            affinity: spec.session_affinity.as_ref().map(|affinity| Affinity {
                cookie: affinity.cookie_name.clone().unwrap_or_else(|| "banyan-revision".to_owned()),
                max_age: reader.duration("spec.sessionAffinity.maxAge", affinity.max_age.as_ref(), mins(60)),
            }),
            metrics: reader.metrics(spec, slo, traffic),
            warmup: reader.duration("spec.analysis.warmup", analysis.warmup.as_ref(), secs(60)),
            interval: interval.clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL),
            baseline: analysis.baseline.unwrap_or_default(),
            false_alarm,
            on_insufficient: analysis.on_insufficient.unwrap_or_default(),
            gates: Vec::new(),
            after: spec
                .after
                .iter()
                .flatten()
                .map(|after| AfterPolicy {
                    cluster: after.cluster.clone(),
                    bake: reader.duration("spec.after[].bake", after.bake.as_ref(), SignedDuration::ZERO),
                })
                .collect(),
        };
        let gates =
            spec.gates.iter().flatten().enumerate().filter_map(|(index, gate)| reader.gate(index, gate));
        let policy = Self { gates: gates.collect(), ..policy };
        (policy, reader.problems)
    }

    /// What a gate is remembered by; `None` if it cannot be read.
    pub fn name_of(gate: &Gate) -> Option<String> {
        Reader { problems: Vec::new() }.gate(0, gate).map(|gate| gate.name())
    }

    /// The same with the steps that were chosen for a rollout, where it leaves them out.
    pub fn with_ladder(mut self, ladder: Option<&Ladder>) -> Self {
        if let (Some(_), Some(ladder), Some(first)) = (self.pace, ladder, self.steps.first().cloned()) {
            let step = |weight: &i32| PolicyStep { weight: *weight, ..first.clone() };
            self.steps = ladder.weights.iter().map(step).collect();
            let long = ladder.seconds.filter(|_| self.waits_as_needed).unwrap_or(0).saturating_mul(2);
            for step in &mut self.steps {
                step.max_hold = step.max_hold.max(SignedDuration::from_secs(long));
            }
        }
        self
    }

    /// By what the canary is judged.
    pub fn standard(&self) -> Standard {
        Standard {
            metrics: self.metrics.clone(),
            warmup: self.warmup,
            interval: self.interval,
            false_alarm: self.false_alarm,
            // One more counts what stable answers, before the steps are chosen.
            steps: self.pace.map_or(self.comparing_steps().max(1), |_| MOST_CHOSEN + 1),
        }
    }

    /// Number of steps that compare: those under 100.
    pub fn comparing_steps(&self) -> u32 {
        self.steps.iter().filter(|step| step.weight < 100).count() as u32
    }

    /// The step of that number, counted from 1.
    pub fn step(&self, number: i32) -> Option<&PolicyStep> {
        usize::try_from(number).ok()?.checked_sub(1).and_then(|index| self.steps.get(index))
    }

    /// The weight that comes after one; 100 after the last.
    pub fn after_weight(&self, weight: i32) -> i32 {
        self.steps.iter().map(|step| step.weight).find(|next| *next > weight).unwrap_or(100)
    }

    /// Number of the last step.
    pub fn last(&self) -> i32 {
        self.steps.len() as i32
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(spec: serde_json::Value, availability: Option<&str>) -> (Policy, Vec<Problem>) {
        let spec: CanaryRolloutSpec = serde_json::from_value(spec).expect("a spec");
        let availability = availability.map(str::to_owned);
        let slo = Slo { availability, latency: None, window: None };
        Policy::of(&spec, Some(&slo), Traffic::Requests)
    }

    fn fields(problems: &[Problem]) -> Vec<&str> {
        problems.iter().map(|problem| problem.source.as_str()).collect()
    }

    #[test]
    fn what_is_left_out_has_the_documented_defaults() {
        let steps = json!([{"weight": 10}, {"weight": 50, "minHold": "5m"}, {"weight": 100}]);
        let (policy, problems) =
            policy(json!({"service": "a", "strategy": {"canary": {"steps": steps}}}), None);
        assert_eq!(problems, []);
        let mins = SignedDuration::from_mins;
        assert_eq!((policy.steps[0].min_hold, policy.steps[0].max_hold), (mins(1), mins(30)));
        assert_eq!(policy.steps[1].min_hold, mins(5));
        assert_eq!(
            (policy.window, policy.window_percent, policy.progress_deadline),
            (mins(15), 100, mins(10))
        );
        assert_eq!((policy.false_alarm, policy.warmup, policy.comparing_steps()), (0.01, mins(1), 2));
        let names: Vec<&str> = policy.metrics.iter().map(|metric| metric.name.as_str()).collect();
        assert_eq!(
            (names, policy.metrics[0].max_increase, policy.metrics[0].limit),
            (vec!["error-rate", "client-errors"], 0.005, None)
        );
    }

    #[test]
    fn looks_are_as_long_as_the_usual_scrape_with_prometheus() {
        let source = json!({"prometheus": {"url": "http://p"}});
        let spec = json!({"service": "a", "strategy": {"blueGreen": {}}, "analysis": {"source": source}});
        assert_eq!(policy(spec, None).0.interval, SignedDuration::from_secs(15));
        let spec = json!({"service": "a", "strategy": {"blueGreen": {}}});
        assert_eq!(policy(spec, None).0.interval, SignedDuration::from_secs(5));
        for (text, taken) in [("250ms", 250), ("249ms", 250), ("15s", 15_000), ("16s", 15_000)] {
            let spec = json!({"service": "a", "strategy": {"blueGreen": {}}, "analysis": {"interval": text}});
            let (policy, problems) = policy(spec, None);
            assert_eq!(policy.interval, SignedDuration::from_millis(taken));
            assert_eq!(problems.is_empty(), ["250ms", "15s"].contains(&text), "{text}: {problems:?}");
        }
    }

    #[test]
    fn an_slo_gives_the_limit_and_the_warning() {
        let spec = json!({"service": "a", "strategy": {"blueGreen": {}}});
        let (policy, problems) = policy(spec, Some("99.9"));
        let limit = policy.metrics[0].limit.expect("a limit");
        assert!((limit - 0.0144).abs() < 1e-9, "{limit}");
        assert_eq!(fields(&problems), ["spec.analysis.errorRate.maxIncrease"]);
        assert!(problems[0].message.contains("error budget"), "{}", problems[0].message);
    }

    #[test]
    fn what_the_schema_cannot_refuse_is_a_problem_with_its_field() {
        let steps = json!([{"weight": 10}, {"weight": 100}]);
        let (_, problems) = policy(
            json!({
                "service": "a", "progressDeadline": "91d", "rollbackWindow": {"for": "999999999d"},
                "strategy": {"canary": {"steps": steps, "minHold": "10m", "maxHold": "5m"}},
                "analysis": {"interval": "1m", "source": {"prometheus": {"url": "http://p"}}},
                "gates": [{"at": 100, "timeout": "1h", "promql": {"query": "up", "for": "2h"}}],
            }),
            None,
        );
        assert_eq!(
            fields(&problems),
            [
                "spec.analysis.interval",
                "spec.strategy.canary.steps[0].maxHold",
                "spec.strategy.canary.steps[1].maxHold",
                "spec.rollbackWindow.for",
                "spec.progressDeadline",
                "spec.gates[0].timeout",
            ]
        );
        assert!(problems.iter().all(|problem| problem.severity == crate::api::Severity::Error));
    }

    #[test]
    fn steps_that_came_by_without_the_schema_do_not_make_it_stumble() {
        for steps in [json!([{"weight": 50}, {"weight": 10}]), json!([{"weight": 900}, {"weight": -3}])] {
            let (policy, problems) =
                policy(json!({"service": "a", "strategy": {"canary": {"steps": steps}}}), None);
            assert_eq!((fields(&problems), policy.last()), (vec!["spec.strategy.canary.steps"], 1));
        }
    }

    #[test]
    fn steps_that_were_chosen_wait_for_as_long_as_they_may_take_unless_somebody_wrote_how_long() {
        let mins = SignedDuration::from_mins;
        let ladder = Ladder { weights: vec![20, 100], seconds: Some(3000), ..Ladder::default() };
        let chosen = |canary: serde_json::Value| {
            let (policy, problems) = policy(json!({"service": "a", "strategy": {"canary": canary}}), None);
            assert_eq!(problems, []);
            let pace = policy.pace;
            let policy = policy.with_ladder(Some(&ladder));
            (pace, policy.steps.len(), policy.steps[0].weight, policy.steps[0].max_hold)
        };
        assert_eq!(chosen(json!({})), (Some(mins(20)), 2, 20, mins(100)));
        assert_eq!(chosen(json!({"pace": "5m", "maxHold": "10m"})), (Some(mins(5)), 2, 20, mins(10)));
        let written = json!({"steps": [{"weight": 5}, {"weight": 50}, {"weight": 100}]});
        assert_eq!(chosen(written), (None, 3, 5, mins(30)));
    }
}
