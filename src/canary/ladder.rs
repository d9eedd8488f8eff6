//! Chooses the steps of a rollout where its policy leaves them out: the weights with the least expected harm among those
//! that promote a good release within the pace. Pure.

use std::collections::BTreeMap;

use super::policy::{MOST_CHOSEN as MOST, Policy, UNKNOWN};
use crate::evidence::{EProcess, Policy as Asked, Starts, Tally};
use crate::judge::alpha;

/// The weights from which steps are chosen, beside the last.
const WEIGHTS: [i32; 7] = [1, 2, 5, 10, 20, 25, 50];
/// How many times as much the next step has at the most: what fails under load is not seen at a hundredth of it.
const MOST_TIMES: i32 = 10;
/// How much worse the releases are whose harm is expected, as shares of requests.
const WORSE: [f64; 4] = [0.01, 0.02, 0.05, 0.2];
/// About how long pods take to start, in seconds.
const PODS: f64 = 15.0;
/// The share of bad requests that is taken for stable's at the least: none was seen among few.
const LEAST_ERRORS: f64 = 0.001;

/// What stable answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answers {
    /// Requests a second.
    pub requests: f64,
    /// The share of them that is bad.
    pub bad: f64,
}

impl Answers {
    /// Of what was counted in so many seconds; `None` if that was nothing.
    pub fn of(tally: Tally, seconds: f64) -> Option<Self> {
        let requests = tally.stable_requests as f64;
        (requests > 0.0 && seconds > 0.0)
            .then(|| Self { requests: requests / seconds, bad: tally.stable_bad as f64 / requests })
    }
}

/// The steps that were chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// The weights, in percent; the last is 100.
    pub weights: Vec<i32>,
    /// How long a release as good as stable takes, in seconds; `None` where nobody knows what the service answers.
    pub seconds: Option<f64>,
}

/// Chooses the weights for a pace in seconds.
pub fn choose(policy: &Policy, pace: f64, answers: Option<Answers>) -> Chosen {
    let Some(answers) = answers.filter(|answers| answers.requests > 0.0) else {
        return Chosen { weights: UNKNOWN.to_vec(), seconds: None };
    };
    let mut costs = Costs::new(policy, answers);
    let mut best: Option<(bool, f64, Chosen)> = None;
    for ladder in ladders() {
        let (seconds, harm) = costs.of(&ladder);
        let fits = seconds <= pace;
        // Of those that fit the least harmful, else the fastest.
        let worth = if fits { harm } else { seconds };
        let better = best.as_ref().is_none_or(|(fitted, least, _)| match (fits, fitted) {
            (true, false) => true,
            (false, true) => false,
            _ => worth < *least,
        });
        if better {
            best = Some((fits, worth, Chosen { weights: ladder, seconds: Some(seconds) }));
        }
    }
    best.map(|(.., chosen)| chosen).unwrap_or(Chosen { weights: UNKNOWN.to_vec(), seconds: None })
}

/// All rising ladders of one to [`MOST`] weights, each with 100 at its end.
fn ladders() -> Vec<Vec<i32>> {
    let mut all = Vec::new();
    for chosen in 1_u32..1 << WEIGHTS.len() {
        if chosen.count_ones() <= MOST {
            let weights = WEIGHTS.iter().enumerate().filter(|(place, _)| chosen & 1 << place != 0);
            all.push(weights.map(|(_, weight)| *weight).chain([100]).collect::<Vec<i32>>());
        }
    }
    all.retain(|ladder| ladder.windows(2).all(|pair| pair[1] <= MOST_TIMES * pair[0]));
    all
}

/// What steps cost, each reckoned once.
struct Costs<'a> {
    policy: &'a Policy,
    asked: Asked,
    answers: Answers,
    /// Seconds until a Pass, by the weight and the next one, and by how much worse the canary is, in hundredths of a percent.
    passes: BTreeMap<(i32, i32, i32), Option<f64>>,
    /// Requests to the canary until it is found to be worse, by weight and by how much.
    found: BTreeMap<(i32, i32), Option<f64>>,
}

impl<'a> Costs<'a> {
    fn new(policy: &'a Policy, answers: Answers) -> Self {
        let alpha = alpha(policy.false_alarm, &policy.metrics, false);
        let increase =
            policy.metrics.iter().find(|metric| !metric.asks).map_or(0.005, |metric| metric.max_increase);
        let asked = Asked::new(increase, alpha, MOST + 1);
        let answers = Answers { bad: answers.bad.max(LEAST_ERRORS), ..answers };
        Self { policy, asked, answers, passes: BTreeMap::new(), found: BTreeMap::new() }
    }

    /// Seconds until a good release is promoted, and requests that bad ones fail until they are found, on the average of a few
    /// sizes of harm.
    fn of(&mut self, ladder: &[i32]) -> (f64, f64) {
        let steps: Vec<(i32, i32)> = ladder.windows(2).map(|pair| (pair[0], pair[1])).collect();
        let hold = self.policy.steps.first().map_or(60.0, |step| step.min_hold.as_secs_f64());
        let good = steps.iter().map(|(weight, next)| self.stands(*weight, *next, 0.0));
        let seconds = good.map(|seconds| seconds.unwrap_or(f64::INFINITY).max(hold)).sum::<f64>() + hold;
        let harm = WORSE.iter().map(|worse| self.harm(&steps, *worse, hold)).sum::<f64>();
        (seconds, harm / WORSE.len() as f64)
    }

