//! What a policy costs: how long a good release takes to be promoted, and what a worse one costs until it is taken back. Each
//! figure is of whole rollouts, told with chance from different seeds.

use std::ops::ControlFlow;

use serde::Serialize;
use serde_json::json;

use super::story::{Story, StoryError};
use super::world::run_until;
use crate::api::CanaryRolloutSpec;
use crate::canary::facts::{Decision, Phase};

/// How much worse the releases are that are tried, in points of percent of their requests.
const WORSE: [f64; 4] = [1.0, 2.0, 5.0, 20.0];
/// When the release begins, in seconds: what stood before it has been seen by then.
const DEPLOYED: f64 = 10.0;
/// What takes longer is not waited for.
const LONGEST: &str = "72h";

/// What a release meets.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Meets {
    /// Requests a second.
    pub requests: f64,
    /// The share of them that fails in stable, in percent.
    pub errors: f64,
    /// Pods of the service.
    pub pods: i32,
    /// Whether weights are carried by a route; else by the numbers of pods.
    pub routed: bool,
}

/// A number that chance spreads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spread {
    /// The middle one of all runs.
    pub median: f64,
    /// The smallest.
    pub least: f64,
    /// The largest.
    pub most: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        Some(Self { median: values[values.len() / 2], least, most })
    }
}

/// What became of a release in many runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fate {
    /// How much worse than stable it is, in points of percent.
    pub worse: f64,
    /// How many runs.
    pub runs: usize,
    /// In how many it was promoted.
    pub promoted: usize,
    /// In how many it was taken back.
    pub taken_back: usize,
    /// Seconds until it was promoted or taken back, of those in which it was; absent where it never was.
    pub seconds: Option<Spread>,
    /// Requests that failed since it was worse.
    pub failed: Option<Spread>,
    /// For each weight, how long it stood there, in seconds, in the run in the middle.
    pub steps: Vec<(i32, f64)>,
    /// What it waits for where it did not end, in words of the operator.
    pub waits: Option<String>,
}

/// The forecast.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Forecast {
    /// What releases meet.
    pub meets: Meets,
    /// A release that is as good as stable.
    pub good: Fate,
    /// Releases that are worse.
    pub worse: Vec<Fate>,
}

/// Tries a policy, in so many runs of each kind. Gates and other clusters are left out: nobody can tell how long people take.
///
/// # Errors
/// If no such rollout can be told: a rate that cannot be, or a policy that cannot be read.
pub fn forecast(spec: &CanaryRolloutSpec, meets: Meets, runs: usize) -> Result<Forecast, StoryError> {
    let spec = CanaryRolloutSpec { gates: None, after: None, ..spec.clone() };
    let fate = |worse: f64| fate(&spec, meets, worse, runs.max(1));
    let worse = WORSE.into_iter().filter(|worse| meets.errors + worse <= 100.0);
    let worse = worse.map(fate).collect::<Result<_, _>>()?;
    Ok(Forecast { meets, good: fate(0.0)?, worse })
}

/// One rollout, as it ended.
struct Ended {
    promoted: Option<bool>,
    seconds: f64,
    failed: f64,
    steps: Vec<(i32, f64)>,
    words: Option<String>,
}

fn fate(spec: &CanaryRolloutSpec, meets: Meets, worse: f64, runs: usize) -> Result<Fate, StoryError> {
    let mut ended =
        (1..=runs as u64).map(|seed| told(spec, meets, worse, seed)).collect::<Result<Vec<_>, _>>()?;
    ended.sort_by(|one, other| one.seconds.total_cmp(&other.seconds));
    let count = |which: bool| ended.iter().filter(|one| one.promoted == Some(which)).count();
    let over = || ended.iter().filter(|one| one.promoted.is_some());
    let open = ended.iter().find(|one| one.promoted.is_none());
    Ok(Fate {
        worse,
        runs,
        promoted: count(true),
        taken_back: count(false),
        seconds: Spread::of(over().map(|one| one.seconds).collect()),
        failed: Spread::of(over().map(|one| one.failed).collect()),
        steps: ended[ended.len() / 2].steps.clone(),
        waits: open.and_then(|one| one.words.clone()),
    })
}

fn told(spec: &CanaryRolloutSpec, meets: Meets, worse: f64, seed: u64) -> Result<Ended, StoryError> {
    let (base, canary) = (meets.errors.to_string(), (meets.errors + worse).to_string());
    let provider = if meets.routed { "Istio" } else { "None" };
    let story = json!({
        "rollout": spec, "seed": seed, "lasts": LONGEST, "requests": meets.requests,
        "service": {"replicas": meets.pods, "provider": provider},
        "events": [
            {"at": "0s", "errors": {"1.0": base, "1.1": canary, "legacy": base}},
            {"at": format!("{DEPLOYED}s"), "deploy": "1.1"},
        ],
    });
    let mut ended = Ended { promoted: None, seconds: 0.0, failed: 0.0, steps: Vec::new(), words: None };
    let mut begun = false;
    let report = run_until(Story::parse(&story.to_string())?, |now, decision| {
        begun |= decision.memory.rollout.is_some();
        let weight = ended.steps.last().map(|(weight, _)| *weight);
        if begun && weight != Some(decision.weight) {
            ended.steps.push((decision.weight, now));
        }
        ended.promoted = over(decision).filter(|_| begun);
        ended.seconds = now - DEPLOYED;
        ended.words = decision.stalled.as_ref().map(|(_, words)| words.clone());
        // A person is asked: nothing more happens by itself.
        let stops = ended.promoted.is_some() || decision.phase == Phase::Inconclusive;
        if stops { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let rate = (meets.errors + worse).max(f64::MIN_POSITIVE);
    ended.failed = report.users.failed_by_canary as f64 * worse / rate;
    let ends = ended.steps.iter().skip(1).map(|(_, from)| *from).chain([ended.seconds + DEPLOYED]);
    let ends: Vec<f64> = ends.collect();
    for ((_, seconds), end) in ended.steps.iter_mut().zip(ends) {
        *seconds = end - *seconds;
    }
    Ok(ended)
}

/// Whether the rollout is over, and the release was promoted.
fn over(decision: &Decision) -> Option<bool> {
    match decision.phase {
        Phase::Warm | Phase::Settled => Some(decision.stable.as_deref() == Some("1.1")),
        Phase::RolledBack => Some(false),
        _ => None,
    }
}