    /// What a release that is so much worse fails until it is taken back.
    fn harm(&mut self, steps: &[(i32, i32)], worse: f64, hold: f64) -> f64 {
        let interval = self.policy.interval.as_secs_f64();
        let mut failed = 0.0;
        for (weight, next) in steps {
            let share = f64::from(*weight) / 100.0;
            let a_second = self.answers.requests * share;
            let found = self.until_found(*weight, worse).map(|requests| requests / a_second);
            let passes = self.stands(*weight, *next, worse).map(|seconds| seconds.max(hold));
            match (found, passes) {
                (Some(found), passes) if passes.is_none_or(|passes| found <= passes) => {
                    // Two looks decide, and what comes until the second is over fails as well.
                    return failed + (found + 2.0 * interval) * a_second * worse;
                }
                (_, Some(passes)) => failed += passes * a_second * worse,
                _ => return failed + 3600.0 * a_second * worse,
            }
        }
        // With all the weight the limits judge: it is found late.
        failed + 600.0 * self.answers.requests * worse
    }

    /// Seconds until a canary that is so much worse passes at a weight; `None` if it never does.
    fn stands(&mut self, weight: i32, next: i32, worse: f64) -> Option<f64> {
        let key = (weight, next, (worse * 10_000.0).round() as i32);
        let (asked, answers, warmup) = (self.asked, self.answers, self.policy.warmup.as_secs_f64());
        *self.passes.entry(key).or_insert_with(|| {
            let share = f64::from(weight) / 100.0;
            let requests = asked.requests_until_pass(
                [answers.bad + worse, answers.bad],
                share,
                f64::from(next) / 100.0,
            )?;
            Some(PODS + warmup + requests as f64 / answers.requests)
        })
    }

    fn until_found(&mut self, weight: i32, worse: f64) -> Option<f64> {
        let (alpha, bad) = (self.asked.false_alarm, self.answers.bad);
        *self.found.entry((weight, (worse * 10_000.0).round() as i32)).or_insert_with(|| {
            let share = f64::from(weight) / 100.0;
            let mut process = EProcess::new(alpha, Starts::StepsAndWithin(MOST + 1));
            process.begin_step();
            let requests = process.requests_until_limit(bad + worse, bad, share / (1.0 - share), 1.0)?;
            Some(requests as f64)
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::CanaryRolloutSpec;

    fn chosen(requests: f64, bad: f64, pace: f64) -> Chosen {
        let spec = json!({"service": "a", "strategy": {"canary": {}}});
        let spec: CanaryRolloutSpec = serde_json::from_value(spec).expect("a spec");
        let policy = Policy::of(&spec, None, Default::default()).0;
        choose(&policy, pace, Some(Answers { requests, bad }))
    }

    #[test]
    fn steps_follow_what_the_service_answers() {
        let [slow, middle, fast] = [2.0, 50.0, 1000.0].map(|requests| chosen(requests, 0.001, 1200.0));
        assert!(slow.weights[0] >= 10, "little traffic begins with much of it: {slow:?}");
        assert!(fast.weights[0] <= 2 && fast.weights.len() >= 3, "{fast:?}");
        assert!(middle.seconds.is_some_and(|seconds| seconds <= 1200.0), "{middle:?}");
        for chosen in [&slow, &middle, &fast] {
            assert!(chosen.weights.is_sorted() && chosen.weights.last() == Some(&100), "{chosen:?}");
        }
        // The same, and the same again: nothing of it is chance.
        assert_eq!(chosen(50.0, 0.001, 1200.0), middle);
    }

    #[test]
    fn what_cannot_be_within_the_pace_is_the_fastest() {
        let slow = chosen(1.0, 0.01, 300.0);
        assert!(slow.seconds.is_some_and(|seconds| seconds > 300.0), "{slow:?}");
        let all = [chosen(1.0, 0.01, 1e9), slow.clone()].map(|chosen| chosen.seconds.unwrap_or(0.0));
        assert!(all[1] <= all[0], "{all:?}");
    }

    #[test]
    fn steps_are_reckoned_by_what_judges_and_not_by_what_only_asks_for_a_person() {
        let spec = json!({"service": "a", "strategy": {"canary": {}}, "analysis": {
            "errorRate": {"enabled": false}, "latency": {"threshold": "200ms", "maxIncrease": "1"}}});
        let spec: CanaryRolloutSpec = serde_json::from_value(spec).expect("a spec");
        let policy = Policy::of(&spec, None, Default::default()).0;
        assert!(policy.metrics[0].asks);
        let costs = Costs::new(&policy, Answers { requests: 50.0, bad: 0.001 });
        assert_eq!((costs.asked.max_increase, costs.asked.false_alarm), (0.01, 0.01));
    }

    #[test]
    fn where_nobody_knows_the_steps_are_few() {
        let spec: CanaryRolloutSpec =
            serde_json::from_value(json!({"service": "a", "strategy": {"canary": {}}})).expect("a spec");
        let policy = Policy::of(&spec, None, Default::default()).0;
        let unknown = Chosen { weights: vec![10, 50, 100], seconds: None };
        assert_eq!(choose(&policy, 1200.0, None), unknown);
        assert_eq!(choose(&policy, 1200.0, Answers::of(Tally::default(), 30.0)), unknown);
    }
}
